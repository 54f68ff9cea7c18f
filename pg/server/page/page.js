// The page: an image, questions about it, and answers drawn over it.

import { Refused, ask, models } from "/ask.js";
import { coco, color, draw, hit, labels } from "/draw.js";

const $ = (id) => document.getElementById(id);
const NAMES = { caption: "Caption", answer: "Answer", detect: "Detect", segment: "Segment", read: "Read" };
const WANTS = { answer: "what do you want to know?", detect: "cat ; dog", segment: "cat" };

let image = null; // { name, url, width, height }
let history = []; // { prompt, text, objects, seconds, tokens, ... }
let current = null; // the answer whose objects are drawn
let lit = null; // the object that is highlighted
let running = null; // AbortController
let stream = null; // of the camera
let known = []; // models

function make(tag, fields = {}, ...children) {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...children);
  return element;
}

// ---- image

function show(part) {
  for (const id of ["empty", "shown", "live"]) $(id).hidden = id !== part;
}

function asDataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

// Makes an image smaller that is more than the server takes.
async function fitted(bitmap, blob) {
  const most = known[0]?.max_bytes ?? 20 << 20;
  if (blob.size * 1.4 < most && bitmap.width * bitmap.height < 25e6) return blob;
  const scale = Math.min(1, 2048 / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
}

async function use(blob, name) {
  try {
    const bitmap = await createImageBitmap(blob);
    const url = await asDataUrl(await fitted(bitmap, blob));
    $("image").src = url;
    await $("image").decode();
    image = { name, url, width: $("image").naturalWidth, height: $("image").naturalHeight };
  } catch {
    return say(`${name} is no image that this browser can show. Try a JPEG or PNG file.`, true);
  }
  history = [];
  current = lit = null;
  $("answers").replaceChildren();
  say("");
  show("shown");
  redraw();
  ready();
  $("prompt").focus();
}

async function useFiles(files) {
  const file = [...files].find((x) => x.type.startsWith("image/"));
  if (file) await use(file, file.name);
  else if (files.length) say("That is no image. Try a JPEG or PNG file.", true);
}

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch {
    return say("There is no camera, or the browser was not allowed to use it. Choose a file instead.", true);
  }
  $("video").srcObject = stream;
  await $("video").play();
  show("live");
}

function stopCamera() {
  stream?.getTracks().forEach((x) => x.stop());
  stream = null;
  show(image ? "shown" : "empty");
}

async function snap() {
  const { videoWidth, videoHeight } = $("video");
  const canvas = new OffscreenCanvas(videoWidth, videoHeight);
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  stopCamera();
  await use(await canvas.convertToBlob({ type: "image/png" }), "camera.png");
}

// ---- drawing

function redraw() {
  const canvas = $("over"), { clientWidth: width, clientHeight: height } = $("image");
  if (!image || !width) return;
  const dense = window.devicePixelRatio || 1;
  canvas.width = width * dense;
  canvas.height = height * dense;
  if (current) draw(canvas.getContext("2d"), current.objects, canvas.width / image.width, lit);
}

function light(i) {
  if (lit === i) return;
  lit = i;
  redraw();
  document.querySelectorAll("#answers .now .things li").forEach((x, k) => x.classList.toggle("lit", k === i));
}

function point(event) {
  if (!current) return;
  const box = $("over").getBoundingClientRect();
  const scale = image.width / box.width;
  const x = event.clientX - box.left, y = event.clientY - box.top;
  light(hit(current.objects, x * scale, y * scale));
}

function choose(one, card) {
  current = one;
  lit = null;
  document.querySelectorAll("#answers > li").forEach((x) => x.classList.toggle("now", x === card));
  redraw();
}

// ---- questions

function say(text, isError = false) {
  $("state").textContent = text;
  $("state").className = isError ? "bad" : "";
}

function ready() {
  $("ask").disabled = !running && (!image || !$("prompt").value.trim());
  $("ask").textContent = running ? "Stop" : "Ask";
  for (const id of ["jsonl", "coco"]) $(id).disabled = !history.length;
  $("prompt").placeholder = image ? "Ask about the image" : "First choose an image";
}

const ms = (x) => (x < 0.01 ? `${(1000 * x).toFixed(1)} ms` : x < 1 ? `${Math.round(1000 * x)} ms` : `${x.toFixed(1)} s`);

function timings({ seconds, tokens }) {
  if (!seconds) return "";
  const kept = "image" in seconds || "prefill" in seconds ? "" : "known from before";
  const each = tokens > 1 ? (seconds.whole - seconds.first) / (tokens - 1) : 0;
  const parts = ["queue", "image", "prefill"].filter((k) => k in seconds).map((k) => `${k} ${ms(seconds[k])}`);
  return [...parts, kept, each && `${ms(each)} a token`, `${ms(seconds.whole)} in all`].filter(Boolean).join(" · ");
}

function things(one) {
  const all = labels(one.objects);
  const rows = one.objects.map((x, i) => {
    const dot = make("span", { className: "dot" });
    dot.style.background = color(x.label, all);
    const percent = x.score === null ? "" : `${Math.round(100 * x.score)} %`;
    const row = make("li", { tabIndex: 0 }, dot, make("span", { textContent: x.label }), make("span", { className: "quiet", textContent: percent }));
    row.onmouseenter = row.onfocus = () => current === one && light(i);
    row.onmouseleave = row.onblur = () => current === one && light(null);
    return row;
  });
  return make("ul", { className: "things" }, ...rows);
}

