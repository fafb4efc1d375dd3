# %% [markdown] tags=["header"]
# title: Flow matching
# question: What is flow matching, and how does it compare with diffusion in speed and quality?
# difficulty: 2
# prerequisites: 03, 05, 08
# builds: StraightPath, FLOW, OnPath, adaptive, straightness, minibatch_ot, times, runge_kutta, metrics.straightness, training.rectified_flow

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - write the straight path and the velocity that a flow learns (exercise 18.1)
# - find a sampler whose time runs the wrong way (exercise 18.2)
# - turn a diffusion model into a flow without training it (exercise 18.3)
# - build a solver that chooses its own steps (exercise 18.4)
# - measure how straight a flow is, and straighten it until one step is enough (exercises 18.5 and 18.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# One network, the digits of lesson 8, and six starts of noise. On the left it walks as a diffusion model, on the right
# as a *flow*. Nothing was trained in between. Drag from noise to data. Where do the two differ, and where are they the same?

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import Points, Watched, budget, exercise, figure, scrub, strip
from diffusion_lessons.denoiser import OnPath  # you build it below
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.paths import StraightPath
from diffusion_lessons.samplers import sample, trajectory

mnist, straight = zoo.load("mnist-unet").on(device), StraightPath()
cosine, plain = mnist.path, mnist.denoiser()
clear = Clip(ClassifierFreeGuidance(plain, 2.0))
digits = torch.tensor([0, 2, 3, 5, 8, 9], device=device)
start = torch.randn(6, 1, 32, 32, generator=generator).to(device)

walks = {
    "diffusion": list(trajectory(clear, start, cosine.levels(24), digits)),
    "flow": list(trajectory(OnPath(clear, cosine), start, straight.levels(24), digits)),
}


# %% jupyter={"source_hidden": true}
def sheet(pictures):
    """Six pictures as one, in two rows, with few shades so that the notebook stays small."""
    rows = [torch.cat(list(row), -1) for row in pictures.chunk(2)]
    return (torch.cat(rows, -2).clamp(-1, 1) * 12).round() / 12


gap = (walks["diffusion"][-1][1] - walks["flow"][-1][1]).square().mean().sqrt()
print(f"rms difference of the last pictures: {gap:.2f}; of two different digits: about {(walks['flow'][-1][1] - walks['flow'][-1][1].roll(1, 0)).square().mean().sqrt():.2f}")
scrub(
    {name: torch.stack([sheet(x) for _, x, _ in walk[::2]]).cpu() for name, walk in walks.items()},
    [f"step {2 * i} of 24" for i in range(13)],
    alt="Six digits twice, from noise to data in 24 steps. In the middle the flow shows digits of less contrast and less noise than "
    "diffusion. The last pictures are the same digits, 0, 2, 3, 5, 8 and 9, in nearly the same handwriting.",
    title="One network, two paths",
    columns=7,
)

# %% [markdown]
# The pictures in the middle differ: half-way, the flow shows half of the digit and half of the noise, diffusion shows 0.7 of each. The
# digits at the end are nearly the same, stroke by stroke. So a "flow" and a "diffusion model" may be one network. What, then, is
# new about flow matching? That is the question of this lesson, and there is an answer.

# %% [markdown] tags=["guess"]
# ## Guess
#
# A network gets noise and has to make a picture of it in **one** evaluation. You have a good model of lesson 8, which
# needs twenty. You may train it again, but only with its own kind of loss: a mean of squares. **How would you do it?** Take
# two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Train it to give the picture from pure noise.* A mean of squares makes it answer with the mean of all pictures that
#   the noise may belong to. Noise and pictures were drawn independently, so that is the mean of all pictures: grey.
# - *Distil it, two steps into one, again and again.* Lesson 7. It works, and each round is a training.
# - *Tell it which picture belongs to which noise.* Then there is nothing to average. But who says which one belongs to
#   it? The model itself can: it turns a noise into one picture. This is *reflow*, the heart of this lesson.
#
# </details>

# %% [markdown]
# ## Predict
#
# Eight clusters on a ring. Noise and data are drawn independently, and each pair is joined by a straight line. A flow is
# the best guess at the direction of these lines. We know it exactly here.

