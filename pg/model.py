"""A trained model to ask: loaded once, compiled once a size, asked many times.

    model = pg.load("runs/mine")  # or "hf://google/...", "weights.npz"
    (answer,) = model.predict("cat.jpg", "detect cat")
    print(answer.text, answer.boxes)
    answer.draw().save("out.png")

An image is a path, bytes of a file, a PIL image or an array u8[height, width,
3]; an example has one, a list of several (frames of a video, say), or None.
Programs are compiled for sizes out of a short list (SIZES), into which prompts
and answers are padded: a second question of any length waits for no compiler.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import math
import os
import types
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps

from pg import answer as answer_lib
from pg import config, limits, machine, pp, progress, sharding
from pg.codecs import boxes as box_codec
from pg.codecs import masks as mask_codec
from pg.codecs import tokenizer as tokenizer_lib
from pg.data import prefix_lm
from pg.data.storage import files
from pg.decode import beam, constraint, loop, sampling
from pg.evals import records
from pg.inspect import findings
from pg.inspect import rows as rows_lib
from pg.models import variants
from pg.pp import flavours, parse
from pg.pp import image as image_ops
from pg.pp import masks as mask_ops
from pg.pp import resize as resize_ops
from pg.weights import load as load_lib

# Text tokens of prompts, and of answers, that programs are compiled for.
SIZES = (16, 32, 64, 128, 256, 512, 1024)
BATCH_SIZE = 8  # examples a program takes at most, by default
# Tokens in an answer where the weights do not say with how many they trained.
MAX_LEN = 128
# Of a device's memory, what weights may take: the rest is for keys and values.
WEIGHTS_SHARE = 0.8
# Where the codec of the released models' masks is.
CODEC = "gs://big_vision/paligemma/vae-oid.npz"


class Seen(NamedTuple):
  """One example's images after the image tower; see `Model.see`."""

  tokens: jax.Array  # [M * I, D]
  shown: list  # u8[height, width, 3], before they are made squares


class _Row(NamedTuple):
  """An example that is ready to be asked."""

  images: object  # u8[M, R, R, 3], or image tokens [M * I, D]
  shown: list  # u8[height, width, 3]
  prompt: str
  size: int  # tokens of bos, prompt, separator and the start of the answer
  form: constraint.Automaton | None
  number: int  # of the example, on which its draws depend


class _Options(NamedTuple):
  """How to answer; see `Model.answers`."""

  max_len: int | None = None
  num_beams: int = 1
  length_penalty: float | None = None
  sampler: sampling.Sampler = sampling.Sampler()
  num_samples: int = 1
  start: str = ""
  stop: tuple = ()
  constrain: object = None


