# %% [markdown] tags=["header"]
# title: Classifier-free guidance
# question: How does one network guide its own samples towards a label, and what does more guidance cost?
# difficulty: 2
# prerequisites: 03, 09
# builds: ClassifierFreeGuidance, Rescale, conditions, generate, guidance

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - drop labels in training, so that one network answers with and without them (exercise 10.1)
# - mix the two answers, and convert between the scales that papers use (exercise 10.2)
# - find a guided sampler whose scale does nothing (exercise 10.3)
# - guide at the noise levels where it helps, with a sampler of your own (exercises 10.4 and 10.6)
# - keep strong guidance from over-exposing pictures (exercise 10.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Digits by the bundled MNIST model. In the first panel it is asked for 0 to 9, in the second ten times for a 2. All frames
# start from the same noise. One number differs: the **guidance scale**. Move it from 0 to 8. What becomes clearer, and what
# gets lost?

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.samplers import sample, trajectory

mnist = zoo.load("mnist-unet")
mnist.network.to(device)
asked, path = mnist.denoiser(), mnist.path
labels, twos = torch.arange(10, device=device), torch.full((10,), 2, device=device)
noise = torch.randn(10, 1, 32, 32, generator=generator).to(device)


def draw(denoiser, noise, labels, steps=15):
    """Pictures (B, C, H, W) by DDIM, on the CPU, each x̂₀ on the way clipped to [−1, 1]."""
    return sample(Clip(denoiser), noise, path.levels(steps), labels).cpu()


# %% jupyter={"source_hidden": true}
def sheet(pictures):
    """Ten pictures as one, in two rows."""
    return torch.cat([torch.cat(list(row), -1) for row in pictures.chunk(2)], -2)


scales = (0, 1, 2, 4, 8)
made = [ClassifierFreeGuidance(asked, float(s)) for s in scales]
scrub(
    {
        "0 to 9": [sheet(draw(each, noise, labels)) for each in made],
        "ten 2s": [sheet(draw(each, noise, twos)) for each in made],
    },
    [f"scale {s:g}" for s in scales],
    alt="Ten digits asked for as 0 to 9, and ten asked for as 2, at five scales. Scale 0: digits of any kind, some broken. "
    "Scale 1: 0 to 9, in thin strokes; the ten 2s all differ. From 2 to 8 the strokes become bolder and "
    "the shapes plainer, and the ten 2s look more and more alike.",
    title="Move the guidance scale",
    start=1,
    columns=5,
)

# %% [markdown]
# At scale 0 the model draws any digit. At 1 it does what training taught it to do with a label. Beyond 1 it
# overstates the label: every digit can be read, and the ten 2s become more and more the same 2. No classifier was asked:
# the network is the same in all frames.

# %% [markdown] tags=["guess"]
# ## Guess
#
# You have a diffusion model that was trained with labels. Asked for a 2, it sometimes draws something between a 2 and a 7.
# You want clearer 2s, from **this one model**: no classifier, no gradient. **How would you do it?** You may change a little
# in its training. Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Draw more and throw away the doubtful ones.* That works, and somebody has to say which are doubtful: a classifier.
# - *Start from less noise* (a lower temperature), as language models do. That helps: multiply the first noise by 0.8, and a
#   classifier reads 97 % of this model's digits as asked, in place of 94 % (500 digits, one seed). They also get more alike. But
#   the label counts no more than before.
# - *Say the label twice as loudly*: multiply its vector by 2. The network has never seen such a vector. Here the digits get no
#   clearer, and the background fills with noise.
# - *Compare.* Ask the network what it would draw with the label, and what without. The difference is what the label
#   adds. Then add more of it. For that the network has to know what "without" means, and this is the change in training.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# In one dimension everything can be computed. Half of the data is class A, with two equally likely modes, at −0.3 and 1.
# The other half is class B, with one mode at −1.2. Each is 0.2 wide, so they are well apart.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "With perfect denoisers we guide towards A, at scale 4. What share of the samples ends in A's left mode, at −0.3?",
    [
        Choice(
            "about a half: both modes are clearly A",
            False,
            "So it would be if the samples followed the sharpened density of lesson 9. They do not: you measure it below.",
        ),
        Choice(
            "about a fifth: it is the mode next to B",
            False,
            "The direction is right. That is already so at scale 2.",
        ),
        Choice(
            "less than 1 %",
            True,
            "Samples are pushed away from B from the first step on, when A's two modes are still one cloud.",
        ),
        Choice("nearly all", False, "Guidance pushes away from B, and the left mode is the one next to B."),
    ],
)

# %% [markdown] tags=["idea"]
# ## One network, two answers
#
# Lesson 9 needed a second network, a classifier trained on noise. There you checked its gradient against a *difference of
# two scores*: the score of one cluster, minus the score of all data. The other way round: a model that has both scores needs no
# classifier. A diffusion model that is told the label has the first score. A model that is not told has the second.
#
# Ho and Salimans train both at once. Now and then the label is replaced by an extra id, ∅, that means "no label". The
# network learns a vector for ∅ as for any class, and so it answers both questions. The classifier and its gradient are
# gone; the price is two evaluations of the network in each step.
#
# $$\nabla_{x_t}\log q(y\mid x_t) = \nabla_{x_t}\log q(x_t\mid y) - \nabla_{x_t}\log q(x_t)
# = -\,\frac{\hat\varepsilon(x_t, y) - \hat\varepsilon(x_t, \varnothing)}{\sigma_t}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $y$ | label | (B,) |
# | $\varnothing$ | the label that means "none": one id more than there are classes | (B,) |
# | $\hat\varepsilon(x_t, y), \hat\varepsilon(x_t, \varnothing)$ | the network's two answers | (B, C, H, W) |
#
# In one dimension, on the classes A and B of the prediction:

# %% tags=["nbval-check-output"]
from diffusion_lessons.mixtures import GaussianMixture

modes = torch.tensor([[-0.3], [1.0], [-1.2]]).double()
only_a = GaussianMixture(modes[:2], 0.2)  # the exact denoiser for class A
everything = GaussianMixture(modes, 0.2, [1, 1, 2])  # and for all data
for t in (100, 400, 700):
    level, x = path(t), torch.linspace(-2, 2, 9)[:, None].double().requires_grad_()
    log_p = everything.posterior(x, level)[:, :2].sum(1).log()  # log p(A | x), the exact classifier
    (slope,) = torch.autograd.grad(log_p.sum(), x)
    difference = -(only_a(x, level).eps - everything(x, level).eps) / level.sigma
    print(f"t = {t}: slopes up to {slope.max():5.2f}, largest gap {(slope - difference).abs().max():.6f}")

# %% [markdown] tags=["exercise-card"]
# {{exercise 10.1}}