# %% tags=["predict"] jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "All lines are straight, and the velocity is exact. 2,000 points of noise make ONE step along it, from t = 1 to t = 0. Where do they end?",
    [
        Choice(
            "in the middle of the ring, where no data are",
            True,
            "From pure noise every cluster is equally likely, so the mean of all lines leads to the mean of the data.",
        ),
        Choice(
            "on the ring: straight lines need one step",
            False,
            "The lines of the pairs are straight. The ways of the flow are not: where lines cross, it follows their mean.",
        ),
        Choice(
            "on the ring, most of them in the nearest cluster",
            False,
            "Noise and data were drawn independently: at t = 1 the noise says nothing about its cluster, not even the nearest.",
        ),
        Choice(
            "they stay where they are",
            False,
            "The velocity at t = 1 is far from 0: it points from the mean of the data to the noise.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Lines that cross, ways that do not
#
# Take a sample and a noise, and draw a straight line between them. A point on it walks at even speed. Its velocity is one and
# the same everywhere: noise minus data.
#
# Now many lines go through one place at one time, and their velocities differ. A network that is trained on all of them with a
# mean of squares answers with the **mean velocity** there. Follow it, and you walk a *way* of the flow, a trajectory.
# Two ways never meet at one time, since there is one velocity at a place and a time. So ways bend where lines meet.
#
# The single lines are lost, but not the distribution. If all points follow the mean velocity, then at every time they are
# spread just as the points on the lines are. At t = 0 that is the data.

# %% [markdown] tags=["exercise-card"]
# $$x_t = (1-t)\,x_0 + t\,\varepsilon, \qquad v = \frac{dx_t}{dt} = \varepsilon - x_0, \qquad
# v^*(x, t) = \mathbb E\,[\varepsilon - x_0 \mid x_t = x]$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_0, \varepsilon$ | data and noise of a pair | (B, …) each |
# | $t$ | time, 0 at the data and **1 at the noise** (1000 in the lessons before); the papers count from the other end | (B,) |
# | $v$ | velocity of a pair; not the v of lesson 17, which is $\alpha\varepsilon - \sigma x_0$ | (B, …) |
# | $v^*$ | mean velocity, what the network learns | (B, …) |
#
# <details><summary>Why the mean velocity carries the right distribution</summary>
#
# Let $p_t$ be the density of $x_t$. For any smooth $f$, $\frac{d}{dt}\mathbb E f(x_t) = \mathbb E[\nabla f(x_t)\cdot
# (\varepsilon - x_0)] = \mathbb E[\nabla f(x_t)\cdot v^*(x_t, t)]$: inside the mean over $x_t$ the velocity may be replaced by its
# mean given $x_t$. That is the continuity equation $\partial_t p_t = -\nabla\cdot(p_t v^*)$, and points that follow $v^*$ obey it as
# well.
#
# </details>
#
# {{exercise 18.1}}


# %% tags=["exercise"]
@exercise("18.1")
def straight_path(x0, noise, t):
    """The pair (x, v) of samples at times t: the point on the line from data to noise, and its velocity dx/dt.

    x0, noise: (B, ...); t: (B,), one time for each sample, 0 is data and 1 is noise. x and v are like x0.
    """
    ### BEGIN SOLUTION
    each = t.view(-1, *[1] * (x0.ndim - 1)).to(x0)
    return (1 - each) * x0 + each * noise, noise - x0
    ### END SOLUTION


# %% [markdown]
# To train on this v is *flow matching*; with straight lines it is also called *rectified flow*.
#
# On the ring everything is known. A mixture of Gaussians gives the best guess $\hat x_0$ and $\hat\varepsilon$ at any level (lesson 1). So
# the exact mean velocity is $\hat\varepsilon - \hat x_0$.

# %%
import math

from diffusion_lessons.mixtures import GaussianMixture

angles = torch.arange(8) * math.pi / 4
ring = GaussianMixture(1.4 * torch.stack([angles.cos(), angles.sin()], 1), 0.1)


def exact(x, t):
    """The mean velocity of all lines through x (B, 2) at a time above 0."""
    estimate = ring(x, straight(t))
    return estimate.eps - estimate.x0


# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

few, _ = ring.sample(60, generator)
many_noises = torch.randn(60, 2, generator=generator)
way = torch.stack([x for _, x, _ in trajectory(ring, many_noises, straight.levels(60))])
fig, axes = plt.subplots(1, 2, figsize=(8.4, 4.1), sharex=True, sharey=True)
axes[0].plot(*torch.stack([many_noises, few]).permute(2, 0, 1).numpy(), lw=0.7, color="#555555", marker="")
axes[1].plot(*way.permute(2, 0, 1).numpy(), lw=0.7, color="#555555", marker="")
for ax, ends, title in zip(axes, (few, way[-1]), ("lines of pairs", "ways of the flow"), strict=True):
    ax.plot(*many_noises.T.numpy(), ".", ms=3, color="#0072B2", label="noise")
    ax.plot(*ends.T.numpy(), "s", ms=3, color="#D55E00", label="data")
    ax.set(title=title, xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), aspect="equal")
axes[0].legend(fontsize=9, loc="upper right")
figure(
    fig,
    alt="Left: sixty straight lines from noise to eight clusters, crossing everywhere. Right: sixty ways from the same noise to the "
    "clusters; they set out towards the middle, most of them bend, and hardly any two cross.",
)

# %% [markdown] tags=["exercise-card"]
# **What to notice:** on the left lines cross everywhere, on the right hardly any two ways do. (Where two cross, their points pass at
# different times.) All ways set out towards the middle, and those that have to end elsewhere turn on their way. That bend is the price of averaging.
#
# Now walk them. A colleague copied Euler's method from a paper, in which t = 0 is noise.
#
# {{exercise 18.2}}


# %% tags=["exercise"]
@exercise("18.2")
def walk_down(velocity, x, times):
    """x (B, ...) at times[-1], by Euler's method along falling times, one question for each step.

    velocity(x, t) gives dx/dt at x, with t a number; x is at times[0]. Steps may be uneven.
    """
    ### BEGIN SOLUTION
    for now, next in zip(times[:-1], times[1:]):
        x = x + (next - now) * velocity(x, now)
    return x
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "With more steps my samples flee even further from the data."
    # for now, next in zip(times[:-1], times[1:]):
    #     x = x + (now - next) * velocity(x, now)
    # return x
    ### END STUDENT


# %%
from diffusion_lessons.metrics import sliced_wasserstein

n = budget.samples(2000)
noise = torch.randn(n, 2, generator=generator)
real = ring.sample(n, generator)[0]


def even(steps):
    """Times from 1 to 0."""
    return torch.linspace(1, 0, steps + 1).tolist()


def distance(points):
    """Sliced Wasserstein distance to data of the ring."""
    return sliced_wasserstein(points, real)


floor = torch.tensor([distance(ring.sample(n, generator)[0]) for _ in range(5)])
print(f"other data of the ring: {floor.mean():.2f} ± {floor.std():.2f} (the floor: 5 draws of {n} points)")
for steps in (1, 2, 4, 8, 16, 64):
    print(f"{steps:2} step{'s' * (steps > 1):1}: {distance(walk_down(exact, noise, even(steps))):.2f}")
one = walk_down(exact, noise, even(1))
print(f"after one step the points are {one.norm(dim=1).mean():.2f} from the middle; the ring has a radius of 1.4")

# %% [markdown]
# One step leads to the middle, as predicted. A few more steps are needed to reach the ring, because the ways bend. So a straight *path*
# is no straight *flow*.

# %% [markdown] tags=["idea"]
# ## The same denoiser with other coefficients
#
# A sample on the straight path is $(1-t)x_0 + t\varepsilon$. On the path of lesson 5 it is $\alpha x_0 + \sigma\varepsilon$. Both are a picture plus noise.
# They differ in two ways: how *strong* the sum is, and what the *clock* says.
#
# So take a sample of the straight path and multiply it by a number. It becomes a sample of the cosine path, at the time with
# the same signal-to-noise ratio. A diffusion model can answer there, with $\hat x_0$ and $\hat\varepsilon$. And
# $\hat\varepsilon - \hat x_0$ is a velocity. That is all. The way back is the same with the paths exchanged.
#
# Whatever a sampler does with a flow it can do with a diffusion model, and the reverse. What stays different is the
# *training*: which times are drawn, and how errors at each time are weighed.

# %% [markdown] tags=["exercise-card"]
# $$\frac{\alpha(t')}{\sigma(t')} = \frac{1-t}{t}, \qquad c = \frac{\sigma(t')}{t}, \qquad
# (\hat x_0, \hat\varepsilon) = D(c\,x,\; t'), \qquad v = \hat\varepsilon - \hat x_0$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $t'$ | time on the model's own path with the same SNR as $t$ | number |
# | $c$ | how much stronger a sample is there | number |
# | $D$ | the model, a denoiser | |
#
# {{exercise 18.3}}


# %% tags=["exercise"]
@exercise("18.3")
def as_flow(denoiser, path, x, t):
    """The velocity on the straight path at x (B, ...) and t, a number between 0 and 1, of a model of another path.

    denoiser(x, level) gives the pair (x0, eps) at a level of its own `path`. path(time) is the level at a time, with
    alpha and sigma; path.time_at(log_snr) is the time with a logarithm of the SNR α²/σ², a tensor (). Returns (B, ...).
    """
    ### BEGIN SOLUTION
    log_snr = 2 * torch.log(torch.tensor((1 - t) / t, dtype=torch.float64))
    own = path(path.time_at(log_snr))
    x0, eps = denoiser((own.sigma / t).to(x.dtype) * x, own)
    return eps - x0
    ### END SOLUTION


# %%
def mnist_flow(x, t):
    """The digits of lesson 8 as a flow, by your function."""
    return as_flow(lambda x, level: clear(x, level, digits), cosine, x, t)


# Euler on the straight path, at the times whose SNRs are those of DDIM's levels
levels = cosine.levels(20)
same_snr = [float(straight.time_at(level.log_snr)) for level in levels]
with torch.no_grad():
    by_euler = walk_down(mnist_flow, start / levels[0].sigma * same_snr[0], same_snr)
    by_even = walk_down(mnist_flow, start, [0.9999, *even(20)[1:]])  # your function needs t below 1
by_ddim = sample(clear, start, levels, digits)
print(f"Euler at DDIM's SNRs against DDIM: largest difference {(by_euler - by_ddim).abs().max():.0e}")
print(f"Euler at even times against DDIM:  rms difference {(by_even - by_ddim).square().mean().sqrt():.2f}")

# %% jupyter={"source_hidden": true}
import numpy as np

fig, ax = plt.subplots(figsize=(7.6, 2.3))
for row, (name, shown) in enumerate({"DDIM, cosine": levels, "Euler, straight": straight.levels(20)}.items()):
    inside = [float(level.log_snr) for level in shown if 0 < float(level.sigma) and float(level.alpha) > 0.002]
    ax.plot(inside, np.full(len(inside), row), "|", ms=16)
ax.set(yticks=[0, 1], yticklabels=["DDIM, cosine", "Euler, straight"], xlabel="log-SNR: noise on the left, data on the right", ylim=(-0.6, 1.6))
figure(
    fig,
    alt="The log-SNRs at which 20 steps ask, as marks on two lines. Both are dense around 0. The straight path reaches from −6 to 6, the "
    "cosine path from −5 to 5, a little closer to the middle.",
)

# %% [markdown]
# **What to notice:** Euler's method on the straight path *is* DDIM, to rounding, if it visits the same signal-to-noise
# ratios. The two differ in nothing but the places where they stop (the marks). "Flow matching samples faster than
# diffusion" can therefore only mean: with better places, a better solver, or after another training.

# %% [markdown] tags=["idea"]
# ## Let the solver choose
#
# Where a way is straight, one long step is as good as ten. Where it bends, steps have to be short. A solver can find out by itself.
#
# Take a step in two ways: Euler's, and Heun's (lesson 8), which needs one slope more. Heun's answer is the better one. The
# gap between the two tells how wrong Euler's was. If it is above a tolerance, refuse the step and try a
# shorter one. If not, keep Heun's answer. Either way the gap says how long the next try may be: it grows with the
# square of the step.
#
# The price is that the number of evaluations is known only afterwards, and refused tries cost, too. Solvers of libraries work
# alike with more slopes: `RK45`, with six a step, is what papers on flows usually report.

# %% [markdown] tags=["exercise-card"]
# $$e = \mathrm{rms}(x^{\text{Heun}} - x^{\text{Euler}}), \qquad h \leftarrow h\cdot \mathrm{clip}\!\left(0.9\sqrt{\tau/e},\; 0.2,\; 5\right)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $h$ | length of the step that is tried; at first a tenth of the way | number |
# | $\tau$ | tolerance | number |
# | $e$ | root mean square over all entries of the batch | number |
#
# {{exercise 18.4}}


# %% tags=["exercise"]
@exercise("18.4")
def adaptive_heun(velocity, x, start, end, tolerance):
    """Walk x (B, ...) from t = start down to end; returns (x, evaluations), the latter counts all calls of velocity.

    The first try has the length h = (start − end)/10; no try is longer than what is left, t − end. A try: a =
    velocity(x, t), Euler's answer x − h·a, b = velocity(Euler's answer, t − h), Heun's answer x − h·(a + b)/2, and the
    error e, at least 1e-12. If e ≤ tolerance, x is Heun's answer and t falls by h; if not, both stay, and a is
    not asked for again. After each try h changes by clip(0.9·√(tolerance/e), 0.2, 5). It is over when t − end ≤ 1e-9.
    """
    ### BEGIN SOLUTION
    t, h, evaluations, a = start, (start - end) / 10, 0, None
    while t - end > 1e-9:
        h = min(h, t - end)
        if a is None:
            a = velocity(x, t)
            evaluations += 1
        euler = x - h * a
        b = velocity(euler, t - h)
        evaluations += 1
        heun = x - h * (a + b) / 2
        error = max(float((heun - euler).square().mean().sqrt()), 1e-12)
        if error <= tolerance:
            x, t, a = heun, t - h, None
        h = h * min(5.0, max(0.2, 0.9 * (tolerance / error) ** 0.5))
    return x, evaluations
    ### END SOLUTION


# %%
from diffusion_lessons.samplers import heun

LEAST = 0.01  # a network is not trained at t = 0: stop before it, and make the last step with Euler
finest = sample(ring, noise, straight.levels(1000), sampler=heun)  # as good as the truth


def apart(points):
    """Root mean square distance from where the exact ways end."""
    return (points - finest).square().sum(1).mean().sqrt()


def by_heun(times):
    """Heun's method; the step to t = 0 is Euler's."""
    return apart(sample(ring, noise, [straight(t) for t in times], sampler=heun))


# %%
found = {"Euler": [], "Heun": [], "Heun to 0.01": [], "adaptive": []}
for steps in (2, 4, 8, 16, 32):
    found["Euler"].append((steps, apart(walk_down(exact, noise, even(steps)))))
    found["Heun"].append((2 * steps - 1, by_heun(even(steps))))
for steps in (4, 6, 10, 18, 28):
    found["Heun to 0.01"].append((2 * steps + 1, by_heun([*torch.linspace(1, LEAST, steps + 1).tolist(), 0.0])))
asked = {}
for tolerance in (0.3, 0.1, 0.03, 0.01, 0.003):
    seen = asked[tolerance] = []
    points, evaluations = adaptive_heun(lambda x, t: (seen.append(t), exact(x, t))[1], noise, 1.0, LEAST, tolerance)
    found["adaptive"].append((evaluations + 1, apart(walk_down(exact, points, [LEAST, 0.0]))))
for name, pairs in found.items():
    print(f"{name:13}" + ", ".join(f"{cost}: {error:.3f}" for cost, error in pairs))

# %% jupyter={"source_hidden": true}
fig, (ax, beside) = plt.subplots(1, 2, figsize=(8.8, 3.2))
for (name, pairs), mark in zip(found.items(), "osD^", strict=True):
    ax.plot(*zip(*[(cost, float(error)) for cost, error in pairs], strict=True), mark + "-", ms=5, label=name)
ax.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="distance from the exact ends")
ax.set_xticks([2, 4, 8, 16, 32, 64], ["2", "4", "8", "16", "32", "64"])
ax.minorticks_off()
ax.legend(fontsize=9)
shown = list(asked)[1:4]
for row, tolerance in enumerate(shown):
    beside.plot(asked[tolerance], [row] * len(asked[tolerance]), "|", ms=14, color="#0072B2")
