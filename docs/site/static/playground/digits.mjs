// Digits, with the students that were distilled from the model beside it, on the same noise.
import { paint } from "./frames.mjs";
import { stage } from "./stage.mjs";

export function digits({ panel, described, ...page }) {
    const { model } = panel.dataset;
    const part = (name) => panel.querySelector(`[data-do=${name}]`);
    const canvases = [...panel.querySelectorAll("canvas[data-model]")];
    const own = () => ({ label: Number(part("label").value) });
    const more = (wish) =>
        (part("students").checked ? canvases : []).map((canvas) => {
            const { steps, guidance } = described.models[canvas.dataset.model];
            return { ...wish, ...own(), model: canvas.dataset.model, sampler: "ddim", steps, guidance };
        });
    const shown = (answer) => {
        const canvas = canvases.find((each) => each.dataset.model === answer.model);
        paint(canvas, answer.picture, described.models[answer.model].shape);
        canvas.dataset.at = answer.t;
    };
    const draw = stage({ panel, model, settings: described.models[model], own, more, shown, ...page });
    part("label").oninput = draw;
    part("students").oninput = () => {
        part("beside").hidden = !part("students").checked;
        draw();
    };
    return draw;
}
