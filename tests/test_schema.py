"""Nonsense in a config is answered before anything is read."""

import json
import re

import ml_collections
import pytest

from pg import config, limits, schema
from pg.data import options
from pg.evals import task
from pg.learn import optim, schedule
from pg.models import layers, variants
from tests.support import paths
from transfers import base

NANO = str(paths.ROOT / "configs/nano.py")
FORKME = str(paths.ROOT / "transfers/forkme.py")
INF, NAN = float("inf"), float("nan")
ANY = ("", "x", None, [], {}, True, NAN, INF, 1.5, -1)  # never an int here
FLOAT = ("x", None, [], True, NAN, INF, -0.1)  # never a float


def all_but(*fine, of=ANY):
  return tuple(x for x in of if repr(x) not in map(repr, fine))


# Key -> what is refused and what is taken.
TRIES = {
  "seed": ((*ANY, 2**63), (0, 2**40)),
  "res": ((*ANY, 0, "48", 10**7), (16, 8192)),
  "num_images": ((*ANY, 0, 10**9), (1, 3)),
  "length_window": ((*ANY, -1, 1025), (0, 8)),
  "text_len": ((*ANY, 0, 1, 10**12), (2, 512)),
  "blind": ((*all_but(True), 0, 1), (True, False)),
  "prompt": (ANY, ("full", "causal", "learned")),
  "tokenizer": (all_but("", "x"), ("", "x.model")),
  "init": (all_but("", "x"), ("", "runs/nano")),
  "init_optimizer": ((*all_but(True), 0), (True, False)),
  "dont_load": (
    (*all_but([]), "img/.*", ("(",), (5,)),
    ((), ("img/head/.*",)),
  ),
  "lora.rank": ((*ANY, -1, 1.5), (0, 8)),
  "lora.targets": (all_but("", "x"), (".*", "llm/.*")),
  "lora.alpha": ((*all_but(of=FLOAT), 0, -1), (1, 16.0)),
  "lora.dropout": ((*all_but(of=FLOAT), 1.0, -0.1), (0, 0.1)),
  "lora.rank_stabilized": ((*all_but(True), 0), (True, False)),
  "lora.dora": ((*all_but(True), 0), (True, False)),
  "lora.lr_mult": ((*all_but(of=FLOAT), 0), (1, 10.0)),
  "pp": (all_but("", "x"), ("decode",)),
  "model": (("x", None, [], 5), ()),
  "model.variant": (all_but("", "x"), ("nano",)),
  "model.dropout": ((*all_but(None, of=FLOAT), 1.0, 2), (0, 0.1, None)),
  "model.final_softcap": (all_but(None, of=FLOAT), (0, 30.0, None)),
  "model.window": ((*all_but(None), 0, 2**31), (4096, None)),
  "model.dtype": (
    (*all_but(None), 32, "float64"),
    ("bf16", "f16", "f32"),
  ),
  "model.remat": (ANY, ("nothing", "ffw", "everything")),
  "model.drpout": ((0.1,), ()),
  "wandb": (all_but("", "x"), ("", "my-project")),
  "input.num_workers": ((*ANY, 10**9), (0, 8)),
  "input.num_threads": ((*ANY, 0, 10**9), (1, 8)),
  "input.prefetch": ((*ANY, 0), (1, 8)),
  "input.cache": (all_but(""), ("", "raw", "examples")),
  "input.cache_images": (all_but("", "x"), ("", "memory", "images")),
  "input.cache_gb": (FLOAT, (0, 0.5)),
  "input.max_bytes": ((*ANY, 0), (1, 2**28)),
  "input.max_pixels": ((*ANY, 0), (1, 2**28)),
  "input.private_hosts": ((*all_but(True), 0), (True, False)),
  "bad.policy": (ANY, ("raise", "skip")),
  "bad.max_fraction": ((*FLOAT, 1.1), (0, 0.5, 1)),
  "total": ((*ANY, 2**31, "-5ep", "1e400"), (0, 0, "10ep", "64k ex")),
  "batch_size": ((*ANY, 0, "8", 10**12), (1, 256)),
  "num_microbatches": ((*ANY, 0, "2"), (1, 8)),
  "lr": ((*FLOAT, 0, 0.0, 10**400), (1, 1e-3)),
  "wd": (FLOAT, (0, 1e-3)),
  "label_smoothing": ((*FLOAT, 1.0), (0, 0.1)),
  "warmup": ((*ANY, 2301, "101%"), (0, 2300, "5%", "0.1 ep")),
  "grad_clip": (FLOAT, (0, 1)),
  "example_clip": (FLOAT, (0, 1)),
  "optimizer": ((*ANY, "adamx"), ("adam", "sgd", "muon")),
  "moment_dtype": ((*ANY, "float16"), ("float32", "bfloat16")),
  "frozen_dtype": ((*ANY, "int5"), ("float32", "bfloat16", "float16", "nf4")),
  "grad_dtype": ((*ANY, "float16"), ("float32", "bfloat16")),
  "b1": ((*FLOAT, 1, 1.0), (0, 0.9)),
  "b2": ((*FLOAT, 1, 1.0), (0, 0.999)),
  "ema": ((*FLOAT, 1.0), (0, 0.999)),
  "nonfinite.policy": ((*ANY, "raise"), ("stop", "skip")),
  "nonfinite.max_in_row": ((*ANY, 0), (1, 100)),
  "best": (all_but("", "x"), ("", "val/cider", "-nll/nll")),
  "score_init": ((*all_but(True), 0), (True, False)),
  "schedule": (
    (
      *all_but([]),
      "cosine",
      ((".*", "cosin"),),
      ((".*",),),
      (("(", "cosine"),),
      ((5, "cosine"),),
    ),
    (
      ((".*", "linear"), ("x", None)),
      [[".*", "cosine"]],
      [[".*", dict(kind="cosine")]],
    ),
  ),
  "lr_mult": (
    (*all_but([]), 1.0, *(((".*", x),) for x in FLOAT)),
    (((".*", 2),),),
  ),
  "wd_mult": (
    (*all_but([]), 1.0, *(((".*", x),) for x in FLOAT)),
    (((".*", 0),),),
  ),
  "mesh": ((None, 5, "fsdp", dict(fsdp=0), dict(fdsp=1)), ({},)),
  "mesh.fsdp": ((*all_but(-1), 0, -2, "x"), (-1, 8)),
  "sharding": (
    (*all_but([]), ((".*", "fdsp"),), ((".*", 5),)),
    (((".*", (None, "tensor")),),),
  ),
  "log_every": ((*ANY, 0), (1, 100)),
  "save_every": (ANY, (0, 5, "25%")),
  "max_checkpoints": ((*all_but(None), 0), (1, None)),
  "evals": ((None, 5, "x", [], dict(val=5), {"a/b": {}}, {"": {}}), ({},)),
  "evals.val.metric": (all_but("", "x"), ("exact",)),
  "evals.val.every": (ANY, (0, "25%")),
  "evals.val.start": (ANY, (0, "25%")),
  "evals.val.end": (ANY, (9, "25%")),
  "evals.val.pp": (all_but("", "x", None), (None, "decode")),
  "evals.val.batch_size": ((*all_but(None), 0), (None, 8)),
  "evals.val.max_len": ((*all_but(None), 0), (None, 8)),
  "evals.val.num_examples": ((*all_but(None), 0), (None, 8)),
  "evals.val.num_beams": ((*ANY, 0, 10**6), (1, 8)),
  "evals.val.temperature": (FLOAT, (0, 0.5)),
  "evals.val.top_k": (ANY, (0, 8)),
  "evals.val.top_p": ((*FLOAT, 0, 1.1), (1, 0.5)),
  "evals.val.seed": ((*ANY, 2**63), (0, 8)),
  "evals.val.forbid": ((*all_but([]), "<eos>", (5,)), ((), ("<eos>",))),
  "evals.val.published": (
    (*all_but({}), dict(acc="x"), dict(acc=NAN)),
    (dict(acc=0.5),),
  ),
  "evals.val.submit": (all_but("", "x"), ("vqav2",)),
  "evals.val.optional": ((*all_but(True), 0), (True, False)),
  "data": ((None, 5, "x", [], dict(a=5), {"a/b": {}}), ()),
  "data.weight": ((*FLOAT, 0), (2, 0.5)),
  "data.source": (all_but("", "x", {}), ()),
  "data.pp": (all_but("", "x"), ("decode",)),
  "lrr": ((1e-3,), ()),
}


