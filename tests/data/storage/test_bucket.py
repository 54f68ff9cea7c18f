"""Names of buckets, and what is said of one that refuses."""

import sys
import types

import pytest

from pg.data.storage import bucket
from tests.support import google_storage, versions

store = google_storage.store


@pytest.mark.parametrize(
  "name, said",
  [
    ("gs:/bucket/a", "is no place in a bucket; did you mean gs://bucket/a"),
    ("gs:///bucket/a", "did you mean gs://bucket/a"),
    ("gcs://bucket/a", "did you mean gs://bucket/a"),
    ("GS://bucket/a", "did you mean gs://bucket/a"),
    ("gs://bucket", "names no folder in a bucket; .* gs://bucket/runs/mine"),
    ("gs://", "names no folder in a bucket"),
    ("foo://bucket/a", "nothing can be written to foo://; .* gs://, s3://, az"),
    ("https://host/a", "nothing can be written to https://"),
  ],
)
def test_a_name_that_means_no_folder_in_a_bucket_is_refused(name, said, store):
  with pytest.raises(ValueError, match=said):
    bucket.check(name)


def test_a_name_is_written_in_one_way(store):
  assert bucket.check("gs://bucket/runs//a/") == "gs://bucket/runs/a"


@pytest.mark.parametrize("library", ["gcsfs", "s3fs"])
def test_the_library_that_is_missing_is_named(monkeypatch, library):
  start = dict(gcsfs="gs", s3fs="s3")[library]
  known = sys.modules["fsspec.registry"]._registry
  monkeypatch.setitem(sys.modules, library, None)
  monkeypatch.delitem(known, start, raising=False)
  with pytest.raises(
    ValueError, match=f"{start}:// needs {library}: pip.*cloud"
  ):
    bucket.check(f"{start}://bucket/a")


@pytest.mark.parametrize(
  "status, said",
  [
    (401, "the login is missing, or its token has expired: log in again"),
    (403, "this login may not do that: it has to list, read, write"),
    (404, "there is no such bucket or object: check the name"),
  ],
)
def test_a_refusal_is_said_with_what_helps_and_not_tried_again(
  store, status, said
):
  store.failures.append(["POST a/x", status, 99])
  with pytest.raises(OSError, match=f"^cannot write gs://bucket/a/x: .*{said}"):
    bucket.write("gs://bucket/a/x", b"1")
  assert len([x for x in store.asked if x[0] == "POST"]) == 1


def test_a_bucket_that_is_not_there_is_named(store):
  with pytest.raises(
    OSError, match="cannot list gs://other/a: .* no such buck"
  ):
    bucket.children("gs://other/a")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_store_that_is_out_of_order_is_asked_again(
  store, status, monkeypatch
):
  from gcsfs import retry

  pauses = []

  async def sleep(seconds):
    pauses.append(seconds)

  monkeypatch.setattr(retry, "asyncio", types.SimpleNamespace(sleep=sleep))
  store.failures.append(["POST a/x", status, 3])
  bucket.write("gs://bucket/a/x", b"1")
  assert store.objects["a/x"][0] == b"1"
  assert len(pauses) == 3 and pauses == sorted(pauses)


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\0"])
def test_bytes_are_written_as_they_are(store, end):
  bucket.write("gs://bucket/a/x", b"1" + end)
  assert store.objects["a/x"][0] == b"1" + end


def test_other_bytes_than_were_sent_are_an_error(store, monkeypatch):
  put = store.put
  other = lambda name, data, *rest: put(name, data + b"?", *rest)
  monkeypatch.setattr(store, "put", other)
  with pytest.raises(OSError, match="other bytes arrived than were sent"):
    bucket.write("gs://bucket/a/x", b"1")


def test_an_object_is_written_if_it_is_as_it_was(store):
  versions.check("gs://bucket/a/x")


def test_a_folder_is_listed_moved_and_removed(store):
  for name in ("a/b/c", "a/d", "ab"):
    store.put(name, name.encode())
  assert bucket.children("gs://bucket/a") == {"b": True, "d": False}
  assert bucket.children("gs://bucket/none") == {}
  found = bucket.files("gs://bucket/a")
  assert {k: v[0] for k, v in found.items()} == {"b/c": 5, "d": 3}
  bucket.move("gs://bucket/a", "gs://bucket/e")
  assert sorted(store.objects) == ["ab", "e/b/c", "e/d"]
  bucket.remove("gs://bucket/e")
  bucket.remove("gs://bucket/e")
  assert sorted(store.objects) == ["ab"]
