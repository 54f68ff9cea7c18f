r"""Stage 2 of pre-training at 448 px: more to read and to find, longer answers.

python -m pg.train --config configs/stage2_448.py:size=nano \
  --workdir runs/stage2_448

Goes on from the run of stage 1, `:init=runs/stage1` by default, of the same
size: its weights at the new resolution, its optimizer, its curve, its count of
examples and hours. A run that has not ended is refused, as the curve would
jump. Sizes and arguments are those of stage1.py; nano runs at 96 px.

Published: 50 million examples at 448 px, 512 text positions, the tasks of stage
1 with more of those that profit (text, detection, segmentation) and longer
suffixes: all the text in raster order, all objects; 15 hours on 256 TPU v5e for
the 3B. The weights below are ours.

Plans of pg2_3b by `pg.fit` as in stage1.py: on v5e:16x16 in 2 microbatches 2.5
of 15.75 GiB, 780 examples/s, 18 hours; on h200:8 in 8 22.8 of 105.75 GiB, 122
examples/s, 114 hours.
"""

from configs import pretraining

# Task -> share of the examples.
WEIGHTS = dict(
  caption=0.15,
  ocr=0.25,
  answer=0.10,
  question=0.05,
  detect=0.20,
  segment=0.15,
  grounded=0.10,
)


def get_config(arg=None, **more):
  return pretraining.get(arg, 1, WEIGHTS, "runs/stage1", **more)
