# %% [markdown] tags=["header"]
# title: The pieces of Stable Diffusion
# question: Which pieces is Stable Diffusion made of, what does each hand to the next, and what happens when one is swapped?
# difficulty: 2
# prerequisites: 08, 10, 11, 16
# builds: plms, networks.published, safety

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - put text tower, U-Net, scheduler and decoder together by hand, for several prompts at once (exercises 12.1 and 12.2)
# - say what each piece costs, and what there is to load of the published weights (exercise 12.3)
# - swap the scheduler for the one that Stable Diffusion was published with (exercise 12.4)
# - tell a pipeline what no sentence says: a mixture of prompts, and a wish written in code (exercise 12.5)
# - choose the thresholds of a safety check, and count its false alarms (exercise 12.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Four prompts, four noises, always the same. Each frame takes one piece out of the pipeline, or puts a wrong one in. Move the
# slider. **Which piece is responsible for what?**

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.generate import walk

model = zoo.load("scenes-text").on(device)  # 64 × 64 pixels, in latents of 4 × 16 × 16
text, unet, vae, path = model.network.text, model.network.unet, model.vae, model.path
towers, words = zoo.load("scenes-clip")  # another pair of towers, of the same sizes
PROMPTS = ["a large purple circle", "two small green triangles", "a yellow square above a blue circle", "a red cross"]


def ids_of(prompts):
    """The tokens of some prompts, (P, 24)."""
    return model.prompts(prompts)["tokens"].to(device)


@torch.no_grad()
def pictures_of(context, noise, decode=vae.decode, **how):
    """Pictures for contexts (B, 24, 96), one noise each: the package's walk, 25 steps at guidance 2 unless told."""
    *_, (_, z, _) = walk(model, {"context": context}, noise, precision="float32", **how)
    return decode(z).clamp(-1, 1)


# %% jupyter={"source_hidden": true}
from diffusion_lessons.safety import covered
from diffusion_lessons.zoo.safety import safety_check


def framed(pictures):
    """Pictures (n, 3, H, W) side by side, (3, H', W'), a light line between them."""
    edge = torch.nn.functional.pad(pictures.cpu(), (1, 1, 1, 1), value=0.6)
    return torch.cat(list(edge), -1)


def sheet(pictures):
    """Four pictures in two rows."""
    return torch.cat([framed(pictures[:2]), framed(pictures[2:])], -2)


def coloured(z):
    """Three of the four latents as red, green and blue, each place a square of 4 × 4."""
    return (z[:, :3] / 3).repeat_interleave(4, -1).repeat_interleave(4, -2)


noise = torch.randn(4, *model.shape, generator=torch.Generator().manual_seed(5)).to(device)
check = safety_check(model)
with torch.no_grad():
    ids = ids_of(PROMPTS)
    said, other = text(ids).context, towers.to(device).text(ids).context
    nothing = text(ids_of([""])).context.expand_as(said)
whole = pictures_of(said, noise)
taken_out = {
    "all pieces": whole,
    "without the prompt: the empty text": pictures_of(nothing, noise),
    "another text tower, of the same size": pictures_of(other, noise),
    "without steps: one jump": pictures_of(said, noise, steps=1),
    "without the decoder": pictures_of(said, noise, coloured),
    "and with a safety check": covered(whole, check(whole)),
}
scrub(
    {"four prompts": torch.stack([sheet(each) for each in taken_out.values()])},
    list(taken_out),
    alt="Six frames of four pictures. With all pieces: a large purple circle, two small green triangles, a yellow square above "
    "a blue circle, red crosses. Without the prompt: scenes of all kinds. With another text tower: scenes that nobody asked "
    "for. In one jump: pale, blurred blobs. Without the decoder: coarse squares in wrong colours. With a safety "
    "check: the same as at first, but grey in the place of the red crosses.",
    title="Take one piece out",
    columns=6,
)

# %% [markdown]
# Only one of these networks was ever trained to draw. The others read, unpack and judge. **Stable Diffusion** is the same
# construction with larger parts: a text tower (CLIP's), a U-Net in latents, an autoencoder, a scheduler that has no weights at
# all, and a check at the end. You know every part from earlier lessons: the autoencoder from lesson 11, tower and
# cross-attention from {{lesson 16}}. Here you put them together, and then you swap each of them.