beside.set(xlabel="t", ylabel="tolerance", title="where the adaptive solver asks", ylim=(-0.6, 2.6))
beside.set_yticks(range(3), [str(tolerance) for tolerance in shown])
figure(
    fig,
    alt="Left: distance from the exact ends over evaluations, falling for all. Heun lies above Euler. Heun that stops at 0.01 and the adaptive solver "
    "lie on one curve, which starts above Euler and is below it from about 17 evaluations on. Right: the times at which the adaptive solver asks, "
    "for three tolerances: spread over the whole way, nearly evenly.",
)

# %% [markdown]
# **What to notice:** with few evaluations nothing beats Euler's method here. A second order pays only once the steps are short: from about 17 evaluations
# on. Heun's method on even times does not get there, because its last step, down to t = 0, is one of Euler's, and as long as all others. Stop
# at t = 0.01 instead, and the same method is ahead.
#
# The adaptive solver is no better than that. Its steps come out nearly even (on the right), since these ways bend everywhere a
# little. What it gives is another thing: you say how large an error may be, and need not know the number of steps.

# %% [markdown] tags=["idea"]
# ## Which times to train at
#
# At t = 0, x is the data, and nothing is known of the noise: the best guess at it is its mean, 0. At t = 1, x is the noise, and the best guess
# at the data is their mean. Both are learnt soon. In the middle it is decided which picture it will be. Stable Diffusion 3 therefore
# draws its training times not evenly but from a **logit-normal** distribution: log(t/(1 − t)) is normal. Times in the middle come more
# often, the ends seldom.
#
# Is that a fact about flows? No: it is a weight over noise levels, as in lesson 17, in another form. A diffusion model can draw its
# times in the same way. The experiment below trains both models with both kinds of times.

