"""A trained model to ask: loaded once, compiled once a size, asked many times.

    model = pg.load("runs/mine")  # or "hf://google/...", "weights.npz"
    (answer,) = model.predict("cat.jpg", "detect cat")
    print(answer.text, answer.boxes)
    answer.draw().save("out.png")

An image is a path, bytes of a file, a PIL image or an array u8[height, width,
3]; an example has one, a list of several (frames of a video, say), or None.
Programs are compiled for sizes out of a short list (see programs.py), into
which prompts and answers are padded: a second question of any length waits for
no compiler.
"""

import concurrent.futures
import dataclasses
import itertools
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pg.ask import answer as answer_lib
from pg.ask import images as images_lib
from pg.ask import options as options_lib
from pg.ask import programs
from pg.data import prefix_lm
from pg.decode import constraint, loop
from pg.inspect import findings
from pg.inspect import rows as rows_lib

BATCH_SIZE = 8  # examples a program takes at most, by default


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
    self.urls, self.int8_keys = urls, int8_keys
    self._programs = programs.compiled(mesh, cfg.dtype)
    self._steps = images_lib.split(pp)
    self._reader = answer_lib.Reader(form.tok, codec)

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
    how = self._how(**options)
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
    how = self._how(**options)
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
    size = programs.fit(how.max_len)
    state = program.begin(self.cfg, logits, prompt, rules, size, ids=ids)
    step = 1
    while True:
      tokens, logp = (np.asarray(x)[0, 0, :step] for x in state.answer)
      self._check_finite(logp)
      tokens = tokens.tolist()
      yield how.start + self.form.tok.decode(how.cut(tokens))
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
    size = programs.fit(max(map(len, spelled)))
    answers = np.zeros((len(options), size), np.int32)
    for row, ids in zip(answers, spelled, strict=True):
      row[: len(ids)] = ids
    how, program = self._how(), self._programs
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

  def _how(self, **options):
    """Returns options with their defaults, or raises ValueError."""
    how = options_lib.Options(**options)
    return how.checked(self.form.tok, self.form.text_len)

  def _look(self, images):
    return images_lib.look(images, self._steps, self.form.res, self.urls)

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

  def _row(self, number, example, how):
    """Returns the _Row of (images, prompt), or what is wrong with it."""
    images, prompt = example
    try:
      size = self._size(prompt, how.start)
      form = options_lib.automaton(self.form.tok, prompt, how.constrain)
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
      what = f"prompt {prompt[:60]!r}: {found.title}"
      message = f"{what}: {detail}. {found.advice}"
      warnings.warn(message, stacklevel=2)
    tok = self.form.tok
    size = 1 + len(tok.encode(prompt)) + len(tok.sep) + len(tok.encode(start))
    programs.fit(size, "the prompt has {} tokens")
    return size

  def _prefill(self, rows, batch_size, start=""):
    """Reads images and prompts; returns logits, Prompt and the rows' numbers.

    Padding rows repeat the first.
    """
    program = self._programs
    B = min(batch_size, 1 << (len(rows) - 1).bit_length())
    M = max(len(row.shown) for row in rows)
    L = programs.fit(max(row.size for row in rows))
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
    program, A = self._programs, programs.fit(how.max_len)
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

  def _answer(self, row, tokens, logp, how):
    """Returns the Answer of one sequence of tokens."""
    tokens = how.cut(tokens)
    logp = logp[: len(tokens)]
    self._check_finite(logp)
    start = self.form.tok.encode(how.start)
    tokens, logp = start + tokens, [0.0] * len(start) + logp
    return self._reader.read(tokens, logp, row.shown[0] if row.shown else None)

  def _check_finite(self, logp):
    if not np.isfinite(logp).all():
      raise ValueError(
        "the answer's probabilities are inf or nan: activations overflow in"
        f" {self.cfg.dtype}; try dtype float32, or other weights"
      )


def _batched(items, size):
  if size < 1:
    raise ValueError(f"batch_size is {size}; wanted 1 or more")
  items = iter(items)
  while batch := list(itertools.islice(items, size)):
    yield batch
