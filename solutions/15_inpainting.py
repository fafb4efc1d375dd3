# %% [markdown] tags=["header"]
# title: Inpainting
# question: How does a diffusion model fill a hole so that it fits what is around it?
# difficulty: 2
# prerequisites: 03, 08, 10, 11
# builds: Inpaint, repaint, there_and_back, painting, metrics.seam

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - put known pixels into a walk at the right level of noise (exercise 15.1)
# - keep them exact in any sampler, and find a mask that is read the wrong way round (exercise 15.2)
# - measure how visible the edge of a hole is (exercise 15.3)
# - write RePaint: its schedule and its walk, and count its calls (exercises 15.4 and 15.5)
# - build the nine channels of Stable Diffusion's inpainting model (exercise 15.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# A scene with a hole. A model of this course fills it, four times from four noises. In each frame it gets **another
# caption**. Move the slider. What changes, and what never does?

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.experiments.inpainting import Holes, filled, holes, judged

trained = zoo.load("scenes-inpaint").on(device)  # 64 × 64 pixels, in the latents of an autoencoder
scene = holes(8)  # eight scenes with a hole about the first object


# %% jupyter={"source_hidden": true}
from dataclasses import replace

from diffusion_lessons.data.captions import Wanted, plain, read

SHOWN = 5  # the scene at the start
WISHES = [("green", "triangle"), ("blue", "circle"), ("orange", "square"), ("purple", "cross"), ("red", "circle"),
          ("black", "triangle")]  # fmt: skip


def framed(pictures):
    """Pictures (n, C, H, W) side by side, (C, H', W'), a light line between them."""
    return torch.cat(list(torch.nn.functional.pad(pictures, (1, 1, 1, 1), value=0.6)), -1)


def sheet(pictures):
    """Six pictures as one, in two rows."""
    return torch.cat([framed(row) for row in pictures.chunk(2)], -2)


def coarse(x):
    """Fewer shades, so that the notebook stays small."""
    return (x.clamp(-1, 1) * 16).round() / 16


# %% jupyter={"source_hidden": true}
picture, hole = scene.pictures[SHOWN : SHOWN + 1], scene.masks[SHOWN : SHOWN + 1]
wish = read(scene.captions[SHOWN])
captions, frames = [], []
for colour, shape in WISHES:
    first = Wanted(shape, colour, wish.objects[0].size)
    captions.append(plain(replace(wish, objects=(first, *wish.objects[1:]))))
    task = Holes(picture.expand(4, -1, -1, -1), hole.expand(4, -1, -1, -1), captions[-1:] * 4)
    made = torch.lerp(task.pictures, filled(trained, task, "trained"), task.masks)
    frames.append(sheet(torch.cat([picture, picture * (1 - hole), made])))
scrub(
    {"picture, hole, four fills": coarse(torch.stack(frames))},
    [f"{'an' if colour == 'orange' else 'a'} {colour} {shape}" for colour, shape in WISHES],
    alt="A green triangle and a yellow one; the same with a grey box in place of the yellow one; and four "
    "fills of this box, for six captions: green triangles, blue circles, orange squares, purple crosses, "
    "red circles, black triangles. The first green triangle is in all of them.",
    title="Change the caption",
    columns=6,
)

# %% [markdown]
# What is outside of the hole is the same in all frames, down to the last bit. What is inside follows the caption, and
# it fits, nearly: in some fills the background is 3 or 4 of 255 lighter, and in the few shades of this page that is a
# speckle which tells where the hole was. How the caption comes in is a closed box here ({{built-in 16}}). This network was
# *trained* to fill holes. Most of this lesson asks how far one gets without such a training.

