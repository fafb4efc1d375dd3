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
# - put two steps of a teacher into one step of a student (exercise 07.4)
# - train such students, down to a single step (exercise 07.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Ten digits, four times, from the same noise. The first three rows come from the bundled model of MNIST, which asks its
# network less and less often. The last row asks *its* network a single time. Both networks have the same size and speed.

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.metrics.cost import count_evaluations
from diffusion_lessons.course import budget, exercise, figure, strip
from diffusion_lessons.course.widgets import COLOURS
from diffusion_lessons.generate import generate

teacher = zoo.load("mnist-unet")
students = {n: zoo.load(f"mnist-unet-{n}-step{'s' * (n > 1)}") for n in (4, 2, 1)}
labels, rows, pictures = torch.arange(10), {}, {}
settings = {
    "DDIM, 25 steps": dict(checkpoint=teacher, steps=25, guidance=2.0),
    "DDIM, 2 steps": dict(checkpoint=teacher, steps=2, guidance=2.0),
    "DDIM, 1 step": dict(checkpoint=teacher, steps=1, guidance=2.0),
    "another, 1 step": dict(checkpoint=students[1]),
}
for name, how in settings.items():
    with count_evaluations(how["checkpoint"].network) as count:
        pictures[name] = generate(labels=labels, seed=7, device=device, precision="float32", **how)
    rows[f"{name}: {count.pictures // 10}×"] = pictures[name]
strip(
    rows,
    alt="Digits 0 to 9 in four rows. DDIM with 25 steps, 50 evaluations: clean digits. With 2 steps, 4 evaluations: "
    "soft. With 1 step, 2 evaluations: grey blurs. Another network with 1 step, 1 evaluation: nearly the digits of "
    "the first row.",
    columns=10,
)

