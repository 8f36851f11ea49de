"""The experiment `diffusion`: do image generators transmit traits?"""