# %% [markdown] tags=["guess"]
# ## Guess
#
# A colleague sends you five files: a tokenizer, a text tower, a U-Net, a list of noise levels, an autoencoder. No manual. All shapes
# fit. **What else has to fit, and how would you find out that something does not?** Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Tokenizer and tower*: token 320 must be row 320 of the table. What fills short texts up must be the same token as in training.
# - *Tower and U-Net*: not only the width. The U-Net has learnt what these vectors mean. You have seen another tower of the same size.
# - *U-Net and scheduler*: what its output is (ε, v or x₀), the noise schedule, and whether time counts from 0 or from 1.
# - *U-Net and autoencoder*: the factor by which latents were multiplied, and the autoencoder itself.
# - *Autoencoder and you*: pictures in [−1, 1] or in [0, 1].
#
# Of all these mistakes only a wrong width raises an error. So compare: one fixed seed against a pipeline that is known to be right,
# number by number; a round trip through the autoencoder; and a count of how many pictures show what was asked.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# Stable Diffusion 1 at 512 × 512: the U-Net has 860 million parameters, the decoder has 49 million.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "What does it cost to decode one picture, in FLOPs?",
    [
        Choice(
            "a twentieth of one call of the U-Net: it has so many fewer parameters",
            False,
            "Parameters are not FLOPs. A convolution uses each of its weights once at every place.",
        ),
        Choice("about as much as one call of the U-Net", False, "More. Where does the decoder do its work?"),
        Choice(
            "about three calls of the U-Net",
            True,
            "The decoder works at up to 512 × 512 places, the U-Net at 64 × 64 at most. You count both below.",
        ),
        Choice("more than all the steps together", False, "There are 20 to 50 steps, and guidance doubles each."),
    ],
)

# %% [markdown] tags=["idea"]
# ## From a sentence to a picture
#
# Follow one prompt. The **tokenizer** makes numbers of it. The **text tower** makes a vector of each number, once. Then the loop:
# the **U-Net** sees noisy latents, the time and these vectors, and says what is noise. It is asked twice, with the prompt and with the
# empty text, and guidance (lesson 10) mixes the two answers. The **scheduler** makes a step, and the loop goes on. At the end the
# **decoder** unpacks the latents, once. The **safety check** looks at the picture.
#
# Three networks, one list of numbers, one rule. No piece knows how another one works; each knows only the tensor that comes in.
# That is why pieces can be swapped. It is also why nothing complains when the wrong one is put in.

# %% [markdown]
# $$c = \tau(\text{prompt}),\quad x \sim \mathcal N(0, I),\qquad
# v = v_\theta(x, \varnothing) + s\,\big(v_\theta(x, c) - v_\theta(x, \varnothing)\big),\qquad
# \hat x_0 = \alpha x - \sigma v,\quad \hat\varepsilon = \sigma x + \alpha v$$
#
# | symbol | meaning | shape here | Stable Diffusion 1 |
# |---|---|---|---|
# | prompt | ids of tokens, filled up | (P, 24) | (P, 77) |
# | $\tau$, $c$ | text tower and its context | (P, 24, 96) | (P, 77, 768) |
# | $x$ | noisy latents, n pictures for each prompt | (P·n, 4, 16, 16) | (P·n, 4, 64, 64) |
# | $v_\theta$ | the U-Net; it outputs $v$ here ({{built-in 17}}), ε in Stable Diffusion 1 | as $x$ | as $x$ |
# | $D(x/f)$ | the picture; $f$ is the factor of the latents (lesson 11) | (P·n, 3, 64, 64) | (P·n, 3, 512, 512) |

# %%
# One prompt, piece by piece.
prompt = ["a small red square left of a large blue circle"]
ids = ids_of(prompt)
spelt = [model.tokenizer.decode([token]) or "·" for token in ids[0].tolist()]
with torch.no_grad():
    context = text(ids).context
    v = unet(noise[:1], torch.tensor([999.0], device=device), {"context": context})
    picture = vae.decode(noise[:1])
