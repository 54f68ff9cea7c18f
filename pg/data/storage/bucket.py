"""Folders in buckets, where a run can be: gs://bucket/runs/mine.

Objects are read and written whole, by fsspec's libraries. These try again, with
pauses that double, what a store refuses because it is overloaded (429) or out
of order (5xx), and connections that break. What is then left is an OSError that
names the object, what was tried, and what helps.
"""

import base64
import concurrent.futures
import contextlib
import hashlib
import logging
import os
import posixpath
import re
import uuid

import fsspec

# Each with the library that fsspec reads it by.
LIBRARIES = {"gs://": "gcsfs", "s3://": "s3fs", "az://": "adlfs"}
_SCHEME = re.compile(r"([a-zA-Z][\w+.-]+):(/+)(.*)", re.DOTALL)
_THREADS = 8
_LARGE = 1 << 26  # bytes of a file that is not read at once
# What a store or its library says, and what helps.
_HELP = (
  (
    r"\b401\b|UNAUTHENTICATED|Invalid Credentials|Unauthorized|ExpiredToken"
    r"|RefreshError|expired|DefaultCredentialsError|NoCredentials"
    r"|credentials were not found|InvalidAccessKeyId|InvalidToken",
    "the login is missing, or its token has expired: log in again"
    " (gcloud auth application-default login; aws sso login), or use the"
    " service account of the machine",
  ),
  (
    r"\b403\b|Forbidden|PERMISSION_DENIED|PermissionError|AccessDenied",
    "this login may not do that: it has to list, read, write and delete objects"
    " there (roles/storage.objectUser; s3:ListBucket, GetObject, PutObject,"
    " DeleteObject)",
  ),
  (
    r"\b404\b|NOT_FOUND|FileNotFoundError|NoSuchBucket|NoSuchKey",
    "there is no such bucket or object: check the name, or make the bucket",
  ),
  (
    r"\b(408|429|50\d)\b|UNAVAILABLE|DEADLINE|RESOURCE_EXHAUSTED|ProxyError"
    r"|SlowDown|Timeout|Connect|Disconnect|reduce your request rate",
    "the store did not answer, or is overloaded, after several tries: check the"
    " network, or try again later",
  ),
)

# A listing that is kept does not have what TensorStore wrote, nor what another
# machine did.
for _protocol in ("gs", "s3", "abfs"):
  fsspec.config.conf.setdefault(_protocol, {})["use_listings_cache"] = False
# It logs, with tracebacks, what it raises.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
# What it tries out asks for rights that who may write objects need not have.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


def is_bucket(name):
  """Says whether a name is one in a bucket."""
  return str(name).startswith(tuple(LIBRARIES))


def check(name):
  """Returns the name of a folder in a bucket as it is written below.

  Raises:
    ValueError: it means nothing, or the library for it is missing.
  """
  scheme, slashes, rest = _SCHEME.fullmatch(name).groups()
  known = ", ".join(LIBRARIES)
  start = "gs://" if scheme.lower() == "gcs" else f"{scheme.lower()}://"
  if start not in LIBRARIES:
    raise ValueError(
      f"{name}: nothing can be written to {scheme}://; wanted a folder here or"
      f" one of {known}"
    )
  meant = start + posixpath.normpath(rest.strip("/"))
  if slashes != "//" or not name.startswith(start):
    raise ValueError(f"{name} is no place in a bucket; did you mean {meant}?")
  if not re.fullmatch(r"[^/]+(/[^/]+)+", meant.removeprefix(start)):
    raise ValueError(
      f"{name} names no folder in a bucket; wanted such as"
      f" {start}{rest.strip('/') or 'bucket'}/runs/mine"
    )
  filesystem(meant)
  return meant


def filesystem(url):
  """Returns fsspec's file system of a URL.

  Raises:
    ValueError: its library is missing.
  """
  start = url[: url.index("://") + 3]
  try:
    return fsspec.filesystem(start.removesuffix("://"))
  except ImportError as error:
    raise ValueError(
      f"{url}: {start} needs {LIBRARIES[start]}: {missing(start)}"
    ) from error


