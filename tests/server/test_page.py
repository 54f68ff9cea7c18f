"""The page in a real browser: what is drawn, what is said, what is kept."""

import base64
import json
import shutil

import pytest

from pg import serve
from pg.server import asked
from tests.support import paths, server

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_device")]
NAMES = ("chromium", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
SCENE = paths.ROOT / "docs/images/scene.png"
OTHER = paths.ROOT / "pg/server/page/example.png"
OPTIONS = (
  "--no-sandbox",
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
)
# How many pixels of the drawing are not clear.
DRAWN = """() => {
  const { width, height } = document.getElementById("over");
  const context = document.getElementById("over").getContext("2d");
  const { data } = context.getImageData(0, 0, width, height);
  return data.filter((x, i) => i % 4 === 3 && x > 0).length;
}"""
DROP = """(text) => {
  const bytes = Uint8Array.from(atob(text), (x) => x.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "d.png", { type: "image/png" }));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer }));
}"""
PASTE = DROP.replace(
  'DragEvent("drop", { dataTransfer })',
  'ClipboardEvent("paste", { clipboardData: dataTransfer })',
)
TASKS = serve.TASKS


@pytest.fixture(scope="module")
def browser():
  api = pytest.importorskip("playwright.sync_api", reason="no playwright")
  if not BROWSER:
    pytest.skip("no chromium")
  with api.sync_playwright() as play:
    found = play.chromium.launch(executable_path=BROWSER, args=OPTIONS)
    yield found
    found.close()


@pytest.fixture
def constrained(monkeypatch):
  """Lets a random model answer with what it is asked for."""
  parse = asked.parse

  def forced(body):
    ask = parse(body)
    task = ask.prompt.partition(" ")[0]
    constrain = dict(detect="boxes", segment="masks").get(task)
    return ask._replace(constrain=constrain, max_tokens=28)

  monkeypatch.setattr(asked, "parse", forced)


def opened(browser, url, width=1200, scheme="light"):
  """Returns the page, whose errors are in `page.errors`."""
  size = dict(width=width, height=800)
  page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
  page.errors = []
  page.on("pageerror", lambda error: page.errors.append(str(error)))
  page.on("console", lambda x: x.type == "error" and page.errors.append(x.text))
  page.set_default_timeout(20_000)
  page.goto(url)
  return page


def ask(page, prompt):
  """Asks, and waits for the answer's card to be complete."""
  page.fill("#prompt", prompt)
  num = page.locator("#answers .times").count()
  page.keyboard.press("Enter")
  page.wait_for_function(
    "n => document.querySelectorAll('#answers .times').length > n", arg=num
  )


def saved(page, button):
  """Returns the bytes of what a button downloads."""
  with page.expect_download() as found:
    page.click(button)
  return open(found.value.path(), "rb").read()


@pytest.mark.parametrize("width,scheme", [(1200, "light"), (375, "dark")])
def test_an_image_is_asked_about_and_drawn_on(
  width, scheme, browser, constrained, tmp_path
):
  with server.served(tasks=TASKS) as (_, url):
    page = opened(browser, url, width, scheme)
    page.wait_for_selector("#tasks button")
    assert page.is_visible("text=Drop an image here") and page.is_disabled(
      "#ask"
    )
    right = "x => Math.max(...x.map(b => b.getBoundingClientRect().right))"
    assert page.eval_on_selector_all("#tasks button", right) <= width
    page.set_input_files("#file", SCENE)
    page.wait_for_selector("#shown:not([hidden])")
    assert page.evaluate(DRAWN) == 0
    page.click("text=Caption")
    page.wait_for_selector("#answers .times")
    assert "in all" in page.inner_text("#answers .times")
    page.click("text=Detect")
    assert page.input_value("#prompt") == "detect "
    ask(page, "detect cat ; dog")
    row = page.locator(".now .things li").first
    assert row.inner_text().split()[0] in ("cat", "dog")
    drawn = page.evaluate(DRAWN)
    assert drawn > 0
    row.hover()
    page.wait_for_selector(".things li.lit")
    ask(page, "segment cat")
    assert page.evaluate(DRAWN) > 0
    scroll = "document.documentElement.scrollWidth"
    assert page.evaluate(scroll) == width
    picture = saved(page, "#png")
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    lines = saved(page, "#jsonl").decode().splitlines()
    prompts = [json.loads(x)["prompt"] for x in lines]
    assert prompts == ["caption en", "detect cat ; dog", "segment cat"]
    found = json.loads(saved(page, "#coco"))
    assert found["images"][0]["file_name"] == "scene.png"
    assert found["annotations"][0]["segmentation"]["size"] == [384, 384]
    page.click("text=detect cat ; dog")  # an answer from before, again
    assert page.evaluate(DRAWN) == drawn
    page.keyboard.press("Tab")
    page.locator("body").click(position=dict(x=3, y=3))
    page.keyboard.press("/")
    page.keyboard.press("ArrowUp")
    assert page.input_value("#prompt") == "segment cat"
    assert page.errors == []


def test_images_are_dropped_pasted_or_taken_with_a_camera(browser, constrained):
  with server.served(tasks=TASKS) as (_, url):
    page = opened(browser, url)
    page.wait_for_selector("#tasks button")
    page.evaluate(DROP, base64.b64encode(SCENE.read_bytes()).decode())
    page.wait_for_selector("#shown:not([hidden])")
    ask(page, "caption en")
    first = page.locator("#answers > li").first
    page.evaluate(PASTE, base64.b64encode(OTHER.read_bytes()).decode())
    first.wait_for(state="detached")
    ask(page, "caption en")
    page.click("#camera2")
    page.click("#snap")
    page.wait_for_selector("#shown:not([hidden])")
    of_another_image = page.locator("#answers > li")
    of_another_image.first.wait_for(state="detached")
    ask(page, "caption en")
    page.click("#camera2")
    page.wait_for_selector("#live:not([hidden])")
    page.keyboard.press("Escape")
    page.wait_for_selector("#shown:not([hidden])")
    page.click("#another")
    text = dict(name="a.txt", mimeType="text/plain", buffer=b"a")
    page.set_input_files("#file", text)
    page.wait_for_selector("#state.bad >> text=Try a JPEG or PNG file")
    assert page.errors == []


def test_errors_say_what_to_do(browser):
  with server.served(tasks=TASKS, token="correct horse") as (_, url):
    page = opened(browser, url)
    page.wait_for_selector("#key[open]")
    page.fill("#token", "correct horse")
    page.click("text=Use it")
    page.wait_for_selector("#tasks button")
    page.click("#example")
    page.fill("#prompt", "what is " * 60)
    page.click("#ask")
    page.wait_for_selector(".failed >> text=shorten it")
    assert page.is_visible("text=Change the question or the image")
    page.evaluate("sessionStorage.setItem('token', 'another one')")
    page.fill("#prompt", "ocr")
    page.click("#ask")
    page.wait_for_selector("#key[open]")
    page.keyboard.press("Escape")
  page.click("button >> text=Ask again >> nth=0")  # nobody listens any more
  page.wait_for_selector(".failed >> text=The server does not answer")
