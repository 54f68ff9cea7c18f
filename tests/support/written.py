"""Objects as text, the other way round than `boxes.read`."""

from pg.codecs import boxes


def text(found):
  """Returns the text of a list of boxes.Object."""
  return " ; ".join(
    boxes.detect([o.box], [o.label], [o.codes] if o.codes else None)
    for o in found
  )
