// The package's samplers: generators of {level, x, x0, eps} that walk down a list of levels.
import { combined } from "./denoisers.mjs";

const ddimStep = (x, { x0, eps }, now, next) => combined(next.alpha, x0, next.sigma, eps);

function ddpmStep(x, { x0 }, now, next, noise) {
    const ratio = now.alpha / next.alpha;
    const added = now.sigma ** 2 - (ratio * next.sigma) ** 2; // the variance of the step from next to now
    const mean = combined((ratio * next.sigma ** 2) / now.sigma ** 2, x, (next.alpha * added) / now.sigma ** 2, x0);
    if (next.sigma === 0) return mean;
    return combined(1, mean, Math.sqrt((added * next.sigma ** 2) / now.sigma ** 2), noise);
}

// Each step makes the next x from this one; `advance` may ask the denoiser again.
async function* walked(denoiser, x, levels, advance) {
    let estimate;
    for (let i = 0; i + 1 < levels.length; i++) {
        estimate = await denoiser(x, levels[i]);
        yield { level: levels[i], x, ...estimate };
        x = await advance(x, estimate, levels[i], levels[i + 1], i);
    }
    yield { level: levels.at(-1), x, ...estimate };
}

function heunStep(denoiser) {
    return async (x, estimate, now, next) => {
        const reached = ddimStep(x, estimate, now, next);
        if (next.sigma === 0) return reached;
        const there = await denoiser(reached, next);
        const x0 = combined(0.5, estimate.x0, 0.5, there.x0);
        const eps = combined(0.5, estimate.eps, 0.5, there.eps);
        return combined(1, x, 1, combined(next.alpha - now.alpha, x0, next.sigma - now.sigma, eps));
    };
}

function dpmpp2mStep() {
    let before; // {x0, log} of the last step
    return (x, estimate, now, next) => {
        const [logNow, logNext] = [now, next].map(({ alpha, sigma }) => Math.log(alpha / sigma));
        let { x0 } = estimate;
        if (before && Number.isFinite(logNext)) {
            const weight = (logNext - logNow) / (logNow - before.log) / 2;
            x0 = combined(1 + weight, x0, -weight, before.x0);
        }
        before = { x0: estimate.x0, log: logNow };
        const keep = next.sigma / now.sigma;
        return combined(keep, x, next.alpha - keep * now.alpha, x0);
    };
}

// noise(i) is that of step i, for the one sampler that adds some.
export const SAMPLERS = {
    ddim: (denoiser, x, levels) => walked(denoiser, x, levels, ddimStep),
    ddpm: (denoiser, x, levels, noise) =>
        walked(denoiser, x, levels, (from, estimate, now, next, i) => ddpmStep(from, estimate, now, next, noise(i))),
    heun: (denoiser, x, levels) => walked(denoiser, x, levels, heunStep(denoiser)),
    "dpmpp-2m": (denoiser, x, levels) => walked(denoiser, x, levels, dpmpp2mStep()),
};
