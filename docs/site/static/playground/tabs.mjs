// Tabs as a screen reader knows them: arrow keys go from one to the next. opened(panel) is called for each that opens.
export function tabs(list, opened) {
    const all = [...list.querySelectorAll("[role=tab]")];
    const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

    function choose(tab) {
        for (const each of all) {
            const chosen = each === tab;
            each.setAttribute("aria-selected", chosen);
            each.tabIndex = chosen ? 0 : -1;
            panelOf(each).hidden = !chosen;
        }
        opened(panelOf(tab));
    }

    for (const [i, tab] of all.entries()) {
        tab.onclick = () => choose(tab);
        tab.onkeydown = ({ key }) => {
            const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
            if (!step) return;
            const next = all[(i + step + all.length) % all.length];
            next.focus();
            choose(next);
        };
    }
    choose(all.find((tab) => location.hash === `#${tab.getAttribute("aria-controls")}`) ?? all[0]);
}
