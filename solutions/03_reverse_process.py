# %% [markdown] tags=["header"]
# title: The reverse process
# question: How does a diffusion model go back from noise to data, and what does its network have to predict?
# difficulty: 2
# prerequisites: 01, 02, Bayes' rule
# builds: posterior, forward_kernel, Estimate, Denoiser, NetworkDenoiser, Target, EPSILON, X0, ddpm_step, sample, trajectory, Clip, denoiser, targets

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - say where a noisy picture came from, if the clean one is known (exercise 03.1)
# - turn a guess of the noise into a guess of the picture, and either into the score (exercise 03.2)
# - take one step back, and draw samples with it (exercise 03.3)
# - find noise that is added where no later step removes it (exercise 03.4)
# - foresee what becomes of samples without noise, and why (exercise 03.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# One of the 1,442 training digits lies under this noise. **Which one?** For each of them the probability can be
# computed exactly. Below, for falling t: the noisy picture, six draws from that probability, and the mean of all 1,442,
# weighted with it. Drag the slider: when does it become clear?

# %%
import torch

from diffusion_lessons.course import budget, exercise, figure, scrub
from diffusion_lessons.data import load_dataset, to_float
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import DiscreteVP, add_noise
from diffusion_lessons.schedules import linear_betas

train = load_dataset("digits", "train", size=16)
digits = to_float(train.images)  # (1442, 1, 16, 16) in [−1, 1]
album = GaussianMixture(digits.flatten(1), stds=0.0)  # the data set itself: 1,442 points in 256 dimensions
path = DiscreteVP(linear_betas())

noise = torch.randn(1, 1, 16, 16, generator=generator)
levels = [path(t) for t in range(800, 49, -25)]
frames = {"x": [], "six it could be": [], "mean of all": []}
for level in levels:
    x = add_noise(digits[3:4], noise, level)
    chance = album.posterior(x.flatten(1), level)[0]  # (1442,), for each training digit
    six = digits[torch.multinomial(chance, 6, replacement=True, generator=generator)]  # (6, 1, 16, 16)
    frames["x"].append(x[0])
    frames["six it could be"].append(six.view(2, 3, 16, 16).permute(0, 2, 1, 3).reshape(1, 32, 48))
    frames["mean of all"].append((chance @ digits.flatten(1)).view(1, 16, 16))
scrub(
    {name: torch.stack(pictures) for name, pictures in frames.items()},
    levels,
    alt="From t = 800 to t = 50: a noisy picture; six training digits that it could be, at first all kinds, from "
    "about t = 400 mostly twos and threes, at last six times the same 3; and their mean, a blur that sharpens.",
)

# %% [markdown] tags=["predict"]
# ## Predict
#
# So the way back has many ends, until late. But if the end $x_0$ is *given*, even the step back is simple. Think of two
# steps forward, $x_0 \to x_1 \to x_2$, each with about the same little noise $\beta$. You see $x_0$ and $x_2$, not
# $x_1$.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "Given x₀ and x₂: what is the variance of x₁?",
    [
        Choice(
            "0: both ends are known",
            False,
            "Many ways lead from x₀ to x₂. The first step may have gone too far and the second come back.",
        ),
        Choice(
            "about ½·β",
            True,
            "x₁ is tied to both ends, each with variance β. Two such clues together leave half of it. You compute 0.45·β below.",
        ),
        Choice("β", False, "That would be so if only x₀ were known. Knowing x₂ as well narrows it down."),
        Choice("2·β", False, "That is how far x₂ is from x₀. Knowing more never makes it wider here."),
    ],
)

# %% [markdown] tags=["idea"]
# ## Going back, if you know where you came from
#
# We want $q(x_{t-1}\mid x_t)$: where was this noisy picture one step ago? By Bayes' rule that depends on which noisy
# pictures are likely at all, and so on the whole distribution of the data. Nobody has that in a formula.
#
# So take an easier question first. Let $x_0$ be given too. Then two clues say where $x_{t-1}$ is. It must be a
# plausible noising of $x_0$, and one small step must lead from it to $x_t$. Both clues are Gaussian, and the product of
# two Gaussians is one again. This is the **posterior** of the forward process. It has no parameters and needs no
# network.