# %% [markdown] tags=["guess"]
# ## Guess
#
# You have a diffusion model that draws digits, and a digit whose lower half is lost. The model has never heard of
# holes, and you may not train it. **How would you make it fill the lower half, so that it fits the upper one?** Take
# two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Draw a whole digit and paste the upper half over it.* The upper half is right, but the lower half knows nothing
#   of it. You measure how badly it fits.
# - *Draw a thousand digits and keep the one whose upper half is nearest.* It fits better. For pictures of many
#   objects no number is large enough.
# - *Noise the broken picture a little and denoise it.* (This is SDEdit, lesson 8.) The known half changes, too,
#   and a grey hole stays a grey hole unless there is much noise.
# - *Correct the sampler in each step*: after every step put the known half back. But what does it look like in the
#   middle of the walk, when everything else is noise?
# - *Correct with a gradient*: ask in each step how far the guess is from the known half, and move against that error.
#   This is DPS (diffusion posterior sampling); it costs a backward pass in each step.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# In two dimensions everything can be computed. Half of the data lies around (−1, −1), half around (1, 1), each cloud
# 0.3 wide. We know the first number of a point: 0.3. "Fill the hole" means: draw the second one. Given 0.3, it
# belongs to the upper cloud in 99.9 % of the cases.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "The denoiser is perfect, and in each of 25 steps the first number is put back at the right level of noise. What "
    "share of the second numbers ends near 1?",
    [
        Choice(
            "99.9 %: nothing in it is approximate",
            False,
            "The denoiser is exact and so is what is put back. But the walk decides before it knows: you see it below.",
        ),
        Choice(
            "about 90 %: 25 steps are few",
            False,
            "Sixteen times as many steps do not help: you see it below.",
        ),
        Choice(
            "about 60 to 70 %",
            True,
            "Not much better than tossing a coin. Where the walk chooses between the clouds, what is known is still "
            "buried in noise.",
        ),
        Choice(
            "50 %: the known number has no effect",
            False,
            "It has an effect, at the end. Often that is too late.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Known pixels, at the right level of noise
#
# During sampling $x$ is a noisy picture. In training every pixel of such a picture was equally noisy. If you put
# *clean* known pixels beside noisy ones, the network sees something that it never saw before.
#
# So known pixels have to be made as noisy as the others. Lesson 2 has the formula: jump from the clean picture to the
# level of $x$. Do it again before each step, at the level of that step. The noise gets less from step to step, and at
# the end the known pixels are clean.
#
# The mask says where to paint. In diffusers and in this course **1 means "paint"** and 0 means "keep". Others, such as
# the paper on RePaint below, have it the other way round.

# %% [markdown]
# $$x_t \;\leftarrow\; m \odot x_t + (1 - m) \odot (\alpha_t\, x^{\text{known}} + \sigma_t\, \varepsilon)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x^{\text{known}}$ | the clean picture; what it shows in the hole does not matter | (B, C, H, W) |
# | $m$ | the mask: 1 where to paint, 0 where known | (B, 1, H, W) |
# | $\varepsilon$ | noise, drawn once or anew for each step | (B, C, H, W) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 15.1}}


# %% tags=["exercise"]
@exercise("15.1")
def replace_known(x, known, mask, noise, level):
    """x (B, C, H, W) with what is known in its place, at the same level of noise.

    known: the clean picture; noise: N(0, 1), to noise it with; both like x. mask: (B, 1, H, W), 1 where to paint
    (there x stays), 0 where known; a number between them is the share of x. level: with alpha and sigma, one for all.
    """
    ### BEGIN SOLUTION
    there = level.alpha * known + level.sigma * noise
    return mask * x + (1 - mask) * there
    ### END SOLUTION


# %%
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.samplers import ddim_step, sample

mnist = zoo.load("mnist-unet").on(device)
network, path = mnist.denoiser(), mnist.path
levels, digits = path.levels(25), torch.tensor([3, 8, 5, 2, 6, 9], device=device)
guided = Clip(ClassifierFreeGuidance(network, 2.0))
first = torch.randn(6, 1, 32, 32, generator=generator).to(device)
original = sample(guided, first, levels, digits)  # the model's own digits are our photographs
noise = torch.randn(6, 1, 32, 32, generator=generator).to(device)  # for the fills
mask = torch.zeros(6, 1, 32, 32, device=device)
mask[:, :, 16:] = 1  # the lower half is to be painted


def denoise(x, level, condition=None):
    """The model's guess, without a label: nobody tells it which digit this is."""
    return Clip(network)(x, level, network.null_condition(len(x)))


# %%
@torch.no_grad()
def fill_by_replacing(number, original, mask, noise):
    """DDIM, with known pixels put back before each step k, at the level of that number: (x, guess) at each."""
    x, seen = noise, []
    for k in range(25):
        x = replace_known(x, original, mask, noise, levels[number(k)])
        guess = denoise(x, levels[k])
        seen.append((x, guess.x0))
        x = ddim_step(x, guess, levels[k], levels[k + 1])
    x = replace_known(x, original, mask, noise, levels[number(25)])
    return [*seen, (x, x)]


ways = {
    "at the right level": lambda k: k,
    "always clean": lambda k: 25,
    "one level too noisy": lambda k: max(k - 1, 0),
}
walks = {name: fill_by_replacing(number, original, mask, noise) for name, number in ways.items()}

# %% jupyter={"source_hidden": true}
right = walks["at the right level"]
scrub(
    {
        "x": coarse(torch.stack([sheet(x) for x, _ in right])).cpu(),
        "the guess": coarse(torch.stack([sheet(guess) for _, guess in right])).cpu(),
    },
    levels,
    alt="Six digits whose upper half is known, from noise to data. At first all is noise; the upper halves come out of the noise "
    "clean, and strokes grow below them that go on where the upper ones end. The guess of the network has vague strokes "
    "in both halves at first.",
    title="Known pixels come out of the noise with the others",
    columns=7,
)

# %% jupyter={"source_hidden": true}
strip(
    {"original": original.cpu(), **{name: walk[-1][0].clamp(-1, 1).cpu() for name, walk in walks.items()}},
    alt="Six digits in four rows. Originals: 3, 8, 5, 2, 6, 9. Filled at the right level: 3, 8 and 9 can be "
    "read, the 2 looks like a 7, the 6 like a broken 4. Always clean: much the same, the 2 with a loop. "
    "One level too noisy: much the same, with a grain around the upper halves.",
    columns=6,
)

# %% [markdown]
# **What to notice:** look at the guesses first. In the beginning the upper half of the guess is as vague as the lower
# one: the network does not yet see what is known. One level too noisy is the bug of a well-known tutorial: the known
# half keeps a grain to the end.
#
# And the clean pixels? The rule says that they do harm. Here no harm is to be seen. Six digits say little, and a
# measure comes soon: they take part in it.

# %% [markdown] tags=["idea"]
# ## Into the guess, not into the sample
#
# A shorter way: a sampler asks for the guess $\hat x_0$ and steps from it. In known places we need no guess: we
# *know* $x_0$. So put what is known into the guess. The noise that belongs to it follows from
# $x = \alpha x_0 + \sigma\varepsilon$, as always.
#
# Now the change is a wrapper around the denoiser, like guidance and clipping. Every sampler of this course can use
# it, and none of them has to know. With DDIM it is the replacement that you have just written, with one noise for all
# steps: known places move in a straight line from their first noise to what is known. The last step goes to $t = 0$,
# where $x = \hat x_0$: known places are **exact**. The wrapper has to be the last one: rescaling (lesson 10), or
# clipping of latents, would change known places, too.

# %% [markdown]
# $$\hat x_0 \;\leftarrow\; m \odot \hat x_0 + (1-m) \odot x^{\text{known}}, \qquad
# \hat\varepsilon \;\leftarrow\; \frac{x - \alpha\,\hat x_0}{\sigma}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\hat x_0, \hat\varepsilon$ | the guess, a pair with $x = \alpha\hat x_0 + \sigma\hat\varepsilon$ | (B, C, H, W) each |

# %% [markdown] tags=["exercise-card"]
# A colleague has written the wrapper. It was tested with the masks of another program.
#
# {{exercise 15.2}}


# %% tags=["exercise"]
@exercise("15.2")
def keep_in_guess(denoiser, x, level, known, mask):
    """The pair (x0, eps) at x (B, C, H, W) with what is known in x0, so that x = alpha·x0 + sigma·eps.

    denoiser(x, level) gives (x0, eps). known: clean, like x; mask: (B, 1, H, W), 1 where to paint, 0 where known; a
    number between them, at a soft edge, is the share of the guess. level: with alpha and sigma, one for all, above
    t = 0.
    """
    ### BEGIN SOLUTION
    x0, _ = denoiser(x, level)
    x0 = mask * x0 + (1 - mask) * known
    return x0, (x - level.alpha * x0) / level.sigma
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "The hole is exactly as it was. Everything around it has changed."
    # x0, _ = denoiser(x, level)
    # x0 = (1 - mask) * x0 + mask * known
    # return x0, (x - level.alpha * x0) / level.sigma
    ### END STUDENT


# %%
from diffusion_lessons.denoiser import Estimate


def keeping(denoiser, known, mask):
    """Your function as a denoiser that every sampler can ask."""

    def answer(x, level, condition=None):
        return Estimate(*keep_in_guess(denoiser, x, level, known, mask))

    return answer


kept = sample(keeping(denoise, original, mask), noise, levels)
pasted = torch.lerp(original, sample(denoise, noise, levels), mask)  # drawn freely, upper half put back
gap = (kept - walks["at the right level"][-1][0]).abs().max()
changed = ((kept - original) * (1 - mask)).abs().max()
print(f"wrapper against replacement: largest difference {gap:.0e}")
print(f"largest change of a known pixel: {changed:g}")

# %% jupyter={"source_hidden": true}
strip(
    {
        "original": original.cpu(),
        "kept in the guess": kept.clamp(-1, 1).cpu(),
        "pasted": pasted.clamp(-1, 1).cpu(),
    },
    alt="Six digits in three rows: originals; filled with known pixels in the guess, most of them without a "
    "break; and upper halves above lower halves that were drawn freely: a spot beside the 5, a loose "
    "stroke below the 9.",
    columns=6,
)

# %% [markdown]
# Known pixels are exact in *both* rows, so that is no measure of quality. What tells them apart is the **seam**: do
# strokes go on across the edge of the hole?

# %% [markdown] tags=["exercise-card"]
# {{exercise 15.3}}


# %% tags=["exercise"]
@exercise("15.3")
def seam_jumps(pictures, mask):
    """How far each picture jumps across the border of its hole: (B,).

    pictures: (B, C, H, W); mask: (B, 1, H, W), 1 where painted, 0 where known; each has a border. A pair on the
    border is two pixels beside or below each other, one known and one painted. The result is the mean over all these
    pairs of a picture of the absolute difference, averaged over channels.
    """
    ### BEGIN SOLUTION
    beside = (pictures[..., 1:] - pictures[..., :-1]).abs().mean(1, keepdim=True)
    below = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().mean(1, keepdim=True)
    edge_beside = mask[..., 1:] != mask[..., :-1]
    edge_below = mask[..., 1:, :] != mask[..., :-1, :]
    jumps = (beside * edge_beside).sum((1, 2, 3)) + (below * edge_below).sum((1, 2, 3))
    return jumps / (edge_beside.sum((1, 2, 3)) + edge_below.sum((1, 2, 3)))
    ### END SOLUTION


# %%
n = budget.samples(40)
wanted = torch.arange(n, device=device) % 10
many = sample(guided, torch.randn(n, 1, 32, 32, generator=generator).to(device), path.levels(15), wanted)
lower = mask[:1].expand(n, -1, -1, -1)
start = torch.randn(n, 1, 32, 32, generator=generator).to(device)
reader = zoo.load("mnist-classifier").to(device)


@torch.no_grad()
def judge(name, made):
    """Print the seam, and how often a classifier reads the digit that it was; ± one standard error."""
    jumps = seam_jumps(made, lower[: len(made)])
    same = (reader(made.clamp(-1, 1)).argmax(1) == wanted[: len(made)]).double()
    error, of = same.std() / len(made) ** 0.5, jumps.std() / len(made) ** 0.5
    print(f"{name:20} seam {jumps.mean():.3f} ± {of:.3f}, read as its digit {same.mean():.0%} ± {error:.0%}")


replaced_many = sample(keeping(denoise, many, lower), start, levels)
judge("original", many)
clean_many = fill_by_replacing(ways["always clean"], many, lower, start)[-1][0]
judge("pasted", torch.lerp(many, sample(denoise, start, levels), lower))
judge("kept in the guess", replaced_many)
judge("always clean", clean_many)
print(f"n = {n} digits")

# %% [markdown]
# **What to notice:** the originals jump, too, because strokes cross the edge: a seam means something only beside the
# figure of the originals. Pasted halves jump three times as far. Kept in the guess, the fill begins where the upper
# half ends, and the seam is about twice that of the originals. But it often makes another digit, or none. Another
# digit is no mistake (the upper half of a 3 may belong to a 2). None is one.
#
# Pixels that are **always clean** do better, against the rule: the network copes with pictures that it has never seen. No
# training promised that. They have one advantage: they show *early* what is known. How early a walk learns it is what
# the rest of this lesson is about.

# %% [markdown] tags=["idea"]
# ## What goes wrong, with nothing to blame
#
# Fills by replacement fit better than pasted ones, and still many of them are no digits. Is the network too small?
# Are there too few steps? With two clouds, a perfect denoiser and known answers we can exclude both.
#
# Think of what the denoiser sees. At a high level the known number is buried in noise, so it says nothing about the
# cloud. The unknown number wanders, and soon it leans to one of the clouds, by its own noise. Lower down the known
# number comes out of the noise and contradicts. But by then the other number is clearly in its cloud, and the
# denoiser, which must explain *both*, is torn.
#
# What we want is a walk that knows the *clean* number from the first step on.

# %% [markdown]
# $$\underbrace{q(x_t^{\text{hole}} \mid x_t^{\text{known}})}_{\text{what each step sees}} \;\neq\;
# \underbrace{q(x_t^{\text{hole}} \mid x_0^{\text{known}})}_{\text{what it should see}}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_t^{\text{hole}}, x_t^{\text{known}}$ | the noisy second and first number at time $t$ | (B,) each |
# | $x_0^{\text{known}}$ | the first number, clean: 0.3 | (B,) |

# %% tags=["nbval-check-output"]
from diffusion_lessons.course import landscape
from diffusion_lessons.experiments.inpainting import shown_clean
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.samplers import ddpm_step, trajectory

clouds = GaussianMixture(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double(), 0.3)
known = torch.tensor([[0.3, 0.0]]).double()
part = torch.tensor([[0.0, 1.0]]).double()  # the mask: the second number is painted
nearness = -((0.3 - clouds.means[:, 0]) ** 2) / (2 * 0.3**2)
truth = nearness.softmax(0)  # how likely each cloud is, given the first number
second = GaussianMixture(clouds.means[:, 1:], 0.3, truth)  # the second number, given the first one, clean
points = torch.randn(150, 2, generator=generator).double()
replaced = [x for _, x, _ in trajectory(keeping(clouds, known, part), points, levels)]
informed = [x for _, x, _ in trajectory(second, points[:, 1:], levels)]
print(f"given 0.3, the second number is near 1 in {truth[1]:.2%} of all cases")

# %% jupyter={"source_hidden": true}
beside_known = [torch.cat([each[:, :1], told], 1) for each, told in zip(replaced, informed, strict=True)]
scrub(
    {
        "replaced in each step": landscape(clouds, levels, torch.stack(replaced), span=2.5),
        "told the clean number": landscape(clouds, levels, torch.stack(beside_known), span=2.5),
    },
    levels,
    alt="150 points over the density of two clouds, from noise to data. All points gather on the vertical line of the known number. "
    "Replaced in each step, about six in ten go up to the height of the upper cloud, the others down, where the data has next to "
    "nothing. Told the clean number, all go up.",
    title="Two ways to fill in the second number",
    columns=7,
)

# %%
cloud_noise = torch.randn(budget.samples(2000), 2, generator=generator).double()


def near_one(x):
    """The share of second numbers above 0, and its standard error."""
    inside = (x[:, -1] > 0).double()
    return inside.mean().item(), (inside.std() / len(x) ** 0.5).item()


by_steps = {}  # of the ancestral steps, which RePaint makes, too
for steps, step in ((25, ddim_step), (25, ddpm_step), (105, ddpm_step), (405, ddpm_step)):
    ends = sample(keeping(clouds, known, part), cloud_noise, path.levels(steps), step=step)
    share, error = near_one(ends)
    if step is ddpm_step:
        by_steps[steps] = share, error
    print(f"{steps} steps, {step.__name__}: near 1 {share:.1%} ± {error:.1%}")
ends = sample(keeping(shown_clean(clouds, known, part), known, part), cloud_noise, levels, step=ddpm_step)
share, error = near_one(ends)
print(f"25 steps, ddpm_step, shown clean: {share:.1%} ± {error:.1%}")
share, error = near_one(sample(second, cloud_noise[:, 1:], levels))
print(f"told the clean number, 25 steps: {share:.1%} ± {error:.1%}")

# %% [markdown]
# **What to notice:** in the first panel four points in ten end where there is no data: the known number says "upper
# cloud", the drawn one is from the lower cloud. The denoiser is perfect, and sixteen times as many steps do not mend
# it. A clean 0.3 beside a noisy second number helps, as on the digits. But a denoiser takes it for a noisy number, and
# so for a weak hint. What is missing is not precision. It is a way to *take back* a choice, or to be told.

# %% [markdown] tags=["idea"]
# ## There and back
#
# **RePaint** (Lugmayr et al.) takes choices back. Walk down a stretch of levels. Then add noise again, with the
# forward process (exercise 02.6), up to where the stretch began. Walk down again. And so on, $r$ times, for each stretch.
#
# What does that help? After the first walk down, hole and known part have been seen together at a lower level. Going
# up does not erase all of that: the noise that is added covers details, and the rough shape stays. So the second way
# down starts from a hole that already knows a little about its surroundings. In the two clouds a wrong point may
# change sides.
#
# The price is calls of the network (one for the whole batch, guided or not: lesson 7). Adding noise is free; every way down costs as many calls as it has steps.

# %% [markdown]
# $$x_{t'} = \frac{\alpha_{t'}}{\alpha_t}\, x_t + \sqrt{\sigma_{t'}^2 - \Big(\frac{\alpha_{t'}}{\alpha_t}\Big)^2 \sigma_t^2}\;\; \varepsilon,
# \quad t' > t, \qquad \text{calls} = n + j\,(r-1)\cdot\#\{\text{places}\}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $n$ | steps of a walk without detours | number |
# | $j$ | jump: levels of a stretch (the paper: 10) | number |
# | $r$ | how often each stretch but the first is walked (the paper: 10) | number |
# | places | lower ends of stretches: 0, $j$, $2j$, … steps above data, below $n - j$ | |
#
# With the paper's $n = 250$ and $j = r = 10$ there are 24 places: $250 + 10 \cdot 9 \cdot 24 = 2{,}410$ calls.

# %% [markdown] tags=["exercise-card"]
# The schedule is a list of levels that goes up now and then.
#
# {{exercise 15.4}}


# %% tags=["exercise"]
@exercise("15.4")
def resampled(levels, jump, resample):
    """The levels in the order in which RePaint walks them: a new list.

    levels: a list that falls from noise to data, n + 1 of them for n steps; what they are does not matter. Places
    count from the last level: it has place 0. The walk goes down from place n. Whenever it comes to one of the places
    0, jump, 2·jump, … below n − jump, it goes up by jump levels, each of which stands in the list, and on down from
    there; at each of these places resample − 1 times. After that it passes. jump and resample: at least 1.
    """
    ### BEGIN SOLUTION
    steps = len(levels) - 1
    left = {place: resample - 1 for place in range(0, steps - jump, jump)}
    walk, place = [levels[0]], steps
    while place > 0:
        place -= 1
        walk.append(levels[steps - place])
        if left.get(place, 0) > 0:
            left[place] -= 1
            for higher in range(place + 1, place + jump + 1):
                walk.append(levels[steps - higher])
            place += jump
    return walk
    ### END SOLUTION


# %% tags=["nbval-check-output"]
from itertools import pairwise


def calls_of(walk):
    """How often the network is asked: wherever a list of times falls."""
    return sum(after < before for before, after in pairwise(walk))


paper = resampled(list(range(250, -1, -1)), 10, 10)
print(f"n = 250, j = r = 10: {calls_of(paper):,} calls")

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(8.4, 2.6), sharey=True)
for ax, (jump, resample) in zip(axes, ((5, 5), (1, 5)), strict=True):
    times = [float(level.t) for level in resampled(levels, jump, resample)]
    calls = calls_of(times)
    ax.plot(times, "-", marker="", lw=1.2)
    ax.set(xlabel="place in the list", title=f"j = {jump}, r = {resample}: {calls} calls")
axes[0].set(ylabel="t")
figure(
    fig,
    alt="The time over the place in the list, for jumps of 5 and of 1 levels, each stretch but the first walked five times. Both "
    "fall from 1000 to 0 in a saw: the first with large teeth, the second with small ones.",
)

# %% [markdown] tags=["exercise-card"]
# And the walk. Where the list falls, ask and step; where it rises, add noise.
#
# {{exercise 15.5}}


# %% tags=["exercise"]
@exercise("15.5")
def repaint(denoiser, x, levels, known, mask, step, noises):
    """x at the last level, walked over levels that rise now and then, with what is known in every guess.

    denoiser(x, level) gives (x0, eps); x: (B, C, H, W), at levels[0]; known, mask: as for your keep_in_guess. For the
    pair k of neighbours in levels, counted from 0: where sigma falls, step(x, x0, now, next, noises(k)) is x at next,
    an ancestral step; where it rises, x is renoised with noises(k), and the denoiser is not asked. noises(k): N(0,
    1), like x.
    """
    ### BEGIN SOLUTION
    for k, (now, next) in enumerate(pairwise(levels)):
        if next.sigma > now.sigma:
            ratio = next.alpha / now.alpha
            std = (next.sigma**2 - (ratio * now.sigma) ** 2).sqrt()
            x = ratio * x + std * noises(k)
        else:
            x0, _ = keep_in_guess(denoiser, x, now, known, mask)
            x = step(x, x0, now, next, noises(k))
    return x
    ### END SOLUTION


# %%
def ancestral(x, x0, now, next, noise):
    """The ancestral step of lesson 3, from a guess."""
    return ddpm_step(x, Estimate.from_x0(x0, x, now), now, next, noise)


def fresh(x):
    """Noise like x, another for each number of a step."""

    def noises(k):
        own = torch.Generator().manual_seed(k)
        return torch.randn(x.shape, generator=own, dtype=x.dtype).to(x.device)

    return noises


by_repaint = {}
for times in (1, 2, 5, 10, 20):
    walk = resampled(levels, 5, times)
    calls = calls_of([float(level.t) for level in walk])
    ends = repaint(clouds, cloud_noise, walk, known, part, ancestral, fresh(cloud_noise))
    by_repaint[calls] = share, error = near_one(ends)
    print(f"r = {times:2}: {calls} calls, near 1 {share:.1%} ± {error:.1%}")

# %% jupyter={"source_hidden": true}
seen = []


def watched(x, x0, now, next, noise):
    """The ancestral step, with x kept for the picture."""
    seen.append((now, x))
    return ancestral(x, x0, now, next, noise)


last = repaint(clouds, points, resampled(levels, 5, 5), known, part, watched, fresh(points))
seen.append((levels[-1], last))
scrub(
    {
        "RePaint": landscape(
            clouds, [level for level, _ in seen], torch.stack([x for _, x in seen]), span=2.5, arrows=0
        )
    },
    [level for level, _ in seen],
    alt="150 points over the density of two clouds. The clouds part and melt together again, four times at each of four stretches. "
    "Each time some points go over from the lower cloud to the upper one; at the end most are near the upper one.",
    title="There and back: watch points change sides",
    frames=36,
    columns=8,
)

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(7.2, 3.0))
for name, found in {"replaced, smaller steps": by_steps, "RePaint, j = 5": by_repaint}.items():
    shares, errors = torch.tensor(list(found.values())).T.numpy()
    ax.errorbar(list(found), shares, 2 * errors, capsize=3, label=name)
