"""Indices, lines, members of tar files and images are found where they are."""

import base64
import gzip
import io
import os
import pickle
import random
import socket
import tarfile
import tracemalloc

import fsspec
import pytest
from PIL import Image

from pg import limits
from pg.data.formats import jsonl
from pg.data.storage import files, index, lines, lookup, remote, tar, text
from pg.pp import image
from tests.support import web


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """The cache folder, in which there is nothing yet."""
  monkeypatch.setenv("PG_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def neighbours():
  """Rows may name URLs of this machine."""
  with limits.within(limits.Limits(private_hosts=True)):
    yield


@pytest.fixture
def always(monkeypatch):
  """Small files get an index on disk too."""
  monkeypatch.setattr(index, "SMALL", 0)


@pytest.fixture
def reads(monkeypatch):
  """The paths whose lines were looked for."""
  done = []

  def write(path, sink):
    done.append(path)
    return lines_write(path, sink)

  lines_write = lines.write
  monkeypatch.setattr(lines, "write", write)
  return done


def written(path, data=b"a\n\nb\n"):
  path.parent.mkdir(exist_ok=True)
  path.write_bytes(data)
  return str(path)


def read_all(found):
  return [(found.number(i), found[i]) for i in range(len(found))]


def expected(data):
  """What `lines` should find, said in one line."""
  return [
    (n, x) for n, x in enumerate(io.BytesIO(data).readlines(), 1) if x.strip()
  ]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 22])
def test_lines_and_their_numbers_are_those_of_python(
  chunk, tmp_path, monkeypatch
):
  monkeypatch.setattr(lines, "_CHUNK", chunk)
  rng = random.Random(chunk)
  for n in range(150):
    pieces = [b"\n", b"\n", b" ", b"\t\r", b"x", b"yz", b"\0", "é".encode()]
    data = b"".join(rng.choices(pieces, k=rng.randrange(40)))
    path = written(tmp_path / f"{n}.txt", data)
    assert read_all(jsonl.Lines(path, 99)) == expected(data), data


def test_a_line_over_the_limit_is_not_read(tmp_path):
  data = b"1\n" + b"x" * 50_000_000 + b"\n\n" + b"y" * 10 + b"\n2"
  path = written(tmp_path / "x.txt", data)
  del data
  tracemalloc.start()
  found = jsonl.Lines(path, 11)
  assert found[0] == b"1\n" and found[2] == b"y" * 10 + b"\n"
  assert found[3] == b"2" and found.number(3) == 5
  with pytest.raises(ValueError, match="more than max_line_bytes = 11"):
    found[1]
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 20_000_000


def test_an_index_is_made_once_and_kept(tmp_path, cache, always, reads):
  path = written(tmp_path / "x.txt")
  for _ in range(2):
    assert read_all(jsonl.Lines(path, 99)) == [(1, b"a\n"), (3, b"b\n")]
  assert reads == [path]
  (kept,) = (cache / "index").iterdir()
  assert kept.stat().st_size == 8 * (2 + 1 + 1 + 1)


def test_the_index_of_a_file_that_has_changed_is_made_again(
  tmp_path, always, reads
):
  path = written(tmp_path / "x.txt", b"a\nb")
  assert len(jsonl.Lines(path, 99)) == 2
  written(tmp_path / "x.txt", b"a\n ")
  os.utime(path, ns=(1, 1))
  assert len(jsonl.Lines(path, 99)) == 1
  written(tmp_path / "x.txt", b"a\nb\nc")
  os.utime(path, ns=(1, 1))
  assert len(jsonl.Lines(path, 99)) == 3
  assert len(reads) == 3


@pytest.mark.parametrize("broken", [b"", b"12345", bytes(32), bytes(400)])
def test_a_broken_index_is_made_again(broken, tmp_path, cache, always, reads):
  path = written(tmp_path / "x.txt")
  wanted = read_all(jsonl.Lines(path, 99))
  (kept,) = (cache / "index").iterdir()
  kept.write_bytes(broken)
  for _ in range(2):
    assert read_all(jsonl.Lines(path, 99)) == wanted
  assert len(reads) == 2


