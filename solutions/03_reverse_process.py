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
# - take one step back, build the sampler of DDPM from it, and find a bug in its last step (exercises 03.3, 03.6 and
#   03.4)
# - compute the noise that a step should add, and say what a thousand steps are for (exercise 03.7)
# - foresee what becomes of samples without noise, and why (exercise 03.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# One handwritten digit lies under noise. **Which one?** The panel in the middle shows nine answers: from the same noisy
# picture a network goes back to a clean one, nine times. The right panel shows its best guess x̂₀, the mean of
# all possible answers. Drag the slider. When do all nine agree?

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.guidance import Clip
from diffusion_lessons.paths import add_noise
from diffusion_lessons.samplers import ddpm_step, sample

mnist = zoo.load("mnist-unet")
mnist.network.to(device)
network = mnist.denoiser()
denoiser = Clip(network)  # each guess of a picture is kept in [−1, 1]


def fresh(*shape, seeded=None):
    """Noise from N(0, 1), by a generator of its own where one is given."""
    return torch.randn(*shape, generator=seeded or generator).to(device)


# %% jupyter={"source_hidden": true}
def sheet(pictures):
    """Nine pictures as one, in three rows."""
    return torch.cat([torch.cat(list(row), -1) for row in pictures.chunk(3)], -2).cpu()


seeded = torch.Generator().manual_seed(9)
draw = dict(step=ddpm_step, generator=seeded)
four = torch.tensor([4], device=device)
digit = sample(denoiser, fresh(1, 1, 32, 32, seeded=seeded), mnist.path.levels(25), four, **draw)
noise, no_label = fresh(1, 1, 32, 32, seeded=seeded), network.null_condition(9)
times = [1000, 900, 850, 800, 700, 600, 500, 300, 100]
frames = {"x": [], "nine that it could be": [], "x̂₀, the mean of all": []}
for t in times:
    x = add_noise(digit, noise, mnist.path(t)).expand(9, -1, -1, -1)
    back = [mnist.path(s) for s in range(t, -1, -50)]  # levels from here to data
    guess = denoiser(x[:1], mnist.path(t), no_label[:1]).x0.detach()
    frames["x"].append(x[0].cpu())
    frames["nine that it could be"].append(sheet(sample(denoiser, x, back, no_label, **draw)))
    frames["x̂₀, the mean of all"].append(guess[0].cpu())
scrub(
    frames,
    [mnist.path(t) for t in times],
    alt="A 4 under noise from t = 1000 to t = 100, nine clean digits that it could be, and their mean. At t = 1000 the nine are of "
    "all kinds and the mean is a blur; at 800 they are 4s and 9s and the mean lies between; from 500 down all nine and the "
    "mean are the same 4.",
    columns=5,
)

# %% [markdown]
# At t = 1000 the nine have nothing in common. At 800 they are 4s and 9s, at 600 all are 4s, and from 500 down they are the same
# 4. The network was not told which digit it is: it *draws* one of those that are still possible. The guess x̂₀ never
# chooses. While many digits are possible, it is their blurred mean.
#
# How does one go from x to nine different clean digits? You build `sample` and its step, `ddpm_step`, on this page.

