"""Weights on disk: checkpoints of a run, released files, Hugging Face files."""
