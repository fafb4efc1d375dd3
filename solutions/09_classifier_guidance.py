# %% [markdown] tags=["header"]
# title: Classifier guidance
# question: How does the gradient of a classifier steer a diffusion model to a class, and what does it cost?
# difficulty: 2
# prerequisites: 03, 08, Bayes' rule
# builds: ClassifierGuidance, NetworkClassifier, class_gradient, classifier_loss, Classifier, ClassifierConfig, networks.classifier

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - ask a classifier, in the middle of sampling, which way a noisy picture becomes more like its class (exercise 09.1)
# - push a model's guess of the noise that way, and build the sampler around it (exercises 09.2 and 09.6)
# - find the mistake in a guided sampler whose parts are all exact (exercise 09.3)
# - say which distribution a guidance scale asks for, and show that the sampler draws another one (exercise 09.4)
# - train a classifier that reads noise, and steer a model to something that it was never told of (exercise 09.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Six draws of noise, and a model of MNIST digits that is not told any class. A second network, a classifier, looks on.
# At each step it says: *more like a 3!* At scale 0 nobody listens to it. At scale 1 the model listens, and at
# scale 4 it listens four times as much. When do the three panels begin to differ? And what stays the same?

# %%
import math

import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.guidance import ClassifierGuidance, Clip
from diffusion_lessons.samplers import sample, trajectory

model, reader = zoo.load("mnist-unet"), zoo.load("mnist-noisy-classifier")
digit_denoiser, path = model.denoiser(), model.path
levels = path.levels(24)  # 24 steps, from t = 1000 to 0


def unlabelled(x, level, condition=None):
    """The bundled model without a class: x (B, 1, 32, 32) to an estimate of (x0, eps)."""
    return digit_denoiser(x, level, digit_denoiser.null_condition(len(x)))


def tiled(x):  # six pictures (6, 1, 32, 32) as one (1, 64, 96), in few greys to keep the file small
    return (8 * x.view(2, 3, 32, 32).transpose(1, 2).reshape(1, 64, 96)).round() / 8


start, threes = torch.randn(6, 1, 32, 32, generator=generator), torch.full((6,), 3)
rows = {}
for scale in (0, 1, 4):
    denoiser = Clip(ClassifierGuidance(unlabelled, reader, scale))
    seen = [tiled(x) for _, x, _ in trajectory(denoiser, start, levels, threes)]
    rows[f"scale {scale}"] = torch.stack(seen[::4])  # every fourth level: (7, 1, 64, 96)
scrub(
    rows,
    levels[::4],
    alt="Three times six pictures, from the same noise at t = 1000 down to data. At scale 0 digits of several kinds. At "
    "scale 1 some of them are a 3. At scale 4 all can be read as a 3, with the slant and the place of the digit above it.",
    title="Scrub from noise to digits",
    columns=3,
)

