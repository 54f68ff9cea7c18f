"""Files for test servers, made of predictions."""

import json

import pytest

from pg.evals import coco_results, submit

CAT = "<loc0000><loc0256><loc0512><loc1023> cat"


def records(*ids, text="a kite", **more):
  return [
    dict(index=i, where=f"val:{i}", id=key, prompt="q", prediction=text, **more)
    for i, key in enumerate(ids)
  ]


def content(name, found):
  return submit.make(name, found)[0]


@pytest.mark.parametrize("name", ("vqav2", "okvqa", "textvqa", "stvqa"))
def test_question_servers_get_a_number_and_an_answer(name):
  want = [
    {"question_id": 101000, "answer": "a kite"},
    {"question_id": 7, "answer": "a kite"},
  ]
  ids = {"question_id": 101000, "image_id": 101}, {"question_id": "7"}
  assert content(name, records(*ids)) == want


@pytest.mark.parametrize("name", ("docvqa", "infovqa"))
def test_document_servers_spell_the_key_their_way(name):
  want = [{"questionId": 65001, "answer": "a kite"}]
  for key in ("questionId", "question_id"):
    assert content(name, records({key: 65001})) == want


@pytest.mark.parametrize("name", ("coco_captions", "nocaps"))
def test_caption_servers_get_the_image_and_not_the_caption_number(name):
  found = records({"id": 9001, "image_id": 101}, {"id": 102})
  want = [
    {"image_id": 101, "caption": "a kite"},
    {"image_id": 102, "caption": "a kite"},
  ]
  assert content(name, found) == want


@pytest.mark.parametrize(
  "name, key, want",
  [
    ("textcaps", {"image_id": "00ab"}, [{"image_id": "00ab", "caption": "x"}]),
    ("gqa", {"questionId": "071"}, [{"questionId": "071", "prediction": "x"}]),
    (
      "activitynet_qa",
      {"question_id": "v_a_3"},
      [{"question_id": "v_a_3", "answer": "x"}],
    ),
    ("vatex", {"videoID": "a_000010_000020"}, {"a_000010_000020": "x"}),
    ("aokvqa_da", {"question_id": "aB3"}, {"aB3": {"direct_answer": "x"}}),
    ("aokvqa_mc", {"question_id": "aB3"}, {"aB3": {"multiple_choice": "x"}}),
  ],
)
def test_other_servers_get_names_as_text(name, key, want):
  assert content(name, records(key, text=" x\n")) == want


def test_vizwiz_gets_the_file_name_wherever_it_is():
  want = [{"image": "VizWiz_test_00000007.jpg", "answer": "a kite"}]
  name = "VizWiz_test_00000007.jpg"
  for key in ({"image": name}, {"file_name": f"test/{name}"}, {"image_id": 7}):
    assert content("vizwiz", records(key)) == want
  assert content("vizwiz", records({}, image_ref=f"raw/test/{name}")) == want


def test_both_answers_of_aokvqa_become_one_file():
  parts = [content(f"aokvqa_{k}", records({"question_id": "a"}, {
    "question_id": k})) for k in ("da", "mc")]  # fmt: skip
  assert submit.join(parts) == {
    "a": {"direct_answer": "a kite", "multiple_choice": "a kite"},
    "da": {"direct_answer": "a kite"},
    "mc": {"multiple_choice": "a kite"},
  }
  with pytest.raises(ValueError, match="two files have the direct_answer of"):
    submit.join([parts[0], parts[0]])
  with pytest.raises(ValueError, match="only aokvqa_da and aokvqa_mc"):
    submit.join([parts[0], content("vqav2", records({"question_id": 1}))])


def detected(text=CAT, **more):
  size = {"image_id": 101, "height": 512, "width": 1023}
  return records(size, text=text, **more)


def test_coco_gets_boxes_in_pixels_of_the_whole_image():
  found = detected(f"{CAT} ; {CAT[:36]} hair drier", scores=[0.25, 0.5])
  made, notes = submit.make("coco_detection", found)
  box = [256.0, 0.0, 767.0, pytest.approx(512 * 512 / 1023, abs=0.006)]
  assert made == [
    {"image_id": 101, "category_id": 17, "bbox": box, "score": 0.25},
    {"image_id": 101, "category_id": 89, "bbox": box, "score": 0.5},
  ]
  assert not notes


def test_coco_numbers_eighty_of_ninety_names():
  assert len(coco_results.CATEGORIES) == 80
  some = {"person": 1, "stop sign": 13, "backpack": 27, "toilet": 70}
  assert some.items() <= coco_results.CATEGORIES.items()
  assert coco_results.CATEGORIES["toothbrush"] == 90


def test_boxes_that_coco_cannot_take_are_left_out_and_counted():
  empty = "<loc0512><loc0000><loc0512><loc1023> cat"
  found = detected(f"{CAT[:36]} kitten ; {empty} ; {CAT}")
  made, notes = submit.make("coco_detection", found)
  assert [item["score"] for item in made] == [1.0]
  assert "1 boxes are left out, their names are not COCO's: 'kitten'" in notes
  assert any("1 predictions have no scores" in note for note in notes)


def test_coco_boxes_need_the_size_and_as_many_scores():
  with pytest.raises(ValueError, match="val:0 has 2 scores and .* 1 boxes"):
    submit.make("coco_detection", detected(scores=[0.1, 0.2]))
  bare = records({"image_id": 1}, text=CAT)
  with pytest.raises(ValueError, match="val:0 has no height .* only image_id"):
    submit.make("coco_detection", bare)


def test_an_image_may_be_asked_about_several_things():
  found = detected() + detected()
  with pytest.raises(ValueError, match=r"are both \(101, 'q'\)"):
    submit.make("coco_detection", found)
  found[1]["prompt"] = "detect dog"
  assert len(content("coco_detection", found)) == 2


def test_a_record_without_its_id_is_named_with_what_it_has():
  found = records({"question_id": 1}, {"image_id": 2, "key": "a"})
  message = 'val:1 has no "question_id", only image_id, key'
  with pytest.raises(ValueError, match=message):
    submit.make("vqav2", found)


@pytest.mark.parametrize("value", ("q7", 7.5, True, ""))
def test_an_id_that_is_no_number_is_named(value):
  with pytest.raises(ValueError, match='"question_id" .* val:0 .* whole numb'):
    submit.make("vqav2", records({"question_id": value}))


def test_two_answers_to_a_question_are_an_error():
  found = records({"question_id": 7}, {"question_id": "7"})
  with pytest.raises(ValueError, match="val:0 and val:1 are both 7"):
    submit.make("vqav2", found)


def test_an_unknown_format_names_the_nearest():
  with pytest.raises(ValueError, match='did you mean "vqav2"'):
    submit.make("vqa_v2", records({"question_id": 7}))
  with pytest.raises(ValueError, match="no predictions"):
    submit.make("vqav2", [])


def test_empty_predictions_are_written_and_counted(tmp_path, capsys):
  found = records({"question_id": 7}) + records({"question_id": 8}, text=" ")
  path = tmp_path / "new/test.json"
  submit.write(str(path), ["vqav2"], [found])
  assert json.loads(path.read_text())[1] == {"question_id": 8, "answer": ""}
  assert "1 of 2 predictions are empty, the first" in capsys.readouterr().out
  assert [p.name for p in path.parent.iterdir()] == ["test.json"]


def test_a_submission_with_an_error_leaves_the_old_file(tmp_path):
  path = tmp_path / "test.json"
  path.write_text("old")
  with pytest.raises(ValueError):
    submit.write(str(path), ["vqav2"], [records({})])
  assert path.read_text() == "old"
