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
# - walk from noise to data, step by step, and find out why a sampler leaves a little noise behind (exercises 01.2
#   and 01.3)
# - say what the best possible guess is, and why one step of it is not enough (exercise 01.4)
# - test whether a model draws new pictures or copies old ones (exercise 01.5)
# - train a network of your own, with a training loop of your own, and draw digits with it (exercises 01.6 and 01.7)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Four squares of noise become four handwritten digits: a 4, a 3, a 5 and a 2. A network that comes with this course
# shows the way. Drag the slider, or press play.

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import Points, Watched, budget, exercise, figure, landscape, scrub, strip
from diffusion_lessons.generate import generate, walk


def square(pictures):  # (4, 1, H, W) as one picture (1, 2·H, 2·W)
    a, b, c, d = pictures.cpu()
    return torch.cat([torch.cat([a, b], dim=2), torch.cat([c, d], dim=2)], dim=1)


mnist = zoo.load("mnist-unet").on(device)  # trained on 60,000 handwritten digits
noise = torch.randn(4, 1, 32, 32, generator=generator).to(device)
points = list(walk(mnist, torch.tensor([4, 3, 5, 2], device=device), noise, steps=16, guidance=1.0))

scrub(
    {
        "x": [square(x) for level, x, guess in points],
        "x̂₀, the guess": [square(guess.x0) for level, x, guess in points],
    },
    [f"t = {level.t:.0f}" for level, x, guess in points],
    alt="From noise at t = 1000 to a 4, a 3, a 5 and a 2 at t = 0. x loses its grain bit by bit. x̂₀, the guess at "
    "the finished pictures, begins as four pale blurs in the shape of the digits and is nearly sharp at t = 750.",
    columns=4,
)

# %% [markdown]
# - **x** is what the model works on. At t = 1000 it is pure noise, drawn at random. At t = 0 it is the finished picture.
# - **x̂₀** is the network's *guess* at the finished picture. The network makes a new guess at every step.
#
# Look at x̂₀ at t = 1000. The guess is a blur. Why does a network that can draw a sharp 3 not draw it at once? This
# page gives the answer, first with points in the plane, where everything can be computed exactly, and then with
# a network of your own. (`walk` and its `guidance` are a closed box here: {{built-in 10}}.)

