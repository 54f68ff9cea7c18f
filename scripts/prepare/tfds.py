r"""Prepares a dataset of TensorFlow Datasets, as ArrayRecord.

  python -m scripts.prepare.tfds coco_captions
  python -m scripts.prepare.tfds coco/2017 --data-dir /data/tfds
  python -m scripts.prepare.tfds my/flowers.py       a builder of your own

To read it takes no TensorFlow, but most often to prepare it does: TensorFlow
Datasets unpacks archives with it, and some builders use it themselves. What
needs none is prepared in this environment. For the others a second one is made,
once, with TensorFlow in it: .venv-tfds, beside .venv.
"""

import argparse
import functools
import importlib
import importlib.metadata
import importlib.resources.abc
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-tfds"
PACKAGES = (
  "tensorflow-cpu; sys_platform == 'linux' and platform_machine == 'x86_64'",
  "tensorflow; sys_platform != 'linux' or platform_machine != 'x86_64'",
)
AS_HERE = ("tensorflow-datasets", "array_record")


def main():
  args = _arguments()
  name, folder = args.name, args.data_dir
  if folder and "://" not in folder:
    folder = os.path.abspath(os.path.expanduser(folder))
  if name.endswith(".py"):
    name = os.path.abspath(name)
  elif not args.here:
    _check(name)
  try:
    prepare(name, folder)
  except Exception as error:  # whatever a builder raises
    lacks = _missing_package(error)
    if lacks == "tensorflow" and not args.here:
      print(
        f"{name} needs TensorFlow; preparing it in {ENVIRONMENT}", flush=True
      )
      sys.exit(_prepare_there(name, folder, args.python))
    if lacks and isinstance(error, ImportError):
      pip = f"{sys.executable} -m pip install {lacks}"
      sys.exit(
        f"error: {name} needs {lacks}; install it and try again\n  {pip}"
      )
    if isinstance(error, ValueError | OSError):
      sys.exit(f"error: {error}")
    raise


def _check(name):
  """Exits if TensorFlow Datasets has no such dataset."""
  from pg.data.formats import tfds  # .venv-tfds has not what it needs

  if unknown := tfds.unknown(name):
    sys.exit(f"error: {unknown}")


def _arguments():
  parser = argparse.ArgumentParser(
    prog="python -m scripts.prepare.tfds",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("name", help="name[/config][:version], or the path of a builder's .py")
  add(
    "--data-dir",
    "--data_dir",
    help="folder of datasets; default: $TFDS_DATA_DIR or ~/tensorflow_datasets",
  )
  add(
    "--python",
    default=sys.executable,
    help="for .venv-tfds, where TensorFlow has no build for this Python",
  )
  add("--here", action="store_true", help="use no other environment than this")
  return parser.parse_args()


def prepare(name, data_dir=None):
  """Prepares a dataset in this environment.

  Args:
    name: str, "coco/2017", or the path of a builder's .py file.
    data_dir: str, the folder of datasets; None is the usual one.

  Raises:
    ValueError: no such dataset, or not one builder in the file.
    ModuleNotFoundError: a package is missing, perhaps TensorFlow; it may be the
      cause of another error.
  """
  import tensorflow_datasets as tfds

  # For builders in packages 4.9.10 imports it, but it does not require it.
  sys.modules.setdefault("importlib_resources", importlib.resources)
  make = functools.partial(tfds.builder, name)
  if name.endswith(".py"):
    make = _builder_in(name)
  builder = make(data_dir=data_dir)
  if not builder.is_prepared():  # in whatever format
    builder = make(data_dir=data_dir, file_format="array_record")
    # What Google's bucket has is TFRecord.
    download = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=download)
  named = builder.info.full_name.rpartition("/")[0]
  where = f', data_dir="{data_dir}"' if data_dir else ""
  print(
    f"{builder.data_dir} has {', '.join(builder.info.splits)}; read it with"
  )
  print(f'  c.data = dict(source="tfds", name="{named}"{where}, split=...)')


def _builder_in(path):
  """Returns the class of the builder in a file, which may be in a package."""
  import tensorflow_datasets as tfds

  path = pathlib.Path(path)
  name, folder = path.stem, path.parent
  if (folder / "__init__.py").exists():
    name, folder = f"{folder.name}.{name}", folder.parent
  if not path.exists():
    raise ValueError(f"there is no file {path}")
  sys.path.insert(0, str(folder))
  found = [
    value
    for value in vars(importlib.import_module(name)).values()
    if isinstance(value, type)
    and issubclass(value, tfds.core.DatasetBuilder)
    and value.__module__ == name
  ]
  if len(found) != 1:
    raise ValueError(f"{path} has {len(found)} builders, wanted one")
  return found[0]


def _missing_package(error):
  """Returns the package that an error comes from the lack of, or None."""
  while error:
    if isinstance(error, ModuleNotFoundError) and error.name:
      return error.name.partition(".")[0]
    error = error.__cause__ or error.__context__
  return None


def _prepare_there(name, data_dir, python):
  """Runs this script in the second environment and returns its exit status."""
  where = ["--data-dir", data_dir] if data_dir else []
  command = [_environment(python), "-m", "scripts.prepare.tfds", name, *where]
  return subprocess.run([*command, "--here"], cwd=ROOT).returncode


def _environment(python):
  """Returns the Python of the second environment, which is made if need be."""
  as_here = [f"{p}=={importlib.metadata.version(p)}" for p in AS_HERE]
  packages = [*PACKAGES, *as_here]
  wanted, stamp = "\n".join(packages), ENVIRONMENT / "installed"
  made = str(ENVIRONMENT / "bin" / "python")
  if stamp.exists() and stamp.read_text() == wanted:
    return made
  print(f"Setting up {ENVIRONMENT} with TensorFlow, once.", flush=True)
  pip = [made, "-m", "pip", "install", "--quiet"]
  try:
    subprocess.run([python, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    subprocess.run([*pip, *packages], check=True)
  except (OSError, subprocess.CalledProcessError) as error:
    sys.exit(
      f"error: TensorFlow could not be installed ({error}). Where there is none"
      f" for this Python, name another: --python python3.12"
    )
  stamp.write_text(wanted)
  return made


if __name__ == "__main__":
  main()
