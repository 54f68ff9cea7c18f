"""Synthetic and bundled examples: scenes of shapes, handwritten digits.

numpy only, no jax; `pg.data.source` names the sources, nothing else is used.
"""
