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
# - guide at the noise levels where it helps, and nowhere else (exercise 10.4)
# - keep strong guidance from over-exposing pictures (exercise 10.5)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Ten digits from the bundled MNIST model. Every row starts from the same noise and asks for the same labels. One
# number differs, the **guidance scale**. Read down the columns: what becomes clearer, and what gets lost?

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, strip
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.samplers import sample, trajectory

mnist = zoo.load("mnist-unet")
mnist.network.to(device)
asked, path = mnist.denoiser(), mnist.path
labels, noise = torch.arange(10, device=device), torch.randn(10, 1, 32, 32, generator=generator).to(device)


def draw(denoiser, noise, labels, steps=15):
    """Pictures (B, C, H, W) by DDIM, on the CPU, each x̂₀ on the way clipped to [−1, 1]."""
    return sample(Clip(denoiser), noise, path.levels(steps), labels).cpu()


scales = (0, 1, 2, 4, 8)
strip(
    {f"scale {s}": draw(ClassifierFreeGuidance(asked, s), noise, labels) for s in scales},
    alt="Ten digits in five rows. Scale 0: digits of any kind, some broken. Scale 1: 0 to 9, thin and each in its "
    "own hand. From scale 2 to 8 the strokes become bolder and the shapes plainer.",
    captions=[str(k) for k in range(10)],
    columns=10,
)

# %% [markdown]
# At scale 0 the model draws whatever it likes. At 1 it does what training taught it to do with a label. Beyond 1 it
# overstates the label. No classifier was asked: the network is the same in all rows.
#
# ## Predict
#
# In one dimension everything can be computed. Half of the data is class A, with two equally likely modes, at −0.3 and 1.
# The other half is class B, with one mode at −1.2. Each is 0.2 wide, so they are well apart.

# %% tags=["predict"] jupyter={"source_hidden": true}
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
            "The walk is pushed away from B from its first step on, when A's two modes are still one cloud.",
        ),
        Choice("nearly all", False, "Guidance pushes away from B, and the left mode is the one next to B."),
    ],
)

