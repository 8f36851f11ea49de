"""Colours and labels that the figures of the theorem share."""

RED, BLUE, ORANGE, PURPLE = "#c8553d", "#2f6690", "#e0a458", "#6b4e96"
GREY, DARK = "#8c8c8c", "#3b3b3b"
LOSSES = {"mse": "squared error", "kl": "KL divergence"}
