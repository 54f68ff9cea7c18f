"""What clients get: answers as `predict` gives them, alone and among others."""

import concurrent.futures
import contextlib
import json
import re
import shutil
import subprocess

import numpy as np
import openai
import pytest

from pg.decode import constraint
from tests.support import paths, server

pytestmark = pytest.mark.usefixtures("one_device")
PROMPTS = server.PROMPTS


def test_an_answer_is_the_same_alone_and_among_fifteen_others(web):
  kinds = [(PROMPTS[i % 4], i // 3) for i in range(16)]
  models = [["toy", *server.ADAPTERS][i % 4] for i in range(16)]
  names = {"toy": None} | {x: x for x in server.ADAPTERS}
  one = lambda x, name: server.ask(
    web, *x, model=name, logprobs=True, max_tokens=12
  )
  before = {
    k: f._cache_size() for k, f in vars(server.running().model.programs).items()
  }
  with concurrent.futures.ThreadPoolExecutor(16) as threads:
    together = list(threads.map(one, kinds, models))
  after = {
    k: f._cache_size() for k, f in vars(server.running().model.programs).items()
  }
  assert before == after  # nothing was compiled
  for x, name, answer in zip(kinds, models, together, strict=True):
    assert server.alike(answer["choices"][0], server.predict(*x, names[name]))
  (again,) = one(kinds[5], models[5])["choices"]
  assert server.alike(again, server.predict(*kinds[5], names[models[5]]))


def test_what_is_drawn_depends_on_the_seed_alone(web):
  how = dict(temperature=1.2, top_p=0.9, seed=7, n=3)
  with concurrent.futures.ThreadPoolExecutor(4) as threads:
    others = [threads.submit(server.ask, web, PROMPTS[2], i) for i in range(3)]
    drawn = server.ask(web, PROMPTS[1], **how, max_tokens=12)
    assert [x.result() for x in others]
  alone = server.ask(web, PROMPTS[1], **how, max_tokens=12)
  texts = lambda x: [c["message"]["content"] for c in x["choices"]]
  assert texts(alone) == texts(drawn) and len({*texts(drawn)}) == 3
  other = server.ask(web, PROMPTS[1], **how | dict(seed=8), max_tokens=12)
  assert texts(other) != texts(drawn)


def test_limits_of_answers_hold_for_each_of_a_batch(web):
  kinds = [
    (PROMPTS[0], {"type": "boxes"}),
    (PROMPTS[1], {"type": "choice", "choices": ["yes", "no", "a cat"]}),
    (PROMPTS[1], {"type": "text"}),
    ("segment cat", {"type": "masks"}),
  ]
  one = lambda x: server.ask(web, x[0], response_format=x[1], max_tokens=28)
  with concurrent.futures.ThreadPoolExecutor(4) as threads:
    found = [x["choices"][0]["message"] for x in threads.map(one, kinds * 2)]
  for one, again in zip(found[:4], found[4:]):
    scores = [
      [x.pop("score") for x in m.get("objects", ())] for m in (one, again)
    ]
    assert one == again and scores[0] == pytest.approx(scores[1], rel=1e-3)
  boxes, choice, _, masks = found[:4]
  model = server.running().model
  assert {x["label"] for x in boxes["objects"]} == {"cat"}
  assert choice["content"] in ("yes", "no", "a cat")
  (shape,) = {tuple(x["mask"]["size"]) for x in masks["objects"]}
  assert shape == (20, 30) and "<seg" in masks["content"]
  digits = constraint.regex(model.form.tok, "[0-9]+")
  assert digits.table.size < 1 << 18
  text = {"type": "regex", "pattern": "[0-9]+"}
  error = server.ask(web, response_format=text, status=400)["error"]
  assert "--regex allows" in error["message"]


def test_a_text_that_ends_answers_is_not_in_them(web):
  whole = server.ask(web, PROMPTS[1], max_tokens=12, logprobs=True)["choices"][
    0
  ]
  text = whole["message"]["content"]
  stop = text[len(text) // 2 :][:3]
  how = dict(max_tokens=12, stop=["never", stop], logprobs=True)
  (choice,) = server.ask(web, PROMPTS[1], **how)["choices"]
  want = text[: text.index(stop)]
  assert choice["message"]["content"] == want
  assert choice["finish_reason"] == "stop"
  read = "".join(x["token"] for x in choice["logprobs"]["content"])
  assert read.strip().startswith(want.strip())
  parts = server.events(web, PROMPTS[1], **how)
  said = [x["choices"][0]["delta"].get("content", "") for x in parts]
  assert "".join(said) == want
  assert whole["finish_reason"] == "length"


def test_openais_client_reads_all_that_is_sent(address):
  with openai.OpenAI(
    base_url=f"{address}/v1", api_key="any", max_retries=0
  ) as client:
    assert [x.id for x in client.models.list()] == [*server.NAMES]
    how = server.question(PROMPTS[0], max_tokens=12)
    whole = client.chat.completions.create(**how, logprobs=True, top_logprobs=3)
    (choice,) = whole.choices
    want = server.predict(PROMPTS[0])
    assert choice.message.content == want.text
    (thing,), (box,) = choice.message.objects, want.boxes
    assert (thing["label"], thing["box"]) == (box.label, [*box.box])
    assert thing["score"] == pytest.approx(box.score, abs=1e-5)
    assert thing["mask"] is None
    content = choice.logprobs.content
    assert all(len(x.top_logprobs) == 3 for x in content)
    assert all(x.top_logprobs[0].token == x.token for x in content)
    usage = whole.usage
    assert usage.completion_tokens == len(want.tokens)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert whole.image == dict(height=20, width=30)
    assert 0 <= whole.seconds["queue"] <= whole.seconds["whole"]
    options = {"include_usage": True}
    stream = client.chat.completions.create(
      **how, stream=True, stream_options=options, n=2, logprobs=True
    )
    *parts, last = stream
    assert last.usage.completion_tokens == 2 * len(want.tokens)
    for i in range(2):
      own = [x.choices[0] for x in parts if x.choices[0].index == i]
      assert "".join(x.delta.content or "" for x in own) == want.text
      assert own[-1].finish_reason == choice.finish_reason
      (other,) = own[-1].delta.objects
      assert (other["label"], other["box"]) == (box.label, [*box.box])
      found = [y for x in own if x.logprobs for y in x.logprobs.content]
      assert [x.token for x in found] == [x.token for x in content]
      logp = [x.logprob for x in found]
      np.testing.assert_allclose(logp, want.logp[: len(logp)], atol=1e-5)
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'") as found:
      client.chat.completions.create(**how | {"model": "gpt-4"})
    assert found.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="wanted 0.0 to 2.0"):
      client.chat.completions.create(**how, temperature=3)


def test_what_was_read_is_known_again(web):
  device = server.running().device
  server.ask(web, "ocr", 77)
  seen, read = device.images.hits, device.prefixes.hits
  first = server.ask(web, "ocr", 77)
  assert device.prefixes.hits == read + 1 and "prefill" not in first["seconds"]
  server.ask(web, "what?", 77)
  assert device.images.hits == seen + 1
  server.ask(
    web, "what?", 77, model=server.ADAPTERS[0]
  )  # sees it with its own eyes
  assert device.images.hits == seen + 1


def test_the_commands_of_its_page_run(address, capsys):
  doc = (paths.ROOT / "docs/serve.md").read_text()
  doc = doc.replace("http://127.0.0.1:7860", address).replace('"nano"', '"toy"')
  (shell,) = re.findall(r"```bash\n(image=.*?)```", doc, re.S)
  (python,) = re.findall(r"```python\n(.*?)```", doc, re.S)
  if shutil.which("curl"):
    done = subprocess.run(
      ["bash", "-c", shell], cwd=paths.ROOT, capture_output=True, check=True
    )
    answer = json.loads(done.stdout)["choices"][0]["message"]
    assert isinstance(answer["objects"], list)
  with contextlib.chdir(paths.ROOT):
    exec(python, {})
  out = capsys.readouterr().out
  assert not shutil.which("curl") or out.startswith(answer["content"])
