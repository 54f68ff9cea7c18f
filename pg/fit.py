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

import functools
import json
import time
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from pg import chips, command, config, progress, sharding, table, train
from pg.codecs import tokenizer
from pg.data import options as options_lib
from pg.data import pipeline
from pg.decode import loop
from pg.learn import optim
from pg.learn import state as state_lib
from pg.models import layers, paligemma, variants
from pg.plan import hlo, needs, target

# From the one that computes nothing twice to the one that keeps least.
POLICIES = tuple(reversed(layers.POLICIES))


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
  dtype = variants.compute_dtype(c.model.dtype, on.platform)
  given = dict(c.model, res=c.res, dtype=dtype)
  return variants.from_config(given, vocab_size)


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
  sharding.check_batch(c.batch_size, mesh, c.num_microbatches)
  shapes = paligemma.shapes(cfg)
  # Neither number is in the program's shapes.
  total = num_steps(c, num_examples) or 1000
  tx = optim.make(c, shapes, total, num_examples or 10**6)
  frozen = optim.frozen(shapes, c.schedule)
  shapes = state_lib.shapes(cfg, frozen, c.frozen_dtype)
  state = state_lib.abstract(cfg, tx, mesh, c.sharding, shapes)
  run = SimpleNamespace(cfg=cfg, tx=tx, is_frozen=frozen, mesh=mesh)
  batch = rows(c, mesh, num_text=c.text_len + 1)
  lower = functools.partial(train.compile_update(c, run).lower, state, batch)
  return _compile(lower, on, cfg, mesh, state, optim.frozen_towers(frozen))


