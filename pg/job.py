"""Joins the processes of a job, and has all of them end when one does.

JAX finds out by itself which processes a job has: on TPU pods, under SLURM,
Open MPI and Kubernetes, and where JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES
and JAX_PROCESS_ID are set. What looks like a job of several and has only this
one is refused; JAX_NUM_PROCESSES=1 says that it is meant to be alone.

All processes run the same program and wait for each other, so none can go on
without the others. The first that fails tells them why, in the key-value store
of JAX's coordination service, which process 0 hosts; each then prints that one
line and ends. Of a process that dies without a word the service tells, or its
silence if it is process 0. Signals: see pg/stop.py.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
from typing import NamedTuple

from pg import progress, stop

# What a user can cause, and is told in one line.
REFUSALS = ValueError, OSError, FloatingPointError
SILENCE = 40  # seconds without a heartbeat after which a process is dead
GRACE = 2.5  # seconds to close what is open when another process has failed
COMING = 300  # seconds to wait for the others at the start
_FATAL = b"JAX distributed service detected fatal errors"

# What says that there are several processes, what JAX needs to join them, and
# what to do where that is missing.
_SIGNS = (
  (
    "JAX_COORDINATOR_ADDRESS",
    ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    "set it in each process",
  ),
  (
    "JAX_NUM_PROCESSES",
    ("JAX_COORDINATOR_ADDRESS", "JAX_PROCESS_ID"),
    "set it in each process",
  ),
  (
    "OMPI_COMM_WORLD_SIZE",
    ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK"),
    "Open MPI 5 has none: set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and"
    " JAX_PROCESS_ID",
  ),
  (
    "SLURM_NTASKS",
    ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"),
    "start it with srun",
  ),
  ("TPU_PROCESS_ADDRESSES", ("TPU_WORKER_ID",), "set it on each host"),
  ("TPU_WORKER_HOSTNAMES", ("TPU_WORKER_ID",), "set it on each host"),
  (
    "MEGASCALE_NUM_SLICES",
    ("MEGASCALE_COORDINATOR_ADDRESS", "MEGASCALE_SLICE_ID", "TPU_WORKER_ID"),
    "set it on each host",
  ),
  (
    "JOB_COMPLETION_INDEX",
    ("KUBERNETES_SERVICE_HOST", "the package kubernetes"),
    "add it, or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and"
    " JAX_PROCESS_ID",
  ),
)
_HOSTS = "TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"


class Claim(NamedTuple):
  """A sign that this is one of several processes."""

  variable: str
  value: str
  missing: tuple  # what JAX needs to join them and does not find
  fix: str

  def __str__(self):
    return (
      f"{self.variable} is {self.value!r}, as in a job of several processes"
    )


class Ended(SystemExit):
  """Another process has ended the job."""


def claimed(env, has=importlib.util.find_spec):
  """Returns what an environment says of a job of several processes.

  Args:
    env: {variable: value}.
    has: function from a package's name to whether it is there.

  Returns:
    Claim, one that nothing is missing for if there is one; None where this
    process is alone.

  Raises:
    ValueError: a number that is none.
  """
  if env.get("JAX_NUM_PROCESSES") == "1":
    return None
  claims = []
  for variable, needs, fix in _SIGNS:
    if variable in env and _several(variable, env):
      missing = [
        name
        for name in needs
        if name not in env
        and not (name.startswith("the package ") and has(name.split()[-1]))
      ]
      claims.append(Claim(variable, env[variable], tuple(missing), fix))
  return min(claims, key=lambda claim: bool(claim.missing), default=None)


def _several(variable, env):
  """Returns whether the value of a sign is that of several processes."""
  value = env[variable]
  if variable in _HOSTS:
    return "," in value
  if variable == "JAX_COORDINATOR_ADDRESS":
    return True
  if variable == "JOB_COMPLETION_INDEX":  # does not say how many there are
    return not any(name in env for name in _HOSTS)
  return _number(variable, value) > 1


def _number(variable, value):
  if not re.fullmatch(r"\d{1,9}", value.strip()):
    raise ValueError(f"{variable} is {value!r}; wanted a number")
  return int(value)


def refuse_several(env):
  """Raises ValueError where a program for one process is one of several.

  In the script of a SLURM job, outside of its steps, it is alone.
  """
  claim = claimed(env)
  if claim and not claim.missing:
    raise ValueError(
      f"{claim}, and this command runs in one: start it once, by itself, or set"
      " JAX_NUM_PROCESSES=1"
    )


@contextlib.contextmanager
def joined():
  """Joins the job; at the end waits for all of it, or ends all of it.

  Raises:
    ValueError: what looks like a job cannot be joined.
  """
  stopped = None
  with stop.at_once():  # JAX waits for the others, and hears of no signal
    _join(os.environ)
  try:
    try:
      yield
    except stop.Stopped as error:
      stopped = error
    _leave()
  except BaseException as error:
    _fail(error)
    raise
  if stopped:
    raise stopped


def _join(env):
  claim = claimed(env)
  if claim and claim.missing:
    raise ValueError(
      f"{claim}, but there is no {' and no '.join(claim.missing)}:"
      f" {claim.fix}; or set JAX_NUM_PROCESSES=1 for this process alone"
    )
  if not claim and not _on_tpu_vm(env):
    return
  import jax

  options = _options(env)
  jax.config.update("jax_enable_preemption_service", False)  # takes SIGTERM
  job = _Job()
  late = "waiting for the other processes"
  timer = threading.Timer(10, progress.say, [late])
  timer.start()
  try:
    jax.distributed.initialize(
      heartbeat_timeout_seconds=SILENCE,
      initialization_timeout=COMING,
      **options,
    )
    count = jax.process_count()
  except (ValueError, RuntimeError, OSError) as error:
    if not claim:  # a TPU without the metadata of a pod
      return job.unhook()
    raise ValueError(f"{claim}, but JAX cannot join them: {error}") from error
  finally:
    timer.cancel()
  if count == 1:
    job.unhook()
    if claim:
      raise ValueError(
        f"{claim}, but JAX finds only this one on {jax.default_backend()}; set"
        " JAX_NUM_PROCESSES=1 if it is meant to be alone"
      )
    return
  device = jax.local_devices()[0].device_kind
  process = jax.process_index()
  progress.say(
    f"{count} processes x {jax.local_device_count()} {device}, this is"
    f" {process}"
  )
  if process:
    progress.mute()
  job.start(process, count)


def _on_tpu_vm(env):
  """Returns whether to ask the metadata of a TPU machine for its pod."""
  from jax._src import cloud_tpu_init

  names = "JAX_NUM_PROCESSES", "TPU_SKIP_MDS_QUERY", *_HOSTS
  return cloud_tpu_init.running_in_cloud_tpu_vm and not {*names} & {*env}


def _options(env):
  """Returns what `jax.distributed.initialize` does not read by itself."""
  options = {}
  for variable, name in (
    ("JAX_NUM_PROCESSES", "num_processes"),
    ("JAX_PROCESS_ID", "process_id"),
  ):
    if variable in env:
      options[name] = _number(variable, env[variable])
  address = env.get("JAX_COORDINATOR_ADDRESS", "")
  if address and not re.fullmatch(r".+:\d+", address):
    raise ValueError(
      f"JAX_COORDINATOR_ADDRESS is {address!r}; wanted host:port, of process 0"
    )
  is_local = re.match(r"(127\.[\d.]+|localhost|\[::1\]):", address)
  if is_local and "JAX_COORDINATOR_BIND_ADDRESS" not in env:
    options["coordinator_bind_address"] = address  # it would be all of them
  is_said = address and {"num_processes", "process_id"} <= {*options}
  if is_said and "KUBERNETES_SERVICE_HOST" in env:
    # JAX would ask Kubernetes all the same, which may refuse it, or complain.
    options["cluster_detection_method"] = "deactivate"
  gpus = env.get("SLURM_GPUS_ON_NODE", "")
  one_task = env.get("SLURM_NTASKS") == env.get("SLURM_STEP_NUM_NODES")
  if one_task and gpus.isdigit() and "JAX_LOCAL_DEVICE_IDS" not in env:
    # Under SLURM, JAX takes one GPU a process.
    options["local_device_ids"] = list(range(int(gpus)))
  return options


_job = None  # _Job, once it has begun


class _Job:
  """This process among the others."""

  def __init__(self):
    """Sees what JAX's C++ says of the death of others before it aborts.

    It takes no callback in Python, and prints a stack. That goes into a pipe,
    and `sleep`, as the handler of the abort, gives 6 (SIGABRT) seconds to end
    with a message of ours.
    """
    self._process, self._store = None, None
    self._ending = threading.Lock()
    self._told, self._unwound = threading.Event(), threading.Event()
    self._before = sys.stderr
    self._stderr = os.dup(2)
    sys.stderr = open(
      self._stderr, "w", buffering=1, errors="backslashreplace", closefd=False
    )
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
    sleep = ctypes.cast(libc.sleep, ctypes.c_void_p)
    libc.signal(signal.SIGABRT, sleep)
    _thread(self._filter, reader)

  def unhook(self):
    """Leaves this process alone, as it was."""
    os.dup2(self._stderr, 2)
    sys.stderr = self._before
    signal.signal(signal.SIGABRT, signal.SIG_DFL)

  def start(self, process, count):
    """Begins to hear of the others."""
    global _job
    from pg import store  # it imports jax

    self._process, self._store = process, store
    _job = self
    stop.together(self, process, count)
    _thread(self._listen)

  def set(self, key, text):
    """Tells all processes; the first that sets a key counts."""
    with contextlib.suppress(RuntimeError):
      self._store.put(key, text)

  def get(self, key):
    """Waits for what a process tells."""
    with contextlib.suppress(RuntimeError):
      return self._store.get(key)
    threading.Event().wait()  # the job is over, and this thread with it

  def end(self, line, status):
    """Tells all processes to print a line and to end."""
    _thread(self.set, "end", json.dumps([line, status])).join(1)

  def leave(self):
    """Waits until all processes are here."""
    self._store.client().wait_at_barrier("pg/leave", self._store.FOREVER)

  def fail(self, error):
    """Ends all processes for an exception that came up in this one."""
    import jax

    self._unwound.set()
    is_jax = isinstance(error, jax.errors.JaxRuntimeError)
    if is_jax and "RESOURCE_EXHAUSTED" not in str(error):
      # Most times because another one has ended: that is what is to be told.
      self._told.wait(SILENCE + 10)
    if not self._told.is_set():
      text = str(error)
      if not isinstance(error, REFUSALS):
        traceback.print_exception(error)
        text = f"{type(error).__name__}: {text}"
      self.end(progress.safe(f"error: process {self._process}: {text}"), 1)
    self._told.wait(10)
    time.sleep(10)  # _close ends this process
    os._exit(1)

  def _listen(self):
    """Ends this process when one of them says so."""
    said = json.loads(self.get("end"))
    linger = 0 if self._process else 1  # process 0 hosts what tells the others
    self._close(*said, linger)

  def _close(self, line, status, linger=0):
    """Ends this process, with what is open closed if that goes fast."""
    if not self._ending.acquire(blocking=False):
      return
    self._told.set()
    if not self._unwound.is_set():
      stop.interrupt(Ended)
      self._unwound.wait(GRACE)
    time.sleep(linger)
    stop.end(line, status)

  def _filter(self, reader):
    """Passes on what is written to stderr, up to JAX's own last words."""
    while piece := os.read(reader, 1 << 16):
      if b"coordination_service" in piece or _FATAL in piece:
        while select.select([reader], [], [], 0.3)[0]:
          piece += os.read(reader, 1 << 16)
      if _FATAL in piece:
        break
      os.write(self._stderr, piece)
    _thread(self._bury, piece.decode(errors="replace"))
    while os.read(reader, 1 << 16):
      pass

  def _bury(self, text):
    """Ends this process after the death of another one."""
    if self._told.wait(1) or stop.interrupted():
      return  # known
    self._close(f"error: {died(text)}", 1)


def died(text):
  """Returns what JAX's last words say, in a line."""
  again = "; start the job again: it goes on from its last checkpoint"
  if found := re.search(r"stopped sending heartbeats\):\s*([\d\s,]+)", text):
    numbers = ", ".join(re.findall(r"\d+", found[1]))
    return f"process {numbers} has died, without a word{again}"
  if "Failed to send RPC to coordination service" in text:
    return f"process 0 has died, without a word{again}"
  if "RegisterTask" in text and "DEADLINE_EXCEEDED" in text:
    return f"the other processes did not come within {COMING} s"
  said = text.partition("absl::Status: ")[2] or text
  return progress.safe(" ".join(said.split())[:300])


def _thread(function, *args):
  thread = threading.Thread(target=function, args=args, daemon=True)
  thread.start()
  return thread


def _leave():
  if _job:
    import jax

    _job.leave()
    jax.distributed.shutdown()


def _fail(error):
  if _job:
    _job.fail(error)
