// Plays precomputed frames: one bitmap, one slider, no kernel. Runs as an anywidget (the model is the
// kernel's) and in a saved page (the model is a plain object with `get`).

const BLUE = "#1f78c8";

function bytesOf(value) {
  if (!value) return new Uint8Array();
  if (value instanceof Uint8Array) return value;
  if (value.buffer) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength); // DataView
  return new Uint8Array(value);
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function control(tag, attributes) {
  // JupyterLab binds arrows, Space and Enter to the notebook unless the focused element says otherwise.
  return make(tag, { "data-lm-suppress-shortcuts": "true", ...attributes });
}

// Panels of one row share its width and are equally high: each takes its part by width over height.
const SHAPE = { histogram: 1.7, points: 1 };
const HEIGHT = { least: 160, most: 384, ofThree: 192 }; // CSS pixels of a panel, where there is room

function shapeOf(panel) {
  return panel.kind === "pictures" ? panel.width / panel.height : SHAPE[panel.kind];
}

function painter(panel, canvas, bitmap, data, root) {
  const context = canvas.getContext("2d"), shape = shapeOf(panel);
  if (panel.kind === "pictures") {
    const { x, band, width, height } = panel;
    canvas.width = width;
    canvas.height = height;
    context.imageSmoothingEnabled = false;
    return {
      fit: (room) => {
        const times = room / width; // whole pixels, so that all are equally large
        canvas.style.width = `${times >= 2 ? Math.floor(times) * width : room}px`;
      },
      draw: (i) => context.drawImage(bitmap, x, i * band, width, height, 0, 0, width, height),
    };
  }
  const drawn = panel.kind === "histogram" ? histogram : points;
  let wide = 0, tall = 0;
  return {
    fit: (room) => {
      const ratio = Math.max(1, window.devicePixelRatio || 1);
      [wide, tall] = [Math.floor(room), Math.floor(room / shape)];
      canvas.width = Math.round(wide * ratio);
      canvas.height = Math.round(tall * ratio);
      canvas.style.width = `${wide}px`;
      context.scale(ratio, ratio);
    },
    draw: (i) => {
      context.clearRect(0, 0, wide, tall);
      drawn(context, panel, data, i, wide, tall, getComputedStyle(root).color, bitmap);
    },
  };
}

function histogram(context, panel, data, i, wide, side, ink) {
  const floor = side - 18, room = floor - 8, bar = wide / panel.bins;
  const heights = data.subarray(panel.offset + i * panel.bins, panel.offset + (i + 1) * panel.bins);
  context.fillStyle = BLUE;
  heights.forEach((height, k) => {
    const tall = (Math.min(height, 254) / 254) * room;
    context.fillRect(k * bar, floor - tall, bar - 0.5, tall);
    if (height === 255) context.fillRect(k * bar, 0, bar - 0.5, 5); // taller than the scale
  });
  context.fillStyle = context.strokeStyle = ink;
  context.fillRect(0, floor, wide, 1);
  context.font = "13px sans-serif";
  const middle = (panel.low + panel.high) / 2;
  for (const [value, align] of [[panel.low, "left"], [middle, "center"], [panel.high, "right"]]) {
    context.textAlign = align;
    const at = ((value - panel.low) / (panel.high - panel.low)) * wide;
    context.fillText(String(+value.toFixed(2)).replace("-", "−"), at, side - 3);
  }
  if (!panel.normal) return;
  context.beginPath();
  for (let px = 0; px <= wide; px += 2) {
    const value = panel.low + (px / wide) * (panel.high - panel.low);
    const density = Math.exp((-value * value) / 2) / Math.sqrt(2 * Math.PI);
    context.lineTo(px, floor - (density / panel.top) * room);
  }
  context.setLineDash([4, 3]);
  context.stroke();
  context.setLineDash([]);
}