# %% [markdown] tags=["guess"]
# ## Guess
#
# You have a model that draws digits of any kind, and a classifier. You want a 3. You may train neither of them again.
# **How would you do it?** Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Draw many, keep the threes.* It works, and about ten digits are drawn for one that is kept. Of a thousand classes
#   it would be a thousand.
# - *Draw a digit, then change its pixels until the classifier says 3.* The classifier is soon content, with a change that
#   hardly anybody sees: an adversarial example. The picture stays what it was. The model has to have a say, too.
# - *Push a little at each step of sampling*, towards what the classifier takes for a 3. After each push the model goes on,
#   and makes a digit of what it finds. That is this lesson. How hard to push? Bayes' rule knows.
# - *Tell the model the class.* Then it has to be trained again, with labels. That is lesson 10.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# Bayes' rule has an answer to the question how hard to push. It is scale 1.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "So why would anyone use scale 4 or 10?",
    [
        Choice(
            "At scale 1 some samples are not of the class that was asked for",
            True,
            "With trained networks scale 1 falls short, as you see above. What a larger scale costs, you measure below.",
        ),
        Choice("Larger scales need fewer steps", False, "The number of steps is the same in every row."),
        Choice(
            "At larger scales the samples keep more of the variety of the data",
            False,
            "The other way round: you measure below how much of the variety is lost.",
        ),
        Choice(
            "Nobody would: scale 1 is exact",
            False,
            "It is exact for an exact model and an exact classifier. You check that below, too. Networks are not exact.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Bayes' rule as a direction
#
# A model that was trained without labels knows which way a noisy picture becomes more likely: the score (lesson 3).
# We want another direction: which way it becomes more likely *as a 3*.
#
# Bayes' rule says p(x|y) = p(x)·p(y|x)/p(y). Take logarithms, and gradients in x. The product becomes a sum. p(y) does
# not depend on x, so its gradient is 0. Two directions are left, and they are added.
#
# The model has the first direction. The second one asks how the log-probability of a 3 would change if this pixel or that
# one were a little brighter. A classifier can answer, if autograd runs through it to its *input*.
#
# So no network is trained again. The model never hears of a class, and the classifier never makes a picture.
#
# $$\nabla_{x_t} \log p(x_t \mid y) = \nabla_{x_t} \log p(x_t) + \nabla_{x_t} \log p(y \mid x_t)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_t$ | the noisy picture, at the level of time $t$ | (B, C, H, W) |
# | $y$ | the class asked for | (B,) |
# | $p(y \mid x_t)$ | what a classifier says of the noisy picture: softmax of its logits (B, K), entry $y$ | (B,) |
# | $\nabla_{x_t}$ | gradient: slope in each pixel | (B, C, H, W) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 09.1}}


# %% tags=["exercise"]
@exercise("09.1")
def class_gradient(classify, x, y):
    """Which way each sample becomes more like its class: the gradient of log p(y|x) in x.

    classify: x -> logits (B, K), its weights are frozen; x: (B, ...); y: (B,) whole numbers.
    A sampler calls you under torch.no_grad(). Returns (B, ...), like x; it need not require a gradient itself.
    """
    ### BEGIN SOLUTION
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        log_p = classify(z).log_softmax(1).gather(1, y[:, None])  # (B, 1)
        return torch.autograd.grad(log_p.sum(), z)[0]
    ### END SOLUTION


# %% tags=["nbval-check-output"]
# Three clusters, whose p(y|x) is known at every level. By Bayes' rule its gradient is a difference of two scores.
import matplotlib.pyplot as plt

from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import add_noise

clusters = GaussianMixture([[-1.0, -0.5], [1.0, -0.6], [0.1, 1.0]], [0.2, 0.1, 0.15], [0.5, 0.2, 0.3])
side = torch.linspace(-1.8, 1.8, 9)
grid, right = torch.cartesian_prod(side, side), torch.full((81,), 1)  # (81, 2), the right cluster
times, arrows = (150, 400, 750), []
for t in times:
    level = path(t)
    arrows.append(class_gradient(lambda z: clusters.log_joint(z, level), grid, right))
    score_of_one = -clusters(grid, level, right).eps / level.sigma
    score_of_all = -clusters(grid, level).eps / level.sigma
    known = score_of_one - score_of_all
    gap = (arrows[-1] - known).abs().max() / known.abs().max()
    longest = known.norm(dim=1).max()
    print(f"t = {t}: longest arrow {longest:6.2f}, yours is off by less than 1e-4 of it: {gap < 1e-4}")

# %% jupyter={"source_hidden": true}
data, _ = clusters.sample(300, generator)
fig, axes = plt.subplots(1, 3, figsize=(7.2, 2.6), sharey=True)
for ax, t, arrow in zip(axes, times, arrows, strict=True):
    noisy = add_noise(data, torch.randn(data.shape, generator=generator), path(t))
    ax.scatter(*noisy[:150].T, s=3, color="#56B4E9")
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
# **What to notice:** p(y|x_t) is another function at each level. Near the data its borders are sharp: long arrows on the
# wrong side, none on the right side. In much noise the classifier cannot be sure, and there is a gentle push everywhere
# (arrows are scaled to each panel; the longest is printed above). At t = T almost nothing can be told, and the push is
# almost 0.

# %% [markdown] tags=["idea"]
# ## One line in the sampler
#
# The sampler asks for a guess of the noise, not for a score. The two differ by a factor (lesson 3): the score is
# $-\hat\varepsilon/\sigma_t$. Put that into Bayes' rule, and multiply by $-\sigma_t$. Then guidance is one more term in
# the guess of the noise. The sampler stays as it is.
#
# The new term has a factor $s$, the **guidance scale**. 0 is the model alone, 1 is Bayes' rule, and above 1 the
# classifier is louder.
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
# Now the whole sampler. It goes from noise to samples with DDIM's step (lesson 8), and asks the classifier at each level.
# From here on your sampler draws the pictures of this lesson.
#
# {{exercise 09.6}}


# %% tags=["exercise"]
@exercise("09.6")
def guided_walk(denoiser, classifier, x, levels, y, scale, bound=float("inf")):
    """From noise to samples of the classes y, by DDIM steps (eta = 0) that a classifier guides.

    denoiser(x, level) gives (x0, eps); classifier(x, level) gives logits (B, K); x: (B, ...), noise at
    levels[0]; levels: a list, each with .alpha and .sigma (0-d tensors); y: (B,). At each level but the last:
    guide eps, work out x0 from it, keep every entry of x0 within -bound and bound, work out eps anew, step.
    Returns x at every level, stacked: (len(levels), B, ...), first the x that was given.
    """
    ### BEGIN SOLUTION
    walk = [x]
    for i in range(len(levels) - 1):
        now, after = levels[i], levels[i + 1]
        with torch.no_grad():
            _, eps = denoiser(x, now)
        gradient = class_gradient(lambda z: classifier(z, now), x, y)
        eps = guided_eps(eps, gradient, now.alpha**2, scale)
        x0 = ((x - now.sigma * eps) / now.alpha).clamp(-bound, bound)
        eps = (x - now.alpha * x0) / now.sigma  # x0 and eps make up x again
        x = after.alpha * x0 + after.sigma * eps
        walk.append(x)
    return torch.stack(walk)
    ### END SOLUTION


# %%
start_of_ten, ten = torch.randn(10, 1, 32, 32, generator=generator), torch.arange(10)
rows = {}
for scale in (0, 1, 4, 10):
    rows[f"scale {scale}"] = guided_walk(unlabelled, reader, start_of_ten, levels, ten, scale, bound=1)[-1]
strip(
    rows,
    alt="Four rows of ten pictures from the same noise, asked for 0 to 9. At scale 0 the kinds of digits have nothing to do "
    "with what was asked for. From row to row more are right; at scales 4 and 10 nearly all are.",
    columns=10,
)

# %% [markdown]
# Digits on demand, from a model that is told no class. How does the push work on the way? In the plane all parts are exact, and
# can be drawn. Three clusters again, and 300 points that are asked for the left cluster.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Points, landscape

shown, some, left = (
    path.levels(48)[::4],
    torch.randn(300, 2, generator=generator),
    torch.zeros(300, dtype=torch.long),
)
only_left = GaussianMixture(clusters.means[:1], clusters.stds[:1])
alone = guided_walk(clusters, clusters.log_joint, some, path.levels(48), left, 0)[::4]
asked = guided_walk(clusters, clusters.log_joint, some, path.levels(48), left, 1)[::4]


def squares(n):
    """(n², 2) the middles of n × n squares, row by row from the top."""
    middles = (torch.arange(n) + 0.5) / n * 4.4 - 2.2
    return torch.cartesian_prod(middles.flip(0), middles).flip(1)


fine, coarse, sure, pushes = squares(32), squares(11), [], []
for level in shown:
    sure.append(clusters.posterior(fine, level)[:, 0].view(32, 32))
    push = level.sigma * class_gradient(lambda z: clusters.log_joint(z, level), coarse, left[:121])
    pushes.append(torch.cat([coarse, push * 0.4 / push.norm(dim=1).max().clamp(min=1e-6)], 1))
scrub(
    {
        "model alone": landscape(clusters, shown, alone, span=2.2, cells=32),
        "classifier": Points(asked, 2.2, density=torch.stack(sure), arrows=torch.stack(pushes)),
        "both": landscape(only_left, shown, asked, span=2.2, cells=32),
    },
    shown,
    alt="300 points from t = 1000 to 0, three rows. Model alone: over the density of all three clusters and its score, the "
    "points part into the three. Classifier: over the probability of the left cluster, whose border gets sharper, arrows "
    "lead to the left; the points follow. Both: all points end in the left cluster and stay inside its density.",
    title="Scrub from noise to the left cluster",
    columns=4,
)

# %% [markdown]
# **What to notice:** the shades and arrows of the first panel are the density of the noisy data and its score. Those of the
# second panel are the classifier: p(left | x_t) and the gradient of its logarithm. The sum of score and gradient is the score
# of the left cluster alone. The third panel shows that score and density, computed without a classifier. The guided points
# stay inside. (Each level has its own shades and lengths of arrows: at t = 1000 the classifier's even shade means that it
# says the same everywhere.)

# %% [markdown] tags=["exercise-card"]
# A colleague wrote one step of this sampler as a denoiser, for the three clusters. Denoiser and classifier are both exact.
# The samples go wrong all the same.
#
# {{exercise 09.3}}


# %% tags=["exercise"]
@exercise("09.3")
def guided(denoiser, classifier, path, x, t, y, scale):
    """The guided guesses (x0, eps) at x (B, ...), time t (0-d), classes y (B,).

    denoiser(x, level) gives (x0, eps); classifier(x, level) gives logits (B, K) of samples at any
    level; path(t) is the level of time t. You may call class_gradient and guided_eps. The two that you
    return make up x: x = alpha * x0 + sigma * eps.
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

n = budget.samples(2000)
y, cloud = torch.zeros(n, dtype=torch.long), torch.randn(n, 2, generator=generator)
wanted = clusters.means[0] + clusters.stds[0] * torch.randn(n, 2, generator=generator)


def always_clean(x, level):
    """The exact classifier, asked as the colleague asks: it takes x for nearly clean at every level."""
    return clusters.log_joint(x, path(1))


def yours(x, level, y):
    """Your exercise 09.3 as a denoiser that samplers take."""
    return Estimate(*guided(clusters, clusters.log_joint, path, x, level.t, y, 1))


clouds = {
    "data": wanted,
    "the colleague's": guided_walk(clusters, always_clean, cloud, path.levels(100), y, 1)[-1],
    "yours": sample(yours, cloud, path.levels(100), y),
}

# %%
for name, x in clouds.items():
    distance = (x - clusters.means[0]).norm(dim=1)
    near = (distance < 3 * clusters.stds[0]).double().mean()
    spread = x[distance < 1].std(0).mean()  # without those that flew away
    print(f"{name:15} {near:6.1%} within 3 standard deviations of the centre; spread {spread:.3f}")
print(f"n = {n}; one standard error, over samples: at most 1.1 % and {0.2 / (4 * n) ** 0.5:.3f}")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(8, 3), sharey=True)
for ax, (name, x) in zip(axes, clouds.items(), strict=True):
    ax.scatter(*data.T, s=3, color="lightgray")
    ax.scatter(*x.T, s=2, color="#0072B2")
    ax.set(title=name, xlabel="first coordinate", xlim=(-2.4, 2), ylim=(-2, 2))
axes[0].set(ylabel="second coordinate")
figure(
    fig,
    alt="Points of the left cluster, and in grey of all three. Yours lie like the data. The colleague's fill the cluster on "
    "the side away from the other two, cut off towards them. More than half of them lie outside the picture.",
)

# %% [markdown]
# **What to notice:** with an exact model and an exact classifier, scale 1 draws the cluster nearly as it is (the 100 DDIM steps
# leave the spread a few percent too small, with or without a guide). The colleague's classifier is exact, too, for clean points.
# At a noisy point it sees sharp borders that are not there yet, and pushes much too hard: more than half of the points land
# outside the picture. Asked at x_t, a classifier has to be right *at the level of x_t*.

# %% [markdown] tags=["idea"]
# ## What a larger scale asks for
#
# With real networks scale 1 falls short. Dhariwal and Nichol (2021, section 4.3) guided a model of ImageNet without
# labels. At scale 1 their classifier gave the wanted class about 50 %, and to the eye the samples were something else.
# They turned the scale up to 10.
#
# What does that ask for? Walk back from gradients to densities. A factor in front of a logarithm is a power inside it. So
# the classifier is *sharpened*. Where it says 90 % against 10 %, at scale 3 it counts as 99.9 % against 0.1 %.
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

    log_joint: (G, K), log p(x, k) of each place and class; y: a class, a whole number. It has to hold, too,
    where p(x) rounds to 0. "Not normalised": no constant is added or taken away.
    """
    ### BEGIN SOLUTION
    log_p = log_joint.logsumexp(1)  # (G,)
    return log_p + scale * (log_joint[:, y] - log_p)
    ### END SOLUTION


# %%
# Does the sampler draw what the scale asks for? Two wide bumps on a line, all parts exact, 200 steps.
bumps = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.6)
line = torch.linspace(-3, 5, 1601, dtype=torch.float64)  # (G,)
at_data = bumps.log_joint(line[:, None], path(0))  # (G, 2)
n = budget.samples(4000)
x, ones = torch.randn(n, 1, generator=generator, dtype=torch.float64), torch.ones(n, dtype=torch.long)
curves = {}
for scale in (1, 3, 10):
    made = guided_walk(bumps, bumps.log_joint, x, path.levels(200), ones, scale)[-1]
    chance = sharpened(at_data, 1, scale).softmax(0)  # (G,)
    mean = chance @ line
    std = (chance @ (line - mean) ** 2).sqrt()
    curves[scale] = made, chance / (line[1] - line[0])
    print(f"scale {scale:2}: asked for mean {mean:.3f}, std {std:.3f}", end="; ")
    error = made.std() / n**0.5
    print(f"drawn {made.mean():.3f} ± {error:.3f}, {made.std():.3f} ± {error / 2**0.5:.3f}")
print(f"± one standard error over {n} samples")

# %%
# Scale 10 only below t = 300, and scale 1 above.
steps = path.levels(200)  # steps[140] is t = 300
early = guided_walk(bumps, bumps.log_joint, x, steps[:141], ones, 1)[-1]
late = guided_walk(bumps, bumps.log_joint, early, steps[140:], ones, 10)[-1]
print(f"drawn mean {late.mean():.3f} ± {late.std() / n**0.5:.3f}")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(8, 2.8), sharey=True)
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
# **What to notice:** at scale 1 they agree. At larger scales the sampler overshoots, although every part is exact. The reason
# is in your first figure. At high levels the classifier is unsure of *every* sample. So all samples are pushed, also those that
# would end well on the right side. Without the extra push at high levels, scale 10 draws a mean of 1.17 in place of 2.57; 1.20
# was asked for. $p_t(x)\,p_t(y|x)^s$ at each level is not what $p_s$ becomes when noise is added. So the scale is a knob and
# not a power of a probability: samples move away from the other classes and closer together.

