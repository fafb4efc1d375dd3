# %% [markdown] tags=["header"]
# title: SNR weighting
# question: Why do noise levels count unequally in training, and what do v-prediction and Min-SNR change?
# difficulty: 2
# prerequisites: 03, 04, 05, 08
# builds: V

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - write the target v, and get picture and noise back from it (exercises 17.1 and 17.2)
# - carry one weight over to any target (exercise 17.3)
# - say why ε fails at zero terminal SNR, and why v does not (exercise 17.2)
# - find the bug that a widely used training script had in Min-SNR (exercise 17.4)
# - build a loss with any target and any weight, and measure how many times sooner it gets there (exercises 17.5 and
#   17.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# A network sees a noisy picture $x$. What should it answer? Three answers are in use: the picture $x_0$, the noise ε,
# and a mixture of the two, called v. Move the slider from data to noise and watch the last row.

# %%
import math

import torch

from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.data import load_dataset
from diffusion_lessons.training.recipe import PATHS

cosine = PATHS["cosine"]()
train_digits = load_dataset("digits", "train")
picked = torch.tensor([int((train_digits.labels == k).nonzero()[0]) for k in (3, 0, 8, 2)])
pictures, _ = train_digits.batch(picked)  # (4, 1, 16, 16) in [-1, 1]
noise = torch.randn(pictures.shape, generator=generator)

# %% jupyter={"source_hidden": true}
from diffusion_lessons.paths import add_noise
from diffusion_lessons.targets import V


def row(x):
    """Four pictures as one, side by side, in fewer shades, so that the notebook stays small."""
    return (torch.cat(list(x), -1).clamp(-2, 2) * 8).round() / 16


levels = cosine.levels(20)[::-1][1:]  # from little noise to much
scrub(
    {
        "x, which the network sees": torch.stack([row(add_noise(pictures, noise, level)) for level in levels]),
        "ε": torch.stack([row(noise)] * len(levels)),
        "x₀": torch.stack([row(pictures)] * len(levels)),
        "v": torch.stack([row(V.of(pictures, noise, level)) for level in levels]),
    },
    levels,
    alt="Four rows of four digits, from little noise to much. x goes from digits to noise. The rows of ε and x₀ stay the same. "
    "v goes the other way: it is noise where x is a digit, and the digits in negative where x is noise.",
    title="What the network sees, and three things it may answer",
    columns=5,
)

# %% [markdown]
# v always shows what $x$ does not. Where $x$ is a clear digit, v is the noise. Where $x$ is noise, v is the digit, in
# negative. So v is never trivial. ε and $x_0$ are: in one of the two ends the answer can be read off the input.