for name, what in {"ids": ids, "context": context, "latents": noise[:1], "v": v, "picture": picture}.items():
    print(f"{name:8} {str(tuple(what.shape)):16} {what.numel():6} numbers")
print(" ".join(spelt))

# %% [markdown]
# The points are the two ends, begin and end, and padding, which is the end again. The U-Net looks at padding, too: it was trained so.
#
# A first trap waits in the batch. One call of the U-Net holds all pictures of all prompts, twice. A colleague's code:

# %% [markdown] tags=["exercise-card"]
# {{exercise 12.1}}


# %% tags=["exercise"]
@exercise("12.1")
def guided_batch(x, context, empty):
    """One batch for both answers of guidance: the pair (latents, contexts).

    x: (P·n, C, h, w), n pictures for each of P prompts: first all of the first prompt, then all of the second, …
    context: (P, L, D), one for each prompt; empty: (1, L, D), that of the empty text. Returned are (2·P·n, C, h, w) and
    (2·P·n, L, D): all pictures with their prompts, and behind them all pictures again with the empty text.
    """
    ### BEGIN SOLUTION
    n = len(x) // len(context)
    prompts = context.repeat_interleave(n, dim=0)
    return torch.cat([x, x]), torch.cat([prompts, empty.expand(len(x), -1, -1)])
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "It works for one prompt. It works for ten prompts. Yet a customer has pictures of other people's prompts."
    # n = len(x) // len(context)
    # prompts = context.repeat(n, 1, 1)
    # return torch.cat([x, x]), torch.cat([prompts, empty.expand(len(x), -1, -1)])
    ### END STUDENT


# %% [markdown] tags=["exercise-card"]
# And now the whole: about fifteen lines, from ids to pictures. The networks come as plain functions, as you would get them from
# any library. Mind the conventions.
#
# {{exercise 12.2}}


# %% tags=["exercise"]
from itertools import pairwise


@exercise("12.2")
def text_to_pictures(prompt, empty, noise, levels, text, unet, decode, guidance, factor):
    """Pictures (P·n, 3, H, W) in [0, 1] for P prompts, by guided DDIM steps in latents.

    prompt: (P, L) ids, empty: (1, L), the empty text; text(ids) gives contexts (P, L, D): ask it once for each text. noise: (P·n, C, h, w), at levels[0],
    the pictures of the first prompt first; levels: falling, each with t, alpha, sigma, the last may lie above data.
    unet(x, time, context) gives v = α·ε − σ·x0 for any batch; time: (B,), which counts from 0, so it is t − 1. Mix the
    two v, solve for x0 and ε, step; latents are not clipped. decode(z): pictures in about [−1, 1], of latents as the
    autoencoder makes them; the U-Net was trained on these times `factor`.
    """
    ### BEGIN SOLUTION
    context, nothing = text(prompt), text(empty)
    x = noise
    for now, after in pairwise(levels):
        both, contexts = guided_batch(x, context, nothing)
        time = torch.full((len(both),), float(now.t) - 1, device=x.device)
        v, v_empty = unet(both, time, contexts).chunk(2)
        v = v_empty + guidance * (v - v_empty)
        x0 = now.alpha * x - now.sigma * v
        eps = now.sigma * x + now.alpha * v
        x = after.alpha * x0 + after.sigma * eps
    pictures = decode(x / factor)
    return ((pictures + 1) / 2).clamp(0, 1)
    ### END SOLUTION


# %%
def draw(prompts, noise, levels=path.levels(25), guidance=2.0):
    """Your pipeline with the bundled pieces: pictures in [−1, 1]. This package's decoder divides by the factor itself."""
    ids, factor = ids_of([*prompts, ""]), vae.config.scale
    with torch.no_grad():
        drawn = text_to_pictures(
            ids[:-1],
            ids[-1:],
            noise,
            levels,
            lambda ids: text(ids).context,
            lambda x, time, context: unet(x, time, {"context": context}),
            lambda z: vae.decode(z * factor),
            guidance,
            factor,
        )
    return 2 * drawn - 1


