"""Files and folders of buckets and web servers, downloaded into a cache."""

import base64
import contextlib
import errno
import hashlib
import ipaddress
import pathlib
import posixpath
import re
import shutil
import socket
import time

import aiohttp
import fsspec
from fsspec import asyn
from fsspec.implementations import http
from huggingface_hub import utils

from pg import atomic, limits, progress
from pg.data.storage import bucket, index

# What tells one version of a remote file from another, in all of fsspec.
_VERSION = ("size", "ETag", "etag", "md5Hash", "mtime", "Last-Modified")
_CHUNK = 16 << 20  # bytes; what an interruption costs at most, with ranges
_ATTEMPTS = 5
_PAUSE = 1.0  # seconds between two attempts
_UNANNOUNCED = 1 << 34  # bytes of a file whose size no server says, at most
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PAGE = re.compile(
  rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head)\b", re.IGNORECASE
)
# How files begin: a login page or a word of regret is not kept as weights.
_BEGINS = {
  ".npz": rb"PK",
  ".parquet": rb"PAR1",
  ".safetensors": rb"(?s).{8}\{",
  ".model": rb"\n",
  ".json": rb"(\xef\xbb\xbf)?\s*[\[{]",
}


def read(url, *, timeout, public=False):
  """Returns the bytes at a URL.

  Args:
    url: str.
    timeout: seconds that it may take in all.
    public: bool, hosts of this network are refused.

  Raises:
    ValueError: it cannot be read, or has more bytes than a row may ask for.
  """
  most = limits.current().max_bytes
  try:
    fs, path = _filesystem(url, public)
    if isinstance(fs, http.HTTPFileSystem):
      data = asyn.sync(fs.loop, _read_http, fs, path, timeout=timeout)
    else:
      options = {"timeout": timeout} if fs.async_impl else {}
      data = fs.cat_file(path, start=0, end=most + 1, **options)
    limits.check_bytes(len(data), url)
    return data
  except TimeoutError as e:
    raise ValueError(f"no answer from {url} within {timeout} seconds") from e
  except limits.Exceeded:
    raise
  except Exception as e:  # every file system has its own
    raise ValueError(f"cannot read {url}: {type(e).__name__} {e}") from e


def kept(url):
  """Returns the path of the file that keeps the image at a URL."""
  key = hashlib.sha256(url.encode()).hexdigest()
  return index.folder() / "images" / key[:2] / key


def image(url, check, **options):
  """Returns the image at a URL, from the cache if it is there.

  Args:
    url: str.
    check: function that raises ValueError unless bytes are an image, before
      they are kept.
    **options: of `read`.
  """
  target = kept(url)
  with contextlib.suppress(OSError):
    return limits.read(target)
  data = read(url, **options)
  if data:
    try:
      check(data)
    except ValueError as e:
      raise ValueError(
        f"{url} answered with no image but what begins with {data[:40]!r}: {e}"
      ) from e
    with contextlib.suppress(OSError):  # a cache that cannot be written
      atomic.write(target, data, sync=False)
  return data


async def _read_http(fs, url):
  """Returns what a web server answers, as far as the limits allow."""
  session = await fs.set_session()
  async with session.get(fs.encode_url(url)) as answer:
    if answer.status == 404:
      raise FileNotFoundError(url)
    answer.raise_for_status()
    limits.check_bytes(answer.content_length or 0, url)
    data = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
      data += chunk
      limits.check_bytes(len(data), url)
  return bytes(data)


def _filesystem(url, public):
  """Returns fsspec's file system of a URL, and the path there."""
  web = url.lower().startswith(("http://", "https://"))
  options = {"get_client": _public_client} if web and public else {}
  return fsspec.url_to_fs(url, **options)


async def _public_client(**options):
  connector = aiohttp.TCPConnector(socket_factory=_public_socket)
  return aiohttp.ClientSession(connector=connector, **options)


