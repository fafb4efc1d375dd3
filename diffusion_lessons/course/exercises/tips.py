"""What to do about an exception: a tip for each that students meet."""

import re

import torch

from diffusion_lessons.course.exercises.outputs import Failure
from diffusion_lessons.course.exercises.values import Array, Plain
from diffusion_lessons.paths import Level

PRODUCT = re.compile(r"@|\b(matmul|bmm|mm|einsum|inner|tensordot)\b")
SWAPPED = (
    "A matrix product takes the last two dimensions, (…, n, k) @ (…, k, m), and those before them must "
    "agree: is the right pair of axes swapped? transpose(-2, -1) swaps the last two."
)
INSIDE = "The layer or function called there takes another shape: print the shape of what you give it."
LEVEL = "A level is wanted there, with alpha and sigma, and not its time: path(t) makes one of a time."
PRODUCTS = "A matrix product needs (n, k) times (k, m): print both shapes."
BATCH = "One factor for each sample, shape (B,), becomes (B, 1, 1, 1) before it multiplies (B, C, H, W)."
BROADCAST = (
    "From the right, sizes that meet must be equal, or one of them 1: print both shapes. What lacks the last "
    "dimensions gets them as factor[..., None, None]."
)
ONE = "`if` needs one True or False: use torch.where, .any() or .all()."
NUMBER = "One number is needed there, and this has several: reduce it first, or use torch in place of math."
WHOLE = "A whole number is needed there: int(…), .long(), or // in place of /."
CAST = "Cast one to the dtype of the other: a.to(b.dtype); .float() and .long() change between kinds."
NEW = "Make a new tensor in place of changing this one."
KNOWN = "Is the name spelt right? dir(…) lists what there is."
TUPLE = "One of them is a tuple, several results in one: take it apart first, a, b = …"
ONE_BY_ONE = r"'(itertools\.\w+|generator|zip|map|filter|enumerate|reversed|\w*iterator|dict_\w+)'"
# The type of the exception, a pattern in its message, and the tip; the first that fits is given.
TIPS = (
    ("UnboundLocalError", "", "Give it a value before that line, on every way that leads there."),
    ("NameError", "", "Is it spelt right, and was the cell that makes it run?"),
    ("SystemExit|KeyboardInterrupt", "", "Leave exit() out: it would end the notebook."),
    ("RecursionError", "", "The function calls itself without end."),
    ("ZeroDivisionError", "", "What stands below the line is 0 there: which input makes it so?"),
    ("OverflowError", "", "A number grew past all bounds: is a sign or a factor wrong in its exponent?"),
    ("ImportError|ModuleNotFoundError", "", "Use what the lesson has imported: torch and math are enough."),
    ("KeyError", "", "The dict has no such entry: print its keys()."),
    ("StopIteration", "", "There was nothing left to take: next() needs an entry that fits."),
    ("AssertionError", "", "What this `assert` asks for does not hold here, and the input is a right one."),
    ("IndexError", "0-dim", "It is a single number and has no entries: leave the […] out."),
    ("IndexError", "too many indices|imension out", "It has fewer dimensions than that: print its shape."),
    ("IndexError", "from empty", "More was taken out than was put in: does a loop run too often?"),
    ("IndexError", "out of (range|bounds)", "Places count from 0, the last is the length − 1: is one too "
     "large?"),
    ("IndexError|TypeError", "is not an int|valid indices|indices must|used as ind|as an integer", WHOLE),
    ("TypeError", "unexpected keyword", "It has no argument of this name: look at its line `def …` or "
     "help(…)."),
    ("TypeError", "multiple values", "One argument was given twice, by place and by name."),
    ("TypeError", "expected Tensor as el|tuple of Tensors", "stack and cat take a list of tensors: "
     "torch.tensor(…) makes one of a number."),
    ("TypeError", "Tensor, not tuple|concatenate tuple|(operand|between).*'tuple'", TUPLE),
    ("TypeError", "type.s. for @", "@ multiplies matrices: numbers, and entry by entry, take *."),
    ("TypeError", "must be Tensor, not", "That takes a tensor: torch.tensor(…) makes one of a number; or "
     "use math."),
    ("TypeError|ValueError", "real number|length-1|converted to Python|only one el", NUMBER),
    ("TypeError", "positional argument|takes (no|from|exactly)|required arg|invalid comb", "Compare the "
     "arguments in that call with the line `def …`, or help(…), of what it calls."),
    ("TypeError", "not callable", "(…) calls a function: an entry is taken with […], a product is written "
     "with *."),
    ("TypeError", f"{ONE_BY_ONE}.* (subscriptable|has no len)", "It gives its entries one by one and has no "
     "places: list(…) makes a list of it."),
    ("TypeError", "subscriptable|indexing", "[…] takes an entry of a list or tensor, and this is none: is "
     "it a function to call, or a single number?"),
    ("TypeError", "item assignment", "It cannot be changed in place: make a new one."),
    ("TypeError", "iterable|iteration", "A loop needs entries, and this is a single thing: did you mean "
     "range(…)?"),
    ("TypeError|ValueError", "unpack", "The names to the left of = must be as many as the results to the "
     "right."),
    ("TypeError", "can't convert cuda", "Stay with torch functions: numpy needs the numbers on the CPU."),
    ("TypeError", r"len\(\)", "It is a single thing and has no length."),
    ("TypeError", "operand|sequence|concatenate|not supported between", "The two sides do not go together: "
     "print type(…) of both. Is one a list, a function or None?"),
    ("ValueError", "domain error|nonneg", "It has no root or logarithm there: which input makes it negative "
     "or 0?"),
    ("ValueError", "(shorter|longer) than", "What the loop goes through together has different lengths: "
     "print them."),
    ("AttributeError", "'NoneType'", "It is None: so is what a function without `return` gives, and a "
     "method like reverse() of a list."),
    ("AttributeError", "'(float|int|bool|list|tuple)'", "It is no tensor: torch.tensor(…) makes one of it."),
    ("AttributeError", "function|'method", "It is a function: call it, with (…)."),
    ("AttributeError", "", KNOWN),
    ("ValueError|RuntimeError", "ambiguous|Boolean value", ONE),
    ("RuntimeError", "converted to Scalar|elements cannot be conv", NUMBER),
    ("RuntimeError", "leaf Variable|inplace|in-place", NEW),
    ("RuntimeError", "does not require grad", "No graph is kept there: is a .detach() or torch.no_grad() in "
     "the way? requires_grad_() on a copy of your own and torch.enable_grad() switch it on."),
    ("RuntimeError", "a second time", "backward() frees the graph: call it once, on the sum."),
    ("RuntimeError", "only for scalar outputs", "A gradient is that of one number: take .sum() or .mean() "
     "first."),
    ("RuntimeError", "not have been used", "The result does not depend on it: is a .detach() or a copy in "
     "the way?"),
    ("RuntimeError", r"numpy\(\) on Tensor that", "Stay with torch functions, or .detach() where no "
     "gradient is needed."),
    ("RuntimeError", "same device", "Make new tensors on the device of the inputs: torch.zeros(..., "
     "device=x.device), or torch.zeros_like(x)."),
    ("RuntimeError", "dtype|scalar type|not implemented for '|result type|floating |can't be cast", CAST),
    ("RuntimeError", "expanded", "expand repeats a dimension of size 1: .view(…) or [..., None] gives it "
     "one."),
    ("RuntimeError", "invalid for input|view size|unflatten", "The new shape must hold just as many "
     "numbers: print the old one. −1 stands for the size that follows from the others."),
    ("RuntimeError", "batch2", SWAPPED),
    ("RuntimeError", "mat1|mat2|matri|1D tensors|inconsistent tensor", PRODUCTS),
    ("RuntimeError", "stack expects", "stack needs equal shapes. Is cat meant? The shapes may differ in the "
     "dimension along which cat joins."),
    ("RuntimeError", r"at least \dD", "It has too few dimensions: flatten() leaves one of everything, "
     "flatten(1) keeps one for each sample."),
    ("RuntimeError", "Sizes of tensors|number of dimensions", "What is joined has the same "
     "shape but for the dimension along which cat joins: print both shapes."),
    ("RuntimeError", "channels|weight of size|weight to be", "The layer expects another width: print the "
     "shape that comes in."),
    ("RuntimeError", "without replacement", "Without replacement each place is drawn once at most: give "
     "replacement=True to draw more than there are."),
    ("RuntimeError", "number of dims|dims|shape|size", BROADCAST),
)  # fmt: skip


