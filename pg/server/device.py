"""The device side of the engine: slots, and programs that fill them.

Images and prompts that were read are kept by their content.
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pg import progress
from pg.ask import programs
from pg.ask import rows as rows_lib
from pg.decode import slots as slots_lib
from pg.server import cache
from pg.server import job as job_lib

GROUP = 4  # prompts that are read together


class Sizes(NamedTuple):
  """How much an engine takes."""

  num_slots: int = 16  # answers that grow at the same time
  max_prompt: int = 128  # text tokens of a prompt, one of programs.SIZES
  max_answer: int = 128  # tokens of an answer, one of programs.SIZES
  num_images: int = 1  # of a request
  max_queue: int = 64  # requests that wait
  cache_bytes: int = 1 << 29  # of images, and again of prompts


class Device:
  """A model, and slots for its answers; for one thread at a time."""

  def __init__(self, model, sizes):
    """Takes an ask.model.Model and Sizes; nothing is compiled yet."""
    self.model, self.sizes = model, sizes
    self.images = cache.Cache(sizes.cache_bytes)
    self.prefixes = cache.Cache(sizes.cache_bytes)
    self.reset()

  def reset(self):
    """Makes all slots free."""
    M, sizes = self.sizes.num_images, self.sizes
    T = M * self.model.cfg.img.num_tokens + sizes.max_prompt
    self._slots = slots_lib.empty(
      self.model.cfg,
      sizes.num_slots,
      T,
      sizes.max_answer,
      int8=self.model.int8_keys,
    )

  def row_counts(self):
    """Returns for how many slots there is a program."""
    num = self.sizes.num_slots
    powers = [4**i for i in range(num.bit_length())]
    return [x for x in powers if x < num] + [num]

  def warm(self, say=progress.say):
    """Compiles a program for each size, and runs it once."""
    L = [x for x in programs.SIZES if x <= self.sizes.max_prompt]
    kinds = [(M, x, 1) for M in range(self.sizes.num_images + 1) for x in L]
    kinds += [(1, x, GROUP) for x in L] * (self.sizes.num_images > 0)
    begun, total = time.monotonic(), len(kinds) + len(self.row_counts())
    side = self.model.form.res
    for i, (M, size, num) in enumerate(kinds, start=1):
      say(f"compiling: {i} of {total} programs")
      square = np.zeros((M, side, side, 3), np.uint8)
      # Of different images, else one of them is read for all.
      keys = [tuple(f"{n} {m}" for m in range(M)) for n in range(num)]
      how = slots_lib.How(np.int32(2))
      look = lambda square=square: square
      jobs = [job_lib.Job(x, look, "a", size, how, None) for x in keys]
      for job, (logits, prompt) in zip(jobs, self.read(jobs), strict=True):
        self._insert(0, logits, prompt, job.how)
    V = self.model.cfg.llm.vocab_size
    table = np.zeros(slots_lib.ENTRIES, np.int32)
    self._constrain(0, np.zeros(V, np.int32), table)
    for i, rows in enumerate(self.row_counts(), start=len(kinds) + 1):
      say(f"compiling: {i} of {total} programs")
      self._insert(0, logits, prompt, how)
      self.advance(rows, 1, False)
    self.release(0)
    self.reset()
    for found in (self.images, self.prefixes):
      found.__init__(found.max_bytes)
    seconds = time.monotonic() - begun
    say(f"compiled {total} programs in {seconds:.1f} s")

  def read(self, jobs):
    """Reads Jobs of one size.

    Returns:
      for each the logits f32[V] of its first token, and its row of a Prompt.
    """
    begun = time.monotonic()
    model, (M, _) = self.model, jobs[0].bucket
    tokens = jax.block_until_ready(self._see(jobs))
    seen = time.monotonic()
    rows = [
      rows_lib.Row(x, [None] * M, j.prompt, j.size, None, 0, j.adapter)
      for j, x in zip(jobs, tokens, strict=True)
    ]
    num = 1 if len(jobs) == 1 else GROUP
    rows += rows[:1] * (num - len(rows))
    logits, prompt, _, _ = model.prefill(rows, num)
    found = model.programs.split((logits, prompt))[: len(jobs)]
    jax.block_until_ready(found)
    for job in jobs:
      job.times["image"] = seen - begun
      job.times["prefill"] = time.monotonic() - seen
    return found

  def _see(self, jobs):
    """Returns for each Job its image tokens [M * I, D]."""
    model, M, found = self.model, len(jobs[0].keys), {}
    wanted = [(j.adapter, key, i) for j in jobs for i, key in enumerate(j.keys)]
    unseen = []
    for (adapter, key, i), job in zip(wanted, np.repeat(jobs, M), strict=True):
      tokens = self.images.get((adapter, key))
      if tokens is not None:
        found[adapter, key] = tokens
      elif (adapter, key) not in [x[:2] for x in unseen]:
        unseen.append((adapter, key, job.squares[i]))
    for i in range(0, len(unseen), GROUP):
      part = unseen[i : i + GROUP]
      rows = part + part[:1] * ((GROUP if len(part) > 1 else 1) - len(part))
      squares = np.stack([square for *_, square in rows])[:, None]
      params = model.adapted([adapter for adapter, *_ in rows], 1)
      tokens = model.programs.embed(model.cfg, params, squares)
      tokens = model.programs.split(tokens)
      for (adapter, key, _), one in zip(part, tokens):
        found[adapter, key] = one
        self.images.put((adapter, key), one)
    if not M:
      empty = np.zeros((0, model.cfg.llm.width), model.cfg.dtype)
      return [empty] * len(jobs)
    own = [[found[job.adapter, key] for key in job.keys] for job in jobs]
    return [x[0] if M == 1 else jnp.concatenate(x) for x in own]

  def place(self, at, job, number, logits, prompt):
    """Puts what `read` returned for a Job into a slot: one of its answers."""
    how = job.how._replace(number=np.int32(number))
    if job.automaton is not None:
      classes, table, stride = slots_lib.table_of(job.automaton)
      self._constrain(at, classes, table)
      node = np.int32(job.automaton.start[0])
      how = how._replace(stride=stride, node=node)
    self._insert(at, logits, prompt, how)

  def lines(self, *, top=False):
    """Returns the Lines of all slots as numpy arrays, perhaps without top."""
    lines = self._slots.lines
    if not top:
      lines = lines._replace(top=None, top_logp=None)
    return jax.device_get(lines)

  def _insert(self, at, logits, prompt, how):
    self._slots = self.model.programs.insert(
      self._slots, np.int32(at), logits, prompt, how
    )

  def _constrain(self, at, classes, table):
    automata = self.model.programs.constrain(
      self._slots.automata, np.int32(at), classes, table
    )
    self._slots = self._slots._replace(automata=automata)

  def release(self, at):
    """Makes a slot free."""
    lines = self.model.programs.release(self._slots.lines, np.int32(at))
    self._slots = self._slots._replace(lines=lines)

  def advance(self, rows, steps, is_awaited):
    """Runs the program that writes on; returns how many steps it did."""
    model, bank = self.model, self.model.bank
    self._slots, done = model.programs.advance_each(
      model.cfg,
      model.params,
      bank and bank._replace(names=()),
      self._slots,
      np.int32(steps),
      np.bool_(is_awaited),
      rows,
    )
    return int(done)
