r"""Runs a trained model on images and a prompt.

python -m pg.predict --checkpoint runs/nano --image cat.jpg \
  --prompt "detect cat" --out out.png
python -m pg.predict --checkpoint hf://google/paligemma-3b-mix-224 \
  --image cat.jpg --prompt "caption en"

--checkpoint is a run, or released weights in any form (see pg/weights/load.py).

The model sees images as it did in training, which is part of a checkpoint. A
file without a record of it is taken for big_vision's (bv), a folder for Hugging
Face's (hf); both see photos upright. --pp names another way: bv, hf, or ops
such as "decode | resize(224, antialias=False)" (see pg/pp/flavours.py).

Prints the text, and a table of boxes in pixels of the image as the model saw
it, turned upright or not; --out draws them, --json prints one object with
everything: text, token ids, their log probabilities, boxes.
"""

import contextlib
import dataclasses
import functools
import json
import os
import warnings
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from pg import atomic, command, pp, progress
from pg.codecs import boxes as box_codec
from pg.codecs import tokenizer
from pg.data import prefix_lm, stream
from pg.decode import loop, sampling
from pg.inspect import findings
from pg.inspect import rows as rows_lib
from pg.log.pages import drawing
from pg.models import paligemma, variants
from pg.pp import flavours, parse
from pg.pp import image as image_ops
from pg.pp import resize as resize_ops
from pg.weights import load as load_lib

# Text positions where the weights do not say with how many they were trained.
TEXT_LEN = 128


class Model(NamedTuple):
  """A trained model: parameters, tokenizer, preprocessing."""

  cfg: paligemma.Config
  params: dict  # as `loop.unroll` returns them
  form: prefix_lm.Form
  pp: str  # how it sees images


class Prediction(NamedTuple):
  """A model's answer, with its boxes."""

  text: str
  tokens: list  # ids, eos included
  logp: list  # log probability of each
  boxes: list  # {"label", "box": [y1, x1, y2, x2] in pixels}


def load(name, *, tokenizer_path=None, dtype=None, res=None, pp=None):
  """Loads a model and how it sees images.

  Args:
    name: str, a run's folder, a checkpoint in it or released weights.
    tokenizer_path: str or None, the model's own.
    dtype: str or None, in which weights are kept and activations computed:
      "float32" or "bfloat16"; None is float32 on a CPU, which is much faster
      there, and bfloat16 elsewhere.
    res: int or None, pixels per side; None is the model's own.
    pp: str or None, how it is to see images (see `flavours.named`); None is as
      it was trained.

  Raises:
    ValueError, OSError: no weights there, or without a tokenizer; no such pp.
  """
  weights = load_lib.open(name)
  with contextlib.closing(weights.reader):
    tok = tokenizer.Tokenizer(
      tokenizer_path or load_lib.need_tokenizer(weights)
    )
    if res:
      weights = load_lib.at_resolution(weights, res)
    cfg = dataclasses.replace(weights.cfg, dtype=variants.compute_dtype(dtype))
    pp = flavours.named(pp, cfg.img.res) if pp else load_lib.images(weights)
    params = load_lib.unrolled(weights, cfg)
  rows = dict(num_images=1, text_len=TEXT_LEN) | weights.rows
  form = prefix_lm.Form(tok, cfg.img.res, **rows)
  return Model(cfg, params, form, pp)


def predict(model, images, prompt, *, max_len=None, sampler=None):
  """Answers one prompt about one example's images.

  Args:
    model: Model.
    images: list of encoded bytes, as many as the model takes or fewer.
    prompt: str, such as "caption en".
    max_len: int, tokens in the answer; default the run's text_len.
    sampler: sampling.Sampler, greedy by default.

  Warns of what `pg.check` finds in prompts, such as a newline at the end.

  Returns:
    Prediction; boxes are in pixels of the first image as it was seen.

  Raises:
    ValueError: an image that cannot be read, too many of them, a prompt that
      is too long, or an answer whose probabilities are no numbers.
  """
  for kind, detail in rows_lib.text_problems(prompt):
    finding = findings.KINDS[kind]
    message = f"prompt {prompt!r}: {finding.title}: {detail}. {finding.advice}"
    warnings.warn(message, stacklevel=2)
  form = model.form
  shown, last = seen(model, images)
  done = pp.run(last, {"image": shown, "prefix": prompt}, pp.Turn())
  rows = stream.stack([prefix_lm.decode_row(form, done)], [0], [0])
  need = len(form.tok.encode(prompt)) + 2
  if need > form.text_len:
    raise ValueError(
      f"the prompt has {need} tokens and the model was trained with a text_len"
      f" of {form.text_len}; shorten it"
    )
  max_len = max_len or form.text_len
  eos = form.tok.eos
  generate = functools.partial(
    loop.generate, model.cfg, max_len=max_len, eos=eos, sampler=sampler
  )
  compiled = jax.jit(generate, compiler_options=_options())
  answer = jax.device_get(compiled(model.params, rows))
  tokens, logp = answer.tokens[0].tolist(), answer.logp[0].tolist()
  end = tokens.index(eos) + 1 if eos in tokens else max_len
  if not np.isfinite(logp[:end]).all():
    raise ValueError(
      "the answer's probabilities are inf or nan: activations overflow in"
      f" {model.cfg.dtype}; try --dtype float32, or other weights"
    )
  text = form.tok.decode(tokens[:end])
  height, width = shown[0].shape[:2]
  objects, _ = box_codec.read(text)
  pixels = box_codec.to_pixels(
    np.array([one.box for one in objects]).reshape(-1, 4), height, width
  )
  found = [
    {"label": one.label, "box": [round(float(x), 1) for x in box]}
    for one, box in zip(objects, pixels, strict=True)
  ]
  return Prediction(text, tokens[:end], logp[:end], found)


