"""Progress bars: in place on a terminal, now and then elsewhere."""

import io
import json

import pytest

from pg import progress
from tests.support import screen


@pytest.fixture
def clock(monkeypatch):
  return screen.Clock(monkeypatch)


def work(clock, stream, seconds, **options):
  bar = progress.Bar(range(30), file=stream, unit=" rows", **options)
  for _ in bar:
    clock.now += seconds


def test_a_pipe_gets_a_line_every_ten_seconds(clock):
  pipe = io.StringIO()
  work(clock, pipe, 1.0, leave=False)
  lines = pipe.getvalue().splitlines()
  assert [line.split("| ")[-1] for line in lines] == [
    "10/30 [00:10<00:20,  1.00 rows/s]",
    "20/30 [00:20<00:10,  1.00 rows/s]",
    "30/30 [00:30<00:00,  1.00 rows/s]",
  ]
  assert "\r" not in pipe.getvalue()


def test_a_terminal_has_one_line_of_its_width(clock, monkeypatch):
  terminal = screen.Terminal()
  work(clock, terminal, 1.0)
  (line,) = terminal.lines()
  assert line.startswith("100%") and "30/30" in line
  assert terminal.getvalue().count("\r") > 20


def test_work_of_no_time_shows_nothing(clock):
  for stream in (io.StringIO(), screen.Terminal()):
    work(clock, stream, 0.001)
    assert stream.getvalue() == ""


def test_a_bar_that_is_not_left_goes_away(clock):
  terminal = screen.Terminal()
  work(clock, terminal, 1.0, leave=False)
  assert terminal.lines() == [""]


WORKS = {
  "\x1b[31mred\x1b[0m": r"\u001b[31mred\u001b[0m",
  "50%\rdone": r"50%\u000ddone",
  "\u202egpj.exe": r"\u202egpj.exe",
  "\x9b2J": r"\u009b2J",
  "\ud800": r"\ud800",
  "a\tb\nc é 日本 \U0001f44d": "a\tb\nc é 日本 \U0001f44d",
}


@pytest.mark.parametrize("text", WORKS)
def test_nobodys_text_works_the_terminal(text):
  assert progress.plain(text) == WORKS[text]


def test_json_is_the_same_when_it_is_plain():
  value = {text: list(WORKS) for text in WORKS}
  made = progress.plain(json.dumps(value, ensure_ascii=False))
  assert json.loads(made) == value


SECRETS = {
  "cannot read https://me:secret@host/a.png: 404": (
    "cannot read https://***@host/a.png: 404"
  ),
  "http://h:80/a?token=secret&x=secret": "http://h:80/a?***",
  "https://h/a.jsonl?sig=secret:17: no key": "https://h/a.jsonl?***:17: no key",
  "'s3://secret@b/x' (url='https://h/?k=secret'); try": (
    "'s3://***@b/x' (url='https://h/?***'); try"
  ),
  "see https://h/a?secret.": "see https://h/a?***.",
  "gs://b/w.npz#sha256=89 and a?b@c": "gs://b/w.npz#sha256=89 and a?b@c",
}


@pytest.mark.parametrize("text", SECRETS)
def test_nothing_is_said_of_secrets_in_urls(text):
  assert progress.safe(text) == SECRETS[text]


def test_what_is_said_is_safe(capsys):
  pipe = io.StringIO()
  text = "\x1b[2J http://a:b@c/d"
  progress.say(text)
  progress.Bar(range(1), file=pipe).say(text)
  for said in (capsys.readouterr().err, pipe.getvalue()):
    assert said.endswith("\\u001b[2J http://***@c/d\n")


def test_a_process_that_another_speaks_for_says_nothing(monkeypatch, capsys):
  monkeypatch.setattr(progress, "_is_mute", False)
  progress.mute()
  progress.say("loading")
  with progress.Bar(total=1, mininterval=0, delay=0) as bar:
    bar.say("half")
    bar.update()
  assert capsys.readouterr() == ("", "")
