// The page of the playground: three tabs that share one worker. A tab's model is fetched when it is opened.
import { caption } from "./caption.mjs";
import { client } from "./client.mjs";
import { digits } from "./digits.mjs";
import { hole } from "./hole.mjs";
import { tabs } from "./tabs.mjs";

const TABS = { digits, caption, hole };

export async function start(root) {
    const status = root.querySelector("[role=status]");
    const say = (message) => {
        status.textContent = message;
    };
    const answer = await fetch(new URL("models.json", import.meta.url));
    if (!answer.ok) throw new Error("its models are missing");
    const described = await answer.json();
    const ask = client(described);
    const draws = new Map(); // by the panel
    root.querySelector("[data-do=all]").hidden = false;
    tabs(root.querySelector("[role=tablist]"), async (panel) => {
        if (!draws.has(panel)) draws.set(panel, await TABS[panel.dataset.tab]({ panel, described, ask, say }));
        draws.get(panel)();
    });
}