# %% tags=["exercise"]
@exercise("10.1")
def drop_labels(labels, rate, num_classes, chance):
    """New labels (B,), a share of them replaced by the id that means "no label": num_classes.

    labels: (B,) int64, from 0 to num_classes − 1, not to be changed; chance: (B,), uniform on [0, 1).
    A label is dropped where its chance is below rate. Where none is dropped, a copy is as good as labels itself.
    """
    ### BEGIN SOLUTION
    return torch.where(chance < rate, num_classes, labels)
    ### END SOLUTION


# %% [markdown]
# Your function now decides what a network learns. We train one on real digits, with one label in ten dropped, and ask
# it for $\hat x_0$ of held-out digits in three ways. (Its target v is a closed box: {{built-in 17}}.) Half-way we keep a copy,
# for the end of the lesson.

# %%
import copy

from diffusion_lessons.course import Watched
from diffusion_lessons.data import load_dataset
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.targets import V
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising

# %%
data = load_dataset("digits", "train", size=16)
SMALL = dict(base_channels=16, channel_mults=(1, 2), attention_levels=(1,), head_dim=16, patch=2, lr=3e-3)
recipe = Recipe(steps=budget.steps(600), batch=32, channels_last=False, class_dropout=0.0, **SMALL)
task, draws = Denoising(recipe, data).place(device), torch.Generator().manual_seed(0)
network = task.network
optimizer, ema, dropped = torch.optim.AdamW(network.parameters(), weight_decay=0.01), EMA(network), 0
for step in (steps := Watched(recipe.steps)):
    optimizer.param_groups[0]["lr"] = recipe.learning_rate(step, step / recipe.steps)
    x0, eps, t, own = task.batch(step)
    given = drop_labels(own, 0.1, 10, torch.rand(32, generator=draws).to(device))
    dropped += int((given == 10).sum())
    loss = diffusion_loss(network, path, V, x0, eps, t, given).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    ema.update(network)
    steps.tell(loss)
    if step == recipe.steps // 2:
        halfway = copy.deepcopy(network)
        ema.copy_to(halfway)
ema.copy_to(network)
print(f"{recipe.steps} steps, {dropped / (32 * recipe.steps):.1%} of the labels dropped")

# %%
from diffusion_lessons.data import to_float
from diffusion_lessons.denoiser import Estimate, NetworkDenoiser
from diffusion_lessons.paths import add_noise

mine, early = (NetworkDenoiser(each.eval(), path, V) for each in (network, halfway))
test = load_dataset("digits", "test", size=16)
held_out, own = to_float(test.images).to(device), test.labels.to(device)  # (355, 1, 16, 16), (355,)
ways = {"its label": own, "no label": mine.null_condition(len(own)), "a wrong label": (own + 1) % 10}
times, errors = range(50, 1000, 100), {name: [] for name in ways}
for t in times:
    level, draws = path(t), torch.Generator().manual_seed(t)
    x = add_noise(held_out, torch.randn(held_out.shape, generator=draws).to(device), level)
    for name, given in ways.items():
        with torch.no_grad():
            each = (mine(x, level, given).x0 - held_out).square().flatten(1).mean(1)  # (355,)
        errors[name].append((each.mean().item(), each.std().item() / len(each) ** 0.5))

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.8, 2.8))
for name, rows in errors.items():
    mean, error = torch.tensor(rows).T.numpy()
    ax.errorbar(times, mean, 2 * error, capsize=2, label=f"told {name}")
ax.set(xlabel="t", ylabel="squared error of x̂₀", ylim=0)
ax.legend()
figure(
    fig,
    alt="Squared error of x̂₀ over t. Below t = 250 three curves lie on each other. Above, the one without a label rises "
    "to about 0.23 at t = 950, that with a wrong label to 0.35, and that with the right label to 0.13.",
)

# %% [markdown]
# **What to notice:** with much noise the label is worth a lot: at t = 950 the error is three quarters higher without it, and a
# wrong label is worse than none. With little noise the three curves are one: the picture itself says what it is. There the two
# answers agree, and guidance has nothing to add.

# %% [markdown] tags=["idea"]
# ## The mix, and how to count it
#
# The two answers are two points, and they span a line. The difference between them is what the label adds. Scale 0 stays at
# the answer without the label. Scale 1 goes to the answer with it. A larger scale goes *on* in the same direction.
#
# Papers count in two ways. Ho and Salimans start at the answer *with* the label, and their $w$ is what comes on top. Imagen,
# diffusers and this course start at the answer *without* the label. The two numbers differ by 1. This is easy to miss, because
# both make good pictures.
#
# $$\tilde\varepsilon = \hat\varepsilon(\varnothing) + s\,\big(\hat\varepsilon(y) - \hat\varepsilon(\varnothing)\big)
# = (1+w)\,\hat\varepsilon(y) - w\,\hat\varepsilon(\varnothing), \qquad s = 1 + w$$
#
# | symbol | meaning | unconditional | conditional |
# |---|---|---|---|
# | $s$ | guidance scale of this course (lesson 9 too), of Imagen and of diffusers | 0 | 1 |
# | $w$ | scale of Ho and Salimans; also that of a classifier which guides a *conditional* model | −1 | 0 |
# | $\tilde\varepsilon$ | guided estimate, (B, C, H, W); $\tilde x_0$ is mixed in the same way | | |
#
# Both of the network's answers keep $x = \alpha\hat x_0 + \sigma\hat\varepsilon$, and the weights $s$ and $1-s$ add up to
# 1. So the mix keeps it, too.

# %% [markdown] tags=["exercise-card"]
# {{exercise 10.2}}


# %% tags=["exercise"]
@exercise("10.2")
def mix(cond, uncond, scale):
    """The guided answer (B, ...): uncond at scale 0, cond at scale 1, beyond it for more.

    cond, uncond: (B, ...), the answers with and without the label; scale: a number ≥ 0.
    """
    ### BEGIN SOLUTION
    return uncond + scale * (cond - uncond)
    ### END SOLUTION


# %%
def between(to, away, scale):
    """A denoiser: your mix of what two others say. The scale may be a function of the level."""

    def answer(x, level, labels=None):
        s = scale(level) if callable(scale) else scale
        return Estimate.from_x0(mix(to(x, level, labels).x0, away(x, level, labels).x0, s), x, level)

    return answer


def share(inside):
    """The share that is True, and its standard error."""
    return inside.double().mean().item(), (inside.double().std() / len(inside) ** 0.5).item()


# %%
# The question of the prediction, beside the sharpened density of lesson 9: p(x)·p(A | x)^s, normalised on a grid.
start = torch.randn(budget.samples(4000), 1, generator=generator).double()
grid, clean = torch.linspace(-2, 2, 401)[:, None].double(), path(0)
ends, sharpened = {}, {}
for s in (0, 1, 2, 4):
    ends[s] = sample(between(only_a, everything, s), start, path.levels(100))
    log_density = s * only_a.log_prob(grid, clean) + (1 - s) * everything.log_prob(grid, clean)
    sharpened[s] = log_density.softmax(0)
    left, error = share(ends[s] < 0.35)
    right, _ = share(ends[s] > 1)
    kept = sharpened[s][grid[:, 0] < 0.35].sum()
    print(f"scale {s}: {left:.1%} ± {error:.1%} below 0.35 (sharpened: {kept:.0%}), {right:.0%} beyond 1")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 4, figsize=(8.0, 2.5), sharey=True)