six = torch.randn(6, *model.shape, generator=generator).to(device)
two = ["a large purple circle", "two small green triangles"]
strip(
    {"yours": draw(two, six).cpu(), "colleague's": draw(two * 3, six).cpu()},  # his order of the contexts: 1, 2, 1, 2, 1, 2
    alt="Six pictures in two rows. Yours: three with a large purple circle, then three with two small green triangles. The "
    "colleague's: circle and triangles in turn, all of them clean.",
    captions=["circle"] * 3 + ["triangles"] * 3,
    columns=6,
)

# %% [markdown]
# **What to notice:** no picture is broken. Only the captions above them tell that the second row is wrong. This bug was found in
# several libraries, each time by users with several prompts. A test with one prompt cannot find it.

# %% [markdown] tags=["idea"]
# ## What each piece weighs
#
# How large is the real thing? To count parameters, names and FLOPs nobody needs the weights. On PyTorch's device `meta` tensors
# have a shape and no numbers: a network is built in an instant, takes no memory, and a counter sees every operation.
#
# Parameters decide what has to be loaded. FLOPs decide how long it takes, and they depend on how *often* a piece is called. The
# largest piece by one measure need not be the largest by the other.
#
# Two kinds of work make the U-Net's share. A convolution costs the same at every place, so its FLOPs grow with the number of
# places N. Attention also compares all places with each other, which grows with N².

# %% [markdown]
# $$F_{\text{conv}} = 2\,N\,C_{\text{in}}\,C_{\text{out}}\,k^2, \qquad F_{\text{scores}} = 4\,N\,L\,C$$
#
# | symbol | meaning | at the finest level of Stable Diffusion 1 |
# |---|---|---|
# | $N$ | places, height times width of the latents | 64 · 64 = 4,096 |
# | $C$ | channels | 320 |
# | $k$ | side of the kernel | 3 |
# | $L$ | what is looked at: places (self-attention) or tokens (cross-attention) | 4,096 or 77 |

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lessons.networks import Vae, VaeConfig
from diffusion_lessons.networks.clip import TextConfig, TextTransformer, VisionConfig, VisionTransformer
from diffusion_lessons.networks.unet_text import TextUNet, TextUNetConfig

LARGE = VisionConfig(patch=14, width=1024, hidden=4096, layers=24, heads=16, projection=768)  # of the safety check
with torch.device("meta"):  # the defaults are the sizes of Stable Diffusion 1
    tower, sd_unet, sd_vae = TextTransformer(TextConfig()), TextUNet(TextUNetConfig()), Vae(VaeConfig())
    eye = VisionTransformer(LARGE)
    latents, said_there = torch.empty(1, 4, 64, 64), {"context": torch.empty(1, 77, 768)}
    calls = {  # what runs, the weights it needs
        "text tower": (lambda: tower(torch.zeros(1, 77, dtype=torch.int64, device="meta")), tower),
        "U-Net": (lambda: sd_unet(latents, torch.empty(1, device="meta"), said_there), sd_unet),
        "decoder": (lambda: sd_vae.decode(latents), sd_vae),
        "safety check": (lambda: eye(torch.empty(1, 3, 224, 224, device="meta")), eye),
    }

# %%
flops, parameters = {}, {}
for name, (call, network) in calls.items():
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    flops[name] = counter.get_total_flops()
    parameters[name] = sum(p.numel() for p in network.parameters())
    print(
        f"{name:13} {parameters[name]:12,} parameters in {len(network.state_dict()):3} tensors, "
        f"{flops[name] / 1e9:6.0f} GFLOP a call, {2 * parameters[name] / 1e9:.2f} GB in half precision"
    )
print(f"one decoding costs {flops['decoder'] / flops['U-Net']:.1f} calls of the U-Net")

# %% [markdown] tags=["exercise-card"]
# The row "decoder" has the parameters of the whole autoencoder; pictures from text need only half of it. And the calls? You
# write the bill.
#
# {{exercise 12.3}}


