# %% [markdown] tags=["header"]
# title: Noise schedules
# question: What is a noise schedule, and why does its shape decide how well a diffusion model trains and samples?
# difficulty: 2
# prerequisites: 02, 03, 04
# builds: scaled_linear_betas, cosine_betas, sigmoid_betas, rescale_zero_terminal_snr, schedules

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - turn any curve of signal into a list of steps, and say why one step is clipped (exercise 05.1)
# - measure what a little signal left at T does to the samples, and remove it (exercises 05.2 and 05.4)
# - compare schedules in the one coordinate that all of them share, log-SNR, and design one in it (exercise 05.3)
# - write the class that training and sampling ask: data and noise at any time (exercise 05.6)
# - move a schedule to larger pictures (exercise 05.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Two digits under four published schedules. A schedule is a list of 1,000 steps; each panel uses another list, with the
# same digits and the same noise. All panels begin with the clean digits at t = 0 and end, or seem to end, in noise.
#
# The first list is DDPM's, the second Stable Diffusion's. (`sample`, which draws the digits, is lesson 3's
# loop with the step of lesson 1.)
# Press play. **In each panel, at which t can you no longer read the digits?** The steps after that point are spent on
# pictures in which there is hardly anything to see.

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import (
    Watched,
    budget,
    exercise,
    explore_schedules,
    figure,
    landscape,
    scrub,
    strip,
)
from diffusion_lessons.paths import DiscreteVP, Level, add_noise
from diffusion_lessons.samplers import sample
from diffusion_lessons.schedules import cosine_betas, linear_betas, scaled_linear_betas, sigmoid_betas

lists = {
    "linear": linear_betas,
    "scaled-linear": scaled_linear_betas,
    "cosine": cosine_betas,
    "sigmoid": sigmoid_betas,
}
paths = {name: DiscreteVP(make(1000)) for name, make in lists.items()}  # path(t) is the level of time t

# %%
mnist = zoo.load("mnist-unet").on(device)  # a network that comes with the course draws the digits
labels = torch.arange(10)
start = torch.randn(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    drawn = sample(mnist.denoiser(), start.to(device), mnist.path.levels(16), labels.to(device)).cpu()


def noised(pictures, path, times):
    """The pictures (B, 1, H, W) side by side at each of the times, always with the same noise."""
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(5))
    return [torch.cat(list(add_noise(pictures, noise, path(t))), dim=2) for t in times]


# %% jupyter={"source_hidden": true}
times = range(0, 1001, 100)
scrub(
    {name: noised(drawn[[3, 6]], path, times) for name, path in paths.items()},
    [f"t = {t}" for t in times],
    alt="A 3 and a 6 sink into noise between t = 0 and t = 1000, in four panels. The linear panel is lost first, then "
    "scaled-linear; in the cosine and sigmoid panels the digits can be seen longest.",
    columns=6,
)

# %% [markdown] tags=["guess"]
# ## Guess
#
# You train a network that removes noise. You may choose how much noise it meets at each time t = 1 … 1000. **Which curve
# would you draw, from clean to noise?** Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Equal steps of β, the noise that one step adds.* The product of what the steps keep then falls much faster than you may
#   expect. Ho et al. let β rise along a straight line. That is the first panel.
# - *A straight fall of the signal.* Nichol and Dhariwal drew nearly this: a cosine, level at both ends. It is the third panel.
# - *Equal steps of the ratio of signal to noise*, on a logarithmic scale. This is possible, but where does the scale begin
#   and end? It also spends much time on pictures that are nearly clean or nearly noise.
# - *More time where the network has more to learn*, or where a sampler makes its largest mistakes. These are two different
#   questions, and they have two different answers. This lesson measures both.
# - *It depends on the picture.* The same noise hides a small picture and leaves a large one readable. You will see that, too.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# Stable Diffusion's schedule ends with $\bar\alpha_T = 0.0047$: less than half a percent of the variance at t = 1000 is still
# picture. A sampler starts from noise that holds no picture at all.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "The data are plain cards of 64 × 64 equal pixels in light shades: the shades have the mean 0.8 on a "
    "scale from −1 (black) to 1 (white). A perfect denoiser of this schedule draws cards from pure noise. What "
    "is the mean of their shades?",
    [
        Choice(
            "0.80: the denoiser is perfect",
            False,
            "It is perfect for pictures that were noised to t = 1000. Pure noise is not one of them.",
        ),
        Choice(
            "0.79 or so: half a percent is next to nothing",
            False,
            "Half a percent for each pixel. The shade is an average over 4,096 of them, and the noise "
            "averages out.",
        ),
        Choice(
            "about 0.27, a darker grey", True, "You measure it below, and see how it grows with the picture."
        ),
        Choice(
            "0, since the noise has mean 0",
            False,
            "The denoiser also knows which shades are likely, and that keeps its answer above 0.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## A schedule is a curve; its steps follow from it
#
# Ho et al. chose the list of βs: a straight line, high enough to end in noise. But training jumps to time t at once, so no
# single step matters to it. What matters is $\bar\alpha_t$, the product of what all steps so far keep. With a rising line
# of βs this product falls fast: at half-time, 8 % of the variance is signal, and the rest is noise.
#
# Nichol and Dhariwal went the other way. They drew the curve $\bar\alpha_t$ that they wanted, level at both ends, and worked
# out the βs that give this curve.
#
# $$\bar\alpha_t = \prod_{s=1}^{t} (1-\beta_s) \quad\Longleftrightarrow\quad \beta_t = 1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}},
# \qquad \text{cosine: } \bar\alpha_t = \frac{f(t)}{f(0)}, \quad f(t) = \cos^2\!\left(\frac{t/T + s}{1 + s}\cdot\frac{\pi}{2}\right)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\beta_t$ | variance of the noise that step $t$ adds | (T,) |
# | $\bar\alpha_t$ | share of the variance that is still signal, $\bar\alpha_0 = 1$ | (T + 1,) |
# | $s$ | a small offset, 0.008, so that the first steps are not too small | number |
#
# (Ho et al. write $\alpha_t$ for $1-\beta_t$. Here $\alpha_t = \sqrt{\bar\alpha_t}$ is the factor of the picture and
# $\sigma_t = \sqrt{1-\bar\alpha_t}$ the factor of the noise.) At $t = T$ the cosine is 0, so the last step would have
# $\beta_T = 1$. It is held at 0.999.


# %% [markdown] tags=["exercise-card"]
# {{exercise 05.1}}

# %% tags=["exercise"]
import math


def betas_of(alphas_cumprod):
    """β_1 … β_T (T,) from ᾱ_0 … ᾱ_T (T + 1,), or from any multiple of it."""
    return 1 - alphas_cumprod[1:] / alphas_cumprod[:-1]


@exercise("05.1")
def cosine_schedule(T, s=0.008, max_beta=0.999):
    """The β of T steps of the cosine schedule, none above max_beta: (T,), float64.

    T counts steps: the curve has T + 1 points, t = 0 … T.
    """
    ### BEGIN SOLUTION
    t = torch.arange(T + 1, dtype=torch.float64) / T
    curve = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return betas_of(curve).clamp(max=max_beta)
    ### END SOLUTION


# %% [markdown]
# How many steps does each list spend on pictures that cannot be read? A bundled classifier of noisy digits reads 36 of 100
# digits where the SNR, $\bar\alpha/(1-\bar\alpha)$, is 0.025 (by its card, on 10,000 test digits). Guessing would read 10.

# %% tags=["nbval-check-output"]
paths["cosine"] = DiscreteVP(cosine_schedule(1000))

print("                first β    last β    ᾱ at T     SNR below 0.025    below 0.01")
for name, path in paths.items():
    snr = path.alphas_cumprod[1:] / (1 - path.alphas_cumprod[1:])
    hidden, drowned = ((snr < limit).double().mean() for limit in (0.025, 0.01))
    print(
        f"{name:14} {path.betas[0]:8.5f}  {path.betas[-1]:8.4f}   {path.alphas_cumprod[-1]:.1e}   "
        f"{hidden:5.0%} of steps      {drowned:4.0%}"
    )
clipped = int((paths["cosine"].betas == 0.999).sum())
print(f"steps that the clip of the cosine schedule touches: {clipped}")

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

from diffusion_lessons.course.widgets import plain_lines, show

with plain_lines():
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0))
    for name, path in paths.items():
        left.plot(path.alphas_cumprod.numpy(), label=name)
        right.semilogy(range(1, 1001), path.betas.numpy())
    left.set(xlabel="t", ylabel="ᾱ, share of signal")
    right.set(xlabel="t", ylabel="β, noise added by step t", ylim=(1e-5, 2))
    left.legend(fontsize=10)
