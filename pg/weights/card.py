"""The model card of a Hugging Face folder: what its weights are made of."""

import json
import os
import pathlib
import re

import huggingface_hub

from pg import origin, progress
from pg.data.storage import bucket
from pg.weights import checkpoint, hub, load

FILE = "README.md"
TERMS = "https://ai.google.dev/gemma/terms"
# Of a run's config, what says what was trained and how; no paths of a machine.
_KEYS = ("res", "text_len", "num_images", "pp", "total", "batch_size", "lr")
_KEYS += ("wd", "label_smoothing", "warmup", "schedule", "optimizer", "seed")
_GROUPS = ("model", "lora")
_HUB = re.compile(r"hf://([^/@:+,]+/[^/@:+,]+)")
_REMOTE = re.compile(r"[a-z0-9]+://")


def write(folder, name, src):
  """Writes the card of a folder.

  Args:
    folder: str, a Hugging Face folder.
    name: str, the repository's, owner/name.
    src: str, the name of the weights that it was made of.
  """
  workdir = _workdir(src)
  c, base = _json(workdir, "config.json"), _base(src)
  commit = origin.commit()
  # Those of a run are of its newest checkpoint.
  is_newest = os.path.isdir(os.path.join(src, "checkpoints"))
  parts = [
    f"---\n{_metadata(base)}\n---",
    f"# {name.partition('/')[2]}",
    f"A PaliGemma in the form of transformers, {_origin(c, base)}.",
    f"Written by `pg.convert`{f' at commit `{commit}`' if commit else ''}.",
    *_config(c),
    *_scores(_json(workdir, "scores.json") if is_newest else {}),
    _USE.format(name=name),
    *([] if base is None else [_LICENSE]),
  ]
  path = pathlib.Path(folder, FILE)
  path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


_USE = """## Use

```python
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

model = PaliGemmaForConditionalGeneration.from_pretrained("{name}")
processor = AutoProcessor.from_pretrained("{name}")
```

or `python -m pg.predict --checkpoint hf://{name} --image cat.jpg`."""


_LICENSE = f"""## License

PaliGemma and what is made of it come under the [Gemma Terms of Use]({TERMS}),
which have to be passed on with it."""


def _workdir(src):
  """Returns the run's folder that a name is in, or None."""
  name, adapter = load.split_adapter(os.fspath(src))
  path, _ = hub.split_subtree(adapter or name)
  if hub.is_url(path) and not bucket.is_bucket(path):
    return None
  try:
    return checkpoint.workdir_of(path)
  except ValueError:
    return None


def _json(workdir, name):
  """Returns what a JSON file of a run says; {} without one."""
  if workdir is None:
    return {}
  try:
    with open(load.of_run(workdir, name), encoding="utf-8") as file:
      return json.load(file)
  except (OSError, ValueError):
    return {}


def _base(src):
  """Returns the URL of the weights that training began with.

  It is "" where they have none, and None where parameters were drawn.
  """
  name, seen = os.fspath(src), set()
  while name and name not in seen:
    seen.add(name)
    name, _ = load.split_adapter(name)
    c = _json(_workdir(name), "config.json")
    if not c:
      return progress.safe(name) if _REMOTE.search(name) else ""
    name = c["init"]
  return "" if name else None


def _metadata(base):
  """Returns the card's metadata as YAML."""
  return huggingface_hub.ModelCardData(
    license=None if base is None else "gemma",
    base_model=_HUB.findall(base or "") or None,
    library_name="transformers",
    pipeline_tag="image-text-to-text",
    tags=["paligemma"],
  ).to_yaml()


def _origin(c, base):
  if base is None:
    return "trained with pg from its very start"
  start = f"`{base}`" if base else "weights that have no public name"
  how = "adapters (LoRA) of" if c.get("lora", {}).get("rank") else "from"
  return f"trained with pg, {how} {start}" if c else f"made of {start}"


def _config(c):
  """Yields the part on how the run was trained."""
  if not c:
    return
  shown = {k: c[k] for k in _KEYS if k in c}
  for group in _GROUPS:
    shown |= {f"{group}.{k}": x for k, x in c.get(group, {}).items()}
  cell = lambda x: json.dumps(x).replace("|", "\\|")  # else it ends there
  lines = [f"| `{k}` | `{cell(x)}` |" for k, x in shown.items()]
  yield "\n".join(["## Training", "", "| key | value |", "|---|---|", *lines])


def _scores(scores):
  """Yields the table of scores."""
  rows = []
  for evaluator, found in scores.items():
    for score, one in found.items():
      value = one["value"]
      low, high = (one.get(k, value) for k in ("low", "high"))
      between = f"{low:.4g} to {high:.4g}"
      blind = f"{one['blind']:.4g}" if "blind" in one else ""
      cells = evaluator, score, f"{value:.4g}", between, blind, one.get("n", "")
      rows.append(f"| {' | '.join(map(str, cells))} |")
  if rows:
    head = "| evaluator | score | value | 95 % interval | blind | examples |"
    yield "\n".join(["## Scores", "", head, "|---|---|---|---|---|---|", *rows])