# %% tags=["exercise"]
@exercise("12.3")
def flops_of_pictures(text, unet, decode, prompts, each, evaluations, guided):
    """FLOPs of `each` pictures for every one of `prompts` prompts.

    text, unet, decode: FLOPs for one text, one picture of the U-Net's batch, one picture. The sampler evaluates each
    picture `evaluations` times, and in `guided` of these (0 or more) it asks about the empty text, too. Pictures share
    what the tower says: it reads each prompt once, and the empty text once if anything is guided.
    """
    ### BEGIN SOLUTION
    texts = prompts + (1 if guided > 0 else 0)
    pictures = prompts * each
    return texts * text + pictures * (unet * (evaluations + guided) + decode)
    ### END SOLUTION


# %%
each_call = [flops[name] for name in ("text tower", "U-Net", "decoder")]
for steps in (1, 4, 20, 50):
    total = flops_of_pictures(*each_call, 1, 1, steps, steps)
    print(f"{steps:2} guided steps: {total / 1e12:5.1f} TFLOP, of which the decoder has {each_call[2] / total:.1%}")

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

names, shades = list(calls), ["#56B4E9", "#0072B2", "#E69F00", "#999999"]
bars = {"parameters": [parameters[name] for name in names]}
for steps in (20, 1):
    once = [flops["text tower"] * 2, flops["U-Net"] * 2 * steps, flops["decoder"], flops["safety check"]]
    bars[f"FLOPs, {steps} guided step" + "s" * (steps > 1)] = once
fig, ax = plt.subplots(figsize=(8.2, 2.3))
for row, values in enumerate(bars.values()):
    left = 0.0
    for name, value, shade in zip(names, values, shades, strict=True):
        share = value / sum(values)
        ax.barh(-row, share, left=left, color=shade, edgecolor="white", label=name if row == 0 else None)
        if share > 0.04:
            ax.text(left + share / 2, -row, f"{share:.0%}", ha="center", va="center", fontsize=10)
        left += share
ax.set(xlim=(0, 1), xticks=[])
ax.set_yticks([-row for row in range(len(bars))], list(bars))
ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.45, 1.0), fontsize=9)
ax.grid(False)
figure(
    fig,
    alt="Shares of the pieces in three bars. Of the parameters the U-Net has 63 %, the safety check 22 %, the text tower 9 % and "
    "the autoencoder 6 %. Of the FLOPs of 20 guided steps the U-Net has 92 % and the decoder 7 %. With a single guided step "
    "the decoder has more than half.",
)

# %% [markdown]
# **What to notice:** the loop is what costs, as long as there are many steps. Distilled models (lesson 7) draw in one to four steps,
# and then the *decoder* is the bottleneck. That is why small decoders exist. The safety check, which nobody talks about, is the second
# largest thing to load.
#
# These are the official names and shapes: our tests hold every one to the published layout. Are the weights on your disk? Then
# say where, and the pieces of this lesson draw with them (some minutes on a CPU). They were not on the machine that ran this page, so the cell shows what it would load.

# %%
FOLDER = None  # of Stable Diffusion 1 in diffusers' layout (unet, vae, text_encoder, tokenizer, scheduler), safetensors

if FOLDER:
    published = zoo.open_model(FOLDER)
    print(f"{sum(p.numel() for p in published.network.parameters()):,} parameters of tower and U-Net")
    told = published.prompts(["a photograph of a red fox in the snow"])
    start = torch.randn(1, *published.shape, generator=generator)
    *_, (_, z, _) = walk(published, told, start, steps=25, guidance=7.5)
    figure_of_fox = published.pictures(z).clamp(-1, 1)
else:
    for name, network in {"text_encoder": tower, "unet": sd_unet, "vae": sd_vae}.items():
        first, *_, last = network.state_dict().items()
        total = sum(p.numel() for p in network.parameters())
        print(f"{name:13} {total:12,} parameters; {last[0]} {tuple(last[1].shape)}")

# %% jupyter={"source_hidden": true}
if FOLDER:
    strip(figure_of_fox, alt="What the published weights draw of a red fox in the snow.", columns=1)