# %% [markdown]
# $$q(x_{t-1} \mid x_t, x_0) = \mathcal N\!\left(\tilde\mu_t,\; \tilde\beta_t I\right), \qquad
# \tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t$$
#
# $$\tilde\mu_t(x_t, x_0) = \frac{\sqrt{\bar\alpha_{t-1}}\;\beta_t}{1-\bar\alpha_t}\; x_0 +
# \frac{\sqrt{1-\beta_t}\;(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\; x_t, \qquad 1-\beta_t = \frac{\bar\alpha_t}{\bar\alpha_{t-1}}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_0, x_t$ | the clean picture, and the noisy one where we stand (`x`) | (B, C, H, W) |
# | $\bar\alpha_t, \bar\alpha_{t-1}$ | share of the data's variance, now and next (`alpha_bar`, `alpha_bar_next`) | numbers |
# | $\tilde\mu_t$ | posterior mean, a mix of $x_0$ and $x_t$ | (B, C, H, W) |
# | $\tilde\beta_t$ | posterior variance, smaller than $\beta_t$ | number |
#
# Nothing here needs the next time to be $t-1$. Any earlier time will do, if $1-\beta$ is the share that the whole step
# keeps: $\bar\alpha$ now divided by $\bar\alpha$ next.
#
# <details><summary>Why: two clues, and their precisions add</summary>
#
# Call the inverse of a variance a *precision*. From $x_0$ we know that $x_{t-1}$ is near
# $\sqrt{\bar\alpha_{t-1}}\,x_0$, with precision $1/(1-\bar\alpha_{t-1})$. From
# $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon$ we know that $x_{t-1}$ is near $x_t/\sqrt{1-\beta_t}$,
# with precision $(1-\beta_t)/\beta_t$. In a product of Gaussians precisions add:
#
# $$\frac{1}{\tilde\beta_t} = \frac{1}{1-\bar\alpha_{t-1}} + \frac{1-\beta_t}{\beta_t}
# = \frac{\beta_t + (1-\beta_t)(1-\bar\alpha_{t-1})}{\beta_t\,(1-\bar\alpha_{t-1})} = \frac{1-\bar\alpha_t}{\beta_t\,(1-\bar\alpha_{t-1})} .$$
#
# The mean is the average of the two places, weighted with the precisions:
# $\tilde\mu_t = \tilde\beta_t\left(\frac{\sqrt{\bar\alpha_{t-1}}\,x_0}{1-\bar\alpha_{t-1}} + \frac{\sqrt{1-\beta_t}\,x_t}{\beta_t}\right)$,
# which is the formula above.
#
# </details>

# %% [markdown] tags=["exercise-card"]
# {{exercise 03.1}}


# %% tags=["exercise"]
@exercise("03.1")
def posterior_mean_var(x0, x, alpha_bar, alpha_bar_next):
    """Mean and variance of q(x_next | x, x0).

    x0, x: (B, ...), clean and noisy; alpha_bar: 0-d tensor, where x is; alpha_bar_next: 0-d tensor,
    a level with less noise, 1 at the data. Returns (mean of shape (B, ...), variance 0-d).
    """
    ### BEGIN SOLUTION
    beta = 1 - alpha_bar / alpha_bar_next
    from_x0 = alpha_bar_next.sqrt() * beta / (1 - alpha_bar)
    from_x = (1 - beta).sqrt() * (1 - alpha_bar_next) / (1 - alpha_bar)
    return from_x0 * x0 + from_x * x, beta * (1 - alpha_bar_next) / (1 - alpha_bar)
    ### END SOLUTION


# %% tags=["nbval-check-output"]
bars = path.alphas_cumprod  # (1001,) float64, ᾱ at t = 0 … 1000
one = torch.ones(1)
for t in (1, 2, 10, 100, 1000):
    _, variance = posterior_mean_var(one, one, bars[t], bars[t - 1])
    print(f"t = {t:4d}: the posterior's variance is {variance / path.betas[t - 1]:.3f} of the step's β")

# %%
# Brute force, for one pixel: draws from x₀ = −0.5 at t = 250, weighed by how likely each becomes x = 0.8 at t = 400.
import matplotlib.pyplot as plt
from torch.distributions import Normal

x0, x, now, then = torch.tensor([-0.5]), torch.tensor([0.8]), path(400), path(250)
keep = (bars[400] / bars[250]).sqrt()
drawn = add_noise(x0.expand(200_000), torch.randn(200_000, generator=generator), then)
weight = Normal(keep * drawn, (1 - keep**2).sqrt()).log_prob(x).softmax(0)  # (200000,)
mean, variance = posterior_mean_var(x0, x, bars[400], bars[250])
bells = {
    "known from x₀ alone": Normal(then.alpha * x0, then.sigma),
    "known from x at t = 400 alone": Normal(x / keep, (1 - keep**2).sqrt() / keep),
    "both: your formula": Normal(mean, variance.sqrt()),
}
fig, ax = plt.subplots(figsize=(6.4, 2.6))
line = torch.linspace(-3, 5, 400)
ax.hist(drawn, 100, weights=weight, density=True, alpha=0.35, color="gray", label="weighted draws")
for (name, bell), style in zip(bells.items(), (":", "--", "-"), strict=True):
    ax.plot(line, bell.log_prob(line).exp(), linestyle=style, marker="", label=name)
ax.set(xlabel="value of the pixel at t = 250", ylabel="density", xlim=(-3, 5))
ax.legend(fontsize=9)
alt = "Density of one pixel at t = 250. Known from x₀ alone: a wide bell around −0.4. From x alone: one around 1.3. The "
figure(fig, alt + "posterior is narrower than both and lies between them; the weighted histogram fills it.")

# %% [markdown]
# **What to notice:** your prediction stands in the list above, at t = 2. In the figure, 200,000 draws from $x_0$ were
# weighed by how well each leads to $x_{400}$, and they fill your curve. The posterior lies between what the two clues
# say, and is narrower than both.

