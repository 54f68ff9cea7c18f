r"""Trains `nano`, the model that comes with pg, and writes it into the package.

python -m scripts.train_nano --workdir runs/train_nano

Three runs of `pg.train`, each from the one before: stage 1 and stage 2 of
pre-training (configs/stage1.py and stage2_448.py, size nano_2m, free scenes)
and the mixture for interactive use (configs/mix.py). After --minutes the run
that is on is told to save and stop, and the same command goes on from there. At
the end pg/weights/nano is a copy of <workdir>/nano: a Hugging Face folder in
bfloat16 with tokenizer, preprocessing and model card. Nothing is downloaded.
"""

import os
import pathlib
import time

import jax

from pg import command, config, convert
from pg.models import paligemma, variants
from pg.weights import card
from scripts import story

ABOUT = """## What it is

The small model that comes with pg: {millions:.1f} M parameters, {res} px. It
captions, answers, counts, reads, points and outlines, but only what it was
trained on: drawn scenes of one to four shapes (circle, square, triangle, cross,
ring) in eight colours, or up to six where they are counted, on any background,
and one or two lines of letters and digits. It is made to try pg with, and to be
fine-tuned in minutes on a CPU. Of photos it knows nothing; it often miscounts,
misreads and guesses at yes or no, and names pairs of colour and shape that it
has never seen as ones that it has.

Trained from nothing by `python -m scripts.train_nano` on {examples:,} examples
that are drawn as they are read, in {hours:.2f} hours of {cores} CPU cores:
stage 1, stage 2 and the mixture of pg's own pre-training in miniature.

## What is scored

On scenes that training never shows: of the same kind, with pairs of colour and
shape (`caption_combo`) or wordings (`answer_template`) that are held out, and,
`hand_...`, sketches that were laid out by hand and are drawn by another program
(pg/data/synthetic/hand.py). `blind` is what the commonest answers get."""


def plan(workdir, scale):
  """Returns {run: config file with arguments}, in order."""
  size = f"size=nano_2m,scenes=free,res=96,scale={scale:g}"
  files = dict(stage1="stage1", stage2="stage2_448", mix="mix")
  found, before = {}, ""
  for name, file in files.items():
    found[name] = f"configs/{file}.py:{size}{before}"
    before = f",init={workdir}/{name}"
  return found


def main(args):
  deadline = time.monotonic() + 60 * args.minutes
  files = plan(args.workdir, args.scale)
  runs = {name: (file, []) for name, file in files.items()}
  workdir = pathlib.Path(args.workdir)
  out = workdir / "nano"
  if story.train_all(runs, workdir, deadline) and not out.exists():
    convert.convert(str(workdir / "mix"), str(out), "hf", dtype="bfloat16")
    write_card(out, workdir)
    print(f"the model: {out}")


def write_card(folder, workdir):
  """Writes the model card: what it is, how it was trained, what it scores."""
  card.write(str(folder), "pg/nano", str(workdir / "mix"))
  path = folder / card.FILE
  head, rest = path.read_text(encoding="utf-8").split("## Training", 1)
  # Stage 2 has counted what was before it; the mixture began with weights.
  spent = [story.spent(workdir / name) for name in ("stage2", "mix")]
  examples, hours = map(sum, zip(*spent))
  c = config.load(plan(workdir, 1.0)["mix"])
  shapes = paligemma.shapes(variants.VARIANTS[c.model.variant])
  num = sum(x.size for x in jax.tree.leaves(shapes))
  about = ABOUT.format(
    millions=num / 1e6,
    res=c.res,
    examples=examples,
    hours=hours,
    cores=os.cpu_count(),
  )
  rest = rest.split("## Use", 1)[0].strip()
  made = f"{head}{about}\n\n## Training of the mixture\n\n{rest}\n"
  path.write_text(made, encoding="utf-8")


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    **story.FLAGS,
  )