# %% [markdown]
# $$\log\frac{t}{1-t} \sim \mathcal N(m, s^2), \qquad t = \mathrm{sigmoid}\big(m + s\,\Phi^{-1}(u)\big), \quad u \sim U(0, 1)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $m, s$ | mean and spread; SD3 takes 0 and 1 | numbers |
# | $\Phi^{-1}$ | inverse of the normal distribution function | |

# %%
from diffusion_lessons.targets import FLOW
from diffusion_lessons.times import logit_normal

grid = torch.linspace(0.02, 0.98, 25)
least = [ring.optimal_loss(FLOW, straight(float(t)), n=4000, generator=generator)[0] for t in grid]
drawn = straight.sample_times(100_000, generator, logit_normal())
inside = ((drawn > 0.25) & (drawn < 0.75)).double().mean()
print(f"times between 0.25 and 0.75: {inside:.0%} of logit-normal ones, 50% of uniform ones")

# %% jupyter={"source_hidden": true}
fig, (ax, beside) = plt.subplots(1, 2, figsize=(8.6, 2.8))
ax.hist(drawn.numpy(), bins=60, range=(0, 1), density=True, color="#0072B2")
ax.axhline(1, color="#D55E00", lw=1.5, ls="--", label="uniform")
ax.set(xlabel="t", ylabel="density", title="logit-normal times")
ax.legend(fontsize=9)
beside.plot(grid, least, color="#555555", marker="")
beside.set(xlabel="t", ylabel="loss a dimension", title="the loss that no network can beat, ring", ylim=0)
figure(
    fig,
    alt="Left: the density of logit-normal times, a hill with its top at t = 0.5 and 0 at both ends, and a dashed line at 1 for uniform. "
    "Right: the smallest possible loss of a flow on the ring over t: 1 at both ends, 0.4 at t = 0.15, and a hill of 1.9 at t = 0.55.",
)

# %% [markdown]
# **What to notice:** the best possible loss is far from 0. At both ends it is the variance of what x does not tell, noise or data, 1 here. It is largest in
# the middle, where x tells neither of them well. It is no sign of a bad network that the loss of a flow stays high.
#
# Now train a flow on digits, with your `straight_path`, in a few seconds. The U-Net is that of lesson 6, and its labels are told.

# %%
from diffusion_lessons.data import load_dataset
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.recipe import Recipe

SMALL = dict(base_channels=16, head_dim=16, channel_mults=(1, 2), attention_levels=(1,), patch=2, channels_last=False)
handwritten = load_dataset("digits")
steps = Watched(budget.steps(300))
recipe = Recipe(steps=len(steps), lr=4e-3, class_dropout=0.0, **SMALL)
network = recipe.build_network(handwritten).to(device)
averaged, optimizer = EMA(network, 0.99), torch.optim.AdamW(network.parameters())
for step in steps:
    x0, labels = handwritten.batch(torch.randint(len(handwritten), (48,), generator=generator))
    t = straight.sample_times(48, generator, logit_normal())
    x, v = straight_path(x0, torch.randn(x0.shape, generator=generator), t)
    told = (1000 * t).float().to(device)  # the range that time embeddings are made for
    loss = (network(x.to(device), told, labels.to(device)) - v.to(device)).square().mean()
    optimizer.param_groups[0]["lr"] = recipe.learning_rate(step, step / len(steps))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    averaged.update(network)
    steps.tell(loss)
averaged.copy_to(network)

# %%
from diffusion_lessons.denoiser import NetworkDenoiser

