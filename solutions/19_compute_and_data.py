# %% [markdown] tags=["header"]
# title: Compute and data
# question: What does a diffusion model cost to train and to run, and what makes it cheaper?
# difficulty: 3
# prerequisites: 06, 07, 11
# builds: training.speed, support.processes, onnx_files, networks.recomputed, metrics.planning, metrics.training_cost

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - count the FLOPs of a network before you run it (exercise 19.1)
# - say why fused attention is faster, from the bytes it does not move, and write it (exercises 19.2 and 19.3)
# - make a large batch of small ones without changing what is learnt (exercise 19.4)
# - read a profile, and predict what a faster part is worth (exercises 19.5 and 19.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Six digits, drawn four times from the same noise. The seconds beside each row are **recorded**: CPU time of one picture
# on one thread. Which row would you put into a product, and what would it cost?

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, explore_costs, figure, strip
from diffusion_lessons.experiments import recorded, recorded_on
from diffusion_lessons.generate import generate
from diffusion_lessons.support.machine import keep_freed_memory

torch.set_num_threads(1)  # seconds of this lesson are CPU time of one thread
keep_freed_memory()  # as the command line does: else large tensors wait for the system to hand out pages
record = recorded("speed-ladder")  # made by: diffusion-lessons experiment speed-ladder


def rung(part, name):
    """A row of the record: what one rung was measured to be."""
    rows = [row for row in record["rows"] if row["settings"]["part"] == part]
    return next(row for row in rows if row["settings"].get("rung") == name)


# %% jupyter={"source_hidden": true}
teacher = zoo.load("mnist-unet")
labels = torch.tensor([2, 3, 4, 5, 8, 9])
students = {steps: zoo.load(f"mnist-unet-{steps}-step{'s' * (steps > 1)}") for steps in (4, 1)}
drawn = {
    "as it is": generate(teacher, labels, seed=23, guidance=1.0, precision="float32"),
    "bf16": generate(teacher, labels, seed=23, guidance=1.0),
    "student of 4 steps": generate(students[4], labels, seed=23, precision="float32"),
    "student of 1 step": generate(students[1], labels, seed=23, precision="float32"),
}
plain_ms = 1000 * rung("sampling", "as it is")["base_seconds_a_picture"][1]
cost = {name: plain_ms / (1 if name == "as it is" else rung("sampling", name)["faster"][1]) for name in drawn}
strip(
    {f"{name}: {cost[name]:.2g} ms": pictures.clamp(-1, 1) for name, pictures in drawn.items()},
    alt="Six digits in four rows: 25 steps in float32, 25 steps in bf16, and students of 4 steps and of 1 step. The "
    "first two rows cannot be told apart; the digits of the students are the same ones, with small changes.",
    columns=6,
)

# %% [markdown]
# The last row costs a twenty-fifth of the first, because its network is asked once and not 25 times. The second row asks as
# often as the first, in fewer bits, and saves a sixth of the time. This lesson is about both kinds of saving: **less
# work**, and the same work **in less time**. It is the second kind that fills this lesson; lesson 7 built the first.

# %% [markdown] tags=["guess"]
# ## Guess
#
# Your training runs at one picture a millisecond, and you must make it faster, with the same result. **What do you look at
# first, and what would you change?** Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Is the network what you wait for?* If pictures are decoded more slowly than they are learnt from, nothing else helps.
# - *Where does the time go?* A profile tells. Making a part faster that takes 3 % of the time gains 3 % at most.
# - *How near to the machine's best are you?* Count FLOPs, divide by seconds, compare with the rate of a large matrix
#   product. At 80 % little is left to gain; at 5 % something else than arithmetic takes the time.
# - *Fewer bits.* Half as many bytes to move, and products that are several times as fast, where the hardware has them.
# - *Larger batches* share what is paid once for each call. They need memory, and they change what is learnt.
# - *Ask less often.* No arithmetic is as cheap as none: fewer steps (lesson 7), a smaller picture (lesson 11).
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# `torch.compile` looks at the network once and writes faster code for it. It is one line.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "The bundled U-Net of MNIST has 670,000 parameters. You train it on one thread of a CPU for a minute, batches of 32. What "
    "does torch.compile change?",
    [
        Choice("the minute is worth about two", False, "Once it is set up, a step is 1.10 times as fast. That is not two, and the set-up comes first."),
        Choice("nothing, to within a few percent", False, "A step does get a tenth faster. But the set-up takes 104 s: the minute is over before the first step."),
        Choice("the minute is worth less than before", True, "The set-up alone takes 104 s of CPU time. It pays after 9,000 steps, or 19 minutes: you see it in the ladder."),
        Choice("it does not run on a CPU", False, "It does, and writes C++ for it. The question is when that has paid."),
    ],
)

# %% [markdown] tags=["idea"]
# ## Count before you run
#
# A network is a list of matrix products, and nearly all its arithmetic is in them. A product of $(n, k)$ and $(k, m)$
# takes $2nkm$ **FLOPs** (floating-point operations): each of the $nm$ results takes $k$ multiplications and $k$
# additions. A convolution is such a product at each place of its output. In attention every token meets every token,
# twice.
#
# Norms, activations and sums are left out. They hardly count, but they do take time: keep that in mind.
#
# The **backward pass**, the way back, has two products for each one forwards: one for the gradient of the weights, one for the gradient
# of the input. So a step of training costs three evaluations. Memory counts, too: in float32, weights, gradients,
# Adam's two moments and averaged weights are 20 bytes a parameter. And whatever the way back needs is **kept** until
# then.

# %% [markdown]
# $$\text{convolution: } 2\,H'W'\,C_{in}C_{out}\,k^2 \qquad
# \text{attention: } \underbrace{8\,N C^2}_{\text{4 projections}} + \underbrace{4\,N^2 C}_{\text{scores, mix}} \qquad
# \text{training} \approx 3 \times \text{evaluation}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $H', W'$ | grid of the *output*: the stride divides it, rounded up | numbers |
# | $C_{in}, C_{out}, C$ | channels | numbers |
# | $k$ | side of the kernel | number |
# | $N$ | tokens: all places of the grid | number |

# %% [markdown] tags=["exercise-card"]
# {{exercise 19.1}}


