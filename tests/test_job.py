"""The processes of a job find each other, and all end when one does."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from pg import job, stop
from tests.support import paths, ports

SLURM = dict(
  SLURM_JOB_ID="7",
  SLURM_STEP_NODELIST="n[1-2]",
  SLURM_NTASKS="2",
  SLURM_PROCID="0",
  SLURM_LOCALID="0",
)
MPI = dict(
  OMPI_COMM_WORLD_SIZE="2",
  OMPI_COMM_WORLD_RANK="1",
  OMPI_MCA_orte_hnp_uri="1.0;tcp://10.0.0.1:3",
)
JAX = dict(
  JAX_COORDINATOR_ADDRESS="a:1", JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="0"
)
POD = dict(TPU_WORKER_HOSTNAMES="a,b", TPU_WORKER_ID="1")
JOBSET = dict(JOB_COMPLETION_INDEX="0", KUBERNETES_SERVICE_HOST="10.0.0.1")
SLICES = dict(
  MEGASCALE_NUM_SLICES="2",
  MEGASCALE_COORDINATOR_ADDRESS="a",
  MEGASCALE_SLICE_ID="1",
  TPU_WORKER_HOSTNAMES="a",
  TPU_WORKER_ID="0",
)


@pytest.mark.parametrize("env", [SLURM, MPI, JAX, POD, JOBSET, SLICES])
def test_each_kind_of_job_is_seen_and_what_it_lacks_is_named(env):
  assert job.claimed(env, has=bool).missing == ()
  assert job.claimed({**env, "JAX_NUM_PROCESSES": "1"}) is None
  for name in env:
    rest = {k: v for k, v in env.items() if k != name}
    claim = job.claimed(rest, has=bool)
    if claim and name != "TPU_WORKER_HOSTNAMES":
      assert claim.missing == (name,)


@pytest.mark.parametrize(
  "env",
  [
    {},
    {**SLURM, "SLURM_NTASKS": "1"},
    {**MPI, "OMPI_COMM_WORLD_SIZE": "1"},
    {**POD, "TPU_WORKER_HOSTNAMES": "localhost"},
    {**JOBSET, "TPU_WORKER_HOSTNAMES": "localhost"},
    {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
  ],
)
def test_a_process_alone_joins_nothing(env):
  assert job.claimed(env) is None


def test_a_job_that_is_whole_is_taken_before_one_that_is_not():
  inside = {**SLURM, **MPI}
  del inside["SLURM_STEP_NODELIST"]
  assert job.claimed(inside).variable == "OMPI_COMM_WORLD_SIZE"


def test_a_job_that_cannot_be_joined_is_refused(monkeypatch):
  monkeypatch.setenv("SLURM_NTASKS", "8")
  with pytest.raises(ValueError, match="is '8'.*no SLURM_STEP_NODE.*srun"):
    with job.joined():
      pass
  monkeypatch.setenv("SLURM_NTASKS", "many")
  with pytest.raises(ValueError, match="SLURM_NTASKS is 'many'; wanted a num"):
    with job.joined():
      pass


def test_the_package_that_kubernetes_needs_is_named():
  claim = job.claimed(JOBSET, has=lambda name: None)
  assert claim.missing == ("the package kubernetes",)


def test_a_command_for_one_process_runs_once_in_a_job():
  job.refuse_several({"SLURM_NTASKS": "8"})  # outside of the job's steps
  with pytest.raises(ValueError, match="SLURM_NTASKS is '2'.*start it once"):
    job.refuse_several(SLURM)


def test_slurm_gives_a_lone_task_all_gpus_of_its_node():
  env = {**SLURM, "SLURM_STEP_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4"}
  assert job._options(env) == {"local_device_ids": [0, 1, 2, 3]}
  assert job._options({**env, "SLURM_NTASKS": "8"}) == {}
  assert job._options({**env, "JAX_LOCAL_DEVICE_IDS": "1"}) == {}


def test_an_address_needs_a_port():
  with pytest.raises(ValueError, match="is 'host'; wanted host:port"):
    job._options({"JAX_COORDINATOR_ADDRESS": "host"})


@pytest.mark.parametrize(
  "said, want",
  [
    ("(stopped sending heartbeats):\n1\nThe tasks have", "process 1 has died"),
    ("heartbeats):\n3\n17\nThe", "process 3, 17 has died"),
    ("Failed to send RPC to coordination service.", "process 0 has died"),
    ("DEADLINE_EXCEEDED: x\n\nRPC: /RegisterTask", "did not come within 300 s"),
    ("client.h:80] absl::Status: INTERNAL: odd\nthing", "INTERNAL: odd thing"),
  ],
)
def test_last_words_of_jax_become_a_line(said, want):
  said = said.replace("heartbeats):\n3", "stopped sending heartbeats):\n3")
  assert want in job.died(said) and "\n" not in job.died(said)


class Store:
  """What processes share, in one of them."""

  def __init__(self):
    self._found, self._changed = {}, threading.Condition()

  def set(self, key, text):
    with self._changed:
      self._found.setdefault(key, text)
      self._changed.notify_all()

  def get(self, key):
    with self._changed:
      self._changed.wait_for(lambda: key in self._found)
      return self._found[key]


def stops(count):
  """Returns modules as `stop` of the processes of a job, and their store."""
  found, store = [], Store()
  for i in range(count):
    spec = importlib.util.spec_from_file_location(f"stop{i}", stop.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, module._writer = os.pipe()
    module.together(store, i, count)
    found.append(module)
  return found, store


@pytest.mark.parametrize("calls", [(1, 1, 1), (5, 0, 2), (0, 0, 3)])
def test_processes_stop_when_each_has_asked_as_often(calls):
  modules, store = stops(3)
  for module, n in zip(modules, calls):
    assert not any(module.requested() for _ in range(n))
  store.set("signal", "15")
  assert store.get("last") == str(max(calls) + 1)
  for module, n in zip(modules, calls):
    more = max(calls) - n
    found = [module.requested() for _ in range(more + 1)]
    assert found == [False] * more + [True]
    with pytest.raises(module.Stopped) as stopped:
      module.check()
    assert stopped.value.code == 143


def test_processes_that_run_on_meanwhile_stop_at_the_same_step():
  modules, store = stops(4)
  slow, get = threading.Event(), store.get
  # The first process hears of the others' counts when they have gone on.
  store.get = lambda key: slow.wait(0.1) or get(key)
  steps = [0] * len(modules)

  def work(i):
    while not modules[i].requested():
      steps[i] += 1
      time.sleep(0.001 * i)

  threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
  for thread in threads:
    thread.start()
  store.set("signal", "15")
  for thread in threads:
    thread.join(10)
  assert len({*steps}) == 1 and steps[0] > 0


def test_work_that_is_done_again_stops_at_the_same_place():
  modules, store = stops(2)
  for module in modules:
    assert not module.requested()  # both have begun to ask
  modules[0].check()
  store.set("signal", "2")
  assert store.get("last") == "3"
  modules[1].check()
  for module in modules:
    with pytest.raises(module.Stopped):
      module.check()


def test_processes_that_have_not_asked_are_all_interrupted(monkeypatch):
  modules, store = stops(2)
  told = threading.Barrier(3)
  for module in modules:
    monkeypatch.setattr(module, "interrupt", lambda kind: told.wait(10))
  store.set("signal", "15")
  told.wait(10)
  for module in modules:
    with pytest.raises(module.Stopped):
      module.requested()


WORK = """
import sys, time
import jax
from pg import command, job, stop, store
def main(args):
  print("begins", flush=True)
  for step in range(1, 300):
    time.sleep(0.05 + 0.1 * jax.process_index())
    {work}
    if stop.requested():
      sys.stderr.write(f"{{step}}\\n")
      raise stop.Stopped(step)
