# %% [markdown] tags=["header"]
# title: The cost of sampling
# question: Why is sampling from a diffusion model slow, and what makes it fast?
# difficulty: 2
# prerequisites: 01, 03, 05, 06
# builds: metrics.cost, training.distillation

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - predict how long a run takes, before you start it (exercise 07.1)
# - space the steps of a sampler, and say what each spacing loses (exercise 07.2)
# - find out why a sampler gets worse with *more* steps (exercise 07.3)
# - put two steps of a teacher into one step of a student (exercises 07.4 and 07.5)
# - write the training loop that makes such students, and run it down to a single step (exercise 07.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# A race. Four samplers draw six digits from the same noise. Each frame shows what they hold after so many
# **evaluations of their network**. Drag the slider, or press play.
#
# The first three samplers use the bundled model of MNIST, with 32 steps, 4 steps and 1 step. The fourth uses another
# network of the same size. It makes one step, too. Compare its digits with those of the first panel.

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.course.widgets import COLOURS
from diffusion_lessons.generate import generate, walk

teacher = zoo.load("mnist-unet")
students = {
    1: zoo.load("mnist-unet-1-step"),
    2: zoo.load("mnist-unet-2-steps"),
    4: zoo.load("mnist-unet-4-steps"),
}

# %%
racers = {
    "DDIM, 32 steps": (teacher, 32),
    "DDIM, 4 steps": (teacher, 4),
    "DDIM, 1 step": (teacher, 1),
    "another network, 1 step": (students[1], 1),
}
labels, noise = torch.tensor([2, 3, 4, 5, 8, 9]), torch.randn(6, 1, 32, 32, generator=generator)


def two_rows(x):
    """Six pictures (6, 1, 32, 32) as one, in two rows: (1, 64, 96)."""
    return x.view(2, 3, 32, 32).permute(0, 2, 1, 3).reshape(1, 64, 96)


panels, evaluations = {}, [0, 1, 2, 4, 8, 16, 24, 32]
for name, (model, steps) in racers.items():
    walked = walk(model.on("cpu"), labels, noise, steps=steps, guidance=1.0, precision="float32")
    held = [two_rows(x) for _, x, _ in walked]  # what the sampler holds after 0, 1, … evaluations
    panels[name] = torch.stack([held[min(k, steps)] for k in evaluations])
scrub(
    panels,
    [f"after {k} evaluation{'s' * (k != 1)}" for k in evaluations],
    alt="Six digits in four rows after 0, 2, 16 and 32 evaluations. DDIM with 32 steps: noise at first, clean digits at "
    "the end. With 4 steps: half noise after 2, done long before 16. With 1 step: grey blurs. Another network with 1 "
    "step: after 1 evaluation nearly the digits that the first row has at the end.",
    title="Scrub through the race",
    columns=4,
)

# %% [markdown] tags=["guess"]
# ## Guess
#
# Somebody gives you a trained model that needs 1,000 evaluations for one picture. You are asked for the same pictures with
# ten evaluations, and then with one. **How would you do it?** Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Longer steps.* The network knows all 1,000 times, so you may skip most of them. Which ones? That is the second part
#   of this lesson.
# - *Better steps.* An arc instead of a straight line, or the memory of the step before. Lesson 8 builds such solvers.
# - *Cheaper evaluations.* A smaller network, a smaller picture, a faster machine. Lessons 11 and 19.
# - *Another network*, which learns to do in one step what the first does in many. That is the third part.
# - *Average many answers?* No: the average of many digits is a grey blur, as in the third panel.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# DDIM is the step of lesson 1 that adds no noise ({{built-in 08}}): each noise leads to exactly one picture. The fourth
# network is a **student** of the first one. You build such students in this lesson.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "With one evaluation the first network draws grey blurs, and its student draws digits. How many evaluations does the "
    "first network need for digits as good as the student's? (By Fréchet distance, with the best sampler of this lesson.)",
    [
        Choice(
            "2",
            False,
            "With 2 its digits are still soft: a Fréchet distance of 1.99. The student has 0.49 with 1.",
        ),
        Choice(
            "between 4 and 8",
            True,
            "It has 0.56 with 4 and 0.34 with 8, the student 0.49 with 1. You measure it below.",
        ),
        Choice(
            "about 30",
            False,
            "By then it is far ahead: a Fréchet distance of 0.21, and the student has 0.49.",
        ),
        Choice(
            "it never gets there",
            False,
            "It has no training to do, only more evaluations. With 8 it is better than the student.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## What a picture costs
#
# A GAN evaluates its network once for each picture. DDPM evaluates it a thousand times, one after the other. No step can
# begin before the step before it has ended. A second GPU doubles the number of pictures, but no picture is ready sooner.
#
# Next to the network everything else is cheap. So two measurements predict the time of a run: the **fixed** time of one
# call of the network, and the time **for each picture** in that call. The second is the FLOPs of one evaluation, divided by
# the speed of the machine. The first is all that does not grow with the batch: Python, the start of each
# operation, reading the weights.
#
# Guidance ({{built-in 10}}) evaluates the network twice for each picture in every step, with the label and without.

# %% [markdown]
# $$\text{seconds} = \underbrace{N \lceil n/B \rceil}_{\text{calls}} \cdot\, c_{\text{fixed}}
# + \underbrace{N\, n\, m}_{\text{evaluations}} \cdot\, c_{\text{picture}},
# \qquad c_{\text{picture}} \approx \frac{\text{FLOPs of one evaluation}}{\text{FLOPs per second}}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $N$ | steps | number |
# | $n, B$ | pictures wanted, and pictures in a batch | numbers |
# | $m$ | evaluations of the network for one picture in one step: 2 with guidance, 1 without | number |
# | $c_{\text{fixed}}, c_{\text{picture}}$ | seconds of a call, and of each picture in it | numbers |
#
# The papers count **NFE**, the number of function evaluations for one picture: $N\,m$.

# %%
import time

network, sizes = teacher.network.eval(), torch.tensor([1.0, 2, 4, 8, 16, 32, 64])


@torch.no_grad()
def seconds_of_call(size, repeats=budget.samples(15, at_least=3)):
    """Seconds of some calls with `size` pictures."""
    x, t = torch.randn(size, 1, 32, 32, device=device), torch.full((size,), 500.0, device=device)
    y, seconds = torch.zeros(size, dtype=torch.long, device=device), []
    for _ in range(repeats):
        begin = time.perf_counter()
        network(x, t, y).sum().item()  # .item() waits until a GPU is done
        seconds.append(time.perf_counter() - begin)
    return seconds


seconds_of_call(8)  # the first calls set things up: not counted
calls = torch.tensor([seconds_of_call(int(size)) for size in sizes])  # (7, repeats)
medians = calls.median(1).values
rows = torch.stack([torch.ones(7), sizes], 1) / medians[:, None]  # so that relative errors count
fixed, per_picture = torch.linalg.lstsq(rows, torch.ones(7, 1)).solution.flatten().tolist()
print(f"fixed {1000 * fixed:.1f} ms a call, {1000 * per_picture:.2f} ms a picture")

# %% [markdown] tags=["exercise-card"]
# {{exercise 07.1}}


# %% tags=["exercise"]
import math


@exercise("07.1")
def predict_seconds(pictures, batch, steps, guidance, fixed, per_picture):
    """Seconds of a run in which every step is one call of the network for each batch.

    pictures: in all, at most `batch` at a time; guidance: the scale; at exactly 1 and exactly 0 each picture
    costs one evaluation a step, at all other scales two, in one call; fixed: seconds of a call;
    per_picture: seconds of each evaluation in it.
    """
    ### BEGIN SOLUTION
    calls = steps * math.ceil(pictures / batch)
    each = 1 if guidance in (0, 1) else 2
    return calls * fixed + steps * pictures * each * per_picture
    ### END SOLUTION


# %%
import matplotlib.pyplot as plt

from diffusion_lessons.networks.counting import unet_costs

# lesson 6; this U-Net sees a picture as 16×16 patches of 2×2 pixels
flops = sum(cost.flops for cost in unet_costs(network.network.config, 16, 16).values())
print(f"{flops / 1e6:.0f} million FLOPs an evaluation, {flops / per_picture / 1e9:.0f} billion a second")
runs = [(1, 1, 50, 1.0), (48, 16, 4, 1.0), (48, 32, 4, 2.0), (90, 64, 2, 2.0)]
clock = [[] for _ in runs]
for _ in range(budget.samples(7, at_least=3)):  # the runs in turn: a busy moment meets all of them
    for (n, batch, steps, guidance), seconds in zip(runs, clock, strict=True):
        how = dict(batch=batch, steps=steps, guidance=guidance, device=device, precision="float32")
        begin = time.perf_counter()
        generate(teacher, torch.arange(n) % 10, **how)
        seconds.append(time.perf_counter() - begin)
foreseen = torch.tensor([predict_seconds(*run, fixed, per_picture) for run in runs])
low, middle, high = torch.tensor(clock).quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)
for i, (n, batch, steps, guidance) in enumerate(runs):
    print(f"{n:2} pictures in batches of {batch:2}, {steps:2} steps, guidance {guidance:g}:", end=" ")
    print(f"predicted {foreseen[i]:.2f} s, clock {middle[i]:.2f} s ({low[i]:.2f} to {high[i]:.2f})")
print(f"the clock: median of {len(clock[0])} runs; in brackets lies the middle half of them")

# %% jupyter={"source_hidden": true}
from matplotlib.ticker import LogLocator


def bars(ax, x, seconds, label):
    """Medians of repeats (k, repeats), with the middle half of them."""
    low, middle, high = seconds.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)
    span = torch.stack([middle - low, high - middle])
    ax.errorbar(x, middle, yerr=span, fmt="o", capsize=3, label=label)


fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.1))
bars(left, sizes, 1000 * calls, "clock")
left.plot(sizes, 1000 * (fixed + per_picture * sizes), "--", marker="", label="fixed + per picture")
left.set(xlabel="pictures in a call", ylabel="milliseconds", xscale="log", yscale="log")
left.set_xticks(sizes.tolist(), [f"{size:g}" for size in sizes.tolist()])
left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
left.yaxis.set_major_formatter("{x:g}")
left.minorticks_off()
left.legend(fontsize=10)
bars(right, foreseen, torch.tensor(clock), "four runs")
right.axline((0, 0), slope=1, color="gray", linestyle="--", label="as predicted")
most = 1.15 * float(max(foreseen.max(), high.max()))
right.set(xlabel="predicted, seconds", ylabel="clock, seconds", xlim=(0, most), ylim=(0, most))
right.legend(fontsize=10)
figure(
    fig,
    alt="Left: milliseconds of a call over the number of pictures in it, medians with the middle half. "
    "64 pictures take far less than 64 times as long as one, near the line 'fixed + per picture'. "
    "Right: clock over prediction for four runs, medians with the middle half, most of them near the diagonal.",
)

# %% [markdown]
# **What to notice:** each bar holds the middle half of the repeats. A long bar says that the machine did something else, too.
# Where a whole bar lies off the line, two numbers are too few: many pictures may no longer fit into the processor's cache, or the
# machine had less to do when the calls were timed.
#
# Pictures in one call share the fixed time, so one call with 16 pictures costs far less than 16 calls. And there are
# three ways to a faster picture: cheaper evaluations (lessons 11 and 19), a faster machine, and **fewer evaluations**. The
# last is a factor that can go from 1,000 down to 1.

# %% [markdown] tags=["idea"]
# ## Where the steps go
#
# Cut 1,000 steps to ten, and you must choose ten times to visit. The network knows all 1,000, so nothing
# has to be trained again. Three spacings are common, and all three are found in published samplers.
#
# **trailing** divides the way from T to 0 evenly. **linspace** spreads n times evenly from T to 1, and then goes from 1 to
# 0. **leading** counts in whole strides from the clean end, 1, 1 + stride, 1 + 2·stride, … It
# needs no rounding, and is the default of several published samplers.

# %% [markdown]
# $$\text{trailing: } \operatorname{round}\!\left(\tfrac{kT}{n}\right)_{k=n\dots1} \qquad
# \text{leading: } 1 + k\left\lfloor\tfrac{T}{n}\right\rfloor_{k=n-1\dots0} \qquad
# \text{linspace: } \operatorname{round}\!\left(1 + \tfrac{k(T-1)}{n-1}\right)_{k=n-1\dots0}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $T$ | the noisiest time, 1,000 here | number |
# | $n$ | steps, at least 2; each spacing gives n times, and then 0 | number |
# | $k$ | counts the times, falling | n values |

# %% [markdown] tags=["exercise-card"]
# {{exercise 07.2}}


# %% tags=["exercise"]
@exercise("07.2")
def spaced_times(T, n, spacing):
    """The n times at which the network is evaluated, falling, and then 0: a list of n + 1 Python ints.

    spacing: "trailing", "leading" or "linspace"; n: at least 2. Fractions go to the nearest whole number as
    Python's round() does it, a half to the even one: round(2.5) is 2.
    """
    ### BEGIN SOLUTION
    if spacing == "trailing":
        times = [round(T * k / n) for k in range(n, 0, -1)]
    elif spacing == "leading":
        times = [1 + (T // n) * k for k in reversed(range(n))]
    else:
        times = [round(1 + (T - 1) * k / (n - 1)) for k in reversed(range(n))]
    return [*times, 0]
    ### END SOLUTION


# %% [markdown]
# To see what a spacing loses, take the network's errors away. The data are single numbers from
# $\mathcal N(0.5, 0.5^2)$, and the denoiser is exact. Here DDIM's map from noise to data is linear, so two points tell
# the mean and the spread of all samples.

# %% tags=["nbval-check-output"]
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.samplers import sample

path, MEAN, SPREAD = teacher.path, 0.5, 0.5  # the cosine schedule, and the data
bell = GaussianMixture(torch.tensor([[MEAN]], dtype=torch.float64), SPREAD)  # their exact denoiser

SPACINGS, counts = ("trailing", "linspace", "leading"), (3, 5, 10, 20, 50)
errors = {spacing: {} for spacing in SPACINGS}  # spacing -> steps -> errors of mean and spread
for spacing in SPACINGS:
    for n in counts:
        levels = [path(t) for t in spaced_times(1000, n, spacing)]
        two_points = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)  # noise one σ below 0 and one above
        low, high = sample(bell, two_points, levels)[:, 0]
        errors[spacing][n] = (low + high) / 2 - MEAN, (high - low) / 2 - SPREAD
    mean, spread = errors[spacing][10]
    print(f"{spacing:8} 10 steps: mean {mean:+.3f}, spread {spread:+.3f}", spaced_times(1000, 10, spacing))

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(9, 3))
styles = dict(zip(SPACINGS, ("o-", "^--", "s:"), strict=True))
for row, spacing in enumerate(SPACINGS):
    times = spaced_times(1000, 5, spacing)
    axes[0].plot(times, [row] * len(times), styles[spacing])
    mean, spread = torch.tensor(list(errors[spacing].values())).T
    axes[1].plot(counts, mean, styles[spacing], label=spacing)
    axes[2].plot(counts, spread, styles[spacing])
