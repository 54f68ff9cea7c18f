"""Stops of every kind: kill -9, SIGTERM, Ctrl-C, a full disk, two at once."""

import os
import re
import signal
import subprocess
import time

from scripts import chaos
from scripts.chaos import run

TAIL = 1500  # characters of output that a failure shows


class Chain:
  """A run that is stopped and started until it is complete, then another."""

  def __init__(self, lab, row):
    self._lab, self._row = lab, row
    self._workdir, self._pending = None, []

  def start(self, *words, **options):
    self._workdir = self._workdir or self._lab.new()
    return self._lab.start(self._workdir, *words, **options)

  def stopped(self, case):
    """Notes a stop; whether it was survived is known when the run ends."""
    self._pending.append(case)

  def ended(self, process):
    """Compares a run that has ended by itself; the next one begins anew."""
    code, cases = process.wait(), self._pending
    wrong = f"it fails: exit {code}\n{process.text()[-TAIL:]}" if code else ""
    wrong = wrong or self._lab.differences(self._workdir)
    if wrong:
      self._row.fail(f"after {', '.join(cases) or 'nothing'}", wrong)
    else:
      self._row.survived += len(cases)
    self._workdir, self._pending = None, []

  def finish(self):
    if self._workdir:
      self.ended(self.start())

  def reach(self, moment, rng, *words):
    """Starts until a run gets to a moment; returns its Process."""
    for _ in range(3):
      process = self.start(*words)
      if process.reach(moment, rng):
        return process
      self.ended(process)
    return None


def kills(lab, tries, seed):
  """kill -9 at random moments, during saves, evaluations and ends."""
  row = chaos.Row("kill -9")
  chain = Chain(lab, row)
  for i in range(tries):
    rng = chaos.rng_of(seed, "kill", i)
    moment = rng.choice(run.MOMENTS)
    if process := chain.reach(moment, rng):
      process.kill()
      chain.stopped(f"{i} {moment}")
      row.notes[moment] += 1
  chain.finish()
  return row


def terms(lab, tries, seed):
  """SIGTERM: the step ends, the state is saved, 143."""
  row = chaos.Row("SIGTERM")
  return signals(lab, row, tries, seed, run.Process.terminate, 143)


def interrupts(lab, tries, seed):
  """Ctrl-C: SIGINT to the process group, 130."""
  row = chaos.Row("Ctrl-C")
  return signals(lab, row, tries, seed, run.Process.interrupt, 130)


def signals(lab, row, tries, seed, send, code, moments=run.MOMENTS):
  """Sends a signal to runs at each moment in turn, at times two."""
  chain = Chain(lab, row)
  for i in range(tries):
    rng = chaos.rng_of(seed, row.name, i)
    moment = moments[(i + 1) % len(moments)]
    twice = i % 5 == 4
    words = ["--config.input.num_workers=1"] * (i % 3 == 2)
    case = f"{i} {moment}{', twice' * twice}{', workers' * bool(words)}"
    process = chain.reach(moment, rng, *words)
    if process is None:
      row.fail(case, "no run got there")
      continue
    send(process)
    if twice:
      time.sleep(0.2)
      send(process)
    start = time.monotonic()
    got = process.wait(120)
    wrong = _answer(process, moment, got, code, twice=twice)
    took = time.monotonic() - start
    if twice and took > 10 and not wrong:
      wrong = f"a second signal, and it takes {took:.1f} s"
    row.notes[f"exit {got}"] += 1
    if wrong:
      row.fail(case, f"{wrong}\n{process.text()[-TAIL:]}")
    elif got == 0:
      chain.stopped(case)
      chain.ended(process)
    else:
      chain.stopped(case)
  chain.finish()
  return row


def _complete(process):
  return "report: " in process.text()


def _answer(process, moment, got, code, *, twice):
  """Returns what is wrong with how a run answers a signal, or ""."""
  text = process.text()
  if got is None:
    return "still running after 120 s"
  if "Traceback" in text:
    return f"a traceback, exit {got}"
  if got == 0 and _complete(process):
    return ""  # it was over
  # What Python does where there is nothing to save, yet or any more.
  if got == 128 - code and (moment == "opening" or _complete(process)):
    return ""
  if got != code:
    return f"another exit: {got}, wanted {code}"
  if twice or moment == "opening":
    return ""
  if "stopped" not in text:
    return "it does not say that it stopped"
  step = max(process.steps(), default=0)
  said = re.search(r"stopped at step (\d+)", text)
  if step > process.resumed() and not said:
    return f"it does not say that it stopped at step {step}"
  if said and step != int(said[1]):
    return f"says step {said[1]}, but took step {step}"
  return ""


def disk(lab, tries, seed):
  """A disk that is full after the first checkpoint, then has room again."""
  row = chaos.Row("full disk")
  mount = lab.folder / "disk"
  mount.mkdir(exist_ok=True)
  command = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(mount)]
  if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
    row.notes["skipped: no rights to mount"] += 1
    return row
  try:
    for i in range(tries):
      _fill(lab, row, mount, i, chaos.rng_of(seed, "disk", i))
  finally:
    subprocess.run(["umount", str(mount)], check=True)
  return row


