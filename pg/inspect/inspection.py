"""Examines the rows of a run's datasets, one by one and against each other.

What a row is like is a `visit.Visit`; `Doctor` adds them up, in memory that
does not grow with the size of images and texts.
"""

from typing import NamedTuple

import numpy as np

from pg.inspect import duplicates, findings

# The masks over text positions, of the batch contract.
MASKS = ("mask_input", "mask_ar", "mask_loss")


class Speed(NamedTuple):
  """How fast the training data is read."""

  one: float  # rows per second of one thread
  many: float  # rows per second of the configured threads or workers
  how: str  # which these are: "4 threads"
  images: float  # images per row
  wanted: float = 0.0  # rows per second that the steps take; 0: not known


class Shown(NamedTuple):
  """A row as the model sees it."""

  where: str
  row: dict  # of the batch contract
  prefix: str
  suffix: str


class Report(NamedTuple):
  """All that a check found."""

  title: str
  doctor: "Doctor"
  speed: Speed | None  # None without a row to read
  shown: tuple  # of Shown: a batch, or its beginning
  pictures: dict  # key of findings.KINDS -> list of Shown, rows that have it
  tok: object
  seconds: float  # that the check took


class Part:
  """One dataset of the run, and what was counted in it."""

  def __init__(
    self,
    name,
    dataset,
    *,
    train,
    limit=None,
    generates=False,
    max_len=None,
    seen=False,
  ):
    """Takes a dataset.

    Args:
      name: str.
      dataset: with `source`.
      train: bool, whether it is trained on.
      limit: int, only its first rows count; None is all.
      generates: bool, whether the model gets only the prompt.
      max_len: int, tokens that an evaluator lets the model say.
      seen: bool, whether it is known to be trained on, too.
    """
    self.name, self.dataset, self.train = name, dataset, train
    self.generates, self.max_len, self.seen = generates, max_len, seen
    self.size = min(len(dataset.source), limit or 2**63)
    self.counts = {"good": 0, "bad": 0, "skipped": 0}
    self.num_images = 0
    # Rows with so many tokens.
    self.lengths = {"prefix": [], "suffix": [], "total": []}

  @property
  def num_read(self):
    return sum(self.counts.values())

  def need(self, visit):
    """Returns the least text_len at which a row loses nothing."""
    if self.generates:
      return visit.num_prefix
    # The last token of a training row is only a target.
    return visit.num_prefix + visit.num_suffix - 1


class Doctor:
  """Adds up what the rows are like.

  Attributes:
    parts: list of Part.
    found: findings.Findings.
    need: int, the smallest text_len at which no row loses anything.
    num_cut: int, rows that lose something at this text_len.
  """

  def __init__(self, parts, text_len):
    self.parts, self.text_len = parts, text_len
    self.found = findings.Findings()
    self.need, self.num_cut = 0, 0
    self._twins = duplicates.Twins()

  def see(self, number, visit):
    """Counts a row of the dataset `parts[number]`."""
    part = self.parts[number]
    part.counts[visit.status] += 1
    for kind, detail in visit.problems:
      self._add(number, visit.index, kind, detail)
    if visit.status != "good":
      return
    part.num_images += len(visit.images)
    total = visit.num_prefix + visit.num_suffix
    sizes = (visit.num_prefix, visit.num_suffix, total)
    for name, n in zip(part.lengths, sizes):
      counts = part.lengths[name]
      counts += [0] * (n + 1 - len(counts))
      counts[n] += 1
    self._fit(number, visit)
    self._twins.add(
      number, visit.index, visit.images, visit.prefix, visit.suffix
    )

  def close(self, tolerated=0.0):
    """Compares the rows with each other and judges what was found.

    Args:
      tolerated: float, share of bad rows that training passes over.
    """
    training = {i for i, part in enumerate(self.parts) if part.train}
    for kind, number, index, twin, count in self._twins.compare(training):
      detail = f"and {self.where(*twin)}" if twin else f"{count:,} rows"
      if kind == "shared_question" and self.parts[number].seen:
        kind = "seen"
      self._add(number, index, kind, detail, count)
    for part in self.parts:
      if part.num_read and not part.counts["good"]:
        detail = "{bad} bad, {skipped} skipped".format(**part.counts)
        self.found.add("nothing", part.name, part.name, detail)
    sizes = {part.name: part.num_read for part in self.parts}
    self.found.judge(sizes, tolerated)

  def where(self, number, index):
    """Returns the name of a row."""
    return self.parts[number].dataset.source.where(index)

  def _add(self, number, index, kind, detail, count=1):
    name, where = self.parts[number].name, self.where(number, index)
    detail = detail.removeprefix(where).lstrip(": ")
    row = number, index
    self.found.add(kind, name, where, detail, count=count, row=row)

  def _fit(self, number, visit):
    part = self.parts[number]
    need = part.need(visit)
    self.need = max(self.need, need)
    if need > self.text_len:
      self.num_cut += 1
      room = part.generates or visit.num_prefix <= self.text_len
      kind = "cut" if room else "no_target"
      self._add(number, visit.index, kind, f"needs a text_len of {need}")
    if part.max_len and visit.num_suffix > part.max_len:
      detail = f"{visit.num_suffix} tokens, max_len {part.max_len}"
      self._add(number, visit.index, "long_answer", detail)


def quantile(counts, share):
  """Returns the least length that `share` of the rows do not exceed; or 0."""
  if not counts:
    return 0
  total = np.cumsum(counts)
  return int(np.searchsorted(total, share * total[-1]))


def add_up(histograms):
  """Returns the sum of lists of counts of any lengths."""
  out = np.zeros(max(map(len, histograms), default=0), int)
  for counts in histograms:
    out[: len(counts)] += np.array(counts, int)
  return out.tolist()