# %% [markdown] tags=["guess"]
# ## Guess
#
# Film a digit while it sinks into noise, one frame a step: $x_0, x_1, \dots, x_{1000}$. You have as many such films as you
# like, and a network that learns from pairs. Now somebody hands you a last frame, pure noise, without its film. **How would
# you make the frames before it?** Think two minutes, then unfold.
#
# <details><summary>What can be said</summary>
#
# - *Take the noise off again.* Each step added random numbers. Nobody kept them.
# - *Train on neighbouring frames: $x_t$ in, $x_{t-1}$ out.* A good idea. In squared error the network learns a mean: the
#   average of all frames that may have come before. A real frame is no average. What comes of a thousand means in a row is a
#   question of this lesson.
# - *Learn a whole distribution of the frame before, and draw from it.* This is what we want. For a small step it is nearly
#   Gaussian, so a mean and a variance are enough.
# - *Guess the first frame, and noise it again up to $t-1$.* Close, too. But $x_t$ itself says much about $x_{t-1}$. How much of
#   each belongs into the mix? The next section computes it.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# The way back has many ends, until late. But if the end $x_0$ is *given*, the step back is easy to compute. Think of two
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
            "x₁ is tied to both ends, each with variance β. Two such clues together leave half of it. You compute 0.455·β below.",
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

    x0, x: (B, ...), clean and noisy; alpha_bar: 0-d tensor, where x is; alpha_bar_next: 0-d
    tensor, a level with less noise, 1 at the data. Returns a tuple: the mean (B, ...), and the
    variance, a 0-d tensor.
    """
    ### BEGIN SOLUTION
    beta = 1 - alpha_bar / alpha_bar_next
    from_x0 = alpha_bar_next.sqrt() * beta / (1 - alpha_bar)
    from_x = (1 - beta).sqrt() * (1 - alpha_bar_next) / (1 - alpha_bar)
    return from_x0 * x0 + from_x * x, beta * (1 - alpha_bar_next) / (1 - alpha_bar)
    ### END SOLUTION


# %% tags=["nbval-check-output"]
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import linear_betas

path = DiscreteVP(linear_betas())  # the thousand levels of the DDPM paper
bars = path.alphas_cumprod  # (1001,) float64, ᾱ at t = 0 … 1000
one = torch.ones(1)
for t in (1, 2, 10, 100, 1000):
    _, variance = posterior_mean_var(one, one, bars[t], bars[t - 1])
    print(f"t = {t:4d}: the posterior's variance is {variance / path.betas[t - 1]:.3f} of the step's β")

# %%
# Brute force, for one pixel: draws from x₀ = −0.5 at t = 250, weighted by how likely each is to
# become x = 0.8 at t = 400.
from torch.distributions import Normal

x0, x, now, then = torch.tensor([-0.5]), torch.tensor([0.8]), path(400), path(250)
keep = float(now.alpha / then.alpha)
drawn = add_noise(x0.expand(200_000), torch.randn(200_000, generator=generator), then)
weight = Normal(keep * drawn, (1 - keep**2) ** 0.5).log_prob(x).softmax(0)  # (200000,)
mean, variance = posterior_mean_var(x0, x, bars[400], bars[250])
average = weight @ drawn
print(f"weighted draws: mean {average:.3f}, variance {weight @ (drawn - average).square():.3f}")
print(f"your formula:   mean {mean.item():.3f}, variance {variance:.3f}")

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

bells = {
    "known from x₀ alone": Normal(then.alpha * x0, then.sigma),
    "known from x at t = 400 alone": Normal(x / keep, (1 - keep**2) ** 0.5 / keep),
    "both: your formula": Normal(mean, variance.sqrt()),
}
fig, ax = plt.subplots(figsize=(7.2, 2.7))
line = torch.linspace(-3, 5, 400)
ax.hist(
    drawn, 60, weights=weight, density=True, histtype="stepfilled", color="#cccccc", label="weighted draws"
)
for (name, bell), style in zip(bells.items(), (":", "--", "-"), strict=True):
    ax.plot(line, bell.log_prob(line).exp(), linestyle=style, marker="", label=name)
ax.set(xlabel="value of the pixel at t = 250", ylabel="density", xlim=(-3, 5))
ax.legend(fontsize=10)
figure(
    fig,
    alt="Density of one pixel at t = 250. Known from x₀ alone: a wide bell around −0.4. From x alone: one around 1.3. The "
    "posterior is narrower than both and lies between them; the weighted histogram fills it.",
)

# %% [markdown]
# **What to notice:** your prediction stands in the list above, at t = 2. The posterior lies between what the two clues say,
# and is narrower than both. 200,000 draws that were never told the formula fill its curve.

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

# %% [markdown]
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
# Three clusters whose exact ε̂ is known, no network needed. Is the gradient of their log-density −ε̂/σ?
from diffusion_lessons.mixtures import GaussianMixture

clusters = GaussianMixture([[-1.0, -0.5], [1.0, -0.6], [0.1, 1.0]], [0.2, 0.1, 0.15], [0.5, 0.2, 0.3])
for t in (30, 200, 500):
    level, x = path(t), torch.randn(500, 2, generator=generator).requires_grad_()
    (score,) = torch.autograd.grad(clusters.log_prob(x, level).sum(), x)
    eps = clusters(x.detach(), level).eps
    gap = (score + eps / level.sigma.float()).abs().max() / score.abs().max()
    print(f"t = {t}: the largest relative difference between the score and −ε̂/σ is {gap:.0e}")

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Points, landscape

data, _ = clusters.sample(250, generator)
grain = torch.randn(250, 2, generator=generator)
levels = [path(t) for t in range(1000, 0, -80)]
noisy = [add_noise(data, grain, level) for level in levels]
guesses = [
    x0_from_eps(x, clusters(x, level).eps, level.alpha**2) for x, level in zip(noisy, levels, strict=True)
]
scrub(
    {
        "x over density and score": landscape(clusters, levels, noisy, 2.4, cells=40),
        "x̂₀ of the same points": Points(guesses, 2.4, behind=data),
    },
    levels,
    alt="Left, 250 noisy points of three clusters over their density, with arrows along the score: one round cloud at t = 1000, "
    "three clusters at t = 40. Right, the best guesses at the clean points, over the data in grey: at t = 1000 all in one "
    "spot between the clusters, then spread along the lines between them, at t = 40 on the clusters.",
    columns=6,
)

# %% [markdown]
# **What to notice:** the score is $-\hat\varepsilon/\sigma$ with $\sigma = \sqrt{1-\bar\alpha_t}$, to rounding. Each arrow points
# from x to $\alpha\hat x_0$. With little noise the guesses lie in the clusters. With much noise they all lie in the middle, where
# *no data is*. That is the blur again. So $\hat x_0$ is not a sample. It is a direction to set out in, to be asked for again
# after a small step.

# %% [markdown] tags=["idea"]
# ## One step back, and then many
#
# Now all the parts are there. Stand at $x_t$. Let the network guess the noise, turn that into $\hat x_0$, put it into
# the posterior, and *draw* from it: mean plus noise. You stand at $x_{t-1}$, which is a little cleaner. Ask again. Each
# step costs one evaluation of the network. (Papers count these as NFE, number of function evaluations.)
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


# %% [markdown] tags=["exercise-card"]
# Now the whole sampler. Your three pieces go into one loop. A network's early guesses may lie far outside of what a picture
# can be, so published samplers clip $\hat x_0$ to the range of the pictures, and so does yours where it is told a `limit`.
#
# {{exercise 03.6}}


# %% tags=["exercise"]
@exercise("03.6")
def ancestral_sample(predict_eps, x, levels, noises, limit=None):
    """Walk down the levels by ancestral steps; returns the list of x at each level, the start first.

    predict_eps(x, level): the guess of the noise in x (B, ...); x: at levels[0]; levels: n + 1,
    falling, each with alpha and sigma, 0-d, α² = ᾱ, the last often data; noises: a tensor
    (n, B, ...), for step i noises[i]; limit: None, or the number to whose range [−limit, limit]
    each x̂₀ is clipped before its step.
    """
    ### BEGIN SOLUTION
    walk = [x]
    for i in range(len(levels) - 1):
        now, after = levels[i], levels[i + 1]
        eps = predict_eps(x, now)
        x0 = x0_from_eps(x, eps, now.alpha**2)
        if limit is not None:
            x0 = x0.clamp(-limit, limit)
        x = ancestral_step(x, x0, now.alpha**2, after.alpha**2, noises[i])
        walk.append(x)
    return walk
    ### END SOLUTION


# %% [markdown]
# The step to the data needs no rule of its own: its $\tilde\beta$ is 0. Your sampler draws from here on, first with the exact
# $\hat\varepsilon$ of the three clusters.


# %%
def exact_eps(x, level):
    return clusters(x, level).eps


levels, start = path.levels(200), torch.randn(4000, 2, generator=generator)
walk = ancestral_sample(exact_eps, start, levels, torch.randn(200, 4000, 2, generator=generator))
found = clusters.posterior(walk[-1], path(1)).argmax(1).bincount(minlength=3) / 4000
for share, weight in zip(found, clusters.weights, strict=True):
    error = (weight * (1 - weight) / 4000).sqrt()
    print(f"cluster with {weight:.0%} of the data: {share:.1%} ± {error:.1%} of the samples")

# %% jupyter={"source_hidden": true}
shown = [0, 40, 80, *range(100, 200, 8), 200]  # of the 201 places of a walk
points = [walk[i][:250] for i in shown]
guesses = [clusters(walk[i][:250], levels[i]).x0 for i in shown[:-1]] + [
    points[-1]
]  # at t = 0 the point itself
scrub(
    {
        "your walk, over density and score": landscape(
            clusters, [levels[i] for i in shown], points, 2.4, cells=40
        ),
        "x̂₀ on the way": Points(guesses, 2.4, behind=data),
    },
    [levels[i] for i in shown],
    alt="Left, 250 points on their way from a round cloud to three clusters; at each level they lie where the density of noisy "
    "data is. Right, their guesses x̂₀: one spot in the middle at first, then a triangle of lines, at last the clusters.",
    title="Scrub from noise to data",
    columns=6,
)

# %% [markdown]
# **What to notice:** at every level the points lie where the exact density is, and at the end each cluster has its share. The
# guesses start as one spot, the mean of all data. A draw from one wide choice became two hundred draws from narrow
# choices, and each narrow choice is nearly Gaussian.
#
# (The ± covers the draw of 4,000 samples.)

# %% [markdown] tags=["exercise-card"]
# One more choice of DDPM is missing. For CIFAR-10 its authors' code used a *larger* variance, $\beta$, that of the step forward.
# The loop below does so. It has a bug that is easy to write and hard to see.
#
# {{exercise 03.4}}


# %% tags=["exercise"]
@exercise("03.4")
def walk_back(predict_x0, x, noises, alpha_bars):
    """From noise to data, with the larger variance, that of the step forward. This variance is to stay.

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


