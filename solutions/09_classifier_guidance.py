# %% [markdown] tags=["header"]
# title: Classifier guidance
# question: How does the gradient of a classifier steer a diffusion model to a class, and what does it cost?
# difficulty: 2
# prerequisites: 03, 08, Bayes' rule
# builds: ClassifierGuidance, NetworkClassifier, class_gradient, classifier_loss, Classifier, ClassifierConfig, networks.classifier

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - ask a classifier, in the midst of sampling, which way a noisy picture becomes more like its class (exercise 09.1)
# - add that direction to a model's guess of the noise, with the right factor (exercise 09.2)
# - find a perfect classifier that steers nowhere (exercise 09.3)
# - say which distribution a guidance scale asks for, and show that the sampler draws another one (exercise 09.4)
# - train a classifier that reads noise, and steer a model to something that it was never told of (exercise 09.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Eight draws of noise, and a model of MNIST digits that is not told any class. Beside it stands a second network, a
# classifier, that calls out at each step: *more like a 3!* Each row says it louder. From which row on is every
# digit a 3? And what else changes from row to row?

# %%
import math

import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, strip
from diffusion_lessons.guidance import ClassifierGuidance, Clip
from diffusion_lessons.samplers import sample

model, reader = zoo.load("mnist-unet"), zoo.load("mnist-noisy-classifier")
digit_denoiser, path = model.denoiser(), model.path
levels = path.levels(25)


def unlabelled(x, level, condition=None):
    """The bundled model without a class: x (B, 1, 32, 32) to an estimate of (x0, eps)."""
    return digit_denoiser(x, level, digit_denoiser.null_condition(len(x)))


start, three = torch.randn(8, 1, 32, 32, generator=generator), torch.full((8,), 3)
rows = {
    f"scale {scale}": sample(Clip(ClassifierGuidance(unlabelled, reader, scale)), start, levels, three)
    for scale in (0, 1, 3, 10)
}
strip(
    rows,
    alt="Eight samples in four rows, from the same noise. At scale 0 digits of all kinds and scribbles; from row to "
    "row more of them are a 3; at scale 10 all are, and they look alike.",
    columns=8,
)