for ax, s in zip(axes, ends, strict=True):
    ax.hist(ends[s][:, 0].numpy(), bins=60, range=(-2, 2), density=True, alpha=0.4)
    ax.plot(grid, sharpened[s] / 0.01, "--", marker="", color="black")  # 0.01 apart on the grid
    ax.set(title=f"scale {s}", xlabel="x", ylim=(0, 3))
figure(
    fig,
    alt="Histograms of samples at scale 0, 1, 2 and 4, and the sharpened density, dashed. At 0 and 1 they agree, with "
    "three modes and with two. At 2 the left mode has shrunk, at 4 it is gone and the right one is narrow and beyond 1; "
    "the dashed curve keeps both.",
)

# %% [markdown]
# **What to notice:** scales 0 and 1 do what they should. But at 2 the left mode keeps a fifth of the samples, and at 4 next
# to nothing. The sharpened density would keep 49 %. At 4 more than eight samples in ten lie *beyond* 1, where A has a quarter
# of its data. Lesson 9 saw samples overshoot; here half of a class is lost. Both denoisers are exact, so guidance alone does
# this. Guided samples are not draws from the dashed curve (Bradley and Nakkiran prove it).

# %% [markdown] tags=["exercise-card"]
# With pictures both answers come from one call with a doubled batch. The second half need not be asked with ∅. Put another
# class there and the samples move away from *that* class: a **negative condition**, which text-to-image users know as a
# negative prompt. The code below, by a colleague, should do this for ∅ and for any class.
#
# {{exercise 10.3}}


# %% tags=["exercise"]
@exercise("10.3")
def guided(denoiser, x, level, labels, away, scale):
    """The pair (x̂₀, ε̂) at x (B, C, H, W), away from one set of labels, towards the other.

    denoiser(x, level, labels) gives (x0, eps) for any batch; labels, away: (B,), away often "no label".
    One call with a doubled batch or two calls: both are right. Nothing is clipped here.
    """
    ### BEGIN SOLUTION
    conditions = torch.cat([labels, away])
    x0, eps = denoiser(torch.cat([x, x]), level, conditions)
    (x0_to, x0_from), (eps_to, eps_from) = x0.chunk(2), eps.chunk(2)
    return mix(x0_to, x0_from, scale), mix(eps_to, eps_from, scale)
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "Scale 1 or scale 8, I get the very same pictures."
    # conditions = torch.cat([labels, away])
    # x0, eps = denoiser(torch.cat([x, x]), level, torch.cat([labels, labels]))
    # (x0_to, x0_from), (eps_to, eps_from) = x0.chunk(2), eps.chunk(2)
    # return mix(x0_to, x0_from, scale), mix(eps_to, eps_from, scale)
    ### END STUDENT


# %%
def towards(denoiser, scale, away=None):
    """Your `guided` as a denoiser that `sample` can ask; away: a class, or None for "no label"."""

    def answer(x, level, labels):
        other = denoiser.null_condition(len(x)) if away is None else torch.full_like(labels, away)
        s = scale(level) if callable(scale) else scale
        return Estimate(*guided(denoiser, x, level, labels, other, s))

    return answer


small = torch.randn(10, 1, 16, 16, generator=generator).to(device)
strip(
    {f"scale {s}": draw(towards(mine, s), small, labels) for s in scales},
    alt="Ten digits of your network in five rows. Scale 0: blurred digits of any kind. Scale 1: mostly the digits 0 to 9, "
    "some in doubt. From scale 2 on the strokes are clear and nearly all can be read; the last, a 9, stays in doubt.",
    captions=[str(k) for k in range(10)],
    columns=10,
)

# %% [markdown]
# One line in training and a few in sampling: your network draws the digit that it is asked for, and the scale says how
# strongly. And without that line in training? Then the vector of ∅ stays the random numbers it began with. We tried it: the
# scale still acts, so nothing warns you. But the second answer is a worse one, and at scale 2 the digits are further from real
# ones: a Fréchet distance of 1.9 in place of 1.3 (300 digits, one seed).

# %% [markdown] tags=["idea"]
# ## Guide where it helps
#
# Why did the left mode vanish? At the start $x$ is nearly noise, and A's two modes are one cloud around
# 0.35. The middle of *all* data lies to its left. So the difference of the two answers points to the right, wherever
# $x$ is. Multiply this by 4, and every sample is far to the right before there are two modes to choose from.
#
# Kynkäänniemi et al. found the same in large models. With much noise guidance does harm, with little it is hardly needed,
# in between it helps. Their cure is one line: guide within an interval of noise levels only. Outside, one evaluation is enough, so
# it is faster as well. On ImageNet-512 it took the FID of a strong model from 1.81 to 1.40.
#
# $$s(\sigma/\alpha) = \begin{cases} s & \text{if } \text{low} < \sigma/\alpha \le \text{high} \\ 1 & \text{elsewhere}\end{cases}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\sigma/\alpha$ | noise level: noise on a picture at full strength. Papers with $\alpha = 1$ call it σ | number |
# | low, high | bounds of the interval, tuned by trial | numbers |

# %% [markdown] tags=["exercise-card"]
# {{exercise 10.4}}


# %% tags=["exercise"]
@exercise("10.4")
def interval_scale(level, scale, low, high):
    """The guidance scale at a level: scale inside the interval of σ/α, no guidance outside.

    level: with t, alpha and sigma, 0-d tensors. low does not belong to the interval, high does. Returns a number,
    or a tensor of one entry.
    """
    ### BEGIN SOLUTION
    return scale if low < level.sigma / level.alpha <= high else 1.0
    ### END SOLUTION


# %% [markdown]
# Now watch it in two dimensions. Class A is an arc of seven small spots, class B is the same arc mirrored. The denoisers are
# exact again.

# %%
from functools import partial

turn = torch.linspace(0, 1, 7)
arc = torch.stack([0.3 + 1.5 * turn, 1.2 * torch.sin(4 * turn) - 0.4], 1)  # (7, 2), the centres of A
class_a = GaussianMixture(arc, 0.06)
both = GaussianMixture(torch.cat([arc, arc * torch.tensor([-1.0, 1.0])]), 0.06)  # A and B


def spots(points):
    """Which points are within three standard deviations of a spot of A, and which spot is the nearest."""
    distance, nearest = torch.cdist(points, arc).min(1)
    return distance < 3 * 0.06, nearest