ax.axhline(truth[1], color="#D55E00", lw=1.2, label="the true share")
ax.set(xlabel="calls of the denoiser", ylabel="near 1", xscale="log", ylim=(0.45, 1.03))
ax.set_xticks([25, 45, 105, 205, 405], ["25", "45", "105", "205", "405"])
ax.minorticks_off()
ax.legend(fontsize=9)
figure(
    fig,
    alt="The share of points near 1 over the number of calls. Replaced, it stays at about 0.7 from 25 to 405 "
    "calls. RePaint rises from there to 0.94. The true share is a line at 0.999.",
)

# %%
n, walk = budget.samples(20), resampled(levels, 5, 5)
some, begin = many[:n], start[:n]
with torch.no_grad():
    by_going_back = repaint(denoise, begin, walk, some, lower[:n], ancestral, fresh(begin))
by_small_steps = sample(keeping(denoise, some, lower[:n]), begin, path.levels(105), step=ddpm_step)
judge("original", some)
judge("replaced, 25 calls", replaced_many[:n])
judge("replaced, 105 calls", by_small_steps)
judge("clean, 25 calls", clean_many[:n])
judge("RePaint, 105 calls", by_going_back)
print(f"n = {n} digits")

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

strip(
    {
        "original": some[:10].cpu(),
        "replaced, 25 calls": replaced_many[:10].clamp(-1, 1).cpu(),
        "replaced, 105 calls": by_small_steps[:10].clamp(-1, 1).cpu(),
        "RePaint, 105 calls": by_going_back[:10].clamp(-1, 1).cpu(),
    },
    alt="The digits 0 to 9 in four rows. Originals. Replaced with 25 calls: half of them are no digits, with "
    "strokes that cross or break at the middle. Replaced with 105 calls: the same with other breaks. "
    "RePaint with 105 calls: digits without a break; the 5 has become a 6, and the 2 has a thick foot.",
    columns=10,
)
of_digits = recorded("inpainting-digits")
for row in of_digits["rows"]:
    name = f"{row['settings']['way']}, {row['calls']} calls"
    share = f"{row['read']:4.0%} ({row['low']:.0%} to {row['high']:.0%})"
    print(f"{name:20} seam {row['seam']:.3f} ± {row['seam_error']:.3f}, read as its digit {share}")
