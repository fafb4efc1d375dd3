# %% [markdown] tags=["header"]
# title: Diffusion against GANs
# question: What do diffusion models do better than GANs, and what do GANs do better?
# difficulty: 2
# prerequisites: 01, 04, 07, 08
# builds: networks.gan, networks.points, training.adversarial, metrics.modes, count_modes, Modes, Generator, GeneratorConfig, Discriminator, DiscriminatorConfig, PointNetwork, PointConfig

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - write the losses of both players of a GAN, and say why the generator does not use the one of the paper's game (exercise 13.1)
# - find out why a stabiliser, R1, has no effect (exercise 13.2)
# - train a GAN: one turn for each player, with nothing left over from the other's (exercise 13.3)
# - measure how many modes are covered, and how evenly (exercise 13.4)
# - compute how narrow a sampler makes a mode, and mend it (exercise 13.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Digits of 16 × 16 pixels. One row is real, one was drawn by a GAN, one by a diffusion model. Generator and denoiser have about
# 300,000 parameters each, and the discriminator has 79,000 on top. Both were trained for about as long, a minute on one core. **Which row is which?**

# %%
import torch

from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.experiments import recorded

record = recorded("gan-vs-diffusion")  # made by: diffusion-lessons experiment gan-vs-diffusion


# %% jupyter={"source_hidden": true}
def kept(record, side, **which):
    """Twelve of the pictures that the first row with these settings holds, (12, 1, side, side)."""
    row = next(row for row in record["rows"] if which.items() <= row["settings"].items())
    pictures = torch.frombuffer(bytearray.fromhex(row["pictures"]), dtype=torch.uint8)
    return pictures.view(-1, 1, side, side)[:12].float() / 127.5 - 1


from diffusion_lessons.data import load_dataset, to_float

some = torch.randperm(1000, generator=torch.Generator().manual_seed(3))[:12]
strip(
    {
        "A": kept(record, 16, data="digits", model="gan, r1 and ema"),
        "B": to_float(load_dataset("digits").images[some]),
        "C": kept(record, 16, data="digits", model="diffusion"),
    },
    alt="Three rows of twelve small digits, grey on black. Most can be read in each row. In row A a few have an odd stroke, in row C "
    "a few are no digits, on a background that is not quite black.",
    columns=12,
)

# %% [markdown]
# Row B is real. Row A is the GAN's, row C that of diffusion. The GAN made its row in *one* evaluation of its network, the diffusion
# model in 25. So what does one get for 25 evaluations in place of one? That is the question of this lesson.

