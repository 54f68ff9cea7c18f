"""Traces a few steps of a run, for the profiler of TensorBoard.

`tensorboard --logdir WORKDIR/tensorboard` shows it where TensorBoard has the
plugin (`pip install tensorboard xprof`). Each process writes its own part:

  WORKDIR/tensorboard/plugins/profile/<time>/<host>.xplane.pb
"""

import re

import jax


class Profiler:
  """Traces the steps after one and up to another.

  Args:
    span: str, "100:105"; "" traces nothing.
    folder: str, where TensorBoard looks.
    total: int, the step at which the run ends.

  Raises:
    ValueError: no such span.
  """

  def __init__(self, span, folder, total):
    self._folder, self._traces = folder, False
    self._first = self._last = -1
    if not span:
      return
    match = re.fullmatch(r"(\d+):(\d+)", span)
    if match:
      self._first, self._last = int(match[1]), int(match[2])
    if not match or not self._first < self._last <= total:
      raise ValueError(
        f"--profile {span}: wanted two steps of the {total} of the run; 100:105"
        " traces the five after step 100"
      )

  def step(self, step, result):
    """Sees that a step was dispatched, whose result is arrays of devices."""
    if step == self._first:
      jax.block_until_ready(result)
      jax.profiler.start_trace(self._folder)
      self._traces = True
    elif step == self._last and self._traces:
      jax.block_until_ready(result)
      self.close()

  def close(self):
    """Ends a trace that is being taken."""
    if self._traces:
      self._traces = False
      jax.profiler.stop_trace()
