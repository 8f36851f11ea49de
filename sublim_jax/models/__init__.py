"""What a model is, the paper's MLP, modules of Flax and Equinox, and the parameters that students start from."""
