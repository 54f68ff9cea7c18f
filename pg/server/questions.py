"""Questions made ready: images read within limits, options as a slot's.

Images are data: URLs; others are read only where that is allowed, and never
from hosts of this network. Nothing of them is written to a disk.
"""

import collections
import hashlib
import time

import numpy as np

from pg import limits
from pg.ask import options as options_lib
from pg.data.storage import files, remote
from pg.decode import constraint
from pg.decode import slots as slots_lib
from pg.server import job as job_lib
from pg.server import wire

NUM_SHAPES = 4096  # of images, which are remembered
URL_SECONDS = 20.0  # that reading an image at a URL may take


class Questions:
  """Makes Jobs of what the API is asked."""

  def __init__(self, engine, names, bounds):
    """Takes the engine.Engine, {model: adapter or None}, and bounds.Bounds."""
    self._engine, self._names, self._bounds = engine, names, bounds
    self._shapes = collections.OrderedDict()

  def adapter(self, name):
    """Returns the adapter of a model by its name.

    Raises:
      Refused: there is no such model.
    """
    if name not in self._names:
      raise wire.Refused(
        404,
        f"there is no model {name[:60]!r}, but {', '.join(self._names)}",
        param="model",
        code="model_not_found",
      )
    return self._names[name]

  def job(self, ask, tell):
    """Returns the Job of a asked.Ask, and the size of its first image or None.

    Args:
      ask: asked.Ask.
      tell: of the Job.

    Raises:
      Refused: it cannot be answered.
    """
    sizes = self._engine.sizes
    adapter = self.adapter(ask.model)
    if ask.num > sizes.num_slots:
      raise wire.Refused(400, f"n: up to {sizes.num_slots} here", param="n")
    if len(ask.images) > sizes.num_images:
      raise wire.Refused(
        400,
        f"{len(ask.images)} images, and this server takes {sizes.num_images}",
        param="messages",
      )
    with limits.within(self._bounds.of_rows()):
      try:
        data = [self._read(url) for url in ask.images]
        keys = tuple(hashlib.sha256(x).digest() for x in data)
        job = self._made(ask, adapter, keys, data, tell)
        known = [self._shapes.get((adapter, key)) for key in keys]
        if not self._cached(job, known):
          known = self._look(job, adapter, data)
      except (ValueError, OSError, ImportError) as error:
        raise wire.Refused(400, _public(error), param="messages") from error
    return job, known[0] if known else None

  def _made(self, ask, adapter, keys, data, tell):
    """Returns the Job, whose images are not looked at yet."""
    model, sizes = self._engine.model, self._engine.sizes
    tok = model.form.tok
    size = 1 + len(tok.encode(ask.prompt)) + len(tok.sep)
    if size > sizes.max_prompt:
      raise ValueError(
        f"the prompt has {size} tokens, and {sizes.max_prompt} fit; shorten it"
      )
    constrain = ask.constrain
    if isinstance(constrain, tuple):
      if not self._bounds.regex:
        raise ValueError(
          "regular expressions are off here: --regex allows them"
        )
      constrain = constraint.regex(tok, constrain[1])
    usual = max(model.form.text_len, 16)
    if isinstance(constrain, list):  # each of them has to fit
      usual = sizes.max_answer
    limit = min(ask.max_tokens or usual, sizes.max_answer)
    how = options_lib.Options(max_len=limit, constrain=constrain)
    how = how.checked(tok, limit)
    automaton = options_lib.automaton(tok, ask.prompt, how.constrain)
    if automaton is not None:
      slots_lib.check(automaton)
    job = job_lib.Job(
      keys,
      lambda: self._squares(adapter, data),
      ask.prompt,
      size,
      slots_lib.How(
        np.int32(limit),
        np.float32(ask.temperature),
        np.float32(ask.top_p),
        np.uint32(ask.seed),
        adapter=np.int32(model.number(adapter)),
        tells_top=np.bool_(ask.num_top > 0),
      ),
      tell,
      adapter,
      automaton,
      ask.num,
      ask.num_top,
      time.monotonic() + self._bounds.request_seconds,
    )
    return job

  def _read(self, url):
    """Returns the bytes of an image.

    Raises:
      ValueError: it is none that may be read.
    """
    if url.startswith("data:"):
      return files.read(url, "")
    if not url.startswith(("http://", "https://")):
      raise ValueError(
        "an image is a URL that begins with data:image/...;base64,"
      )
    if not self._bounds.urls:
      raise ValueError("URLs are not read here: send the image as a data: URL")
    try:
      return remote.read(url, timeout=URL_SECONDS, public=True)
    except ValueError as error:  # which says too much of this network
      raise ValueError(
        f"there is no image of up to {self._bounds.max_bytes:,} bytes at a"
        f" public host: {url[:200]}"
      ) from error

  def _cached(self, job, known):
    """Says whether all that is wanted of a Job's images is known."""
    device = self._engine.device
    pairs = [(job.adapter, key) for key in job.keys]
    seen = job.key in device.prefixes or all(x in device.images for x in pairs)
    return seen and None not in known

  def _look(self, job, adapter, data):
    """Looks at a Job's images; returns the (height, width) of each."""
    job.squares, shown = self._engine.model.rows.look(data, adapter)
    sizes = [x.shape[:2] for x in shown]
    for key, size in zip(job.keys, sizes, strict=True):
      self._shapes[adapter, key] = size
    while len(self._shapes) > NUM_SHAPES:
      self._shapes.popitem(last=False)
    return sizes

  def _squares(self, adapter, data):
    """Returns the images of a Job that were in a cache, and no longer are."""
    with limits.within(self._bounds.of_rows()):
      return self._engine.model.rows.look(data, adapter)[0]


def _public(error):
  """Returns what a client is told of an error in its request."""
  text = str(error)
  return text if len(text) < 300 else f"{text[:300]}..."
