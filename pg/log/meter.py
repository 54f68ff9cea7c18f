"""What a run costs: its speed, its time by part, its memory.

The metrics, on the lines of training, all of the first process:

  speed/examples_per_s           since the line before or an evaluation
  speed/examples_per_s_per_chip
  speed/mfu                      share of the chips' peak that the products of a
                                 step are, counted without what is computed
                                 twice (pg/models/flops.py); of chips whose peak
                                 is known (pg/chips.py)
  speed/data_wait                share of the time in which a step waited for
                                 its examples
  time/total                     seconds since the run began, up to its last
                                 checkpoint before each restart, without the
                                 start of a process
  time/data_wait, time/evaluation, time/checkpoint
                                 those of it in which nothing was trained; of a
                                 checkpoint, which is written while the next
                                 steps are taken, only what they had to wait
  time/chip_hours                hours of time/total, times chips
  memory/device, memory/device_peak
                                 GiB of the fullest device of the process, where
                                 devices tell
  memory/host                    GiB of the process (Linux), without its workers
"""

import contextlib
import os
import time

from pg import chips


class Meter:
  """Measures a run from now on.

  Args:
    run: experiment.Experiment.
    batch_size: int, examples of a step.
    step: int, at which the run is.
    before: what `spent` was at that step; {} at the start.
  """

  def __init__(self, run, batch_size, step, before):
    self._run, self._batch_size, self._before = run, batch_size, before
    self._opened = time.monotonic()
    self._spent = dict(data_wait=0.0, evaluation=0.0, checkpoint=0.0)
    self._flops = 0.0
    self.begin(step)

  def begin(self, step):
    """Measures speed from a step on, which was just done."""
    now = time.monotonic()
    self._since = now, step, self._spent["data_wait"], self._flops

  def step(self, num_text):
    """Counts the operations of a step on so many text positions."""
    self._flops += self._batch_size * self._run.flops(num_text)

  def add(self, part, seconds):
    """Adds to what a part of the run has cost."""
    self._spent[part] += seconds

  @contextlib.contextmanager
  def timed(self, part):
    """Adds the time of a block to what a part of the run has cost."""
    start = time.monotonic()
    try:
      yield
    finally:
      self.add(part, time.monotonic() - start)

  def speed(self, step):
    """Returns metrics of the steps since `begin`, and begins anew."""
    then, first, waited, flops = self._since
    self.begin(step)
    seconds = self._since[0] - then
    rate = (step - first) * self._batch_size / seconds
    devices = self._run.mesh.devices
    found = {
      "speed/examples_per_s": rate,
      "speed/examples_per_s_per_chip": rate / devices.size,
      "speed/data_wait": (self._spent["data_wait"] - waited) / seconds,
    }
    if chip := chips.of_kind(devices.flat[0].device_kind):
      peak = devices.size * chip.flops
      found["speed/mfu"] = (self._flops - flops) / seconds / peak
    return found

  def spent(self):
    """Returns metrics of what the run has cost, those before it included."""
    total = time.monotonic() - self._opened
    hours = total / 3600 * self._run.mesh.devices.size
    here = dict(total=total, **self._spent, chip_hours=hours)
    here = {f"time/{part}": value for part, value in here.items()}
    return {k: v + self._before.get(k, 0.0) for k, v in here.items()}


def memory(devices):
  """Returns metrics of the memory in use.

  Args:
    devices: of JAX, those of this process.
  """
  told = [stats for d in devices if (stats := d.memory_stats())]
  keys = dict(device="bytes_in_use", device_peak="peak_bytes_in_use")
  found = {
    f"memory/{name}": max(stats[key] for stats in told) / chips.GIB
    for name, key in keys.items()
    if told and all(key in stats for stats in told)
  }
  with contextlib.suppress(OSError), open("/proc/self/statm") as f:
    pages = int(f.read().split()[1])
    found["memory/host"] = pages * os.sysconf("SC_PAGE_SIZE") / chips.GIB
  return found