def test_without_a_cache_that_can_be_written_the_index_is_in_memory(
  tmp_path, monkeypatch, always
):
  path = written(tmp_path / "x.txt")
  for folder in (path, "/proc/nothing", "/dev/null"):
    monkeypatch.setenv("PG_CACHE", folder)
    found = pickle.loads(pickle.dumps(jsonl.Lines(path, 99)))
    assert read_all(found) == [(1, b"a\n"), (3, b"b\n")]


def test_a_full_disk_is_no_error_and_leaves_nothing(
  tmp_path, cache, monkeypatch, always
):
  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(index.os, "replace", full)
  found = jsonl.Lines(written(tmp_path / "x.txt"), 99)
  assert read_all(found) == [(1, b"a\n"), (3, b"b\n")]
  assert list((cache / "index").iterdir()) == []


def test_what_cannot_be_indexed_leaves_nothing(tmp_path, cache, always):
  path = written(tmp_path / "x.tar", b"no tar file")
  with pytest.raises(ValueError, match="x.tar is no whole tar file"):
    tar.find(path, "a")
  assert list((cache / "index").iterdir()) == []


def test_small_files_have_no_index_on_disk(tmp_path, cache):
  assert len(jsonl.Lines(written(tmp_path / "x.txt"), 99)) == 2
  assert not cache.exists()
  big = written(tmp_path / "y.txt", b"x" * index.SMALL)
  assert len(jsonl.Lines(big, 99)) == 1
  assert len(list((cache / "index").iterdir())) == 1


def test_lines_are_cheap_to_pickle(tmp_path, always):
  found = jsonl.Lines(written(tmp_path / "x.txt", b"a\n" * 1000), 99)
  data = pickle.dumps(found)
  assert len(data) < 500
  assert read_all(pickle.loads(data)) == read_all(found)


def test_downloads_go_to_the_cache_folder_too(tmp_path, cache):
  with web.serve(tmp_path) as (url, _):
    written(tmp_path / "x.txt")
    path = remote.fetch(f"{url}/x.txt")
  assert path.startswith(str(cache))


# Tar files.

LONG = "folder/" * 40 + "z.jpg"
MEMBERS = {"a.jpg": b"A" * 700, "b/ü.png": b"B", "./c.jpg": b"", LONG: b"L" * 9}


def tar_bytes(members, form=tarfile.GNU_FORMAT, mode="w"):
  sink = io.BytesIO()
  with tarfile.open(fileobj=sink, mode=mode, format=form) as made:
    for name, data in members:
      info = tarfile.TarInfo(name)
      info.size = len(data)
      made.addfile(info, io.BytesIO(data))
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    made.addfile(link)
  return sink.getvalue()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_a_tar_file_are_read_in_any_order(form, tmp_path):
  path = written(tmp_path / "x.tar", tar_bytes(MEMBERS.items(), form))
  for name, data in reversed(MEMBERS.items()):
    assert tar.read(path, name) == data
  assert tar.read(path, "c.jpg") == tar.read(path, "./b/../c.jpg") == b""
  for name in ("d.jpg", "b", "link", ""):
    with pytest.raises(ValueError, match=f"there is no {name} in .*x.tar"):
      tar.read(path, name)


def test_the_last_member_of_a_name_counts(tmp_path):
  twice = tar_bytes([("a", b"old"), ("b", b"-"), ("./a", b"new")])
  assert tar.read(written(tmp_path / "x.tar", twice), "a") == b"new"