print(f"recorded: n = {of_digits['options']['n']}, 95 % intervals, seams ± one standard error, one seed")

# %% [markdown]
# **What to notice:** first the digits. Twenty of them say little, so the lines below the picture have 500 others
# (`diffusion-lessons experiment inpainting-digits --n 500`, ten minutes on one core). With equal calls RePaint, "resampled"
# in the record, brings the seam down to nearly that of the originals, and more digits are read as what they were: 75 %,
# against 61 % with small ancestral steps. Those bring the seam down, too, but hardly more digits are read than with 25
# steps of DDIM (56 %). Clean pixels come close to RePaint with a quarter of its calls: 72 %, and the two intervals overlap.
#
# Then the clouds, where RePaint's share (82 % with 105 calls) is above that of a clean number (75 % with 25). But it converges
# slowly: after sixteen times the calls of the first walk it is still not the true one.
#
# RePaint's authors compared on faces. With about 1000 calls, T = 1000 without detours has an LPIPS (a perceptual distance, lesson 11) of .161, and T =
# 250 with $r = 4$ one of .134 (table 2; smaller is better).

# %% [markdown] tags=["idea"]
# ## Channels that know the hole
#
# The second panel of the two clouds has the real answer: *tell the network what is known, clean, from the first step
# on*. A network can be told by more input channels. Stable Diffusion's inpainting model gets nine: the four latents
# that are being drawn, the mask, and the four latents of the picture with its hole painted grey.
#
# It starts from the trained text-to-image model. The weights of the new channels begin at 0, so in the first step it
# draws as before. Then it is trained on ordinary pictures with random holes: the loss is the old one. Nothing of this
# is special to sampling: any sampler, any guidance, no detours.
#
# The network may still change what it should keep, and decoding changes all pixels a little. So the known pixels are
# put back at the end.

