r"""The main job: the model that comes with pg learns a task it has not seen.

python -m scripts.quickstart --workdir runs/quickstart

Handwritten digits, real scans that are embedded, are written as images and JSON
lines, the form in which your own examples would be; transfers/forkme.py trains
`nano` on them, and, to see what its pre-training is worth, the same from
scratch. The table has scores before and after, on scans that training never
shows, beside answers without a look at the image.
"""

import json
import pathlib

from PIL import Image

from pg import atomic, command, table
from pg.data.synthetic import digits
from scripts import story

RECIPE = "transfers/forkme.py"
# Of the recipe's keys, those that are set: on the command line they are
# arguments of --config.
WORDS = dict(total=240, batch_size=32, lr=1e-3, log_every=20)


def write_rows(folder, split, name):
  """Writes a split of the digits as JSON lines and images; returns the path.

  Args:
    folder: pathlib.Path.
    split: str, of digits.Digits.
    name: str, of the file.
  """
  path, lines = folder / f"{name}.jsonl", []
  if path.exists():
    return path
  (folder / name).mkdir(parents=True, exist_ok=True)
  for i, row in enumerate(digits.Digits(split)):
    image = f"{name}/{i}.png"
    Image.fromarray(row["image"]).save(folder / image)
    made = dict(image=image, prefix=row["prefix"], suffix=row["suffix"])
    lines.append(json.dumps(made) + "\n")
  atomic.write(path, "".join(lines))
  return path


def plan(folder):
  """Returns {run: what `story.train_all` takes}, of data in a folder."""
  data = f"train={folder}/data/train.jsonl,val={folder}/data/val.jsonl"
  words = [f"--config.{key}={value}" for key, value in WORDS.items()]
  words += ["--config.evals.val.metric=exact", "--config.evals.val.every=1000"]
  words += ["--config.evals.nll.every=1000", "--config.score_init=True"]
  file = f"{RECIPE}:{data},text_len=16"
  return {
    "tuned": (file, words),
    "scratch": (file, [*words, "--config.init=", "--config.score_init=False"]),
  }


def summary(workdir):
  """Returns the table of both runs as text."""
  read = lambda name: json.loads((workdir / name / "scores.json").read_text())
  after, scratch = (read(name)["val"]["exact"] for name in ("tuned", "scratch"))
  show = lambda x: f"{100 * x:.1f} %"
  between = lambda x: f"{show(x['low'])} to {show(x['high'])}"
  rows = [
    ["right answers", f"of {after['n']} scans", ""],
    ["without a look at the image", show(after["blind"]), ""],
    ["before", show(after["before"]), ""],
    ["after", show(after["value"]), between(after)],
    ["from scratch, as long", show(scratch["value"]), between(scratch)],
  ]
  return "\n".join(table.lines(rows, words=(0,)))


NEXT = r"""
The report with its images: {report}

It takes your own examples, in a file with an object per line:

  {{"image": "1.jpg", "prefix": "caption en", "suffix": "a red bus"}}

bash scripts/run.sh check --train train.jsonl --val val.jsonl
bash scripts/run.sh train --workdir runs/mine \
  --config transfers/forkme.py:train=train.jsonl,val=val.jsonl
bash scripts/run.sh predict --checkpoint runs/mine \
  --image 1.jpg --prompt "caption en"

A released 3B on a GPU: docs/finetune.md. What the small model knows:

bash scripts/run.sh predict --image docs/images/shapes.jpg \
  --prompt "detect red circle" --out out.png
"""


def main(args):
  workdir = pathlib.Path(args.workdir)
  for split, name in (("train", "train"), ("test", "val")):
    write_rows(workdir / "data", split, name)
  if not story.train_all(plan(args.workdir), workdir, float("inf")):
    return
  print(f"\n{summary(workdir)}")
  print(NEXT.format(report=(workdir / "tuned/report.html").resolve()))


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    workdir=dict(default="runs/quickstart", help="folder of data and runs"),
  )