# %% [markdown] tags=["idea"]
# ## What the network has to guess
#
# At sampling time $x_0$ is what we are after. So we put a guess $\hat x_0$ in its place, and a network makes the guess.
# The best one in squared error is the mean $\mathbb E[x_0\mid x_t]$: the blur in the first figure.
#
# Is a mean good enough? For the mean of $x_{t-1}$, yes. $\tilde\mu_t$ is linear in $x_0$, so averaging over all
# possible $x_0$ is the same as putting their average in.
#
# The network may as well guess the noise. $x_t$ is known and is made of two parts, so one part gives the other. And
# there is a third name for the same thing: the **score**, the direction in which noisy pictures become more likely. It
# points against the noise.
#
# $$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\;\hat\varepsilon}{\sqrt{\bar\alpha_t}}, \qquad
# \nabla_{x_t} \log q(x_t) = -\frac{\hat\varepsilon}{\sqrt{1-\bar\alpha_t}}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\hat x_0 = \mathbb E[x_0\mid x_t]$ | best guess of the picture | (B, C, H, W) |
# | $\hat\varepsilon = \mathbb E[\varepsilon\mid x_t]$ | best guess of the noise | (B, C, H, W) |
# | $\nabla_{x_t} \log q(x_t)$ | score: slope of the log-density of all noisy pictures at t | (B, C, H, W) |
#
# <details><summary>Why the score is the noise (Tweedie's formula)</summary>
#
# $q(x_t) = \int q(x_t\mid x_0)\,q(x_0)\,dx_0$. Differentiate under the integral and divide by $q(x_t)$:
#
# $$\nabla \log q(x_t) = \mathbb E\big[\nabla_{x_t} \log q(x_t\mid x_0)\,\big|\,x_t\big]
# = \mathbb E\!\left[-\frac{x_t - \sqrt{\bar\alpha_t}\,x_0}{1-\bar\alpha_t}\,\middle|\,x_t\right]
# = -\frac{\mathbb E[\varepsilon\mid x_t]}{\sqrt{1-\bar\alpha_t}},$$
#
# because $x_t - \sqrt{\bar\alpha_t}\,x_0 = \sqrt{1-\bar\alpha_t}\,\varepsilon$.
#
# </details>

# %% [markdown] tags=["exercise-card"]
# {{exercise 03.2}}


# %% tags=["exercise"]
@exercise("03.2")
def x0_from_eps(x, eps, alpha_bar):
    """The guess of the picture that belongs to a guess of the noise.

    x, eps: (B, ...); alpha_bar: 0-d tensor, the level of x. Returns (B, ...).
    """
    ### BEGIN SOLUTION
    return (x - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()
    ### END SOLUTION


# %%
# Three clusters whose exact ε̂ is known, no network needed. Is the gradient of their log-density the noise?
clusters = GaussianMixture([[-1.0, -0.5], [1.0, -0.6], [0.1, 1.0]], [0.2, 0.1, 0.15], [0.5, 0.2, 0.3])
data, _ = clusters.sample(2000, generator)

fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), sharey=True)
side = torch.linspace(-2, 2, 11)
for ax, t in zip(axes, (30, 200, 500), strict=True):
    level, x = path(t), torch.cartesian_prod(side, side).requires_grad_()  # (121, 2)
    (score,) = torch.autograd.grad(clusters.log_prob(x, level).sum(), x)
    x, eps = x.detach(), clusters(x.detach(), level).eps
    x0 = x0_from_eps(x, eps, bars[t])
    gap = (score + eps / level.sigma.float()).abs().max() / score.abs().max()
    print(f"t = {t}: the largest relative difference between the score and −ε̂/σ is {gap:.0e}")
    noisy = add_noise(data, torch.randn(data.shape, generator=generator), level)
    ax.scatter(*noisy[:600].T, s=2, color="#56B4E9")
    ax.quiver(*x.T, *(x0 - x).T, angles="xy", scale_units="xy", scale=3, width=0.006)
    ax.set(title=f"t = {t}", xlabel="first coordinate", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
axes[0].set(ylabel="second coordinate")
alt = "Noisy points of three clusters, and from each place of a grid an arrow a third of the way to the best guess of x₀. At "
alt += "t = 30 each arrow points to the nearest cluster, at t = 500 nearly all to the middle."
figure(fig, alt)

# %% [markdown]
# **What to notice:** the score is the noise, to rounding. The arrows go a third of the way to $\hat x_0$. With little
# noise the guess is a cluster; with much noise it is the middle of everything, where *no data is*. That is the blur
# again. So $\hat x_0$ is not a sample. It is a direction to set out in, to be asked for again after a small step.

# %% [markdown] tags=["idea"]
# ## One step back, and then many
#
# Now all the parts are there. Stand at $x_t$. Let the network guess the noise, turn that into $\hat x_0$, put it into
# the posterior, and *draw* from it: mean plus noise. You stand at $x_{t-1}$, which is a little cleaner. Ask again.
#
# This is **ancestral sampling**: each picture is drawn from its ancestor. It begins at $x_T$, drawn from
# $\mathcal N(0, I)$, which needs no network, and its last step ends at the data.
#
# $$p_\theta(x_{t-1}\mid x_t) = \mathcal N\!\left(\tilde\mu_t(x_t, \hat x_0),\; \tilde\beta_t I\right), \qquad
# x_{t-1} = \tilde\mu_t(x_t, \hat x_0) + \sqrt{\tilde\beta_t}\; z$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $p_\theta$ | the model of the way back; θ are the network's weights, and only $\hat x_0$ depends on them | |
# | $z \sim \mathcal N(0, I)$ | fresh noise, another draw for each step (`noise`) | (B, C, H, W) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 03.3}}


# %% tags=["exercise"]
@exercise("03.3")
def ancestral_step(x, x0, alpha_bar, alpha_bar_next, noise):
    """One step back: a draw around the posterior's mean.

    x: (B, ...) at the level alpha_bar; x0: (B, ...), the guess; noise: (B, ...), from N(0, 1).
    Returns (B, ...) at the level alpha_bar_next. You may call posterior_mean_var.
    """
    ### BEGIN SOLUTION
    mean, variance = posterior_mean_var(x0, x, alpha_bar, alpha_bar_next)
    return mean + variance.sqrt() * noise
    ### END SOLUTION


# %% [markdown]
# The package's `sample` walks down a list of levels and calls a `step` for each pair. A thin adapter puts *your*
# functions in: from here on every sample of this lesson is made by them. First with the exact $\hat\varepsilon$ of the
# three clusters.

# %%
from diffusion_lessons.samplers import sample


def my_step(x, estimate, now, next, noise):
    """Your functions in the shape that `sample` asks for; at level t, ᾱ is α²."""
    x0 = x0_from_eps(x, estimate.eps, now.alpha**2)
    return ancestral_step(x, x0, now.alpha**2, next.alpha**2, noise)


start = torch.randn(4000, 2, generator=generator)
made = sample(clusters, start, path.levels(200), step=my_step, generator=generator)
found = clusters.posterior(made, path(1)).argmax(1).bincount(minlength=3) / 4000
for share, weight in zip(found, clusters.weights, strict=True):
    error = (weight * (1 - weight) / 4000).sqrt()
    print(f"cluster with {weight:.0%} of the data: {share:.1%} ± {error:.1%} of the samples")

guess = clusters(start, path(1000)).x0
sets = {"data": data, "your 200 steps": made[:2000], "x̂₀ from t = 1000": guess}
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), sharey=True)
for ax, (title, points) in zip(axes, sets.items(), strict=True):
    ax.scatter(*points.T, s=2, color="#0072B2")
    ax.set(title=title, xlabel="first coordinate", xlim=(-2, 2), ylim=(-2, 2))
