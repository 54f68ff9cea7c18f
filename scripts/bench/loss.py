"""Measures what the training loss holds, compiled for a chip.

python -m scripts.bench loss --on h200 [--rows 8] [--tokens 512]

Of the loss alone and its gradients by bfloat16 states and the float32 embedding
of PaliGemma 3B, all positions targets: bytes beside arguments and results.
Nothing is run.
"""

import jax
import jax.numpy as jnp

from pg import sharding
from pg.learn import loss
from pg.models import gemma
from pg.plan import target, text


def main(args):
  on, cfg = target.find(args.on), gemma.Config()
  mesh = sharding.make_mesh(dict(fsdp=-1), devices=on.devices)
  here = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  B, L = args.rows, args.tokens
  shapes = (
    jax.ShapeDtypeStruct(shape, dtype, sharding=here)
    for shape, dtype in (
      ((B, L, cfg.width), jnp.bfloat16),
      ((cfg.vocab_size, cfg.width), jnp.float32),
      ((B, L), jnp.int32),
      ((B, L), jnp.float32),
    )
  )
  step = jax.jit(jax.value_and_grad(loss.weighted_nll, (0, 1)))
  with jax.set_mesh(mesh):
    compiled = step.lower(*shapes).compile(compiler_options=on.options)
  held = compiled.memory_analysis()
  print(
    f"{B * L:,} targets on {on.name}: temporary"
    f" {text.readable(held.temp_size_in_bytes)}, results"
    f" {text.readable(held.output_size_in_bytes)}"
  )


FLAGS = dict(
  on=dict(default="h200", help="one chip, see pg/fit.py"),
  rows=dict(type=int, default=8, help="examples"),
  tokens=dict(type=int, default=512, help="text positions of each"),
)