network.eval()
ten = torch.arange(10, device=device)
begin = torch.randn(10, 1, 16, 16, generator=generator).to(device)


@torch.no_grad()
def digit_flow(x, t):
    """Your network as a velocity."""
    return network(x, torch.full((len(x),), 1000.0 * t, device=device), ten)


made = {f"{steps} step" + "s" * (steps > 1): walk_down(digit_flow, begin, even(steps)) for steps in (1, 3, 9)}
as_diffusion = OnPath(NetworkDenoiser(network, straight, FLOW), straight)  # and back: your flow as a diffusion model
made["9, DDIM"] = sample(as_diffusion, begin, cosine.levels(9), ten)
strip(
    {name: pictures.clamp(-1, 1).cpu() for name, pictures in made.items()},
    alt="The digits 0 to 9 by your flow. One step: grey, blurred shapes with specks, near the mean of each class. Three steps and nine: digits, most of "
    "which can be read. The last row, nine steps of DDIM on the cosine path, looks like the row above.",
    columns=10,
)

# %% [markdown]
# One step gives nearly the mean of a class: the first row is the middle of the ring again, once for each label. The last row goes the way back
# of exercise 18.3: `OnPath` makes of your flow a diffusion model, and DDIM walks it on the cosine path.

# %% [markdown] tags=["idea"]
# ## Make the ways straight
#
# Lines cross because noise and data were paired by chance. **Reflow** pairs them anew: take a noise, let the flow walk it to its end,
# and call these two a pair (papers: a *coupling*). Two ways of a flow never meet at one time, and the lines between their ends seldom do.
# So there is little left to average, and a second flow that learns these lines has nearly straight ways.
#
# To measure how straight a flow is, compare the velocity along a way with the line from its start to its end, the *chord*.
#
# A cheaper idea pairs within each batch: of all ways to pair 256 noises with 256 data take the one with the least sum of squared lengths (**minibatch
# optimal transport**). It needs no first flow, but lines of different batches still meet.

# %% [markdown] tags=["exercise-card"]
# $$S = \int_0^1 \mathbb E\,\big|\,(x_1 - x_0) - v(x_t, t)\,\big|^2\,dt$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_1, x_0$ | start and end of a way of the flow | (B, …) each |
# | $v(x_t, t)$ | velocity on the way | (B, …) |
# | $S$ | 0 for straight ways at even speed | (B,) before the mean |
#
# {{exercise 18.5}}


# %% tags=["exercise"]
@exercise("18.5")
def straightness(velocity, x, times):
    """∫|(x_start − x_end) − v|² dt of each sample's way, by Euler's steps along falling times: (B,).

    velocity(x, t) gives dx/dt; x (B, ...) is the start, at times[0]. |…|² is a sum over the entries of a sample; each step
    counts with its length in time. x_end is where the steps lead.
    """
    ### BEGIN SOLUTION
    begin, slopes = x, []
    for now, next in zip(times[:-1], times[1:]):
        slopes.append((now - next, velocity(x, now)))
        x = x + (next - now) * slopes[-1][1]
    chord = begin - x
    return sum(length * (chord - slope).square().flatten(1).sum(1) for length, slope in slopes)
    ### END SOLUTION


# %%
print(f"the exact flow of the ring: S = {straightness(exact, noise, even(50)).mean():.2f}")
print(f"with a single step:         S = {straightness(exact, noise, even(1)).mean():.2f} (one step is always straight)")

# %% [markdown] tags=["exercise-card"]
# {{exercise 18.6}}


# %% tags=["exercise"]
@exercise("18.6")
def reflow_batch(velocity, noise, times, t):
    """The pair (x, v) that a second flow learns from: points on straight lines between the ends of the first flow's ways.

    velocity: the first flow, velocity(x, t) with a number t; noise: (B, ...), where its ways start; times: a falling list from 1
    to 0, along which they are walked; t: (B,), where on its line each point lies. No gradient may flow into the first flow.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        x0 = walk_down(velocity, noise, times)
    return straight_path(x0, noise, t)
    ### END SOLUTION


# %%
from torch import nn


class Ways(nn.Module):
    """A velocity in the plane. It is told sines of x as well: without them small clusters stay blurred."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(20, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2)
        )

    def forward(self, x, t):  # (B, 2), a number or (B,)
        t = torch.as_tensor(t, dtype=x.dtype).expand(len(x))[:, None] * math.pi / 2
        waves = [wave(2**k * x) for k in range(4) for wave in (torch.sin, torch.cos)]
        return self.layers(torch.cat([x, t.sin(), t.cos(), *waves], 1))