# %% tags=["exercise"]
@exercise("19.1")
def count_flops(layers, height, width):
    """FLOPs of each layer for one picture of height × width: a list of ints, in the order of the layers.

    A layer is ("conv", channels_in, channels_out, kernel, stride), padded so that stride 1 keeps the grid and stride s
    makes it s times smaller, rounded up; ("attention", channels, heads), self-attention of all places of the grid as it is
    by then, with its four projections; or ("linear", numbers_in, numbers_out), on one vector a picture. A multiplication
    and an addition are two FLOPs; nothing else counts.
    """
    ### BEGIN SOLUTION
    counts = []
    for kind, *sizes in layers:
        if kind == "conv":
            channels, out, kernel, stride = sizes
            height, width = (height + stride - 1) // stride, (width + stride - 1) // stride
            counts.append(2 * height * width * channels * out * kernel**2)
        elif kind == "attention":
            channels, tokens = sizes[0], height * width
            counts.append(8 * tokens * channels**2 + 4 * tokens**2 * channels)
        else:
            counts.append(2 * sizes[0] * sizes[1])
    return counts
    ### END SOLUTION


# %% [markdown]
# Now the machine. A large matrix product comes near the best rate that it has; our network reaches a share of it.

# %%
from diffusion_lessons.experiments.clock import Clock, quartiles
from diffusion_lessons.networks.counting import unet_costs

clock = Clock(torch.device(device))
square = torch.randn(1024, 1024, generator=generator).to(device)
network = teacher.network.to(device).eval()  # patches of 2×2 pixels, so it sees 16×16 places
flops = sum(each.flops for each in unet_costs(network.network.config, 16, 16).values())
batch = budget.samples(32, at_least=8)
x, t = torch.randn(batch, 1, 32, 32, device=device), torch.full((batch,), 500.0, device=device)
y = torch.zeros(batch, dtype=torch.long, device=device)
works = {"product": lambda: square @ square, "network": lambda: network(x, t, y)}
with torch.no_grad():
    taken = clock.in_turns(works, windows=7, seconds=0.2)
best = [2 * 1024**3 / each for each in taken["product"]]
shares = [flops * batch / each / rate for each, rate in zip(taken["network"], best, strict=True)]
low, rate, high = quartiles(best)
print(f"matrix products: {rate / 1e9:.0f} GFLOP a second ({low / 1e9:.0f} to {high / 1e9:.0f})")
print(f"the U-Net: {flops / 1e6:.0f} MFLOP a picture; at that rate {1e3 * flops / rate:.2f} ms")
low, clocked, high = quartiles([1e3 * each / batch for each in taken["network"]])
print(f"by the clock {clocked:.2f} ms ({low:.2f} to {high:.2f})")
print("share of the rate that it reaches: {:.0%} ({:.0%} to {:.0%})".format(*[quartiles(shares)[i] for i in (1, 0, 2)]))
print("medians of 7 windows in turn; in brackets the middle half of them")

# %%
from diffusion_lessons.experiments.ladder import data, stages, training
from diffusion_lessons.experiments.ladder.shared import Bench

bench = Bench(teacher, torch.device(device), windows=3, seconds=0.2)
by_stage = stages.measure(bench, {"batch": batch})["stages"]

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

names = list(by_stage)
columns = {
    "FLOPs": [by_stage[name]["flops"] for name in names],
    "time": [by_stage[name]["seconds_a_picture"][1] for name in names],
    "kept for the way back": [by_stage[name]["kept_bytes"] for name in names],
    "parameters": [by_stage[name]["parameters"] for name in names],
}
fig, ax = plt.subplots(figsize=(8.4, 4.2))
for i, (label, values) in enumerate(columns.items()):
    places = [k + 0.2 * (1.5 - i) for k in range(len(names), 0, -1)]
    hatch = ("", "///", "...", "xx")[i]
    ax.barh(places, [100 * v / sum(values) for v in values], 0.2, label=label, hatch=hatch, edgecolor="white")
ax.set_yticks(range(len(names), 0, -1), names)
ax.set_xlabel("share of the whole, percent")
ax.legend(fontsize=10)
figure(
    fig,
    alt="Shares of each stage of the U-Net in FLOPs, time, kept bytes and parameters. The coarse stages middle and up 2 have nearly half of the parameters and 15 percent of the FLOPs; up 1 has more FLOPs than any other stage; up 0 takes more time and keeps more bytes than any other.",
)

# %% [markdown]
# **What to notice:** parameters, FLOPs and memory are at different places. The coarse levels ("middle", "up 2") hold nearly
# half of the parameters and do 15 % of the arithmetic. The finest level on the way up keeps 40 % of the bytes. "up 1"
# has more FLOPs than "up 0", and takes *less* time (recorded: 37 % of the FLOPs and 26 % of the time, against 28 % and
# 33 %). Two causes are likely, and not told apart here: norms and activations work on every place of the fine grid, and
# count no FLOPs; and the products of "up 0" have fewer channels, and small products reach a lower rate.

# %% [markdown] tags=["idea"]
# ## A FLOP is not a second
#
# Every operation reads its input from memory and writes its output. A product of large matrices uses each number that it
# reads hundreds of times. An activation uses it once. The ratio is the **arithmetic intensity**: FLOPs for each byte
# moved. Below a threshold, the machine's rate of arithmetic over its rate of memory, an operation waits for memory, and
# its FLOPs are free.
#
# Attention is the famous case. The scores of $N$ tokens are $N^2$ numbers. Written out, they go to memory and come back
# for each small operation. **FlashAttention** computes exactly the same, but takes the keys in blocks that fit on the chip,
# and keeps for each token a running maximum and a running sum. The scores never reach memory.

# %% [markdown]
# $$\text{for each head, written out: } 4Nd + 6N^2 \text{ numbers} \qquad \text{fused: } 4Nd \qquad
# \text{both: } 4N^2 d \text{ FLOPs}$$
#
# $$m' = \max\!\big(m, \max_j s_j\big),\qquad \ell' = e^{m-m'}\ell + \sum_j e^{s_j-m'},\qquad
# o' = e^{m-m'}o + \sum_j e^{s_j-m'} v_j,\qquad \text{output} = o/\ell$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $N, d$ | tokens, and the width of a head | numbers |
# | $s_j, v_j$ | score of a key of the block, divided by $\sqrt d$, and its value | number, (d,) |
# | $m, \ell, o$ | of a token: largest score so far, sum of exponentials, weighted values; at first $-\infty$, 0 and 0 | number, number, (d,) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 19.2}}


