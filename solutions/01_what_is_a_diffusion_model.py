# %% [markdown] tags=["header"]
# title: What is a diffusion model?
# question: What is a diffusion model, and how does it turn pure noise into a picture?
# difficulty: 1
# prerequisites: none in this course; some Python and PyTorch, means and Gaussian noise
# builds: GaussianMixture, mixtures

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - put data under any amount of noise (exercise 01.1)
# - take one step from noise towards data, given a guess of what lies under the noise (exercise 01.2)
# - find out why a sampler leaves a little noise behind (exercise 01.3)
# - say what the best possible guess is, and why it cannot be used in one step (exercise 01.4)
# - test whether a model makes pictures or copies them (exercise 01.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# A network that comes with this course turns noise into handwritten digits: a 3, an 8 and a 5. Drag the slider, or
# press play.

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import Pictures, budget, exercise, figure, scrub, strip
from diffusion_lessons.course.widgets import COLOURS
from diffusion_lessons.generate import generate, walk

mnist = zoo.load("mnist-unet")  # trained on 60,000 digits, 8,000 steps
mnist.network.to(device)
noise = torch.randn(3, *mnist.shape, generator=generator).to(device)  # (3, 1, 32, 32)

scrub(
    walk(mnist, torch.tensor([3, 8, 5], device=device), noise, steps=20, guidance=1.0),
    alt="From noise at t = 1000 to a 3, an 8 and a 5 at t = 0. x loses its grain bit by bit. x̂₀, the guess at "
    "the finished picture, begins as a pale blur and becomes sharp by about t = 600. ε̂ looks like noise throughout.",
    samples=3,
    columns=6,
)

# %% [markdown]
# Three rows, 20 steps:
#
# - **x** is what the model works on. At t = 1000 it is pure noise, drawn at random; at t = 0 it is the picture.
# - **x̂₀** is the network's *guess* at the finished picture, made anew at every step.
# - **ε̂** is the noise that x holds, if that guess is right.
#
# Look at x̂₀ at t = 1000. The guess is a blur. Why does a network that can draw a sharp 3 not do so at once? This
# page answers that, first with points in the plane, where everything can be computed exactly, then with a network of
# your own. (`walk` is a closed box here: {{built-in 10}}.)

