// A picture of a caption.
import { stage } from "./stage.mjs";

export function caption({ panel, described, ...page }) {
    const { model } = panel.dataset;
    const input = panel.querySelector("[data-do=prompt]");
    const own = () => ({ prompt: input.value });
    const draw = stage({ panel, model, settings: described.models[model], own, ...page });
    panel.querySelector("form").onsubmit = (event) => {
        event.preventDefault();
        draw();
    };
    for (const button of panel.querySelectorAll("[data-caption]")) {
        button.onclick = () => {
            input.value = button.dataset.caption;
            draw();
        };
    }
    return draw;
}
