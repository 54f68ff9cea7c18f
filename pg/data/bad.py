"""Rows that cannot be used: what becomes of them, and the file of their names.

A row is bad when its source or an op raises ValueError or OSError. The policy
`raise` ends the run there. Under `skip` training takes another row of the same
dataset and evaluation leaves the row out; either way it is counted and named in
`bad_examples.jsonl` of the run:

  {"source": "caption", "row": 16, "where": "train.jsonl:17", "message": "..."}
"""

import json
import os
from typing import NamedTuple

import numpy as np

from pg import atomic, progress

FILE = "bad_examples.jsonl"
# The share of bad rows means little before that many were read.
ENOUGH = 1000


class Bad(NamedTuple):
  """A row that could not be used."""

  source: str  # the dataset's name
  row: int
  where: str  # what the source calls the row
  message: str


class BadRow(ValueError):
  """A row cannot be used; `bad` is the Bad that says which one and why."""

  def __init__(self, *bad):
    super().__init__(*bad)
    self.bad = Bad(*bad)

  def __str__(self):
    return self.bad.message


class Policy(NamedTuple):
  """What becomes of bad rows."""

  skips: bool = False  # else the first one ends the run
  max_fraction: float = 0.01  # of the rows read; above it the run stops


def policy(policy="raise", max_fraction=0.01):
  """Returns the Policy of a valid config's `bad`."""
  return Policy(policy == "skip", max_fraction)


class Record:
  """Counts the bad rows of one stream, and writes each of them down once."""

  def __init__(self, sizes, policy, path=None):
    """Takes note of what will be read.

    Args:
      sizes: {name: number of rows} of the datasets, in the order of their
        numbers.
      policy: Policy.
      path: str, the file to append to; None writes nothing.
    """
    self.policy, self.path = policy, path
    self._sizes, self._written = sizes, None
    self.num_read = dict.fromkeys(sizes, 0)  # bad ones and their replacements
    self.num_bad = dict.fromkeys(sizes, 0)

  def add(self, rows, bad):
    """Counts a batch.

    Args:
      rows: dict with `source` and `index`, i32[B] each.
      bad: list of Bad, the rows that were met on the way.

    Raises:
      ValueError: the share of bad rows in a dataset is above `max_fraction`.
    """
    numbers = rows["source"][rows["index"] >= 0]
    counts = np.bincount(numbers, minlength=len(self._sizes))
    for name, count in zip(self._sizes, counts):
      self.num_read[name] += int(count)
    for b in bad:
      self.num_read[b.source] += 1
      self.num_bad[b.source] += 1
    if bad:
      self._write(bad)
      self._check(bad[-1])

  def _check(self, last):
    for name, size in self._sizes.items():
      read, bad = self.num_read[name], self.num_bad[name]
      share = self.policy.max_fraction
      if bad > share * max(read, min(size, ENOUGH)):
        where = f", all named in {self.path}" if self.path else ""
        raise ValueError(
          f"{bad} of {read} rows read from {name} could not be used, more than"
          f" bad.max_fraction = {share}{where}; the last one met:"
          f" {last.message}. Repair the data or raise bad.max_fraction"
        )

  def _write(self, bad):
    if self.path is None:
      return
    if self._written is None:
      self._written = {_key(b) for b in read(self.path)}
    # Somebody will look at the file in a terminal, or send it to somebody.
    said = [{k: _safe(v) for k, v in b._asdict().items()} for b in bad]
    new = {_key(b): b for b in said if _key(b) not in self._written}
    self._written |= new.keys()
    lines = [json.dumps(b, ensure_ascii=False) + "\n" for b in new.values()]
    if lines:
      atomic.append(self.path, "".join(lines).encode())


def _key(line):
  return tuple(line[k] for k in ("source", "row", "where"))


def _safe(value):
  return progress.safe(value) if isinstance(value, str) else value


def read(path):
  """Returns the lines of a file of bad rows as dicts; a torn one is left out.

  There may be no such file yet.
  """
  if not os.path.exists(path):
    return []
  found = []
  with open(path, "rb") as f:
    for line in f:
      try:
        found.append(json.loads(line))
      except ValueError:
        pass
  return found