# %% tags=["exercise"]
@exercise("19.2")
def attention_traffic(tokens, head_dim, heads, size, written):
    """Bytes that self-attention of one picture moves, and FLOPs for each of them: (bytes, FLOPs a byte).

    Projections are not part of it. size: bytes of a number. Each operation reads what it needs from memory and writes what
    it makes. written=True: product QKᵀ, division by √d, softmax, product with V, each an operation of its own.
    written=False: one operation, in which nothing is read twice. FLOPs: of the two products.
    """
    ### BEGIN SOLUTION
    numbers = 4 * tokens * head_dim
    if written:
        numbers = numbers + 6 * tokens**2
    moved = heads * numbers * size
    return moved, 4 * heads * tokens**2 * head_dim / moved
    ### END SOLUTION


# %% [markdown] tags=["exercise-card"]
# Now write it: the whole piece, in about ten lines.
#
# {{exercise 19.3}}


# %% tags=["exercise"]
@exercise("19.3")
def attention_in_blocks(query, key, value, block):
    """softmax(QKᵀ/√d)·V without ever holding all scores.

    query: (B, heads, N, d); key: (B, heads, M, d); value: (B, heads, M, e). The result is (B, heads, N, e). Look at
    `block` keys at a time (the last block may be shorter): no tensor on the way may have N × M scores. Scores may be
    large: subtract the largest one so far before you take exponentials.
    """
    ### BEGIN SOLUTION
    most = torch.full_like(query[..., :1], -torch.inf)  # (B, heads, N, 1) the largest score so far
    total, mixed = torch.zeros_like(most), 0.0
    for start in range(0, key.shape[-2], block):
        scores = query @ key[..., start : start + block, :].mT / query.shape[-1] ** 0.5
        higher = torch.maximum(most, scores.amax(-1, keepdim=True))
        weights, faded = torch.exp(scores - higher), torch.exp(most - higher)
        total = faded * total + weights.sum(-1, keepdim=True)
        mixed = faded * mixed + weights @ value[..., start : start + block, :]
        most = higher
    return mixed / total
    ### END SOLUTION


# %%
from torch.nn.functional import scaled_dot_product_attention

from diffusion_lessons.experiments.clock import Largest
from diffusion_lessons.networks.attention import attention

LOOKS = {
    "written out": attention,
    "in blocks of 128, yours": lambda q, k, v: attention_in_blocks(q, k, v, 128),
    "fused": scaled_dot_product_attention,
}
lengths, found = [64, 256, 1024, 2048], {name: {} for name in LOOKS}
for n in lengths:
    q, k, v = (torch.randn(1, 2, n, 32, generator=generator).to(device) for _ in range(3))
    timed = clock.in_turns({name: lambda look=look: look(q, k, v) for name, look in LOOKS.items()}, 5, 0.1)
    for name, look in LOOKS.items():
        with Largest() as largest:
            look(q, k, v)
        found[name][n] = largest.bytes, quartiles(timed[name])
    gap = (LOOKS["in blocks of 128, yours"](q, k, v) - attention(q, k, v)).abs().max()
    print(f"{n:5} tokens: yours is {gap:.0e} from the one written out")

# %% jupyter={"source_hidden": true}
fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4))
for name, rows in found.items():
    low, middle, high = (torch.tensor([rows[n][1][i] for n in lengths]) * 1000 for i in range(3))
    left.errorbar(lengths, middle, yerr=torch.stack([middle - low, high - middle]), capsize=3, label=name)
    right.plot(lengths, [rows[n][0] / 2**20 for n in lengths], label=name)
for ax, title in ((left, "milliseconds, one picture"), (right, "largest tensor, MiB")):
    ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel=title)
    ax.set_xticks(lengths, [str(n) for n in lengths])
    ax.minorticks_off()
left.legend(fontsize=9)
figure(
    fig,
    alt="Milliseconds and largest tensor of attention over 64 to 2048 tokens, both axes logarithmic. Left: three lines "
    "that rise, from 256 tokens on, about with the square of the tokens; the fused one is the lowest, the blocks are no "
    "faster than the one written out. Right: the largest tensor of the one written out rises with the square, to 32 MiB; "
    "that of the fused one, and from 256 tokens on that of the blocks, in proportion to the tokens.",
)

# %% [markdown]
# **What to notice:** all three compute the same, and the FLOPs of all grow with the square of the tokens. But the
# largest tensor of the blocks grows with the tokens alone. *Yours* is Python over the same operations: it saves memory,
# and no time. The scores of a block are still written and read again by each operation. To spare that takes one
# operation that does it all.
#
# Do the formulas predict the seconds? **Recorded**, 4,096 tokens, two heads of 32: 4.3 GFLOP, at 85 a second 51 ms. Written
# out it moves 810 MB, at 17.5 GB a second 46 ms more: 97 in all, by the clock 113 ms. Fused it moves 4 MB: 51 ms, by
# the clock 63. Both take longer than predicted: exponentials, for one, are not in the count. But the *difference* is
# predicted well: 46 ms, by the clock 50. So the traffic explains most of the gain, a factor of 1.8. With the way back
# the factor is 1.3.
#
# Why is the gain larger on a GPU? Our thread does 5 FLOPs while a byte arrives. An H100 does 295 (989 TFLOP and 3.35 TB
# a second, by its data sheet), and attention written out in bf16 asks for $d/3$ FLOPs a byte, about 20 with heads of
# 64. So it waits for memory nearly all of the time.

# %% [markdown] tags=["idea"]
# ## Memory: what is kept, and two ways to keep less
#
# While a picture goes through the network, each layer leaves something for the way back. For our U-Net that is far more
# than the weights are. Two ways keep less, and both leave the gradient as it is:
#
# **Checkpointing** keeps only what goes *into* a block, and computes the block again on the way back. It costs one more
# way there: four evaluations in place of three.
#
# **Accumulation** cuts the batch into micro-batches, one after the other, and adds their gradients. The weights are
# updated once, as if the whole batch had been there. Only one micro-batch is kept at a time. The price: small calls use
# a machine worse.
#
# The gradient of a batch is the *mean* over its rows. Gradients of parts are means, too, so they have to be weighed.

