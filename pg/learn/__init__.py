"""The loss and the optimizer."""
