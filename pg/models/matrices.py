"""Which parameters are matrices, and what their dimensions mean."""

import re

# A weight's dimensions, and those that are summed over; any before are a stack.
# Dimensions: those of gemma.py and siglip.py, d width of the decoder.
MATRICES = (
  (r"llm/layers/attn/(q|kv|qkv)_einsum/w", "NDH", "D"),
  (r"llm/layers/attn/attn_vec_einsum/w", "NHD", "NH"),
  (r"llm/layers/mlp/gating_einsum", "DF", "D"),
  (r"llm/layers/mlp/linear", "FD", "F"),
  (r"img/.*/(query|key|value)/kernel", "DNH", "D"),
  (r"img/.*/out/kernel", "NHD", "NH"),
  (r"img/.*/Dense_0/kernel", "DF", "D"),
  (r"img/.*/Dense_1/kernel", "FD", "F"),
  (r"img/head/kernel", "Dd", "D"),
)


def letters(name):
  """Returns a weight's dimensions and those summed over; None of no matrix.

  The embedding is none: it is looked up, too.
  """
  found = (x for regex, *x in MATRICES if re.fullmatch(regex, name))
  return next(found, None)