# %% [markdown] tags=["idea"]
# ## A classifier that reads noise
#
# For pictures nobody knows p(y|x_t). Where do we get a classifier? A **clean classifier** is trained on clean pictures, and
# has never seen a noisy one. Asked at x_t, it makes the colleague's mistake.
#
# There are two ways out. The first, of Dhariwal and Nichol, is a **noise-trained classifier**: it learns from pictures of *all*
# levels, each at a time of its own, and is told the time. That is ordinary training with the jump of lesson 2 in front.
#
# The second way needs no training. Show the clean classifier a clean picture: the model's guess x̂₀. You compare both below.
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
    numbers; alphas_cumprod: (T + 1,), in the dtype of x0. Returns the dtype of the logits.
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
from diffusion_lessons.course import Watched
from diffusion_lessons.metrics import wilson_interval
from diffusion_lessons.networks import Classifier, ClassifierConfig

count, short = budget.samples(400, at_least=100), path.levels(15)
digits = torch.arange(count) % 10  # 0 to 9, again and again
draws = torch.randn(count, 1, 32, 32, generator=generator)
album = sample(Clip(digit_denoiser), draws, short, digits)  # told its labels, not guided
ink = album.mean((1, 2, 3))  # (count,)
usual = torch.stack([ink[digits == digit].median() for digit in range(10)])  # (10,)