def compile_decoding(c, on):
  """Compiles what evaluators generate answers with; returns a Plan."""
  cfg, mesh = model_of(c, on), sharding.make_mesh(c.mesh, devices=on.devices)
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
  found = dict(
    config=args.config_file,
    on=on.name,
    chips=len(on.devices),
    kind=on.devices[0].device_kind,
    described=on.source,
    num_parameters=sum(x.size for x in jax.tree.leaves(params)),
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
  module = hlo.parse(plan.compiled.as_text())
  if args.decode:
    found |= needs.token(on, module)
    return found | dict(tokens_per_second=c.batch_size / found["seconds"])
  found |= needs.step(plan.cfg, c, on, module, args.efficiency, plan.frozen)
  found |= dict(examples_per_second=c.batch_size / found["seconds"])
  if steps := num_steps(c, args.num_examples):
    hours = steps * found["seconds"] / 3600
    found |= dict(steps=steps, hours=hours, chip_hours=hours * len(on.devices))
  return found


def show(found, args):
  """Prints the figures of a plan."""
  size = lambda name: readable(found[name])
  devices = f"{found['chips']} x {found['kind']}"
  print(f"{found['config']} on {found['on']}: {devices}")
  if found["described"]:
    print(f"(not a real one: as described by {found['described']})")
  print(
    f"{found['num_parameters'] / 1e6:,.1f} M parameters, {found['dtype']},"
    f" remat {found['remat']}, batch {found['batch_size']}"
  )
  names = ["parameters", "optimizer", "activations", "peak"]
  lines = [[name, size(name)] for name in names if name in found]
  print("\nmemory of each device")
  show_table([*lines, ["it has", size("has")]])
  names = ", ".join(found["replicated_names"])
  print(
    f"whole on each: {size('replicated')} of parameters,"
    f" {found['replicated_share']:.1%} of its state{': ' * bool(names)}{names}"
  )
  if not found["fits"]:
    print(f"it does not fit. {found.get('failed', '')}".rstrip())
    return
  print(f"it fits, and takes {found['peak'] / found['has']:.0%}")
  if "tokens_per_second" in found:
    show_token(found)
  elif "seconds" in found:
    show_speed(found, args)


def readable(size):
  """Returns bytes as text."""
  return (
    f"{size / chips.GIB:.2f} GiB"
    if size > chips.GIB
    else f"{size / 2**20:.1f} MiB"
  )


def show_table(lines):
  print("\n".join(f"  {x}" for x in table.lines(lines, words=[0])))


def show_token(found):
  """Prints what a token of all answers of a batch takes."""
  print("\na token of each answer")
  show_moved(found)
  print(f"copied: {', '.join(found['copies']) or 'nothing of 1 MiB or more'}")
  print(
    f"{found['memory'] * 1e3:.2f} ms at the memory's bandwidth,"
    f" {found['links'] * 1e3:.2f} at the links':"
    f" {found['tokens_per_second']:.0f} tokens/s at most"
  )


def show_moved(found):
  lines = [
    [kind, f"{number} times", f"{readable(size)} a device"]
    for kind, (number, size) in sorted(found["collectives"].items())
  ]
  show_table([*lines, ["reads", "", f"{readable(found['read'])} a device"]])


def show_speed(found, args):
  """Prints what a step does, and how fast it can be."""
  once, again = found["flops"] / 1e12, found["repeated"] / 1e12
  print(f"\na step: {once:.3g} TFLOP an example, {again:.3g} again in remat")
  show_moved(found)
  lines = [
    [f"products at {args.efficiency:.0%} of the peak", found["products"]],
    ["memory at its bandwidth", found["memory"]],
    ["links at theirs", found["links"]],
  ]
  print("which takes, each alone, at least")
  show_table([[name, f"{seconds:.3f} s"] for name, seconds in lines])
  rate = found["examples_per_second"]
  print(
    f"{found['seconds']:.3f} s a step if the rest goes on meanwhile:"
    f" {rate:.1f} examples/s, {rate / found['chips']:.2f} a chip"
  )
  if "hours" in found:
    print(
      f"the run: {found['steps']:,} steps, {found['hours']:.1f} hours,"
      f" {found['chip_hours']:.0f} chip-hours, without evaluation"
    )
  else:
    print("the run: its data are not here; say --num-examples of an epoch")


def changed(c, **values):
  """Returns a config with other values; `remat` is the model's."""
  c = c.copy_and_resolve_references()
  with c.unlocked():
    if "remat" in values:
      c.model.remat = values.pop("remat")
    c.update(values)
  return c


def attempt(c, on, args):
  """Returns the figures of a step of training, and says them in a line."""
  found = figures(c, on, compile_training(c, on, args.num_examples), args)
  peak = readable(found["peak"]) if "peak" in found else "more than there is"
  progress.say(
    f"{on.name}, remat {found['remat']}, batch {found['batch_size']}: {peak}"
    f"{'' if found['fits'] else ', does not fit'}"
  )
  return found


def largest(c, on, args):
  """Returns the figures of the largest batch that fits; None if none does.

  Batches are that of the config times or divided by powers of 2.
  """
  best, size = None, c.batch_size
  found = attempt(c, on, args)
  while found["fits"]:
    best, size = found, size * 2
    found = attempt(changed(c, batch_size=size), on, args)
  while not best and not size % 2:
    size //= 2
    try:
      found = attempt(changed(c, batch_size=size), on, args)
    except ValueError:  # fewer than there are devices
      return None
    best = found if found["fits"] else None
  return best


def search(c, on, args):
  """Prints the largest batch that fits with each remat policy."""
  found = [largest(changed(c, remat=x), on, args) for x in POLICIES]
  found = [x for x in found if x]
  if not found:
    print(f"nothing fits {on.name}")
    return
  rate = "examples_per_second"
  found.sort(key=lambda x: -x.get(rate, 0))
  show_table(
    [
      [
        f"--config.model.remat={x['remat']}",
        f"--config.batch_size={x['batch_size']}",
        readable(x["peak"]),
        f"{x.get(rate, 0):.1f} examples/s",
      ]
      for x in found
    ]
  )


def advice(c, on, args):
  """Prints up to three changes with which it fits, the cheapest first.

  First come those that leave the numbers of the run as they are.
  """
  print("it would fit, the cheapest change first:")
  num = 0
  for family in changes(c, on):
    for text, other, name in family:
      try:
        found = attempt(other, target.find(name), args)
      except ValueError:  # a batch that the chips do not divide, or no such
        continue
      if found["fits"]:
        num += 1
        rate = found.get("examples_per_second", 0) / found["chips"]
        print(
          f"  {text}: {readable(found['peak'])}, {rate:.2f} examples/s a chip"
        )
        break
    if num == 3:
      return
  if not num:
    print("  nothing that was tried")


def changes(c, on):
  """Returns lists of (what to write, the config then, name of the Target)."""

  def written(key, values):
    return [
      (f"--config.{key}={x}", changed(c, **{key.split(".")[-1]: x}), on.name)
      for x in values
    ]

  remat = POLICIES[POLICIES.index(c.model.remat) + 1 :]
  parts = [n * c.num_microbatches for n in (2, 4, 8)]
  halves = [c.batch_size // n for n in (2, 4, 8, 16) if not c.batch_size % n]
  return [
    written("model.remat", remat),
    written("num_microbatches", parts),
    [(f"--on {x}", c, x) for x in larger(on.name)],
    written("moment_dtype", ["bfloat16"]),
    written("batch_size", halves),
    written("schedule", [(("img/.*", None), *c.schedule)]),
  ]


def larger(name):
  """Returns names of two and of four times as many chips, if there are."""
  kind, _, size = name.partition(":")
  found = []
  while len(found) < 2 and size:
    sides = sorted(map(int, size.split("x")))
    sides = sorted([2 * sides[0], *sides[1:]])
    if sides[-1] > (8 if len(sides) == 1 else 16):
      break
    size = "x".join(map(str, sides))
    found.append(f"{kind}:{size}")
  return found


def main(args):
  c = args.config
  config.validate(c, complete=True)
  if args.search and args.decode:
    raise ValueError("--search is of training: without --decode")
  on = target.find(args.on)
  progress.say(f"compiling for {on.name}")
  if args.search:
    return search(c, on, args)
  if args.decode:
    plan = compile_decoding(c, on)
  else:
    plan = compile_training(c, on, args.num_examples)
  found = figures(c, on, plan, args)
  if args.json:
    print(json.dumps(found))
    return
  show(found, args)
  if not found["fits"] and not args.decode:
    advice(c, on, args)


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
