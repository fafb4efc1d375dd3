// Follows scrubber.js in a saved page, after `const key = …, saved = …;`: a plain object is the model.
for (const name of ["sprite", "data"]) saved[name] = Uint8Array.from(atob(saved[name]), (c) => c.charCodeAt(0));
for (const place of document.querySelectorAll(`[data-dl-scrub="${key}"]:not([data-mounted])`)) {
  place.dataset.mounted = "true";
  const el = document.createElement("div");
  place.querySelector("p").remove(); // it says how to get what is here now
  const strip = document.createElement("details"), said = document.createElement("summary");
  said.textContent = "Frames side by side";
  strip.open = true; // until there is a scrubber to look at
  el.addEventListener("dl-ready", () => (strip.open = false), { once: true });
  strip.append(said, ...place.children);
  place.append(el, strip);
  render({ model: { get: (name) => saved[name] }, el });
}