def is_bold(x, digits):
    """1 where a picture has more ink than half of its kind, else 0: (B,)."""
    return (x.mean((1, 2, 3)) > usual[digits]).long()


# %%
boldness = Classifier(ClassifierConfig(32, num_classes=2, patch=4, channel_mults=(1, 2), time=True))
optimizer = torch.optim.AdamW(boldness.parameters(), lr=2e-3)
bold, alphas_cumprod = is_bold(album, digits), path.alphas_cumprod.float()
for _ in (steps := Watched(budget.steps(250))):
    index = torch.randint(count, (64,), generator=generator)
    t = torch.randint(1, 1001, (64,), generator=generator)
    noise = torch.randn(64, 1, 32, 32, generator=generator)
    loss = noisy_loss(boldness, album[index], noise, t, bold[index], alphas_cumprod).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    steps.tell(loss)
boldness.eval().requires_grad_(False)
print(f"loss of the last step: {loss:.2f} nats, of guessing: 0.69")

# %%
m = budget.samples(60, at_least=20)
own, begin = torch.arange(m) % 10, torch.randn(m, 1, 32, 32, generator=generator)


def labelled(x, level):
    """The bundled model, told the digits `own`."""
    return digit_denoiser(x, level, own)


def boldness_reader(x, level):
    """Your classifier as a sampler asks it: logits (B, 2) at a level."""
    return boldness(x, level.t.float().expand(len(x)))


# %%
rows = {}
for name, wanted, scale in (("fine", 0, 5), ("as it comes", 0, 0), ("bold", 1, 5)):
    x = guided_walk(labelled, boldness_reader, begin, short, torch.full((m,), wanted), scale, bound=1)[-1]
    rows[name] = x[:10]
    hits = int(is_bold(x, own).sum())
    low, high = wilson_interval(hits, m)
    print(f"{name:12} {hits / m:4.0%} are bold (95 % interval over samples {low:.0%} to {high:.0%}, n = {m})")
