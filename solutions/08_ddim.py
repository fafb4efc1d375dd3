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
# - turn a picture into the noise it comes from, and back (exercise 08.3)
# - walk from one noise to another without leaving the noise (exercise 08.4)
# - build a solver of second order that asks the network no more often (exercise 08.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# One network, trained once, and eight starts of noise, one for each column. Above, DDIM takes 5 to 50 steps from
# them. Below, the ancestral sampler of lesson 3 starts from the very same noise. Compare the rows of a column.

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import Histogram, budget, exercise, figure, scrub, strip
from diffusion_lessons.guidance import Clip
from diffusion_lessons.samplers import ddpm_step, sample

model = zoo.load("mnist-unet")  # the bundled model of MNIST digits
path, plain = model.path, model.denoiser()
clipped = Clip(plain)  # keeps x̂₀ in [−1, 1], and ε̂ in step with it
labels = torch.tensor([0, 2, 3, 4, 5, 7, 8, 9])[: budget.samples(8, at_least=3)]
start = torch.randn(len(labels), 1, 32, 32, generator=generator)

rows = {f"DDIM, {n} steps": sample(clipped, start, path.levels(n), labels) for n in (5, 10, 20, 50)}
for n in (5, 20, 50):
    walk = sample(clipped, start, path.levels(n), labels, step=ddpm_step, generator=generator)
    rows[f"DDPM, {n} steps"] = walk
strip(
    rows,
    alt="Eight digits in seven rows. The four rows of DDIM, with 5, 10, 20 and 50 steps, show the same eight "
    "digits, a little cleaner from row to row. Each of the three rows of DDPM shows eight other ones.",
)

