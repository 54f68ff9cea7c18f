r"""Stage 1 of pre-training: SigLIP and Gemma learn to see together, at 224 px.

python -m pg.train --config configs/stage1.py:size=nano --workdir runs/stage1
python -m pg.train --config configs/stage1.py:size=pg2_3b --workdir runs/stage1

`:size=nano|pg1_3b|pg2_3b|pg2_10b|pg2_28b`; what else can be said after the
colon, and which facts are whose, is in pretraining.py. Nano runs at 48 px on
drawn scenes and needs nothing; the others start from google's SigLIP So400m/14
and Gemma (1 for pg1_3b) and want data prepared.

Published: a billion examples at 224 px, 128 text positions, everything trained,
Adam at 2e-5 for PaliGemma and times 0.5 (3B) or 0.25 (10B, 28B) for PaliGemma
2, a reciprocal square root that all stages share, the image tower warming up
slowly; slightly less than 3 days on 256 TPU v5e for the 3B. The weights below
are ours.

Plans by `pg.fit`, batch 2,048 of ours in n microbatches, at half of the peak:

  size     on          n  peak, GiB       examples/s  hours
  pg2_3b   v5e:16x16   1  1.5 of 15.75         3,313     84
  pg2_10b  v5e:16x16   2  2.3 of 15.75           917    303
  pg2_3b   h200:8      2  22.6 of 105.75         520    534
  pg2_10b  h200:8      2  49.9 of 105.75         144  1,931
"""

from configs import pretraining

# Task -> share of the examples.
WEIGHTS = dict(
  caption=0.40,
  ocr=0.10,
  answer=0.15,
  question=0.10,
  detect=0.10,
  segment=0.05,
  grounded=0.10,
)


def get_config(arg=None, **more):
  return pretraining.get(arg, 0, WEIGHTS, **more)