# %% [markdown]
# Now a network: the bundled model of MNIST digits, and ten steps. Each row starts from the same noise.


# %%
def told(labels):
    """The network's guess of the noise in pictures with these labels, as your sampler asks for it."""

    def predict_eps(x, level):
        with torch.no_grad():
            return network(x, level, labels).eps

    return predict_eps


ten, levels = torch.arange(10, device=device), mnist.path.levels(10)
alpha_bars = torch.stack([level.alpha**2 for level in levels])  # (11,)
seeded = torch.Generator().manual_seed(4)
start, noises = fresh(10, 1, 32, 32, seeded=seeded), fresh(10, 10, 1, 32, 32, seeded=seeded)
yours = ancestral_sample(told(ten), start, levels, noises, limit=1.0)[-1]
with torch.no_grad():
    wide = walk_back(lambda x, i: denoiser(x, levels[i], ten).x0, start, noises, alpha_bars)
grain = (1 - alpha_bars[-2]).sqrt()  # std of what the bug adds in the last step
print(f"grain of the last step: {grain:.3f} with 10 steps, {mnist.path(1).sigma:.3f} with 1,000")

# %% jupyter={"source_hidden": true}
rows = {"your sampler": yours, "walk_back": wide, "with the bug": wide + grain * noises[-1]}
fig, axes = plt.subplots(3, 1, figsize=(7.4, 2.6))
for ax, (name, pictures) in zip(axes, rows.items(), strict=True):
    ax.imshow(torch.cat(list(pictures[:, 0].cpu()), dim=1), vmin=-1.25, vmax=1.25)
    ax.set(xticks=[], yticks=[])
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
figure(
    fig,
    alt="Three rows of the digits 0 to 9. The first, by your sampler, is clean; the second, by your walk_back, has a few "
    "specks; the third is the second with the last step's noise: grain everywhere.",
)

# %% [markdown]
# **What to notice:** digits from noise, by your code. With ten steps the bug shows at once. With a thousand its grain is
# far too faint for the eye, and so this bug lives long.

# %% [markdown] tags=["idea"]
# ## What are a thousand steps for?
#
# We drew from a Gaussian around the right mean. But *is* $q(x_{t-1}\mid x_t)$ Gaussian, when $x_0$ is not known? By
# Bayes' rule it is a product: how well $x_{t-1}$ leads to $x_t$, times how likely $x_{t-1}$ is at all.
#
# If the step is small, the first factor is a very narrow Gaussian. Across its width the logarithm of the second is
# nearly a straight line. A Gaussian times the exponential of a line is a Gaussian again, moved by the slope: the
# score. If the step is large, the second factor has room to show all its bumps.
#
# And is its variance $\tilde\beta$? That is the variance for a *known* $x_0$. But $x_0$ is in doubt, and the mean
# $\tilde\mu$ moves with it. So the variance of the whole step is larger, by the law of total variance.

# %% [markdown]
# $$q(x_s \mid x_t) \;\propto\; q(x_t\mid x_s)\; q(x_s), \qquad
# \operatorname{Var}[x_s\mid x_t] = \tilde\beta + c^2 \operatorname{Var}[x_0\mid x_t], \qquad
# \mathrm{KL}(h) = \mathbb E_{x_t}\, D_{\mathrm{KL}}\!\left(q(x_{t-h}\mid x_t)\,\big\|\,\mathcal N(\tilde\mu, v)\right)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $s = t - h$ | where a step of length $h$ leads | |
# | $c$ | the factor of $x_0$ in $\tilde\mu$ | number |
# | $\operatorname{Var}[x_0\mid x_t]$ | the doubt about $x_0$, one number for each pixel (`variance_x0`) | (B, …) |
# | $v$ | the variance of our step: $\tilde\beta$, $\beta$, or the right one | (B, …) |
# | $\mathrm{KL}(h)$ | how far the Gaussian step is from the truth, in nats, on average over $x_t$ | number |