# %%
def learn(x, v, t):
    """A flow that learns velocities v at points x and times t, all (N, ...), 256 at a time."""
    torch.manual_seed(0)
    model, steps = Ways(), Watched(budget.steps(1200))
    optimizer = torch.optim.Adam(model.parameters())
    for step in steps:
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / len(steps))
        rows = torch.randint(len(x), (256,), generator=generator)
        loss = (model(x[rows], t[rows]) - v[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps.tell(loss)
    return model.requires_grad_(False)


# %%
from diffusion_lessons.training.rectified_flow import minibatch_ot

size = 256 * budget.samples(160, at_least=4)
starts, data = torch.randn(size, 2, generator=generator), ring.sample(size, generator)[0]
t = torch.rand(size, generator=generator)
nearest = torch.cat([minibatch_ot(*both) for both in zip(data.split(256), starts.split(256), strict=True)])
flows = {"exact": exact}
flows["by chance"] = learn(*straight_path(data, starts, t), t)
flows["nearest in a batch"] = learn(*straight_path(data, nearest, t), t)
flows["reflow"] = learn(*reflow_batch(exact, starts, even(50), t), t)
ends = walk_down(exact, starts, even(50))
flows["reflow, shuffled"] = learn(*straight_path(ends, starts.flip(0), t), t)  # the same data, beside other noise


# %%
def arrived(points):
    """Share of the points that lie within 0.3 of the middle of a cluster."""
    return (torch.cdist(points, ring.means.to(points)).min(1).values < 0.3).double().mean()


print(f"{'':20}      distance to data after  in a cluster after")
print(f"{'pairs':20}    S     1     4    50 steps       1    50 steps")
for name, flow in flows.items():
    after = {steps: walk_down(flow, noise, even(steps)) for steps in (1, 4, 50)}
    row = "  ".join(f"{distance(each):.2f}" for each in after.values())
    print(f"{name:20} {straightness(flow, noise, even(50)).mean():.3f}  {row}         {arrived(after[1]):4.0%}  {arrived(after[50]):4.0%}")


def shorter(x0, noise):
    """Squared length of the lines of nearest pairs, as a share of that of pairs by chance."""
    return (x0 - minibatch_ot(x0, noise)).square().mean() / (x0 - noise).square().mean()


pictures, _ = handwritten.batch(torch.randint(len(handwritten), (256,), generator=generator))
print(f"nearest pairs of 256, squared length: {shorter(data[:256], starts[:256]):.0%} of pairs by chance in the plane,")
print(f"{shorter(pictures, torch.randn(pictures.shape, generator=generator)):.0%} with digits of 256 pixels")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(2, 3, figsize=(8.8, 6.0), sharex=True, sharey=True)
for (top, below), name in zip(axes.T, list(flows)[1:4], strict=True):
    way = [many_noises]
    for now, next in zip(even(50)[:-1], even(50)[1:]):
        way.append(walk_down(flows[name], way[-1], [now, next]))
    top.plot(*torch.stack(way).permute(2, 0, 1).numpy(), lw=0.7, color="#555555", marker="")
    top.plot(*way[-1].T.numpy(), "s", ms=3, color="#D55E00")
    below.plot(*walk_down(flows[name], noise[:800], even(1)).T.numpy(), ".", ms=2, color="#D55E00")
    top.set(title=name, xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), aspect="equal")
    below.set_aspect("equal")
axes[0, 0].set(ylabel="ways in 50 steps")
axes[1, 0].set(ylabel="800 points after one step")
figure(
    fig,
    alt="Ways of three flows above, and where one step leads below. Pairs by chance: bent ways, and one step leads to a spot in the middle. Nearest in a "
    "batch and reflow: straight ways, and after one step eight clusters that are joined by thin lines of points, with a few points inside the ring.",
)

# %% [markdown]
# **What to notice:** one step of the first flow leads to the middle. One step of the second leads to the ring: three of four points reach a cluster, and
# most others lie on lines between two clusters: there the right answer changes abruptly with the noise, and that of a network does not. Its ways are straight because its *pairs* are:
# path, loss, network and data are the same in the last row, where the pairs are shuffled, and its ways are as bent as those of pairs by chance.
#
# Nearest pairs of a batch come close, without any first flow: in the plane 256 points are many, and the lines become short. Between pictures they hardly
# do, so do not expect as much there. And such pairs have a trap: with labels, pairing across classes tells the network from the noise alone which class
# comes. Then samples of a class, which start from all noises, are wrong. Pair within each class (`groups=labels`).
#
# Reflow copies what its first flow does, errors included. It makes sampling cheap. It does not make a model better.

# %% [markdown] tags=["experiment"]
# ## Experiment: quality over evaluations
#
# Now the claim, on digits, recorded: `diffusion-lessons experiment flow-matching`. The same U-Net is trained for 1,000 steps of 32 digits, as diffusion
# (cosine path, lesson 17's target v) and as a flow, each with uniform and with logit-normal times. Each gets **all** solvers: Euler (that is DDIM), Heun,
# DPM-Solver++(2M) of lesson 8, and Euler at the places where the *other* path would stop. Quality is the Fréchet distance of 1,000 digits.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

record = recorded("flow-matching")
rows = {}
for row in record["rows"]:
    rows.setdefault(row["settings"]["model"], []).append(row)
real_digits = rows.pop("real")[0]
print(f"Fréchet distance of {record['options']['n']} digits, recorded on {record['hardware']['processor']}; mean of {len(rows['flow'])} seeds, and their range at 9")
print(f"real digits: {real_digits['frechet']:.2f} ± {real_digits['uncertainty']:.2f} (draw)")


def over_seeds(model, solver):
    """Evaluations, and Fréchet distances of each seed: (n,), (seeds, n)."""
    found = [row["solvers"][solver] for row in rows[model]]
    return np.mean([each["evaluations"] for each in found], 0), np.array([each["frechet"] for each in found])


def table_row(name, model, solver):
    """One line: means over the seeds by evaluations, and the range of the seeds at 9."""
    cost, quality = over_seeds(model, solver)
    at = dict(zip(cost.tolist(), quality.T, strict=True))
    cells = "".join(f"{at[each].mean():6.2f}" if each in at else " " * 6 for each in (1, 2, 3, 5, 9, 19, 49))
    print(f"  {name:22}{cells}" + (f"   {at[9].min():.2f} to {at[9].max():.2f}" if 9 in at else ""))


models = ("diffusion", "diffusion, logit-normal", "flow", "flow, logit-normal")
print(f"{'evaluations':24}" + "".join(f"{each:6}" for each in (1, 2, 3, 5, 9, 19, 49)))
for model in models:
    print(model)
    for solver in ("euler", "euler, the other path", "heun", "dpmpp-2m"):
        table_row(solver, model, solver)
print("adaptive, tolerances 0.1 and 0.01; evaluations: mean (range)")
for model in models:
    for solver in ("rk23", "rk45"):
        cost, quality = over_seeds(model, solver)
        cells = [f"{c:.0f}: {q.mean():.2f} ({q.min():.2f} to {q.max():.2f})" for c, q in zip(cost, quality.T, strict=True)]
        print(f"  {model:24}{solver}  " + "  ".join(cells))

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(8.8, 3.6), sharey=True)
for ax, solver in zip(axes, ("euler", "heun"), strict=True):
    for model, mark in zip(models, ("o-", "o--", "s-", "s--"), strict=True):
        cost, quality = over_seeds(model, solver)
        mean = quality.mean(0)
        colour = "#000000" if model.startswith("diffusion") else "#0072B2"
        ax.errorbar(cost, mean, [mean - quality.min(0), quality.max(0) - mean], fmt=mark, color=colour, ms=5, capsize=3, label=model)
    ax.axhline(real_digits["frechet"], color="grey", lw=1)
    ax.text(1, real_digits["frechet"] * 0.97, "real digits", fontsize=8, va="top")
    ax.set(xscale="log", yscale="log", title={"euler": "Euler (DDIM)", "heun": "Heun"}[solver])
    ax.set(xlabel="evaluations", xlim=(0.9, 60), ylim=(0.12, 7))
    ax.set_xticks([1, 2, 3, 5, 9, 19, 49], ["1", "2", "3", "5", "9", "19", "49"])
    ax.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    ax.minorticks_off()