def tip(failure: Failure, inputs: dict[str, Plain]) -> str:
    """What to do about an exception, or nothing; `inputs` are the arguments of the answer by name."""
    if "must match the size of tensor" in failure.message:
        return _of_shapes(failure, inputs)
    if "cannot be multiplied" in failure.message and not _own_product(failure):
        return INSIDE
    of = r"'(float|int|bool|list|tuple|Tensor)' object has no attribute '(\w+)'"
    lacks = re.search(of, failure.message)
    if lacks and lacks[2] in (*Level.__annotations__, *vars(Level)):
        return LEVEL
    if lacks and lacks[1] != "Tensor" and not hasattr(torch.Tensor, lacks[2]):
        return f"Something else than this {lacks[1]} is wanted there: print what is handed on, and to what."
    fits = (said for types, words, said in TIPS if failure.type in types.split("|") and _in(words, failure))
    return next(fits, "")


def _in(words: str, failure: Failure) -> bool:
    return re.search(words, failure.message) is not None


def _own_product(failure: Failure) -> bool:
    """Does the line of the student's that raised hold a matrix product?"""
    return not failure.frames or PRODUCT.search(failure.frames[-1].text) is not None


def _of_shapes(failure: Failure, inputs: dict[str, Plain]) -> str:
    """Sizes that do not broadcast: in a product, by one factor for each sample, or another way."""
    if failure.frames and _own_product(failure):
        return SWAPPED
    found = re.search(r"\((\d+)\) must .* \((\d+)\) at .* (\d+)$", failure.message)
    a, b, at = map(int, found.groups()) if found else (0, 0, -1)
    shapes = [each.shape for each in inputs.values() if isinstance(each, Array)]
    of_samples = any(2 < len(each) > at > 0 and {each[0], each[at]} == {a, b} for each in shapes)
    return BATCH if of_samples else BROADCAST