def seen(model, images):
  """Returns images as the model sees them, before they are made a square.

  Args:
    model: Model.
    images: list of encoded bytes.

  Returns:
    list of u8[height, width, 3], and the steps that are left of the pipeline.
  """
  (steps,) = parse.build(model.pp).args
  num_last = int(steps[-1].function is resize_ops.resize)
  steps, last = steps[: len(steps) - num_last], steps[len(steps) - num_last :]
  shown = pp.run(steps, {"image": images}, pp.Turn())["image"]
  return [image_ops.checked(image) for image in shown], last


def _options():
  """Returns how a CPU compiles: it never widens all bfloat16 weights at once.

  XLA's defaults do, before and inside the loop: 12.4 GB for a 3B model (2.1 GB
  so, as the compiler says).
  """
  if jax.default_backend() != "cpu":
    return None
  return {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_disable_hlo_passes": "while-loop-invariant-code-motion",
  }


def table(found):
  """Returns boxes as text, one per line, in pixels."""
  lines = [f"{'label':24} {'y1':>7} {'x1':>7} {'y2':>7} {'x2':>7}"]
  for item in found:
    numbers = " ".join(f"{x:7.1f}" for x in item["box"])
    lines.append(f"{item['label']:24} {numbers}")
  return "\n".join(lines)


def draw_boxes(image, found):
  """Draws boxes on an image that `seen` returns; u8[height, width, 3]."""
  large, scale = drawing.enlarge(image)
  boxes = np.array([item["box"] for item in found]).reshape(-1, 4) * scale
  return drawing.boxes(large, boxes, [item["label"] for item in found])


def read(path):
  """Reads an image's file as bytes; one that is none is named."""
  with open(path, "rb") as f:
    image = f.read()
  try:
    image_ops.to_rgb(image)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
  return image


def check_out(path):
  """Sees that a picture can be written, before there is one.

  Raises:
    ValueError, OSError: it cannot.
  """
  end = os.path.splitext(path)[1].lower()
  if Image.registered_extensions().get(end) not in Image.SAVE:
    raise ValueError(
      f"--out {path}: the name of a picture ends in .png or .jpg"
    )
  atomic.check(path)


def main(args):
  images = [read(path) for path in args.image]
  if args.out:
    check_out(args.out)
  progress.say(f"loading {args.checkpoint}")
  model = load(
    args.checkpoint,
    tokenizer_path=args.tokenizer,
    dtype=args.dtype,
    res=args.res,
    pp=args.pp,
  )
  sampler = sampling.Sampler(
    args.temperature, args.top_k, args.top_p, args.seed
  )
  progress.say("compiling for this prompt's answer")
  answer = predict(
    model, images, args.prompt, max_len=args.max_len, sampler=sampler
  )
  if args.json:
    print(json.dumps(answer._asdict(), ensure_ascii=False))
  else:
    print(answer.text)
    if answer.boxes:
      print(table(answer.boxes))
  if args.out:
    shown, _ = seen(model, images)
    Image.fromarray(draw_boxes(shown[0], answer.boxes)).save(args.out)


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    checkpoint=dict(required=True, help="a run, or released weights"),
    image=dict(required=True, nargs="+", help="image file, or several"),
    prompt=dict(required=True, help='such as "caption en" or "detect cat"'),
    tokenizer=dict(help="SentencePiece file; default the run's own"),
    dtype=dict(
      choices=("float32", "bfloat16"), help="default: float32 on a CPU"
    ),
    res=dict(type=int, help="pixels per side; default the model's own"),
    pp=dict(help="how it sees images: bv, hf or ops; default as trained"),
    out=dict(help="file to draw the boxes into"),
    json=dict(action="store_true", help="print one JSON object"),
    max_len=dict(type=int, help="tokens in the answer"),
    temperature=dict(type=float, default=0.0, help="0 is greedy"),
    top_k=dict(type=int, default=0, help="0 keeps all"),
    top_p=dict(type=float, default=1.0, help="1 keeps all"),
    seed=dict(type=int, default=0, help="of sampling"),
  )
