"""Reads a request in the form of OpenAI's chat completions.

A question is the text of the last message, which is the user's, about the
images of the last message that has any: PaliGemma was not trained to read what
was said before. As extensions `response_format` may be of the type "choice"
(with "choices"), "regex" (with "pattern"), "boxes" or "masks".
"""

import json
import secrets
from typing import NamedTuple

from pg.server import wire

# What clients send that changes nothing here.
_IGNORED = {
  "user",
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
}
# What is there by default, and has no other value here.
_FIXED = {
  "frequency_penalty": (0, None),
  "presence_penalty": (0, None),
  "logit_bias": ({}, None),
  "tools": ([], None),
  "tool_choice": ("none", "auto", None),
  "parallel_tool_calls": (True, False, None),
  "modalities": (["text"], None),
}
MAX_NUM, MAX_TOP, MAX_STOPS = 16, 20, 4
MAX_CHOICES, MAX_PATTERN = 1000, 200


class Ask(NamedTuple):
  """A request as it was meant."""

  model: str
  prompt: str
  images: list  # URLs
  max_tokens: int | None
  temperature: float
  top_p: float
  seed: int
  num: int
  stop: list
  stream: bool
  usage: bool  # whether the stream ends with it
  logprobs: bool
  num_top: int
  constrain: object  # of ask.model.Model.answers; ("regex", pattern)


def parse(body):
  """Returns the Ask of a request's body, bytes.

  Raises:
    Refused: it is none.
  """
  try:
    data = json.loads(body, parse_constant=_no_constant)
  except (ValueError, RecursionError) as error:
    raise wire.Refused(400, f"the body is not JSON: {error}"[:200]) from error
  if not isinstance(data, dict):
    raise wire.Refused(400, f"wanted a JSON object, got a {_kind(data)}")
  get = _Fields(data)
  get.refuse_others()
  model = get("model", str)
  prompt, images = _question(get("messages", list))
  tokens = get("max_completion_tokens", int, None, 1, 1 << 20)
  tokens = tokens or get("max_tokens", int, None, 1, 1 << 20)
  stop = data.get("stop") or []
  stop = [stop] if isinstance(stop, str) else stop
  if not isinstance(stop, list) or len(stop) > MAX_STOPS:
    raise _wrong("stop", f"wanted a text or a list of up to {MAX_STOPS}")
  if not all(isinstance(x, str) and 0 < len(x) <= 100 for x in stop):
    raise _wrong("stop", "wanted texts of 1 to 100 characters")
  options = get("stream_options", dict, {})
  logprobs = get("logprobs", bool, False)
  top = get("top_logprobs", int, 0, 0, MAX_TOP)
  if top and not logprobs:
    raise _wrong("top_logprobs", 'wanted "logprobs": true with it')
  seed = get("seed", int, None, -(1 << 63), 1 << 63)
  top_p = get("top_p", float, 1.0, 0.0, 1.0)
  return Ask(
    model=model,
    prompt=prompt,
    images=images,
    max_tokens=tokens,
    temperature=get("temperature", float, 0.0, 0.0, 2.0),
    top_p=max(top_p, 1e-6),
    seed=(secrets.randbits(32) if seed is None else seed) % 2**32,
    num=get("n", int, 1, 1, MAX_NUM),
    stop=stop,
    stream=get("stream", bool, False),
    usage=options.get("include_usage") is True,
    logprobs=logprobs,
    num_top=top,
    constrain=_format(get("response_format", dict, {"type": "text"})),
  )


class _Fields:
  """Takes fields of an object by type and range."""

  def __init__(self, data):
    self._data, self._known = data, set()

  def __call__(self, name, kind, default=..., low=None, high=None):
    value = self._data.get(name)
    if value is None:
      if default is ...:
        raise wire.Refused(
          400, f"{name} is missing", param=name, code="missing_required"
        )
      return default
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = is_number if kind is float else type(value) is kind
    if not fits:
      raise _wrong(name, f"wanted {kind.__name__}, got {_kind(value)}")
    if low is not None and not low <= value <= high:
      raise _wrong(name, f"wanted {low} to {high}, got {value}")
    return value

  def refuse_others(self):
    """Raises Refused for a field that means nothing here."""
    fields = {*Ask._fields, "messages", "max_completion_tokens", "n"}
    fields |= {"stream_options", "top_logprobs", "response_format"}
    fields -= {"prompt", "images", "num", "usage", "num_top", "constrain"}
    for name, value in self._data.items():
      if name in fields | _IGNORED or value in _FIXED.get(name, ()):
        continue
      if name in _FIXED:
        raise _wrong(name, "PaliGemma has no such thing; leave it out")
      raise wire.Refused(
        400,
        f"unknown field {name[:60]!r}",
        param=name[:60],
        code="unknown_parameter",
      )


def _no_constant(name):
  raise ValueError(f"{name} is not JSON")


def _kind(value):
  names = {dict: "object", list: "array", str: "string", type(None): "null"}
  return names.get(type(value), type(value).__name__)


def _wrong(name, text):
  return wire.Refused(400, f"{name}: {text}", param=name, code="invalid_value")


def _question(messages):
  """Returns the prompt and the URLs of the images of messages."""
  if not messages:
    raise _wrong("messages", "wanted at least one")
  read = []
  for i, message in enumerate(messages):
    where = f"messages[{i}]"
    if not isinstance(message, dict):
      raise _wrong(where, f"wanted an object, got {_kind(message)}")
    if message.get("role") not in ("system", "developer", "user", "assistant"):
      raise _wrong(where, 'wanted a role "system", "user" or "assistant"')
    read.append(_content(where, message.get("content")))
  if messages[-1]["role"] != "user":
    raise _wrong("messages", "wanted the user's as the last one")
  text = read[-1][0].strip()
  if not text:
    raise _wrong("messages", 'the last one has no text, such as "caption en"')
  images = next((urls for _, urls in reversed(read) if urls), [])
  return text, images


def _content(where, content):
  """Returns the text and the images' URLs of a message's content."""
  if content is None:
    return "", []
  if isinstance(content, str):
    return content, []
  if not isinstance(content, list):
    raise _wrong(
      where, f"content: wanted a text or parts, got {_kind(content)}"
    )
  texts, urls = [], []
  for part in content:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
      texts.append(part["text"])
    elif kind == "image_url":
      url = part.get("image_url")
      url = url.get("url") if isinstance(url, dict) else url
      if not isinstance(url, str):
        raise _wrong(where, 'wanted {"image_url": {"url": "data:image/..."}}')
      urls.append(url)
    else:
      raise _wrong(where, 'wanted parts of the type "text" or "image_url"')
  return " ".join(texts), urls


def _format(value):
  """Returns what limits the answer: see Ask.constrain."""
  kind = value.get("type")
  if kind == "text":
    return None
  if kind in ("boxes", "masks"):
    return kind
  if kind == "choice":
    texts = value.get("choices")
    fits = isinstance(texts, list) and 0 < len(texts) <= MAX_CHOICES
    if not fits or not all(isinstance(x, str) and x.strip() for x in texts):
      raise _wrong(
        "response_format", f"choices: wanted 1 to {MAX_CHOICES} texts"
      )
    return list(dict.fromkeys(texts))
  if kind == "regex":
    pattern = value.get("pattern")
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN:
      raise _wrong(
        "response_format", f"pattern: wanted up to {MAX_PATTERN} characters"
      )
    return kind, pattern
  raise _wrong(
    "response_format",
    'wanted the type "text", "choice", "regex", "boxes" or "masks": PaliGemma'
    " writes no JSON, and boxes come as JSON in any case",
  )
