"""Resolves names of weights: the hub, buckets, URLs and local paths.

    hf://google/paligemma-3b-pt-224              a repository of the hub
    hf://google/paligemma-3b-pt-224@bfloat16     at a branch, tag or commit
    hf://google/paligemma-3b-pt-224-jax/paligemma-3b-pt-224.npz   one file of it
    gs://bucket/paligemma.npz, s3://bucket/folder, https://host/paligemma.npz
    https://host/paligemma.npz#sha256=8986bb...  checked against what is known
    kaggle://google/paligemma/jax/paligemma-3b-pt-224   see kaggle.py
    weights.npz, runs/vqav2                      a file or folder that is here
    nano                                         the model that comes with pg

A name may end in a subtree, `weights.npz:img`; `split_subtree` takes it off.
"""

import contextlib
import hashlib
import os
import pathlib
import re

import huggingface_hub
from huggingface_hub import constants, errors

from pg import atomic, config
from pg.data.storage import remote
from pg.weights import kaggle

# Whatever a Hugging Face folder is read from: weights, their index, the
# config, tokenizer and processor. Not the same weights in other formats.
_SNAPSHOT = ("*.safetensors", "*.json", "*.model", "*.jinja")
_HUB = re.compile(
  r"hf://(?P<repo>[^/@]+/[^/@]+)"
  r"(@(?P<revision>refs/[^/]+/[^/]+|[^/]+))?"
  r"(/(?P<file>.*))?"
)
NANO, _SHIPPED = "nano", str(pathlib.Path(__file__).with_name("nano"))
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SCHEME = re.compile(r"[A-Za-z][\w+.-]+(://|::)")
_SUBTREE = re.compile(r"(?P<path>.{2,}):(?P<subtree>[A-Za-z_]\w*(/\w+)*)")


def split_subtree(name):
  """Splits a name into what to load from and which part of the tree.

  `weights.npz:img` -> `("weights.npz", "img")`; a subtree is the beginning of
  flat parameter names, `llm` or `img/Transformer`. The colons of `https://`,
  of a port, of `C:\\weights.npz` and of files that exist are not separators.

  Returns:
    `(path, subtree)`, strings; subtree is None where there is none.
  """
  match = _SUBTREE.fullmatch(name)
  if not match or os.path.exists(name):
    return name, None
  return match["path"], match["subtree"]


def is_repository(name):
  """Says whether a name is that of a whole repository of the hub."""
  match = _HUB.fullmatch(name)
  return bool(match and not match["file"])


def is_url(name):
  """Says whether a name begins as a URL does."""
  return bool(_SCHEME.match(name))


def resolve(name, *, cache=None):
  """Returns the local path of weights, downloading what is not here.

  Args:
    name: str as at the top of this file, without a subtree.
    cache: folder of downloads; None is the hub's own for `hf://` (see HF_HOME)
      and `~/.cache/pg` for the rest. What is complete there is not downloaded
      again, what is not is gone on with.

  Returns:
    str: `name` itself if that exists, else a path in the cache.

  Raises:
    ValueError: no such file, repository or revision, one that needs a login,
      or a name that means nothing.
    OSError: no network, a download that broke off or is not what its checksum
      says. Nothing incomplete or wrong keeps a final name.
  """
  name = os.fspath(name)
  if os.path.exists(name):
    return name
  if name == NANO:
    return _SHIPPED
  if name.startswith("hf:"):
    return _from_hub(name, cache)
  if name.startswith(kaggle.SCHEME):
    return kaggle.fetch(name)
  if is_url(name):
    return remote.fetch(name, cache)
  hint = ""
  first, last = name.split("/")[0], os.path.basename(name)
  if (first == "runs" or os.path.isdir(first)) and "." not in last:
    hint = f"; a run is there once it was trained with --workdir {name}"
  elif re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", name):
    hint = f'; did you mean "hf://{name}"?'
  raise ValueError(
    f"no file or folder {name!r}; wanted one, {NANO!r} (the model that comes"
    " with pg), hf://owner/repository[@revision] or a URL such as"
    f" gs://bucket/weights.npz{hint}"
  )


def tokenizer_hint():
  """Says where the tokenizer is to be had that an `.npz` does not hold."""
  return (
    "an .npz has no tokenizer. Every released PaliGemma has the same one: name"
    " the tokenizer.model of a Hugging Face repository"
    " (hf://google/paligemma-3b-pt-224/tokenizer.model, after accepting its"
    " terms) or the public copy https://storage.googleapis.com/big_vision/"
    "paligemma_tokenizer.model#sha256="
    "8986bb4f423f07f8c7f70d0dbe3526fb2316056c17bae71b1ea975e77a168fc6"
  )