# %% [markdown] tags=["predict"]
# ## Predict
#
# One of these scales is Bayes' rule to the letter: scale 1.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "So why would anyone use scale 3 or 10?",
    [
        Choice(
            "At scale 1 the samples are not yet the class that was asked for",
            True,
            "With trained networks scale 1 falls short, as you see above. What a larger one costs, you measure below.",
        ),
        Choice("Larger scales need fewer steps", False, "The number of steps is the same in every row."),
        Choice(
            "At larger scales the samples keep more of the variety of the data",
            False,
            "The other way round: look how alike the digits of the last row are.",
        ),
        Choice(
            "Nobody would: scale 1 is exact",
            False,
            "It is exact for an exact model and an exact classifier. You check that below, too. Networks are neither.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Bayes' rule as a direction
#
# A model that was trained without labels knows which way a noisy picture becomes more likely: the score (lesson 3).
# We want another direction: which way it becomes more likely *as a 3*.
#
# Bayes' rule says p(x|y) = p(x)·p(y|x)/p(y). Take logarithms, and slopes in x. The product becomes a sum, and p(y) does
# not depend on x, so it is gone. What is left are two directions, added. The model has the first. The second asks how
# the probability of a 3 would change if this pixel or that one were a little brighter. Any classifier can answer that,
# if autograd runs through it to its *input*.
#
# So nothing is retrained. The model never hears of a class, and the classifier never makes a picture.
#
# $$\nabla_{x_t} \log p(x_t \mid y) = \nabla_{x_t} \log p(x_t) + \nabla_{x_t} \log p(y \mid x_t)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_t$ | the noisy picture, at the level of time $t$ | (B, C, H, W) |
# | $y$ | the class asked for | (B,) |
# | $p(y \mid x_t)$ | what a classifier says of the noisy picture: softmax of its logits (B, K), entry $y$ | (B,) |
# | $\nabla_{x_t}$ | slope in each pixel | (B, C, H, W) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 09.1}}


# %% tags=["exercise"]
@exercise("09.1")
def class_gradient(classify, x, y):
    """Which way each sample becomes more like its class: the gradient of log p(y|x) in x.

    classify: x -> logits (B, K); x: (B, ...); y: (B,) whole numbers. Returns (B, ...), like x.
    It is called by a sampler, under torch.no_grad().
    """
    ### BEGIN SOLUTION
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        log_p = classify(z).log_softmax(1).gather(1, y[:, None])  # (B, 1)
        return torch.autograd.grad(log_p.sum(), z)[0]
    ### END SOLUTION


# %% tags=["nbval-check-output"]
# Three clusters, whose p(y|x) is known at every level. Its slope is the score of one minus that of all three (Bayes again).
import matplotlib.pyplot as plt

from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import add_noise

clusters = GaussianMixture([[-1.0, -0.5], [1.0, -0.6], [0.1, 1.0]], [0.2, 0.1, 0.15], [0.5, 0.2, 0.3])
side = torch.linspace(-1.8, 1.8, 11)
grid, right = torch.cartesian_prod(side, side), torch.full((121,), 1)  # (121, 2), the right cluster
times, arrows = (150, 400, 750), []
for t in times:
    level = path(t)
    arrows.append(class_gradient(lambda z: clusters.log_joint(z, level), grid, right))
    scores = (-clusters(grid, level, y).eps / level.sigma for y in (right, None))
    known = next(scores) - next(scores)
    gap = (arrows[-1] - known).abs().max() / known.abs().max()
    print(
        f"t = {t}: longest arrow {known.norm(dim=1).max():6.2f}, yours is off by less than 1e-4 of it: {gap < 1e-4}"
    )

# %%
data, _ = clusters.sample(300, generator)
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), sharey=True)
for ax, t, arrow in zip(axes, times, arrows, strict=True):
    noisy = add_noise(data, torch.randn(data.shape, generator=generator), path(t))
    ax.scatter(*noisy.T, s=3, color="#56B4E9")
    ax.quiver(*grid.T, *arrow.T, width=0.006)
    ax.plot(*(path(t).alpha * clusters.means[1]), "o", color="#D55E00", ms=9)
    ax.set(title=f"t = {t}", xlabel="first coordinate", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
axes[0].set(ylabel="second coordinate")
figure(
    fig,
    alt="Noisy points of three clusters, and arrows of the gradient of log p(right cluster | x). At t = 150 the arrows "
    "are long outside the right cluster's own region and vanish in it. At t = 750 all of them point to the right.",
)

# %% [markdown]
# **What to notice:** p(y|x_t) is another function at each level. Near the data it has sharp borders: long arrows on the
# wrong side, none on the right one. In much noise nobody can be sure, and there is a gentle push everywhere (the arrows
# are scaled to each panel). At t = T nothing can be told, and the push is gone.

# %% [markdown] tags=["idea"]
# ## One line in the sampler
#
# The sampler asks for a guess of the noise, not for a score. But one is the other in different units (lesson 3): the
# score is $-\hat\varepsilon/\sigma_t$. Put that into Bayes' rule, multiply by $-\sigma_t$, and guidance is one more term
# in the guess of the noise. Any sampler takes it as it is.
#
# A factor $s$ in front of the new term, the **guidance scale**, makes the classifier louder. 1 is Bayes' rule and 0 is
# the model alone.
#
# $$\hat\varepsilon_y = \hat\varepsilon - s\,\sigma_t\,\nabla_{x_t} \log p(y \mid x_t), \qquad
# \hat x_{0,y} = \frac{x_t - \sigma_t\,\hat\varepsilon_y}{\alpha_t}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\hat\varepsilon$ | the model's guess of the noise, without a class | (B, C, H, W) |
# | $\hat\varepsilon_y, \hat x_{0,y}$ | guided guesses of noise and picture | (B, C, H, W) |
# | $\alpha_t = \sqrt{\bar\alpha_t},\ \sigma_t = \sqrt{1-\bar\alpha_t}$ | factors of picture and noise | numbers |
# | $s$ | guidance scale, at least 0 | number |

# %% [markdown] tags=["exercise-card"]
# {{exercise 09.2}}


# %% tags=["exercise"]
@exercise("09.2")
def guided_eps(eps, gradient, alpha_bar, scale):
    """The model's guess of the noise, pushed by a classifier.

    eps, gradient: (B, ...), the guess and the slope of log p(y|x); alpha_bar: 0-d tensor, the level;
    scale: a number, 0 for no push. Returns (B, ...).
    """
    ### BEGIN SOLUTION
    return eps - scale * (1 - alpha_bar).sqrt() * gradient
    ### END SOLUTION


# %% [markdown] tags=["exercise-card"]
# Now put the two together. A colleague did so for the three clusters, whose denoiser and classifier are both exact. The
# samples go wrong all the same.
#
# {{exercise 09.3}}


# %% tags=["exercise"]
@exercise("09.3")
def guided(denoiser, classifier, path, x, t, y, scale):
    """The guided guesses (x0, eps) at x (B, ...), time t (0-d), classes y (B,).

    denoiser(x, level) gives (x0, eps); classifier(x, level) gives logits (B, K) of samples at any
    level; path(t) is the level of time t. You may call class_gradient and guided_eps.
    """
    ### BEGIN SOLUTION
    level = path(t)
    _, eps = denoiser(x, level)
    gradient = class_gradient(lambda z: classifier(z, level), x, y)
    eps = guided_eps(eps, gradient, level.alpha**2, scale)
    return (x - level.sigma * eps) / level.alpha, eps
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "I ask the classifier at t = 1, where it is surest, and samples fly off the screen."
    # level = path(t)
    # _, eps = denoiser(x, level)
    # gradient = class_gradient(lambda z: classifier(z, path(1)), x, y)
    # eps = guided_eps(eps, gradient, level.alpha**2, scale)
    # return (x - level.sigma * eps) / level.alpha, eps
    ### END STUDENT


# %%
from diffusion_lessons.denoiser import Estimate


def steer(denoiser, classifier, scale):
    """Your guidance as a denoiser that samplers take: (x, level, y) to an Estimate."""
    return lambda x, level, y: Estimate(*guided(denoiser, classifier, path, x, level.t, y, scale))


def always_clean(x, level):
    """What the colleague asks: the exact classifier, which takes x for nearly clean at every level."""
    return clusters.log_joint(x, path(1))


# %%
n = budget.samples(2000)
y, cloud = torch.zeros(n, dtype=torch.long), torch.randn(n, 2, generator=generator)
wanted = clusters.means[0] + clusters.stds[0] * torch.randn(n, 2, generator=generator)
asked = {
    "the colleague's": ClassifierGuidance(lambda x, level, y: clusters(x, level), always_clean, 1),
    "yours": steer(clusters, clusters.log_joint, 1),
}
clouds = {"data": wanted} | {name: sample(each, cloud, path.levels(100), y) for name, each in asked.items()}
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), sharey=True)
for ax, (name, x) in zip(axes, clouds.items(), strict=True):
    near = ((x - clusters.means[0]).norm(dim=1) < 3 * clusters.stds[0]).double().mean()
    inner = x[(x - clusters.means[0]).norm(dim=1) < 1]  # without those that flew away
    print(
        f"{name:15} {near:6.1%} ± {(near * (1 - near) / n) ** 0.5:.1%} within 3 standard deviations of the centre; "
        f"std {inner.std(0).mean():.3f} ± {inner.std(0).mean() / (4 * n) ** 0.5:.3f}"
    )
    ax.scatter(*data.T, s=3, color="lightgray")
    ax.scatter(*x.T, s=2, color="#0072B2")
    ax.set(title=name, xlabel="first coordinate", xlim=(-2.4, 2), ylim=(-2, 2))
