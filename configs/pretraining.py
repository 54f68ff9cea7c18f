"""What the stages of pre-training have in common: sizes, the curve, tasks.

Facts are of arXiv 2407.07726 (section 3.2) and 2412.03555 (section 3). Ours is
what they do not say: batch size, mixture weights, the lengths of both warm-ups
and of the curve, how slight the crop and how frequent JPEG is. Ours are the
data, too, as theirs are private: public sets, prepared by `python -m
scripts.prepare.NAME --raw DIR --out data/NAME`, as far as they are in `data`. A
line says which ones are missing. Then the weights of the others stay as they
are; with `:renormalize` the other sets of their task take over their share.
Images that evaluation has are taken out by `scripts.prepare.near_duplicates`.

Arguments: `size`, `scale` (a share of all examples, warm-ups and the curve, the
same in all stages), `data`, `renormalize`, `init`, `codec` (of masks, as in
transfers/refcoco_seg.py), `tokenizer` (Gemma's tokenizer.model, by which texts
are cut to whole parts that fit; by default data/tokenizer.model). Of nano:
`scenes`, on the "grid" of pg/data/synthetic/scenes.py or "free" as in free.py
beside it, which take longer to learn, at 96 px or more (`res`).
"""

import functools
import os
import warnings
from typing import NamedTuple

from pg import config
from transfers import base


class Size(NamedTuple):
  """One size of everything; examples are in millions, a tuple of each stage."""

  lr: float
  decoder: str  # of google; "": drawn
  res: tuple = (224, 448, 896)
  text_len: tuple = (128, 512, 512)
  examples: tuple = (1000, 50, 10)
  batch_size: int = 2048
  warmup: float = 10
  tower: float = 100  # warm-up of the image tower
  timescale: float = 20  # after it the rate has fallen by the square root of 2
  optimizer: str = "adam"


# The same in miniature, on scenes that are drawn as they are read.
_NANO = Size(
  lr=1.5e-3,
  decoder="",
  res=(48, 96, 192),
  text_len=(28, 28, 28),
  examples=(0.256, 0.032, 0.008),
  batch_size=64,
  warmup=0.0032,
  tower=0.016,
  timescale=0.064,
)
SIZES = dict(
  pg1_3b=Size(2e-5, "gemma-2b"),
  pg2_3b=Size(2e-5 * 0.5, "gemma-2-2b"),
  pg2_10b=Size(2e-5 * 0.25, "gemma-2-9b"),
  pg2_28b=Size(2e-5 * 0.25, "gemma-2-27b"),
  nano=_NANO,
  # For free scenes, longer; see scripts/train_nano.py.
  nano_2m=_NANO._replace(
    lr=3e-3, optimizer="muon", examples=(0.32, 0.064, 0.016)
  ),
)
# Task -> those of the generator (pg/data/synthetic/shapes.py).
SCENES = dict(
  caption=("caption", "caption_de", "caption_es", "caption_zh"),
  ocr=("ocr",),
  answer=("answer", "yesno", "count"),
  question=("question",),
  detect=("detect", "detect_one"),
  segment=("segment",),
  grounded=("grounded",),
)
# Of free scenes this share comes as from files, see free in Shapes.
FILES = dict(grid=None, free=0.25)
# Tasks of the sketches that free scenes are also tested with, see hand.py.
HAND = ("caption", "ocr", "answer", "yesno", "count", "detect", "segment")
METRICS = dict(count="count", segment="segment")
METRICS |= dict.fromkeys(SCENES["detect"], "detect")


def get(arg, stage, weights, init="", **more):
  """Returns the config of a stage.

  Args:
    arg: str or None, the config's argument.
    stage: int, 0 for stage 1, 1 and 2 for stage 2 at the higher resolutions.
    weights: {task: its share of the mixture}.
    init: str, the run of the stage before; without one the curve begins.
    **more: further arguments, or other defaults, as for `base.get`.
  """
  known = dict(data="data", codec="gs://big_vision/paligemma/vae-oid.npz")
  known |= dict(size="pg2_3b", scale=1.0, renormalize=False, tokenizer="")
  known |= dict(scenes="grid")
  more = known | more
  name = base.get(arg, **more).arg.size
  size = config.lookup(SIZES, name, "size")
  c = base.get(arg, model=name, **{"res": size.res[stage], **more})
  c.text_len = size.text_len[stage]
  c.seed = stage  # rows in another order than before

  # What goes in, what should come out.
  c.init = c.arg.init or init or _towers(size)
  c.init_optimizer = bool(init)
  if size.decoder:
    c.tokenizer = c.arg.tokenizer
    _public(c, weights)
  else:
    _scenes(c, weights)

  # The recipe: nothing is frozen.
  c.total = examples(c, size.examples[stage])
  c.batch_size, c.lr, c.optimizer = size.batch_size, size.lr, size.optimizer
  c.model.final_softcap = None  # Gemma 2's own; transfers do without
  _schedule(c, stage if init else 0, size)
  return c


def examples(c, millions):
  """Returns so many million examples, times `scale`, as a duration, str."""
  num = millions * c.arg.scale
  return f"{num:.12g}M ex" if num >= 1 else f"{1e6 * num:.0f} ex"


def _schedule(c, stage, size):
  """Sets the part of the curve that a stage takes."""
  ex = functools.partial(examples, c)
  curve = dict(kind="rsqrt", timescale=ex(size.timescale))
  if stage == 0:
    # Until then the gradients that reach the tower are of a decoder that does
    # not see yet: its warm-up is slow, and meets the curve of the rest.
    slow = dict(warmup=ex(size.tower), start=ex(size.tower - size.warmup))
    c.warmup = ex(size.warmup)
    c.schedule = (("img/(?!head/).*", {**curve, **slow}), (".*", curve))
  else:
    start = sum(size.examples[:stage]) - size.warmup
    c.warmup = 0
    c.schedule = ((".*", dict(curve, start=ex(start))),)