def missing(url):
  """Says how the library is installed that reads a URL."""
  if url.startswith(("gs://", "gcs://", "s3://")):
    return "pip install -c constraints.txt -r requirements-cloud.txt"
  return "install it with pip"


@contextlib.contextmanager
def explained(doing, url):
  """Makes of what a store's library raises an OSError that says what helps.

  Args:
    doing: str, such as "write".
    url: str, an object or a folder.
  """
  try:
    yield
  except Exception as error:  # each library has its own
    raise OSError(f"cannot {doing} {url}: {reason(error)}") from error


def reason(error):
  """Returns on one line what went wrong with a bucket, and what helps."""
  return f"{_said(error):.500}; {_help(error) or 'try again'}"


def is_refusal(error):
  """Says whether an error is the store's, and no word on what is in it."""
  return _help(error) is not None


def _said(error):
  return f"{type(error).__name__} {' '.join(str(error).split())}"


def _help(error):
  text = f"{_said(error)} {getattr(error, 'code', '')}"
  helps = (fix for pattern, fix in _HELP if re.search(pattern, text))
  return next(helps, None)


def read(url):
  """Returns the bytes of an object.

  Raises:
    FileNotFoundError: there is none.
    OSError: see `explained`.
  """
  return _asked(url, lambda fs: fs.cat_file(url))


def write(url, data):
  """Writes an object: all of the bytes or, on an error, none."""
  fs = filesystem(url)
  with explained("write", url):
    if url.startswith("gs://"):
      _post(fs, url, data)
    else:
      fs.pipe_file(url, data)


def _post(fs, url, data, **only):
  """Writes an object of Google's storage; returns what the store says of it.

  gcsfs frames the bytes with lines, and a server may take a carriage return at
  their end for a part of the frame, as the emulator does.
  """
  name, _, key = fs._strip_protocol(url).partition("/")
  made = fs.call(
    "POST",
    f"{fs._location}/upload/storage/v1/b/{name}/o",
    uploadType="media",
    name=key,
    data=data,
    json_out=True,
    **only,
  )
  sent = base64.b64encode(hashlib.md5(data).digest()).decode()
  if made.get("md5Hash", sent) != sent:
    raise OSError("other bytes arrived than were sent")
  return made


def check_writable(url):
  """Sees that a folder can be written to, before a long work.

  Raises:
    OSError: it cannot.
  """
  probe = f"{url}/.write-{uuid.uuid4().hex}"
  write(probe, b"may this be written?")
  remove(probe)


def version(url):
  """Returns what tells an object from what it was before, a str.

  Raises:
    FileNotFoundError: there is none.
    OSError: see `explained`.
  """
  return _asked(url, lambda fs: _version(fs.info(url)))


def _asked(url, ask):
  """Returns what `ask` finds out of a file system about an object."""
  fs = filesystem(url)
  with explained("read", url):
    try:
      return ask(fs)
    except FileNotFoundError:
      pass
  raise FileNotFoundError(f"there is no {url}")


def _version(info):
  return str(info.get("generation") or info.get("ETag") or info.get("etag"))


def write_if(url, data, version):
  """Writes an object if it is as it was, which the store itself decides.

  Other stores than gs:// and s3:// are asked before, which is not the same.

  Args:
    url: str.
    data: bytes.
    version: str, from `version`; None: there is no such object.

  Returns:
    Its version now; None if it was another, and nothing was written.
  """
  fs = filesystem(url)
  with explained("write", url):
    try:
      if url.startswith("gs://"):
        only = dict(ifGenerationMatch=version or "0")
        return _version(_post(fs, url, data, **only))
      if url.startswith("s3://"):
        name, _, key = fs._strip_protocol(url).partition("/")
        only = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        written = dict(Bucket=name, Key=key, Body=data, **only)
        return _version(fs.call_s3("put_object", **written))
      if (_version(fs.info(url)) if fs.exists(url) else None) != version:
        return None
      fs.pipe_file(url, data)
      return _version(fs.info(url))
    except Exception as error:
      if _is_mismatch(error, version):
        return None
      raise


