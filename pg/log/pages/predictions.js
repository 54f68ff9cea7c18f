"use strict";
const rows = JSON.parse(document.getElementById("data").textContent);
const PAGE = 48;
let shown = rows, page = 0;

// Makes an element. Texts become text nodes: nothing of the data is markup.
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "image", "title"].includes(name);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    e.setAttribute(key, value);
  }
  e.append(...children.filter((c) => c !== null));
  return e;
}

const ORDERS = {
  "worst first": (a, b) => score(a) - score(b) || logp(a) - logp(b),
  "best first": (a, b) => score(b) - score(a) || logp(b) - logp(a),
  "least likely first": (a, b) => logp(a) - logp(b),
  "likeliest first": (a, b) => logp(b) - logp(a),
  "by index": (a, b) => 0,  // as they are in the files
};

function truths(row) {
  return row.answers && row.answers.length ? row.answers.map(String)
    : [row.truth];
}

// Without a score, whether it is word for word one of the answers.
function score(row) {
  if (row.score != null) return row.score;
  const predicted = row.prediction.trim();
  return Number(truths(row).some((t) => t.trim() === predicted));
}

const logp = (row) => row.logp ?? -1e9;
const decimals = (x, n) => x === null ? "not a number" : x.toFixed(n);

function select(label, names) {
  const options = names.map((n) => make("option", { value: n }, n || "all"));
  const e = make("select", {}, ...options);
  document.querySelector(".controls").append(make("label", {}, label, e));
  e.addEventListener("change", update);
  return e;
}

const kindOf = (row) => row.kind || row.task || "";
const distinct = (values) => ["", ...new Set(values.filter((v) => v !== ""))];
const order = select("Order", Object.keys(ORDERS));
const evaluator = select("Evaluator", distinct(rows.map((r) => r.evaluator)));
const kind = select("Kind", distinct(rows.map(kindOf)));
const sees = select("Image", ["", "in this page"]);
const words = make("input", { type: "search", id: "words" });
const count = make("output", { id: "count" });
const back = make("button", { type: "button" }, "← Back");
const next = make("button", { type: "button" }, "Next →");
document.querySelector(".controls")
  .append(make("label", {}, "Text", words), back, next, count);
words.addEventListener("input", update);
back.addEventListener("click", () => turn(-1));
next.addEventListener("click", () => turn(1));

function update() {
  const text = words.value.toLowerCase();
  const has = (row) => [row.prompt, row.prediction, row.where, ...truths(row)]
    .some((t) => t.toLowerCase().includes(text));
  shown = rows.filter((row) =>
    (!evaluator.value || row.evaluator === evaluator.value)
    && (!sees.value || row.image)
    && (!kind.value || kindOf(row) === kind.value) && (!text || has(row)));
  shown.sort(ORDERS[order.value]);
  page = 0;
  draw();
}

function draw() {
  const part = shown.slice(page * PAGE, (page + 1) * PAGE);
  document.getElementById("cards").replaceChildren(...part.map(card));
  const first = page * PAGE;
  const n = (x) => x.toLocaleString("en");
  count.value = part.length === 0 ? "none"
    : `${n(first + 1)}–${n(first + part.length)} of ${n(shown.length)}`;
  back.disabled = page === 0;
  next.disabled = (page + 1) * PAGE >= shown.length;
}

// Returns whether there was a page to turn to.
function turn(by) {
  const to = page + by;
  if (to < 0 || to * PAGE >= shown.length) return false;
  page = to;
  draw();
  window.scrollTo(0, 0);
  return true;
}

