"""What goes back to a client: JSON, errors, and the headers of all answers."""

from starlette import responses

from pg.server import job as job_lib
from pg.server import wire

# The page loads nothing from elsewhere, is in no frame, and runs its own code.
HEADERS = {
  "content-security-policy": (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:;"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
  ),
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-store",
}


def json(value, status=200):
  return responses.Response(
    wire.dumps(value), status, media_type="application/json"
  )


def refusal(error):
  answer = json(error.to_json(), error.status)
  if error.status == 401:
    answer.headers["www-authenticate"] = "Bearer"
  if error.status in (429, 503):
    answer.headers["retry-after"] = "1"
  if error.status in (408, 413, 415):  # what is left of it is not read
    answer.headers["connection"] = "close"
  return answer


def stopping():
  return wire.Refused(503, "this server is stopping", code="stopping")


def refused(error):
  """Returns what a client is told of an error of the engine."""
  if isinstance(error, job_lib.Stopping):
    return stopping()
  if isinstance(error, job_lib.Full):
    return wire.Refused(503, "too many requests are waiting", code="overloaded")
  if isinstance(error, job_lib.Late):
    return wire.Refused(504, "the answer took too long", code="timeout")
  return wire.Refused(500, "the answer could not be computed")