# %% [markdown]
# $$\hat\varepsilon_\theta\big(\big[\,z_t,\; m_\downarrow,\; E\big((1-m)\odot x\big)\,\big],\; t,\; c\big)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $z_t$ | noisy latents, those that are being drawn | (B, 4, h, w) |
# | $m_\downarrow$ | mask in the size of the latents: 1 where *any* of a place's pixels is 1 | (B, 1, h, w) |
# | $E((1-m)\odot x)$ | encoded picture, 0 (grey) in its hole | (B, 4, h, w) |
# | $c$ | caption | |

# %% [markdown] tags=["exercise-card"]
# {{exercise 15.6}}


# %% tags=["exercise"]
@exercise("15.6")
def conditioning_input(x, picture, mask, encode):
    """What an inpainting network sees: (B, 9, h, w), the latents x, the mask, the masked picture's latents, in order.

    x: noisy latents (B, 4, h, w); picture: (B, 3, H, W) in [−1, 1]; mask: (B, 1, H, W), 1 where to paint, else 0; H
    and W are multiples of h and w by the same factor. A place of the small mask is 1 where any of its pixels is 1.
    Before encoding, the hole is painted with 0. encode(picture): latents (B, 4, h, w), scaled already.
    """
    ### BEGIN SOLUTION
    factor = picture.shape[-1] // x.shape[-1]
    small = torch.nn.functional.max_pool2d(mask, factor)
    hidden = encode(picture * (1 - mask))
    return torch.cat([x, small, hidden], dim=1)
    ### END SOLUTION


