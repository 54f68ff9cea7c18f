"""The engine: one thread that owns the device and answers many at once.

Requests wait in a queue for slots (pg/decode/slots.py). Between two calls of
the program that writes all answers on, the first of them are read: their images
and prompts, a few of a size together, or taken from caches of what was read
before. Then each goes into slots of its own.
"""

import collections
import threading
import time
import traceback

import numpy as np

from pg import progress
from pg.server import device as device_lib
from pg.server import job as job_lib

CALL_SECONDS = 0.04  # of the program that writes on, about
MAX_STEPS = 16  # tokens that it writes of each, at most


class Engine:
  """Answers Jobs; `start` it, `submit` them, `close` it."""

  def __init__(self, model, sizes):
    """Takes an ask.model.Model and device.Sizes; compiles nothing."""
    self.model, self.sizes = model, sizes
    self.device = device_lib.Device(model, sizes)
    self.num_steps = self.num_tokens = 0
    self._tenants = [None] * sizes.num_slots  # (Job, number, tokens told)
    self._waiting = collections.deque()
    self._reading = []  # Jobs that are in neither
    self._lock = threading.Condition()
    self._is_stopping = self._is_closed = False
    self._step_seconds = 0.0
    self._thread = threading.Thread(target=self._run, daemon=True)

  @property
  def num_waiting(self):
    return len(self._waiting)

  @property
  def num_active(self):
    return sum(x is not None for x in self._tenants)

  @property
  def is_alive(self):
    return self._thread.is_alive()

  def start(self):
    """Begins to answer."""
    self._thread.start()

  def submit(self, job):
    """Puts a Job into the queue.

    Raises:
      Full, Stopping: it is not answered.
    """
    with self._lock:
      if self._is_stopping:
        raise job_lib.Stopping
      if len(self._waiting) >= self.sizes.max_queue:
        raise job_lib.Full
      job.times["submitted"] = time.monotonic()
      self._waiting.append(job)
      self._lock.notify()

  def stop(self):
    """Takes no new Jobs; returns whether all that it had are answered."""
    with self._lock:
      self._is_stopping = True
      return not (self._waiting or self._reading or self.num_active)

  def close(self):
    """Ends the thread; Jobs that are not answered fail."""
    with self._lock:
      self._is_stopping = self._is_closed = True
      self._lock.notify()
    if self._thread.is_alive():
      self._thread.join()
    for job in [*self._waiting, *(x[0] for x in self._tenants if x)]:
      job.fail(job_lib.Stopping())

  def _run(self):
    """Answers until `close`."""
    while True:
      with self._lock:
        while not (self._waiting or self.num_active or self._is_closed):
          self._lock.wait()
        if self._is_closed:
          return
      try:
        self._drop()
        self._admit()
        if self.num_active:
          self._advance()
      except Exception as error:  # nothing ends the thread
        progress.say(traceback.format_exc())
        self._fail(error)

  def _fail(self, error):
    """Tells all whose slots are lost, and begins anew."""
    lost = [*self._reading, *(x[0] for x in self._tenants if x)]
    self._reading, self._tenants = [], [None] * self.sizes.num_slots
    for job in lost:
      job.fail(error)
    self.device.reset()

  def _drop(self):
    """Forgets those who went away or waited too long."""
    now = time.monotonic()
    with self._lock:
      waiting = [*self._waiting]
      for job in waiting:
        if job.deadline < now:
          job.fail(job_lib.Late())
      self._waiting = collections.deque(x for x in waiting if not x.is_over)
    for at, tenant in enumerate(self._tenants):
      if tenant and tenant[0].deadline < now:
        tenant[0].fail(job_lib.Late())
      if tenant and tenant[0].is_over:
        self._free(at)

  def _free(self, at):
    self._tenants[at] = None
    self.device.release(at)

  def _take(self):
    """Takes the first of the queue, as far as there are slots for them."""
    free, taken = self._tenants.count(None), []
    with self._lock:
      while self._waiting and len(taken) < device_lib.GROUP:
        if self._waiting[0].num > free:
          break
        job = self._waiting.popleft()
        free -= job.num
        taken.append(job)
      self._reading = taken
    return taken

  def _admit(self):
    """Reads the prompts of waiting Jobs, and puts them into slots."""
    jobs = self._take()
    if not jobs:
      return
    begun = time.monotonic()
    for job in jobs:
      job.times["queue"] = begun - job.times["submitted"]
    ready, missing = {}, {}
    for job in jobs:
      if (found := self.device.prefixes.get(job.key)) is not None:
        ready[job.key] = found
      else:
        missing.setdefault(job.bucket, {})[job.key] = job
    for bucket, group in missing.items():
      group = [*group.values()]
      size = device_lib.GROUP if bucket[0] == 1 else 1
      for i in range(0, len(group), size):
        part = group[i : i + size]
        try:
          for job, found in zip(part, self.device.read(part), strict=True):
            ready[job.key] = found
            self.device.prefixes.put(job.key, found)
        except Exception as error:  # the others are answered
          progress.say(traceback.format_exc())
          for job in part:
            job.fail(error)
    for job in jobs:
      if job.is_over or job.key not in ready:
        job.fail(RuntimeError("its prompt was not read"))
        continue
      for number in range(job.num):
        at = self._tenants.index(None)
        self.device.place(at, job, number, *ready[job.key])
        self._tenants[at] = [job, number, 0]
    self._reading = []
    self._tell()

  def _advance(self):
    """Writes all answers on, for about CALL_SECONDS."""
    steps = MAX_STEPS
    if self._step_seconds:
      steps = int(min(MAX_STEPS, max(1, CALL_SECONDS / self._step_seconds)))
    last = max(i for i, x in enumerate(self._tenants) if x)
    rows = next(x for x in self.device.row_counts() if x > last)
    begun = time.monotonic()
    done = self.device.advance(rows, steps, bool(self._waiting))
    seconds = time.monotonic() - begun
    if done:
      self._step_seconds = seconds / done
    self.num_steps += done
    self._tell()

  def _tell(self):
    """Tells of what is new in all slots."""
    wants_top = any(x and x[0].num_top for x in self._tenants)
    lines = self.device.lines(top=wants_top)
    now = time.monotonic()
    for at, tenant in enumerate(self._tenants):
      if not tenant:
        continue
      job, number, told = tenant
      if job.is_over:
        self._free(at)
        continue
      new, top = slice(told, int(lines.step[at])), []
      logp = lines.logp[at, new]
      if not np.isfinite(logp).all():
        job.fail(ValueError("the answer's probabilities are inf or nan"))
        self._free(at)
        continue
      if job.num_top:
        both = (x[at, new, : job.num_top] for x in (lines.top, lines.top_logp))
        top = [list(zip(*x)) for x in zip(*(x.tolist() for x in both))]
      job.times.setdefault("first", now - job.times["submitted"])
      job.times["whole"] = now - job.times["submitted"]
      self.num_tokens += new.stop - told
      tenant[2] = new.stop
      is_done = bool(lines.done[at])
      if is_done:
        self._tenants[at] = None
      if new.stop > told:
        ids = lines.tokens[at, new].tolist()
        job.tell(job_lib.Piece(number, ids, logp.tolist(), top, is_done))
