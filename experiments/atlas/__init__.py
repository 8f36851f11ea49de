"""The atlas: every published MNIST-scale ablation of subliminal learning, and more, beside our own value."""