def _public_socket(info):
  """Returns a socket to connect to an address, one that is public.

  That is seen here, of what a name or a redirect led to, and not before: a
  name may have another address the next time.
  """
  family, kind, protocol, _, (host, *_) = info
  if not _is_public(host):
    raise PermissionError(
      errno.EACCES,
      f"{host} is in this network, and a row names it; if it is meant to, say"
      " input.private_hosts = True",
    )
  return socket.socket(family, kind, protocol)


def _is_public(host):
  """Says whether an address, IPv4 or IPv6, is one of the internet."""
  address = ipaddress.ip_address(host.partition("%")[0])
  if address.version == 6:  # one that may lead to an IPv4 address within
    within = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
      within = ipaddress.IPv4Address(address.packed[-4:])
    address = within or address
  return address.is_global and not address.is_multicast


def fetch(name, cache=None, only=None, public=False):
  """Returns the local path of a URL that fsspec reads, downloaded if need be.

  A download goes on where the last one broke off, is checked for its size and
  for the checksums there are (`#sha256=` in the name, MD5 from Google's
  storage), then gets its name. Another version there has another path here.

  Args:
    name: str, the URL of a file or folder; a file's may end in `#sha256=<hex>`.
    cache: folder, or None for `~/.cache/pg` ($PG_CACHE).
    only: for a folder: function that says whether to download a file, by its
      path in there; None is all.
    public: bool, hosts of this network are refused.

  Raises:
    ValueError: the URL means nothing, or a library for it is missing.
    OSError: it cannot be read, broke off or is not what its checksum says.
  """
  url, _, sha256 = name.partition("#sha256=")
  if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
    raise ValueError(f"{name!r}: wanted #sha256= and 64 of 0-9 and a-f")
  with _url_errors(url):
    fs, path = _filesystem(url, public)
    info = fs.info(path)
    # A web server's folder looks like a file: the list of what is in it.
    is_folder = info["type"] == "directory" or only is not None
    files = _inside(fs, path, only) if is_folder else {path: info}
  title = posixpath.basename(path.partition("?")[0].rstrip("/"))
  if title in ("", ".", "..") or not files or (sha256 and is_folder):
    raise ValueError(
      f"{name!r} names no file; wanted one with a name, as in"
      " gs://bucket/weights.npz, or a folder without #sha256="
    )
  # Another version of the file is another file: no half of each.
  version = [[name, *map(i.get, _VERSION)] for name, i in files.items()]
  version += [i["blob_id"] for i in files.values() if "blob_id" in i]  # hf://
  key = hashlib.sha256(repr((url, sha256, version)).encode()).hexdigest()[:16]
  cache = pathlib.Path(cache or index.folder()).expanduser()
  target = cache / key / title
  target.parent.mkdir(parents=True, exist_ok=True)
  with utils.WeakFileLock(cache / key / ".lock"):
    if not target.exists() and is_folder:
      _download_folder(fs, path, files, target)
    elif not target.exists():
      _download(fs, path, info, target, sha256)
  return str(target)


@contextlib.contextmanager
def _url_errors(url):
  try:
    yield
  except ImportError as error:  # gcsfs, s3fs: said by fsspec
    fix = bucket.missing(url)
    said = f"cannot read {url}: {one_line(error)}: {fix}"
    raise ValueError(said) from error
  except ValueError as error:
    raise ValueError(
      f"{url!r} is no address that can be read ({one_line(error)}); wanted"
      " hf://, gs://, s3://, https:// or another that fsspec knows"
    ) from error
  except Exception as error:  # every file system has its own
    cause = error.__cause__ or error
    raise OSError(
      f"cannot read {url}: {type(cause).__name__} {one_line(cause)}; check the"
      " address, the network and who may read it"
    ) from error


def _inside(fs, folder, only):
  """Returns dict from the paths of a folder's files to their info."""
  found = fs.find(folder, detail=True).items()
  if only is not None:
    found = [(p, i) for p, i in found if only(posixpath.relpath(p, folder))]
  # Lists of web servers have no sizes.
  return {p: fs.info(p) if i.get("size") is None else i for p, i in found}


