"""What holds of an object in any bucket that says which version one is."""

from pg.data.storage import bucket


def check(url):
  """Writes an object if it is as it was, and only then."""
  first = bucket.write_if(url, b"1", None)
  assert first == bucket.version(url)
  assert bucket.write_if(url, b"2", None) is None
  second = bucket.write_if(url, b"2", first)
  assert second != first and bucket.write_if(url, b"3", first) is None
  assert bucket.read(url) == b"2"
