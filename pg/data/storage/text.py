"""Text files as tools of any system write them."""

import io
import json

from pg import limits


def read(path):
  r"""Returns the text of a file; its lines end in "\n".

  UTF-8, or UTF-16 and UTF-32 as PowerShell and Notepad write them, told apart
  by the first bytes as in https://www.rfc-editor.org/rfc/rfc4627#section-3; a
  mark at the start (BOM) is no part of the text.

  Args:
    path: str, a local file.

  Raises:
    ValueError: it is in none of these, or as `limits.read`.
    OSError: it cannot be read.
  """
  return decode(limits.read(path))


def decode(data):
  """Returns the text in bytes, as `read`."""
  encoding = json.detect_encoding(data)
  try:
    text = data.decode(encoding)
  except UnicodeDecodeError as e:
    raise ValueError(f"it is no text in UTF-8 ({e}): save it as UTF-8") from e
  return io.StringIO(text, newline=None).read()


def lines(path):
  """Returns the lines of a file that are not blank, without what is around."""
  return [line.strip() for line in read(path).split("\n") if line.strip()]
