"""Runs evaluators: one loop that generates and one that scores.

task.py says how evaluators are described, records.py what is kept of answers.
"""

import contextlib
import functools
import os
from typing import NamedTuple

import jax
import numpy as np

from pg import sharding, stop
from pg.data import evaluation, pipeline, stream
from pg.decode import beam, loop, sampling
from pg.evals import gather, interval, records, submit
from pg.evals import metrics as metrics_lib
from pg.evals.metrics import statistics
from pg.learn import loss as loss_lib
from pg.learn import parts
from pg.models import lora, paligemma


@functools.cache
def _generate(cfg, eos, max_len, num_beams, sampler, forbidden):
  """Compiles decoding once for all evaluators that are run alike."""
  if num_beams == 1:
    search = functools.partial(loop.generate, sampler=sampler)
  else:
    search = functools.partial(beam.search, num_beams=num_beams)
  options = dict(max_len=max_len, eos=eos, forbidden=forbidden)

  def answer(params, batch):
    if lora.ROOT in params:
      params = lora.attach(cfg.lora, params)
    return search(cfg, params, batch, real=batch["index"] >= 0, **options)

  return jax.jit(answer)


@functools.cache
def _score(cfg, mesh, spec):
  """Compiles the mean -log p per target token of each row, f32[B].

  The vocabulary [V, D] lies as `spec` says, and stays there.
  """
  nll = functools.partial(loss_lib.row_nll, cap=cfg.llm.final_softcap)
  nll = parts.on_own_rows(nll, mesh, spec, cfg.dtype)

  def score(params, batch):
    inputs, labels, mask = loss_lib.targets(batch)
    params = lora.attach(cfg.lora, params)
    hidden = paligemma.PaliGemma(cfg).apply({"params": params}, **inputs)
    embedding = params["llm"]["embedder"]["input_embedding"]
    return nll(hidden, embedding, labels, mask)

  return jax.jit(score)


unroll = jax.jit(loop.unroll, static_argnums=(1, 2))
# What making the copy takes, in bytes of it: for the 3B with adapters, compiled
# for an H200, 1.3.
ROOM = 1.5


def has_room(params, cfg):
  """Says whether there is room on each device for `unroll`ed parameters."""
  copy = functools.partial(loop.unroll, dtype=cfg.dtype, adapters=cfg.lora)
  copy = jax.tree.leaves(jax.eval_shape(copy, params))
  given = jax.tree.leaves(params)
  whole = sum(x.size * x.dtype.itemsize for x in copy)
  whole /= sum(x.nbytes for x in given)
  part = sum(x.addressable_shards[0].data.nbytes for x in given)
  fits = ROOM * whole * part <= free(given[0].sharding.addressable_devices)
  return bool(gather.rows(np.array([fits])).all())


def free(devices):
  """Returns the least bytes that any device has free; a CPU does not say."""
  said = (device.memory_stats() for device in devices)
  left = (x["bytes_limit"] - x["bytes_in_use"] for x in said if x)
  return min(left, default=np.inf)


prefill = jax.jit(loop.prefill, static_argnums=0)


class Result(NamedTuple):
  """What came out of an evaluator."""

  scores: dict  # metric -> float; empty for predictions alone
  intervals: dict  # metric -> interval.Interval, where there is one
  blind: dict  # the scores of the baseline; empty without one
  published: dict  # metric -> float, what a paper reports
  records: list  # one dict per example; empty where nothing is generated
  num_examples: int
  num_bad: int = 0  # rows that were left out
  num_cut: int = 0  # left out by a loss: their whole answer was cut


def evaluate(tasks, cfg, params, form, mesh, step, workdir, baseline=None):
  """Runs evaluators and writes what was predicted.

  Args:
    tasks: task.Tasks.
    cfg: paligemma.Config.
    params: the model's parameters, as they are trained.
    form: prefix_lm.Form.
    mesh: the mesh.
    step: int, for the file names.
    workdir: str.
    baseline: blind.Majority or None, scored on the same examples.

  Returns:
    {evaluator: Result}.
  """
  results, weights = {}, None
  # Those first that want a second copy of the decoder.
  for task in sorted(tasks, key=lambda task: not task.generates):
    if not task.generates:
      weights = params
    elif weights is None:
      weights = params
      if has_room(params, cfg):
        weights = unroll(params, cfg.dtype, cfg.lora)
    result = run(task, cfg, weights, form, mesh, baseline, workdir)
    results[task.name] = result
    write_predictions(workdir, task, step, result)
  return {task.name: results[task.name] for task in tasks}


