"""The experiment `directions`: in how many directions of a model does a trait lie?"""