# %% [markdown] tags=["predict"]
# ## Predict
#
# Later you train a small network on 1,442 digits, let it draw, and look up the most similar training picture for each
# of its digits. Real digits that it has never seen are, on average, 3.5 away from the most similar training picture.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "How far from the most similar training picture are the digits that the network draws?",
    [
        Choice(
            "near 0: it can only have learned to repeat its training pictures",
            False,
            "That is what a *perfect* learner of this task would do, as you will compute. The network is not perfect.",
        ),
        Choice(
            "about 1 to 2: variations of single training pictures",
            False,
            "Then each would have one training picture that it clearly belongs to. Look at the pairs below.",
        ),
        Choice(
            "about as far as digits it has never seen, or farther",
            True,
            "They are new digits. And where they are clumsy, they are farther from real digits than real ones are.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Adding noise is easy
#
# Here is a data set small enough to see whole: points in eight clusters on a ring. The task of a generative model is
# always the same. From examples, learn to make *new* points that could have been in the set.
#
# Diffusion starts from the opposite end. It does not ask how to make data, it asks how to *ruin* it. Turn each point
# down a little, add a little noise, and go on until nothing is left but noise. That takes no skill, and it has a use: it
# makes exercises with known answers. Each ruined point comes with the clean point it was made from.
#
# $$x_t = \alpha_t\, x_0 + \sigma_t\, \varepsilon, \qquad \varepsilon \sim \mathcal N(0, I)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_0$ | clean data, a point or a picture | (N, 2) or (B, C, H, W) |
# | $\varepsilon$ | noise, drawn from the standard normal distribution | like $x_0$ |
# | $t$ | time: 0 is data, $T = 1000$ is noise | number |
# | $\alpha_t$ | factor of the data: falls from 1 to 0 | number |
# | $\sigma_t$ | factor of the noise: rises from 0 to 1, with $\alpha_t^2 + \sigma_t^2 = 1$ | number |
#
# A pair $(\alpha_t, \sigma_t)$ is called a **level**. Lesson 5 is about choosing a thousand of them; here we take those of
# the model above.

# %%
angle = torch.arange(8) * (torch.pi / 4)
centres, SPREAD = 1.4 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.1  # (8, 2), and the spread of each


def draw_data(n, generator):  # (n, 2)
    cluster = torch.randint(8, (n,), generator=generator)
    return centres[cluster] + SPREAD * torch.randn(n, 2, generator=generator)


# %% [markdown] tags=["exercise-card"]
# {{exercise 01.1}}


# %% tags=["exercise"]
@exercise("01.1")
def noise_points(x0, noise, alpha, sigma):
    """Data and noise, mixed.

    x0, noise: (N, …), the same shape; alpha, sigma: numbers, or tensors that multiply x0.
    """
    ### BEGIN SOLUTION
    return alpha * x0 + sigma * noise
    ### END SOLUTION


# %%
def scatter(ax, points, title, **style):
    ax.scatter(*points.T.numpy(), linewidths=0, **({"s": 3, "color": COLOURS[1], "marker": "o"} | style))
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
    ax.spines[:].set_visible(True)


path = mnist.path  # path(t) is the level at time t
x0, noise = draw_data(800, generator), torch.randn(800, 2, generator=generator)
fig, axes = plt.subplots(1, 5, figsize=(7.4, 1.8))
for ax, t in zip(axes, (0, 100, 250, 500, 1000), strict=True):
    points = noise_points(x0, noise, path(t).alpha, path(t).sigma)
    scatter(ax, points, f"t = {t}\nα = {path(t).alpha:.2f}, σ = {path(t).sigma:.2f}")
figure(
    fig,
    alt="The ring of eight clusters at t = 0, 100, 250, 500 and 1000 with α from 1 to 0 and σ from 0 to 1: eight "
    "clusters, clusters that touch, a blurred ring, a filled cloud, a round cloud of noise.",
)

# %% [markdown]
# **What to notice:** the clusters melt into one another well before the end. At t = 500 they are one
# cloud. At t = 1000 the cloud is a plain Gaussian, whatever the data was. *That* we can draw without any data: it will
# be the start of the way back.

# %% [markdown] tags=["idea"]
# ## The best guess is an average
#
# Now the way back. Given a noisy point $x$ and its level, what was the clean point? There is no certain answer, since
# many clean points could have become this $x$. So take the guess with the smallest squared error on average. It is the mean
# of all clean points that could lie behind $x$, each weighted by how likely it is.
#
# For our ring this mean can be written down. First the weights: which cluster did $x$ come from? Then the average of
# what each cluster would answer.
#
# $$\hat x_0(x) = \mathbb E[x_0 \mid x] = \sum_k w_k(x)\, m_k(x), \qquad
# w_k(x) \propto \exp\!\left(-\frac{\lVert x - \alpha\mu_k\rVert^2}{2(\alpha^2 s^2 + \sigma^2)}\right)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\mu_k, s$ | centre of cluster $k$; spread of all clusters | (K, 2); number |
# | $w_k(x)$ | probability that $x$ came from cluster $k$; they add up to 1 | (N, K) |
# | $m_k(x)$ | the guess if it was cluster $k$: $\mu_k + \frac{\alpha s^2}{\alpha^2 s^2 + \sigma^2}(x - \alpha\mu_k)$ | (N, K, 2) |
#
# <details><summary>Why the mean has the smallest squared error</summary>
#
# For any guess $g$, $\;\mathbb E\big[\lVert x_0 - g\rVert^2 \mid x\big] = \mathbb E\big[\lVert x_0 - \hat x_0\rVert^2 \mid x\big] +
# \lVert \hat x_0 - g\rVert^2$, because the mixed term $2\,\mathbb E[x_0 - \hat x_0 \mid x]\cdot(\hat x_0 - g)$ is zero when $\hat x_0$ is the mean.
# The first part does not depend on $g$; the second is smallest at $g = \hat x_0$.
#
# Where the weights come from: from cluster $k$, $x$ is Gaussian with mean $\alpha\mu_k$ and variance $\alpha^2 s^2 + \sigma^2$, and
# all clusters are equally likely beforehand. That is Bayes' rule. $m_k$ is the mean of $x_0 \sim \mathcal N(\mu_k, s^2 I)$ given
# $x = \alpha x_0 + \sigma\varepsilon$, where both are Gaussian. All clusters have the same $s$, so $\sum_k w_k m_k$ needs only the mean of the
# centres: the code below takes that first, and corrects it once.
#
# </details>


# %% tags=["nbval-check-output"]
def exact_guess(x, level, centres, spread):
    """E[x₀ | x] for equally likely clusters: x (N, D), centres (K, D)."""
    variance = (level.alpha * spread) ** 2 + level.sigma**2
    squares = torch.cdist(x, level.alpha * centres).square()  # (N, K)
    mean = torch.softmax(-squares / (2 * variance), dim=1) @ centres  # (N, D)
    return mean + level.alpha * spread**2 / variance * (x - level.alpha * mean)


def ring_guess(x, level):
    return exact_guess(x, level, centres, SPREAD)


guesses = {
    "the exact guess": ring_guess,
    "the most likely cluster": lambda x, level: centres[torch.cdist(x, level.alpha * centres).argmin(1)],
    "the centre of the ring": lambda x, level: torch.zeros_like(x),
}
x0, noise = draw_data(20_000, generator), torch.randn(20_000, 2, generator=generator)
print("mean squared error of")
for name, guess in guesses.items():
    row = []
    for t in (200, 400, 700):
        error = (guess(noise_points(x0, noise, path(t).alpha, path(t).sigma), path(t)) - x0).square().sum(1)
        row.append(f"t = {t}: {error.mean():.3f} ± {error.std() / len(error) ** 0.5:.3f}")
    print(f"{name:24s}", *row, sep="   ")

# %%
fig, axes = plt.subplots(1, 3, figsize=(7, 2.5))
for ax, t in zip(axes, (100, 450, 800), strict=True):
    x = noise_points(x0[:60], noise[:60], path(t).alpha, path(t).sigma)
    guess = ring_guess(x, path(t))
    for a, b in zip(x.tolist(), guess.tolist(), strict=True):
        ax.plot(*zip(a, b, strict=True), color="gray", lw=0.6, marker="")
    scatter(ax, x, f"t = {t}", s=8, label="x")
    scatter(ax, guess, f"t = {t}", s=14, color=COLOURS[2], marker="s", label="x̂₀")
axes[0].legend(fontsize=8, loc="center", handletextpad=0.1)
figure(
    fig,
    alt="Noisy points, each with a line to its guess. At t = 100 the guesses lie in the eight clusters. At t = 450 "
    "many lie between clusters, on an octagon and inside it. At t = 800 all lie close to the centre of the ring.",
)

# %% [markdown]
# **What to notice:** at t = 800 all guesses crowd around the centre of the ring, *where there is no data at all*. It is
# the average of eight possible answers and none of them. This is the blur in the scrubber above: the average of all 3s
# that could lie under the noise.

# %% [markdown] tags=["idea"]
# ## Many small steps
#
# So the guess must not be believed outright. But it points in a useful direction. Go a *small* step towards it, to a
# slightly cleaner level, and ask again. With less noise fewer answers are possible, so the next guess is less of an
# average. Step by step, the point is led to one cluster.
#
# The step needs one idea. If the guess is right, we also know which noise $x$ holds: what is left of $x$ without the
# guess. So take $x$ apart into guess and noise, and mix the two again at the next level, with more of the guess and less of
# the noise.
#
# $$x = \alpha\,\hat x_0 + \sigma\,\hat\varepsilon \quad\text{(solve for } \hat\varepsilon\text{)}, \qquad
# x' = \alpha'\,\hat x_0 + \sigma'\,\hat\varepsilon$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\hat x_0, \hat\varepsilon$ | guess of the data, and of the noise that goes with it; $-\hat\varepsilon/\sigma$ is the **score**, the direction in which noisy data gets denser fastest (lesson 3) | like $x$ |
# | $\alpha, \sigma$ | the level of $x$ | numbers |
# | $\alpha', \sigma'$ | the next level, closer to the data; $\alpha' = 1, \sigma' = 0$ at the end | numbers |
#
# No new noise comes in: the same start always leads to the same end. (It is the step of DDIM, lesson 8. The older kind
# of step adds noise on the way, lesson 3.)

# %% [markdown] tags=["exercise-card"]
# {{exercise 01.2}}


# %% tags=["exercise"]
@exercise("01.2")
def denoise_step(x, x0_hat, alpha, sigma, alpha_next, sigma_next):
    """From the level (alpha, sigma) to the cleaner level (alpha_next, sigma_next).

    x, x0_hat: (N, …), the noisy data and the guess; the levels are numbers, sigma > 0.
    """
    ### BEGIN SOLUTION
    eps_hat = (x - alpha * x0_hat) / sigma
    return alpha_next * x0_hat + sigma_next * eps_hat
    ### END SOLUTION


# %% [markdown] tags=["exercise-card"]
# The whole walk is a loop over levels. `path.levels(25)` gives 26 of them, from t = 1000 down to t = 0.
#
# {{exercise 01.3}}


# %% tags=["exercise"]
@exercise("01.3")
def walk_down(x, denoiser, levels):
    """From noise at levels[0] to data at levels[-1].

    x: (N, …); denoiser(x, level) gives the guess x0_hat; levels: n + 1 of them, with .alpha and .sigma.
    """
    ### BEGIN SOLUTION
    for i in range(len(levels) - 1):
        now, after = levels[i], levels[i + 1]
        x = denoise_step(x, denoiser(x, now), now.alpha, now.sigma, after.alpha, after.sigma)
    return x
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "It works, but everything it makes looks a little grainy." Find out why, and mend it.
    # for i in range(len(levels) - 2):
    #     now, after = levels[i], levels[i + 1]
    #     x = denoise_step(x, denoiser(x, now), now.alpha, now.sigma, after.alpha, after.sigma)
    # return x
    ### END STUDENT


# %%
levels = path.levels(25)
start = torch.randn(1500, 2, generator=generator)
end = walk_down(start, ring_guess, levels)
cluster = torch.cdist(end, centres).argmin(1)  # (1500,) where each point ended

walked = [start[:40]]
for now, after in pairwise(levels):
    walked.append(walk_down(walked[-1], ring_guess, [now, after]))  # a walk of one step
walked = torch.stack(walked)  # (26, 40, 2)

fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.6))
for k, (marker, colour) in enumerate(zip("os^DvPX*", [*COLOURS, "#888888"], strict=True)):
    scatter(axes[0], start[cluster == k], "noise, marked by where it ends", s=8, marker=marker, color=colour)
    scatter(axes[2], end[cluster == k], "t = 0", s=8, marker=marker, color=colour)