axes[0].set(xlabel="t, five steps", xlim=(1030, -30), ylim=(-0.5, 2.5))
axes[0].set_yticks(range(3), SPACINGS)
for ax, what in zip(axes[1:], ("mean", "spread"), strict=True):
    ax.set(xlabel="steps", ylabel=f"error of the {what}", xscale="log")
    ax.set_xticks(counts, [str(n) for n in counts], minor=False)
    ax.minorticks_off()
axes[1].legend(fontsize=10)
figure(
    fig,
    alt="Left: five steps of each spacing. Trailing: 1000, 800, …, 0. Linspace: 1000, 750, 500, 251, 1, 0: the last step "
    "is next to nothing. Leading: 801, 601, …, 1, 0: it starts late. Middle: the mean is exact for trailing and linspace "
    "and too low for leading, most with few steps. Right: the spread is too small everywhere, most for linspace.",
)

# %% [markdown]
# **What to notice:** the denoiser is exact, so every error belongs to the steps.
#
# - **leading** hands noise of t = 1000 to a network that is told t = 901. Its samples move towards 0, the grey of lesson 5.
# - **linspace** spends one of its ten evaluations on the step from 1 to 0, where almost nothing is left to remove.
# - **trailing** loses nothing at either end. Lin et al. (2023) recommend it. From here on we use it.
#
# The spread of leading is the nearest to the data. At ten steps more than half of its lead is an accident: it starts too wide
# for its level, and two errors partly cancel. (The rest: it has only 901 to walk, in the same number of steps.) No spacing
# mends the *length* of the strides. The error of the spread falls only as 1/n.
#
# A sampler that takes any list of times is easy to write. Published code has got it wrong more than once.

# %% [markdown] tags=["exercise-card"]
# {{exercise 07.3}}


# %% tags=["exercise"]
@exercise("07.3")
def walk_times(denoiser, path, times, x):
    """DDIM through the given times, falling, and from the last of them to 0. Returns x at t = 0.

    x: (B, …), noise at times[0]; times: a list, which is to stay as it is; denoiser(x, level) gives the pair
    (x0, eps); path(t) gives the level of time t; path.T is the noisiest time.
    """
    ### BEGIN SOLUTION
    for t, after in zip(times, [*times[1:], 0], strict=True):
        x0, eps = denoiser(x, path(t))
        level = path(after)
        x = level.alpha * x0 + level.sigma * eps
    return x
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "10, 25 or 50 steps are fine. With 400 my digits are grainy, and with 600 it snows."
    # stride = path.T // len(times)
    # for t in times:
    #     x0, eps = denoiser(x, path(t))
    #     level = path(max(t - stride, 0))
    #     x = level.alpha * x0 + level.sigma * eps
    # return x
    ### END STUDENT


# %%
start = torch.randn(budget.samples(10_000), 1, generator=generator)
for n in (10, 25, 50, 150, 400, 600):
    x = walk_times(bell, path, spaced_times(1000, n, "trailing")[:-1], start)
    error = x.std() / (2 * len(x)) ** 0.5
    print(f"{n:3} steps: spread of the samples {x.std():.3f} ± {error:.3f}, data {SPREAD}")
print(f"± one standard error over the draw of {len(start)} starting points")

# %% [markdown] tags=["idea"]
# ## Two steps in one
#
# Steps have to be short because $\hat x_0$ is a mean, and the mean changes on the way (lesson 3). But DDIM adds no noise, so
# each start has exactly one end. (With short steps its walk follows the **probability-flow ODE**, {{built-in 08}}.) What if a
# network learnt to *jump along the walk*?
#
# Salimans and Ho (2022) teach it in small portions. The **teacher** makes two steps: from now to the middle, from the middle
# to the next level. The **student** starts as a copy of the teacher. It must make one step with the same end. Then
# the student becomes the teacher of the next student: 64 steps, 32, 16, …, 1. This is **progressive distillation**.
#
# The step of the student is a DDIM step with some unknown $\tilde x_0$. We know where it starts and where it must end: two
# equations.

# %% [markdown]
# $$\left.\begin{aligned} x &= \alpha\,\tilde x_0 + \sigma\,\tilde\varepsilon \\ x' &= \alpha'\,\tilde x_0 + \sigma'\,\tilde\varepsilon \end{aligned}\right\}
# \;\Longrightarrow\; \tilde x_0 = \frac{x' - \frac{\sigma'}{\sigma}\,x}{\alpha' - \frac{\sigma'}{\sigma}\,\alpha}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x$ | where the student's step starts (at `now`: $\alpha, \sigma$) | (B, …) |
# | $x'$ | `reached`: where two steps of the teacher lead from $x$ (at `next`: $\alpha', \sigma'$) | (B, …) |
# | $\tilde x_0, \tilde\varepsilon$ | the pair that leads from $x$ to $x'$ in one step; it is no average of data | (B, …) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 07.4}}


# %% tags=["exercise"]
@exercise("07.4")
def student_x0(x, reached, now, next):
    """The x̃₀ with which one DDIM step takes x at the level now to reached at the level next.

    x, reached: (B, …); now, next: levels with .alpha and .sigma, 0-d tensors; next is cleaner, perhaps the data.
    """
    ### BEGIN SOLUTION
    keep = next.sigma / now.sigma
    return (reached - keep * x) / (next.alpha - keep * now.alpha)
    ### END SOLUTION


# %% [markdown]
# An example on a line: the data are two clusters, at −1 and at 1, and the teacher is their exact denoiser. It
# goes from t = 800 by way of t = 400 to t = 0.

# %%
two = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.15)
now, middle, after = path(800), path(400), path(0)
x = torch.tensor([[0.6]], dtype=torch.float64)
halfway = sample(two, x, [now, middle])
reached = sample(two, halfway, [middle, after])
print("x̂₀ of the teacher at t = 800: {:.2f}".format(two(x, now).x0.item()))
print("x̃₀ of the student:            {:.2f}".format(student_x0(x, reached, now, after).item()))

# %% jupyter={"source_hidden": true}