# %% [markdown]
# The rows of DDPM share their labels and nothing else: with fresh noise in every step, the start is soon forgotten. The rows of DDIM
# are one and the same set of digits. Five steps already know them, and more steps only polish. Nothing is drawn on the
# way, so the start decides everything.
#
# ## Predict
#
# In lesson 3 you left the fresh noise out of the ancestral step, with the exact denoiser of three clusters. Nearly
# all of 4,000 points ended in one spot.

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
            "Which cluster a point goes to depends on where it starts, and the starts are all over.",
        ),
        Choice(
            "in three clusters, like the data",
            True,
            "The variety of the start is carried all the way. You see it below.",
        ),
        Choice(
            "smeared out between the clusters",
            False,
            "With a single step they would be in the middle. With many, each finds its cluster.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Keep the noise that you have
#
# What does the ancestral step add its fresh noise *to*? To a mean that holds less noise than the next level should. It
# gives a part of the old noise up, and the draw fills the gap. Without the draw, the gap stays.
#
# There is another way to fill it: give up nothing. You know the old noise, it is $\hat\varepsilon$. So go to the next
# level with $\hat x_0$ and $\hat\varepsilon$ as they are, in the new proportions. Nothing has to be drawn.
#
# Is that allowed? The network was trained on single levels: a picture, a time, one noise. No *step* ever entered the
# loss. Every rule that leads from the right mixture at one level to the right mixture at another may use the same
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
    """From the level `now` to the level `next`. With eta = 0 it may also go to a noisier one.

    x, noise: (B, ...); estimate.x0, estimate.eps: (B, ...); now and next have .alpha and .sigma,
    0-d tensors. Returns (B, ...).
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

# %%
import matplotlib.pyplot as plt

from diffusion_lessons.mixtures import GaussianMixture


def mean_step(x, estimate, now, next, noise):
    """The ancestral step without its draw, as in lesson 3."""
    return ddpm_step(x, estimate, now, next, torch.zeros_like(noise))


clusters = GaussianMixture([[-1.0, -0.5], [1.0, -0.6], [0.1, 1.0]], [0.2, 0.1, 0.15], [0.5, 0.2, 0.3])
points, clouds = torch.randn(4000, 2, generator=generator), {}
steps = {"no draw (lesson 3)": mean_step, "η = 0": ddim_step, "η = 1": partial(ddim_step, eta=1.0)}
for name, step in steps.items():
    made = clouds[name] = sample(clusters, points, path.levels(50), step=step, generator=generator)
    found = clusters.posterior(made, path(1)).argmax(1)
    shares = ", ".join(f"{share:.0%}" for share in found.bincount(minlength=3) / 4000)
    print(f"{name:18} shares {shares}; spread of the first {made[found == 0].std(0).mean():.2f}")
print("data               shares 50%, 20%, 30%; spread of the first 0.20")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), sharey=True)
for ax, (name, made) in zip(axes, clouds.items(), strict=True):
    ax.scatter(*made.T, s=2, color="#0072B2")
    ax.set(title=name, xlabel="first coordinate", xlim=(-2, 2), ylim=(-2, 2))
axes[0].set(ylabel="second coordinate")
figure(
    fig,
    alt="4,000 points after 50 steps. Without a draw all lie in one spot, in the largest cluster. With η = 0 "
    "and with η = 1 there are three clusters.",
)

# %%
rows = {}
for eta in (0.0, 0.5, 1.0):
    step = partial(ddim_step, eta=eta)
    rows[f"η = {eta:g}"] = sample(clipped, start, path.levels(10), labels, step=step, generator=generator)
strip(
    rows,
    alt="Eight digits made by your own step, 10 steps, in three rows: η = 0 gives those of the first figure, "
    "η = 0.5 and η = 1 give others.",
)

# %% [markdown] tags=["exercise-card"]
# **What to notice:** the step leaves every level's mean and spread in place. What η changes is how much of $x$ is
# carried on. So the points of η = 0 keep the variety of their start, with no draw at all, and the digits above are
# made by your own step: with η = 0 those of the first figure again.
#
# Now to a bug. A colleague wants each digit to look more like its label, and turns guidance up to 4 (a closed box: {{built-in 10}}).
# Then $\hat x_0$ goes far beyond black and white, so they clip it. Out come digits, but the wrong ones.
#
# {{exercise 08.2}}


# %% tags=["exercise"]
@exercise("08.2")
def clipped_step(x, estimate, now, next, noise=None):
    """A step with η = 0 whose guess of the picture is kept in [−1, 1]. Arguments as for ddim_step."""
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
from diffusion_lessons.guidance import ClassifierFreeGuidance


def colleagues_step(x, estimate, now, next, noise):
    """As handed out above."""
    return next.alpha * estimate.x0.clamp(-1, 1) + next.sigma * estimate.eps


guided, reader = ClassifierFreeGuidance(plain, 4.0), zoo.load("mnist-classifier")
rows = {}
for name, step in {"yours": clipped_step, "colleague's": colleagues_step}.items():
    made = rows[name] = sample(guided, start, path.levels(20), labels, step=step)
    right = int((reader(made.clamp(-1, 1)).argmax(1) == labels).sum())
    print(f"{name:12} {right} of {len(labels)} digits are read as their label")
strip(
    rows,
    alt="Two rows at guidance 4. By your step: the digits 0, 2, 3, 4, 5, 7, 8 and 9, clean. By the "
    "colleague's: rough shapes, most of them other digits.",
)

# %% [markdown]
# Where $\hat x_0$ overshoots towards the label, $\hat\varepsilon$ overshoots the other way, since together they make up
# $x$. The clip takes back the one and leaves the other: what remains points *away* from the label. The
# DDIMScheduler of diffusers clips by default, and leaves $\hat\varepsilon$ stale unless `use_clipped_model_output` is set.
# Without guidance hardly a pixel is clipped, and nobody notices.

# %% [markdown] tags=["idea"]
# ## No draw, no loss: the way back up
#
# A walk without chance can be walked backwards. Divide the update with η = 0 by α', and it shows what it is: one quantity,
# x/α, moves along a slope, and the slope is $\hat\varepsilon$. With short steps this is a smooth curve, the solution of
# an **ordinary differential equation**, and DDIM follows it by the plainest rule there is, Euler's: look at the slope
# where you stand, and go straight on.
#
# A curve leads both ways. Start at a picture, walk over *rising* levels, and you arrive at its noise: **inversion**. From
# that noise, sampling leads back to the picture. Not quite, though. On the way up each step takes the slope at its lower
# end, on the way down at its upper end. The two differ by less, the shorter the steps.

# %% [markdown] tags=["exercise-card"]
# $$\frac{x'}{\alpha'} = \frac{x}{\alpha} + \left(\frac{\sigma'}{\alpha'} - \frac{\sigma}{\alpha}\right)\hat\varepsilon(x, t)
# \qquad\longrightarrow\qquad \frac{d\,(x/\alpha)}{d\,(\sigma/\alpha)} = \hat\varepsilon$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x/\alpha$ | the picture, scaled so that its clean part keeps its size | (B, C, H, W) |
# | $\sigma/\alpha$ | how much noise lies over it: 0 at the data, large at $T$ | number |
# | $\hat\varepsilon(x, t)$ | the slope, asked for at the point and level where the step starts | (B, C, H, W) |
#
# At $t = 0$ nobody can be asked: networks never train there. The first step up takes the $\hat\varepsilon$ that is seen in
# the same $x$ at the first time above 0.
#
# {{exercise 08.3}}


# %% tags=["exercise"]
from itertools import pairwise


@exercise("08.3")
def invert(denoiser, x0, levels):
    """The noise (B, ...) at levels[0] that DDIM would turn into the pictures x0 (B, ...).

    denoiser(x, level) gives (x0, eps) and must not be asked at t = 0; levels: as for sampling, from
    noise to data, the last is t = 0.
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


# %%
# Five real digits in MNIST's format, and five that DDPM drew: nobody knows a noise that leads to them.
from torch.nn.functional import interpolate, pad

from diffusion_lessons.course import Pictures
from diffusion_lessons.data import load_dataset, to_float

data, few = load_dataset("digits", "test", size=16), min(5, budget.samples(5, at_least=2))
five = torch.tensor([int((data.labels == label).nonzero()[1]) for label in (0, 2, 3, 5, 8)[:few]])
small = interpolate(to_float(data.images[five]), size=(20, 20), mode="bicubic")
real = pad(torch.tanh(3 * small - 0.3), (6, 6, 6, 6), value=-1.0)  # high contrast, a black margin of 6
same = data.labels[five]
drawn = sample(clipped, start[:few], path.levels(50), same, step=ddpm_step, generator=generator)
pictures, same_twice = torch.cat([real, drawn]), same.repeat(2)  # (10, 1, 32, 32), (10,)


def asking(denoiser, labels):
    """With its labels filled in: a denoiser(x, level) that keeps no gradients."""

    def ask(x, level, condition=None):
        with torch.no_grad():
            return denoiser(x, level, labels)

    return ask


# %%
rows, errors, counts = {"picture": pictures}, [], (5, 10, 20, 40)
for n in counts:
    noise = invert(asking(plain, same_twice), pictures, path.levels(n))
    back = sample(asking(plain, same_twice), noise, path.levels(n), step=ddim_step)
    errors.append((back - pictures).square().mean((1, 2, 3)).sqrt())  # (10,), one for each picture
    rows[f"back, {n} steps"] = back
rows["noise (−3 to 3)"] = Pictures(noise, span=3)
own = sample(asking(plain, same), start[:few], path.levels(40), step=ddim_step)  # from a noise that we know
found = invert(asking(plain, same), own, path.levels(40))
likeness = torch.corrcoef(torch.stack([found.flatten(), start[:few].flatten()]))[0, 1]
print(f"spread of the noise: {noise[:few].std():.2f} (real), {noise[few:].std():.2f} (drawn by DDPM)")
print(f"DDIM's own samples: {found.std():.2f}, correlation with their true start {likeness:.2f}")
strip(
    rows,
    columns=2 * few,
    alt="Ten digits, their round trips in 5, 10, 20 and 40 steps, and the noise found in 40. With 5 steps "
    "strokes are thin and bent. With 40 the five drawn by DDPM look as before, but for a loop of the 2, and "
    "the five real ones are close, with errors that one sees. The noise is grain where the digit was, and "
    "nearly even in the margin.",
)

# %% jupyter={"source_hidden": true}
published = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009}  # mean squared error, pictures in [0, 1]
groups = {"real digits": torch.stack(errors)[:, :few], "drawn by DDPM": torch.stack(errors)[:, few:]}
for name, group in groups.items():
    cells = (f"{n}: {e.mean():.3f} ± {e.std() / few**0.5:.3f}" for n, e in zip(counts, group, strict=True))
    print(f"rms error, {name:14}" + "   ".join(cells))
