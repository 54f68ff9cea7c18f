"""The routes of the server: the API, the page, what monitors ask.

Everything that a stranger can send is limited here: who asks, how much, for how
long. An error is told in the form of OpenAI's, and never with a stack trace.
"""

import functools
import hmac
import pathlib
import time
import traceback

from starlette import applications, exceptions, requests, responses, routing

from pg import progress
from pg.server import bounds as bounds_lib
from pg.server import chat as chat_lib
from pg.server import measures as measures_lib
from pg.server import reply, wire

PAGE = pathlib.Path(__file__).parent / "page"
FILES = {
  "/": ("index.html", "text/html"),
  "/docs": ("docs.html", "text/html"),
  "/page.css": ("page.css", "text/css"),
  "/page.js": ("page.js", "text/javascript"),
  "/ask.js": ("ask.js", "text/javascript"),
  "/draw.js": ("draw.js", "text/javascript"),
  "/example.png": ("example.png", "image/png"),
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Server:
  """The state of the routes."""

  def __init__(
    self, engine, names, bounds=None, *, token=None, hosts=None, tasks=None
  ):
    """Takes what it serves.

    Args:
      engine: engine.Engine.
      names: {model: adapter or None}.
      bounds: bounds.Bounds.
      token: str or None, what clients have to send.
      hosts: names of this machine that a request may give; None is any.
      tasks: {task: how its prompts begin}, what the page offers.
    """
    self.engine, self.names = engine, names
    self.bounds = bounds or bounds_lib.Bounds()
    self.measures = measures_lib.Measures(engine)
    self._token, self._hosts, self._tasks = token, hosts, tasks or {}
    self._created = int(time.time())
    self._chat = chat_lib.Chat(engine, names, self.bounds, self.measures)

  def app(self):
    """Returns the ASGI application."""
    route = lambda path, method, endpoint: routing.Route(
      path, self._checked(endpoint), methods=[method]
    )
    routes = [
      *(route(path, "GET", self.file) for path in FILES),
      route("/v1/chat/completions", "POST", self._chat.answer),
      route("/v1/models", "GET", self.models),
      route("/v1/models/{name:path}", "GET", self.model),
      route("/health", "GET", self.health),
      route("/metrics", "GET", self.metrics),
    ]
    handlers = {exceptions.HTTPException: self._http_error}
    return applications.Starlette(routes=routes, exception_handlers=handlers)

  def is_idle(self):
    """Says whether nobody waits for an answer."""
    return not self._chat.clients and self.engine.stop()

  def stop(self):
    """Takes no new questions."""
    self._chat.is_stopping = True

  def close(self):
    """Ends all threads; who still waits is told."""
    self.engine.close()
    self._chat.close()

  def _checked(self, endpoint):
    """Returns an endpoint that tells of errors as OpenAI does."""

    @functools.wraps(endpoint)
    async def run(request):
      try:
        self._check(request)
        answer = await endpoint(request)
      except wire.Refused as error:
        answer = reply.refusal(error)
      except requests.ClientDisconnect:
        answer = responses.Response(status_code=499)
      except Exception:
        progress.say(traceback.format_exc())
        answer = reply.refusal(wire.Refused(500, "something went wrong here"))
      answer.headers.update(reply.HEADERS)
      self.measures.requests.labels(str(answer.status_code)).inc()
      return answer

    return run

  async def _http_error(self, request, error):
    """Answers what no route is for."""
    text = f"{request.method} {request.url.path[:80]}: {error.detail}"
    answer = reply.refusal(wire.Refused(error.status_code, text))
    answer.headers.update(reply.HEADERS | dict(error.headers or {}))
    self.measures.requests.labels(str(answer.status_code)).inc()
    return answer

  def _check(self, request):
    """Raises Refused for who may not ask."""
    # A page of somebody else's, whose name leads here, is not this host.
    host = request.headers.get("host", "")
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    if self._hosts is not None and name.lower() not in self._hosts:
      raise wire.Refused(421, f"this is not the host {host[:60]!r}")
    is_open = request.url.path in FILES or request.url.path == "/health"
    if self._token is None or is_open:
      return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), self._token.encode())
    if kind.lower() != "bearer" or not same:
      raise wire.Refused(
        401,
        "wanted the header Authorization: Bearer TOKEN, with the token that"
        " this server was started with",
        code="invalid_api_key",
      )

  async def file(self, request):
    """Answers with a file of the page."""
    name, kind = FILES[request.url.path]
    return responses.Response((PAGE / name).read_bytes(), media_type=kind)

  async def health(self, request):
    """Says whether requests are answered: 200, or 503."""
    status = "ok" if self.engine.is_alive else "failed"
    status = "stopping" if self._chat.is_stopping else status
    return reply.json(dict(status=status), 200 if status == "ok" else 503)

  async def metrics(self, request):
    """Answers with metrics for Prometheus."""
    text = self.measures.text()
    return responses.Response(text, headers={"content-type": measures_lib.TYPE})

  async def models(self, request):
    """Lists the model and its adapters."""
    data = [self._model(name) for name in self.names]
    return reply.json(dict(object="list", data=data))

  async def model(self, request):
    """Tells of one of them."""
    name = request.path_params["name"]
    self._chat.questions.adapter(name)
    return reply.json(self._model(name))

  def _model(self, name):
    own = dict(object="model", created=self._created, owned_by="pg")
    sizes, form = self.engine.sizes, self.engine.model.form
    more = dict(
      pixels=form.res,
      max_images=sizes.num_images,
      max_prompt_tokens=sizes.max_prompt,
      max_answer_tokens=sizes.max_answer,
      max_bytes=self.bounds.max_bytes,
      tasks=self._tasks,
    )
    return dict(id=name) | own | more