# %% [markdown] tags=["idea"]
# ## One network, two answers
#
# Lesson 9 needed a second network, a classifier trained on noise. There you checked its gradient against a *difference of
# two scores*: that of one cluster, minus that of all data. Turn it round. Whoever has both scores needs no classifier. A
# diffusion model that is told the label has the first of them, and one that is not told has the second.
#
# Ho and Salimans train both at once. Now and then the label is replaced by an extra id, ∅, that means "no label". The
# network learns a vector for it as for any class, and so answers both questions. No classifier and no gradient: in
# their place, two passes through one network.
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
    A label is dropped where its chance is below rate.
    """
    ### BEGIN SOLUTION
    return torch.where(chance < rate, num_classes, labels)
    ### END SOLUTION


# %% [markdown]
# Your function now decides what a network learns. We train one on real digits, with one label in ten dropped, and ask
# it for $\hat x_0$ of held-out digits in three ways. (Its target v is a closed box: {{built-in 17}}.)

# %%
from diffusion_lessons.data import load_dataset
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.targets import V
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising

data = load_dataset("digits", "train", size=16)
SMALL = dict(base_channels=16, channel_mults=(1, 2), attention_levels=(1,), head_dim=16, patch=2, lr=3e-3)
recipe = Recipe(steps=budget.steps(600), batch=32, channels_last=False, class_dropout=0.0, **SMALL)
task, draws = Denoising(recipe, data).place(device), torch.Generator().manual_seed(0)
network = task.network
optimizer, ema, dropped = torch.optim.AdamW(network.parameters(), weight_decay=0.01), EMA(network), 0
for step in range(recipe.steps):
    optimizer.param_groups[0]["lr"] = recipe.learning_rate(step, step / recipe.steps)
    x0, eps, t, own = task.batch(step)
    given = drop_labels(own, 0.1, 10, torch.rand(32, generator=draws).to(device))
    dropped += int((given == 10).sum())
    diffusion_loss(network, path, V, x0, eps, t, given).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    ema.update(network)
ema.copy_to(network)
print(f"{recipe.steps} steps, {dropped / (32 * recipe.steps):.1%} of the labels dropped")

# %%
from diffusion_lessons.data import to_float
from diffusion_lessons.denoiser import Estimate, NetworkDenoiser
from diffusion_lessons.paths import add_noise

mine, test = NetworkDenoiser(network.eval(), path, V), load_dataset("digits", "test", size=16)
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

# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 2.7))
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
# **What to notice:** with much noise the label is worth a lot: at t = 950 the error is three quarters higher without it. A
# wrong label is worse than none, so ∅ has become an honest "I was not told". With little noise the three curves are one:
# the picture itself says what it is. There the two answers agree, and guidance has nothing to add.

# %% [markdown] tags=["idea"]
# ## The mix, and how to count it
#
# The two answers are two points, and they span a line. The difference between them is what the label adds. Scale 1 goes
# from the answer without the label to the one with it. A larger scale goes *on* in the same direction, to a picture more
# typical of the label than the typical one. In between lies a weaker hint; at 0, none.
#
# Papers count in two ways. Ho and Salimans start at the answer *with* the label and call what comes on top $w$. Imagen,
# diffusers and this course start at the other one. The numbers differ by 1. It is easy to miss, as both make good
# pictures.
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
def toy(scale):
    """The exact denoiser of class A, guided by your mix. The scale may be a function of the level."""

    def guided_to_a(x, level, condition=None):
        s = scale(level) if callable(scale) else scale
        return Estimate.from_x0(mix(only_a(x, level).x0, everything(x, level).x0, s), x, level)

    return guided_to_a


def share(inside):
    return inside.double().mean().item(), (inside.double().std() / len(inside) ** 0.5).item()


# %%
# The question of the prediction. Dashed: the sharpened density of lesson 9, p(x)·p(A | x)^s, normalised.
start = torch.randn(budget.samples(4000), 1, generator=generator).double()
grid = torch.linspace(-2, 2, 401)[:, None].double()
fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.2), sharey=True)
for ax, s in zip(axes, (0, 1, 2, 4), strict=True):
    points = sample(toy(s), start, path.levels(100))
    sharp = (s * only_a.log_prob(grid, path(0)) + (1 - s) * everything.log_prob(grid, path(0))).softmax(0)
    left, error = share(points < 0.35)
    print(
        f"scale {s}: {left:.2%} ± {error:.2%} lie below 0.35; of the sharpened density {sharp[:236].sum():.0%}"
    )
    ax.hist(points[:, 0].numpy(), bins=60, range=(-2, 2), density=True, alpha=0.4)
    ax.plot(grid, sharp * 100, "--", marker="", color="black")
    ax.set(title=f"scale {s}", xlabel="x", ylim=(0, 3))
figure(
    fig,
    alt="Histograms of samples at scale 0, 1, 2 and 4, and the sharpened density, dashed. At 0 and 1 they agree, with "
    "three modes and with two. At 2 the left mode has shrunk, at 4 it is gone and the right one is narrow and beyond 1; "
    "the dashed curve keeps both.",
)

# %% [markdown]
# **What to notice:** scales 0 and 1 do what they should. But at 2 the left mode keeps a fifth of the samples, at 4 next to
# nothing, and the rest is pushed *beyond* 1, where A has few data. The sharpened density would keep 49 %. Lesson 9 saw
# samples overshoot; here half of a class is lost. Both denoisers are exact, so only guidance is to blame: a push that
# works, not a draw from the dashed curve (Bradley and Nakkiran prove it).

# %% [markdown] tags=["exercise-card"]
# With pictures both answers come from one pass over a doubled batch. Nothing says that the second half must be asked with
# ∅. Put another class there and the walk moves away from *that*: a **negative condition**, which text-to-image users know
# as a negative prompt. A colleague's code can do both, in principle.
#
# {{exercise 10.3}}


# %% tags=["exercise"]
@exercise("10.3")
def guided(denoiser, x, level, labels, away, scale):
    """The pair (x̂₀, ε̂) at x (B, C, H, W), away from one set of labels, towards the other.

    denoiser(x, level, labels) gives (x0, eps) for any batch; labels, away: (B,), away often "no label".
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
        return Estimate(
            *guided(denoiser, x, level, labels, other, scale(level) if callable(scale) else scale)
        )

    return answer


small = torch.randn(10, 1, 16, 16, generator=generator).to(device)
strip(
    {f"scale {s}": draw(towards(mine, s), small, labels) for s in scales},
    alt="Ten digits of your network in five rows. Scale 0: blurred digits of any kind. Scale 1: mostly the digits 0 to 9, "
    "some in doubt. From scale 2 on all can be named; at 8 they are hard black and white.",
    captions=[str(k) for k in range(10)],
    columns=10,
)