# %% [markdown]
# $$g = \sum_k \frac{n_k}{B}\, g_k, \qquad g \leftarrow g \cdot \min\!\big(1,\ c/\lVert g\rVert\big) \ \text{ once, at the end}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $g_k$ | gradient of the mean loss of part $k$ | like the weights |
# | $n_k, B$ | rows of the part, and of the batch | numbers |
# | $c$ | largest norm that is let through | number |

# %% [markdown] tags=["exercise-card"]
# A colleague has cut the batch, because it did not fit. This is the bug of two well-known training programs.
#
# {{exercise 19.4}}


# %% tags=["exercise"]
@exercise("19.4")
def accumulated(gradient_of, x, y, size, most):
    """The gradient of the mean loss over all rows, clipped to the norm `most`, from parts of at most `size` rows.

    x: (B, d); y: (B,); gradient_of(x, y) gives the gradient (d,) of the *mean* loss over the rows that it is given. The last
    part may be smaller than the others. A gradient that is shorter than `most` stays as it is.
    """
    ### BEGIN SOLUTION
    total = 0.0
    for rows, wanted in zip(x.split(size), y.split(size), strict=True):
        total = total + gradient_of(rows, wanted) * len(rows) / len(x)
    return total * min(1.0, most / float(total.norm()))
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "With 8 parts it only works if I divide the learning rate by 8. Adam does not mind."
    # total = 0.0
    # for rows, wanted in zip(x.split(size), y.split(size), strict=True):
    #     total = total + gradient_of(rows, wanted)
    # return total * min(1.0, most / float(total.norm()))
    ### END STUDENT


# %%
from dataclasses import replace

small = replace(bench, windows=budget.samples(3, at_least=1))
steps = {name: training.measure(small, {"rung": name}) for name in ("as it is", "checkpointed", "4 micro-batches of 8")}
print(f"{'a step, batch of 32':21} MiB at the peak  times the time       gradient away")
for name, row in steps.items():
    low, faster, high = row["faster"]
    print(f"{name:21} {row['peak_bytes'] / 2**20:15.1f}  {1 / faster:.2f} ({1 / high:.2f} to {1 / low:.2f})", end="")
    print(f"{row['gradient_apart']:14.0e}")
print(f"peak: tensors that the step makes; time: median and middle half of {small.windows} windows")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(8.4, 2.3), sharey=True)
peaks = [row["peak_bytes"] / 2**20 for row in steps.values()]
times = [1 / row["faster"][1] for row in steps.values()]
for ax, values, title, hatch in ((axes[0], peaks, "MiB at the peak", ""), (axes[1], times, "times the time", "///")):
    ax.barh(range(3), values, color="#0072B2", hatch=hatch, edgecolor="white")
    ax.set(xlabel=title, yticks=range(3), yticklabels=list(steps))
axes[0].invert_yaxis()  # the other shares it
figure(
    fig,
    alt="Two bar charts of one training step. Left, memory at the peak: about 44 MiB as it is, less than half of it when "
    "checkpointed, and less than a third in four micro-batches. Right, time: checkpointed and in "
    "micro-batches a step takes a quarter to two fifths more.",
)

# %% [markdown]
# **What to notice:** both leave the gradient as it is, up to rounding. Checkpointing halves the peak and takes 1.3 times
# the time, as four evaluations against three should. Four micro-batches keep less than a third, and take 1.3 to 1.4
# times the time (recorded 1.40): four small calls cost more than a large one (lesson 7). Both trade time for memory.
# Whoever has the memory should use it.

# %% [markdown] tags=["idea"]
# ## Where the time goes
#
# A profiler writes down when each operation begins and ends. Operations call others, so the time of the outer one contains
# the inner ones. What counts is the **own** time: the operation without what it calls.
#
# **Amdahl's law** then says what any change is worth. If a part takes the share $p$ of the time and gets $f$ times faster,
# the rest stays. Ten times faster products are worth a factor of 1.8, if they are half of the time.

# %% [markdown]
# $$\text{own} = (\text{end} - \text{begin}) - \sum_{\text{directly inside}} (\text{end} - \text{begin}), \qquad
# \text{speed-up} = \frac{1}{\big(1 - \sum_i p_i\big) + \sum_i p_i / f_i}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $p_i, f_i$ | a part's share of the time, and how many times faster it gets | numbers |

# %% [markdown] tags=["exercise-card"]
# {{exercise 19.5}}


# %% tags=["exercise"]
@exercise("19.5")
def own_seconds(events):
    """Where the time goes: own seconds of each name, summed over its calls: a dict.

    events: (name, begin, end) of one thread, in seconds, sorted by begin. An event lies inside another or apart from it,
    never across its end; what lies inside was called by it. No two begin at the same time.
    """
    ### BEGIN SOLUTION
    own, still_open = {}, []
    for name, begin, end in events:
        while still_open and still_open[-1][1] <= begin:
            still_open.pop()
        own[name] = own.get(name, 0.0) + (end - begin)
        if still_open:
            caller = still_open[-1][0]
            own[caller] = own[caller] - (end - begin)
        still_open.append((name, end))
    return own
    ### END SOLUTION


# %%
import os

from torch.profiler import ProfilerActivity, profile

os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler's library is silent
on_cpu = replace(small, device=torch.device("cpu"))
plain = training.Step(on_cpu, training.PLAIN)
plain()  # the first step sets things up
with profile(activities=[ProfilerActivity.CPU]) as trace:
    plain()
spans = [(each.name, each.time_range.start, each.time_range.end) for each in trace.events()]
spans = sorted(spans, key=lambda span: (span[1], -span[2]))
own = own_seconds([(name, begin / 1e6, end / 1e6) for name, begin, end in spans])
whole = sum(own.values())
most = sorted(own.items(), key=lambda item: -item[1])[:9]
fig, ax = plt.subplots(figsize=(8.4, 3.0))
ax.barh([name.removeprefix("aten::") for name, _ in most], [100 * seconds / whole for _, seconds in most], color="#0072B2")
ax.set_xlabel("own time, percent of the step")
ax.invert_yaxis()
figure(fig, alt="Own time of the nine slowest operations of a training step. convolution_backward takes about half of the step and mkldnn_convolution about a quarter; the optimizer, "
    "copies, silu, norms and small products take a few percent each at most.")

