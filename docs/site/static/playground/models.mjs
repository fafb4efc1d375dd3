// Models from the site's files, run by ONNX Runtime in this thread: fetched once, with word of how far it is.
import * as ort from "./ort.wasm.min.mjs";
import { tokenizer } from "./tokenizer.mjs";

const here = (name) => new URL(name, import.meta.url).href;
const kept = new Map();
ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
ort.env.wasm.wasmPaths = here("./");

// What is made once, by its name; what failed is tried again the next time.
function once(name, make) {
    if (!kept.has(name)) {
        const made = make();
        made.catch(() => kept.delete(name));
        kept.set(name, made);
    }
    return kept.get(name);
}

async function fetched(name, tell) {
    const answer = await fetch(here(name));
    if (!answer.ok) throw new Error(`${name} is missing (${answer.status})`);
    const chunks = [];
    for (const reader = answer.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        chunks.push(value);
        tell(value.length);
    }
    return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

async function session(file, tell) {
    return ort.InferenceSession.create(await fetched(file, tell), { executionProviders: ["wasm"] });
}

// A model whose parts are sessions; tell(bytes) is called as they come.
export async function opened(name, tell) {
    const described = await once("models", () => fetch(here("models.json")).then((answer) => answer.json()));
    ort.env.wasm.wasmBinary = (await once("runtime", () => fetched("ort-wasm-simd-threaded.wasm", tell))).buffer;
    const model = described.models[name];
    const parts = {};
    for (const part of Object.keys(model.files)) {
        const file = `${name}/${part}.onnx`;
        parts[part] = await once(file, () => session(file, tell));
    }
    return { ...model, parts, encode: model.tokenizer && tokenizer(model.tokenizer) };
}

const sized = (shape) => shape.reduce((a, b) => a * b, 1);
const floats = (data, shape) => ({ type: "float32", data: Float32Array.from(data), shape });
const whole = (numbers, shape) => ({ type: "int64", data: BigInt64Array.from(numbers, BigInt), shape });

// A batch as ONNX Runtime takes it, of rows {type, data, shape}.
function batch(rows) {
    const [{ type, data, shape }] = rows;
    const all = new data.constructor(rows.length * data.length);
    rows.forEach((row, i) => all.set(row.data, i * data.length));
    return new ort.Tensor(type, all, [rows.length, ...shape]);
}

async function said(part, inputs) {
    const outputs = await part.run(
        Object.fromEntries(Object.entries(inputs).map(([name, rows]) => [name, batch(rows)])),
    );
    return Object.fromEntries(Object.entries(outputs).map(([name, { data, dims }]) => [name, { data, dims }]));
}

// run(x, time, conditions): the network's output for each condition, a table of rows by the input's name.
export function runner(model) {
    const size = sized(model.shape);
    return async (x, time, conditions) => {
        const inputs = {
            x: conditions.map(() => floats(x, model.shape)),
            time: conditions.map(() => floats([time], [])),
        };
        for (const name of Object.keys(conditions[0])) inputs[name] = conditions.map((each) => each[name]);
        const { output } = await said(model.parts.network, inputs);
        return conditions.map((_, i) => output.data.slice(i * size, (i + 1) * size));
    };
}

// What a wish says and what "nothing" is, as conditions.
export async function conditions(model, wish) {
    if (!model.encode) return [wish.label, model.none].map((label) => ({ label: whole([label], []) }));
    const tokens = [wish.prompt, ""].map((text) => model.encode(text).ids);
    const { context } = await said(model.parts.text, { tokens: tokens.map((ids) => whole(ids, [ids.length])) });
    const size = context.data.length / 2;
    const known = wish.mask && { known: await knownOf(model, wish) };
    return [0, 1].map((i) => ({
        context: floats(context.data.slice(i * size, (i + 1) * size), context.dims.slice(1)),
        ...known,
    }));
}

// What an inpainting network is told beside the caption: where to paint, and the picture with the hole in grey.
async function knownOf(model, { picture, mask }) {
    const [channels, height, width] = model.shape;
    const side = Math.sqrt(mask.length);
    const factor = side / width;
    const hidden = picture.map((value, i) => (mask[i % mask.length] ? 0 : value));
    const { mean } = await said(model.parts.encoder, { pictures: [floats(hidden, [3, side, side])] });
    const cells = new Float32Array(height * width); // a cell is painted where any of its pixels is
    mask.forEach((value, i) => {
        const cell = Math.floor(Math.floor(i / side) / factor) * width + Math.floor((i % side) / factor);
        cells[cell] = Math.max(cells[cell], value);
    });
    return floats([...cells, ...mean.data.map((value) => value * model.scale)], [1 + channels, height, width]);
}

// The picture of latents; with a mask, what was to be kept is put back.
export async function decoded(model, latents, { picture, mask }) {
    const { pictures } = await said(model.parts.decoder, { latents: [floats(latents, model.shape)] });
    if (!mask) return pictures.data;
    return pictures.data.map((value, i) => (mask[i % mask.length] ? value : picture[i]));
}