# %% [markdown] tags=["guess"]
# ## Guess
#
# You have 60,000 pictures of handwritten digits. You also have a network that can learn from pairs: an input, and the
# output that you want for it. **How would you make it draw new digits?** Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Random numbers in, a digit out.* Which digit belongs to which random numbers? Nobody can say. If the pairs are made at
#   random, again and again, the best that a network can learn in squared error is one answer for all inputs: the
#   average of all digits. That is a grey blur. You will meet this blur again.
# - *A second network as a judge.* It learns to tell drawn digits from real ones, and the first network learns to deceive
#   it. This is a GAN (lesson 13).
# - *One pixel after the other.* The network sees the pixels so far and guesses the next one. This works. It takes one
#   evaluation of the network for each pixel.
# - *A little at a time.* A picture with a little noise is almost a picture. Pairs of a noisy and a clean picture are easy
#   to make: take a picture, add noise. Where does that lead? To this lesson.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# Later you train a small network on 1,442 digits and let it draw 300 new ones. For each drawn digit you look up the most
# similar training picture. How far apart are the two? (Distance: the root of the sum of all squared pixel differences.)
#
# For comparison: real digits that the network has never seen are 5.3 away from the most similar training picture, on
# average.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "How far from the most similar training picture are the digits that your network draws, on average?",
    [
        Choice(
            "near 0: a network can only repeat what it was trained on",
            False,
            "That is what a perfect learner of this task would do, as you will compute. Your network is not perfect.",
        ),
        Choice(
            "about 1 to 3: small variations of training pictures",
            False,
            "Then each would have one training picture that it clearly belongs to. Look at the pairs in experiment 2.",
        ),
        Choice(
            "5 or more: about as far as digits that it has never seen, or farther",
            True,
            "They are new digits: as far from every training picture as digits that the network has never seen.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Adding noise is easy
#
# Here is a data set that you can see whole: points in eight clusters on a ring. The task of a generative model is
# always the same. Learn from examples to make *new* points that could have been among them.
#
# Diffusion starts at the other end. It does not ask how to make data. It asks how to destroy data: turn each point
# down a little, add a little noise, and repeat until only noise is left. Destroying takes no skill. But it gives
# us exercises with known answers: for each noisy point we know the clean point that it was made from.
#
# Nothing has to be repeated, either. One formula jumps from clean data to any amount of noise:
#
# $$x_t = \alpha_t\, x_0 + \sigma_t\, \varepsilon, \qquad \varepsilon \sim \mathcal N(0, I)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_0$ | clean data, a point or a picture | (N, 2) or (B, C, H, W) |
# | $\varepsilon$ | noise, drawn from the standard normal distribution | like $x_0$ |
# | $t$ | time: 0 is data, $T = 1000$ is noise | number |
# | $\alpha_t$ | factor of the data: falls from 1 to 0 | number |
# | $\sigma_t$ | factor of the noise: rises from 0 to 1. Here $\alpha_t^2 + \sigma_t^2 = 1$; other models have other rules | number |
#
# A pair $(\alpha_t, \sigma_t)$ is called a **level**. Lesson 5 is about choosing a thousand of them. Here we take those of
# the model above.

# %%
angle = torch.arange(8) * (torch.pi / 4)
centres, SPREAD = 1.4 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.1  # (8, 2), and the spread of each


def draw_data(n, generator):  # (n, 2)
    cluster = torch.randint(8, (n,), generator=generator)
    return centres[cluster] + SPREAD * torch.randn(n, 2, generator=generator)


# %% [markdown]
# And here are pictures: 1,797 real handwritten digits, 24 × 24 pixels in the middle of 32 × 32 (black is −1, white is 1). One
# part is to learn from, the other part is never shown to any network of yours.

# %%
from torch.nn import functional

from diffusion_lessons.data import load_dataset, to_float

training, held_out = load_dataset("digits", "train", size=24), load_dataset("digits", "test", size=24)
digits, unseen = (functional.pad(to_float(d.images), (4, 4, 4, 4), value=-1.0) for d in (training, held_out))
print(f"to learn from: {tuple(digits.shape)}, never seen: {tuple(unseen.shape)}")

# %% [markdown] tags=["exercise-card"]
# **Exercises.** Write your code in the place of `raise NotImplementedError` and run the cell. It is checked at once. Three
# rules hold in the whole course, unless a task says otherwise: *do not change the inputs, draw no random numbers but
# those given, return the dtype of the pictures.*
#
# {{exercise 01.1}}


# %% tags=["exercise"]
@exercise("01.1")
def noise_points(x0, noise, alpha, sigma):
    """Data and noise, mixed.

    x0, noise: (N, …), the same shape; alpha, sigma: numbers, or tensors that multiply x0. Use both as they are
    given: α² + σ² is not 1 for every model.
    """
    ### BEGIN SOLUTION
    return alpha * x0 + sigma * noise
    ### END SOLUTION


# %%
from diffusion_lessons.mixtures import GaussianMixture


def captions(levels):
    return [f"t = {level.t:.0f} · α = {level.alpha:.2f}, σ = {level.sigma:.2f}" for level in levels]


path = mnist.path  # path(t) is the level at time t
up = [path(t) for t in range(0, 1001, 50)]  # 21 levels, from data to noise
x0, noise = draw_data(500, generator), torch.randn(500, 2, generator=generator)
pair, grain = digits[[2, 8]], torch.randn(2, 1, 32, 32, generator=generator)

noisy_points = [noise_points(x0, noise, level.alpha, level.sigma) for level in up]
noisy_pairs = [noise_points(pair, grain, level.alpha, level.sigma) for level in up]
ring = GaussianMixture(centres, SPREAD)  # the same ring: its exact density gives the shades
scrub(
    {
        "500 points": landscape(ring, up, noisy_points, arrows=0),
        "two digits": [torch.cat([left, right], dim=2) for left, right in noisy_pairs],
    },
    captions(up),
    alt="Left, 500 points in eight clusters on a ring. With growing t the clusters widen, touch, and become one round "
    "cloud. Right, a 2 and an 8 sink into noise at the same levels.",
    columns=4,
)

# %% [markdown]
# **What to notice:** points and pictures obey the same formula, with the same numbers. The clusters melt into one another
# well before the end. At t = 1000 the cloud is a plain Gaussian, whatever the data was. *That* we can draw without any
# data. It will be the start of the way back.

# %% [markdown] tags=["idea"]
# ## The best guess is an average
#
# Now the way back. You are given a noisy point $x$ and its level. What was the clean point? No answer is certain, because
# many clean points could have become this $x$. So choose the guess that has the smallest squared error on average. It is the
# **mean** of all clean points that could lie behind $x$, each weighted by its probability.
#
# For the ring this mean can be written down. First the weights: which cluster did $x$ come from? Then the average of
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
# The first part does not depend on $g$. The second part is smallest at $g = \hat x_0$.
#
# Where the weights come from: from cluster $k$, $x$ is Gaussian with mean $\alpha\mu_k$ and variance $\alpha^2 s^2 + \sigma^2$, and
# all clusters are equally likely beforehand. That is Bayes' rule. $m_k$ is the mean of $x_0 \sim \mathcal N(\mu_k, s^2 I)$ given
# $x = \alpha x_0 + \sigma\varepsilon$, where both are Gaussian. All clusters have the same $s$, so $\sum_k w_k m_k$ needs only the mean of the
# centres: the code below takes that mean first, and then corrects it once.
#
# </details>


# %%
def exact_guess(x, level, centres, spread):
    """E[x₀ | x] for equally likely clusters: x (N, D), centres (K, D)."""
    variance = (level.alpha * spread) ** 2 + level.sigma**2
    squares = torch.cdist(x, level.alpha * centres).square()  # (N, K)
    mean = torch.softmax(-squares / (2 * variance), dim=1) @ centres  # (N, D)
    return mean + level.alpha * spread**2 / variance * (x - level.alpha * mean)


def ring_guess(x, level):
    return exact_guess(x, level, centres, SPREAD)


# %% [markdown]
# Is the mean really the best? Compare it with two other guesses: the nearest cluster, and the middle of the ring.


# %% tags=["nbval-check-output"]
def nearest_centre(x, level):
    return centres[torch.cdist(x, level.alpha * centres).argmin(1)]


def middle_of_the_ring(x, level):
    return torch.zeros_like(x)


x0, noise = draw_data(20_000, generator), torch.randn(20_000, 2, generator=generator)
print("mean squared error over 20,000 points, ± one standard error")
for guess in (ring_guess, nearest_centre, middle_of_the_ring):
    row = []
    for t in (200, 400, 700):
        error = (guess(noise_points(x0, noise, path(t).alpha, path(t).sigma), path(t)) - x0).square().sum(1)
        row.append(f"t = {t}: {error.mean():.3f} ± {error.std() / len(error) ** 0.5:.3f}")
    print(f"{guess.__name__:18s}", *row, sep="   ")

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

from diffusion_lessons.course.widgets import COLOURS


def scatter(ax, points, title, **style):
    ax.scatter(*points.T.numpy(), linewidths=0, **({"s": 3, "color": COLOURS[1], "marker": "o"} | style))
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
    ax.set_title(title, fontsize=11)
    ax.spines[:].set_visible(True)


fig, axes = plt.subplots(1, 3, figsize=(8.4, 3))
for ax, t in zip(axes, (100, 450, 800), strict=True):
    x = noise_points(x0[:40], noise[:40], path(t).alpha, path(t).sigma)
    guess = ring_guess(x, path(t))
    for a, b in zip(x.tolist(), guess.tolist(), strict=True):
        ax.plot(*zip(a, b, strict=True), color="gray", lw=0.6, marker="")
    scatter(ax, x, f"t = {t}", s=14, label="x")
    scatter(ax, guess, f"t = {t}", s=22, color=COLOURS[2], marker="s", label="x̂₀")
axes[0].legend(fontsize=11, loc="center", handletextpad=0.1)
figure(
    fig,
    alt="Noisy points, each with a line to its guess. At t = 100 the guesses lie in the eight clusters. At t = 450 "
    "many lie between clusters, on an octagon and inside it. At t = 800 all lie around the middle of the ring.",
)

# %% [markdown]
# **What to notice:** at t = 800 all guesses lie around the middle of the ring, *where there is no data at all*. The guess
# is the average of eight possible answers, and it is none of them. The blur at the top of this page is the same thing: the
# average of all 3s that could lie under the noise.

# %% [markdown] tags=["idea"]
# ## Many small steps
#
# So the guess is no sample. But it points in a useful direction. Go a *small* step towards it, to a slightly cleaner level,
# and guess again. With less noise fewer answers are possible, so the next guess is less of an average. Step by step, the
# point is led to one cluster.
#
# The step needs one idea. If the guess is right, we also know the noise in $x$: it is what remains when
# the guess is taken away. So take $x$ apart into guess and noise. Then mix the two again at the next level, with more of
# the guess and less of the noise.
#
# $$x = \alpha\,\hat x_0 + \sigma\,\hat\varepsilon \quad\text{(solve for } \hat\varepsilon\text{)}, \qquad
# x' = \alpha'\,\hat x_0 + \sigma'\,\hat\varepsilon$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\hat x_0, \hat\varepsilon$ | guess of the data, and of the noise that goes with it | like $x$ |
# | $\alpha, \sigma$ | the level of $x$ | numbers |
# | $\alpha', \sigma'$ | the next level, closer to the data; $\alpha' = 1, \sigma' = 0$ at the end | numbers |
#
# No new noise comes in: the same start always leads to the same end. (This is the step of DDIM, lesson 8. The older
# step adds noise on the way, lesson 3.)

# %% [markdown] tags=["exercise-card"]
# {{exercise 01.2}}


# %% tags=["exercise"]
@exercise("01.2")
def denoise_step(x, x0_hat, alpha, sigma, alpha_next, sigma_next):
    """From the level (alpha, sigma) to the cleaner level (alpha_next, sigma_next).

    x, x0_hat: (N, …), the noisy data and the guess; the levels are numbers, sigma > 0. Use all four as they are
    given: α² + σ² is not 1 for every model.
    """
    ### BEGIN SOLUTION
    eps_hat = (x - alpha * x0_hat) / sigma
    return alpha_next * x0_hat + sigma_next * eps_hat
    ### END SOLUTION


# %% [markdown] tags=["exercise-card"]
# The whole walk is a loop over levels. `path.levels(20)` gives 21 of them, from t = 1000 down to t = 0.
#
# {{exercise 01.3}}


# %% tags=["exercise"]
@exercise("01.3")
def walk_down(x, denoiser, levels):
    """From noise at levels[0] to levels[-1], which is the data, or a level on the way.

    x: (N, …); denoiser(x, level) gives the guess x0_hat; levels: n + 1 of them, n ≥ 1, with .alpha and .sigma.
    """
    ### BEGIN SOLUTION
    for i in range(len(levels) - 1):
        now, after = levels[i], levels[i + 1]
        x = denoise_step(x, denoiser(x, now), now.alpha, now.sigma, after.alpha, after.sigma)
    return x
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "It works, but everything it makes is a little grainy." Find out why, and mend it.
    # for i in range(len(levels) - 2):
    #     now, after = levels[i], levels[i + 1]
    #     x = denoise_step(x, denoiser(x, now), now.alpha, now.sigma, after.alpha, after.sigma)
    # return x
    ### END STUDENT


# %% [markdown]
# Now watch 300 points of noise on their walk, with the exact guess. Left: x, over the density of the data noised to that
# level. Each arrow points from its place towards α·x̂₀. In just this direction the density rises fastest: it is the
# direction of the **score** (lesson 3). Right: the guesses of the same 300 points, and the data in grey.

# %%
from itertools import pairwise

levels = path.levels(20)  # t = 1000, 950, …, 50, 0
held = [torch.randn(300, 2, generator=generator)]  # what the points are at each level
for now, after in pairwise(levels):
    held.append(walk_down(held[-1], ring_guess, [now, after]))  # a walk of one step
guesses = [ring_guess(x, level) for x, level in zip(held, levels, strict=True)]

scrub(
    {
        "x": landscape(ring, levels, held),
        "x̂₀, the guesses": Points(guesses, behind=draw_data(400, generator)),
    },
    captions(levels),
    alt="Left, a round cloud of 300 points over the density. The density splits into eight spots, and the points move "
    "with it, along the arrows, into eight clusters. Right, the guesses begin as one spot in the middle of the ring, "
    "open to a ring, and part into the same eight clusters.",
    columns=5,
)

# %% jupyter={"source_hidden": true}
start = torch.randn(500, 2, generator=generator)
end = walk_down(start, ring_guess, levels)
cluster = torch.cdist(end, centres).argmin(1)  # (500,) where each point ended

paths = torch.stack(held)[:, :40]  # (21, 40, 2)
fig, axes = plt.subplots(1, 2, figsize=(6.8, 3.3))
for k, (marker, colour) in enumerate(zip("os^DvPX*", [*COLOURS, "#888888"], strict=True)):
    scatter(axes[0], start[cluster == k], "noise, marked by where it ends", s=12, marker=marker, color=colour)
axes[1].plot(*paths.permute(2, 0, 1).numpy(), color="gray", lw=0.8, marker="")
scatter(axes[1], paths[0], "40 walks, from ● to ■", s=14)
scatter(axes[1], paths[-1], "40 walks, from ● to ■", s=20, color=COLOURS[2], marker="s")
figure(
    fig,
    alt="Left: noise, marked by the cluster in which each point ends; eight sectors like slices of a cake. "
    "Right: 40 bent walks from noise to the eight clusters.",
)

# %% [markdown] tags=["exercise-card"]
# **What to notice:** your steps cut the plane of noise into eight slices, one for each cluster. Nobody programmed that. The
# start alone decides the cluster. And the walks are not straight: α, σ and the guess all change on the way.
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
# To check it we need a distance between two clouds of points. The **sliced Wasserstein distance** projects both clouds onto
# a line, pairs the points in order, and averages over many lines. Roughly: how far must points be moved to turn one
# cloud into the other? We also count stray points, more than 0.35 away from every centre.

# %%
from diffusion_lessons.metrics import sliced_wasserstein


def cloud_distance(a, b):
    return sliced_wasserstein(a, b, projections=64)


n, counts, seeds = budget.samples(2000), (1, 2, 3, 4, 6, 10, 25, 50), range(6)
rows = []  # for each seed the distances of all clouds, and the share of stray points in each
for seed in seeds:
    own = torch.Generator().manual_seed(seed)
    data, start = draw_data(n, own), torch.randn(n, 2, generator=own)
    clouds = [walk_down(start, ring_guess, path.levels(s)) for s in counts] + [draw_data(n, own)]
    stray = [(torch.cdist(cloud, centres).min(1).values > 0.35).float().mean() for cloud in clouds]
    rows.append([[cloud_distance(cloud, data) for cloud in clouds], stray])
rows = torch.tensor(rows)  # (6, 2, 9)
mean, error = rows.mean(0), rows.std(0) / len(seeds) ** 0.5
for i, name in enumerate([*(f"{steps} steps" for steps in counts), "more data"]):
    print(
        f"{name:9s}: distance {mean[0, i]:.3f} ± {error[0, i]:.3f}, stray {mean[1, i]:6.1%} ± {error[1, i]:.1%}"
    )

# %% [markdown]
# **What to notice:** after one step the result is farther from the data than the noise it started from (0.31 away, as
# experiment 1 measures). From about six steps on, the distance finds no difference to a second draw of the data. But it is
# a blunt tool: after six steps 14.5 % of the points still lie astray, after 25 steps 0.4 %, and of the data itself 0.2 %. (± is one
# standard error over 6 seeds.)

# %% [markdown] tags=["idea"]
# ## The best guess for pictures
#
# A picture is a point, too: 32 × 32 pixels are one point with 1,024 coordinates. So try the same formula on digits, with no
# network at all. Take each of the 1,442 training digits for a cluster of its own, with spread 0. The best guess is then
# a weighted average of training digits:
#
# $$\hat x_0(x) = \sum_{i=1}^{M} w_i(x)\, x^{(i)}, \qquad
# w_i(x) \propto \exp\!\left(-\frac{\lVert x - \alpha x^{(i)}\rVert^2}{2\sigma^2}\right)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x^{(i)}$ | training digit number $i$, of $M = 1{,}442$ | (1024,) |
# | $w_i(x)$ | probability that $x$ was made from digit $i$; they add up to 1 | (M,) for each $x$ |
#
# The walk stays as it is, line for line.

# %%
pixels = digits.flatten(1)  # (1442, 1024): a digit is a point


def digits_guess(x, level):
    return exact_guess(x, level, pixels, 0.0)


noise = torch.randn(budget.samples(300), 1024, generator=generator)
copies = walk_down(noise, digits_guess, levels).view(-1, 1, 32, 32)
strip(copies[:10], alt="Ten digits that look like real ones.", columns=10)

# %% [markdown] tags=["exercise-card"]
# Digits, as good as real ones, and nothing was trained. Are we done? Something is wrong with them. Guess what it is, and
# measure it.
#
# {{exercise 01.5}}


# %% tags=["exercise"]
@exercise("01.5")
def nearest_distance(samples, training):
    """How far is each sample from the training picture that is most like it?

    samples: (N, …), training: (M, …). Returns (N,): the root of the sum of squares over all entries, channels
    included. An exact copy may come out 0.02 away: that is rounding.
    """
    ### BEGIN SOLUTION
    distances = torch.cdist(samples.flatten(1), training.flatten(1))  # (N, M)
    return distances.min(dim=1).values
    ### END SOLUTION


# %%
def twin(pictures):  # the most similar training picture of each
    return digits[torch.cdist(pictures.flatten(1), pixels).argmin(1)]


away = nearest_distance(copies, digits)
print(f"{len(away)} drawn digits: the farthest is {away.max():.3f} away from a training picture")
strip(
    {"drawn": copies[:10], "its nearest": twin(copies[:10])},
    alt="The ten digits drawn with the exact guess, each over the most similar training picture: the two rows are "
    "equal, pixel for pixel.",
    columns=10,
)

# %% [markdown]
# **What to notice:** each drawn digit *is* a training digit. In the end one weight is 1 and all others are 0. The best guess
# for 1,442 pictures leads back to these 1,442 pictures. It draws nothing new. A network that reached the smallest possible
# training loss would compute this guess, and copy. (We left the labels aside. With them, it would copy within a label.)

# %% [markdown] tags=["idea"]
# ## Learn the guess
#
# So we do *not* want the exact formula for the training set. We want a guess that also fits digits nobody has seen. A network
# can give one. It cannot look up the training set, it must answer with what it has learnt. (Does it? Experiment 2 asks.)
#
# Training needs no walk and no judge. Take a digit, noise it, and ask the network for the clean digit. It is trained for the
# smallest squared error, so it is drawn towards the best guess, the average. Nobody has to tell it what that is.
#
# $$L = \mathbb E_{x_0,\,\varepsilon,\,t}\; \big\lVert\, \hat x_\theta(x_t, t, y) - x_0 \,\big\rVert^2, \qquad x_t = \alpha_t x_0 + \sigma_t\varepsilon$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\hat x_\theta$ | the network with weights $\theta$: its output is the guess | (B, 1, 32, 32) |
# | $t$ | a time for each picture, drawn evenly from 1 to $T$ | (B,) |
# | $y$ | which digit it is, so that we can ask for one later | (B,) |
#
# The network is a **U-Net**, a closed box here ({{built-in 06}}). Published models often predict the noise instead. Lesson 3
# shows that each follows from the other.

# %%
from diffusion_lessons.networks import Patched, UNet, UNetConfig


def new_network():
    shape = dict(in_channels=16, out_channels=16, base_channels=24, channel_mults=(1, 2), head_dim=24)
    unet = UNet(UNetConfig(**shape, attention_levels=(1,), num_classes=10))
    return Patched(unet, 4).to(device, memory_format=torch.channels_last)  # 4 × 4 pixels at a time


def batches(steps, pictures, labels):
    """For each step: 32 pictures, and noise, time and label of each."""
    for _ in steps:
        chosen = torch.randint(len(pictures), (32,), generator=generator)
        noise = torch.randn(32, 1, 32, 32, generator=generator)
        t = path.sample_times(32, generator).float()
        yield [each.to(device) for each in (pictures[chosen], noise, t, labels[chosen])]


network = new_network()
print(f"{sum(p.numel() for p in network.parameters()):,} weights to train on {len(digits):,} digits")

# %% [markdown] tags=["exercise-card"]
# Now the loop that trains. It is short, and it is all the training there is.
#
# {{exercise 01.6}}


# %% tags=["exercise"]
@exercise("01.6")
def train_network(network, optimizer, path, batches, after_step):
    """Train a network to guess the clean pictures: one step of the optimizer for each batch.

    network(x, t, label) gives guesses (B, …); optimizer: one of torch's, made for this network; path(t).like(x0) is
    the pair α, σ of each picture, ready to multiply x0; batches: for each step x0 and noise (B, …), t (B,) and
    label (B,), t as it comes, not always whole; call after_step(loss) at the end of each step, when the optimizer
    has stepped, with the mean squared error over all entries of that batch, a float or a 0-d tensor.
    """
    ### BEGIN SOLUTION
    for x0, noise, t, label in batches:
        alpha, sigma = path(t).like(x0)
        x = noise_points(x0, noise, alpha, sigma)
        guess = network(x, t, label)
        loss = (guess - x0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after_step(loss.item())
    ### END SOLUTION


# %%
def fit(network, steps, pictures, labels):
    """Run your loop for so many steps, with the learning rate rising at first and then falling to 0."""
    watched, losses = Watched(steps), []
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)  # fused is faster
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)

    def after_step(loss):
        losses.append(loss)
        watched.tell(loss)
        rate.step()

    train_network(network, optimizer, path, batches(watched, pictures, labels), after_step)
    return losses


losses = fit(network, budget.steps(1000), digits, training.labels)
print(f"mean squared error {losses[0]:.2f} at first, {sum(losses[-20:]) / 20:.3f} over the last 20 steps")

# %% [markdown] tags=["exercise-card"]
# Training is over. Your network in the place of the exact guess, your walk around it: that is a diffusion model.
#
# {{exercise 01.7}}


# %% tags=["exercise"]
@exercise("01.7")
def draw_digits(network, label, noise, levels):
    """Pictures of the digits label, from pure noise, with no gradients kept.

    network(x, t, label) wants a time for each picture: t is (N,), in the dtype of x and on its device; label:
    (N,); noise: (N, C, H, W); levels: n + 1 of them from noise to data, with .t, .alpha and .sigma, all 0-d and
    float64; a time need not be whole.
    """

    ### BEGIN SOLUTION
    def denoiser(x, level):
        t = torch.full((len(x),), float(level.t), dtype=x.dtype, device=x.device)
        return network(x, t, label)

    with torch.no_grad():
        return walk_down(noise, denoiser, levels)
    ### END SOLUTION


# %%
from diffusion_lessons.metrics import wilson_interval

label = torch.arange(budget.samples(300)) % 10
noise = torch.randn(len(label), 1, 32, 32, generator=generator)
made = draw_digits(network, label.to(device), noise.to(device), levels).cpu()  # (300, 1, 32, 32)

judge = zoo.load("digits-classifier")  # a bundled network that reads real digits of 16 × 16 pixels
with torch.no_grad():
    small = functional.interpolate(made[..., 4:-4, 4:-4], size=(16, 16), mode="area")
    right = int((judge(small.clamp(-1, 1)).argmax(1) == label).sum())
low, high = wilson_interval(right, len(made))
print(f"the digit asked for: {right / len(made):.1%} of {len(made)} (95 % interval {low:.1%} to {high:.1%})")

# %%
real = torch.stack([unseen[held_out.labels == k][0] for k in range(10)])
theirs = generate(mnist, torch.arange(10), seed=1, steps=20, guidance=1.0)  # (10, 1, 32, 32)
strip(
    {"real": real, "yours": made[:10], "yours 2": made[10:20], "yours 3": made[20:30], "MNIST": theirs},
    alt="Digits 0 to 9 in five rows: real ones, three rows from the network that was trained here in less than a "
    "minute, and one from the bundled MNIST model. Most of yours can be read, a few are clumsy.",
    captions=[str(k) for k in range(10)],
    columns=10,
)

# %% [markdown]
# **What to notice:** the same labels with other noise give other digits, with strokes like those of real ones. A few are
# clumsy, most are the digit that was asked for. (Of real digits that it has never seen, the judge reads 99.7 %.) The last row is from the network at the top of this page. It has 1.6
# times the weights, and it was trained on 40 times the pictures for 8 times the steps.

# %% [markdown] tags=["experiment"]
# ## Experiment 1: does the walk pass through the right clouds?
#
# On the way down, x at time t should be distributed like data that was noised to time t. We measure the distance of both
# to the clean data along a walk of 20 steps, and the distance of the guesses (2,000 points, ± one standard error over
# 6 seeds).

# %%
chosen = (0, 2, 5, 8, 10, 12, 14, 16, 18, 20)
rows = []  # for each seed, and each level chosen, the distance of three clouds
for seed in seeds:
    own = torch.Generator().manual_seed(100 + seed)
    data, other, start = draw_data(n, own), draw_data(n, own), torch.randn(n, 2, generator=own)
    distances = []
    for i in chosen:
        now = levels[i]
        x = walk_down(start, ring_guess, levels[: i + 1]) if i > 0 else start
        fresh = noise_points(other, torch.randn(n, 2, generator=own), now.alpha, now.sigma)
        distances.append([cloud_distance(cloud, data) for cloud in (x, fresh, ring_guess(x, now))])
    rows.append(distances)
rows = torch.tensor(rows)  # (6, 10, 3)
mean, error = rows.mean(0), rows.std(0) / len(seeds) ** 0.5

names = ("x on the way down", "data noised to t", "the guesses")
times = [float(levels[i].t) for i in chosen]
for j, name in enumerate(names):
    said = ", ".join(f"t = {times[i]:.0f}: {mean[i, j]:.3f} ± {error[i, j]:.3f}" for i in (0, 4, 7, 9))
    print(f"{name:17s}: {said}")

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(6.6, 3))
for j, line in enumerate(("-", "--", ":")):
    ax.errorbar(times, mean[:, j], error[:, j], linestyle=line, capsize=2, label=names[j])