def arc(x, level, x0, end):
    """All places on the way of one DDIM step with this x₀ from a level down to t = end, and their times."""
    eps, times = (x - level.alpha * x0) / level.sigma, torch.linspace(float(level.t), end, 60).tolist()
    return times, [float(path(t).alpha * x0 + path(t).sigma * eps) for t in times]


arcs = [
    ("one step of the teacher", ":", 2, arc(x, now, two(x, now).x0, 0)),
    ("two steps of the teacher", "--", 1, arc(x, now, two(x, now).x0, 400)),
    (None, "--", 1, arc(halfway, middle, two(halfway, middle).x0, 0)),
    ("one step of the student", "-", 0, arc(x, now, student_x0(x, reached, now, after), 0)),
]
fine = [path(t) for t in range(800, -1, -10)]
starts = torch.linspace(-1.8, 1.8, 13, dtype=torch.float64)[:, None]
walks = torch.stack([starts, *(sample(two, starts, fine[:k]) for k in range(2, len(fine) + 1))])
fig, ax = plt.subplots(figsize=(8, 3.6))
ax.plot([float(level.t) for level in fine], walks[..., 0].numpy(), color="#BBBBBB", lw=0.8, marker="")
for name, style, colour, line in arcs:
    ax.plot(*line, style, color=COLOURS[colour], marker="", label=name)
ax.plot([800, 400, 0], [float(x), float(halfway), float(reached)], "o", color=COLOURS[1])
ax.set(xlabel="t", ylabel="x", xlim=(810, -10), ylim=(-0.6, 1.5))
ax.legend(fontsize=10, loc="lower left")
figure(
    fig,
    alt="Walks of points on a line from t = 800 to 0, in grey, which part towards clusters at −1 and 1. From one "
    "point the teacher's single step sinks to 0.2, between the clusters. Its second step turns up to 0.8. The "
    "student's single step is one arc from the same start to the same end.",
)

# %% [markdown]
# **What to notice:** a DDIM step with a fixed $\hat x_0$ is an arc. The first arc of the teacher goes for $\hat x_0 = 0.20$, a
# mean of both clusters. Half-way the teacher corrects itself. $\tilde x_0 = 0.79$ belongs to the one arc that meets both ends.
#
# Does it matter *what* the network predicts? Until now it could be $\varepsilon$, $x_0$ or a mix. But a student of one step is
# evaluated at T alone, and no later step repairs what it gets wrong.

# %% tags=["nbval-check-output"]
from diffusion_lessons.losses import truncated_snr
from diffusion_lessons.targets import EPSILON, X0, V

print("an error of 0.01 in the output for …   ε      x₀      v      weight on v")
for t in (1000, 990, 750, 500, 250, 10):
    level = path(t)
    gains = [float(0.01 * level.sigma / abs(target.det(level))) for target in (EPSILON, X0, V)]
    weight = float(truncated_snr(level) * (level.sigma / V.det(level)) ** 2)
    print(
        f"… moves x̂₀ at t = {t:4} by      " + "".join(f"{gain:10.4f}" for gain in gains) + f"{weight:10.2f}"
    )

# %% [markdown]
# **What to notice:** at T the sample is nearly all noise. A network that names the noise to within 1 % has said nothing
# about the picture: solved for $\hat x_0$, its error is multiplied by $\sigma/\alpha = 20{,}000$. So students predict
# $v = \alpha\varepsilon - \sigma x_0$ ({{built-in 17}}), whose error is never enlarged.
#
# The last column is the weight of the paper's loss, $\max(\mathrm{SNR}, 1)$ on the error of $x_0$, seen from $v$: it is
# $\max(\alpha^2, \sigma^2)$ and lies between ½ and 1. The plain $\varepsilon$ loss would weigh the
# error of $\hat x_0$ by the SNR. Near T that asks for almost nothing.

# %% [markdown] tags=["idea"]
# ## From sixteen steps to one
#
# All parts are there. Our first teacher needs no training: it is the exact denoiser of lesson 1's ring, here with four
# clusters. It walks in 16 steps. Its students are small networks for points. The first starts from random weights, each of
# the others from the weights of its teacher.
#
# The data serve one purpose: to make noisy points $x$ like those that a sampler meets. The targets come from the teacher
# alone.

# %% [markdown]
# $$L = \mathbb E\;\max(\alpha^2, \sigma^2)\,\big\lVert v_\theta(x, t) - \tilde v\big\rVert^2, \qquad
# \tilde v = \alpha\,\tilde\varepsilon - \sigma\,\tilde x_0, \qquad \tilde\varepsilon = \frac{x - \alpha\,\tilde x_0}{\sigma}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $v_\theta$ | the student | (B, 2) |
# | $t$ | one of the *student's* times, every second one of the teacher's; $\alpha, \sigma$ belong to it | number |
# | $\tilde v$ | its target | (B, 2) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 07.5}}


# %% tags=["exercise"]
@exercise("07.5")
def student_example(teacher, x0, noise, levels, i):
    """The input x of the student's i-th step, and the v that it should answer: the pair (x, v), both (B, …).

    teacher(x, level) gives the pair (x0, eps); x0, noise: (B, …); levels: the teacher's, from noise to data.
    The student's steps are numbered 0, 1, … from the noisy end.
    """
    ### BEGIN SOLUTION
    now, middle, after = levels[2 * i : 2 * i + 3]
    x = now.alpha * x0 + now.sigma * noise
    guess, eps = teacher(x, now)
    halfway = middle.alpha * guess + middle.sigma * eps
    guess, eps = teacher(halfway, middle)
    target = student_x0(x, after.alpha * guess + after.sigma * eps, now, after)
    return x, now.alpha * (x - now.alpha * target) / now.sigma - now.sigma * target
    ### END SOLUTION


# %%
centres = 1.4 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
ring = GaussianMixture(centres, 0.1)  # data, and their exact denoiser


class PointNetwork(torch.nn.Module):
    """A network of points (B, 2): .v(x, level), and with it a denoiser."""

    def __init__(self, width=128):
        super().__init__()
        self.layers = torch.nn.Sequential(
            *(torch.nn.Linear(4, width), torch.nn.ReLU()),
            *(torch.nn.Linear(width, width), torch.nn.ReLU()),
            *(torch.nn.Linear(width, width), torch.nn.ReLU()),
            torch.nn.Linear(width, 2),
        )

    def v(self, x, level):
        told = torch.tensor([float(level.alpha), float(level.sigma)]).expand(len(x), 2)
        return self.layers(torch.cat([x, told], 1))

    def forward(self, x, level, condition=None):
        return V.solve(self.v(x, level), x, level)  # the pair (x0, eps)


# %%
def draw(n):
    """For one training step of a student with n steps: the number of its step, data, noise."""
    i = int(torch.randint(n, (), generator=generator))
    return i, ring.sample(256, generator)[0], torch.randn(256, 2, generator=generator)


# %% [markdown] tags=["exercise-card"]
# Now the whole piece: the loop that turns a teacher into a student of half as many steps.
#
# {{exercise 07.6}}


