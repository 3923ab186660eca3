"""Layers: which functions do encoders, decoders and energies consist of, and how steep may they be?"""