axes[0].set(ylabel="Fréchet distance")
axes[0].legend(fontsize=8)
figure(
    fig,
    alt="Fréchet distance over evaluations with Euler and with Heun, for diffusion and a flow, each with uniform and logit-normal times. All curves fall up to "
    "5 or 9 evaluations and stay level then, above the line of real digits. From 9 on both dashed curves, logit-normal times, lie close together and below "
    "both solid ones.",
)

# %% jupyter={"source_hidden": true} tags=["nbval-check-output"]
print(f"going on from the flow for as many steps again; mean of {len(rows['reflow'])} seeds, and their range at 9")
print(f"{'evaluations':24}" + "".join(f"{each:6}" for each in (1, 2, 3, 5, 9, 19)))
after = {"control": ("trained on", "euler"), "reflow": ("reflow", "euler"), "consistency": ("consistency", "fresh noise")}
for name, of in after.items():
    table_row(name, *of)
print("bend (S as a share of the chord's squared length), and the seeds' range at one evaluation")
for name, of in after.items():
    bend, one = np.mean([row["straightness"] for row in rows[of[0]]]), over_seeds(*of)[1][:, 0]
    print(f"  {name:22}{bend:6.3f}   {one.min():.2f} to {one.max():.2f}")

shown = {}
for name, (model, _) in after.items():
    drawing = np.frombuffer(bytes.fromhex(rows[model][0]["pictures_1"]), np.uint8).reshape(10, 1, 16, 16)
    shown[name] = torch.from_numpy(drawing.copy()) / 127.5 - 1
strip(
    shown,
    alt="Digits of one evaluation in three rows, 0 to 9. Control: grey, blurred shapes. Reflow and consistency: sharper digits, more than half of which can "
    "be read.",
    columns=10,
)

# %% [markdown]
# **The result**, read from the figures above:
#
# - **The path in sampling** hardly matters. Each model draws as well at the places of the other path as at its own: the rows "euler" and "euler, the other
#   path" are nearly equal.
# - **The solver** matters below ten evaluations, and for all models alike: Heun and DPM-Solver++(2M) reach with 5 evaluations about what Euler
#   reaches with 9. The solvers of lesson 8 serve flows as well as diffusion. From 9 evaluations on little changes any more.
# - **The times in training** matter most: logit-normal ones take Euler's distance with 9 evaluations from 0.47 to 0.32 for diffusion, and from 0.39 to
#   0.28 for the flow.
# - **The path in training**: with uniform times the flow is ahead everywhere. With logit-normal times it is ahead with 1 to 5 evaluations; from 9 on
#   the ranges of the seeds overlap. So most of what looks like a gain of the flow can be had by diffusion, from its times. What a training many times longer
#   does was not tried here; such leads often shrink with it.
# - **Adaptive solvers** bring nothing here: they start with ten evaluations and more, and a fixed list of 5 to 9 is as good. A loose tolerance can fail badly: in the worst
#   run the last step of `rk45` led from t = 0.29 to 0.006, the estimate of its error let it pass, and it spoilt the digits.
# - **Reflow** does what it promises. One evaluation has a distance of 0.57, nineteen of the same network 0.46. The control, trained on for as many steps with
#   fresh noise, draws grey means with one (4.52). But with nine evaluations the control is better, 0.30, than reflow with any number. And the pairs cost
#   something: 4,000 digits of 25 evaluations each.
# - **Consistency** distillation (next paragraph) is far ahead of the control with one evaluation, too, and behind reflow. Its settings were hardly tuned,
#   and its seeds are far apart.
#
# The seeds are few (their number is printed above), and the ranges are theirs. The network is small, and the digits are 16 pixels wide.
#
# **Published**: Liu et al. (table 1, CIFAR-10): one step of the first flow has an FID of 378, of the second 12.2, of the third 8.15; the first flow with `RK45` and 127
# evaluations has 2.58. Lipman et al. (table 1, CIFAR-10): diffusion 7.48 at 274 evaluations, the straight path 6.35 at 142. Esser et al. (table 1) rank many ways to train, 1 is the best: logit-normal times
# have an average rank of 1.25 with 5 steps and 1.50 with 50; uniform times at 6.50 and 5.75; ε with a linear schedule at 4.25 and 2.75. So a flow with
# *uniform* times is behind diffusion there (here it is ahead), and it is the times that turn the order round.
#
# **Where this goes**: a velocity answers "which way now?". Two newer kinds of models answer a longer question. A *consistency model* (lesson 7) says, from any place of a
# way, where the way ends. Two neighbours on one way must say the same, and that is its loss. Where a first flow says which places are neighbours, it is
# *distilled*, as in the row above. *MeanFlow* says the mean velocity from t down to any r; at r = t it is
# the velocity of this lesson, at r = 0 it is a consistency model, x − t·u. It needs no first flow: a derivative of the network along the way ties the
# two together. Geng et al. report an FID of 3.43 on ImageNet (256 pixels) with one evaluation.

# %% [markdown] tags=["play"]
# ## Play
#
# Choose pairs and a number of steps. Which flow needs how many?

