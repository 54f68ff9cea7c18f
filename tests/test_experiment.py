"""What a config opens fits together, or is refused before it is read."""

import pytest

from pg import experiment
from pg.models import flops
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.mark.parametrize(
  "key, value, message",
  (
    ("data", {}, "config.data has no dataset to train 24 steps on"),
    ("warmup", "0.001 ep", "^config.warmup is .* wanted at most total, 24"),
    ("evals.caption.forbid", ("a red bus",), "forbid: 'a red bus' is . tokens"),
    ("data.caption.size", 1.5, "'float' object cannot be"),
    ("lr", -1.0, "config.lr is -1.0: wanted float > 0"),
  ),
)
def test_nonsense_that_only_who_opens_it_can_see_is_refused(
  key, value, message
):
  c = tiny.nano()
  node, (*groups, leaf) = c, key.split(".")
  for name in groups:
    node = node[name]
  with c.unlocked(), c.ignore_type():
    node[leaf] = value
  with pytest.raises(ValueError, match=message):
    experiment.open(c)


def test_a_text_len_that_leaves_no_target_is_refused(tmp_path):
  c = tiny.nano()
  with c.unlocked():
    c.text_len, c.evals = 2, {}
  message = "rows tried has a target left: their prompts fill all of text_len"
  with pytest.raises(ValueError, match=message):
    experiment.check_data(experiment.open(c), str(tmp_path))


def test_operations_of_a_step_are_those_of_what_is_trained():
  c = tiny.nano(evals={})
  run = experiment.open(c)
  forward = flops.per_example(run.cfg, c.text_len, num_images=c.num_images)
  assert run.flops(c.text_len) == 3 * forward.total
  c.schedule = (("img/.*", None), *c.schedule)
  tower = forward.image + forward.image_attention
  less = experiment.open(c).flops(c.text_len)
  assert less == run.flops(c.text_len) - 2 * tower
