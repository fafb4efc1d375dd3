// Every formula of the page, \(…\) or \[…\] in an element of the class "math", drawn by KaTeX.
for (const element of document.querySelectorAll(".math")) {
    const text = element.textContent.trim();
    const displayMode = text.startsWith("\\[");
    katex.render(text.slice(2, -2), element, { displayMode, throwOnError: false });
    if (displayMode) element.tabIndex = 0; // a wide one scrolls sideways, by keyboard too
}