def _is_mismatch(error, version):
  """Says whether a store did not write because an object was another."""
  if isinstance(error, FileNotFoundError):  # the bucket, if none was wanted
    return version is not None
  said = "PreconditionFailed|ConditionalRequestConflict|At least one of the pre"
  return isinstance(error, FileExistsError) or bool(
    re.search(said, f"{error} {error.__cause__}")
  )


def children(url):
  """Returns {name: whether it is a folder} of what is in a folder.

  Raises:
    OSError: there is no such bucket, or it refuses.
  """
  fs = filesystem(url)
  with explained("list", url):
    try:
      found = fs.ls(url, detail=True)
    except FileNotFoundError:
      _check_bucket(fs, url)
      return {}
  own = fs._strip_protocol(url)
  names = ((i["name"].rstrip("/"), i["type"] == "directory") for i in found)
  return {posixpath.basename(n): folder for n, folder in names if n != own}


def _check_bucket(fs, url):
  """Raises FileNotFoundError for a bucket that is not there."""
  name = fs._strip_protocol(url).partition("/")[0]
  if url.startswith("gs://"):
    fs.call("GET", "b/{}/o", name, maxResults=1)
  elif url.startswith("s3://"):
    fs.call_s3("list_objects_v2", Bucket=name, MaxKeys=1)


def files(url):
  """Returns {name: [size, checksum]} of all files in a folder and its folders.

  One request lists a thousand. The checksum is "md5:" and the MD5 in base64, of
  the bytes that arrived, as Google's storage has it, or None.
  """
  fs = filesystem(url)
  with explained("list", url):
    try:
      found = fs.find(url, detail=True)
    except FileNotFoundError:
      return {}
  own = fs._strip_protocol(url).rstrip("/") + "/"
  return {
    name.removeprefix(own): [
      info["size"],
      f"md5:{info['md5Hash']}" if info.get("md5Hash") else None,
    ]
    for name, info in sorted(found.items())
    if name.startswith(own) and info["type"] == "file"
  }


def upload(path, url, last=()):
  """Uploads a file, or a folder with all that is in it.

  Args:
    path: str, local.
    url: str, what it becomes there.
    last: names of files in the folder that come after all others, in this
      order: what says that the folder is whole.
  """
  if os.path.isfile(path):
    return _upload(path, url)
  names = [
    posixpath.join(posixpath.relpath(folder, path), name)
    for folder, _, found in os.walk(path)
    for name in found
  ]
  names = [posixpath.normpath(name) for name in names]
  one = lambda name: _upload(os.path.join(path, name), f"{url}/{name}")
  each(one, [name for name in names if name not in last])
  for name in last:
    if name in names:
      one(name)


def _upload(path, url):
  if os.path.getsize(path) <= _LARGE:
    with open(path, "rb") as f:  # as it is now: it may be growing
      return write(url, f.read())
  with explained("write", url):
    filesystem(url).put_file(path, url)


def download(url, path):
  """Downloads a file to a local path, whose folder is there."""
  with explained("read", url):
    filesystem(url).get_file(url, path)


def remove(url):
  """Removes an object, or all that is in a folder; nothing there is fine."""
  fs = filesystem(url)
  with explained("remove", url), contextlib.suppress(FileNotFoundError):
    fs.rm(url, recursive=True)


def move(old, new):
  """Moves a folder, inside the store: copies it, then removes it."""
  fs = filesystem(old)
  names = files(old)
  with explained("copy", old):
    each(lambda name: fs.cp_file(f"{old}/{name}", f"{new}/{name}"), names)
  remove(old)


def each(function, items):
  """Returns the results of a function of each item, called in threads."""
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    return list(pool.map(function, items))
