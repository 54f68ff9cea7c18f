r"""Is stage 2 worth less without stage 1?

Published (arXiv 2407.07726, section 5): a stage 1 of a tenth of the examples
costs little, and skipping it is worst, as transfers from both tell. Here what
the stage itself has learned is compared.
"""

from configs import pretraining, stage2_448

# Arm -> the run of another finding that it starts from.
ARMS = dict(after="prompt/full", skipped="")


def get_config(arg=None):
  more = dict(size="nano", arm="after")
  c = stage2_448.get_config(arg, **more)
  if c.arg.arm == "skipped":  # a curve of its own
    return pretraining.get(arg, 1, stage2_448.WEIGHTS, **more)
  return c