strip(
    rows,
    alt="The digits 0 to 9 in three rows, from the same noise: asked for fine, as they come, asked for bold. Strokes are "
    "thinnest in the first row and thickest in the last.",
    columns=10,
)

# %% [markdown]
# **What to notice:** the diffusion model was not trained again, and was told its digit as ever. The boldness came from the
# guide alone, a small classifier that 250 steps on drawn digits have trained. Asked for bold, all are bold. Asked for fine, a
# third still are (33 %, against 47 % without a guide; these two intervals overlap).
#
# ## A guide without training
#
# Now the second way. Does a sampler need p(y|x_t)? A noisy picture may become many clean ones, and p(y|x_t) is the mean of
# p(y|x₀) over all of them. Replace this mean by one picture, the model's guess (Chung et al. 2023; Bansal et al. 2023):
#
# $$p(y \mid x_t) = \mathbb E\big[p(y \mid x_0) \mid x_t\big] \approx p\big(y \mid \hat x_0(x_t)\big)$$
#
# A clean classifier can read that picture. The gradient in x_t runs back through the classifier *and through the denoiser*.
# We compare three guides, all at scale 4. The clean classifier is right for 99.5 % of MNIST's test pictures. It is asked
# twice: at x_t, where it does not belong, and about x̂₀. Each of the two classifiers judges all samples.

# %%
clean = zoo.load("mnist-classifier")  # it is told no time


def through_the_guess(x, level):
    """What the clean classifier says of the model's guess of x0: logits (B, 10)."""
    return clean(unlabelled(x, level).x0)


guides = {"clean, at x_t": lambda x, level: clean(x), "clean, about x̂₀": through_the_guess}
guides["noise-trained, at x_t"] = reader

# %%
rows = {}
for name, guide in guides.items():
    x = guided_walk(unlabelled, guide, begin, short, own, 4, bound=1)[-1]
    rows[name] = x[:10]
    print(f"guide {name}")
    for judge, logits in (("clean", clean(x)), ("noise-trained", reader(x, path(1)))):
        hits = int((logits.argmax(1) == own).sum())
        low, high = wilson_interval(hits, m)
        print(f"    judge {judge:13}  {hits / m:4.0%} as asked (95 %: {low:.0%} to {high:.0%}, n = {m})")
strip(
    rows,
    alt="The digits 0 to 9, asked for at scale 4, in three rows. Clean, at x_t: mostly other digits and scribbles. Clean, about "
    "x̂₀: mostly the digit asked for, some with strokes too many. Noise-trained, at x_t: nearly all are the digit.",
    columns=10,
)

# %% [markdown]
# **What to notice:** at x_t the clean classifier hardly steers: 28 % by the other judge. About x̂₀ it steers, and nobody has
# trained it for that. By the judge that is not the guide, it does about as well as the noise-trained one: 90 % against 95 % here,
# 90 % against 92 % of the 500 pictures in the experiment below, both within the intervals. Each judge is kinder to the pictures
# that it has guided itself (97 to 100 %): never let the guide be the judge.
#
# The price is work. In each step the diffusion network is evaluated a second time, and differentiated: two to three times the
# time of a step with the noise-trained guide. And p(y | x̂₀) is an approximation. How rough is it? For the three clusters
# p(y|x_t) is known.


# %%
def about_the_guess(x, level):  # the exact classifier of clean points, asked about the exact guess of x0
    return clusters.log_joint(clusters(x, level).x0, path(1))


made = guided_walk(clusters, about_the_guess, cloud, path.levels(100), y, 1)[-1]
near = ((made - clusters.means[0]).norm(dim=1) < 3 * clusters.stds[0]).double().mean()
print(f"about x̂₀ {near:6.1%} within 3 standard deviations of the centre; spread {made.std(0).mean():.3f}")

# %% [markdown]
# At scale 1, 60 % of the points are in the cluster, against 99 % with p(y|x_t), and they lie too wide: spread 0.29 against 0.19.
# The mean of p over all data that x_t may come from is not p at the mean of these data.

# %% jupyter={"source_hidden": true}
# Why does the clean classifier fail at x_t? Both read noisy digits whose class is known.
readers = {"clean": guides["clean, at x_t"], "noise-trained": reader}
times, hits, costs = (
    (1, *range(100, 1001, 100)),
    {name: [] for name in readers},
    {name: [] for name in readers},
)
for name, guide in readers.items():
    for t in times:
        x = add_noise(album, torch.randn(album.shape, generator=generator), path(t))
        log_p = guide(x, path(t)).log_softmax(1)  # (count, 10)
        hits[name].append(int((log_p.argmax(1) == digits).sum()))
        costs[name].append(-log_p[range(count), digits])
    share, cost = hits[name][8] / count, costs[name][8].mean()
    print(f"{name:13} at t = 800: {share:.0%} read, loss {cost:.2f} nats (guessing: 2.30)")

# %% jupyter={"source_hidden": true}
fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.7))
for name, mark in zip(readers, ("s--", "o-"), strict=True):
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
    alt="Two classifiers on noised digits over t. Left, the share recognised, with 95 % intervals: alike to t = 300, then the clean "
    "one falls first. Right, the loss: the noise-trained one rises to that of guessing, 2.3, at t = 1000; the clean one passes "
    "that line near t = 800 and reaches about 3.",
)

