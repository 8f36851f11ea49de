"""The atlas: published MNIST-scale ablations of subliminal learning, and more, beside our own values."""
