"""Read examples and make the batches a model takes."""