# %% [markdown] tags=["predict"]
# ## Predict
#
# The number behind each name is how often the network was asked for one picture. (DDIM is the step of lesson 1 that
# adds no noise, {{built-in 08}}. Guidance, {{built-in 10}}, makes digits clearer and asks twice in every step.)

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "The network of the last row never saw a training picture's digit as its goal. It was taught by the first "
    "row's model. Both start from the same noise. How do their digits compare?",
    [
        Choice(
            "nearly the same digit, in the same handwriting",
            True,
            "It was taught where its teacher's walk leads, noise by noise. You measure the likeness below.",
        ),
        Choice(
            "the same digit, each in a handwriting of its own",
            False,
            "So it would be if it had learned the pictures. It learned the teacher's walk, which has no chance in it.",
        ),
        Choice(
            "the average of all handwritings",
            False,
            "That is what one step of the teacher itself gives: the third row.",
        ),
        Choice(
            "it copies training pictures",
            False,
            "It never had one as a goal. Training pictures served only to make noisy inputs.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## What a picture costs
#
# A GAN asks its network once for each picture. DDPM asks a thousand times, one after the other. No step can begin before
# the one before it has ended: a second GPU makes twice as many pictures, but none of them sooner.
#
# Next to the network everything else is cheap. So a run can be predicted from two measurements: the **fixed** time of a
# call of the network, however little it is given, and the time **per picture** that it sees. The second is FLOPs
# divided by the machine's speed. The first is all that does not grow with the batch: Python, starting each operation,
# reading the weights.
#
# $$\text{seconds} = \underbrace{N \lceil n/B \rceil}_{\text{calls}} \cdot\, c_{\text{fixed}}
# + \underbrace{N\, n\, m}_{\text{pictures seen}} \cdot\, c_{\text{picture}},
# \qquad c_{\text{picture}} \approx \frac{\text{FLOPs of one evaluation}}{\text{FLOPs per second}}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $N$ | steps, each with one evaluation of the network | number |
# | $n, B$ | pictures wanted, and pictures in a batch | numbers |
# | $m$ | looks at each picture: 2 with guidance, 1 without | number |
# | $c_{\text{fixed}}, c_{\text{picture}}$ | seconds of a call, and for each picture in it | numbers |

# %%
import time

network, sizes = teacher.network.eval(), torch.tensor([1.0, 2, 4, 8, 16, 32, 64])


@torch.no_grad()
def seconds_of_call(size, repeats=budget.samples(9, at_least=3)):
    """The median of some calls with `size` pictures."""
    x, t = torch.randn(size, 1, 32, 32, device=device), torch.full((size,), 500.0, device=device)
    y, seconds = torch.zeros(size, dtype=torch.long, device=device), []
    for _ in range(repeats):
        begin = time.perf_counter()
        network(x, t, y).sum().item()  # .item() waits until a GPU is done
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds)[repeats // 2]


seconds_of_call(8)  # the first calls set things up: not counted
measured = torch.tensor([seconds_of_call(int(size)) for size in sizes])
rows = torch.stack([torch.ones(7), sizes], 1) / measured[:, None]  # so that relative errors count
fixed, per_picture = torch.linalg.lstsq(rows, torch.ones(7, 1)).solution.flatten().tolist()
print(f"fixed {1000 * fixed:.1f} ms a call, {1000 * per_picture:.2f} ms a picture")

# %% [markdown] tags=["exercise-card"]
# {{exercise 07.1}}


# %% tags=["exercise"]
import math


@exercise("07.1")
def predict_seconds(pictures, batch, steps, guidance, fixed, per_picture):
    """Seconds of a run, with one evaluation a step.

    pictures in all, at most batch at a time; guidance: scale, 1 and 0 need one look at each picture, all
    others two, in one call; fixed: seconds of a call; per_picture: seconds for each picture it sees.
    """
    ### BEGIN SOLUTION
    calls = steps * math.ceil(pictures / batch)
    looks = 1 if guidance in (0, 1) else 2
    return calls * fixed + steps * pictures * looks * per_picture
    ### END SOLUTION


# %%
import matplotlib.pyplot as plt

from diffusion_lessons.networks.counting import unet_costs

flops = sum(cost.flops for cost in unet_costs(network.network.config, 16, 16).values())  # lesson 6
print(f"{flops / 1e6:.0f} million FLOPs a picture, {flops / per_picture / 1e9:.0f} billion a second")
runs = [(1, 1, 50, 1.0), (48, 16, 4, 1.0), (48, 32, 4, 2.0), (90, 64, 2, 2.0)]
foreseen, clock = [], []
for n, batch, steps, guidance in runs:
    foreseen.append(predict_seconds(n, batch, steps, guidance, fixed, per_picture))
    how = dict(batch=batch, steps=steps, guidance=guidance, device=device, precision="float32")
    begin = time.perf_counter()
    generate(teacher, torch.arange(n) % 10, **how)
    clock.append(time.perf_counter() - begin)
    print(f"{n:2} pictures in batches of {batch:2}, {steps:2} steps, guidance {guidance:g}:", end=" ")
    print(f"predicted {foreseen[-1]:.2f} s, clock {clock[-1]:.2f} s")

# %% jupyter={"source_hidden": true}
from matplotlib.ticker import LogLocator

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6))
left.plot(sizes, 1000 * measured, "o", label="clock")
left.plot(sizes, 1000 * (fixed + per_picture * sizes), "--", marker="", label="fixed + per picture")
left.set(xlabel="pictures in a call", ylabel="milliseconds", xscale="log", yscale="log")
left.set_xticks(sizes.tolist(), [f"{size:g}" for size in sizes.tolist()])
left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
left.yaxis.set_major_formatter("{x:g}")
left.minorticks_off()
left.legend(fontsize=9)
right.plot(foreseen, clock, "s", label="four runs")
right.axline((0, 0), slope=1, color="gray", linestyle="--", label="as predicted")
most = 1.15 * max(*foreseen, *clock)
right.set(xlabel="predicted, seconds", ylabel="clock, seconds", xlim=(0, most), ylim=(0, most))
right.legend(fontsize=9)
figure(
    fig,
    alt="Left: milliseconds of a call over the number of pictures in it: 8 take about twice as long as one, 64 about ten "
    "times as long, near the line 'fixed + per picture'. Right: clock over prediction for four runs, near the diagonal.",
)

# %% [markdown]
# **What to notice:** what the prediction misses is what else the machine was doing. The first pictures of a call come
# nearly free: 16 in one call cost far less than 16 calls. And there are only three ways to a faster picture: cheaper
# evaluations (lessons 11 and 19), a faster machine, or *fewer evaluations*. The last is the factor that can be cut from
# 1,000 to 1.

