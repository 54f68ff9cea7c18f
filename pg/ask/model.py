"""A trained model to ask: loaded once, compiled once a size, asked many times.

    model = pg.load("runs/mine")  # or "hf://google/...", "weights.npz"
    (answer,) = model.predict("cat.jpg", "detect cat")
    print(answer.text, answer.boxes)
    answer.draw().save("out.png")

    model = pg.load("weights.npz", adapters={"cats": "runs/cats"})
    model.with_adapter("cats").predict("cat.jpg", "detect cat")

An image is a path, bytes of a file, a PIL image or an array u8[height, width,
3]; an example has one, a list of several (frames of a video, say), or None.
Programs are compiled for sizes out of a short list (see programs.py), into
which prompts and answers are padded: a second question of any length waits for
no compiler.
"""

import concurrent.futures
import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pg.ask import answer as answer_lib
from pg.ask import options as options_lib
from pg.ask import programs
from pg.ask import rows as rows_lib
from pg.data import prefix_lm
from pg.decode import constraint, loop
from pg.models import bank as bank_lib

BATCH_SIZE = 8  # examples a program takes at most, by default


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
    bank=None,
    ways=None,
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
      bank: bank.Bank of adapters, or None.
      ways: {name: pipeline} of adapters that see images in their own way.
    """
    self.cfg, self.params, self.form, self.pp = cfg, params, form, pp
    self.urls, self.int8_keys = urls, int8_keys
    self.adapter, self.bank = None, bank
    self.programs = programs.compiled(mesh, cfg.dtype)
    ways = {None: pp, **(ways or {})}
    self.rows = rows_lib.Rows(form, ways, urls, self.adapters)
    self.reader = answer_lib.Reader(form.tok, codec)

  @property
  def adapters(self):
    """Returns the names of the adapters."""
    return self.bank.names if self.bank else ()

  def with_adapter(self, name):
    """Returns the same model, on the same memory, that answers with an adapter.

    Args:
      name: str; None is the model itself.

    Raises:
      ValueError: no such adapter.
    """
    made = copy.copy(self)
    made.adapter = self.rows.known(name)
    return made

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
    examples = rows_lib.paired(images, prompts, self.see)
    for answer in self.answers(examples, **options):
      if isinstance(answer, Exception):
        raise answer
      found.append(answer)
    return found

  def answers(self, examples, *, batch_size=BATCH_SIZE, **options):
    """Yields the answer to each example, batch by batch.

    Args:
      examples: iterable of (images, prompt), or with the name of an adapter as
        a third; images may be a function that returns them, called when it is
        their turn.
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
      for batch in rows_lib.batched(enumerate(examples), batch_size):
        ready = lambda x: self.rows.row(*x, how, self.adapter)
        rows = list(threads.map(ready, batch))
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
    row = self.rows.row(0, (images, prompt), how, self.adapter)
    if isinstance(row, Exception):
      raise row
    program = self.programs
    logits, prompt, ids, params = self.prefill([row], 1, how.start)
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
      state = program.advance(self.cfg, params, prompt, state, rules, step, ids)

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
    how, program = self._how(), self.programs
    examples = enumerate(rows_lib.paired(images, prompts, self.see))
    for batch in rows_lib.batched(examples, batch_size):
      rows = [self.rows.row(*x, how, self.adapter) for x in batch]
      if bad := [row for row in rows if isinstance(row, Exception)]:
        raise bad[0]
      logits, prompt, _, params = self.prefill(rows, batch_size)
      logp = []
      for part in np.array_split(answers, -(-len(answers) // 16)):
        part = jnp.broadcast_to(part[None], (len(logits), *part.shape))
        found = program.score(self.cfg, params, logits, prompt, part)
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
    squares, shown = self.rows.look(images, self.adapter)
    if not shown:
      tokens = jnp.zeros((0, self.cfg.llm.width), self.cfg.dtype)
      return rows_lib.Seen(tokens, [], self.adapter)
    params = self.adapted([self.adapter], len(squares))
    tokens = self.programs.embed(self.cfg, params, squares[None])
    return rows_lib.Seen(tokens[0], shown, self.adapter)

  def _how(self, **options):
    """Returns options with their defaults, or raises ValueError."""
    how = options_lib.Options(**options)
    return how.checked(self.form.tok, self.form.text_len)

  def adapted(self, names, num_images):
    """Returns the parameters of rows with adapters."""
    numbers = list(map(self.number, names))
    return bank_lib.attach(self.params, self.bank, numbers, num_images)

  def number(self, adapter):
    """Returns an adapter's number in the bank, of its name; None is 0."""
    return 0 if adapter is None else 1 + self.adapters.index(adapter)

  def prefill(self, rows, batch_size, start=""):
    """Reads images and prompts; padding rows repeat the first.

    Returns:
      logits, Prompt, the rows' numbers, and the parameters to go on with.
    """
    program = self.programs
    B = min(batch_size, 1 << (len(rows) - 1).bit_length())
    M = max(len(row.shown) for row in rows)
    L = programs.fit(max(row.size for row in rows))
    I, D, R = self.cfg.img.num_tokens, self.cfg.llm.width, self.form.res
    rows = [*rows, *rows[:1] * (B - len(rows))]
    params = self.adapted([row.adapter for row in rows], M)
    if any(row.images.ndim == 2 for row in rows):
      tokens = [self._tokens(row) for row in rows]
      pad = lambda x: jnp.pad(x, ((0, M * I - len(x)), (0, 0)))
      image = jnp.stack([x if len(x) == M * I else pad(x) for x in tokens])
    elif M:
      image = np.zeros((B, M, R, R, 3), np.uint8)
      for place, row in zip(image, rows, strict=True):
        place[: len(row.shown)] = row.images
      image = program.embed(self.cfg, params, image)
    else:
      image = jnp.zeros((B, 0, D), self.cfg.dtype)
    tok = self.form.tok
    how = dict(start=start, reading=self.form.prompt)
    texts = [prefix_lm.make_prompt(x.prompt, tok, L, **how) for x in rows]
    batch = {k: np.stack([text[k] for text in texts]) for k in texts[0]}
    shown = np.array([[len(row.shown)] for row in rows])
    batch |= dict(image=image, mask_image=np.arange(M)[None] < shown)
    logits, prompt = program.prefill(
      self.cfg, params, batch, int8=self.int8_keys
    )
    ids = np.array([row.number for row in rows], np.int32)
    return logits, prompt, ids, params

  def _tokens(self, row):
    """Returns a row's image tokens [M * I, D]."""
    if row.images.ndim == 2:
      return row.images
    params = self.adapted([row.adapter], len(row.images))
    return self.programs.embed(self.cfg, params, row.images[None])[0]

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
    rows = [row for row in rows if isinstance(row, rows_lib.Row)]
    if not rows:
      return None, None, how
    program, A = self.programs, programs.fit(how.max_len)
    logits, prompt, ids, params = self.prefill(rows, batch_size, how.start)
    rules = self._rules(rows, how, len(ids))
    if how.num_beams > 1:
      tokens, _ = program.beams(
        self.cfg,
        params,
        logits,
        prompt,
        rules,
        how.max_len,
        how.num_beams,
        how.length_penalty,
      )
      tokens = tokens[:, None]
      logp = program.score(self.cfg, params, logits, prompt, tokens)
      return tokens, logp, how
    num, real = how.num_samples, np.arange(len(ids)) < len(rows)
    state = program.begin(
      self.cfg, logits, prompt, rules, A, num=num, ids=ids, real=real
    )
    state = program.advance(
      self.cfg, params, prompt, state, rules, how.max_len, ids
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
    return self.reader.read(tokens, logp, row.shown[0] if row.shown else None)

  def _check_finite(self, logp):
    if not np.isfinite(logp).all():
      raise ValueError(
        "the answer's probabilities are inf or nan: activations overflow in"
        f" {self.cfg.dtype}; try dtype float32, or other weights"
      )
