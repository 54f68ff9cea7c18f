"""Visual Genome: photos with phrases of their regions, and questions.

From the Visual Genome page, unpacked into DIR: region_descriptions.json.zip,
question_answers.json.zip and image_data.json.zip; images.zip and images2.zip,
which hold VG_100K and VG_100K_2. Splits: regions, questions. Regions without an
area are left out, others end at the edges of the photo. The keys of regions
were read in programs of others; those of questions are not confirmed.
"""

import functools

from pg.data.formats import folders
from scripts.prepare import release

SITE = "from the Visual Genome page"
ARCHIVES = dict(VG_100K="images.zip", VG_100K_2="images2.zip")
SIZES = dict(
  regions=(None, "region_descriptions.json"),
  questions=(None, "question_answers.json"),
)
IMAGES = "image_data.json"
FILES = {"{1}": f"{{1}}.zip {SITE}", IMAGES: f"{IMAGES}.zip {SITE}"}


@functools.cache  # for both splits
def _photos(raw):
  """Returns {number: (path, height, width)} of all photos."""
  found = {}
  want = ("image_id", "url", "height", "width")
  for photo in raw.json(IMAGES, want=want):
    folder, name = photo["url"].split("/")[-2:]
    if folder not in ARCHIVES:
      raise ValueError(
        f"{IMAGES}: photo {photo['image_id']} is at {photo['url']!r}; wanted"
        f" one in {', '.join(ARCHIVES)}"
      )
    path = raw.image(f"{folder}/{name}", f"{ARCHIVES[folder]} {SITE}")
    found[photo["image_id"]] = path, photo["height"], photo["width"]
  return found


def _rows(raw, split, name):
  key = dict(regions="regions", questions="qas")[split]
  for photo in raw.json(name, want=("id", key)):
    id = photo["id"]
    lacks = f"photo {id} of {name} is not"
    path, *size = release.match(_photos(raw), id, lacks, IMAGES)
    row = {"image": path, "image_id": id}
    row |= dict(zip(("height", "width"), size))
    if split == "questions":
      row["questions"] = [q["question"] for q in photo[key]]
      row["answers"] = [q["answer"].rstrip(".") for q in photo[key]]
    else:
      found = [(_box(r, *size), r["phrase"].strip()) for r in photo[key]]
      found = [(box, text) for box, text in found if box and text]
      row["boxes"] = [box for box, _ in found]
      row["texts"] = [text for _, text in found]
    yield row


def _box(region, height, width):
  """Returns the box of a region, None where it has no area in the photo."""
  y, x = region["y"], region["x"]
  y2, x2 = y + region["height"], x + region["width"]
  y, x, y2, x2 = max(y, 0), max(x, 0), min(y2, height), min(x2, width)
  return (
    folders.box((x, y, x2, y2), width, height) if y < y2 and x < x2 else None
  )


splits = release.table(_rows, SIZES, "photos", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