def _download_folder(fs, root, files, target):
  """Downloads the files of a folder, which is renamed when all are there."""
  partial = target.with_name(f"{target.name}.part")
  for path, info in files.items():
    inside = posixpath.relpath(path, root)
    if inside.startswith(".."):
      raise ValueError(f"{path!r} is listed in {root!r} but not inside it")
    if not (partial / inside).exists():
      _download(fs, path, info, partial / inside)
  partial.rename(target)


def _download(fs, path, info, target, sha256=None):
  """Downloads one file under a temporary name, checks it and renames it."""
  target.parent.mkdir(parents=True, exist_ok=True)
  part = target.with_name(f"{target.name}.part")
  size, md5 = info.get("size"), info.get("md5Hash")  # Google's storage has it
  most = _UNANNOUNCED if size is None else size
  free = shutil.disk_usage(part.parent).free + _size(part)
  if size is not None and size > free:
    raise OSError(
      f"{path} has {size:,} bytes, and {part.parent} has room for {free:,};"
      " PG_CACHE names another folder"
    )
  for attempt in range(_ATTEMPTS):
    done = _size(part)
    try:
      _append(fs, path, part, done, size, most)
      break
    except Exception as error:  # every file system has its own
      if done and isinstance(error, ValueError):  # it cannot start midway
        part.unlink()
      if attempt == _ATTEMPTS - 1:
        raise OSError(
          f"the download of {path} broke off at {_size(part)} of {size} bytes"
          f" ({one_line(error)}); run it again to go on from there"
        ) from error
      time.sleep(_PAUSE)
  if _size(part) > most or size not in (None, _size(part)):
    wanted = f"at most {most}" if size is None else size
    _reject(part, path, f"{_size(part)} bytes", wanted)
  _check_kind(part, path, target.suffix.lower())
  if sha256:
    _compare(part, path, "sha256", sha256)
  if md5:
    _compare(part, path, "md5", base64.b64decode(md5).hex())
  part.rename(target)


def _append(fs, path, part, done, size, most):
  """Downloads what comes after the first `done` bytes to the end of a file.

  Ends where there are more than `most` of them.
  """
  # Web servers need not know ranges: the first attempt is one plain request.
  block = 0 if "https" in fs.protocol and not done else _CHUNK
  options = dict(block_size=block, cache_type="none")
  with (
    fs.open(path, "rb", **options) as source,
    open(part, "ab") as sink,
    progress.Bar(
      desc=part.stem,
      total=size,
      initial=done,
      unit="B",
      unit_scale=True,
    ) as bar,
  ):
    source.seek(done)
    # Not far beyond the end: gcsfs asks for parts, and none may be empty.
    left = lambda: _CHUNK if size is None else size + 1 - sink.tell()
    while sink.tell() <= most and (chunk := source.read(min(_CHUNK, left()))):
      sink.write(chunk)
      bar.update(len(chunk))


def _size(path):
  return path.stat().st_size if path.exists() else 0


def _compare(part, path, algorithm, wanted):
  with open(part, "rb") as f:
    got = hashlib.file_digest(f, algorithm).hexdigest()
  if got != wanted:
    _reject(part, path, f"{algorithm} {got}", wanted)


def _check_kind(part, path, suffix):
  """Rejects a web page, or what begins otherwise than files of its name."""
  with open(part, "rb") as f:
    start = f.read(64)
  begins = _BEGINS.get(suffix, b"")
  page = _PAGE.match(start) and not suffix.startswith(".htm")
  if page or not re.match(begins, start):
    kind = "a web page" if page else f"what begins with {start[:40]!r}"
    _reject(part, path, kind, f"what is called {suffix or 'so'}")


def _reject(part, path, got, wanted):
  part.unlink()
  raise OSError(
    f"the download of {path} is not what it should be: got {got}, wanted"
    f" {wanted}; it was deleted, run it again"
  )


def one_line(error):
  """Returns an error's text on one line."""
  return " ".join(str(error).split())