ax.set(xlabel="t, from noise to data", ylabel="distance to the data", xlim=(1020, -20), ylim=0)
ax.legend()
figure(
    fig,
    alt="Distance to the data over t, from noise to data. x on the way down and freshly noised data start at 0.31, "
    "stay there to about t = 600 and fall together to below 0.1. The guesses start at 1.0, far worse than the "
    "noise, fall evenly and pass the others at about t = 450.",
)

# %% [markdown]
# The distance falls along the walk and ends where two draws of the data are. The curves of x and of noised data differ by
# at most 0.011 (with 100 steps by at most 0.006): the walk passes through the same clouds as the noising, in the other order. The guesses are *farther* from the data
# than the noise at first, because an average is no sample. That answers the question at the top of this page.
#
# ## Experiment 2: new pictures, or copies?
#
# Your network draws digits. Are they new, or is it a copier like the exact formula? Real digits that it never saw
# give the yardstick. A second network gives a control: the same network and the same loop, but only 20 digits to learn
# from, two of each, and 400 steps.

# %%
few = torch.cat([(training.labels == k).nonzero()[:2, 0] for k in range(10)])  # two of each digit
memory = new_network()
fit(memory, budget.steps(400), digits[few], training.labels[few])

asked = torch.arange(budget.samples(100)) % 10
noise = torch.randn(len(asked), 1, 32, 32, generator=generator)
remembered = draw_digits(memory, asked.to(device), noise.to(device), levels).cpu()
near = {
    "exact guess for 1,442 digits": nearest_distance(copies, digits),
    "network with 20 digits": nearest_distance(remembered, digits[few]),
    "your network, 1,442 digits": nearest_distance(made, digits),
    "real digits, never seen": nearest_distance(unseen, digits),
}
for name, d in near.items():
    print(f"{name:28s}: {d.mean():.2f} ± {d.std() / len(d) ** 0.5:.2f}, smallest {d.min():.2f}, n = {len(d)}")