# %% [markdown] tags=["exercise-card"]
# {{exercise 03.7}}


# %% tags=["exercise"]
@exercise("03.7")
def step_variance(variance_x0, alpha_bar, alpha_bar_next):
    """The variance of q(x_next | x), where x0 is known only up to a variance.

    variance_x0: (B, ...), the variance of each entry of x0 given x; alpha_bar, alpha_bar_next:
    0-d tensors, where x is and where the step leads. Returns (B, ...), in the dtype of variance_x0.
    """
    ### BEGIN SOLUTION
    beta = 1 - alpha_bar / alpha_bar_next
    own = beta * (1 - alpha_bar_next) / (1 - alpha_bar)
    factor = alpha_bar_next.sqrt() * beta / (1 - alpha_bar)
    return own + factor**2 * variance_x0
    ### END SOLUTION


# %% [markdown]
# For mixtures of Gaussians the doubt about $x_0$ is known exactly, and so is the true density of a step. We compare the three
# variances, each around your mean, for data in one dimension with two bumps.


# %%
def moments(mixture, x, level):
    """Mean and variance of x₀ given x (B, D), exactly: both (B, D)."""
    share = mixture.posterior(x, level)[..., None]  # (B, K, 1), of each bump
    means, variances = mixture.component_moments(x, level)  # (B, K, D), (B, K)
    mean = (share * means).sum(1)
    return mean, (share * (variances[..., None] + (means - mean[:, None]) ** 2)).sum(1)


def gaussian_steps(mixture, x, now, after):
    """Your mean (B, D), and three variances around it."""
    mean_x0, doubt = moments(mixture, x, now)
    mean, small = posterior_mean_var(mean_x0, x, now.alpha**2, after.alpha**2)
    large = 1 - (now.alpha / after.alpha) ** 2
    yours = step_variance(doubt, now.alpha**2, after.alpha**2)
    return mean, {"β̃": small, "β": large, "step_variance": yours}


# %% jupyter={"source_hidden": true}
bumps = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.15, [0.4, 0.6])


def truth(places, x, now, after):
    """The exact density at places (B, G) of where x (B, 1) came from, by Bayes' rule."""
    keep = now.alpha / after.alpha
    likely = bumps.log_prob(places.reshape(-1, 1), after).view(places.shape)
    leads_to_x = Normal(keep * places, (1 - keep**2).sqrt()).log_prob(x)
    return (likely + leads_to_x).softmax(1) / (places[:, 1:2] - places[:, :1])


def errors(now, after):
    """KL of the three Gaussian steps from the truth, on average over x."""
    x = torch.linspace(-4, 4, 61, dtype=torch.float64)[:, None]
    chance = bumps.log_prob(x, now).softmax(0)
    mean, variances = gaussian_steps(bumps, x, now, after)
    places = mean + variances["step_variance"].sqrt() * torch.linspace(
        -10, 10, 401, dtype=x.dtype
    )  # (61, 401)
    p, found = truth(places, x, now, after), {}
    for name, variance in variances.items():
        log_ratio = p.clamp(min=1e-300).log() - Normal(mean, variance.sqrt()).log_prob(places)
        found[name] = float(chance @ ((p * log_ratio).sum(1) * (places[:, 1] - places[:, 0])))
    return found


# %%
lengths, counts = [1, 2, 5, 10, 20, 50, 100, 200, 300], [5, 10, 20, 50, 100, 200, 1000]
single = {h: errors(path(400), path(400 - h)) for h in lengths}
whole = {}
for n in counts:
    levels = path.levels(n, "linspace")[:-1]  # from t = 1000 to t = 1
    steps = [errors(now, after) for now, after in zip(levels[:-1], levels[1:], strict=True)]
    whole[n] = {name: sum(step[name] for step in steps) for name in steps[0]}
for h in (10, 20, 300):
    print(f"a step of {h:3d} from t = 400:", ", ".join(f"{name} {kl:.1e}" for name, kl in single[h].items()))
for n in (10, 50, 100, 1000):
    print(f"all steps, {n:4d} levels:", ", ".join(f"{name} {kl:.1e}" for name, kl in whole[n].items()))

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course.widgets import COLOURS

now, x = path(400), torch.tensor([[0.1]], dtype=torch.float64)
line = torch.linspace(-6, 6, 2401, dtype=torch.float64)[None]
fig, axes = plt.subplots(1, 3, figsize=(8.4, 2.7))
for ax, t in zip(axes, (390, 150, 50), strict=True):
    mean, variances = gaussian_steps(bumps, x, now, path(t))
    ax.plot(line[0], truth(line, x, now, path(t))[0], "-", color="black", label="truth")
    for name, style, colour in (("β̃", "--", COLOURS[1]), ("step_variance", ":", COLOURS[2])):
        ax.plot(
            line[0],
            Normal(mean, variances[name].sqrt()).log_prob(line)[0].exp(),
            style,
            color=colour,
            label=name,
        )
    ax.set(title=f"400 → {t}", xlabel=f"x at t = {t}", xlim=(-2.2, 2.2), yticks=[])
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=10)
figure(
    fig,
    alt="Where was a point that is at 0.1 at t = 400? At t = 390 the truth and both Gaussians coincide. At t = 150 the truth "
    "has two bumps; the Gaussian with β̃ is a narrow peak between them, that with your variance a wide one. At t = 50 the "
    "truth has two far peaks and both Gaussians miss them.",
)

# %% jupyter={"source_hidden": true}
fig, (left, right) = plt.subplots(1, 2, figsize=(7.8, 3.0))
for name, colour, marker in (
    ("β̃", COLOURS[1], "s"),
    ("β", COLOURS[3], "D"),
    ("step_variance", COLOURS[2], "^"),
):
    left.loglog(lengths, [single[h][name] for h in lengths], marker=marker, color=colour)
    right.loglog(counts, [whole[n][name] for n in counts], marker=marker, color=colour, label=name)
