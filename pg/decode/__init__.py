"""Generation: the decoding loop, sampling, beam search."""
