// The frames of a walk: what was drawn at each level, on canvases, and a slider to go back and forth.

// Values in [−span, span] as pixels; of more than three channels the first three are shown.
export function paint(canvas, values, [channels, height, width], span = 1) {
    const image = new ImageData(width, height);
    const size = height * width;
    const byte = (value) => Math.round(255 * Math.min(Math.max((value / span + 1) / 2, 0), 1));
    for (let i = 0; i < size; i++) {
        const colours = [0, 1, 2].map((k) => byte(values[channels < 3 ? i : k * size + i]));
        image.data.set([...colours, 255], 4 * i);
    }
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").putImageData(image, 0, 0);
}

const NORMAL = 3; // noise is N(0, 1): black at −3, white at 3

export function frames(panel, shape) {
    const canvas = (name) => panel.querySelector(`canvas[data-do=${name}]`);
    const slider = panel.querySelector("[data-do=at]");
    const where = panel.querySelector("[data-do=where]");
    const latents = shape[0] > 3;
    let points = [];
    let steps = 0;

    function show(step) {
        const point = points[step];
        if (!point) return;
        const side = Math.sqrt(point.picture.length / (latents ? 3 : shape[0]));
        paint(canvas("x"), point.x, shape, latents ? NORMAL : 1);
        paint(canvas("picture"), point.picture, [latents ? 3 : shape[0], side, side]);
        paint(canvas("eps"), point.eps, shape, NORMAL);
        slider.value = step;
        const words = `step ${step} of ${steps}, t = ${Math.round(point.t)}`;
        where.textContent = words;
        slider.setAttribute("aria-valuetext", words);
    }

    slider.oninput = () => show(Number(slider.value));
    return {
        begin(count) {
            points = [];
            steps = count;
            slider.max = count;
            slider.disabled = true;
        },
        add(point) {
            points.push(point);
            show(points.length - 1);
            slider.disabled = points.length <= steps;
        },
    };
}