figure(
    fig,
    alt="Left: ᾱ over t. The linear curve crosses one half at t = 260, scaled-linear at 355, cosine and "
    "sigmoid near 500. Right: β on a logarithmic scale: linear and scaled-linear stay at or below 0.02, cosine "
    "and sigmoid rise to almost 1 in the last steps.",
)

# %% [markdown]
# **What to notice:** the linear schedule spends 40 % of its steps where the classifier reads 36 of 100 digits or fewer. The
# cosine schedule spends 10 % there. Nichol and Dhariwal skipped up to a fifth of the linear schedule's steps at the noisy
# end, and the published FID hardly changed (section 3.2, figure 4). The clip touches one single step. If yours touches more,
# look again.

# %% [markdown] tags=["idea"]
# ## What is left at T
#
# At $T$ a training picture is $\alpha_T x_0 + \sigma_T\varepsilon$. Sampling starts from $\varepsilon$ alone. If
# $\alpha_T > 0$, the network has learnt that a little of the picture can be seen even at $T$.
#
# In one pixel, that little is lost in the noise. But the *shade* of a whole picture is an average over all its
# pixels. In this average the noise almost cancels, and the signal does not. So the network measures the shade of pure noise.
# This shade is close to 0. The network takes it for a faint picture of middle grey, and draws a picture that is too grey.

# %% [markdown]
# $$\operatorname{mean}(x_T) = \alpha_T\, b + \frac{\sigma_T}{\sqrt N}\,\varepsilon', \qquad
# \mathrm{SNR}_{\text{shade}} = N\cdot\mathrm{SNR}(T)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $b$ | shade of a picture, the mean of its pixels | number |
# | $N$ | number of its pixels | number |
# | $\varepsilon'$ | the mean of the noise times $\sqrt N$, again $\mathcal N(0, 1)$ | number |
#
# Scaled-linear has SNR(T) = 0.0047. With 64 × 64 pixels the SNR of the shade is 19: to the eye this is pure noise, and
# still it tells the shade.
#
# To see the effect we need a denoiser that makes no mistakes of its own. Take cards of one shade each, with
# $b \sim \mathcal N(0.8, 0.2^2)$. For these cards $\mathbb E[x_0 \mid x_t]$ has a closed form.
#
# <details><summary>The closed form, and what the samples' mean will be</summary>
#
# The noise tells of $b$ only through the mean $\bar x$ of the pixels, which is Gaussian with mean $\alpha b$ and variance
# $\sigma^2/N$. With the prior $b \sim \mathcal N(m, s^2)$ Bayes' rule for Gaussians gives
#
# $$\mathbb E[b \mid x] = m + \frac{\alpha s^2}{\alpha^2 s^2 + \sigma^2/N}\,(\bar x - \alpha m).$$
#
# A deterministic sampler with many steps maps the Gaussian of $\bar x$ at $T$, with mean $\alpha_T m$ and variance
# $\alpha_T^2 s^2 + \sigma_T^2/N$, onto the Gaussian of $b$, by shift and scale. Noise has the mean 0 instead of
# $\alpha_T m$, so the mean of the samples is
#
# $$m - \frac{s\,\alpha_T\,m}{\sqrt{\alpha_T^2 s^2 + \sigma_T^2/N}} .$$
#
# For $m = 0.8$, $s = 0.2$, $N = 4096$ and $\alpha_T = 0.0683$ that is 0.27. The cell below measures it.
#
# </details>

# %%
from diffusion_lessons.denoiser import Estimate

MEAN, SPREAD = 0.8, 0.2  # of the shades of our cards


