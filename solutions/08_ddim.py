# %% [markdown] tags=["header"]
# title: DDIM
# question: How does DDIM draw samples in a few dozen steps from a model that was trained for a thousand, and what else does that make possible?
# difficulty: 2
# prerequisites: 03, 05, 07
# builds: ddim_step, invert, heun, slerp, dpmpp_2m, samplers

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - write one update that covers DDIM, DDPM and all that lies between (exercise 08.1)
# - find a guess that was clipped while its noise was not (exercise 08.2)
# - turn a picture into the noise it comes from, and edit it on the way back (exercises 08.3 and 08.6)
# - walk from one noise to another without leaving the noise (exercise 08.4)
# - build a solver of second order that needs no more evaluations (exercise 08.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# One network, trained once, and eight starts of noise. On the left DDIM walks from them to digits, on the right the
# ancestral sampler of lesson 3 (DDPM) does. In every frame both start from the **same** noise. Only the number of steps
# changes. Drag from 3 steps to 50, and watch one digit. (Both are asked with guidance 2, a closed box, so that every digit
# can be read: {{built-in 10}}.)

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import Histogram, budget, exercise, figure, landscape, scrub, strip
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.samplers import ddpm_step, sample, trajectory

model = zoo.load("mnist-unet")  # the bundled model of MNIST digits
path, plain = model.path, model.denoiser()
clipped = Clip(plain)  # keeps x̂₀ in [−1, 1], and ε̂ in step with it
clear = Clip(ClassifierFreeGuidance(plain, 2.0))  # the same, nearer to its label
labels = torch.tensor([0, 2, 3, 4, 6, 7, 8, 9])[: budget.samples(8, at_least=4)]
start = torch.randn(len(labels), 1, 32, 32, generator=generator)

numbers, made = (3, 5, 10, 20, 50), {"DDIM": [], "DDPM": []}
for n in numbers:
    made["DDIM"].append(sample(clear, start, path.levels(n), labels))
    made["DDPM"].append(sample(clear, start, path.levels(n), labels, step=ddpm_step, generator=generator))


# %% jupyter={"source_hidden": true}
def sheet(pictures):
    """Several pictures as one, in two rows."""
    return torch.cat([torch.cat(list(row), -1) for row in pictures.chunk(2)], -2)


for name, drawn in made.items():
    apart = [f"{(x - drawn[-1]).square().mean().sqrt():.2f}" for x in drawn[:-1]]
    print(f"{name}: rms difference from the digits of 50 steps, with 3, 5, 10 and 20:", ", ".join(apart))
scrub(
    {name: torch.stack([sheet(x) for x in drawn]) for name, drawn in made.items()},
    [f"{n} steps" for n in numbers],
    alt="Eight digits by DDIM and eight by DDPM, with 3, 5, 10, 20 and 50 steps from the same noise. DDIM: the same eight "
    "digits in all frames, a little softer with 3 steps. DDPM: the labels stay, and each frame shows them in "
    "other handwriting.",
    title="Drag the number of steps",
    columns=5,
)

# %% [markdown]
# DDPM draws fresh noise in every step. So the start is soon forgotten, and each frame has other digits. (With 3 steps the two
# sides look alike. The start is no reason: DDIM from *other* starts is as near, with a correlation of 0.8, and of 0.6 with 20
# steps, measured elsewhere. So few steps draw average digits.)
#
# DDIM draws eight digits that stay. A few steps already know them, and more steps only polish. Nothing is drawn on the
# way, so the start decides everything. This lesson builds that walk. Then it uses what comes with it: a way
# *back* from a picture to its noise, an editor, and better solvers.

# %% [markdown] tags=["guess"]
# ## Guess
#
# Somebody gives you a network that was trained on 1,000 noise levels. The ancestral sampler evaluates it 1,000 times for
# one picture. You want good pictures with 20 evaluations, and you may train nothing. **How would you do it?** Take two
# minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *The same steps, but longer.* Visit every 50th level and draw more noise in each step. This is DDPM with 20 steps. It
#   works to some degree: how well, you measure at the end.
# - *Longer steps without the fresh noise.* In lesson 3 this sent all points to one spot. The fresh noise is needed by
#   that step. Why?
# - *Less fresh noise.* Then $x$ holds less noise than its level says, and the network answers for the wrong level.
# - *Another step.* The network only tells you two things: a picture $\hat x_0$ and a noise $\hat\varepsilon$. Is there
#   another way to build the next $x$ from the two? This is the question that leads to DDIM.
#
# </details>

# %% [markdown]
# ## Predict
#
# In lesson 3 you left the fresh noise out of the ancestral step, with the exact denoiser of three clusters. All
# 4,000 points ended in one spot.

