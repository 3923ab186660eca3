"""Normalised densities: what is p(x | z), p(z), and where do we know the truth exactly?"""
