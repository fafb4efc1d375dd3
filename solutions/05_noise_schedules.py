# %% [markdown] tags=["header"]
# title: Noise schedules
# question: What is a noise schedule, and why does its shape decide how well a diffusion model trains and samples?
# difficulty: 2
# prerequisites: 02, 03, 04
# builds: scaled_linear_betas, cosine_betas, sigmoid_betas, rescale_zero_terminal_snr, schedules

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - turn any curve of signal into a list of steps, and say why one of them is clipped (exercise 05.1)
# - measure what a little signal left at T does to the samples, and take it out (exercise 05.2)
# - compare schedules in the one coordinate that they share, log SNR, and design one in it (exercise 05.3)
# - find a sampler that starts where training never was (exercise 05.4)
# - move a schedule to larger pictures (exercise 05.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# One digit, one draw of noise, four lists of 1,000 βs from the literature. All start at a clean picture and end,
# or seem to end, in noise. In each row, find the last column in which you can still read the digit. How many
# steps does each schedule spend to the right of it?

# %%
import torch

from diffusion_lessons.course import budget, exercise, explore_schedules, figure, strip
from diffusion_lessons.data import load_dataset, to_float
from diffusion_lessons.paths import DiscreteVP, add_noise
from diffusion_lessons.schedules import cosine_betas, linear_betas, scaled_linear_betas, sigmoid_betas

data = load_dataset("digits", "train", size=16)
digits = to_float(data.images)  # (1442, 1, 16, 16) in [−1, 1]
lists = {
    "linear": linear_betas,
    "scaled-linear": scaled_linear_betas,
    "cosine": cosine_betas,
    "sigmoid": sigmoid_betas,
}
paths = {name: DiscreteVP(make(1000)) for name, make in lists.items()}
three = digits[data.labels == 3][4:5]  # (1, 1, 16, 16)


def noised(paths, times=range(0, 1001, 125)):
    """One digit at the same times of each path, with the same noise."""
    noise = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    return {
        name: torch.cat([add_noise(three, noise, path(t)) for t in times]) for name, path in paths.items()
    }


strip(
    noised(paths),
    alt="One digit at t = 0, 125, …, 1000 under four schedules, one row each. The linear row is unreadable "
    "from about t = 500 on, the scaled-linear one from about 625, the cosine and sigmoid ones from about "
    "750.",
    captions=[f"t = {t}" for t in range(0, 1001, 125)],
    columns=9,
)