by_chance = len(digits) / (len(digits) + len(unseen))
nearer = nearest_distance(made, digits) < nearest_distance(made, unseen)
print(f"yours: the most similar of all real digits is a training digit for {nearer.float().mean():.1%}")
print(f"share of training digits in all real digits: {by_chance:.1%}")

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(6.6, 3))
for (name, d), colour in zip(near.items(), (COLOURS[2], COLOURS[3], COLOURS[1], "black"), strict=True):
    look = dict(histtype="step", lw=1.6, ls="--") if name.startswith("real") else dict(alpha=0.45)
    ax.hist(
        d.clamp(max=11.9).numpy(),
        bins=torch.linspace(0, 12, 49).numpy(),
        density=True,
        color=colour,
        label=name,
        **look,
    )
ax.set(xlabel="distance to the most similar training picture", ylabel="density", ylim=(0, 1.2))
ax.legend(fontsize=10)
figure(
    fig,
    alt="Histograms of the distance to the most similar training picture. The exact guess gives one bar at 0 that "
    "leaves the plot at the top. The network with 20 digits lies between 2 and 4, with a few beyond. Your network's digits and "
    "real unseen ones overlap between 3 and 9; yours lie a little to the right.",
)

# %% jupyter={"source_hidden": true}
evenly = torch.linspace(0, len(made) - 1, 10).long()  # from the nearest to the farthest
picked = made[near["your network, 1,442 digits"].argsort()[evenly]]
seen = digits[few][torch.cdist(remembered.flatten(1), digits[few].flatten(1)).argmin(1)]
strip(
    {"yours": picked, "its nearest": twin(picked), "20 digits": remembered[:10], "its nearest ": seen[:10]},
    alt="Above, ten of your network's digits, from the nearest to the farthest from the training set, over the most "
    "similar training pictures: much alike at first, then with other strokes, and at last a clumsy shape. Below, ten "
    "results of the network with 20 digits over theirs: the same digits, a little blurred.",
    columns=10,
)

