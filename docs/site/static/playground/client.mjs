// The page's end of the worker: one wish at a time, and how much of its models has come.
const MEGA = 1e6;

// ask(wishes, told): told gets every answer {model, x, x0, eps, picture, t}, {done, ms}, {error} or {loading}.
export function client(described) {
    const worker = new Worker(new URL("worker.mjs", import.meta.url), { type: "module" });
    const wanted = new Set();
    let id = 0;
    let loaded = 0;
    let listener = () => {};

    function total() {
        const sizes = [...wanted].flatMap((name) => Object.values(described.models[name].files));
        return sizes.reduce((a, b) => a + b, described.runtime);
    }

    worker.onmessage = ({ data }) => {
        if (data.bytes) {
            loaded += data.bytes;
            listener({ loading: `${(loaded / MEGA).toFixed(1)} of ${(total() / MEGA).toFixed(1)} MB` });
        } else if (data.id === id) listener(data);
    };
    worker.onerror = ({ message }) => listener({ error: message ?? "its worker did not start" });

    return (wishes, told) => {
        id += 1;
        listener = told;
        wishes.forEach(({ model }) => wanted.add(model));
        worker.postMessage({ id, wishes });
    };
}
