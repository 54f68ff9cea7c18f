"""Scanned stacks of layers, and what the backward pass may keep of them.

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


# Stacks up to this depth are written out: a scan is slower on a CPU, and only
# deep ones take long to compile.
SHALLOW = 4


def scan(block, depth, policy, in_axes=nn.broadcast):
  """Stacks a block `depth` times; its parameters get a leading dimension.

  Args:
    block: module class, called as `(x, ...) -> (x, out)`.
    depth: int, number of layers.
    policy: str, a key of POLICIES.
    in_axes: for each argument after `x`, 0 to split it over the layers or
      `nn.broadcast`.

  Returns:
    A module class.
  """
  keep = config.lookup(POLICIES, policy, "remat policy")
  if keep is not None:
    block = nn.remat(block, policy=keep, prevent_cse=False)
  return nn.scan(
    block,
    variable_axes={"params": 0},
    split_rngs={"params": True, "dropout": True},
    in_axes=in_axes,
    length=depth,
    unroll=depth if depth <= SHALLOW else 1,
  )
