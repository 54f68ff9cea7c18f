"""Bytes by name: files, URLs, members of tar files, lines, and their cache.

No jax; data/formats and weights import it.
"""
