"""Shows how a run goes: a progress line, and a table of the parameters."""

import collections
import math
import shutil
import sys
import time

import numpy as np

from pg import tree

# Speed and waiting are means over this many seconds.
WINDOW = 30.0


class Progress:
  """Prints how far a run is: in place on a terminal, else a line now and then.

  Args:
    total: int, the step at which the run ends.
    batch_size: int, examples per step.
    every: float, seconds between two lines where they cannot be overwritten.
    enabled: bool, False on all processes but the first: nothing is printed.
    stream: where to print.
    clock: returns seconds.
  """

  def __init__(
    self,
    total,
    batch_size,
    *,
    every=10.0,
    enabled=True,
    stream=None,
    clock=time.monotonic,
  ):
    self._total, self._batch_size, self._enabled = total, batch_size, enabled
    self._stream, self._clock = stream or sys.stderr, clock
    self._in_place = self._stream.isatty()
    self._every = 0.2 if self._in_place else every
    self._next = -math.inf
    self._open = False
    self._waited = 0.0
    self._samples = collections.deque()

  def update(self, step, loss, waited=0.0):
    """Counts one step, and prints where a line is due.

    Args:
      step: int, steps done so far.
      loss: f32[] or float; an array on a device is fetched only for a line.
      waited: float, seconds that this step waited for data.
    """
    now = self._clock()
    self._waited += waited
    self._samples.append((now, step, self._waited))
    while self._samples[-1][0] - self._samples[0][0] > WINDOW:
      self._samples.popleft()
    if self._enabled and (now >= self._next or step >= self._total):
      self._next = now + self._every
      self._show(step, float(loss))

  def restart(self):
    """Forgets the speed so far; call it after an evaluation or a checkpoint."""
    self._samples.clear()

  def say(self, text):
    """Prints lines that stay, above the progress line."""
    if self._enabled:
      self._stream.write(("\r\x1b[2K" if self._open else "") + f"{text}\n")
      self._stream.flush()
      self._open = False

  def close(self):
    """Ends the progress line."""
    if self._open:
      self._stream.write("\n")
      self._stream.flush()
      self._open = False

  def _show(self, step, loss):
    line = format_line(step, self._total, loss, *self._rates(step))
    if self._in_place:
      # A line that wraps could not be overwritten.
      width = shutil.get_terminal_size().columns - 1
      self._stream.write(f"\r\x1b[2K{line[:width]}")
      self._open = True
    else:
      self._stream.write(f"{line}\n")
    self._stream.flush()

  def _rates(self, step):
    """Returns examples/s, the share spent waiting, seconds left; else nan."""
    if not self._samples or self._samples[0][0] == self._samples[-1][0]:
      return math.nan, math.nan, math.nan
    (t0, step0, waited0), *_, (t1, step1, waited1) = self._samples
    seconds = (t1 - t0) / (step1 - step0)
    return (
      self._batch_size / seconds,
      (waited1 - waited0) / (t1 - t0),
      (self._total - step) * seconds,
    )


def format_line(step, total, loss, speed, wait, eta):
  """Returns the progress line; what is nan (not known yet) is left out.

    format_line(1200, 3000, .5321, 183.2, .018, 190) ==
      "step 1200/3000 40% | loss 0.532 | 183 examples/s | data wait 2% | "
      "ETA 3m10s"

  Args:
    step, total: int.
    loss: float; a loss that is nan is shown, as "nan".
    speed: float, examples per second.
    wait: float, share of the time spent waiting for data.
    eta: float, seconds left.
  """
  # Rounded down: only the last step is 100%.
  parts = [
    f"step {step}/{total} {100 * step // max(total, 1)}%",
    f"loss {loss:.3f}",
  ]
  if not math.isnan(speed):
    parts.append(f"{speed:.{0 if speed >= 10 else 1}f} examples/s")
  if not math.isnan(wait):
    parts.append(f"data wait {wait:.0%}")
  if not math.isnan(eta):
    parts.append(f"ETA {duration(eta)}")
  return " | ".join(parts)


def duration(seconds):
  """Returns seconds in two units: 45s, 3m10s, 2h05m, 3d04h."""
  seconds = round(seconds)
  if seconds < 60:
    return f"{seconds}s"
  if seconds < 3600:
    return f"{seconds // 60}m{seconds % 60:02}s"
  if seconds < 86400:
    return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
  return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"


def parameter_overview(params, *, stats=False):
  """Returns a table of a parameter tree, one line per array and a total.

    name                      shape  dtype    count
    img/embedding/kernel  8x8x3x128  float32  24576
    ...
    total                                     490112

  Args:
    params: nested dict of arrays, or of ShapeDtypeStructs.
    stats: bool, adds mean and standard deviation (needs arrays).
  """
  flat = tree.flatten(params)
  head = ["name", "shape", "dtype", "count"] + ["mean", "std"] * stats
  rows = [head] + [_row(k, v, stats) for k, v in flat.items()]
  count = sum(math.prod(leaf.shape) for leaf in flat.values())
  rows.append(["total", "", "", f"{count:,}"] + ["", ""] * stats)
  widths = [max(map(len, column)) for column in zip(*rows)]
  # Names and dtypes are words, the rest are numbers.
  align = ["<", ">", "<"] + [">"] * 3
  lines = [
    "  ".join(f"{c:{a}{w}}" for c, a, w in zip(row, align, widths)).rstrip()
    for row in rows
  ]
  rule = "-" * max(map(len, lines))
  return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _row(name, leaf, stats):
  shape = "x".join(map(str, leaf.shape)) or "scalar"
  row = [name, shape, np.dtype(leaf.dtype).name, f"{math.prod(leaf.shape):,}"]
  if not stats:
    return row
  # In float32: the mean of many bfloat16 numbers in bfloat16 is a wrong one.
  leaf = np.asarray(leaf).astype(np.float32)
  return row + [f"{leaf.mean():.2g}", f"{leaf.std():.2g}"]