axes[0].set(ylabel="second coordinate")
figure(
    fig,
    alt="Points of the left cluster, and in grey of all three. Yours lie like the data. The colleague's fill the cluster on "
    "the side away from the other two, cut off towards them, and others are strewn far away.",
)

# %% [markdown]
# **What to notice:** with an exact model and an exact classifier, scale 1 draws the cluster as it is, to within the errors.
# The colleague's classifier is exact, too, for clean points. At a noisy one it sees sharp borders that are not there yet, and
# kicks. It has to be exact *at the level of x*.

# %% [markdown] tags=["idea"]
# ## What a larger scale asks for
#
# With real networks scale 1 falls short. Dhariwal and Nichol (2021, section 4.3) guided a model of ImageNet without
# labels: at scale 1 their classifier gave the wanted class about 50 %, and to the eye the samples were something else.
# They turned the scale up to 10.
#
# What does that ask for? Walk back from slopes to densities. A factor in front of a logarithm is a power inside it. So
# the classifier is *sharpened*: where it says 90 % against 10 %, at scale 3 it counts as 99.9 % against 0.1 %.
#
# $$\nabla \log p(x) + s\,\nabla \log p(y \mid x) = \nabla \log\big[\,p(x)\; p(y \mid x)^s\,\big], \qquad
# p_s(x) \propto p(x)\; p(y \mid x)^s$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $p(x, k)$ | joint density of place and class, `log_joint` is its logarithm; $p(x)$ is the sum over $k$ | (G, K) on a grid |
# | $p_s(x)$ | what scale $s$ asks for, up to a constant factor | (G,) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 09.4}}


# %% tags=["exercise"]
@exercise("09.4")
def sharpened(log_joint, y, scale):
    """log of p(x)·p(y|x)^scale at G places, not normalised: (G,).

    log_joint: (G, K), log p(x, k) of each place and class; y: a class, a whole number.
    """
    ### BEGIN SOLUTION
    log_p = log_joint.logsumexp(1)  # (G,)
    return log_p + scale * (log_joint[:, y] - log_p)
    ### END SOLUTION