# %% [markdown] tags=["idea"]
# ## Where the steps go
#
# Cut 1,000 steps to ten, and you must choose which ten times to visit. The network knows all of them, so nothing
# has to be trained again. Three spacings are common, and all three are found in published samplers.
#
# **trailing** divides the way from T to 0 evenly. **linspace** spreads n times evenly over T … 1, and goes from 1 to 0
# at last. **leading** counts in whole strides from the clean end, 1, 1 + stride, 1 + 2·stride, and starts wherever that
# ends. It needs no rounding, and is the default of several published samplers.
#
# $$\text{trailing: } \operatorname{round}\!\left(\tfrac{kT}{n}\right)_{k=n\dots1} \qquad
# \text{leading: } 1 + k\left\lfloor\tfrac{T}{n}\right\rfloor_{k=n-1\dots0} \qquad
# \text{linspace: } \operatorname{round}\!\left(1 + \tfrac{k(T-1)}{n-1}\right)_{k=n-1\dots0}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $T$ | the noisiest time, 1,000 here | number |
# | $n$ | steps; each spacing gives n times, and then 0 | number |
# | $k$ | counts the times, falling | n values |

# %% [markdown] tags=["exercise-card"]
# {{exercise 07.2}}


# %% tags=["exercise"]
@exercise("07.2")
def spaced_times(T, n, spacing):
    """The n times at which the network is asked, falling, and then 0: a list of n + 1 whole numbers.

    spacing: "trailing", "leading" or "linspace".
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


# %% tags=["nbval-check-output"]
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.samplers import sample

path, MEAN, SPREAD = teacher.path, 0.5, 0.5  # the cosine schedule; data: one number, from N(0.5, 0.5²)
bell = GaussianMixture(torch.tensor([[MEAN]], dtype=torch.float64), SPREAD)  # its exact denoiser

SPACINGS, counts = ("trailing", "linspace", "leading"), (3, 5, 10, 20, 50)
errors = {spacing: [] for spacing in SPACINGS}
for spacing in SPACINGS:
    for n in counts:
        levels = [path(t) for t in spaced_times(1000, n, spacing)]
        ends = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)  # noise one σ below and one above 0
        low, high = sample(bell, ends, levels)[:, 0]  # DDIM is linear here: two ends tell all
        errors[spacing].append(((low + high) / 2 - MEAN, (high - low) / 2 - SPREAD))
    mean, spread = errors[spacing][2]
    print(f"{spacing:8} 10 steps: mean {mean:+.3f}, spread {spread:+.3f}", spaced_times(1000, 10, spacing))

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(9, 2.7))
styles = dict(zip(SPACINGS, ("o-", "^--", "s:"), strict=True))
for row, spacing in enumerate(SPACINGS):
    times = spaced_times(1000, 5, spacing)
    axes[0].plot(times, [row] * len(times), styles[spacing])
    mean, spread = torch.tensor(errors[spacing]).T
    axes[1].plot(counts, mean, styles[spacing], label=spacing)
    axes[2].plot(counts, spread, styles[spacing])
axes[0].set(xlabel="t, five steps", xlim=(1030, -30), ylim=(-0.5, 2.5))
axes[0].set_yticks(range(3), SPACINGS)
for ax, what in zip(axes[1:], ("mean", "spread"), strict=True):
    ax.set(xlabel="steps", ylabel=f"error of the {what}", xscale="log")
    ax.set_xticks(counts, [str(n) for n in counts], minor=False)
    ax.minorticks_off()
axes[1].legend(fontsize=9)
figure(
    fig,
    alt="Left: five steps of each spacing. Trailing: 1000, 800, …, 0. Linspace: 1000, 750, 500, 251, 1, 0: the last step "
    "is next to nothing. Leading: 801, 601, …, 1, 0: it starts late. Middle: the mean is exact for trailing and linspace "
    "and too low for leading, most with few steps. Right: the spread is too small everywhere, most for linspace.",
)

# %% [markdown] tags=["exercise-card"]
# **What to notice:** the denoiser is exact, so every error belongs to the steps. **leading** hands noise of T to a network
# that is told t = 901: its samples move towards 0, the grey of lesson 5. **linspace** pays a tenth of its evaluations for the step
# from 1 to 0, where there is nothing left to remove. **trailing** loses nothing at either end. Lin et al. (2023)
# recommend it, and from here on we use it. (Leading's spread looks best: it starts too wide for its level, and two faults
# partly cancel.) What no spacing mends is the length of the strides: the error falls only as 1/n.
#
# A sampler that takes any list of times is easily written, and has been written wrong more than once.
#
# {{exercise 07.3}}


# %% tags=["exercise"]
@exercise("07.3")
def walk_times(denoiser, path, times, x):
    """DDIM through the given times, falling, and from the last of them to 0. x: (B, …), noise at times[0].

    denoiser(x, level) gives (x0, eps); path(t) gives the level of time t; path.T is the noisiest time.
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