# %% [markdown] tags=["idea"]
# ## The scheduler has no weights
#
# The U-Net only says what is noise. *When* it is asked, and how the answers become a step, is the scheduler's choice. So it can be swapped
# without any training: that is the menu "sampler" of every program. DDIM, DDPM and DPM-Solver++ you have built. The menu's default at
# the beginning was another one, **PLMS**.
#
# Its idea: ε̂ changes slowly along the walk. DDIM uses ε̂ from the *beginning* of a step for the whole of it. If you remember the
# last answers, you see where ε̂ is going. So extrapolate to the middle of the step, with up to four answers. The weights are those of Adams and Bashforth, from
# 1883.
#
# A scheduler brings settings along, too. Stable Diffusion 1 begins its 25 steps at t = 962, not 1000, and ends at t = 1, where a
# little noise is left.

# %% [markdown]
# $$\bar\varepsilon = \tfrac{1}{24}\big(55\,\varepsilon_n - 59\,\varepsilon_{n-1} + 37\,\varepsilon_{n-2} - 9\,\varepsilon_{n-3}\big),
# \qquad x' = \alpha'\,\frac{x - \sigma\bar\varepsilon}{\alpha} + \sigma'\,\bar\varepsilon$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\varepsilon_n, \varepsilon_{n-1}, \dots$ | ε̂ of this step, of the step before, … | as $x$ |
# | $\bar\varepsilon$ | their weighted sum, in the place of DDIM's ε̂ | as $x$ |
# | $\alpha, \sigma;\ \alpha', \sigma'$ | level where the step begins; where it ends | numbers |
#
# With fewer answers there are fewer weights. Each row sums to 1.

# %%
WEIGHTS = {  # how many answers there are: their weights, the newest first
    1: [1.0],
    2: [3 / 2, -1 / 2],
    3: [23 / 12, -16 / 12, 5 / 12],
    4: [55 / 24, -59 / 24, 37 / 24, -9 / 24],
}
levels = path.levels(25, "stable-diffusion")
print(f"25 steps from t = {float(levels[0].t):g} to {float(levels[-1].t):g}")
for place in (0, -1):
    print(f"t = {float(levels[place].t):g}: α = {float(levels[place].alpha):.3f}, σ = {float(levels[place].sigma):.3f}")

# %% [markdown] tags=["exercise-card"]
# {{exercise 12.4}}


# %% tags=["exercise"]
@exercise("12.4")
def plms(denoiser, x, levels):
    """From noise x (B, ...) at levels[0] to levels[-1]. denoiser(x, level) gives (x0, eps), with these names.

    A step is DDIM's with a mean ε̄ in the place of ε, and x0 = (x − σ·ε̄)/α: ε̄ sums the last answers ε, this step's and
    those before, at most four, with WEIGHTS[how many there are], the newest first. The first step is made twice, both
    times from the same x: once with its ε, to see where it ends, and then with the mean of this ε and of the ε there,
    at that point and level. That second answer is not remembered. No level is t = 0.
    """
    ### BEGIN SOLUTION
    history = []
    for now, after in pairwise(levels):
        eps = denoiser(x, now).eps
        history = [eps, *history[:3]]
        mean = sum(weight * each for weight, each in zip(WEIGHTS[len(history)], history, strict=True))
        if len(history) == 1:
            x0 = (x - now.sigma * eps) / now.alpha
            reached = after.alpha * x0 + after.sigma * eps
            mean = (eps + denoiser(reached, after).eps) / 2
        x0 = (x - now.sigma * mean) / now.alpha
        x = after.alpha * x0 + after.sigma * mean
    return x
    ### END SOLUTION


# %% [markdown]
# A fair race: the same noise, the same ends (t = 962 and 1), the same number of evaluations. Yours needs one more for its first step, so it gets one step fewer.
# What is measured is the distance of the final latents from where a walk of 100 steps arrives.

# %%
from diffusion_lessons.guidance import ClassifierFreeGuidance
from diffusion_lessons.samplers import dpmpp_2m, sample

SIX = [*PROMPTS[:3], "a large orange triangle", "three small cyan squares", "a green circle left of a red square"]
with torch.no_grad():
    contexts, away = text(ids_of(SIX)).context, text(ids_of([""])).context
