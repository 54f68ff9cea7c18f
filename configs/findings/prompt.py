r"""Is a prompt that sees all of itself (prefix-LM) better than a causal one?

Published (arXiv 2407.07726, section 5, figure 5): prefix-LM is best; causal
attention in the prompt, and a loss on it, too, are clearly worse.
"""

from configs import stage1

# Arm -> the run of another finding that it starts from.
ARMS = dict(full="", causal="", learned="")


def get_config(arg=None):
  c = stage1.get_config(arg, size="nano", arm="full")
  c.prompt = c.arg.arm
  return c