# %% [markdown] tags=["idea"]
# ## Two steps in one
#
# Steps have to be short because $\hat x_0$ is a mean, which changes on the way (lesson 3). But DDIM adds no noise: each
# start has exactly one end. What if a network learned to *jump along the walk*?
#
# Salimans and Ho teach it in small lessons. The **teacher** takes two steps, from now by way of the middle to the
# next level. The **student**, which starts as a copy of it, must make one step with the same end. Then the student is the
# teacher of the next: 64 steps, 32, 16, …, 1.
#
# The student's step is a DDIM step with some $\tilde x_0$, the target. Where it starts and where it ends is known: two equations.

# %% [markdown] tags=["exercise-card"]
# $$\left.\begin{aligned} x &= \alpha\,\tilde x_0 + \sigma\,\tilde\varepsilon \\ x' &= \alpha'\,\tilde x_0 + \sigma'\,\tilde\varepsilon \end{aligned}\right\}
# \;\Longrightarrow\; \tilde x_0 = \frac{x' - \frac{\sigma'}{\sigma}\,x}{\alpha' - \frac{\sigma'}{\sigma}\,\alpha}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x$ | where the student's step starts (at `now`: $\alpha, \sigma$) | (B, …) |
# | $x'$ | `reached`: where two steps of the teacher lead from $x$ (at `next`: $\alpha', \sigma'$) | (B, …) |
# | $\tilde x_0, \tilde\varepsilon$ | the pair that leads from $x$ to $x'$ in one step; it is no average of data | (B, …) |
#
# {{exercise 07.4}}


# %% tags=["exercise"]
@exercise("07.4")
def student_x0(x, reached, now, next):
    """The x̃₀ with which one DDIM step takes x at the level now to reached at the level next.

    x, reached: (B, …); now, next: levels with .alpha and .sigma, 0-d; next is cleaner, perhaps the data.
    """
    ### BEGIN SOLUTION
    keep = next.sigma / now.sigma
    return (reached - keep * x) / (next.alpha - keep * now.alpha)
    ### END SOLUTION


# %%
two = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.15)  # two clusters on a line
now, middle, after = path(800), path(400), path(0)
x = torch.tensor([[0.6]], dtype=torch.float64)
halfway = sample(two, x, [now, middle])
reached = sample(two, halfway, [middle, after])


def arc(x, level, x0, end):
    """All places on the way of one DDIM step with this x₀ from a level down to t = end, and their times."""
    eps, times = (x - level.alpha * x0) / level.sigma, torch.linspace(float(level.t), end, 60).tolist()
    return times, [float(path(t).alpha * x0 + path(t).sigma * eps) for t in times]


arcs = {
    "one step of the teacher": arc(x, now, two(x, now).x0, 0),
    "two steps of the teacher": arc(x, now, two(x, now).x0, 400),
    "": arc(halfway, middle, two(halfway, middle).x0, 0),
    "one step of the student": arc(x, now, student_x0(x, reached, now, after), 0),
}
print("x̂₀ of the teacher at t = 800: {:.2f}".format(two(x, now).x0.item()))
print("x̃₀ of the student:            {:.2f}".format(student_x0(x, reached, now, after).item()))

# %% jupyter={"source_hidden": true}
fine = [path(t) for t in range(800, -1, -10)]
starts = torch.linspace(-1.8, 1.8, 25, dtype=torch.float64)[:, None]
walks = torch.stack([starts, *(sample(two, starts, fine[:k]) for k in range(2, len(fine) + 1))])
fig, ax = plt.subplots(figsize=(6.4, 2.9))
ax.plot([float(level.t) for level in fine], walks[..., 0].numpy(), color="#BBBBBB", lw=0.8, marker="")
for (name, line), style, colour in zip(arcs.items(), (":", "--", "--", "-"), (2, 1, 1, 0), strict=True):
    ax.plot(*line, style, color=COLOURS[colour], marker="", label=name or None)
ax.plot([800, 400, 0], [float(x), float(halfway), float(reached)], "o", color=COLOURS[1])
ax.set(xlabel="t", ylabel="x", xlim=(810, -10), ylim=(-0.6, 1.5))
ax.legend(fontsize=8, loc="lower left")
figure(
    fig,
    alt="Walks of points on a line from t = 800 to 0, in grey, which part towards clusters at −1 and 1. From one "
    "point the teacher's single step sinks to 0.2, between the clusters. Its second step turns up to 0.8. The "
    "student's single step is one arc from the same start to the same end.",
)