# %% [markdown] tags=["guess"]
# ## Guess
#
# A loss is a mean over many noise levels. **Which levels should count more**: those with little noise, those with much,
# or those in between? And can one choose at all, or does the choice of the answer decide it? Take two minutes.
#
# <details><summary>What can be said</summary>
#
# - *All alike.* Alike in which unit? An error of 0.1 in ε is a tiny error in $x_0$ where noise is weak, and a huge one
#   where noise is strong. "All alike" for ε, for $x_0$ and for v are three different trainings.
# - *As the bound says* (lesson 4). It asks most at levels with so little noise that nobody sees the errors.
# - *By difficulty.* A network soon denoises weak noise. It is in the middle that it has to learn shapes.
# - *By measuring.* Train with several weights, tune each, compare the pictures. That is the end of this lesson.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# A schedule ends at zero SNR (lesson 5): at t = T the input is pure noise. We train a network to answer ε, with the
# plain squared error.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "What does a perfect network know about the pictures at t = T?",
    [
        Choice(
            "nothing: it hands back x, and its loss is 0",
            True,
            "There x is ε. The task is trivial, and it teaches nothing about pictures.",
        ),
        Choice(
            "their mean, as at any other level",
            False,
            "Its answer says nothing about them: x̂₀ = (x − ε̂)/0.",
        ),
        Choice(
            "nothing: its loss is infinite",
            False,
            "The loss in ε is 0 there. It is the way back to x₀ that is infinite.",
        ),
        Choice(
            "everything that its training set holds",
            False,
            "Nothing in the input tells pictures apart, and the answer ε needs no picture.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## v, a quarter turn away
#
# Picture and noise are two directions. At each level $x$ is a point on a quarter circle between them: α and σ are the
# cosine and the sine of an angle, since $\alpha^2 + \sigma^2 = 1$.
#
# Walk along this circle. The direction in which you walk is perpendicular to where you stand. That direction is **v**
# (for velocity; Salimans and Ho 2022). With $x$ and v you know a point and its tangent, and so both picture and noise.
# With $x$ and ε alone it gets difficult where $x$ is nearly ε.

# %% [markdown]
# $$x = \alpha\, x_0 + \sigma\, \varepsilon, \qquad v = \alpha\, \varepsilon - \sigma\, x_0$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_0, \varepsilon$ | clean picture, noise N(0, 1) | (B, C, H, W) |
# | $\alpha, \sigma$ | factors at each picture's level, $\alpha^2 + \sigma^2 = 1$ | (B, 1, 1, 1) |
# | $x, v$ | what the network sees, what it should answer | (B, C, H, W) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 17.1}}


# %% tags=["exercise"]
@exercise("17.1")
def v_target(x0, noise, alpha, sigma):
    """What a network that predicts v should answer, (B, C, H, W).

    x0: clean pictures; noise: N(0, 1), both (B, C, H, W). alpha, sigma: (B, 1, 1, 1), of each picture's level.
    """
    ### BEGIN SOLUTION
    return alpha * noise - sigma * x0
    ### END SOLUTION


# %% tags=["nbval-check-output"]
def factors(path, t):
    """alpha and sigma (B, 1, 1, 1) at times t (B,)."""
    level = path(t)
    return level.alpha.view(-1, 1, 1, 1).float(), level.sigma.view(-1, 1, 1, 1).float()


now, later = (factors(cosine, torch.full((4,), t)) for t in (500.0, 500.5))
angle = [torch.atan2(sigma, alpha) for alpha, sigma in (now, later)]
points = [alpha * pictures + sigma * noise for alpha, sigma in (now, later)]
tangent = (points[1] - points[0]) / (angle[1] - angle[0])
v = v_target(pictures, noise, *now)
print(f"direction of the walk against v: {((tangent - v).norm() / v.norm()).item():.1%} apart")
print(f"standard deviation: x {points[0].std().item():.2f}, v {v.std().item():.2f}")

# %% [markdown]
# The step from $x$ to a slightly larger angle, divided by the change of the angle, is v. And v is about as large as $x$.
# Now the way back. Turn by the same angle in the other direction, and you have picture and noise.

# %% [markdown] tags=["exercise-card"]
# {{exercise 17.2}}


# %% tags=["exercise"]
@exercise("17.2")
def from_v(v, x, alpha, sigma):
    """The pair (x0, eps) that the answer v means, both (B, C, H, W).

    v: the network's answer; x: what it saw, both (B, C, H, W). alpha, sigma: (B, 1, 1, 1), with alpha² + sigma² = 1.
    alpha may be 0.
    """
    ### BEGIN SOLUTION
    x0 = alpha * x - sigma * v
    eps = sigma * x + alpha * v
    return x0, eps
    ### END SOLUTION


# %%
from diffusion_lessons.targets import EPSILON, X0

wrong = 0.1 * torch.randn(pictures.shape, generator=generator)  # an error of 0.1 in any answer
print("error in x₀ if the answer is wrong by 0.1 a pixel")
print("    t    x₀        ε        v")
enlarged = {"x₀": [], "ε": [], "v": []}
for t in (20.0, 250.0, 500.0, 750.0, 980.0):
    level, (alpha, sigma) = cosine(t), factors(cosine, torch.full((4,), t))
    x = alpha * pictures + sigma * noise
    found = {"x₀": X0.solve(pictures + wrong, x, level).x0, "ε": EPSILON.solve(noise + wrong, x, level).x0}
    found["v"] = from_v(v_target(pictures, noise, alpha, sigma) + wrong, x, alpha, sigma)[0]
    errors = {name: ((each - pictures).std() / wrong.std()).item() for name, each in found.items()}
    for name, error in errors.items():
        enlarged[name].append((level.log_snr.item(), error))
    print(f"{t:5.0f} " + " ".join(f"{error / 10:8.4f}" for error in errors.values()))

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

along = torch.linspace(-9, 9, 200).double()
alphas, sigmas = along.sigmoid().sqrt(), (-along).sigmoid().sqrt()
fig, ax = plt.subplots(figsize=(7.4, 3.2))
for (name, curve), line in zip(
    {"x₀": torch.ones(200), "ε": sigmas / alphas, "v": sigmas}.items(), ("-", "--", "-."), strict=True
):
    (drawn,) = ax.semilogy(along, curve, line, marker="", label=f"the network answers {name}")
    where, errors = zip(*enlarged[name], strict=True)
    ax.semilogy(where, errors, "o", color=drawn.get_color(), ms=4)
ax.set(xlabel="log SNR  (← noise      data →)", ylabel="error in x₀ per error in the answer")
ax.legend()
figure(
    fig,
    alt="Error in x₀ over log SNR, for the same error in each answer; points measured, lines from the formulas. x₀: 1 everywhere. ε: a "
    "straight line from 90 in much noise to 0.01 near the data. v: 1 in noise, and like ε near the data.",
)

# %% [markdown]
# **What to notice:** the points are measured, the lines are $1$, $\sigma/\alpha$ and $\sigma$. At each level an error in v
# is enlarged least of the three, and never above 1. In much noise it comes into $x_0$ like an error in $x_0$ itself; near
# the data like an error in ε. How large a trained network's error *is* the figure does not say. That has to be measured.

# %% [markdown] tags=["idea"]
# ## One weight, seen from three sides
#
# All weights follow from the figure above. Take a squared error in ε. The same guess has a squared error in $x_0$ that
# is $(\sigma/\alpha)^2$ times as large. So "plain squared error in ε" is a *weighted* squared error in $x_0$, with the
# weight $\alpha^2/\sigma^2$: the SNR.
#
# Every loss of this lesson is therefore one thing: **a weight $w$ on the error in $x_0$, as a function of the SNR**. The
# answer that the network gives decides how $w$ looks from its side, and which function the network has to compute.
#
# That separates two choices that papers often change together: the target and the weight.

# %% [markdown]
# $$w\,|x_0 - \hat x_0|^2 \;=\; w\,\frac{\sigma^2}{\alpha^2}\,|\varepsilon - \hat\varepsilon|^2 \;=\; w\,\sigma^2\,|v - \hat v|^2,
# \qquad \sigma^2 = \frac{1}{\mathrm{SNR} + 1}$$
#
# | weight | seen from $x_0$ | seen from ε | seen from v |
# |---|---|---|---|
# | plain error in $x_0$ | 1 | 1/SNR | 1/(SNR + 1) |
# | plain error in ε (lesson 4) | SNR | 1 | SNR/(SNR + 1) |
# | plain error in v | SNR + 1 | 1 + 1/SNR | 1 |
# | truncated SNR | max(SNR, 1) | max(1, 1/SNR) | max(SNR, 1)/(SNR + 1) |
# | Min-SNR-γ | min(SNR, γ) | min(1, γ/SNR) | min(SNR, γ)/(SNR + 1) |
# | P2 (its own k and γ both 1) | SNR/(1 + SNR) | 1/(1 + SNR) | SNR/(1 + SNR)² |

# %% [markdown] tags=["exercise-card"]
# {{exercise 17.3}}


# %% tags=["exercise"]
@exercise("17.3")
def weight_for(target, weight, alpha, sigma):
    """The weight (B,) on the squared error of what the network answers: "x0", "epsilon" or "v".

    weight: (B,), on the squared error in x0. alpha, sigma: (B,), with alpha² + sigma² = 1. Where the target is "x0" or
    "v", alpha may be 0.
    """
    ### BEGIN SOLUTION
    if target == "x0":
        return weight
    if target == "epsilon":
        return weight * (sigma / alpha) ** 2
    return weight * sigma**2
    ### END SOLUTION


# %%
from diffusion_lessons import losses
from diffusion_lessons.paths import Level

WEIGHTS = {
    "plain in ε: SNR": losses.simple,
    "plain in x₀: 1": lambda level: torch.ones_like(level.snr),
    "plain in v: SNR + 1": losses.snr_plus_one,
    "truncated SNR": losses.truncated_snr,
    "Min-SNR-5": losses.min_snr(5.0),
    "P2": losses.p2(),
}
everywhere = Level(along, alphas, sigmas)  # the SNR is all that counts, so any time will do
seen = {
    target: {
        name: weight_for(target, weight(everywhere), alphas, sigmas) for name, weight in WEIGHTS.items()
    }
    for target in ("x0", "epsilon", "v")
}

# %% jupyter={"source_hidden": true}
STYLES = ("-", (0, (6, 2)), "-.", (0, (1, 1)), (0, (8, 2, 2, 2)), (0, (3, 1)))
fig, axes = plt.subplots(1, 3, figsize=(10.4, 4.4), sharey=True)
for ax, (target, curves) in zip(axes, seen.items(), strict=True):
    for (name, curve), line in zip(curves.items(), STYLES, strict=True):
        ax.semilogy(along, curve, linestyle=line, marker="", label=name, lw=1.8)
    ax.set(xlabel="log SNR", title=f"seen from {dict(x0='x₀', epsilon='ε', v='v')[target]}", ylim=(1e-4, 1e4))
axes[0].set(ylabel="weight")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=5)
figure(
    fig,
    alt="Six weights over log SNR in three panels. Seen from x₀: SNR and SNR + 1 rise without end to the right, the constant is level, "
    "Min-SNR rises and stops at 5, P2 rises and stops at 1, truncated SNR is level at 1 and then rises. Seen from ε the same six curves are "
    "tilted: what was level falls to the right. Seen from v only their right half is tilted.",
)

# %% [markdown]
# **What to notice:** the six trainings are the same in each panel. Only the view is tilted: from ε all of it, from v the
# right half. Seen from $x_0$, three weights rise without end near the data: SNR, SNR + 1 and truncated SNR. The others
# stop. In much noise three go to 0 with the SNR (plain ε, Min-SNR, P2), and three do not (plain $x_0$, plain v, truncated).
#
# An $x_0$-error of a well-trained network is itself small where noise is weak. So the curves alone do not say how much
# each level contributes. That has to be measured.

# %% [markdown] tags=["idea"]
# ## Why ε fails at zero terminal SNR
#
# Lesson 5 rescaled schedules so that the last level is pure noise: SNR = 0. Then look at the row of ε in both
# directions.
#
# *Training:* its plain error is a weight of SNR = 0 on the picture. The network learns nothing there. *Sampling:*
# $\hat x_0 = (x - \sigma\hat\varepsilon)/\alpha$ divides by 0, in the very first step.
#
# No weight mends it. A finite weight on $x_0$ is an infinite one on ε. A clipped weight is finite, but the division
# in sampling stays. One has to ask for something else, and v and $x_0$ are both fine.

# %% [markdown]
# $$\mathrm{SNR} = 0:\qquad \hat\varepsilon = x \;\;\text{(always right)}, \qquad \hat v = -\hat x_0 \;\;\text{(all there is to say)}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\hat\varepsilon, \hat v, \hat x_0$ | a network's answers at the last level | (B, C, H, W) |

# %%
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import linear_betas, rescale_zero_terminal_snr

zero = DiscreteVP(rescale_zero_terminal_snr(linear_betas()))
print("    t      SNR    error in x₀ per error in ε    in v")
for t in (900.0, 990.0, 999.0, 1000.0):
    level = zero(t)
    print(f"{t:5.0f} {level.snr:9.1e} {level.sigma / level.alpha:17.1f} {level.sigma:21.2f}")
last = zero(1000.0)
try:
    EPSILON.solve(noise, noise, last)
except ValueError as error:
    print(f"ε: {error}")
x0, eps = from_v(-pictures, noise, *factors(zero, torch.full((4,), 1000.0)))
print(f"v: picture found with an error of {(x0 - pictures).abs().max():g}, noise with {(eps - noise).abs().max():g}")

# %% jupyter={"source_hidden": true}
slip, rows = 0.02 * torch.randn(1, 1, 16, 16, generator=generator), {"from ε": [], "from v": []}
for t in (500.0, 800.0, 900.0, 950.0, 990.0):
    level, one, of = zero(t), pictures[:1], noise[:1]
    x = add_noise(one, of, level)
    rows["from ε"].append(EPSILON.solve(of + slip, x, level).x0)
    rows["from v"].append(V.solve(V.of(one, of, level) + slip, x, level).x0)
strip(
    {name: torch.cat(found).clamp(-1, 1) for name, found in rows.items()},
    alt="A 3, found from answers that are wrong by 0.02 a pixel, at five times. From v it is clear at each. From ε it is clear at t = 500, "
    "grainy at 800, hard to see at 900, and noise at 950 and 990.",
    captions=["t = 500", "t = 800", "t = 900", "t = 950", "t = 990"],
    columns=5,
)

# %% [markdown]
# **What to notice:** for the last line we handed in the right v, $-x_0$. A network that sees pure noise cannot know it; the
# best it can answer is minus the mean picture of the class. That is blurred, but finite.
#
# In the strip every answer is wrong by the same 0.02. At t = 950 the picture from ε is lost in it. So the factor is large
# well before the last step. Stable Diffusion 1 ends at an SNR of 0.005, where the factor is 15. There ε works, at the price of a
# wrong mean brightness (lesson 5).

# %% [markdown] tags=["idea"]
# ## Levels that pull against each other
#
# A network has one set of parameters for all levels. In each step, the gradient is a sum over levels. Hang et al. (2023) see
# it as many tasks at once: a step that helps one level may harm another, and a weight decides who wins.
#
# Their answer is short: let the weight follow the SNR, so that noise does not count too much, and **cut it at γ**, so
# that clean levels do not take over. That is Min-SNR-γ, with γ = 5. Choi et al. (2022) had bent the curve before them,
# softly: P2.
#
# v needs care. The 1 of SNR + 1 comes from carrying the weight over. It belongs below the line.

# %% [markdown]
# $$w(\mathrm{SNR}) = \min(\mathrm{SNR}, \gamma) \quad\Rightarrow\quad
# w_\varepsilon = \frac{\min(\mathrm{SNR},\gamma)}{\mathrm{SNR}}, \qquad w_v = \frac{\min(\mathrm{SNR},\gamma)}{\mathrm{SNR}+1}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $w, w_\varepsilon, w_v$ | weight on the squared error in $x_0$, in ε, in v | (B,) |
# | $\gamma$ | where the weight stops to rise; 5 in the paper | number |

# %% [markdown] tags=["exercise-card"]
# The next function stood in widely used training scripts in the autumn of 2023.
#
# {{exercise 17.4}}


# %% tags=["exercise"]
@exercise("17.4")
def min_snr_for_v(snr, gamma):
    """Min-SNR's weight (B,) on the squared error in v. snr: (B,), at least 0; gamma: a number above 0."""
    ### BEGIN SOLUTION
    cut = torch.clamp(snr, max=gamma)
    return cut / (snr + 1)
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "For v one adds 1 to the SNR. It trains well. But at pure noise the weight is 1, not 0."
    # snr = snr + 1
    # cut = torch.clamp(snr, max=gamma)
    # return cut / snr
    ### END STUDENT


# %% tags=["nbval-check-output"]
snr = torch.tensor([0.0, 0.01, 1.0, 5.0, 100.0])
print("SNR                        " + " ".join(f"{each:6g}" for each in snr.tolist()))
meant = min_snr_for_v(snr, 5.0) * (snr + 1)  # what it means for the error in x₀
print("meant for the error in x₀  " + " ".join(f"{each:6.2f}" for each in meant.tolist()))

# %% [markdown]
# Multiply by SNR + 1 and you see what a weight on v means for $x_0$. This check finds every bug of this kind.

# %% [markdown] tags=["exercise-card"]
# Now the whole loss. It is the loss of lesson 4 with two more arguments.
#
# {{exercise 17.5}}


# %% tags=["exercise"]
@exercise("17.5")
def weighted_loss(network, x0, noise, t, alpha, sigma, target, weight):
    """The mean over the batch of the weighted squared error of what the network answers: 0-d.

    network(x, t) answers to noisy pictures x at times t (B,), given as they are. x0, noise: (B, C, H, W); alpha, sigma:
    (B,), at these times. target: "x0", "epsilon" or "v". weight(snr) gives the weight (B,) on the error in x0, for
    SNRs (B,). A picture's error is the mean over its pixels.
    """
    ### BEGIN SOLUTION
    a, s = alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)
    x = a * x0 + s * noise
    wanted = {"x0": x0, "epsilon": noise, "v": v_target(x0, noise, a, s)}[target]
    error = (network(x, t) - wanted).square().flatten(1).mean(1)
    factor = weight_for(target, weight((alpha / sigma) ** 2), alpha, sigma)
    return (factor * error).mean()
    ### END SOLUTION