guided = ClassifierFreeGuidance(model.denoiser(), 2.0, {"context": away})


def ask(x, level, condition=None):
    return guided(x, level, {"context": contexts})


def evenly(n):
    """n + 1 levels from t = 962 to t = 1."""
    return [path(t) for t in torch.linspace(962, 1, n + 1, dtype=torch.float64)]


# %%
with torch.no_grad():
    goal = sample(ask, six, evenly(100), sampler=dpmpp_2m)
    ends = {}
    for n in (6, 12, 24):
        ends["DDIM", n] = sample(ask, six, evenly(n))
        ends["DPM-Solver++(2M)", n] = sample(ask, six, evenly(n), sampler=dpmpp_2m)
        ends["PLMS, yours", n] = plms(ask, six, evenly(n - 1))
for (name, n), x in ends.items():
    apart = (x - goal).square().mean((1, 2, 3)).sqrt()
    print(f"{n:2} evaluations, {name:17} {apart.mean():.3f} ± {apart.std() / 6**0.5:.3f}")

# %% jupyter={"source_hidden": true}
with torch.no_grad():
    rows = {"100 steps": vae.decode(goal)}
    rows |= {f"{name.split(',')[0]}, {n}": vae.decode(x) for (name, n), x in ends.items() if n == 6}
strip(
    {name: each.clamp(-1, 1).cpu() for name, each in rows.items()},
    alt="Six prompts in four rows: a walk of 100 steps, and DDIM, DPM-Solver++ and PLMS with 6 evaluations.",
    columns=6,
)

# %% [markdown]
# **What to notice:** ± is one standard error over six pictures. Compare how the rows fall when the evaluations double. With many steps the methods of higher order win. With 6 evaluations
# extrapolation has little to lean on. And no order helps if the first level has α near 0: there the division by α in the formula amplifies every error. PLMS needs a
# schedule like Stable Diffusion's, which keeps a little signal at its noisiest level.

# %% [markdown] tags=["idea"]
# ## Told by more than words
#
# The U-Net never sees a sentence. It sees a tensor, the context. The tower is one way to fill it; you may fill it otherwise. Mix the
# contexts of two prompts. Put a column of one into the other. People found styles, new words and sliders in this way.
#
# You can also speak to the pipeline in *code*. Write a loss of the finished picture: "blue", "the right half empty". Halfway
# through the walk the picture is unknown, but the guess $\hat x_0$ is there, and it can be decoded. The gradient says how the latents
# must change for the loss to fall. A small push in every step, and the U-Net makes a clean picture of what was pushed.
# It is guidance as in lesson 9, with a loss in the place of a classifier.

# %% [markdown]
# $$c_w = (1 - w)\,c_1 + w\,c_2, \qquad \hat x_0' = \hat x_0 - \lambda\,\nabla_{\hat x_0}\,\ell\big(D(\hat x_0)\big), \qquad
# \hat\varepsilon' = \frac{x - \alpha \hat x_0'}{\sigma}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $c_1, c_2$ | contexts of two prompts; $w$ from 0 to 1 | (1, 24, 96) |
# | $\ell$ | a loss of pictures | (B,) |
# | $D$ | the decoder; its gradient is the only cost, the U-Net is not differentiated | |
# | $\lambda$ | strength | number |

# %%
PAIRS = [
    ("a large red circle", "a large blue circle"),
    ("a large green circle", "a large green square"),
    ("a large red circle", "two small green squares"),
]
weights = torch.linspace(0, 1, 7).tolist()
panels = {}
for first, second in PAIRS:
    with torch.no_grad():
        a, b = text(ids_of([first, second])).context
    mixed = torch.cat([torch.lerp(a, b, w).expand(3, -1, -1) for w in weights])  # three noises for each weight
    pictures = pictures_of(mixed, six[:3].repeat(7, 1, 1, 1), steps=15)
    panels[second] = torch.stack([framed(each) for each in pictures.split(3)])

