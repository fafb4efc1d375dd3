// Two pictures side by side, to vote on by mouse, finger or keyboard. An anywidget: the page knows the pictures
// and their order, and nothing of who made them. A vote is a letter more in `choices`: L, R or T (tie).

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function control(tag, attributes, ...children) {
  // JupyterLab binds arrows and Backspace to the notebook unless the focused element says otherwise.
  return make(tag, { "data-lm-suppress-shortcuts": "true", ...attributes }, ...children);
}

function build(root, spec) {
  const side = (name) => {
    const canvas = make("canvas", { width: spec.width * spec.zoom, height: spec.height * spec.zoom });
    return control("button", { type: "button", class: "dl-side", "aria-label": `${name} picture is better` }, canvas);
  };
  const button = (words) => control("button", { type: "button" }, words);
  const left = side("The left"), right = side("The right");
  const buttons = { L: button("← Left"), T: button("↓ Tie"), R: button("Right →") };
  const back = button("Back"), save = button("Save the votes");
  const said = make("output", { "aria-live": "polite" });
  root.replaceChildren(
    make("p", { class: "dl-question" }, spec.question),
    said,
    make("div", { class: "dl-pair" }, left, right),
    make("div", { class: "dl-controls" }, buttons.L, buttons.T, buttons.R, back, save),
  );
  return { left, right, buttons, back, save, said };
}

function mount(root, model, bitmap) {
  const spec = model.get("spec"), parts = build(root, spec), count = spec.asked.length;
  const at = () => model.get("choices").length;
  const paint = (side, place) => {
    const canvas = side.querySelector("canvas"), context = canvas.getContext("2d");
    const { width, height } = spec, row = Math.min(at(), count - 1);
    context.imageSmoothingEnabled = false;
    context.drawImage(bitmap, place * width, row * height, width, height, 0, 0, canvas.width, canvas.height);
  };
  const tell = () => {
    const done = at() >= count;
    parts.said.textContent = done
      ? `Done: ${count} votes. Run the next cell.`
      : `Pair ${at() + 1} of ${count}${spec.asked[at()] ? `: ${spec.asked[at()]}` : ""}`;
    paint(parts.left, 0);
    paint(parts.right, 1);
    for (const each of [parts.left, parts.right, ...Object.values(parts.buttons)]) each.disabled = done;
    parts.back.disabled = at() === 0;
    parts.save.disabled = !model.get("saved");
  };
  const set = (choices) => {
    model.set("choices", choices);
    model.save_changes();
    tell();
  };
  const choose = (letter) => at() < count && set(model.get("choices") + letter);
  const undo = () => set(model.get("choices").slice(0, -1));
  parts.left.addEventListener("click", () => choose("L"));
  parts.right.addEventListener("click", () => choose("R"));
  for (const [letter, each] of Object.entries(parts.buttons)) each.addEventListener("click", () => choose(letter));
  parts.back.addEventListener("click", undo);
  parts.save.addEventListener("click", () => download(model.get("saved")));
  model.on("change:saved", tell);
  byKeys(root, { ArrowLeft: () => choose("L"), ArrowRight: () => choose("R"), ArrowDown: () => choose("T"), Backspace: undo });
  tell();
  root.dataset.ready = "true";
}

function byKeys(root, keys) {
  root.addEventListener("keydown", (event) => {
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) action(); // a key that is held down is one vote
  });
}

function download(text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href: address, download: "votes.json" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function render({ model, el }) {
  const root = control("div", {
    class: "dl-ballot", role: "group", tabindex: 0,
    "aria-label": "A blind vote. Left and right arrow choose a picture, arrow down is a tie, Backspace goes back.",
  });
  const fail = (error) => root.replaceChildren(make("div", { role: "alert" }, `The ballot failed: ${error}`));
  const picture = model.get("picture");
  const bytes = new Uint8Array(picture.buffer ?? picture, picture.byteOffset ?? 0, picture.byteLength);
  el.append(root);
  createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" })
    .then((bitmap) => mount(root, model, bitmap))
    .catch(fail);
}

export default { render };
