r"""Tells whether a config fits some chips, and how fast it can be there.

python -m pg.fit --config transfers/vqav2.py:res=448 --on v5e:16x16
python -m pg.fit --config transfers/vqav2.py --on h200:8 --search
python -m pg.fit --config configs/nano.py

Compiles the very step that `pg.train` runs (with --decode what writes answers)
for chips that are not here, and prints what each needs: v4, v5e, v5p and v6e
with a topology ("v5p:4x4x4"), h200, h100, a100, l4 and t4 with a number of
them; without --on it is this machine. A TPU takes one to five minutes, a GPU
seconds. What must be installed is said where it is missing; see docs/fit.md.
"""

import dataclasses
import functools
import json
import time
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from pg import command, config, progress, sharding, train
from pg.codecs import tokenizer
from pg.data import options as options_lib
from pg.data import pipeline
from pg.decode import loop
from pg.learn import accumulate, optim
from pg.learn import state as state_lib
from pg.models import lora, paligemma, quantize, variants
from pg.plan import changes, hlo, needs, target, text


class Plan(NamedTuple):
  """A program compiled for a Target, or why it could not be."""

  cfg: paligemma.Config
  mesh: jax.sharding.Mesh
  state: dict  # abstract: `params`, and `opt` in training
  frozen: tuple  # towers
  compiled: object  # None: it does not fit
  failed: str  # what the compiler said then
  seconds: float  # that it took


def model_of(c, on):
  """Returns the paligemma.Config that a config has on a Target."""
  tok = c.tokenizer or (None if c.init else tokenizer.NANO)
  vocab_size = tokenizer.Tokenizer(tok).vocab_size if tok else None
  dtype = variants.compute_dtype(c.model.dtype, on.devices[0])
  given = dict(c.model, res=c.res, dtype=dtype)
  cfg = variants.from_config(given, vocab_size)
  how = lora.from_config(c, paligemma.shapes(cfg))
  return dataclasses.replace(cfg, lora=how)


def rows(c, mesh, *, num_text):
  """Returns an abstract batch; see pg/data/prefix_lm.py."""
  split = NamedSharding(mesh, PartitionSpec(sharding.BATCH))
  row = lambda dtype, *shape: jax.ShapeDtypeStruct(
    (c.batch_size, *shape), dtype, sharding=split
  )
  text = {k: row(bool, num_text) for k in ("input", "ar", "loss")}
  return dict(
    image=row(jnp.uint8, c.num_images, c.res, c.res, 3),
    mask_image=row(bool, c.num_images),
    tokens=row(jnp.int32, num_text),
    **{f"mask_{k}": x for k, x in text.items()},
    source=row(jnp.int32),
    index=row(jnp.int32),
  )


def compile_training(c, on, num_examples=None):
  """Compiles a step of training ahead of time; returns a Plan."""
  cfg, mesh = model_of(c, on), sharding.make_mesh(c.mesh, devices=on.devices)
  accumulate.check(c, mesh)
  shapes = paligemma.shapes(cfg)
  # Neither number is in the program's shapes.
  total = num_steps(c, num_examples) or 1000
  tx = optim.make(c, shapes, total, num_examples or 10**6)
  frozen = optim.frozen(shapes, c.schedule)
  shapes = state_lib.shapes(cfg, frozen, c.frozen_dtype)
  state = state_lib.abstract(cfg, tx, mesh, c.sharding, shapes)
  towers = optim.frozen_towers(frozen)
  held, has = needs.on_device(state), needs.memory(on)
  if held > has:  # nothing is worth a minute of compiling
    sizes = f"{text.readable(held)} of {text.readable(has)}"
    failed = f"parameters and optimizer alone take {sizes}"
    return Plan(cfg, mesh, state, towers, None, failed, 0.0)
  run = SimpleNamespace(
    cfg=cfg, tx=tx, is_frozen=frozen, mesh=mesh, shapes=shapes
  )
  batch = rows(c, mesh, num_text=c.text_len + 1)
  if options_lib.from_config(c).cache_images:
    shape = *batch["image"].shape[:2], cfg.img.num_tokens, cfg.img.width
    batch["image"] = batch["image"].update(shape=shape, dtype=cfg.dtype)
  lower = functools.partial(train.compile_update(c, run).lower, state, batch)
  return _compile(lower, on, cfg, mesh, state, towers)


def compile_decoding(c, on):
  """Compiles what evaluators generate answers with; returns a Plan."""
  # Adapters are in the weights by then.
  cfg = dataclasses.replace(model_of(c, on), lora=None)
  mesh = sharding.make_mesh(c.mesh, devices=on.devices)
  sharding.check_batch(c.batch_size, mesh)
  state = state_lib.abstract(cfg, optax.identity(), mesh, c.sharding)
  unroll = jax.jit(functools.partial(loop.unroll, dtype=cfg.dtype))
  with jax.set_mesh(mesh):
    place = unroll.lower(state["params"]).compile(on.options).output_shardings
  params = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    jax.eval_shape(unroll, state["params"]),
    place,
  )
  batch = rows(c, mesh, num_text=c.text_len)
  generate = functools.partial(
    loop.generate, cfg, max_len=c.text_len, eos=1, real=None
  )
  lower = functools.partial(jax.jit(generate).lower, params, batch)
  return _compile(lower, on, cfg, mesh, dict(params=params), ())


