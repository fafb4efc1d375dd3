// A denoiser answers (x, level) with an estimate {x0, eps}; x = α·x₀ + σ·ε always holds. Pictures and noise are plain
// arrays, and a level is {t, alpha, sigma, p, q, time}, as the site's build writes it from the package's own.

export const combined = (a, x, b, y) => x.map((value, i) => a * value + b * y[i]);

// x₀ and ε from what a network says, y = p·x₀ + q·ε.
export function solve(y, x, { alpha, sigma, p, q }) {
    const det = alpha * q - sigma * p;
    return { x0: combined(q / det, x, -sigma / det, y), eps: combined(alpha / det, y, -p / det, x) };
}

// x₀ kept in [−1, 1], and ε made to fit.
export function clipped(denoiser) {
    return async (x, level) => {
        const { x0 } = await denoiser(x, level);
        const kept = x0.map((value) => Math.min(Math.max(value, -1), 1));
        return { x0: kept, eps: combined(1 / level.sigma, x, -level.alpha / level.sigma, kept) };
    };
}

// Classifier-free guidance: `told` is the condition and `none` means "no condition". run(x, time, conditions) gives the
// network's outputs, one for each condition.
export function guided(run, scale, told, none) {
    const conditions = scale === 1 ? [told] : scale === 0 ? [none] : [told, none];
    return async (x, level) => {
        const outputs = await run(x, level.time, conditions);
        const [first, second] = outputs.map((y) => solve(y, x, level));
        if (!second) return first;
        const mixed = (part) => combined(scale, first[part], 1 - scale, second[part]);
        return { x0: mixed("x0"), eps: mixed("eps") };
    };
}