def changed(key, value):
  """Returns a config with one other value, as no config file can set it."""
  c = config.load(FORKME) if key.startswith(("data", "ev")) else base.get()
  c = ml_collections.ConfigDict(c.to_dict())
  del c.total
  c.total = 2300
  *parents, leaf = key.split(".")
  node = c
  for name in parents:
    node = node[name]
  if leaf in node:
    del node[leaf]
  node[leaf] = value
  return c


@pytest.mark.parametrize("key", TRIES)
def test_nonsense_is_refused_with_the_key_and_what_is_wanted(key):
  refused, taken = TRIES[key]
  for value in refused:
    with pytest.raises(ValueError) as error:
      config.validate(changed(key, value), complete=True)
    text = str(error.value)
    assert key in text and "\n" not in text and len(text) < 450, value
  for value in taken:
    config.validate(changed(key, value), complete=True)


def test_every_key_is_tried():
  tried = {k.replace("evals.val", "evals.*") for k in TRIES}
  tried = {k.replace("data.", "data.*.") for k in tried}
  tried |= {k for k in schema.KEYS if k.startswith("schedule.*.")}
  twins = {"arg", "evals.*.source", "mesh.replica", "mesh.tensor"}
  assert set(schema.KEYS) <= tried | twins


@pytest.mark.parametrize(
  "key, bad",
  (
    ("kind", "cosin"),
    ("kind", None),
    ("delay", -1),
    ("warmup", "5 steps"),
    ("cooldown", 1.5),
    ("power", 0),
    ("timescale", None),
    ("start", "x"),
    ("at", (1, "x")),
    ("mults", (0.1, -1)),
  ),
)
def test_nonsense_in_a_rule_of_the_schedule_is_refused(key, bad):
  good = dict(
    constant={},
    poly=dict(power=2),
    rsqrt=dict(timescale="1M ex", start="5M ex", delay=5, warmup="5%"),
    stair=dict(at=("5%", 7), mults=(0.1, 0), cooldown="10%"),
  )
  rules = [("x", dict(kind=kind, **more)) for kind, more in good.items()]
  config.validate(changed("schedule", rules))
  rules[2] = ("x", dict(rules[2][1], **{key: bad}))
  with pytest.raises(ValueError, match=rf"schedule\[2\].{key} is .*: wanted"):
    config.validate(changed("schedule", rules))