# %% tags=["predict"] jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "DDIM draws no noise either. Where do its 4,000 points end, with the same exact denoiser?",
    [
        Choice(
            "in one spot again: noise is where the variety comes from",
            False,
            "It was, because the ancestral mean gives up a part of the noise it has. DDIM gives up none.",
        ),
        Choice(
            "in the largest cluster",
            False,
            "Which cluster a point goes to depends on where it starts, and the starts are everywhere.",
        ),
        Choice(
            "smeared out between the clusters",
            False,
            "With a single step they would be in the middle. With many, each finds its cluster.",
        ),
        Choice(
            "in three clusters, like the data",
            True,
            "The variety of the start is carried all the way. You see it below.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Keep the noise that you have
#
# The ancestral step goes to a mean and adds fresh noise. The mean holds less noise than the next level should have: the
# step has given up a part of the old noise. The fresh noise fills this gap.
#
# There is another way to fill the gap: give up nothing. The network tells you the old noise, $\hat\varepsilon$. So go to
# the next level with $\hat x_0$ and $\hat\varepsilon$ as they are, in the new proportions. Nothing has to be drawn.
#
# Is that allowed? The network was trained on single levels: a picture, a time, one noise. No *step* ever entered the
# loss. So every rule that leads from the right mixture at one level to the right mixture at another may use the same
# network. One number, η, says how much of the noise is exchanged on the way.

# %% [markdown] tags=["exercise-card"]
# $$x' = \alpha'\,\hat x_0 + \sqrt{\sigma'^2 - s^2}\;\hat\varepsilon + s\,z, \qquad
# s = \eta\sqrt{\tilde\beta}, \qquad \tilde\beta = \frac{\sigma'^2}{\sigma^2}\left(1 - \frac{\alpha^2}{\alpha'^2}\right)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\alpha, \sigma$ and $\alpha', \sigma'$ | level of $x$ (`now`) and of $x'$ (`next`) | numbers |
# | $\hat x_0, \hat\varepsilon$ | the network's guesses (`estimate.x0`, `estimate.eps`), with $x = \alpha\hat x_0 + \sigma\hat\varepsilon$ | (B, C, H, W) |
# | $z \sim \mathcal N(0, I)$ | fresh noise (`noise`) | (B, C, H, W) |
# | $\tilde\beta$ | variance of the posterior of lesson 3 | number |
# | $\eta$ | 0 is DDIM, 1 is DDPM | number |
#
# <details><summary>Why every η is right, and why the process is called non-Markovian</summary>
#
# Let the guesses be exact, so that $\varepsilon$ is $\mathcal N(0, I)$. Then $x'$ given $x_0$ has the mean $\alpha' x_0$
# and the variance $(\sigma'^2 - s^2) + s^2 = \sigma'^2$, whatever $s \le \sigma'$ is: just the level that the network
# was trained on.
#
# With $\eta = 1$ it is the step of lesson 3. Put $\varepsilon = (x - \alpha x_0)/\sigma$ into the formula, and the factor of
# $x$ becomes $\sqrt{\sigma'^2 - \tilde\beta}\,/\sigma = (\alpha/\alpha')\,\sigma'^2/\sigma^2$, that of $\tilde\mu$.
#
# Which forward process belongs to another η? By Bayes' rule, one whose step from $x'$ to $x$ depends on $x_0$ as well.
# It is no Markov chain any more, but its single levels are the same. Nobody ever runs it.
#
# </details>
#
# {{exercise 08.1}}


# %% tags=["exercise"]
@exercise("08.1")
def ddim_step(x, estimate, now, next, noise=None, eta=0.0):
    """From the level `now` to the level `next`. With eta = 0 it may also go to a noisier one, or start at t = 0.

    x, noise: (B, ...); estimate.x0, estimate.eps: (B, ...); now and next have .alpha and .sigma, 0-d tensors with
    α² + σ² = 1. With eta = 0 noise may be None, and β̃, negative on the way up, is not needed. Returns (B, ...).
    """
    ### BEGIN SOLUTION
    if eta == 0:
        return next.alpha * estimate.x0 + next.sigma * estimate.eps
    variance = (next.sigma / now.sigma) ** 2 * (1 - (now.alpha / next.alpha) ** 2)
    std = eta * variance.sqrt()
    kept = (next.sigma**2 - std**2).clamp(min=0).sqrt()  # below 0 by rounding alone
    return next.alpha * estimate.x0 + kept * estimate.eps + std * noise
    ### END SOLUTION


# %%
# One x₀, 400,000 noises, one step from t = 700 to 500: is the result at its level, whatever η?
from functools import partial

from diffusion_lessons.paths import add_noise
from diffusion_lessons.targets import Estimate

eps, fresh = torch.randn(2, 400_000, 1, generator=generator)
x0, now, then = torch.full_like(eps, 0.6), path(700), path(500)
truth, x = Estimate(x0, eps), add_noise(x0, eps, now)
print(f"wanted at t = 500: mean {then.alpha * 0.6:.3f}, spread {then.sigma:.3f}")
for eta in (0.0, 0.5, 1.0):
    moved = ddim_step(x, truth, now, then, fresh, eta)
    shared = torch.corrcoef(torch.cat([moved, x], 1).T)[0, 1]
    print(f"η = {eta}: mean {moved.mean():.3f}, spread {moved.std():.3f}, correlation with x {shared:.2f}")
gap = (ddim_step(x, truth, now, then, fresh, 1.0) - ddpm_step(x, truth, now, then, fresh)).abs().max()
print(f"η = 1 and the ancestral step differ by {gap:.0e} at most")

# %% [markdown]
# The step puts $x$ where it belongs, for every η. What η changes is how much of $x$ is carried on.
#
# Now the question of the prediction: 4,000 points, 50 steps, and the exact denoiser.

# %%
from diffusion_lessons.mixtures import GaussianMixture


def mean_step(x, estimate, now, next, noise):
    """The ancestral step without its draw, as in lesson 3."""
    return ddpm_step(x, estimate, now, next, torch.zeros_like(noise))


clusters = GaussianMixture([[-1.0, -0.5], [1.0, -0.6], [0.1, 1.0]], [0.2, 0.1, 0.15], [0.5, 0.2, 0.3])
points, walked = torch.randn(4000, 2, generator=generator), {}
steps = {"ancestral, no draw": mean_step, "η = 0": ddim_step, "η = 1": partial(ddim_step, eta=1.0)}
for name, step in steps.items():
    walk = trajectory(clusters, points, path.levels(50), step=step, generator=generator)
    walked[name] = torch.stack([x for _, x, _ in walk])  # (51, 4000, 2)
    found = clusters.posterior(walked[name][-1], path(1)).argmax(1)
    shares = ", ".join(f"{share:.0%}" for share in found.bincount(minlength=3) / 4000)
    wide = walked[name][-1][found == 0].std(0).mean()
    print(f"{name:18} shares {shares}; spread of the first cluster {wide:.2f}")
print("data               shares 50%, 20%, 30%; spread of the first cluster 0.20")

# %% jupyter={"source_hidden": true}
frames = [0, 1, 5, 10, 15, *range(20, 45, 3), 46, 50]  # of the 50 steps
shown = [path.levels(50)[i] for i in frames]
scrub(
    {
        name: landscape(clusters, shown, xs[frames, :120], 2.4, arrows=7, cells=28)
        for name, xs in walked.items()
    },
    shown,
    alt="120 points from noise to data over the exact density, in three panels. The ancestral step without its draw: after "
    "the first step the points are one dot in the middle of a wide density, and it ends in the largest cluster. η = 0: the points move on smooth "
    "ways and fill the density, in the end the three clusters. η = 1: they jump about at first, and fill it, too.",
    title="Scrub from noise to data",
    columns=6,
)

# %% [markdown] tags=["exercise-card"]
# **What to notice:** without a draw the very first step gives up the old noise. The points become one dot (look for it) while
# the density is still wide. With η = 0 the points fill the density at every level, and each goes its own smooth way. With η = 1
# they jump about, and fill it, too.
#
# Now to a bug. A colleague wants each digit to look more like its label, and turns guidance up to 4.
# Then $\hat x_0$ goes far beyond black and white, so they clip it. Out come digits, but the wrong ones.
#
# {{exercise 08.2}}


# %% tags=["exercise"]
@exercise("08.2")
def clipped_step(x, estimate, now, next, noise=None):
    """A step with η = 0 whose guess of the picture is kept in [−1, 1]. Arguments as for ddim_step.

    On entry x = α·x0 + σ·eps holds, at the level `now`, which is above t = 0: σ > 0.
    """
    ### BEGIN SOLUTION
    x0 = estimate.x0.clamp(-1, 1)
    eps = (x - now.alpha * x0) / now.sigma
    return next.alpha * x0 + next.sigma * eps
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "Since I clip, my digits flee from their label." Find out why, and mend it.
    # x0 = estimate.x0.clamp(-1, 1)
    # return next.alpha * x0 + next.sigma * estimate.eps
    ### END STUDENT


# %%
def colleagues_step(x, estimate, now, next, noise):
    """As handed out above."""
    return next.alpha * estimate.x0.clamp(-1, 1) + next.sigma * estimate.eps


guided, reader = ClassifierFreeGuidance(plain, 4.0), zoo.load("mnist-classifier")
rows = {}
for name, denoiser, step in (
    ("yours, guidance 4", guided, clipped_step),
    ("colleague's, 4", guided, colleagues_step),
    ("colleague's, none", plain, colleagues_step),
):
    made = rows[name] = sample(denoiser, start, path.levels(20), labels, step=step)
    right = int((reader(made.clamp(-1, 1)).argmax(1) == labels).sum())
    print(f"{name:18} {right} of {len(labels)} digits are read as their label")

# %% jupyter={"source_hidden": true}
for name, denoiser in {"guidance 4": guided, "no guidance": plain}.items():
    guesses = [estimate.x0 for _, _, estimate in trajectory(denoiser, start, path.levels(20), labels)]
    first = (guesses[0].abs() - 1).clamp(min=0)
    outside = torch.stack(guesses[:-1]).abs() > 1
    print(
        f"{name:18} {outside.float().mean():.0%} of the pixels of x̂₀ outside ±1; by {first.mean():.3f} in the first step"
    )
strip(
    rows,
    alt="Three rows of digits. By your step at guidance 4: the digits 0, 2, 3, 4, 6, 7, 8 and 9, bold and clean. By the "
    "colleague's at guidance 4: rough shapes, most of them other digits. By the colleague's without guidance: the eight "
    "digits asked for.",
)

# %% [markdown]
# Where $\hat x_0$ overshoots towards the label, $\hat\varepsilon$ overshoots the other way, since together they make up
# $x$. The clip takes back the one and leaves the other: what remains points *away* from the label. The
# DDIMScheduler of diffusers clips by default, and leaves $\hat\varepsilon$ stale unless `use_clipped_model_output` is set.
#
# Without guidance nobody notices. Of the pixels of $\hat x_0$ 38 % lie outside ±1 there, too, but only by a little: in the
# first step by 0.007, on average over all pixels, where guidance 4 has 0.156. The clip then changes next to nothing. (Of 100
# digits without guidance 96 were read as their label with the colleague's step, and 96 with yours, measured elsewhere.)


# %% [markdown] tags=["idea"]
# ## No draw, no loss: the way back up
#
# A walk without chance can be walked backwards. Divide the update with η = 0 by α', and it shows what it is: one quantity,
# x/α, moves along a slope, and the slope is $\hat\varepsilon$. With short steps the points follow a smooth curve, the
# solution of an **ordinary differential equation**. It is called the **probability-flow ODE**. DDIM follows it by the plainest rule there is,
# Euler's: take the slope where you stand, and go straight on.
#
# A curve leads both ways. Start at a picture, walk over *rising* levels, and you arrive at its noise: **inversion**. From
# that noise, sampling leads back to the picture. Not quite, though. On the way up each step takes the slope at its lower
# end, on the way down at its upper end. The shorter the steps, the less the two differ.

# %% [markdown] tags=["exercise-card"]
# $$\frac{x'}{\alpha'} = \frac{x}{\alpha} + \left(\frac{\sigma'}{\alpha'} - \frac{\sigma}{\alpha}\right)\hat\varepsilon(x, t)
# \qquad\longrightarrow\qquad \frac{d\,(x/\alpha)}{d\,(\sigma/\alpha)} = \hat\varepsilon$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x/\alpha$ | the picture, scaled so that its clean part keeps its size | (B, C, H, W) |
# | $\sigma/\alpha$ | how much noise lies over it: 0 at the data, large at $T$ | number |
# | $\hat\varepsilon(x, t)$ | the slope, at the point and level where the step starts | (B, C, H, W) |
#
# At $t = 0$ the network cannot be asked: it never trained there. The first step up takes the $\hat\varepsilon$ that is seen in
# the same $x$ at the first time above 0.
#
# {{exercise 08.3}}


# %% tags=["exercise"]
from itertools import pairwise


@exercise("08.3")
def invert(denoiser, x0, levels):
    """The noise (B, ...) at levels[0] that DDIM would turn into the pictures x0 (B, ...).

    denoiser(x, level) gives the pair (x0, eps), with these names, and must not be asked at t = 0; levels: as for
    sampling, from noise to data, the last is t = 0, and levels[-2] the first time above it. From step to step x is
    carried, nothing else.
    """
    ### BEGIN SOLUTION
    x, rising = x0, levels[::-1]
    for now, next in pairwise(rising):
        asked = now if now.sigma > 0 else next
        eps = denoiser(x, asked).eps
        guess = (x - now.sigma * eps) / now.alpha
        x = next.alpha * guess + next.sigma * eps
    return x
    ### END SOLUTION


# %% [markdown]
# Two kinds of pictures, whose noise nobody knows: five real digits in MNIST's format, and five that DDPM drew.

# %% jupyter={"source_hidden": true}
from torch.nn.functional import interpolate, pad

from diffusion_lessons.course import Pictures
from diffusion_lessons.data import load_dataset, to_float


def in_mnist_format(images):
    """(B, 1, 32, 32): high contrast, a black margin of 6."""
    small = interpolate(to_float(images), size=(20, 20), mode="bicubic")
    return pad(torch.tanh(3 * small - 0.3), (6, 6, 6, 6), value=-1.0)


data, few = load_dataset("digits", "test", size=16), min(5, budget.samples(5, at_least=2))
five = torch.tensor([int((data.labels == label).nonzero()[1]) for label in (0, 2, 3, 5, 8)[:few]])
real, same = in_mnist_format(data.images[five]), data.labels[five]
drawn = sample(clipped, start[:few], path.levels(50), same, step=ddpm_step, generator=generator)


# %%
def asking(denoiser, labels):
    """With its labels filled in: a denoiser(x, level) that keeps no gradients."""

    def ask(x, level, condition=None):
        with torch.no_grad():
            return denoiser(x, level, labels)

    return ask


pictures, ask = torch.cat([real, drawn]), asking(plain, same.repeat(2))  # (10, 1, 32, 32)
rows, errors, numbers = {"picture": pictures}, [], (5, 10, 20, 40)
for n in numbers:
    noise = invert(ask, pictures, path.levels(n))
    back = sample(ask, noise, path.levels(n), step=ddim_step)
    errors.append((back - pictures).square().mean((1, 2, 3)).sqrt())  # (10,), one for each picture
    rows[f"back, {n} steps"] = back
rows["noise (−3 to 3)"] = Pictures(noise, span=3)
lost = invert(asking(guided, same), drawn, path.levels(20))
lost = sample(asking(guided, same), lost, path.levels(20), step=ddim_step) - drawn
print(f"drawn by DDPM, 20 steps at guidance 4: {lost.square().mean((1, 2, 3)).sqrt().mean():.2f}")

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

strip(
    rows,
    columns=2 * few,
    alt="Ten digits, their round trips in 5, 10, 20 and 40 steps, and the noise found in 40. With 5 steps strokes are thin "
    "and bent. With 40 the five drawn by DDPM look as before, but for a speck. Of the five real ones four are close, with thinner "
    "strokes, and the 0 has a gap. The noise is grain where the digit was, and nearly even in the margin.",
)

# %% jupyter={"source_hidden": true}
published = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009}  # mean squared error, pictures in [0, 1]
groups = {"real digits": torch.stack(errors)[:, :few], "drawn by DDPM": torch.stack(errors)[:, few:]}
for name, group in groups.items():
    cells = (f"{n}: {e.mean():.3f} ± {e.std() / few**0.5:.3f}" for n, e in zip(numbers, group, strict=True))
    print(f"rms error, {name:14}" + "   ".join(cells))
fig, ax = plt.subplots(figsize=(7.2, 2.9))
for name, group in groups.items():
    ax.errorbar(numbers, group.mean(1), yerr=group.std(1) / few**0.5, capsize=3, label=f"here: {name}")
ax.plot(list(published), [2 * mse**0.5 for mse in published.values()], "k:x", label="published: CIFAR-10")
ax.set(xscale="log", yscale="log", xlabel="steps, each way", ylabel="rms error of a pixel")
ax.set_xticks([5, 10, 20, 40, 100], [5, 10, 20, 40, 100])
ax.set_yticks([0.05, 0.1, 0.2, 0.4], [0.05, 0.1, 0.2, 0.4])
ax.minorticks_off()
ax.legend(fontsize=9)
figure(
    fig,
    alt="Error of the round trip over the number of steps, both axes logarithmic. It falls for all three: slowest for the "
    "real digits, whose curve is the highest; fastest for those drawn by DDPM, the lowest. The published curve lies between.",
)

# %% [markdown]
# **What to notice:** the error falls with the steps. (Published: table 2 of Song et al., as an rms in [−1, 1].) Each ± is the
# standard error over five digits of one draw, and other digits give other numbers. Measured elsewhere: ten digits that DDPM drew
# from another noise have 0.25 with 5 steps and 0.06 with 40, a third ten 0.30 and 0.07. And 20 real digits of MNIST, which this
# lesson does not download, have 0.21 and 0.03. So it is not being real that makes our five difficult. They come from another
# collection, which the model never saw.
#
# But look at the noise. In the black margin there is next to none. On the way down the margin's noise is squeezed to nearly
# nothing, and long steps cannot blow it up again. Only shorter ones can, as two of DDIM's own samples show, whose true start we know:

# %% jupyter={"source_hidden": true}
for n in (20, 100):
    own = sample(asking(plain, same[:2]), start[:2], path.levels(n), step=ddim_step)
    found = invert(asking(plain, same[:2]), own, path.levels(n))
    back = sample(asking(plain, same[:2]), found, path.levels(n), step=ddim_step)
    likeness = torch.corrcoef(torch.stack([found.flatten(), start[:2].flatten()]))[0, 1]
    error = (back - own).square().mean().sqrt()
    print(
        f"{n:3} steps: spread {found.std():.2f}, correlation with the true start {likeness:.2f}, "
        f"error of the way back {error:.3f}"
    )

# %% [markdown]
# With 500 steps, measured elsewhere, two draws of three digits have spreads of 0.73 and 0.72, and correlations of 0.79 and 0.60: more
# steps find more of the start, but not all of it. The noise that is found is
# not the noise that the sample came from, and yet it leads back to the picture.

# %% [markdown] tags=["idea"]
# ## An edit: up as a 3, down as an 8
#
# Inversion has a use. The network is told a label in each step. Go up with the label that the picture has. What is found is the
# rest: slant, size, weight of the stroke. Then come down with **another** label. The new digit should be in the old hand.
#
# Two knobs decide how much is kept. The first is the level at which you turn round: `levels[0]`, at T or lower. The second is
# η on the way down: fresh noise washes the old hand out.
#
# What would you do without inversion? Put *drawn* noise of that level on the picture, and come down with the new label. This is
# **SDEdit**. It costs half as many evaluations. So inversion has to keep more.

# %% [markdown] tags=["exercise-card"]
# You write the whole: both walks, with the clip of 08.2 and any η on the way down.
#
# $$x_0 \;\xrightarrow{\;\text{inversion, told } y_{\text{old}}\;}\; x_t
# \;\xrightarrow{\;\text{the update with } \eta\text{, told } y_{\text{new}}\;}\; x_0'$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | `old`, `new` | labels: of the picture, and of what it is to become | (B,) |
# | `levels` | falling; from where you turn round to t = 0 | list of N + 1 |
# | `noises` | fresh noise, one for each step down | (N, B, C, H, W) |
#
# {{exercise 08.6}}


# %% tags=["exercise"]
@exercise("08.6")
def edit(denoiser, x0, old, new, levels, noises, eta=0.0):
    """The pictures x0 (B, C, H, W), redrawn under the labels `new`: up the levels, and down again.

    denoiser(x, level, labels) gives the pair (x0, eps), with these names, and must not be asked at t = 0; levels:
    falling, the last is t = 0. Up: as `invert`, told `old`. Down: as `ddim_step` with eta, told `new`, x̂₀ clipped to
    [−1, 1] and ε̂ in step with it; the step from levels[i] draws noises[i] (N, B, C, H, W), given at eta = 0, too.
    """
    ### BEGIN SOLUTION
    x = x0
    for now, next in pairwise(levels[::-1]):
        asked = now if now.sigma > 0 else next
        eps = denoiser(x, asked, old).eps
        x = next.alpha * (x - now.sigma * eps) / now.alpha + next.sigma * eps
    for i, (now, next) in enumerate(pairwise(levels)):
        guess = denoiser(x, now, new).x0.clamp(-1, 1)
        eps = (x - now.alpha * guess) / now.sigma
        variance = eta**2 * (next.sigma / now.sigma) ** 2 * (1 - (now.alpha / next.alpha) ** 2)
        kept = (next.sigma**2 - variance).clamp(min=0).sqrt()
        x = next.alpha * guess + kept * eps + variance.sqrt() * noises[i]
    return x
    ### END SOLUTION


# %% [markdown]
# First your editor on the ten pictures, with 10 steps each way. Every column is asked for another digit.


# %%
def redraw(x0, old, new, levels, eta=0.0):
    """Your editor with the MNIST model."""
    noises = torch.randn(len(levels) - 1, *x0.shape, generator=generator)
    with torch.no_grad():
        return edit(plain, x0, old, new, levels, noises, eta)


def sdedit(x0, new, levels):
    """Drawn noise in place of the picture's own. The way up costs nothing, so take twice the steps down."""
    eps = torch.randn(x0.shape, generator=generator)
    return sample(clipped, add_noise(x0, eps, levels[0]), levels, new, step=ddim_step)


ten, twenty = path.levels(10), path.levels(20)  # ten[1] and twenty[2] are both t = 900
changed = torch.tensor([{0: 6, 2: 3, 3: 8, 5: 6, 8: 3}[k] for k in same.tolist()]).repeat(2)
rows = {
    "picture": pictures,
    "up to T": redraw(pictures, same.repeat(2), changed, ten),
    "up to T, η = 1": redraw(pictures, same.repeat(2), changed, ten, eta=1.0),
    "up to t = 900": redraw(pictures, same.repeat(2), changed, ten[1:]),
    "SDEdit, t = 900": sdedit(pictures, changed, twenty[2:]),
}

# %% jupyter={"source_hidden": true}
strip(
    rows,
    columns=2 * few,
    captions=[f"{a} → {b}" for a, b in zip(same.repeat(2).tolist(), changed.tolist(), strict=True)],
    alt="Ten digits and their edits in four rows. Up to T: the new digits, one 6 of them open, in the weight and slant of the pictures above them. "
    "Up to T with η = 1: the new digits, in other hands. Up to t = 900: still nearer to the pictures, and some not quite the new "
    "digit: a 2 that should be a 3 is nearly an 8, and a thin 6 stays open. SDEdit: most of the new digits, in other hands, and some broken.",
)

# %% [markdown]
# Now numbers, with real digits. Does a classifier read the new label? And is the hand still the old one? For that we compare the
# **slant** of the ink before and after, over all pictures. (How far columns drift from row to row: the covariance of column and row, divided by the variance
# of the row.)

# %% jupyter={"source_hidden": true}
across, below = torch.arange(32.0), torch.arange(32.0)[:, None]


def slant(x):
    """(B,) how far the ink leans: columns for each row."""
    ink = (x.clamp(-1, 1)[:, 0] + 1) / 2
    ink = ink / ink.sum((1, 2), keepdim=True)
    dx = across - (ink * across).sum((1, 2), keepdim=True)
    dy = below - (ink * below).sum((1, 2), keepdim=True)
    return (ink * dx * dy).sum((1, 2)) / (ink * dy**2).sum((1, 2))


# %%
n = budget.samples(60, at_least=20)
before, old = in_mnist_format(data.images[:n]), data.labels[:n]
new = (old + torch.randint(1, 10, (n,), generator=generator)) % 10
after = {
    "inversion, up to T": redraw(before, old, new, ten),
    "inversion, T, η = 1": redraw(before, old, new, ten, eta=1.0),
    "drawn noise at T": sample(clipped, torch.randn(before.shape, generator=generator), twenty, new),
    "inversion, t = 900": redraw(before, old, new, ten[1:]),
    "SDEdit, t = 900": sdedit(before, new, twenty[2:]),
}

# %% jupyter={"source_hidden": true}
for name, x in after.items():
    read = (reader(x.clamp(-1, 1)).argmax(1) == new).float().mean()
    alike = torch.corrcoef(torch.stack([slant(before), slant(x)]))[0, 1]
    print(
        f"{name:20} read as new {read:.2f} ± {(read * (1 - read) / n) ** 0.5:.2f}   "
        f"slant kept {alike:.2f} ± {(1 - alike**2) / n**0.5:.2f}"
    )
print(f"n = {n}, 18 to 20 evaluations each; ± one standard error over the pictures")

# %% [markdown]
# **What to notice:** from T, inversion changes the label of 88 % of the pictures, and the slant stays: its correlation is 0.57 ± 0.09.
# With drawn noise it is 0.00 ± 0.13. With η = 1 it is −0.11 ± 0.13, although that walk, too, started from the picture's own
# noise: fresh noise has washed the hand out.
#
# Sixty pictures are few: the 0.02 of SDEdit is a low draw. So here are 240 pictures and other noises, measured elsewhere.
#
# | walk | read as new | read as old | slant kept |
# |---|---|---|---|
# | drawn noise at T | 96 ± 1 % | 0 % | −0.01 ± 0.06 |
# | inversion, up to T | 94 ± 2 % | 1 % | 0.60 ± 0.04 |
# | SDEdit, t = 900 | 88 ± 2 % | 2 % | 0.28 ± 0.06 |
# | inversion, t = 900 | 82 ± 2 % | 3 % | 0.71 ± 0.03 |
# | SDEdit, t = 800 | 57 ± 3 % | 15 % | 0.50 ± 0.05 |
# | inversion, t = 800 | 63 ± 3 % | 12 % | 0.83 ± 0.02 |
#
# SDEdit has to choose. From t = 900 it changes most labels, but keeps little of the slant. From t = 800 it keeps nearly as much as
# inversion from T, and loses two labels in five: most of those digits are neither new nor old. Inversion has the slant at hardly any
# price: 94 % are read as the new label, where drawn noise has 96 %.

# %% [markdown] tags=["idea"]
# ## Noise as an address
#
# If the start decides everything, then it is an address for pictures, and one can walk between addresses. Straight on?
# Half-way between two noises a and b lies their average. An average of two independent draws has half the variance. It is
# no longer noise as the network knows it.
#
# In many dimensions the geometry is plain. A draw of $\mathcal N(0, I)$ with 1,024 entries has a length near
# $\sqrt{1024} = 32$, always: all noise lies in a thin shell. Two draws are nearly at right angles. The straight line between
# them leaves the shell and passes 30 % nearer to the centre, where no noise ever is. **Spherical interpolation** walks
# along the shell, on the arc from one to the other.

# %% [markdown] tags=["exercise-card"]
# $$\operatorname{slerp}(a, b; w) = \frac{\sin((1-w)\,\Omega)}{\sin\Omega}\;a + \frac{\sin(w\,\Omega)}{\sin\Omega}\;b,
# \qquad \cos\Omega = \frac{a\cdot b}{|a|\,|b|}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $a, b$ | two noises, each as one long vector | (B, C, H, W) |
# | $w$ | how far along: 0 is a, 1 is b | number |
# | $\Omega$ | angle between a and b, one for each pair | (B, 1, 1, 1) |
#
# Where $\Omega = 0$ the weights are 0/0. There the arc is a line, with weights $1-w$ and $w$.
#
# {{exercise 08.4}}


# %% tags=["exercise"]
@exercise("08.4")
def slerp(a, b, weight):
    """On the arc from a to b, both (B, ...): weight, a number, is 0 for a and 1 for b. One angle for each pair.

    Pairs that point the same way (angles below 1e-4 or so), equally long or not, take the straight line. No pair
    points in opposite ways.
    """
    ### BEGIN SOLUTION
    cosine = torch.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1)
    omega = cosine.acos().view(-1, *[1] * (a.ndim - 1))
    of_a = torch.where(omega < 1e-4, 1 - weight, ((1 - weight) * omega).sin() / omega.sin())
    of_b = torch.where(omega < 1e-4, weight, (weight * omega).sin() / omega.sin())
    return of_a * a + of_b * b
    ### END SOLUTION