def _from_hub(name, cache):
  match = _HUB.fullmatch(name)
  if not match:
    raise ValueError(
      f"{name!r} is not a name of the hub; wanted"
      " hf://owner/repository[@revision][/file], as in"
      " hf://google/paligemma-3b-pt-224"
    )
  repo, revision, file = match["repo"], match["revision"], match["file"]
  # Read here because the library reads it only once, when it is imported.
  endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
  where = dict(revision=revision, endpoint=endpoint.rstrip("/"))
  with _hub_errors(repo, file=file, **where):
    if file:
      path = pathlib.Path(
        huggingface_hub.hf_hub_download(repo, file, cache_dir=cache, **where)
      )
      downloaded = [path]
    else:
      path = pathlib.Path(
        huggingface_hub.snapshot_download(
          repo, cache_dir=cache, allow_patterns=_SNAPSHOT, **where
        )
      )
      downloaded = sorted(p for p in path.rglob("*") if p.is_file())
  for each in downloaded:
    _verify(each, repo)
  configs = ("config.json", "adapter_config.json")
  if not file and not any((path / name).exists() for name in configs):
    raise ValueError(
      f"{repo} has no config.json, so it is not a folder of weights that can be"
      f" read; name one of its files: hf://{repo}/<file> (see"
      f" {where['endpoint']}/{repo}/tree/main)"
    )
  return str(path)


@contextlib.contextmanager
def _hub_errors(repo, *, revision, endpoint, file):
  """Says in one line what the user can do about an error of the hub."""
  page = f"{endpoint}/{repo}"
  try:
    yield
  except errors.GatedRepoError as error:
    raise ValueError(
      f"{repo} is gated and this machine has no access: accept the terms on"
      f" {page}, then log in with `hf auth login` or set HF_TOKEN to a token of"
      " the same account"
    ) from error
  except errors.RepositoryNotFoundError as error:
    raise ValueError(
      f"no repository {repo} on {endpoint}, or it is private; check the name,"
      " or log in with `hf auth login` or HF_TOKEN"
    ) from error
  except errors.RevisionNotFoundError as error:
    raise ValueError(
      f"{repo} has no revision {revision!r}; {page}/tree/main shows its"
      " branches, and without @revision it is the newest"
    ) from error
  except errors.RemoteEntryNotFoundError as error:
    files = huggingface_hub.HfApi(endpoint).list_repo_files(
      repo, revision=revision
    )
    raise ValueError(config.unknown(file, files, f"file of {repo}")) from error
  except errors.HFValidationError as error:
    raise ValueError(remote.one_line(error)) from error
  except errors.LocalEntryNotFoundError as error:
    raise OSError(
      f"cannot reach {endpoint} and no complete copy of {repo} is in the cache:"
      f" {remote.one_line(error.__cause__ or error)}"
    ) from error
  except (OSError, errors.HTTPError, errors.XetDownloadError) as error:
    raise OSError(
      f"the download of {repo} broke off ({remote.one_line(error)}); run it"
      " again, complete files are kept"
    ) from error


def _verify(path, repo):
  """Compares a file of the hub's cache with the checksum it is stored under.

  The cache is addressed by content: a file is a link to a blob that is named
  by its SHA-256 (large files) or Git's SHA-1. The library compares only sizes
  after a plain HTTP download, so this reads a blob once and leaves a mark. A
  cache without links, as on some Windows machines, has no names to compare.
  """
  if not path.is_symlink():
    return
  blob = path.parent / os.readlink(path)
  if not _CHECKSUM.fullmatch(blob.name):  # a mirror's own kind of name
    return
  mark = blob.parents[1] / "verified" / blob.name
  stamp = str(blob.stat().st_mtime_ns)
  if mark.exists() and mark.read_text() == stamp:
    return
  got = _digest(blob, like=blob.name)
  if got != blob.name:
    blob.unlink()
    path.unlink()
    raise OSError(
      f"{path.name} of {repo} has a wrong checksum: got {got}, wanted"
      f" {blob.name}; it was deleted, run it again"
    )
  with contextlib.suppress(OSError):  # a cache that others own
    atomic.write(mark, stamp)


def _digest(path, *, like):
  git = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
  with open(path, "rb") as f:
    return hashlib.file_digest(
      f, (lambda: git) if len(like) == 40 else hashlib.sha256
    ).hexdigest()