axes[1].plot(*walked.permute(2, 0, 1).numpy(), color="gray", lw=0.7, marker="")
scatter(axes[1], walked[0], "40 paths, from ● to ■", s=10)
scatter(axes[1], walked[-1], "40 paths, from ● to ■", s=14, color=COLOURS[2], marker="s")
figure(
    fig,
    alt="Left: noise, marked by the cluster in which each point ends; eight sectors like slices of a cake. "
    "Middle: 40 bent paths from noise to the clusters. Right: the end points, eight clusters.",
)

# %% [markdown] tags=["exercise-card"]
# **What to notice:** your steps cut the plane of noise into eight slices, one for each cluster. Nobody programmed that. The
# choice of a cluster is in the noise from the start. And the paths are not straight: each bends as its guess changes.
#
# How many steps does it take? First the extreme.
#
# {{exercise 01.4}}


# %% tags=["exercise"]
@exercise("01.4")
def one_big_step():
    """Where do 500 points of pure noise end that go to t = 0 in a single step of the exact guess?"""
    ### BEGIN SOLUTION
    return "at the centre of the ring"
    ### END SOLUTION


# %% [markdown]
# To check it we need a distance between two clouds of points. The **sliced Wasserstein distance** projects both onto a
# line, pairs the points in order, and averages over many lines: roughly, how far points have to be moved to turn one
# cloud into the other.

