"""Turn text, boxes and masks into tokens and back: numpy only, no jax."""