axes[0].set(ylabel="second coordinate")
alt = "Left: three clusters of data. Middle: 2000 samples after 200 of your steps look the same. Right: the best guess "
figure(fig, alt + "of x₀, made at once from the same noise, is a single spot in the middle.")

# %% [markdown]
# **What to notice:** the same noise and the same exact $\hat x_0$. In one go it gives one spot, the mean of all data;
# in 200 small steps it gives the data, each cluster with its share. But exactness has a price. The next cell takes the
# exact denoiser of the 1,442 digits, and your steps lead back to those digits. A network with the best possible loss
# would only copy.
#
# One more choice of DDPM is missing. It used a larger variance, that of the step forward. The loop below does so, and
# has a bug that is easy to write and hard to see.

# %%
levels, start = path.levels(100), torch.randn(8, 256, generator=generator)
copies = sample(album, start, levels, step=my_step, generator=generator)
nearest = torch.cdist(copies, digits.flatten(1)).min(1).values  # (8,)
print(f"8 samples with the exact denoiser of the 1,442: at most {nearest.max():.2f} from a training digit")

# %% [markdown] tags=["exercise-card"]
# {{exercise 03.4}}


# %% tags=["exercise"]
@exercise("03.4")
def walk_back(predict_x0, x, noises, alpha_bars):
    """From noise to data, with the larger variance: that of the step forward.

    predict_x0(x, i) gives the guess at step i; x: (B, ...), pure noise; noises: (n, B, ...), one
    for each step; alpha_bars: (n + 1,), rising, the last is 1: the data.
    """
    ### BEGIN SOLUTION
    for i in range(len(noises)):
        mean, _ = posterior_mean_var(predict_x0(x, i), x, alpha_bars[i], alpha_bars[i + 1])
        std = (1 - alpha_bars[i] / alpha_bars[i + 1]).sqrt()
        x = mean + std * noises[i] if i < len(noises) - 1 else mean
    return x
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "All digits come out grainy, however long I train." Find out why, and mend it.
    # for i in range(len(noises)):
    #     mean, _ = posterior_mean_var(predict_x0(x, i), x, alpha_bars[i], alpha_bars[i + 1])
    #     std = (1 - alpha_bars[i] / alpha_bars[i + 1]).sqrt()
    #     x = mean + std * noises[i]
    # return x
    ### END STUDENT


# %%
# Now a network: the bundled model of MNIST digits. `Clip` keeps its x̂₀ in [−1, 1], and ε̂ in step with it.
from diffusion_lessons import zoo
from diffusion_lessons.guidance import Clip

model, labels = zoo.load("mnist-unet"), torch.arange(10)
denoiser, levels = Clip(model.denoiser()), model.path.levels(25)
alpha_bars = torch.stack([level.alpha**2 for level in levels])  # (26,)
start = torch.randn(10, 1, 32, 32, generator=generator)
noises = torch.randn(25, 10, 1, 32, 32, generator=generator)
with torch.no_grad():
    mine = sample(denoiser, start, levels, labels, step=my_step, generator=generator)
    wide = walk_back(lambda x, i: denoiser(x, levels[i], labels).x0, start, noises, alpha_bars)
