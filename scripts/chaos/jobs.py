"""What happens to one process of a job, and what comes of all of them."""

import os
import re
import time

from scripts import chaos
from scripts.chaos import run, stops

LIMIT = 60  # seconds until all have ended after one has
MOMENTS = run.MOMENTS[1:]  # while it opens, nothing joins them


def terms(lab, tries, seed):
  """SIGTERM to one process: all save the same step, 143."""
  row = chaos.Row("SIGTERM to 1 of 2")
  send = run.Job.terminate
  return stops.signals(run.Jobs(lab), row, tries, seed, send, 143, MOMENTS)


def interrupts(lab, tries, seed):
  """Ctrl-C in one process: all save the same step, 130."""
  row = chaos.Row("Ctrl-C in 1 of 2")
  send = run.Job.interrupt
  return stops.signals(run.Jobs(lab), row, tries, seed, send, 130, MOMENTS)


def kills(lab, tries, seed):
  """kill -9 of one process: the other one says so, and ends."""
  row = chaos.Row("kill -9 of 1 of 2")
  chain = stops.Chain(run.Jobs(lab), row)
  for i in range(tries):
    rng = chaos.rng_of(seed, "job kill", i)
    moment = MOMENTS[i % len(MOMENTS)]
    if job := chain.reach(moment, rng):
      number = job.kill()
      said = f"process {number} has died"
      _settle(chain, row, job, f"{i} {moment}, {number}", [-9, 1], said, number)
  chain.finish()
  return row


def errors(lab, tries, seed):
  """An exception in one process: both say which, and end."""
  row = chaos.Row("error in 1 of 2")
  chain = stops.Chain(run.Jobs(lab), row)
  for i in range(tries):
    rng = chaos.rng_of(seed, "job error", i)
    kind = ("ValueError", "KeyError")[i % 2]
    number, step = rng.randrange(2), rng.randrange(3, 9)
    job = chain.start(fails=(number, f"{kind}:{step}"))
    said = f"process {number}: .*chaos at step"
    _settle(chain, row, job, f"{i} {kind}", [1, 1], said, None)
  chain.finish()
  return row


def _settle(chain, row, job, case, codes, said, dead):
  """Notes how both processes have ended, in time and with one line."""
  start = time.monotonic()
  got = [process.wait(600) for process in job.processes]
  took = time.monotonic() - start
  row.notes[f"exits {sorted(got)}"] += 1
  if 0 in got and dead is not None:  # it was over
    return chain.stopped(case)
  wrong = f"exits {got}" if sorted(got) != sorted(codes) else ""
  if took > LIMIT and dead is not None:
    wrong = wrong or f"it takes {took:.0f} s to end"
  for number, process in enumerate(job.processes):
    text = process.text()
    if number != dead and not re.search(f"^error: .*{said}", text, re.M):
      wrong = wrong or f"process {number} does not say {said!r}"
    if text.count("error: process") > 1 or "Check failure" in text:
      wrong = wrong or f"process {number} says more than one line"
  if wrong:
    texts = "\n---\n".join(x.text()[-stops.TAIL :] for x in job.processes)
    row.fail(case, f"{wrong}\n{texts}")
  chain.stopped(case)


def places(lab, tries, seed):
  """A run goes on where there are more or fewer processes than before."""
  row = chaos.Row("1 or 2 processes")
  jobs = run.Jobs(lab)
  chain = stops.Chain(jobs, row)
  for i in range(tries):
    rng = chaos.rng_of(seed, "places", i)
    jobs.count = 1 + i % 2
    if job := chain.reach("step", rng):
      job.terminate()
      if (code := job.wait()) != 143:
        row.fail(f"{i}", f"exit {code}\n{job.text()[-stops.TAIL :]}")
      chain.stopped(f"{i}, {jobs.count}")
  jobs.count = 2
  chain.finish()
  return row


def refusals(lab, tries, seed):
  """What the processes of a job cannot agree on is refused, by all."""
  del seed
  row = chaos.Row("2 that differ")
  jobs = run.Jobs(lab)
  first = None
  for i in range(tries):
    workdir = jobs.new()
    if i % 2:
      said = "in use by another run"
      first = jobs.start(workdir)
      first.until(lambda job=first: os.path.exists(f"{job.workdir}/.lock"))
      job = jobs.start(workdir)
    else:
      said = "does not see what process 0 does"
      job = jobs.start(workdir, own=(["--config.seed=1"], ["--config.seed=2"]))
    codes = [process.wait(LIMIT + 60) for process in job.processes]
    texts = [process.text() for process in job.processes]
    if codes == [1, 1] and all(said in text for text in texts):
      row.refused += 1
    else:
      row.fail(f"{i} {said}", f"exits {codes}\n" + "\n---\n".join(texts))
    if first:
      first.wait()
  return row