def card_denoiser(x, level, condition=None):
    """The exact E[x₀ | x] of cards of one shade each, x: (B, 1, H, W)."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2 / x[0].numel())
    shade = MEAN + gain * (x.mean((1, 2, 3), keepdim=True) - alpha * MEAN)
    return Estimate.from_x0(shade.expand_as(x), x, level)


def mean_shade(cards):
    """Mean of the shades and its standard error."""
    shades = cards.mean((1, 2, 3))
    return shades.mean().item(), shades.std().item() / len(shades) ** 0.5


noise = torch.randn(budget.samples(400), 1, 64, 64, generator=generator)
grey = sample(card_denoiser, noise, paths["scaled-linear"].levels(50))
print("mean shade {:.3f} ± {:.3f} (one standard error), data {}".format(*mean_shade(grey), MEAN))

# %% [markdown] tags=["exercise-card"]
# The cards come out too grey, although the denoiser is exact at every level. Only the start is wrong. Lin et al. repair
# the schedule by moving the curve $\sqrt{\bar\alpha_t}$: shift it so that it ends at 0, and stretch it so that its first
# value stays. With $t$ from 1 to $T$:
#
# $$\sqrt{\bar\alpha'_t} = \left(\sqrt{\bar\alpha_t} - \sqrt{\bar\alpha_T}\right)\cdot
# \frac{\sqrt{\bar\alpha_1}}{\sqrt{\bar\alpha_1} - \sqrt{\bar\alpha_T}}$$
#
# {{exercise 05.2}}


# %% tags=["exercise"]
@exercise("05.2")
def rescale_to_zero_snr(betas):
    """The rescaled steps, betas and result (T,), T ≥ 2: no signal left at T, and the first step as it was."""
    ### BEGIN SOLUTION
    root = torch.cumprod(1 - betas, 0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return betas_of(torch.cat([root.new_ones(1), root**2]))
    ### END SOLUTION


# %%
paths["rescaled"] = DiscreteVP(rescale_to_zero_snr(scaled_linear_betas()))
sides, measured = (8, 16, 32, 64), {}
for name in ("scaled-linear", "rescaled"):
    cards = [sample(card_denoiser, noise[..., :n, :n], paths[name].levels(50)) for n in sides]
    measured[name] = [mean_shade(x) for x in cards]
    row = (f"{n} px: {m:.3f} ± {e:.3f}" for n, (m, e) in zip(sides, measured[name], strict=True))
    print(f"{name:14}", *row, sep="   ")
white = cards[-1]  # rescaled, 64 × 64

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(7.4, 2.9))
for (name, values), mark in zip(measured.items(), ("s-", "o-"), strict=True):
    mean, error = torch.tensor(values).T.numpy()
    ax.errorbar(sides, mean, yerr=2 * error, fmt=mark, capsize=3, label=name)
ax.axhline(MEAN, color="gray", linestyle="--", label="data")
ax.set(xlabel="side of the cards in pixels", ylabel="mean shade of samples", xscale="log", ylim=(0, 1))
ax.set_xticks(sides, [str(n) for n in sides])
ax.minorticks_off()
ax.legend(fontsize=10, loc="lower left")
figure(
    fig,
    alt="Mean shade of sampled cards, with two standard errors, over the side of the card. Rescaled: close to "
    "the data's 0.8 at every size. Scaled-linear: from about 0.70 at 8 pixels down to about 0.27 at 64.",
)
shades = MEAN + SPREAD * torch.randn(9, 1, 1, 1, generator=generator).expand(9, 1, 64, 64)
alt = "Nine cards a row. Data and the rescaled schedule: mostly light grey to white. Scaled-linear: darker greys."
show(strip({"data": shades, "scaled-linear": grey[:9], "rescaled": white[:9]}, alt, columns=9))

# %% [markdown]
# **What to notice:** half a percent of leftover signal takes the mean shade of 64 × 64 cards from 0.80 to 0.27, two thirds of
# the way to middle grey. The larger the picture, the larger the error. Lin et al. name this as the reason why Stable
# Diffusion could not paint a very dark or a very bright picture; their table 1 gives the same
# $\sqrt{\bar\alpha_T} = 0.068$.
#
# At $\alpha_T = 0$ a network can no longer be asked for $\varepsilon$: there $\varepsilon$ is all of $x_T$, and knowing it tells
# nothing of $x_0$. The network is asked for $v = \alpha\varepsilon - \sigma x_0$ instead ({{built-in 17}}).

# %% [markdown] tags=["exercise-card"]
# The same fault has a second cause. A colleague has taken your rescaled schedule, and reports: "Still grey." The sampler
# spaces its times as many samplers do.
#
# {{exercise 05.4}}


# %% tags=["exercise"]
@exercise("05.4")
def walk_from_noise(denoiser, path, steps, noise):
    """DDIM from pure noise (B, C, H, W) to pictures of the same shape, in so many equal steps.

    denoiser(x, level) gives x0, eps (a pair; its .x0 and .eps are the same); path(t) gives the level of time t,
    with .alpha and .sigma; path.T is the noisiest time. A time that is no whole number may be rounded or not.
    """
    ### BEGIN SOLUTION
    times = [round(path.T * k / steps) for k in reversed(range(steps + 1))]
    x, now = noise, path(times[0])
    for t in times[1:]:
        x0, eps = denoiser(x, now)
        now = path(t)
        x = now.alpha * x0 + now.sigma * eps
    return x
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "My schedule has no signal left at T, and my cards are grey all the same."
    # stride = path.T // steps
    # times = [1 + stride * k for k in reversed(range(steps))] + [0]
    # x, now = noise, path(times[0])
    # for t in times[1:]:
    #     x0, eps = denoiser(x, now)
    #     now = path(t)
    #     x = now.alpha * x0 + now.sigma * eps
    # return x
    ### END STUDENT


# %%
for steps in (5, 10, 25):
    colleague = sample(card_denoiser, noise, paths["rescaled"].levels(steps, "leading"))
    yours = walk_from_noise(card_denoiser, paths["rescaled"], steps, noise)
    first = paths["rescaled"].levels(steps, "leading")[0].t
    print(
        f"{steps:2} steps: the colleague's start at t = {first:.0f}, mean shade "
        "{:.3f} ± {:.3f}; from T: {:.3f} ± {:.3f}".format(*mean_shade(colleague), *mean_shade(yours))
    )

# %% [markdown]
# **What to notice:** the mean of the data is 0.8. The fewer the steps, the lower the first time and the greyer the cards. This
# spacing, called "leading", is the default of several published samplers. With 1,000 steps it starts
# at T, and the fault does not show.

# %% [markdown] tags=["idea"]
# ## Log-SNR: one road, different speeds
#
# Over $t$ the four schedules look like four different things. But a level of a variance-preserving path is fixed by one
# number: signal and noise add up to 1, so their ratio tells both. The logarithm of this ratio is the coordinate $\lambda$. In
# this coordinate all schedules are the same road. A schedule says only *how fast to travel where*.
#
# The speed matters twice. Training draws $t$ evenly, so it meets most often the levels where the schedule is slow. And a
# sampler with few steps, even in $t$, takes its longest strides where the schedule is fast.
#
# $$\lambda_t = \log\frac{\alpha_t^2}{\sigma_t^2} = \log\frac{\bar\alpha_t}{1-\bar\alpha_t}, \qquad
# p(\lambda) = \frac{1}{T}\left|\frac{dt}{d\lambda}\right|$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\lambda_t$ | log-SNR, natural logarithm; from about 10 (clean) to −10 (noise) | (T + 1,) |
# | $p(\lambda)$ | how often training meets a level, for $t$ drawn evenly from 1 … T | density |

# %% [markdown] tags=["exercise-card"]
# Whoever can go back from $\lambda$ to the steps can *design* a schedule. The plainest is a straight line in log-SNR: between
# its two ends it gives every level the same share of the training.
#
# {{exercise 05.3}}


# %% tags=["exercise"]
@exercise("05.3")
def schedule_from_log_snr(log_snr):
    """The steps β (T,) of the variance-preserving path with this log-SNR at t = 1 … T, log_snr: (T,), falling.

    Its last value may be −∞: no signal at T.
    """
    ### BEGIN SOLUTION
    alphas_cumprod = torch.cat([log_snr.new_ones(1), torch.sigmoid(log_snr)])
    return betas_of(alphas_cumprod)
    ### END SOLUTION


# %% tags=["nbval-check-output"]
paths["log-SNR line"] = DiscreteVP(schedule_from_log_snr(torch.linspace(8, -8, 1000, dtype=torch.float64)))

print("share of the steps with log-SNR      above 4.6    −2 to 2    below −4.6")
for name, path in paths.items():
    log_snr = path.alphas_cumprod[1:].logit()
    parts = [(log_snr > 4.6), (log_snr.abs() < 2), (log_snr < -4.6)]
    print(f"{name:33}" + "".join(f"{part.double().mean():12.0%}" for part in parts))

# %% jupyter={"source_hidden": true}
with plain_lines():
    fig, (road, density) = plt.subplots(1, 2, figsize=(8.4, 3.4))
    for name, path in paths.items():
        log_snr = path.alphas_cumprod[1:].logit()  # (T,)
        road.plot(log_snr.numpy(), path.alphas_cumprod[1:].sqrt().numpy(), label=name)
        seen = torch.histogram(log_snr, bins=24, range=(-12.0, 12.0)).hist / len(log_snr)
        density.plot(torch.arange(-11.5, 12).numpy(), seen.numpy())
    road.set(xlabel="log-SNR", ylabel="α, factor of the picture", xlim=(-12, 12))
    density.set(xlabel="log-SNR", ylabel="share of training", xlim=(-12, 12))
    fig.legend(*road.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=10)
figure(
    fig,
    alt="Left: the factor of the picture over log-SNR: the curves of all six schedules lie on one S-curve. "
    "Right: share of training at each log-SNR: cosine and sigmoid peak at 0, linear at −1 with a broad "
    "shoulder down to −10, the line is flat from −8 to 8.",
)

# %% [markdown]
# **What to notice:** on the left six schedules are one curve. On the right they differ. None of the four published lists
# is even in log-SNR. Cosine puts 56 % of the training between −2 and 2, linear 35 %; below −4.6, where the SNR is under 1/100, cosine puts
# 6 % and linear 33 %. Kingma et al. (2021, section 5.1) show the other side: in continuous time the variational bound depends
# on a schedule only through its two ends. All that lies between decides *where* effort goes, not *what* is learnt.

# %% [markdown] tags=["exercise-card"]
# Now put the pieces together. Training asks for $\alpha$ and $\sigma$ at a time; a sampler asks for a list of levels. Neither
# should depend on whole times: a sampler with 7 steps has to stop at t = 142.86.
#
# {{exercise 05.6}}


# %% tags=["exercise"]
@exercise("05.6")
class Schedule:
    """Factors α of the data and σ of the noise at any time from t = 0 (data) to t = T (noise); α² + σ² = 1."""

    def __init__(self, betas):
        """Keep self.T, the number of steps in betas (T,), and self.alphas_cumprod, ᾱ_0 … ᾱ_T (T + 1,).

        betas are float64, the last may be 1.
        """
        ### BEGIN SOLUTION
        self.T = len(betas)
        self.alphas_cumprod = torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])
        ### END SOLUTION

    @classmethod
    def from_log_snr(cls, log_snr, T):
        """The schedule of T steps whose log-SNR at t = 1 … T is log_snr(t/T).

        log_snr is a function of a tensor: call it once, with all T values, float64.
        """
        ### BEGIN SOLUTION
        return cls(schedule_from_log_snr(log_snr(torch.arange(1, T + 1, dtype=torch.float64) / T)))
        ### END SOLUTION

    def at(self, t):
        """α and σ, both shaped like t: float64 real times in [0, T], in any shape.

        Between two neighbouring whole times log-SNR is a straight line. Where it is infinite at one of the two
        (ᾱ is 1 or 0 there), ᾱ is a straight line instead.
        """
        ### BEGIN SOLUTION
        before = t.floor().clamp(max=self.T - 1).long()
        low, high, rest = self.alphas_cumprod[before], self.alphas_cumprod[before + 1], t - before
        signal = torch.lerp(low.logit(), high.logit(), rest).sigmoid()
        signal = torch.where((low == 1) | (high == 0), torch.lerp(low, high, rest), signal)
        return signal.sqrt(), (1 - signal).sqrt()
        ### END SOLUTION

    def levels(self, n):
        """A list of n + 1 triples (t, α, σ): n ≥ 1 equal strides from T down to 0, both included.

        Times are not rounded. All three may be numbers or 0-d tensors.
        """
        ### BEGIN SOLUTION
        t = torch.arange(n, -1, -1, dtype=torch.float64) * self.T / n
        return list(zip(t, *self.at(t)))
        ### END SOLUTION


# %% [markdown]
# Does it agree with the paths used so far? They round a sampler's times, so the two agree where n divides 1,000.

# %% tags=["nbval-check-output"]
schedules = {name: Schedule(path.betas) for name, path in paths.items()}


def levels_of(schedule, n):
    """Your levels as the system's samplers take them: each with .t, .alpha and .sigma."""
    return [Level(*each) for each in schedule.levels(n)]