# %% [markdown]
# The network with 20 digits copies: most of its results are a training picture, a little blurred. Your network does not. Its
# digits are, on average, at least as far from the training set as real digits that it never saw.
#
# A clumsy picture is far from everything, so here is a second test. Take all 1,797 real digits, seen and unseen. Is the
# one most similar to a drawn digit a training digit? By chance it would be in 80 % of the cases, for a copier in
# all. Your network is close to chance (one standard error is 2 points).
#
# Loop and walk are the same for both networks. What differs is the number of pictures, and how often each was seen: some 640
# times against 22. So no diffusion model is a copier by its nature, and none is safe from copying. (± is one standard
# error over the pictures. Each network was trained once.)
#
# Why a network misses the perfect copy in such a useful way is still being worked out. The architecture has a part in it:
# two networks that are trained on two sets with no picture in common can learn nearly the same guess, if the sets are large
# (Kadkhodaie et al. 2024). And large models do copy now and then. Carlini et al. (2023) drew 175 million pictures from Stable
# Diffusion, with captions of pictures that its training set repeats most, and found about a hundred near copies. So run such
# a check on every generative model, with both controls: a known copier, and real data held out.

# %% [markdown] tags=["play"]
# ## Play
#
# Your own network, your own step. Choose a digit and a start (noise 1 to 5). Keep the noise and change the digit: what stays,
# what changes? The third panel is ε̂, the noise that goes with the guess.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Pictures, live