def _fill(lab, row, mount, i, rng):
  workdir = str(mount / f"full{i}")
  process = lab.start(workdir)
  after = rng.randrange(1, 30)
  process.until(lambda: after in process.steps() and _saved(workdir))
  room = rng.choice((0, 4096, rng.randrange(12_000_000)))
  case = f"{i}, {room} bytes left after step {after}"
  filler = mount / "filler"
  _leave(mount, room, filler)
  code = process.wait()
  text = process.text()
  filler.unlink()
  wrong = ""
  if code is None:
    wrong = "still running"
  elif code and "Traceback" in text:
    number = text.count("Traceback")
    wrong = f"tracebacks: {number}, exit {code}\n{text[-TAIL:]}"
  elif code and text.count("error: ") != 1:
    wrong = f"not one message: exit {code}\n{text[-TAIL:]}"
  again = lab.start(workdir)
  if again.wait():
    wrong = wrong or f"it does not go on:\n{again.text()[-TAIL:]}"
  wrong = wrong or lab.differences(workdir)
  subprocess.run(["rm", "-rf", workdir], check=True)
  if wrong:
    row.fail(case, wrong)
  elif code:
    row.refused += 1
  else:
    row.survived += 1


def _leave(mount, room, filler):
  """Fills a disk, which is written to meanwhile, but for some bytes."""
  with open(filler, "wb") as f:
    for _ in range(1000):
      disk = os.statvfs(mount)
      size = max(1, disk.f_bavail * disk.f_frsize - room)
      try:
        return os.posix_fallocate(f.fileno(), 0, size)
      except OSError:  # that much is not there any more
        pass


def _saved(workdir):
  folder = os.path.join(workdir, "checkpoints")
  return any(x.isdigit() for x in os.listdir(folder))


def two(lab, tries, seed):
  """Two starts on one workdir, at once and one into the other's steps."""
  row = chaos.Row("two at once")
  for i in range(tries):
    rng = chaos.rng_of(seed, "two", i)
    workdir = lab.new()
    first = lab.start(workdir)
    moment = "at once" if i % 2 else "step"
    if i % 2:
      time.sleep(rng.uniform(0, 0.3))
      second = lab.start(workdir)
    else:  # the first waits, as it would be over before the second has begun
      first.reach(moment, rng)
      os.kill(first.pid, signal.SIGSTOP)
      second = lab.start(workdir)
      second.wait()
      os.kill(first.pid, signal.SIGCONT)
    both = [first, second]
    codes = [p.wait() for p in both]
    case = f"{i} {moment}"
    won = [p for p, code in zip(both, codes) if code == 0]
    if len(won) != 1:
      tails = "\n---\n".join(p.text()[-TAIL // 2 :] for p in both)
      row.fail(case, f"not one of both ends well: exits {codes}\n{tails}")
      continue
    (lost,) = (p for p in both if p is not won[0])
    wrong = lab.differences(workdir)
    if "Traceback" in lost.text():
      wrong = wrong or f"a traceback\n{lost.text()[-TAIL:]}"
    elif str(won[0].pid) not in lost.text():
      wrong = wrong or f"the first is not named\n{lost.text()[-TAIL:]}"
    if wrong:
      row.fail(case, wrong)
    else:
      row.refused += 1
  return row


def orphans(lab, tries, seed):
  """No process lives on after kill -9 of a run with worker processes."""
  row = chaos.Row("orphans")
  for i in range(tries):
    workdir = lab.new()
    process = lab.start(workdir, "--config.input.num_workers=2")
    process.reach("step", chaos.rng_of(seed, "orphans", i))
    word = f"CHAOS_ORDER={lab.order_file(workdir)}"
    row.notes["worker processes"] += len(run.alive(word)) - 1
    process.kill()
    start = time.monotonic()
    while (left := run.alive(word)) and time.monotonic() - start < 10:
      time.sleep(0.1)
    if left:
      row.fail(f"{i}", f"live on after 10 s: {len(left)} processes")
    else:
      row.survived += 1
    for pid in left:
      os.kill(pid, signal.SIGKILL)
  return row


def long(lab, tries, seed):
  """Memory, descriptors, threads and temporary files of a long run."""
  del seed
  row = chaos.Row(f"{tries} steps")
  workdir = lab.new()
  process = lab.start(
    workdir,
    "--config.save_every=50",
    "--config.evals.nll.every=50",
    "--config.evals.digits.every=50",
    total=tries,
  )
  begin = tries // 20
  process.until(lambda: max(process.steps()[-1:], default=0) >= begin)
  first = _usage(lab, process)
  last = first
  while not process.ended():
    if max(process.steps()[-1:], default=0) < tries:
      last = _usage(lab, process) or last
    time.sleep(0.2)
  if code := process.wait():
    row.fail("", f"it fails: exit {code}\n{process.text()[-TAIL:]}")
    return row
  more = {k: last[k] - first[k] for k in first}
  told = ", ".join(f"{k} {first[k]} -> {last[k]}" for k in first)
  row.notes[told] += 1
  allowed = {"MiB": 64, "descriptors": 4, "threads": 4, "temporary files": 0}
  if any(more[k] > allowed[k] for k in more):
    row.fail("", told)
  else:
    row.survived += 1
  return row


def _usage(lab, process):
  """Returns what a process holds now; None where it has just ended."""
  try:
    with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
      status = dict(line.split(":", 1) for line in f)
    return {
      "MiB": int(status["VmRSS"].split()[0]) >> 10,
      "descriptors": len(os.listdir(f"/proc/{process.pid}/fd")),
      "threads": int(status["Threads"]),
      "temporary files": sum(len(x) for _, _, x in os.walk(lab.tmp)),
    }
  except (OSError, KeyError):
    return None
