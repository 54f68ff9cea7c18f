"""VQ2A: questions that a program made of the captions of Conceptual Captions.

The millions of arXiv 2205.01883 were not released; files in the format of those
that were (github.com/google-research-datasets/maverics), of your own making, go
into DIR as vq2a_cc3m_train.json, and the photos as images/IMAGE_ID.jpg: which
photo an id names is not stated there. One split: train. `visual_genome.py` has
questions of people.
"""

from scripts.prepare import release

ORIGIN = "the format is at github.com/google-research-datasets/maverics"
FILES = {"vq2a_cc3m_{}.json": ORIGIN}


def _rows(raw, split):
  name = f"vq2a_cc3m_{split}.json"
  for photo in raw.json(name, want=("annotations",))["annotations"]:
    path = f"images/{photo['image_id']}.jpg"
    image = raw.image(path, "the photos of Conceptual Captions")
    for asked in photo["qa_pairs"]:
      yield {
        "image": image,
        "image_id": photo["image_id"],
        **release.pick(asked, "question_id", "question", "answers"),
      }


splits = release.table(_rows, dict(train=None), "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