# %%
from diffusion_lessons.metrics import evaluate

ways, line, rows = {"arc": slerp, "straight": torch.lerp}, [k / 8 for k in range(9)], {}
a, b = torch.randn(2, 1, 1, 32, 32, generator=generator)
for name, way in ways.items():
    noise = torch.cat([way(a, b, w) for w in line])  # (9, 1, 32, 32)
    for label in (3, 8):
        ask = asking(clipped, torch.full((9,), label))
        rows[f"{name}: {label}"] = sample(ask, noise, path.levels(10), step=ddim_step)

n = budget.samples(120, at_least=70)
many, others = torch.randn(2, n, 1, 32, 32, generator=generator)
labels_of_many = torch.arange(n) % 10
halves = {"arc": slerp(many, others, 0.5), "straight": torch.lerp(many, others, 0.5), "weak": many / 2**0.5}
for name, half in halves.items():
    made = sample(asking(clipped, labels_of_many), half, path.levels(8), step=ddim_step)
    figures = evaluate(made, labels_of_many, zoo.yardstick("mnist"))
    recall, read = (
        "{value:.2f} ± {uncertainty:.2f}".format(**figures[key]) for key in ("recall", "accuracy")
    )
    print(f"{name:8}: spread {half.std():.2f}, recall {recall}, read as their label {read}")

