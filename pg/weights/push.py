"""Uploads a folder of weights to Hugging Face's hub, as a private repository.

The token is the hub's own: HF_TOKEN, or that of `hf auth login`.
"""

import os
import re

import huggingface_hub
from huggingface_hub import constants, errors

from pg.data.storage import remote

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check(name):
  """Looks whether a folder can be uploaded, before it is made.

  Args:
    name: str, of the repository.

  Raises:
    ValueError: no such name, or no token.
  """
  if not _NAME.fullmatch(name):
    raise ValueError(f"--push {name}: wanted owner/name, of a repository")
  if not huggingface_hub.get_token():
    raise ValueError(
      f"--push {name}: no token of the hub's; log in with `hf auth login`, or"
      " set HF_TOKEN to a token that may write"
    )


def upload(folder, name):
  """Uploads a folder; a new repository is private.

  Args:
    folder: str.
    name: str, owner/name.

  Returns:
    str, the URL of the commit.

  Raises:
    ValueError: the hub refuses it.
    OSError: the upload broke off. The folder stays in both cases, and the error
      says how to go on.
  """
  # Read here because the library reads it only once, when it is imported.
  endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
  api = huggingface_hub.HfApi(endpoint.rstrip("/"))
  again = (
    f"{folder} is complete; to go on: hf upload {name} {folder} . --private"
  )
  try:
    api.create_repo(name, private=True, exist_ok=True)
    done = api.upload_folder(
      repo_id=name, folder_path=folder, commit_message="Upload by pg.convert"
    )
  except errors.HfHubHTTPError as error:
    if error.response.status_code in (401, 403):
      raise ValueError(
        f"{endpoint} does not let this token write to {name}: make one that may"
        f" (hf auth login, or HF_TOKEN). {again}"
      ) from error
    raise OSError(
      f"the upload to {name} broke off ({remote.one_line(error)}). {again}"
    ) from error
  except (OSError, RuntimeError, errors.HTTPError) as error:
    raise OSError(
      f"the upload to {name} broke off ({remote.one_line(error)}). {again}"
    ) from error
  return done.commit_url