# %%
vae, drawn_in = trained.vae, trained.path.levels(25)


@torch.no_grad()
def fill(pictures, masks, captions, seed=0):
    """Pictures (B, 3, 64, 64) with their holes (B, 1, 64, 64) filled, as they are decoded."""
    model = trained.network
    z = torch.randn(len(pictures), 4, 16, 16, generator=torch.Generator().manual_seed(seed)).to(device)
    told = model.told({name: each.to(device) for name, each in trained.prompts(captions).items()})
    told["known"] = conditioning_input(z, pictures.to(device), masks.to(device), vae.encode)[:, 4:]
    guided = ClassifierFreeGuidance(trained.denoiser(), 2.0, model.told(model.null_condition(1)))
    return vae.decode(sample(guided, z, drawn_in, told)).clamp(-1, 1).cpu()


decoded = fill(scene.pictures, scene.masks, scene.captions)
finished = torch.lerp(scene.pictures, decoded, scene.masks)
for name, each in {"as decoded": decoded, "known pixels put back": finished}.items():
    change = 127.5 * ((each - scene.pictures) * (1 - scene.masks)).abs()
    jump = 127.5 * seam_jumps(each, scene.masks)
    moved = f"known pixels change by {change.mean():.2f} of 255 (at most {change.max():.0f})"
    print(f"{name:22} {moved}; seam {jump.mean():.2f}")

# %% jupyter={"source_hidden": true}
strip(
    {"original": scene.pictures, "hole": scene.pictures * (1 - scene.masks), "filled": finished},
    alt="Eight scenes of two objects in three rows: original; with a grey box about the first object; and "
    "filled with an object of the same shape in another colour, such as a blue cross for a black one.",
    columns=8,
)

# %% [markdown]
# **What to notice:** every fill has the colour that its caption asks for, on a background that is that of the picture or
# nearly so, in 25 calls. The caption asks for *another* colour than the hidden object had, so nothing can be copied.
# As decoded, known pixels change a little everywhere, and a lot at few places: a place of the latents is 4 × 4
# pixels, so what is painted may reach beyond the hole. Putting known pixels back makes them exact and cuts such an
# object off.

# %% [markdown] tags=["experiment"]
# ## Experiment: five ways, the same holes
#
# Each scene is a pair. The hole is a box about its first object, and the caption asks for this object in another
# colour. Five ways fill it: a free drawing, **pasted**; known latents **replaced** in each guess; the same, with known
# latents **shown clean** to the network; **RePaint** (j = r = 5); and **trained** channels. All but the last use the
# text-to-image model, which never saw a hole. In all, known pixels are put back at the end.
#
# The reader (lesson 11) says whether a picture shows *all* that its caption asks for: so both objects, sizes and
# relation have to be right.

# %%
text = zoo.load("scenes-text").on(device)
few = holes(budget.samples(16), seed=1)
results = {}
for name, model, how in (
    ("pasted", text, dict(way="pasted")),
    ("replaced", text, dict(way="replaced")),
    ("shown clean", text, dict(way="clean")),
    ("RePaint", text, dict(way="resampled", step="ancestral")),
    ("trained", trained, dict(way="trained")),
):
    made = filled(model, few, **how)
    results[name] = torch.lerp(few.pictures, made, few.masks)
    found = judged(few, made)
    share, low, high = found["met"]["everything"]
    calls = 105 if name == "RePaint" else 25
    print(
        f"{name:11} {calls:3} calls: caption met {share:4.0%} ({low:.0%} to {high:.0%}), "
        f"seam {found['seam']:4.1f} ± {found['seam_error']:.1f}"
    )
print(
    f"n = {len(few.captions)}, 95 % intervals, seams of 255, ± one standard error; "
    f"real scenes: {found['seam_real']:.1f}"
)

# %% jupyter={"source_hidden": true}
strip(
    {
        "original": few.pictures[:8],
        "hole": few.pictures[:8] * (1 - few.masks[:8]),
        **{name: each[:8] for name, each in results.items()},
    },
    alt="Eight scenes in seven rows: original, hole, pasted, replaced, shown clean, RePaint, trained. Pasted holes "
    "show parts of objects or none. One replaced hole has a scrap in a corner, and is empty where it was shown "
    "clean. Those of RePaint and of trained channels hold the object that was asked for.",
    columns=8,
)

# %% [markdown]
# So few scenes leave wide intervals. The recorded experiment (`diffusion-lessons experiment inpainting`) has 500, and
# gives replacement as many calls as RePaint makes.