# %%
from diffusion_lessons.metrics import sliced_wasserstein


def cloud_distance(a, b):
    return sliced_wasserstein(a, b, projections=64)


n, counts, seeds = budget.samples(2000), (1, 2, 3, 4, 6, 10, 25, 50), range(6)
rows, floor = [], []  # one list for each seed; two data sets compared with each other
for seed in seeds:
    own = torch.Generator().manual_seed(seed)
    data, start = draw_data(n, own), torch.randn(n, 2, generator=own)
    rows.append([cloud_distance(walk_down(start, ring_guess, path.levels(s)), data) for s in counts])
    floor.append(cloud_distance(draw_data(n, own), data))
by_steps, floor = torch.tensor(rows), torch.tensor(floor)  # (6, 8), (6,)
error = by_steps.std(0) / len(seeds) ** 0.5
for steps, mean, e in zip(counts, by_steps.mean(0), error, strict=True):
    print(f"{steps:3d} steps: {mean:.3f} ± {e:.3f}")
print(f"two draws of the data: {floor.mean():.3f} ± {floor.std() / len(seeds) ** 0.5:.3f}")

# %%
fig, ax = plt.subplots(figsize=(6.2, 2.6))
ax.errorbar(counts, by_steps.mean(0), yerr=error, capsize=3, label="your walk against data")
ax.axhline(floor.mean(), color="gray", linestyle="--", label="two draws of the data")
ax.set(xscale="log", xlabel="steps", ylabel="distance", ylim=(0, 1.1), xticks=counts, xticklabels=counts)
ax.minorticks_off()
ax.legend()
figure(
    fig,
    alt="Sliced Wasserstein distance to the data over the number of steps: 1.0 with one step, 0.4 with two, 0.2 with "
    "three, 0.12 with four; from six steps on it lies at 0.08, as that of two draws of the data does.",
)

