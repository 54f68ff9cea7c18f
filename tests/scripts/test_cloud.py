"""The jobs of scripts/cloud, on a cloud and a cluster that are stubs.

`gcloud` keeps the state of one slice in a file; its hosts are two folders where
the commands that are sent to them are really run. `srun` really starts two
processes, with SLURM's variables. Kubernetes is not there: its files are
compared with its types.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.support import paths, ports

CLOUD = paths.ROOT / "scripts" / "cloud"
JOBSETS = sorted(CLOUD.glob("*.yaml"))
SHELL = sorted(paths.ROOT.glob("scripts/**/*.sh"))

GCLOUD = r"""#!/usr/bin/env bash
[[ $4 == list || $4 == describe ]] || echo "$3 $4 ${*:6}" >>"$CLOUD/calls"
case "$3 $4" in
  "tpu-vm list") cat "$CLOUD/state" 2>/dev/null || : ;;
  *" create")
    echo READY >"$CLOUD/state"
    mkdir -p "$CLOUD/hosts/0" "$CLOUD/hosts/1" ;;
  "queued-resources describe")
    [[ -s $CLOUD/queue ]] || exit 1
    head -n 1 "$CLOUD/queue"
    sed -i 1d "$CLOUD/queue" ;;
  *" delete") rm -r "$CLOUD/state" "$CLOUD/hosts" ;;
  "tpu-vm scp") for host in "$CLOUD"/hosts/*; do cp "$5" "$host/pg.tgz"; done ;;
  "tpu-vm ssh")
    [[ $(cat "$CLOUD/state") == READY ]] || exit 255
    for host in "$CLOUD"/hosts/${7/all/*}; do
      (cd "$host" && HOME=$host bash -c "$9") || exit
    done
    if [[ $9 == *job.status && -e $CLOUD/leaves ]]; then
      rm "$CLOUD/leaves"
      echo PREEMPTED >"$CLOUD/state"
    fi ;;
esac
"""
# On a host, in place of scripts/run.sh: the nth start does as line n says.
RUN = r"""
host=$(basename "$HOME")
echo "$* ${JAX_COMPILATION_CACHE_DIR:-}" >>"$CLOUD/ran.$host"
echo "start $(wc -l <"$CLOUD/ran.$host")"
eval "$(sed -n "$(wc -l <"$CLOUD/ran.$host")p" "$CLOUD/plan")"
"""
TAIL = f'#!/bin/sh\nexec {shutil.which("tail")} -s 0.05 "$@"\n'
SETUP = """
require() { echo "$PG_PYTHON $1" >>installed; }
"""


class Pod:
  """A clone, and a cloud with at most one slice of two hosts."""

  def __init__(self, folder):
    self.root, self.cloud = folder / "clone", folder / "cloud"
    for path in (self.root / "scripts" / "cloud", self.cloud, folder / "tools"):
      path.mkdir(parents=True)
    shutil.copy(CLOUD / "tpu_pod.sh", self.root / "scripts" / "cloud")
    (self.root / "scripts" / "run.sh").write_text(RUN)
    (self.root / "scripts" / "setup.sh").write_text(SETUP)
    self.git("init", "-q")
    for name, code in (
      ("gcloud", GCLOUD),
      ("tail", TAIL),
      ("sudo", '#!/bin/sh\necho "$@" >>"$CLOUD/sudo"\n'),
      ("python3.11", "#!/bin/sh\n"),
    ):
      (folder / "tools" / name).write_text(code)
      (folder / "tools" / name).chmod(0o755)
    self.env = {
      "PATH": f"{folder / 'tools'}:/usr/bin:/bin",
      "CLOUD": str(self.cloud),
      "TMPDIR": str(folder),
      "TPU": "mine",
      "ZONE": "here",
      "TYPE": "v5litepod-16",
      "PAUSE": "0.05",
    }

  def git(self, *words):
    subprocess.run(["git", *words], cwd=self.root, check=True)

  def plan(self, *lines):
    (self.cloud / "plan").write_text("\n".join(lines) + "\n")

  def start(self, *words, **env):
    return subprocess.Popen(
      ["bash", self.root / "scripts" / "cloud" / "tpu_pod.sh", *words],
      env=self.env | env,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      start_new_session=True,  # Ctrl-C is for all that a terminal runs
    )

  def run(self, *words, **env):
    process = self.start(*words, **env)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said

  def ran(self, host=0):
    return (self.cloud / f"ran.{host}").read_text().splitlines()


@pytest.fixture
def pod(tmp_path):
  if not shutil.which("setsid") or not shutil.which("flock"):
    pytest.skip("the hosts of a slice run Linux")
  return Pod(tmp_path)


def does(pod):
  """Returns the verbs that changed something, of gcloud's calls."""
  text = (pod.cloud / "calls").read_text()
  text = re.sub(r"^tpu-vm ssh .*?host", "tpu-vm start", text, flags=re.M)
  found = re.findall(r"^\S+ (create|delete|scp|start)\b", text, re.M)
  return [word for word in found if word in ("create", "delete", "start")]


def test_a_slice_is_made_and_a_verb_runs_on_all_its_hosts(pod):
  pod.plan("echo the last line; exit 0")
  words = ("train", "--workdir", "gs://b/my run", "--config.lr=1e-3")
  code, said = pod.run("run", *words, COMPILED="gs://b/xla")
  assert code == 0 and "the last line" in said
  assert pod.ran(0) == pod.ran(1)
  assert pod.ran(0) == [
    "train --workdir gs://b/my run --config.lr=1e-3 gs://b/xla"
  ]
  create, _, scp, *_ = (pod.cloud / "calls").read_text().splitlines()
  ends = "--zone here --quiet"
  wanted = "--version v2-alpha-tpuv5-lite --accelerator-type v5litepod-16"
  assert create == f"tpu-vm create {wanted} {ends}"
  assert scp == f"tpu-vm scp mine:pg.tgz --worker all {ends}"
  installed = (pod.cloud / "hosts" / "1" / "pg" / "installed").read_text()
  assert installed == (
    "python3.11 requirements.txt\npython3.11 requirements-cloud.txt\n"
  )


def test_a_run_that_saved_and_one_whose_slice_is_gone_go_on(pod):
  gone = 'echo PREEMPTED >"$CLOUD/state"; exit 1'
  leaves = 'touch "$CLOUD/leaves"; exit 1'
  pod.plan("exit 143", gone, leaves, "exit 0")
  code, said = pod.run("run", "train", CREATE="--spot --labels=a=b")
  assert code == 0, said
  again = ["delete", "create", "start"]
  assert does(pod) == ["create", "start", "start", *again, *again]
  assert len(pod.ran(0)) == 4
  created = re.findall(
    "^tpu-vm create .*", (pod.cloud / "calls").read_text(), re.M
  )
  assert all("--spot --labels=a=b" in line for line in created)


def test_an_error_ends_it_with_its_status(pod):
  pod.plan("echo error: lr is -1; exit 3")
  code, said = pod.run("run", "train")
  assert code == 3 and "error: lr is -1" in said
  assert does(pod) == ["create", "start"]


def test_hosts_that_cannot_be_set_up_are_tried_five_times(pod):
  (pod.root / "scripts" / "setup.sh").write_text("exit 7\n")
  code, said = pod.run("run", "train")
  assert code == 1 and said.endswith("could not be set up: see above.\n")
  assert (pod.cloud / "calls").read_text().count("tpu-vm scp") == 5


def test_a_job_outlives_the_terminal_and_is_followed_and_stopped(pod):
  pod.plan(
    "trap 'sleep 0.1; echo saved; exit 143' TERM; while :; do sleep 0.1; done"
  )
  first = pod.start("run", "train")
  while "start 1" not in first.stdout.readline():
    pass
  os.killpg(first.pid, signal.SIGINT)
  first.communicate(timeout=30)
  second = pod.start("run", "train")
  while "start 1" not in second.stdout.readline():
    pass
  code, said = pod.run("start", "train")
  assert code == 1 and "A job is at work here" in said
  os.killpg(second.pid, signal.SIGINT)
  second.communicate(timeout=30)
  assert pod.run("stop")[0] == 0
  code, said = pod.run("follow")
  assert code == 0 and said.endswith("saved\n")
  hosts = pod.cloud / "hosts"
  status = lambda host: (hosts / host / "pg" / "job.status").read_text()
  for _ in range(50):
    if all((hosts / x / "pg" / "job.status").exists() for x in "01"):
      break
    time.sleep(0.1)
  assert [status("0"), status("1")] == ["143\n", "143\n"]
  assert len(pod.ran(0)) == 1


def test_a_queued_slice_is_waited_for(pod):
  queue = pod.cloud / "queue"
  queue.write_text("\nWAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE\n")
  code, said = pod.run("create", QUEUED="1", CREATE="--spot", RUNTIME="r")
  assert code == 0, said
  assert (pod.cloud / "calls").read_text() == (
    "queued-resources create --node-id mine --runtime-version r"
    " --accelerator-type v5litepod-16 --spot --zone here --quiet\n"
  )
  assert queue.read_text() == ""
  assert pod.run("delete", QUEUED="1")[0] == 0
  last = (pod.cloud / "calls").read_text().splitlines()[-1]
  assert last == "queued-resources delete --force --zone here --quiet"


def test_the_hosts_get_the_clone_as_it_is(pod):
  for name in ("edited.py", "deleted.py"):
    (pod.root / name).write_text("old")
    pod.git("add", name)
  (pod.root / ".gitignore").write_text("runs/\n")
  (pod.root / "runs").mkdir()
  (pod.root / "runs" / "big").touch()
  (pod.root / "my config.py").touch()
  (pod.root / "edited.py").write_text("new")
  (pod.root / "deleted.py").unlink()
  assert pod.run("create")[0] == 0
  code, said = pod.run("install", PG_PYTHON="python3.99")
  assert code == 0, said
  host = pod.cloud / "hosts" / "1" / "pg"
  assert (host / "edited.py").read_text() == "new"
  assert (host / "my config.py").exists()
  assert not (host / "deleted.py").exists() and not (host / "runs").exists()
  asked = (pod.cloud / "sudo").read_text().splitlines()
  assert asked[1].endswith("install python3.99 python3.99-venv")


@pytest.mark.parametrize("words", [(), ("--help",), ("rnu", "train")])
def test_what_there_is_to_say_is_said(pod, words):
  code, said = pod.run(*words)
  assert code == 1 and said.startswith("Trains on a slice of a TPU pod")


def test_a_missing_verb_or_zone_is_named(pod):
  code, said = pod.run("run")
  assert code == 1 and "run what?" in said
  del pod.env["ZONE"]
  code, said = pod.run("create")
  assert code != 0 and "ZONE" in said


SRUN = r"""#!/usr/bin/env bash
echo "$*" >>"$CLUSTER/srun"
shift
export SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=1 SLURM_STEP_NODELIST=localhost
tasks=()
for i in 0 1; do
  (
    echo "$BASHPID" >"$CLUSTER/task.$i"
    SLURM_PROCID=$i SLURM_LOCALID=$i exec "$@"
  ) &
  tasks+=($!)
done
most=0
for task in "${tasks[@]}"; do
  wait "$task"
  status=$?
  ((status <= most)) || most=$status
done
exit "$most"
"""


class Cluster:
  """A clone on a cluster whose queue holds one job, of two processes."""

  def __init__(self, folder, task, number=7):
    self.folder, self.root = folder, folder / "clone"
    self.number = f"{number}"
    (self.root / "scripts").mkdir(parents=True)
    (folder / "tools").mkdir()
    (self.root / "scripts" / "run.sh").write_text(task)
    (self.root / "scripts" / "setup.sh").write_text(SETUP)
    self.state("RUNNING")
    for name, code in (
      ("srun", SRUN),
      ("squeue", '#!/bin/sh\ncat "$CLUSTER/state"\n'),
      ("scontrol", '#!/bin/sh\necho "$@" >>"$CLUSTER/scontrol"\n'),
    ):
      (folder / "tools" / name).write_text(code)
      (folder / "tools" / name).chmod(0o755)

  def state(self, name):
    (self.folder / "state").write_text(name + "\n")

  def start(self):
    # As sbatch does, which runs a copy.
    copy = shutil.copy(CLOUD / "slurm.sh", self.folder / "slurm_script")
    return subprocess.Popen(
      ["bash", copy, "train", "--workdir", "my run"],
      cwd="/",
      env={
        "PATH": f"{self.folder / 'tools'}:/usr/bin:/bin",
        "CLUSTER": str(self.folder),
        "PG_PYTHON": "python3",
        "SLURM_SUBMIT_DIR": str(self.root),
        "SLURM_JOB_ID": self.number,
      },
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  def end(self):
    job = self.start()
    said, _ = job.communicate(timeout=30)
    return job.returncode, said

  def requeued(self):
    path = self.folder / "scontrol"
    return path.read_text().split() if path.exists() else []


WAITS = """
trap 'sleep 0.$SLURM_PROCID; echo "saved $SLURM_PROCID"; exit 143' TERM
echo "task $SLURM_PROCID: $*"
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING"])
def test_a_job_of_slurm_saves_and_is_queued_again(tmp_path, state):
  cluster = Cluster(tmp_path, WAITS)
  job = cluster.start()
  told = sorted(job.stdout.readline() for _ in range(2))
  assert told == [
    "task 0: train --workdir my run\n",
    "task 1: train --workdir my run\n",
  ]
  assert (
    cluster.root / "installed"
  ).read_text() == "python3 requirements.txt\n"
  cluster.state(state)  # COMPLETING: as scancel leaves it
  for name in ("task.0", "task.1"):
    os.kill(int((tmp_path / name).read_text()), signal.SIGTERM)
  job.send_signal(signal.SIGTERM)  # some clusters' reaches the script, too
  said, _ = job.communicate(timeout=30)
  assert job.returncode == 143 and said == "saved 0\nsaved 1\n"
  requeued = ["requeue", "7"] if state == "RUNNING" else []
  assert cluster.requeued() == requeued


JOINS = """
import time
from pg import command, stop
def main(args):
  for step in range(300):
    time.sleep(0.05)
    if stop.requested():
      raise stop.Stopped(step)
command.run(main, "", with_config=False, joins=True)
"""


@pytest.mark.slow
def test_processes_that_slurm_starts_join_and_stop_together(tmp_path):
  (tmp_path / "joins.py").write_text(JOINS)
  program = f"exec {sys.executable} {tmp_path}/joins.py"
  task = f"export JAX_PLATFORMS=cpu PYTHONPATH={paths.ROOT}\n{program}"
  cluster = Cluster(tmp_path, task, ports.free_number())
  job = cluster.start()
  told = sorted(job.stdout.readline() for _ in range(2))
  assert told == [f"2 processes x 1 cpu, this is {i}\n" for i in range(2)]
  time.sleep(1)  # until both have asked
  os.kill(int((tmp_path / "task.1").read_text()), signal.SIGTERM)
  said, _ = job.communicate(timeout=30)
  assert re.fullmatch("stopped at step .*; the same command continues\n", said)
  assert job.returncode == 143
  assert cluster.requeued() == ["requeue", cluster.number]


def test_a_job_of_slurm_that_fails_or_ends_is_not_queued_again(tmp_path):
  cluster = Cluster(tmp_path, "exit $((SLURM_PROCID * 3))")
  assert cluster.end() == (3, "")
  (cluster.root / "scripts" / "run.sh").write_text("exit 0")
  assert cluster.end() == (0, "")
  assert cluster.requeued() == []
  asked = (tmp_path / "srun").read_text().splitlines()[0]
  assert (
    asked == "--kill-on-bad-exit=0 bash scripts/run.sh train --workdir my run"
  )


def test_a_job_of_slurm_from_elsewhere_says_where_from(tmp_path):
  cluster = Cluster(tmp_path, "exit 0")
  (cluster.root / "scripts" / "setup.sh").unlink()
  code, said = cluster.end()
  assert code == 1 and "from the root of the clone" in said


def test_slurm_has_the_job_stopped_in_time_and_may_queue_it_again():
  text = (CLOUD / "slurm.sh").read_text()
  asked = re.findall(r"^#SBATCH (.*)", text, re.M)
  assert {"--requeue", "--signal=TERM@120", "--open-mode=append"} <= set(asked)
  # sbatch reads no further than the first command.
  assert text.index("\nset -euo") > text.rindex("#SBATCH")
  of = dict(line.split("=", 1) for line in asked if "=" in line)
  assert of["--ntasks-per-node"] == of["--gpus-per-node"]


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path):
  here = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
  program = shutil.which("shellcheck", path=here)
  if not program:
    pytest.skip("needs shellcheck, of requirements-dev.txt")
  done = subprocess.run(
    [program, "--external-sources", path.relative_to(paths.ROOT)],
    cwd=paths.ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout


TYPES = json.loads(
  (paths.ROOT / "tests" / "support" / "jobset.json").read_text()
)["types"]
PLAIN = dict(str=str, int=int, bool=bool, quantity=(int, str))


def wrong(kind, value, at=""):
  """Returns what of a value is not as its type has it, a line each."""
  if isinstance(kind, list):
    if not isinstance(value, list):
      return [f"{at} is no list"]
    return [
      x for i, v in enumerate(value) for x in wrong(kind[0], v, f"{at}[{i}]")
    ]
  if not isinstance(kind, dict) and kind in PLAIN:
    fits = type(value) is not bool or kind == "bool"
    fits &= isinstance(value, PLAIN[kind])
    return [] if fits else [f"{at} is {value!r}, not {kind}"]
  if not isinstance(value, dict):
    return [f"{at} is no map"]
  if isinstance(kind, dict):  # names are free
    return [
      x for k, v in value.items() for x in wrong(kind["*"], v, f"{at}.{k}")
    ]
  if kind not in TYPES:
    return [f"{at}: jobset.json lacks {kind}"]
  fields = {name.rstrip("!"): one for name, one in TYPES[kind].items()}
  needed = {name[:-1] for name in TYPES[kind] if name.endswith("!")}
  lines = [f"{at} lacks {name}" for name in sorted(needed - set(value))]
  for name, one in value.items():
    if name not in fields:
      lines.append(f"{at}.{name} is unknown")
    else:
      lines += wrong(fields[name], one, f"{at}.{name}")
  return lines


def of_job(path):
  """Returns a JobSet with its only group of jobs, and that one's pod."""
  jobset = yaml.safe_load(path.read_text())
  (group,) = jobset["spec"]["replicatedJobs"]
  return jobset, group, group["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("path", JOBSETS, ids=lambda path: path.stem)
def test_a_jobset_has_the_fields_and_types_of_its_schema(path):
  assert wrong("jobset/JobSet", of_job(path)[0]) == []


def test_what_does_not_fit_the_schema_is_found():
  jobset, group, pod = of_job(CLOUD / "jobset_gpu.yaml")
  del group["template"]
  jobset["spec"]["failurePolicy"]["maxRestarts"] = "3"
  jobset["metadata"]["lables"] = {}
  assert wrong("jobset/JobSet", jobset) == [
    ".metadata.lables is unknown",
    ".spec.failurePolicy.maxRestarts is '3', not int",
    ".spec.replicatedJobs[0] lacks template",
  ]
  assert wrong("core/PodSpec", dict(pod, volumes={}, containers=[{}])) == [
    ".containers[0] lacks name",
    ".volumes is no list",
  ]


@pytest.mark.parametrize("path", JOBSETS, ids=lambda path: path.stem)
def test_a_jobset_goes_on_after_143_and_not_for_ever_after_an_error(path):
  jobset, group, pod = of_job(path)
  assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
  policy = jobset["spec"]["failurePolicy"]
  (rule,) = policy["rules"]
  assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
  assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
  assert 0 < policy["maxRestarts"] < 10
  job = group["template"]["spec"]
  exits, disrupted = job["podFailurePolicy"]["rules"]
  assert exits["action"] == disrupted["action"] == "FailJob"
  (container,) = pod["containers"]
  assert exits["onExitCodes"] == dict(
    containerName=container["name"], operator="In", values=[143]
  )
  assert disrupted["onPodConditions"][0]["type"] == "DisruptionTarget"
  # podFailurePolicy needs Never; one pod's end is that of its job.
  assert pod["restartPolicy"] == "Never" and job["backoffLimit"] == 0
  assert pod["terminationGracePeriodSeconds"] >= 120
  assert container["command"] == ["python", "-m", "pg.train"]
  assert job["completions"] == job["parallelism"]


def test_the_processes_on_gpus_find_each_other():
  jobset, group, pod = of_job(CLOUD / "jobset_gpu.yaml")
  name, job = jobset["metadata"]["name"], group["template"]["spec"]
  env = {one["name"]: one for one in pod["containers"][0]["env"]}
  host, port = env["JAX_COORDINATOR_ADDRESS"]["value"].split(":")
  assert host == f"{name}-{group['name']}-0-0.{name}" and int(port)
  assert env["JAX_NUM_PROCESSES"]["value"] == str(job["completions"])
  index = env["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
  assert index == (
    "metadata.annotations['batch.kubernetes.io/job-completion-index']"
  )


def test_the_hosts_of_a_slice_have_all_its_chips():
  _, group, pod = of_job(CLOUD / "jobset_tpu.yaml")
  x, y = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
  chips = pod["containers"][0]["resources"]["limits"]["google.com/tpu"]
  assert group["template"]["spec"]["completions"] * chips == int(x) * int(y)


def test_the_page_names_scripts_that_exist():
  text = pathlib.Path(paths.ROOT, "docs", "pods.md").read_text()
  named = set(re.findall(r"scripts/cloud/[\w.]+", text))
  there = {f"scripts/cloud/{path.name}" for path in CLOUD.iterdir()}
  assert named == there
