// How the search ranks: headings and text before names of the package. Sphinx puts this into the page's own script.
var Scorer = {
    objNameMatch: 2,
    objPartialMatch: 1,
    objPrio: { 0: 1, 1: 0, 2: -1 },
    objPrioDefault: 0,
    title: 25,
    partialTitle: 15,
    term: 5,
    partialTerm: 2,
};
