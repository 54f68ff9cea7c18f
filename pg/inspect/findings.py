"""Findings: what can be wrong with a dataset, how severe, and what to do.

An "error" would hurt training or make its scores worthless, a "warning" is
worth a look, a "note" is for those who want to know.
"""

import collections
import dataclasses
from typing import NamedTuple

from pg import progress

SEVERITIES = ("error", "warning", "note")
# Places that a finding names; it counts all.
NUM_PLACES = 5


class Kind(NamedTuple):
  """A kind of finding."""

  severity: str
  title: str
  advice: str
  limit: float | None = None  # share of rows above which it is an error


KINDS = {
  "row": Kind(
    "error",
    "rows that cannot be used",
    "Repair or remove them: the message says what was wanted.",
  ),
  "image": Kind(
    "error",
    "missing or corrupt images",
    "A path is relative to the data's file, or to image_root where that is set:"
    " --config.data.image_root=DIR. What is corrupt, copy or encode again.",
  ),
  "unscored": Kind(
    "error",
    "evaluation rows that their metric cannot read",
    "Repair them: an evaluation ends at the first of them.",
  ),
  "nothing": Kind(
    "error",
    "datasets of which no row is left",
    "Look at why their rows fail or are skipped, or take them out.",
  ),
  "no_target": Kind(
    "error",
    "prompts that leave no room for an answer",
    "Raise text_len or shorten the prompts: these rows teach nothing.",
  ),
  "cut": Kind(
    "warning",
    "texts that lose their end or EOS at this text_len",
    "Raise text_len to the value named above, or shorten the texts: a model"
    " that never sees EOS does not learn to stop.",
    limit=0.01,
  ),
  "long_answer": Kind(
    "warning",
    "true answers longer than an evaluator lets the model say",
    "Raise the evaluator's max_len.",
  ),
  "empty": Kind(
    "warning",
    "empty suffixes",
    "Remove these rows, unless silence is the right answer.",
  ),
  "echo": Kind(
    "error",
    "suffixes that are the prompt again",
    "The answer seems to be in another field: look at fmt in the pp.",
  ),
  "leak": Kind(
    "warning",
    "prompts with their answer in them",
    "Keep the answer out of the prompt, unless it offers choices.",
  ),
  "edges": Kind(
    "warning",
    "prompts that begin or end in spaces or newlines",
    "Strip them: the newline between prompt and answer is added for you, and"
    " the same prompt without the space is other tokens.",
  ),
  "control": Kind(
    "warning",
    "control pieces in the text",
    "Remove them. Some become one control token, the others are spelt out in"
    " letters; bos, eos and image tokens are added for you.",
  ),
  "loc": Kind(
    "error",
    "<loc> or <seg> that are no tokens",
    "Write four digits, <loc0000> to <loc1023>, and three, <seg000> to"
    " <seg127>, as pg.codecs.boxes.encode does.",
  ),
  "loc_count": Kind(
    "warning",
    "runs of <loc> that are not four long",
    "A box is four of them, then its name; separate two boxes by a name or by"
    ' " ; ".',
  ),
  "inverted": Kind(
    "error",
    "boxes with y2 < y1 or x2 < x1",
    "Write y1 x1 y2 x2, from the top left; x first and width and height are the"
    " usual mistakes.",
  ),
  "turned": Kind(
    "warning",
    "boxes in images that EXIF says are turned, and that are not",
    "Most tools show the upright image: say decode(exif=True), or take out the"
    " tag where boxes are of the stored one.",
  ),
  "flat": Kind(
    "warning",
    "boxes without an area (y2 = y1 or x2 = x1)",
    "Remove objects that are smaller than a thousandth of the image.",
  ),
  "left_out": Kind(
    "warning",
    "images with more objects than the answer has room for",
    "Raise `num` or text_len: the model learns to leave objects out.",
  ),
  "shared_question": Kind(
    "error",
    "evaluation rows whose image and prompt are in the training data",
    "Take them out of one of both: their score measures memory.",
  ),
  "seen": Kind(
    "note",
    "rows of seen_* evaluators, which are trained on",
    "Their score measures memory; tune=True of a transfer holds them out.",
  ),
  "shared_image": Kind(
    "warning",
    "evaluation rows whose image is in the training data",
    "Split by image and not by row, unless only the question is to be new.",
  ),
  "contradiction": Kind(
    "warning",
    "training rows that answer the same question in different ways",
    "Right for captions of one image; else keep one of them.",
  ),
  "duplicate": Kind(
    "warning",
    "training rows that repeat another one (image, prompt and suffix)",
    "Remove them, or say so with a weight.",
  ),
  "repeated_suffix": Kind(
    "note",
    "training rows whose suffix other rows have, too",
    "Right for short answers; captions should differ.",
  ),
  "tokenizer": Kind(
    "warning",
    "a tokenizer that is not here",
    "Texts were read with the tiny one, and their lengths are not judged: name"
    " the run's by config.tokenizer, or check again where it can be had.",
  ),
  "slow": Kind(
    "warning",
    "input that is slower than the steps",
    "Use more workers, store smaller images, or train on a larger batch's"
    " step time.",
  ),
}


