"""Faults planted into the source outside the theory on purpose, and the proof that a cheap test sees each of them.

`faults` has them by room, `planting` runs tests on a copy of the source with one of them, `matrix` writes which test
sees which. The theory's own faults, which replace functions and ask properties of random problems, are in
`tests/theory/mutants`.
"""