# %% jupyter={"source_hidden": true}
strip(
    rows,
    columns=9,
    captions=[f"w = {w:g}" for w in line],
    alt="A 3 and an 8 change into another 3 and another 8 in nine pictures, along the arc and along the straight "
    "line. All can be read, and half-way the two ways differ in details alone.",
)

# %% [markdown]
# **What to notice:** the straight line does not break this model. Its weak noise gives *tame* digits: as easy to read, but
# fewer kinds of real digits are to be found among them (recall, {{built-in 20}}). The row "weak" is the control: one noise, not
# moved at all, only turned down to the same spread. It loses as much. So the cause is the spread, and not the place. (± is one
# standard error over the samples. With 300 other pairs: recall 0.88 on the arc, 0.66 on the line, 0.62 turned down, each ± 0.03.)

# %% [markdown] tags=["idea"]
# ## What came after: better ways along the same curve
#
# Once sampling is a curve, two centuries of numerical analysis apply. Euler's step goes astray because the slope changes
# on the way. Halve the steps, and half of the error is left: **first order**.
#
# Heun's method goes there, takes the slope, comes back, and uses the mean of both. Halved steps leave a quarter of the
# error, but each step costs two evaluations.
#
# A **multistep** method looks back instead. It remembers the last $\hat x_0$, sees how it has changed, and guesses
# what it will be in the middle of the step. That costs no evaluation. DPM-Solver++(2M) does this along the log-SNR
# $\lambda = \log(\alpha^2/\sigma^2)$ of lesson 5, in which the rest of the equation is solved exactly.