# %% [markdown] tags=["exercise-card"]
# {{exercise 19.6}}


# %% tags=["exercise"]
@exercise("19.6")
def faster_together(shares, factors):
    """How many times faster the whole gets.

    shares: of the whole time, for some parts of it, at most 1 together; factors: how many times faster each of them gets
    (below 1: slower). What is in no part stays as it is.
    """
    ### BEGIN SOLUTION
    left = 1 - sum(shares)
    for share, factor in zip(shares, factors, strict=True):
        left += share / factor
    return 1 / left
    ### END SOLUTION


# %%
PRODUCTS = ("conv", "mm", "matmul", "linear", "attention")
in_products = sum(seconds for name, seconds in own.items() if any(each in name for each in PRODUCTS)) / whole
full, half = square.cpu(), square.cpu().bfloat16()
timed = on_cpu.clock.in_turns({"float32": lambda: full @ full, "bf16": lambda: half @ half}, 5, 0.1)
factor = quartiles([a / b for a, b in zip(timed["float32"], timed["bf16"], strict=True)])[1]
row = training.measure(on_cpu, {"rung": "bf16"})
print(f"products take {in_products:.0%} of a step; in bf16 a large one is {factor:.2f} times as fast here")
print(f"so by Amdahl bf16 makes a step {faster_together([in_products], [factor]):.2f} times as fast, if all else stays")
print("by the clock {1:.2f} times ({0:.2f} to {2:.2f})".format(*row["faster"]))
print(f"and the gradient is {row['gradient_apart']:.1%} away from float32's, in length")

# %% [markdown]
# **What to notice:** about three quarters of a step are convolutions, two thirds of that their way back. So bf16 should
# help a lot, and Amdahl's law promises far more than the clock gives. At least one of its inputs is wrong. The first
# suspect: our products are *not* large. **Recorded**: a product of 1,024×1,024 matrices is 2.4 times as fast in bf16
# (201 against 85 GFLOP a second), one of 64×64 takes 2.4 times as *long* (29 against 69). The U-Net has 24 to 48
# channels. The second: not all else stays, as each change of precision is an operation more.
#
# A prediction that fails is worth as much as one that holds: it says where to look. Does the gain grow with the width? The
# ladder below has the answer.

# %% [markdown] tags=["idea"]
# ## Data, and more machines
#
# A step can begin when its pictures are there. So the **data path** must give more pictures a second than the network
# learns from. Decoding a JPEG is arithmetic, and mostly the CPU's. Once a training is fast enough, the data path is the
# slow part. Then decode ahead in other processes, or keep the pictures decoded, as latents, or in memory.
#
# **Several processes** each take a part of the batch and average their gradients. Each must draw its *own* noise and
# times. With the same ones on all, errors no longer average out, as with a smaller batch: a real bug, which the loss
# curve does not show.
#
# **Weights that do not fit** on one GPU are shared out: each process keeps a part, and a block is gathered while it runs
# (FSDP). `accelerate launch` starts both kinds; the training loop is the same.

# %% [markdown]
# $$\text{seconds of a step} \;\ge\; \max\!\left(\frac{B}{r},\ \frac{B\,c}{P} + a(P)\right)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $B$ | pictures of a batch, over all processes | number |
# | $r$ | pictures a second that the data path gives, if it works ahead; else the two terms add up | number |
# | $c$ | seconds of computing for a picture | number |
# | $P, a(P)$ | processes, and the seconds in which they average their gradients | numbers |

# %%
read = {source: data.measure(small, {"source": source})["pictures_a_second"] for source in data.SOURCES}
print("pictures of 64×64 pixels in colour, a second:")
for source, (low, rate, high) in read.items():
    print(f"{source:21} {rate:8.0f} ({low:.0f} to {high:.0f})")
rows = {name: rung("training", name) for name in ("as it is", "bf16")}
learnt = {name: row["faster"][1] / row["base_seconds_a_picture"][1] for name, row in rows.items()}

# %% jupyter={"source_hidden": true}
bars = {**{source: rate for source, (_, rate, _) in read.items()},
        **{f"U-Net learns, {name}": rate for name, rate in learnt.items()}}  # fmt: skip
fig, ax = plt.subplots(figsize=(8.4, 2.8))
drawn_bars = ax.barh(list(bars), list(bars.values()), color="#0072B2")
for bar in list(drawn_bars)[len(read) :]:
    bar.set(color="#D55E00", hatch="///", edgecolor="white")
ax.set(xscale="log", xlabel="pictures a second, one thread")
ax.invert_yaxis()
figure(
    fig,
    alt="Pictures a second on a logarithmic axis. Bytes in memory: tens of thousands. Drawn when asked for, PNG and JPEG in "
    "shards: a thousand or more each. The U-Net of MNIST, which sees a quarter of the pixels and one channel, learns from hundreds.",
)

# %% [markdown]
# **What to notice:** on one thread the network is the slow part, and any data path is fast enough, although its
# pictures have 12 times as many numbers as the network's (64×64 in colour, against 32×32 in grey). A GPU turns this
# round. To feed a U-Net that learns from ten thousand pictures a second, four such threads would have to decode JPEGs
# of this small size (recorded: 3,100 a second each), and many more for photographs of 512 pixels. Such rates depend on
# the machine and the day: two runs on one machine gave 1,800 and 3,100. (These pictures have flat colours. Other
# pictures, other figures: measure your own.) Latents that were encoded once are read like bytes in memory.

# %% [markdown] tags=["experiment"]
# ## The ladder
#
# **Recorded**, by `diffusion-lessons experiment speed-ladder` (about three quarters of an hour on one thread): each
# rung against plain PyTorch in float32, in windows that take turns. A bar holds the median of the windows' ratios; the
# line is the interval that holds the middle half of seven windows. So the uncertainty is that of the clock, on this one
# machine, with one draw of the pictures: what is timed does not depend on the draw. Above, you have measured some of
# the rungs yourself.