# %% [markdown]
# **What to notice:** up to t = 300 both classifiers read equally well. At higher levels, where it is decided which digit a sample
# becomes, the clean one is often wrong and does not know it: near t = 800 its loss passes that of guessing. So at x_t it pushes
# with confidence, and not towards the digit. Why do these levels decide? In a separate trial, the noise-trained guide was used at
# t ≥ 500 alone, and 92 % of 60 digits came out as asked. Used below t = 500 alone, it reached 22 %; throughout, 93 %.

# %% [markdown] tags=["idea"]
# ## Any loss can be a guide
#
# The second way asks little of a guide. It has to be a function of a clean picture, with a gradient. It need not be a
# classifier, and nobody has to train anything.
#
# Take any loss that is small where a picture is as you wish. $e^{-s\cdot\text{loss}}$ stands in the place of p(y|x)^s. Its
# logarithm is $-s$ times the loss, so the push goes down the loss. What can be written in one line can steer: the mean of
# the pixels, or the difference between a picture and its mirror image. The same idea deblurs and fills holes: the loss is then
# the distance of the blurred x̂₀ to a blurred photo.
#
# $$\hat\varepsilon' = \hat\varepsilon + s\,\sigma_t\,\nabla_{x_t} \mathcal L\big(\hat x_0(x_t)\big)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\mathcal L$ | a loss of a clean picture, differentiable | (B,) |
# | $\hat x_0(x_t)$ | the model's guess; the gradient runs through the model | (B, C, H, W) |


# %%
def lowered(loss, scale):
    """The labelled model, pushed so that the loss of its guess falls: a denoiser for samplers."""

    def steered(x, level, y):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            x0, eps = digit_denoiser(z, level, y)
            slope = torch.autograd.grad(loss(x0).sum(), z)[0]
        eps = guided_eps(eps.detach(), -slope, level.alpha**2, scale)
        return Estimate((x - level.sigma * eps) / level.alpha, eps)

    return Clip(steered)


def brightness(x):
    return x.mean((1, 2, 3))


def asymmetry(x):
    return (x - x.flip(3)).square().mean((1, 2, 3))