class Model:
  """A model with its tokenizer and the way it sees images; see `load`."""

  def __init__(
    self,
    cfg,
    params,
    form,
    pp,
    *,
    codec="nano",
    urls=False,
    int8_keys=False,
    mesh=None,
  ):
    """Takes what `load` found.

    Args:
      cfg: paligemma.Config.
      params: parameters as `loop.unroll` returns them.
      form: prefix_lm.Form.
      pp: str, the pipeline that makes its images.
      codec: str, what mask codes mean: a path or URL, or "nano".
      urls: bool, whether an image may be a URL.
      int8_keys: bool, whether keys and values of prompts are kept in 8 bits.
      mesh: that of the parameters, None for a single device.
    """
    self.cfg, self.params, self.form, self.pp = cfg, params, form, pp
    self.codec, self.urls, self.int8_keys = codec, urls, int8_keys
    self._programs = _programs(mesh, cfg.dtype)
    (steps,) = parse.build(pp).args
    num_first = len(steps) - int(steps[-1].function is resize_ops.resize)
    # What makes an image, and what then makes it a square.
    self._steps = steps[:num_first], steps[num_first:]

  def predict(self, images, prompts, **options):
    """Answers prompts about images.

    Args:
      images: one for each example, see above; or one, or what `see` returns,
        that all prompts are about. Two images of one example are [[a, b]].
      prompts: str for all examples, or a list of one for each.
      **options: of `answers`.

    Returns:
      list of Answer, one for each example.

    Raises:
      ValueError, OSError: options, or an image or a prompt that cannot be used.
    """
    found = []
    for answer in self.answers(self._examples(images, prompts), **options):
      if isinstance(answer, Exception):
        raise answer
      found.append(answer)
    return found

  def answers(self, examples, *, batch_size=BATCH_SIZE, **options):
    """Yields the answer to each example, batch by batch.

    Args:
      examples: iterable of (images, prompt); images may be a function that
        returns them, called when it is their turn.
      batch_size: int, examples that are computed together, at most.
      **options:
        max_len: int, tokens in the longest answer; by default as many as the
          model read in training.
        num_beams: int, of a beam search in place of sampling.
        length_penalty: float or None, see beam.py.
        sampler: sampling.Sampler, greedy by default.
        num_samples: int, how many answers to draw; the likeliest is the answer
          and the rest are its `others`.
        start: str, the beginning of each answer, which is given.
        stop: strs of one token each that end an answer, besides eos.
        constrain: "boxes" or "masks": objects that a prompt "detect cat ; dog"
          or "segment cat" names; a list of the answers there are; a
          constraint.Automaton; None is anything.

    Yields:
      Answer, or the ValueError or OSError because of which there is none.

    Raises:
      ValueError: options that make no sense.
    """
    how = self._checked(_Options(**options))
    pending = None
    with concurrent.futures.ThreadPoolExecutor() as threads:
      for batch in _batched(enumerate(examples), batch_size):
        rows = list(threads.map(lambda x: self._row(*x, how), batch))
        asked = self._ask(rows, how, batch_size)
        # This batch is computed while the last one is looked at.
        if pending:
          yield from self._said(*pending)
        pending = rows, asked
      if pending:
        yield from self._said(*pending)

  def stream(self, images, prompt, *, every=1, **options):
    """Yields the text of one answer while it grows.

    Args:
      images, prompt: of one example.
      every: int, tokens from one yield to the next.
      **options: as for `answers`, without beams and samples.

    Yields:
      str, all there is of the answer.

    Raises:
      ValueError, OSError: as `predict`.
    """
    how = self._checked(_Options(**options))
    if how.num_beams > 1 or how.num_samples > 1:
      raise ValueError("one answer is streamed: no beams and no samples")
    if every < 1:
      raise ValueError(f"every is {every}; wanted 1 token or more")
    row = self._row(0, (images, prompt), how)
    if isinstance(row, Exception):
      raise row
    program = self._programs
    logits, prompt, ids = self._prefill([row], 1, how.start)
    rules = self._rules([row], how, 1)
    size = _fit(how.max_len)
    state = program.begin(self.cfg, logits, prompt, rules, size, ids=ids)
    step = 1
    while True:
      tokens, logp = (np.asarray(x)[0, 0, :step] for x in state.answer)
      self._check_finite(logp)
      tokens = tokens.tolist()
      yield how.start + self.form.tok.decode(self._cut(tokens, how))
      if bool(state.done.all()) or step >= how.max_len:
        return
      step = min(step + every, how.max_len)
      state = program.advance(
        self.cfg, self.params, prompt, state, rules, step, ids
      )

  def rank(self, images, prompts, options, *, batch_size=BATCH_SIZE):
    """Returns how likely given answers are.

    Args:
      images, prompts: as for `predict`.
      options: list of str, the answers, the same for all examples.
      batch_size: int, examples that are computed together, at most.

    Returns:
      for each example a list of (option, log probability), likeliest first.

    Raises:
      ValueError, OSError: as `predict`; or no options.
    """
    if not options or isinstance(options, str):
      raise ValueError(f"options are {options!r}; wanted a list of answers")
    tok, ranked = self.form.tok, []
    spelled = [[*tok.encode(x), tok.eos] for x in options]
    answers = np.zeros((len(options), _fit(max(map(len, spelled)))), np.int32)
    for row, ids in zip(answers, spelled, strict=True):
      row[: len(ids)] = ids
    how, program = self._checked(_Options()), self._programs
    examples = enumerate(self._examples(images, prompts))
    for batch in _batched(examples, batch_size):
      rows = [self._row(*x, how) for x in batch]
      if bad := [row for row in rows if isinstance(row, Exception)]:
        raise bad[0]
      logits, prompt, _ = self._prefill(rows, batch_size)
      logp = []
      for part in np.array_split(answers, -(-len(answers) // 16)):
        part = jnp.broadcast_to(part[None], (len(logits), *part.shape))
        found = program.score(self.cfg, self.params, logits, prompt, part)
        self._check_finite(found[: len(rows)])
        logp.append(np.asarray(found).sum(axis=-1))
      for likely in np.concatenate(logp, axis=1)[: len(rows)].tolist():
        pairs = zip(options, likely, strict=True)
        ranked.append(sorted(pairs, key=lambda x: -x[1]))
    return ranked

  def see(self, images):
    """Runs the image tower on one example's images, for several questions.

    Args:
      images: an image, a list of several, or None.

    Returns:
      Seen, to be passed where images are.

    Raises:
      ValueError, OSError: an image that cannot be used.
    """
    squares, shown = self._look(images)
    if not shown:
      return Seen(jnp.zeros((0, self.cfg.llm.width), self.cfg.dtype), [])
    tokens = self._programs.embed(self.cfg, self.params, squares[None])
    return Seen(tokens[0], shown)

  def _examples(self, images, prompts):
    """Pairs images and prompts; a single one belongs to all others."""
    single = not isinstance(images, list | tuple) or isinstance(images, Seen)
    if isinstance(prompts, str):
      prompts = [prompts] * (1 if single else len(images))
    if single:
      seen = images if isinstance(images, Seen) else self.see(images)
      images = [seen] * len(prompts)
    if len(images) != len(prompts):
      raise ValueError(
        f"got {len(images)} examples of images and {len(prompts)} prompts;"
        " wanted as many, or one of either. Several images of one example are"
        " a list in the list"
      )
    return zip(images, prompts, strict=True)

  def _checked(self, how):
    """Returns options with their defaults, or raises ValueError."""
    for name in ("num_beams", "num_samples"):
      if getattr(how, name) < 1:
        raise ValueError(f"{name} is {getattr(how, name)}; wanted 1 or more")
    if how.num_samples > 1 and not how.sampler.temperature:
      raise ValueError("num_samples without a temperature: all would be equal")
    if how.num_beams > 1 and how.sampler.temperature:
      raise ValueError("num_beams or a temperature: beams are not sampled")
    limit = how.max_len
    limit = min(self.form.text_len, MAX_LEN) if limit is None else limit
    if not 1 <= limit <= SIZES[-1]:
      raise ValueError(f"max_len is {limit}; wanted 1 to {SIZES[-1]}")
    texts = [how.stop] if isinstance(how.stop, str) else list(how.stop)
    stop = [self.form.tok.encode(text) for text in texts]
    for text, ids in zip(texts, stop, strict=True):
      if len(ids) != 1:
        raise ValueError(f"stop: {text!r} is {len(ids)} tokens, wanted one")
    stop = np.array([self.form.tok.eos, *(ids[0] for ids in stop)], np.int32)
    form = how.constrain
    if isinstance(form, list | tuple | set) and not hasattr(form, "classes"):
      form = constraint.one_of(self.form.tok, sorted(form))
    return how._replace(max_len=limit, stop=stop, constrain=form)

  def _row(self, number, example, how):
    """Returns the _Row of (images, prompt), or what is wrong with it."""
    images, prompt = example
    try:
      size = self._size(prompt, how.start)
      form = self._form(prompt, how.constrain)
      if form is not None and how.start:
        form = constraint.after(form, self.form.tok.encode(how.start))
      look = images if isinstance(images, Seen) else self._look(images)
      return _Row(*look, prompt, size, form, number)
    except (ValueError, OSError) as error:
      return error

  def _size(self, prompt, start):
    """Counts a prompt's tokens; warns of what `pg.check` finds in it."""
    for kind, detail in rows_lib.text_problems(prompt):
      found = findings.KINDS[kind]
      message = f"prompt {prompt!r}: {found.title}: {detail}. {found.advice}"
      warnings.warn(message, stacklevel=2)
    tok = self.form.tok
    size = 1 + len(tok.encode(prompt)) + len(tok.sep) + len(tok.encode(start))
    _fit(size, "the prompt has {} tokens")
    return size

  def _look(self, images):
    """Returns images as u8[M, R, R, 3], and before they are made squares."""
    images = images() if callable(images) else images
    if images is None:
      images = []
    elif not isinstance(images, list | tuple):
      images = [images]
    (first, last), shown, squares = self._steps, [], []
    for image in images:
      try:
        data = read(image, urls=self.urls)
        example = pp.run(first, {"image": data}, pp.Turn())
        shown.append(image_ops.checked(example["image"]))
        squares.append(pp.run(last, example, pp.Turn())["image"])
      except ValueError as error:
        name = str(image) if isinstance(image, str | os.PathLike) else ""
        name = "" if name in str(error) else f"{name}: "
        raise ValueError(f"{name}{error}") from error
    R = self.form.res
    return np.array(squares, np.uint8).reshape(-1, R, R, 3), shown

  def _form(self, prompt, constrain):
    """Returns the automaton of a prompt's answers, or None."""
    if not isinstance(constrain, str):
      return constrain
    config.lookup(dict.fromkeys(("boxes", "masks")), constrain, "constrain")
    task, _, names = prompt.partition(" ")
    wanted = {"boxes": "detect", "masks": "segment"}[constrain]
    if task != wanted or not names.strip():
      raise ValueError(
        f'{constrain} answer a prompt such as "{wanted} cat ; dog", not'
        f" {prompt!r}"
      )
    names = tuple(name.strip() for name in names.split(";"))
    return _objects(self.form.tok, names, constrain == "masks")

  def _prefill(self, rows, batch_size, start=""):
    """Reads images and prompts; returns logits, Prompt and the rows' numbers.

    Padding rows repeat the first.
    """
    program = self._programs
    B = min(batch_size, 1 << (len(rows) - 1).bit_length())
    M = max(len(row.shown) for row in rows)
    L = _fit(max(row.size for row in rows))
    I, D, R = self.cfg.img.num_tokens, self.cfg.llm.width, self.form.res
    rows = [*rows, *rows[:1] * (B - len(rows))]
    if any(row.images.ndim == 2 for row in rows):
      tokens = [self._tokens(row) for row in rows]
      pad = lambda x: jnp.pad(x, ((0, M * I - len(x)), (0, 0)))
      image = jnp.stack([pad(x) for x in tokens])
    elif M:
      image = np.zeros((B, M, R, R, 3), np.uint8)
      for place, row in zip(image, rows, strict=True):
        place[: len(row.shown)] = row.images
      image = program.embed(self.cfg, self.params, image)
    else:
      image = jnp.zeros((B, 0, D), self.cfg.dtype)
    tok = self.form.tok
    texts = [prefix_lm.make_prompt(x.prompt, tok, L, start) for x in rows]
    batch = {k: np.stack([text[k] for text in texts]) for k in texts[0]}
    shown = np.array([[len(row.shown)] for row in rows])
    batch |= dict(image=image, mask_image=np.arange(M)[None] < shown)
    logits, prompt = program.prefill(
      self.cfg, self.params, batch, int8=self.int8_keys
    )
    return logits, prompt, np.array([row.number for row in rows], np.int32)

  def _tokens(self, row):
    """Returns a row's image tokens [M * I, D]."""
    if row.images.ndim == 2:
      return row.images
    return self._programs.embed(self.cfg, self.params, row.images[None])[0]

  def _rules(self, rows, how, size):
    """Returns the loop.Rules of a batch of `size` rows."""
    if rows[0].form is None:
      return loop.Rules(how.stop, how.sampler)
    forms = [row.form for row in rows]
    forms += forms[:1] * (size - len(forms))
    return loop.Rules(how.stop, how.sampler, (), constraint.join(forms))

  def _ask(self, rows, how, batch_size):
    """Starts to compute the answers of the rows that are fine.

    Returns:
      tokens i32[B, n, A] and their log probabilities, on the device; None where
      no row is fine.
    """
    rows = [row for row in rows if isinstance(row, _Row)]
    if not rows:
      return None, None, how
    program, A = self._programs, _fit(how.max_len)
    logits, prompt, ids = self._prefill(rows, batch_size, how.start)
    rules = self._rules(rows, how, len(ids))
    if how.num_beams > 1:
      tokens, _ = program.beams(
        self.cfg,
        self.params,
        logits,
        prompt,
        rules,
        how.max_len,
        how.num_beams,
        how.length_penalty,
      )
      tokens = tokens[:, None]
      logp = program.score(self.cfg, self.params, logits, prompt, tokens)
      return tokens, logp, how
    num, real = how.num_samples, np.arange(len(ids)) < len(rows)
    state = program.begin(
      self.cfg, logits, prompt, rules, A, num=num, ids=ids, real=real
    )
    state = program.advance(
      self.cfg, self.params, prompt, state, rules, how.max_len, ids
    )
    return *state.answer, how

  def _said(self, rows, asked):
    """Yields the Answer, or the error, of each row of a batch."""
    tokens, logp, how = jax.device_get(asked[:2]) + asked[2:]
    place = 0
    for row in rows:
      if isinstance(row, Exception):
        yield row
        continue
      try:
        found = [
          self._answer(row, *one, how)
          for one in zip(tokens[place].tolist(), logp[place].tolist())
        ]
        best, *others = sorted(found, key=lambda x: -x.score)
        yield dataclasses.replace(best, others=tuple(others))
      except ValueError as error:
        yield error
      place += 1

  def _cut(self, tokens, how):
    """Returns tokens up to the first that ends the answer, this included."""
    ends = [i for i, token in enumerate(tokens) if token in how.stop]
    return tokens[: ends[0] + 1] if ends else tokens[: how.max_len]

  def _answer(self, row, tokens, logp, how):
    """Returns an Answer with what its text describes."""
    tokens = self._cut(tokens, how)
    logp = logp[: len(tokens)]
    self._check_finite(logp)
    tok = self.form.tok
    start = tok.encode(how.start)
    tokens, logp = start + tokens, [0.0] * len(start) + logp
    text = tok.decode(tokens)
    image = row.shown[0] if row.shown else None
    boxes, masks = [], []
    if image is not None:
      objects, _ = box_codec.read(text)
      scores = records.object_scores(tok, tokens, logp) or [None] * len(objects)
      for thing, score in zip(objects, scores, strict=True):
        (box,) = box_codec.to_pixels(np.array([thing.box]), *image.shape[:2])
        box = tuple(round(float(x), 1) for x in box)
        boxes.append(answer_lib.Box(thing.label, box, score))
        masks.append(self._mask(thing, image.shape[:2]))
    score = math.fsum(logp)
    return answer_lib.Answer(text, tokens, logp, boxes, masks, score, image)

  def _check_finite(self, logp):
    if not np.isfinite(logp).all():
      raise ValueError(
        "the answer's probabilities are inf or nan: activations overflow in"
        f" {self.cfg.dtype}; try dtype float32, or other weights"
      )

  def _mask(self, thing, size):
    """Returns the mask bool[height, width] of an object, None without one."""
    if not thing.codes or self._network is None:
      return None
    decoded = mask_codec.decode(self._network, thing.codes)
    return mask_codec.paste(decoded, thing.box, *size)

  @functools.cached_property
  def _network(self):
    """The codec's network; None, with a warning, where it cannot be had."""
    try:
      return mask_ops.network(self.codec)
    except (ValueError, OSError, ImportError) as error:
      warnings.warn(
        f"masks are not decoded: {error}; name the codec's file", stacklevel=2
      )


def load(
  name,
  *,
  tokenizer=None,
  dtype=None,
  res=None,
  pp=None,
  codec=None,
  urls=False,
  int8_keys=False,
  mesh=None,
):
  """Loads a model and how it sees images.

  Args:
    name: str, a run's folder, a checkpoint in it or released weights (see
      pg/weights/load.py).
    tokenizer: str or None, the path of another one than the model's own.
    dtype: str or None, in which weights are kept and activations computed:
      "float32" or "bfloat16"; None is what is fastest: bfloat16, but on a CPU
      only for weights that are stored so, or are too large in float32.
    res: int or None, pixels per side; None is the model's own.
    pp: str or None, how it is to see images (see `flavours.named`); None is as
      it was trained.
    codec: str or None, what mask codes mean: a path or URL of a mask codec, or
      "nano"; None is the one it was trained with.
    urls: bool, whether images may be URLs.
    int8_keys: bool, whether keys and values of prompts are kept in 8 bits, half
      of their memory: worth it where images are many or large.
    mesh: dict or None, over which devices of this machine the weights are
      spread: {"tensor": 4}, or {"tensor": -1} for all, where each computes a
      part of every layer; {"fsdp": -1} where each answers a part of a batch and
      weights travel. None is one device, and of an accelerator that is too
      small for the weights {"tensor": -1}.

  Returns:
    Model.

  Raises:
    ValueError, OSError: no weights there, or without a tokenizer; no such pp,
      no such mesh.
  """
  weights = load_lib.open(name)
  with contextlib.closing(weights.reader):
    path = tokenizer or load_lib.need_tokenizer(weights)
    tok = tokenizer_lib.Tokenizer(path)
    if res:
      weights = load_lib.at_resolution(weights, res)
    stored, size = load_lib.stored(weights)
    dtype = _dtype(dtype, stored, size)
    cfg = dataclasses.replace(weights.cfg, dtype=dtype)
    pp = flavours.named(pp, cfg.img.res) if pp else load_lib.images(weights)
    mesh = _mesh(mesh, size * jnp.dtype(dtype).itemsize)
    params = load_lib.unrolled(weights, cfg, mesh)
  rows = dict(num_images=1, text_len=MAX_LEN) | weights.rows
  form = prefix_lm.Form(tok, cfg.img.res, **rows)
  codec = codec or weights.codec or _codec_of(tok)
  how = dict(codec=codec, urls=urls, int8_keys=int8_keys, mesh=mesh)
  return Model(cfg, params, form, pp, **how)


def _dtype(name, stored, size):
  """Returns the dtype of a model's weights and activations.

  Args:
    name: str or None, what the user wants.
    stored: dtype, of the weights in their file.
    size: int, how many numbers they are.
  """
  if name is not None or jax.default_backend() != "cpu":
    return variants.compute_dtype(name)
  if stored == jnp.bfloat16 and machine.multiplies_bfloat16():
    return "bfloat16"
  wanted, free = 4 * size / WEIGHTS_SHARE, machine.available_memory()
  if wanted <= free:
    return "float32"
  progress.say(
    f"in float32 the model wants {wanted / 2**30:.1f} GiB of memory and"
    f" {free / 2**30:.1f} GiB are free: it is kept in bfloat16"
  )
  return "bfloat16"


def _mesh(sizes, num_bytes):
  """Returns the mesh that weights are spread over; None for a single device."""
  devices = jax.local_devices()
  if sizes is None:
    memory = (devices[0].memory_stats() or {}).get("bytes_limit", math.inf)
    if num_bytes < WEIGHTS_SHARE * memory:
      return None
    sizes = {"tensor": -1}
  elif -1 not in sizes.values():
    devices = devices[: math.prod(sizes.values())]
  return sharding.make_mesh(sizes, devices=devices)


def _codec_of(tok):
  """Returns the codec of weights that do not name one, by their vocabulary."""
  with open(tok.path, "rb") as mine, open(tokenizer_lib.NANO, "rb") as nano:
    return "nano" if mine.read() == nano.read() else CODEC


def read(image, *, urls=False):
  """Returns an image as bytes of a file or u8[height, width, 3].

  Raises:
    ValueError, OSError: a path or URL where no image is, or a URL where none
      is allowed.
  """
  if isinstance(image, Image.Image):
    return image_ops.pixels(ImageOps.exif_transpose(image))
  if not isinstance(image, str | os.PathLike):
    return image
  name = os.fspath(image)
  if "://" in name and not urls:
    raise ValueError(f"{name}: URLs are not read; load with urls=True")
  return files.read(name, "") if "://" in name else limits.read(name)


@functools.lru_cache(maxsize=64)
def _objects(tok, labels, masks):
  return constraint.objects(tok, labels=labels, masks=masks)


def _fit(size, what="the answer has {} tokens"):
  """Returns the least of SIZES that is enough.

  Raises:
    ValueError: none is.
  """
  if size > SIZES[-1]:
    raise ValueError(f"{what.format(size)}, and {SIZES[-1]} fit; shorten it")
  return next(x for x in SIZES if x >= size)


def _batched(items, size):
  if size < 1:
    raise ValueError(f"batch_size is {size}; wanted 1 or more")
  items = iter(items)
  while batch := list(itertools.islice(items, size)):
    yield batch


@functools.cache
def _programs(mesh=None, dtype="float32"):
  """Returns the compiled functions; each keeps a program for each size."""
  options = None
  if jax.default_backend() == "cpu":
    # XLA's defaults widen all bfloat16 weights at once, before and inside the
    # loop: 12.4 GB for a 3B model (2.1 GB so, as the compiler says).
    options = {
      "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
      "xla_disable_hlo_passes": "while-loop-invariant-code-motion",
    }
    if dtype == "bfloat16":
      # Sums may change their order, so that they are of vectors; see
      # `layers._row`. inf and nan stay what they are.
      options["xla_cpu_enable_fast_math"] = True

  def jit(function, **how):
    program = jax.jit(function, compiler_options=options, **how)
    return program if mesh is None else _within(mesh, program)

  return types.SimpleNamespace(
    embed=jit(loop.embed_images, static_argnums=0),
    prefill=jit(loop.prefill, static_argnums=0, static_argnames="int8"),
    begin=jit(loop.begin, static_argnums=(0, 4), static_argnames="num"),
    advance=jit(loop.advance, static_argnums=0, donate_argnums=3),
    beams=jit(beam.of_prompt, static_argnums=(0, 5, 6)),
    score=jit(loop.score, static_argnums=0),
  )


def _within(mesh, program):
  """Returns a function that runs a program on a mesh."""

  def run(*args, **options):
    with jax.set_mesh(mesh):
      return program(*args, **options)

  return run