grain = (1 - alpha_bars[-2]).sqrt() * noises[-1]  # what the bug adds in the last step
rows = {"your step": mine, "walk_back": wide, "+ last noise": wide + grain}
fig, axes = plt.subplots(3, 1, figsize=(7, 2.5))
for ax, (name, pictures) in zip(axes, rows.items(), strict=True):
    ax.imshow(torch.cat(list(pictures[:, 0]), dim=1), vmin=-1.25, vmax=1.25)
    ax.set(xticks=[], yticks=[])
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
alt = "Three rows of the digits 0 to 9. The first, by your ancestral step, is clean; the second, by your walk_back, has a few "
figure(fig, alt + "specks; the third is the second with the last step's noise: grain everywhere.")

# %% [markdown]
# **What to notice:** digits from noise, most of them readable, by your code. The grain of the last row has a standard
# deviation of only 0.07, and every pixel has it. With 1,000 steps it would be 0.006. No eye sees that, and so this bug
# lives long.

# %% [markdown] tags=["idea"]
# ## Why so many steps?
#
# We drew from a Gaussian around the right mean. But *is* $q(x_{t-1}\mid x_t)$ Gaussian, when $x_0$ is not known? By
# Bayes' rule it is a product: how well $x_{t-1}$ leads to $x_t$, times how likely $x_{t-1}$ is at all.
#
# If the step is small, the first factor is a very narrow Gaussian. Across its width the logarithm of the second is
# nearly a straight line, and a Gaussian times the exponential of a line is a Gaussian, moved a little. Moved by how
# much? By the slope: the score. If the step is large, the second factor has room to show all its bumps.
#
# $$q(x_s \mid x_t) \;\propto\; q(x_t\mid x_s)\; q(x_s), \qquad
# \mathrm{KL}(h) = \mathbb E_{x_t}\, D_{\mathrm{KL}}\!\left(q(x_{t-h}\mid x_t)\,\big\|\,\mathcal N(\tilde\mu, \tilde\beta)\right)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $s = t - h$ | where a step of length $h$ leads | |
# | $q(x_s)$ | density of all data, noised to level s: two bumps in the figure below | (G,) on a grid |
# | $\mathrm{KL}(h)$ | how far the Gaussian step is from the truth, in nats, on average over $x_t$ | number |

# %%
bumps = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.15, [0.4, 0.6])
grid = torch.linspace(-6, 6, 2401, dtype=torch.float64)  # (G,)
width = grid[1] - grid[0]


def truth(x, now, next):
    """The exact density of x_next on the grid, given x (B,): (B, G), by Bayes' rule."""
    keep = now.alpha / next.alpha
    forward = Normal(keep * grid, (1 - keep**2).sqrt()).log_prob(x[:, None])
    return (bumps.log_prob(grid[:, None], next) + forward).softmax(1) / width


def gaussian(x, now, next):
    """The log-density of an ancestral step with the exact guess: (B, G)."""
    guess = bumps(x[:, None], now).x0
    mean, variance = posterior_mean_var(guess, x[:, None], now.alpha**2, next.alpha**2)
    return Normal(mean, variance.sqrt()).log_prob(grid)


# %%
now, x = path(400), torch.tensor([0.1], dtype=torch.float64)
fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.4))
for ax, t in zip(axes, (390, 150, 50), strict=False):
    ax.plot(grid, truth(x, now, path(t))[0], linestyle="-", marker="", label="truth")
    ax.plot(grid, gaussian(x, now, path(t))[0].exp(), linestyle="--", marker="", label="our step")
    ax.set(title=f"400 → {t}", xlabel=f"x at t = {t}", xlim=(-2.2, 2.2), yticks=[])
axes[0].set_ylim(-0.08, 2.2)
axes[0].legend(fontsize=8, loc="upper left")
places = torch.linspace(-4, 4, 81, dtype=torch.float64)
chance = bumps.log_prob(places[:, None], now).softmax(0)  # of x at t = 400
lengths, errors = [1, 2, 5, 10, 20, 50, 100, 200, 300], []
for h in lengths:
    p, q = truth(places, now, path(400 - h)), gaussian(places, now, path(400 - h))
    errors.append(float(chance @ ((torch.xlogy(p, p) - p * q).sum(1) * width)))
    if h in (10, 20, 100, 200):
        print(f"a step of {h:3d} from t = 400 is {errors[-1]:.1e} nats from the truth")
axes[3].loglog(lengths, errors)
axes[3].set(title="error of a step", xlabel="length h", ylabel="KL in nats")
alt = "Where was a point that is at 0.1 at t = 400? At t = 390 truth and Gaussian coincide. At t = 150 the truth has two bumps, "
alt += "at t = 50 two far peaks, and the Gaussian one in between. Right: the KL over the length h, a line of slope 2 that bends up."
figure(fig, alt)

# %% [markdown]
# **What to notice:** from h = 10 to 20 the error grows fourfold, from 100 to 200 more than tenfold. The divergences of
# the steps of a chain *add up* (and bound that of the samples). With steps half as long, each has a quarter of the
# error, there are twice as many, and half of the total is left. That is why there are a thousand steps, and why lessons
# 7, 8 and 18 look for ways round it.

# %% [markdown] tags=["exercise-card"]
# {{exercise 03.5}}


# %% tags=["exercise"]
@exercise("03.5")
def without_noise():
    """Three clusters, 50 steps, and each step returns the posterior's mean alone. What do 4,000 points look like?

    Returns one of: "like the data: the mean is the best guess in each step",
    "three clusters in the right shares, each one too tight",
    "one tiny spot: nearly all points in the same place",
    "smeared out: no clusters can be seen".
    """
    ### BEGIN SOLUTION
    return "one tiny spot: nearly all points in the same place"
    ### END SOLUTION


