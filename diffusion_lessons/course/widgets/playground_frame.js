// Puts the site's playground below the picture, where its page is at hand: beside a lesson of the site, or on the
// server of JupyterLab. Where it is not, the words that stand there say what to do. Follows `const PAGE = …;`.

function address() {
  const { content_root } = document.documentElement.dataset; // of the site
  if (content_root !== undefined) return new URL(content_root + PAGE, location);
  const config = document.getElementById("jupyter-config-data"); // JupyterLab and Notebook 7; the classic one below
  const base = config ? JSON.parse(config.textContent).baseUrl : document.body.dataset.baseUrl;
  return base && new URL(`${base}static/${PAGE}`, location);
}

function coloured(frame) {
  const dark = document.body.dataset.jpThemeLight === "false" || document.documentElement.dataset.theme === "dark";
  frame.contentDocument.documentElement.dataset.theme = dark ? "dark" : "light";
}

function opened(page) {
  const frame = document.createElement("iframe");
  Object.assign(frame, { src: page, title: "Playground" });
  frame.style.cssText = "width: 100%; height: 640px; border: 1px solid #888; border-radius: 6px; box-sizing: border-box";
  frame.onload = () => {
    const { body } = frame.contentDocument;
    new ResizeObserver(() => (frame.style.height = `${body.offsetHeight + 4}px`)).observe(body);
    coloured(frame);
    const themes = new MutationObserver(() => coloured(frame));
    for (const each of [document.documentElement, document.body]) {
      themes.observe(each, { attributeFilter: ["data-theme", "data-jp-theme-light"] });
    }
  };
  frame.addEventListener("load", () => frame.focus(), { once: true }); // JupyterLab loads it again when it comes into sight
  return frame;
}

const page = location.protocol === "file:" ? null : address();
const there = page && (await fetch(page, { method: "HEAD" }).catch(() => null))?.ok;
for (const said of document.querySelectorAll("[data-dl-playground-frame]:not([data-mounted]) > p")) {
  if (!there) continue;
  said.parentElement.dataset.mounted = "true";
  const button = document.createElement("button");
  button.textContent = "Draw here, in this page";
  button.style.cssText = "font: inherit; padding: 4px 12px; min-height: 32px; cursor: pointer";
  button.onclick = () => button.replaceWith(opened(page));
  said.replaceWith(button);
}