# %%
start, moving = torch.randn(budget.samples(2000), 2, generator=generator), {}
for name, (s, low, high) in {
    "scale 1": (1.0, 0, float("inf")),
    "scale 4": (4.0, 0, float("inf")),
    "scale 4, σ/α above 0.7": (4.0, 0.7, float("inf")),
    "scale 4, σ/α 0.2 to 0.7": (4.0, 0.2, 0.7),
}.items():
    scale = partial(interval_scale, scale=s, low=low, high=high)
    points = [x for _, x, _ in trajectory(between(class_a, both, scale), start, path.levels(100))]
    moving[name] = torch.stack(points)  # (101, n, 2)
    near, error = share(spots(points[-1])[1] < 3)
    nfe = sum(1 if scale(level) == 1 else 2 for level in path.levels(100)[:-1])
    print(f"{name:24} {near:5.1%} ± {error:.1%} end at the three spots next to B, after {nfe} evaluations")

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import landscape

times = [0, *range(10, 60, 8), *range(60, 100, 6), 100]  # of the 100 steps
shown = [path.levels(100)[i] for i in times]
over = {"scale 1": class_a, "scale 4": class_a, "scale 4, σ/α 0.2 to 0.7": class_a}
panels = {
    f"{name}, class A": landscape(density, shown, moving[name][times, :120], 2.4, arrows=7, cells=32)
    for name, density in over.items()
}
panels["scale 4, all data"] = landscape(both, shown, moving["scale 4"][times, :120], 2.4, arrows=7, cells=32)
scrub(
    panels,
    shown,
    alt="120 points from noise to data, four panels. Scale 1, over the density of class A: the points follow the density into "
    "all seven spots. Scale 4, over the same density: they leave it to the right while it is still one cloud, and end in "
    "the four right spots and beyond them. Scale 4 for σ/α from 0.2 to 0.7: nearly as scale 1, with all seven spots. Scale 4 "
    "over the density of all data: the points flee from its middle, and the half of B stays empty.",
    title="Scrub from noise to data",
    columns=5,
)

# %% [markdown]
# **What to notice:** at scale 4 the points leave the density of their class early, while it is still one cloud. The
# three spots next to B stay empty. Guidance at high noise alone, above 0.7, does the same harm. From 0.2 to 0.7 the three spots
# get 39 % of the points, where 43 % would be right (three of seven), with 127 evaluations of the network in place of 200.

# %% [markdown] tags=["exercise-card"]
# Your pieces now make a whole: a sampler that goes from noise and labels to pictures, guides where you tell it to, and pays for
# a second answer only there. It draws the pictures of the lesson from here on.
#
# {{exercise 10.6}}


# %% tags=["exercise"]
@exercise("10.6")
def draw_guided(denoiser, x, labels, no_label, levels, scale_at):
    """Pictures (B, C, H, W), guided towards labels: DDIM steps without noise down the levels.

    denoiser(x, level, labels) gives the pair (x0, eps) for any batch; x: noise at levels[0]; labels,
    no_label: (B,); scale_at(level): the guidance scale, above 0. Where it is 1, ask with labels alone;
    elsewhere about both. In every step, mixed or not, x0 is clipped to [−1, 1], and eps follows from
    x = α·x0 + σ·eps. levels: falling, each with alpha and sigma; the last may lie above data.
    """
    ### BEGIN SOLUTION
    for i in range(len(levels) - 1):
        now, following = levels[i], levels[i + 1]
        scale = scale_at(now)
        if scale == 1:
            x0, eps = denoiser(x, now, labels)
        else:
            x0, eps = guided(denoiser, x, now, labels, no_label, scale)
        x0 = x0.clamp(-1, 1)
        eps = (x - now.alpha * x0) / now.sigma
        x = following.alpha * x0 + following.sigma * eps
    return x
    ### END SOLUTION


# %%
def pictures(denoiser, noise, labels, scale, low=0, high=float("inf"), steps=15):
    """Your sampler, guided where low < σ/α ≤ high, on the CPU."""
    scale_at = partial(interval_scale, scale=float(scale), low=low, high=high)
    none = denoiser.null_condition(len(labels))
    with torch.no_grad():
        return draw_guided(denoiser, noise, labels, none, path.levels(steps), scale_at).cpu()


strip(
    {
        "scale 1": pictures(asked, noise, twos, 1),
        "scale 4": pictures(asked, noise, twos, 4),
        "scale 4, 0.2 to 2": pictures(asked, noise, twos, 4, 0.2, 2),
    },
    alt="Ten 2s in three rows. Scale 1: all different, some thin or doubtful. Scale 4: bold and much alike, most with a "
    "loop. Scale 4 for σ/α from 0.2 to 2: nearly as clear, and as different from each other as in the first row.",
    captions=[str(k + 1) for k in range(10)],
    columns=10,
)

# %% [markdown]
# **What to notice:** in the interval each 2 keeps the handwriting that it has at scale 1, and loses most of its doubtful
# strokes. The bounds are wider here, 0.2 to 2: they were found by trial for this model. You measure them in the experiment.

# %% [markdown] tags=["idea"]
# ## Over-exposed
#
# A guided estimate lies beyond the two answers, and so may its values: beyond white, below black. Clipping cuts them
# off, which flattens strokes. The latents of lesson 11 have no range to clip to; there the colours become too strong.
#
# Lin et al. take the contrast back. Multiply the guided estimate by the one number that gives it the standard deviation
# of the plain conditional estimate. In full this makes pictures dull, they found, so they take a share φ of it: 0.7.
#
# The order matters. Guide, then rescale, then clip: what is clipped before it is guided leaves the range again.
#
# $$x_0' = \varphi\,c\,\tilde x_0 + (1-\varphi)\,\tilde x_0, \qquad
# c = \frac{\operatorname{std}\big(\hat x_0(y)\big)}{\operatorname{std}\big(\tilde x_0\big)}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\tilde x_0, \hat x_0(y)$ | guided and plain conditional estimate | (B, C, H, W) |
# | std | over all entries of one picture | (B,) |
# | $\varphi$ | share of the rescaled picture | number |
#
# We rescale $\hat x_0$ and let $\hat\varepsilon$ follow from $x = \alpha\hat x_0 + \sigma\hat\varepsilon$. Much published
# code applies the formula to whatever its network outputs, which is another thing.

# %% [markdown] tags=["exercise-card"]
# {{exercise 10.5}}


# %% tags=["exercise"]
@exercise("10.5")
def rescale_x0(x0, x0_plain, phi):
    """The guided x0 with a share phi of its spread brought back to that of x0_plain.

    x0, x0_plain: (B, C, H, W), guided and plain conditional estimate, none of them flat; phi: 0 to 1.
    """
    ### BEGIN SOLUTION
    factor = x0_plain.std((1, 2, 3), keepdim=True) / x0.std((1, 2, 3), keepdim=True)
    return phi * factor * x0 + (1 - phi) * x0
    ### END SOLUTION