# %% [markdown] tags=["exercise-card"]
# $$\text{Heun:}\quad \frac{x'}{\alpha'} = \frac{x}{\alpha} + \left(\frac{\sigma'}{\alpha'} - \frac{\sigma}{\alpha}\right)
# \frac{\hat\varepsilon(x, t) + \hat\varepsilon(x^*, t')}{2}$$
#
# $$\text{2M:}\quad D = \hat x_0 + \frac{\hat x_0 - \hat x_0^{\text{before}}}{2r}, \qquad
# x' = \frac{\sigma'}{\sigma}\,x + \left(\alpha' - \alpha\,\frac{\sigma'}{\sigma}\right) D, \qquad
# r = \frac{\lambda - \lambda^{\text{before}}}{\lambda' - \lambda}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x^*$ | where the Euler step arrives | (B, C, H, W) |
# | $\hat x_0^{\text{before}}, \lambda^{\text{before}}$ | guess and log-SNR of the step before | (B, C, H, W), number |
# | $D$ | the guess for the middle of the step; with $D = \hat x_0$ this is DDIM again | (B, C, H, W) |
#
# (The paper writes λ for half of the log-SNR. In the ratio $r$ the half cancels.) The first step has nothing to remember, and in a
# step that ends at $t = 0$ λ' is infinite: both take $D = \hat x_0$.
#
# {{exercise 08.5}}


# %% tags=["exercise"]
@exercise("08.5")
def dpmpp_2m(denoiser, x, levels):
    """From noise x (B, ...) at levels[0] to levels[-1], one evaluation a step; denoiser(x, level).x0.

    A step that ends at sigma = 0, and the first one, take D = x0.
    """
    ### BEGIN SOLUTION
    before = None
    for now, next in pairwise(levels):
        guess = mixed = denoiser(x, now).x0
        if before is not None and next.sigma > 0:
            weight = (next.log_snr - now.log_snr) / (now.log_snr - before[1].log_snr) / 2
            mixed = guess + weight * (guess - before[0])
        keep = next.sigma / now.sigma
        x = keep * x + (next.alpha - keep * now.alpha) * mixed
        before = guess, now
    return x
    ### END SOLUTION