lost = invert(asking(guided, same), drawn, path.levels(20))
lost = sample(asking(guided, same), lost, path.levels(20), step=ddim_step) - drawn
print(f"drawn by DDPM, 20 steps at guidance 4: {lost.square().mean((1, 2, 3)).sqrt().mean():.2f}")
fig, ax = plt.subplots(figsize=(6.4, 2.7))
for name, group in groups.items():
    ax.errorbar(counts, group.mean(1), yerr=group.std(1) / few**0.5, capsize=3, label=f"here: {name}")
ax.plot(list(published), [2 * mse**0.5 for mse in published.values()], "k:x", label="published: CIFAR-10")
ax.set(xscale="log", yscale="log", xlabel="steps, each way", ylabel="rms error of a pixel")
ax.set_xticks([5, 10, 20, 40, 100], [5, 10, 20, 40, 100])
ax.set_yticks([0.05, 0.1, 0.2, 0.4], [0.05, 0.1, 0.2, 0.4])
ax.minorticks_off()
ax.legend(fontsize=9)
figure(
    fig,
    alt="Error of the round trip over the number of steps, both axes logarithmic. It falls for all three: "
    "slowest for real digits, whose curve is the highest; about alike for those drawn by DDPM, the lowest, "
    "and as published.",
)

# %% [markdown]
# **What to notice:** the error falls with the steps, and faster for pictures that the model knows well. (Published: table 2 of
# Song et al., as an rms in [−1, 1].) But look at the noise. In the black margin there is next to none, and its spread is far
# below 1. On the way down the margin's noise is squeezed to nearly nothing, and steps of this length cannot blow
# it up again. So even for DDIM's own samples the noise that is found is not the one they came from, and yet it leads
# back to the picture.

