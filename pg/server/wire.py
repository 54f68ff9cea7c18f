"""The form of OpenAI's chat completions: answers, parts of them, and errors.

As an extension an answer has "objects" beside its text.
"""

import json
import math


class Refused(Exception):
  """A request that is not answered, and why."""

  def __init__(self, status, message, *, param=None, code=None, kind=None):
    super().__init__(message)
    self.status, self.param, self.code = status, param, code
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    usual = "server_error" if status >= 500 else "invalid_request_error"
    self.kind = kind or kinds.get(status, usual)

  def to_json(self):
    """Returns the body of the answer."""
    error = dict(message=str(self), type=self.kind)
    return {"error": error | dict(param=self.param, code=self.code)}


def dumps(value):
  """Returns JSON as bytes, of any text that a client may have sent."""
  return json.dumps(value, separators=(",", ":")).encode("ascii")


def whole(head, answers, usage, more):
  """Returns the body of an answer that does not stream.

  Args:
    head: id, created and model.
    answers: list of written.Answer.
    usage: dict, see `usage`.
    more: dict, extensions.
  """
  choices = [
    dict(
      index=i,
      message=dict(
        role="assistant", content=x.text, refusal=None, objects=x.objects
      ),
      logprobs=x.logprobs,
      finish_reason=x.reason,
    )
    for i, x in enumerate(answers)
  ]
  own = dict(object="chat.completion", choices=choices, usage=usage)
  return head | own | more


def chunk(head, index, delta, logprobs=None, reason=None):
  """Returns a part of an answer that streams."""
  choice = dict(index=index, delta=delta, logprobs=logprobs)
  choices = [choice | dict(finish_reason=reason)]
  return head | dict(object="chat.completion.chunk", choices=choices)


def usage(num_prompt, num_answer):
  """Returns how many tokens were read, those of images too, and written."""
  total = num_prompt + num_answer
  return dict(
    prompt_tokens=num_prompt, completion_tokens=num_answer, total_tokens=total
  )


def event(value):
  """Returns a value as an event of a stream."""
  return (
    b"data: " + (value if isinstance(value, bytes) else dumps(value)) + b"\n\n"
  )


def logprob(tok, i, logp, top=()):
  """Returns what is told of a token."""

  def one(i, logp):
    piece = tok.pieces([i])[0]
    is_byte = len(piece) == 6 and piece.startswith("<0x")
    text = piece.replace("▁", " ")
    data = [int(piece[3:5], 16)] if is_byte else list(text.encode())
    logp = logp if math.isfinite(logp) else -9999.0
    return dict(token=text, logprob=logp, bytes=data)

  return one(i, logp) | dict(top_logprobs=[one(*x) for x in top])
