"""Examples made ready to be asked: images as a model sees them, a prompt."""

import itertools
import warnings
from typing import NamedTuple

import jax

from pg import config
from pg.ask import images as images_lib
from pg.ask import options as options_lib
from pg.ask import programs
from pg.decode import constraint
from pg.inspect import findings
from pg.inspect import rows as rows_lib


class Seen(NamedTuple):
  """One example's images after the image tower; see `Model.see`."""

  tokens: jax.Array  # [M * I, D]
  shown: list  # u8[height, width, 3], before they are made squares
  adapter: str | None = None  # that saw them


class Row(NamedTuple):
  """An example that is ready to be asked."""

  images: object  # u8[M, R, R, 3], or image tokens [M * I, D]
  shown: list  # u8[height, width, 3]
  prompt: str
  size: int  # tokens of bos, prompt, separator and the start of the answer
  form: constraint.Automaton | None
  number: int  # of the example, on which its draws depend
  adapter: str | None  # its name; None is the model itself


class Rows:
  """Makes Rows of examples."""

  def __init__(self, form, ways, urls, adapters):
    """Takes what a model has.

    Args:
      form: prefix_lm.Form.
      ways: {adapter: pipeline that makes images}; None is that of the model,
        and of adapters that have none.
      urls: bool, whether an image may be a URL.
      adapters: names of adapters.
    """
    self._form, self._urls, self._adapters = form, urls, adapters
    self._steps = {name: images_lib.split(way) for name, way in ways.items()}

  def known(self, name):
    """Returns the name of an adapter, or raises ValueError."""
    if name is not None:
      config.lookup(dict.fromkeys(self._adapters), name, "adapter")
    return name

  def look(self, images, adapter=None):
    """Looks at the images of one example; see `images.look`."""
    steps = self._steps.get(adapter, self._steps[None])
    return images_lib.look(images, steps, self._form.res, self._urls)

  def row(self, number, example, how, adapter):
    """Makes an example ready.

    Args:
      number: int.
      example: (images, prompt), or with the name of an adapter as a third.
      how: options.Options.
      adapter: str or None, where it does not name one.

    Returns:
      Row, or the ValueError or OSError of what is wrong with it.
    """
    images, prompt, *own = example
    tok = self._form.tok
    try:
      adapter = self.known(*own) if own else adapter
      size = self._size(prompt, how.start)
      form = options_lib.automaton(tok, prompt, how.constrain)
      if form is not None and how.start:
        form = constraint.after(form, tok.encode(how.start))
      look = images
      if not isinstance(images, Seen):
        look = self.look(images, adapter)
      elif images.adapter != adapter:
        raise ValueError(
          f"the images were seen with adapter {images.adapter}, and are asked"
          f" about with {adapter}: let the same model see them"
        )
      return Row(*look[:2], prompt, size, form, number, adapter)
    except (ValueError, OSError) as error:
      return error

  def _size(self, prompt, start):
    """Counts a prompt's tokens; warns of what `pg.check` finds in it."""
    for kind, detail in rows_lib.text_problems(prompt):
      found = findings.KINDS[kind]
      what = f"prompt {prompt[:60]!r}: {found.title}"
      message = f"{what}: {detail}. {found.advice}"
      warnings.warn(message, stacklevel=2)
    tok = self._form.tok
    size = 1 + len(tok.encode(prompt)) + len(tok.sep) + len(tok.encode(start))
    programs.fit(size, "the prompt has {} tokens")
    return size


def paired(images, prompts, see):
  """Pairs images and prompts; a single one belongs to all others.

  Args:
    images, prompts: as of `Model.predict`.
    see: function from the images of one example to Seen.

  Returns:
    iterable of (images, prompt).

  Raises:
    ValueError: they are not as many.
  """
  single = not isinstance(images, list | tuple) or isinstance(images, Seen)
  if isinstance(prompts, str):
    prompts = [prompts] * (1 if single else len(images))
  if single:
    seen = images if isinstance(images, Seen) else see(images)
    images = [seen] * len(prompts)
  if len(images) != len(prompts):
    raise ValueError(
      f"got {len(images)} examples of images and {len(prompts)} prompts;"
      " wanted as many, or one of either. Several images of one example are"
      " a list in the list"
    )
  return zip(images, prompts, strict=True)


def batched(items, size):
  """Yields lists of items, `size` at most.

  Raises:
    ValueError: it is less than 1.
  """
  if size < 1:
    raise ValueError(f"batch_size is {size}; wanted 1 or more")
  items = iter(items)
  while batch := list(itertools.islice(items, size)):
    yield batch
