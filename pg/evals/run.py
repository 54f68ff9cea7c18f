"""Runs evaluators: one loop that generates and one that scores.

An evaluator is described by a group of the config's `evals`. The keys of KEYS
say how it is run; all others replace keys of the training data's spec, so that
an evaluator states only the difference:

  c.evals.val = dict(metric="exact", split="test", every="25%")
"""

import base64
import contextlib
import functools
import io
import json
import os
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from PIL import Image

from pg import config, evals, pp, sharding
from pg.data import options as options_lib
from pg.data import pipeline, stream
from pg.decode import beam, loop, sampling
from pg.learn import loss as loss_lib
from pg.models import paligemma

# How an evaluator is run, with defaults.
KEYS = dict(
  metric="exact",  # a key of METRICS, or "perplexity"
  every="100%",  # of the run: when it is run while training
  pp=None,  # None: that of the training data
  batch_size=None,  # None: that of training
  max_len=None,  # tokens in an answer; None: text_len
  num_examples=None,  # only the first ones
  num_beams=1,
  temperature=0.0,
  top_k=0,
  top_p=1.0,
  seed=0,
)
# Pictures kept in a predictions file, for the report.
NUM_IMAGES = 24


class Task(NamedTuple):
  """An evaluator, ready to run."""

  name: str
  how: dict  # KEYS
  data: pipeline.Dataset  # called "evals." and the name
  options: options_lib.Options  # how the data is read


def tasks(c):
  """Opens the evaluators of a config.

  Raises:
    ValueError: an unknown metric, key, source or op.
  """
  return tuple(_open(c, name, dict(spec)) for name, spec in c.evals.items())


def _open(c, name, spec):
  how = {k: spec.pop(k, default) for k, default in KEYS.items()}
  how["batch_size"] = how["batch_size"] or c.batch_size
  known = [*evals.METRICS, "perplexity"]
  if how["metric"] not in known:
    raise ValueError(config.unknown(how["metric"], known, "metric"))
  train = dict(c.data) if isinstance(c.data.get("source"), str) else {}
  if "source" in spec and spec["source"] != train.get("source"):
    train = {}
  pp = how["pp"] or train.get("pp") or c.pp
  (data,) = pipeline.datasets({**train, **spec, "pp": pp}, pp)
  options = options_lib.from_config(c)
  return Task(name, how, data._replace(name=f"evals.{name}"), options)


@functools.cache
def _generate(cfg, eos, max_len, num_beams, sampler):
  """Compiles decoding once for all evaluators that are run alike."""

  def greedy(params, batch):
    real = batch["index"] >= 0
    answer = loop.generate(
      cfg, params, batch, max_len=max_len, eos=eos, sampler=sampler, real=real
    )
    return answer.tokens, answer.logp.sum(axis=1)

  def beams(params, batch):
    real = batch["index"] >= 0
    return beam.search(
      cfg,
      params,
      batch,
      max_len=max_len,
      eos=eos,
      num_beams=num_beams,
      real=real,
    )

  return jax.jit(greedy if num_beams == 1 else beams)


@functools.cache
def _score(cfg):
  """Compiles the mean -log p per target token of each row, f32[B]."""

  def score(params, batch):
    inputs, labels, mask = loss_lib.targets(batch)
    hidden = paligemma.PaliGemma(cfg).apply({"params": params}, **inputs)
    return loss_lib.row_nll(
      hidden,
      params["llm"]["embedder"]["input_embedding"],
      labels,
      mask,
      cfg.llm.final_softcap,
    )

  return jax.jit(score)


unroll = jax.jit(loop.unroll, static_argnums=1)


class Result(NamedTuple):
  """What came out of an evaluator."""

  scores: dict  # metric -> float
  blind: dict  # the same for the baseline; empty without one
  records: list  # one dict per example; empty where nothing is generated
  num_examples: int
  num_bad: int = 0  # rows that were left out


def run(task, cfg, params, form, mesh, baseline=None, workdir=""):
  """Evaluates a model on one task, every example once.

  Args:
    task: Task.
    cfg: paligemma.Config.
    params: the model's parameters; for a metric on generated text `unroll`ed.
    form: pipeline.Form of training.
    mesh: the mesh that `params` live on.
    baseline: None or an object whose `predict(prefixes)` sees no image.
    workdir: str, where bad rows are written down.

  Returns:
    Result.

  Raises:
    ValueError: a bad row, more of them than are allowed, or no other ones.
  """
  n = task.how["num_examples"]
  record = stream.record((task.data,), task.options, workdir, n)
  if task.how["metric"] == "perplexity":
    result = _run_score(task, cfg, params, form, mesh, record)
  else:
    result = _run_generate(task, cfg, params, form, mesh, record, baseline)
  num_bad = _gather(np.array([record.num_bad[task.data.name]])).sum()
  return result._replace(num_bad=int(num_bad))


