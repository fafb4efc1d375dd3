// The score of the quiz: the first choice that is opened counts; where several are right, all of them and no other.
const questions = [...document.querySelectorAll(".dl-question")].map((element) => ({
    element,
    topic: element.closest("[data-topic]"),
    choices: [...element.querySelectorAll("details")],
    right: element.querySelectorAll(".dl-right").length,
    result: null, // true, false, or null while it is open
}));
const bar = document.querySelector("[data-dl-score]");
const said = bar.querySelector(".dl-said");
const [topic, missed, reset] = ["topic", "missed", "reset"].map((name) => bar.querySelector(`[data-do=${name}]`));
const only = () => missed.getAttribute("aria-pressed") === "true";

function score() {
    const counted = questions.filter((each) => !topic.value || each.topic.dataset.topic === topic.value);
    const done = counted.filter((each) => each.result !== null);
    const right = done.filter((each) => each.result).length;
    said.textContent = `${right} right of ${done.length} answered, ${counted.length} questions.`;
}

function show() {
    for (const each of questions) {
        const left = only() && each.result !== false;
        each.element.hidden = left || (topic.value !== "" && each.topic.dataset.topic !== topic.value);
    }
    for (const group of document.querySelectorAll("[data-topic]")) {
        group.closest("section").hidden = !group.querySelector(".dl-question:not([hidden])");
    }
    score();
}

function opened(question, choice) {
    if (question.result !== null || !choice.open) return;
    const open = question.choices.filter((each) => each.open);
    if (open.some((each) => each.classList.contains("dl-wrong"))) question.result = false;
    else if (open.length === question.right) question.result = true;
    if (question.result !== null) question.element.dataset.result = question.result ? "right" : "missed";
    score();
}

for (const question of questions) {
    for (const choice of question.choices) choice.addEventListener("toggle", () => opened(question, choice));
}
topic.onchange = show;
missed.onclick = () => {
    missed.setAttribute("aria-pressed", !only());
    show();
};
reset.onclick = () => {
    for (const question of questions) {
        for (const choice of question.choices) choice.open = false;
        question.result = null;
        delete question.element.dataset.result;
    }
    missed.setAttribute("aria-pressed", false);
    show();
};
bar.hidden = false;
score();