command.run(main, "", with_config=False, joins=True)
"""


def by_jax(i, port):
  """Returns what says that this is process i of two."""
  return dict(
    JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
    JAX_NUM_PROCESSES="2",
    JAX_PROCESS_ID=f"{i}",
  )


def start(work, variables):
  """Starts one of two processes."""
  env = os.environ | dict(XLA_FLAGS="") | variables
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  words = [sys.executable, "-c", WORK.format(work=work)]
  return subprocess.Popen(words, env=env, cwd=paths.ROOT, **pipes)


def run(work, act=None, seconds=30, claim=by_jax):
  """Runs two processes; returns their statuses and what they said.

  Args:
    work: str, what they do at each step.
    act: function of both and the port, called when they are at work.
    seconds: float, until they must have ended.
    claim: function of a process' number and the port, what tells it of both.
  """
  port = ports.free()
  both = [start(work, claim(i, port)) for i in range(2)]
  try:
    assert both[0].stdout.readline() == "begins\n"
    if act:
      act(*both, port)
    said = [process.communicate(timeout=seconds) for process in both]
  finally:
    for process in both:
      process.kill()
  assert said[1][0] == ""  # the first speaks for all
  return [process.returncode for process in both], [x for _, x in said]


def starts(process):
  return f"2 processes x 1 cpu, this is {process}\n"


def test_an_error_in_one_process_ends_all_with_its_line():
  found = []

  def look(first, second, port):
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
      rows = [line.split() for line in open(name)]
      listens = [x[1] for x in rows if x[3] == "0A"]
      found.extend(x for x in listens if x.endswith(f":{port:04X}"))

  raises = """
    process = jax.process_index()
    try:
      if step == 3 and process: raise ValueError('bad row')
      assert store.largest(step + process, 'step', step) == step + 1
    except job.Ended:
      sys.stderr.write('closed\\n')
      raise