# %% tags=["nbval-check-output"]
# Data N(0, 0.5²): its denoiser is exact, and a walk only scales x. So x = 1 tells the whole error.
from diffusion_lessons.samplers import heun

bell = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), 0.5)
solvers = {  # name: (walk, evaluations a step)
    "DDIM": (lambda ask, x, levels: sample(ask, x, levels, step=ddim_step), 1),
    "Heun": (lambda ask, x, levels: sample(ask, x, levels, sampler=heun), 2),
    "yours, 2M": (dpmpp_2m, 1),
}
evaluations, bell_error = [8, 16, 32, 64, 128], {}
for name, (walk, price) in solvers.items():
    bell_error[name] = []
    for nfe in evaluations:
        levels = [path(900 - 800 * k * price / nfe) for k in range(nfe // price + 1)]
        std = [(0.25 * level.alpha**2 + level.sigma**2).sqrt() for level in (levels[0], levels[-1])]
        x = walk(bell, torch.ones(1, 1, dtype=torch.float64), levels)
        bell_error[name].append(abs(float(x - std[1] / std[0])))
    order = torch.tensor(bell_error[name][-2:]).log2()
    print(f"{name:9}: error {bell_error[name][-1]:.1e} at 128 evaluations, order {order[0] - order[1]:.1f}")

# %%
few_nfe, net_error, ask = [8, 16, 32], {}, asking(clipped, labels)
goal = sample(ask, start, path.levels(64), sampler=heun)  # as near to the curve as we can afford
for name, (walk, price) in solvers.items():
    made = [walk(ask, start, path.levels(nfe // price)) for nfe in few_nfe]
    net_error[name] = torch.stack([(x - goal).square().mean((1, 2, 3)).sqrt() for x in made])  # (3, 8)

# %% jupyter={"source_hidden": true}
for name, error in net_error.items():
    cells = (
        f"{nfe}: {e.mean():.3f} ± {e.std() / len(e) ** 0.5:.3f}"
        for nfe, e in zip(few_nfe, error, strict=True)
    )
    print(f"{name:9}", "   ".join(cells))
fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.0))
for name, error in net_error.items():
    left.loglog(evaluations, bell_error[name], label=name)
    right.errorbar(few_nfe, error.mean(1), yerr=error.std(1) / len(labels) ** 0.5, capsize=3, label=name)
left.set(xlabel="evaluations (NFE)", ylabel="error of the spread", title="exact, data N(0, 0.5²)")
right.set(xlabel="evaluations (NFE)", ylabel="rms from the curve", title=f"MNIST, {len(labels)} starts")
right.set(xscale="log", yscale="log")
left.set_xticks(evaluations, evaluations)
right.set_xticks(few_nfe, few_nfe)
right.set_yticks([0.01, 0.03, 0.1], [0.01, 0.03, 0.1])
for ax in (left, right):
    ax.minorticks_off()
left.legend(fontsize=9)
figure(
    fig,
    alt="Error over the number of evaluations, all axes logarithmic. Left, exact: DDIM falls with slope 1, Heun "
    "and 2M with slope 2. Right, the network: the three are close at 8 evaluations; at 32 Heun and 2M have about "
    "a third of DDIM's error.",
)

# %% [markdown]
# **What to notice:** on the left the slopes are the orders, 1 and 2. With the network they are not quite reached: from 16 to
# 32 evaluations DDIM's error falls by a factor of 1.8 (first order: 2), those of Heun and 2M by about 3 (second order: 4). At 8 evaluations little is gained: order is a
# promise about *short* steps.
#
# And nearer to the curve need not mean better pictures. Lesson 7's recorded run (n = 1000, one seed) has 2M at a Fréchet distance of 0.56 with 4
# evaluations where DDIM has 0.64, and 0.34 against 0.36 with 8, each ± 0.04. From 16 on 2M has no lead: both are between 0.32 and 0.34.
# The curve is only as good as the network.

# %% [markdown] tags=["experiment"]
# ## Experiment: the table of the paper
#
# The claim: fewer steps, for some quality. The table of Song et al. has steps in one direction and η in the other. Its
# last row, $\hat\sigma$ (below: "large"), is the mean of DDPM with the larger variance, that of the *forward* step: the choice that made DDPM
# famous at 1,000 steps.
#
# First with no network at all. Let the data be Gaussian, with the covariance of our 16 × 16 digits. Then the denoiser is
# exact, and each of 256 directions goes its own way. In each, a step is linear: $x' = \text{kept}\cdot x + \text{added}\cdot z$. So two probes tell all
# of it: one with $x = 1$ and no draw, one with $x = 0$ and a draw of 1. From them we compute the Fréchet distance
# ({{built-in 20}}) between samples and data, without a sample: lower is better.

# %% tags=["nbval-check-output"]
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import linear_betas

train = to_float(load_dataset("digits", "train", size=16).images).flatten(1).double()
spreads = torch.linalg.eigvalsh(train.T.cov()).clamp(min=0).sqrt()  # (256,), of the data in each direction
linear = DiscreteVP(linear_betas())  # the schedule of the paper
samplers = {  # named as in the recorded run below
    "0": ddim_step,
    "0.5": partial(ddim_step, eta=0.5),
    "1": partial(ddim_step, eta=1.0),
    "large": partial(ddpm_step, variance="large"),
}
x = torch.tensor([[1.0], [0.0]]).double().expand(2, 256)  # two probes: x alone …
z = torch.tensor([[0.0], [1.0]]).double().expand(2, 256)  # … and the draw alone


def exact_distance(step, levels):
    """Fréchet distance to the data N(0, spreads²) of what a sampler makes with the exact denoiser."""
    variance = torch.ones(256).double()  # of the noise, in each direction
    for now, next in pairwise(levels):
        gain = now.alpha * spreads**2 / (now.alpha**2 * spreads**2 + now.sigma**2)  # x̂₀ = gain · x
        kept, added = step(x, Estimate.from_x0(gain * x, x, now), now, next, z)
        variance = kept**2 * variance + added**2
    return float((variance.sqrt() - spreads).square().sum())


counts, exact = (5, 10, 20, 50, 100, 1000), {}
spacings = {"linspace": "T … 1, 0", "trailing": "evenly to 0"}  # the names of lesson 7
for spacing, words in spacings.items():
    print(f"{words}:\n{'steps':8}" + "".join(f"{n:>9}" for n in counts))
    for eta, step in samplers.items():
        row = exact[spacing, eta] = [exact_distance(step, linear.levels(n, spacing)) for n in counts]
        print(f"η {eta:6}" + "".join(f"{distance:9.4f}" for distance in row))


# %% [markdown]
# The first half has the shape of the published table, drawn beside it below. η = 0 is ahead up to 100 steps, η = 1 up to 3.8
# times as far off. $\hat\sigma$ is far behind at few steps and best of all at 1,000. The second half shows why. $\hat\sigma$ puts in more
# noise than the next level has room for. A long last step takes most of it out again; one from t = 1, where a hundredth of
# noise is expected, leaves it in. (Leave the level t = 1 alone out of the five steps. Of the four that
# remain $\hat\sigma$ makes 6.6 in place of 34.6, η = 1 11.6 in place of 11.5: measured elsewhere.) With even steps the larger variance is ahead everywhere, on such data.
#
# Now a network. The recorded run (`diffusion-lessons experiment steps-by-eta`) drew 500 digits for each cell, 50 of each class, from
# one seed, with the times of the first half. For comparison: 500 *real* digits, 50 of each class, are at
# 0.27 ± 0.04 (mean and spread of twenty draws from MNIST's training digits, as in lesson 3).

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

kept = recorded("steps-by-eta")
cell = {(row["settings"]["eta"], row["settings"]["steps"]): row for row in kept["rows"]}
long = sorted({steps for _, steps in cell})
print(f"recorded: {kept['options']['model']}, n = {kept['options']['n']}, {kept['hardware']['processor']}")
print("steps    " + "".join(f"{steps:>13}" for steps in long))
for eta in samplers:
    words = ["{frechet:.2f} ± {uncertainty:.2f}".format(**cell[eta, n]) for n in long]
    print(f"η = {eta:5}" + "".join(f"{word:>13}" for word in words))
print("± one standard error over the draw of the samples; one seed")

# %% jupyter={"source_hidden": true}
paper = {  # Song et al. 2021, table 1: FID of CIFAR-10
    "0": (13.36, 6.84, 4.67, 4.16, 4.04),
    "0.5": (16.66, 8.35, 5.25, 4.46, 4.29),
    "1": (41.07, 18.36, 8.01, 5.78, 4.73),
    "large": (367.43, 133.37, 32.72, 9.99, 3.17),
}
fig, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(7.6, 5.2))
for eta in samplers:
    label = "σ̂" if eta == "large" else f"η = {eta}"
    a.loglog(counts, exact["linspace", eta], label=label)
    b.loglog(counts[1:], paper[eta])
    row = [cell[eta, k] for k in long]
    c.errorbar(long, [r["frechet"] for r in row], yerr=[r["uncertainty"] for r in row], capsize=2)
    d.loglog(counts, exact["trailing", eta])
c.axhspan(0.23, 0.31, color="grey", alpha=0.3, lw=0)
c.text(4.3, 0.235, "real digits", fontsize=9, color="dimgrey")
c.set(xscale="log", yscale="log")
c.set_yticks([0.3, 0.5, 1, 2], ["0.3", "0.5", "1", "2"])
c.minorticks_off()
titles = "exact: T … 1, 0", "published: CIFAR-10", "recorded, MNIST: T … 1, 0", "exact: evenly to 0"
for ax, title in zip((a, b, c, d), titles, strict=True):
    ax.set_title(title, fontsize=11)
    ax.set_xlim(4, 1300)
    ax.set_xticks([10, 100, 1000], ["10", "100", "1000"])
for ax in (c, d):
    ax.set_xlabel("steps")
for ax in (a, c):
    ax.set_ylabel("Fréchet distance")
a.legend(fontsize=9)
figure(
    fig,
    alt="Fréchet distance over the steps for η = 0, 0.5, 1 and σ̂, all axes logarithmic. Exact, with times down to "
    "1: η = 0 lowest at few steps, σ̂ highest there and lowest at 1000. Published: the same order. Recorded on "
    "MNIST: σ̂ highest at 5 and 10 steps; from 20 on η = 0 is highest, near 0.5, and the others lie between 0.26 and 0.41, "
    "about the grey band of real digits. Exact, with even steps: σ̂ lowest everywhere.",
)

# %% [markdown]
# **The result:** the claim holds. DDIM with 5 steps loses something, 0.73 ± 0.06. With 10 it is as good as with 1,000: 0.47 against 0.50, each ± 0.07 or less. Of the table's
# shape one part is there: $\hat\sigma$ is far off at 5 and 10 steps, and no longer at 20. The rest is not, in this run: η = 0 is no better than
# η = 1 at 10 steps (0.47 and 0.45), and from 20 on all three with draws are ahead: they lie between 0.26 and 0.41, most of them about as
# near as real digits. Lesson 7's run, with other samples and even steps, says the same of many steps: with 32 and 64 the ancestral sampler has 0.21 and 0.23,
# DDIM 0.32 and 0.33, real digits 0.19 (n = 1000). At 4 and 8 steps that run has DDIM ahead: 0.64 against 0.82, and 0.36 against
# 0.46, each ± 0.04.
#
# Why? After 10 steps DDIM's distance does not move any more, so no error of the *steps* is left to be seen. What remains is the error of
# the network. DDIM carries a mistake to the end; a step that exchanges noise can wash older ones out (Karras et al. 2022,
# section 4). The paper's table does not show it: at 1,000 steps η = 1 is behind η = 0, 4.73 against 4.04.
# $\hat\sigma$ wins there, but it does so in our exact table as well, where there are no mistakes. And it is no law. It depends on the mistake: multiply the exact
# $\hat x_0$ above by 0.97 at every level, and η = 1 is *worse* at 1,000 steps: 3.86 against 1.65.
#
# And the last step? Live, 5 steps with each spacing. We also measure the grain in the uppermost rows, which MNIST leaves black.

# %%
from itertools import product

n = budget.samples(150, at_least=70)
noise, wanted, rows = torch.randn(n, 1, 32, 32, generator=generator), torch.arange(n) % 10, {}
for spacing, eta in product(spacings, ("0", "1", "large")):
    made = sample(clipped, noise, path.levels(5, spacing), wanted, step=samplers[eta], generator=generator)
    measured = evaluate(made.clamp(-1, 1), wanted, zoo.yardstick("mnist"))["frechet"]
    distance = "{value:.2f} ± {uncertainty:.2f}".format(**measured)
    grain = made[..., :4, :].std((1, 2, 3))  # of the uppermost four rows, which MNIST leaves black
    name = f"{spacings[spacing]}, {'σ̂' if eta == 'large' else f'η = {eta}'}"
    print(f"{name:18} distance {distance}   grain {grain.mean():.3f} ± {grain.std() / n**0.5:.3f}")
    rows[name] = made[:10].clamp(-1, 1)
print(f"live: 5 steps, n = {n}; ± one standard error over the draw of the samples")

# %% jupyter={"source_hidden": true}
strip(
    rows,
    columns=10,
    alt="Ten digits in six rows, 5 steps each. With times down to 1: no grain for η = 0 and η = 1, and coarse grain for σ̂. "
    "With even steps: no grain for η = 0 and η = 1, and faint grain for σ̂.",
)

# %% [markdown]
# $\hat\sigma$ leaves its noise in the picture when the last step starts at t = 1: its distance is 2.54 ± 0.16. With even steps it
# has less than a third of the grain, and 1.03 ± 0.18. That is no farther than η = 1, 1.20 ± 0.15, or η = 0, 0.95 ± 0.19, within
# the errors. In lesson 3, with 10 even steps, $\hat\sigma$ and η = 1 are level, too, 0.70 and 0.71, each ± 0.13 or less. So on MNIST the
# low place of $\hat\sigma$ at few steps is an effect of the last step from t = 1. (Live and recorded distances do not compare: the Fréchet
# distance falls with n. 150 real digits are at 0.71 ± 0.10, ten draws.)

# %% [markdown] tags=["play"]
# ## Play
#
# A round trip through four noises and back to the first, under two labels at once, at guidance 2. First on the arc, then
# on the straight lines between the same four. Watch the histogram of the straight one: where it is narrow, what do the digits have in
# common?

# %%
stations, leg = torch.randn(4, 1, 1, 32, 32, generator=generator), min(6, budget.samples(6, at_least=2))
legs = [(stations[k], stations[(k + 1) % 4], w / leg) for k in range(4) for w in range(leg)]
trips = {
    name: torch.cat([way(a, b, w) for a, b, w in legs]) for name, way in ways.items()
}  # (4·leg, 1, 32, 32)
panels = {}
for name, noise in trips.items():
    pair = [sample(asking(clear, torch.full((4 * leg,), label)), noise, path.levels(6)) for label in (2, 8)]
    panels[name] = torch.cat(pair, -1)  # (4·leg, 1, 32, 64)
panels["noise, straight"] = Histogram(trips["straight"], normal=True)
scrub(
    panels,
    [f"{'ABCD'[k // leg]} → {'BCDA'[k // leg]}, {k % leg}/{leg}" for k in range(4 * leg)],
    title="Scrub through the round trip",
    alt="A 2 and an 8 change their shape on the way through four noises, A to D, and back to A, along the arc "
    "and along the straight lines. Below, the histogram of the noise on the lines: wide at the four noises, "
    "narrow half-way between them.",
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your step and your solver against diffusers, with the bundled network. Their times are ours minus 1. And your editor against the
# package's pieces.

# %%
from diffusion_lessons.samplers import invert as package_invert

fresh = torch.randn(8, 2, 1, 32, 32, generator=generator)
known, wished, few_levels = labels[:2], labels[:2].flip(0), path.levels(12)[4:]
up = package_invert(plain, drawn[:2], few_levels, known)
down = sample(clipped, up, few_levels, wished, step=partial(ddim_step, eta=0.5), generator=lambda i: fresh[i])
with torch.no_grad():
    yours = edit(plain, drawn[:2], known, wished, few_levels, fresh, 0.5)
print(f"your edit, η = 0.5: largest difference {(yours - down).abs().max():.0e}")

# %% jupyter={"source_hidden": true}
import importlib.util

if importlib.util.find_spec("diffusers"):
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    flags = dict(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )
    for name, scheduler, eta in (
        ("your ddim_step, η = 0", DDIMScheduler(clip_sample=False, **flags), 0.0),
        ("your ddim_step, η = 0.5", DDIMScheduler(clip_sample=False, **flags), 0.5),
        ("your dpmpp_2m", DPMSolverMultistepScheduler(**flags), None),
    ):
        scheduler.set_timesteps(10)
        theirs, draws = start, torch.Generator().manual_seed(1)
        options = {} if eta is None else dict(eta=eta, generator=draws)
        for t in scheduler.timesteps:
            with torch.no_grad():
                v = model.network(theirs, t.expand(len(labels)).float(), labels)
            theirs = scheduler.step(v, t, theirs, **options).prev_sample
        visited = [path(t + 1) for t in scheduler.timesteps.double()] + [path(0)]
        step, draws = partial(ddim_step, eta=eta), torch.Generator().manual_seed(1)
        if eta is None:
            ours = dpmpp_2m(asking(plain, labels), start, visited)
        else:
            ours = sample(asking(plain, labels), start, visited, step=step, generator=draws)
        print(f"{name}: largest difference {(ours - theirs).abs().max():.0e}")
else:
    print("diffusers is not installed here; the solved notebook shows the differences")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | $\hat x_0$ clipped, $\hat\varepsilon$ left stale | harmless without guidance; with it, digits of other labels |
# | η in place of η² under the root | too little old noise: samples too smooth for 0 < η < 1, right at both ends |
# | $\eta\tilde\beta$ in place of $\eta\sqrt{\tilde\beta}$ as the factor | hardly any draw: smooth, few kinds |
# | $\bar\alpha$ of the wrong index | no error; grain or a shift in brightness; with the true ε as oracle the end is not $x_0$ |
# | the variance computed on a rising pair | 0 · NaN = NaN in inversion, although η = 0 |
# | inversion that asks at t = 0 | a network answers whatever it likes there; all later steps inherit it |
# | inversion with guidance | steeper slopes: the round trip misses the picture, above by several times the error |
# | straight interpolation of noise | tame, similar samples half-way |
# | Heun as the mean of two *estimates* put into one DDIM step | Euler to the last digit, at twice the price: $x = \alpha\hat x_0 + \sigma\hat\varepsilon$ cancels the correction |
# | λ at the last step | log of 0: NaN |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is DDIM, and how does it differ from DDPM?",
    "Another sampler for the same trained network. The loss looks at single noise levels, so any update is "
    "allowed that leads from the right mixture of picture and noise at one level to the right one at the "
    "next. DDPM gives up a part of its noise in each step and draws fresh. DDIM keeps it: x' = α'·x̂₀ + "
    "σ'·ε̂. A number η moves between the two.\n\n"
    "With η = 0 the sample is a function of its starting noise. So 10 to 50 steps do, and samples can be "
    "inverted, edited and interpolated.",
    [
        (
            "Why is the process called non-Markovian?",
            "The forward process with the same levels whose reverse step is DDIM's looks at x₀ as well as at the state before. "
            "Nobody runs it; it only proves that the same loss fits.",
        ),
        (
            "Is DDIM always better at few steps?",
            "In the published table, yes. With exact denoisers the larger variance can be ahead, if the last "
            "step is long enough to take its noise out. With many steps draws can wash out mistakes of the network.",
        ),
        (
            "Why is inversion not exact?",
            "Up and down evaluate ε̂ at different ends of a step. The error falls with the step length, and grows with guidance.",
        ),
        (
            "How do you edit a real photo with a text-to-image model?",
            "Invert it under its own caption without guidance, then sample under the new one. Turning round below T keeps more "
            "of it. Guidance on the way down breaks the round trip; null-text inversion mends that.",
        ),
        (
            "Why not interpolate noise linearly?",
            "Half-way the variance is a half. The network gets noise weaker than the level says, and draws more average pictures.",
        ),
        (
            "What do DPM-Solver++ or Heun change?",
            "The same curve, followed with a second-order method. 2M extrapolates x̂₀ from the step before, without a further "
            "evaluation.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "What has to be trained anew to sample with DDIM?",
        [
            Choice("nothing", True, "The loss sees single levels; no step is part of it."),
            Choice("the network, with a non-Markovian loss", False, "Up to weights it is the same loss."),
            Choice("the network, on fewer levels", False, "The levels visited are among those it knows."),
        ],
    ),
    Question(
        "With η = 0.5, how much of the variance of the next level is fresh noise?",
        [
            Choice("0.5·σ'²", False, "η is a share of √β̃, not of σ'²."),
            Choice("0.5·β̃", False, "η multiplies the standard deviation; variances take its square."),
            Choice("0.25·β̃", True, "The draw has the standard deviation 0.5·√β̃."),
        ],
    ),
    Question(
        "A 3 is inverted under the label 3, and sampled under the label 8 with η = 0. What of the 3 is kept?",
        [
            Choice("slant, weight, size", True, "The label does not say them: the noise has to hold them."),
            Choice(
                "nothing: at T all is noise", False, "That noise was not drawn. It is the address of the 3."
            ),
            Choice("everything but a few pixels", False, "Only if you turn round at a low level."),
        ],
    ),
    Question(
        "You can afford 20 evaluations of the network. How many steps do Heun and 2M get?",
        [
            Choice("20 each", False, "Heun evaluates twice in each step, except in one to t = 0."),
            Choice("10 and 20", True, "2M remembers instead. (Heun: 10 steps, 19 evaluations.)"),
        ],
    ),
)

# %% [markdown] tags=["references"]
# ## References
#
# - Song, Meng and Ermon 2021, *Denoising Diffusion Implicit Models*, arXiv 2010.02502: eq. 12 and 16 (the update), eq. 14 (the
#   ODE), table 1 (steps and η), section 5.4 and table 2 (round trip), appendix D.5 (slerp).
# - Song et al. 2021, *Score-Based Generative Modeling through Stochastic Differential Equations*, arXiv 2011.13456: section 4.3,
#   the probability-flow ODE of any diffusion.
# - Meng et al. 2022, *SDEdit*, arXiv 2108.01073: section 3. Mokady et al. 2023, *Null-text Inversion for Editing Real Images using
#   Guided Diffusion Models*, arXiv 2211.09794: section 3.
# - Karras et al. 2022, *Elucidating the Design Space of Diffusion-Based Generative Models*, arXiv 2206.00364: algorithm 1, Heun.
# - Lu et al. 2022, *DPM-Solver++*, arXiv 2211.01095: algorithm 2, the multistep solver.
# - Shoemake 1985, *Animating Rotation with Quaternion Curves*: section 3, spherical interpolation.
#
# You can now sample well with few steps. Next, how to ask for *what* is sampled: {{lesson 09}}.
