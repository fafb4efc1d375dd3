"""Every kind of verdict in words: the legend of the report, and the table in docs/instructors.md."""

KINDS = {
    "passed": {"passed": "right on every case"},
    "not attempted": {
        "untouched": "the stub is as it was handed out",
        "planted": "the bug that was handed out is still there",
        "missing": "the notebook has no cell of this exercise, or one that is no code or defines nothing",
        "grader": "the grader lost the process that runs submissions: run it again",
    },
    "wrong": {
        "misconception": "a known mistake explains every case; its name and sentence are given",
        "value": "the numbers, the text or the choice differ",
        "shape": "a tensor of another shape",
        "dtype": "the numbers are right, their dtype is not",
        "device": "the numbers are right, but lie on another device",
        "type": "something else than was asked for: a list for a tensor, a text for a number",
        "keys": "a dict or an object with other entries",
        "length": "more or fewer results than were asked for",
        "none": "None: as a rule the return is missing",
        "nonfinite": "NaN or infinite where a number was expected",
        "graph": "right, but the result still holds the graph that gradients flow through",
        "gradient": "right, but no gradient reaches what the lesson trains by it",
        "mutated": "right, but it changes what it was given",
        "seeded": "right, but it sets the seed of everybody's random numbers",
        "random": "the same inputs give different results",
        "exception": "it raises an error",
        "not implemented": "written in part: some cases still end at the stub",
        "missing": "a case has no result",
        "signature": "other arguments than the lesson calls it with",
        "not callable": "a value or a class where a function was asked for, or the other way round",
        "name": "right, but the function has another name than later cells use",
        "reference": "it calls what it should write, and points.toml says that this fails",
        "syntax": "its cell is no Python",
        "environment": "it needs a package or a file that is not there where this was graded",
        "ended": "it ended its own process before it gave a result",
        "crashed": "it brought Python itself down",
        "flood": "it returned more than can be sent",
        "forged": "what came back is no result of this exercise",
        "timeout": "stopped: too long; --again timeouts runs it alone",
        "memory": "stopped: too much memory; --again timeouts runs it alone",
        "disk": "stopped: it wrote too much; --again timeouts runs it alone",
        "processes": "stopped: too many processes; --again timeouts runs it alone",
    },
}


def explained(kind: str) -> bool:
    """Has this kind a sentence?"""
    return any(kind in group for group in KINDS.values())
