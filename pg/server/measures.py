"""What Prometheus may ask: requests, seconds, tokens, slots, caches."""

import prometheus_client as prometheus
from prometheus_client import core

TYPE = prometheus.CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class _Engine:
  """What an engine.Engine says of itself, for a registry."""

  def __init__(self, engine):
    self._engine = engine

  def collect(self):
    engine, device = self._engine, self._engine.device
    for name, text, value in (
      ("waiting", "Requests in the queue.", engine.num_waiting),
      ("slots", "Slots there are.", engine.sizes.num_slots),
      ("slots_busy", "Slots with an answer.", engine.num_active),
      ("image_bytes", "Of the cache of images.", device.images.num_bytes),
      ("prompt_bytes", "Of that of prompts.", device.prefixes.num_bytes),
    ):
      yield core.GaugeMetricFamily(f"pg_{name}", text, value)
    for name, text, value in (
      ("tokens", "Tokens written.", engine.num_tokens),
      ("steps", "Steps of all slots.", engine.num_steps),
      ("image_hits", "Images found in the cache.", device.images.hits),
      ("prompt_hits", "Prompts found in the cache.", device.prefixes.hits),
    ):
      yield core.CounterMetricFamily(f"pg_{name}", text, value)


class Measures:
  """Counters of one server."""

  def __init__(self, engine):
    """Takes the engine.Engine, which is asked whenever somebody looks."""
    self._registry = prometheus.CollectorRegistry()
    own = dict(registry=self._registry)
    self.requests = prometheus.Counter(
      "pg_requests", "Requests that got an answer.", ["status"], **own
    )
    self._seconds = {
      name: prometheus.Histogram(
        f"pg_{name}_seconds", text, buckets=_SECONDS, **own
      )
      for name, text in dict(
        queue="Until a slot was free.",
        first="Until the first token.",
        whole="Until the last token.",
      ).items()
    }
    self._registry.register(_Engine(engine))
    prometheus.ProcessCollector(**own)

  def note(self, times):
    """Notes the seconds of a Job that was answered."""
    for name, histogram in self._seconds.items():
      if name in times:
        histogram.observe(times[name])

  def text(self):
    """Returns all of it in Prometheus's form, bytes."""
    return prometheus.generate_latest(self._registry)