left.set(title="one step from t = 400", xlabel="length h of the step", ylabel="KL in nats")
right.set(title="all steps, t = 1000 to 1", xlabel="number of levels")
right.legend(fontsize=10)
figure(
    fig,
    alt="Left: KL of one step over its length, three rising lines. β̃ lies a factor of ten above β, both with slope 2; your "
    "variance lies far below with slope 3, and meets β at 200. Right: the sum over the chain falls with the number of "
    "levels: for β̃ from 2,000 nats to 0.4, for β from 1 to 0.01, for your variance from 1 to below 0.0001.",
)

# %% [markdown]
# **What to notice:** above, a step of 10: the truth is a Gaussian. A step of 250: the truth has two bumps, and no Gaussian has
# two.
#
# Below, on the left, all steps start at t = 400. A step of 10 with $\tilde\beta$ is 1.1e-4 nats off, with $\beta$ 8.0e-6, with your
# variance 4.3e-7. So for short steps the error of $\tilde\beta$ is nearly all a wrong *variance*. The shape is
# right. At a length of 300 the shape is wrong, and your variance is no better than $\beta$.
#
# On the right the errors of all steps of a chain are added up, down to t = 1. (The variance $\tilde\beta$ of the step to the data
# is 0, and its KL infinite.) The sum bounds how far, in nats, the samples at t = 1 are from noised data. With
# $\tilde\beta$ a thousand levels leave 0.42 nats; with your variance ten levels leave less, 0.19. With $\beta$ a thousand leave
# 0.012; with your variance a hundred leave less, 0.005.
#
# **So what are a thousand steps for? For not having to know the variance.** Halve all steps. With
# $\beta$ the error of each falls to about a quarter, there are twice as many, and half of the total is left. (With $\tilde\beta$
# the total falls faster: to a twentieth for ten times the levels.) In tiny steps every sensible variance is nearly right, and
# DDPM's network has to learn nothing but a mean. A chain that knows the variance reaches the same sum in far fewer steps.
# Nichol and Dhariwal let the network learn the variance. Bao et al. compute it from the network's
# own guesses. (All this counts nats. How many steps *samples* need is measured below.)

# %% [markdown] tags=["exercise-card"]
# So the noise of a step may be a little too small or too large. What if there is none at all?
#
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
# weighted with how likely each is to become the x that we see. The same draws test your `step_variance`.

# %%
seen, now = torch.tensor([[0.2, 0.1]]), path(250)  # one point at t = 250
for t in (240, 200, 100):
    keep, (x0, _) = float(now.alpha / path(t).alpha), clusters.sample(400_000, generator)
    drawn = add_noise(x0, torch.randn(x0.shape, generator=generator), path(t))
    weight = Normal(keep * drawn, (1 - keep**2) ** 0.5).log_prob(seen).sum(1).softmax(0)  # (400000,)
    first = drawn[:, 0]  # the first coordinate
    average = weight @ first
    square = (first - average).square()
    variance = weight @ square
    mean_error = (weight.square() @ square).sqrt()
    variance_error = (weight.square() @ (square - variance).square()).sqrt()
    mean, variances = gaussian_steps(clusters, seen, now, path(t))
    small, large, right = variances["β̃"], variances["β"], variances["step_variance"][0, 0]
    print(f"250 → {t}: mean {average:.4f} ± {mean_error:.4f}, formula {mean[0, 0]:.4f}")
    print(f"    variance {variance:.4f} ± {variance_error:.4f}, step_variance {right:.4f},", end=" ")
    print(f"β̃ {small:.4f}, β {large:.4f}")

# %% [markdown]
# The formula's mean is within two standard errors of that of the draws, for every length of step, and so is the variance by your
# `step_variance`. $\tilde\beta$ is too small each time: it forgets that $x_0$ is in doubt. $\beta$ is too small here, too: where
# $x$ lies between clusters, it is no upper bound. (± is one standard error over the draws.)
#
# Now whole samples, with no noise, $\tilde\beta$, $\beta$ and your variance.


# %%
def walk_clusters(kind, x, levels):
    """All x on the way, with the exact guess, your mean and one kind of variance."""
    walk = [x]
    for now, after in zip(levels[:-1], levels[1:], strict=True):
        mean, variances = gaussian_steps(clusters, x, now, after)
        if kind == "no noise" or (kind == "β" and after.sigma == 0):  # as in your walk_back
            x = mean
        else:
            x = mean + variances[kind].sqrt() * torch.randn(x.shape, generator=generator)
        walk.append(x)
    return walk


start = torch.randn(4000, 2, generator=generator)
ends = walk_clusters("no noise", start, path.levels(50))[-1]
middle, spread = ends.mean(0).numpy().round(2), ends.std(0).max()
print(f"50 steps without noise: 4,000 points lie around {middle}, std {spread:.4f}")
start, levels = torch.randn(200, 2, generator=generator), path.levels(20)
panels = {}
for kind in ("no noise", "β̃", "step_variance"):
    panels[f"20 steps: {kind}"] = landscape(
        clusters, levels, walk_clusters(kind, start, levels), 2.4, arrows=7, cells=32
    )
scrub(
    panels,
    levels,
    alt="Three clouds of 200 points from noise to data in 20 steps, over the exact density. Without noise the cloud shrinks to one "
    "spot while the density is still wide, and the spot ends in the largest cluster. With β̃ they end in three "
    "clusters, a little tighter than those of your variance.",
    title="Scrub from noise to data",
    frames=14,
    columns=5,
)

# %% [markdown]
# Without noise all points end as one spot. Each mean has less spread than its level should have. The losses multiply up, and
# when the time comes to choose a cluster, all points stand in the same place. For data from
# $\mathcal N(0,1)$ the mean of $x_{t-1}$ is $\sqrt{1-\beta_t}\;x_t$, and after all steps $\sqrt{\bar\alpha_T} = 0.006$
# of the spread is left. The noise is where the variety comes from.
#
# How near do the other three come to the data? We repeat each eight times. (The distance is lesson 1's: sliced Wasserstein.)