def first_logits(tasks, cfg, params, form, mesh):
  """Returns {evaluator: f32[n, V]} of those that generate answers.

  They are the logits of the first token of the answer to each example of the
  first batch.

  Args:
    tasks, cfg, params, form, mesh: as of `evaluate`.
  """
  found, weights = {}, unroll(params, cfg.dtype, cfg.lora)
  for task in (x for x in tasks if x.generates):
    record = pipeline.bad_record((task.data,), task.options, "", None)
    with (
      jax.set_mesh(mesh),
      contextlib.closing(_batches(task, form, mesh, record)) as batches,
    ):
      rows, batch, _ = next(batches)
      logits = gather.own(prefill(cfg, weights, batch)[0])
    found[task.name] = logits[rows["index"] >= 0]
  return found


def run(task, cfg, params, form, mesh, baseline=None, workdir=""):
  """Evaluates a model on one task, every example once.

  Args:
    task: task.Task.
    params: the model's parameters; for a metric on generated text as well, or
      `unroll`ed, which is faster.
    cfg, form, mesh, baseline, workdir: as of `evaluate`.

  Returns:
    Result.

  Raises:
    ValueError: a bad row, more of them than are allowed, or no other ones.
  """
  n = task.settings["num_examples"]
  record = pipeline.bad_record((task.data,), task.options, workdir, n)
  if task.generates:
    result = _run_generate(task, cfg, params, form, mesh, record, baseline)
  else:
    result = _run_score(task, cfg, params, form, mesh, record)
  num_bad = gather.rows(np.array([record.num_bad[task.data.name]])).sum()
  return result._replace(
    num_bad=int(num_bad), published=task.settings["published"]
  )


def _batches(task, form, mesh, record):
  """Yields this host's rows, the global batch, and examples of the rows."""
  settings = task.settings
  batch_size, n = settings["batch_size"], settings["num_examples"]
  sharding.check_batch(batch_size, mesh)
  batches = task.replay.batches(
    form,
    lambda: evaluation.eval_batches(
      task.data, form, task.make_row, batch_size, n, task.options
    ),
  )
  with contextlib.closing(stream.on_devices(batches, mesh)) as batches:
    for rows, bad, examples, batch in batches:
      stop.check()
      record.add(rows, bad)
      yield rows, batch, examples


def _none_usable(task):
  return ValueError(
    f"{task.data.name}: none of its rows can be used; they are skipped by its"
    " pp or bad"
  )


def _run_score(task, cfg, params, form, mesh, record):
  nll, vocabulary = {}, params["llm"]["embedder"]["input_embedding"]
  spec = jax.tree.map(lambda x: x.sharding.spec, vocabulary)
  score = _score(cfg, mesh, spec)
  with jax.set_mesh(mesh):
    for rows, batch, _ in _batches(task, form, mesh, record):
      values = gather.own(score(params, batch)).tolist()
      scored = rows["mask_loss"][:, 1:].any(axis=1)
      found = zip(rows["index"].tolist(), values, scored.tolist())
      nll |= {i: value if has else None for i, value, has in found if i >= 0}
  nll = gather.dicts(nll)
  if not nll:
    raise _none_usable(task)
  kept = [nll[i] for i in sorted(nll) if nll[i] is not None]
  if not kept:
    raise ValueError(
      f"{task.name}: no row has a target; with text_len = {form.text_len}"
      " nothing of the answers is left: raise it or shorten the prompts"
    )
  perplexity = lambda scores: {"perplexity": np.exp(scores["nll"])}
  found = statistics.means({"nll": kept}, perplexity)
  ranges = interval.bootstrap(found)
  scores = {name: one.value for name, one in ranges.items()}
  num_cut = len(nll) - len(kept)
  return Result(scores, ranges, {}, {}, [], len(kept), num_cut=num_cut)