# %%
# Does the sampler draw what the scale asks for? Two wide bumps on a line, all parts exact, 200 steps: nobody to blame.
bumps = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.6)
line = torch.linspace(-3, 5, 1601, dtype=torch.float64)  # (G,)
at_data = bumps.log_joint(line[:, None], path(0))  # (G, 2)
n = budget.samples(4000)
x = torch.randn(n, 1, generator=generator, dtype=torch.float64)
curves = {}
for scale in (1, 3, 10):
    denoiser = steer(bumps, bumps.log_joint, scale)
    made = sample(denoiser, x, path.levels(200), torch.ones(n, dtype=torch.long))
    chance = sharpened(at_data, 1, scale).softmax(0)  # (G,)
    mean = chance @ line
    std = (chance @ (line - mean) ** 2).sqrt()
    curves[scale] = made, chance / (line[1] - line[0])
    print(f"scale {scale:2}: asked for mean {mean:.3f} and std {std:.3f}, ", end="")
    print(
        f"drawn {made.mean():.3f} ± {made.std() / n**0.5:.3f} and {made.std():.3f} ± {made.std() / (2 * n) ** 0.5:.3f}"
    )

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.5), sharey=True)
for ax, (scale, (made, density)) in zip(axes, curves.items(), strict=True):
    ax.hist(made[:, 0].numpy(), 60, density=True, color="#56B4E9", label="drawn")
    ax.plot(line, density, marker="", color="black", label="asked for")
    ax.set(title=f"scale {scale}", xlabel="x", xlim=(-1.2, 4))
axes[0].set_ylabel("density")
axes[0].legend(fontsize=9)
figure(
    fig,
    alt="Density asked for and histogram of samples. At scale 1 they agree. At scale 3 the samples lie further right and "
    "closer together than asked for, at scale 10 the two hardly overlap.",
)

# %% [markdown]
# **What to notice:** at scale 1 they agree. Beyond, the sampler overshoots, with every part exact. The reason is in your first
# figure: at high levels the classifier is unsure of *every* sample, so all of them are pushed on, those too that would end
# well on the right side. $p_t(x)\,p_t(y|x)^s$ at each level is not what becomes of $p_s$ when noise is added. The scale is a
# knob, not a probability: samples move away from the other classes and together.

# %% [markdown] tags=["idea"]
# ## A classifier that reads noise
#
# For pictures nobody has p(y|x_t). Could we take a classifier off the shelf? Exercise 09.3 says no: it knows clean pictures
# only. Its slope at a noisy one is that of a function which it was never taught.
#
# So the guide has to be trained for the job: pictures of *all* levels, each at a time of its own, and told the time. That is
# ordinary training with the jump of lesson 2 in front.
#
# $$L = \mathbb E_{(x_0, y),\,\varepsilon,\,t}\big[-\log p_\phi(y \mid x_t, t)\big], \qquad x_t = \alpha_t x_0 + \sigma_t \varepsilon$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $p_\phi(y \mid x_t, t)$ | the classifier with weights $\phi$, told the time | (B,) |
# | $t$ | a time for each picture, from 1 to $T$ | (B,) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 09.5}}


# %% tags=["exercise"]
@exercise("09.5")
def noisy_loss(classifier, x0, noise, t, y, alphas_cumprod):
    """The cross-entropy of a classifier on noised samples, one number each: (B,).

    classifier: called as classifier(x, t), gives logits (B, K); x0, noise: (B, ...); t, y: (B,) whole
    numbers; alphas_cumprod: (T + 1,).
    """
    ### BEGIN SOLUTION
    kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
    x = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    return torch.nn.functional.cross_entropy(classifier(x, t), y, reduction="none")
    ### END SOLUTION


# %% [markdown]
# Use it for something that the bundled model was never told of: **bold or fine**. Let the model draw digits (here with its
# labels), and call those bold that have more ink than half of their kind. A small classifier learns that at every level.

# %%
from diffusion_lessons.networks import Classifier, ClassifierConfig

count = budget.samples(500, at_least=100)
digits = torch.arange(count) % 10
album = sample(
    Clip(digit_denoiser), torch.randn(count, 1, 32, 32, generator=generator), path.levels(10), digits
)


def is_bold(x):
    """1 where a picture, the i-th of digit i % 10, has more ink than the median of the album's: (B,)."""
    ink = album.mean((1, 2, 3)).view(-1, 10).median(0).values  # (10,)
    return (x.mean((1, 2, 3)) > ink[torch.arange(len(x)) % 10]).long()


# %%
boldness = Classifier(ClassifierConfig(32, num_classes=2, patch=4, channel_mults=(1, 2), time=True))
optimizer = torch.optim.AdamW(boldness.parameters(), lr=2e-3)
bold, alphas_cumprod = is_bold(album), path.alphas_cumprod.float()
for _ in range(budget.steps(250)):
    index = torch.randint(count, (64,), generator=generator)
    t = torch.randint(1, 1001, (64,), generator=generator)
    noise = torch.randn(64, 1, 32, 32, generator=generator)
    loss = noisy_loss(boldness, album[index], noise, t, bold[index], alphas_cumprod).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
