// One tab of the playground: its controls make wishes, and what the worker answers is shown.
import { frames } from "./frames.mjs";

const AT_LEAST = 2; // seconds between two words on how much was loaded: a screen reader says each of them

// ask is the client's; `own` gives what the tab's own controls add to a wish, `more` further wishes (or none).
export function stage({ panel, model, settings, say, ask, own, more = () => [], shown = () => {} }) {
    const part = (name) => panel.querySelector(`[data-do=${name}]`);
    const counts = Object.keys(settings.levels).map(Number);
    const walk = frames(panel, settings.shape);
    let seed = 1;
    let drawn = 0;
    let result = "";
    let last = 0; // when a word on loading was said

    function common() {
        const steps = counts[Number(part("steps").value)];
        const guidance = Number(part("guidance").value);
        part("steps-said").textContent = steps;
        part("guidance-said").textContent = guidance.toFixed(1);
        return { model, seed, steps, guidance, sampler: part("sampler").value };
    }

    function told(answer) {
        if (answer.error) return say(`The model could not run: ${answer.error}`);
        if (answer.loading) {
            if (performance.now() - last < AT_LEAST * 1000 && last) return;
            last = performance.now();
            return say(`Loading the model: ${answer.loading}.`);
        }
        const mine = answer.model === model;
        if (!answer.done) return mine ? walk.add(answer) : shown(answer);
        if (mine) {
            result = `Drawn in ${Math.round(answer.ms)} ms, in this page.`;
            if (answer.cut) result += ` The caption is longer than ${settings.tokenizer.context} tokens: its end was cut.`;
            panel.dataset.drawn = drawn += 1;
        }
        say(result);
    }

    function draw() {
        const wish = common();
        walk.begin(wish.steps);
        ask([{ ...wish, ...own() }, ...more(wish)], told);
    }

    for (const name of ["sampler", "steps", "guidance"]) part(name).oninput = draw;
    part("again").onclick = () => {
        seed += 1;
        draw();
    };
    return draw;
}
