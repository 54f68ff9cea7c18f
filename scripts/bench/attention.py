"""What a layer of attention holds, with a mask of all pairs and without.

python -m scripts.bench attention --on h200 --res 896 --batch-size 4

Compiles attention of one layer of each tower in bfloat16, forward and backward,
and prints its temporary memory. What must be installed for a TPU and for a GPU
is said in docs/fit.md; "here" is this machine.
"""

import jax
import jax.numpy as jnp

from pg import sharding, table
from pg.models import attention, variants
from pg.plan import target

FLAGS = dict(
  on=dict(default="here", help="here, v5e, v4, v5p, v6e, h200, h100, ..."),
  variant=dict(default="pg1_3b", help="of pg/models/variants.py"),
  batch_size=dict(type=int, default=4, help="rows"),
  res=dict(type=int, default=896, help="pixels per side"),
  text_len=dict(type=int, default=512, help="text tokens"),
)


def layers(cfg, batch_size, text_len):
  """Returns the arguments of `attention.attend` by tower: shapes, and a cap."""
  I, img, llm = cfg.img.num_tokens, cfg.img, cfg.llm

  def shapes(length, K, G, H):
    heads = (K, G, H), (K, H), (K, H)
    shape = lambda x: jax.ShapeDtypeStruct((batch_size, length, *x), cfg.dtype)
    return tuple(map(shape, heads))

  real = jax.ShapeDtypeStruct((batch_size, I + text_len), bool)
  tokens = jax.eval_shape(lambda x: attention.Tokens.of(x, x, I), real)
  K, G = llm.num_kv_heads, llm.num_heads // llm.num_kv_heads
  decoder = (*shapes(I + text_len, K, G, llm.head_dim), tokens)
  tower = shapes(I, img.num_heads, 1, img.width // img.num_heads)
  return {"img": (tower, 0.0), "llm": (decoder, llm.attn_softcap)}


def temporary(attend, shapes, cap, on):
  """Returns bytes that one device holds beside arguments and results."""

  def loss(q, k, v, tokens=None):
    y = attend(q, k, v, tokens, cap=cap)
    return jnp.sum(y.astype(jnp.float32))

  program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*shapes)
  program = program.compile(compiler_options=on.options)
  return program.memory_analysis().temp_size_in_bytes


def with_mask(q, k, v, tokens, cap):
  mask = tokens and attention.visible(tokens, tokens)
  return attention.dense(q, ((k, v, mask),), cap)


def main(args):
  on = target.find(args.on)
  given = dict(variant=args.variant, res=args.res, dtype="bfloat16")
  cfg = variants.from_config(given)
  mesh = sharding.make_mesh({"fsdp": -1}, devices=on.devices)
  place = lambda x: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=sharding.replicated(mesh)
  )
  rows = [["", "with a mask", "without", "ratio"]]
  with jax.set_mesh(mesh):
    of = layers(cfg, args.batch_size, args.text_len)
    for name, (shapes, cap) in of.items():
      shapes = jax.tree.map(place, shapes)
      before = temporary(with_mask, shapes, cap, on)
      now = temporary(attention.attend, shapes, cap, on)
      size = lambda n: f"{n / 2**20:,.0f} MiB"
      rows.append([name, size(before), size(now), f"{before / now:.1f}"])
  print("\n".join(table.lines(rows, words=[0])))
