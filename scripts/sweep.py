r"""Trains every combination of some values with several seeds, and compares.

python -m scripts.sweep --config transfers/vqav2.py:tune --workdir runs/sweep \
  --seeds 3 --try lr=1e-5,3e-6 --try wd=0,1e-6

Each run is a `pg.train` of its own in <workdir>/lr=1e-5,wd=0/seed0, one after
the other; what it prints is in its train.log. Started again, the sweep skips
runs that are complete, goes on with the one that was stopped, and tries those
that failed once more. Prints mean and standard deviation over seeds of every
final score, and writes them to <workdir>/sweep.json. `*` is the best mean; two
that differ by less than the deviation are not told apart by that.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys

from pg import atomic, command, config

# Scores of which less is better.
LOWER = ("nll", "perplexity", "mae", "parsefail", "invalid", "unparsable")


def combinations(tries):
  """Returns list of dict from key to value, texts, of `["lr=1e-5,3e-6"]`.

  Raises:
    ValueError: no values, or a key twice.
  """
  values = {}
  for text in tries:
    key, _, words = text.partition("=")
    if not words or key in values:
      raise ValueError(
        f"--try {text}: write each key once, with its values: lr=1e-5,3e-6"
      )
    values[key] = [word.strip() for word in words.split(",")]
  return [dict(zip(values, v)) for v in itertools.product(*values.values())]


def name(combination):
  """Returns the name of a combination: "lr=1e-5,wd=0"."""
  text = ",".join(f"{k}={v}" for k, v in combination.items()) or "as it is"
  return text.replace("/", "_")


def sweep(file, tries, num_seeds, workdir, train=None):
  """Trains what is not complete, and reads the scores of all.

  Args:
    file: str, the config file with its arguments.
    tries: list of str, "lr=1e-5,3e-6".
    num_seeds: int, seeds 0, 1, ... of each combination.
    workdir: str, folder of all runs.
    train: function (file, dict of changes, workdir) -> "" or what went wrong.

  Returns:
    {combination: {score: list of float}}, and {run: what went wrong}.

  Raises:
    ValueError: a combination that the config does not understand; no run is
      started then.
  """
  train = train or _train
  runs = [
    (name(combination), combination | {"seed": str(seed)})
    for combination in combinations(tries)
    for seed in range(num_seeds)
  ]
  for _, changes in runs:
    config.load(file, changes.items())
  found, failed = {}, {}
  for number, (group, changes) in enumerate(runs, 1):
    run = f"{group}/seed{changes['seed']}"
    folder = os.path.join(workdir, run)
    path = os.path.join(folder, "scores.json")
    complete = os.path.exists(path)
    print(f"{number}/{len(runs)} {run}{': complete' * complete}", flush=True)
    error = "" if complete else train(file, changes, folder)
    if not error and not os.path.exists(path):
      error = "it wrote no scores: the config has no evaluators"
    if error:
      failed[run] = error
      print(f"  failed: {error}", flush=True)
      continue
    for score, value in _scores(path).items():
      found.setdefault(group, {}).setdefault(score, []).append(value)
  return found, failed


def _train(file, changes, workdir):
  """Runs pg.train; returns the last line that it wrote if it failed."""
  os.makedirs(workdir, exist_ok=True)
  words = [f"--config.{key}={value}" for key, value in changes.items()]
  words = ["--config", file, *words, "--workdir", workdir]
  log = os.path.join(workdir, "train.log")
  with open(log, "a", encoding="utf-8") as f:
    done = subprocess.run(
      [sys.executable, "-m", "pg.train", *words], stdout=f, stderr=f
    )
  if not done.returncode:
    return ""
  with open(log, encoding="utf-8", errors="replace") as f:
    lines = f.read().split("\n")
  last = next((line for line in reversed(lines) if line.strip()), "")
  return f"{last.strip()[:300]} (status {done.returncode}; see {log})"


def _scores(path):
  """Returns {"evaluator/score": value} of a run."""
  with open(path, encoding="utf-8") as f:
    made = json.load(f)
  return {
    f"{evaluator}/{score}": value["value"]
    for evaluator, scores in made.items()
    for score, value in scores.items()
  }


def summary(found):
  """Returns {score: {combination: dict(mean, sd, n, best)}}.

  sd is the sample's, None of one run; best says whether no mean is better.
  """
  table = {}
  for group, scores in found.items():
    for score, values in scores.items():
      sd = statistics.stdev(values) if len(values) > 1 else None
      row = dict(mean=statistics.fmean(values), sd=sd, n=len(values))
      table.setdefault(score, {})[group] = row
  for score, rows in table.items():
    best = min if score.rpartition("/")[2] in LOWER else max
    top = best(row["mean"] for row in rows.values())
    for row in rows.values():
      row["best"] = row["mean"] == top
  return table


def text(table):
  """Returns a summary as text, a block for each score."""
  lines = []
  for score, rows in table.items():
    width = max(map(len, rows))
    lines.append(score)
    for group, row in rows.items():
      sd = "" if row["sd"] is None else f" ± {row['sd']:.4f}"
      best = " *" * row["best"]
      lines.append(
        f"  {group:{width}}  {row['mean']:.4f}{sd} ({row['n']}){best}"
      )
  return "\n".join(lines)


def main(args):
  if args.seeds < 1:
    raise ValueError(f"--seeds must be at least 1, got {args.seeds}")
  where = args.workdir
  atomic.check_folder(where)
  tries = getattr(args, "try")
  found, failed = sweep(args.config_file, tries, args.seeds, where)
  table = summary(found)
  done = json.dumps(dict(scores=table, failed=failed), indent=2)
  atomic.write(os.path.join(where, "sweep.json"), done)
  print(text(table))
  if failed:
    raise ValueError(f"{len(failed)} runs failed: {'; '.join(failed)}")


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    **{"try": dict(action="append", default=[], metavar="KEY=VALUE,...")},
    workdir=dict(required=True, help="folder of all runs"),
    seeds=dict(type=int, default=1, help="runs of each combination"),
  )