# %% tags=["exercise"]
@exercise("07.6")
def distil(teacher, student, optimizer, levels, draw, watched, lr):
    """Train the student to make in one step what its teacher makes in two, and return it.

    teacher(x, level) gives the pair (x0, eps); no gradients flow through it. student.v(x, level) is what the
    student answers; optimizer holds its weights. levels: the teacher's, one more than it has steps, from noise
    to data. draw(n) gives i, x0, noise for one training step of a student with n steps. watched: loop over it,
    k = 0, 1, …, one training step each; len(watched) is their number. The learning rate falls in a straight
    line: lr · (1 − k/number). Give each loss to watched.tell(loss), a float or a 0-d tensor: the mean squared
    error of v, times max(α², σ²) of the level where the student's step begins.
    """
    ### BEGIN SOLUTION
    n = len(levels) // 2
    for k in watched:
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - k / len(watched))
        i, x0, noise = draw(n)
        now = levels[2 * i]
        with torch.no_grad():
            x, v = student_example(teacher, x0, noise, levels, i)
        weight = max(float(now.alpha) ** 2, float(now.sigma) ** 2)
        loss = weight * (student.v(x, now) - v).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watched.tell(loss)
    return student
    ### END SOLUTION


# %%
import copy

from diffusion_lessons.course import Watched

torch.manual_seed(0)
chain = {16: ring}  # steps -> a denoiser that walks in so many
for n, training in ((8, 1000), (4, 500), (2, 500), (1, 500)):
    student = PointNetwork() if n == 8 else copy.deepcopy(chain[2 * n])
    optimizer = torch.optim.Adam(student.parameters())
    watched = Watched(budget.steps(training), "training step")
    chain[n] = distil(chain[2 * n], student, optimizer, path.levels(2 * n), draw, watched, lr=3e-3)

# %%
from diffusion_lessons.metrics import wilson_interval

start = torch.randn(budget.samples(4000, at_least=500), 2, generator=generator)
goal = sample(ring, start, path.levels(16))  # where the first teacher leads


def report(name, points):
    """How many points lie in a cluster, and how far they are from where 16 steps lead from the same noise."""
    inside = int((torch.cdist(points, centres).min(1).values < 0.4).sum())  # within 4 σ of a centre
    low, high = wilson_interval(inside, len(points))
    away = (points - goal).norm(dim=1).median()
    print(
        f"{name:20} in a cluster {inside / len(points):6.1%} ({low:.1%} to {high:.1%}), half within {away:.2f}"
    )


for n in (1, 2, 4, 8, 16):
    report(f"teacher, {n} step{'s' * (n > 1)}", sample(ring, start, path.levels(n)))
for n in (1, 2, 4, 8):
    report(f"student, {n} step{'s' * (n > 1)}", sample(chain[n], start, path.levels(n)))
print(
    f"n = {len(start)}; in brackets the 95 % interval over the draw of the points; one training of each student"
)

# %% jupyter={"source_hidden": true}
from itertools import pairwise


@torch.no_grad()
def motion(denoiser, steps, x, times):
    """Where points are at each of the times, falling to 0, on the arcs of a sampler with so many steps."""
    seen = []
    for now, after in pairwise(path.levels(steps)):
        x0, eps = denoiser(x, now)
        for level in [path(t) for t in times if after.t < t <= now.t]:
            seen.append(level.alpha * x0 + level.sigma * eps)
        x = after.alpha * x0 + after.sigma * eps
    return torch.stack([*seen, x])


# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import landscape

times = torch.linspace(1000, 0, 17).round().tolist()
shown, some = [path(t) for t in times], start[:200]
moving = {"teacher, 16 steps": (ring, 16), "teacher, 1 step": (ring, 1), "student, 1 step": (chain[1], 1)}
scrub(
    {
        name: landscape(ring, shown, motion(denoiser, steps, some, times), span=2.6, arrows=0)
        for name, (denoiser, steps) in moving.items()
    },
    shown,
    alt="200 points from t = 1000 to 0 over the density of the noisy data, three rows. Teacher, 16 steps: the points "
    "part into four clusters, always inside the density. Teacher, 1 step: all shrink into one spot in the middle. "
    "Student, 1 step: they leave the density on the way and end in the four clusters, with a few between.",
    title="Scrub from noise to data",
    columns=6,
)

# %% [markdown]
# **What to notice:** the shades are the exact density of the noisy data. The points of 16 steps stay inside it all the way.
# One step of the teacher carries every point to the mean of all data, one spot in the middle. One step of the student carries
# each point along an arc, out of the density and back into it at t = 0, nearly to the end that 16 steps lead to.
#
# The student has not become better at guessing $x_0$. It answers another question, "where does the walk end?", and that
# answer is no average.
#
# Some points lie between the clusters. There, two neighbours in the noise end in two different clusters. The function that
# the student must learn is continuous, but very steep, and its network rounds the steep places off. This is no limit of the
# method: with half of this training 91 % of the points of the last student are in a cluster, with twice as much 97 %.
# (One training each. Change the numbers in the loop and try.)
#
# And be fair to the teacher. With 8 evaluations it has more points in the clusters than any student. Counted in this way, one
# evaluation of the student is worth more than four of the teacher, and less than eight.

# %% [markdown] tags=["idea"]
# ## Other ways to one step
#
# Progressive distillation needs a chain of students. **Consistency distillation** (Song et al. 2023) trains a single one. It
# asks that two neighbours on the same walk answer the *same end*. At t = 0 the end is known: it is the point itself. From
# there the right answer spreads, level by level, up to the noise.
#
# **Adversarial distillation** adds the opponent of a GAN: a discriminator that tells the student's pictures from real ones.
# A regression can only answer "about there", and blurs what it is not sure of. A discriminator punishes blur. The
# price is the unstable training of a GAN (lesson 13), and a student that may leave its teacher's walk.

# %% [markdown]
# $$L = \mathbb E\,\max(\mathrm{SNR}, 1)\,\big\lVert f_\theta(x_t, t) - \operatorname{sg} f_\theta(x_{t'}, t')\big\rVert^2, \qquad f_\theta(x, 0) = x$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $f_\theta(x, t)$ | where the walk from $x$ ends: $\alpha x - \sigma v_\theta(x, t)$, which is $x$ at t = 0 | (B, 2) |
# | $x_{t'}$ | one step of the teacher from $x_t$ to the next level $t'$ | (B, 2) |
# | $\operatorname{sg}$ | no gradients flow through this answer (`torch.no_grad`) | |
#
# The weight is the one of the chain.


# %%
def consistent(teacher, student, optimizer, levels, watched, lr):
    """Teach the student to answer the same end at neighbours of a walk of the teacher."""
    for k in watched:
        optimizer.param_groups[0]["lr"] = lr * (1 - k / len(watched))
        i, x0, noise = draw(len(levels) - 1)
        now, after = levels[i], levels[i + 1]
        x = now.alpha * x0 + now.sigma * noise
        with torch.no_grad():
            guess, eps = teacher(x, now)
            neighbour = after.alpha * guess + after.sigma * eps
            end = student(neighbour, after).x0
        loss = truncated_snr(now) * (student(x, now).x0 - end).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watched.tell(loss)
    return student