boldness.eval().requires_grad_(False)
print(f"loss of the last step: {loss:.2f} nats, of guessing: 0.69")

# %%
from diffusion_lessons.metrics import wilson_interval


def boldness_reader(x, level):
    """Your classifier as guidance asks it: logits (B, 2) at a level."""
    return boldness(x, level.t.float().expand(len(x)))


m = budget.samples(60, at_least=20)
own, begin = torch.arange(m) % 10, torch.randn(m, 1, 32, 32, generator=generator)
shown = {}
for name, label, scale in (("fine", 0, 5), ("as it comes", 0, 0), ("bold", 1, 5)):
    steered = steer(lambda x, level: digit_denoiser(x, level, own), boldness_reader, scale)
    x = sample(Clip(steered), begin, path.levels(15), torch.full((m,), label))
    shown[name] = x[:10]
    share = int(is_bold(x).sum())
    low, high = wilson_interval(share, m)
    print(f"asked for {name:12} {share / m:4.0%} are bold (95 % interval {low:.0%} to {high:.0%}, n = {m})")
strip(
    shown,
    alt="The digits 0 to 9 in three rows, from the same noise: asked for fine, as they come, asked for bold. Strokes are "
    "thinnest in the first row and thickest in the last.",
    columns=10,
)

# %% [markdown]
# **What to notice:** one model, no retraining, a new property in seconds. That is the strong side of this method. The model
# was told its digit as ever; the boldness came from the guide alone.
#
# And a classifier off the shelf? The bundled one of clean digits is right for 99.5 % of MNIST's test pictures, and has seen a
# little noise and blur in training. We let it guide, and beside it the one that was trained on all levels. Both also judge.

# %%
shelf = zoo.load("mnist-classifier")  # is told no time
guides = {"off the shelf": lambda x, level: shelf(x), "all levels": reader}
pictures = {}
for name, guide in guides.items():
    x = sample(Clip(steer(unlabelled, guide, 4)), begin, path.levels(15), own)
    pictures[name] = x[:10]
    for judge, logits in (("off the shelf", shelf(x)), ("all levels", reader(x, path(1)))):
        hits = int((logits.argmax(1) == own).sum())
        low, high = wilson_interval(hits, m)
        print(
            f"guide {name:13}  judge {judge:13}  {hits / m:4.0%} as asked (95 %: {low:.0%} to {high:.0%}, n = {m})"
        )
strip(
    pictures,
    alt="The digits 0 to 9, asked for at scale 4. Guided by the classifier off the shelf: other digits and scribbles. By the "
    "classifier of all levels: nearly all are the digit asked for.",
    columns=10,
)

# %%
times, hits, costs = (1, *range(100, 1001, 100)), {name: [] for name in guides}, {name: [] for name in guides}
for name, guide in guides.items():
    for t in times:
        x = add_noise(album, torch.randn(album.shape, generator=generator), path(t))
        log_p = guide(x, path(t)).log_softmax(1)  # (count, 10)
        hits[name].append(int((log_p.argmax(1) == digits).sum()))
        costs[name].append(-log_p[range(count), digits])
    print(
        f"{name:13} at t = 800: {hits[name][8] / count:.0%} read, loss {costs[name][8].mean():.2f} nats (guessing: 2.30)"
    )

# %% jupyter={"source_hidden": true}
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.6))
for name, mark in zip(guides, ("s--", "o-"), strict=True):
    low, high = torch.tensor([wilson_interval(each, count) for each in hits[name]]).T.numpy()
    share, cost = torch.tensor(hits[name]).numpy() / count, torch.stack(costs[name])  # (11,), (11, count)
    left.errorbar(times, share, yerr=[share - low, high - share], fmt=mark, capsize=2, label=name)
    right.errorbar(times, cost.mean(1), yerr=2 * cost.std(1) / count**0.5, fmt=mark, capsize=2, label=name)
left.axhline(0.1, color="gray", linestyle=":", label="guessing")
right.axhline(math.log(10), color="gray", linestyle=":")
left.set(xlabel="t", ylabel="share recognised", ylim=(0, 1.05))
right.set(xlabel="t", ylabel="−log p(y|x), nats")
left.legend(fontsize=9)
figure(
    fig,
    alt="Two classifiers on noised digits over t. Left, the share recognised, with 95 % intervals: alike to t = 300, then the one "
    "off the shelf falls first. Right, the loss: trained on all levels it rises to that of guessing, 2.3, at t = 1000; off the "
    "shelf it passes that line near t = 800 and reaches about 3.",
)