# %% jupyter={"source_hidden": true}
made_on = f"{record['hardware']['processor']}, one thread, torch {record['versions']['torch']}"
BARS = {
    "training": ["channels-last", "fused AdamW", "bf16", "compiled", "batch of 8", "batch of 128", "checkpointed",
                 "4 micro-batches of 8", "channels-last and fused AdamW", "bf16 and fused AdamW",
                 "the three together", "the three and compiled"],
    "sampling": ["channels-last", "bf16", "compiled", "batch of 1", "batch of 64",
                 "ONNX Runtime, cpu, batch of 1", "ONNX Runtime, cpu, batch of 16", "ONNX Runtime, cpu, batch of 64",
                 "guidance 2", "DPM-Solver++(2M), 8 steps", "student of 4 steps", "student of 1 step",
                 "ONNX Runtime and student of 4 steps"],
}  # fmt: skip


ALTS = {
    "training": "Bars on a logarithmic axis, as it is 1. channels-last 1.05, fused AdamW 1.04, bf16 1.12, compiled 1.10, batch of 128 1.20, "
    "channels-last with fused AdamW 1.08, bf16 with fused AdamW 1.25; below 1: batch of 8 0.63, checkpointed 0.77, four micro-batches 0.71, and the "
    "three together 0.97. The three and compiled: 1.32, marked with the words zero gradients.",
    "sampling": "Bars on a logarithmic axis, as it is 1. channels-last 1.02, bf16 1.21, compiled 1.28, batch of 1 0.29, batch of 64 1.30; "
    "ONNX Runtime 2.2, 1.45 and 1.17 for 1, 16 and 64 pictures; guidance 0.57; DPM-Solver++ with 8 steps 3.1; students of "
    "4 steps 6.3 and of 1 step 24.9; ONNX Runtime with the student of 4 steps 9.2.",
}


def ladder(part, rows, ax):
    """A bar for each rung; one that could not be measured has none."""
    for place, name in enumerate(reversed(BARS[part])):
        found = [r for r in rows if r["settings"].get("rung") == name and r["settings"]["part"] == part]
        if not found or "faster" not in found[0]:
            continue
        low, middle, high = found[0]["faster"]
        ax.barh(place, middle - 1, left=1, color="#0072B2" if middle > 1 else "#D55E00", hatch="" if middle > 1 else "///")
        ax.plot([low, high], [place, place], color="black", marker="|")
        wrong = ", zero gradients" if found[0].get("gradients_lost") else ""
        ax.text(max(middle, high, 1) * 1.06, place, f"{middle:.2f}{wrong}", va="center", fontsize=9)
    ax.set_yticks(range(len(BARS[part])), list(reversed(BARS[part])))
    ax.axvline(1, color="black", lw=1)
    ax.set(xscale="log", title=f"{part}: times as many pictures a second")

# %% jupyter={"source_hidden": true}
for part in BARS:
    fig, ax = plt.subplots(figsize=(8.4, 4.0))
    ladder(part, record["rows"], ax)
    low, high = ax.get_xlim()
    ax.set_xlim(low / 1.1, high * 1.6)
    spread = (0.25, 0.5, 1, 2, 4, 8, 16, 32) if part == "sampling" else (0.6, 0.8, 1, 1.25)
    ticks = [tick for tick in spread if low / 1.1 <= tick <= high * 1.5]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    figure(fig, alt=ALTS[part])
print(made_on)

# %% jupyter={"source_hidden": true}
for gpu in recorded_on("speed-ladder"):
    rows = recorded("speed-ladder", gpu)["rows"]
    print(gpu)
    for part in BARS:
        for row in rows:
            if row["settings"]["part"] == part and "faster" in row:
                print("  {:9} {:40} {:6.2f}".format(part, row["settings"]["rung"], row["faster"][1]))
if not recorded_on("speed-ladder"):
    print("no GPU has run the ladder yet. This does:")
    print("diffusion-lessons experiment speed-ladder --device cuda")
for row in (row for row in record["rows"] if row["settings"]["part"] == "processes"):
    each = row["settings"]
    print(f"{each['processes']} process(es) of {each['threads']} thread(s): {row['pictures_a_second']:.0f} pictures a second")

# %%
for row in record["rows"]:
    if row["settings"].get("rung") == "compiled" and "faster" in row:
        setup, factor = row["setup_seconds"], row["faster"][1]
        pays = f"pays after {setup / (1 - 1 / factor):.0f} s" if factor > 1 else "never pays"
        print(f"compiled, {row['settings']['part']}: {setup:.0f} s of set-up, {factor:.2f} times as fast; {pays}")
for width in (24, 48, 96, 192):
    low, middle, high = rung("training", f"bf16 at width {width}")["faster"]
    print(f"bf16 at width {width:3}, batch of 8: {middle:.2f} times as fast ({low:.2f} to {high:.2f})")
rates = {row["settings"]["dtype"]: row["flops_a_second"][1] for row in record["rows"] if row["settings"].get("side") == 1024}
for name, dtype in (("as it is", "float32"), ("the three together", "bf16")):
    row = rung("training", name)
    reached = row["flops"] / row["seconds_a_picture"][1]
    print(f"{name}: {reached / 1e9:.0f} GFLOP a second, {reached / rates[dtype]:.0%} of a large {dtype} product's")