# %%
torch.manual_seed(0)
single = PointNetwork()
optimizer = torch.optim.Adam(single.parameters())
watched = Watched(budget.steps(2500), "training step")
consistent(ring, single, optimizer, path.levels(16), watched, lr=3e-3)
report("consistency, 1 step", sample(single, start, path.levels(1)))
report("progressive, 1 step", sample(chain[1], start, path.levels(1)))

# %% jupyter={"source_hidden": true}
clouds = {
    "DDIM, 16 steps": goal,
    "progressive, 1 step": sample(chain[1], start, path.levels(1)),
    "consistency, 1 step": sample(single, start, path.levels(1)),
}
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharex=True, sharey=True)
for ax, (name, points) in zip(axes, clouds.items(), strict=True):
    ax.plot(*points[:1000].detach().T, "o", markersize=1.5)
    ax.set(title=name, xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")
figure(
    fig,
    alt="Three clouds of points from the same noise. DDIM with 16 steps: four tight clusters. Progressive distillation, "
    "1 step: four clusters, a few points between neighbours. Consistency distillation, 1 step: four clusters, "
    "with more points between them.",
)

# %% [markdown]
# **What to notice:** both were trained for 2,500 steps of 256 points, with the same weight, and at the same price of 5
# evaluations for each point. In the chain these are two of the teacher, and about three for the student: forward once, and
# backward, which costs about twice as much. Here they are one of the teacher, one of the student at the neighbour, and the
# same three. On the ring, and at this price, the chain is a little ahead. Over three seeds of the training, 95 to 96 % of its
# points are in a cluster, and 92 to 94 % with consistency distillation. With four times the training the latter has 98 % (one
# seed).
#
# Published figures for photographs (CIFAR-10, 32×32; the last row ImageNet, 64×64), each from its own paper. The networks
# differ.
#
# | method | evaluations | FID | what its training cost |
# |---|---|---|---|
# | DPM-Solver (Lu et al. 2022) | 10; 20 | 4.70; 2.87 | none: the solver takes a trained model |
# | progressive distillation (Salimans and Ho 2022) | 1; 2; 4 | 9.12; 4.51; 3.00 | no more time than the training of the original model |
# | consistency distillation (Song et al. 2023) | 1 | 3.55 | hundreds of GPU hours (says Geng et al. 2024) |
# | consistency training without a teacher, improved (Song and Dhariwal 2023) | 1; 2 | 2.51; 2.24 | a week on 8 GPUs for the best (says Geng et al. 2024) |
# | consistency tuning of a trained model (Geng et al. 2024) | 2 | 2.73 | one hour on one A100 |
# | consistency with a discriminator, with labels (CTM, Kim et al. 2023) | 1 | 1.73 | not told in its abstract |
# | distribution matching with a discriminator, with labels (DMD2, Yin et al. 2024) | 1 | 1.51 | 53 hours on 7 GPUs (says its repository) |

# %% [markdown] tags=["experiment"]
# ## Experiment: quality against evaluations
#
# Now with pictures. The bundled model was distilled in this way, from 64 steps down to 1, by
# `diffusion_lessons.training.distillation`: your `student_example`, with a time for each picture, and each answer of the
# teacher kept between −1 and 1.
#
# Like is compared with like. Teacher and students are conditional and **unguided**: one evaluation a step. The teacher gets
# every number of evaluations and three samplers: "ddpm" is ancestral sampling (lesson 3), "dpmpp-2m" a
# second-order solver ({{built-in 08}}). Evaluations are counted at the network. The Fréchet distance is to held-out digits
# ({{built-in 20}}), lower is better.

# %%
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.metrics.cost import count_evaluations

wanted = torch.arange(budget.samples(200, at_least=70)) % 10
live = [(name, n) for n in (1, 2, 4, 8) for name in ("ddpm", "ddim", "dpmpp-2m")]
live += [("distilled", n) for n in (1, 2, 4)]
measured, drawn = {}, {}
for name, n in live:
    model, sampler = (students[n], "ddim") if name == "distilled" else (teacher, name)
    how = dict(sampler=sampler, steps=n, guidance=1.0, device=device, precision="float32")
    with count_evaluations(model.network) as count:
        x = generate(model, wanted, seed=1, **how)
    asked, result = count.pictures // len(x), evaluate(x, wanted, zoo.yardstick("mnist"))
    measured[name, asked], drawn[f"{name}, {asked}"] = result["frechet"], x[:10]
    print(f"{name:9} {asked:2} evaluations: ", end="")
    for what in ("frechet", "precision", "recall", "accuracy"):
        print("{} {value:.2f} ± {uncertainty:.2f}".format(what, **result[what]), end="   ")
    print()
print(f"n = {len(wanted)}; ± one standard error over the draw of the samples")

# %% jupyter={"source_hidden": true}
chosen = ("ddpm, 4", "dpmpp-2m, 4", "dpmpp-2m, 8", "distilled, 4", "distilled, 1")
strip(
    {name: drawn[name] for name in chosen},
    alt="Five rows of the digits 0 to 9, the last four rows nearly the same digits. Ancestral sampling with 4 "
    "evaluations: other digits, an odd 4. DPM-Solver++(2M) with 4: strokes of uneven brightness. With 8: even strokes. "
    "Distilled, with 4 and 1 evaluations: even strokes, with some frayed edges.",
    columns=10,
)

# %% [markdown]
# So few samples push every Fréchet distance up, and only rows with the same n compare. The recorded runs have n = 1000, and
# real digits beside them. `diffusion-lessons experiment steps-by-sampler` makes them again. In the figure each bar spans two
# standard errors on both sides.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

kept, curves = recorded("steps-by-sampler"), {}
for row in kept["rows"]:
    name, guidance = row["settings"]["sampler"], row["settings"]["guidance"]
    curves.setdefault(name if guidance == 1 else f"{name}, guided", []).append(row)
print(
    f"recorded, n = {kept['options']['n']}: evaluations, Fréchet distance ± error, precision, recall, recognised"
)
for name in ("ddpm", "ddim", "dpmpp-2m", "distilled", "ddim, guided", "real"):
    for p in curves[name]:
        row = "{evaluations:4.0f}  {frechet:5.2f} ± {uncertainty:.2f}  {precision:.2f}  {recall:.2f}  {accuracy:.1%}"
        print(f"{name:12}", row.format(**p))
print("± one standard error over the draw of the samples; one teacher, and one training of each student")

# %% jupyter={"source_hidden": true}
marks = {"ddpm": "v:", "ddim": "s--", "dpmpp-2m": "^-.", "distilled": "o-"}
names = {"ddpm": "ancestral", "ddim": "DDIM", "dpmpp-2m": "DPM-Solver++(2M)", "distilled": "distilled"}
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.7), sharey=True)
for name, mark in marks.items():
    here = [(asked, f["value"], f["uncertainty"]) for (who, asked), f in measured.items() if who == name]
    there = [(p["evaluations"], p["frechet"], p["uncertainty"]) for p in curves[name]]
    for ax, points in zip(axes, (here, there), strict=True):
        asked, value, error = torch.tensor(sorted(points)).T.numpy()
        ax.errorbar(asked, value, yerr=2 * error, fmt=mark, capsize=3, label=names[name])