# %% [markdown] tags=["predict"]
# ## Predict
#
# The second row belongs to Stable Diffusion. Its last picture, at t = 1000, holds ᾱ = 0.0047: less than half a
# percent of the variance is still picture. A sampler starts from noise that holds no picture at all.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "The data are plain cards of 64 × 64 equal pixels, nearly white: their shades have the mean 0.8 on a "
    "scale from −1 (black) to 1. A perfect denoiser of this schedule draws cards from pure noise. What is "
    "the mean of their shades?",
    [
        Choice(
            "0.80: the denoiser is perfect",
            False,
            "It is perfect for the pictures that it was promised. Pure noise is none of them.",
        ),
        Choice(
            "0.79 or so: half a percent is next to nothing",
            False,
            "Half a percent for each pixel. The shade is an average over 4,096 of them, and the noise "
            "averages out.",
        ),
        Choice(
            "about 0.27, a middling grey",
            True,
            "You measure it below, and see how it grows with the picture.",
        ),
        Choice(
            "0, since the noise has mean 0",
            False,
            "The denoiser also knows which shades are likely, and holds on to that a little.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## A schedule is a curve; its steps follow from it
#
# Ho et al. chose the list of βs: a straight line, high enough to end in noise. But no single step matters to
# training, which jumps to time t at once. What matters is the product $\bar\alpha_t$, and that of a rising
# line falls fast: half-way through, less than a tenth of the signal is left. The other half works on near-noise.
#
# Nichol and Dhariwal turned it round. They drew the curve $\bar\alpha_t$ that they wanted, level at both ends and
# falling evenly between, and worked out the βs that give it.
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
# $\sigma_t = \sqrt{1-\bar\alpha_t}$ that of the noise.) At $t = T$ the cosine is 0, so the last step would have
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
    """The β of T steps of the cosine schedule, none above max_beta: (T,), float64."""
    ### BEGIN SOLUTION
    t = torch.arange(T + 1, dtype=torch.float64) / T
    curve = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return betas_of(curve).clamp(max=max_beta)
    ### END SOLUTION


# %% tags=["nbval-check-output"]
paths["cosine"] = DiscreteVP(cosine_schedule(1000))

print("                first β    last β    ᾱ at T    steps with SNR below 1/100")
for name, path in paths.items():
    drowned = (path.alphas_cumprod < 1 / 101).double().mean()
    print(
        f"{name:14} {path.betas[0]:8.5f}  {path.betas[-1]:8.4f}   {path.alphas_cumprod[-1]:.1e}   {drowned:.0%}"
    )
clipped = int((paths["cosine"].betas == 0.999).sum())
print(f"steps that the clip of the cosine schedule touches: {clipped}")

# %%
import matplotlib.pyplot as plt

from diffusion_lessons.course.widgets import plain_lines, show

with plain_lines():
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6))
    for name, path in paths.items():
        left.plot(path.alphas_cumprod.numpy(), label=name)
        right.semilogy(range(1, 1001), path.betas.numpy())
    left.set(xlabel="t", ylabel="ᾱ, share of signal")
    right.set(xlabel="t", ylabel="β, noise added by step t", ylim=(1e-5, 2))
    left.legend(fontsize=9)
figure(
    fig,
    alt="Left: ᾱ over t. The linear curve crosses one half at t = 260, scaled-linear at 355, cosine and "
    "sigmoid near 500. Right: β on a logarithmic scale: linear and scaled-linear stay below 0.02, cosine "
    "and sigmoid rise to almost 1 in the last steps.",
)

# %% [markdown]
# **What to notice:** the linear schedule spends a third of its steps below an SNR of 1/100, where hardly
# anything is left to learn; the cosine one spends a fifteenth. Nichol and Dhariwal skipped up to a fifth of the
# linear schedule's steps at the noisy end and the published FID hardly changed (section 3.2, figure 4). And the
# clip touches one single step. If yours touches more, look again.

# %% [markdown] tags=["idea"]
# ## What is left at T
#
# At $T$ a training picture is $\alpha_T x_0 + \sigma_T\varepsilon$. Sampling starts from $\varepsilon$ alone. If
# $\alpha_T > 0$, the network has learned that even at $T$ there is something of the picture to be seen, and it
# believes what it sees.
#
# For one pixel that something is lost in the noise. But the *shade* of a whole picture is an average over all its
# pixels. The noise averages out and the signal does not. So the network reads the shade of pure noise, which is
# close to 0, takes it for a faint picture of middling grey, and paints one.

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
# Scaled-linear has SNR(T) = 0.0047. With 64 × 64 pixels the shade's is 19: at "pure noise" it is in plain sight.
#
# To see what that does we need a denoiser without any fault of its own. Take cards of one shade each,
# $b \sim \mathcal N(0.8, 0.2^2)$: for those $\mathbb E[x_0 \mid x_t]$ has a closed form.
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
from diffusion_lessons.samplers import sample

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
# The cards come out grey, with a denoiser that is exact at every level. (The sampler is DDIM, {{built-in 08}}.)
# Nothing but the start is wrong. Lin et al. mend it by moving the curve $\sqrt{\bar\alpha_t}$: shift it so that it
# ends at 0, and stretch it so that its first value stays. With $t$ from 1 to $T$:
#
# $$\sqrt{\bar\alpha'_t} = \left(\sqrt{\bar\alpha_t} - \sqrt{\bar\alpha_T}\right)\cdot
# \frac{\sqrt{\bar\alpha_1}}{\sqrt{\bar\alpha_1} - \sqrt{\bar\alpha_T}}$$
#
# {{exercise 05.2}}