anywhere = torch.linspace(0, 1000, 997, dtype=torch.float64)
gaps = [(schedules[name].at(anywhere)[0] - path(anywhere).alpha).abs().max() for name, path in paths.items()]
print("largest difference of α at 997 real times below 1e-12:", bool(max(gaps) < 1e-12))
print("times of 7 steps:", [round(float(level.t), 2) for level in levels_of(schedules["cosine"], 7)])

# %% [markdown] tags=["idea"]
# ## A sampler's strides
#
# A sampler with n steps evaluates the network n times (its NFE is n). At which levels should it stop? For Gaussian data with
# the spread c (a standard deviation) the question has an exact answer. Write the level as an angle $\varphi$, 0 at the data
# and 90° in noise. One step of DDIM with the exact denoiser then makes the spread of the samples too small by the factor
# $\cos\Delta\varphi$, where $\Delta\varphi$ is the step's stride in this angle.
#
# All strides together are 90°. Their cosines cost least when all strides are equal.

# %% [markdown]
# $$\tan\varphi = \frac{\sigma}{c\,\alpha}, \qquad
# \frac{\text{spread of the samples}}{c} = \prod_{i=1}^{n} \cos\Delta\varphi_i \;\approx\; 1 - \tfrac12\sum_i (\Delta\varphi_i)^2$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $c$ | spread of the data, $x_0 \sim \mathcal N(0, c^2)$ | number |
# | $\varphi$ | the level as an angle | (n + 1,) |
# | $\Delta\varphi_i$ | stride of step $i$, in radians in the sum | (n,) |
#
# <details><summary>Where the cosine comes from</summary>
#
# $x$ has the variance $v^2 = c^2\alpha^2 + \sigma^2$, so $c\alpha = v\cos\varphi$ and $\sigma = v\sin\varphi$. For Gaussians
# $\mathbb E[x_0 \mid x] = \frac{\alpha c^2}{v^2}x$ and $\mathbb E[\varepsilon \mid x] = \frac{\sigma}{v^2}x$. One step goes to
#
# $$x' = \alpha'\,\mathbb E[x_0 \mid x] + \sigma'\,\mathbb E[\varepsilon \mid x]
# = \frac{\alpha'\alpha c^2 + \sigma'\sigma}{v^2}\,x = \frac{v'}{v}\cos(\varphi'-\varphi)\,x .$$
#
# The factor $v'/v$ is right: it turns one spread into the other. The cosine is the error. From $v_T = 1$ (no signal left) to
# $v_0 = c$ the product of all steps is $c\prod\cos\Delta\varphi_i$.
#
# </details>


# %%
def angles(levels, c):
    """φ of each level in degrees: (n + 1,)."""
    return torch.stack([torch.atan2(level.sigma, c * level.alpha) for level in levels]).rad2deg()


def sampled_spread(levels, c):
    """The spread that DDIM ends with, from N(0, 1), step by step with the exact denoiser of N(0, c²)."""
    spread = 1.0
    for now, after in zip(levels[:-1], levels[1:], strict=True):
        variance = (c * now.alpha) ** 2 + now.sigma**2
        spread *= float((after.alpha * now.alpha * c**2 + after.sigma * now.sigma) / variance)
    return spread


# %% tags=["nbval-check-output"]
schedules["even strides"] = Schedule.from_log_snr(
    lambda u: -2 * torch.log(0.5 * torch.tan(math.pi / 2 * u)), 1000
)
print("10 steps      spread lost at c = 0.5   at c = 0.25   strides in degrees at c = 0.5")
for name, schedule in schedules.items():
    levels = levels_of(schedule, 10)
    lost, lost_narrow = (c - sampled_spread(levels, c) for c in (0.5, 0.25))
    strides = " ".join(f"{stride:3.0f}" for stride in -angles(levels, 0.5).diff())
    print(f"{name:14} {lost:16.3f} {lost_narrow:15.3f}       {strides}")
