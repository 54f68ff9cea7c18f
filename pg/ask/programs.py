"""The compiled programs of a model, and the sizes they are compiled for."""

import functools
import types

import jax

from pg.decode import beam, loop, slots

# Text tokens of prompts, and of answers.
SIZES = (16, 32, 64, 128, 256, 512, 1024)


def fit(size, what="the answer has {} tokens"):
  """Returns the least of SIZES that is enough.

  Raises:
    ValueError: none is.
  """
  if size > SIZES[-1]:
    raise ValueError(f"{what.format(size)}, and {SIZES[-1]} fit; shorten it")
  return next(x for x in SIZES if x >= size)


@functools.cache
def compiled(mesh=None, dtype="float32"):
  """Returns the functions of a model, compiled; each keeps a program a size.

  Args:
    mesh: that of the parameters, None for a single device.
    dtype: str, of the activations.
  """
  options = None
  if jax.default_backend() == "cpu":
    # XLA's defaults widen all bfloat16 weights at once, before and inside the
    # loop: 12.4 GB for a 3B model (2.1 GB so, as the compiler says).
    options = {
      "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
      "xla_disable_hlo_passes": "while-loop-invariant-code-motion",
    }
    if dtype == "bfloat16":
      # Sums may change their order, so that they are of vectors; see
      # `layers._row`. inf and nan stay what they are.
      options["xla_cpu_enable_fast_math"] = True

  def jit(function, **how):
    program = jax.jit(function, compiler_options=options, **how)
    return program if mesh is None else _within(mesh, program)

  return types.SimpleNamespace(
    embed=jit(loop.embed_images, static_argnums=0),
    prefill=jit(loop.prefill, static_argnums=0, static_argnames="int8"),
    begin=jit(loop.begin, static_argnums=(0, 4), static_argnames="num"),
    advance=jit(loop.advance, static_argnums=0, donate_argnums=3),
    beams=jit(beam.of_prompt, static_argnums=(0, 5, 6)),
    score=jit(loop.score, static_argnums=0),
    insert=jit(slots.insert, donate_argnums=0),
    constrain=jit(slots.constrain, donate_argnums=0),
    release=jit(slots.release, donate_argnums=0),
    advance_each=jit(slots.advance, static_argnums=(0, 6), donate_argnums=3),
    split=jit(_split),
  )


def _split(batch):
  """Returns each row of a tree of arrays."""
  num = len(jax.tree.leaves(batch)[0])
  row = lambda i: jax.tree.map(lambda x: x[i], batch)
  return tuple(map(row, range(num)))


def _within(mesh, program):
  """Returns a function that runs a program on a mesh."""

  def run(*args, **options):
    with jax.set_mesh(mesh):
      return program(*args, **options)

  return run
