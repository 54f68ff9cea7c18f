"""Answers questions: from a request's body to the answer, whole or in parts."""

import asyncio
import collections
import concurrent.futures
import contextlib
import functools
import secrets
import time

from starlette import requests, responses

from pg.server import asked as asked_lib
from pg.server import job as job_lib
from pg.server import questions as questions_lib
from pg.server import reply, wire, written

NUM_THREADS = 4  # that read images and answers


class Chat:
  """The endpoint of chat completions."""

  def __init__(self, engine, names, bounds, measures):
    """Takes what app.Server has."""
    self.engine, self.bounds, self.measures = engine, bounds, measures
    self.is_stopping = False
    self.questions = questions_lib.Questions(engine, names, bounds)
    self.clients = collections.Counter()
    self._threads = concurrent.futures.ThreadPoolExecutor(NUM_THREADS)

  def close(self):
    """Ends its threads."""
    self._threads.shutdown(wait=False, cancel_futures=True)

  async def answer(self, request):
    """Answers a question."""
    if self.is_stopping:
      raise reply.stopping()
    client = request.client.host if request.client else ""
    most = self.bounds.per_client
    if most and self.clients[client] >= most:
      raise wire.Refused(
        429, f"{most} requests at a time are answered; wait for one of yours"
      )
    sizes = self.engine.sizes
    if self.clients.total() >= sizes.max_queue + sizes.num_slots:
      raise reply.refused(job_lib.Full())
    with contextlib.ExitStack() as stack:
      self.clients[client] += 1
      stack.callback(self._left, client)
      ask = asked_lib.parse(await self._body(request))
      asked = _Asked(asyncio.get_running_loop())
      stack.callback(asked.cancel)
      make = functools.partial(self.questions.job, ask, asked.tell)
      begun = time.monotonic()
      asked.job, size = await self._in_thread(make)
      asked.job.times["read"] = time.monotonic() - begun
      self._submit(asked.job)
      tok = self.engine.model.form.tok
      answers = [
        written.Answer(tok, ask.stop, logprobs=ask.logprobs)
        for _ in range(ask.num)
      ]
      gone = asyncio.create_task(_until_gone(request))
      try:
        if not ask.stream:
          return await self._whole(gone, ask, asked, answers, size)
        # Errors before the first piece have a status.
        first = await asked.next(gone)
      finally:
        gone.cancel()
      pieces = self._pieces(ask, asked, answers, size, first)
      kept = stack.pop_all()
    return _Stream(pieces, kept, self.bounds.request_seconds)

  def _left(self, client):
    self.clients[client] -= 1
    if self.clients[client] <= 0:
      del self.clients[client]

  async def _body(self, request):
    """Returns a request's body; no more of it, and no longer, than may be."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind.lower() != "application/json":
      raise wire.Refused(
        415, "wanted the header Content-Type: application/json"
      )
    most = self.bounds.max_bytes
    large = wire.Refused(413, f"a request may have {most:,} bytes")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > most:
      raise large
    data = bytearray()
    try:
      async with asyncio.timeout(self.bounds.body_seconds):
        async for part in request.stream():
          data += part
          if len(data) > most:
            raise large
    except TimeoutError as error:
      raise wire.Refused(408, "the request came too slowly") from error
    return bytes(data)

  async def _in_thread(self, function):
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(self._threads, function)

  def _submit(self, job):
    try:
      self.engine.submit(job)
    except (job_lib.Full, job_lib.Stopping) as error:
      raise reply.refused(error) from error

  async def _whole(self, gone, ask, asked, answers, size):
    """Returns all answers at once."""
    while any(x.reason is None for x in answers):
      piece = await asked.next(gone)
      if answers[piece.number].reason is None:
        answers[piece.number].feed(piece)
    more = await self._read(asked.job, answers, size)
    usage = self._usage(asked.job, answers)
    return reply.json(wire.whole(_head(ask.model), answers, usage, more))

  async def _pieces(self, ask, asked, answers, size, piece):
    """Yields the events of a stream, which begins with a piece."""
    head = _head(ask.model)
    for i in range(ask.num):
      yield wire.chunk(head, i, dict(role="assistant", content=""))
    while True:
      answer = answers[piece.number]
      if answer.reason is None:
        text, logprobs = answer.feed(piece)
        logprobs = dict(content=logprobs, refusal=None) if logprobs else None
        if text or logprobs:
          yield wire.chunk(head, piece.number, dict(content=text), logprobs)
      if all(x.reason for x in answers):
        break
      try:
        piece = await asked.next()
      except wire.Refused as error:
        yield error.toreply.json()
        return
    more = await self._read(asked.job, answers, size)
    for i, answer in enumerate(answers):
      delta = dict(objects=answer.objects)
      yield wire.chunk(head, i, delta, reason=answer.reason) | more
    if ask.usage:
      usage = self._usage(asked.job, answers)
      own = dict(object="chat.completion.chunk", choices=[], usage=usage)
      yield head | own

  async def _read(self, job, answers, size):
    """Reads boxes and masks; returns the extensions of the answer."""
    reader = self.engine.model.reader
    for answer in answers:
      if size and answer.points:  # masks take long
        await self._in_thread(functools.partial(answer.read, reader, size))
    self.measures.note(job.times)
    image = size and dict(height=size[0], width=size[1])
    names = ("read", "queue", "image", "prefill", "first", "whole")
    times = {k: round(job.times[k], 6) for k in names if k in job.times}
    return dict(image=image, seconds=times)

  def _usage(self, job, answers):
    num = job.size + len(job.keys) * self.engine.model.cfg.img.num_tokens
    return wire.usage(num, sum(len(x.tokens) for x in answers))


class _Asked:
  """The pieces of a Job, from the engine's thread to the loop's."""

  def __init__(self, loop):
    self._loop, self._queue, self.job = loop, asyncio.Queue(), None

  def tell(self, piece):
    with contextlib.suppress(RuntimeError):  # the loop has ended
      self._loop.call_soon_threadsafe(self._queue.put_nowait, piece)

  async def next(self, gone=None):
    """Returns the next Piece.

    Args:
      gone: task that ends when the client has gone away, or None.

    Raises:
      Refused, ClientDisconnect: there is none.
    """
    coming = asyncio.ensure_future(self._queue.get())
    try:
      waited = [coming, gone] if gone else [coming]
      await asyncio.wait(waited, return_when="FIRST_COMPLETED")
      if not coming.done():
        raise requests.ClientDisconnect
    finally:
      coming.cancel()
    piece = coming.result()
    if isinstance(piece, Exception):
      raise reply.refused(piece) from piece
    return piece

  def cancel(self):
    if self.job:
      self.job.cancel()


class _Stream(responses.StreamingResponse):
  """Events, whose request is over when they are told, or nobody listens."""

  def __init__(self, events, kept, seconds):
    super().__init__(_encoded(events), media_type="text/event-stream")
    self._kept, self._seconds = kept, seconds

  async def __call__(self, scope, receive, send):
    with self._kept, contextlib.suppress(TimeoutError):
      async with asyncio.timeout(self._seconds):
        await super().__call__(scope, receive, send)


async def _encoded(events):
  async for value in events:
    yield wire.event(value)
  yield wire.event(b"[DONE]")


async def _until_gone(request):
  while (await request.receive())["type"] != "http.disconnect":
    pass


def _head(model):
  name = f"chatcmpl-{secrets.token_hex(12)}"
  return dict(id=name, created=int(time.time()), model=model)