def test_a_tar_file_is_looked_through_once(tmp_path, always, monkeypatch):
  path = written(tmp_path / "x.tar", tar_bytes(MEMBERS.items()))
  tar.read(path, "a.jpg")
  monkeypatch.setattr(tarfile, "open", None)
  tar.read(path, LONG)
  tar._table.cache_clear()  # as in another process
  assert tar.read(path, LONG) == MEMBERS[LONG]


def test_a_tar_file_that_is_broken_off_is_named(tmp_path):
  whole = tar_bytes(MEMBERS.items())
  with tarfile.open(fileobj=io.BytesIO(whole)) as opened:
    while opened.next():
      end = opened.offset
  for size in [*range(0, end, 97), *range(512, end, 512), end]:
    path = written(tmp_path / f"{size}.tar", whole[:size])
    with pytest.raises(ValueError, match=f"{size}.tar is (no whole|broken)"):
      tar.read(path, "a.jpg")


def test_a_compressed_tar_file_is_refused_with_advice(tmp_path):
  for mode in ("w:gz", "w:bz2", "w:xz"):
    path = written(
      tmp_path / f"{mode[2:]}.tar", tar_bytes([("a", b"x")], mode=mode)
    )
    with pytest.raises(ValueError, match="tar is no whole .* decompress it"):
      tar.read(path, "a")


def test_a_damaged_tar_file_gives_members_or_a_value_error(tmp_path):
  whole = tar_bytes(MEMBERS.items(), tarfile.PAX_FORMAT)
  rng = random.Random(0)
  errors = 0
  for n in range(300):
    data = bytearray(whole)
    for _ in range(rng.randrange(1, 4)):
      data[rng.randrange(len(data))] = rng.randrange(256)
    path = written(tmp_path / f"{n}.tar", data)
    try:
      assert len(tar.read(path, "a.jpg")) == 700
    except ValueError as e:
      errors += 1
      assert path in str(e)
  assert 30 < errors < 290


# Images.


def png(shade=0):
  f = io.BytesIO()
  Image.new("RGB", (5, 4), (shade, 0, 0)).save(f, "PNG")
  return f.getvalue()


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "data"
  folder.mkdir()
  written(folder / "a.png", png(1))
  written(folder / "empty.png", b"")
  written(folder / "in/photos.tar", tar_bytes([("x/b.png", png(2))]))
  (folder / "folder.tar").mkdir()
  written(folder / "folder.tar/c.png", png(3))
  written(tmp_path / "secret.png", png(4))
  (folder / "link").symlink_to(tmp_path)
  return folder


def read(name, root):
  """Reads an image, which `check` had better agree with."""
  files.check(name, root)
  return files.read(name, root)


def test_an_image_is_a_file_a_member_or_in_the_row(root):
  text = base64.b64encode(png(5)).decode()
  assert read("a.png", root) == read("./in/../a.png", str(root)) == png(1)
  assert read(str(root / "a.png"), root) == png(1)
  assert read("in/photos.tar/x/b.png", root) == png(2)
  assert read("x/b.png", root / "in/photos.tar") == png(2)
  assert read("folder.tar/c.png", root) == png(3)
  assert read({"base64": text}, root) == png(5)
  assert read({"base64": f"{text[:9]}\n {text[9:]}\n"}, root) == png(5)
  for start in (
    "data:image/png;base64,",
    "data:;base64,",
    "data:a;b=c;base64,",
  ):
    assert read(start + text, root) == png(5)