# %% [markdown] tags=["experiment"]
# ## Experiment: is the step right, and how much does its noise matter?
#
# First the claim that carries everything: for the *mean* of $x_{t-1}$ the best guess $\hat x_0$ may stand in for $x_0$.
# We test it on the three clusters by brute force, with nothing but the forward process: 400,000 draws of data, noised,
# weighed with how likely each is to become the x that we see. (Importance sampling; n = 400,000 a row.)

# %%
seen, now = torch.tensor([[0.2, 0.1]]), path(250)  # one point at t = 250
for t in (240, 200, 100):
    keep, (x0, _) = float((bars[250] / bars[t]).sqrt()), clusters.sample(400_000, generator)
    drawn = add_noise(x0, torch.randn(x0.shape, generator=generator), path(t))
    weight = Normal(keep * drawn, (1 - keep**2) ** 0.5).log_prob(seen).sum(1).softmax(0)  # (400000,)
    average = weight @ drawn  # (2,)
    spread = (drawn - average).square()
    around = weight @ spread.mean(1)  # a variance, mean over both coordinates
    errors = weight.square() @ spread, weight.square() @ (spread.mean(1) - around).square()
    mean, variance = posterior_mean_var(clusters(seen, now).x0, seen, bars[250], bars[t])
    print(
        f"t = 250 → {t}: mean {average[0]:.4f} ± {errors[0][0].sqrt():.4f}, formula {mean[0, 0]:.4f}",
        end="; ",
    )
    print(f"variance {around:.4f} ± {errors[1].sqrt():.4f}, β̃ {variance:.4f}, β {1 - keep**2:.4f}")

# %% [markdown]
# The means agree to about two standard errors, for every length of step. The variances do not: $\tilde\beta$ forgets
# that $x_0$ is uncertain, and is too small. The shorter the step, the less that matters.
#
# Now whole samples, with three choices of noise: none, your $\tilde\beta$, and the $\beta$ of your `walk_back`.


# %%
def mean_step(x, estimate, now, next, noise):
    """Your step without its noise."""
    return my_step(x, estimate, now, next, torch.zeros_like(noise))


def walk_wide(n, start):
    """Your walk_back on the clusters in n steps."""
    levels, noises = path.levels(n), torch.randn(n, *start.shape, generator=generator)
    alpha_bars = torch.stack([level.alpha**2 for level in levels])
    return walk_back(lambda x, i: clusters(x, levels[i]).x0, start, noises, alpha_bars)


start, levels = torch.randn(4000, 2, generator=generator), path.levels(50)
clouds = {
    "no noise": sample(clusters, start, levels, step=mean_step, generator=generator),
    "variance β̃": sample(clusters, start, levels, step=my_step, generator=generator),
    "variance β": walk_wide(50, start),
}
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), sharey=True)
for ax, (title, points) in zip(axes, clouds.items(), strict=True):
    ax.scatter(*points.T, s=2, color="#0072B2")
    ax.set(title=title, xlabel="first coordinate", xlim=(-2, 2), ylim=(-2, 2))
axes[0].set(ylabel="second coordinate")
alt = "50 steps. Without noise all 4000 points lie in one tiny spot, at the centre of the largest cluster. With the variance "
figure(fig, alt + "β̃ and with β there are three clusters, tighter with β̃.")

# %%
# The network does the same: the digits 0 to 9 from four starts, without noise and with.
labels, start = torch.arange(10).repeat(4), torch.randn(40, 1, 32, 32, generator=generator)
levels, pairs = model.path.levels(20), torch.combinations(torch.arange(4))
fig, axes = plt.subplots(2, 1, figsize=(7, 2.1))
for ax, name, step in zip(axes, ("no noise", "your step"), (mean_step, my_step), strict=True):
    made = sample(denoiser, start, levels, labels, step=step, generator=generator).view(4, 10, 32, 32)
    apart = (made[pairs[:, 0]] - made[pairs[:, 1]]).square().mean((2, 3)).sqrt().mean(0)  # (10,), one a digit
    print(
        f"{name}: two starts end {apart.mean():.2f} ± {apart.std() / 10**0.5:.2f} apart (rms of the pixels)"
    )
    ax.imshow(torch.cat([torch.cat(list(row), dim=1) for row in made[:2]]), vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
alt = "Digits 0 to 9 from two of the four starts. Without noise both rows show the same ten digits; with noise they differ "
figure(fig, alt + "in slant, weight and shape.")

# %% [markdown]
# One spot, and nearly the same ten digits from every start. Each mean has less spread than its level should have. The
# loss multiplies up, and when the time comes to choose a cluster, all points stand in the same place. For data from
# $\mathcal N(0,1)$ the mean of $x_{t-1}$ is $\sqrt{1-\beta_t}\;x_t$, and after all steps $\sqrt{\bar\alpha_T} = 0.006$
# of the spread is left. The noise is where the variety comes from.
#
# How much of it, then? We measure the distance to the data over the number of steps, eight times for each variance.

# %%
from diffusion_lessons.metrics import sliced_wasserstein

n, counts = budget.samples(4000), [5, 10, 20, 50, 100, 200]


def measured(points):
    """Distance to fresh data (sliced Wasserstein, p = 1) and std in the largest cluster: (8 repeats, 2)."""
    rows = []
    for x in points.split(n):
        inside = x[clusters.posterior(x, path(1)).argmax(1) == 0]
        rows.append([sliced_wasserstein(x, clusters.sample(n, generator)[0], 64, p=1), inside.std(0).mean()])
    return torch.tensor(rows)


results = {"data": [measured(clusters.sample(8 * n, generator)[0])], "β̃ (your step)": [], "β (walk_back)": []}
for steps in counts:
    start = torch.randn(8 * n, 2, generator=generator)
    made = sample(clusters, start, path.levels(steps), step=my_step, generator=generator)
    results["β̃ (your step)"].append(measured(made))
    results["β (walk_back)"].append(measured(walk_wide(steps, start)))
print(f"{'steps':14s}", "  ".join(f"{k:^13d}" for k in counts))
for name, rows in results.items():
    cells = [f"{row[:, 0].mean():.3f} ± {row[:, 0].std() / 8**0.5:.3f}" for row in rows]
    print(f"{name:14s}", "  ".join(cells))

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.8))
for name, rows in results.items():
    mean = torch.stack([row.mean(0) for row in rows]).T  # (2, steps)
    error = torch.stack([row.std(0) / 8**0.5 for row in rows]).T
    for ax, m, e in zip(axes, mean, error, strict=True):
        if name == "data":
            ax.axhspan(float(m - e), float(m + e), color="gray", alpha=0.5, label="data, ± standard error")
        else:
            ax.errorbar(counts, m, yerr=e, capsize=2, label=name)
