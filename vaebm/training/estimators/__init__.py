"""Estimators: how does the energy learn from data and, where it needs them, samples of the model?"""