# %%
from diffusion_lessons.metrics import sliced_wasserstein

repeats, n, counts = 8, budget.samples(4000), [5, 10, 20, 50, 100]


def measured(points):
    """Distance to fresh data (sliced Wasserstein, p = 1) and std in the largest cluster: (repeats, 2)."""
    rows = []
    for x in points.split(n):
        inside = x[clusters.posterior(x, path(1)).argmax(1) == 0]
        distance = sliced_wasserstein(x, clusters.sample(n, generator)[0], 64, p=1)
        rows.append([distance, inside.std(0).mean()])
    return torch.tensor(rows)


fresh_data = clusters.sample(repeats * n, generator)[0]
results = {"data": [measured(fresh_data)], "β̃": [], "β": [], "step_variance": []}
for steps in counts:
    start = torch.randn(repeats * n, 2, generator=generator)
    for kind in ("β̃", "β", "step_variance"):
        results[kind].append(measured(walk_clusters(kind, start, path.levels(steps))[-1]))
print(f"{'steps':13s}", "  ".join(f"{k:^13d}" for k in counts))
for name, rows in results.items():
    cells = [f"{row[:, 0].mean():.3f} ± {row[:, 0].std() / repeats**0.5:.3f}" for row in rows]
    print(f"{name:13s}", "  ".join(cells))

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(7.8, 3.0))
for name, colour, marker in (
    ("data", "gray", ""),
    ("β̃", COLOURS[1], "s"),
    ("β", COLOURS[3], "D"),
    ("step_variance", COLOURS[2], "^"),
):
    mean = torch.stack([row.mean(0) for row in results[name]]).T  # (2, steps)
    error = torch.stack([row.std(0) / repeats**0.5 for row in results[name]]).T
    for ax, m, e in zip(axes, mean, error, strict=True):
        if name == "data":
            ax.axhspan(float(m - e), float(m + e), color="gray", alpha=0.5, label="fresh data")
        else:
            ax.errorbar(counts, m, yerr=e, capsize=2, label=name, color=colour, marker=marker)
axes[0].set(xscale="log", yscale="log", xlabel="steps", ylabel="distance to the data")
axes[1].set(xscale="log", xlabel="steps", ylabel="std in the largest cluster")
axes[0].set_yticks([0.02, 0.05, 0.1, 0.2], ["0.02", "0.05", "0.1", "0.2"])
for ax in axes:
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
axes[1].legend(fontsize=10)
figure(
    fig,
    alt="Left: the distance to the data over the number of steps falls towards the grey band of fresh data, 0.015. β̃ goes from 0.23 at "
    "5 steps to 0.023 at 100; β and your variance from 0.17 to about 0.02 at 50; at 100 your variance lies higher again, at "
    "0.025, by chance. Right: the std in the largest "
    "cluster, where the data has 0.20. β̃ is below from 20 steps on, β above throughout; yours falls from 0.46 at 5 to 0.20 at 50.",
)

# %% [markdown]
# ± is one standard error over eight repeats with n = 4,000 points each; the grey band is what other draws of the data get. At 20
# steps your variance and $\beta$ are close to that, at 0.021 and 0.024, and $\tilde\beta$ is at 0.056. Eight repeats are too few to
# say more: at 100 steps your variance comes out above $\beta$, by chance. 72 repeats at three other seeds gave 0.021 and 0.026 at
# 20 steps, 0.018 and 0.021 at 50, and 0.017 and 0.018 at 100, each ± 0.001. So at 20 steps your variance is a little nearer to the
# data, and from 50 on this distance does not tell the two apart.
#
# The spread of a cluster does. From 20 steps on the clusters are too tight with $\tilde\beta$ and too wide with $\beta$. With your
# variance they are right to 2 % from 50 steps on. Below 20 steps they are far too wide: one Gaussian step has to serve several
# clusters, and its shape is wrong. The two published choices are extremes: $\tilde\beta_t$ is exact for data at a single point,
# $\beta_t$ for $\mathcal N(0, I)$ (Ho et al. 2020, section 3.2). Both are one number for all x, and the right variance is not.
#
# ## Pictures without noise look better. Are they?
#
# Now the network. Ten 4s from ten starts, in ten steps: above without noise, below by your sampler. Which row would you choose?

# %%
wanted = torch.arange(budget.samples(200, at_least=100)) % 10
levels, asked = mnist.path.levels(10), told(wanted.to(device))
start, noises = fresh(len(wanted), 1, 32, 32), fresh(10, len(wanted), 1, 32, 32)
drawn = {
    "no noise": ancestral_sample(asked, start, levels, 0 * noises, limit=1.0)[-1].cpu(),
    "your sampler": ancestral_sample(asked, start, levels, noises, limit=1.0)[-1].cpu(),
}
strip(
    {name: pictures[wanted == 4][:10] for name, pictures in drawn.items()},
    alt="Two rows of ten 4s. Without noise: ten times the same clean, plain 4. By your sampler: ten 4s, each in a hand of its "
    "own, open or closed, upright or slanted, and not all of them well drawn.",
    columns=10,
)

# %%
from diffusion_lessons.metrics import evaluate


measures = ("accuracy", "precision", "recall", "frechet")
heading = " " * 24 + "  ".join(f"{key:^11s}" for key in measures)


def report(name, pictures):
    result = evaluate(pictures.cpu(), wanted, zoo.yardstick("mnist"))
    found = [tuple(result[key].values()) for key in measures]
    print(f"{name:23s}", "  ".join(f"{value:.2f} ± {error:.2f}" for value, error in found))


print(heading)
for name, pictures in drawn.items():
    report(name, pictures)
print(f"n = {len(wanted)}, one seed; ± over the draw of the samples")