# %% [markdown]
# **What to notice:** with one step the result is *worse* than the noise it started from (0.31, which experiment 1
# measures). From about six steps on this measure finds no more difference than between two draws of the data. (A few points
# still lie between the clusters; they go with more steps.)

# %% [markdown] tags=["idea"]
# ## Learn the guess
#
# For pictures nobody can write the best guess down. But we can make any number of exercises for it with known answers:
# take a digit, noise it, and ask what the digit was. A network that is trained for the smallest squared error learns
# the best guess, the average, without ever being told that this is what it is.
#
# That is all the training there is. There is no adversary as in a GAN, and no walk in the loop. It is regression.
#
# $$L = \mathbb E_{x_0,\,\varepsilon,\,t}\; \big\lVert\, \hat x_\theta(x_t, t, y) - x_0 \,\big\rVert^2, \qquad x_t = \alpha_t x_0 + \sigma_t\varepsilon$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\hat x_\theta$ | the network with weights $\theta$: its output is the guess | (B, 1, 16, 16) |
# | $t$ | a time for each picture, drawn evenly from 1 to $T$ | (B,) |
# | $y$ | which digit it is, so that we can ask for one later | (B,) |
#
# The network is a **U-Net**, a closed box here ({{built-in 06}}). Published models often predict the noise or a mixture
# instead; lesson 3 shows that one follows from the other.

# %%
from diffusion_lessons.data import load_dataset, to_float
from diffusion_lessons.networks import Patched, UNet, UNetConfig

train, test = load_dataset("digits", "train", size=16), load_dataset("digits", "test", size=16)
digits, unseen = to_float(train.images), to_float(test.images)  # (1442, 1, 16, 16) and (355, 1, 16, 16)

shape = dict(in_channels=4, out_channels=4, base_channels=24, channel_mults=(1, 2), attention_levels=(1,))
network = Patched(UNet(UNetConfig(**shape, head_dim=24, num_classes=10)), 2)  # 2 × 2 pixels at a time
network.to(device, memory_format=torch.channels_last)
print(f"{sum(p.numel() for p in network.parameters()):,} weights to train on {len(digits):,} digits")

# %%
steps, losses = budget.steps(600), []
optimizer = torch.optim.AdamW(network.parameters(), fused=True)
rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
for _ in range(steps):
    index = torch.randint(len(digits), (32,), generator=generator)
    x0, label = digits[index].to(device), train.labels[index].to(device)
    noise = torch.randn(x0.shape, generator=generator).to(device)
    t = path.sample_times(32, generator)  # (32,)
    alpha, sigma = path(t).like(x0)  # (32, 1, 1, 1) each: a level for each picture
    guess = network(noise_points(x0, noise, alpha, sigma), t.float().to(device), label)
    loss = (guess - x0).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    rate.step()
    losses.append(loss.item())
last = sum(losses[-20:]) / 20
print(f"{steps} steps: mean squared error {losses[0]:.2f} at first, {last:.3f} over the last 20")

# %% [markdown]
# Now your network in the place of the exact guess. The walk is the same code, line for line, that drew the ring.


# %%
from diffusion_lessons.metrics import wilson_interval


def ask(label):
    """A denoiser that guesses pictures of the digits label (N,)."""

    @torch.no_grad()
    def guess(x, level):
        return network.eval()(x, level.t.float().to(x.device).expand(len(x)), label.to(x.device))

    return guess


label = torch.arange(budget.samples(300)) % 10
start = torch.randn(len(label), 1, 16, 16, generator=generator).to(device)
made = walk_down(start, ask(label), levels).cpu()  # (300, 1, 16, 16)

with torch.no_grad():  # the bundled classifier of real digits: which digit does it see?
    right = int((zoo.load("digits-classifier")(made.clamp(-1, 1)).argmax(1) == label).sum())
low, high = wilson_interval(right, len(made))
print(f"the digit asked for: {right / len(made):.1%} of {len(made)} (95 % interval {low:.1%} to {high:.1%})")

# %%
theirs = generate(mnist, torch.arange(10), seed=1, steps=25, guidance=1.0)  # (10, 1, 32, 32)
real = torch.stack([unseen[test.labels == k][0] for k in range(10)])
strip(
    {"real": real, "yours": made[:10], "yours, again": made[10:20], "MNIST model": theirs},
    alt="Digits 0 to 9 in four rows: real ones, two rows from the network that was trained here for less than a "
    "minute, and from the bundled MNIST model. The drawn ones can be read; some of yours are clumsy.",
    captions=[str(k) for k in range(10)],
    columns=10,
)

