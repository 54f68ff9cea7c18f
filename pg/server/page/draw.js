// Boxes and masks, drawn over an image.

const COLORS = ["#4d9fff", "#ff5c7a", "#3ecf8e", "#ffb020", "#b57bff", "#18c5c5", "#ff7f3f", "#9bd12f"];

// The color of a label, the same wherever it is.
export function color(label, labels) {
  return COLORS[labels.indexOf(label) % COLORS.length];
}

// Returns the labels of objects, each once, in their order.
export function labels(objects) {
  return [...new Set(objects.map((x) => x.label))];
}

// Reads COCO's compressed run lengths; returns 0 or 1 for each pixel, by rows.
export function mask({ size: [height, width], counts }) {
  const runs = [];
  for (let i = 0; i < counts.length; ) {
    let x = 0, k = 0, c;
    do {
      c = counts.charCodeAt(i++) - 48;
      x |= (c & 31) << (5 * k++);
    } while (c & 32);
    if (c & 16) x |= -1 << (5 * k);
    runs.push(runs.length > 2 ? x + runs[runs.length - 2] : x);
  }
  const out = new Uint8Array(height * width);
  let at = 0;
  runs.forEach((run, i) => {
    if (i % 2) {
      for (let p = at; p < at + run; p++) out[(p % height) * width + Math.floor(p / height)] = 1;
    }
    at += run;
  });
  return out;
}

const tinted = new WeakMap(); // of a mask, a canvas

function tint(value, rgb) {
  if (tinted.has(value)) return tinted.get(value);
  const [height, width] = value.size;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  mask(value).forEach((inside, i) => {
    if (inside) image.data.set([...rgb, 130], 4 * i);
  });
  context.putImageData(image, 0, 0);
  tinted.set(value, canvas);
  return canvas;
}

// Draws objects onto a canvas that shows an image `scale` times as large.
export function draw(context, objects, scale, lit = null) {
  const all = labels(objects);
  const line = Math.max(2, context.canvas.width / 300);
  objects.forEach((x, i) => {
    const hue = color(x.label, all);
    const rgb = [1, 3, 5].map((k) => parseInt(hue.slice(k, k + 2), 16));
    const [y1, x1, y2, x2] = x.box.map((v) => v * scale);
    context.globalAlpha = lit === null || lit === i ? 1 : 0.25;
    if (x.mask) {
      const [height, width] = x.mask.size;
      context.drawImage(tint(x.mask, rgb), 0, 0, width * scale, height * scale);
    }
    context.lineWidth = lit === i ? 2 * line : line;
    context.strokeStyle = hue;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const percent = x.score === null ? "" : ` ${Math.round(100 * x.score)} %`;
    const text = `${x.label}${percent}`;
    const size = Math.max(13, 6 * line);
    context.font = `600 ${size}px system-ui, sans-serif`;
    const wide = context.measureText(text).width + size;
    const left = Math.max(0, Math.min(x1 - context.lineWidth / 2, context.canvas.width - wide));
    const top = y1 > 1.6 * size ? y1 - 1.5 * size : Math.max(0, y1);
    context.fillStyle = hue;
    context.fillRect(left, top, wide, 1.5 * size);
    context.fillStyle = "#10131c";
    context.fillText(text, left + size / 2, top + 1.08 * size);
  });
  context.globalAlpha = 1;
}

// Which object a point of the image is in: the smallest, or null.
export function hit(objects, x, y) {
  let best = null, least = Infinity;
  objects.forEach(({ box: [y1, x1, y2, x2] }, i) => {
    const area = (y2 - y1) * (x2 - x1);
    if (x >= x1 && x <= x2 && y >= y1 && y <= y2 && area < least) [best, least] = [i, area];
  });
  return best;
}

// Returns answers as COCO's annotations of one image.
export function coco(name, size, objects) {
  const all = labels(objects);
  return {
    images: [{ id: 1, file_name: name, ...size }],
    categories: all.map((label, i) => ({ id: i + 1, name: label })),
    annotations: objects.map((x, i) => {
      const [y1, x1, y2, x2] = x.box;
      const bbox = [x1, y1, x2 - x1, y2 - y1];
      const own = x.mask ? { segmentation: x.mask } : {};
      const category = all.indexOf(x.label) + 1;
      return { id: i + 1, image_id: 1, category_id: category, bbox, area: bbox[2] * bbox[3], iscrowd: 0, score: x.score, ...own };
    }),
  };
}