# %% [markdown]
# Every 4 of the upper row is clean, and the numbers say so: the classifier reads all of them, and a precision of 1.00 means that all
# lie among real digits. Yet it is *nearly the same 4, ten times*. The recall is 0.00: hardly a real digit lies among these samples. The
# Fréchet distance (0 for a perfect match; {{built-in 20}}) sums up both, and it is 4.4 against 0.7. (200 real digits: 0.54 ± 0.08,
# mean and spread of ten balanced draws.)
#
# A mean leaves out what differs from hand to hand: slant, loops, accidents. What is left is a typical 4, which pleases the
# eye. One picture tells whether a sampler draws well. It takes many to tell whether it draws *the data*.
#
# ## Which variance for pictures?
#
# A network gives $\hat x_0$ and no variance. But for the best guess the mean squared error *is* the doubt about $x_0$, on
# average. So your `step_variance` can be told the error of the network. For the ten steps of the MNIST model, measured on 40 of
# its own samples:

# %%
levels = mnist.path.levels(10)
forty = torch.arange(40, device=device) % 10
first, noise = fresh(40, 1, 32, 32), fresh(10, 40, 1, 32, 32)
drawn = ancestral_sample(told(forty), first, levels, noise, limit=1.0)[-1]
for now, after in zip(levels[:-1], levels[1:], strict=True):
    with torch.no_grad():
        guess = denoiser(add_noise(drawn, fresh(40, 1, 32, 32), now), now, forty).x0
    doubt = (guess - drawn).square().mean().cpu().double()  # over pictures and pixels
    own = step_variance(0 * doubt, now.alpha**2, after.alpha**2)  # no doubt: β̃
    large = 1 - (now.alpha / after.alpha) ** 2
    right = step_variance(doubt, now.alpha**2, after.alpha**2)
    print(f"{now.t:4.0f} → {after.t:3.0f}: β̃ {own:.3f}, step_variance {right:.3f}, β {large:.3f},", end=" ")
    print(f"doubt {doubt:.3f}")

# %%
print(heading)
for spacing in ("trailing", "linspace"):
    levels = mnist.path.levels(10, spacing)
    alpha_bars = torch.stack([level.alpha**2 for level in levels])
    small = ancestral_sample(asked, start, levels, noises, limit=1.0)[-1]
    with torch.no_grad():
        large = walk_back(
            lambda x, i: denoiser(x, levels[i], wanted.to(device)).x0, start, noises, alpha_bars
        )
    report(f"last step from {levels[-2].t:3.0f}: β̃", small)
    report(f"last step from {levels[-2].t:3.0f}: β", large)

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

kept = recorded("steps-by-eta")
found = {(row["settings"]["steps"], row["settings"]["eta"]): row for row in kept["rows"]}
print(f"recorded: MNIST, n = {kept['options']['n']}, one seed; Fréchet distance, ± over the samples")
for steps in (5, 10, 20, 50, 1000):
    cells = [found[steps, eta] for eta in ("1", "large")]
    small, large = (f"{row['frechet']:.2f} ± {row['uncertainty']:.2f}" for row in cells)
    print(f"{steps:5d} steps: β̃ {small}, β {large}")

# %% [markdown]
# The doubt is small: most pixels are certain early. (On 40 real digits it came out 1.05 to 1.23 times as
# large.) So the right variance is close to $\tilde\beta$. $\beta$ is too large, the more the nearer the data: 1.02 times in the
# first step, twice from t = 300, three times from t = 200. Does this harm the pictures? It depends on what comes after.
#
# - Last step from t = 100: this step returns $\hat x_0$, and so takes most of the excess noise away. The Fréchet distances are
#   0.71 ± 0.12 for $\tilde\beta$ and 0.70 ± 0.13 for $\beta$. Precision is lower with $\beta$, and recall higher.
# - Last step from t = 1: the step before it lands next to the data, and nothing takes its noise away. 0.74 ± 0.11 and 1.03 ± 0.13.
#   This is the bug of exercise 03.4 in another place.
#
# With 200 samples that gap is under two of its standard errors; the recorded rows, with 500, settle it. They all take their
# last step from t = 1, and $\beta$ is worse at 5 and 10 steps, and from 50 on nothing tells the
# two apart. (500 real digits are at 0.27 ± 0.04, mean and spread of twenty balanced draws.) **Published** for CIFAR-10, with such steps
# (Song et al. 2021, table 1; FID at 10, 50 and 1,000 steps): with $\tilde\beta$, their η = 1, 41.07, 8.01 and 4.73; with
# $\beta$, their σ̂, 367, 32.7 and 3.17. There the larger variance wins at a thousand.

# %% [markdown] tags=["play"]
# ## Play
#
# Three digits, drawn by your sampler in ten steps. `noise` is a factor of the noise in each step: 1 is your sampler, 0 leaves
# means alone. From where on do the three differ? When is a digit decided, and when only its details?

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import live

seeded = torch.Generator().manual_seed(1)
three_starts, three_noises = fresh(3, 1, 32, 32, seeded=seeded), fresh(10, 3, 1, 32, 32, seeded=seeded)


def row(pictures):
    """Three pictures as one, side by side."""
    return torch.cat(list(pictures), -1).cpu()


def watch(digit, noise):
    levels, labels = mnist.path.levels(10), torch.full((3,), digit, device=device)
    walk = ancestral_sample(told(labels), three_starts, levels, noise * three_noises, limit=1.0)
    with torch.no_grad():
        guesses = [denoiser(x, level, labels).x0 for x, level in zip(walk[:-1], levels[:-1], strict=True)]
    return scrub(
        {"x": [row(x) for x in walk], "x̂₀": [row(x) for x in (*guesses, walk[-1])]},
        levels,
        alt="Three digits on their way from noise. x is noise until late. x̂₀ is a soft, average digit from the first step on, "
        "the same three times, and takes on a shape of its own at each place.",
        columns=4,
    )


live(watch, start={"digit": 4, "noise": 1.0}, digit=range(10), noise=[0.0, 0.25, 0.5, 0.75, 1.0])

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your whole walk against the package's, with the same noise. Then your step against `DDPMScheduler` of diffusers, where that is
# installed, which stores times as ours minus 1.

# %%
import importlib.util