# %% jupyter={"source_hidden": true}
record = recorded("inpainting")
names, shares, seams = [], [], []
for row in record["rows"]:
    how, (share, low, high) = row["settings"], row["met"]["everything"]
    name = f"{how['way']}, {how['step']}"
    names.append(f"{name}, {row['calls']} calls")
    shares.append((share, share - low, high - share))
    seams.append((row["seam"], row["seam_error"]))
    print(
        f"{name:20} {row['calls']:3} calls: met {share:6.1%} ({low:.0%} to {high:.0%}), "
        f"seam {row['seam']:5.2f} ± {row['seam_error']:.2f}"
    )
row = record["rows"][0]
print(f"n = {row['n']}, 95 % intervals, ± one standard error; real scenes: seam {row['seam_real']:.2f}")
print(f"largest change of a known pixel in any row: {max(each['known_changed'] for each in record['rows']):g}")
print(f"recorded on {record['hardware'].get('gpu') or record['hardware']['processor']}")
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.2), sharey=True)
middle, low, high = torch.tensor(shares).T.numpy()
axes[0].errorbar(middle, names, xerr=[low, high], fmt="o", capsize=3)
axes[0].set(xlabel="caption met", xlim=(0, 1.02))
jump, error = torch.tensor(seams).T.numpy()
axes[1].errorbar(jump, names, xerr=2 * error, fmt="o", capsize=3)
axes[1].axvline(row["seam_real"], color="grey", lw=1)
axes[1].set(xlabel="seam, of 255", xlim=0)
axes[0].invert_yaxis()
figure(
    fig,
    alt="Left: the share of scenes with everything right, with intervals: pasted a quarter, replaced two thirds with 25 and with 105 "
    "steps of DDIM, ancestral 83 %, clean 89 %, resampled 94 %, trained all. Right: the seam, from 28 of 255 for pasted over 12 to 18 "
    "for the other ways without a training to 2.3 for trained; real scenes have none.",
)

# %% [markdown]
# **The result**, read from the figures above:
#
# - **Known pixels** are exact in all rows, to the last bit: they were put back, in the worst row, too.
# - **Pasted**: one caption in four is met. A free drawing puts its objects where it likes, and the hole shows a part of
#   it.
# - **Replaced**, 25 steps of DDIM: two captions of three. Some holes stay *empty*, or hold a scrap. A likely reason:
#   early, when the noise is strong, the model plans its object at a place that turns out to be known background. Then it
#   is too late. Four times as many steps change nothing. With fresh noise in each of them it is five of six.
# - **Shown clean**: nine of ten, with 25 calls. Again the walk that learns early what is known does better, though
#   the network was never trained for such pictures. Another network may cope less well: measure it.
# - **RePaint**: 94 %, the most of these ways without a training, for four times the calls. Of the 25 points that it is
#   ahead of DDIM with as many calls, fresh noise alone gives 15, and going back 10. (Clean pixels with 105 ancestral
#   steps were not tried.) All these ways cut objects off at the edge: their seams are five times as large as that of
#   trained channels, or more.
# - **Trained**: all 500 captions (499 of 500 when the model's card was measured), with the smallest seam and in 25 calls. The price was a training: 1000 steps of 64
#   pictures, from the text model's weights, less than a minute on a GPU.
#
# One seed for all; the first noise of a scene is the same in all rows.
#
# **Published**: Lugmayr et al. (table 1) compare RePaint with LaMa, which was trained for holes, on faces. LPIPS for
# wide strokes, for half of the picture and for all but the middle: RePaint .059, .165 and .435, LaMa .045, .138 and
# .342. LaMa wins these three; where every second line is missing, RePaint wins clearly (.009 against .083). People,
# asked which looks more real, prefer RePaint. Rombach et al. (table 7) reach an FID of 1.50 on Places with trained
# channels, LaMa 2.23.

# %% [markdown] tags=["play"]
# ## Play
#
# Draw a hole with the mouse or a finger, choose a caption and a way, and press **Fill**. By keyboard: Tab to the
# picture, arrow keys move the brush, Space paints, Delete erases, Enter fills. Try a hole that cuts through the
# object that stays. Try a hole as thin as the brush allows. Try a caption that contradicts what is kept. What does
# each way do with the whole picture as a hole?

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import draw_hole

stays = plain(replace(wish, objects=wish.objects[1:], relation=None))
asked_for = [*captions, stays]


def fill_drawn(mask, caption, way):
    """Three fills of the hole that was drawn."""
    task = Holes(picture.expand(3, -1, -1, -1), mask.expand(3, -1, -1, -1), [caption] * 3)
    model = trained if way == "trained" else text
    return torch.lerp(task.pictures, filled(model, task, way, steps=20), task.masks)