guided = [(p["evaluations"], p["frechet"]) for p in curves["ddim, guided"]]
axes[1].plot(*zip(*guided, strict=True), "-", color="gray", marker="", lw=1, label="DDIM, guidance 2")
axes[1].axhline(curves["real"][0]["frechet"], color="gray", ls=":", label="real digits")
for ax, title in zip(
    axes, (f"here, n = {len(wanted)}", f"recorded, n = {kept['options']['n']}"), strict=True
):
    ax.set(title=title, xscale="log", yscale="log", xlabel="evaluations of the network for a picture")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(base=2))
        axis.set_major_formatter("{x:g}")
    ax.minorticks_off()
axes[0].set(ylabel="Fréchet distance")
axes[1].legend(fontsize=9)
figure(
    fig,
    alt="Fréchet distance over evaluations, both axes logarithmic. Left, live: ancestral sampling, DDIM and DPM-Solver++(2M) "
    "fall together from 15.5 with 1 evaluation to about 0.65 with 8; the students lie near 0.7 from 1 to 4 evaluations. "
    "Right, recorded: the three fall to about 0.4 with 8 evaluations; then DDIM and DPM-Solver++(2M) stay near 0.33, and "
    "ancestral sampling comes close to the line of real digits, 0.19. The students go from 0.49 to 0.40. DDIM at guidance "
    "2 lies far above all others.",
)

# %% [markdown]
# **The result, at equal evaluations:**
#
# - *1 and 2 evaluations:* the teacher draws grey blurs and then soft digits, with Fréchet distances of 15.5 and 1.99. Its
#   students draw digits: 0.49 and 0.45, both ± 0.05. Nothing else comes near.
# - *4 evaluations:* the student has 0.40, the teacher's best sampler 0.56, both ± 0.04. So one evaluation of a student (0.49)
#   is worth a little more than four of its teacher.
# - *8 evaluations, no student needed:* DPM-Solver++(2M) reaches 0.34 ± 0.04. No student is better.
# - *32 evaluations:* ancestral sampling reaches 0.21 ± 0.03, and real digits are at 0.19 ± 0.03. DDIM and
#   DPM-Solver++(2M) stay near 0.33 however many steps they get. Fresh noise in each step repairs errors of the steps before
#   (Karras et al. 2022). A student learns a walk without noise, so it can hardly come below 0.33.
#
# **Luck?** Hardly. Two more chains, trained with other seeds (on a GPU, an H100), gave 0.41 and 0.39 with 4 evaluations, 0.44
# and 0.45 with 2, 0.49 and 0.49 with one. `zoo.card("mnist-unet-1-step")["other_seeds"]` holds the figures.
#
# **What the students lose** is precision: 0.69 to 0.70, against 0.75 for the solver with 8 evaluations and 0.85 for real
# digits. More of their digits are odd, but they vary as much as real ones (recall 0.91 to 0.93, real 0.90). "Recognised"
# says nothing here: the blurs of one evaluation are recognised at 100 %.

# %% [markdown]
# **The price** in evaluations: the chain down to one step took 8,000 training steps of 32 pictures at 5 evaluations
# each, 1.28 million. The teacher's own training took 8,000 × 32 × 3, or 0.77 million. At equal quality, against the solver
# with 4 evaluations, the student of one step saves 3 a picture. So it has paid for itself after 427,000 pictures. On digits,
# try a good solver first.
#
# **On photographs** the published figures say otherwise: DPM-Solver has 4.70 with 10 evaluations, consistency distillation
# 3.55 with one. Photographs have more detail to decide, so the long strides of a solver may cost more there. And those
# students were trained for hundreds of GPU hours. Distillation is also what is left where a picture must come at once.
#
# **Guidance** is the grey line. At scale 2 DDIM costs twice the evaluations and its Fréchet distance ends at 0.78, with
# precision 0.91 and recall 0.67. A student can learn the *guided* walk; it then needs one evaluation a step, not two (Meng
# et al. 2023). But compare such a student with its guided teacher, or guidance looks like a gain of distillation.

# %%
pairs = torch.arange(budget.samples(100)) % 10
how = dict(device=device, precision="float32")
led = generate(teacher, pairs, seed=7, steps=32, guidance=1.0, **how)
for words, seed in (("the same noise", 7), ("other noise, same class", 8)):
    apart = (generate(students[1], pairs, seed=seed, **how) - led).square().mean((1, 2, 3)).sqrt()
    print(f"teacher's 32 evaluations and student's 1, {words}:", end=" ")
    print(f"{apart.mean():.2f} ± {apart.std() / len(pairs) ** 0.5:.2f} apart (rms of the pixels)")
print(f"n = {len(pairs)} pictures; ± one standard error over their draw")

# %% [markdown]
# Is it the same digit, in the same handwriting? From the same noise the student's picture is 0.13 from its teacher's, from
# other noise 0.52, both ± 0.01 (pixels lie between −1 and 1). It learnt where the walk leads, noise by noise.

# %% [markdown] tags=["play"]
# ## Play
#
# The same noise again, and a slider for the **number of evaluations**. Where do you stop seeing a difference? Compare
# with the curve above: where does the Fréchet distance stop falling?

# %% jupyter={"source_hidden": true}
counts = [1, 2, 3, 4, 6, 8, 32]


def drawn_with(model, sampler, n):
    """The six digits of the race after a walk of n evaluations."""
    how = dict(sampler=sampler, steps=n, guidance=1.0, precision="float32")
    return two_rows([x for _, x, _ in walk(model.on("cpu"), labels, noise, **how)][-1])


