"""Downloads weights from Kaggle's models, through kagglehub.

    kaggle://google/paligemma-2/jax/paligemma2-3b-pt-224/1   version 1
    kaggle://google/paligemma/jax/paligemma-3b-pt-224/paligemma-3b-pt-224.f16.npz

What is complete in kagglehub's cache (KAGGLEHUB_CACHE) is not downloaded again.
Credentials are where kagglehub looks for them: KAGGLE_API_TOKEN, or
access_token or kaggle.json in ~/.kaggle.
"""

import contextlib
import re

from pg.data.storage import remote

SCHEME = "kaggle://"
_NAME = re.compile(
  rf"{SCHEME}(?P<model>[^/]+(?:/[^/]+){{3}}(?:/\d+)?)(?:/(?P<file>.+))?"
)
_TOKEN = "https://www.kaggle.com/settings/api"


def fetch(name):
  """Returns the local path of weights.

  Args:
    name: str, kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION][/FILE]; it is
      the newest without a version, and without a file the only .npz, or all
      files if there is none.

  Raises:
    ValueError: no such model, one that needs consent or a login, several .npz,
      or no kagglehub.
    OSError: no network, or a download that broke off or is damaged.
  """
  match = _NAME.fullmatch(name)
  if not match:
    raise ValueError(
      f"{name!r} is not a name of Kaggle's; wanted"
      f" {SCHEME}owner/model/framework/variation[/version][/file], as in"
      f" {SCHEME}google/paligemma/jax/paligemma-3b-pt-224"
    )
  try:
    import kagglehub
  except ImportError as error:
    raise ValueError(
      f"{name} needs kagglehub, which is not installed: pip install -r"
      " requirements-kaggle.txt"
    ) from error
  model, file = match["model"], match["file"]
  with _errors(model):
    if file:
      return kagglehub.model_download(model, file)
    files = _files(model)
    arrays = [x for x in files if x.endswith(".npz")]
    if not arrays:
      return kagglehub.model_download(model)
    if len(arrays) > 1:
      named = ", ".join(f"{SCHEME}{model}/{x}" for x in arrays)
      raise ValueError(f"{name} has several .npz; name one of {named}")
    for x in files:
      if x.endswith(".model"):  # of the tokenizer
        kagglehub.model_download(model, x)
    return kagglehub.model_download(model, arrays[0])


def _files(model):
  """Returns the names of a model's files; the first, where they are many."""
  from kagglehub import clients, handle
  from kagglesdk.models.types import model_api_service as api

  known = handle.parse_model_handle(model)
  asked = dict(
    owner_slug=known.owner,
    model_slug=known.model,
    framework=known.framework_enum(),
    instance_slug=known.variation,
  )
  with clients.build_kaggle_client() as client:
    models = client.models.model_api_client
    version = (
      known.version
      or models.get_model_instance(
        _filled(api.ApiGetModelInstanceRequest(), asked)
      ).version_number
    )
    asked |= dict(version_number=version)
    request = api.ApiListModelInstanceVersionFilesRequest()
    found = models.list_model_instance_version_files(_filled(request, asked))
  return [file.name for file in found.files]


def _filled(request, fields):
  for key, value in fields.items():
    setattr(request, key, value)
  return request


@contextlib.contextmanager
def _errors(model):
  """Says in one line what the user can do about an error of Kaggle's."""
  import requests
  from kagglehub import exceptions

  page = f"https://www.kaggle.com/models/{model}"
  try:
    yield
  except requests.HTTPError as error:
    status = error.response.status_code
    if status in (401, 403):
      raise ValueError(
        f"Kaggle gives {model} only to whom it knows and who agreed to its"
        f" terms: accept them on {page}, and put a token of the same account,"
        f" from {_TOKEN}, into KAGGLE_API_TOKEN or ~/.kaggle/access_token"
      ) from error
    if status == 404:
      raise ValueError(
        f"Kaggle has no {model}, or not this version or file of it; see {page}"
      ) from error
    raise OSError(
      f"Kaggle answered {status} for {model}; try again later"
    ) from error
  except (requests.RequestException, exceptions.DataCorruptionError) as error:
    raise OSError(
      f"the download of {model} from Kaggle broke off"
      f" ({remote.one_line(error)}); run it again"
    ) from error