def _run_generate(task, cfg, params, form, mesh, record, baseline):
  answers = gather.dicts(_answers(task, cfg, params, form, mesh, record))
  if not answers:
    raise _none_usable(task)
  answers = dict(sorted(answers.items()))
  texts = [text for _, _, text, *_ in answers.values()]
  examples = [example for *_, example in answers.values()]
  scores, blind = {}, {}
  if task.metric:
    scores = metrics_lib.score(task.metric, texts, examples)
    if baseline is not None:
      guesses = baseline.predict([e["prefix"] for e in examples])
      plain = [{k: e[k] for k in e if k != "scores"} for e in examples]
      blind = metrics_lib.score(task.metric, guesses, plain)
  found = [records.record(i, *answer) for i, answer in answers.items()]
  for kept, score in zip(found, getattr(scores, "each", None) or ()):
    kept["score"] = score
  if not jax.process_index():
    _add_images(task, form, found)
  ranges = interval.bootstrap(scores)
  return Result(dict(scores), ranges, dict(blind), {}, found, len(found))


def _add_images(task, form, found):
  """Adds what the model saw to the first records and to the worst."""
  worst = sorted(found, key=lambda x: x.get("score", 1.0))
  half = records.NUM_IMAGES // 2
  for kept in found[:half] + worst[:half]:
    if "image" in kept or records.is_image(kept.get("image_ref")):
      continue
    image = evaluation.image(task.data, form, task.make_row, kept["index"])
    if image is not None:
      kept["image"] = records.png(image)


def _answers(task, cfg, params, form, mesh, record):
  """Generates on this host's rows.

  Returns:
    {index: (name of the row, its image's name, text, logp, example)}.
  """
  tok = form.tok
  generate = _compiled(task.settings, cfg, form)
  answers = {}

  def keep(rows, examples, tokens, logp):
    tokens, logp = gather.own(tokens), gather.own(logp)
    examples = iter(examples)
    for j, i in enumerate(rows["index"].tolist()):
      if i < 0:
        continue
      example = next(examples)
      sum_logp = float(logp[j].sum())
      if logp.ndim == 2:
        likely = records.object_scores(tok, tokens[j], logp[j])
        example = {**example, "scores": likely} if likely else example
      name = getattr(task.data.source, "image_ref", lambda i: None)(i)
      if name:
        example = {**example, "image_ref": name}
      where = task.data.source.where(i)
      answers[i] = where, name, tok.decode(tokens[j]), sum_logp, example

  # Batch k + 1 is computed while batch k is looked at.
  with jax.set_mesh(mesh):
    pending = None
    for rows, batch, examples in _batches(task, form, mesh, record):
      out = generate(params, batch)
      if pending:
        keep(*pending)
      pending = rows, examples, *out
    keep(*pending)
  return answers


def _compiled(settings, cfg, form):
  """Returns the jitted function that generates as an evaluator asks for.

  Raises:
    ValueError: a forbidden piece that is not one token.
  """
  names = ("temperature", "top_k", "top_p", "seed")
  sampler = sampling.Sampler(**{k: settings[k] for k in names})
  forbidden = tuple(piece(form.tok, text) for text in settings["forbid"])
  max_len = settings["max_len"] or form.text_len
  return _generate(
    cfg, form.tok.eos, max_len, settings["num_beams"], sampler, forbidden
  )


def piece(tok, text):
  """Returns the token that a text is; raises ValueError if it is not one."""
  ids = [tok.eos] if text == "<eos>" else tok.encode(text)
  if len(ids) != 1:
    raise ValueError(
      f"forbid: {text!r} is {len(ids)} tokens of {tok.path}, wanted one"
    )
  return ids[0]


def write_predictions(workdir, task, step, result):
  """Writes what was answered, and the file of a test server if there is one."""
  if not result.records or jax.process_index() > 0:
    return
  path = os.path.join(workdir, "predictions", f"{task.name}-{step:09d}.jsonl")
  records.write(path, result.records)
  if task.settings["submit"]:
    path = os.path.join(workdir, "submissions", f"{task.name}-{step:09d}.json")
    submit.write(path, [task.settings["submit"]], [result.records])
