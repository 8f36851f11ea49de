"""The embedded model, small enough to be pre-trained on a laptop, and the toy world whose texts it reads."""