function points(context, panel, data, i, wide, side, ink, bitmap) {
  const frame = panel.offset + i * panel.count * 2;
  const behind = panel.offset + panel.frames * panel.count * 2;
  const arrows = behind + (panel.behind + 2 * i * panel.arrows) * 2;
  const across = (byte) => 4 + (byte / 255) * (wide - 8), up = (byte) => 4 + (1 - byte / 255) * (side - 8);
  const dot = (at, size) => context.fillRect(across(data[at]) - size / 2, up(data[at + 1]) - size / 2, size, size);
  if (panel.under) {
    const { x, band, width, height } = panel.under;
    context.drawImage(bitmap, x, i * band, width, height, 0, 0, wide, side);
    ink = "#000"; // the shades are light in a dark page, too
  }
  context.strokeStyle = ink;
  context.globalAlpha = 0.3;
  context.strokeRect(0.5, 0.5, wide - 1, side - 1);
  context.fillStyle = ink;
  const size = Math.max(2, side / 110);
  for (let k = 0; k < panel.behind; k++) dot(behind + 2 * k, size);
  context.globalAlpha = 0.6;
  for (let k = 0; k < panel.arrows; k++) arrow(context, data.subarray(arrows + 4 * k, arrows + 4 * k + 4), across, up);
  context.globalAlpha = 1;
  context.fillStyle = BLUE;
  for (let k = 0; k < panel.count; k++) dot(frame + 2 * k, 1.5 * size);
}

function arrow(context, [x, y, dx, dy], across, up) {
  const from = [across(x), up(y)], to = [across(x + dx - 127.5), up(y + dy - 127.5)];
  const long = Math.hypot(to[0] - from[0], to[1] - from[1]);
  if (long < 3) return;
  const head = (turn) => {
    const angle = Math.atan2(from[1] - to[1], from[0] - to[0]) + turn, size = Math.min(6, long / 2);
    return [to[0] + size * Math.cos(angle), to[1] + size * Math.sin(angle)];
  };
  context.beginPath();
  context.moveTo(...from);
  for (const point of [to, head(0.5), to, head(-0.5)]) context.lineTo(...point);
  context.stroke();
}

// Frames lie along one axis or several, the last of which changes fastest: it is the one that is played.
function along(axes) {
  const strides = axes.map((_, k) => axes.slice(k + 1).reduce((product, axis) => product * axis.length, 1));
  const at = (frame, k) => Math.floor(frame / strides[k]) % axes[k].length;
  const to = (frame, k, place) => {
    return frame + (Math.max(0, Math.min(axes[k].length - 1, place)) - at(frame, k)) * strides[k];
  };
  return { at, to, fastest: axes.length - 1 };
}

function build(root, spec, state) {
  const sliders = spec.axes.map((axis) => control("input", {
    type: "range", min: 0, max: axis.length - 1, step: 1, value: 0, "aria-label": `${spec.title}: ${axis.name}`,
  }));
  const named = (slider, k) => {
    return spec.axes.length === 1 ? [slider] : [make("span", { class: "dl-axis" }, spec.axes[k].name), slider];
  };
  const play = control("button", { type: "button" });
  const back = control("button", { type: "button", "aria-label": "One frame back" });
  const forth = control("button", { type: "button", "aria-label": "One frame on" });
  back.textContent = "◀";
  forth.textContent = "▶";
  const caption = make("output", { class: "dl-caption" });
  const canvases = spec.panels.map((panel) => make("canvas", { role: "img", "aria-label": panel.name }));
  const figures = canvases.map((canvas, k) => {
    const shape = shapeOf(spec.panels[k]);
    // three wide panels stand below each other: the slider is to stay on the screen with all of them
    const most = shape >= 2 && spec.panels.length > 2 ? HEIGHT.ofThree : HEIGHT.most;
    const style = `flex: ${shape} 1 ${shape * HEIGHT.least}px; max-width: min(100%, ${shape * most}px)`;
    return make("figure", { style }, canvas, make("figcaption", {}, spec.panels[k].name));
  });
  root.replaceChildren(
    make("div", { class: "dl-panels" }, ...figures),
    make("div", { class: "dl-controls" }, play, back, ...named(sliders.at(-1), sliders.length - 1), forth),
    ...sliders.slice(0, -1).map((slider, k) => make("div", { class: "dl-controls" }, ...named(slider, k))),
    caption,
  );
  if (spec.note) root.append(make("div", { class: "dl-note" }, spec.note));
  return { sliders, play, back, forth, caption, canvases };
}

async function load(model) {
  const spec = model.get("spec");
  const sprite = bytesOf(model.get("sprite"));
  const bitmap = sprite.length
    ? await createImageBitmap(new Blob([sprite], { type: "image/png" }), { colorSpaceConversion: "none" })
    : null;
  return { spec, bitmap, data: bytesOf(model.get("data")) };
}