# %% tags=["exercise"]
@exercise("05.2")
def rescale_to_zero_snr(betas):
    """The rescaled steps, betas and result (T,): no signal left at T, and the first step as it was."""
    ### BEGIN SOLUTION
    root = torch.cumprod(1 - betas, 0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return betas_of(torch.cat([root.new_ones(1), root**2]))
    ### END SOLUTION


# %%
paths["rescaled"] = DiscreteVP(rescale_to_zero_snr(scaled_linear_betas()))
sides, marks = (8, 16, 32, 64), {"scaled-linear": "s-", "rescaled": "o-"}
fig, ax = plt.subplots(figsize=(6.4, 2.5))
for name, mark in marks.items():
    cards = [sample(card_denoiser, noise[..., :n, :n], paths[name].levels(50)) for n in sides]
    mean, error = torch.tensor([mean_shade(x) for x in cards]).T.numpy()
    print(
        name, *(f"{n} px: {m:.3f} ± {e:.3f}" for n, m, e in zip(sides, mean, error, strict=True)), sep="   "
    )
    ax.errorbar(sides, mean, yerr=2 * error, fmt=mark, capsize=3, label=name)
ax.axhline(MEAN, color="gray", linestyle="--", label="data")
ax.set(xlabel="side of the cards in pixels", ylabel="mean shade of samples", xscale="log", ylim=(0, 1))
ax.set_xticks(sides, [str(n) for n in sides])
ax.minorticks_off()
ax.legend(fontsize=9, loc="lower left")
figure(
    fig,
    alt="Mean shade of sampled cards, with two standard errors, over the side of the card. Rescaled: on the "
    "data's 0.8 at every size. Scaled-linear: from about 0.70 at 8 pixels down to about 0.27 at 64.",
)
shades = MEAN + SPREAD * torch.randn(9, 1, 1, 1, generator=generator).expand(9, 1, 64, 64)
alt = "Nine cards a row. Data and the rescaled schedule: nearly white. Scaled-linear: middling grey."
show(strip({"data": shades, "scaled-linear": grey[:9], "rescaled": cards[-1][:9]}, alt, columns=9))

# %% [markdown]
# **What to notice:** half a percent of leftover signal costs more than half of the brightness, and the larger the
# picture, the worse. Lin et al. name this as the reason why Stable Diffusion could not paint a very dark or a very
# bright picture; their table 1 gives the same $\sqrt{\bar\alpha_T} = 0.068$. At $\alpha_T = 0$ a network can no
# longer be asked for $\varepsilon$, which is all of $x_T$ and says nothing of $x_0$. It is asked for
# $v = \alpha\varepsilon - \sigma x_0$ ({{built-in 17}}).

# %% [markdown] tags=["idea"]
# ## Log SNR: one road, walked at different speeds
#
# Over $t$ the four schedules look like four different things. But a level of a variance-preserving path is fixed
# by one number: if signal and noise add up to 1, their ratio says both. Its logarithm, $\lambda$, is the coordinate
# in which all schedules are the same road. A schedule only says *how fast to walk where*.
#
# That speed matters twice. Training draws $t$ evenly, so it sees most often the noise levels at which the
# schedule walks slowly. And a sampler with few steps, even in $t$, takes its longest strides where the schedule
# walks fast.
#
# $$\lambda_t = \log\frac{\alpha_t^2}{\sigma_t^2} = \log\frac{\bar\alpha_t}{1-\bar\alpha_t}, \qquad
# p(\lambda) = \frac{1}{T}\left|\frac{dt}{d\lambda}\right|$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\lambda_t$ | log SNR, natural logarithm; from about 10 (clean) to −10 (noise) | (T + 1,) |
# | $p(\lambda)$ | how often training meets a level, for $t$ drawn evenly from 1 … T | density |

# %% [markdown] tags=["exercise-card"]
# Once you can go back from $\lambda$ to the steps, you can *design* a schedule. The plainest is a straight line in
# log SNR: it gives every level the same share of the training.
#
# {{exercise 05.3}}


# %% tags=["exercise"]
@exercise("05.3")
def schedule_from_log_snr(log_snr):
    """The steps β (T,) of the variance-preserving path with this log SNR at t = 1 … T, log_snr: (T,)."""
    ### BEGIN SOLUTION
    alphas_cumprod = torch.cat([log_snr.new_ones(1), torch.sigmoid(log_snr)])
    return betas_of(alphas_cumprod)
    ### END SOLUTION


# %% tags=["nbval-check-output"]
paths["log-SNR line"] = DiscreteVP(schedule_from_log_snr(torch.linspace(8, -8, 1000, dtype=torch.float64)))


def spread_error(path, steps, c=0.5):
    """DDIM from N(0, 1) with the exact denoiser of data N(0, c²): the samples' std minus c, exactly."""
    spread, levels = 1.0, path.levels(steps)
    for now, after in zip(levels[:-1], levels[1:], strict=True):
        variance = now.alpha**2 * c**2 + now.sigma**2
        spread *= float((after.alpha * now.alpha * c**2 + after.sigma * now.sigma) / variance)
    return spread - c


counts = (5, 10, 20, 50, 100)
errors = {name: [spread_error(path, n) for n in counts] for name, path in paths.items()}
for name, row in errors.items():
    print(f"{name:14}" + "".join(f"  {n} steps: {error:+.3f}" for n, error in zip(counts, row, strict=True)))

# %% jupyter={"source_hidden": true}
with plain_lines():
    fig, (road, density, cost) = plt.subplots(1, 3, figsize=(9, 2.8))
    for name, path in paths.items():
        log_snr = path.alphas_cumprod[1:].logit()  # (T,)
        road.plot(log_snr.numpy(), path.alphas_cumprod[1:].sqrt().numpy(), label=name)
        seen = torch.histogram(log_snr, bins=24, range=(-12.0, 12.0)).hist / len(log_snr)
        density.plot(torch.arange(-11.5, 12).numpy(), seen.numpy())
        cost.loglog(counts, [-error for error in errors[name]])
    road.set(xlabel="log SNR", ylabel="α, factor of the picture", xlim=(-12, 12))
    density.set(xlabel="log SNR", ylabel="share of training", xlim=(-12, 12))
    cost.set(xlabel="steps of the sampler", ylabel="spread lost (of 0.5)")
    cost.set_xticks(counts, [str(n) for n in counts], minor=False)
    fig.legend(*road.get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
figure(
    fig,
    alt="Left: the factor of the picture over log SNR: the curves of all six schedules lie on one S-curve. "
    "Middle: share of training at each log SNR: cosine and sigmoid peak at 0, linear at −1 with a broad "
    "shoulder down to −10, the line is flat from −8 to 8. Right: spread lost over the steps of the sampler: "
    "every curve falls as one over the steps, cosine lowest, linear about twice as high.",
)

# %% [markdown]
# **What to notice:** on the left six schedules are one curve. In the middle they differ: the linear one spends its
# training on pictures with log SNR below −4, which are nearly noise. On the right the price of the same waste in
# sampling: at 10 steps the linear schedule loses almost twice as much of the spread as cosine. Kingma et al. (2021,
# section 5.1) show the other side: in continuous time the variational bound depends on a schedule only through its two
# ends. All that lies between is *where* effort goes, not *what* is learned.

# %% [markdown] tags=["idea"]
# ## Larger pictures need more noise
#
# Is there a best curve, then? Not for all sizes of picture. Show the same digit with four times the side, and give
# each pixel as much noise. Step back from the screen, and you can read the large one: your eye averages over
# neighbours. So does a convolutional network. The coarse content of a picture, what it shows and where, is written
# into many pixels at once, and survives noise that destroys every single one of them.
#
# A schedule that was tuned at 16 × 16 is therefore too mild for 64 × 64. There is nothing wrong with its numbers;
# they mean something else there.
#
# Average blocks of $k\times k$ pixels, $\operatorname{pool}_k$. The mean of $k^2$ independent draws has a standard
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

# %%
from torch.nn.functional import avg_pool2d


def enlarge(x, k):
    """Each pixel as a block of k × k equal ones: (B, 1, H, W) to (B, 1, kH, kW)."""
    return x.repeat_interleave(k, 2).repeat_interleave(k, 3)


level = paths["cosine"](700)  # any other shows the same
for k in (1, 2, 4, 8):
    x0 = enlarge(digits[: budget.samples(160)], k)
    x = add_noise(x0, torch.randn(x0.shape, generator=generator), level)
    left_over = avg_pool2d(x - level.alpha * x0, k)  # the noise in the pooled picture
    gain = (level.sigma**2 / left_over.var()).item()
    print(f"k = {k}: SNR times {gain:6.2f} ± {gain * (2 / left_over.numel()) ** 0.5:.2f}   (k² = {k * k})")

# %%
x0, times, cosine = enlarge(three, 4), range(200, 1001, 100), paths["cosine"]
large = torch.cat([add_noise(x0, torch.randn(x0.shape, generator=generator), cosine(t)) for t in times])
small = noised({"small": cosine}, times)["small"]
scales = torch.stack([(cosine(t).alpha ** 2 + cosine(t).sigma ** 2 / 16).sqrt() for t in times])
pooled = avg_pool2d(large, 4) / scales.float().view(-1, 1, 1, 1)  # back to variance 1
strip(
    {"16 × 16": small, "64 × 64": large, "64 × 64, pooled": pooled},
    alt="One digit under the cosine schedule at t = 200, 300, …, 1000. At 16 by 16 pixels it is lost from "
    "about t = 700 on. At 64 by 64 it can be made out to about t = 700, and averaged over 4 by 4 blocks it "
    "is plain there and can still be guessed at 800.",
    captions=[f"t = {t}" for t in times],
    columns=9,
)

# %% [markdown] tags=["exercise-card"]
# **What to notice:** the gain is $k^2$, to within its error. The average over the whole picture is the largest pool of
# all, and that is why the cards of 64 pixels suffered most from what was left at $T$.
#
# They are about to suffer once more. A colleague has taken your rescaled schedule, and reports: "Still grey." The
# sampler spaces its times like many do.
#
# {{exercise 05.4}}


# %% tags=["exercise"]
@exercise("05.4")
def walk_from_noise(denoiser, path, steps, noise):
    """DDIM from pure noise (B, C, H, W) to pictures of the same shape, in so many equal steps.

    denoiser(x, level) gives (x0, eps); path(t) gives the level of time t; path.T is the noisiest time.
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

# %% [markdown] tags=["exercise-card"]
# The data's mean is 0.8. The fewer the steps, the lower the first time and the greyer the cards. This spacing, called
# "leading", is the default of several published samplers, and hides well at 1,000 steps.
#
# Now the cure for larger pictures: what averaging would gain, the schedule takes back.
#
# {{exercise 05.5}}


# %% tags=["exercise"]
@exercise("05.5")
def shift_schedule(betas, k):
    """The steps (T,) for pictures of k times the side: the coarse content as noisy at each t as before."""
    ### BEGIN SOLUTION
    log_snr = torch.cumprod(1 - betas, 0).logit()
    return schedule_from_log_snr(log_snr - 2 * math.log(k))
    ### END SOLUTION


# %%
from diffusion_lessons import zoo
from diffusion_lessons.metrics import wilson_interval

test, reader = load_dataset("digits", "test", size=16), zoo.load("digits-classifier")
times = range(200, 1001, 100)


def share_read(path, k, t):
    """Share of held-out digits that the classifier reads from noised and pooled ones: value, low, high."""
    level, x0 = path(t), enlarge(to_float(test.images), k)
    pooled = avg_pool2d(add_noise(x0, torch.randn(x0.shape, generator=generator), level), k)
    scale = (level.alpha**2 + level.sigma**2 / k**2).sqrt()
    right = int((reader(pooled / scale).argmax(1) == test.labels).sum())
    return right / len(test), *wilson_interval(right, len(test))


read = {}
for k in (1, 2, 4):
    for kind, betas in (("as it is", cosine.betas), ("shifted", shift_schedule(cosine.betas, k))):
        shares = [share_read(DiscreteVP(betas), k, t) for t in times]
        read[k, kind] = torch.tensor(shares).T.numpy()  # value, low, high: each (9,)

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.6), sharey=True)
for ax, kind in zip(axes, ("as it is", "shifted"), strict=True):
    for k in (1, 2, 4):
        value, low, high = read[k, kind]
        ax.errorbar(times, value, yerr=[value - low, high - value], capsize=2, label=f"{16 * k} × {16 * k}")
    ax.set(xlabel="t", title=f"cosine {kind}")
axes[0].set_ylabel("share read")
axes[0].legend(fontsize=9)
figure(
    fig,
    alt="Share of 355 held-out digits that a classifier reads from noised pictures over t, with 95 % "
    "intervals, for three sizes. Left, the cosine schedule as it is: the larger the picture, the later the "
    "digits are lost. Right, shifted: the three curves lie within each other's intervals.",
)

# %% [markdown]
# The bundled classifier has read enlarged digits, noised and averaged over blocks again, their variance brought back to 1.
# On the left one schedule means three different things. On the right the three sizes lose their content at the same times.
# Chen (2023) and Hoogeboom et al. (2023) found by experiment that large pictures want just this: the one turns the
# input down, the other shifts log SNR by $2\log(64/d)$ for pictures of side $d$.

# %% [markdown] tags=["experiment"]
# ## Experiment: four schedules, one budget
#
# Now the claim itself. The same small network (a closed box: {{built-in 06}}), the same pictures, noise and number of
# steps; only the schedule differs. Each then draws digits with your `walk_from_noise`. We measure the Fréchet distance
# to held-out digits ({{built-in 20}}): lower is better.

# %%
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.targets import V
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising

SMALL = dict(base_channels=16, channel_mults=(1, 2), attention_levels=(1,), head_dim=16, patch=2, lr=3e-3)
recipe = Recipe(steps=budget.steps(200), batch=32, channels_last=False, **SMALL)


def trained(path):
    """A network that was trained on the digits along a path, and its mean loss over the last fifth."""
    task = Denoising(recipe, data).place(device)  # pictures, noise, times and labels of each step
    network, losses = task.network, []
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay, fused=True)
    ema = EMA(network)
    for step in range(recipe.steps):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate(step, step / recipe.steps)
        loss = diffusion_loss(network, path, V, *task.batch(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(network)
        losses.append(loss.detach())
    ema.copy_to(network)
    return network.eval(), torch.stack(losses[-len(losses) // 5 :]).mean().item()


compared = ("linear", "scaled-linear", "cosine", "sigmoid")
networks = {name: trained(paths[name]) for name in compared}

# %%
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.guidance import Clip
from diffusion_lessons.metrics import evaluate

labels = torch.arange(budget.samples(400, at_least=100)) % 10
start, wanted = torch.randn(len(labels), 1, 16, 16, generator=generator).to(device), labels.to(device)
drawn, live = {}, {}
for name, (network, loss) in networks.items():
    network_denoiser = Clip(NetworkDenoiser(network, paths[name], V))

    def digit_denoiser(x, level, condition=None, ask=network_denoiser):
        return ask(x, level, wanted)

    with torch.no_grad():
        x = walk_from_noise(digit_denoiser, paths[name], 20, start)
    drawn[name], live[name] = x[:10].cpu(), evaluate(x, labels, zoo.yardstick("digits"))["frechet"]
    distance = "{value:.2f} ± {uncertainty:.2f}".format(**live[name])
    print(f"{name:14} loss {loss:.3f}   Fréchet distance {distance}")
print(f"one seed, n = {len(labels)}, 20 steps; ± one standard error over the draw of the samples")
strip(drawn, "Ten sampled digits, 0 to 9, for each schedule after the same short training.", columns=10)

# %% [markdown]
# One seed and a few seconds of training are an anecdote. The recorded experiment trains each schedule longer, with three
# seeds, and asks each network twice: once along its own schedule, and once at the noise levels of the *cosine* schedule,
# each looked up as the time at which its own schedule has that log SNR. The command
# `diffusion-lessons experiment schedules` runs it again.

# %%
from diffusion_lessons.experiments import recorded

kept = recorded("schedules")


def over_seeds(name, column):
    """Mean of a column over the seeds of a schedule, and its standard error."""
    values = torch.tensor([row[column] for row in kept["rows"] if row["settings"]["schedule"] == name])
    return values.mean().item(), values.std().item() / len(values) ** 0.5


columns = {"own schedule": "frechet", "cosine's levels": "frechet_cosine"}
table = {what: [over_seeds(name, column) for name in compared] for what, column in columns.items()}
print(
    f"{kept['rows'][0]['steps']} steps, 3 seeds, n = {kept['options']['n']}, {kept['hardware']['processor']}"
)
for i, name in enumerate(compared):
    row = ("   {}: {:.2f} ± {:.2f}".format(what, *rows[i]) for what, rows in table.items())
    print(f"{name:14}" + "".join(row))

# %% jupyter={"source_hidden": true}
fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.7))
values = torch.tensor([[live[name]["value"], 2 * live[name]["uncertainty"]] for name in compared]).numpy()
left.errorbar(range(4), values[:, 0], yerr=values[:, 1], fmt="o", capsize=4)
left.set(title=f"here: {recipe.steps} steps, one seed", ylabel="Fréchet distance")
for (what, rows), marker, offset in zip(table.items(), "s^", (-0.1, 0.1), strict=True):
    mean, error = torch.tensor(rows).T.numpy()
    right.errorbar([i + offset for i in range(4)], mean, yerr=2 * error, fmt=marker, capsize=4, label=what)
right.set(title="recorded: three seeds")
right.legend(fontsize=9)
for ax in (left, right):
    ax.set_xticks(range(4), compared, fontsize=8, rotation=15)
    ax.set_ylim(0)
figure(
    fig,
    alt="Fréchet distance of four schedules, with bars of two standard errors. Left, short live runs of one "
    "seed: linear worst, the others alike. Right, recorded means of three seeds: linear 0.73, scaled-linear "
    "0.50, cosine 0.52, sigmoid 0.44; at cosine's levels 0.76, 0.45, 0.52, 0.45.",
)

# %% [markdown]
# **The result:** in the recorded runs the linear schedule ends at 0.73 ± 0.07 and the other three between 0.44 and 0.52.
# Nothing but the list of βs costs it half as much again. Cosine's levels do not rescue it (0.76 ± 0.07): the fault is
# not in its walk but in the network, which spent a third of its training on near-noise. With scaled-linear it is the
# walk: cosine's levels take it from 0.50 to 0.45, and in each of the three seeds. Between the better three, three seeds
# give no more than hints.
#
# Look at the losses above, too. Cosine's is about as high as linear's, and its digits are better. Each loss is an average
# over other noise levels: between schedules, losses do not compare.
#
# Nichol and Dhariwal (section 3.2) report the same order at 32 × 32 and 64 × 64, and that linear does well on larger
# pictures. After the last section that is no riddle: those need more noise, and linear has it.

# %% [markdown] tags=["play"]
# ## Play
#
# Every schedule of this lesson, with the curves and the pictures together. Choose one, move the time, and watch the dot on
# both curves. Then find, for two schedules, the times with the same log SNR: the pictures are as noisy there.

# %%
paths["shifted × 4"] = DiscreteVP(shift_schedule(cosine_schedule(1000), 4))
shown = {name: paths[name] for name in ("linear", "rescaled", "cosine", "log-SNR line", "shifted × 4")}
four = torch.cat([digits[data.labels == label][1:2] for label in (2, 3, 5, 8)])
alt = (
    "One digit at t = 0, 125, …, 1000 under five schedules. It is lost first under the shifted one, then "
    "under the linear one; under the line in log SNR it stays clean longest."
)
show(strip(noised(shown), alt, captions=[f"t = {t}" for t in range(0, 1001, 125)], columns=9))
fractions = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
explore_schedules(four, shown, torch.randn(four.shape, generator=generator), fractions)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# diffusers has three of these schedules and the rescaling, in float32.

# %%
import importlib.util

from diffusion_lessons.schedules import rescale_zero_terminal_snr

line, root_line = linear_betas(), scaled_linear_betas()
print(
    f"largest difference of your rescaling from the package's: {(rescale_to_zero_snr(line) - rescale_zero_terminal_snr(line)).abs().max():.0e}"
)
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
# | signal left at $T$, sampling from pure noise | samples of middling brightness, never very dark or bright; worse for larger pictures |
# | "leading" spacing: 10 steps start at 901 of 1000 | the same greyness, only with few steps, and whatever the schedule ends in |
# | $\varepsilon$-prediction with $\alpha_T = 0$ | $\hat x_0 = (x_T - \hat\varepsilon)/0$: infinite or NaN in the first step |
# | $\bar\alpha$ clipped in place of $\beta$ | the last twenty or so levels are all the same, with signal left in them |
# | rescaled for sampling, trained without it | the network is asked at levels that it was never shown |
# | a schedule taken over from smaller pictures | large shapes are decided at levels that training hardly visits: good texture, broken shapes |
# | losses compared between schedules | each averages over other noise levels: the lowest loss is not the best model |
# | log SNR in another convention: $\log(\alpha/\sigma)$, decibels | every shift is wrong by a factor: 2, or 4.3 |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is a noise schedule, and how do you choose one?",
    "It says how much signal is left at each time: a falling curve ᾱₜ, from which the steps β follow. In "
    "log SNR all variance-preserving schedules are one road; the schedule is the speed along it. The speed "
    "decides which noise levels training sees most, and how long a sampler's strides are where.\n\nI check "
    "three things. The ends: no signal left at T, or samples cannot leave middling brightness. The middle: "
    "most steps at log SNR around 0, where the content of a picture is decided; cosine does that, linear "
    "wastes steps on noise. The size: pictures of k times the side need log SNR lower by 2·log k.",
    [
        (
            "Why did cosine replace linear?",
            "The linear product falls too fast: a third of its steps have an SNR below 1/100. Cosine "
            "spreads the same road evenly over the steps.",
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
        "Two variance-preserving schedules have the same log SNR, one at t = 300, the other at t = 600. The "
        "noisy pictures at those times are …",
        [
            Choice("equally noisy", True, "Signal and noise add up to 1, so their ratio fixes both factors."),
            Choice("noisier at t = 600", False, "t is only a label. The level is what log SNR says."),
            Choice("not comparable", False, "Log SNR is exactly what makes them comparable."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A model was trained with a rescaled schedule, ᾱ_T = 0. It samples in 5 steps, with noise handed "
        "over at t = 801. What do you see?",
        [
            Choice("samples of middling brightness", True, "At 801 the training pictures held signal."),
            Choice("nothing unusual", False, "Zero SNR at T helps only a walk that starts at T."),
            Choice("NaN", False, "That is ε-prediction at T itself. At 801 everything is finite, and wrong."),
        ],
    ),
    Question(
        "A schedule works at 64 × 64. What does 256 × 256 need, for the coarse content to be as noisy at "
        "each t?",
        [
            Choice("log SNR lower by log 4", False, "SNR compares variances: 16 pixels gain a factor 16."),
            Choice("log SNR lower by 2·log 4", True, "Pooling 4 × 4 gains a factor 16; this takes it back."),
            Choice("log SNR higher by 2·log 4", False, "That is less noise. The large picture needs more."),
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