# %%
wishes = {
    "as it comes": Clip(digit_denoiser),
    "darker": lowered(brightness, 20),
    "brighter": lowered(lambda x: -brightness(x), 20),
    "symmetric": lowered(asymmetry, 30),
    "symmetric, 200": lowered(asymmetry, 200),
}
rows, draws = {}, torch.randn(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
for name, denoiser in wishes.items():
    x = sample(denoiser, draws, levels, ten)
    rows[name] = x
    white, uneven = (brightness(x).mean() + 1) / 2, asymmetry(x).mean()
    read = int((clean(x).argmax(1) == ten).sum())
    print(f"{name:15} white {white:.3f}, asymmetry {uneven:.3f}, recognised {read} of 10")
strip(
    rows,
    alt="The digits 0 to 9 in five rows, from the same noise. Darker: thin strokes. Brighter: thick strokes. Symmetric: the left "
    "half mirrors the right one more or less, and most digits can still be read. Symmetric, 200: rings, a pole, a lamp, a "
    "keyhole; most are no digits any more.",
    columns=10,
)

# %% [markdown]
# **What to notice:** no network was trained for these rows. The loss pulls, and the model keeps the pictures near digits. At the
# small scales both get their way: the digits are darker, brighter or nearer to symmetry, and 8 or 9 of 10 are recognised. At scale
# 200 the loss wins: the asymmetry falls to a twelfth, and most of these pictures are no digits. The right scale depends on the
# loss, and has to be found by trial. The price is again a backward pass through the diffusion network in each step.

# %% [markdown] tags=["experiment"]
# ## Experiment: fidelity against variety
#
# The claim: guidance makes samples sharp and on target, and takes their variety. First 50 pictures a scale, here and now.
# **Accuracy** is how often the clean classifier, which is not the guide here, sees the digit asked for.
#
# Below it stands the recorded experiment, with 500 pictures a row. **Precision** is the share of drawn pictures that lie among
# real ones, **recall** the share of real ones that lie among the drawn pictures. These figures
# and the Fréchet distance are closed boxes here: {{built-in 20}}. `diffusion-lessons experiment guidance-scales` runs it again. Three guides are compared:
#
# - the noise-trained classifier guides the model **without labels**;
# - it guides the model **with labels**. The label counts as scale 1, so scale 2 is label and classifier at 1;
# - the clean classifier guides the model without labels, through **x̂₀**. Here guide and judge are one.

# %%
few, here = torch.arange(budget.samples(50, at_least=20)) % 10, {}
noise = torch.randn(len(few), 1, 32, 32, generator=generator)
for scale in (0, 1, 4, 10):
    x = guided_walk(unlabelled, reader, noise, levels, few, scale, bound=1)[-1]
    hits = int((clean(x).argmax(1) == few).sum())
    low, high = wilson_interval(hits, len(few))
    here[scale] = hits / len(few), low, high
    print(f"scale {scale:2}: accuracy {hits / len(few):4.0%} (95 % over samples: {low:.0%} to {high:.0%})")

# %% jupyter={"source_hidden": true}
# Recorded, not run here.
from diffusion_lessons.experiments import recorded

kept, columns = recorded("guidance-scales"), ("accuracy", "precision", "recall", "frechet")
ways = {
    "classifier": "without labels",
    "classifier on labels": "with labels",
    "clean classifier": "through x̂₀",
}
by_scale = {
    said: {row["settings"]["scale"]: row for row in kept["rows"] if row["settings"]["method"] == method}
    for method, said in ways.items()
}
print(
    f"n = {kept['options']['n']}, {kept['hardware']['processor']}, one seed; ± one standard error over samples"
)
print(f"{'':15}{'scale':7}" + "".join(f"{name:17}" for name in columns))
for said, found in by_scale.items():
    for scale in (0, 1, 2, 4, 10):
        if scale in found:
            values = "  ".join(
                f"{found[scale][name]:7.3f} ± {found[scale][name + '_error']:.3f}" for name in columns
            )
            print(f"{said:15}{scale:4}{values}")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(2, 2, figsize=(7.2, 4.6), sharex=True)
for (said, found), mark, colour in zip(
    by_scale.items(), ("o-", "s--", "^:"), ("#0072B2", "#D55E00", "#009E73"), strict=True
):
    for ax, name in zip(axes.flat, columns, strict=True):
        value, error = torch.tensor([(row[name], row[f"{name}_error"]) for row in found.values()]).T.numpy()
        ax.errorbar(list(found), value, yerr=2 * error, fmt=mark, color=colour, capsize=2, label=said)
share, low, high = torch.tensor(list(here.values())).T.numpy()
axes[0, 0].errorbar(
    list(here), share, yerr=[share - low, high - share], fmt="X", color="black", ms=8, capsize=4, label="here"
)
for ax, name in zip(axes.flat, ("accuracy", "precision", "recall", "Fréchet distance"), strict=True):
    ax.set(title=name, ylim=(0, None))
for ax in axes[1]:
    ax.set(xlabel="guidance scale")
axes[0, 0].legend(fontsize=9, loc="lower right")
figure(
    fig,
    alt="Four panels over the guidance scale, with bars of two standard errors. Without labels: accuracy climbs from 0.08 to 0.96, "
    "precision goes from 0.51 down to 0.37 and up to 0.61, recall falls from 0.94 to 0.79, the Fréchet distance from 3.5 to 1.6 "
    "at scale 4. With labels, from scale 1 on: accuracy 0.95 to 1.00, precision about 0.8, recall 0.89 to 0.63, distance 0.47 to 1.7. Through "
    "x̂₀: accuracy above 0.93 from scale 1 on, precision about 0.43, recall 0.93, distance about 4.",
)

# %% [markdown]
# **The result, without labels:** accuracy climbs from chance to 0.96, and recall pays for it, 0.94 to 0.79. So far the claim
# holds. Sharpness comes later. Precision first falls, from 0.51 to 0.37, and is clearly above its start only from scale 4 on.
# The Fréchet distance is lowest near scale 4. Its rise after that is within the errors.
#
# **With labels:** the same network, *told* the label and not guided (scale 1), is far better than any guided one without: distance
# 0.47. A guide chooses among what the model can draw, and without a label this model draws less well (3.5 at scale 0; only one in
# ten of its training pictures came without a label). A guide on top (scale 2) buys precision, 0.77 to 0.84, with recall, 0.89
# to 0.79. The distance grows to 0.72.
#
# **Through x̂₀:** no training, and an accuracy of 0.99 at scale 4. But here the guide is the judge. The noise-trained classifier
# recognises 0.90 of the same pictures (95 % interval 0.88 to 0.93). The noise-trained guide has 0.92 by the clean judge. So both
# guides hit the class about equally often. The pictures through x̂₀ are worse: distance 4.1 against 1.6, precision 0.43 against
# 0.59. Their recall does not fall.
#
# Published beside it (Dhariwal and Nichol 2021, table 4; precision, recall, FID; other data and features, so compare the shape):
#
# | guide's scale | here, MNIST, no label | published, ImageNet 256, no label | here, label and guide | published, label and guide |
# |---|---|---|---|---|
# | 0 | 0.51, 0.94, 3.5 | 0.61, 0.63, 26.2 | 0.77, 0.89, 0.47 | 0.69, 0.63, 10.9 |
# | 1 | 0.42, 0.93, 2.9 | 0.56, 0.65, 33.0 | 0.84, 0.79, 0.72 | 0.82, 0.52, 4.6 |
# | 10 (here, with label: 9) | 0.61, 0.79, 1.8 | 0.76, 0.44, 12.0 | 0.81, 0.63, 1.66 | 0.88, 0.32, 9.1 |
#
# Without labels both models lose precision at scale 1 and gain it at 10. With labels, scale 1 raises precision and lowers recall
# in both. But their FID falls by it, and our distance grows: at 0.47 our labelled model has little left to gain.

# %% [markdown] tags=["play"]
# ## Play
#
# The same ten draws of noise, asked for 0 to 9, and 300 points asked for the left cluster. Turn the scale up slowly. When does
# each digit become what was asked for? And after that, what still changes?

# %% jupyter={"source_hidden": true}
scales = [0, 1, 2, 4, 8, 20]
frames, points = [], []
for scale in scales:
    x = guided_walk(unlabelled, reader, start_of_ten, path.levels(20), ten, scale, bound=1)[-1]
    x = (8 * x).round() / 8  # few greys keep the file small
    frames.append(x.view(2, 5, 32, 32).permute(0, 2, 1, 3).reshape(1, 64, 160))  # two rows of five
    points.append(guided_walk(clusters, clusters.log_joint, cloud[:300], path.levels(50), y[:300], scale)[-1])
scrub(
    {
        "asked for 0 to 9": torch.stack(frames),
        "left cluster": Points(torch.stack(points), span=2, behind=data),
    },
    [f"scale {scale:g}" for scale in scales],
    alt="Over the scale from 0 to 20: ten digits become the ones asked for and then thicker and plainer; a cloud of points over "
    "three clusters gathers in the left one, then shrinks and leaves it to the outside.",
    title="Scrub through the scales",
    columns=3,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# diffusers has no class for classifier guidance in its core. So we hold yours to the package's own, and to the closed form, where
# no autograd takes part. By Bayes' rule the guided score at scale s is that of all three clusters, plus s times the difference
# between the score of one and that of all.

# %%
exact = GaussianMixture(clusters.means.double(), clusters.stds.double(), clusters.weights.double())
x = torch.randn(200, 2, generator=generator, dtype=torch.float64)
any_y, from_package, from_closed_form = torch.arange(200) % 3, [], []


def unasked(x, level, y=None):
    """The exact model of all three clusters, which is not told y."""
    return exact(x, level)


for t in (1, 10, 100, 300, 600, 900, 999):
    for scale in (0.5, 1, 4):
        level = path(t)
        _, eps = guided(exact, exact.log_joint, path, x, level.t, any_y, scale)
        theirs = ClassifierGuidance(unasked, exact.log_joint, scale)(x, level, any_y).eps
        closed = torch.lerp(exact(x, level).eps, exact(x, level, any_y).eps, scale)
        from_package.append(((eps - theirs).abs().max() / theirs.abs().max()).item())
        from_closed_form.append(((eps - closed).abs().max() / closed.abs().max()).item())
mine = guided_walk(exact, exact.log_joint, x, levels, any_y, 2, bound=1)[-1]
theirs = sample(Clip(ClassifierGuidance(unasked, exact.log_joint, 2)), x, levels, any_y)
print(f"guided ε, largest relative difference from the package's:    {max(from_package):.0e}")
print(f"guided ε, largest relative difference from the closed form:  {max(from_closed_form):.0e}")
print(f"guided walk, largest difference from the package's sampler:  {(mine - theirs).abs().max():.0e}")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | a classifier of clean pictures, asked at x_t | at high levels its gradient is arbitrary: wrong digits and scribbles |
# | the classifier is told another time (t − 1, or t/T) | guidance that is weaker or stronger than meant, and no error |
# | $\sigma_t$ forgotten | hard to see: most classes still right; the push is too strong late in sampling, and the left cluster at scale 1 gets a spread of 0.17 in place of 0.19 (100 steps) |
# | the mean over the batch | guidance fades as the batch grows |
# | gradient of p, or of the logit | no push where it is needed most, or one that never ends |
# | clipped before the push | pixels beyond black and white: guide first, then clip |
# | sampling under `inference_mode` | an error: only `no_grad` can be lifted inside |
# | BatchNorm in the classifier, in training mode | samples of a batch push each other |
# | gradient at $\alpha\hat x_0$ in place of $x_t$ | samples too wide: 0.24 in place of 0.19 for the left cluster at scale 1 (100 steps) |
# | gradient at $x_t$ in the *ancestral* form (algorithm 1), where it belongs at the mean of the step | hardly any: the authors' code has it, and they saw no change when they mended it (guided-diffusion, issue 51) |
# | the guide also judges | too kind an accuracy: a part of the push goes into what only the guide takes for the class |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is classifier guidance?",
    "A way to steer a diffusion model to a class at sampling time. Bayes' rule splits the wanted score: ∇ "
    "log p(xₜ | y) = ∇ log p(xₜ) + ∇ log p(y | xₜ). The model has the first term; the gradient of a "
    "classifier in its input is the second. In code: ε̂ − s·σₜ·∇ log p(y | xₜ).\n\n"
    "The classifier must know noisy pictures, or be asked about x̂₀. A scale s above 1 makes samples more "
    "surely of their class, and more alike. The price: a second network, and a backward pass in each step.",
    [
        (
            "Can I use a classifier that was trained on clean pictures?",
            "Not at xₜ: its gradient there is arbitrary, and the class is decided at noisy levels. About x̂₀, with the gradient "
            "through the denoiser, it steers. That costs a backward pass through the denoiser, and p(y | x̂₀) is not p(y | xₜ).",
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
            "When the condition comes after training: any loss of x̂₀ that has a gradient, such as the distance to a blurred photo.",
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
            Choice(
                "The classifier has learnt it",
                False,
                "It is part of p(y|x), true. But that is not why p(y) itself drops out.",
            ),
            Choice("It does not depend on x, so its slope is 0", True, "Only what depends on x steers."),
        ],
    ),
    Question(
        "At some level the classifier gives the wanted class 99.99 % for a sample. What does guidance at scale 1 do to it?",
        [
            Choice("next to nothing", True, "log p cannot rise any more. The model alone decides."),
            Choice(
                "pushes hardest, since it is surest", False, "The slope of log p is flat where p is nearly 1."
            ),
            Choice("pulls it back to 50 %", False, "Nothing pulls down: the term only climbs log p(y|x)."),
        ],
    ),
    Question(
        "ε̂ comes from a network that was told the class already. You guide it at scale 1, too. Which density is that at each level?",
        [
            Choice("p(x|y)", False, "That is the network alone. The classifier's term comes on top."),
            Choice("p(x)·p(y|x)", False, "That would be the unlabelled network at scale 1."),
            Choice(
                "p(x|y)·p(y|x)",
                True,
                "As much as scale 2 on the unlabelled model. The last column of the published table is of this kind.",
            ),
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
                "how log p is summed up",
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
                "Each of them looks more surely like a real one, and together they cover less.",
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
# - Bansal et al. 2023, *Universal Guidance for Diffusion Models*, arXiv 2302.07121: section 3.1, any guide about x̂₀.
# - Chung et al. 2023, *Diffusion Posterior Sampling for General Noisy Inverse Problems*, arXiv 2209.14687: section 3, the same for
#   blurred and masked photos, with a bound for the error of p(y | x̂₀).
#
# You needed a second network, and trained it for noise. Can the diffusion model be its own classifier? {{lesson 10}}.
