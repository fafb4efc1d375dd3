// A picture to draw a hole on, by mouse, finger or keyboard. An anywidget: the kernel fills the hole when it
// is asked to. The mask goes there as a text of 0 and 1, row by row: every notebook passes texts on.

const HOLE = "rgba(213, 94, 0, 0.75)", EDGE = "#000";
const ZOOM = 6; // CSS pixels of a pixel, where there is room

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function control(tag, attributes, ...children) {
  // JupyterLab binds arrows, Space and Enter to the notebook unless the focused element says otherwise.
  return make(tag, { "data-lm-suppress-shortcuts": "true", ...attributes }, ...children);
}

function within(place, size) {
  return Math.max(0, Math.min(size, place)); // the brush stays on the picture, wherever the pointer goes
}

function hole(spec, text) {
  // The mask as a grid, with the ways to change it.
  const { width, height } = spec;
  const cells = Uint8Array.from({ length: width * height }, (_, i) => Number(text[i] === "1"));
  const stamp = (x, y, size, value) => {
    const reach = size / 2;
    for (let row = Math.max(0, Math.ceil(y - reach)); row < Math.min(height, y + reach); row++) {
      for (let column = Math.max(0, Math.ceil(x - reach)); column < Math.min(width, x + reach); column++) {
        cells[row * width + column] = value;
      }
    }
  };
  const line = (from, to, size, value) => {
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y)));
    for (let k = 0; k <= steps; k++) {
      stamp(from.x + ((to.x - from.x) * k) / steps, from.y + ((to.y - from.y) * k) / steps, size, value);
    }
  };
  return {
    cells, line,
    clear: () => cells.fill(0),
    text: () => cells.join(""),
    share: () => cells.reduce((sum, value) => sum + value, 0) / cells.length,
  };
}

function build(root, spec) {
  const canvas = control("canvas", {
    tabindex: 0, role: "application", width: spec.width * ZOOM, height: spec.height * ZOOM,
    "aria-label": `${spec.title}. Arrow keys move the brush, Space paints, Delete erases, Enter fills.`,
  });
  const button = (words) => control("button", { type: "button" }, words);
  const fill = button("Fill"), clear = button("Clear"), erase = button("Erase");
  erase.setAttribute("aria-pressed", "false");
  const size = control("input", { type: "range", min: 2, max: 24, step: 2, value: spec.brush });
  const said = make("output", { class: "dl-caption", "aria-live": "polite" });
  root.replaceChildren(
    canvas,
    make("div", { class: "dl-controls" }, fill, clear, erase, make("label", {}, "Brush ", size)),
    said,
  );
  return { canvas, fill, clear, erase, size, said };
}

function mount(root, model, bitmap) {
  const spec = model.get("spec"), mask = hole(spec, model.get("mask")), parts = build(root, spec);
  const { canvas, said } = parts, context = canvas.getContext("2d");
  const brush = { x: spec.width / 2, y: spec.height / 2 };
  let erasing = false;
  const size = () => Number(parts.size.value);
  const draw = () => {
    context.imageSmoothingEnabled = false;
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    context.fillStyle = HOLE;
    mask.cells.forEach((value, i) => {
      const column = i % spec.width, row = Math.floor(i / spec.width);
      if (value) context.fillRect(column * ZOOM, row * ZOOM, ZOOM, ZOOM);
    });
    context.strokeStyle = EDGE;
    const from = (at) => (at - size() / 2) * ZOOM;
    if (root.contains(document.activeElement)) {
      context.strokeRect(from(brush.x), from(brush.y), size() * ZOOM, size() * ZOOM);
    }
  };
  const tell = () => {
    const share = `${Math.round(100 * mask.share())} % of the picture`;
    said.textContent = `Hole: ${share}. Brush at column ${Math.round(brush.x)}, row ${Math.round(brush.y)}.`;
    draw();
  };
  const changed = () => {
    model.set("mask", mask.text()); // sent when a filling is asked for
    tell();
  };
  const paint = (from, value) => {
    mask.line(from, brush, size(), value);
    changed();
  };
  const ask = () => {
    model.set("asked", model.get("asked") + 1);
    model.save_changes();
  };
  const empty = () => {
    mask.clear();
    changed();
  };
  parts.fill.addEventListener("click", ask);
  parts.clear.addEventListener("click", empty);
  parts.erase.addEventListener("click", () => {
    erasing = !erasing;
    parts.erase.setAttribute("aria-pressed", String(erasing));
  });
  parts.size.addEventListener("input", draw);
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", draw);
  byPointer(canvas, spec, brush, (from) => paint(from, Number(!erasing)));
  byKeys(canvas, spec, brush, { tell, ask, paint: (value) => paint({ ...brush }, value) });
  tell();
  root.dataset.ready = "true";
}

function byPointer(canvas, spec, brush, paint) {
  const follow = (event, from) => {
    const box = canvas.getBoundingClientRect();
    brush.x = within(((event.clientX - box.left) / box.width) * spec.width, spec.width);
    brush.y = within(((event.clientY - box.top) / box.height) * spec.height, spec.height);
    paint(from ?? { ...brush });
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    follow(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) follow(event, { ...brush });
  });
}

function byKeys(canvas, spec, brush, { tell, ask, paint }) {
  const move = (x, y) => {
    brush.x = within(brush.x + x, spec.width);
    brush.y = within(brush.y + y, spec.height);
    tell();
  };
  const keys = {
    ArrowLeft: () => move(-2, 0),
    ArrowRight: () => move(2, 0),
    ArrowUp: () => move(0, -2),
    ArrowDown: () => move(0, 2),
    " ": () => paint(1),
    Delete: () => paint(0),
    Backspace: () => paint(0),
    Enter: ask,
  };
  canvas.addEventListener("keydown", (event) => {
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });
}

function render({ model, el }) {
  const root = make("div", { class: "dl-draw", role: "group" });
  const fail = (error) => root.replaceChildren(make("div", { role: "alert" }, `The drawing failed: ${error}`));
  const picture = model.get("picture");
  const bytes = new Uint8Array(picture.buffer ?? picture, picture.byteOffset ?? 0, picture.byteLength);
  el.append(root);
  createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" })
    .then((bitmap) => mount(root, model, bitmap))
    .catch(fail);
}

export default { render };
