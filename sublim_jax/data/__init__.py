"""Images in, noise in, and the order in which a run sees them."""