# %%
def rescaled(denoiser, scale, phi):
    def answer(x, level, labels):
        strong, plain = towards(denoiser, scale)(x, level, labels), denoiser(x, level, labels)
        return Estimate.from_x0(rescale_x0(strong.x0, plain.x0, phi), x, level)

    return answer


# %%
ways = {"scale 1": towards(asked, 1), "scale 8": towards(asked, 8)}
ways |= {f"scale 8, φ = {phi}": rescaled(asked, 8, phi) for phi in (0.7, 1.0)}
spread, ends = {}, {}
for name, way in ways.items():
    walk = list(trajectory(way, noise, path.levels(15), labels))  # nothing is clipped here
    spread[name] = [estimate.x0.flatten(1).std(1).mean().item() for _, _, estimate in walk[:-1]]
    ends[name] = walk[-1][1].cpu()
    print(f"{name:16s}: {(ends[name].abs() > 1.05).float().mean():.1%} of the pixels beyond ±1.05")

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course.widgets import plain_lines

with plain_lines():
    fig, ax = plt.subplots(figsize=(7.4, 2.8))
    for name, values in spread.items():
        ax.plot([float(level.t) for level in path.levels(15)[:-1]], values, label=name)
    ax.set(xlabel="t", ylabel="std of x̂₀", xlim=(1000, 0), ylim=0)
    ax.legend(ncols=2)
figure(
    fig,
    alt="Mean standard deviation of x̂₀ along the walk. Plain, it rises from 0.4 to 0.55. At scale 8 it starts at 1.6 and "
    "comes down to 0.7. Rescaled by 0.7 it comes from 0.75 down to 0.65, fully rescaled it starts at 0.4 and ends at 0.6.",
)
strip(
    ends,
    alt="The ends of the four walks. Plain digits are thin, those of scale 8 bold and white. Rescaled ones are as bold, on "
    "a background that is no longer quite black; fully rescaled, some have specks.",
    captions=[str(k) for k in range(10)],
    columns=10,
)

# %% [markdown]
# **What to notice:** at t = T the guided estimate has four times the contrast of the plain one. Without rescaling about one pixel
# in eight ends out of range, with φ = 0.7 one in sixty. But the factor multiplies all of a picture, so black comes out
# grey: that is the dullness. Rescaling does not give the diversity back, either.

# %% [markdown] tags=["idea"]
# ## Why does guidance raise quality?
#
# With exact denoisers scale 1 was perfect, and more scale only lost spots. So why do pictures look *better* with guidance? Because
# a network is not exact. Where it is unsure, it answers with an average, and samples land between the spots.
#
# The answer without the label is worse still: its task is harder, and it had a tenth of the training. Both answers make the same kind of
# mistake, the second more of it. So their difference also points **away from the mistake**, and more scale removes more of it.
#
# Karras et al. drew the consequence. To remove mistakes and nothing else, guide with a *weaker version of the same model, with the
# same label*: smaller, or less trained. They call this **autoguidance**. It says nothing about other classes, so
# it does not push away from them.

# %% [markdown]
# $$\tilde x_0 = \hat x_0^{\text{weak}}(y) + s\,\big(\hat x_0(y) - \hat x_0^{\text{weak}}(y)\big)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\hat x_0(y)$ | the model, told the label | (B, C, H, W) |
# | $\hat x_0^{\text{weak}}(y)$ | an early copy of it, told the same label | (B, C, H, W) |
# | $s$ | scale; 1 is the model alone | number |
#
# We try it on the arc of spots, with a network that is too small for the task. Your `drop_labels` trains it, and after a tenth of the
# training we keep a copy.


# %% jupyter={"source_hidden": true}
class PointNetwork(torch.nn.Module):
    """v of points (B, 2), each with a label: 0 for A, 1 for B, 2 for none."""

    def __init__(self, width=64):
        super().__init__()
        self.label = torch.nn.Embedding(3, 16)
        self.first, self.second = torch.nn.Linear(2 + 1 + 16, width), torch.nn.Linear(width, width)
        self.last = torch.nn.Linear(width, 2)

    def forward(self, x, time, labels):
        h = torch.cat([x, time[:, None] / 500 - 1, self.label(labels)], dim=1)
        h = torch.nn.functional.silu(self.first(h))
        return self.last(torch.nn.functional.silu(self.second(h)))


# %%
torch.manual_seed(0)
small, draws = PointNetwork(), torch.Generator().manual_seed(0)
optimizer = torch.optim.Adam(small.parameters())
for step in (steps := Watched(budget.steps(2000))):
    optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / len(steps))
    x0, spot = both.sample(256, draws)
    given = drop_labels((spot >= 7).long(), 0.1, 2, torch.rand(256, generator=draws))
    t, eps = torch.randint(1, 1001, (256,), generator=draws), torch.randn(256, 2, generator=draws)
    loss = diffusion_loss(small, path, V, x0, eps, t, given).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    steps.tell(loss)
    if step == len(steps) // 10:
        weak = copy.deepcopy(small)

# %%
model, weaker = NetworkDenoiser(small, path, V), NetworkDenoiser(weak, path, V)
guides = {
    "itself, without the label": lambda x, level, labels: model(x, level, torch.full_like(labels, 2)),
    "its early copy, with the label": weaker,
    "an exact guide, with the label": lambda x, level, labels: class_a(x, level),
}
class_ids, landed = torch.zeros(len(start), dtype=torch.long), {}
landed["exact, scale 1"] = sample(class_a, start, path.levels(50))
landed["scale 1"] = sample(model, start, path.levels(50), class_ids)
for name, guide in guides.items():
    landed[f"scale 2, away from {name}"] = sample(between(model, guide, 2), start, path.levels(50), class_ids)
for name, points in landed.items():
    inside, nearest = spots(points)
    (good, error), (near, error_near) = share(inside), share(nearest < 3)
    print(
        f"{name:49} {good:5.1%} ± {error:.1%} in a spot, {near:5.1%} ± {error_near:.1%} nearest to the three"
    )

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 4, figsize=(8.4, 3.0), sharex=True, sharey=True)
titles = [
    "scale 1",
    "away from itself\nwithout the label",
    "away from\nits early copy",
    "away from\nan exact guide",
]
for ax, title, points in zip(axes, titles, list(landed.values())[1:], strict=True):
    for centre in arc.tolist():
        ax.add_patch(plt.Circle(centre, 3 * 0.06, color="#D55E00", alpha=0.35))
    ax.plot(*points[:500].T, ".", color="#0072B2", ms=2)
    ax.set(title=title, xlim=(-0.5, 2.6), ylim=(-2.2, 1.6), xticks=[], yticks=[], aspect="equal")