# %% jupyter={"source_hidden": true}
shown_steps = (1, 2, 3, 4, 6, 8, 12, 16, 25, 50)
scrub(
    {
        name: Points(torch.stack([walk_down(flow, noise[:300], even(steps)) for steps in shown_steps]), span=2.6, behind=real[:600])
        for name, flow in list(flows.items())[1:4]
    },
    [f"{steps} step" + "s" * (steps > 1) for steps in shown_steps],
    alt="300 points of three flows with 1 to 50 steps over the grey data. By chance: a spot in the middle that opens to the ring with more steps. Nearest in a batch and "
    "reflow: on the ring in all frames, with a few points beside it in the first.",
    title="Drag the number of steps",
    columns=5,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your functions against the package's, and the package's adaptive solver against SciPy's `RK45`, step for step.

# %%
from scipy.integrate import solve_ivp

from diffusion_lessons.metrics.straightness import straightness as of_package
from diffusion_lessons.runge_kutta import adaptive

x = start[:2]
ours = as_flow(lambda x, level: clear(x, level, digits[:2]), cosine, x, 0.4)
estimate = OnPath(clear, cosine)(x, straight(0.4), digits[:2])
print(f"a model as a flow: {(ours - (estimate.eps - estimate.x0)).abs().max():.0e}")
gap = straightness(exact, noise[:50], even(20)) - of_package(ring, noise[:50], straight.levels(20))
print(f"straightness:      {gap.abs().max():.0e}")

clusters = GaussianMixture(ring.means.double(), 0.1)
points = noise[:50].double()


def slope(t, flat):
    """The exact velocity for SciPy, which knows only flat arrays."""
    estimate = clusters(torch.from_numpy(flat).view_as(points), straight(t))
    return (estimate.eps - estimate.x0).flatten().numpy()


theirs = solve_ivp(slope, (1.0, 0.1), points.flatten().numpy(), rtol=1e-4, atol=1e-4)
walk = list(adaptive(clusters, points, [straight(1.0), straight(0.1)], rtol=1e-4, atol=1e-4))
print(f"RK45, {len(walk) - 1} steps: {np.abs(walk[-1][1].flatten().numpy() - theirs.y[:, -1]).max():.0e} apart, as many steps: {len(walk) == len(theirs.t)}")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks | seen in |
# |---|---|---|
# | time runs the other way in training than in sampling | noise that flees from the data; a unit test with the same wrong sign is green | splitmeanflow#2, SimpleTuner#2156; both conventions are in use |
# | t in [0, 1] given to an embedding made for 0 to 1000 | all times look alike to the network: mean pictures | SiT#24, flow_matching#17 |
# | "Euler on the grid [0, 1]" | one evaluation where fifty were meant | flow_matching#67: count them |
# | an adaptive solver that steps beyond the end | the network is asked at t < 0 | dopri5 of torchdiffeq: stop at a least time |
# | optimal transport moves the data, labels stay | samples of wrong classes | torchcfm#172: move the noise |
# | optimal transport across classes | each class is learnt from a part of the noise only | torchcfm#117: pair within classes |
# | fixed pairs of noise and data for a *first* flow | it learns by heart | RectifiedFlow#36: fresh noise in each epoch; fixed pairs are for reflow |
# | logit-normal *draws* used as weights of the loss | weights that have nothing to do with t | diffusers#8534 |
# | times shifted in sampling and not in training, or twice | soft or burnt pictures | OneTrainer#615, diffusers |
# | "flows are straight, so one step is enough" | grey means | the first flow: measure S |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is flow matching, and how does it compare with diffusion?",
    "A network learns the velocity of points that walk in straight lines from data to noise: x = (1 − t)x₀ "
    "+ tε, target ε − x₀. Sampling integrates that velocity.\n\n"
    "For Gaussian noise it is the same family as diffusion: multiply x by a number, change the clock, and "
    "one model becomes the other. They differ in the times trained at and in the places where the solver "
    "stops.\n\n"
    "New is the choice of *pairs*. Reflow pairs each noise with what the flow makes of it; then ways are "
    "nearly straight, and few evaluations do.",
    [
        (
            "The path is straight. Why are the ways bent?",
            "Lines of pairs cross. A network can only give one velocity at a place, the mean. At t = 1 that mean leads to the mean of all data.",
        ),
        (
            "How do you use DPM-Solver with a flow model?",
            "Its levels have α = 1 − t and σ = t. The solver needs nothing but x₀, ε and log(α/σ).",
        ),
        (
            "What does reflow cost, and what can it not do?",
            "Many samples of the first flow and a second training. It cannot make better samples than the first flow, only cheaper ones.",
        ),
        (
            "Why logit-normal times?",
            "At both ends the best answer is little more than a mean, which is learnt soon. In the middle it is decided which picture it will be. The times act as a weight of the loss, and a diffusion model gains from them, too.",
        ),
        (
            "Why do large models shift their times towards noise?",
            "With more pixels the same noise hides less, since neighbouring pixels are alike. t' = st/(1 + (s − 1)t) divides the SNR by s², the shift of lesson 5. Sampling has to shift as training did, once.",
        ),
        (
            "Where does this go?",
            "To models of one evaluation: consistency models answer with the end of the way, MeanFlow with the mean velocity of any stretch of it. Both can be trained without a first flow.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A colleague shows that Euler on the straight path beats DDIM at 10 steps, with the same network. What was compared?",
        [
            Choice(
                "two lists of noise levels",
                True,
                "At equal SNRs both give the same picture. What differs is where they stop.",
            ),
            Choice("flow matching and diffusion", False, "The network is the same, so nothing was trained as a flow."),
            Choice("an ODE and an SDE", False, "DDIM with η = 0 is an ODE solver, too."),
        ],
    ),
    Question(
        "S of a flow is 0.003 and its samples are bad. What helps?",
        [
            Choice("more steps", False, "The ways are straight already: one step and fifty end at nearly the same place."),
            Choice("reflow once more", False, "It copies where the ways end. They end at the wrong places."),
            Choice(
                "better pairs",
                True,
                "Straight ways lead fast to where the pairs said. If pairs were made with few steps, they are wrong.",
            ),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "An adaptive solver with tolerance 0.01 took 40 evaluations on one batch and 52 on another. Why?",
        [
            Choice("it is random", False, "It draws nothing. The same batch takes the same steps."),
            Choice("the second batch is larger", False, "The error is a mean over the batch: its size does not enter."),
            Choice(
                "its steps follow the batch's error",
                True,
                "All samples of a batch share their steps, and other samples bend at other places.",
            ),
        ],
    ),
    Question(
        "You train a flow with labels on pairs of minibatch optimal transport, made across classes. Sampling label 3 gives too little variety. Why?",
        [
            Choice("optimal transport needs larger batches", False, "Larger batches make it worse: pairs depend on the class even more."),
            Choice(
                "in training the 3s started from a part of the noise only",
                True,
                "Noise was sorted by class. Samples start from all of it, where the network has not seen a 3.",
            ),
            Choice("labels were dropped", False, "Nothing was dropped; the pairs changed the noise that a class starts from."),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Lipman et al. 2023, *Flow Matching for Generative Modeling*, arXiv 2210.02747: equation 22, the straight path; table 1.
# - Liu et al. 2023, *Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow*, arXiv 2209.03003: equation 1; section 2,
#   straightness; algorithm 1; table 1.
# - Esser et al. 2024, *Scaling Rectified Flow Transformers for High-Resolution Image Synthesis*, arXiv 2403.03206: section 3.1, logit-normal times; table 1.
# - Tong et al. 2024, *Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport*, arXiv 2302.00482: section 3.
# - Karras et al. 2022, *Elucidating the Design Space of Diffusion-Based Generative Models*, arXiv 2206.00364: section 3, paths and samplers apart.
# - Song et al. 2023, *Consistency Models*, arXiv 2303.01469: algorithm 2. Geng et al. 2025, *Mean Flows for One-step Generative Modeling*, arXiv 2505.13447:
#   abstract.
# - Hairer, Nørsett and Wanner 1993, *Solving Ordinary Differential Equations I*, section II.4: step sizes.
#
# What does all of this cost, in seconds, memory and money? {{lesson 19}}
