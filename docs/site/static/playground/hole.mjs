// A hole painted in a picture is filled so that picture and caption agree. The canvas is that of the lessons' widget.
import drawing from "./drawing.js";
import { stage } from "./stage.mjs";

const BRUSH = 16; // pixels, at first

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

// A PNG's pixels in [−1, 1], channel by channel.
async function pixels(png) {
    const bitmap = await createImageBitmap(new Blob([png], { type: "image/png" }), { colorSpaceConversion: "none" });
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data, width, height } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    const size = width * height;
    const values = Float32Array.from({ length: 3 * size }, (_, i) => {
        return data[4 * (i % size) + Math.floor(i / size)] / 127.5 - 1;
    });
    return { values, width, height };
}

// A mask as the widget writes it, 0 and 1 row by row: a box (left, top, right, bottom).
function boxed(width, height, [left, top, right, bottom]) {
    const inside = (x, y) => x >= left && x < right && y >= top && y < bottom;
    const cells = Array.from({ length: width * height }, (_, i) => inside(i % width, Math.floor(i / width)));
    return cells.map(Number).join("");
}

export async function hole({ panel, described, ...page }) {
    const { model } = panel.dataset;
    const part = (name) => panel.querySelector(`[data-do=${name}]`);
    let picture;
    let store; // what the widget reads and writes, as its kernel would

    async function take(number) {
        const { caption, wish, png, hole } = described.scenes[number];
        const bytes = bytesOf(png);
        picture = await pixels(bytes);
        const { width, height } = picture;
        const title = `A picture of ${caption}`;
        store = { spec: { title, width, height, brush: BRUSH }, picture: bytes, asked: 0, mask: boxed(width, height, hole) };
        part("prompt").value = wish;
        part("canvas").replaceChildren();
        const set = (name, value) => Object.assign(store, { [name]: value });
        drawing.render({ model: { get: (name) => store[name], set, save_changes: draw }, el: part("canvas") });
    }

    const own = () => ({
        prompt: part("prompt").value,
        picture: picture.values,
        mask: Uint8Array.from(store.mask, Number),
    });
    const fill = stage({ panel, model, settings: described.models[model], own, ...page });
    const draw = () => (store.mask.includes("1") ? fill() : page.say("The hole is empty: paint on the picture first."));
    panel.querySelector("form").onsubmit = (event) => {
        event.preventDefault();
        draw();
    };
    part("scene").oninput = async () => {
        await take(Number(part("scene").value));
        draw();
    };
    await take(0);
    return draw;
}