# %% [markdown]
# **The result.** *How fine is the scale?* The plain way, held against itself, gave 1.01 in training and 1.05 in sampling.
# So in sampling a bar between 0.95 and 1.05 says nothing; in training the scale is finer. Channels-last and the fused
# optimizer do little or nothing here.
#
# *Training:* no rung alone does much. bf16 gives 1.12, a batch of 128 gives 1.20 (and changes what is learnt).
# Checkpointing and micro-batches *cost* 23 % and 29 % of the pictures a second, and buy memory. **Together they are
# worse than alone**: channels-last and the fused optimizer give 1.08, as 1.05 × 1.04 promises; with bf16 on top the
# three give 0.97, where 1.22 was promised. Take channels-last away again, and bf16 with the fused optimizer gives 1.25.
# So bf16 and channels-last do not go together in this small network on this machine; which operation is slow was not
# measured (profile it: you have the tools). A ladder that measures each rung alone would never show it. `train` and
# `sample` learnt it from this table: on a CPU with bf16 they leave channels-last out.
#
# *Sampling:* asking less often wins by far, and as the count says: 4, 2 and 1 evaluations in place of 25 should give 6.25,
# 12.5 and 25, and give 6.3, 13.2 and 24.9. What it costs in quality stands in lesson 7. A better solver gives 3.1 without
# any training. ONNX Runtime, against PyTorch at the same batch, gives 2.2 for one picture at a
# time, 1.45 for 16 and 1.17 for 64, to the same pictures (2e-7
# apart): the gain is largest where calls are small. (The project's README has other ratios: it times the command
# `sample`, in the layout that the command chooses, on another day.) But it is more than a fixed cost for each call: it saves 3 ms of a
# call with one picture, 8 with 16 and 12 with 64. And the last bar is a product, 6.3 × 1.45 = 9.1, measured 9.2: one
# factor acts on how often, the other on how long.
#
# *compile:* **the set-up decides.** For training it takes 104 s of CPU time, with nothing kept from before, and makes a
# step 1.10 times as fast. So it pays after 9,000 steps, 19 minutes of plain work, and in a minute it never does. For
# sampling it takes 50 s and gives 1.28: it pays after 4 minutes. Both give the same numbers as before (1e-6 and 3e-7
# apart). **And then look at the fastest bar of training**, all three and compiled: 1.32. In that mode 116 of the 163
# tensors of the gradient are *zero*, without a word. A loss curve need not show it. So the training loop of this course
# holds every mode against eager float32, tensor by tensor, before it trusts it, and refuses such a mode.
#
# *bf16 and the width:* 0.87, 1.08, 1.42 and 1.66 times as fast at widths 24, 48, 96 and 192 (batch of 8, both sides
# channels-last). So what a small network says about bf16 says nothing about a large one.
#
# *Two cores:* by the clock on the wall, one run each, training on digits goes through 311 pictures a second with one
# thread, 553 with two threads (1.78 times) and 523 with two processes of one thread (1.68): they also average their
# gradients. Inside of one machine threads are enough. Processes are for what threads cannot reach: several GPUs, several
# machines.
#
# *Share of the machine:* a plain step reaches 55 % of the rate of a large float32 product. The three together, in bf16,
# reach 23 % of the rate of a large bf16 product: about as many FLOPs a second, on a scale that is twice as long.

# %% [markdown]
# **Published**, on other machines and networks, so not to be compared with the bars:
#
# | what | figure | source |
# |---|---|---|
# | TensorRT, Stable Diffusion XL | int8 1.72 times, fp8 1.95 times over compiled fp16 (RTX 6000 Ada) | NVIDIA |
# | TensorRT, Stable Diffusion XL | latency −40 %, throughput +70 % (H100) | Baseten |
# | FlashAttention | 15 % end to end on BERT-large; 3 times on GPT-2 at 1,024 tokens | Dao et al. 2022 |
# | training Stable Diffusion 1 | 150,000 A100-hours, about $600,000 | its model card; its makers |
# | training Stable Diffusion 2 | 79,000 A100-hours; later 7.45 days on 128 A100s, under $50,000 | MosaicML |
# | progressive distillation, CIFAR-10 (lesson 7) | FID 3.00 in 4 evaluations, 9.12 in 1 | Salimans and Ho 2022 |
#
# {{lesson 07}} builds the students. A factor says little without what it is held against: "over compiled fp16" is a strong
# baseline, "over eager float32" a weak one. The costs are what their makers told, and cannot be checked from outside.

# %% [markdown] tags=["play"]
# ## Play
#
# A calculator. It counts the FLOPs of a U-Net of that width for real, and multiplies. **Three numbers are yours**: the
# share of the peak that you think you reach (28 % is what a good published training reached), how many pictures are learnt
# from, and the price of an hour. Type, then press Enter.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.metrics.training_cost import PEAK

explore_costs({**PEAK, "one thread here": quartiles(best)[1]})

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course.widgets.calculator import lasting, scaled
from diffusion_lessons.metrics.planning import counts, planned

print("width 192, guidance 7.5; a billion pictures, batches of 32; an A100 at 28 %,")
print("for 2 an hour")
print(f"{'':24} a picture{'':11}the training: time, money, memory")
for side, latents, steps in ((64, False, 25), (256, False, 25), (256, True, 25), (256, True, 4)):
    costs = planned(counts(side, latents, 192), steps, 7.5, 1e9, 32, PEAK["A100"], 0.28, 2.0)
    print(f"{side:3} px, {'latents' if latents else 'pixels':7} {steps:2} steps", end="  ")
    print(f"{scaled(costs.picture_flops):>6}FLOP {lasting(costs.picture_seconds):>7}", end="  ")
    print(f"{lasting(costs.training_seconds):>10} {costs.training_money:9,.0f} {scaled(costs.training_bytes):>7}B")

# %% [markdown]
# **What to notice:** going from pixels to latents divides the FLOPs of the training by 52, its memory by 11 and the
# FLOPs of a picture by 41, at the same width; whether the pictures are as good is not part of the count. The picture
# gains less than the training, because the decoder, once a picture, takes 0.6 of the 3 TFLOP. The decoder is also why 4
# steps in place of 25 gain a factor of 3 and not of 6. Training does not care how many steps you draw with. The largest
# factor of all is a decision that is made before the first step: what to diffuse in (lesson 11).
#
# The count leaves out the text encoder, the encoding of the training pictures, failed runs and everything that is no
# product. Held against published runs, the same way of counting gives a plausible share for one, and not for another.
# MosaicML's Stable Diffusion 2 used 24 to 28 % of the peak of 8 A100s by this count. The hours on Stable Diffusion 1's
# model card are about seven times what the count gives at 28 %: either its program used a few percent of the peak, or
# the hours hold more than the steps on the card.

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your count against PyTorch's counter, on real layers, and your attention and your profile against PyTorch's own.

# %% tags=["nbval-check-output"]
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lessons.networks.attention import SelfAttention

layers = [("conv", 3, 16, 3, 2), ("conv", 16, 32, 5, 2), ("attention", 32, 2)]
real = torch.nn.Sequential(
    torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.Conv2d(16, 32, 5, 2, 2), SelfAttention(32, head_dim=16)
)
with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
    with FlopCounterMode(display=False) as counter:
        real(torch.zeros(1, 3, 30, 22))
