"""What the benchmarks have in common: jobs that take turns, and medians."""

import resource
import statistics
import sys
import time


def seconds(job):
  """Returns how long a function of no arguments takes."""
  start = time.perf_counter()
  job()
  return time.perf_counter() - start


def in_turns(jobs, rounds):
  """Returns {name: [what a job returns in each round]}.

  The jobs take turns, so that a machine that is busy with something else slows
  all of them.
  """
  found = {name: [] for name in jobs}
  for _ in range(rounds):
    for name, job in jobs.items():
      found[name].append(job())
  return found


def show(found, unit, digits=0):
  """Prints the median and the range of each list of {name: numbers}."""
  width = max(map(len, found))
  for name, values in found.items():
    middle = f"{statistics.median(values):,.{digits}f}"
    ends = (f"{end:,.{digits}f}" for end in (min(values), max(values)))
    print(f"{name:{width}} {middle:>8} {unit} (from {' to '.join(ends)})")


def show_ratio(found, name, other):
  """Prints the median over rounds of how much larger one number is."""
  ratio = statistics.median(a / b for a, b in zip(found[name], found[other]))
  print(f"{name} is {ratio:.2f} x {other}")


def peak_gib(usage=None):
  """Returns the most memory that a process had, this one by default."""
  usage = usage or resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_maxrss / 2 ** (30 if sys.platform == "darwin" else 20)
