"""A checkpoint is found, and parameters are read from it."""

import jax
import jax.numpy as jnp
import pytest

from pg.weights import checkpoint
from tests.weights import test_saver
from tests.weights.test_saver import abstract, assert_same, small_state

saved = test_saver.saved


@pytest.mark.parametrize("path", ["", "checkpoints", "checkpoints/20"])
def test_params_are_read_without_knowing_the_optimizer(saved, path):
  params = checkpoint.restore_params(saved / path)
  assert_same(small_state(20)["params"], params)
  assert checkpoint.find(saved / path).name == "20"


def test_params_of_an_older_step_are_read_from_its_folder(saved):
  params = checkpoint.restore_params(saved / "checkpoints" / "10")
  assert_same(small_state(10)["params"], params)


def test_params_take_the_wanted_dtype(saved):
  params = small_state(20)["params"]
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  assert_same(half, checkpoint.restore_params(saved, abstract(half)))


def test_params_of_another_model_are_refused(saved):
  with pytest.raises(ValueError, match=r"- missing params/llm/w \(3,\)"):
    wanted = {"llm": {"w": jax.ShapeDtypeStruct((3,), "float32")}}
    checkpoint.restore_params(saved, wanted)


def test_a_place_without_a_checkpoint_is_named(saved, tmp_path):
  with pytest.raises(ValueError, match="no checkpoint in .*nowhere"):
    checkpoint.restore_params(tmp_path / "nowhere")
