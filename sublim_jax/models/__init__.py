"""Networks as pure functions: `init(key, spec) -> params`, `apply(params, images, spec) -> logits`."""
