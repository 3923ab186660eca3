"""Experiments: which recipe was run, where are its results, and what do they say?"""