# %% [markdown]
# **What to notice:** the same labels with other noise give other digits, with strokes as smooth as the real ones. Some are
# clumsy, most are the digit that was asked for. Your network has seen each training picture some 13 times. The MNIST model is
# half as large again; it had 40 times the pictures and 13 times the steps.

# %% [markdown] tags=["experiment"]
# ## Experiment 1: does the walk pass through the right clouds?
#
# On the way down, x at time t should be distributed like data that was noised to time t. We measure the distance of both
# to the clean data along a walk of 25 steps, and that of the guesses (6 seeds with 2,000 points each, ± one standard error).

# %%
chosen = (0, 3, 6, 9, 12, 15, 18, 21, 23, 25)
curves = {name: [] for name in ("x on the way down", "data noised to t", "the guesses")}
for seed in seeds:
    own = torch.Generator().manual_seed(100 + seed)
    data, other, x = draw_data(n, own), draw_data(n, own), torch.randn(n, 2, generator=own)
    row = []
    for i, now in enumerate(levels):
        x = walk_down(x, ring_guess, levels[i - 1 : i + 1]) if i else x
        if i in chosen:
            fresh = noise_points(other, torch.randn(n, 2, generator=own), now.alpha, now.sigma)
            row.append([cloud_distance(cloud, data) for cloud in (x, fresh, ring_guess(x, now))])
    for rows, curve in zip(curves.values(), zip(*row, strict=True), strict=True):
        rows.append(curve)

fig, ax = plt.subplots(figsize=(6.4, 2.8))
times = [float(levels[i].t) for i in chosen]
for (name, rows), line in zip(curves.items(), ("-", "--", ":"), strict=True):
    mean, error = torch.tensor(rows).mean(0), torch.tensor(rows).std(0) / len(seeds) ** 0.5
    ax.errorbar(times, mean, error, linestyle=line, capsize=2, label=name)
    said = ", ".join(f"{mean[i]:.3f} ± {error[i]:.3f} at t = {times[i]:.0f}" for i in (0, 4, 7, 9))
    print(f"{name:17s}: {said}")
ax.set(xlabel="t, from noise to data", ylabel="distance to the data", xlim=(1020, -20), ylim=0)
ax.legend()
figure(
    fig,
    alt="Distance to the data over t, from noise to data. x on the way down and freshly noised data start at 0.31, "
    "stay there to about t = 600 and fall together to below 0.1. The guesses start at 1.0, far worse than the "
    "noise, fall evenly and pass the others at about t = 450.",
)

# %% [markdown] tags=["exercise-card"]
# The distance falls along the way and ends where two draws of the data are. The curves of x and of noised data agree to
# 0.01: the walk passes through the same clouds as the ruin, in the other order. The guesses are far *worse* than the noise at
# first, because an average is no sample. That answers the question at the top of this page.
#
# ## Experiment 2: new pictures, or copies?
#
# Now an uncomfortable thought. The best guess for our *training set* can be written down, too. It consists of 1,442
# points, so take each for a cluster with spread 0 (labels left aside). A network that reached the smallest possible training
# loss would compute exactly this. What would it draw? You can find out with the code you have. First the yardstick.
#
# {{exercise 01.5}}


# %% tags=["exercise"]
@exercise("01.5")
def nearest_distance(samples, training):
    """How far is each sample from the training picture that is most like it?

    samples: (N, …), training: (M, …). Returns (N,): the root of the sum of squares over all pixels.
    """
    ### BEGIN SOLUTION
    distances = torch.cdist(samples.flatten(1), training.flatten(1))  # (N, M)
    return distances.min(dim=1).values
    ### END SOLUTION


# %%
pixels = digits.flatten(1)  # (1442, 256)
noise = torch.randn(len(made), 256, generator=generator)
copied = walk_down(noise, lambda x, level: exact_guess(x, level, pixels, 0.0), levels).view(-1, 1, 16, 16)

near = {
    "exact guess for the training set": nearest_distance(copied, digits),
    "your network": nearest_distance(made, digits),
    "real digits, never seen": nearest_distance(unseen, digits),
}
fig, ax = plt.subplots(figsize=(6.4, 2.5))
for (name, d), colour in zip(near.items(), COLOURS[2::-1], strict=True):
    print(f"{name:32s}: {d.mean():.2f} ± {d.std() / len(d) ** 0.5:.2f}, smallest {d.min():.2f}, n = {len(d)}")
    look = dict(histtype="step", lw=1.6, ls="--") if name.startswith("real") else dict(alpha=0.35)
    ax.hist(d.numpy(), bins=torch.linspace(0, 8, 41).numpy(), density=True, color=colour, label=name, **look)