# %% [markdown]
# **What to notice:** up to t = 300 both classifiers read equally well. Above, where it is decided which digit a sample becomes, the
# one off the shelf is wrong and does not know it: near t = 800 its loss passes that of guessing. So it pushes with confidence,
# and not towards the digit. And each classifier is a little kinder to its own work: never let the guide be the judge.

# %% [markdown] tags=["experiment"]
# ## Experiment: fidelity against variety
#
# The claim: guidance makes samples sharp and on target, and takes their variety. First a few pictures, here and now.
# **Accuracy** is how often the classifier off the shelf, which is not the guide, sees the digit asked for. **Apart** is how far
# two samples that were asked for the same digit are from each other.
#
# Below it stands the recorded experiment, with more pictures, ten scales and finer measures. **Precision** is the share of drawn
# pictures that lie among real ones, **recall** the share of real ones that lie among the drawn; these and the Fréchet distance
# are {{built-in 20}}. `diffusion-lessons experiment guidance-scales` runs it again.

# %%
few, here = torch.arange(budget.samples(80, at_least=20)) % 10, {}
pairs = torch.combinations(torch.arange(len(few) // 10))
noise = torch.randn(len(few), 1, 32, 32, generator=generator)
for scale in (0, 1, 4, 10):
    x = sample(Clip(steer(unlabelled, reader, scale)), noise, levels, few)
    hits, by_digit = int((shelf(x).argmax(1) == few).sum()), x.view(-1, 10, 32, 32)
    apart = (by_digit[pairs[:, 0]] - by_digit[pairs[:, 1]]).square().mean((2, 3)).sqrt().mean(0)  # (10,)
    here[scale] = (hits / len(few), *wilson_interval(hits, len(few)))
    print(
        "scale {:2}   accuracy {:4.0%} (95 %: {:.0%} to {:.0%})".format(scale, *here[scale]),
        f"  apart {apart.mean():.3f} ± {apart.std() / 10**0.5:.3f} (rms of the pixels)",
    )
print(f"n = {len(few)}, 25 steps; ± one standard error over the ten digits")

# %%
# Recorded, not run here.
from diffusion_lessons.experiments import recorded

kept, columns = recorded("guidance-scales"), ("accuracy", "precision", "recall", "frechet")
by_scale = {
    method: {row["settings"]["scale"]: row for row in kept["rows"] if row["settings"]["method"] == method}
    for method in ("classifier", "classifier-free")
}
guided_rows, told = by_scale["classifier"], by_scale["classifier-free"][1.0]
print(f"n = {kept['options']['n']}, {kept['hardware']['processor']}, ± one standard error")
print("scale      " + "".join(f"{name:17}" for name in columns))
for scale, row in {**guided_rows, "label": told}.items():
    print(f"{scale!s:8}" + "  ".join(f"{row[name]:7.3f} ± {row[name + '_error']:.3f}" for name in columns))
print("label: no guide; the model itself is told the label")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(8.6, 2.8))
scales = list(guided_rows)
for ax, name, mark in (
    (0, "accuracy", "o-"),
    (1, "precision", "s--"),
    (1, "recall", "^-"),
    (2, "frechet", "D-"),
):
    value, error = torch.tensor([(row[name], row[f"{name}_error"]) for row in guided_rows.values()]).T.numpy()
    axes[ax].errorbar(
        scales, value, yerr=2 * error, fmt=mark, capsize=2, label=name if ax == 1 else "recorded"
    )
share, low, high = torch.tensor(list(here.values())).T.numpy()
axes[0].errorbar(list(here), share, yerr=[share - low, high - share], fmt="X", ms=8, capsize=4, label="here")
axes[2].axhline(told["frechet"], color="gray", linestyle="--", label="told the label")
for ax, name in zip(axes, ("accuracy", "precision and recall", "Fréchet distance"), strict=True):
    ax.set(title=name, xlabel="guidance scale", ylim=(0, None))
    ax.legend(fontsize=8)
figure(
    fig,
    alt="Over the guidance scale, with bars of two standard errors. Accuracy climbs from 0.08 to 0.96, here and recorded. Recall "
    "falls from 0.94 to 0.79 while precision, after a dip at 0.5, rises to 0.61. The Fréchet distance falls from 3.5 to 1.6 at "
    "scale 4 and rises again; the model that is told the label has 0.47.",
)

# %% [markdown]
# **The result:** accuracy climbs from that of chance to 0.96, and recall pays for it, 0.94 to 0.79. So far the claim holds.
# Sharpness is slower to come. Precision falls at first, from 0.51 to 0.37, and is above its start only from scale 4 on; the
# Fréchet distance is best near there and rises again. And mind the last line: the same network, merely *told* the label, is far
# better. A guide chooses among what the model can draw. This model was trained to draw without a label in one case of ten.
#
# Published beside it (Dhariwal and Nichol 2021, table 4; precision, recall, FID; other data and features, so compare the shape):
#
# | scale | here, MNIST, no label | published, ImageNet 256, no label | published, ImageNet 256, label and guide |
# |---|---|---|---|
# | 0 | 0.51, 0.94, 3.5 | 0.61, 0.63, 26.2 | 0.69, 0.63, 10.9 |
# | 1 | 0.42, 0.93, 2.9 | 0.56, 0.65, 33.0 | 0.82, 0.52, 4.6 |
# | 10 | 0.61, 0.79, 1.8 | 0.76, 0.44, 12.0 | 0.88, 0.32, 9.1 |
#
# Their unlabelled model dips at scale 1 as ours does. With a label to begin with, scale 1 is a gain at once, and 10 is too much.

# %% [markdown] tags=["play"]
# ## Play
#
# The same ten draws of noise, asked for 0 to 9, and 500 points asked for the left cluster. Turn the scale up slowly. When does
# each digit become what was asked for? And after that, what still changes?

# %%
from diffusion_lessons.course import Points, scrub

scales = [0, 0.5, 1, 2, 3, 4, 6, 8, 12, 20]
ten, noise = torch.arange(10), torch.randn(10, 1, 32, 32, generator=generator)
frames, points = [], []
for scale in scales:
    x = sample(Clip(steer(unlabelled, reader, scale)), noise, path.levels(20), ten)
    frames.append(x.view(2, 5, 32, 32).permute(0, 2, 1, 3).reshape(1, 64, 160))
    points.append(sample(steer(clusters, clusters.log_joint, scale), cloud[:500], path.levels(50), y[:500]))
scrub(
    {
        "asked for 0 to 9": torch.stack(frames),
        "left cluster": Points(torch.stack(points), span=2, behind=data),
    },
    [f"scale {scale:g}" for scale in scales],
    alt="Over the scale from 0 to 20: ten digits become the ones asked for and then thicker and plainer; a cloud of points over "
    "three clusters gathers in the left one, then shrinks and leaves it to the outside.",
    columns=6,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# diffusers has no class for classifier guidance in its core. So we hold yours to two others: the package's own, and the closed
# form, where no autograd takes part. By Bayes' rule the guided score at scale s is that of all three clusters, plus s times the
# difference between the score of one and that of all.

# %%
exact = GaussianMixture(clusters.means.double(), clusters.stds.double(), clusters.weights.double())
x = torch.randn(200, 2, generator=generator, dtype=torch.float64)
any_y, gaps = torch.arange(200) % 3, {"the package's ClassifierGuidance": [], "the closed form": []}
for t in (1, 10, 100, 300, 600, 900, 999):
    for scale in (0.5, 1, 4):
        level = path(t)
        _, eps = guided(exact, exact.log_joint, path, x, level.t, any_y, scale)
        alone, theirs = (
            exact(x, level).eps,
            ClassifierGuidance(lambda x, level, y: exact(x, level), exact.log_joint, scale),
        )
        closed = alone + scale * (exact(x, level, any_y).eps - alone)
        for name, given in zip(gaps, (theirs(x, level, any_y).eps, closed), strict=True):
            gaps[name].append(((eps - given).abs().max() / given.abs().max()).item())
for name, values in gaps.items():
    print(f"largest relative difference of your guided ε from {name}: {max(values):.0e}")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | a classifier of clean pictures | at high levels its slope is noise: wrong digits and scribbles at any scale |
# | the classifier is not told the time, or another convention of it (t or t − 1) | works a little, and never well |
# | $\sigma_t$ forgotten | hard to see: where the push is large, $\sigma_t$ is near 1; too strong late in sampling |
# | the mean over the batch | guidance fades as the batch grows |
# | gradient of p, or of the logit | no push where it is needed most, or one that never ends |
# | sampling under `inference_mode` | an error: only `no_grad` can be lifted inside |
# | BatchNorm in the classifier, in training mode | samples of a batch push each other |
# | slope at $\alpha\hat x_0$ in place of $x_t$, in this form | samples too wide: 0.26 in place of 0.20 for the left cluster at scale 1 |
# | slope at $x_t$ in the *ancestral* form (algorithm 1), where it belongs at the mean of the step | hardly any: the authors' code has it, and they saw no change when they mended it (guided-diffusion, issue 51) |
# | the guide also judges | too kind an accuracy: some of the push goes into what only the guide takes for the class |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is classifier guidance?",
    "A way to make an unconditional diffusion model conditional, or a conditional one more so, at sampling time. Bayes' rule "
    "splits the wanted score: ∇ log p(xₜ | y) = ∇ log p(xₜ) + ∇ log p(y | xₜ). The model has the first term, the gradient of a "
    "classifier in its input is the second. In code: ε̂ − s·σₜ·∇ log p(y | xₜ), then sample as ever.\n\n"
    "The classifier has to be trained on noisy pictures of all levels. The scale s trades variety for fidelity: above 1 samples "
    "are more surely of their class, and more alike. The price is a second network, trained and run with a backward pass at "
    "each step.",
    [
        (
            "Why not a classifier off the shelf?",
            "It knows clean pictures. At a noisy one its gradient is arbitrary, and most of the picture is decided at noisy levels.",
        ),
        (
            "Does scale s sample from p(x)·p(y|x)ˢ?",
            "Only at s = 0 and s = 1. The noised version of that density has another score than pₜ(x)·pₜ(y|x)ˢ; the sampler "
            "overshoots, even with exact parts.",
        ),
        (
            "You sum log p over the batch before the gradient. Doesn't that mix samples?",
            "No: each term depends on its own sample alone, so each gets its own gradient. The mean would divide them by B.",
        ),
        (
            "Why did classifier-free guidance replace it?",
            "One network in place of two, no backward pass, and text works as a condition. The idea stays: it takes the same "
            "second term from the model itself. Lesson 10.",
        ),
        (
            "When is it still the right tool?",
            "When the condition comes after training: any differentiable property that can be read from noisy samples.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Where has p(y) gone from the guided score?",
        [
            Choice(
                "It is 1, since y was chosen", False, "p(y) is how frequent the class is in the data, not 1."
            ),
            Choice("It does not depend on x, so its slope is 0", True, "Only what depends on x steers."),
            Choice(
                "The classifier has learned it",
                False,
                "It is part of p(y|x), true. But that is not why p(y) itself drops out.",
            ),
        ],
    ),
    Question(
        "At some level the classifier gives the wanted class 99.99 % for a sample. What does guidance at scale 1 do to it?",
        [
            Choice(
                "pushes hardest, since it is surest", False, "The slope of log p is flat where p is nearly 1."
            ),
            Choice("next to nothing", True, "log p cannot rise any more. The model alone decides."),
            Choice("pulls it back to 50 %", False, "Nothing pulls down: the term only climbs log p(y|x)."),
        ],
    ),
    Question(
        "ε̂ comes from a network that was told the class already. You guide it at scale 1, too. Which density is that at each level?",
        [
            Choice("p(x|y)", False, "That is the network alone. The classifier's term comes on top."),
            Choice(
                "p(x|y)·p(y|x)",
                True,
                "As much as scale 2 on the unlabelled model. The last column of the published table is of this kind.",
            ),
            Choice("p(x)·p(y|x)", False, "That would be the unlabelled network at scale 1."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A guided sampler at B = 1 and at B = 64, same noise and labels, gives visibly weaker guidance at 64. Where do you look?",
        [
            Choice("the learning rate", False, "Nothing is trained in sampling."),
            Choice(
                "the reduction of log p over the batch",
                True,
                "cross_entropy takes the mean unless told otherwise: pushes are divided by 64.",
            ),
            Choice("the guidance scale", False, "It is the same number in both runs."),
        ],
    ),
    Question(
        "Precision rises with the scale and recall falls. What do you see in the pictures?",
        [
            Choice(
                "clearer digits, more alike",
                True,
                "Each is more surely real-looking, and together they cover less.",
            ),
            Choice("blurred digits of all kinds", False, "That would be low precision and high recall."),
            Choice(
                "copies of training pictures",
                False,
                "Neither figure says that; a nearest-neighbour check would (lesson 1).",
            ),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Dhariwal and Nichol 2021, *Diffusion Models Beat GANs on Image Synthesis*, arXiv 2105.05233: section 4, algorithms 1 and 2
#   (algorithm 2 is yours); section 4.3 and figure 3, the scale; table 4, the published figures above.
# - Sohl-Dickstein et al. 2015, *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, arXiv 1503.03585: section 2.5,
#   where multiplying in a second distribution comes from.
# - Song et al. 2021, *Score-Based Generative Modeling through Stochastic Differential Equations*, arXiv 2011.13456: section 5,
#   eq. 14, conditional scores.
# - Chidambaram et al. 2024, *What Does Guidance Do? A Fine-Grained Analysis in a Simple Setting*, arXiv 2409.13074: the
#   overshoot, proved for mixtures.
# - Bradley and Nakkiran 2024, *Classifier-Free Guidance is a Predictor-Corrector*, arXiv 2408.09000: section 3, the same for the
#   guidance of the next lesson.
# - Bansal et al. 2023, *Universal Guidance for Diffusion Models*, arXiv 2302.07121: a way round the noisy classifier.
#
# You needed a second network, and trained it for noise. Can the diffusion model be its own classifier? {{lesson 10}}.