# %% [markdown]
# One line in training and a few in sampling: your network draws the digit that it is asked for, and the scale says how
# decidedly. Without that line in training, ∅ would be a vector of chance numbers, and the second answer that of no model
# of the data.

# %% [markdown] tags=["idea"]
# ## Guide where it helps
#
# Why did the left mode vanish? At the start of the walk $x$ is nearly noise, and A's two modes are one cloud around
# 0.35. The middle of *all* data lies to its left. So the difference of the two answers points to the right, wherever
# $x$ is. Four times that, and every walk is far to the right before there are two modes to choose from.
#
# Kynkäänniemi et al. found the same in large models. With much noise guidance does harm, with little it is hardly needed,
# in between it helps. Their cure is one line: guide within an interval of noise levels only. Outside, one pass is enough, so
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
    """The guidance scale at a level: scale inside the interval of noise levels, no guidance outside.

    level: with t, alpha and sigma, 0-d tensors; low, high: bounds, of which high belongs to it.
    """
    ### BEGIN SOLUTION
    return scale if low < level.sigma / level.alpha <= high else 1.0
    ### END SOLUTION


# %%
from functools import partial

intervals = {"anywhere": (0, float("inf")), "above 0.7": (0.7, float("inf")), "0.2 to 0.7": (0.2, 0.7)}
fig, axes = plt.subplots(1, 3, figsize=(7.4, 2.5), sharey=True)
for ax, (name, (low, high)) in zip(axes, intervals.items(), strict=True):
    scale = partial(interval_scale, scale=4, low=low, high=high)
    walk = [(float(level.t), x) for level, x, _ in trajectory(toy(scale), start, path.levels(100))]
    passes = sum(1 + (scale(level) != 1) for level in path.levels(100)[:-1])
    left, error = share(walk[-1][1] < 0.35)
    print(f"σ/α {name:10s}: {left:.2%} ± {error:.2%} end in the left mode, after {passes} passes")
    paths = torch.stack([x[:30, 0] for _, x in walk[::2]])
    ax.plot([t for t, _ in walk[::2]], paths, color="#0072B2", lw=0.6, marker="")
    ax.set(title=f"σ/α {name}", xlabel="t", xlim=(1000, 0), ylim=(-2.5, 2.8))
axes[0].set_ylabel("x, guided at scale 4")
figure(
    fig,
    alt="Thirty walks from noise to data, three times. Guided anywhere or above 0.7, all rise above 1 and come down to the "
    "right mode. Guided from 0.2 to 0.7, they stay in two bunches, and the lower one bends up at t = 385.",
)

# %% [markdown]
# **What to notice:** guidance at high noise alone, above 0.7, does all the harm. From 0.2 to 0.7 it leaves both modes nearly
# their halves, and takes 127 passes in place of 200. There the two modes are apart already, and what it adds is only a push
# away from B.

