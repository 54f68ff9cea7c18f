"""Adapters: which part of a name is one."""

import os

import pytest

from pg.weights import load


@pytest.mark.parametrize(
  "name, base, adapter",
  [
    ("w.npz+lora", "w.npz", "lora"),
    ("w.npz+typo", "w.npz", "typo"),
    ("typo.npz+lora", "typo.npz", "lora"),
    ("w.npz+lora+more", "w.npz", "lora+more"),
    ("w.npz:ema+typo", "w.npz:ema", "typo"),
    ("gs://b/w.npz+lora", "gs://b/w.npz", "lora"),
    ("gs://a+b/w.npz+lora", "gs://a+b/w.npz", "lora"),
    ("gs://a+b/w.npz+gs://a+b/lora", "gs://a+b/w.npz", "gs://a+b/lora"),
    ("gs://b/w.npz+runs/x:best", "gs://b/w.npz", "runs/x:best"),
    ("hf://o/r+typo", "hf://o/r", "typo"),
    ("img=s,llm=g+typo", "img=s,llm=g", "typo"),
    ("gs://a+b/w.npz", "gs://a+b/w.npz", None),
    ("https://host/a+b.npz", "https://host/a+b.npz", None),
    ("https://host/a%2Bb.npz", "https://host/a%2Bb.npz", None),
    ("runs/lr+wd", "runs/lr+wd", None),
    ("here+not", "here+not", None),
  ],
)
def test_a_plus_splits_weights_from_an_adapter(
  tmp_path, monkeypatch, name, base, adapter
):
  monkeypatch.chdir(tmp_path)
  for folder in ("lora", "lora+more", "here", "here+not"):
    os.mkdir(folder)
  (tmp_path / "w.npz").touch()
  assert load.split_adapter(name) == (base, adapter)
