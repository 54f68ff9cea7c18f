r"""The transfers together: one model for interactive use, of what is prepared.

python -m pg.train --config transfers/mix.py:res=448 --workdir runs/mix

Which tasks were in the released mix models, and how much of each, is not
published: all of it is ours, except that the tasks are those of the transfers.
Data and ops are those of their recipes, as far as they are in the folder of
`data`; a warning names the others. Prompts that are a bare question or phrase
get a word in front that says what is asked for, as in pre-training. Videos, two
images and prompts of hundreds of words are not in it; so 128 text positions are
enough, where the released models had 256 at 224 px and 512 at 448 px.

Reported for the mix model at 224 px (448 px): POPE 88.00 random, 86.63 popular,
85.67 adversarial (89.37, 88.40, 87.47); pairs of MMVP 46.00 (45.33).
"""

import os
import warnings

from transfers import (
  ai2d,
  aokvqa_da,
  aokvqa_mc,
  base,
  chartqa,
  coco35l,
  cococap,
  docvqa,
  gqa,
  infovqa,
  ocrvqa,
  okvqa,
  refcoco_seg,
  rsvqa_hr,
  rsvqa_lr,
  scicap,
  screen2words,
  stvqa,
  tallyqa,
  textcaps,
  textvqa,
  vizwizvqa,
  vqav2,
  widgetcap,
)

# Recipe -> thousands of training examples, 600 at most.
TASKS = (
  (ai2d, 12),
  (aokvqa_da, 18),
  (aokvqa_mc, 18),
  (chartqa, 30),
  (coco35l, 600),
  (cococap, 113),
  (docvqa, 45),
  (gqa, 600),
  (infovqa, 27),
  (ocrvqa, 600),
  (okvqa, 9),
  (refcoco_seg, 24),
  (rsvqa_hr, 432),
  (rsvqa_lr, 46),
  (scicap, 120),
  (screen2words, 18),
  (stvqa, 26),
  (tallyqa, 249),
  (textcaps, 22),
  (textvqa, 40),
  (vizwizvqa, 25),
  (vqav2, 600),
  (widgetcap, 50),
)
PROMPTS = dict(
  chartqa="answer en {prefix}",
  docvqa="answer en {prefix}",
  refcoco_seg="segment {prefix}",
)


def get_config(arg=None):
  codec = "gs://big_vision/paligemma/vae-oid.npz"  # see refcoco_seg.py
  c = base.get(arg, data="data", text_len=128, codec=codec)

  # What goes in, what should come out.
  same = f"model={c.arg.model},res={c.arg.res},data={c.arg.data}"
  found = {}
  for module, weight in TASKS:
    name = module.__name__.rpartition(".")[2]
    more = f",codec={c.arg.codec}" if module is refcoco_seg else ""
    found |= dict(_datasets(name, module.get_config(same + more), weight))
  there = {k: d for k, d in found.items() if os.path.isdir(d["path"])}
  c.data = there or found
  if there and len(there) < len(found):
    gone = sorted({found[k]["path"] for k in found.keys() - there.keys()})
    warnings.warn(f"not in the mixture: {', '.join(gone)}", stacklevel=2)

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "1ep", 256, 1e-5, 0.0

  # What is measured: on questions of no task above.
  ask = (
    "fmt('answer en {question}', out='prefix') | copy('answer', out='suffix')"
  )
  c.evals.pope = dict(
    metric="pope",
    **base.prepared(c, "pope", "random + popular + adversarial"),
    pp=f"decode | resize({c.res}, antialias=False) | {ask}",
    every="25%",
    optional=True,
    published=base.published(
      c,
      **{
        "acc/random": {224: 0.8800, 448: 0.8937},
        "acc/popular": {224: 0.8663, 448: 0.8840},
        "acc/adversarial": {224: 0.8567, 448: 0.8747},
      },
    ),
  )
  c.evals.mmvp = dict(
    metric="mmvp",
    **base.prepared(c, "mmvp", "test"),
    pp=f"decode | resize({c.res}) | {ask}",
    every="25%",
    optional=True,
    published=base.published(c, **{"acc/pairs": {224: 0.4600, 448: 0.4533}}),
  )
  return c


def _datasets(name, recipe, weight):
  """Yields names and specs of the datasets of a recipe."""
  parts = recipe.data
  if isinstance(parts.get("source"), str):
    parts = {"": parts}
  total = sum(spec.get("weight", 1.0) for spec in parts.values())
  for part, spec in parts.items():
    pp = recipe.pp
    if name in PROMPTS:
      pp += f" | fmt({PROMPTS[name]!r}, out='prefix')"
    share = weight * spec.get("weight", 1.0) / total
    full = f"{name}_{part}" if part else name
    yield full, {**spec, "pp": pp, "weight": share}