figure(
    fig,
    alt="500 points each, over the seven spots of class A as circles. Scale 1: a broad band along the arc, most points between spots. Away from "
    "the answer without the label: a narrower band, and hardly a point at the three spots on the left. Away from the early "
    "copy: a narrow band along the whole arc. Away from an exact guide: points scattered off the spots.",
)

# %% [markdown]
# **What to notice:** the circles have a radius of three standard deviations. Alone, the small network puts 39 % of its points
# inside. Guided by its own answer without the label it puts 42 % there, and the three spots next to B pay: they get 18 % of
# the points, where 43 % would be right. Autoguidance puts 52 % inside, and no spot is lost.
#
# Now the control: an *exact* guide, told the same label. It makes no mistakes, so the difference to it is the model's mistake
# and nothing else, and scale 2 doubles that: 8 % inside. A guide has to make the **same mistakes, and more of them**. (One
# training. With seeds 1, 2 and 3: alone 31 to 34 %, without the label 31 to 41 %, early copy 39 to 45 %, exact guide 4 to 6
# %.)


# %% [markdown] tags=["experiment"]
# ## Experiment: what more guidance costs
#
# The claim: fidelity is bought with diversity. We draw digits with *your* network and *your* sampler.
# Precision (fidelity), recall (diversity) and accuracy are those of lesson 9, and the Fréchet distance sums up
# fidelity and diversity ({{built-in 20}}). A guided step costs two evaluations of a network. So one row gives scale 1 twice the
# steps, 30 in place of 15: the same cost as scale 2.

# %%
from diffusion_lessons.metrics import evaluate

FIGURES = ("frechet", "precision", "recall", "accuracy")
wanted = torch.arange(budget.samples(300, at_least=100)) % 10
start, given = torch.randn(len(wanted), 1, 16, 16, generator=generator).to(device), wanted.to(device)


def row(name, drawn):
    result = evaluate(drawn, wanted, zoo.yardstick("digits"))
    values = {figure: tuple(result[figure].values()) for figure in FIGURES}
    print(f"{name:17} " + "  ".join(f"{figure} {v:.2f} ± {e:.2f}" for figure, (v, e) in values.items()))


row("scale 1, 30 steps", pictures(mine, start, given, 1, steps=30))
for s in (1.0, 1.25, 1.5, 2.0, 3.0):
    row(f"scale {s:g}", pictures(mine, start, given, s))
row("2, σ/α 0.2 to 2", pictures(mine, start, given, 2, 0.2, 2))
row("2, autoguidance", draw(between(mine, early, 2), start, given))
print(f"n = {len(wanted)}, one seed; ± one standard error over the draw of the samples")

# %% [markdown]
# Precision rises up to scale 2, and recall falls all the way. Twice the steps at scale 1 change nothing. At the same scale 2 the
# interval keeps a recall of 0.71 and autoguidance, with the copy from half-way, 0.85; guidance everywhere leaves 0.43. But be
# fair: a *smaller* scale everywhere does as well. 1.5 is as good as the interval, 1.25 lies between the interval and autoguidance
# (0.80 and 0.78), and the distances of all four differ little more than their errors.
#
# This is one seed of a small network. The recorded experiment uses the bundled MNIST model, and sets lesson 9's classifier
# beside it, in both its roles: it guides the model *without* labels, or the model *with* labels, which then has
# scale 1 already. All four follow the same formula, so their scales compare. `diffusion-lessons experiment guidance-scales` runs it
# again.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

METHODS = ("classifier", "classifier on labels", "classifier-free", "interval")
kept, curves = recorded("guidance-scales"), {method: {} for method in METHODS}
for each in kept["rows"]:
    method, s = each["settings"]["method"], each["settings"]["scale"]
    if method in METHODS:
        curves[method][s] = {name: (each[name], each[f"{name}_error"]) for name in FIGURES}
print(f"n = {kept['options']['n']}, 25 steps, one seed, {kept['hardware']['processor']}")
for method, by_scale in curves.items():
    for s in (1.0, 1.5, 2.0, 4.0, 10.0):
        figures = "  ".join(f"{name} {v:.2f} ± {e:.2f}" for name, (v, e) in by_scale[s].items())
        print(f"{method:20} scale {s:<3g} {figures}")

# %% jupyter={"source_hidden": true}
fig, (both_axis, distance) = plt.subplots(1, 2, figsize=(8.4, 3.8))
looks = {
    "classifier": ("s--", "#D55E00", "classifier, no labels", {1.0: (6, -12), 10.0: (-22, 0)}),
    "classifier on labels": ("^-.", "#CC79A7", "classifier on labels", {2.0: (-4, -16), 10.0: (-4, -16)}),
    "classifier-free": (
        "o-",
        "#0072B2",
        "classifier-free",
        {1.0: (5, -13), 2.0: (-3, 8), 4.0: (-4, -16), 10.0: (-8, -18)},
    ),
    "interval": ("D:", "#009E73", "classifier-free, 0.2 to 2", {2.0: (7, 2), 4.0: (4, 7), 10.0: (-26, -6)}),
}
for method, (look, colour, label, named) in looks.items():
    by_scale = curves[method]
    recall, precision = (
        torch.tensor([f[name] for f in by_scale.values()]).T for name in ("recall", "precision")
    )
    both_axis.errorbar(
        recall[0], precision[0], precision[1], recall[1], fmt=look, color=colour, capsize=2, label=label
    )
    for s, offset in named.items():
        place = by_scale[s]["recall"][0], by_scale[s]["precision"][0]
        both_axis.annotate(
            f"{s:g}", place, textcoords="offset points", xytext=offset, fontsize=9, color=colour
        )
    value, error = torch.tensor([f["frechet"] for f in by_scale.values()]).T
    distance.errorbar(list(by_scale), value, error, fmt=look, color=colour, capsize=2)
both_axis.set(title="recorded: MNIST", xlabel="recall", ylabel="precision")
distance.set(title="recorded: MNIST", xlabel="guidance scale", ylabel="Fréchet distance", ylim=0)
distance.axhspan(0.23, 0.31, color="grey", alpha=0.3, lw=0)
distance.text(10, 0.05, "real digits", fontsize=9, ha="right", color="dimgrey")
both_axis.legend(fontsize=9, loc="lower left")
figure(
    fig,
    alt="Left: precision over recall, a curve for each method over the scale. The classifier without labels stays below a "
    "precision of 0.62. From scale 1, at recall 0.89 and precision 0.77, the classifier on labels goes to 0.63 and 0.81, "
    "classifier-free guidance to 0.22 and 0.90, and the interval, above both, to 0.61 and 0.88. Right: the Fréchet distance over "
    "the scale. The interval is lowest, 0.38 at 1.5 and 2, just above the grey band of real digits; classifier-free rises from "
    "0.47 to 2.85, the classifier on labels to 1.66, the classifier without labels falls to 1.6.",
)

