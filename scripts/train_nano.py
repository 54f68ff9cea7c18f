r"""Trains `nano`, the model that comes with pg, and writes it into the package.

python -m scripts.train_nano --workdir runs/train_nano

Three runs of `pg.train`, each from the one before: stage 1 and stage 2 of
pre-training (configs/stage1.py and stage2_448.py, size nano_2m, free scenes) and
the mixture for interactive use (configs/mix.py). After --minutes the run that
is on is told to save and stop, and the same command goes on from there. At the
end the weights are in pg/weights/nano, a Hugging Face folder in bfloat16 with
tokenizer, preprocessing and model card. Nothing is downloaded.
"""

import pathlib
import time

from pg import command, convert
from pg.weights import hub
from scripts import story


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
  if story.train_all(runs, pathlib.Path(args.workdir), deadline):
    convert.convert(f"{args.workdir}/mix", hub.NANO, "hf", dtype="bfloat16")


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    workdir=dict(required=True, help="folder of all runs"),
    scale=dict(type=float, default=1.0, help="share of all examples"),
    minutes=dict(type=float, default=85.0, help="of this slice"),
  )
