"""Measure the quantities of the alignment theorem on real networks; `python -m experiments.theorem`."""