# %% jupyter={"source_hidden": true}
scrub(
    panels,
    [f"{w:.0%} of the second prompt" for w in weights],
    alt="Three mixtures over seven weights, three noises each. From a large red circle to a large blue one: red, then purple, then "
    "blue circles. From a green circle to a green square: the shape changes. From a large red circle to two small green squares: "
    "colour, size and number change, and in between the pictures are of neither kind.",
    title="Mix two prompts",
    start=3,
    columns=7,
)

# %% [markdown]
# Half-way between red and blue: what does the model draw, and is it luck? The reader ({{built-in 20}}) counts colours. And where in the context *is* the
# colour? We take the context of the red circle, and put in some columns of the blue one: those of the word alone, or all the others.

# %%
from collections import Counter

from diffusion_lessons.data.dataset import to_uint8
from diffusion_lessons.metrics.reader import read_scenes


def colours_in(pictures):
    """What the reader sees: how many pictures show each colour (the first object's)."""
    seen = read_scenes(to_uint8(pictures.cpu()))
    return dict(Counter(each[0].colour if each else "unreadable" for each in seen).most_common())


n = budget.samples(24)
many = torch.randn(n, *model.shape, generator=generator).to(device)
with torch.no_grad():
    red, blue = text(ids_of(PAIRS[0])).context
word = torch.arange(24, device=device)[:, None] == 3  # begin, a, large, RED, circle, end, padding …
told = {
    "half red, half blue": (red + blue) / 2,
    "blue in the word's column": torch.where(word, blue, red),
    "blue in all other columns": torch.where(word, red, blue),
}
for name, context in told.items():
    print(f"{name:26} {colours_in(pictures_of(context.expand(n, -1, -1), many, steps=15))}")

# %% [markdown]
# **What to notice:** the mixture of red and blue is not half a picture of each. And the colour does not sit in its word: every
# token behind it has seen it, the end and the padding included. Whoever edits "the embedding of a word" in the context has to
# know that. (Before the tower, in its table of tokens, a word is still alone.)
#
# Now the wish in code.

# %% [markdown] tags=["exercise-card"]
# {{exercise 12.5}}


# %% tags=["exercise"]
@exercise("12.5")
def steered(denoiser, decode, loss, x, level, strength):
    """The pair (x0, eps) of a denoiser, moved so that a loss of the decoded guess falls.

    denoiser(x, level) gives (x0, eps); decode(x0): pictures; loss(pictures): (B,), each depends on its own picture. x0 moves by
    strength times the gradient of its loss with respect to x0, downhill; eps keeps x = α·x0 + σ·eps. Samplers call this
    with gradients switched off. What is returned holds no graph.
    """
    ### BEGIN SOLUTION
    x0, _ = denoiser(x, level)
    with torch.enable_grad():
        guess = x0.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(decode(guess)).sum(), guess)
    x0 = x0.detach() - strength * slope
    eps = (x - level.alpha * x0) / level.sigma
    return x0, eps
    ### END SOLUTION


# %%
from diffusion_lessons.targets import Estimate

WISHES = {  # losses (B,) of pictures (B, 3, 64, 64)
    "right half empty": lambda pictures: pictures[..., 32:].var((2, 3)).mean(1),
    "darker": lambda pictures: pictures.mean((1, 2, 3)),
}


def obeying(wish, strength, context):
    """A denoiser: guided by a prompt, and steered by a wish."""

    def answer(x, level, condition=None):
        return Estimate(*steered(lambda x, level: guided(x, level, {"context": context}), vae.decode, wish, x, level, strength))

    return answer


# %%
n = budget.samples(12)
with torch.no_grad():
    context = text(ids_of(["a large red circle"])).context.expand(n, -1, -1)
steps, made = path.levels(20, "stable-diffusion"), {"no wish": pictures_of(context, many[:n], steps=20, spacing="stable-diffusion")}
for name, wish in WISHES.items():
    made[name] = vae.decode(sample(obeying(wish, STRENGTH[name], context), many[:n], steps)).detach().clamp(-1, 1)
for name, pictures in made.items():
    losses = ", ".join(f"{wish}: {loss(pictures).mean():+.3f}" for wish, loss in WISHES.items())
    print(f"{name:17} {losses}; {colours_in(pictures)}")

# %% [markdown] tags=["idea"]
# ## A check that looks at the result
#