levels = levels_of(schedules["even strides"], 10)
by_formula = 0.5 * torch.cos(angles(levels, 0.5).diff().deg2rad()).prod()
print("formula and step by step agree to 1e-12:", bool(abs(by_formula - sampled_spread(levels, 0.5)) < 1e-12))

# %% [markdown]
# **What to notice:** each row of strides adds up to about 90°. A stride counts with its square, so the largest one costs
# most. Linear and scaled-linear both end with a stride of 34°, cosine with 19°: at t = 100 the two have log-SNR 2.2, cosine has
# 3.6. Linear has hardly moved before: its first five strides are 8° together, scaled-linear's 15°, cosine's 26°.
#
# With c = 1 cosine itself is the even one, but for its small offset: $\alpha = \cos\varphi$. But no schedule is best for all data. At c = 0.25 the
# straight line in log-SNR, with its many steps near the data, loses less than cosine.
#
# Now the same in two dimensions. 400 points walk from noise towards eight clusters on a ring, in 10 steps, with the
# exact denoiser. Ten steps are too few to part the clusters. Watch *when* the points move.

# %%
from diffusion_lessons.mixtures import GaussianMixture

turn = torch.arange(8, dtype=torch.float64) * (torch.pi / 4)
centres = 1.4 * torch.stack([turn.cos(), turn.sin()], dim=1)
ring = GaussianMixture(centres, 0.1)  # the data, and their exact denoiser


def steps_of_walk(levels, x):
    """x at each of the levels, by DDIM."""
    points = [x]
    for now, after in zip(levels[:-1], levels[1:], strict=True):
        guess = ring(points[-1], now)
        points.append(add_noise(guess.x0, guess.eps, after))
    return torch.stack(points)


cloud = torch.randn(400, 2, generator=generator, dtype=torch.float64)
walks = {name: levels_of(schedules[name], 10) for name in ("linear", "scaled-linear", "cosine")}

# %% jupyter={"source_hidden": true}
scrub(
    {
        name: landscape(ring, levels, steps_of_walk(levels, cloud), span=2.6, arrows=0, cells=32)
        for name, levels in walks.items()
    },
    [f"step {i} of 10" for i in range(11)],
    alt="400 points go from a round cloud to a ring of eight clusters in 10 steps, in three panels. At step 8 the linear panel is "
    "still a cloud, a little denser, and the cosine panel is already an open ring. In the end all points lie along the ring; many "
    "lie between clusters.",
    columns=6,
)

# %% [markdown] tags=["idea"]
# ## Larger pictures need more noise
#
# Is there a best curve for all *sizes* of picture? Take one photograph at 80 × 80 pixels and at 20 × 20, and give each
# pixel equally much noise. You can read the large one better, because your eye averages over neighbouring pixels. A
# convolutional network can do so, too. The coarse content of a picture, what it shows and where, stands in many pixels at
# once. It survives noise that destroys every single pixel.
#
# So a schedule that was tuned at 20 × 20 adds too little noise for 80 × 80. Its numbers are not wrong. They mean something
# else there.

# %%
from sklearn.datasets import load_sample_image
from torch.nn.functional import avg_pool2d