function card(row) {
  const value = score(row);
  const mark = value >= 1 ? ["good", "✓"] : value <= 0 ? ["bad", "✗"]
    : ["part", value.toFixed(2)];
  const all = truths(row);
  const terms = [["truth", [...new Set(all)].join(" / ") || "(nothing)"],
    ["prediction", row.prediction || "(nothing)"]];
  const list = make("dl", {}, ...terms.flatMap(([term, text]) =>
    [make("dt", {}, term), make("dd", {}, ...short(text))]));
  list.lastChild.append(" ", make("b", { class: mark[0] }, mark[1]));
  if (value < 1 && all[0] && row.prediction && !row.shapes) {
    list.append(make("dt", {}, "difference"),
      make("dd", {}, ...difference(all[0], row.prediction)));
  }
  const facts = [row.evaluator, kindOf(row), row.where,
    row.logp === undefined ? "" : `logp ${decimals(row.logp, 2)}`];
  if (row.score !== undefined) facts.push(`score ${decimals(row.score, 3)}`);
  if (row.scores) {
    facts.push(`objects ${row.scores.map((s) => decimals(s, 2)).join(" ")}`);
  }
  return make("figure", { tabindex: "0" }, picture(row),
    make("figcaption", {}, make("p", {}, ...short(row.prompt)), list,
      make("p", { class: "meta" }, facts.filter(Boolean).join(" · "))));
}

// Returns a text with locations as small numbers, and of codes how many.
function short(text) {
  return text.split(/((?:<loc\d{4}>)+|(?:<seg\d{3}>)+)/).map((part, i) => {
    if (i % 2 === 0) return part;
    const numbers = part.match(/\d+/g).map(Number);
    return make("span", { class: "loc" }, part.startsWith("<seg")
      ? `<seg>×${numbers.length}` : numbers.join(" "));
  });
}

function picture(row) {
  if (!row.image && !row.shapes && !row.image_ref) return null;
  const box = make("div", { class: "picture" });
  if (row.image) {
    box.append(make("img", { src: row.image, alt: "",
      class: row.sharp ? "sharp" : "" }));
  } else if (row.shapes) {
    box.append(make("div", { class: "frame" }));
  }
  const drawing = make("svg",
    { viewBox: "0 0 1 1", preserveAspectRatio: "none" });
  for (const shape of row.shapes || []) {
    const [y1, x1, y2, x2] = shape.box;
    const place = { x: Math.min(x1, x2), y: Math.min(y1, y2),
      width: Math.abs(x2 - x1), height: Math.abs(y2 - y1) };
    if (shape.mask) {
      drawing.append(make("image",
        { ...place, href: shape.mask, preserveAspectRatio: "none" }));
    }
    drawing.append(make("rect", { class: "halo", ...place }),
      make("rect", { class: shape.kind, ...place },
        make("title", {}, shape.label)));
  }
  if (row.shapes) box.append(drawing);
  if (row.image || !row.image_ref) return box;
  const names = [].concat(row.image_ref).join(", ");
  return make("div", {}, box, make("p", { class: "meta" }, names));
}

// Returns the words of the prediction, and of the truth where they differ:
// the longest common subsequence stays unmarked.
function difference(truth, predicted) {
  const a = truth.split(/\s+/), b = predicted.split(/\s+/);
  if (a.length * b.length > 1e5) return [predicted];
  const best = Array.from(a, () => new Array(b.length + 1).fill(0));
  best.push(new Array(b.length + 1).fill(0));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      best[i][j] = a[i] === b[j] ? best[i + 1][j + 1] + 1
        : Math.max(best[i + 1][j], best[i][j + 1]);
    }
  }
  const out = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push(a[i++]);
      j++;
    } else if (j === b.length
        || (i < a.length && best[i + 1][j] >= best[i][j + 1])) {
      out.push(make("del", {}, a[i++]));
    } else {
      out.push(make("ins", {}, b[j++]));
    }
    out.push(" ");
  }
  return out;
}

document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT"].includes(event.target.tagName);
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = { j: 1, k: -1 }[event.key];
  if (event.key === "ArrowRight") turn(1);
  if (event.key === "ArrowLeft") turn(-1);
  if (!step) return;
  const figures = [...document.querySelectorAll("#cards figure")];
  const at = figures.indexOf(document.activeElement);
  let to = at === -1 ? 0 : at + step;
  if (to < 0 || to >= figures.length) {
    if (!turn(step)) return;
    to = step > 0 ? 0 : PAGE - 1;
  }
  document.querySelectorAll("#cards figure")[to].focus();
});

update();