# %% [markdown]
# A training with your loss. Batches, noise and times are those of the package's training (lesson 4), so that two
# trainings with one seed differ in the weight alone.

# %%
from dataclasses import replace

from diffusion_lessons.course import Watched
from diffusion_lessons.experiments.snr_weighting import RECIPE
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.tasks import Denoising


# %%

def learn(target, weight, lr, steps, seed=0):
    """A U-Net trained by your loss: the network with averaged weights."""
    task = Denoising(replace(RECIPE, steps=steps, seed=seed, target=target), train_digits).place(device)
    network, path = task.network, task.path
    average, optimizer = EMA(network), torch.optim.AdamW(network.parameters(), lr)
    for step in (watched := Watched(steps)):
        x0, noise, t, labels = task.batch(step)
        level = path(t)
        alpha, sigma = level.alpha.float().to(device), level.sigma.float().to(device)
        told = lambda x, t: network(x, path.network_time(t).to(x), labels)
        optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / 30)  # warm-up
        optimizer.zero_grad()
        loss = weighted_loss(told, x0, noise, t, alpha, sigma, target, weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network)
        watched.tell(loss)
    average.copy_to(network)
    return network.eval()


# %%
mine = {"SNR": lambda snr: snr, "Min-SNR-5": lambda snr: snr.clip(0, 5)}
pair = {name: learn("epsilon", weight, lr=4e-3, steps=budget.steps(125)) for name, weight in mine.items()}

