"""What a token reads: decoding compiled for a TPU or a GPU, without one.

python -m scripts.bench decode --variant pg2_3b --batch-size 4 --answers 4
python -m scripts.bench decode --on h200 --batch-size 64

Compiles the loop that writes answers, and prints what one token reads beside
the weights and keys that it must read, and every array of a megabyte or more
that is copied in the loop: there should be none. What must be installed for a
TPU and for a GPU is said in docs/fit.md.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from pg import sharding, table, tree
from pg.decode import loop
from pg.models import paligemma, quantize, variants
from pg.plan import hlo, target

FLAGS = dict(
  on=dict(default="v5e", help="v5e, v4, v5p, v6e, h200, h100, a100, l4, t4"),
  variant=dict(default="pg1_3b", help="of pg/models/variants.py"),
  batch_size=dict(type=int, default=1, help="rows"),
  answers=dict(type=int, default=1, help="answers to each row"),
  res=dict(type=int, default=224, help="pixels per side"),
  prompt=dict(type=int, default=16, help="text tokens before the answer"),
  max_len=dict(type=int, default=64, help="tokens in the answer"),
  quantize=dict(help="weights to int8, int4 or nf4"),
)


def compile_loop(args):
  """Compiles `loop.advance` in bfloat16, or of quantised weights.

  Returns:
    the compiled program, and bytes of weights, of prompts' and of answers'
    keys.
  """
  on = target.find(args.on)
  mesh = sharding.make_mesh({"fsdp": -1}, devices=on.devices)
  place = lambda x: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=sharding.replicated(mesh)
  )
  given = dict(variant=args.variant, res=args.res, dtype="bfloat16")
  cfg = variants.from_config(given)
  unroll = functools.partial(loop.unroll, dtype=cfg.dtype)
  params = paligemma.shapes(cfg)
  if args.quantize:
    how = quantize.parse(args.quantize)
    each = functools.partial(quantize.abstract, how)
    params = tree.map_named(each, params)
  params = jax.eval_shape(unroll, params)
  B, L, R = args.batch_size, args.prompt, args.res
  batch = dict(
    image=jax.ShapeDtypeStruct((B, 1, R, R, 3), jnp.uint8),
    mask_image=jax.ShapeDtypeStruct((B, 1), bool),
    tokens=jax.ShapeDtypeStruct((B, L), jnp.int32),
    mask_input=jax.ShapeDtypeStruct((B, L), bool),
    mask_ar=jax.ShapeDtypeStruct((B, L), bool),
  )
  rules = loop.Rules(np.array([1], np.int32))

  def begin(params, batch):
    logits, prompt = loop.prefill(cfg, params, batch)
    num, size = args.answers, args.max_len
    return prompt, loop.begin(cfg, logits, prompt, rules, size, num=num)

  with jax.set_mesh(mesh):
    prompt, state = jax.eval_shape(begin, params, batch)
    params, prompt, state = jax.tree.map(place, (params, prompt, state))
    advance = jax.jit(loop.advance, static_argnums=0, donate_argnums=3)
    lowered = advance.lower(cfg, params, prompt, state, rules, args.max_len)
    sizes = map(num_bytes, (params["llm"], prompt.keys, state.keys))
    return lowered.compile(compiler_options=options_of(on)), *sizes


def options_of(on):
  """Returns the compiler's options: on a GPU with Triton, as on a real one.

  Without it the head of one row widens the whole embedding. (Of an image tower
  Triton finds no tiles without the device.)
  """
  triton = {"xla_gpu_enable_triton_gemm": True}
  return on.options | (triton if on.platform == "gpu" else {})


def num_bytes(arrays):
  bits = jax.dtypes.itemsize_bits
  return sum(x.size * bits(x.dtype) // 8 for x in jax.tree.leaves(arrays))


def main(args):
  start = time.monotonic()
  program, weights, prompt, answers = compile_loop(args)
  seconds = time.monotonic() - start
  module = hlo.parse(program.as_text())
  name = hlo.main_loop(module)
  read, must = hlo.bytes_read(module, name), weights + prompt + answers
  sizes = {
    "weights": weights,
    "keys and values of prompts": prompt,
    "keys and values of answers": answers,
    "what a token reads": read,
    "temporary": program.memory_analysis().temp_size_in_bytes,
  }
  rows = [(name, f"{size / 2**20:,.1f} MiB") for name, size in sizes.items()]
  print(f"compiled for {args.on} in {seconds:.0f} s")
  print("\n".join(table.lines(rows, words=[0])))
  print(f"a token reads {read / must:.3f} x weights, keys and values")
  found = hlo.copies(module, name)
  print("copied in the loop:", ", ".join(found) or "nothing of 1 MiB or more")
