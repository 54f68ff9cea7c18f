"""Asking: a loaded model, what it is asked, what it answers."""