"""
  codes, said = run(raises, look)
  assert codes == [1, 1]
  error = "error: process 1: bad row\n"
  # The other one does not wait in vain for what this one would have said.
  assert said == [starts(0) + "closed\n" + error, starts(1) + error]
  (place,) = found
  assert place.partition(":")[0].endswith("0100007F")  # 127.0.0.1


def test_a_signal_to_one_process_stops_all_at_the_same_step():
  def term(first, second, port):
    time.sleep(1)  # until both have asked
    second.send_signal(signal.SIGTERM)

  codes, said = run("pass", term)
  assert codes == [143, 143], said
  step = said[1].removeprefix(starts(1))
  assert step.strip().isdigit()
  line = f"stopped at step {step.strip()}; the same command continues\n"
  assert said[0] == starts(0) + step + line


def test_the_death_of_the_first_process_is_told():
  def kill(first, second, port):
    assert second.stderr.readline() == starts(1)  # it is at work, too
    first.kill()

  codes, said = run("pass", kill)
  assert codes == [-signal.SIGKILL, 1]
  assert said[1].startswith("error: process 0 has died")
  assert said[1].count("\n") == 1


def by_mpi(number):
  uri = f"{number << 12}.0;tcp://127.0.0.1:1"
  return lambda i, port: dict(
    OMPI_COMM_WORLD_SIZE="2",
    OMPI_COMM_WORLD_RANK=f"{i}",
    OMPI_COMM_WORLD_LOCAL_RANK=f"{i}",
    OMPI_MCA_orte_hnp_uri=uri,
  )


def by_jobset(i, port):
  pod = dict(JOBSET, JOB_COMPLETION_INDEX=f"{i}")
  return pod | by_jax(i, port)  # as scripts/cloud/jobset_gpu.yaml has it


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mpi", "jobset"])
def test_processes_of_a_cluster_join(kind):
  claim = by_mpi(ports.free_number()) if kind == "mpi" else by_jobset
  assert run("return", claim=claim) == ([0, 0], [starts(0), starts(1)])


def test_kubernetes_is_not_asked_for_what_is_said():
  said = JOBSET | JAX
  assert job._options(said)["cluster_detection_method"] == "deactivate"
  for name in JAX:
    options = job._options({k: v for k, v in said.items() if k != name})
    assert "cluster_detection_method" not in options


def test_a_process_that_waits_for_the_others_ends_at_once():
  port = ports.free()
  process = start("pass", by_jax(0, port))
  try:
    while socket.socket().connect_ex(("127.0.0.1", port)):
      assert process.poll() is None
      time.sleep(0.1)
    time.sleep(0.5)  # it hosts the job now, and waits
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)
  finally:
    process.kill()
  assert time.monotonic() - begin < stop.GRACE / 2
  assert (process.returncode, *said) == (143, "", "stopped\n")