ax.set(xlabel="distance to the most similar training picture", ylabel="density", ylim=(0, 0.9))
ax.legend(fontsize=9)
figure(
    fig,
    alt="Histograms of the distance to the most similar training picture. The exact guess for the training set gives "
    "one bar at 0 that leaves the plot at the top. Your network's digits and real unseen ones overlap between 1.5 and "
    "7; yours lie a little to the right.",
)


# %%
def twin(pictures):
    return digits[torch.cdist(pictures.flatten(1), pixels).argmin(1)]


evenly = torch.linspace(0, len(made) - 1, 8).long()  # from the nearest to the farthest
picked = near["your network"].argsort()[evenly]
mine, copies = made[picked], copied[:8]
strip(
    {"yours": mine, "its nearest": twin(mine), "copier": copies, "its nearest ": twin(copies)},
    captions=[f"{d:.1f} away" for d in near["your network"][picked]],
    alt="Above, eight of your network's digits, from the nearest to the farthest from the training set, over the most "
    "similar training pictures: much alike at first, then with other strokes, and at last another shape. Below, "
    "eight results of the exact guess over theirs: equal, pixel for pixel.",
)

# %% [markdown]
# The exact guess for the training set *copies*: each of its pictures is a training picture. Your network ended somewhere
# else. Its digits are at least as far from the training set as real digits that it never saw (which come from the same
# writers). It makes new pictures *because* it does not reach the optimum of its training. Why it misses it in such a useful
# way is still being worked out. The architecture has a part in it: two networks trained on two sets with no picture in
# common can learn nearly the same guess, if the sets are large (Kadkhodaie et al. 2024).
#
# Nothing guarantees this: Carlini et al. (2023) report more than a thousand training pictures extracted from published
# models. So run such a check on every generative model, with both controls: a known copier, and real data held out.

# %% [markdown] tags=["play"]
# ## Play
#
# Your own network, your own step. Choose other digits in the first line and run the cell again. (A step to
# α = 0, σ = 1 leaves nothing but ε̂: so your `denoise_step` also draws the third row.)

# %%
wanted = torch.tensor([2, 4, 7, 9])
x, denoiser, frames = torch.randn(4, 1, 16, 16, generator=generator).to(device), ask(wanted), []
for now, after in pairwise(levels):
    guess = denoiser(x, now)
    frames.append((x, guess, denoise_step(x, guess, now.alpha, now.sigma, 0.0, 1.0)))
    x = walk_down(x, denoiser, [now, after])
frames.append((x, *frames[-1][1:]))  # t = 0: the picture, with the last guess
beside = [[torch.cat(list(batch), dim=-1).cpu() for batch in kind] for kind in zip(*frames, strict=True)]

