r"""The papers' findings, tried in miniature: a table with seeds and intervals.

python -m scripts.findings --workdir runs/findings
python -m scripts.findings --workdir runs/findings --only prompt --seeds 5

Each file in configs/findings/ is a question: a config with an argument `arm`,
and ARMS, its answers, of which the first is what was published to be best. Each
arm is trained with each seed, by a `pg.train` in a folder of its own; --minutes
stops the run that is on, saved, and the same command goes on. The table has an
arm's score, the mean over the held-out tasks, and how far it is from that of
the first arm: the mean over seeds of the differences, with a 95 % interval of
Student's t.
"""

import importlib
import json
import pathlib
import statistics
import time

import scipy.stats

from pg import atomic, command, config
from scripts import story

FOLDER = "configs/findings"
_HERE = pathlib.Path(__file__).parents[1] / FOLDER
NAMES = sorted(path.stem for path in _HERE.glob("*.py"))


def plan(names, num_seeds, workdir, scale):
  """Lists the runs of findings.

  Args:
    names: list of str, the findings.
    num_seeds: int.
    workdir: str, folder of all runs.
    scale: float, share of all examples.

  Returns:
    what `story.train_all` takes: {"prompt/full/seed0": ...}, those that others
    start from first.

  Raises:
    ValueError: no such finding, or fewer than two seeds, which have no
      interval.
  """
  if num_seeds < 2:
    raise ValueError(f"--seeds is {num_seeds}; an interval takes 2 or more")
  known = {name: load(name) for name in NAMES}
  for name in names:
    config.lookup(known, name, "finding")
  arms = [(name, arm) for name in names for arm in known[name].ARMS]
  # A run that another one starts from is needed with it.
  firsts = [known[name].ARMS[arm] for name, arm in arms]
  arms = [tuple(first.split("/")) for first in firsts if first] + arms
  runs = {}
  for name, arm in dict.fromkeys(arms):
    first = known[name].ARMS[arm]
    for seed in range(num_seeds):
      file = f"{FOLDER}/{name}.py:arm={arm},scale={scale:g}"
      if first:
        file += f",init={workdir}/{first}/seed{seed}"
      # What goes on from a run sees rows in another order.
      words = ["--config.seed", str(2 * seed + bool(first))]
      runs[f"{name}/{arm}/seed{seed}"] = file, words
  return runs


def load(name):
  """Imports the config of a finding."""
  return importlib.import_module(f"configs.findings.{name}")


def score(path):
  """Returns the mean over a run's tasks of the first score of each."""
  made = json.loads(path.read_text(encoding="utf-8"))
  made.pop("nll", None)  # of a task that has a score
  return statistics.fmean(
    next(iter(scores.values()))["value"] for scores in made.values()
  )


def compare(scores):
  """Compares the arms of a finding.

  Args:
    scores: {arm: list of a score for each seed}, in the same order.

  Returns:
    {arm: (mean, difference from the first arm or None, half the width of its
    95 % interval)}.
  """
  first = next(iter(scores.values()))
  found = {}
  for arm, values in scores.items():
    gaps = [a - b for a, b in zip(values, first, strict=True)]
    quantile = scipy.stats.t.ppf(0.975, len(gaps) - 1)
    half = quantile * statistics.stdev(gaps) / len(gaps) ** 0.5
    gap = None if values is first else statistics.fmean(gaps)
    found[arm] = statistics.fmean(values), gap, half
  return found


def table(names, num_seeds, workdir):
  """Returns the table of findings as Markdown, in hundredths."""
  lines = [
    "| finding | arm | score | difference, 95 % interval |",
    "|---|---|---|---|",
  ]
  of = lambda arm: [
    score(workdir / arm / f"seed{seed}" / "scores.json")
    for seed in range(num_seeds)
  ]
  for name in names:
    arms = load(name).ARMS
    compared = compare({arm: of(f"{name}/{arm}") for arm in arms})
    for arm, (mean, gap, half) in compared.items():
      shown = "" if gap is None else f"{100 * gap:+.1f} ± {100 * half:.1f}"
      lines.append(f"| {name} | {arm} | {100 * mean:.1f} | {shown} |")
  return "\n".join(lines)


def main(args):
  deadline = time.monotonic() + 60 * args.minutes
  names = args.only or NAMES
  workdir = pathlib.Path(args.workdir)
  runs = plan(names, args.seeds, args.workdir, args.scale)
  if not story.train_all(runs, workdir, deadline):
    return
  made = table(names, args.seeds, workdir)
  atomic.write(workdir / "findings.md", made + "\n")
  print(made)


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    workdir=dict(required=True, help="folder of all runs"),
    only=dict(nargs="+", metavar="NAME", help=f"of {', '.join(NAMES)}"),
    seeds=dict(type=int, default=3, help="runs of each arm"),
    scale=dict(type=float, default=0.25, help="share of all examples"),
    minutes=dict(type=float, default=85.0, help="of this slice"),
  )