def _compile(lower, on, cfg, mesh, state, frozen):
  start, compiled, failed = time.monotonic(), None, ""
  try:
    with jax.set_mesh(mesh):
      compiled = lower().compile(compiler_options=on.options)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    failed = str(error).partition(": ")[2].splitlines()[0]
  seconds = time.monotonic() - start
  return Plan(cfg, mesh, state, frozen, compiled, failed, seconds)


def num_steps(c, num_examples=None):
  """Returns the steps of a run; None where it is in epochs of unknown size."""
  if num_examples is None:
    try:
      limits = options_lib.from_config(c).limits
      data = pipeline.datasets(c.data, c.pp, limits)
      num_examples = pipeline.num_examples(data)
    except (ValueError, OSError):  # they are not here
      pass
  try:
    return config.steps(c.total, c.batch_size, num_examples)
  except (ValueError, TypeError):
    return None


def figures(c, on, plan, args):
  """Returns what is known of a plan as a dict of numbers and texts."""
  params = plan.state["params"]
  has, opt = needs.memory(on), plan.state.get("opt", ())
  whole = needs.replicated(params) if plan.mesh.size > 1 else {}
  held = needs.on_device(params) + needs.on_device(opt)
  weights = jax.tree.leaves(params, is_leaf=quantize.is_quantized)
  found = dict(
    config=args.config_file,
    on=on.name,
    chips=len(on.devices),
    kind=on.devices[0].device_kind,
    described=on.source,
    num_parameters=sum(x.size for x in weights),
    dtype=plan.cfg.dtype,
    remat=plan.cfg.remat,
    batch_size=c.batch_size,
    parameters=needs.on_device(params),
    optimizer=needs.on_device(opt),
    has=has,
    replicated=sum(whole.values()),
    replicated_names=sorted(whole, key=whole.get, reverse=True)[:3],
    replicated_share=sum(whole.values()) / held,
    compile_seconds=plan.seconds,
  )
  if plan.compiled is None:
    return found | dict(fits=False, failed=plan.failed)
  peak = needs.peak(plan.compiled)
  found |= dict(peak=peak, activations=peak - held, fits=peak <= has)
  if on.chip is None:
    return found
  try:
    module = hlo.parse(plan.compiled.as_text())
  except jax.errors.JaxRuntimeError as error:  # libtpu 0.0.52 of some for v5p
    return found | dict(unread=str(error).splitlines()[0])
  if args.decode:
    found |= needs.token(on, module)
    return found | dict(tokens_per_second=c.batch_size / found["seconds"])
  found |= needs.step(plan.cfg, c, on, module, args.efficiency, plan.frozen)
  found |= dict(examples_per_second=c.batch_size / found["seconds"])
  if steps := num_steps(c, args.num_examples):
    hours = steps * found["seconds"] / 3600
    found |= dict(steps=steps, hours=hours, chip_hours=hours * len(on.devices))
  return found


def attempt(c, on, words="", *, args):
  """Returns the figures of a step of training, and says what was compiled.

  Args:
    c: the config.
    on: target.Target.
    words: str, what was changed, where that is not the batch or the policy.
    args: the flags.
  """
  found = figures(c, on, compile_training(c, on, args.num_examples), args)
  peak = (
    text.readable(found["peak"]) if "peak" in found else "more than there is"
  )
  plain = f"{on.name}, remat {found['remat']}, batch {found['batch_size']}"
  if found["compile_seconds"]:
    progress.say(
      f"{words or plain}: {peak}{'' if found['fits'] else ', does not fit'}"
    )
  return found


def main(args):
  c = args.config
  config.validate(c, complete=True)
  if args.search and args.decode:
    raise ValueError("--search is of training: without --decode")
  if not 0 < args.efficiency <= 1:
    raise ValueError(
      f"--efficiency {args.efficiency:g}: wanted a share of the peak, such as"
      f" {needs.EFFICIENCY}"
    )
  if args.num_examples is not None and args.num_examples < 1:
    raise ValueError(
      f"--num-examples {args.num_examples}: wanted how many an epoch has"
    )
  on = target.find(args.on)
  tried = functools.partial(attempt, args=args)
  progress.say(f"compiling for {on.name}")
  if args.search:
    return changes.search(c, on, tried)
  if args.decode:
    plan = compile_decoding(c, on)
  else:
    plan = compile_training(c, on, args.num_examples)
  found = figures(c, on, plan, args)
  if args.json:
    print(json.dumps(found))
    return
  text.show(found, args)
  if not found["fits"] and not args.decode:
    changes.advice(c, on, tried)


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    on=dict(default=target.HERE, help="what it is to run on; see above"),
    search=dict(action="store_true", help="the largest batch that fits"),
    decode=dict(action="store_true", help="what writes answers"),
    efficiency=dict(type=float, default=needs.EFFICIENCY, help="of the peak"),
    num_examples=dict(type=int, help="of an epoch, where data are not here"),
    json=dict(action="store_true", help="print one JSON object"),
  )