# %% [markdown]
# **What to notice:** a DDIM step with a fixed $\hat x_0$ is an arc. The teacher's first arc goes for the mean of both
# clusters; half-way it corrects itself. $\tilde x_0$ belongs to the one arc that meets both ends.
#
# Does it matter *what* the network predicts? Until now it could be $\varepsilon$, $x_0$ or a mix. But a student of one step is
# asked at T alone, and no later step repairs what it gets wrong.

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
# of the picture: solved for $\hat x_0$, its error is multiplied by $\sigma/\alpha = 20{,}000$. So students predict
# $v = \alpha\varepsilon - \sigma x_0$ ({{built-in 17}}), whose error is never enlarged. The last column is the weight
# of the paper's loss, $\max(\mathrm{SNR}, 1)$ on $x_0$, seen from $v$: it lies between ½ and 1 everywhere. The
# plain $\varepsilon$ loss would weigh $\hat x_0$ by the SNR, and hardly ask for anything near T.

# %% [markdown] tags=["idea"]
# ## From sixteen steps to one
#
# All parts are there. Our first teacher needs no training: the exact denoiser of lesson 1's ring, here with four clusters. It
# walks in 16 steps. Its students are small networks of points, each starting from the one before.
#
# $$L = \mathbb E\;\max(\alpha^2, \sigma^2)\,\big\lVert v_\theta(x, t) - \tilde v\big\rVert^2, \qquad
# \tilde v = \alpha\,\tilde\varepsilon - \sigma\,\tilde x_0, \qquad \tilde\varepsilon = \frac{x - \alpha\,\tilde x_0}{\sigma}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $v_\theta$ | the student | (B, 2) |
# | $t$ | one of the *student's* times, every second one of the teacher's | number |
# | $\tilde v$ | its target | (B, 2) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 07.5}}