# %%
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.experiments.pictures import draw, measured
from diffusion_lessons.guidance import Clip

n = budget.samples(200, at_least=70)  # a distance over 64 numbers needs more than 64 pictures
labels = torch.arange(n, device=device) % 10


@torch.no_grad()
def sampled(network, target, keep=Clip):
    """n digits, all classes in turn, by 20 steps of DDIM from the same noise; Clip keeps each x̂₀ in [−1, 1]."""
    denoiser = keep(NetworkDenoiser(network, cosine, target))
    return draw(denoiser, cosine.levels(20), labels, train_digits.shape, seed=0).clamp(-1, 1)


# %%
drawn = {name: sampled(network, EPSILON) for name, network in pair.items()}
drawn["SNR, x̂₀ not clipped"] = sampled(pair["SNR"], EPSILON, keep=lambda denoiser: denoiser)
mixed = torch.randperm(len(train_digits), generator=generator)
order = torch.cat([mixed[train_digits.labels[mixed] == k][: n // 10] for k in range(10)])
drawn["real digits"], real_labels = train_digits.batch(order)
for name, digits in drawn.items():
    wanted = real_labels if name == "real digits" else labels
    found = measured(digits, wanted.cpu(), "digits")
    print(f"{name:20} Fréchet distance {found['frechet']:.2f} ± {found['frechet_error']:.2f}, ", end="")
    print(f"{found['accuracy']:.0%} read as asked")
print(f"n = {n}, one seed; ± one standard error over the draw of the pictures")

# %% jupyter={"source_hidden": true}
strip(
    {"SNR": drawn["SNR"][:10], "Min-SNR-5": drawn["Min-SNR-5"][:10]},
    alt="Digits 0 to 9 in two rows that look alike. In both, 0, 3, 6, 7 and 8 can be read; 1, 2, 4, 5 and 9 are blots, or stand before "
    "a spotted bright background.",
    captions=[str(k) for k in range(10)],
    columns=10,
)

# %% [markdown]
# **What to notice:** both networks took as many steps, from the same start, with the same pictures in the same order.
# Only the weight differs. Side by side the ten digits look alike; the distance over 200 of them tells the two apart. But
# this is one seed, one target, and a very short training. The experiment below has three seeds.
#
# The line "SNR, x̂₀ not clipped" shows *why ε fails* with a trained network. The path ends at an SNR of 2·10⁻⁹: there an error
# in ε is 20,000 times as large in $\hat x_0$. The distance more than doubles, although as many digits are read as asked. The
# other lines come through because their sampler clips each $\hat x_0$ to [−1, 1] (lesson 3).
#
# Now the other half of the claim: do levels *contribute* unequally? We take the network that learnt with plain SNR,
# and four bands of noise. For each band we compute the gradient of your loss, with three weights. Each band has pictures
# and noise of its own. For SNR we do it twice: two draws of one band say how far a gradient can be trusted.

# %%
bands = {"SNR > 27": (0.0, 115.0), "27 to 1": (115.0, 500.0), "1 to 0.03": (500.0, 885.0), "below": (885.0, 999.0)}


def gradient(network, weight, low, high, number):
    """The gradient of your loss at 300 times from low to high, with the pictures and the noise of a draw: one vector."""
    own = torch.Generator().manual_seed(number)
    some, some_labels = train_digits.batch(torch.randperm(len(train_digits), generator=own)[:300])
    level = cosine(low + (high - low) * (torch.arange(300).double() + 0.5) / 300)
    told = lambda x, t: network(x, cosine.network_time(t).to(x), some_labels.to(device))
    data = [each.to(device) for each in (some, torch.randn(some.shape, generator=own))]
    on = [each.float().to(device) for each in (level.alpha, level.sigma)]
    network.zero_grad()
    weighted_loss(told, *data, level.t, *on, "epsilon", weight).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


# %%
def by_band(weight, first):
    """The gradients of the four bands, each as long as its share of the times is: (4, parameters)."""
    found = [gradient(pair["SNR"], weight, *band, first + k) for k, band in enumerate(bands.values())]
    return torch.stack([each * (high - low) / 999 for each, (low, high) in zip(found, bands.values(), strict=True)])


names = {"constant": lambda snr: torch.ones_like(snr), **mine}
parts = {name: by_band(weight, 0) for name, weight in names.items()}
print(f"{'share of the lengths':22}" + "".join(f"{band:>12}" for band in bands))
for name, part in parts.items():
    share = part.norm(dim=1) / part.norm(dim=1).sum()
    print(f"{name:22}" + "".join(f"{each:12.0%}" for each in share.tolist()))
print("with SNR, cosine of the angle to the gradient of a second draw, of the band")
once, again = (torch.nn.functional.normalize(part, dim=1) for part in (parts["SNR"], by_band(mine["SNR"], 4)))
for name, row_of in zip(bands, (once @ again.T).tolist(), strict=True):
    print(f"{name:22}" + "".join(f"{each:12.2f}" for each in row_of))

# %% [markdown]
# **What to notice:** with plain SNR, four tenths of the gradient's length come from levels with SNR > 27, where only the last
# bit of noise is to be removed. Min-SNR takes most of that away, and the middle gets it. A constant weight on $x_0$ is 1/SNR
# on ε: nearly all of the gradient comes from the noisiest levels.
#
# Do the levels pull *against* each other? That would be a negative cosine. The diagonal of the table is the control: two
# draws of one band. The first band's gradient points the same way in both draws, and is nearly perpendicular to all others:
# it neither helps nor harms them. The gradient of the third band, "1 to 0.03", points elsewhere with each draw, so 300 pictures
# say nothing about its conflicts. This is one network after a short training. Hang et al. train a finished network further,
# with the levels of one band alone, and find that other levels get worse.
#
# Both shares and angles change with training: with the small budget, after a few steps, the cosines are close to 1 and the
# first band hardly counts: all levels still ask for the same change.

# %% [markdown] tags=["experiment"]
# ## Experiment: targets and weights over training
#
# The recorded experiment trains two networks. The package's **U-Net** learns 16 × 16 digits, with each target's plain
# error and with Min-SNR-5. A residual **MLP** (linear layers and activations, no convolutions) learns the 8 × 8 originals (upsampled before they are
# measured), with nine combinations.
#
# What makes it fair: the same pictures, noise and steps for all. The learning rate of each combination is the best of
# 0.001, 0.002 and 0.004 at the first mark, found with a fourth seed. It does not decay, so that a mark does not know how
# long the training will be; the averaged weights are measured. 300 digits by 20 steps of DDIM, three seeds.
# `diffusion-lessons experiment snr-weighting --n 300` runs it again.
#
# Ten of the fifteen combinations have their best rate at an end of these three. So the next rate, half of 0.001 or double
# 0.004, was tried too, with the fourth seed at the first mark (not in the record). It is worse, but for $x_0$ on the MLP with
# its plain error, with SNR and with truncated SNR.

# %% [markdown] tags=["exercise-card"]
# Two curves, and one number that papers print: how many times sooner?
#
# {{exercise 17.6}}


# %% tags=["exercise"]
@exercise("17.6")
def speed_up(steps, plain, weighted):
    """How many times sooner `weighted` is as good as `plain` at its end: a number.

    steps: rising numbers of steps at which both were measured, at least two; plain, weighted: their distances there (small
    is good). The goal is plain's last distance. Find the first place where weighted is at most the goal; between two
    marks, interpolate the logarithm of the distance over the logarithm of the steps. The result is the last number of
    steps over the steps at that place. If the first mark reaches the goal, that mark is the place; if none does: 0.
    """
    ### BEGIN SOLUTION
    goal = math.log(plain[-1])
    heights = [math.log(each) for each in weighted]
    if heights[0] <= goal:
        return steps[-1] / steps[0]
    for k in range(1, len(steps)):
        if heights[k] <= goal:
            share = (heights[k - 1] - goal) / (heights[k - 1] - heights[k])
            place = math.log(steps[k - 1]) + share * math.log(steps[k] / steps[k - 1])
            return steps[-1] / math.exp(place)
    return 0.0
    ### END SOLUTION


# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

record, cells = recorded("snr-weighting"), {}
for row_of in record["rows"]:
    if "lr" not in row_of["settings"]:
        cell = tuple(row_of["settings"][each] for each in ("network", "target", "weight"))
        cells.setdefault(cell, []).append(row_of)
SAID = {"plain": "plain", "min-snr": "Min-SNR-5", "p2": "P2", "truncated-snr": "truncated SNR", "simple": "SNR"}
SYMBOL = {"epsilon": "ε", "v": "v", "x0": "x₀"}
seeds = len(next(iter(cells.values())))
print(f"recorded: n = {record['options']['n']}, torch {record['versions']['torch']}, {record['hardware']['processor']}")
for (network, target, weight), rows in cells.items():
    curves = torch.tensor([each["at_marks"]["frechet"] for each in rows])  # seeds, marks
    mean, error = curves.mean(0).tolist(), (curves.std(0) / len(rows) ** 0.5).tolist()
    said = "   ".join(f"{m:5.2f} ± {e:.2f}" for m, e in zip(mean, error, strict=True))
    drawing = sum(each["at_marks"]["uncertainty"][-1] for each in rows) / len(rows)
    name = f"{network:5} {SYMBOL[target]:2} {SAID[weight]:14}"
    print(f"{name} lr {rows[0]['rate']:g}   {said}   (draw {drawing:.2f})")
marks = {network: rows[0]["marks"] for (network, *_), rows in cells.items()}
for network, steps in marks.items():
    print(f"{network}: Fréchet distance after {steps} steps")
print(f"± one standard error over {seeds} seeds; (draw): over the pictures of one last figure")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(9.6, 5.2), sharey=True)
LINES = {"plain": "-", "min-snr": "--", "p2": "-.", "truncated-snr": ":", "simple": (0, (9, 2, 2, 2, 2, 2))}
COLOUR = {"epsilon": "#0072B2", "v": "#D55E00", "x0": "#009E73"}
for ax, network in zip(axes, ("unet", "mlp"), strict=True):
    for (kind, target, weight), rows in cells.items():
        if kind == network:
            curves = torch.tensor([each["at_marks"]["frechet"] for each in rows])
            ax.errorbar(
                marks[network], curves.mean(0), curves.std(0) / len(rows) ** 0.5, linestyle=LINES[weight],
                color=COLOUR[target], marker="os^"[list(SYMBOL).index(target)], ms=4, capsize=2,
                label=f"{SYMBOL[target]}, {SAID[weight]}",
            )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="steps", title=dict(unet="U-Net, 16 × 16", mlp="MLP, 8 × 8")[network])
    ax.set_xticks(marks[network], [str(each) for each in marks[network]])
    ax.minorticks_off()
    ax.legend(fontsize=9, ncols=2, handlelength=4.5, loc="upper center", bbox_to_anchor=(0.5, -0.14))
axes[0].set(ylabel="Fréchet distance")
axes[0].set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
figure(
    fig,
    alt="Fréchet distance over steps, both logarithmic. Left, the U-Net: v and x₀ fall together from about 2 to 0.5; their lines with Min-SNR begin "
    "as high or higher and end close to them. ε lies above, with Min-SNR below its plain line. Right, the MLP: x₀ plain and with Min-SNR are "
    "lowest and end below 1; ε plain and v plain, with Min-SNR and with P2 end between 1.2 and 1.7, v with SNR at 2.7; x₀ with SNR and with "
    "truncated SNR rise to about 10.",
)

# %%
print("Min-SNR-5 against plain, each seed:  speed-up              distance at the end, factor")
for network, target in [("unet", "epsilon"), ("unet", "v"), ("unet", "x0"), ("mlp", "v"), ("mlp", "x0")]:
    gains, ratios = [], []
    for plain, better in zip(*(cells[network, target, weight] for weight in ("plain", "min-snr")), strict=True):
        one, two = plain["at_marks"]["frechet"], better["at_marks"]["frechet"]
        gains.append(f"{speed_up(plain['marks'], one, two):6.2f}")
        ratios.append(f"{two[-1] / one[-1]:6.2f}")
    print(f"{network:5} {SYMBOL[target]:29}" + "".join(gains) + " " * 5 + "".join(ratios))

# %% [markdown]
# **The result**, read from the figures above (± is over seeds):
#
# - **Target and weight both matter.** With one weight, Min-SNR-5, the U-Net ends at 0.90 with ε, at 0.64 with $x_0$ and at
#   0.48 with v. With one target, ε, it ends at 1.35 with SNR (its plain error) and at 0.90 with Min-SNR. The plain errors of
#   ε, $x_0$ and v differ in both: 6.5, 1.9 and 1.9 after 125 steps.
# - **ε gains from Min-SNR**: it is closer at the first mark and at the last, with every seed. It is as good as plain's
#   end 1.1, 2.2 and 1.4 times sooner, by seed: one seed would have told little. Yet v with its plain error stays ahead.
# - **For v the effect drowns.** At the first mark Min-SNR is closer with two seeds and farther with one; at the end closer
#   with two and level with one. The means at the end, 0.48 and 0.53, differ by less than what one figure varies over the
#   draw of its pictures (about 0.1). Three seeds do not decide it.
# - **An $x_0$-network loses.** With Min-SNR it is much farther at the first mark (3.8 against 1.9) and a little at the end
#   (0.64 against 0.58), with every seed. The paper reports the contrary: its $x_0$-networks gain most.
# - **Another network turns the order.** On the MLP $x_0$ is the best target, with the constant weight and with Min-SNR. For v
#   Min-SNR is *worse*, with every seed, and P2 better.
# - **The same loss, another target.** SNR on the error in $x_0$ is the plain error in ε, to the letter. On the MLP it ends
#   at 1.3 with ε, at 2.7 with v and at 10 with $x_0$, which gets *worse* from mark to mark. So does truncated SNR. At t = 1
#   the weight is 24,000, so an error of 0.01 a pixel costs 2.4.
#
# What is wrong with $x_0$ there? We took causes away, with one seed each (not in the record). Learning rates down to
# 0.000125 do not mend it. A cut of the weight does, the more the lower it is: a cut at 1,000 changes little, one at 100
# helps, one at 20 helps much. And so does another form of the network: $x + \sigma\cdot$(its output) in place of its
# output. Then its errors near the data are small from the start. With $x$ + (its output) alone it failed. EDM builds such a
# skip and such a scale into every network (Karras et al. 2022).
#
# So a weight is no law of nature. What it gains depends on the target, on the network and on how long one trains.
#
# **Published**, on latents of ImageNet and with other baselines: Hang et al. (table 1, a U-Net, FID after 200 thousand
# and after 1 million steps) report 25.9 and 8.33 for a network that predicts $x_0$, and 7.99 and 4.28 with Min-SNR. For ε it
# is 8.55 and 4.21, and with Min-SNR 7.32 and 4.14. So ε gains little there, and what is quoted as "3.4 times faster"
# (figure 5) is for $x_0$, to an FID of 10. For γ = 1, 5, 10 and 20 they find 4.98, 4.92, 5.34 and 5.45 (table 2): γ is
# no delicate choice.

# %% [markdown] tags=["play"]
# ## Play
#
# Choose a target and a weight, and compare the digits of the recorded networks. All have the first seed. All U-Nets start
# from one noise, all MLPs from another. Can you see what the distances say?

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import live


def digits_of(cell):
    """The ten digits that a row of the record keeps."""
    kept = bytearray.fromhex(cells[cell][0]["pictures"])
    return torch.frombuffer(kept, dtype=torch.uint8).view(10, 1, 16, 16).float() / 127.5 - 1


def shown(network, target, weight):
    """Digits by the plain error of a target, and by a weight."""
    kind, answer = NETWORKS[network], {said: name for name, said in SYMBOL.items()}[target]
    by = {said: name for name, said in SAID.items()} | ({"SNR": "plain"} if target == "ε" else {})
    rows = {"plain": digits_of((kind, answer, "plain"))}
    cell = (kind, answer, by[weight])
    rows[weight if cell in cells else f"{weight}: not trained"] = (
        digits_of(cell) if cell in cells else torch.zeros(10, 1, 16, 16)
    )
    alt = f"Digits 0 to 9 of the {network} that answers {target}, trained with its plain error and with the weight {weight}."
    return strip(rows, alt, columns=10)


NETWORKS = {"U-Net": "unet", "MLP": "mlp"}
live(
    shown,
    network=list(NETWORKS),
    target=["x₀", "v", "ε"],
    weight=["Min-SNR-5", "P2", "truncated SNR", "SNR"],
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your functions against the package, and the weights against diffusers, if that is installed.

# %%
import importlib.util

from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.targets import TARGETS

times = torch.tensor([20.0, 300.0, 600.0, 950.0])
level, few = cosine(times), torch.tensor([3, 0, 8, 2], device=device)
told = lambda x, t: pair["SNR"](x, cosine.network_time(t).to(x), few)
on = [each.float().to(device) for each in (level.alpha, level.sigma)]
batch = pictures.to(device), noise.to(device)
for target in ("x0", "epsilon", "v"):
    with torch.no_grad():
        ours = weighted_loss(told, *batch, times, *on, target, mine["Min-SNR-5"])
        theirs = diffusion_loss(pair["SNR"], cosine, TARGETS[target], *batch, times, few, losses.min_snr()).mean()
    print(f"loss, {target:8} relative difference {abs(ours / theirs - 1):.0e}")
if importlib.util.find_spec("diffusers"):
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    scheduler = DDPMScheduler(beta_schedule="linear")
    steps = torch.arange(50, 1000)  # below 50 their float32 shows, up to 2e-4
    level = DiscreteVP(linear_betas())(steps + 1)  # diffusers counts from 0
    theirs = compute_snr(scheduler, steps).double()
    gap = min_snr_for_v(level.snr, 5.0) / (theirs.clamp(max=5) / (theirs + 1)) - 1
    print(f"SNR and Min-SNR for v against diffusers, relative: {gap.abs().max():.0e}")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks | seen in |
# |---|---|---|
# | min(SNR + 1, γ) above the line for v | pure noise has a weight; trains, a little differently | diffusers, October to December 2023: issue 5654, mended in 6307 |
# | the weight of ε used for v | at zero SNR 0/0, or a clipped number that means nothing | kohya sd-scripts, issue 673; OneTrainer, 212 |
# | max for min, or min for max | clean levels take over, or noise does | recurrent-interface-network-pytorch, issue 11 |
# | P2 multiplied by the bound's weight (λ in its paper) once more | a weight of the ε loss is taken for one of the bound | P2-weighting, issue 22: it multiplies the plain ε loss |
# | weight vanishes at zero SNR, with v | nothing fixes the mean brightness, which zero SNR was for | diffusers, issue 9451 (open): Min-SNR does that by its definition |
# | ε with a zero-SNR schedule | NaN in the first step, or grey pictures | this course's package refuses it |
# | weight on the mean loss of a batch | every picture gets the mean weight: no effect but on the step size | first tries of one's own |
# | losses of two weights compared | nothing follows: each has another unit and another irreducible part | lesson 4 |
# | learning rates not tuned for each | the weight that fits the default wins | many comparisons |
#
# Look at *implied weights on* $x_0$ first. Most of these bugs are a line of the table that is not there.

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "Why do noise levels contribute unequally, and what do v-prediction and Min-SNR change?",
    "Every squared error, in x₀, ε or v, is a weight on the error in x₀: 1, SNR, SNR + 1. So a target *is* "
    "a weight, unless one divides it out.\n\n"
    "*v* = α·ε − σ·x₀ is what x does not show. Its error is never enlarged on the way to x₀, so it works at "
    "zero terminal SNR, where ε divides by 0.\n\n"
    "*Min-SNR* cuts the weight at γ = 5, so that clean levels do not take over. The published speed-up of "
    "3.4 is for networks that predict x₀. Measure it on your data.",
    [
        (
            "Derive the weight for v.",
            "x₀ = α·x − σ·v, so an error in v comes into x₀ times σ: w·|x₀ − x̂₀|² = w·σ²·|v − v̂|². On a variance-preserving path σ² = 1/(SNR + 1).",
        ),
        (
            "If target and weight are tied by a formula, why does the target matter at all?",
            "The loss can be made the same. What the network must compute is not: near the data an x₀-network has to hand its input through to "
            "many digits, an ε-network has to find tiny noise. And the way back enlarges errors differently.",
        ),
        (
            "Does Min-SNR work with zero terminal SNR?",
            "With v or x₀ it is finite. But its weight at SNR = 0 is 0, so the level that zero SNR was introduced for is not trained. Truncated SNR "
            "or plain v keeps a weight there.",
        ),
        (
            "Is there an alternative to a weight?",
            "Draw levels with other probabilities: on average the same gradient, with less noise in it (lesson 4). EDM and Stable Diffusion 3 do it.",
        ),
        (
            "How would you show that a weight helps?",
            "Same data, noise and steps, learning rate tuned for each, three seeds or more, a distance with its error over training. And state both "
            "readings: distance at equal steps, and steps to equal distance.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A network answers v, and its loss is the plain squared error. Which weight is that on the error in x₀?",
        [
            Choice("1", False, "That is a network that answers x₀."),
            Choice("SNR", False, "That is a network that answers ε."),
            Choice("SNR + 1", True, "|v − v̂|² = |x₀ − x̂₀|²/σ², and 1/σ² = SNR + 1."),
            Choice("1/(SNR + 1)", False, "The other way round: that is what a weight of 1 on x₀ is on v."),
        ],
    ),
    Question(
        "Which of these can be trained with a finite weight on pictures at SNR = 0, and sampled from there?",
        [
            Choice("v with truncated SNR", True, "max(SNR, 1)/(SNR + 1) is 1 there, and x̂₀ = −v̂."),
            Choice("ε with truncated SNR", False, "A weight of 1 on x₀ is an infinite one on ε."),
            Choice("ε with Min-SNR", False, "Its weight on x₀ is 0 there, and sampling divides by α = 0."),
            Choice("none", False, "v and x₀ both say all that there is to say."),
        ],
    ),
    Question(
        "Someone reports: with our weight the training loss fell to a third. What follows?",
        [
            Choice("the pictures are better", False, "Another weight is another unit. A smaller weight gives a smaller loss."),
            Choice("training is three times as fast", False, "Speed is measured in steps to the same quality."),
            Choice("nothing", True, "Compare pictures, or errors at each level in one unit."),
        ],
    ),
    Question(
        "P2 multiplies the plain ε loss by 1/(1 + SNR). What is that on the error in x₀?",
        [
            Choice("SNR/(1 + SNR)", True, "Times SNR: it rises with the SNR and stops at 1."),
            Choice("1/(1 + SNR)", False, "It multiplies ε's error, which is SNR times the error in x₀."),
            Choice("1/(1 + SNR)²", False, "Nothing is squared here."),
        ],
    ),
)

# %% [markdown] tags=["references"]
# ## References
#
# - Salimans and Ho 2022, *Progressive Distillation for Fast Sampling of Diffusion Models*, arXiv 2202.00512: section 4,
#   targets and weights (truncated SNR, SNR + 1); appendix D, v as a velocity.
# - Hang et al. 2023, *Efficient Diffusion Training via Min-SNR Weighting Strategy*, arXiv 2303.09556: section 3.4, the
#   weight and its forms for ε and v; table 1 and figure 5.
# - Karras et al. 2022, *Elucidating the Design Space of Diffusion-Based Generative Models* (EDM), arXiv 2206.00364:
#   section 5, skip, scale and weight at each level.
# - Choi et al. 2022, *Perception Prioritized Training of Diffusion Models*, arXiv 2204.00227: eq. 8, P2.
# - Lin et al. 2023, *Common Diffusion Noise Schedules and Sample Steps Are Flawed*, arXiv 2305.08891: section 3, zero
#   terminal SNR and v.
# - Kingma and Gao 2023, *Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation*, arXiv
#   2303.00848: all these losses as weights over log SNR.
#
# Every path so far was variance preserving. Next, a straight one: {{lesson 18}}