panels = {"DPM-Solver++(2M)": [drawn_with(teacher, "dpmpp-2m", n) for n in counts]}
own = {n: drawn_with(students[n], "ddim", n) for n in students}
panels["students of 1, 2, 4 steps"] = [own[1 if n == 1 else 2 if n < 4 else 4] for n in counts]
scrub(
    panels,
    [f"{n} evaluation{'s' * (n > 1)} a picture" for n in counts],
    alt="Six digits in two rows with 1, 3, 4, 6 and 32 evaluations. DPM-Solver++(2M): grey blurs with 1, uneven strokes "
    "with 3, and hardly a change from 6 on. The students of 1, 2 and 4 steps have clean digits from 1 on.",
    title="Scrub through the number of evaluations",
    columns=5,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Two things can be compared with diffusers: your times, for the spacings in which its own classes agree among themselves, and a
# student. Here its DDIM scheduler walks with our student's network. (It counts levels from 0: its t is ours minus 1.)

# %% jupyter={"source_hidden": true}
import importlib.util

if importlib.util.find_spec("diffusers"):
    from diffusers import DDIMScheduler

    flags = dict(trained_betas=path.betas.numpy(), prediction_type="v_prediction", clip_sample=True)
    for spacing, n in (("trailing", 4), ("trailing", 25), ("leading", 10), ("leading", 30)):
        theirs = DDIMScheduler(timestep_spacing=spacing, **flags)
        theirs.set_timesteps(n)
        gap = (theirs.timesteps + 1 - torch.tensor(spaced_times(1000, n, spacing)[:-1])).abs().max()
        print(f"{spacing:8} {n:2} steps: largest difference of a time {gap}")
    theirs = DDIMScheduler(timestep_spacing="trailing", **flags)
    theirs.set_timesteps(4)
    model, x = students[4].on("cpu"), noise
    with torch.no_grad():
        for t in theirs.timesteps:
            answer = model.network(x, t.expand(6).float(), labels)
            x = theirs.step(answer, t, x, use_clipped_model_output=True).prev_sample
    ours = [x for _, x, _ in walk(model, labels, noise, precision="float32")][-1]
    print(f"a student's 4 steps: largest difference of a pixel {(x - ours).abs().max():.0e}")
else:
    print("diffusers is not installed here; the solved notebook shows the differences")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | "leading" spacing with few steps | it starts at t = 901 of 1,000 with noise of T: dull, greyish samples, better with more steps |
# | the next time computed, not taken from the list | fine where n divides T; elsewhere grain, and the more steps the more of it |
# | the last step to t = 0 left out | a fine grain, stronger the fewer the steps |
# | evaluations counted as steps | guidance evaluates twice in a step, Heun nearly twice: a "faster" sampler that is none |
# | a student compared with a teacher at another guidance | the teacher looks slow and inaccurate, and the student better than it is |
# | the first call timed, or a GPU not waited for | the first is far too slow, the second next to nothing |
# | a student sampled at steps that are not its own | broken strokes: our student of 4 steps has 0.56 with 8 steps, 0.40 with its own 4 |
# | a student that predicts $\varepsilon$ | its errors at T come back 20,000-fold |
# | the student's target made of data and noise | blur: it learns the average, like its teacher |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "Why is sampling from a diffusion model slow, and how do you make it fast?",
    "A picture takes N evaluations of a large network, one after the other, twice as many with guidance. "
    "First I cut steps, which needs no training: DDIM gets by with 20 to 50, a second-order solver with 10 "
    "to 20.\n\n"
    "Below that I distil. In progressive distillation one step of a student ends where two of its teacher "
    "end, and so on, down to 1. In consistency distillation neighbours on a walk name the same end. The "
    "price: training, some quality, and a model that knows its few steps only.",
    [
        (
            "Why must the teacher's sampler be deterministic?",
            "The student can only learn a function of x. With fresh noise in each step the same start has many ends, and the "
            "student would learn their average.",
        ),
        (
            "Does a larger batch make sampling faster?",
            "More pictures a second, until the machine is full. Never one picture sooner: its steps wait for each other.",
        ),
        (
            "Why not distil from 64 steps to one directly?",
            "It can be done (Luhman and Luhman 2021), but each target then costs 64 evaluations, and the student must learn a "
            "far jump at once. Halving makes targets for two evaluations, and every student starts close to its goal.",
        ),
        (
            "Your student beats its teacher. What do you check?",
            "That both had the same guidance, that evaluations and not steps were counted, that the teacher had its best "
            "solver, and that the difference is larger than the error over samples and over trainings.",
        ),
        (
            "When is distillation worth it?",
            "When many pictures are drawn or one must come at once. Its training costs evaluations, too: divide them by what "
            "each picture saves.",
        ),
        (
            "What does the student learn to predict?",
            "The x₀ whose one DDIM step ends where two of the teacher's end, as v: at T ε says nothing of "
            "x₀. A discriminator on top makes one-step pictures sharper.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "20 steps with Heun's method (two evaluations a step, one in the last) and guidance 3. How many evaluations does one "
        "picture need?",
        [
            Choice(
                "20",
                False,
                "That counts steps. Heun evaluates twice in each but the last, and guidance doubles that.",
            ),
            Choice("40", False, "Heun makes 39 of 20 steps, and guidance doubles them."),
            Choice("78", True, "2 · 20 − 1 = 39 for Heun, each with and without the condition."),
            Choice("80", False, "Nearly: in the last step, to t = 0, Heun evaluates once."),
        ],
    ),
    Question(
        "The student's target x̃₀ is …",
        [
            Choice(
                "the clean training picture", False, "Then it would learn the average, as its teacher did."
            ),
            Choice(
                "the teacher's x̂₀ at the start of the step", False, "That is one long step of the teacher."
            ),
            Choice(
                "the teacher's x̂₀ at the middle of the step",
                False,
                "Close, but the first half-step is not in it.",
            ),
            Choice(
                "the x₀ whose one DDIM step ends where the teacher's two do",
                True,
                "Two equations, solved for x̃₀.",
            ),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A student of 4 steps is sampled with 8, for better quality. What happens?",
        [
            Choice("better pictures, as with any model", False, "Its x̃₀ is made for its own four strides."),
            Choice(
                "worse pictures than with its own 4",
                True,
                "At four of the eight times it was never trained, and its strides are half of what it learnt.",
            ),
            Choice(
                "the same pictures, twice as slow",
                False,
                "It answers where *its* step ends, not the shorter one.",
            ),
        ],
    ),
    Question(
        "Consistency distillation needs no chain of students. What makes its answers right at t = T?",
        [
            Choice(
                "it is shown the end of a long walk for each noise",
                False,
                "It sees one step of the teacher at a time, never a whole walk.",
            ),
            Choice(
                "the data: its target is the clean picture",
                False,
                "That target gives the average. The clean pictures only make noisy inputs.",
            ),
            Choice(
                "the end is known at t = 0, and each level copies the next",
                True,
                "The known end spreads upwards from t = 0, level by level.",
            ),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Salimans and Ho 2022, *Progressive Distillation for Fast Sampling of Diffusion Models*, arXiv 2202.00512: section 3 and
#   algorithm 2, the target; section 4, v and the truncated SNR; table 2; appendix G.
# - Meng et al. 2023, *On Distillation of Guided Diffusion Models*, arXiv 2210.03142: section 3.
# - Luhman and Luhman 2021, *Knowledge Distillation in Iterative Generative Models*, arXiv 2101.02388.
# - Song et al. 2023, *Consistency Models*, arXiv 2303.01469: section 4, algorithm 2.
# - Song and Dhariwal 2023, *Improved Techniques for Training Consistency Models*, arXiv 2310.14189.
# - Geng et al. 2024, *Consistency Models Made Easy*, arXiv 2406.14548: the training costs.
# - Kim et al. 2023, *Consistency Trajectory Models*, arXiv 2310.02279. Sauer et al. 2023, *Adversarial Diffusion
#   Distillation*, arXiv 2311.17042. Yin et al. 2024, *Improved Distribution Matching Distillation for Fast Image Synthesis*
#   (DMD2), arXiv 2405.14867; its costs: github.com/tianweiy/DMD2, experiments/imagenet.
# - Karras et al. 2022, *Elucidating the Design Space of Diffusion-Based Generative Models*, arXiv 2206.00364: section 4.
# - Song, Meng and Ermon 2021, *Denoising Diffusion Implicit Models*, arXiv 2010.02502: section 4, table 1.
# - Lu et al. 2022, *DPM-Solver*, arXiv 2206.00927, and *DPM-Solver++*, arXiv 2211.01095: algorithm 2.
# - Lin et al. 2023, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, arXiv 2305.08891: section 3.3, table 2.
#
# DDIM has been a closed box here. Next you build it, and run it backwards: {{lesson 08}}.