def watch(digit, noise):
    x = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(noise)).to(device)
    wanted, xs, guesses, noises = torch.tensor([digit], device=device), [], [], []
    for now, after in pairwise(levels):
        guess = draw_digits(network, wanted, x, [now, path(0)])  # one long step to t = 0 ends in the guess
        xs.append(x[0])
        guesses.append(guess[0])
        # a step to α = 0, σ = 1 leaves nothing but ε̂
        noises.append(denoise_step(x, guess, now.alpha, now.sigma, 0.0, 1.0)[0])
        x = denoise_step(x, guess, now.alpha, now.sigma, after.alpha, after.sigma)
    panels = {
        "x": [*xs, x[0]],
        "x̂₀": [*guesses, guess[0]],  # at t = 0 the last guess once more
        "ε̂ (−3 to 3)": Pictures([*noises, noises[-1]], span=3.0),
    }
    return scrub(
        panels,
        captions(levels),
        alt="From noise to a digit of your own network. x̂₀ begins as a pale blur, the average of that digit, and "
        "becomes one digit on the way. ε̂ looks like noise; in the last frames a trace of the digit is left in it.",
        columns=5,
    )


live(watch, start={"digit": 4}, digit=range(10), noise=[1, 2, 3, 4, 5])

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# The same walk with the package's own parts, and with the DDIM scheduler of Hugging Face's diffusers, where it is installed.