# %% [markdown] tags=["idea"]
# ## Noise as an address
#
# If the start decides everything, then it is an address for pictures, and one can walk between addresses. Straight on?
# Half-way between two noises a and b lies their average. An average of two independent draws has half the variance. It is
# no longer noise as the network knows it.
#
# In many dimensions the geometry is simple. A draw of $\mathcal N(0, I)$ with 1,024 entries has a length near
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
    """On the arc from a to b, both (B, ...): weight 0 gives a, 1 gives b. One angle for each pair."""
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
n = budget.samples(120, at_least=70)
(many, others), labels_of_many = torch.randn(2, n, 1, 32, 32, generator=generator), torch.arange(n) % 10
for name, way in ways.items():
    noise = torch.cat([way(a, b, w) for w in line])  # (9, 1, 32, 32)
    for label in (3, 8):
        ask = asking(clipped, torch.full((9,), label))
        rows[f"{name}: {label}"] = sample(ask, noise, path.levels(10), step=ddim_step)
    half = way(many, others, 0.5)
    made = sample(asking(clipped, labels_of_many), half, path.levels(8), step=ddim_step)
    figures = evaluate(made, labels_of_many, zoo.yardstick("mnist"))
    recall, read = ("{value:.2f} ± {uncertainty:.2f}".format(**figures[key]) for key in ("recall", "accuracy"))
    print(f"half-way, {name:8}: spread {half.std():.2f}, recall {recall}, read as their label {read}")
alt = (
    "A 3 and an 8 change into another 3 and another 8 in nine pictures, along the arc and along the straight "
)
alt += "line. All can be read, and half-way the two ways differ in details alone."
strip(rows, columns=9, captions=[f"w = {w:g}" for w in line], alt=alt)

# %% [markdown]
# **What to notice:** the straight line does not break this model. Its weak noise gives *tame* digits: as easy to read, but
# fewer kinds of real digits are to be found among them (recall, {{built-in 20}}). What is lost half-way is variety.

