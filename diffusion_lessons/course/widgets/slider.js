// A slider over values that have names: the browser's own, so that a screen reader is told what it sets and to
// what. It asks the kernel when it is let go of, or at each key.

function render({ model, el }) {
  const values = model.get("values"), name = model.get("name");
  const label = document.createElement("span"), shown = document.createElement("output");
  const input = document.createElement("input");
  Object.assign(input, { type: "range", min: 0, max: values.length - 1, step: 1 });
  input.setAttribute("aria-label", name);
  input.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab would take the arrows
  label.textContent = name;
  label.setAttribute("aria-hidden", "true"); // the slider says it
  shown.setAttribute("aria-live", "off");
  const say = () => {
    shown.textContent = values[input.value];
    input.setAttribute("aria-valuetext", values[input.value]);
  };
  const take = () => {
    input.value = values.indexOf(model.get("value"));
    say();
  };
  input.addEventListener("input", say);
  input.addEventListener("change", () => {
    model.set("value", values[input.value]);
    model.save_changes();
  });
  model.on("change:value", take);
  take();
  el.classList.add("dl-slider");
  el.append(label, input, shown);
}

export default { render };
