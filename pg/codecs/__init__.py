"""Codecs between tokens and text, boxes, masks: numpy only, no jax."""
