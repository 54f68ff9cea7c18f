r"""Stage 2 of pre-training at 896 px, from that at 448 px.

python -m pg.train --config configs/stage2_896.py:size=nano \
  --workdir runs/stage2_896

As stage2_448.py, from the run of that, `:init=runs/stage2_448` by default; nano
runs at 192 px. Published: 10 million examples at 896 px, 512 text positions, 15
hours on 256 TPU v5e for the 3B.

Plans of pg2_3b by `pg.fit` as in stage1.py: on v5e:16x16 in 8 microbatches 2.0
of 15.75 GiB, 219 examples/s, 13 hours; on h200:8 in 32 20.3 of 105.75 GiB, 34
examples/s, 81 hours.
"""

from configs import pretraining, stage2_448


def get_config(arg=None):
  return pretraining.get(arg, 2, stage2_448.WEIGHTS, "runs/stage2_448")
