"""The progress line of training, and the table of parameters."""

import math
import time

import numpy as np

from pg import progress, table, tree


class Steps(progress.Bar):
  """The progress line of training.

    step 1200/3000 40% | loss 0.532 | 183 examples/s | data wait 2% | ETA 03:10

  Speed and time left are by tqdm's moving mean, waiting is since the last line.
  What is not known yet is left out.

  Args:
    total: int, the step at which the run ends.
    batch_size: int, examples per step.
    options: of tqdm; disable=True on all processes but the first.
  """

  def __init__(self, total, batch_size, **options):
    self._batch_size, self._loss, self._waited = batch_size, None, 0.0
    self._stepped = 0.0
    options |= dict(total=total, bar_format="{line}", smoothing=0.2)
    super().__init__(**options)

  def step(self, step, loss, waited):
    """Counts one step, and prints where a line is due.

    Args:
      step: int, steps done so far.
      loss: f32[]; an array on a device is fetched only for a line.
      waited: float, seconds that this step waited for data.
    """
    first, self._loss = self._loss is None, loss
    self._waited += waited
    self._stepped = time.time()
    if first:  # it compiled, and says nothing about the speed
      self.initial = self.n = self.last_print_n = step
      self.start_t = self.last_print_t = self._stepped
      self.delay = 0
      self.refresh()
    if first or self.update(step - self.n):
      self._waited = 0.0

  def unpause(self):
    """Leaves the time since the last step, of an evaluation, out."""
    if self._loss is not None:
      pause = time.time() - self._stepped
      self.start_t += pause
      self.last_print_t += pause

  @property
  def format_dict(self):
    """What tqdm formats: `line` is all of it."""
    found = super().format_dict
    return found | dict(line="" if self._loss is None else self._line(**found))

  def _line(self, n, total, initial, elapsed, rate, **_):
    # Rounded down: only the last step is 100%.
    parts = [f"step {n}/{total} {100 * n // max(total, 1)}%"]
    parts.append(f"loss {float(self._loss):.3f}")
    if not rate and elapsed > 0:  # at the end: the mean of the whole run
      rate = (n - initial) / elapsed
    if rate:
      speed = rate * self._batch_size
      parts.append(f"{speed:.{0 if speed >= 10 else 1}f} examples/s")
      since = time.time() - self.last_print_t
      if since > 0 and not self.disable:
        parts.append(f"data wait {self._waited / since:.0%}")
      parts.append(f"ETA {self.format_interval((total - n) / rate)}")
    return " | ".join(parts)


def parameter_overview(params):
  """Returns a table of a parameter tree, one line per array and a total.

    name                      shape  dtype    count
    img/embedding/kernel  8x8x3x128  float32  24576
    ...
    total                                     490112

  Args:
    params: nested dict of arrays, or of ShapeDtypeStructs.
  """
  rows, total = [["name", "shape", "dtype", "count"]], 0
  for name, leaf in tree.flatten(params).items():
    shape, count = "x".join(map(str, leaf.shape)), math.prod(leaf.shape)
    dtype = np.dtype(leaf.dtype).name
    rows.append([name, shape or "scalar", dtype, f"{count:,}"])
    total += count
  rows.append(["total", "", "", f"{total:,}"])
  lines = table.lines(rows, words=(0, 2))
  rule = "-" * max(map(len, lines))
  return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