levels, start = path.levels(50), torch.randn(4000, 2, generator=generator)
noises = torch.randn(50, 4000, 2, generator=generator)
ours = ancestral_sample(exact_eps, start, levels, noises)[-1]
theirs = sample(clusters, start, levels, step=ddpm_step, generator=lambda i: noises[i])
print(f"the package's walk: largest difference {(ours - theirs).abs().max():.0e}")
if importlib.util.find_spec("diffusers"):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=0.0001, beta_end=0.02, clip_sample=False)
    x, eps, gaps = *torch.randn(2, 4, 1, 16, 16, generator=generator), []
    for t in (1, 2, 10, 100, 500, 1000):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(t))
        ours = ancestral_sample(lambda x, level: eps, x, [path(t), path(t - 1)], [noise])[-1]
        theirs = scheduler.step(eps, t - 1, x, torch.Generator().manual_seed(t)).prev_sample
        gaps.append(((ours - theirs).abs().max() / theirs.abs().max()).item())
    print(f"diffusers' DDPMScheduler: largest relative difference {max(gaps):.0e}")
else:
    print("diffusers is not installed here; the solved notebook shows the difference")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | noise at the last step | fine grain on every picture, the stronger the fewer the steps |
# | variance in place of standard deviation before the noise | far too little noise: in a thousand steps all samples are alike |
# | samples judged one by one | a sampler without noise looks best of all |
# | $\hat x_0$ clipped, $\hat\varepsilon$ left as it was | the two no longer make up $x_t$: drifting brightness, burnt contrast |
# | $\bar\alpha$ of now and next swapped | NaN in the first step: the root of a negative variance |
# | $\bar\alpha$ of the next level in $\hat x_0$ | no error; grain everywhere, broken strokes |
# | a level too far in the step: $\bar\alpha_{t-2}$ for $\bar\alpha_{t-1}$ | no error; strokes too thin and too clean: the noise is too small |
# | the loop stops one level before the data | grain, of that level's σ: 0.17 where the last step is from t = 100, 0.006 from t = 1 |
# | $\log\tilde\beta_1 = \log 0$ | −∞ in the loss of the last step; published code takes $\tilde\beta_2$ there |
# | dividing by $\sqrt{\bar\alpha_T}$ with an unclipped guess | an error of 0.1 in $\hat\varepsilon$ is one of 16 in $\hat x_0$ at t = 1000 (linear schedule) |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is the reverse process of a diffusion model?",
    "A learnt Markov chain that runs from noise to data. Its step should be q(xₜ₋₁ | xₜ), which nobody "
    "knows. But for a small step it is nearly Gaussian, and given x₀ it is exactly Gaussian, with a known "
    "mean and variance β̃ₜ.\n\n"
    "So the network only supplies a guess of x₀, or, which is the same, of the noise: x̂₀ = (xₜ − √(1 − "
    "ᾱₜ)·ε̂)/√ᾱₜ. Sampling starts at N(0, I) and repeats: guess, posterior mean, noise of variance β̃ₜ; no "
    "noise on the last step.",
    [
        (
            "Why is a blurred x̂₀ good enough?",
            "The posterior mean is linear in x₀, so the average guess gives the exact mean of xₜ₋₁. Only the variance β̃ is "
            "too small, and that error vanishes with the step length.",
        ),
        (
            "Why a thousand steps?",
            "So that the variance need not be known: in small steps β, β̃ and the right one agree. With the right variance, "
            "learnt (Nichol and Dhariwal 2021) or computed (Bao et al. 2022), far fewer reach the same KL.",
        ),
        (
            "Which variance: β or β̃?",
            "They are two extremes: β̃ is exact for data at one point, β for N(0, I). The right one is β̃ plus what the "
            "doubt about x₀ adds. With 1,000 steps both work; with few it depends on the data.",
        ),
        (
            "Can I leave the noise out to get cleaner samples?",
            "In this sampler no: it collapses to a few typical samples, with perfect precision and no recall. A sampler "
            "without noise needs another step: DDIM keeps the spread by reusing ε̂ (lesson 8).",
        ),
        (
            "What has the score to do with it?",
            "∇ log q(xₜ) = −ε̂/√(1 − ᾱₜ). Predicting noise is estimating the score; both are E[x₀ | xₜ] in other units.",
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
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A sampler takes a thousand steps. Its samples are clean, but nearly all the same. What do you suspect first?",
        [
            Choice("noise at the last step", False, "That gives grain, and leaves the variety alone."),
            Choice("too many steps", False, "More steps bring the samples nearer to the data's variety."),
            Choice("β̃ where √β̃ belongs", True, "Too little noise: all points draw together early."),
        ],
    ),
    Question(
        "You halve the length of all steps. What happens, roughly, to the sum of their KL divergences, with β?",
        [
            Choice(
                "nothing: twice as many steps, half the error each",
                False,
                "The error of a step falls with the square of its length.",
            ),
            Choice("it is halved", True, "A quarter of the error for each step, and twice as many steps."),
            Choice(
                "it falls to a quarter",
                False,
                "Each step has a quarter of the error, but there are twice as many.",
            ),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Ho, Jain and Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv 2006.11239: section 2, eq. 6 and 7
#   (posterior); section 3.2 (the two variances), eq. 11; algorithm 2 (sampling).
# - Sohl-Dickstein et al. 2015, arXiv 1503.03585: section 2.2, why the reverse of a small step has the same form.
# - Nichol and Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, arXiv 2102.09672: section 3.1,
#   learnt variances.
# - Bao et al. 2022, *Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance in Diffusion Probabilistic Models*,
#   arXiv 2201.06503: theorem 1, the best variance computed from the network's own guess.
# - Song, Meng and Ermon 2021, *Denoising Diffusion Implicit Models*, arXiv 2010.02502: table 1, the published figures
#   above.
# - Song et al. 2021, *Score-Based Generative Modeling through Stochastic Differential Equations*, arXiv 2011.13456:
#   section 3.
#
# You can sample with any guess of the noise. Next: how a network learns to guess, and why a plain squared error is
# enough. {{lesson 04}}.
