"""How a model sees images: the part of a pipeline string that is the model's.

How images are decoded and resized belongs to a model as its weights do. A run's
`config.json` is the record of it, and `of_run` takes it from there. Weights
without a record have the flavour of those who released them, and see photos
upright:

  bv   big_vision's: JPEG with the fast DCT, bilinear with antialias
  hf   Hugging Face transformers': JPEG with the accurate DCT, bicubic on u8
"""

import ast
import collections
import inspect
import re

from pg import pp
from pg.pp import crop, image, masks, parse, resize, robust

FLAVOURS = dict(
  bv="decode(exif=True) | resize({res})",
  hf="decode(precise=True, exif=True) | resize({res}, flavour='hf')",
)
# Where ops of images are that need nothing else of a row. What is not random is
# repeated for every image that a model is asked about.
_MODULES = tuple(m.__name__ for m in (crop, image, resize, robust))
_OF_BOXES = ("boxes", "visible")  # there are none where a model is asked


def named(name, res):
  """Returns the pipeline string of a flavour, or `name` if it is one itself.

  Args:
    name: str, a key of FLAVOURS, or a pipeline string.
    res: int, pixels per side that the model takes.

  Raises:
    ValueError: neither; the message says where.
  """
  if name in FLAVOURS:
    return FLAVOURS[name].format(res=res)
  try:
    parse.build(name)
  except ValueError as e:
    known = " or ".join(FLAVOURS)
    raise ValueError(f"{e}\nwanted {known}, or ops of images like these") from e
  return name


def of_pipeline(string, res):
  """Returns the part of a pipeline string that makes an image for a model.

    flatten | decode | resize(224, antialias=False) | fmt("caption en")
    decode | resize(224, antialias=False)

  Ops that draw, and those of texts and boxes, are left out; `decode` and
  `resize(res)` are added where there is none.
  """
  kept = [node for node in parse.nodes(string) if _is_kept(node)]
  names = {parse.name(node) for node in kept}
  parts = ["decode"] * ("decode" not in names)
  parts += map(_without_boxes, kept)
  if not {"resize", "central_crop"} & names:
    parts.append(f"resize({res})")
  return " | ".join(parts)


def of_run(c):
  """Returns how the model of a run sees images: as most of its training does.

  Of datasets that see them differently, the way with the largest weight counts.
  Where that draws, as a random crop does, it is the way of the first evaluator
  that has its own and does not.

  Args:
    c: the run's config, or the dict of its `config.json`.
  """
  data, shares = c["data"], collections.Counter()
  single = isinstance(data.get("source"), str)
  for spec in [data] if single else data.values():
    string = spec.get("pp") or c["pp"]
    way = of_pipeline(string, c["res"]), _draws(string)
    shares[way] += spec.get("weight", 1.0)
  ((way, draws), _), *_ = shares.most_common()
  own = [how["pp"] for how in c["evals"].values() if how.get("pp")]
  steady = [string for string in own if not _draws(string)]
  return of_pipeline(steady[0], c["res"]) if draws and steady else way


def codec_of(c):
  """Returns the mask codec that a run's pipelines name, None without one.

  Args:
    c: as for `of_run`.
  """
  data = c["data"]
  specs = [data] if isinstance(data.get("source"), str) else data.values()
  for string in [c["pp"], *(spec.get("pp") for spec in specs)]:
    for step in parse.build(string or "decode").args[0]:
      if step.function is masks.encode_masks:
        given = inspect.signature(step.function).bind(
          None, *step.args, **step.kwargs
        )
        given.apply_defaults()
        return given.arguments["codec"]
  return None


def replaced(string, way):
  """Returns a pipeline string whose ops of images are those of `way`."""
  parts = []
  for node in parse.nodes(string):
    if not _is_kept(node):
      parts.append(ast.unparse(node))
    elif way not in parts:
      parts.append(way)
  if way not in parts:
    parts.append(way)
  return " | ".join(parts)


def at_resolution(way, old, new):
  """Returns the pipeline string of images of another size, pixels per side."""
  return re.sub(rf"\b{old}\b", str(new), way)


def method(way):
  """Returns how a pipeline string resizes, one of `resize.METHODS`."""
  (steps,) = parse.build(way).args
  found = "bilinear"
  for step in steps:
    if step.function is resize.resize:
      signature = inspect.signature(resize.resize)
      given = signature.bind(None, *step.args, **step.kwargs).arguments
      flavour = given.get("flavour", "bv")
      found = given.get("method") or resize.METHOD_OF[flavour]
  return found


def _draws(string):
  """Returns whether an op of images draws."""
  return any(map(_is_random, parse.nodes(string)))


def _is_random(node):
  op = pp.OPS.get(parse.name(node))
  return _is_of_images(op) and "rng" in inspect.signature(op).parameters


def _is_kept(node):
  """Returns whether an op is repeated where a model is asked."""
  return _is_of_images(pp.OPS.get(parse.name(node))) and not _is_random(node)


def _is_of_images(op):
  return op is not None and op.__module__ in _MODULES


def _without_boxes(node):
  """Returns the text of an op without its arguments about boxes."""
  if isinstance(node, ast.Call):
    keywords = [k for k in node.keywords if k.arg not in _OF_BOXES]
    node = ast.Call(node.func, node.args, keywords)
  return ast.unparse(node)
