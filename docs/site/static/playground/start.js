// Starts the playground where it can run, and says plainly why where it cannot. Not a module: a page that is read from
// a folder may load none.
{
    const root = document.querySelector("[data-dl-playground]");
    const stop = (message) => {
        root.querySelector("[role=status]").textContent = message;
    };
    if (location.protocol === "file:") {
        stop(
            "The playground needs a server, for browsers run no models from a folder: in the folder of this site, " +
                "start python -m http.server, and open http://localhost:8000/playground.html.",
        );
    } else if (typeof WebAssembly !== "object") {
        stop("This browser has no WebAssembly, or it is switched off: the models cannot run in it.");
    } else {
        import(new URL("playground.mjs", document.currentScript.src))
            .then(({ start }) => start(root))
            .catch((error) => stop(`The playground could not start: ${error.message}`));
    }
}
