"""What a plan may be made for, and what is said where it cannot be."""

from types import SimpleNamespace

import jax
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax.experimental import topologies

from pg import chips
from pg.plan import target


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
  """Keeps what `find` tells JAX and libtpu from other tests."""
  monkeypatch.setattr(jax.config, "update", lambda *a: None)
  monkeypatch.setattr(target.os, "environ", dict(target.os.environ))
  check = cudnn.check_compute_capability
  monkeypatch.setattr(cudnn, "check_compute_capability", check)


@pytest.fixture
def compilers(monkeypatch):
  """Has a compiler for everything, and a device."""
  found = SimpleNamespace(devices=[SimpleNamespace(platform="any")])
  monkeypatch.setattr(topologies, "get_topology_desc", lambda **kwargs: found)
  monkeypatch.setattr(target, "_libtpu", lambda: "libtpu.so")


def test_without_a_name_it_is_this_machine():
  for name in ("here", "this machine"):
    found = target.find(name)
    assert (found.platform, len(found.devices)) == ("cpu", 8)
    assert found.name == "here" and found.chip is None


@pytest.mark.parametrize(
  "name, error",
  [
    ("h20:8", 'unknown chip "h20"; did you mean "h200"'),
    ("v5", 'unknown chip "v5"; did you mean "v5'),
    ("v5e:4x4x4", "wanted a topology such as v5e:16x16"),
    ("v4:16x16", "wanted a topology such as v4:4x4x4"),
    ("h200:0", "wanted a number of GPUs such as h200:8"),
    ("l4:2x2", "wanted a number of GPUs such as l4:8"),
    ("2xl4:8", "only TPUs come in slices; wanted l4:8"),
    ("0xv5e:4x4", 'unknown chip "0xv5e"; did you mean "v5e"'),
  ],
)
def test_a_name_that_is_none_is_answered_with_one_that_is(name, error):
  with pytest.raises(ValueError, match=error):
    target.find(name)


def test_what_is_missing_is_said_with_the_command(monkeypatch):
  monkeypatch.setattr(target, "_libtpu", lambda: None)
  with pytest.raises(ValueError, match=r"fit -r requirements-fit.txt"):
    target.find("v5e:4x4")
  with pytest.raises(ValueError, match=r'pip install "jax\[cuda12\]"'):
    target.find("h200:8")  # this environment has none


def test_a_topology_that_is_none_is_said(monkeypatch):
  def none(**kwargs):
    raise RuntimeError("wrong bounds")

  monkeypatch.setattr(topologies, "get_topology_desc", none)
  monkeypatch.setattr(target, "_libtpu", lambda: "libtpu.so")
  with pytest.raises(ValueError, match="no such topology; one is v6e:16x16"):
    target.find("v6e:3x7")


@pytest.mark.parametrize(
  "name, options",
  [
    ("v5e", {"chips_per_host_bounds": (1, 1, 1), "topology_name": "v5e:1x1"}),
    ("v4:2x2x2", {"chip_config_name": "megacore"}),
    ("2xv6e:4x4", {"num_slices": 2, "topology_name": "v6e:4x4"}),
    ("a100:4", {"platform": "cuda", "topology": "1x4x1"}),
    ("t4", {"topology": "1x1x1"}),
  ],
)
def test_topologies_are_asked_for_as_their_makers_name_them(
  monkeypatch, name, options
):
  asked = {}

  def get(**kwargs):
    asked.update(kwargs)
    raise RuntimeError

  monkeypatch.setattr(topologies, "get_topology_desc", get)
  monkeypatch.setattr(target, "_libtpu", lambda: "libtpu.so")
  with pytest.raises(ValueError):
    target.find(name)
  assert {k: asked[k] for k in options} == options
  kind = name.removeprefix("2x").partition(":")[0]
  if chips.CHIPS[kind].platform == "gpu":
    text = asked["target_config"]
    assert f"device_memory_size: {int(chips.CHIPS[kind].memory)}\n" in text
    assert target._GPUS[kind][-1]


@pytest.mark.parametrize(
  "name, able", [("t4", "7.5"), ("l4:8", "8.9"), ("h100", "9.0")]
)
def test_kernels_are_those_that_the_gpu_can_run(compilers, name, able):
  target.find(name)
  steps = ["7.0", "7.5", "8.0", "8.9", "9.0", "10.0", "12.1"]
  can = [least for least in steps if cudnn.check_compute_capability(least)]
  assert can == steps[: steps.index(able) + 1]


@pytest.mark.parametrize(
  "name, want",
  [
    ("t4", "t4:1"),
    ("v5e", "v5e:1x1"),
    ("v4", "v4:1x1x1"),
    ("a100:4", "a100:4"),
    ("2xv5p", "2xv5p:1x1x1"),
  ],
)
def test_without_a_size_it_is_one_chip(compilers, name, want):
  assert target.find(name).name == want