def _towers(size):
  """Names SigLIP and Gemma: the projector is zero, new rows are N(0, 0.02)."""
  tower = "hf://google/siglip-so400m-patch14-224"
  return size.decoder and f"img={tower},llm=hf://google/{size.decoder}"


def _scenes(c, weights):
  """Sets data and evaluators of the smallest size."""
  files = config.lookup(FILES, c.arg.scenes, "kind of scenes")
  c.pp, pp, more = "decode | random_jpeg(0.5)", "decode", {}
  if files is not None:
    c.pp = f"decode | random_resize({c.res}) | random_jpeg(0.25)"
    pp, more = f"decode | resize({c.res})", dict(free=files)
    c.text_len = 36  # up to four objects
  for task, weight in weights.items():
    for name in SCENES[task]:
      spec = dict(source="shapes", task=name, res=c.res, **more)
      c.data[name] = dict(spec, weight=weight / len(SCENES[task]))
      how = dict(spec, split="test", pp=pp, num_examples=256)
      c.evals[name] = dict(how, metric=METRICS.get(name, "exact"))
  if files is not None and "segment" in c.evals:
    # Masks are pasted at whole pixels: of larger images less is lost.
    c.evals.segment.res = 4 * c.res
  for name in HAND if files is not None else ():
    how = dict(source="hand", task=name, pp=pp)
    c.evals[f"hand_{name}"] = dict(how, metric=METRICS.get(name, "exact"))
  how = dict(c.evals.caption, metric="perplexity", every="10%")
  c.evals.nll = how
  c.model.remat = "everything"
  c.log_every, c.save_every, c.b2 = 20, "25%", 0.99


def _public(c, weights):
  """Sets data and evaluators of the full sizes."""
  found, wanted = {}, _sets(c)
  for task, weight in weights.items():
    sets = {f"{task}_{name}": d for name, d in wanted[task].items()}
    there = {k: d for k, d in sets.items() if os.path.isdir(d["path"])}
    share = weight / len(there if there and c.arg.renormalize else sets)
    found |= {k: dict(d, weight=share) for k, d in sets.items()}
  there = {k: d for k, d in found.items() if os.path.isdir(d["path"])}
  c.data = there or found
  gone = sorted({d["path"] for k, d in found.items() if k not in there})
  if there and gone:
    warnings.warn(f"not in the mixture: {', '.join(gone)}", stacklevel=3)
  for name, split in (
    ("caption_cc3m", "validation"),
    ("ocr_hiertext", "validation"),
    ("detect_openimages", "validation"),
  ):
    spec = {k: v for k, v in found[name].items() if k != "weight"}
    how = dict(spec, split=split, optional=True, num_examples=2048)
    c.evals[name] = dict(how, metric="perplexity", every="2%")


def _sets(c):
  """Returns {task: {set: its data spec}}, prompts as in section 3.2.5."""
  ways = f"random_resize({c.res}) | random_jpeg(0.5)"
  image = f"decode | inception_crop(95) | {ways}"
  # Words and things at the edge go with the part that is cut off.
  boxes = f"decode | inception_crop(95, boxes=True, visible=0.7) | {ways}"
  masks = f"decode | {ways}"  # they cannot be cut
  counts = c.arg.tokenizer or f"{c.arg.data}/tokenizer.model"
  fits = f"text_len={c.text_len}, tokenizer={counts!r}"
  codec = f"encode_masks({c.arg.codec!r})"

  def of(name, split, *ops):
    return {name: dict(base.prepared(c, name, split), pp=" | ".join(ops))}

  caption = "fmt('caption {language}', out='prefix')"
  answer = "fmt('answer en {question}', out='prefix')"
  question = "fmt('question en {answer}', out='prefix')"
  asked = "copy('question', out='suffix')"
  pair = "keep_if('answers') | cycle(['questions', 'answers'], out={})"
  here = "loc('box', out='where') | fmt('caption {where}', out='prefix')"
  region = "choice(['boxes', 'texts'], out=['box', 'suffix'])"
  return dict(
    caption=of(
      "cc3m",
      "train",
      image,
      "fmt('caption en', out='prefix') | copy('caption', out='suffix')",
    )
    | of(
      "wit",
      "train",
      image,
      "cycle(['languages', 'captions'], out=['language', 'suffix'])",
      caption,
    ),
    # Line by line; random ones are left out where all are too many.
    ocr=of("hiertext", "train", boxes, "objects('raster')", f"ocr({fits})"),
    answer=of("vq2a", "train", image, answer, "cycle('answers', out='suffix')")
    | of(
      "visual_genome",
      "questions",
      image,
      pair.format(["question", "suffix"]),
      answer,
    )
    | of(
      "openimages",
      "train",
      "keep_if('groups', 0)",  # how many there are is not known
      boxes,
      "ask(names='absent')",
    ),
    question=of(
      "vq2a", "train", image, "cycle('answers', out='answer')", question, asked
    )
    | of(
      "visual_genome",
      "questions",
      image,
      pair.format(["question", "answer"]),
      question,
      asked,
    ),
    # All that fit, in random order.
    detect=of(
      "openimages",
      "train",
      boxes,
      "objects('random', crowd=False)",
      f"detect({fits})",
    ),
    segment=of(
      "openimages_seg",
      "train",
      masks,
      f"objects('random', max_objects={c.text_len // 22})",
      codec,
      f"segment({fits})",
    ),
    grounded=of(
      "visual_genome", "regions", boxes, "keep_if('texts')", region, here
    ),
  )
