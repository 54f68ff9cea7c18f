"""Answers are read from tokens."""

from unittest import mock

import pytest

from pg.ask import answer as answer_lib


def test_a_codec_that_cannot_be_had_is_asked_for_once(monkeypatch):
  codec = "gs://nowhere/a.npz"
  own = answer_lib.Reader(None, codec)
  asked = mock.Mock(side_effect=OSError("no network"))
  monkeypatch.setattr(answer_lib.masks, "network", asked)
  thing = mock.Mock(codes=list(range(16)))
  with pytest.warns(UserWarning, match="masks are not decoded: no network"):
    assert own.mask(thing, (20, 30)) is None
  assert own.mask(thing, (20, 30)) is None
  asked.assert_called_once()