def resized(x, side):
    """Square pictures at a smaller side, by averaging blocks of pixels."""
    return avg_pool2d(x, x.shape[-1] // side)


photo = torch.tensor(load_sample_image("flower.jpg")).float().mean(2) / 127.5 - 1  # (427, 640), grey
flower = resized(photo[None, None, 14:414, 120:520], 80)  # (1, 1, 80, 80)
cosine, times = paths["cosine"], range(0, 1001, 200)

# %% jupyter={"source_hidden": true}
scrub(
    {f"{side} × {side}": noised(resized(flower, side), cosine, times) for side in (20, 40, 80)},
    [f"t = {t}" for t in times],
    alt="One photograph of a flower at three sizes sinks into noise under the cosine schedule. At each t the flower can be seen "
    "better, the larger the picture is.",
    columns=6,
)

# %% [markdown]
# Average blocks of $k\times k$ pixels, $\operatorname{pool}_k$, as in the squares of lesson 2. The mean of $k^2$ independent draws of noise has a standard
# deviation of $1/k$:
#
# $$\operatorname{pool}_k(x_t) = \alpha_t \operatorname{pool}_k(x_0) + \frac{\sigma_t}{k}\,\varepsilon'
# \quad\Longrightarrow\quad \lambda^{\text{pooled}}_t = \lambda_t + 2\log k$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $k$ | how many times larger the side of the picture is | number |
# | $\operatorname{pool}_k(x_0)$ | its coarse content, the picture at the smaller size | (B, C, H/k, W/k) |
# | $\varepsilon'$ | $k$ times the pooled noise, again $\mathcal N(0, I)$ | (B, C, H/k, W/k) |
#
# The formula is exact, but it speaks of pooled pictures. A network sees *all* pixels of the large one. Could the fine
# details tell more of the coarse content than the pool does? Then the gain would be larger than $2\log k$. So we measure
# it on real pictures: crops of two photographs at three sizes. From a noisy crop the best linear guess, learnt on the left
# halves of the photographs, tells the coarse content of crops from the right halves. Coarse content is the crop at 8 × 8.


# %% jupyter={"source_hidden": true}
def crops(name, left, right, stride):
    """All crops of 96 × 96 pixels, so many pixels apart, between two columns of a photograph: (N, 1, 96, 96)."""
    grey = torch.tensor(load_sample_image(name)).float().mean(2) / 127.5 - 1
    return grey[:, left:right].unfold(0, 96, stride).unfold(1, 96, stride).reshape(-1, 1, 96, 96)


names = ("china.jpg", "flower.jpg")
known = torch.cat([crops(name, 0, 320, 5) for name in names])  # to learn from
unseen = torch.cat([crops(name, 320, 640, 10) for name in names])


def coarse_share(side, values):
    """Share of the variance of the coarse content that the best linear guess explains, at each log-SNR."""
    learn, test = (resized(x, side).flatten(1).double() for x in (known, unseen))
    wanted = resized(unseen, 8).flatten(1).double()  # (N, 64)
    mean = learn.mean(0)
    variance, axes = torch.linalg.eigh(torch.cov(learn.T))  # the crops' own axes, and the variance along each
    coarse_axes = resized(axes.T.reshape(-1, 1, side, side), 8).flatten(1)
    coarse_mean = resized(mean.view(1, 1, side, side), 8).flatten(1)
    shares = []
    for value in values:
        alpha, sigma = value.sigmoid().sqrt(), (-value).sigmoid().sqrt()
        x = alpha * test + sigma * torch.randn(test.shape, generator=generator, dtype=torch.float64)
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        guess = coarse_mean + (x - alpha * mean) @ axes * gain @ coarse_axes
        shares.append(1 - (guess - wanted).square().mean() / (coarse_mean - wanted).square().mean())
    return torch.stack(shares)


log_snrs = torch.linspace(4, -8, 13, dtype=torch.float64)
explained = {side: coarse_share(side, log_snrs) for side in (8, 16, 32)}

# %% jupyter={"source_hidden": true}
import numpy as np


def crossing(side, share):
    """The log-SNR at which so much of the coarse content is explained."""
    return float(np.interp(share, explained[side].numpy()[::-1], log_snrs.numpy()[::-1]))


with plain_lines():
    fig, (plain, moved) = plt.subplots(1, 2, figsize=(8.4, 3.2), sharey=True)
    for side, shares in explained.items():
        plain.plot(log_snrs.numpy(), shares.numpy(), label=f"{side} × {side}")
        moved.plot((log_snrs + 2 * math.log(side / 8)).numpy(), shares.numpy())
    plain.set(xlabel="log-SNR", ylabel="coarse content explained", ylim=(0, 1.02))
    moved.set(xlabel="log-SNR + 2·log(side/8)")
    plain.legend(fontsize=10)
figure(
    fig,
    alt="Share of the coarse content that is explained, over log-SNR, for crops of 8, 16 and 32 pixels. Left, three curves of the "
    "same shape side by side: the larger the crop, the lower the log-SNR it survives. Right, moved by 2·log(side/8), the "
    "three lie on one another.",
)
for share in (0.9, 0.8, 0.7, 0.6, 0.5):
    at = [crossing(side, share) for side in (8, 16, 32)]
    print(
        f"{share:.0%} explained: 8 to 16 pixels gains {at[0] - at[1]:.2f}, 16 to 32 gains {at[1] - at[2]:.2f}"
    )
print(f"2·log 2 = {2 * math.log(2):.2f}")

# %% [markdown] tags=["exercise-card"]
# **What to notice:** doubling the side gains 1.3 to 1.5; the formula says 1.39. The details of these photographs add
# nothing that we can measure to a linear guess of the coarse content. (The cards above were the extreme case: the average
# over a whole picture is the largest pool.)
#
# Now the cure: what averaging would gain, the schedule takes back.
#
# {{exercise 05.5}}


# %% tags=["exercise"]
@exercise("05.5")
def shift_schedule(betas, k):
    """The steps (T,) for pictures of k times the side, k > 0: the coarse content as noisy at each t as before.

    Nothing is clipped: log-SNR is shifted, all else follows. k < 1 shifts the other way.
    """
    ### BEGIN SOLUTION
    log_snr = torch.cumprod(1 - betas, 0).logit()
    return schedule_from_log_snr(log_snr - 2 * math.log(k))
    ### END SOLUTION


# %%
shifted = {side: DiscreteVP(shift_schedule(cosine.betas, side / 20)) for side in (20, 40, 80)}

# %% jupyter={"source_hidden": true}
show_times, small = (0, 100, 200, 300, 400, 600), flower.shape[-1] // 4
rows = {"80 × 80": noised(flower, shifted[80], show_times)}
for side, path in shifted.items():
    k = side // small
    pooled = [resized(x, small) for x in noised(resized(flower, side), path, show_times)]
    spreads = [(path(t).alpha ** 2 + (path(t).sigma / k) ** 2).sqrt() for t in show_times]
    rows[f"{side}, pooled" if k > 1 else "20 × 20"] = [
        (x / spread).float() for x, spread in zip(pooled, spreads, strict=True)
    ]
strip(
    rows,
    alt="The flower at six times, each size under its own shifted schedule. First row, 80 × 80: hardly to be seen from t = 300 on. "
    "The other rows: the picture of 20 × 20, and those of 40 × 40 and 80 × 80 pooled to it. In a column the three are about "
    "equally noisy.",
    captions=[f"t = {t}" for t in show_times],
    columns=6,
)

# %% [markdown]
# **What to notice:** under its own schedule the large flower drowns early (first row). Its coarse content does not: pooled to
# 20 × 20, and brought to the same contrast, it is about as noisy at each t as the small picture. Chen (2023) and
# Hoogeboom et al. (2023) found by experiment that large pictures want this. Chen multiplies the picture by a factor below 1. Hoogeboom et al. shift
# log-SNR by $2\log(64/d)$ for pictures of side $d$.

# %% [markdown] tags=["experiment"]
# ## Experiment: does the shape matter here?
#
# The claim of this lesson's question has two parts, so we measure two things. First **sampling**: one network, and several lists
# of levels. The bundled MNIST model was trained along the cosine schedule. But a network can be asked at any level: tell it the time
# at which *its own* schedule has that log-SNR (`at_times_of`). We use your levels, 4 and 8 evaluations for each digit, and
# the rescaled list for Stable Diffusion. Another list, "cosine × 2", is cosine after your `shift_schedule` with k = 2.
# The Fréchet distance to held-out digits is lower for better samples ({{built-in 20}}); accuracy is the share that a
# classifier reads as the digit asked for.

# %%
from diffusion_lessons.experiments.schedules import at_times_of
from diffusion_lessons.guidance import Clip
from diffusion_lessons.metrics import evaluate

FIGURES = ("frechet", "precision", "recall", "accuracy")


def described(pictures, labels, data):
    """The figures of some pictures as one line, ± one standard error over the draw of the pictures."""
    result = evaluate(pictures.cpu().clamp(-1, 1), labels, zoo.yardstick(data))
    values = ((figure, *result[figure].values()) for figure in FIGURES)
    return "   ".join(f"{name} {value:.2f} ± {error:.2f}" for name, value, error in values)


labels = torch.arange(budget.samples(200, at_least=100)) % 10


def mnist_along(name, steps, seed):
    """Digits of the MNIST model along the levels of one of your schedules, from the noise of a seed."""
    start = torch.randn(len(labels), 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    levels = at_times_of(mnist.path, levels_of(schedules[name], steps))
    with torch.no_grad():
        return sample(Clip(mnist.denoiser()), start.to(device), levels, labels.to(device)).cpu()


schedules["cosine × 2"] = Schedule(shift_schedule(cosine.betas, 2))  # log-SNR lower by 1.39 at each t
names = ("linear", "rescaled", "cosine", "cosine × 2", "scaled-linear")
runs = [(name, 4, seed) for seed in range(3) for name in names]
runs += [(name, 8, 0) for name in names[:3]]
sampled = {}
for run in runs:
    sampled[run] = mnist_along(*run)
    print("{:13}  NFE {}, draw {}".format(*run), described(sampled[run], labels, "mnist"), sep="   ")

# %% jupyter={"source_hidden": true}
strip(
    {f"{name}, {steps}": sampled[name, steps, 0][:10] for steps in (4, 8) for name in ("rescaled", "cosine")},
    alt="Digits 0 to 9 from the MNIST model, drawn along the rescaled levels and along the levels of cosine, with 4 and with 8 "
    "evaluations. Within a column the four digits are nearly the same.",
    columns=10,
)

# %% [markdown]
# **The result for sampling:** all lists start from the same noise, so the gap between two of them is known better than the ± of
# each one says. With 4 evaluations the rescaled list has a lower distance than linear and cosine in each of the three draws, by
# 0.07 to 0.15. With 8 evaluations the three lists lie between 0.57 and 0.60. Accuracy is 0.95 or more everywhere, and within a
# column the digits are nearly the same. So the list of levels matters a little when evaluations are very few.
#
# Why the rescaled list? After T it asks the network at log-SNR −3.4, −1.1 and 0.6. Cosine asks at cleaner levels: −1.8, 0 and
# 1.7. "Cosine × 2" tests this cause alone: its levels lie 1.39 lower than cosine's. Its distance is then the same as
# the rescaled list's, within 0.02 in each draw. Linear asks at −5.7, −2.5 and 0.1, and that is too noisy again.
#
# Scaled-linear starts at log-SNR −5.4, from noise that holds no signal: the fault that made the cards grey. Its distance is the
# *lowest* in each draw, and so are its precision and accuracy; its recall is the highest. We exchanged its first level alone for
# T of the rescaled list: then precision, recall and distance come within 0.02 of the rescaled list's. So the
# Fréchet distance alone would not show this fault.
#
# Our Gaussian formula does *not* give this order. There the rescaled list loses nearly as much as linear, and cosine
# loses least of the three. The formula holds for Gaussian data of one spread, and digits are not Gaussian.
#
# Second, **training**. Two networks of the same small kind ({{built-in 06}}) see the same 1,442 digits, the same noise and the same
# number of steps; only the schedule differs. Both then draw digits with your `walk_from_noise`.

# %%
from diffusion_lessons.data import load_dataset, to_float
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.targets import V
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising

data = load_dataset("digits", "train", size=16)
SMALL = dict(base_channels=16, channel_mults=(1, 2), attention_levels=(1,), head_dim=16, patch=2, lr=3e-3)
recipe = Recipe(steps=budget.steps(400), batch=32, channels_last=False, **SMALL)


def trained(path):
    """A network that was trained on the digits along a path."""
    task = Denoising(recipe, data).place(device)  # pictures, noise, times and labels of each step
    network = task.network
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay, fused=True)
    ema = EMA(network)
    for step in (steps := Watched(recipe.steps)):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate(step, step / recipe.steps)
        loss = diffusion_loss(network, path, V, *task.batch(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(network)
        steps.tell(loss)
    ema.copy_to(network)
    return network.eval()


networks = {name: trained(paths[name]) for name in ("linear", "cosine")}

# %%
from diffusion_lessons.denoiser import NetworkDenoiser

labels = torch.arange(budget.samples(400, at_least=100)) % 10
start = torch.randn(len(labels), 1, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)


def digit_denoiser(network, path, labels):
    """A denoiser (x, level) of the digits that are asked for, its guesses held within [−1, 1]."""
    ask = Clip(NetworkDenoiser(network, path, V))
    return lambda x, level: ask(x, level, labels)


for name, network in networks.items():
    denoiser = digit_denoiser(network, paths[name], labels.to(device))
    with torch.no_grad():
        x = walk_from_noise(denoiser, paths[name], 20, start)
    print(f"{name:8} {described(x, labels, 'digits')}")
real = torch.cat([to_float(data.images)[data.labels == k][:100] for k in range(10)])
print(f"1,000 real training digits: {described(real, torch.arange(10).repeat_interleave(100), 'digits')}")

# %% [markdown]
# Two trainings with one seed prove nothing. The recorded experiment trains each of the four schedules for 1,000 steps with three
# seeds, and asks each network twice: along its own schedule, and along the noise levels of the *cosine* schedule. What
# remains in the second column cannot come from sampling. `diffusion-lessons experiment schedules` runs it again.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

kept = recorded("schedules")
compared = ("linear", "scaled-linear", "cosine", "sigmoid")


def over_seeds(name, column):
    """Mean of a column over the seeds of a schedule, and its standard error."""
    values = torch.tensor([row[column] for row in kept["rows"] if row["settings"]["schedule"] == name])
    return values.mean().item(), values.std().item() / len(values) ** 0.5


columns = {
    "Fréchet": "frechet",
    "at cosine's levels": "frechet_cosine",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
}
table = {what: [over_seeds(name, column) for name in compared] for what, column in columns.items()}
print(
    f"{kept['rows'][0]['steps']} steps, n = {kept['options']['n']}, 20 evaluations, {kept['hardware']['processor']}; mean of "
    "3 seeds ± one standard error over the seeds"
)
for i, name in enumerate(compared):
    row = ["   {} {:.3f} ± {:.3f}".format(what, *rows[i]) for what, rows in table.items()]
    print(f"{name:14}" + "".join(row[:2]) + "\n" + " " * 14 + "".join(row[2:]))

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(8.6, 3.0))
for ax, what in zip(axes, ("Fréchet", "precision", "accuracy"), strict=True):
    for seed, mark in enumerate("osD"):
        rows = [row for row in kept["rows"] if row["settings"]["seed"] == seed]
        found = {row["settings"]["schedule"]: row[columns[what]] for row in rows}
        ax.plot(range(4), [found[name] for name in compared], mark, linestyle="", ms=6, label=f"seed {seed}")
    ax.set_xticks(range(4), compared, fontsize=9, rotation=25)
    ax.set_title(what, fontsize=11)
    ax.set_ylim(0, 1.0 if what != "Fréchet" else 0.9)
axes[0].legend(fontsize=9, loc="lower right")
figure(
    fig,
    alt="Three panels, three seeds each, four schedules. Fréchet distance: linear from 0.60 to 0.81, the others from 0.43 to 0.57. "
    "Precision: linear from 0.68 to 0.74, the others from 0.72 to 0.79. Accuracy: all from 0.94 to 0.96.",
)

# %% jupyter={"source_hidden": true}
shown = {}
for row in kept["rows"]:
    if row["settings"]["seed"] == 0:
        pixels = torch.frombuffer(bytearray.fromhex(row["pictures"]), dtype=torch.uint8)
        shown[row["settings"]["schedule"]] = pixels.view(10, 1, 16, 16)
show(
    strip(
        shown,
        alt="Digits 0 to 9 that the four recorded networks of seed 0 drew from the same noise. The four rows are hard to tell apart.",
        columns=10,
    )
)

# %% [markdown]
# **The result for training:** in each of the three seeds the linear schedule has the largest Fréchet distance: 0.73 ± 0.07 on
# average, against 0.44 to 0.52 for the other three (1,000 real training digits,
# the first 100 of each class, are at 0.20 ± 0.02; drawn at random, at 0.15: lesson 6). Its precision is the lowest in each
# seed, too: 0.70 ± 0.02 against 0.74 to 0.77. Accuracy does not show it: the classifier reads 94.5 ± 0.5 % of linear's
# digits, and 94.3 to 95.5 % of the others'. Recall tells scaled-linear (0.94 ± 0.01) from the other three (0.90 to 0.91), and
# nothing else. **To the eye the rows are the same.** (The digits
# are coarse: this data set has 8 × 8 pixels, enlarged to 16 × 16.) So the shape matters here, but it takes a sharp measure to see it.
#
# Cosine's levels do not help linear (0.76 ± 0.07). So the difference lies in the network: nothing but the levels of its
# training was different, and the times by which it is told them. Cosine's levels do help scaled-linear a little, from 0.50 to
# 0.45, and in each of the three seeds: a part of its distance comes from the walk. Along its own schedule sigmoid has the
# lowest distance in each seed. Along cosine's levels sigmoid and scaled-linear change places from seed to seed. Three seeds do not
# rank the better three any further.
#
# Each network had the same learning rate. Nobody tuned it for any of the four. Nichol and Dhariwal (section 3.2) report that
# linear is worse at 32 × 32 and 64 × 64, and that it does well on larger pictures. That fits the section before: larger
# pictures need more noise, and linear has more.

# %% [markdown] tags=["play"]
# ## Play
#
# Your schedules, with the curves and the pictures together. Choose one, move the time, and watch the dot on both curves. Then
# find, for two schedules, the times with the same log-SNR: the pictures are equally noisy there.

# %%
paths["shifted × 4"] = DiscreteVP(shift_schedule(cosine_schedule(1000), 4))
shown = {name: paths[name] for name in ("linear", "rescaled", "cosine", "log-SNR line", "shifted × 4")}
explored = drawn[[3, 6, 7, 9]]
fractions = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
explore_schedules(explored, shown, torch.randn(explored.shape, generator=generator), fractions)

# %% jupyter={"source_hidden": true}
few = range(0, 601, 200)
alt = (
    "A 3 at t = 0, 200, 400 and 600 under five schedules. At t = 200 it is noisiest under the shifted one. Under the line "
    "in log-SNR it is still clean there and easy to read at 400. At 600 it can be read under cosine alone."
)
show(
    strip(
        {name: noised(drawn[[3]], path, few) for name, path in shown.items()},
        alt,
        captions=[f"t = {t}" for t in few],
        columns=4,
    )
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# diffusers has three of these schedules and the rescaling, in float32.

# %%
import importlib.util

from diffusion_lessons.schedules import rescale_zero_terminal_snr

line, root_line = linear_betas(), scaled_linear_betas()
gap = (rescale_to_zero_snr(line) - rescale_zero_terminal_snr(line)).abs().max()
print(f"largest difference of your rescaling from the package's: {gap:.0e}")
if importlib.util.find_spec("diffusers"):
    from diffusers import DDIMScheduler

    sd = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    for name, betas, flags in (
        ("linear", line, dict()),
        ("scaled-linear", root_line, sd),
        ("your cosine", cosine_schedule(1000), dict(beta_schedule="squaredcos_cap_v2")),
        ("your rescaled", rescale_to_zero_snr(root_line), dict(rescale_betas_zero_snr=True, **sd)),
    ):
        gap = (betas - DDIMScheduler(**flags).betas).abs().max()
        print(f"{name:14} largest difference of a β from diffusers' DDIMScheduler: {gap:.0e}")
else:
    print("diffusers is not installed here; the solved notebook shows the differences")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | signal left at $T$, sampling from pure noise | samples of medium brightness, never very dark or bright; worse for larger pictures |
# | "leading" spacing: 10 steps start at 901 of 1000 | the same grey, only with few steps, and whatever the schedule ends in |
# | $\varepsilon$-prediction with $\alpha_T = 0$ | $\hat x_0 = (x_T - \hat\varepsilon)/0$: infinite or NaN in the first step |
# | $\bar\alpha$ clipped in place of $\beta$ | the last twenty or so levels are all the same, with signal left in them |
# | rescaled for sampling, trained without it | the network is asked at levels that it was never shown |
# | a schedule taken over from smaller pictures | coarse content is decided at levels that training hardly visits |
# | losses compared between schedules | each averages over other noise levels. In the recorded runs sigmoid and scaled-linear have the same loss, 0.114, and different distances |
# | log-SNR in another convention: $\log(\alpha/\sigma)$, decibels | every shift is wrong by a factor: 2, or 4.3 |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is a noise schedule, and how do you choose one?",
    "It says how much signal is left at each time: a falling curve ᾱₜ, from which the steps β follow. In "
    "log-SNR all variance-preserving schedules are one road, and the schedule is the speed along it: which "
    "noise levels training meets most often, and where a sampler takes long strides.\n\n"
    "I check the ends: no signal left at T, or samples cannot leave medium brightness. The middle: many "
    "steps where content is decided. The size: pictures of k times the side need log-SNR lower by 2·log k.",
    [
        (
            "Why did cosine replace linear?",
            "The linear product falls too fast: a third of its steps have an SNR below 1/100, cosine's 6 %. Cosine is "
            "not even in log-SNR: it is even in the angle whose tangent is σ/α, and so gives most steps to log-SNR "
            "around 0. On digits the effect is small: linear has the worst Fréchet distance, and the same accuracy.",
        ),
        (
            "Why is the last β clipped?",
            "The cosine curve ends at 0, so the last β would be 1, and a formula with √(1 − β) below the "
            "line divides by 0. With a v-target β = 1 is fine, and wanted.",
        ),
        (
            "ᾱ at T is 0.0047. Who cares?",
            "Whoever looks at averages: the shade of 64 × 64 pixels has 4,096 times the SNR, 19. The "
            "network sees it and trusts it.",
        ),
        (
            "Does the schedule change what the optimal network is?",
            "No. At each noise level the best denoiser is the same. The schedule changes how much training "
            "each level gets, and where sampling asks.",
        ),
        (
            "Where should a schedule spend its steps?",
            "Where content is decided: digits of 32 × 32 become unreadable between log-SNR 0 and −4. Linear "
            "spends 37 % of its steps below.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "You are given ᾱ₀ … ᾱ_T. What is βₜ?",
        [
            Choice("1 − ᾱₜ", False, "That is all the noise up to t, not what one step adds."),
            Choice(
                "ᾱₜ₋₁ − ᾱₜ", False, "A step takes a share of the signal that is still there: divide by ᾱₜ₋₁."
            ),
            Choice("1 − ᾱₜ/ᾱₜ₋₁", True, "One step multiplies ᾱ by 1 − βₜ."),
        ],
    ),
    Question(
        "Two variance-preserving schedules have the same log-SNR, one at t = 300, the other at t = 600. The "
        "noisy pictures at those times are …",
        [
            Choice("equally noisy", True, "Signal and noise add up to 1, so their ratio fixes both factors."),
            Choice("noisier at t = 600", False, "t is only a label. The level is what log-SNR says."),
            Choice("not comparable", False, "Log-SNR is exactly what makes them comparable."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A model was trained with a rescaled schedule, ᾱ_T = 0. It samples in 5 steps, with noise handed "
        "over at t = 801. What do you see?",
        [
            Choice("samples of medium brightness", True, "At 801 the training pictures held signal."),
            Choice("nothing unusual", False, "Zero SNR at T helps only a walk that starts at T."),
            Choice("NaN", False, "That is ε-prediction at T itself. At 801 everything is finite, and wrong."),
        ],
    ),
    Question(
        "A schedule works at 64 × 64. What does 256 × 256 need, for the coarse content to be as noisy at "
        "each t?",
        [
            Choice("log-SNR lower by log 4", False, "SNR compares variances: 16 pixels gain a factor 16."),
            Choice("log-SNR lower by 2·log 4", True, "Pooling 4 × 4 gains a factor 16; this takes it back."),
            Choice("log-SNR higher by 2·log 4", False, "That is less noise. The large picture needs more."),
            Choice("T four times as large", False, "More steps along the same road change no level's SNR."),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Ho, Jain and Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv 2006.11239: section 4, the linear schedule.
# - Nichol and Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, arXiv 2102.09672: section 3.2, eq. 17, figures 3
#   to 5, the cosine schedule.
# - Kingma et al. 2021, *Variational Diffusion Models*, arXiv 2107.00630: section 5.1, what does not depend on the schedule.
# - Chen 2023, *On the Importance of Noise Scheduling for Diffusion Models*, arXiv 2301.10972: algorithm 1 and section 2.
# - Hoogeboom, Heek and Salimans 2023, *simple diffusion*, arXiv 2301.11093: section 3.1, the shift with resolution.
# - Lin et al. 2023, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, arXiv 2305.08891: table 1, algorithm 1,
#   section 3.
#
# You know which noise levels a network has to master. Next, the network: {{lesson 06}}.
