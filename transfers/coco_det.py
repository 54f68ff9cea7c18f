r"""COCO detection: the boxes of all things of 80 kinds.

Reported (average precision, at 224 / 448 / 896 px): PaliGemma 3B 28.7 / 37.0 /
41.1; PaliGemma 2 3B 30.4 / 38.5 / 42.3, 10B 30.3 / 39.2 / 43.6.

python -m scripts.prepare.coco_det --raw DIR --out data/coco_det
python -m pg.train --config transfers/coco_det.py:res=448 --workdir runs/det

As in appendix C of PaliGemma 2 (arXiv 2412.03555): objects in random order, and
after them boxes of noise up to `num`. The model learns which they are, but not
where. When decoding, their name is forbidden as eos is, so that it always
writes `num` boxes, and the probability of a name is its score. No source says
for how long, on which rows and how fast it was trained: that is ours. So is
that boxes around a crowd are left out in training. The boxes of test are not
public: submissions/ has the file for the server.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", num=64)  # 64 boxes are ours
  # A box of noise has 7 tokens, and an object 7 or 8.
  c.text_len = 8 * c.arg.num + 8

  # What goes in, what should come out.
  c.data = base.prepared(c, "coco_det", "train")
  # One token that no name has; the small tokenizer has none unused.
  noise = "~" if c.arg.model.startswith("nano") else "<unused0>"
  image = f"decode | resize({c.res})"
  c.pp = f"{image} | objects(crowd=False) | detect_all({c.arg.num}, {noise!r})"

  # The recipe: ours, the paper's simple one.
  c.total, c.batch_size, c.lr, c.wd = "10ep", 256, 1e-5, 0.0

  # What is measured.
  answer = dict(
    pp=f"{image} | fmt('detect all classes', out='prefix')",
    max_len=8 * c.arg.num,
    forbid=(noise, "<eos>"),
  )
  c.evals.val = dict(
    metric="coco_bbox",
    split="val",
    every="25%",
    published=base.published(
      c,
      AP={
        ("pg1_3b", 224): 0.287,
        ("pg1_3b", 448): 0.370,
        ("pg1_3b", 896): 0.411,
        ("pg2_3b", 224): 0.304,
        ("pg2_3b", 448): 0.385,
        ("pg2_3b", 896): 0.423,
        ("pg2_10b", 224): 0.303,
        ("pg2_10b", 448): 0.392,
        ("pg2_10b", 896): 0.436,
      },
    ),
    **answer,
  )
  c.evals.test = dict(
    metric="none", split="test", submit="coco_detection", every=0, **answer
  )
  return c
