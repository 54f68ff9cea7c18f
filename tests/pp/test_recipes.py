"""The texts of all published transfer recipes, and of pre-training, in ops.

The prompts and targets are those of google-research/big_vision's
configs/proj/paligemma/transfers; image ops are left out.
"""

import pytest

from pg import pp
from pg.pp import parse

CAPTION = "fmt('caption en', out='prefix')"
ANSWER = "fmt('answer en {question}', out='prefix')"
QUESTION = "fmt('{question}', out='prefix')"
CHOOSE = (
  "join('options', ' \\t ', out='shown')"
  " | fmt('answer en  {question} choose from: {shown}', out='prefix')"
)
ANY = " | choice('answers', out='suffix')"
CYCLE = " | cycle('answers', out='suffix')"
LOWER = " | lower('answers') | cycle('answers', out='suffix')"
LABEL = " | copy('answer', out='suffix')"

BOX = "<loc0000><loc0000><loc1023><loc0512>"
MASK = "<seg005>" * 16

RECIPES = dict(
  activitynet_cap=(CAPTION + ANY, "caption en -> B c"),
  activitynet_qa=(ANSWER + LABEL, "answer en What? -> Yes. No."),
  ai2d=(CHOOSE + LABEL, "answer en  What? choose from: x \t y -> Yes. No."),
  aokvqa_da=(
    f"keep_if('difficult', False) | {ANSWER}{CYCLE}",
    "answer en What? -> B c",
  ),
  aokvqa_mc=(
    f"{CHOOSE} | pick('options', 'place', out='suffix')",
    "answer en  What? choose from: x \t y -> y",
  ),
  chartqa=(QUESTION + LABEL, "What? -> Yes. No."),
  coco35l=(
    f"fmt('caption {{language}}', out='prefix'){CYCLE}",
    "caption de -> B c",
  ),
  cococap=(
    "flatten | rename('captions/text', out='answers') | strip('answers')"
    f" | {CAPTION}{CYCLE}",
    "caption en -> A dog.",
  ),
  docvqa=(QUESTION + ANY, "What? -> B c"),
  forkme=(CAPTION, "caption en -> as it is"),
  gqa=(ANSWER + LABEL, "answer en What? -> Yes. No."),
  infovqa=(ANSWER + LOWER, "answer en What? -> b c"),
  msrvtt_cap=(CAPTION + ANY, "caption en -> B c"),
  msrvtt_qa=(ANSWER + LABEL, "answer en What? -> Yes. No."),
  msvd_qa=(ANSWER + LABEL, "answer en What? -> Yes. No."),
  nlvr2=(
    f"gather(['image_left', 'image_right'], out='image') | {ANSWER}"
    " | pick(['False', 'True'], 'place', out='suffix')",
    "answer en What? -> True",
  ),
  ocrvqa=(ANSWER + LABEL, "answer en What? -> Yes. No."),
  okvqa=(ANSWER + CYCLE, "answer en What? -> B c"),
  pope=(QUESTION + LABEL, "What? -> Yes. No."),
  refcoco_seg=(
    "cycle(['boxes', 'codes', 'sentences'], out=['box', 'mask', 'these'])"
    " | choice('these', out='prefix')"
    " | loc('box', codes='mask', out='suffix')",
    f"left dog -> {BOX}{MASK}",
  ),
  rsvqa_hr=(
    f"keep_if('type', ['comp', 'presence']) | {ANSWER}{LOWER}",
    "answer en What? -> b c",
  ),
  rsvqa_lr=(ANSWER + LOWER, "answer en What? -> b c"),
  scicap=(
    f"{CAPTION}{LABEL} | first_sentence('suffix') | lower('suffix')",
    "caption en -> yes.",
  ),
  science_qa=(
    "rename('place', out='answer') | rename('options', out='choices')"
    " | skip_if('hint') | science_qa()",
    "Question: What?\nContext: N/A\nOptions: (A) x, (B) y\nAnswer:"
    " -> The answer is B.",
  ),
  screen2words=(CAPTION + CYCLE, "caption en -> B c"),
  stvqa=(ANSWER + LOWER, "answer en What? -> b c"),
  tallyqa=(
    f"{ANSWER} | fmt('{{place}}', out='suffix')",
    "answer en What? -> 1",
  ),
  textcaps=(CAPTION + LOWER, "caption en -> b c"),
  textvqa=(ANSWER + CYCLE, "answer en What? -> B c"),
  vatex_cap=(CAPTION + ANY, "caption en -> B c"),
  vertexai_l4=(CAPTION, "caption en -> as it is"),
  vizwizvqa=(f"keep_if('answers') | {ANSWER}{CYCLE}", "answer en What? -> B c"),
  vqav2=(ANSWER + CYCLE, "answer en What? -> B c"),
  widgetcap=(CAPTION + CYCLE, "caption en -> B c"),
)
PRETRAINING = dict(
  caption=(CAPTION + CYCLE, "caption en -> B c"),
  ocr=("objects('raster') | ocr()", "ocr -> STOP"),
  answer=(ANSWER + LABEL, "answer en What? -> Yes. No."),
  question=(
    "fmt('question {language} {answer}', out='prefix')",
    "question de Yes. No. -> as it is",
  ),
  objects=("ask('is')", "answer en Is dog in the image? -> yes"),
  detect=("detect()", f"detect dog -> {BOX} dog"),
  segment=("segment()", f"segment dog -> {BOX}{MASK} dog"),
  grounded=(
    "choice(['boxes', 'labels'], out=['box', 'suffix'])"
    " | loc('box', out='where') | fmt('caption {where}', out='prefix')",
    f"caption {BOX} -> dog",
  ),
)
ROW = dict(
  question="What?",
  answer="Yes. No.",
  answers=["B c"],
  captions={"text": ["A dog. \n"]},
  language="de",
  difficult=False,
  options=["x", "y"],
  place=1,
  hint="",
  type="comp",
  suffix="as it is",
  image_left=b"left",
  image_right=b"right",
  boxes=[[0, 0, 1, 0.5]],
  labels=["dog"],
  codes=[[5] * 16],
  sentences=[["left dog"]],
  texts=["STOP"],
)


@pytest.mark.parametrize("name", [*RECIPES, *PRETRAINING])
def test_a_recipe_can_be_written_in_ops(name):
  string, wanted = {**RECIPES, **PRETRAINING}[name]
  done = parse.build(string)(ROW, pp.Turn())
  assert f"{done['prefix']} -> {done['suffix']}" == wanted


def test_there_are_thirty_four_recipes():
  assert len(RECIPES) == 34
