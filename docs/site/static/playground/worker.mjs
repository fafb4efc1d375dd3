// Draws what the page wishes, in a thread of its own. A message {id, wishes} ends the one before it.
import { clipped, guided } from "./denoisers.mjs";
import { conditions, decoded, opened, runner } from "./models.mjs";
import { normal } from "./noise.mjs";
import { SAMPLERS } from "./samplers.mjs";

const channel = new MessageChannel();
let newest = 0;
let before = Promise.resolve(); // wishes wait for each other: ONNX Runtime computes one thing at a time

// Lets a newer message in; a timer would wait for 4 ms.
const breath = () =>
    new Promise((go) => {
        channel.port1.onmessage = go;
        channel.port2.postMessage(0);
    });

async function drawn(id, wish) {
    const say = (more, moved = []) => self.postMessage({ id, model: wish.model, ...more }, moved);
    const model = await opened(wish.model, (bytes) => say({ bytes }));
    if (newest !== id) return;
    const start = performance.now();
    const size = model.shape.reduce((a, b) => a * b, 1);
    const [told, none] = await conditions(model, wish);
    let denoiser = guided(runner(model), wish.guidance, told, none);
    if (!model.parts.decoder) denoiser = clipped(denoiser); // latents have no range
    const noise = wish.noise ?? normal(wish.seed, size);
    const ofStep = (i) => wish.stepNoise?.[i] ?? normal(wish.seed + 7919 * (i + 1), size);
    for await (const point of SAMPLERS[wish.sampler](denoiser, noise, model.levels[wish.steps], ofStep)) {
        const { level, x, x0, eps } = point;
        const clean = level.sigma === 0 ? x : x0;
        const picture = model.parts.decoder ? await decoded(model, clean, wish) : clean;
        await breath();
        if (newest !== id) return;
        say({ t: level.t, x, x0, eps, picture });
    }
    say({ done: true, ms: performance.now() - start, cut: model.encode?.(wish.prompt).cut });
}

self.onmessage = ({ data: { id, wishes } }) => {
    newest = id;
    before = before.then(async () => {
        for (const wish of wishes) {
            if (newest !== id) return;
            await drawn(id, wish).catch((error) =>
                self.postMessage({ id, model: wish.model, error: `${error.message ?? error}` }),
            );
        }
    });
};