const ADVICE = {
  0: "The server does not answer. Is it running? Then ask again.",
  429: "Too many of your requests are being answered. Wait a moment, then ask again.",
  503: "The server is busy, or stopping. Wait a moment, then ask again.",
  504: "The answer took too long. Ask again, or for less.",
};

function fail(card, error, prompt) {
  const known = error instanceof Refused;
  const text = known && error.message ? error.message : ADVICE[0];
  const again = make("button", { textContent: "Ask again" });
  again.onclick = () => {
    card.remove();
    submit(prompt);
  };
  const advice = known && error.status ? (ADVICE[error.status] ?? "Change the question or the image, then ask again.") : "";
  card.classList.add("failed");
  card.querySelector(".body").replaceChildren(make("p", { className: "bad", textContent: text }), make("p", { className: "quiet", textContent: advice }), again);
  if (error.status === 401) $("key").showModal();
}

async function submit(prompt) {
  prompt = prompt.trim();
  if (!image || !prompt || running) return;
  const body = make("div", { className: "body" }, make("p", { className: "wait", textContent: "Reading the image" }));
  const head = make("button", { className: "asked", textContent: prompt });
  const card = make("li", {}, head, body);
  $("answers").prepend(card);
  running = new AbortController();
  ready();
  const of = image, asked = { model: $("model").value, prompt, image: image.url };
  try {
    const tell = (text) => body.replaceChildren(make("p", { className: "said", textContent: text }));
    const found = await ask(asked, tell, running.signal);
    if (image !== of) return;
    const one = { prompt, model: asked.model, image: of.name, width: of.width, height: of.height, ...found };
    history.push(one);
    const plain = one.text.replace(/<(loc|seg)\d+>/g, "").trim();
    const said = make("p", { className: one.objects.length ? "said raw" : "said", textContent: one.text || "(an empty answer)", title: plain });
    const cut = one.reason === "length" ? make("p", { className: "quiet", textContent: "It was cut at the longest answer." }) : "";
    body.replaceChildren(...(one.objects.length ? [things(one)] : []), said, cut, make("p", { className: "quiet times", textContent: timings(one) }));
    head.onclick = () => choose(one, card);
    choose(one, card);
  } catch (error) {
    if (error.name === "AbortError") card.remove();
    else fail(card, error, prompt);
  } finally {
    running = null;
    ready();
  }
}

function useTask(name, start) {
  const prompt = $("prompt");
  prompt.value = start;
  prompt.focus();
  ready();
  if (name in WANTS) prompt.placeholder = `${start}${WANTS[name]}`;
  else submit(start);
}

function listTasks() {
  const model = known.find((x) => x.id === $("model").value);
  const rows = Object.entries(model?.tasks ?? {}).map(([name, start], i) => {
    const button = make("button", { textContent: NAMES[name], title: `${start}${WANTS[name] ?? ""} (Alt ${i + 1})` });
    button.onclick = () => useTask(name, start);
    return button;
  });
  $("tasks").replaceChildren(...rows);
}

// ---- downloads

function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function savePng() {
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage($("image"), 0, 0);
  if (current) draw(context, current.objects, 1);
  download(await canvas.convertToBlob({ type: "image/png" }), "pg.png");
}

const json = (text, name) => download(new Blob([text], { type: "application/json" }), name);

// ---- begin

async function begin() {
  say("Connecting");
  try {
    known = await models();
  } catch (error) {
    if (error.status === 401) $("key").showModal();
    return say(error.status === 401 ? "A token is wanted." : ADVICE[0], true);
  }
  say("");
  $("model").replaceChildren(...known.map((x) => make("option", { textContent: x.id })));
  listTasks();
  ready();
}

$("choose").onclick = $("another").onclick = () => $("file").click();
$("file").onchange = async () => {
  await useFiles($("file").files);
  $("file").value = "";
};
$("camera").onclick = $("camera2").onclick = startCamera;
$("snap").onclick = snap;
$("stop").onclick = stopCamera;
$("example").onclick = async () => use(await (await fetch("/example.png")).blob(), "example.png");
$("png").onclick = savePng;
$("jsonl").onclick = () => json(history.map((x) => `${JSON.stringify(x)}\n`).join(""), "answers.jsonl");
$("coco").onclick = () => json(JSON.stringify(coco(image.name, { width: image.width, height: image.height }, current?.objects ?? [])), "coco.json");
$("model").onchange = listTasks;
$("prompt").oninput = ready;
$("form").onsubmit = (event) => {
  event.preventDefault();
  if (running) running.abort();
  else submit($("prompt").value);
};
$("key").onclose = () => {
  if ($("key").returnValue !== "use") return;
  $("key").returnValue = "";
  sessionStorage.setItem("token", $("token").value.trim());
  begin();
};
$("over").onmousemove = $("over").onclick = point;
$("over").onmouseleave = () => light(null);
new ResizeObserver(redraw).observe($("image"));
document.addEventListener("paste", (event) => useFiles(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  useFiles(event.dataTransfer.files);
});
document.addEventListener("keydown", (event) => {
  const isWriting = event.target.matches("input, textarea, select");
  if (event.key === "Escape" && running) running.abort();
  else if (event.key === "Escape" && stream) stopCamera();
  else if (event.key === "/" && !isWriting) $("prompt").focus();
  else if (event.altKey && /^Digit[1-5]$/.test(event.code)) $("tasks").children[event.code.slice(5) - 1]?.click();
  else if (event.key === "ArrowUp" && event.target === $("prompt") && history.length) $("prompt").value = history.at(-1).prompt;
  else return;
  event.preventDefault();
  ready();
});
ready();
begin();