# %% [markdown] tags=["idea"]
# ## What came after: better ways along the same curve
#
# Once sampling is a curve, two centuries of numerical analysis apply. Euler's step goes astray because the slope changes
# on the way. Halve the steps, and half of the error is left: **first order**.
#
# Heun's method goes there, looks at the slope, comes back, and takes the mean of both. Halved steps leave a quarter of the
# error, but each step asks the network twice.
#
# A **multistep** method looks back instead. It remembers the last $\hat x_0$, sees how it has changed, and guesses
# what it will be in the middle of the step. That costs no question. DPM-Solver++(2M) does this, along
# $\lambda = \log(\alpha/\sigma)$, in which the rest of the equation is solved exactly.

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
# | $\hat x_0^{\text{before}}, \lambda^{\text{before}}$ | guess and λ of the step before | (B, C, H, W), number |
# | $D$ | the guess for the middle of the step; with $D = \hat x_0$ this is DDIM again | (B, C, H, W) |
#
# The first step has nothing to remember, and at $t = 0$ λ is infinite: both take $D = \hat x_0$.
#
# {{exercise 08.5}}


# %% tags=["exercise"]
@exercise("08.5")
def dpmpp_2m(denoiser, x, levels):
    """From noise x (B, ...) at levels[0] to levels[-1], one question a step; denoiser(x, level).x0."""
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
solvers = {  # name: (walk, questions a step)
    "DDIM": (lambda ask, x, levels: sample(ask, x, levels, step=ddim_step), 1),
    "Heun": (lambda ask, x, levels: sample(ask, x, levels, sampler=heun), 2),
    "yours, 2M": (dpmpp_2m, 1),
}
questions, bell_error = [8, 16, 32, 64, 128], {}
for name, (walk, price) in solvers.items():
    bell_error[name] = []
    for n in questions:
        levels = [path(900 - 800 * k * price / n) for k in range(n // price + 1)]
        std = [(0.25 * level.alpha**2 + level.sigma**2).sqrt() for level in (levels[0], levels[-1])]
        x = walk(bell, torch.ones(1, 1, dtype=torch.float64), levels)
        bell_error[name].append(abs(float(x - std[1] / std[0])))
    order = torch.tensor(bell_error[name][-2:]).log2()
    print(f"{name:9}: error {bell_error[name][-1]:.1e} with 128 questions, order {order[0] - order[1]:.1f}")

# %%
asked, net_error, ask = [8, 16, 32], {}, asking(clipped, labels)
goal = sample(ask, start, path.levels(64), sampler=heun)  # as near to the curve as we can afford
for name, (walk, price) in solvers.items():
    made = [walk(ask, start, path.levels(n // price)) for n in asked]
    net_error[name] = torch.stack([(x - goal).square().mean((1, 2, 3)).sqrt() for x in made])  # (3, 8)
    cells = (
        f"{n}: {e.mean():.3f} ± {e.std() / len(e) ** 0.5:.3f}"
        for n, e in zip(asked, net_error[name], strict=True)
    )
    print(f"{name:9}", "   ".join(cells))

# %% jupyter={"source_hidden": true}
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8))
for name, error in net_error.items():
    left.loglog(questions, bell_error[name], label=name)
    right.errorbar(asked, error.mean(1), yerr=error.std(1) / len(labels) ** 0.5, capsize=3, label=name)
left.set(xlabel="questions to the denoiser", ylabel="error of the spread", title="exact, data N(0, 0.5²)")
right.set(
    xlabel="questions to the network", ylabel="rms from the curve", title=f"MNIST, {len(labels)} starts"
)
right.set(xscale="log", yscale="log")
left.set_xticks(questions, questions)
right.set_xticks(asked, asked)
right.set_yticks([0.01, 0.03, 0.1], [0.01, 0.03, 0.1])
for ax in (left, right):
    ax.minorticks_off()
left.legend(fontsize=9)
figure(
    fig,
    alt="Error over the number of questions, all axes logarithmic. Left, exact: DDIM falls with slope 1, Heun "
    "and 2M with slope 2. Right, the network: the three are close at 8 questions; at 32 Heun and 2M have about "
    "a third of DDIM's error.",
)

# %% [markdown]
# **What to notice:** on the left the slopes are the orders, 1 and 2. The network agrees, once the steps are short
# enough. At 8 questions little is gained: order is a promise about *short* steps. And nearer to the curve need not mean
# better pictures: the curve is only as good as the network.

# %% [markdown] tags=["experiment"]
# ## Experiment: the table of the paper
#
# The claim: fewer steps, for some quality. The table of Song et al. has steps in one direction and η in the other. Its
# last row, $\hat\sigma$, is the mean of DDPM with the larger variance, that of the *forward* step: the choice that made DDPM
# famous at 1,000 steps.
#
# First with no network at all. Let the data be Gaussian, with the covariance of our 16 × 16 digits. Then the denoiser is
# exact, each of 256 directions goes its own way, and the spread that a sampler leaves in it can be computed without
# drawing one sample. So can the Fréchet distance ({{built-in 20}}) between samples and data: lower is better.

# %% tags=["nbval-check-output"]
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import linear_betas

train = to_float(load_dataset("digits", "train", size=16).images).flatten(1).double()
spreads = torch.linalg.eigvalsh(train.T.cov()).clamp(min=0).sqrt()  # (256,), of the data in each direction
one, none = torch.ones(1, 256).double(), torch.zeros(1, 256).double()
linear = DiscreteVP(linear_betas())  # the schedule of the paper
samplers = {  # named as in the recorded run below
    "0": ddim_step,
    "0.5": partial(ddim_step, eta=0.5),
    "1": partial(ddim_step, eta=1.0),
    "large": partial(ddpm_step, variance="large"),
}


def exact_distance(step, levels):
    """Fréchet distance of samples to the data N(0, spreads²), with the exact denoiser and no sample drawn."""
    variance = one
    for now, next in pairwise(levels):
        gain = now.alpha * spreads**2 / (now.alpha**2 * spreads**2 + now.sigma**2)  # x̂₀ = gain · x
        kept = step(one, Estimate.from_x0(gain * one, one, now), now, next, none)  # what becomes of x
        added = step(none, Estimate(none, none), now, next, one)  # and of the draw
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
# The first half has the shape of the published table, drawn beside it below. η = 0 is ahead up to 100 steps, η = 1 up to four
# times as far off. $\hat\sigma$ is far behind at few steps and best of all at 1,000. The second half shows why. $\hat\sigma$ puts in more
# noise than the next level has room for. A long last step takes it out again; one from t = 1, where a hundredth of
# noise is expected, leaves it in. With even steps the larger variance is ahead everywhere, on such data.
#
# Now a network. The recorded run (`diffusion-lessons experiment steps-by-eta`) drew 500 digits for each cell, with
# the times of the first half.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded
from diffusion_lessons.metrics.frechet import Statistics, frechet_between

kept = recorded("steps-by-eta")
cell = {(row["settings"]["eta"], row["settings"]["steps"]): row for row in kept["rows"]}
long = sorted({steps for _, steps in cell})
print(f"recorded: {kept['options']['model']}, n = {kept['options']['n']}, {kept['hardware']['processor']}")
print("steps    " + "".join(f"{steps:>13}" for steps in long))
for eta in samplers:
    words = ["{frechet:.2f} ± {uncertainty:.2f}".format(**cell[eta, n]) for n in long]
    print(f"η = {eta:5}" + "".join(f"{word:>13}" for word in words))
references = zoo.yardstick("mnist").references  # features of real digits
floor = frechet_between(Statistics.of(references["train"].sample[:500]), references["test"].statistics)
print(f"500 real digits, drawn at random: {floor:.2f}")

# %% jupyter={"source_hidden": true}
paper = {  # Song et al. 2021, table 1: FID of CIFAR-10
    "0": (13.36, 6.84, 4.67, 4.16, 4.04),
    "0.5": (16.66, 8.35, 5.25, 4.46, 4.29),
    "1": (41.07, 18.36, 8.01, 5.78, 4.73),
    "large": (367.43, 133.37, 32.72, 9.99, 3.17),
}
fig, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(7.4, 5.2))
for eta in samplers:
    label = "σ̂" if eta == "large" else f"η = {eta}"
    a.loglog(counts, exact["linspace", eta], label=label)
    b.loglog(counts[1:], paper[eta])
    row = [cell[eta, k] for k in long]
    c.errorbar(long, [r["frechet"] for r in row], yerr=[r["uncertainty"] for r in row], capsize=2)
    d.loglog(counts, exact["trailing", eta])
c.set(xscale="log", yscale="log")
c.set_yticks([0.3, 0.5, 1, 2], ["0.3", "0.5", "1", "2"])
c.minorticks_off()
titles = "exact: T … 1, 0", "published: CIFAR-10", "recorded, MNIST: T … 1, 0", "exact: evenly to 0"
for ax, title in zip((a, b, c, d), titles, strict=True):
    ax.set_title(title, fontsize=10)
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
    "MNIST: σ̂ highest at 5 and 10 steps; from 20 on η = 0 is highest, at 0.5, and the others lie between 0.26 and 0.41. "
    "Exact, with even steps: σ̂ lowest everywhere.",
)

# %% [markdown]
# The claim holds: DDIM with 5 steps loses a little, 0.73, and with 10 it is as good as with 1,000, near 0.5. Of the table's
# shape one part is there: $\hat\sigma$ is far off at 5 and 10 steps, and no longer at 50. The rest is not: η = 0 is no better than
# η = 1 at 5 steps, and from 20 on the draws are ahead, between 0.26 and 0.41.
#
# Why? These digits are easy: after 10 steps no error of the *steps* is left to be seen. (For scale: 500 real digits, drawn
# at random, are at 0.53. Ours go evenly round the classes and can get lower.) What remains is the error of the
# network. DDIM carries every mistake to the end; a step that exchanges noise washes older ones out (Karras et al. 2022,
# section 4). In the paper this shows at 1,000 steps only, where $\hat\sigma$ wins. Here 20 are enough; at 1,000 $\hat\sigma$ and
# η = 1 are both at 0.34 ± 0.06, against 0.50 ± 0.07 for DDIM.
#
# And the last step? Live, with 5 steps, we also measure the grain in the uppermost rows, which MNIST leaves black.

# %%
n = budget.samples(150, at_least=70)
noise, wanted, rows = torch.randn(n, 1, 32, 32, generator=generator), torch.arange(n) % 10, {}
for spacing, eta in (("linspace", "0"), ("linspace", "1"), ("linspace", "large"), ("trailing", "large")):
    made = sample(clipped, noise, path.levels(5, spacing), wanted, step=samplers[eta], generator=generator)
    measured = evaluate(made.clamp(-1, 1), wanted, zoo.yardstick("mnist"))["frechet"]
    distance = "{value:.2f} ± {uncertainty:.2f}".format(**measured)
    grain = made[..., :4, :].std((1, 2, 3))  # of the uppermost four rows, which MNIST leaves black
    name = f"{spacings[spacing]}, {'σ̂' if eta == 'large' else f'η = {eta}'}"
    print(f"{name:18} distance {distance}   grain {grain.mean():.3f} ± {grain.std() / n**0.5:.3f}")
    rows[name] = made[:10].clamp(-1, 1)
print(f"live: 5 steps, n = {n}; ± one standard error over the draw of the samples")
strip(
    rows,
    columns=10,
    alt="Ten digits in four rows, 5 steps each. With times down to 1: clean for η = 0 and η = 1, and for σ̂ "
    "covered with coarse grain. With even steps and σ̂: faint grain.",
)

# %% [markdown]
# $\hat\sigma$ leaves its noise in the picture when the last step starts at t = 1. The same rule with even steps has about a
# quarter of the grain, and its distance is among the others. (Live and recorded distances do not compare: the figure
# falls with n.)

# %% [markdown] tags=["play"]
# ## Play
#
# A round trip through four noises and back to the first, under two labels at once, at guidance 2. Above on the arc, below
# on the straight lines between the same four. Watch the histogram of the straight one: where it is narrow, what do the digits have in
# common?

# %%
stations, leg = torch.randn(4, 1, 1, 32, 32, generator=generator), min(8, budget.samples(8, at_least=2))
legs = [(stations[k], stations[(k + 1) % 4], w / leg) for k in range(4) for w in range(leg)]
trips = {
    name: torch.cat([way(a, b, w) for a, b, w in legs]) for name, way in ways.items()
}  # (4·leg, 1, 32, 32)
panels, surer = {}, Clip(ClassifierFreeGuidance(plain, 2.0))
for name, noise in trips.items():
    pair = [sample(asking(surer, torch.full((4 * leg,), label)), noise, path.levels(6)) for label in (2, 8)]
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
# Your step and your solver against diffusers, with the bundled network. Their times are ours minus 1.

# %%
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
    "It is another sampler for the same trained network. The loss only ever looks at single noise levels, so every "
    "update that leads from the right mixture of picture and noise at one level to the right one at the next is allowed. "
    "DDPM gives up a part of its noise in each step and draws fresh; DDIM keeps it: x' = α'·x̂₀ + σ'·ε̂. A number η "
    "moves between the two.\n\n"
    "With η = 0 the sample is a function of the starting noise, and the update is Euler's method for an ODE. So it "
    "works with 10 to 50 steps for some loss of quality, it can be inverted, noises can be interpolated, and better "
    "solvers can replace it.",
    [
        (
            "Why is the process called non-Markovian?",
            "The forward process with the same levels whose reverse step is DDIM's looks at x₀ as well as at the state before. "
            "Nobody runs it; it only proves that the same loss fits.",
        ),
        (
            "Is DDIM always better at few steps?",
            "In the published table, yes. With exact denoisers the larger variance can be ahead, if the last "
            "step is long enough to take its noise out again.",
        ),
        (
            "Why is inversion not exact?",
            "Up and down evaluate ε̂ at different ends of a step. The error falls with the step length, and grows with guidance.",
        ),
        (
            "Why not interpolate noise linearly?",
            "Half-way the variance is a half. The network gets noise weaker than the level says, and draws more average pictures.",
        ),
        (
            "What do DPM-Solver++ or Heun change?",
            "The same curve, followed with a second-order method. 2M extrapolates x̂₀ from the step before and asks no more often.",
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
        "You invert a picture in 50 steps and sample back in 50. It is close, not equal. Why?",
        [
            Choice("the network has errors", False, "Its curve can be followed both ways all the same."),
            Choice("the slopes up and down differ", True, "Each step takes ε̂ where it starts."),
            Choice("sampling adds noise", False, "With η = 0 nothing is drawn."),
        ],
    ),
    Question(
        "You can afford 20 questions to the network. How many steps do Heun and 2M get?",
        [
            Choice("20 each", False, "Heun asks twice in each step, except in one to t = 0."),
            Choice("10 and 20", True, "2M remembers instead of asking. (Heun: 10 steps, 19 questions.)"),
        ],
    ),
)

# %% [markdown] tags=["references"]
# ## References
#
# - Song, Meng and Ermon 2021, *Denoising Diffusion Implicit Models*, arXiv 2010.02502: eq. 12 and 16 (the update), eq. 14 (the
#   ODE), table 1 (steps and η), section 5.4 and table 2 (round trip), appendix D.5 (slerp).
# - Song et al. 2021, *Score-Based Generative Modeling through Stochastic Differential Equations*, arXiv 2011.13456: section 4.3,
#   the same ODE for any diffusion.
# - Karras et al. 2022, *Elucidating the Design Space of Diffusion-Based Generative Models*, arXiv 2206.00364: algorithm 1, Heun.
# - Lu et al. 2022, *DPM-Solver++*, arXiv 2211.01095: algorithm 2, the multistep solver.
# - Shoemake 1985, *Animating Rotation with Quaternion Curves*: section 3, spherical interpolation.
#
# You can now sample well with few steps. Next, how to ask for *what* is sampled: {{lesson 09}}.