def test_all_complaints_come_at_once():
  c = changed("lr", -1)
  del c.b2
  c.b2, c.model.drpout = 1, 0.5
  del c.wd
  with pytest.raises(ValueError) as error:
    config.validate(c, complete=True)
  assert str(error.value).splitlines() == [
    "config.b2 is 1: wanted float in [0, 1)",
    "config.lr is -1: wanted float > 0",
    'unknown config key "model.drpout"; did you mean "dropout"? Known: dropout,'
    " dtype, final_softcap, remat, variant, window.",
    "config.wd is missing: wanted float >= 0",
  ]


def test_a_config_that_was_saved_as_json_is_as_good():
  c = config.load(FORKME)
  read = json.loads(c.to_json())
  config.validate(ml_collections.ConfigDict(read), complete=True)


def choices(key):
  """Returns the texts that a key may have."""
  return {x for x in map(str, schema.choices(schema.KEYS[key]))}


def test_names_in_the_schema_are_those_in_the_code():
  assert choices("optimizer") == set(optim.OPTIMIZERS)
  assert choices("model.remat") == set(layers.POLICIES)
  assert choices("model.dtype") == {*variants.DTYPES, "auto"}
  assert choices("schedule") == choices("schedule.*.kind")
  assert choices("schedule") == set(schedule.KINDS)
  own = {key for keys in schedule.KINDS.values() for key in keys}
  own |= {"kind", "delay", "warmup", "cooldown"}
  known = {k.rpartition(".")[2] for k in schema.KEYS if "schedule." in k}
  assert known == own


def test_what_a_config_without_a_newer_key_means_is_the_default():
  c = base.get().to_dict()
  assert {k: c[k] for k in schema.DEFAULTS} == schema.DEFAULTS


def test_every_key_has_been_there_from_the_first_or_has_a_default():
  """Else a config or a run of an earlier version would be refused."""
  first = """arg b1 b2 bad batch_size blind data evals grad_clip init input
    label_smoothing log_every lr lr_mult max_checkpoints mesh model num_images
    optimizer pp res save_every schedule seed sharding text_len tokenizer total
    warmup wd wd_mult"""
  assert {*base.get()} - {*schema.DEFAULTS} == {*first.split()}


def test_a_config_older_than_a_key_is_as_good(tmp_path):
  text = (paths.ROOT / "transfers/base.py").read_text()
  for key in schema.DEFAULTS:
    # A group stands over several lines.
    group = rf"\n  c\.{key} = dict\((\n    .*)*\n  \)"
    text, num = re.subn(rf"{group}|\n  c\.{key} = .*", "", text)
    assert num == 1, key
  old = tmp_path / "old.py"
  old.write_text(text + "\n\nget_config = get\n")
  c = config.load(str(old), [("num_microbatches", "4")])
  config.validate(c, complete=True)
  assert c.num_microbatches == 4


def test_groups_have_the_keys_that_the_code_reads():
  leaves = lambda group: {
    k.removeprefix(group) for k in schema.KEYS if k.startswith(group)
  }
  fields = {*options.Options._fields, *limits.Limits._fields}
  assert leaves("input.") == fields - {"bad", "limits"}
  assert leaves("evals.*.") == {*task.KEYS, "source"}
  assert leaves("model.") == {*base.get().model}
  assert {k.partition(".")[0] for k in schema.KEYS} == {*base.get()}


@pytest.mark.parametrize(
  "key, value, said",
  (
    ("optimizer", "adamm", '; did you mean "adam"?'),
    ("nonfinite.policy", "skipp", '; did you mean "skip"?'),
    ("model.remat", "dot", '; did you mean "dots"?'),
    ("optimizer", "schedulefree", '; did you mean "schedule_free"?'),
  ),
)
def test_a_choice_that_is_not_there_is_answered_with_the_nearest(
  key, value, said
):
  with pytest.raises(ValueError, match=re.escape(said)):
    config.validate(changed(key, value))
