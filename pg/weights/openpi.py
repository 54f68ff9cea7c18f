"""openpi's checkpoints: the PaliGemma inside of a robot's policy (pi0).

They are Orbax trees, or `.npz` files, with names such as

    params/PaliGemma/img/head/kernel             ours, after the prefix
    params/PaliGemma/llm/layers/mlp/linear/value   the same, saved in training
    params/PaliGemma/llm/layers/mlp_1/linear     of the second expert: actions
    params/action_in_proj/kernel                 of the policy

Only the first expert is a PaliGemma; the rest is left out, and said. What is
written for openpi is what its PaliGemmaWeightLoader reads: an `.npz` of numpy's
own dtypes with names under `params/`.
"""

import os
import re

from etils import epath

from pg import progress, tree
from pg.weights import npz, orbax, tensors

_OURS = re.compile(
  r"(?:params/)?PaliGemma/(?P<ours>(?:img|llm)/.+?)(?:/value)?"
)
_EXPERT = re.compile(r"llm/(.*/)?\w+_[1-9]\d*(/.*)?")
_FOLDER = "params"  # of a checkpoint, beside `assets`


def folder(path):
  """Returns the folder of parameters at a path; None if it is none of theirs.

  Args:
    path: str, a checkpoint or the `params` in it.
  """
  for found in (path, os.path.join(path, _FOLDER)):
    if os.path.isfile(os.path.join(found, "_METADATA")):
      return found
  return None


def open_folder(path, name):
  """Opens the PaliGemma of an Orbax tree.

  Args:
    path: str, as `folder` returns it.
    name: str, what the user called it.

  Raises:
    ValueError: the tree cannot be read, or has no PaliGemma in it.
  """
  return orbax.Arrays(
    epath.Path(path).resolve(), lambda stored: _paligemma(stored, name)
  )


class Renamed:
  """Reads the PaliGemma of an `.npz` of theirs; see tensors.py."""

  def __init__(self, reader, name):
    """Wraps a reader.

    Args:
      reader: npz.Reader.
      name: str, what the user called it.
    """
    self._reader, self.close = reader, reader.close
    self._names = _paligemma(reader.specs, name)
    self.specs = {k: reader.specs[old] for k, old in self._names.items()}

  def read(self, name, layer=None):
    return self._reader.read(self._names[name], layer)


def is_theirs(specs):
  """Returns whether the names of an `.npz` are those of a policy."""
  return any(map(_OURS.fullmatch, specs))


def write(path, source, specs, read):
  """Writes an `.npz` for openpi's PaliGemmaWeightLoader.

  Args:
    path: str, a file that does not exist.
    source: opened.Weights.
    specs: {name: shape and dtype}; bfloat16, which numpy does not know, becomes
      float32.
    read: function (name, layer) -> array, as a reader's.

  Raises:
    ValueError: a PaliGemma 2, of which openpi would leave out norms.
  """
  if source.cfg.llm.post_norms:
    raise ValueError(
      f"{source.name} is of Gemma 2; openpi has the decoder of Gemma 1, and"
      " would leave out its other norms"
    )
  wide = tensors.cast(specs, tensors.DTYPES["float32"])
  bf16 = tensors.DTYPES["bfloat16"]
  specs = {k: wide[k] if x.dtype == bf16 else x for k, x in specs.items()}
  npz.write(path, specs, read, prefix=npz.PREFIX)


def _paligemma(stored, where):
  """Returns {our name: stored name}, and says what is left out.

  Args:
    stored: names.
    where: str, for messages.

  Raises:
    ValueError: there is no PaliGemma, or one with adapters.
  """
  found, others = {}, []
  for name in stored:
    match = _OURS.fullmatch(name)
    if match and not _EXPERT.fullmatch(match["ours"]):
      found[match["ours"]] = name
    else:
      others.append(name)
  if not found:
    raise ValueError(
      f"{where} has no PaliGemma: wanted names such as params/PaliGemma/llm,"
      f" found {', '.join(tree.some(others))}"
    )
  if lora := [name for name in found if "lora_" in name]:
    raise ValueError(
      f"{where} has adapters beside its weights, such as {lora[0]}, whose scale"
      " the file does not say: merge them in openpi, and save that"
    )
  if others:
    names = ", ".join(tree.some(others))
    progress.say(
      f"{where}: {len(found)} tensors of PaliGemma are read, and"
      f" {len(others)} of the policy are left out: {names}"
    )
  return dict(sorted(found.items()))
