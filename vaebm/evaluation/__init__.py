"""Evaluation: how good are the samples of a model, by one protocol for every subject, and what is there to measure?"""