def _batches(task, form, mesh, record):
  """Yields this host's rows, the global batch, and examples of the rows."""
  batch_size, n = task.how["batch_size"], task.how["num_examples"]
  sharding.check_batch(batch_size, mesh)
  batches = stream.eval_batches(task.data, form, batch_size, n, task.options)
  with contextlib.closing(stream.on_devices(batches, mesh)) as batches:
    for rows, bad, examples, batch in batches:
      record.add(rows, bad)
      yield rows, batch, examples


def _local(x):
  """Fetches this host's rows of an array that is split along the batch."""
  if jax.process_count() == 1:
    return np.asarray(x)
  shards = {s.index[0].start or 0: s.data for s in x.addressable_shards}
  return np.concatenate([np.asarray(shards[i]) for i in sorted(shards)])


def _gather(values):
  """Collects rows [n, ...] of all hosts on each of them."""
  if jax.process_count() == 1:
    return values
  gathered = multihost_utils.process_allgather(values)
  return gathered.reshape(-1, *values.shape[1:])


def _run_score(task, cfg, params, form, mesh, record):
  index, nll = [], []
  with jax.set_mesh(mesh):
    for rows, batch, _ in _batches(task, form, mesh, record):
      index.append(rows["index"])
      nll.append(_local(_score(cfg)(params, batch)))
  order, (_, nll) = _in_order(task, index, nll)
  mean = nll[order].mean(dtype=np.float64)
  scores = {"nll": float(mean), "perplexity": float(np.exp(mean))}
  return Result(scores, {}, [], len(order))


def _in_order(task, index, *lists):
  """Collects the batches of all hosts.

  Returns:
    The places of real rows by index, a list; and each list as one array.
  """
  index, *arrays = (_gather(np.concatenate(x)) for x in (index, *lists))
  order = [j for j in np.argsort(index, kind="stable") if index[j] >= 0]
  if not order:
    raise ValueError(
      f"{task.data.name}: none of its rows can be used; they are skipped by its"
      " pp or bad"
    )
  return order, (index, *arrays)


def _run_generate(task, cfg, params, form, mesh, record, baseline):
  how, tok = task.how, form.tok
  form = form._replace(form="decode")
  names = ("temperature", "top_k", "top_p", "seed")
  sampler = sampling.Sampler(**{k: how[k] for k in names})
  max_len = how["max_len"] or form.text_len
  generate = _generate(cfg, tok.eos, max_len, how["num_beams"], sampler)
  index, tokens, logp, kept, pictures = [], [], [], {}, {}
  with jax.set_mesh(mesh):
    for rows, batch, examples in _batches(task, form, mesh, record):
      out = generate(params, batch)
      tokens.append(_local(out[0]))
      logp.append(_local(out[1]))
      index.append(rows["index"])
      real = [i for i in rows["index"] if i >= 0]
      kept.update(zip(map(int, real), examples, strict=True))
      for i, image in zip(real, rows["image"], strict=False):
        if len(pictures) < NUM_IMAGES:
          pictures[int(i)] = _png(image)
  order, (index, tokens, logp) = _in_order(task, index, tokens, logp)
  texts = [tok.decode(tokens[j]) for j in order]
  examples = [
    kept[i] if i in kept else _reread(task.data, i)
    for i in index[order].tolist()
  ]
  metric = evals.METRICS[how["metric"]]
  blind = {}
  if baseline is not None:
    blind = metric(baseline.predict([e["prefix"] for e in examples]), examples)
  single = evals.PER_EXAMPLE.get(how["metric"])
  records = [
    _record(int(index[j]), text, float(logp[j]), done, pictures)
    | ({"score": float(single(text, done))} if single else {})
    for j, text, done in zip(order, texts, examples, strict=True)
  ]
  return Result(metric(texts, examples), blind, records, len(order))


def _reread(data, i):
  """Returns an example that another host has read."""
  return pipeline.example(data, i, pp.Turn(row=i))


def _record(i, text, logp, done, pictures):
  more = {k: done[k] for k in ("answers", "task", "kind") if k in done}
  picture = {"image": pictures[i]} if i in pictures else {}
  prompt, truth = done["prefix"], done["suffix"]
  record = {"index": i, "prompt": prompt, "truth": truth, "prediction": text}
  return {**record, "logp": logp, **more, **picture}


def _png(images):
  """Encodes u8[F, H, W, 3], side by side, as base64 PNG text."""
  out = io.BytesIO()
  Image.fromarray(np.concatenate(images, axis=1)).save(out, "PNG")
  return base64.b64encode(out.getvalue()).decode()


def write_predictions(workdir, name, step, records):
  """Writes records as JSON lines, with the step in the file's name."""
  if not records or jax.process_index() > 0:
    return
  folder = os.path.join(workdir, "predictions")
  os.makedirs(folder, exist_ok=True)
  path = os.path.join(folder, f"{name}-{step:09d}.jsonl")
  with open(f"{path}.tmp", "w", encoding="utf-8") as f:
    for record in records:
      f.write(json.dumps(record, ensure_ascii=False) + "\n")
  os.replace(f"{path}.tmp", path)