# %% tags=["exercise"]
@exercise("07.5")
def student_example(teacher, x0, noise, levels, i):
    """The input x of the student's i-th step, and the v that it should answer: both (B, …).

    teacher(x, level) gives (x0, eps); x0, noise: (B, …); levels: the teacher's, from noise to data.
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


class Points(torch.nn.Module):
    """v of points (B, 2) at one level, and with it a denoiser."""

    def __init__(self, width=128):
        super().__init__()
        sizes = [4, width, width, width, 2]
        layers = [torch.nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        self.layers = torch.nn.Sequential(
            *[part for layer in layers for part in (layer, torch.nn.ReLU())][:-1]
        )

    def v(self, x, level):
        told = torch.tensor([float(level.alpha), float(level.sigma)]).expand(len(x), 2)
        return self.layers(torch.cat([x, told], 1))

    def forward(self, x, level, condition=None):
        return V.solve(self.v(x, level), x, level)


# %%
import copy

from diffusion_lessons.metrics import wilson_interval


def distil(teacher, student, steps, training_steps, lr=3e-3):
    """Teach a student of so many steps; its teacher takes twice as many."""
    levels = path.levels(2 * steps)
    optimizer = torch.optim.AdamW(student.parameters())
    for step in range(training_steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / training_steps)
        i = int(torch.randint(steps, (), generator=generator))
        x0, noise = ring.sample(256, generator)[0], torch.randn(256, 2, generator=generator)
        with torch.no_grad():
            x, v = student_example(teacher, x0, noise, levels, i)
        weight = float(max(levels[2 * i].alpha ** 2, levels[2 * i].sigma ** 2))
        loss = weight * (student.v(x, levels[2 * i]) - v).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


# %%
chain = {8: distil(ring, Points(), 8, budget.steps(500))}
for steps in (4, 2, 1):
    chain[steps] = distil(chain[2 * steps], copy.deepcopy(chain[2 * steps]), steps, budget.steps(250))
start = torch.randn(budget.samples(2000, at_least=500), 2, generator=generator)
clouds = {"teacher, 16 steps": sample(ring, start, path.levels(16))}
for n in (1, 2, 4):
    clouds[f"teacher, {n} step{'s' * (n > 1)}"] = sample(ring, start, path.levels(n))
    clouds[f"student, {n} step{'s' * (n > 1)}"] = sample(chain[n], start, path.levels(n))
for name, points in clouds.items():
    inside = int((torch.cdist(points, centres).min(1).values < 0.4).sum())  # within 4 σ of a centre
    low, high = wilson_interval(inside, len(points))
    away = (points - clouds["teacher, 16 steps"]).norm(dim=1).median()
    print(f"{name:17} in a cluster: {low:.0%} to {high:.0%}", end="   ")
    print(f"half within {away:.2f} of where 16 steps lead from the same noise")

# %% jupyter={"source_hidden": true}
shown = ("teacher, 16 steps", "teacher, 1 step", "student, 2 steps", "student, 1 step")
fig, axes = plt.subplots(1, 4, figsize=(9, 2.5), sharex=True, sharey=True)
for ax, name in zip(axes, shown, strict=True):
    ax.plot(*clouds[name][:800].T, "o", markersize=1.5)
    ax.set(title=name, xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")
figure(
    fig,
    alt="Four clouds of points from the same noise. The teacher's 16 steps: four clusters on a ring. Its single step: one "
    "spot in the middle. The student's 2 steps and its single step: four clusters, with some points strewn between neighbours.",
)

# %% [markdown]
# **What to notice:** asked for one step, the exact teacher gives the mean of all data, one spot. Its student gives the
# clusters, and from each noise nearly the end that 16 steps lead to. It is no better at guessing $x_0$. It answers
# another question, "where does the walk end?", and that answer is no average. What it cannot learn is the jump between two
# slices of lesson 1's cake, where neighbouring starts end in different clusters: a network is a continuous function, and
# strews some points between them.

# %% [markdown] tags=["experiment"]
# ## Experiment: quality against evaluations
#
# Now with pictures. The bundled model was distilled in just this way, from 64 steps down to 1, by
# `diffusion_lessons.training.distillation`: your `student_example`, with a time for each picture. Its first teacher was *guided*, so
# the students have guidance built in, and one look is enough (Meng et al. 2023).
#
# We compare it with three samplers of the teacher at guidance 2: "ddpm" is ancestral sampling (lesson 3), "dpmpp-2m" a
# second-order solver ({{built-in 08}}). Evaluations are counted at the network. The Fréchet distance is to held-out digits
# ({{built-in 20}}), lower is better. And was your prediction right?

# %%
from diffusion_lessons.metrics import evaluate

wanted = torch.arange(budget.samples(120, at_least=70)) % 10
live = [(name, steps) for steps in (2, 6) for name in ("ddpm", "ddim", "dpmpp-2m")]
live += [("distilled", steps) for steps in students]
measured, drawn = {}, {}
for name, steps in live:
    how = dict(checkpoint=teacher, sampler=name, steps=steps, guidance=2.0)
    how = dict(checkpoint=students[steps]) if name == "distilled" else how
    with count_evaluations(how["checkpoint"].network) as count:
        x = generate(labels=wanted, seed=1, device=device, precision="float32", **how)
    asked, result = count.pictures // len(x), evaluate(x, wanted, zoo.yardstick("mnist"))
    measured[name, asked], drawn[f"{name}, {asked}×"] = result["frechet"], x[:10]
    print(f"{name:9} {asked:2} evaluations: ", end="")
    for what in ("frechet", "precision", "recall"):
        print("{} {value:.2f} ± {uncertainty:.2f}".format(what, **result[what]), end="   ")
    print("recognised {value:.0%}".format(**result["accuracy"]))
print(f"n = {len(wanted)}; ± one standard error")

for words, seed in (("the same noise", 7), ("other noise, same class", 8)):
    mine = generate(students[1], labels, seed=seed, device=device, precision="float32")
    apart = (mine - pictures["DDIM, 25 steps"]).square().mean((1, 2, 3)).sqrt()
    print(f"teacher's 50 evaluations and student's 1, {words}:", end=" ")
    print(f"{apart.mean():.2f} ± {apart.std() / 10**0.5:.2f} apart (rms of the pixels, n = 10)")
strip(
    drawn,
    alt="Nine rows of the digits 0 to 9. The teacher's three samplers with 4 evaluations: soft strokes. With 12: "
    "sharper. Distilled, with 4, 2 and 1 evaluations: sharp strokes in the handwriting of DDIM's rows, with a few "
    "frayed edges in the last.",
    columns=10,
)

# %% [markdown]
# So few samples push every Fréchet distance up, and only rows with the same n compare. The recorded runs have n = 1000;
# `diffusion-lessons experiment steps-by-sampler` makes them again.

# %%
from diffusion_lessons.experiments import recorded

kept, curves = recorded("steps-by-sampler"), {}
for row in kept["rows"]:
    curves.setdefault(row["settings"]["sampler"], []).append(row)
print(f"recorded, n = {kept['options']['n']}: evaluations, Fréchet distance ± error, precision, recall")
for name, points in curves.items():
    for p in points:
        row = "{evaluations:4.0f}  {frechet:5.2f} ± {uncertainty:.2f}  {precision:.2f}  {recall:.2f}"
        print(f"{name:9}", row.format(**p))

# %% jupyter={"source_hidden": true}
marks = {"ddpm": "v:", "ddim": "s--", "dpmpp-2m": "^-.", "distilled": "o-"}
names = {"ddpm": "ancestral", "ddim": "DDIM", "dpmpp-2m": "DPM-Solver++(2M)", "distilled": "distilled"}
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2))
for name, mark in marks.items():
    here = [(asked, f["value"], f["uncertainty"]) for (who, asked), f in measured.items() if who == name]
    there = [(p["evaluations"], p["frechet"], p["uncertainty"]) for p in curves[name]]
    for ax, points in zip(axes, (here, there), strict=True):
        asked, value, error = torch.tensor(sorted(points)).T.numpy()
        ax.errorbar(asked, value, yerr=2 * error, fmt=mark, capsize=3, label=names[name])
for ax, title in zip(
    axes, (f"here, n = {len(wanted)}", f"recorded, n = {kept['options']['n']}"), strict=True
):
    ax.set(title=title, xscale="log", yscale="log", xlabel="evaluations a picture")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(base=2))
        axis.set_major_formatter("{x:g}")
    ax.minorticks_off()
axes[0].set(ylabel="Fréchet distance")
axes[1].legend(fontsize=8)
figure(
    fig,
    alt="Fréchet distance over evaluations, both axes logarithmic. Left, live: the students at 1 to 4 evaluations lie below "
    "all samplers at 4, and at or below those at 12. Right, recorded: ancestral, DDIM and DPM-Solver++ start together at "
    "8.6 with 2 evaluations and fall to about 0.8 with 128, in this order from above; the students lie between 0.88 and "
    "0.79 from 1 evaluation on.",
)

# %% [markdown]
# **The result:** one evaluation of the student is as good as 32 of its teacher with DDIM: 0.88 ± 0.04 against 0.87 ± 0.04.
# Four are as good as 128: 0.79 and 0.78, both ± 0.04. Among the teacher's samplers ancestral sampling needs the most
# evaluations and DPM-Solver++(2M) the fewest. A factor of two of the gain is guidance, which the students have in their
# weights. With one evaluation they vary as much as DDIM with 128 (recall 0.69 and 0.67), but err more: precision 0.85
# against 0.91. And "recognised 100 %" tells you nothing here: a blur can be read as well.
#
# From the same noise the student's digit is 0.16 from its teacher's, from other noise 0.53: it learned the walk. The whole
# chain took 8,000 steps of training, as many as the teacher itself.
#
# Published, for photographs (CIFAR-10, Salimans and Ho, table 2): FID 9.12, 4.51 and 3.00 with 1, 2 and 4 steps. There the last
# halvings cost much. Digits are easier than photographs, and labels and guidance leave less to decide.

# %% [markdown] tags=["play"]
# ## Play
#
# A race from the same noise. Each frame shows what the samplers hold after so many evaluations of their networks. When do
# you see the digit in each?

# %%
from diffusion_lessons.course import scrub
from diffusion_lessons.generate import walk

three, asked = torch.tensor([2, 5, 8]), [0, 1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 50]
noise = torch.randn(3, 1, 32, 32, generator=generator)
racers = {"DDIM, 25 guided steps": dict(checkpoint=teacher, steps=25, guidance=2.0)}
racers |= {f"student, {n} step{'s' * (n > 1)}": dict(checkpoint=students[n]) for n in (4, 2, 1)}
panels = {}
for name, how in racers.items():
    looks = 2 if "guidance" in how else 1
    held = [
        x.cpu()
        for _, x, _ in walk(labels=three.to(device), noise=noise.to(device), precision="float32", **how)
    ]
    frames = [held[min(k // looks, len(held) - 1)] for k in asked]  # each (3, 1, 32, 32)
    panels[name] = torch.stack([torch.cat(list(x), dim=-1) for x in frames])  # (18, 1, 32, 96)
scrub(
    panels,
    [f"after {k} evaluation{'s' * (k != 1)}" for k in asked],
    alt="Three digits in four rows after 0 to 50 evaluations. The student of one step has its digits after 1 evaluation, that of "
    "two after 2, that of four after 4. DDIM with 25 guided steps is still noise then, and finished after 50.",
    title="Scrub through the race",
    columns=6,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Two things can be compared with diffusers: your times, for the spacings in which its own classes agree among themselves, and a
# student. Here its DDIM scheduler walks with our student's network. (It counts levels from 0: its t is ours minus 1.)

# %%
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
    network, x, y = students[4].network.cpu(), noise, torch.tensor([2, 5, 8])
    with torch.no_grad():
        for t in theirs.timesteps:
            answer = network(x, t.expand(3).float(), y)
            x = theirs.step(answer, t, x, use_clipped_model_output=True).prev_sample
    ours = panels["student, 4 steps"][-1].view(32, 3, 32).permute(1, 0, 2)[:, None]
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
# | evaluations counted as steps | guidance asks twice, Heun nearly twice: a "faster" sampler that is none |
# | the first call timed, or a GPU not waited for | the first is far too slow, the second next to nothing |
# | a student sampled at steps that are not its own | thin, broken strokes with specks around them: it never saw those times |
# | a student guided once more | strokes too bold: guidance is in its weights already |
# | a student that predicts $\varepsilon$ | its errors at T come back 20,000-fold |
# | the student's target made of data and noise | blur: it learns the average, like its teacher |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "Why is sampling from a diffusion model slow, and how do you make it fast?",
    "A picture takes N evaluations of a large network, one after the other, twice as many with guidance; a batch does not "
    "shorten that. So I cut evaluations. A deterministic walk such as DDIM gets by with 20 to 50 steps of the same network, "
    "a second-order solver with 10 to 20, if the steps start at T and end at 0.\n\nBelow that the strides are too long: "
    "each guess of x₀ is an average. Distillation trains a student to make in one step what its teacher makes in two, "
    "starting from the teacher's weights, and halves again: 64, 32, … 4, 2, 1. The target is the x₀ whose single DDIM step "
    "lands where the teacher lands; the student predicts v, since ε says nothing of x₀ at T. Guidance is baked in. "
    "The price: training, some diversity and sharpness, and a model that knows its few steps only.",
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
            "What else makes one-step models?",
            "Consistency distillation asks neighbours on a walk for the same end; adversarial distillation adds a "
            "discriminator; reflow straightens the paths first (lesson 18).",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "20 steps with Heun's method (two evaluations a step, one in the last) and guidance 3. How often is the network asked for "
        "one picture?",
        [
            Choice(
                "20",
                False,
                "That counts steps. Heun asks twice in each but the last, and guidance doubles that.",
            ),
            Choice("40", False, "Heun makes 39 of 20 steps, and guidance doubles them."),
            Choice("78", True, "2 · 20 − 1 = 39 for Heun, each with and without the condition."),
            Choice("80", False, "Nearly: at the last step, to t = 0, Heun asks once."),
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
                "worse: at four of the eight times it was never trained",
                True,
                "And its strides are half of what it learned.",
            ),
            Choice(
                "the same pictures, twice as slow",
                False,
                "It answers where *its* step ends, not the shorter one.",
            ),
        ],
    ),
    Question(
        "Guidance doubles each evaluation. A student of a guided teacher …",
        [
            Choice(
                "needs guidance too, at the same scale",
                False,
                "That would guide a second time: strokes too bold.",
            ),
            Choice(
                "needs one look: guidance is in its target", True, "Its teacher's walk was the guided one."
            ),
            Choice("cannot be conditional", False, "It gets the label like its teacher, once."),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Salimans and Ho 2022, *Progressive Distillation for Fast Sampling of Diffusion Models*, arXiv 2202.00512: section 3 and
#   algorithm 2, the target; section 4, v and the truncated SNR; appendix G.
# - Meng et al. 2023, *On Distillation of Guided Diffusion Models*, arXiv 2210.03142: section 3.
# - Luhman and Luhman 2021, *Knowledge Distillation in Iterative Generative Models*, arXiv 2101.02388.
# - Song, Meng and Ermon 2021, *Denoising Diffusion Implicit Models*, arXiv 2010.02502: section 4, table 1.
# - Lu et al. 2022, *DPM-Solver++*, arXiv 2211.01095: algorithm 2.
# - Lin et al. 2023, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, arXiv 2305.08891: section 3.3, table 2.
# - Song et al. 2023, *Consistency Models*, arXiv 2303.01469: section 4.
#
# DDIM has been a closed box here. Next you build it, and run it backwards: {{lesson 08}}.
