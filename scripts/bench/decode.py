"""What a token reads: decoding compiled for a TPU v5e, without one.

python -m scripts.bench decode --variant pg2_3b --batch-size 4 --answers 4

Compiles the loop that writes answers, and prints what one token reads beside
the weights and keys that it must read, and every array of a megabyte or more
that is copied in the loop: there should be none. Needs libtpu (`python -m pip
install libtpu`), better in an environment of its own: with it jax looks for a
TPU at every start.
"""

import functools
import os
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from pg import sharding, table
from pg.decode import loop
from pg.models import paligemma, variants

FLAGS = dict(
  variant=dict(default="pg1_3b", help="of pg/models/variants.py"),
  batch_size=dict(type=int, default=1, help="rows"),
  answers=dict(type=int, default=1, help="answers to each row"),
  res=dict(type=int, default=224, help="pixels per side"),
  prompt=dict(type=int, default=16, help="text tokens before the answer"),
  max_len=dict(type=int, default=64, help="tokens in the answer"),
)
# An instruction of a compiled module, and the sizes of its types.
_OP = re.compile(r"\s+(?:ROOT )?%?[\w.-]+ = (\w+)\[([\d,]*)\]\S* ([\w-]+)\(")
_SIZES = dict(pred=1, s8=1, u8=1, bf16=2, f16=2, f32=4, s32=4, u32=4)
_COPIES = ("copy", "transpose", "concatenate", "convert", "slice", "gather")


def compile_loop(args):
  """Compiles `loop.advance` in bfloat16.

  Returns:
    the compiled program, and bytes of weights, of prompts' and of answers'
    keys.
  """
  os.environ["TPU_SKIP_MDS_QUERY"] = "1"
  chip = topologies.get_topology_desc(
    platform="tpu", topology_name="v5e:1x1", chips_per_host_bounds=(1, 1, 1)
  )
  mesh = sharding.make_mesh({"fsdp": -1}, devices=list(chip.devices))
  place = lambda x: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=sharding.replicated(mesh)
  )
  given = dict(variant=args.variant, res=args.res, dtype="bfloat16")
  cfg = variants.from_config(given)
  unroll = functools.partial(loop.unroll, dtype=cfg.dtype)
  params = jax.eval_shape(unroll, paligemma.shapes(cfg))
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
    return lowered.compile(), *sizes


def num_bytes(tree):
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def copies(text, least=1 << 20):
  """Returns what loops copy in memory: lines "copy bf16[8,2048,256]".

  Fusions copy nothing, and what comes before and after a loop is once.
  """
  found, inside = [], False
  for line in text.splitlines():
    if line.endswith("{") and not line.startswith(" "):
      inside = "fused" not in line and not line.startswith("ENTRY")
    match = _OP.match(line) if inside else None
    if match and match[3] in _COPIES:
      dims = [int(d) for d in match[2].split(",") if d]
      if np.prod(dims) * _SIZES.get(match[1], 4) >= least:
        found.append(f"{match[3]} {match[1]}[{match[2]}]")
  return found


def main(args):
  start = time.monotonic()
  program, weights, prompt, answers = compile_loop(args)
  seconds = time.monotonic() - start
  memory = program.memory_analysis()
  sizes = {
    "weights": weights,
    "keys and values of prompts": prompt,
    "keys and values of answers": answers,
    "all arguments": memory.argument_size_in_bytes,
    "temporary": memory.temp_size_in_bytes,
  }
  rows = [(name, f"{size / 2**20:,.1f} MiB") for name, size in sizes.items()]
  print(f"compiled for a TPU v5e in {seconds:.0f} s")
  print("\n".join(table.lines(rows, words=[0])))
  found = copies(program.as_text())
  print("copied in the loop:", ", ".join(found) or "nothing of 1 MiB or more")