axes[0].set(xscale="log", yscale="log", xlabel="steps", ylabel="distance to the data")
axes[1].set(xscale="log", xlabel="steps", ylabel="std in the largest cluster")
axes[0].set_yticks([0.02, 0.05, 0.1, 0.2], ["0.02", "0.05", "0.1", "0.2"])
for ax in axes:
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
axes[1].legend(fontsize=8)
figure(
    fig,
    alt="Left: the distance to the data falls from about 0.23 (β̃) and 0.17 (β) at 5 steps towards that between two sets "
    "of data, about 0.015: with β it is there by 200 steps, with β̃ at about 0.024. Right: from 20 steps on β̃ leaves the largest cluster "
    "too tight, 0.16 to 0.19 where the data has 0.20, and β too wide, 0.22 falling to 0.20.",
)

# %% [markdown]
# Distances in the table are mean ± standard error over 8 repeats with n = 4,000 points each. The first row, the grey
# band, is what another set of data would get. From 20 steps on the clusters are too tight with $\tilde\beta$, too wide
# with $\beta$, and with more steps both come nearer. The two are extremes: $\tilde\beta_t$ is exact for data at a
# single point, $\beta_t$ for $\mathcal N(0, I)$ (Ho et al. 2020, section 3.2). Both are one number for all x. The true
# variance is not: between two clusters, as at the point above, even $\beta$ is too small.
#
# Which one is better depends on the data. **Published** for CIFAR-10 (Song et al. 2021, table 1; FID at 10, 50 and
# 1,000 steps): with $\tilde\beta$, their η = 1, 41.07, 8.01 and 4.73; with $\beta$, their σ̂, 367, 32.7 and 3.17. There
# the larger variance is hopeless at few steps, where on our clusters it is the better one.

# %% [markdown] tags=["play"]
# ## Play
#
# Two digits on their way, with your step. Compare x̂₀ at the start with the end. When is the digit decided, and when
# only its details? And what is left in ε̂ at the end?

# %%
from diffusion_lessons.samplers import trajectory

start = torch.randn(2, 1, 32, 32, generator=generator)
walk = trajectory(denoiser, start, model.path.levels(50), torch.tensor([2, 9]), my_step, generator)
alt = "A 2 and a 9 from t = 1000 to t = 0. x is noise until about t = 600 and clears late; x̂₀ is a soft, average digit from the "
scrub(
    walk,
    frames=17,
    alt=alt + "first step, which takes a shape of its own by about t = 600; ε̂ is grain throughout.",
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your step against the package's own, and, where it is installed, against `DDPMScheduler` of diffusers, which stores
# times as ours minus 1. All get the same ε̂ and the same noise.

# %%
import importlib.util

from diffusion_lessons.samplers import ddpm_step
from diffusion_lessons.targets import EPSILON

x, eps = torch.randn(2, 4, 1, 16, 16, generator=generator)
has_diffusers = importlib.util.find_spec("diffusers") is not None
gaps = {"the package's ddpm_step": [], "diffusers' DDPMScheduler": []}
for t in (1, 2, 10, 100, 500, 1000):
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(t))
    estimate, now, then = EPSILON.solve(eps, x, path(t)), path(t), path(t - 1)
    ours = my_step(x, estimate, now, then, noise)
    theirs = [ddpm_step(x, estimate, now, then, noise)]
    if has_diffusers:
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler(beta_start=0.0001, beta_end=0.02, clip_sample=False)
        theirs.append(scheduler.step(eps, t - 1, x, torch.Generator().manual_seed(t)).prev_sample)
    for name, given in zip(gaps, theirs, strict=False):
        gaps[name].append(((ours - given).abs().max() / given.abs().max()).item())