# %%
import importlib.util

start = torch.randn(500, 2, generator=generator)
ours = walk_down(start, ring_guess, levels)
packaged = walk_down(start, lambda x, level: ring(x, level).x0, levels)
print(f"largest difference with the package's mixture:   {(ours - packaged).abs().max():.0e}")
if importlib.util.find_spec("diffusers"):
    from diffusers import DDIMScheduler

    options = dict(clip_sample=False, prediction_type="sample", timestep_spacing="trailing")
    scheduler, x = DDIMScheduler(trained_betas=path.betas.tolist(), **options), start
    scheduler.set_timesteps(20)
    for t in scheduler.timesteps:  # theirs counts from 0: t here is t + 1 for us
        x = scheduler.step(ring_guess(x, path(t + 1)), t, x).prev_sample
    print(f"largest difference with diffusers' DDIMScheduler: {(ours - x).abs().max():.0e}")
else:
    print("diffusers is not installed here; the solved notebook shows the difference")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it appears |
# |---|---|
# | the walk ends one level early, at σ > 0 (as in several public samplers) | fine grain over everything, clusters too wide; hard to see with many steps |
# | one guess taken for a sample, or too few steps | blurred averages: a grey digit, a point between clusters |
# | the denoiser told another level than that of x | told too little noise: grain or broken strokes; told too much: too smooth. No error message |
# | time counted the other way round (t = 0 as noise) | blurred averages at the end, where the denoiser is told that clean x is noise |
# | gradients never cleared in the training loop | the loss soon rises, and stays high |
# | only the smallest loss watched | a copier has the smallest of all: look at neighbours and at samples |
# | a pixel distance taken as proof | a copy that is shifted by one pixel is "far"; large models are checked with learnt features |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is a diffusion model?",
    "A generative model that learns to undo gradual noising. Training data is mixed with Gaussian noise at "
    "all levels, and a network learns by plain regression to guess the clean data from the noisy data and "
    "its level (or the noise, which is the same).\n\n"
    "To make a sample, start from pure noise and repeat: guess, take a small step to a cleaner level, guess "
    "again. At high noise the best guess is an average, a blur. With each step fewer answers are possible, "
    "and the guess turns into one sample.",
    [
        (
            "Why is the first guess a blur?",
            "The network minimises squared error, and the minimum is the conditional mean E[x₀ | x]. From nearly pure "
            "noise that is the mean of all data (of the wanted class).",
        ),
        (
            "Where does the variety of samples come from?",
            "From the starting noise (and, in samplers that add noise on the way, from that). With the deterministic step "
            "the same noise always gives the same sample.",
        ),
        (
            "Why does it not copy the training set?",
            "The optimum of the training loss would: its denoiser is a weighted average of training pictures, and "
            "sampling with it ends in one of them. A network of limited size and training, with the bias of a U-Net, "
            "does not reach it. The same network on little or repeated data does copy, so it has to be measured.",
        ),
        (
            "How is that different from a GAN?",
            "Regression in place of a game between two networks: stable training and good coverage, paid for with many "
            "evaluations of the network for one sample. Lesson 13 measures both.",
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
                "to guess clean data (or the noise) from noisy data",
                True,
                "Regression on pairs that cost nothing to make. From either guess the other follows.",
            ),
            Choice(
                "to take one step from xₜ to the next cleaner x",
                False,
                "The step is a formula. The network supplies the guess that goes into it.",
            ),
            Choice(
                "to tell real pictures from drawn ones",
                False,
                "That is the discriminator of a GAN. There is no second network here.",
            ),
        ],
    ),
    Question(
        "x lies midway between two equally likely, sharp clusters. What is the best guess x̂₀ in squared error?",
        [
            Choice("one of the two, at random", False, "That has twice the squared error of the middle."),
            Choice(
                "x itself", False, "x is data turned down by α, with noise; the guess is about clean data."
            ),
            Choice("the middle", True, "The mean of what is possible, although no data lies there."),
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
        "Samples of a new model are 0.1 away from the most similar training picture, unseen real ones 5.3. And so?",
        [
            Choice(
                "the model copies its training set", True, "Its samples are far closer than new real data is."
            ),
            Choice(
                "the model is excellent: its samples look real",
                False,
                "Each looks like one training picture. Unseen real data is not that close.",
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