# %% [markdown]
# **The result:** in both models classifier-free guidance raises precision steeply up to scale 1.5 or 2. Beyond that precision
# hardly moves, while recall goes on falling: the claim holds. For comparison, 500 *real* digits are at a Fréchet distance of
# 0.27 ± 0.04, precision 0.88 ± 0.01, recall 0.89 ± 0.02 (mean and spread of the twenty balanced draws of lesson 3).
#
# - **Classifier-free** at 1.5: distance 0.54 ± 0.05, precision 0.92, recall 0.77. At 1, without any guidance: 0.47 ± 0.06,
#   0.77 and 0.89; twice the steps, and so as many evaluations, change nothing (0.48 ± 0.06). Guidance makes these digits clearer,
#   and the distance no better.
# - **In an interval**, at 2: 0.38 ± 0.05, 0.86 and 0.88, nearly the precision and recall of real digits, with 40 evaluations a
#   digit in place of 50. No setting is lower (1.5 is as low). With two more seeds the distance is 0.30 and 0.36, and at scale 1 it
#   is 0.36 and 0.38: a small lead, each time.
# - **Lesson 9's classifier on the model with labels**, at 1.5: 0.62 ± 0.05, 0.80 and 0.84. At 2 it is 0.72 ± 0.05, 0.84 and 0.79.
#   Compare that with classifier-free guidance at 1.5, of about the same recall (0.77): precision 0.92 against 0.84.
# - **The classifier on the model without labels** stays above 1.6. But that "model" is the network's own answer to ∅, which had a
#   tenth of the training and is at 3.5 unguided.
#
# Each ± is one standard error over the samples of one seed. The bounds 0.2 and 2 were chosen by trial on this model, so
# expect a little less elsewhere.
#
# **Published**, for other data and networks, in our scale (their $w$ + 1; a classifier that guides a *conditional* model
# comes on top of its 1):
#
# | scale | FID, classifier-free, ImageNet 64 × 64 | FID, classifier, ImageNet 256 × 256 | its precision | its recall |
# |---|---|---|---|---|
# | 1 | 1.80 | 10.94 | 0.69 | 0.63 |
# | 1.1 | **1.55** | | | |
# | 1.3 | 3.03 | | | |
# | 2 | 12.6 | **4.59** | 0.82 | 0.52 |
# | 5 | 26.2 | | | |
# | 11 | | 9.11 | 0.88 | 0.32 |
#
# There, too, the best FID takes little guidance, and precision is bought with recall. For autoguidance Karras et al. report an FID of 1.25 on
# ImageNet-512, where the interval had reached 1.40.

# %% [markdown] tags=["play"]
# ## Play
#
# Your functions and the MNIST model draw two 4s, anew for each setting. The second could be a 9. From which scale on is it
# a 4? What does "away from 9" do to the top of the first? And what is drawn away from 9 at scale 0?

# %%
from diffusion_lessons.course import explore_guidance

four = torch.tensor([4, 4], device=device)
four_noise = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(22)).to(device)
kinds = {
    "plain": lambda s: Clip(towards(asked, s)),
    "σ/α 0.2 to 2": lambda s: Clip(towards(asked, partial(interval_scale, scale=s, low=0.2, high=2))),
    "φ = 0.7": lambda s: Clip(rescaled(asked, s, 0.7)),
    "away from 9": lambda s: Clip(towards(asked, s, away=9)),
}
explorer = explore_guidance(kinds, four_noise, path.levels(6), four, [0.0, 1.0, 2.0, 4.0, 8.0])
explorer

# %% jupyter={"source_hidden": true}
shown = {}
for name, kind in kinds.items():
    made = [draw(kind(float(s)), four_noise, four, 6) for s in (0, 1, 4, 8)]
    shown[name] = torch.stack([torch.cat(list(each), -1) for each in made])
strip(
    shown,
    alt="Two digits, asked for as 4, at scale 0, 1, 4 and 8, guided in four ways. Plain: the second looks like "
    "a 9 at scale 1 and is a bold 4 at 4. In an interval strokes stay thin. Rescaled, the background turns grey. Away "
    "from 9: two 9s at scale 0, and 4s with open tops at 4 and 8.",
    captions=[f"scale {s}" for s in (0, 1, 4, 8)],
)

# %% [markdown]
# The bundled model also draws without a kernel, where your browser finds its files: any digit, four samplers, 1 to 50 steps,
# and beside it the students of lesson 7, on the same noise. Set the guidance to 1 and to 8, and go back and forth through
# the steps: at which step can you tell the digit?

# %%
from diffusion_lessons.course import playground

playground()

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# First your sampler and your chain of functions against the package's wrappers, over all steps. Then against diffusers, which has both
# ways of counting, and the rescaling. Theirs works on whatever it is given. Given $\hat x_0$ it is yours; given
# $\hat\varepsilon$, as their pipelines do, it makes another picture.

# %%
import importlib.util

from diffusion_lessons.guidance import Rescale, guidance_interval

wrapped = draw(ClassifierFreeGuidance(asked, guidance_interval(4, 0.2, 2)), noise, labels)
print(f"your sampler:      {(pictures(asked, noise, labels, 4, 0.2, 2) - wrapped).abs().max():.0e}")
wrapped = draw(Rescale(ClassifierFreeGuidance(asked, 4), 0.7), noise, labels)
print(f"rescaled, too:     {(draw(rescaled(asked, 4, 0.7), noise, labels) - wrapped).abs().max():.0e}")
if importlib.util.find_spec("diffusers"):
    import diffusers
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    diffusers.logging.set_verbosity_error()  # its guiders announce that they may still change
    level = path(600)
    with torch.no_grad():
        plain, none = asked(noise, level, labels), asked(noise, level, asked.null_condition(10))
    native = diffusers.ClassifierFreeGuidance(guidance_scale=4.0)
    paper = diffusers.ClassifierFreeGuidance(guidance_scale=3.0, use_original_formulation=True)
    x0, eps = (mix(a, b, 4) for a, b in zip(plain, none, strict=True))
    print(f"mix, scale 4:      {(x0 - native.forward(plain.x0, none.x0).pred).abs().max():.0e}")
    print(f"mix, their w = 3:  {(x0 - paper.forward(plain.x0, none.x0).pred).abs().max():.0e}")
    yours, theirs = rescale_x0(x0, plain.x0, 0.7), rescale_noise_cfg(x0, plain.x0, 0.7)
    print(f"rescaled x̂₀:       {(yours - theirs).abs().max():.0e}")
    alpha, sigma = level.like(x0)
    theirs = (noise - sigma * rescale_noise_cfg(eps, plain.eps, 0.7)) / alpha
    print(f"rescaled ε̂, as x̂₀: {(yours - theirs).abs().max():.1f}")
else:
    print("diffusers is not installed here; the solved notebook shows the differences")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | both evaluations given the label | the scale does nothing |