# %% [markdown] tags=["guess"]
# ## Guess
#
# A generator turns noise into a picture in one step. It never sees a pair of noise and picture that belong together. **How could you
# train it?** Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Draw, and compare with the nearest real picture.* A blur is near to everything. And if the generator draws only one kind of
#   picture, nothing in this loss objects.
# - *Compare statistics of a batch*, such as means and covariances of features. That works for small data (maximum mean discrepancy),
#   with features that somebody has to choose.
# - *Let a second network choose*: it learns to tell real from made, and the generator follows its gradient. That is a GAN.
# - *Make pairs.* A diffusion model does: each noisy picture comes from a known clean one, so that its loss is a plain squared error.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "25 small clouds of points on a grid. A GAN and a diffusion model of equal size learn them, at four learning rates from "
    "0.0003 to 0.01. Which of them covers all 25?",
    [
        Choice("diffusion always, a GAN never", False, "A GAN can: you see it below."),
        Choice(
            "both at low rates, neither at high ones",
            False,
            "So it would be if only the size of the steps mattered. The GAN fails at both ends.",
        ),
        Choice(
            "both at every rate",
            False,
            "The GAN does not: at the lowest and the highest rate it has at most 17 of 25, with its stabilisers, too.",
        ),
        Choice(
            "diffusion at every rate, a stabilised GAN at some",
            True,
            "That is the honest form of 'GANs drop modes': they can cover all, but little has to go wrong for them not to.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Two players
#
# A **generator** $G$ turns a latent $z \sim N(0, I)$ into a sample. A **discriminator** $D$ gives each sample a logit $\ell$; its sigmoid
# is the belief that the sample is real. They learn in turns.
#
# The discriminator learns as any classifier: real samples have the label 1, made ones the label 0. The generator wants its own samples
# called real. It gets its gradient *through* the discriminator, which tells it in which direction a sample would look more real.
#
# In the game of the paper the generator minimises $\log(1 - D)$. At the start the discriminator tells its samples from real ones with
# ease, and there this loss is flat. So everybody uses $-\log D$, the **non-saturating** loss. It has the same fixed point, and its
# gradient is largest where it is needed most.

# %% [markdown]
# $$L_D = -\,\mathbb E \log \sigma(\ell^{\text{real}}) - \mathbb E \log (1 - \sigma(\ell^{\text{made}})), \qquad
# L_G = -\,\mathbb E \log \sigma(\ell^{\text{made}})$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\ell$ | logits of the discriminator, above 0 for "real" | (B,) |
# | $\sigma$ | here the sigmoid, not a level of noise | |
# | $L_D, L_G$ | the losses; $L_D = 2 \ln 2 = 1.386$ where nothing can be told | () |

# %% [markdown] tags=["exercise-card"]
# {{exercise 13.1}}


# %% tags=["exercise"]
@exercise("13.1")
def gan_losses(real, made):
    """(loss of the discriminator, loss of the generator), each 0-d and finite for any logits.

    real, made: logits (B,) of real and of made samples, B not the same for both.
    """
    ### BEGIN SOLUTION
    softplus = torch.nn.functional.softplus
    judge = softplus(-real).mean() + softplus(made).mean()
    return judge, softplus(-made).mean()
    ### END SOLUTION


# %%
logits = torch.linspace(-10, 10, 101).requires_grad_()
ours = sum(gan_losses(torch.zeros(1), each[None])[1] for each in logits)
(gradient,) = torch.autograd.grad(ours, logits)
game = -logits.detach().sigmoid()  # the gradient of log(1 − D)
(surely_made,) = torch.autograd.grad(
    gan_losses(torch.zeros(1), low := torch.tensor([-30.0], requires_grad=True))[1], low
)
print(
    f"at a logit of −30: {float(surely_made):.0e}, in the paper's game {-float(low.detach().sigmoid()):.0e}"
)

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

fig, axis = plt.subplots(figsize=(6, 2.6))
axis.plot(logits.detach(), gradient, marker="", label="non-saturating, −log D")
axis.plot(logits.detach(), game, "--", marker="", label="the paper's game, log(1 − D)")
axis.set(xlabel="logit of a made sample", ylabel="gradient")
axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
figure(
    fig,
    alt="Two curves of gradients over the logit, from −10 to 10. The non-saturating one is −1 on the left and rises to 0 on the right. "
    "That of the game is its mirror image: 0 on the left and −1 on the right.",
)

# %% [markdown]
# **What to notice:** at a logit of −30 the discriminator is quite sure. Both losses want the logit to rise. In the game the wish is so
# weak that float32 can hardly add it to a weight; the non-saturating loss wishes with full strength. On the right, where the generator
# already wins, it is the other way round.

# %% [markdown] tags=["idea"]
# ## A stabiliser: R1
#
# If the discriminator is perfect, its logits change from very high to very low within a small distance. The generator's steps can
# then jump to and fro across that cliff. Mescheder et al. show on a small example that plain gradient steps circle around the fixed point
# and never reach it.
#
# **R1** penalises the slope of the discriminator *at real samples*. At the fixed point real and made samples are the same, and there
# is nothing to tell: a flat discriminator is right. So the penalty does no harm at the goal, and it damps the circling on the way.
#
# It is the slope of the logit. Spectral normalisation, another stabiliser, bounds the slope of every layer, everywhere and not only at
# real samples. The table at the end has both.

# %% [markdown]
# $$R_1 = \frac{\gamma}{2}\; \mathbb E_{x \text{ real}} \left\| \nabla_x\, \ell(x) \right\|^2$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\nabla_x \ell$ | slope of the logit of a sample with respect to that sample | like x, (B, ...) |
# | $\gamma$ | strength of the penalty | a number |

# %% [markdown] tags=["exercise-card"]
# A colleague has written R1. In the first steps it works.
#
# {{exercise 13.2}}


# %% tags=["exercise"]
@exercise("13.2")
def r1_penalty(discriminator, x, gamma):
    """R1 of real samples x (B, ...): 0-d, and the discriminator can learn from it.

    discriminator(x) gives one logit for each sample, of its own sample alone. gamma: the strength.
    """
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    logits = discriminator(x)
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gamma / 2 * slope.flatten(1).square().sum(1).mean()
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "After a while the penalty is 0, and the training explodes all the same."
    # x = x.detach().requires_grad_()
    # loss = torch.nn.functional.softplus(-discriminator(x))
    # (slope,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
    # return gamma / 2 * slope.flatten(1).square().sum(1).mean()
    ### END STUDENT


# %%
w = torch.tensor([3.0, 4.0])
points = torch.randn(100, 2, generator=generator)
print(f"a linear discriminator: {float(r1_penalty(lambda x: x @ w, points, 1.0)):.3f}, γ/2·|w|² = 12.5")

# %% [markdown] tags=["exercise-card"]
# Now the whole step. Both players are networks, each with an optimizer of its own.
#
# {{exercise 13.3}}


# %% tags=["exercise"]
@exercise("13.3")
def gan_step(generator, discriminator, of_generator, of_discriminator, real, latents, gamma):
    """One turn of the discriminator, then one of the generator; gives (its loss with R1, the generator's loss).

    of_generator, of_discriminator: their optimizers. real: (B, ...) real samples. latents: (2, B, Z), the first for
    the discriminator's turn and the second for the generator's. gamma: of R1 at the real samples. In its turn a player
    follows the gradient of its own loss alone; gradients of earlier turns may lie about. Use gan_losses and r1_penalty.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        made = generator(latents[0])
    judge, _ = gan_losses(discriminator(real), discriminator(made))
    judge = judge + r1_penalty(discriminator, real, gamma)
    of_discriminator.zero_grad()
    judge.backward()
    of_discriminator.step()
    logits = discriminator(generator(latents[1]))
    _, loss = gan_losses(logits, logits)
    of_generator.zero_grad()
    loss.backward()
    of_generator.step()
    return judge.detach(), loss.detach()
    ### END SOLUTION


# %% [markdown]
# We train on a ring of eight clouds: small enough for this notebook. The network is a plain one of three layers. As input the
# discriminator gets the two coordinates $x$ with their sines and cosines, $\sin(2^k x)$ and $\cos(2^k x)$: with the coordinates alone,
# networks learn fine detail last. The denoiser below gets the same.
#
# Twice: with R1 and with averaged weights (lesson 4), and without both.

# %%
import copy

from diffusion_lessons.course import Watched
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.networks import PointConfig, PointNetwork

turn = torch.arange(8) * torch.pi / 4
centres, SPREAD = 1.4 * torch.stack([turn.cos(), turn.sin()], 1), 0.05
ring = GaussianMixture(centres, SPREAD)
LATENTS = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))  # the same in each picture


# %%
def train_gan(gamma, decay, seed=0):
    """The generator with averaged weights, its samples on the way, and both losses at each step."""
    torch.manual_seed(seed)
    generator = PointNetwork(PointConfig(width=64))
    judge = PointNetwork(PointConfig(out_dim=1, width=64, octaves=2))
    rate = {"lr": 2e-3, "betas": (0.5, 0.9)}
    optimizers = [torch.optim.Adam(player.parameters(), **rate) for player in (generator, judge)]
    average, seen, losses, draws = copy.deepcopy(generator), [], [], torch.Generator().manual_seed(seed)
    for step in (steps := Watched(budget.steps(1500))):
        real, latents = ring.sample(128, draws)[0], torch.randn(2, 128, 2, generator=draws)
        losses.append(torch.stack(gan_step(generator, judge, *optimizers, real, latents, gamma)))
        steps.tell(losses[-1][1])
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), generator.parameters(), strict=True):
                mean.lerp_(weight, 1 - min(decay, step / (step + 10)))
            if step % max(1, len(steps) // 20) == 0 or step == len(steps) - 1:
                seen.append(average(LATENTS))
    return average.eval(), torch.stack(seen), torch.stack(losses)


# %%
stable, stable_seen, stable_losses = train_gan(gamma=0.3, decay=0.998)
plain, plain_seen, plain_losses = train_gan(gamma=0.0, decay=0.0)

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(8.4, 2.8), sharey=True)
for axis, name, losses in zip(
    axes, ("R1 and averaged weights", "plain"), (stable_losses, plain_losses), strict=True
):
    smooth = losses.unfold(0, min(25, len(losses)), 5).mean(-1)
    steps = 5 * torch.arange(len(smooth))
    axis.plot(steps, smooth[:, 0], marker="", label="discriminator")
    axis.plot(steps, smooth[:, 1], "--", marker="", label="generator")
    axis.axhline(1.386, color="grey", lw=0.8)
    axis.set(title=name, xlabel="step")
axes[0].set(ylabel="loss", ylim=(0, 2.5))
axes[0].legend(loc="upper right", ncols=2)
figure(
    fig,
    alt="Losses over the steps. With R1: after 100 steps the discriminator's stays just below 1.39, the generator's near 0.7. Plain: the "
    "discriminator's stays near 0.9; the generator's rises to 2 and comes down to 1.4.",
)

# %% [markdown]
# **What to notice:** on the left both curves are flat from step 100 on, though the samples go on getting better: you see it in the
# last picture of this page. On the right the generator's loss falls from step 400 on, and the arc of its samples stays open. What can
# be read: near 1.386 and 0.693 the discriminator tells nothing. That is so at the goal, *and* if the discriminator is too weak to see
# a difference. A discriminator's loss near 0 means that it has won, and then something is wrong.

# %% [markdown] tags=["idea"]
# ## Count, do not look
#
# Two clouds of points look alike before one counts. A **mode** counts as covered from a fifth of its due on: a fifth of $N/K$ samples
# within three deviations of its centre. Why not "at least one sample"? A blur, 2,000 samples of $N(0, I)$, hits all
# eight clouds of the ring by luck (so it did in ten draws of ten); with the rule of a fifth it covers none.
#
# Covered modes need not have even shares. The **KL** of the modes' shares from even ones says how uneven they are: 0 if all are the same, $\ln K$ if one
# mode has all. And a covered mode may be too narrow: its **width** should be that of the data.

# %% [markdown]
# $$\text{KL} = \sum_k p_k \ln (K\, p_k)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $K$ | number of modes | |
# | $p_k$ | share of all samples whose nearest centre is $k$ | (K,) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 13.4}}


# %% tags=["exercise"]
@exercise("13.4")
def modes_covered(x, centres, std):
    """(number of modes covered, KL in nats) of samples x (N, 2).

    centres: (K, 2), modes that are all due N/K samples; std: their deviation. Each sample belongs to its nearest centre,
    and is good within 3·std of it, the border included. A mode is covered from 0.2·N/K good samples on. The KL is of the
    shares of all samples, good or not.
    """
    ### BEGIN SOLUTION
    n, k = len(x), len(centres)
    distance, nearest = torch.cdist(x, centres).min(1)
    hits = torch.bincount(nearest[distance <= 3 * std], minlength=k)
    shares = torch.bincount(nearest, minlength=k) / n
    kl = torch.special.xlogy(shares, k * shares).sum()
    return int((hits >= 0.2 * n / k).sum()), float(kl)
    ### END SOLUTION


# %%
from diffusion_lessons.metrics import count_modes

latents = torch.randn(2000, 2, generator=generator)
samples = {"real": ring.sample(2000, generator)[0]}
with torch.no_grad():
    samples |= {"R1 and averaged": stable(latents), "plain": plain(latents)}


def report(name, x):
    covered, kl = modes_covered(x, centres, SPREAD)
    found = count_modes(x, centres, SPREAD)  # the package's, for what yours does not count
    print(f"{name:16} {covered} of 8 modes, KL {kl:.3f}, good {found.good:.2f}, width {found.width:.2f}")


for name, x in samples.items():
    report(name, x)

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(8.6, 2.4), sharey=True)
for axis, (name, x) in zip(axes, samples.items(), strict=True):
    near = torch.cdist(x, centres).min(1)
    good = torch.bincount(near.indices[near.values <= 3 * SPREAD], minlength=8)
    axis.bar(range(8), 8 * good / len(x))
    axis.axhline(1, color="grey", lw=0.8)
    axis.axhline(0.2, color="grey", lw=0.8, ls="--")
    axis.set(title=name, xlabel="mode")
axes[0].set(ylabel="good samples / due")
figure(
    fig,
    alt="Bars for eight modes in three panels: good samples over what is due. Real and R1 with averaging: all between 0.8 and 1.2. "
    "Plain: 2.2, 1.6 and 2.9 at three modes, just above the dashed line at 0.2 at a fourth, below it at the others.",
)

# %% [markdown]
# **What to notice:** the dashed line is the fifth from which on a mode counts. The GAN with R1 and averaged weights covers all eight,
# and as evenly as real samples do. Bars tell no more than that. The *width* does: its modes are less than half as wide as those of
# the data. It hits the centres, and does not draw the clouds.

# %% [markdown] tags=["idea"]
# ## Diffusion, on the same points
#
# Nothing here is new: the same network, told a time; $v$ as target ({{built-in 17}}); a plain squared error; DDIM with 50 steps
# (lesson 8). There is no second player. The loss is a regression, and each step of training is an ordinary one.
#
# One thing is worth a look: small modes. The last step of a sampler goes from a level $(\alpha, \sigma)$ to $t = 0$, where it returns
# the guess $\hat x_0$. A guess is a *mean* over what is possible. Means vary less than what they are means of.

# %%
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.samplers import sample
from diffusion_lessons.targets import V
from diffusion_lessons.training.recipe import PATHS

path = PATHS["cosine"]()
WALK = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))


def levels(n, power):
    """n + 1 levels at the times T·(1 − i/n)^power: a power above 1 has more of them near the data."""
    return [path(path.T * (1 - i / n) ** power) for i in range(n + 1)]


# %%
from diffusion_lessons.denoiser import NetworkDenoiser

torch.manual_seed(0)
network = PointNetwork(PointConfig(width=48, octaves=2, time=True, activation="silu"))
optimizer, draws = torch.optim.Adam(network.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
denoiser, diffusion_seen = NetworkDenoiser(network, path, V), []
for step in (steps := Watched(budget.steps(3000))):
    optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / len(steps))
    x0, noise = ring.sample(128, draws)[0], torch.randn(128, 2, generator=draws)
    loss = diffusion_loss(network, path, V, x0, noise, path.sample_times(128, draws)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    steps.tell(loss)
    if step % max(1, len(steps) // 20) == 0 or step == len(steps) - 1:
        diffusion_seen.append(sample(denoiser, WALK, levels(30, 2.0)))

# %% [markdown]
# $$\frac{\text{deviation of } \hat x_0}{s} = \;?$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $s$ | deviation of the data near one mode, a Gaussian $N(\mu, s^2)$ | a number |
# | $\alpha, \sigma$ | level that the last step begins at | numbers |
# | $\hat x_0$ | $\mu + \frac{\alpha s^2}{\alpha^2 s^2 + \sigma^2}\,(x - \alpha\mu)$, the guess of an exact denoiser | like x |

# %% [markdown] tags=["exercise-card"]
# {{exercise 13.5}}


# %% tags=["exercise"]
@exercise("13.5")
def width_of_last_step(std, alpha, sigma):
    """Deviation of the guesses over that of the data, 0 to 1, if x has just the spread that it should have.

    std: of the data near one mode; alpha, sigma: of the level that the last step begins at. All are numbers.
    """
    ### BEGIN SOLUTION
    noisy = alpha**2 * std**2 + sigma**2
    factor = alpha * std**2 / noisy
    return factor * noisy**0.5 / std
    ### END SOLUTION


# %%
start = torch.randn(2000, 2, generator=generator)
for name, power in (("even times", 1.0), ("crowded times", 2.0)):
    walk = levels(50, power)
    last = walk[-2]
    expected = width_of_last_step(SPREAD, float(last.alpha), float(last.sigma))
    widths = [count_modes(sample(each, start, walk), centres, SPREAD).width for each in (ring, denoiser)]
    print(
        f"{name:14} the last step alone {expected:.2f}, exact denoiser {widths[0]:.2f}, learnt {widths[1]:.2f}"
    )
samples["diffusion"] = sample(denoiser, start, levels(50, 2.0))
report("diffusion", samples["diffusion"])

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 4, figsize=(9, 2.5), sharex=True, sharey=True)
for axis, (name, x) in zip(axes, samples.items(), strict=True):
    axis.scatter(*x[:1000].T, s=1)
    axis.set(title=name, xlim=(-2, 2), ylim=(-2, 2), xticks=(-1, 0, 1), aspect="equal")
figure(
    fig,
    alt="Four panels of points. Real: eight round clouds on a ring. R1 and averaged: eight spots smaller than the clouds, with thin threads "
    "between them. Plain: an arc of points along the ring, with a gap at the lower right. Diffusion: eight clouds of the right size, "
    "with more points between them than the GAN with R1 has.",
)

# %% [markdown]
# **What to notice:** with 50 even steps the modes come out a fifth too narrow, *although the denoiser is exact*. It is the last step,
# and your formula gives 0.77 for that step alone, close to the 0.80 of the whole walk. The learnt denoiser is not exact, and its
# modes are less narrow, 0.89. More steps near the data mend it for both. If you compare models, first ask whether you compare
# samplers.
#
# And look at the last panel. After about as many seconds, with one seed of each, diffusion has nearly the right width, 0.96, and more
# strays between the clouds: fewer of its samples are good than of the GAN's. Which model is better here depends on the figure that
# you ask for. So we report several.

# %% [markdown] tags=["experiment"]
# ## Experiment: 25 modes, four learning rates, three seeds
#
# The recorded experiment is larger: the grid of 25 modes that papers on mode dropping use. Generator and denoiser have about
# 33,000 parameters each, and the discriminator has 36,000 on top. Discriminator and denoiser see the same input. The training times are
# near each other, 13 to 26 seconds of one core. Diffusion is drawn in 50 steps with times crowded near the data, as in exercise 13.5.
#
# The GAN was tuned more than diffusion: 31 trials against 3. The row `gan, r1 and ema` is the best that was found; it has a batch of 256.
# The plain GAN and diffusion have 128. R1 and averaged weights come together: what each of them does alone is not measured.
# Two others that looked good in a trial are in the table as well. `spectral norm` has it in place of R1, and all else the same.

# %% tags=["nbval-check-output"]
print(f"{'model':36} {'rate':>6}  {'modes of 25':>11}  {'good':>5}  {'KL':>6}  {'width':>5}")
table = {}
for row in record["rows"]:
    told = row["settings"]
    if told["data"] == "grid":
        table.setdefault((told["model"], told["lr"]), []).append(row)
for (model, rate), rows in table.items():
    modes = " ".join(f"{row['covered']:2}" for row in rows)
    good, kl = (sum(row[name] for row in rows) / len(rows) for name in ("good", "kl"))
    width = [row["width"] for row in rows if row["width"] is not None]
    wide = f"{sum(width) / len(width):.2f}" if width else "none"
    print(f"{model:36} {rate or '':>6}  {modes:>11}  {good:5.2f}  {kl:6.3f}  {wide:>5}")
print("modes: each seed; the other figures are means over the seeds")

# %% jupyter={"source_hidden": true}
SHOWN = {"gan": ("v", ":"), "gan, r1 and ema": ("o", "-"), "diffusion": ("s", "--")}
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3))
for place, (name, (marker, line)) in enumerate(SHOWN.items()):
    rates = sorted(rate for model, rate in table if model == name)
    for axis, figure_of in zip(axes, ("covered", "good"), strict=True):
        values = torch.tensor([[row[figure_of] for row in table[name, rate]] for rate in rates]).float()
        middle = values.median(1).values
        spread = torch.stack([middle - values.min(1).values, values.max(1).values - middle])
        at = torch.tensor(rates) * 1.1 ** (place - 1)  # beside each other, so that no bar hides another
        axis.errorbar(at, middle, spread, marker=marker, ls=line, capsize=3, label=name)
for axis, top, said in zip(axes, (26, 1.05), ("modes covered, of 25", "share of good samples"), strict=True):
    axis.set(xscale="log", xlabel="learning rate", ylim=(0, top), ylabel=said)
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
figure(
    fig,
    alt="Over four learning rates, the middle one of three seeds with the range. Left: modes covered. Diffusion 25 at all; the stabilised "
    "GAN 7, 21, 25 and 13, without a range at 0.003; the plain GAN about one. Right: the share of good samples. Diffusion rises from 0.83 "
    "to 0.96; the stabilised GAN from 0.24 to 0.89 at 0.003, then down to 0.36; the plain GAN jumps between 0 and 1, for it makes few modes or none.",
)

# %% [markdown]
# Does the loss tell which run is good? For each model, all runs of the main table: the rank correlation between its last loss and
# the share of good samples.


# %%
from scipy.stats import spearmanr

for model, name in (
    ("gan", "discriminator_loss"),
    ("gan, r1 and ema", "discriminator_loss"),
    ("gan, r1 and ema", "generator_loss"),
    ("diffusion", "loss"),
):
    rows = [row for (each, _), found in table.items() if each == model for row in found]
    found = spearmanr([row[name] for row in rows], [row["good"] for row in rows])  # equal ones share a rank
    print(f"{model:16} {name:18} {found.statistic:+.2f} (n = {len(rows)} runs)")

# %%
from statistics import median

mnist = recorded("gan-on-mnist")  # made by: diffusion-lessons experiment gan-on-mnist
pictures = {
    "digits": [row for row in record["rows"] if row["settings"]["data"] == "digits"],
    "MNIST": mnist["rows"],
}
print(f"{'data':7}{'model':16} {'rate':>6} {'seed':>4} {'Fréchet':>12} {'precision':>9} {'recall':>6} {'KL':>6}")
for data, rows in pictures.items():
    for row in rows:
        told = row["settings"]
        print(
            f"{data:7}{told['model']:16} {told['lr'] or '':>6} {told['seed']:>4} {row['frechet']:5.2f} ± {row['frechet_error']:.2f} "
            f"{row['precision']:9.2f} {row['recall']:6.2f} {row['kl']:6.3f}"
        )
print("n = 1000 each, ± one standard error over samples; KL of the shares of classes")

# %% jupyter={"source_hidden": true}
strip(
    {
        "GAN": kept(mnist, 32, model="gan, r1 and ema"),
        "diffusion": kept(mnist, 32, model="diffusion"),
    },
    alt="Two rows of twelve handwritten digits, white on black, the first that each model drew on MNIST. GAN: smooth strokes, and most can "
    "be read, with four ones among them. Diffusion: many different shapes, some with torn strokes or stray dots, a few are no digits.",
    columns=12,
)

# %%
runs = {"grid": [row for row in record["rows"] if row["settings"]["data"] == "grid"], **pictures}
print(f"{'data':7}{'model':16} {'training, seconds':>22} {'1,000 samples, seconds':>28}")
for data, rows in runs.items():
    for model in ("gan, r1 and ema", "diffusion"):
        mine = [row for row in rows if row["settings"]["model"] == model]
        spent, drawn = ([row[f"{what}_seconds"] for row in mine] for what in ("training", "draw"))
        trained = f"{median(spent):.1f} ({min(spent):.1f} to {max(spent):.1f})"
        samples_in = f"{median(drawn):.4f} ({min(drawn):.4f} to {max(drawn):.4f})"
        print(f"{data:7}{model:16} {trained:>22} {samples_in:>28}")
print("medians over the runs (12, 3 and 3 of each), with the range")

# %% [markdown]
# **The result**, read from the figures above:
#
# - **Covered**: diffusion has all 25 modes in each of its twelve runs. The GAN with R1 and averaged weights has them in four of twelve:
#   at its best rate, 0.003, with every seed, and once at 0.001. At the lowest rate it has 3 to 9, at the highest 10 to 17. The plain GAN
#   never has more than three with this input.
# - **Even**: where the stabilised GAN covers all 25, its KL is 0.007 to 0.009, as small as that of diffusion. So "GANs drop modes" is
#   not the claim that holds here. *Sensitivity* is: one rate of four works with every seed. At that rate half the batch loses 0, 1
#   and 4 modes; half the batch with the decay that the denoiser has loses more than half of them in two seeds of three. Spectral norm
#   covers 13, 18 and 21, unevenly: its KL is 0.15 to 0.34.
# - **Shape**: at its best rate the GAN's modes are 0.6 to 0.8 as wide as those of the data, and 0.81 to 0.90 of its samples are good. For
#   diffusion at the same rate it is 0.87 to 0.88 and 0.93 to 0.94. The GAN hits all centres; its clouds are too tight.
#   That comparison hangs on the sampler: with 50 *even* times the width of diffusion at this rate is only 0.51 to 0.53, that of the exact
#   denoiser 0.46 (`width_even_times` in the record), and both are narrower than the GAN.
# - **The input decides.** Without sines, at the one rate that was tried, the order turns round: diffusion has 0 to 3 modes instead of 25,
#   the plain GAN 9 to 11 instead of 0 to 3, the stabilised one with a batch of 128 has 5 to 20 instead of 6 to 25. So "diffusion covers
#   all" holds for this input. Whoever compares must not choose the input for one of them.
# - **The loss** of the stabilised GAN does order its runs: the nearer the discriminator's is to 1.386, the better the samples. But
#   without sines it is 1.38 as well, in all three runs, and at most 0.38 of the samples are good: the loss compares runs of one
#   discriminator only. For the plain GAN "good" is the wrong measure: a generator that hits one mode exactly has 1.00. Its
#   two runs with more than one mode have losses of 0.29 and 0.35, the ten others 0.17 to 0.18 (in the record). The loss of diffusion
#   orders its runs less well, and differs between its worst and its best run by 2 %.
# - **Digits**, at equal training time, in each of three seeds: the GAN has the smaller Fréchet distance, the higher precision and the
#   more even classes, diffusion the higher recall. After this minute the GAN is the better one by distance. Each was measured at one
#   learning rate.
# - **MNIST**, 60,000 pictures of 32 × 32 pixels, five minutes of one core each, at the rates of the digits. Means over three
#   seeds, and their range: Fréchet distance 0.91 (0.74 to 1.01) for the GAN and 2.23 (2.05 to 2.45) for diffusion, precision .76
#   (.75 to .77) and .52 (.51 to .53), recall .72 (.68 to .76) and .94 (.92 to .95), KL of the classes 0.014 (0.011 to 0.017) and
#   0.015 (0.010 to 0.023). 1,000 real pictures have 0.21, .85, .88 and 0.006. So with each seed the GAN draws fewer wrong digits,
#   and diffusion leaves out less of what there is; part of its recall may come from samples that are spread too widely. Which would
#   lead with more time, these five minutes do not say.
# - **Speed**, by the medians: the GAN draws 1,000 points about 80 times as fast as 50 steps of diffusion, and 1,000 digits about 38 times
#   as fast as 25 steps: one evaluation of a denoiser costs more, too. Each of the three seeds of digits by itself gives 20, 38 and 46.
#   On MNIST it is 15 times: patches of 2 × 2 pixels keep the denoiser about as cheap as on digits, and the generator draws four
#   times as many pixels.

# %% [markdown]
# What stands against this table: its best GAN was chosen among three on these same seeds, which flatters the GAN, and it had more
# trials. Rows were measured on a shared machine at different loads: equal trainings of diffusion took from 14 to 21 s, and the
# GAN's median is above that of diffusion. The plain GAN was not tuned by itself, and has half the batch of the stabilised one. And all of
# it is small: with more time, more rates may work.
#
# **Published**: Lin et al. (PacGAN, table 1, ten runs) count 17.3 ± 0.8 of 25 modes for a plain GAN, with at least one good sample as
# their rule, and 24.8 ± 0.2 with four samples judged together. Dhariwal and Nichol (ADM, table 5, ImageNet at 256 pixels): BigGAN-deep
# has FID 6.95, precision .87 and recall .28; ADM 10.94, .69 and .63; ADM with classifier guidance 4.59, .82 and .52. On pictures of
# one class the gap is smaller: on LSUN horses StyleGAN2 has a recall of .48 and ADM one of .55.

# %% [markdown] tags=["play"]
# ## Play
#
# Both trainings of this page, side by side. The latents of the GAN are the same in each frame, and so is the noise that the diffusion
# model starts from. Look at what a point does from frame to frame: does it stay with its cloud?

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Points

behind = ring.sample(300, torch.Generator().manual_seed(2))[0]
shown = min(len(stable_seen), len(plain_seen), len(diffusion_seen))
scrub(
    {
        "GAN, plain": Points(plain_seen[:shown], 2.2, behind=behind),
        "GAN, R1 and averaged": Points(stable_seen[:shown], 2.2, behind=behind),
        "diffusion": Points(torch.stack(diffusion_seen[:shown]), 2.2, behind=behind),
    },
    [f"{i / max(1, shown - 1):.0%} of the training" for i in range(shown)],
    alt="Three clouds of points over the training. The plain GAN: a spot, then an arc along the ring that stays open. The GAN with R1: a "
    "spot, then a ring, which gathers in eight spots with thin threads between them. Diffusion: noise, then a ring, which gathers in eight "
    "clouds at the same time.",
    title="Three clouds learn",
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your functions against the package's, and against torch's own cross-entropy.

# %%
from diffusion_lessons.training import adversarial

real, made = torch.randn(2, 50, generator=generator)
bce = torch.nn.functional.binary_cross_entropy_with_logits
judge, loss = gan_losses(real, made)
torchs = bce(real, torch.ones(50)) + bce(made, torch.zeros(50)), bce(made, torch.ones(50))
print(f"losses against torch's: {max(abs(judge - torchs[0]), abs(loss - torchs[1])):.0e}")
ours = adversarial.discriminator_loss(real, made), adversarial.generator_loss(made)
print(f"losses against ours:    {max(abs(judge - ours[0]), abs(loss - ours[1])):.0e}")
found = count_modes(samples["plain"], centres, SPREAD)
covered, kl = modes_covered(samples["plain"], centres, SPREAD)
print(f"modes against ours:     {abs(covered - found.covered)} and {abs(kl - found.kl):.0e}")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks | seen in |
# |---|---|---|
# | cross-entropy after a sigmoid, or of logits | the loss sticks, gradients of 0 | ganhacks#36, ESRGAN-PyTorch#8 |
# | made samples labelled 1 in the discriminator's loss | it learns to help the generator | SerezD/vqvae-vqgan#3 |
# | the generator's backward pass leaves gradients in the discriminator | it learns to be fooled | lightning#591, BigGAN-PyTorch#25 |
# | R1 of softplus(D) | no penalty where the discriminator is sure | style-based-gan#34 |
# | R1 detached "to save memory" | a constant: no effect | R3GAN#20 |
# | a penalty at every 16th step, not multiplied by 16 | too weak by 16 | labml#161 |
# | norm over channels, or over the batch | a penalty of 10,000 | wgan-gp#27, pytorch-wgan#40 |
# | real and made samples in one batch norm | the discriminator sees its neighbours | DCGAN-tensorflow#266 |
# | averaged weights without batch norm's buffers | good in training, grey in evaluation | FastGAN#4, OASIS#21 |
# | spectral norm that goes on iterating in evaluation | the discriminator changes while it is measured | pytorch#8208 |
# | "one hit is a mode" | a blur, 2,500 samples of N(0, I), covers 15 to 20 of 25 (ten draws) | mode counting in several papers |
# | a sampler's error taken for the model's | narrow modes, also with an exact denoiser | this page |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "How do diffusion models compare with GANs?",
    "*Training*: a GAN is a game that needs a stabiliser and the right learning rate, and no loss compares "
    "two models. A diffusion model is a regression: here, with sines of its input, it covered all "
    "modes at four rates.\n\n"
    "*Coverage*: a well-tuned GAN can cover all modes; an untuned one drops some or most. "
    "On ImageNet GANs have the higher precision and the lower recall; on MNIST here, too "
    "(precision .76 against .52, recall .72 against .94).\n\n"
    "*Speed*: a GAN draws in one evaluation, diffusion in 25 to 1000. Distillation closes most of it.",
    [
        (
            "Why does a GAN drop modes?",
            "The generator's loss asks whether each sample looks real, never whether each real sample is made. A generator with one good "
            "mode is corrected only by way of the discriminator, and it may move to the next mode faster than it spreads.",
        ),
        (
            "Why the non-saturating loss?",
            "The gradient of log(1 − D) with respect to the logit is −D: nothing where the generator is worst. That of −log D is −(1 − D).",
        ),
        (
            "What does R1 do, and why at real samples?",
            "It flattens the discriminator where the goal lies. There it has to be flat in the end, so the fixed point stays; on the way "
            "the penalty damps the circling of the two players.",
        ),
        (
            "Does the loss of a diffusion model say how good it is?",
            "It falls and can be compared between runs of the same schedule, target and data. But most of it cannot be learnt (the "
            "variance of the target), so good and bad models differ in the third digit.",
        ),
        (
            "When would you still choose a GAN?",
            "Where one evaluation must do: video games, phones, upsampling in real time; as a loss on top of another (autoencoders, "
            "distillation of diffusion models into few steps).",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "The discriminator's loss is 1.386 = 2 ln 2 for a thousand steps. What do you know?",
        [
            Choice(
                "the GAN has converged",
                False,
                "It would look like that. But a weak discriminator looks the same.",
            ),
            Choice(
                "the generator has won for good",
                False,
                "There is no winning for good: the next step may change it.",
            ),
            Choice(
                "only that the discriminator tells nothing",
                True,
                "That is so at the goal, and with a weak discriminator. Give it a task that it should solve: real samples against shifted ones.",
            ),
        ],
    ),
    Question(
        "Two generators: A covers 25 of 25 modes with KL 0.4, B 25 of 25 with KL 0.01. Which is true?",
        [
            Choice(
                "A draws some modes much more often than others",
                True,
                "That is what the KL of shares measures.",
            ),
            Choice("they are equally good", False, "Covered only asks for a fifth of a mode's due."),
            Choice("B's modes have the wrong width", False, "Shares say nothing about width."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "With even time steps a diffusion model draws modes half as wide as the data. What do you try first?",
        [
            Choice("a larger network", False, "An exact denoiser does the same with these steps."),
            Choice("more steps near t = 0", True, "The last guess is a mean, and means vary too little."),
            Choice(
                "a discriminator",
                False,
                "It may help in the end, but it costs a second player. First mend the sampler.",
            ),
        ],
    ),
    title="One more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Goodfellow et al. 2014, *Generative Adversarial Nets*, arXiv 1406.2661: section 3, the game and the non-saturating loss.
# - Mescheder, Geiger and Nowozin 2018, *Which Training Methods for GANs do actually Converge?*, arXiv 1801.04406: equation 9, R1.
# - Lin et al. 2018, *PacGAN*, arXiv 1712.04086: section 4.1 and table 1, the grid of 25 modes.
# - Dhariwal and Nichol 2021, *Diffusion Models Beat GANs on Image Synthesis*, arXiv 2105.05233: table 5.
# - Kynkäänniemi et al. 2019, *Improved Precision and Recall Metric*, arXiv 1904.06991: equations 1 and 2.
# - Tancik et al. 2020, *Fourier Features Let Networks Learn High Frequency Functions*, arXiv 2006.10739: equation 5.
#
# Pictures stand still. The next lesson lets them move. {{lesson 14}}
