// The interview page: answers hidden or shown, one level of difficulty, and a mode that asks one question at a time.
const asks = [...document.querySelectorAll(".dl-ask")].map((ask) => ({
    section: ask.closest("section"),
    ask,
    answer: ask.querySelector(".dl-answer"),
    level: ask.dataset.level,
}));
const bar = document.querySelector("[data-dl-interview]");
const turn = document.querySelector(".dl-turn");
const jump = document.querySelector(".dl-jump");
const said = bar.querySelector(".dl-said");
const button = (name) => document.querySelector(`[data-do=${name}]`);
const level = button("level");
let queue = []; // those still to be asked, the first one now
let asked = 0;
let known = 0;

const chosen = () => asks.filter((each) => !level.value || each.level === level.value);
const asking = () => queue.length > 0;

function fold(hidden) {
    button("fold").setAttribute("aria-pressed", hidden);
    for (const each of asks) each.answer.open = !hidden;
    for (const next of document.querySelectorAll(".dl-follow")) next.open = false;
}

function show() {
    const shown = asking() ? [queue[0]] : chosen();
    for (const each of asks) each.section.hidden = !shown.includes(each);
    document.body.classList.toggle("dl-asking", asking());
    jump.hidden = turn.hidden = asking();
    turn.hidden = !asking();
    button("fold").hidden = level.disabled = asking();
    button("quiz").setAttribute("aria-pressed", asking());
    if (!asking()) return;
    const { section, answer } = queue[0];
    fold(true);
    answer.after(turn);
    button("show").hidden = false;
    button("knew").hidden = button("again").hidden = true;
    answer.ontoggle = () => {
        if (!asking()) return;
        button("show").hidden = answer.open;
        button("knew").hidden = button("again").hidden = !answer.open;
    };
    said.textContent = `Question ${asked} · ${known} known · ${queue.length} to go. Say your answer aloud, then look.`;
    const heading = section.querySelector("h2");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    bar.scrollIntoView({ block: "start" });
}

function shuffled(all) {
    for (let i = all.length - 1; i > 0; i--) {
        const j = Math.floor(Math.random() * (i + 1));
        [all[i], all[j]] = [all[j], all[i]];
    }
    return all;
}

function stop(message) {
    queue = [];
    fold(false);
    show();
    said.textContent = message;
}

function answered(right) {
    const [now, ...rest] = queue;
    known += right;
    queue = right ? rest : [...rest, now];
    if (!asking()) return stop(`All ${known} known, after ${asked} ${asked === 1 ? "question" : "questions"}.`);
    asked += 1;
    show();
}

bar.hidden = false;
level.onchange = () => show();
button("fold").onclick = () => fold(button("fold").getAttribute("aria-pressed") !== "true");
button("quiz").onclick = () => {
    if (asking()) return stop("");
    [queue, asked, known] = [shuffled(chosen()), 1, 0];
    show();
};
button("show").onclick = () => {
    queue[0].answer.open = true;
    button("knew").hidden = button("again").hidden = false;
    button("knew").focus({ preventScroll: true });
};
button("knew").onclick = () => answered(true);
button("again").onclick = () => answered(false);
button("stop").onclick = () => stop(`${known} of ${asked} known.`);