# | only the first three channels guided, in latents of four | no error and fair pictures: public code kept it for years |
# | ∅ is a real class (0, or the last) | asked for that class, the network draws others, too; guidance cannot help: both answers are the same |
# | labels dropped in place | the share without label grows from epoch to epoch, and the label loses its effect |
# | dropout still on in evaluation | one sample in ten ignores its label |
# | $w$ taken for $s$ | all guidance is one too weak, or too strong |
# | the guide is a *better* model than the one it guides | worse than no guidance |
# | a library that skips the second evaluation for scales up to 1 | scale 0 gives the conditional model, not the unconditional one |
# | $\hat x_0$ guided, $\hat\varepsilon$ not | $x$ has another noise level than the network is told: grain, pale pictures |
# | clipped before guided | over-exposed, in spite of the clip |
# | spread taken over the batch | the contrast of a picture depends on its neighbours |
# | a scale tuned on one model, used on another | too strong or too weak: the best scale depends on model, data and metric |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is classifier-free guidance?",
    "One diffusion network is trained with and without its condition: for 10 to 20 % of the pictures the "
    "label or text is replaced by a null token. At sampling it is asked twice, and the answers are mixed: "
    "unconditional + s·(conditional − unconditional), with s > 1.\n\n"
    "By Bayes' rule the difference is, up to a factor, the gradient of log p(y | x): a classifier that "
    "nobody had to train. More scale gives fidelity and takes diversity. It costs two evaluations a step.",
    [
        (
            "Why do guided pictures look better, when scale 1 is the trained distribution?",
            "The network is not exact. Both answers make the same mistakes, the one without the label more of them, and "
            "the difference points away from them. Autoguidance uses that alone: a weaker copy is the guide.",
        ),
        (
            "Which scale means no guidance?",
            "It depends on who counts. Here, in Imagen and in diffusers 1 is the plain conditional model and 0 the "
            "unconditional one. In Ho and Salimans' w these are 0 and −1.",
        ),
        (
            "Does it sample from p(x | y)·p(y | x)^(s−1)?",
            "No, even with perfect denoisers. That product holds at each noise level, but noising the sharpened data "
            "gives another family of densities. In one dimension a mode that should keep half of the samples loses all.",
        ),
        (
            "How many labels do you drop?",
            "10 to 20 %. Ho and Salimans found 0.1 and 0.2 about equal and 0.5 worse: the unconditional task needs little "
            "of the network.",
        ),
        (
            "How do you get rid of the second evaluation?",
            "In part: guide only within an interval of noise levels. Wholly: distil the guided model into one that takes the "
            "scale as an input (Meng et al. 2023).",
        ),
        (
            "Pictures look over-exposed at scale 10. What do you do?",
            "Lower the scale, leave guidance out at high noise, rescale the guided x̂₀ to the spread of the plain one, or clip "
            "after guiding. Imagen clips at a quantile of |x̂₀| and divides by it (dynamic thresholding).",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A paper reports its best samples at w = 0.3, in Ho and Salimans' way of counting. What do you set in diffusers?",
        [
            Choice(
                "0.3", False, "There 0.3 is between unconditional and conditional: less than the plain model."
            ),
            Choice("1.3", True, "w counts from the conditional model, the scale from the unconditional one."),
            Choice("−0.7", False, "The wrong way: s = 1 + w."),
            Choice("it depends on the number of classes", False, "The two formulas are equal term by term."),
        ],
    ),
    Question(
        "A network was trained with every label kept. You sample with scale 3, and the null id for the second evaluation. Then …",
        [
            Choice(
                "guidance works as usual",
                False,
                "It may look like it. But the vector of the null id was never trained: it is what chance made it.",
            ),
            Choice("both evaluations give the same", False, "The vectors differ, so the answers do."),
            Choice(
                "the second answer is not the model of all data",
                True,
                "So the difference is not the gradient of log p(y | x), whatever the pictures look like.",
            ),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "From scale 1 to 4, what became of precision and recall in the recorded experiment?",
        [
            Choice("both rose", False, "Fidelity is bought with diversity."),
            Choice("precision rose, recall fell", True, "Samples crowd where the label is most certain."),
            Choice("precision fell, recall rose", False, "That is the way back, towards scale 1."),
            Choice(
                "both fell", False, "Precision may fall again at very high scales, but not from the start."
            ),
        ],
    ),
    Question(
        "Guidance only for σ/α between 0.2 and 2. What does your interval_scale return at t = T of the cosine schedule?",
        [
            Choice("0: no guidance there", False, "Scale 0 would forget the label. No guidance is scale 1."),
            Choice("1: the plain conditional model", True, "α is about 0 there, so σ/α is far above 2."),
            Choice("the scale: σ = 1 lies in the interval", False, "It is σ/α that counts, not σ."),
        ],
    ),
    title="Two more",
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Autoguidance uses an early copy of the network, told the *same* label. You use a perfect model in its place. Then …",
        [
            Choice(
                "samples get worse",
                True,
                "The difference to a perfect guide is the model's mistake. A scale above 1 adds more of it.",
            ),
            Choice(
                "samples get better still",
                False,
                "Away from the perfect answer is away from the data: you measured it on the arc.",
            ),
            Choice(
                "nothing changes",
                False,
                "Only if both answers are equal, that is, if the model is perfect, too.",
            ),
        ],
    ),
    title="The last",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Ho and Salimans 2022, *Classifier-Free Diffusion Guidance*, arXiv 2207.12598: section 3.2, eq. 6, algorithms 1 and 2; table 1
#   (ImageNet); section 4.2, which share of labels to drop.
# - Dhariwal and Nichol 2021, *Diffusion Models Beat GANs on Image Synthesis*, arXiv 2105.05233: table 4, classifier guidance.
# - Saharia et al. 2022, *Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding* (Imagen), arXiv
#   2205.11487: section 2.2, the scale counted from the unconditional model; section 2.3, dynamic thresholding.
# - Kynkäänniemi et al. 2024, *Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models*,
#   arXiv 2404.07724: section 3 and figure 2, the interval and a mode that vanishes.
# - Lin et al. 2023, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, arXiv 2305.08891: section 3.4, rescaled guidance.
# - Karras et al. 2024, *Guiding a Diffusion Model with a Bad Version of Itself*, arXiv 2406.02507: section 3, why guidance raises quality,
#   and figure 1, a two-dimensional example; section 4, autoguidance.
# - Bradley and Nakkiran 2024, *Classifier-Free Guidance is a Predictor-Corrector*, arXiv 2408.09000: section 3, why guided samples do
#   not follow the sharpened density.
# - Meng et al. 2023, *On Distillation of Guided Diffusion Models*, arXiv 2210.03142: section 3, one evaluation in place of two.
#
# Guided pictures of 32 × 32 pixels cost two evaluations a step. Larger ones become affordable in a smaller space: {{lesson 11}}.
