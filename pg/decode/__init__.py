"""Generation: prefill and one loop, sampling, beams."""
