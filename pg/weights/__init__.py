"""Weights at rest: checkpoints of a run, released files, Hugging Face files."""
