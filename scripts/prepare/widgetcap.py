"""Widget captioning: what a button or the like of an app's screen does.

From github.com/google-research-datasets/widget-caption: widget_captions.csv
and split/; from interactionmining.org, unpacked into DIR: unique_uis.tar.gz of
RICO. Splits: train, dev, test.
"""

import functools

from PIL import Image

from scripts.prepare import release, screen2words

CAPTIONS = "widget_captions.csv"
SITE = "github.com/google-research-datasets/widget-caption"
WANT = ("screenId", "nodeId", "captions")
CANVAS = 2560  # height of what bounds are measured on
SIZES = dict(train=None, dev=None, test=None)  # not published
LIST = "split/{}.txt"
FILES = {CAPTIONS: SITE, LIST: SITE}


def _rows(raw, split):
  screens = set(map(str.strip, raw.text_lines(LIST.format(split))))
  read = functools.lru_cache(maxsize=64)(functools.partial(_screen, raw))
  for row in raw.csv(CAPTIONS, WANT):
    screen, node = row["screenId"], row["nodeId"]
    # Some screens are not public.
    if screen not in screens or row.get("datasetId") == "nr":
      continue
    image = raw.image(f"combined/{screen}.jpg", screen2words.RICO)
    if image in raw.absent:
      yield {"image": image}
      continue
    (width, height), root = read(screen, image)
    x1, y1, x2, y2 = _bounds(root, node, f"combined/{screen}.json")
    across = width * CANVAS / height
    yield {
      "image": image,
      "image/id": f"{screen}_{node}",
      "image/filename": f"{screen}.jpg",
      "texts": row["captions"].split("|"),
      "bbox": [y1 / CANVAS, x1 / across, y2 / CANVAS, x2 / across],
      "screen_id": screen,
      "node_id": node,
      "height": height,
      "width": width,
    }


def _screen(raw, screen, image):
  """Returns width and height, and the tree of widgets."""
  tree = raw.json(f"combined/{screen}.json", want=("activity",))
  with Image.open(image) as opened:
    return opened.size, tree["activity"]["root"]


def _bounds(root, node, file):
  """Returns x1 y1 x2 y2 of a widget, named by the way to it: "0.1.3"."""
  try:
    for child in node.split(".")[1:]:
      root = root["children"][int(child)]
    x1, y1, x2, y2 = root["bounds"]
  except (LookupError, TypeError, ValueError) as e:
    raise ValueError(f"{file} has no widget {node} with bounds") from e
  return x1, y1, x2, y2


splits = release.table(_rows, SIZES, "widgets", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