# %% [markdown] tags=["idea"]
# ## Over-exposed
#
# A guided estimate lies beyond the two answers, and so may its values: beyond white, below black. `Clip` cuts them
# off, which flattens strokes. The latents of lesson 11 have no range to clip to; there pictures come out garish.
#
# Lin et al. take the contrast back. Multiply the guided estimate by the one number that gives it the standard deviation
# of the plain conditional one. All of that makes pictures dull, they found, so take a share φ of it: 0.7.
#
# The order of such wrappers matters. Guide, then rescale, then clip: what is clipped before it is guided leaves the range
# again.
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

    x0, x0_plain: (B, C, H, W), guided and plain conditional estimate; phi: 0 to 1.
    """
    ### BEGIN SOLUTION
    factor = x0_plain.std((1, 2, 3), keepdim=True) / x0.std((1, 2, 3), keepdim=True)
    return phi * factor * x0 + (1 - phi) * x0
    ### END SOLUTION


# %%
from diffusion_lessons.course.widgets import plain_lines, show


def rescaled(denoiser, scale, phi):
    def answer(x, level, labels):
        strong, plain = towards(denoiser, scale)(x, level, labels), denoiser(x, level, labels)
        return Estimate.from_x0(rescale_x0(strong.x0, plain.x0, phi), x, level)

    return answer


# %%
ways = {"scale 1": towards(asked, 1), "scale 8": towards(asked, 8)}
ways |= {f"scale 8, φ = {phi}": rescaled(asked, 8, phi) for phi in (0.7, 1.0)}
ends = {}
with plain_lines():
    fig, ax = plt.subplots(figsize=(6.4, 2.5))
    for name, way in ways.items():
        walk = list(trajectory(way, noise, path.levels(15), labels))  # nothing is clipped here
        spread = [estimate.x0.flatten(1).std(1).mean().item() for _, _, estimate in walk[:-1]]
        ax.plot([float(level.t) for level, _, _ in walk[:-1]], spread, label=name)
        ends[name] = walk[-1][1].cpu()
        print(f"{name:16s}: {(ends[name].abs() > 1.05).float().mean():.1%} of the pixels beyond ±1.05")
    ax.set(xlabel="t", ylabel="std of x̂₀", xlim=(1000, 0), ylim=0)
    ax.legend(ncols=2)
figure(
    fig,
    alt="Mean standard deviation of x̂₀ along the walk. Plain, it rises from 0.4 to 0.55. At scale 8 it starts at 1.6 and "
    "comes down to 0.7. Rescaled by 0.7 it stays near 0.65, fully rescaled it starts at 0.4 and ends at 0.6.",
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
# grey: that is the dullness. And nobody gives back the diversity. Rescaling cures how guided pictures look, not what they
# show.

# %% [markdown] tags=["experiment"]
# ## Experiment: what more guidance costs
#
# The claim: fidelity is bought with diversity. We draw digits with *your* network and *your* functions at five scales.
# **Precision** is the share of samples that lie among the real digits, **recall** the share of real digits that lie among
# the samples, accuracy the share that a classifier reads as the digit asked for, and the Fréchet distance sums up
# both ({{built-in 20}}).

# %%
from diffusion_lessons.metrics import evaluate

FIGURES = ("frechet", "precision", "recall", "accuracy")
wanted = torch.arange(budget.samples(300, at_least=100)) % 10
start = torch.randn(len(wanted), 1, 16, 16, generator=generator).to(device)
live = {}
for s in (1.0, 1.5, 2.0, 3.0, 5.0):
    result = evaluate(draw(towards(mine, s), start, wanted.to(device)), wanted, zoo.yardstick("digits"))
    live[s] = {name: tuple(result[name].values()) for name in FIGURES}
    print(f"scale {s}:  " + "   ".join(f"{name} {v:.2f} ± {e:.2f}" for name, (v, e) in live[s].items()))
print(f"n = {len(wanted)}, one seed; ± one standard error over the draw of the samples")

# %% [markdown]
# One seed of a small network. The recorded experiment does the same with the bundled MNIST model, and with lesson 9's
# classifier pushing the same network, asked without labels: so scale 0 is the same model in both, and so would be scale 1
# if the classifier were exact. `diffusion-lessons experiment guidance-scales` runs it again.

# %%
from diffusion_lessons.experiments import recorded

kept, curves = recorded("guidance-scales"), {}
for row in kept["rows"]:
    method, s = row["settings"]["method"], row["settings"]["scale"]
    curves.setdefault(method, {})[s] = {name: (row[name], row[f"{name}_error"]) for name in FIGURES}
print(f"n = {kept['options']['n']}, 25 steps, {kept['hardware']['processor']}")
for method, by_scale in curves.items():
    for s in (1.0, 2.0, 4.0, 10.0):
        figures = "   ".join(f"{name} {v:.2f} ± {e:.2f}" for name, (v, e) in by_scale[s].items())
        print(f"{method:15s} scale {s:2g}:  {figures}")

# %% jupyter={"source_hidden": true}
fig, (here, both, distance) = plt.subplots(1, 3, figsize=(9.6, 3.1))


def trade(ax, by_scale, named, **look):
    """Precision over recall, two standard errors each way, with some of the scales beside their points."""
    recall, precision = (
        torch.tensor([f[name] for f in by_scale.values()]).T for name in ("recall", "precision")
    )
    ax.errorbar(recall[0], precision[0], 2 * precision[1], 2 * recall[1], capsize=2, **look)
    for s, offset in named.items():
        place = by_scale[s]["recall"][0], by_scale[s]["precision"][0]
        ax.annotate(f"{s:g}", place, textcoords="offset points", xytext=offset, fontsize=8)


trade(here, live, dict.fromkeys(live, (5, 5)), fmt="o-", color="#0072B2")
looks = {
    "classifier": ("s--", "#D55E00", {1.0: (-18, -4), 4.0: (7, 5), 10.0: (-22, -4)}),
    "classifier-free": ("o-", "#0072B2", {1.0: (5, 5), 2.0: (4, 6), 4.0: (4, 6), 10.0: (-8, -18)}),
}
for method, (look, colour, named) in looks.items():
    trade(both, curves[method], named, fmt=look, color=colour, label=method)
    value, error = torch.tensor([f["frechet"] for f in curves[method].values()]).T
    distance.errorbar(list(curves[method]), value, 2 * error, fmt=look, color=colour, capsize=2)
here.set(title="here: your network, digits", xlabel="recall", ylabel="precision")
both.set(title="recorded: MNIST", xlabel="recall", ylabel="precision")
distance.set(title="recorded: MNIST", xlabel="guidance scale", ylabel="Fréchet distance", ylim=0)
both.legend(fontsize=8, loc="lower left")
figure(
    fig,
    alt="Precision over recall. Left, live: from scale 1 to 2 precision rises from 0.64 to 0.92, then recall alone falls, to "
    "near 0 at 5. Middle, recorded: without a classifier the same bend between scale 1 and 2; the curve with one stays "
    "below 0.62. Right, recorded Fréchet distance over the scale: without a classifier lowest, 0.5, at 1 to 1.5; with "
    "one it falls to 1.6 at 4.",
)

# %% [markdown]
# **The result:** in both models precision rises steeply up to scale 1.5 or 2. Beyond that it hardly moves, while recall goes on
# falling. The Fréchet distance punishes both, and is lowest at 1 to 1.5 (recorded: 0.47 ± 0.06 and 0.54 ± 0.05). The share
# read as asked rises to the end: all of 500 from scale 2 on. Which scale is best depends on what you count.
#
# And with lesson 9's classifier? At the same recall, 0.89, precision is 0.55 ± 0.02 (its scale 3), against 0.77 ± 0.02
# (scale 1) without. That is a comparison of teachers: a small classifier, or the denoiser's own training with labels,
# which scale 1 already has in full. Its push is the gentler one, too: at scale 10 it still leaves a recall of 0.79, where
# classifier-free guidance leaves 0.22.
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
# There, too, the best FID takes little guidance, and precision is bought with recall.

# %% [markdown] tags=["play"]
# ## Play
#
# Your functions and the MNIST model draw two 4s, a 3 and an 8, anew for each setting. The second 4 could be a 9. From which
# scale on is it a 4? What does "away from 9" do to the top of the first one? And what is drawn away from 9 at scale 0?

# %%
from time import perf_counter

from diffusion_lessons.course import explore_guidance

four = torch.tensor([4, 4, 3, 8], device=device)
four_noise = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(22)).to(device)
kinds = {
    "plain": lambda s: Clip(towards(asked, s)),
    "σ/α 0.2 to 2": lambda s: Clip(towards(asked, partial(interval_scale, scale=s, low=0.2, high=2))),
    "φ = 0.7": lambda s: Clip(rescaled(asked, s, 0.7)),
    "away from 9": lambda s: Clip(towards(asked, s, away=9)),
}
shown = {}
for name, kind in kinds.items():
    made = [draw(kind(float(s)), four_noise, four, 8) for s in (0, 1, 4, 8)]  # four times (4, 1, 32, 32)
    shown[name] = torch.stack([torch.cat(list(pictures), -1) for pictures in made])
show(
    strip(
        shown,
        "Four digits, asked for as 4, 4, 3 and 8, at scale 0, 1, 4 and 8, guided in four ways. Plain: the second 4 looks like "
        "a 9 at scale 1 and is a bold 4 at 4. In an interval strokes stay thin. Rescaled, the background turns grey. Away "
        "from 9: four 9s at scale 0, and 4s with open tops at 4 and 8.",
        [f"scale {s}" for s in (0, 1, 4, 8)],
    )
)
explorer = explore_guidance(kinds, four_noise, path.levels(8), four, [float(s) for s in scales])
before = perf_counter()
explorer.draw(way="plain", scale=4.0)
print(f"a new setting of the slider takes about {perf_counter() - before:.1f} s here")
explorer

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# First your chain of functions against the package's wrappers, over a whole walk. Then against diffusers, which has both
# ways of counting, and the rescaling. Theirs works on whatever it is given. Given $\hat x_0$ it is yours; given
# $\hat\varepsilon$, as their pipelines do, it makes another picture.

# %%
import importlib.util

from diffusion_lessons.guidance import Rescale

package = draw(Rescale(ClassifierFreeGuidance(asked, 4), 0.7), noise, labels)
print(
    f"whole walk, against the package: {(draw(rescaled(asked, 4, 0.7), noise, labels) - package).abs().max():.0e}"
)
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
# | both passes given the label | the scale does nothing |
# | only the first three channels guided, in latents of four | no error and fair pictures: public code kept it for years |
# | ∅ is a real class (0, or the last) | guidance pushes away from that class: its own samples come out worst |
# | labels dropped in place | the share without label grows from epoch to epoch, and the label loses its effect |
# | dropout still on in evaluation | one sample in ten ignores its label |
# | $w$ taken for $s$ | all guidance is one too weak, or too strong |
# | a library that skips the second pass for scales up to 1 | scale 0 gives the conditional model, not the unconditional one |
# | $\hat x_0$ guided, $\hat\varepsilon$ not | the walk leaves the levels it was meant for: grain, pale pictures |
# | clipped before guided | over-exposed, in spite of the clip |
# | spread taken over the batch | the contrast of a picture depends on its neighbours |
# | scales tuned on one model | useless on another: the best scale depends on model, data, metric and number of steps |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is classifier-free guidance?",
    "One diffusion network is trained with and without its condition: the label (or text) is replaced by a null token for "
    "10 to 20 % of the training pictures. At sampling the network is asked twice, and the two answers are mixed: "
    "unconditional + s·(conditional − unconditional). With s > 1 this goes beyond the conditional answer.\n\nBy Bayes' rule "
    "the difference of the two is, up to a factor, the gradient of log p(y | x): a classifier that nobody had to train. "
    "More scale gives fidelity and agreement with the label, and takes diversity. It costs two passes a step.",
    [
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
            "How do you get rid of the second pass?",
            "Guide only within an interval of noise levels; or distil the guided model into one that takes the scale as "
            "an input (Meng et al. 2023).",
        ),
        (
            "What is a negative prompt?",
            "The second pass asked with another condition in the place of the null token. The walk moves away from it.",
        ),
        (
            "Pictures look over-exposed at scale 10. What do you do?",
            "Lower the scale, rescale the guided x̂₀ to the spread of the plain one, clip after guiding, or leave guidance "
            "out at high noise.",
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
        "A network was trained with every label kept. You sample with scale 3, and the null id for the second pass. Then …",
        [
            Choice(
                "guidance works as usual",
                False,
                "It may look like it. But the vector of the null id was never trained: it is what chance made it.",
            ),
            Choice(
                "the second answer is not the model of all data",
                True,
                "So the difference is not the gradient of log p(y | x), whatever the pictures look like.",
            ),
            Choice("both passes give the same", False, "The vectors differ, so the answers do."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "From scale 1 to 5, what became of precision and recall in the experiment?",
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

# %% [markdown] tags=["references"]
# ## References
#
# - Ho and Salimans 2022, *Classifier-Free Diffusion Guidance*, arXiv 2207.12598: section 3.2, eq. 6, algorithms 1 and 2; table 1
#   (ImageNet); section 4.2, which share of labels to drop.
# - Dhariwal and Nichol 2021, *Diffusion Models Beat GANs on Image Synthesis*, arXiv 2105.05233: table 4, classifier guidance.
# - Saharia et al. 2022, *Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding* (Imagen), arXiv
#   2205.11487: section 2.2, the scale counted from the unconditional model.
# - Kynkäänniemi et al. 2024, *Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models*,
#   arXiv 2404.07724: section 3 and figure 2, the interval and a mode that vanishes.
# - Lin et al. 2023, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, arXiv 2305.08891: section 3.4, rescaled guidance.
# - Bradley and Nakkiran 2024, *Classifier-Free Guidance is a Predictor-Corrector*, arXiv 2408.09000: section 3, why guided samples do
#   not follow the sharpened density.
# - Meng et al. 2023, *On Distillation of Guided Diffusion Models*, arXiv 2210.03142: section 3, one pass in place of two.
#
# Guided pictures of 32 × 32 pixels cost two passes a step. Larger ones become affordable elsewhere: {{lesson 11}}.
