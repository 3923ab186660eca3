"""Training: how do VAE and energy get from data to weights, safely and resumably?"""