BAD = ("row", "image")  # kinds of rows that cannot be used


@dataclasses.dataclass
class Finding:
  """How often and where one kind of problem was found."""

  kind: str  # key of KINDS
  counts: collections.Counter  # dataset -> rows
  places: list  # of the first rows: (where, detail)
  rows: list  # those that are in a dataset: what `add` was given

  @property
  def count(self):
    return self.counts.total()


class Findings:
  """Counts problems by kind; remembers the first places of each."""

  def __init__(self):
    self._found = {}
    self._severity = {}  # of those that `judge` decided

  def add(self, kind, dataset, where="", detail="", *, count=1, row=None):
    """Counts a problem.

    Args:
      kind: key of KINDS.
      dataset: str, a dataset's name.
      where: str, the name of the row; "" names no place.
      detail: str, what is wrong there.
      count: int, how many rows this stands for.
      row: whatever it takes to find the row again.
    """
    finding = self._found.setdefault(
      kind, Finding(kind, collections.Counter(), [], [])
    )
    finding.counts[dataset] += count
    if (where or detail) and len(finding.places) < NUM_PLACES:
      finding.places.append((progress.safe(where), progress.safe(detail)))
      finding.rows += [] if row is None else [row]

  def judge(self, sizes, tolerated=0.0):
    """Decides what depends on how many rows of a dataset a problem has.

    Args:
      sizes: {dataset: rows that were read}.
      tolerated: float, share of bad rows that training passes over.
    """
    limits = {k: kind.limit for k, kind in KINDS.items() if kind.limit}
    if tolerated:
      limits |= {k: tolerated for k in BAD}
    for kind in limits.keys() & self._found.keys():
      counts = self._found[kind].counts
      worse = any(n > limits[kind] * sizes[name] for name, n in counts.items())
      self._severity[kind] = "error" if worse else "warning"

  def severity(self, finding):
    """Returns "error", "warning" or "note"."""
    return self._severity.get(finding.kind, KINDS[finding.kind].severity)

  def sorted(self):
    """Returns list of (severity, Finding), the worst and commonest first."""
    pairs = [(self.severity(f), f) for f in self._found.values()]
    return sorted(pairs, key=lambda p: (SEVERITIES.index(p[0]), -p[1].count))

  def summary(self):
    """Returns how many findings there are of each severity, as text."""
    counts = collections.Counter(severity for severity, _ in self.sorted())
    words = [f"{counts[s]} {s}{'s' * (counts[s] != 1)}" for s in SEVERITIES]
    return ", ".join(words)

  def has_errors(self):
    return any(severity == "error" for severity, _ in self.sorted())
