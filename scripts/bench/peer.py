"""Measures a step of training on a CPU, beside transformers.

python -m scripts.bench peer [--rounds 2] [--steps 3]

Both train the same model in float32 with Adam: PaliGemma 1 at its real widths,
with four layers in each tower and a vocabulary of 32,768, 224 px, 32 text
tokens of which half are targets. Each runs in a process of its own, by turns;
the first step, which compiles or allocates, does not count. Processor seconds
are of both cores, and change less with what else runs. It wants 16 GiB.
"""

import functools
import resource
import statistics
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pg import machine, train
from pg.learn import state as state_lib
from pg.models import gemma, paligemma, siglip
from scripts import bench

DEPTH, VOCAB, TEXT, IMAGES = 4, 32_768, 32, 256


def ours(batch_size):
  """Returns a function that takes a step."""
  machine.keep_memory()  # as pg.train does
  cfg = paligemma.Config(
    siglip.Config(depth=DEPTH),
    gemma.Config(depth=DEPTH, vocab_size=VOCAB),
    dtype="float32",
  )
  rng, B, L = np.random.default_rng(0), batch_size, TEXT + 1
  is_answer = np.broadcast_to(np.arange(L) > TEXT // 2, (B, L))
  batch = dict(
    image=rng.integers(0, 256, (B, 1, 224, 224, 3), np.uint8),
    mask_image=np.ones((B, 1), bool),
    tokens=rng.integers(4, 32_000, (B, L)).astype(np.int32),
    mask_input=np.ones((B, L), bool),
    mask_ar=is_answer,
    mask_loss=is_answer,
    index=np.arange(B, dtype=np.int32),
  )
  tx = optax.adam(1e-5)
  params = jax.jit(functools.partial(paligemma.init, cfg))(jax.random.key(0))
  update = functools.partial(
    train.update,
    cfg=cfg,
    tx=tx,
    is_frozen=jax.tree.map(lambda x: False, params),
    label_smoothing=0.0,
    seed=0,
  )
  update = jax.jit(update, donate_argnums=0)
  state = state_lib.of_params(params, tx)

  def step():
    nonlocal state
    state, _ = update(state, jax.tree.map(jnp.asarray, batch))
    jax.block_until_ready(state)

  return step


def theirs(batch_size):
  """Returns a function that takes a step."""
  import torch
  import transformers

  text = transformers.GemmaConfig(
    hidden_size=2048,
    intermediate_size=16384,
    num_hidden_layers=DEPTH,
    num_attention_heads=8,
    num_key_value_heads=1,
    head_dim=256,
    vocab_size=VOCAB,
  )
  vision = transformers.SiglipVisionConfig(
    hidden_size=1152,
    intermediate_size=4304,
    num_hidden_layers=DEPTH,
    num_attention_heads=16,
    image_size=224,
    patch_size=14,
    projection_dim=2048,
    vision_use_head=False,
  )
  config = transformers.PaliGemmaConfig(
    text_config=text,
    vision_config=vision,
    image_token_index=VOCAB - 1,
    projection_dim=2048,
    hidden_size=2048,
  )
  torch.manual_seed(0)
  model = transformers.PaliGemmaForConditionalGeneration(config).train()
  optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
  words = torch.randint(4, 32_000, (batch_size, TEXT))
  image = torch.full((batch_size, IMAGES), VOCAB - 1)
  ids = torch.cat([image, words], dim=1)
  types = torch.zeros_like(ids)
  types[:, IMAGES + TEXT // 2 + 1 :] = 1
  labels = torch.where(types == 1, ids, -100)
  pixels = torch.rand(batch_size, 3, 224, 224) * 2 - 1
  batch = dict(input_ids=ids, token_type_ids=types, labels=labels)
  batch |= dict(pixel_values=pixels, attention_mask=torch.ones_like(ids))

  def step():
    optimizer.zero_grad()
    model(**batch).loss.backward()
    optimizer.step()

  return step


KINDS = {"pg": ours, "transformers": theirs}


def measure(step, num_steps):
  """Returns the medians of a step's seconds and processor seconds."""
  step()
  found = []
  for _ in range(num_steps):
    before = resource.getrusage(resource.RUSAGE_SELF)
    took = bench.seconds(step)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = (after.ru_utime + after.ru_stime) - (
      before.ru_utime + before.ru_stime
    )
    found.append((took, used))
  return [statistics.median(x) for x in zip(*found)]


def alone(kind, args):
  """Returns the same of a new process."""
  words = [sys.executable, "-m", "scripts.bench", "peer", "--only", kind]
  words += ["--steps", str(args.steps), "--batch-size", str(args.batch_size)]
  done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
  return [float(x) for x in done.stdout.split()[-2:]]


def main(args):
  if args.only:
    print(*measure(KINDS[args.only](args.batch_size), args.steps))
    return
  jobs = {kind: functools.partial(alone, kind, args) for kind in KINDS}
  found = bench.in_turns(jobs, args.rounds)
  for i, unit in enumerate(("s a step", "processor s a step")):
    each = {kind: [x[i] for x in values] for kind, values in found.items()}
    bench.show(each, unit, digits=2)
    bench.show_ratio(each, "transformers", "pg")


FLAGS = dict(
  rounds=dict(type=int, default=2),
  steps=dict(type=int, default=3, help="steps in each round"),
  batch_size=dict(type=int, default=1, help="examples"),
  only=dict(choices=sorted(KINDS), help="run this one, in this process"),
)