function mount(root, { spec, bitmap, data }, state) {
  state.frame = Math.min(state.frame ?? spec.start, spec.frames - 1);
  const axes = along(spec.axes);
  const parts = build(root, spec, state);
  const paint = spec.panels.map((panel, k) => {
    return painter({ ...panel, frames: spec.frames }, parts.canvases[k], bitmap, data, root);
  });
  const go = (frame) => {
    state.frame = Math.max(0, Math.min(spec.frames - 1, frame));
    for (const { draw } of paint) draw(state.frame);
    const words = spec.captions[state.frame] ?? `frame ${state.frame + 1} of ${spec.frames}`;
    parts.sliders.forEach((slider, k) => {
      slider.value = axes.at(state.frame, k);
      slider.setAttribute("aria-valuetext", words);
    });
    parts.caption.textContent = words;
    root.dataset.frame = state.frame;
  };
  const player = playing(root, spec, state, go, parts.play, axes);
  listen(parts, state, go, player, axes);
  const shapes = spec.panels.map(shapeOf);
  const fit = () => {
    const rooms = parts.canvases.map((canvas) => canvas.parentElement.clientWidth || 200);
    // a panel that stands alone in the last row is no larger than the others of its shape
    paint.forEach((panel, k) => panel.fit(Math.min(...rooms.filter((_, other) => shapes[other] === shapes[k]))));
    go(state.frame);
  };
  new ResizeObserver(fit).observe(root.firstElementChild);
  fit();
  root.dataset.ready = "true";
  root.dispatchEvent(new Event("dl-ready", { bubbles: true }));
  return player;
}

function playing(root, spec, state, go, button, { to, fastest }) {
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const length = spec.axes[fastest].length;
  const wait = calm ? 600 : Math.max(40, Math.min(250, 4000 / length)); // ms a frame
  const ended = () => state.frame === to(state.frame, fastest, length);
  let on = false, due = 0;
  const label = () => {
    button.textContent = on ? "❚❚ Pause" : "▶ Play";
  };
  const tick = (now) => {
    if (!on) return;
    if (!root.isConnected || ended()) return set(false);
    if (now >= due) {
      due = now + wait;
      go(state.frame + 1);
    }
    requestAnimationFrame(tick);
  };
  const set = (value) => {
    if (value && !on) {
      if (ended()) go(to(state.frame, fastest, 0));
      due = performance.now() + wait;
      requestAnimationFrame(tick);
    }
    on = value;
    label();
  };
  label();
  return { toggle: () => set(!on), stop: () => set(false) };
}

function listen({ sliders, play, back, forth, canvases }, state, go, player, { at, to, fastest }) {
  const jump = (frame) => {
    player.stop();
    go(frame);
  };
  const step = (k, by) => jump(to(state.frame, k, at(state.frame, k) + by));
  sliders.forEach((slider, k) => {
    slider.addEventListener("input", () => jump(to(state.frame, k, Number(slider.value))));
  });
  play.addEventListener("click", () => player.toggle());
  back.addEventListener("click", () => step(fastest, -1));
  forth.addEventListener("click", () => step(fastest, 1));
  const keys = {
    ArrowLeft: (k) => step(k, -1),
    ArrowRight: (k) => step(k, 1),
    ArrowDown: (k) => step(k, -1),
    ArrowUp: (k) => step(k, 1),
    Home: (k) => step(k, -Infinity),
    End: (k) => step(k, Infinity),
  };
  for (const part of [...sliders, play, back, forth]) {
    const k = sliders.includes(part) ? sliders.indexOf(part) : fastest;
    part.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const action = event.key === " " && sliders.includes(part) ? player.toggle : keys[event.key];
      if (!action) return;
      event.preventDefault();
      event.stopPropagation();
      action(k);
    });
  }
  for (const canvas of canvases) {
    const drag = (event) => {
      const box = canvas.getBoundingClientRect();
      const last = Number(sliders[fastest].max);
      jump(to(state.frame, fastest, Math.round(((event.clientX - box.left) / box.width) * last)));
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      drag(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) drag(event);
    });
  }
}

function render({ model, el }) {
  const root = make("div", { class: "dl-scrub", role: "group" });
  const state = {};
  let player = null, turn = 0;
  const fail = (error) => root.replaceChildren(make("div", { role: "alert" }, `The scrubber failed: ${error}`));
  const redraw = async () => {
    const mine = ++turn;
    try {
      const loaded = await load(model);
      if (mine !== turn) return; // a newer picture is on its way
      player?.stop();
      root.setAttribute("aria-label", loaded.spec.title);
      player = mount(root, loaded, state);
    } catch (error) {
      fail(error);
    }
  };
  el.append(root);
  model.on?.("change:sprite change:data change:spec", redraw); // the last of several wins
  redraw();
  return () => player?.stop();
}

export default { render };
