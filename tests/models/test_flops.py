"""Operations as they are counted and as the traced model does them."""

import dataclasses
import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import pytest

from pg.models import flops, gemma, layers, paligemma, variants

# TFLOP per example: variant, pixels, text tokens -> forward, in training, and
# with all layers computed twice; counted by hand, from the papers' sizes.
KNOWN = {
  ("pg1_3b", 224, 128): (1.90, 5.70, 7.46),
  ("pg1_3b", 448, 512): (7.95, 23.9, 31.3),
  ("pg1_3b", 896, 512): (27.4, 82.2, 109),
  ("pg2_3b", 224, 128): (1.96, 5.87, 7.68),
  ("pg2_3b", 448, 512): (8.31, 24.9, 32.6),
  ("pg2_3b", 896, 512): (29.3, 87.8, 116),
  ("pg2_10b", 224, 128): (6.95, 20.9, 27.6),
  ("pg2_10b", 896, 512): (97.8, 293, 390),
  ("pg2_28b", 448, 512): (84.0, 252, 335),
  ("pg2_28b", 896, 512): (263, 788, 1050),
}


def config(variant, res=None):
  return variants.from_config(dict(variant=variant, res=res))


@pytest.mark.parametrize("variant, res, num_text", KNOWN)
def test_operations_are_those_counted_by_hand(variant, res, num_text):
  forward = flops.per_example(config(variant, res), num_text)
  step = flops.training(forward)
  twice = step.total + forward.total - forward.head
  found = forward.total, step.total, twice
  for x, want in zip(found, KNOWN[variant, res, num_text], strict=True):
    assert x / 1e12 == pytest.approx(want, rel=5e-3)


def products(jaxpr):
  """Counts the operations of all products of a jaxpr, scans by their length."""
  total = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "dot_general":
      ((contracted, _), _) = eqn.params["dimension_numbers"]
      shape = eqn.invars[0].aval.shape
      inner = math.prod(shape[d] for d in contracted)
      total += 2 * inner * math.prod(eqn.outvars[0].aval.shape)
    times = eqn.params.get("length", 1)
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      total += times * products(inner)
  return total


def traced(cfg, num_text, num_images, frozen=()):
  """Counts the products of the model's loss and its gradients."""

  def loss(trained, kept, batch):
    params = {**trained, **kept}
    hidden = paligemma.PaliGemma(cfg).apply({"params": params}, **batch)
    embedding = params["llm"]["embedder"]["input_embedding"]
    return gemma.vocabulary_logits(hidden, embedding, 0.0).sum()

  shape = functools.partial(jax.ShapeDtypeStruct, (1, num_text))
  R = cfg.img.res
  batch = dict(
    image=jax.ShapeDtypeStruct((1, num_images, R, R, 3), jnp.uint8),
    mask_image=jax.ShapeDtypeStruct((1, num_images), bool),
    tokens=shape(jnp.int32),
    mask_input=shape(bool),
    mask_ar=shape(bool),
  )
  params = dict(paligemma.shapes(cfg))
  kept = {name: params.pop(name) for name in frozen}
  forward = jax.make_jaxpr(loss)(params, kept, batch)
  # Compiled away what nobody uses: traced, it would be counted.
  step = jax.jit(jax.value_and_grad(loss)).trace(params, kept, batch)
  return products(forward.jaxpr), products(step.jaxpr.jaxpr)


@pytest.mark.parametrize("variant", ["nano", "nano2"])
def test_a_pass_has_the_operations_of_the_traced_model(variant):
  cfg = config(variant)
  found = flops.per_example(cfg, 8, num_images=2)
  assert found.total == traced(cfg, 8, 2)[0]


def test_logits_of_fewer_positions_are_fewer_operations():
  cfg = config("pg1_3b")
  all_, one = (flops.per_example(cfg, 8, num_targets=n) for n in (None, 1))
  assert all_._replace(head=one.head) == one and all_.head == 8 * one.head


def by_pixels(img):
  """Operations of the gradient that is counted by custom and never computed."""
  return 2 * img.num_tokens * 3 * img.patch**2 * img.width


@pytest.mark.parametrize("variant", ["nano", "nano2"])
@pytest.mark.parametrize("policy", layers.POLICIES)
def test_a_step_repeats_what_the_policy_does_not_keep(variant, policy):
  cfg = dataclasses.replace(config(variant), remat=policy)
  forward = flops.per_example(cfg, 8)
  want = flops.training(forward).total + flops.recomputed(cfg, 8).total
  assert traced(cfg, 8, 1)[1] == want - by_pixels(cfg.img)


@pytest.mark.parametrize("frozen", [("img",), ("llm",), ("img", "llm")])
def test_a_frozen_tower_has_no_gradients_of_its_parameters(frozen):
  cfg = dataclasses.replace(config("nano"), remat="everything")
  forward = flops.per_example(cfg, 8)
  want = flops.training(forward, frozen).total
  saved = by_pixels(cfg.img) if "img" not in frozen else 0
  assert traced(cfg, 8, 1, frozen)[1] == want - saved
