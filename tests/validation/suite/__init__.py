"""Simulated studies whose truth is known, and what the package's tests and intervals say about them."""
