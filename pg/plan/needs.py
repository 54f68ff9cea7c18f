"""What a compiled program needs of its devices, and how fast it can be."""

import math
import os

import jax

from pg.models import flops
from pg.plan import hlo, target

# Of a chip's peak, what training reaches, recomputation counted: 55 % says the
# paper of PaliGemma of a v5e (arXiv 2407.07726), 45 to 70 % MaxText's README of
# TPUs, 50 % of an H100.
EFFICIENCY = 0.5


def on_device(abstract):
  """Returns the bytes of a device's shards of a tree of abstract arrays."""
  return sum(
    _num_bytes(x.sharding.shard_shape(x.shape), x.dtype)
    for x in jax.tree.leaves(abstract)
  )


def _num_bytes(shape, dtype):
  """Returns the bytes of an array on a device, where int4 is packed."""
  return math.prod(shape) * jax.dtypes.itemsize_bits(dtype) // 8


def replicated(params):
  """Returns {name: bytes} of parameters that every device has whole."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
  return {
    name(path): _num_bytes(x.shape, x.dtype)
    for path, x in leaves
    if x.sharding.is_fully_replicated
  }


def peak(compiled):
  """Returns the bytes that a program takes on each device, arguments too."""
  m = compiled.memory_analysis()
  kept = m.argument_size_in_bytes + m.output_size_in_bytes
  kept += m.temp_size_in_bytes - m.alias_size_in_bytes
  return kept


def memory(on):
  """Returns the bytes that a program can have on each device of a Target."""
  if on.name != target.HERE:
    share = target.GPU_SHARE if on.platform == "gpu" else 1.0
    return share * on.chip.memory
  local = jax.local_devices()  # other processes' cannot be asked
  stats = local[0].memory_stats() or {}
  ours = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  return stats.get("bytes_limit", ours / len(local))


def step(cfg, c, on, module, efficiency, frozen=()):
  """Estimates a step of training, and what takes the time.

  Args:
    cfg: paligemma.Config.
    c: the config; the longest answer is taken to be `text_len`.
    on: target.Target with a chip.
    module: the compiled step, as `hlo.parse` returns it.
    efficiency: float, of the peak that products reach.
    frozen: as for `flops.training`.

  Returns:
    dict of floats: `flops` and `repeated` of an example; seconds for
    `products`, `memory` and `links`, each if nothing else took time; `seconds`
    of the step, the largest of them, the others going on meanwhile.
  """
  L, M = c.text_len, c.num_images
  has_tower = not c.input.get("cache_images")
  forward = flops.per_example(cfg, L, num_images=M, has_tower=has_tower)
  useful = flops.training(forward, frozen, cfg.lora).total
  repeated = flops.recomputed(cfg, L, num_images=M)
  if not has_tower:
    repeated = repeated._replace(image=0.0, image_attention=0.0)
  repeated = repeated.total
  each = (useful + repeated) * c.batch_size / len(on.devices)
  found = hlo.collectives(module, loss_chunks(L))
  read = hlo.bytes_read(module, "", loss_chunks(L))
  times = dict(
    products=each / (on.chip.flops * efficiency),
    memory=read / on.chip.bandwidth,
    links=_moved(found) / on.chip.link,
  )
  ours = dict(flops=useful, repeated=repeated, collectives=found, read=read)
  return ours | times | dict(seconds=max(times.values()))


def token(on, module):
  """Estimates the time of a token of all answers of a batch.

  Args:
    on: target.Target with a chip.
    module: what writes answers, as `hlo.parse` returns it.

  Returns:
    dict: `read` bytes and seconds for `memory` and `links` on each device,
    `collectives`, `copies` of a megabyte or more, and `seconds`, the larger.
  """
  loop = hlo.main_loop(module)
  read, found = hlo.bytes_read(module, loop), hlo.collectives(module, 1, loop)
  times = dict(
    memory=read / on.chip.bandwidth, links=_moved(found) / on.chip.link
  )
  ours = dict(read=read, collectives=found, copies=hlo.copies(module, loop))
  return ours | times | dict(seconds=max(times.values()))


def _moved(found):
  """Returns bytes on the links; an all-reduce scatters and gathers."""
  return sum(n * (1 + (k == "all-reduce")) for k, (_, n) in found.items())


def loss_chunks(num_text):
  """Returns how often the vocabulary loss's loop runs, at most."""
  return -(-num_text // 8)