for name, values in gaps.items():
    print(
        f"{name}: " + (f"largest relative difference {max(values):.0e}" if values else "not installed here")
    )

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | noise at the last step | fine grain on every picture, the stronger the fewer the steps |
# | variance in place of standard deviation before the noise | far too little noise: samples all alike, smooth, few kinds |
# | $\hat x_0$ clipped, $\hat\varepsilon$ left as it was | the two no longer make up $x_t$: drifting brightness, burnt contrast |
# | $\bar\alpha$ of the wrong index: next and now swapped, or off by one | no error; washed-out or grainy pictures; with the true ε as oracle, the end is not $x_0$ |
# | the loop stops at $t = 1$, or skips the first step | slight grain; brightness pulled towards grey |
# | $\log\tilde\beta_1 = \log 0$ | −∞ in the loss of the last step; published code takes $\tilde\beta_2$ there |
# | dividing by $\sqrt{\bar\alpha_T}$ with an unclipped guess | $\hat x_0$ in the hundreds at the start; large numbers that never come back |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is the reverse process of a diffusion model?",
    "A learned Markov chain that runs from noise to data. Its step should be q(xₜ₋₁ | xₜ), which nobody knows, for it depends on "
    "the whole distribution of the data. But for a small step it is nearly Gaussian, and given x₀ it is exactly Gaussian, with "
    "a mean between x₀ and xₜ and a known variance β̃ₜ.\n\n"
    "So the network only has to supply a guess of x₀ from xₜ, or, which is the same, of the noise: "
    "x̂₀ = (xₜ − √(1 − ᾱₜ)·ε̂)/√ᾱₜ. Sampling starts at N(0, I) and repeats: guess, posterior mean, add noise of "
    "variance β̃ₜ; no noise on the last step.",
    [
        (
            "Why is a blurred x̂₀ good enough?",
            "The posterior mean is linear in x₀, so the average guess gives the exact mean of xₜ₋₁. Only the variance is "
            "a little too small, and that error vanishes with the step length.",
        ),
        (
            "Why not jump to x̂₀ at once?",
            "E[x₀ | x_T] is the mean of the data: the same blur for every start.",
        ),
        (
            "What has the score to do with it?",
            "∇ log q(xₜ) = −ε̂/√(1 − ᾱₜ). Predicting noise is estimating the score; both are E[x₀ | xₜ] in other units.",
        ),
        (
            "Which variance: β or β̃?",
            "They are two extremes: β̃ is exact for data at one point, β for N(0, I). With 1,000 steps both work; with few it "
            "matters, so some models learn a value between them (Nichol and Dhariwal 2021).",
        ),
        (
            "What would a perfect network sample?",
            "The exact minimum of the training loss is the exact denoiser of the training set, and that gives the training "
            "pictures back. New pictures come from what the network can not or does not fit.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Which of these is exactly Gaussian, whatever the data?",
        [
            Choice(
                "q(xₜ₋₁ | xₜ)", False, "Nearly so for small steps. For a large one it can have many peaks."
            ),
            Choice("q(xₜ₋₁ | xₜ, x₀)", True, "With both ends given, it is a product of two Gaussians."),
            Choice("q(xₜ)", False, "It is the data, shrunk and noised: nearly Gaussian only at the end."),
        ],
    ),
    Question(
        "How much noise does the step to t = 0 add, with the posterior's own variance?",
        [
            Choice("none", True, "ᾱ₀ = 1, so β̃ is 0 and the mean is x̂₀."),
            Choice("as much as a step forward, variance β₁", False, "Added here, it would stay as grain."),
            Choice("as much as in the steps before", False, "β̃ shrinks to 0 towards the data."),
        ],
    ),
    Question(
        "A network's ε̂ is off by 0.1 at ᾱₜ = 0.01. How far off is x̂₀?",
        [
            Choice("about 0.1", False, "The error of the noise is divided by √ᾱₜ, which is 0.1."),
            Choice("about 1", True, "√0.99 · 0.1 / 0.1. Where noise is strong, x̂₀ from ε̂ is shaky."),
            Choice("about 10", False, "That would be dividing by ᾱₜ = 0.01. It is its root."),
        ],
    ),
    Question(
        "Samples are sharp and clean, but every run gives nearly the same few. What do you suspect first?",
        [
            Choice("noise at the last step", False, "That gives grain, and leaves the variety alone."),
            Choice("β̃ where √β̃ belongs", True, "Too little noise: all points draw together early."),
            Choice("too many steps", False, "More steps bring the samples nearer to the data's variety."),
        ],
    ),
)

# %% [markdown] tags=["references"]
# ## References
#
# - Ho, Jain and Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv 2006.11239: section 2, eq. 6 and 7
#   (posterior); section 3.2 (the two variances), eq. 11; algorithm 2 (sampling).
# - Sohl-Dickstein et al. 2015, arXiv 1503.03585: section 2.2, why the reverse of a small step has the same form.
# - Song, Meng and Ermon 2021, *Denoising Diffusion Implicit Models*, arXiv 2010.02502: table 1, the published figures
#   above.
# - Song et al. 2021, *Score-Based Generative Modeling through Stochastic Differential Equations*, arXiv 2011.13456:
#   section 3.
# - Nichol and Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, arXiv 2102.09672: section 3.1,
#   learned variances.
#
# You can sample with any guess of the noise. Next: how a network learns to guess, and why a plain squared error is
# enough. {{lesson 04}}.