print("FLOPs, yours and PyTorch's:", sum(count_flops(layers, 30, 22)), counter.get_total_flops())
q, k, v = (torch.randn(2, 4, 300, 16, generator=torch.Generator().manual_seed(i)) for i in range(3))
gap = (attention_in_blocks(q, k, v, 64) - scaled_dot_product_attention(q, k, v)).abs().max()
print("attention in blocks against PyTorch's, below 1e-5:", bool(gap < 1e-5))
theirs = {each.key: each.self_cpu_time_total / 1e6 for each in trace.key_averages()}
apart = max(abs(own[name] - theirs[name]) for name in theirs) / whole
print("own seconds against the profiler's, below 1 % of the step:", bool(apart < 0.01))

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks | seen in |
# |---|---|---|
# | the GPU is not waited for | a product takes 0.03 ms in place of 1.36, however large it is | mlx-benchmark#21 |
# | the first call is timed | everything looks slow, `compile` most of all | |
# | fused attention counts as 0 FLOPs | the counter does not know the operation: count with the written-out one | PyTorch's counter |
# | accumulated gradients are not divided | only works at a smaller learning rate; Adam hides it, clipping hides a part | nanoGPT#206, axolotl#1100 |
# | clipped before the scale is taken off (fp16) | every step is clipped, or none | Pytorch-UNet#468 |
# | checkpointing with other random numbers on the way back | dropout differs: loss 2.49 for 2.19 | OLMo-core#828 |
# | the same noise on all processes | loss looks right, the model learns as from a smaller batch | lingbot-vla#41 |
# | the same random numbers in each worker or epoch | augmentation repeats | pytorch#5059 |
# | exported with a fixed batch | wrong, or an error, at any other: try three sizes | pytorch#149065, and our own U-Net |
# | fp16 engine never compared with float32 | black or NaN pictures | TensorRT#2902 |
# | a compiled mode that loses gradients | zero gradients for 116 of 163 tensors, without a word: hold it against eager float32 | our own training |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What does it take to train and serve a diffusion model, and how do you make it cheaper?",
    "I count first: FLOPs of an evaluation, times three for training, times the pictures, divided by the "
    "share of the GPU's peak that such networks reach, a quarter or so. Memory is 16 to 20 bytes a "
    "parameter, and what is kept for the backward pass.\n\n"
    "Training: bf16, fused attention, compile on long runs, latents encoded ahead; checkpointing and "
    "accumulation where memory is short; several GPUs. Serving: fewer evaluations first, then cheaper ones "
    "(TensorRT, ONNX Runtime, fewer bits). I profile, apply Amdahl, and hold each mode against eager "
    "float32.",
    [
        (
            "Why is FlashAttention faster, with the same FLOPs?",
            "Written out, N² scores go to memory and back several times, and each byte gets few FLOPs. In blocks they stay on the "
            "chip: memory traffic falls from N² to N·d and a rereading of keys. Nothing is approximated: running maximum and sum.",
        ),
        (
            "Your GPU is at 10 % of its peak. What do you check?",
            "Whether it waits for data; whether kernels are so small that launching them takes the time (larger batch, CUDA "
            "graphs); whether operations are bound by memory (fuse, bf16); then the shapes of the products.",
        ),
        (
            "Does accumulation give the same result as a large batch?",
            "The same gradient, if parts are weighed by their rows and clipping comes last. Not with batch norm, whose statistics "
            "are those of a micro-batch. And it saves memory, not time.",
        ),
        ("What does checkpointing cost?", "One more way there: 4 in place of 3 evaluations, a third more FLOPs. It keeps the inputs of blocks in place of all that is inside."),
        (
            "TensorRT made my model twice as fast. What do you ask?",
            "Over what: eager, or compiled with the same precision? At which batch? Is the output held against float32, over the "
            "whole walk? Does the engine cover the sizes you serve?",
        ),
        (
            "What does one do beyond bf16 and fused attention?",
            "Channels-last and a fused optimizer, texts encoded ahead, shards streamed, data parallel and "
            "then sharded weights. Measure them together, too: gains do not always multiply.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Attention over twice as many tokens, fused. What grows how?",
        [
            Choice("FLOPs and memory by 4", False, "The scores are never written: what is kept grows with N alone."),
            Choice("FLOPs by 4, memory by 2", True, "All pairs are still computed. Only Q, K, V and the output are stored."),
            Choice("both by 2", False, "Fusing saves traffic, no arithmetic: N² pairs remain."),
        ],
    ),
    Question(
        "Products are 60 % of a step, and in bf16 four times as fast. Nothing else changes. How much faster is a step?",
        [
            Choice("4 times", False, "40 % of the time stays as it was."),
            Choice("2.8 times", False, "That is the mean of the factors. Times add up, not speeds."),
            Choice("1.8 times", True, "1 / (0.4 + 0.6/4) = 1.82."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "compile takes 40 s to set up and saves 2 ms of each step of 20 ms. From which step on does it pay?",
        [
            Choice("2,000", False, "40 s / 20 ms: but a step saves only 2 ms of them."),
            Choice("20,000", True, "40 s / 2 ms. That is after six minutes of steps."),
            Choice("at once", False, "The set-up comes first: in a run of a minute it never pays."),
        ],
    ),
    Question(
        "A batch of 64 in 4 micro-batches of 16, gradients added and not divided, SGD. What happens?",
        [
            Choice("as with a learning rate four times as high", True, "It may diverge. Adam would hide it, clipping partly."),
            Choice("the same as with one batch", False, "The sum of four means is four times their mean."),
            Choice("as with a batch of 16", False, "All 64 rows take part in the step."),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Dao et al. 2022, *FlashAttention*, arXiv 2205.14135: algorithm 1, theorem 2 (memory traffic), section 4.1.
# - Milakov and Gimelshein 2018, *Online normalizer calculation for softmax*, arXiv 1805.02867: algorithm 3.
# - Williams, Waterman and Patterson 2009, *Roofline*, Communications of the ACM 52: section 3.
# - Amdahl 1967, *Validity of the single processor approach*, AFIPS: the law of exercise 19.6, in words.
# - Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*, arXiv 1604.06174: section 4.
# - Micikevicius et al. 2018, *Mixed Precision Training*, arXiv 1710.03740: section 3, loss scaling.
# - Zhao et al. 2023, *PyTorch FSDP*, arXiv 2304.11277: section 3.
# - Rombach et al. 2022, *Latent Diffusion Models*, arXiv 2112.10752: section 4.1; the model card of Stable Diffusion 1.
#
# The model is fast now. Are its pictures good? {{lesson 20}}
