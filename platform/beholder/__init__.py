"""Beholder: measure and serve personal taste in generated images.

Importing the package loads nothing heavy: torch, Ray and pandas are imported by the modules that need them.
"""

__version__ = "0.1.0"
