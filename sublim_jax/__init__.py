"""sublim-jax: a laboratory for subliminal learning."""