scrub(
    {"x": beside[0], "x̂₀": beside[1], "ε̂ (−3 to 3)": Pictures(beside[2], span=3.0)},
    levels,
    alt="Four digits from your own network, from noise at t = 1000 to pictures at t = 0: the guess starts as a blurred "
    "average of each digit and sharpens as the noise in x goes.",
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# The same walk with the package's own parts, and with the DDIM scheduler of Hugging Face's diffusers, where it is installed.

# %%
import importlib.util

from diffusion_lessons.mixtures import GaussianMixture

start = torch.randn(500, 2, generator=generator)
ours, mixture = walk_down(start, ring_guess, levels), GaussianMixture(centres, SPREAD)
packaged = walk_down(start, lambda x, level: mixture(x, level).x0, levels)
print(f"largest difference with the package's mixture:   {(ours - packaged).abs().max():.0e}")
if importlib.util.find_spec("diffusers"):
    from diffusers import DDIMScheduler

    options = dict(clip_sample=False, prediction_type="sample", timestep_spacing="trailing")
    scheduler, x = DDIMScheduler(trained_betas=path.betas.tolist(), **options), start
    scheduler.set_timesteps(25)
    for t in scheduler.timesteps:  # theirs counts from 0: t here is t + 1 for us
        x = scheduler.step(ring_guess(x, path(t + 1)), t, x).prev_sample
    print(f"largest difference with diffusers' DDIMScheduler: {(ours - x).abs().max():.0e}")
else:
    print("diffusers is not installed here; the solved notebook shows the difference")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | the walk ends one level early (σ > 0) | fine grain over everything, clusters too wide; hard to see with many steps |
# | one guess taken for a sample, or too few steps | blurred averages: a grey digit, a point between clusters |
# | the denoiser told another level than that of x | washed-out or over-sharp pictures, with no error message |
# | time counted the other way round (t = 0 as noise) | the first steps do nothing, the last ones everything |
# | only the smallest loss watched | a copier has the smallest of all: look at neighbours and at samples |
# | a pixel distance taken as proof | a copy that is shifted by one pixel is "far"; large models are checked with learned features |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is a diffusion model?",
    "A generative model that learns to undo gradual noising. Training data is mixed with Gaussian noise at all levels, "
    "from none to nothing but noise, and a network learns by plain regression to guess the clean data (or, which is the "
    "same, the noise) from the noisy one and its level.\n\n"
    "To make a sample, start from pure noise and repeat: guess, take a small step to a slightly cleaner level, guess "
    "again. At high noise the best guess is an average over everything possible, so one step would give a blur; with "
    "each step fewer answers are possible, and the guess turns into one sample.",
    [
        (
            "Why is the first guess a blur?",
            "The network minimises squared error, and what minimises it is the conditional mean E[x₀ | x]. From nearly pure "
            "noise that is the mean of all data (of the wanted class).",
        ),
        (
            "Where does the variety of samples come from?",
            "From the starting noise (and, in samplers that add noise on the way, from that). With the deterministic step "
            "the same noise always gives the same sample.",
        ),
        (
            "Why does it not merely copy the training set?",
            "The optimum of the training loss would: its denoiser is a weighted average of training pictures, and "
            "sampling with it ends in one of them. A network of limited size and training, with the bias of a U-Net, "
            "does not reach it. Large networks on little or repeated data do memorise, so it has to be measured.",
        ),
        (
            "How is that different from a GAN?",
            "Regression in place of a game between two networks: stable training and good coverage, paid for with many "
            "evaluations for one sample. Lesson 13 measures both.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "What is a diffusion network trained to do?",
        [
            Choice(
                "to take one step from xₜ to the next cleaner x",
                False,
                "The step is a formula. The network supplies the guess that goes into it.",
            ),
            Choice(
                "to guess the clean data, or the noise, from noisy data and its level",
                True,
                "Regression on pairs that cost nothing to make. From either guess the other follows.",
            ),
            Choice(
                "to tell real pictures from made ones",
                False,
                "That is the discriminator of a GAN. There is no second network here.",
            ),
        ],
    ),
    Question(
        "x lies midway between two equally likely, sharp clusters. What is the best guess x̂₀ in squared error?",
        [
            Choice("one of the two, at random", False, "That has twice the squared error of the middle."),
            Choice("the middle", True, "The mean of what is possible, although no data lies there."),
            Choice(
                "x itself", False, "x is data turned down by α, with noise; the guess is about clean data."
            ),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "You sample twice with the step of this page, from the same noise and the same label. What do you get?",
        [
            Choice(
                "two pictures of that label",
                False,
                "For that the noise must differ: chance comes in nowhere else.",
            ),
            Choice("the same picture twice", True, "Guess and step are both functions. The noise decides."),
            Choice("the average of that label", False, "That is the first guess, not the end of the walk."),
        ],
    ),
    Question(
        "Samples of a new model are 0.1 away from the most similar training picture, unseen real ones 3.5. And so?",
        [
            Choice(
                "the model is excellent: its samples look real",
                False,
                "Each looks like *one* training picture. Unseen real data is not that close.",
            ),
            Choice(
                "the model copies its training set", True, "Its samples are far closer than new real data is."
            ),
            Choice(
                "nothing follows: pixel distances mean nothing",
                False,
                "A large distance proves little, but such a small one is telling.",
            ),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Sohl-Dickstein et al. 2015, *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, arXiv 1503.03585: section 2, where
#   the idea comes from.
# - Ho, Jain and Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv 2006.11239: sections 2 and 3, algorithms 1 and 2.
# - Song, Meng and Ermon 2021, *Denoising Diffusion Implicit Models*, arXiv 2010.02502: eq. 12 without its noise is your step.
# - Karras et al. 2022, *Elucidating the Design Space of Diffusion-Based Generative Models*, arXiv 2206.00364: appendix B.3, the exact
#   guess for a finite training set (there with α = 1).
# - Kadkhodaie et al. 2024, *Generalization in diffusion models arises from geometry-adaptive harmonic representations*, arXiv
#   2310.02557: section 2, from copying to generalising as the training set grows.
# - Carlini et al. 2023, *Extracting Training Data from Diffusion Models*, arXiv 2301.13188: section 4, copies found in published models.
#
# Next, the first half in full: how noise is added, and why a thousand steps are one: {{lesson 02}}.
