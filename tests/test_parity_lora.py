"""Adapters equal those of `peft`, which reads ours and whose we read."""

import copy
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg import tree
from pg.learn import loss as loss_lib
from pg.models import gemma, lora, matrices, paligemma
from pg.weights import adapters
from pg.weights import peft as files
from tests import test_parity as base

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.parity

TARGETS = (
  r".*(vision_tower|language_model|multi_modal_projector).*\."
  r"((q|k|v|o|out|gate|up|down)_proj|fc1|fc2|linear)"
)
KINDS = {
  "lora": dict(lora_alpha=6),
  "dora": dict(lora_alpha=6, use_dora=True),
  "stabilized": dict(lora_alpha=6, use_rslora=True),
  "patterns": dict(
    rank_pattern={"q_proj": 2}, alpha_pattern={"layers.1.self_attn.k_proj": 1}
  ),
  "some_layers": dict(
    target_modules=["q_proj", "fc1"], layers_to_transform=[1]
  ),
}


def theirs(case, kind):
  """Returns their model with a random adapter."""
  how = peft.LoraConfig(**dict(r=4, target_modules=TARGETS) | KINDS[kind])
  model = peft.get_peft_model(copy.deepcopy(base.reference(case)), how).eval()
  rng = np.random.default_rng(1)
  with torch.no_grad():
    for name, x in model.named_parameters():
      if "lora_" in name and x.requires_grad:
        x.mul_(1.3)  # no length is what it was at first
        if "lora_B" in name:
          noise = rng.normal(0, 0.2, tuple(x.shape)).astype(np.float32)
          x.copy_(torch.from_numpy(noise))
  return model


@base.jit
def run(cfg, params, rows, weights):
  """Returns loss, logits and the gradients by the adapters."""

  def fn(own):
    every = lora.attach(cfg.lora, {**params, lora.ROOT: own})
    inputs, labels, _ = loss_lib.targets(rows)
    hidden = paligemma.PaliGemma(cfg).apply({"params": every}, **inputs)
    table = params["llm"]["embedder"]["input_embedding"]
    cap = cfg.llm.final_softcap
    loss = loss_lib.weighted_nll(hidden, table, labels, weights, cap)
    return loss, gemma.vocabulary_logits(hidden, table, cap)

  own = params[lora.ROOT]
  (loss, logits), grads = jax.value_and_grad(fn, has_aux=True)(own)
  return loss, logits, grads


def ours(case, parts, scale, kind):
  """Returns our config and parameters with an adapter."""
  cfg, params = base.ours(case)
  rank = max(x["a"].shape[-1] for x in parts.values())
  how = lora.Config(tuple(parts), rank, scale * rank, dora=kind == "dora")
  flat = {
    f"{name}/{k}": x
    for name, x in parts.items()
    for k, x in parts[name].items()
  }
  own = jax.tree.map(jnp.asarray, tree.unflatten(flat))
  return dataclasses.replace(cfg, lora=how), {**params, lora.ROOT: own}


def inputs(case):
  rows = base.batch(case, base.EXAMPLES)
  mask = loss_lib.targets(rows)[2]
  return rows, mask / np.float32(mask.sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ("pg1", "pg2"))
def test_their_adapters_have_the_loss_logits_and_gradients_of_peft(
  case, kind, tmp_path
):
  model = theirs(case, kind)
  model.save_pretrained(tmp_path)
  cfg, params = base.ours(case)
  scale, parts = files.read(str(tmp_path), cfg)
  adapter = adapters.Adapter("theirs", scale, parts)
  adapters.check(adapter, tree.flatten(params), "ours")
  rows, weights = inputs(case)
  loss, logits, grads = run(*ours(case, parts, scale, kind), rows, weights)
  output = model(**base.their_batch(case, base.EXAMPLES))
  output.loss.backward()
  np.testing.assert_allclose(loss, output.loss.item(), rtol=1e-5)
  for i, text in enumerate(base.EXAMPLES):
    num = 2 + sum(len(base.IDS.encode(x)) for x in text)
    start = base.num_soft(case)
    want = output.logits[i, start : start + num].detach().numpy()
    np.testing.assert_allclose(logits[i, :num], want, atol=2e-4)
  # The gradients, as a folder has them; scales are in b here.
  named = {
    k.replace(".default", ""): v.grad.numpy()
    for k, v in model.named_parameters()
    if v.grad is not None and "lora_" in k
  }
  raw = json.loads((tmp_path / files.CONFIG).read_text())
  checked = 0
  found = tree.flatten(jax.device_get(grads))
  for key, want in named.items():
    match = files._KEY.fullmatch(key)
    hub = files.hf_names.hub_name(f"{match[1]}.weight")
    name, layer, i = files._places(cfg)[hub]
    at = tuple(x for x in (layer, i) if x is not None)
    part = files._OURS[match[2]]
    have = found[f"{name}/{part}"][at]
    if part == "a":
      have = have[..., : len(want)].reshape(-1, len(want)).T
    elif part == "b":
      have = have[: want.shape[1]].reshape(want.shape[1], -1).T
      rank = dict(a=np.zeros((want.shape[1], 1)))
      have = have * files._scale(raw, hub, rank)
    else:
      have = have.reshape(-1)
    top = np.abs(want).max()
    np.testing.assert_allclose(have, want, atol=2e-3 * top + 1e-7, err_msg=key)
    checked += 1
  assert checked == len(named) > 5


@pytest.mark.parametrize("kind", ("lora", "dora"))
@pytest.mark.parametrize("case", ("pg1", "pg2"))
def test_peft_reads_our_adapters(case, kind, tmp_path):
  cfg, params = base.ours(case)
  flat, rng = tree.flatten(params), np.random.default_rng(2)
  names = tuple(k for k in flat if matrices.letters(k))
  parts = {}
  for name in names:
    shapes = lora.shapes(name, flat[name].shape, 3)
    kinds = "abm" if kind == "dora" else "ab"
    parts[name] = {
      k: rng.normal(0, 0.2, shapes[k]).astype(np.float32) for k in kinds
    }
  adapter = adapters.Adapter("ours", 1.5, parts, base="google/x")
  path = tmp_path / "adapter"
  files.write(str(path), adapter, cfg)
  model = copy.deepcopy(base.reference(case))
  model = peft.PeftModel.from_pretrained(model, str(path)).eval()
  rows, weights = inputs(case)
  loss, _, _ = run(*ours(case, parts, 1.5, kind), rows, weights)
  with torch.no_grad():
    output = model(**base.their_batch(case, base.EXAMPLES))
  np.testing.assert_allclose(loss, output.loss.item(), rtol=2e-5)
  scale, again = files.read(str(path), cfg)
  for name, part in again.items():
    for k, x in part.items():
      x = x * (1 / 1.5) if k == "b" else x
      np.testing.assert_allclose(x * scale, parts[name][k], rtol=1e-6)
