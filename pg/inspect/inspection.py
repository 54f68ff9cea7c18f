"""Statistics and findings of a run's datasets, from one report per row.

A row's report is a `rows.RowReport`; `Inspection` adds them up, in memory that
does not grow with the size of images and texts.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from pg.inspect import duplicates, findings

# The masks over text positions, of the batch contract.
MASKS = ("mask_input", "mask_ar", "mask_loss")


class Throughput(NamedTuple):
  """How fast the training data is read."""

  single: float  # rows per second of one thread
  parallel: float  # rows per second of the configured threads or workers
  readers: str  # which these are: "4 threads"
  images: float  # images per row
  wanted: float = 0.0  # rows per second that the steps take; 0: not known


class Sample(NamedTuple):
  """A row as the model sees it."""

  where: str
  row: dict  # of the batch contract
  prefix: str
  suffix: str
  codec: str = ""  # of the codes in them, as the example has it


class Report(NamedTuple):
  """The result of a check, for the terminal and the page."""

  title: str
  inspection: "Inspection"
  throughput: Throughput | None  # None without a row to read
  batch: list  # of Sample, or its beginning
  samples: dict  # key of findings.KINDS -> list of Sample, rows that have it
  tok: object
  seconds: float  # that the check took


@dataclasses.dataclass
class DatasetStats:
  """One dataset of the run, and counts of its rows."""

  name: str
  dataset: object  # with `source`
  train: bool  # whether it is trained on
  limit: int | None = None  # only its first rows count; None is all
  generates: bool = False  # whether the model gets only the prompt
  max_len: int | None = None  # tokens that an evaluator lets the model say
  seen: bool = False  # whether it is known to be trained on, too
  metrics: tuple = ()  # names of those that score its rows

  def __post_init__(self):
    self.size = min(len(self.dataset.source), self.limit or 2**63)
    self.counts = {"good": 0, "bad": 0, "skipped": 0}
    self.num_images = 0
    # Rows with so many tokens.
    self.lengths = {"prefix": [], "suffix": [], "total": []}

  @property
  def num_read(self):
    return sum(self.counts.values())

  def text_len_for(self, report):
    """Returns the least text_len at which a row loses nothing."""
    if self.generates:
      return report.num_prefix
    # The last token of a training row is only a target.
    return report.num_prefix + report.num_suffix - 1


class Inspection:
  """Statistics and findings of all datasets, added up row by row.

  Attributes:
    datasets: list of DatasetStats.
    findings: findings.Findings.
    min_text_len: int, the smallest text_len at which no row loses anything.
    num_cut: int, rows that lose something at this text_len.
    judged: bool, whether tokens are those of the run, so that lengths count.
  """

  def __init__(self, datasets, text_len, *, judged=True):
    self.datasets, self.text_len, self.judged = datasets, text_len, judged
    self.findings = findings.Findings()
    self.min_text_len, self.num_cut = 0, 0
    self._index = duplicates.RowIndex()

  def add(self, number, report):
    """Counts a row of the dataset `datasets[number]`."""
    stats = self.datasets[number]
    stats.counts[report.status] += 1
    for kind, detail in report.problems:
      self._add(number, report.index, kind, detail)
    if report.status != "good":
      return
    stats.num_images += len(report.images)
    total = report.num_prefix + report.num_suffix
    sizes = (report.num_prefix, report.num_suffix, total)
    for name, n in zip(stats.lengths, sizes):
      counts = stats.lengths[name]
      counts += [0] * (n + 1 - len(counts))
      counts[n] += 1
    if self.judged:
      self._check_lengths(number, report)
    self._index.add(
      number, report.index, report.images, report.prefix, report.suffix
    )

  def finish(self, tolerated=0.0):
    """Compares the rows with each other and decides how severe findings are.

    Args:
      tolerated: float, share of bad rows that training passes over.
    """
    training = {i for i, stats in enumerate(self.datasets) if stats.train}
    for kind, number, index, match, count in self._index.compare(training):
      detail = f"and {self.where(*match)}" if match else f"{count:,} rows"
      if kind == "shared_question" and self.datasets[number].seen:
        kind = "seen"
      self._add(number, index, kind, detail, count)
    for stats in self.datasets:
      if stats.num_read and not stats.counts["good"]:
        detail = "{bad} bad, {skipped} skipped".format(**stats.counts)
        self.findings.add("nothing", stats.name, stats.name, detail)
    sizes = {stats.name: stats.num_read for stats in self.datasets}
    self.findings.judge(sizes, tolerated)

  def where(self, number, index):
    """Returns the name of a row."""
    return self.datasets[number].dataset.source.where(index)

  def _add(self, number, index, kind, detail, count=1):
    name, where = self.datasets[number].name, self.where(number, index)
    detail = detail.removeprefix(where).lstrip(": ")
    row = number, index
    self.findings.add(kind, name, where, detail, count=count, row=row)

  def _check_lengths(self, number, report):
    stats = self.datasets[number]
    need = stats.text_len_for(report)
    self.min_text_len = max(self.min_text_len, need)
    if need > self.text_len:
      self.num_cut += 1
      room = stats.generates or report.num_prefix <= self.text_len
      kind = "cut" if room else "no_target"
      self._add(number, report.index, kind, f"needs a text_len of {need}")
    if stats.max_len and report.num_suffix > stats.max_len:
      detail = f"{report.num_suffix} tokens, max_len {stats.max_len}"
      self._add(number, report.index, "long_answer", detail)


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
