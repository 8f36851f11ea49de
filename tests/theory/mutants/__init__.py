"""Faults planted into the library on purpose, and the proof that the properties see them."""
