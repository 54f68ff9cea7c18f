"""Makes what a transfer reads from the official release of a benchmark."""