draw_hole(
    picture[0],
    fill_drawn,
    hole,
    alt="A green triangle and a yellow one, the same with a grey box in place of the yellow one, and three "
    "fills of this box with a green triangle, by the trained model.",
    title="A scene to draw a hole on",
    caption=asked_for,
    way=["trained", "replaced", "pasted"],
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your functions against the package's. The schedule is held to diffusers' `RePaintScheduler`, if that is installed.

# %%
import importlib.util

from diffusion_lessons import samplers
from diffusion_lessons.guidance import Inpaint
from diffusion_lessons.metrics.seam import seam

level = levels[10]
gap = (
    keep_in_guess(denoise, noise, level, original, mask)[0]
    - Inpaint(denoise, original, mask)(noise, level).x0
)
print(f"the guess:   {gap.abs().max():.0e}")
print(f"the seam:    {(seam_jumps(kept, mask) - seam(kept, mask)).abs().max():.0e}")
few_levels = resampled(path.levels(6), 2, 2)
mine = repaint(denoise, noise, few_levels, original, mask, ancestral, fresh(noise))
theirs = sample(
    Inpaint(denoise, original, mask), noise, few_levels, sampler=samplers.repaint, generator=fresh(noise)
)
print(f"RePaint:     {(mine - theirs).abs().max():.0e}")
if importlib.util.find_spec("diffusers"):
    from diffusers import RePaintScheduler

    scheduler = RePaintScheduler(num_train_timesteps=250)
    scheduler.set_timesteps(250, jump_length=10, jump_n_sample=10)
    ours = resampled(list(range(250, -1, -1)), 10, 10)[1:]  # they name a step by where it ends
    print(f"the schedule: {len(ours)} times, equal to diffusers': {ours == scheduler.timesteps.tolist()}")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks | seen in |
# |---|---|---|
# | mask the wrong way round: 1 paints in diffusers, 1 keeps in CompVis' samplers and labml | the hole is untouched, all else is new | both conventions are in use |
# | known pixels one level too noisy, and never clean | grain in the known part to the end | labml's `paint()`; diffusers#1581 |
# | known pixels clean beside noisy ones, unmeasured | not what the network was trained on; here it helped | first tries of one's own |
# | masked picture not blanked before encoding | the old content comes back | InvokeAI, pull request 2447 |
# | hole black where training had grey, or the other way | a tint in the fill | LDM's `inpaint.py` and Stable Diffusion differ |
# | mask shrunk by taking every 8th pixel | thin holes vanish | stable-diffusion.cpp, pull request 1357 |
# | nine channels in another order | noise, or colours far off | published weights: latents, mask, masked latents |
# | nothing put back at the end | all pixels drift by a few shades | diffusers#4782 |
# | rescaling, or clipping of latents, outside of the wrapper | known places are no longer exact | order of wrappers |
# | RePaint's loop around the whole walk, not around stretches | no better than starting again | denoising-diffusion-pytorch, pull request 320 |
# | renoised as if x were clean | too much noise: all that was drawn is lost | first tries of one's own |
# | soft mask cut at 0.5 | a hard edge where a soft one was drawn | diffusers' pipelines |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "How does inpainting with a diffusion model work?",
    "Two families. *Trained*: the network gets more input channels, the mask and the picture with its hole "
    "blanked, and is trained on random holes. It knows the surroundings, clean, from the first step.\n\n"
    "*Training-free*: in each step known pixels are put back, noised to the level of that step, or put into "
    "the guess of x₀. They are exact at the end. But choices are made while the known part is still noise, "
    "so the fill may not fit. RePaint goes back up and down again to mend that, at a multiple of the calls.",
    [
        (
            "Why must the known part be noised?",
            "The network was trained on pictures with one level of noise everywhere. Clean pixels beside noisy ones are a kind of "
            "picture it has never seen. What it does with them is luck, so measure it: on our digits and scenes they helped, "
            "probably because they show early what is known.",
        ),
        (
            "Does replacement draw from the right distribution with many steps?",
            "No. Each step sees the noisy known part, not the clean one. With a perfect denoiser and 405 steps the wrong cloud "
            "is still chosen in one case of three; the truth is one in 800. Going back, particle filters and gradients (DPS) come "
            "nearer.",
        ),
        (
            "What does RePaint cost?",
            "n, and j(r−1) more at each place where the walk turns, 24 of them for n = 250, j = r = 10: 2,410 calls, against 250.",
        ),
        (
            "Why do known pixels change in latent inpainting, and what do you do?",
            "Known latents can be exact, but decoding is not: the round trip loses detail, and the decoder mixes neighbours. Put the "
            "pixels back at the end, with a soft edge on photographs.",
        ),
        (
            "Why nine channels?",
            "Four noisy latents, one mask, four latents of the masked picture. The mask is needed: a grey hole and a grey wall look alike.",
        ),
        (
            "How do you evaluate a fill?",
            "Not by known pixels: those are exact by construction. Distance to real pictures (FID, LPIPS), the seam beside that of real "
            "pictures, and whether the caption is met. A fill that differs from the original may be as good.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "You put known pixels into the guess x̂₀ and leave ε̂ as the network gave it. What happens?",
        [
            Choice(
                "known pixels get a noise that is not theirs",
                True,
                "The pair no longer fits x. The step mixes the right picture with noise that was estimated for another one.",
            ),
            Choice("nothing: samplers use x̂₀ alone", False, "DDIM uses both: x' = α'·x̂₀ + σ'·ε̂."),
            Choice("the hole is lost", False, "The hole keeps its own guess and its own ε̂."),
        ],
    ),
    Question(
        "Replacement with 1000 steps of an exact denoiser. Is the fill a draw from the right distribution?",
        [
            Choice(
                "no: choices are made before the known part is visible",
                True,
                "What decides at high noise cannot use what comes out of the noise later.",
            ),
            Choice(
                "yes, in the limit of small steps",
                False,
                "The error is not one of step size: each step sees the noisy known part.",
            ),
            Choice(
                "yes, if the noise is drawn anew in each step",
                False,
                "It helps (on our scenes two captions of three became five of six). But fresh noise hides the known part as well.",
            ),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "RePaint with n = 50, j = 10, r = 3: how many calls?",
        [
            Choice(
                "150",
                False,
                "That would be three whole walks. The first stretch, from noise, is walked once.",
            ),
            Choice("130", True, "50, and at the places 0, 10, 20 and 30 twice 10 more: 50 + 4 · 2 · 10."),
            Choice("210", False, "Going up asks nobody."),
            Choice("50", False, "Each way down is walked with calls, also the second one."),
        ],
    ),
    Question(
        "A fill follows the caption, and known pixels differ by up to 9 of 255 from the original. The model is latent and trained for holes. First you …",
        [
            Choice("train longer", False, "The autoencoder's round trip alone changes pixels."),
            Choice("raise the guidance", False, "It acts on what is drawn, not on what decoding loses."),
            Choice(
                "put the known pixels back",
                True,
                "Decoding changes all pixels a little. What is known need not be decoded.",
            ),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Lugmayr et al. 2022, *RePaint: Inpainting using Denoising Diffusion Probabilistic Models*, arXiv 2201.09865:
#   equation 8 and algorithm 1; section 4.2, resampling; tables 1 and 2.
# - Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*, arXiv 2112.10752: section 4.5
#   and table 7, trained inpainting.
# - Song et al. 2021, *Score-Based Generative Modeling through SDEs*, arXiv 2011.13456: section 5 and appendix I.2,
#   replacement.
# - Trippe et al. 2023, *Diffusion Probabilistic Modeling of Protein Backbones in 3D for the Motif-Scaffolding
#   Problem*, arXiv 2206.04119: section 3, why replacement is not exact, and a particle filter that is.
# - Chung et al. 2023, *Diffusion Posterior Sampling for General Noisy Inverse Problems*, arXiv 2209.14687: section 3,
#   gradients.
# - Meng et al. 2022, *SDEdit*, arXiv 2108.01073: section 3, beginning from a noised picture.
#
# The caption steered all that was painted here. How does a sentence reach a place of the picture? {{lesson 16}}
