"""The version of the package, where every part of it may read it, installed or not."""

__version__ = "0.1.0"