OUTSIDE = [
  "../secret.png",
  "in/../../secret.png",
  "../../../../../../etc/passwd",
  "/etc/passwd",
  "..",
  ".",
  "../data",
  "../data-2/a.png",
  "in/photos.tar/../../../secret.png",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_image_outside_of_the_root_is_refused(name, root):
  written(root.parent / "data-2/a.png", png())
  for look in (files.read, files.check):
    with pytest.raises(ValueError, match="not in .*/data; set image_root"):
      look(name, root)


def test_links_and_the_root_of_all_files_lead_outside(root):
  assert read("link/secret.png", root) == png(4)
  assert read(str(root.parent / "secret.png"), "/") == png(4)
  here = os.path.relpath(root, "/")
  assert read(f"{here}/../secret.png", "/") == png(4)


REFUSED = [
  "file:///etc/passwd",
  "FILE:///etc/passwd",
  "local:///etc/passwd",
  "simplecache::file:///etc/passwd",
  "http://x::file:///etc/passwd",
  "https://host/a.zip::memory://a",
  "zip://a.jpg",
  "sftp://host/a.jpg",
]


@pytest.mark.parametrize("name", REFUSED)
def test_a_url_cannot_lead_to_files_of_this_machine(name, root):
  for place in (root, "/", "memory://data"):
    with pytest.raises((ValueError, OSError)) as caught:
      files.read(name, place)
    assert "root:" not in str(caught.value)


def test_urls_of_other_kinds_are_refused_with_those_there_are(root):
  for name in REFUSED[:2] + REFUSED[4:]:
    with pytest.raises(ValueError, match="an image may be at http, https, gs"):
      files.read(name, root)


def test_images_come_from_urls_and_roots_that_are_urls(root, neighbours):
  fs = fsspec.filesystem("memory")
  fs.pipe({"/d/a.png": png(6), "/d/p.tar": tar_bytes([("b.png", png(7))])})
  with web.serve(root) as (url, _):
    assert read(f"{url}/a.png", "nowhere") == png(1)
    assert read("a.png", url) == read("./x/../a.png", f"{url}/") == png(1)
    assert read("in/photos.tar/x/b.png", url) == png(2)
    assert read("x/b.png", f"{url}/in/photos.tar") == png(2)
    assert read("memory://d/a.png", root) == read("a.png", "memory://d")
    assert read("p.tar/b.png", "memory://d") == png(7)
    for name in ("../a.png", "x/../../a.png", "/a.png", ".."):
      with pytest.raises(ValueError, match=f"{name} is not in {url}/in"):
        read(name, f"{url}/in")


def test_an_image_is_downloaded_once(root, cache, neighbours):
  with web.serve(root) as (url, asked):
    for _ in range(3):
      assert files.read(f"{url}/a.png", root) == png(1)
    assert asked == ["/a.png"]
    (kept,) = (cache / "images").glob("*/*")
    kept.unlink()
    files.check(f"{url}/a.png", root)
    assert asked == ["/a.png"]
    assert files.read(f"{url}/a.png", root) == png(1)
    assert asked == ["/a.png"] * 2
  assert files.read(f"{url}/a.png", root) == png(1)


def test_images_are_downloaded_without_a_cache_too(
  root, monkeypatch, neighbours
):
  monkeypatch.setenv("PG_CACHE", "/dev/null")
  with web.serve(root) as (url, _):
    assert files.read(f"{url}/a.png", root) == png(1)


def test_a_url_that_fails_is_named(root, cache):
  with web.serve(root) as (url, _):
    with pytest.raises(ValueError, match=f"cannot read {url}/none.png: FileN"):
      files.read("none.png", url)
    with pytest.raises(ValueError, match=f"no answer from {url}/slow.png with"):
      files.read("slow.png", url, timeout=0.1)
    with pytest.raises(ValueError, match="empty.png is empty: it has 0 bytes"):
      files.read("empty.png", url)
  with pytest.raises(ValueError, match=f"cannot read {url}/a.png: "):
    files.read("a.png", url)
  assert list(cache.glob("images/*/*")) == []


NO_IMAGE = [
  ("none.png", "none.png"),
  ("in", "/in"),
  ("a.png/b.png", "a.png/b.png"),
  ("empty.png", "empty.png is empty: it has 0 bytes"),
  ("in/photos.tar/x/c.png", "there is no x/c.png in .*photos.tar"),
  ("a\0b", "null|there is no image"),
  ("x" * 5000, "name too long|there is no image"),
]


@pytest.mark.parametrize(("name", "message"), NO_IMAGE)
def test_an_image_that_is_not_there_is_named(name, message, root):
  for look in (files.read, files.check):
    with pytest.raises((ValueError, OSError), match=f"(?i){message}"):
      look(name, root)


BAD_BASE64 = [
  {"base64": "/9j/4AAQ*"},
  {"base64": "/9j/4"},
  {"base64": "é"},
  {"base64": ""},
  "data:image/png;base64,abc",
  "data:image/png,abc",
  "data:",
]


@pytest.mark.parametrize("name", BAD_BASE64)
def test_base64_that_is_none_is_refused(name, root):
  for look in (files.read, files.check):
    with pytest.raises(ValueError, match="no base64|wanted data:|0 bytes"):
      look(name, root)


def test_messages_do_not_repeat_a_long_image():
  for name in ({"base64": "é" * 10000}, "data:x;base64," + "*" * 10000):
    with pytest.raises(ValueError) as caught:
      files.read(name, ".")
    assert len(str(caught.value)) < 400


# What rows of strangers ask for.


def refused(name, root, message):
  """Reads an image in vain, taking little memory; returns the message."""
  tracemalloc.start()
  try:
    with pytest.raises(ValueError, match=message) as caught:
      files.read(name, root, check=image.sizes)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
  finally:
    tracemalloc.stop()
  return str(caught.value)


def test_what_is_no_file_is_refused_at_once(root):
  os.mkfifo(root / "pipe.png")
  (root / "zeros.png").symlink_to("/dev/zero")
  for name in ("pipe.png", "zeros.png"):
    refused(name, root, f"{name} is no file but a device or a pipe")
    with pytest.raises(ValueError, match="a device or a pipe"):
      text.read(root / name)


def test_an_image_has_not_more_bytes_than_the_limit(root):
  with open(root / "large.png", "wb") as f:
    f.truncate(1 << 40)
  refused(
    "large.png", root, "large.png has more than .*max_bytes = 268,435,456"
  )
  with pytest.raises(ValueError, match=r"large.png has more than .*max_bytes"):
    text.read(root / "large.png")
  size = len(png(2))
  with limits.within(limits.Limits(max_bytes=size)):
    assert read("in/photos.tar/x/b.png", root) == png(2)
  with limits.within(limits.Limits(max_bytes=size - 1)):
    refused(
      "in/photos.tar/x/b.png", root, "x/b.png in .* has more than input.m"
    )


def sparse(size):
  """A tar file whose only member says that it has so many bytes."""
  member = tarfile.TarInfo("a.png")
  member.type = tarfile.GNUTYPE_SPARSE
  data = bytearray(member.tobuf(tarfile.GNU_FORMAT))
  data[483:495] = b"\x80" + size.to_bytes(11, "big")
  data[148:156] = b"        "
  data[148:156] = b"%06o\0 " % sum(data)
  return bytes(data) + bytes(10240)


def test_a_tar_file_cannot_claim_terabytes(root):
  name = tarfile.TarInfo("x")
  name.type, name.size = tarfile.XHDTYPE, 1 << 60
  long = name.tobuf(tarfile.GNU_FORMAT) + bytes(10240)
  for made, data, message in (
    ("sparse", sparse(1 << 40), "a.png in .* is sparse: pack it without"),
    ("name", long, "no whole tar file"),
  ):
    written(root / f"{made}.tar", data)
    refused(f"{made}.tar/a.png", root, message)
    with pytest.raises(ValueError, match=message):
      files.check(f"{made}.tar/a.png", root)


ZEROS = gzip.compress(bytes(20_000_000))


@pytest.mark.parametrize(
  "headers, body",
  [
    ({"Content-Encoding": "gzip"}, ZEROS),  # is of 20 MB
    ({}, bytes(20_000_000)),  # does not say so
    ({"Content-Length": "20000000"}, b""),  # says so
  ],
)
def test_a_download_ends_at_the_limit(headers, body, root, cache):
  with (
    web.answer(body, **headers) as url,
    limits.within(limits.Limits(max_bytes=1 << 20)),
  ):
    refused("a.png", url, "a.png has more than input.max_bytes = 1,048,576 byt")
  assert not list(cache.glob("images/*/*"))


def test_what_is_no_image_is_not_kept(root, cache, neighbours):
  page = b"<!DOCTYPE html><html>Log in to see this photo."
  with web.answer(page) as url:
    message = refused(f"{url}/a.png", root, "answered with no image but what")
    assert f"{url}/a.png" in message and "<!DOCTYPE html>" in message
  assert not list(cache.glob("images/*/*"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_row_cannot_name_a_host_of_this_network(host, root):
  with web.serve(root) as (url, asked):
    there = url.replace("127.0.0.1", host)
    for name in ("a.png", "in/photos.tar/x/b.png"):
      with pytest.raises((ValueError, OSError), match="in this network.*_host"):
        files.read(f"{there}/{name}", root)
    assert asked == []
    assert files.read(f"{url}/a.png", url) == png(1)  # as in the root


def test_a_name_that_leads_into_this_network_is_refused(root, monkeypatch):
  found = socket.getaddrinfo
  here = lambda host, *a, **k: found("127.0.0.1", *a, **k)
  monkeypatch.setattr(socket, "getaddrinfo", here)
  with web.serve(root) as (url, asked):
    port = url.rpartition(":")[2]
    refused(f"http://photos.example:{port}/a.png", root, "127.0.0.1 is in this")
    assert asked == []


def test_so_is_a_redirect(root, monkeypatch):
  # This machine, by one of its addresses, stands for a public host.
  monkeypatch.setattr(remote, "_is_public", "127.0.0.2".__eq__)
  with web.serve(root) as (url, asked):
    with web.answer(b"", 302, Location=f"{url}/a.png") as first:
      first = first.replace("127.0.0.1", "127.0.0.2")
      refused(f"{first}/a.png", root, "127.0.0.1 is in this network")
    assert asked == []
    public = url.replace("127.0.0.1", "127.0.0.2")
    assert files.read(f"{public}/a.png", root) == png(1)


ADDRESSES = {
  "8.8.8.8": True,
  "2001:4860:4860::8888": True,
  "10.1.2.3": False,
  "172.16.0.1": False,
  "192.168.0.1": False,
  "100.64.0.1": False,  # behind a provider's router
  "169.254.169.254": False,  # a cloud's metadata
  "224.0.0.1": False,
  "::1": False,
  "fe80::1%eth0": False,
  "fd00:ec2::254": False,
  "::ffff:10.0.0.1": False,
  "::ffff:224.0.0.1": False,
  "::ffff:8.8.8.8": True,
  "2002:7f00:1::": False,  # 127.0.0.1 by 6to4
  "64:ff9b::a00:1": False,  # 10.0.0.1 by NAT64
  "64:ff9b::808:808": True,
}


@pytest.mark.parametrize("host", ADDRESSES)
def test_an_address_is_public_or_not(host):
  assert remote._is_public(host) == ADDRESSES[host]


@pytest.mark.parametrize(
  "name", ["/" + "a/" * 500_000, "a.tar/" * 200_000, "http://h/" + "a" * 9999]
)
def test_a_name_of_megabytes_is_refused_at_once(name, root):
  for look in (files.read, files.check):
    with pytest.raises(ValueError, match="a name too long: .* characters") as e:
      look(name, root)
    assert len(str(e.value)) < 200
  assert lookup.find(name, str(root)) is None


def test_messages_have_no_secrets_of_urls(root):
  for end in ("a.png", "a" * 300):
    said = files.short(f"http://me:secret@host/{end}?key=secret")
    assert said.startswith("http://***@host/a") and "secret" not in said
