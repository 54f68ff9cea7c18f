"""Rematerialisation policies by name: what the backward pass may keep.

`nothing` keeps only block inputs (least memory, about 1.31 times the FLOPs),
`dots` keeps the results of products without a batch dimension, `everything`
recomputes nothing.
"""

import jax
from flax import linen as nn

from pg import config

POLICIES = {
  "nothing": jax.checkpoint_policies.nothing_saveable,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "everything": None,  # no wrapper at all
}


def remat(block, name):
  """Wraps a module class so that its backward pass keeps what `name` says."""
  policy = config.lookup(POLICIES, name, "remat policy")
  if policy is None:
    return block
  return nn.remat(block, policy=policy, prevent_cse=False)
