# %% [markdown] tags=["header"]
# title: The pieces of Stable Diffusion
# question: Which pieces is Stable Diffusion made of, and what happens when one of them is swapped?
# difficulty: 2
# prerequisites: 08, 10, 11, 16
# builds: plms, networks.published, safety

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - put text tower, U-Net, scheduler and decoder together by hand, for several prompts at once (exercises 12.1 and
#   12.2)
# - say what each piece costs, and what there is to load of the published weights (exercise 12.3)
# - swap the scheduler for the one that Stable Diffusion was published with (exercise 12.4)
# - tell a pipeline what no sentence says: a wish written in code (exercise 12.5)
# - choose the thresholds of a safety check, and count its false alarms (exercise 12.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Four prompts, four noises, always the same. The first frame has all pieces. Each
# other one takes a piece out, or puts a wrong one in; the last adds one. Move the slider. **Which piece is responsible for what?**

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.generate import walk

model = zoo.load("scenes-text").on(device)  # 64 × 64 pixels, in latents of 4 × 16 × 16
text, unet, vae, path = model.network.text, model.network.unet, model.vae, model.path
towers, words = zoo.load("scenes-clip")  # a text tower and an image tower that meet (lesson 16)
PROMPTS = ["a large purple circle", "two small green triangles"]
PROMPTS += ["a yellow square above a blue circle", "a red cross"]
noise = torch.randn(4, *model.shape, generator=torch.Generator().manual_seed(5)).to(device)


def ids_of(prompts):
    """The tokens of some prompts, (P, 24)."""
    return model.prompts(prompts)["tokens"].to(device)


@torch.no_grad()
def pictures_of(context, noise, decode=None, **how):
    """Pictures for contexts (B, 24, 96), one noise each: the package's walk, 25 steps at guidance 2 unless told."""
    *_, (_, z, _) = walk(model, {"context": context}, noise, precision="float32", **how)
    return (decode or vae.decode)(z).clamp(-1, 1)


# %% jupyter={"source_hidden": true}
from diffusion_lessons.safety import covered
from diffusion_lessons.zoo.safety import safety_check


def few_shades(pictures):
    """Pictures on the CPU in 33 shades a colour: a smaller file."""
    return (pictures.cpu().clamp(-1, 1) * 16).round() / 16


def framed(pictures):
    """Pictures (n, 3, H, W) side by side, (3, H', W'), a light line between them."""
    edge = torch.nn.functional.pad(few_shades(pictures), (1, 1, 1, 1), value=0.625)
    return torch.cat(list(edge), -1)


def sheet(pictures):
    """Four pictures in two rows."""
    return torch.cat([framed(pictures[:2]), framed(pictures[2:])], -2)


def coloured(z):
    """Three of the four latents as red, green and blue, each place a square of 4 × 4."""
    return (z[:, :3] / 3).repeat_interleave(4, -1).repeat_interleave(4, -2)


# %% jupyter={"source_hidden": true}
check = safety_check(model)
order = torch.randperm(96, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    ids = ids_of(PROMPTS)
    said = text(ids).context
    nothing = text(ids_of([""])).context.expand_as(said)
whole = pictures_of(said, noise)
taken_out = {
    "all pieces": whole,
    "the empty text": pictures_of(nothing, noise),
    "tower in another order": pictures_of(said[..., order], noise),
    "one jump, no steps": pictures_of(said, noise, steps=1),
    "no decoder": pictures_of(said, noise, coloured),
    "with a safety check": covered(whole, check(whole)),
}
scrub(
    {"four prompts": torch.stack([sheet(each) for each in taken_out.values()])},
    list(taken_out),
    alt="Six frames of four pictures. With all pieces: a large purple circle, two small green triangles, a yellow "
    "square above a blue circle, a red cross. With the empty text: scenes of all kinds. With the tower's channels in "
    "another order: scenes that nobody asked for. In one jump: pale, blurred shapes. Without the decoder: coarse "
    "squares in wrong colours. With a safety check: the same as at first, but grey in the place of the red cross.",
    title="Take one piece out",
    columns=6,
)

# %% [markdown]
# Only one of these networks invents a picture, the U-Net. The others read, unpack and judge. (In the third frame the
# tower's 96 channels have changed places: it knows the same, elsewhere.)
#
# **Stable Diffusion** is the same construction with larger parts: a text tower (CLIP's), a U-Net in latents, an
# autoencoder, a scheduler that has no weights at all, and a check at the end. The autoencoder is that of lesson 11,
# text tower and cross-attention are those of lesson 16 ({{built-in 16}}; read it first). Here you put the parts
# together, and then you swap each of them.

# %% [markdown] tags=["guess"]
# ## Guess
#
# A colleague sends you five files: a tokenizer, a text tower, a U-Net, a list of noise levels, an autoencoder. No
# manual. All shapes fit. **What else has to fit, and how would you find out that something does not?** Take two
# minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Tokenizer and tower*: token 320 must be row 320 of the table. What fills short texts up must be the same token as
#   in training.
# - *Tower and U-Net*: not only the width. The U-Net has learnt where in these vectors what stands. You have seen a
#   tower that knows the same, with its channels in another order.
# - *U-Net and scheduler*: what its output is (ε, v or x₀), the noise schedule, and whether time counts from 0 or from
#   1.
# - *U-Net and autoencoder*: the factor by which latents were multiplied, and the autoencoder itself.
# - *Autoencoder and you*: pictures in [−1, 1] or in [0, 1].
#
# None of these mistakes raises an error. So compare: one fixed seed against a pipeline that is
# known to be right, number by number; a round trip through the autoencoder; and a count of how many pictures show
# what was asked.
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
        Choice(
            "more than all the steps together", False, "There are 20 to 50 steps, and guidance doubles each."
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## From a sentence to a picture
#
# Follow one prompt. The **tokenizer** makes numbers of it. The **text tower** makes a vector of each number, once.
# Then the loop: the **U-Net** sees noisy latents, the time and these vectors, and says what is noise. It is asked
# twice, with the prompt and with the empty text, and guidance (lesson 10) mixes the two answers. The **scheduler**
# makes a step, and the loop goes on. At the end the **decoder** unpacks the latents, once. The **safety check** looks
# at the picture.
#
# Three networks, one list of levels, one rule for a step, and a check. No piece knows how another one works; each knows
# only the tensor that comes in. That is why pieces can be swapped. It is also why nothing complains when the wrong one
# is put in.

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
# | $D(x/\text{factor})$ | the picture; the factor is lesson 11's scale $s$ ($s$ is guidance here) | (P·n, 3, 64, 64) | (P·n, 3, 512, 512) |

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

# %% [markdown] tags=["exercise-card"]
# The points are *begin*, *end* and padding, which is *end* again. The U-Net looks at padding, too: it was trained so.
#
# A first trap waits in the batch. One batch of the U-Net holds all pictures of all prompts, twice. A colleague's code:
#
# {{exercise 12.1}}


# %% tags=["exercise"]
@exercise("12.1")
def guided_batch(x, context, empty):
    """One batch for both answers of guidance: the pair (latents, contexts).

    x: (P·n, C, h, w), n pictures for each of P prompts: first all of the first prompt, then all of the second, …
    context: (P, L, D), one for each prompt; empty: (1, L, D), of the empty text. Returned are (2·P·n, C, h, w) and
    (2·P·n, L, D): all pictures with their prompts, and behind them all pictures again with the empty text.
    """
    ### BEGIN SOLUTION
    n = len(x) // len(context)
    prompts = context.repeat_interleave(n, dim=0)
    return torch.cat([x, x]), torch.cat([prompts, empty.expand(len(x), -1, -1)])
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "One prompt works. Ten prompts, one picture each: works. A customer got wrong pictures."
    # n = len(x) // len(context)
    # prompts = context.repeat(n, 1, 1)
    # return torch.cat([x, x]), torch.cat([prompts, empty.expand(len(x), -1, -1)])
    ### END STUDENT


# %% [markdown] tags=["exercise-card"]
# And now the whole: about fifteen lines, from ids to pictures. The networks come as plain functions, as you would get
# them from any library. Mind the conventions.
#
# {{exercise 12.2}}


# %% tags=["exercise"]
from itertools import pairwise


@exercise("12.2")
def text_to_pictures(prompt, empty, noise, levels, text, unet, decode, guidance, factor):
    """Pictures (P·n, 3, H, W) in [0, 1] for P prompts, by guided DDIM steps in latents.

    prompt: (P, L) ids; empty: (1, L), the empty text; text(ids) gives contexts (P, L, D): have each text read once.
    noise: (P·n, C, h, w), at levels[0], the pictures of the first prompt first; levels: falling, each with t, alpha
    and sigma, the last may lie above data. unet(x, time, context) gives v = α·ε − σ·x0 for any batch; time: (B,), it
    counts from 0, so it is t − 1. Mix the two v, solve for x0 and ε, step; latents are not clipped. decode(z) gives
    pictures in about [−1, 1], of latents as the autoencoder makes them; the U-Net knows these times `factor`.
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
def draw(prompts, noise, guidance=2.0):
    """Your pipeline with the bundled pieces, in [−1, 1]. (Our decoder divides by the factor itself.)"""
    ids, factor, levels = ids_of([*prompts, ""]), vae.config.scale, path.levels(25)
    read = lambda ids: text(ids).context
    ask = lambda x, time, context: unet(x, time, {"context": context})
    decode = lambda z: vae.decode(z * factor)
    with torch.no_grad():
        drawn = text_to_pictures(ids[:-1], ids[-1:], noise, levels, read, ask, decode, guidance, factor)
    return 2 * drawn - 1


six = torch.randn(6, *model.shape, generator=generator).to(device)
two = ["a large purple circle", "two small green triangles"]
rows = {"yours": draw(two, six), "colleague's": draw(two * 3, six)}  # his contexts: 1, 2, 1, 2, 1, 2

# %% jupyter={"source_hidden": true}
strip(
    {name: few_shades(each) for name, each in rows.items()},
    alt="Six pictures in two rows. Yours: three with a large purple circle, then three with two small green "
    "triangles. The colleague's: circle and triangles in turn, all of them clean.",
    captions=["circle"] * 3 + ["triangles"] * 3,
    columns=6,
)

# %% [markdown]
# **What to notice:** no picture is broken. Only the captions above them tell that two of the second row are wrong, the
# second and the fifth. This very mistake stood in diffusers' pipelines for Flux
# ([pull request 9280](https://github.com/huggingface/diffusers/pull/9280)) and Stable Diffusion 3
# ([12306](https://github.com/huggingface/diffusers/pull/12306)), for the one vector that sums a prompt up. A test with one prompt, or with one picture for each,
# cannot find it.

# %% [markdown] tags=["idea"]
# ## What each piece weighs
#
# How large is the real thing? To count parameters, names and FLOPs nobody needs the weights. On PyTorch's device
# `meta` tensors have a shape and no numbers: a network is built in an instant, takes no memory, and a counter sees
# every operation.
#
# Parameters decide what has to be loaded. FLOPs decide how long it takes, and they depend on how *often* a piece is
# called. The largest piece by one measure need not be the largest by the other.
#
# Two kinds of work make the U-Net's share. A convolution costs the same at every place, so its FLOPs grow with the
# number of places N. Attention also compares all places with each other, which grows with N².

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

# the image tower of the safety check
LARGE = VisionConfig(patch=14, width=1024, hidden=4096, layers=24, heads=16, projection=768)
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
        f"{name:12} {parameters[name]:11,} parameters, {len(network.state_dict()):3} tensors, "
        f"{2 * parameters[name] / 1e9:.2f} GB, {flops[name] / 1e9:4.0f} GFLOP"
    )
print(f"GB in half precision; one decoding costs {flops['decoder'] / flops['U-Net']:.1f} calls of the U-Net")

# %% [markdown] tags=["exercise-card"]
# The row "decoder" has the parameters of the whole autoencoder; pictures from text need only its decoder, 49 of these
# 84 million. And the calls? You write the bill. (Here a call is one evaluation, for one picture: a guided step makes two.)
#
# {{exercise 12.3}}


# %% tags=["exercise"]
@exercise("12.3")
def flops_of_pictures(text, unet, decode, prompts, each, evaluations, guided):
    """FLOPs of `each` pictures for every one of `prompts` prompts.

    text, unet, decode: FLOPs for one text, one picture of the U-Net's batch, one picture. The sampler evaluates each
    picture `evaluations` times, and in `guided` of these (0 or more) it asks about the empty text, too. Pictures
    share what the tower says: it reads each prompt once, and the empty text once if anything is guided.
    """
    ### BEGIN SOLUTION
    texts = prompts + (1 if guided > 0 else 0)
    pictures = prompts * each
    return texts * text + pictures * (unet * (evaluations + guided) + decode)
    ### END SOLUTION


# %% tags=["nbval-check-output"]
each_call = [flops[name] for name in ("text tower", "U-Net", "decoder")]
for steps in (1, 4, 20, 50):
    total = flops_of_pictures(*each_call, 1, 1, steps, steps)
    print(
        f"{steps:2} steps, guided: {total / 1e12:4.1f} TFLOP, the decoder has {each_call[2] / total:.0%} of them"
    )

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
            ink = "white" if name == "U-Net" else "black"
            ax.text(left + share / 2, -row, f"{share:.0%}", ha="center", va="center", fontsize=10, color=ink)
        left += share
ax.set(xlim=(0, 1), xticks=[])
ax.set_yticks([-row for row in range(len(bars))], list(bars))
ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.45, 1.0), fontsize=9)
ax.grid(False)
figure(
    fig,
    alt="Shares of the pieces in three bars. Of the parameters the U-Net has 63 %, the safety check 22 %, the text "
    "tower 9 % and the autoencoder 6 %. Of the FLOPs of 20 guided steps the U-Net has 92 % and the decoder 7 %. "
    "With a single guided step the decoder has more than half.",
)

# %% [markdown]
# **What to notice:** the loop is what costs, as long as there are many steps. Distilled models (lesson 7) draw in one
# to four steps without guidance, and then the *decoder* costs about as much as all calls of the U-Net, or more. That
# is one reason why small decoders exist. The safety check, which nobody talks about, is the second largest thing to
# load.
#
# These are the official names and shapes: our tests hold every one to the published layout. Are the weights on your
# disk? Then say where, and the pieces of this lesson draw with them (some minutes on a CPU). They were not on the
# machine that ran this page, so the cell shows what it would load.

# %%
from diffusion_lessons.course.widgets import show

FOLDER = None  # of Stable Diffusion 1 in diffusers' layout: unet, vae, text_encoder, tokenizer, scheduler

if FOLDER:
    published = zoo.open_model(FOLDER)
    told = published.prompts(["a photograph of a red fox in the snow"])
    *_, (_, z, _) = walk(published, told, torch.randn(1, *published.shape), steps=25, guidance=7.5)
    show(strip(published.pictures(z).clamp(-1, 1), alt="A red fox, by the published weights.", columns=1))
for name, network in {"text_encoder": tower, "unet": sd_unet, "vae": sd_vae}.items():
    (first, weight), *_ = network.state_dict().items()
    print(f"{name:13} {sum(p.numel() for p in network.parameters()):12,} parameters; the first of its tensors:")
    print(f"    {first} {tuple(weight.shape)}")

# %% [markdown] tags=["idea"]
# ## The scheduler has no weights
#
# The U-Net only says what is noise. *When* it is asked, and how the answers become a step, is the scheduler's choice.
# So it can be swapped without any training: that is the menu "sampler" of every program. DDIM, DDPM and DPM-Solver++
# you have built. At the beginning the usual choice was another one, **PLMS**.
#
# Its idea: ε̂ changes slowly along the walk. DDIM uses ε̂ from the *beginning* of a step for the whole of it. The last
# answers tell where ε̂ is going. So lay a curve through up to four of them and take its mean over the coming step. The
# weights that do this are those of Bashforth and Adams, from 1883.
#
# A scheduler brings settings along, too. Stable Diffusion 1 begins its 25 steps at t = 962, not 1000, and ends at t =
# 1, where a little noise is left.

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
# With fewer answers there are fewer weights; they sum to 1.

# %%
levels = path.levels(25, "stable-diffusion")
print(f"25 steps from t = {float(levels[0].t):g} to {float(levels[-1].t):g}")
for level in (levels[0], levels[-1], path(1000)):
    print(f"t = {float(level.t):4g}: α = {float(level.alpha):.4f}, σ = {float(level.sigma):.4f}")

# %% [markdown] tags=["exercise-card"]
# {{exercise 12.4}}


# %% tags=["exercise"]
WEIGHTS = {  # how many answers there are: their weights, the newest first
    1: [1.0],
    2: [3 / 2, -1 / 2],
    3: [23 / 12, -16 / 12, 5 / 12],
    4: [55 / 24, -59 / 24, 37 / 24, -9 / 24],
}


@exercise("12.4")
def plms(denoiser, x, levels):
    """From noise x (B, ...) at levels[0] to levels[-1]. denoiser(x, level) gives (x0, eps), with these names.

    A step is DDIM's with ε̄ in the place of ε, so x0 = (x − σ·ε̄)/α. ε̄ sums the last answers ε, this step's and
    those before, at most four, with WEIGHTS[how many there are], the newest first. The first step is made twice from
    the same x: with its ε, to see where it ends, and then with the mean of this ε and of the ε there, at that point
    and level. That second answer is not remembered. No level is t = 0.
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
# A fair race: the same noise, the same ends (t = 962 and 1), the same number of evaluations. Yours needs one more for
# its first step, so it gets one step fewer. What is measured is how far the final latents are from where a walk of
# 65 evaluations arrives. (Yours walks it; DPM-Solver++ with 128 steps ends 0.002 to 0.012 from there.)

# %%
from diffusion_lessons.guidance import ClassifierFreeGuidance
from diffusion_lessons.samplers import dpmpp_2m, sample

SIX = [*PROMPTS[:3], "a large orange triangle", "three small cyan squares"]
SIX += ["a green circle left of a red square"]
with torch.no_grad():
    contexts, away = text(ids_of(SIX)).context, text(ids_of([""])).context
guided = ClassifierFreeGuidance(model.denoiser(), 2.0, {"context": away})


def ask(x, level, condition=None):
    return guided(x, level, {"context": contexts})


def evenly(n, first=962, last=1):
    """n + 1 levels from t = first to t = last."""
    return [path(t) for t in torch.linspace(first, last, n + 1, dtype=torch.float64)]


# %%
with torch.no_grad():
    goal = plms(ask, six, evenly(64))
    ends = {}
    for n in (6, 12, 24):
        ends[n] = {
            "DDIM": sample(ask, six, evenly(n)),
            "DPM-Solver++(2M)": sample(ask, six, evenly(n), sampler=dpmpp_2m),
            "PLMS, yours": plms(ask, six, evenly(n - 1)),
        }
for n, walked in ends.items():
    apart = torch.stack([(x - goal).square().mean((1, 2, 3)).sqrt() for x in walked.values()])
    for place, name in enumerate(walked):
        nearest = (apart.argmin(0) == place).sum()
        print(f"{n:2} evaluations, {name:17} {apart[place].median():.3f}, nearest in {nearest} of 6 pictures")

# %% jupyter={"source_hidden": true}
with torch.no_grad():
    rows = {"64 steps": vae.decode(goal)}
    rows |= {f"{name.split(',')[0]}, 6": vae.decode(x) for name, x in ends[6].items()}
strip(
    {name: few_shades(each) for name, each in rows.items()},
    alt="Six prompts in four rows: a walk of 64 steps; DDIM and DPM-Solver++ with 6 evaluations, which draw the "
    "same, with one of two triangles elsewhere; and PLMS with 6, which draws other colours and shapes, with stains.",
    columns=6,
)
with torch.no_grad():  # the same race, begun further down, where a walk of 16 steps arrives
    begun = plms(ask, six, evenly(16, 962, 800))
    goal = plms(ask, begun, evenly(48, 800))
    late = {
        "DDIM": sample(ask, begun, evenly(6, 800)),
        "DPM-Solver++(2M)": sample(ask, begun, evenly(6, 800), sampler=dpmpp_2m),
        "PLMS, yours": plms(ask, begun, evenly(5, 800)),
    }
for name, x in late.items():
    apart = (x - goal).square().mean((1, 2, 3)).sqrt().median()
    print(f"from t = 800 on, 6 evaluations, {name:17} {apart:.3f}")

# %% [markdown]
# **What to notice:** the figure is the median of six pictures. With 24 evaluations PLMS comes nearest in every one, as
# its order promises. With 6 it draws something else. Its steps are long then, and at the first levels α is small: the
# division by α in $(x - \sigma\bar\varepsilon)/\alpha$ makes every error of $\bar\varepsilon$ 17 times larger at t =
# 962. (Take that away: the lines below the pictures begin at t = 800, where α is 0.31. From there PLMS with 6 evaluations
# is the nearest of the three.) At t = 1000 our model has α near 0, and PLMS could not start there at all. Stable
# Diffusion's schedule keeps a little signal at its noisiest level (lesson 5 calls it a fault, and here it helps). So a
# scheduler is free of training, but not free of conditions.

# %% [markdown] tags=["idea"]
# ## Told by more than words
#
# The U-Net never sees a sentence. It sees a tensor, the context. The tower is one way to fill it; you may fill it
# otherwise. Mix the contexts of two prompts. Put a column of one into the other. People found styles, new words and
# sliders in this way.
#
# You can also speak to the pipeline in *code*. Write a loss of the finished picture: "blue", "the right half empty".
# Half-way through the walk the picture is unknown, but the guess $\hat x_0$ is there, and it can be decoded. The
# gradient says how the latents must change for the loss to fall. A small push in every step, and the U-Net makes a
# clean picture of what was pushed. It is lesson 9's guidance by a loss, with the decoder in between.

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
PAIRS = {
    "red to blue": ("a large red circle", "a large blue circle"),
    "circle to square": ("a large green circle", "a large green square"),
    "one to two": ("a large red circle", "two small green squares"),
}
weights = torch.linspace(0, 1, 7).tolist()
panels = {}
for name, (first, second) in PAIRS.items():
    with torch.no_grad():
        a, b = text(ids_of([first, second])).context
    mixed = torch.cat([torch.lerp(a, b, w).expand(2, -1, -1) for w in weights])  # two noises for each weight
    pictures = pictures_of(mixed, six[:2].repeat(7, 1, 1, 1), steps=15)
    panels[name] = torch.stack([framed(each) for each in pictures.split(2)])

# %% jupyter={"source_hidden": true}
from collections import Counter

from diffusion_lessons.data.dataset import to_uint8
from diffusion_lessons.data.shapes import COLOURS
from diffusion_lessons.metrics.reader import read_scenes


def colours_in(pictures):
    """What the reader sees: how many pictures show each colour (the first object's)."""
    seen = read_scenes(to_uint8(pictures.cpu()))
    counts = Counter(each[0].colour if each else "unreadable" for each in seen)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


scrub(
    panels,
    [f"{w:.0%} of the second prompt" for w in weights],
    alt="Three mixtures over seven weights, two noises each. From a large red circle to a large blue one: red, "
    "then purple, then blue circles. From a green circle to a green square: the shape changes. From a large red "
    "circle to two small green squares: colour, size and number change, and in between the pictures are of neither "
    "kind.",
    title="Mix two prompts",
    start=3,
    columns=7,
)

# %% [markdown]
# Half-way between red and blue: what does the model draw, and is it luck? The reader (lesson 11) counts colours.
# And where in the context *is* the colour? Every token behind "red" has looked at it, so the colour could sit in all
# of them. We take the context of the red circle and put in columns of the blue one: that of the word alone, or all
# the others. Guess first.

# %%
n = budget.samples(8)
many = torch.randn(n, *model.shape, generator=generator).to(device)
with torch.no_grad():
    spoken = {name: text(ids_of([f"a large {name} circle"])).context[0] for name in COLOURS}
WORD = 3  # begin, a, large, RED, circle, end, padding …

for first, second in [("red", "blue"), ("yellow", "blue"), ("red", "green")]:
    half = (spoken[first] + spoken[second]) / 2
    others = [name for name in COLOURS if name not in (first, second)]
    near = sorted((float((half - spoken[name])[WORD].norm()), name) for name in others)[:2]
    drawn = colours_in(pictures_of(half.expand(n, -1, -1), many, steps=15))
    told = " and ".join(f"{name} ({far:.2f})" for far, name in near)
    print(f"half {first}, half {second}: drawn {drawn}")
    print(f"    nearest third vectors: {told}")
red, blue = spoken["red"], spoken["blue"]
word = torch.arange(24, device=device)[:, None] == WORD
for name, context in {
    "blue in the word's column": torch.where(word, blue, red),
    "blue in all other columns": torch.where(word, red, blue),
}.items():
    print(f"{name}: {colours_in(pictures_of(context.expand(n, -1, -1), many, steps=15))}")

# %% [markdown]
# **What to notice:** half-way between red and blue there is purple, a colour that nobody named; half-way between yellow
# and blue most pictures cannot be read. It is tempting to say that "purple lies between red and blue" for the tower. Two
# controls say no: half-way between red and *green* is purple, too, and the middle of red and blue is as near to green's
# vector as to purple's. A mixture is a context that no sentence makes. The U-Net was never trained on it, and it answers
# somehow.
#
# And here the colour sits in its own word: one column of 24 decides, the other 23 do not matter. The architecture does
# not say so; training did. Before you edit the context of another model, make this test: a tower that was trained for
# itself may keep a word's meaning at the end of the text.

# %% [markdown] tags=["exercise-card"]
# Now the wish in code.
#
# {{exercise 12.5}}


# %% tags=["exercise"]
@exercise("12.5")
def steered(denoiser, decode, loss, x, level, strength):
    """The pair (x0, eps) of a denoiser, moved so that a loss of the decoded guess falls.

    denoiser(x, level) gives (x0, eps); decode(x0): pictures; loss(pictures): (B,), each of its own picture alone. x0
    moves downhill, by strength times the gradient of its loss with respect to x0; eps keeps x = α·x0 + σ·eps.
    Samplers call this with gradients switched off. What is returned holds no graph.
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

empty_right = lambda pictures: pictures[..., 32:].var((2, 3)).mean(1)  # losses (B,) of pictures
dark = lambda pictures: pictures.mean((1, 2, 3))
pushes = {"right half empty, gently": (empty_right, 400.0), "right half empty": (empty_right, 4000.0)}
pushes |= {"darker, gently": (dark, 250.0), "darker": (dark, 800.0)}


def obeying(wish, strength, context):
    """A denoiser: guided by a prompt, and steered by a wish."""

    def plain(x, level):
        return guided(x, level, {"context": context})

    def answer(x, level, condition=None):
        return Estimate(*steered(plain, vae.decode, wish, x, level, strength))

    return answer


# %%
n = min(8, len(many))
with torch.no_grad():
    context = text(ids_of(["a large red circle"])).context.expand(n, -1, -1)
made = {"no wish": pictures_of(context, many[:n], steps=15, spacing="stable-diffusion")}
for name, (wish, strength) in pushes.items():
    z = sample(obeying(wish, strength, context), many[:n], path.levels(15, "stable-diffusion"))
    with torch.no_grad():
        made[name] = vae.decode(z).clamp(-1, 1)
for name, pictures in made.items():
    seen = [each for each in read_scenes(to_uint8(pictures.cpu())) if each]
    left = sum(all(one.x < 32 for one in each) for each in seen)
    print(f"{name:25} brightness {pictures.mean():+.2f}, {len(seen)} of {n} readable, {left} all in the left half")

# %% jupyter={"source_hidden": true}
strip(
    {name: few_shades(pictures) for name, pictures in made.items()},
    alt="Eight pictures of a large red circle in five rows. Without a wish three circles stand on the right. With a "
    "gentle wish for an empty right half these three stay there, pale or ragged; with a strong one all circles stand "
    "on the left, clean. With a gentle wish for darkness hardly anything changes; with a strong one the circles are "
    "darker, and most pictures have dark and coloured stains.",
    columns=8,
)

# %% [markdown]
# **What to notice:** nobody trained anything. A place is something that the prompt leaves open and the model can
# draw: a strong push moves the circle. A weak one leaves it pale, half-way between what the prompt wants and what the
# wish wants. Darkness is different: no scene in training was dark, so the U-Net has nothing to offer, and a strong
# push only spoils the pictures. A wish can choose among what a model knows. And the price: every step now
# runs the decoder forwards and backwards, and in Stable Diffusion forwards alone costs three calls of the U-Net.

# %% [markdown] tags=["idea"]
# ## A check that looks at the result
#
# Stable Diffusion's last piece draws nothing. An image tower makes a vector of the finished picture. It is compared
# with the vectors of some *concepts*. Where a cosine is above the concept's threshold, the picture is hidden.
#
# Two errors are possible. A **false alarm** hides a harmless picture. A **miss** shows what should be hidden. The
# threshold trades one for the other. No threshold makes both zero as long as the scores of the two groups overlap.
#
# Our scenes are harmless, so we forbid a *red cross*, an emblem that the Geneva Conventions protect. The reader knows what a scene shows, so every error can be counted. Published checkers seldom come with
# such counts. The concepts of Stable Diffusion's are not even named: there are 17 vectors. Rando et al. found out
# what they mean: all are sexual, none is about violence.

# %% [markdown]
# $$\text{alarm}_k(x) = \big[\cos(u(x), e_k) > \theta_k\big], \qquad
# \theta_k = \min\Big\{\theta : \frac{\#\{x \text{ without } k : \cos(u(x), e_k) > \theta\}}{\#\{x \text{ without } k\}} \le r\Big\}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $u(x)$ | vector of the picture | (N, 64) |
# | $e_k$ | vector of concept $k$ | (K, 64) |
# | $\theta_k$ | its threshold: here always one of the scores | (K,) |
# | $r$ | share of false alarms that is allowed | number |

# %%
from diffusion_lessons.data.captions import wishes
from diffusion_lessons.data.dataset import to_float
from diffusion_lessons.data.scenes import draw as draw_scenes
from diffusion_lessons.zoo.safety import embeddings

CONCEPTS = ["a red cross", "a blue triangle", "a purple square"]
directions = torch.stack([embeddings(towers, words, name).mean(0) for name in CONCEPTS])  # (K, 64)


@torch.no_grad()
def scores_of(pictures):
    """The cosine of each picture with each concept, (N, K)."""
    u = torch.cat([towers.vision(part) for part in pictures.split(200)])
    return torch.cosine_similarity(u[:, None], directions[None], dim=2).cpu()


def scored_scenes(seed, n):
    """Scores of n scenes, and what they show, (n, K). Half of them are of the kind that has the concepts."""
    scenes = [draw_scenes(seed, torch.arange(n // 2), split) for split in ("test", "held-out")]
    kinds = [{(each.colour, each.shape) for each in wish.objects} for part in scenes for wish in wishes(part)]
    shows = torch.tensor([[tuple(name.split()[1:]) in kind for name in CONCEPTS] for kind in kinds])
    return torch.cat([scores_of(to_float(part.render(64))) for part in scenes]), shows


scores, shows = scored_scenes(1, budget.samples(1200))

# %% [markdown] tags=["exercise-card"]
# {{exercise 12.6}}


# %% tags=["exercise"]
@exercise("12.6")
def choose_thresholds(scores, shows, share):
    """The thresholds (K,) of K concepts, each as low as the false alarms allow.

    scores: (N, K), of N pictures; shows: (N, K) bool, whether the picture really shows it. An alarm is a score
    above the threshold. For each concept by itself: of the pictures that do not show it, at most the share `share`
    (0 to below 1) may be above. The threshold is the lowest of *their* scores for which that holds.
    """
    ### BEGIN SOLUTION
    thresholds = []
    for k in range(scores.shape[1]):
        clean = scores[~shows[:, k], k].sort(descending=True).values
        allowed = int(share * len(clean))
        thresholds.append(clean[allowed])
    return torch.stack(thresholds)
    ### END SOLUTION


# %%
from diffusion_lessons.metrics.intervals import wilson_interval

new_scores, new_shows = scored_scenes(2, budget.samples(1200))  # others than those that chose


def rate(alarms):
    """A share with its 95 % interval, as a text."""
    low, high = wilson_interval(int(alarms.sum()), len(alarms))
    return f"{alarms.double().mean():6.1%} ({low:.1%} to {high:.1%})"


print(f"allowed {'concept':16} threshold   {'false alarms':24} found")
for share in (0.01, 0.1):
    thresholds = choose_thresholds(scores, shows, share)
    for k, name in enumerate(CONCEPTS):
        alarms, has = new_scores[:, k] > thresholds[k], new_shows[:, k]
        print(f"{share:7.0%} {name:16} {thresholds[k]:9.3f}  {rate(alarms[~has]):24} {rate(alarms[has])}")

# %% jupyter={"source_hidden": true}
fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9))
bins = torch.linspace(float(new_scores[:, 0].min()), float(new_scores[:, 0].max()), 40).numpy()
for part, name, shade in (
    (~new_shows[:, 0], "without", "#0072B2"),
    (new_shows[:, 0], "with a red cross", "#D55E00"),
):
    left.hist(new_scores[part, 0].numpy(), bins, density=True, alpha=0.6, color=shade, label=name)
left.axvline(
    float(choose_thresholds(scores, shows, 0.01)[0]), color="black", ls="--", lw=1.5, label="threshold, 1 %"
)
left.set(xlabel="cosine with “a red cross”", ylabel="density", ylim=(0, 1.45 * left.get_ylim()[1]))
left.legend(fontsize=9)
for k, (name, look) in enumerate(zip(CONCEPTS, ("-", "--", "-."), strict=True)):
    lines = new_scores[:, k].sort(descending=True).values
    wrong = [(new_scores[~new_shows[:, k], k] > line).double().mean() for line in lines]
    found = [(new_scores[new_shows[:, k], k] > line).double().mean() for line in lines]
    right.plot(wrong, found, look, marker="", label=name.removeprefix("a "))
right.set(xlabel="false alarms", ylabel="found", xscale="log", xlim=(1e-3, 1), ylim=(0, 1.02))
right.legend(fontsize=9)
figure(
    fig,
    alt="Left: cosines with a red cross, of scenes without one and with one. The two heaps overlap, and the "
    "threshold for 1 % of false alarms cuts through the second. Right: the share that is found over the share of "
    "false alarms, for three concepts; each curve rises with the false alarms, and they differ.",
)

# %% [markdown]
# **What to notice:** each concept has a threshold of its own, at a height of its own. The share that was allowed
# holds on new scenes up to chance, since these are drawn as the others were. (On the scenes that chose the thresholds
# it holds by construction, and proves nothing.) What is found is another matter: nobody may promise that from the
# false alarms.
#
# What do such rates mean for a user? That depends on how many pictures show the concept at all. If it is rare, most
# alarms are false, however good the check looks in a balanced test. If every second prompt asks for it, the misses
# hurt more. The card of `scenes-clip`, whose check hid a picture at the start, has counted both errors, and by the
# form of the scene: a cross alone is found nearly always, a cross in a pair hardly ever. One rate for all hides that.

# %% jupyter={"source_hidden": true}
told = zoo.card("scenes-clip")["safety"]["a red cross"]
wrong, found = told["false_alarms"][0], told["found"][0]
print(
    f"false alarms {wrong:.2%} of {told['false_alarms'][3]} scenes, found {found:.0%} of {told['found'][3]}"
)
for what in ("one", "pair", "several", "group_and_one"):
    share, low, high, count = told[f"found_{what}"]
    print(f"  of the form “{what.replace('_', ' ')}”: {share:.0%} ({low:.0%} to {high:.0%}, n = {count})")
for asked in (0.5, 0.01, 0.001):  # the share of pictures that show a red cross
    right = asked * found / (asked * found + (1 - asked) * wrong)
    print(f"if {asked:.1%} of all pictures show one, {right:.0%} of the alarms are right")

# %% [markdown] tags=["experiment"]
# ## Experiment: one piece swapped at a time
#
# Now every swap as a measurement. 500 captions, 500 noises, the same for every row. The reader counts the pictures in
# which *everything* is right: objects, sizes, relation. Nothing is trained again. `diffusion-lessons experiment
# pieces-swapped --n 500` runs it (two minutes on a GPU, an hour or two on two CPU cores); the recorded result stands
# here, and below it a small live version.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

NAMED = {"dpmpp-2m": "DPM-Solver++(2M)", "ddim": "DDIM", "ddpm": "DDPM", "plms": "PLMS"}


def title(row):
    """What a row swaps, in words."""
    what = row["settings"]
    return {
        "nothing": "as it is: DDIM, 25 steps, guidance 2",
        "sampler": f"{NAMED[what['sampler']]}, {what['steps']} steps",
        "guidance": f"guidance {what['guidance']:g}",
        "tower": f"text tower: {what['tower']}",
        "decoder": f"decoder: {what['decoder']}",
    }[what["piece"]]


kept = recorded("pieces-swapped")
fig, ax = plt.subplots(figsize=(8.4, 6.4))
hues = dict(nothing="black", decoder="#E69F00", sampler="#0072B2", guidance="#009E73", tower="#D55E00")
for place, row in enumerate(kept["rows"]):
    share, low, high = row["everything"]
    ends, hue = [[share - low], [high - share]], hues[row["settings"]["piece"]]
    ax.errorbar(share, -place, xerr=ends, fmt="o", capsize=3, color=hue)
ax.set_yticks(
    [-place for place in range(len(kept["rows"]))], [title(row) for row in kept["rows"]], fontsize=9
)
ax.set(xlabel=f"everything right, 95 % intervals, n = {kept['options']['n']}", xlim=(-0.02, 1.02))
figure(
    fig,
    alt="The share of pictures with everything right, with intervals, for each swapped piece. Near 1: the pipeline "
    "as it is, bfloat16, all samplers but PLMS with few steps, guidance from 1 to 8. About two thirds and a half: "
    "padding with 0, a tower without its last layer. Below 0.4: PLMS with 10 and 5 steps, wrong factors. Near 0: the "
    "linear decoder, guidance 0, other towers.",
)

# %% jupyter={"source_hidden": true}
from diffusion_lessons.data.captions import captions
from diffusion_lessons.metrics.captions_met import captions_met

n = budget.samples(16)
index = torch.arange(n)
asked_for = captions(draw_scenes(0, index, "test"), 0, index, unsized=0)
start = torch.randn(n, *model.shape, generator=generator).to(device)
with torch.no_grad():
    own = text(ids_of(asked_for)).context
for name, drawn in {
    "as it is": pictures_of(own, start),
    "DPM-Solver++(2M), 8 steps": pictures_of(own, start, sampler="dpmpp-2m", steps=8),
    "channels in another order": pictures_of(own[..., order], start),
}.items():
    share, (low, high) = captions_met(to_uint8(drawn.cpu()), asked_for)["everything"]
    print(f"{name:26} {share:4.0%} with everything right (95 % interval {low:.0%} to {high:.0%}, n = {n})")

# %% [markdown]
# **The result.**
#
# | what is swapped | everything right, of 500 | readable |
# |---|---|---|
# | nothing; decoder in bfloat16 | 98.8 % | 99.8 % |
# | DDIM, DPM-Solver++(2M), DDPM with 10 steps | 98.4, 98.6, 97.8 % | 100 % |
# | PLMS with 25, 10 steps | 99.4, 34.4 % | 100, 70.6 % |
# | no guidance (scale 1), half the calls | 96.0 % | 99.6 % |
# | padding: the token 0 in the place of the end | 65.2 % | 93.0 % |
# | tower without its last layer | 53.0 % | 98.0 % |
# | decoder: latents never divided; divided twice | 17.6; 13.8 % | 52.4; 56.0 % |
# | decoder: the best linear map, 5 × 48 numbers | 5.2 % | 5.6 % |
# | tower of `scenes-clip`; channels in another order | 0.6; 0 % | 80.0; 76.8 % |
#
# - **Free to swap**: number formats, and solvers of the same equation, as long as their steps are short enough. How
#   short, differs: PLMS needs more steps than DDIM here, for the reason above.
# - **Cheap mistakes, high price**: the factor of the latents, and the token that fills a prompt up. Both are one
#   number in a file.
# - **Good enough to look at**: the linear decoder. The reader can hardly name a thing in its pictures, but you see
#   what stands where. Programs show such previews while they work, since they cost next to nothing.
# - **Not free**: the text tower. A tower that knows exactly the same, in another order, is worth nothing to this
#   U-Net: not one of 500. And the pictures stay clean: most can be read, and show what nobody asked for.
#
# **Published**, for real Stable Diffusion, with its settings: PLMS (PNDM) in 50 steps, usually at guidance 7.5. Its guidance trades
# like ours, on another scale: SD 1.5 has an FID of 8.78 at guidance 3 and 13.45 at 8 (DMD, tables 3 and 4). The
# autoencoder alone costs an FID of 4.99 on COCO reconstructions; a decoder that was trained further, with the encoder
# as it was, brings it to 4.42 (the card of sd-vae-ft). So a swapped decoder can also be a *better* one.

# %% [markdown] tags=["play"]
# ## Play
#
# Build your own pipeline with the buttons and sliders. The line above the pictures is its bill, counted by your function of
# exercise 12.3, for Stable Diffusion's sizes. Find the cheapest pipeline that still draws what was asked. What breaks
# first with few steps: shapes, sizes, or colours? What does high guidance do without enough steps?

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import live
from diffusion_lessons.experiments.pieces_swapped import linear_decoder, one_layer_less, places
from diffusion_lessons.samplers import SAMPLERS

ASKED = [*PROMPTS[:3], "a red square left of a green cross"]
linear = linear_decoder(vae)


def by_hand(z):
    """Pictures by the best linear map from the four numbers of a place to its 4 × 4 pixels."""
    pixels = (places(z) @ linear).unflatten(0, (len(z), -1)).transpose(1, 2)
    return torch.nn.functional.fold(pixels, 64, 4, stride=4)


@torch.no_grad()
def pipeline(sampler, steps, guidance, piece):
    """Four pictures of one pipeline, what the reader says, and the bill."""
    ids, empty = ids_of(ASKED), ids_of([""])
    if piece == "tower without its last layer":
        contexts, away = one_layer_less(text, ids), one_layer_less(text, empty)
    else:
        contexts, away = text(ids).context, text(empty).context
    one = ClassifierFreeGuidance(model.denoiser(), guidance, {"context": away})
    told = lambda x, level, condition=None: one(x, level, {"context": contexts})
    start = torch.randn(4, *model.shape, generator=torch.Generator().manual_seed(0)).to(device)
    ends = path.levels(steps, "stable-diffusion" if sampler == "PLMS" else "trailing")
    z = plms(told, start, ends) if sampler == "PLMS" else sample(told, start, ends, sampler=WALKS[sampler])
    drawn = (by_hand if piece == "linear decoder" else vae.decode)(z).clamp(-1, 1)
    right = captions_met(to_uint8(drawn.cpu()), ASKED)["everything"][0]
    calls = steps + (sampler == "PLMS")
    bill = flops_of_pictures(*each_call, 1, 1, calls, calls if guidance != 1 else 0)
    bill -= each_call[2] if piece == "linear decoder" else 0
    read_out[sampler, steps, guidance, piece] = seen_in(drawn)
    fig, ax = plt.subplots(figsize=(8.4, 2.5))
    ax.imshow(((framed(drawn) + 1) / 2).permute(1, 2, 0).numpy(), interpolation="nearest")
    said = f"everything right in {right * 4:.0f} of 4; in Stable Diffusion's size"
    ax.set_title(f"{said} {bill / 1e12:.1f} TFLOP a picture", fontsize=11)
    ax.axis("off")
    return fig


# %% jupyter={"source_hidden": true}
WALKS = {"DDIM": SAMPLERS["ddim"], "DPM-Solver++(2M)": dpmpp_2m, "DDPM": SAMPLERS["ddpm"]}
read_out = {}  # by setting: what the reader sees


def seen_in(pictures):
    """What the reader sees in each of some pictures, in words."""
    found = read_scenes(to_uint8(pictures.cpu()))
    return "; ".join(", ".join(f"{one.colour} {one.shape}" for one in each or ()) or "unreadable" for each in found)


live(
    pipeline,
    alt=lambda **setting: f"Four pictures, as the reader sees them: {read_out[tuple(setting.values())]}.",
    sampler=["DDIM", "PLMS", "DPM-Solver++(2M)", "DDPM"],
    steps=[4, 8, 25],
    guidance=[1.0, 2.0, 6.0],
    piece=["all as they are", "linear decoder", "tower without its last layer"],
    start={"steps": 8, "guidance": 2.0},
)

# %% jupyter={"source_hidden": true}
tried = [("DDIM", 4, 2.0), ("DPM-Solver++(2M)", 8, 2.0), ("DDIM", 8, 6.0)]
rows = {}
with torch.no_grad():
    contexts = text(ids_of(ASKED)).context
    start = torch.randn(4, *model.shape, generator=torch.Generator().manual_seed(0)).to(device)
for name, steps, scale in tried:
    short = {"DDIM": "ddim", "DPM-Solver++(2M)": "dpmpp-2m"}[name]
    how = dict(sampler=short, steps=steps, guidance=scale)
    rows[f"{name}, {steps} steps, guidance {scale:g}"] = pictures_of(contexts, start, **how)
rows["linear decoder"] = pictures_of(contexts, start, by_hand)
strip(
    {name: few_shades(each) for name, each in rows.items()},
    alt="Four rows, each with the same four prompts: DDIM with 4 steps and DPM-Solver++ with 8 draw what was asked; DDIM with 8 steps "
    "at guidance 6 does, too, with a nearly black green cross and a reddish spot in the purple circle; 25 steps with a linear decoder "
    "give coarse blocks in wrong colours: what stands where can be seen.",
    captions=["circle", "triangles", "square, circle", "square, cross"],
    columns=4,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your pipeline against the package's. Your scheduler against diffusers' `PNDMScheduler`, with the settings that were
# published. Your thresholds against a count.

# %% jupyter={"source_hidden": true}
import importlib.util

from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import scaled_linear_betas

with torch.no_grad():
    told = text(ids_of(PROMPTS)).context
gap = draw(PROMPTS, noise) - pictures_of(told, noise, steps=25)
print(f"pipeline:   {gap.abs().max():.0e}")

sd_levels = DiscreteVP(scaled_linear_betas(1000, 0.00085, 0.012)).levels(20, "stable-diffusion")
begin = torch.randn(2, 4, 8, 8, generator=generator).double()


def noise_in(x, t):
    """Stands for a network: some ε that depends on x and t."""
    return torch.tanh(x) * (1 + torch.sin(torch.as_tensor(t / 200.0)))


def stand_in(x, level):
    eps = noise_in(x, level.t - 1)
    return Estimate((x - level.sigma * eps) / level.alpha, eps)


if importlib.util.find_spec("diffusers"):
    from diffusers import PNDMScheduler

    published = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    scheduler = PNDMScheduler(**published, skip_prk_steps=True, set_alpha_to_one=False)
    scheduler.set_timesteps(20)
    x = begin
    for t in scheduler.timesteps:
        x = scheduler.step(noise_in(x, t), t, x).prev_sample
    gap = (plms(stand_in, begin, sd_levels) - x).abs().max() / x.abs().max()
    print(f"scheduler:  {gap:.0e} of the largest entry")
else:
    print("diffusers is not installed here; the solved notebook shows the difference")
alarms = scores > choose_thresholds(scores, shows, 0.05)
false = (alarms & ~shows).sum(0) / (~shows).sum(0)
print(f"thresholds: {', '.join(f'{each:.2%}' for each in false.tolist())} false alarms where 5 % are allowed")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# Something is wrong, and nothing complains. Which piece is it? Test from the end to the front:
#
# 1. Encode and decode a real picture: autoencoder, and the range of pixels.
# 2. Noise the latents of a real picture to t = 700 and make one guess. If it has the picture's large shapes and
#    colours, then target and schedule are right, and factor and time are not far off. (At t = 100 even ε taken for v
#    gives nearly the picture.)
# 3. Draw with a prompt and with the empty text, from the same noise: tower and cross-attention.
# 4. Draw two prompts with two pictures each: the batch.
# 5. Compare with a pipeline that is known to be right, from the same noise, number by number: all the rest.
#
# | bug | how it looks |
# |---|---|
# | prompts repeated as 1, 2, 1, 2 and pictures as 1, 1, 2, 2 | clean pictures with other people's prompts; hidden with one prompt, and with one picture each |
# | latents divided by another autoencoder's factor, or twice, or never | right shapes, wrong colours |
# | ε taken for v, or a schedule of another model | noise, or grey pictures with some structure |
# | the time told one too late or too early | slightly worse; no test by eye finds it |
# | 1,000 steps with an offset of 1 | an index error at the first step |
# | guidance at scale 1 or below switches itself off, and the negative prompt with it | the negative prompt does nothing |
# | `""` never encoded, zeros in its place | guidance away from nonsense |
# | x̂₀ clipped to [−1, 1] in latents | pale pictures, wrong colours |
# | the text tower one layer short, or without its last norm | other pictures, no error |
# | a decoder in float16 | black pictures: large activations overflow |
# | scores rounded to three places before the comparison with a threshold | a picture just above it passes in one program and is hidden in another |
# | the caller's pictures blacked out in place by the check | what was to be looked at is gone |
# | thresholds chosen and measured on the same pictures | rates that look better than they are |
# | a pickled checkpoint opened | it can run any code; take safetensors |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What are the pieces of Stable Diffusion, and how do they work together?",
    "Five, and a check. CLIP's text encoder, with its tokenizer, turns the prompt into 77 vectors, once. A "
    "U-Net with cross-attention sees noisy latents, the time and these vectors, and predicts the noise. A "
    "scheduler decides at which levels the U-Net is asked and makes the steps; each asks twice, with the "
    "prompt and without. The VAE's decoder turns the final latents into a picture. A safety checker "
    "compares it with forbidden concepts.\n\n"
    "The pieces meet in tensors alone, so each can be swapped. But they must agree on vocabulary, "
    "prediction type, schedule and latent scale.",
    [
        (
            "Which piece costs the most?",
            "The U-Net: about 0.8 TFLOP a call, 40 calls with 20 guided steps, 92 % of the whole. The decoder costs three calls, once. With a distilled model of one to three steps, "
            "without guidance, it costs as much as all calls of the U-Net, or more; with four, nearly as much.",
        ),
        ("Can you swap the scheduler without training?", "Yes, if it works with the same noise schedule and prediction type: the network only estimates the noise at a level. Fewer evaluations need higher order; too few steps break any of them."),
        (
            "Can you swap the text encoder?",
            "Not without training, even if the shapes fit: the U-Net has learnt what these vectors mean. We tried it: the pictures are clean and nearly never what was asked. Fine-tune the cross-attention, or an adapter.",
        ),
        (
            "And the VAE?",
            "The decoder alone, yes, if it was trained on the same encoder's latents (sd-vae-ft-mse, TAESD). Another encoder has other latents: the U-Net has to be trained again.",
        ),
        (
            "How would you evaluate the safety checker?",
            "On labelled pictures that did not choose the thresholds: false alarms and misses by concept, with intervals, and by kind of picture. Then by the share that the concept "
            "has in use: if it is rare, most alarms are false.",
        ),
        (
            "How do you know that a reimplementation is right?",
            "Same weights, same noise, compare tensors piece by piece in float64 with perturbed norms; then whole pipelines with several prompts at once. Pictures that look good prove "
            "little.",
        ),
        ("How large are they?", "The text encoder gives 77 vectors of width 768. The U-Net has 860 million parameters and works on latents of 4×64×64. The decoder divides by 0.18215 and makes 512×512 pixels."),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Which piece is called once a prompt, whatever the number of steps and of pictures?",
        [
            Choice("the U-Net", False, "It is called in every step, for every picture."),
            Choice("the scheduler", False, "It works in every step, though its work costs nothing."),
            Choice("the decoder", False, "Once for each picture."),
            Choice("the text encoder", True, "What it says never changes. Store it, and free its memory."),
        ],
    ),
    Question(
        "With guidance 7.5 you go from 50 steps to 4 steps of a distilled model without guidance. What costs the "
        "most beside the U-Net now?",
        [
            Choice(
                "nothing: the U-Net costs most, by far",
                False,
                "4 calls in the place of 100. Compare with one decoding.",
            ),
            Choice("the text encoder", False, "About 13 GFLOP: a sixtieth of one call."),
            Choice(
                "the decoder",
                True,
                "One decoding costs about three calls, and there are four: nearly as much as the U-Net.",
            ),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A check finds 99 % of forbidden pictures and gives 1 % of false alarms. One picture in 1,000 is "
        "forbidden. How many of its alarms are right?",
        [
            Choice("99 %", False, "That is how many of the forbidden pictures are found."),
            Choice(
                "about 9 %",
                True,
                "Of 1,000 pictures one is forbidden and found, and ten of the others are false alarms: 1 of 11.",
            ),
            Choice("about a half", False, "For that one in a hundred would have to be forbidden."),
        ],
    ),
    Question(
        "You replace the text encoder by another one with the same tokenizer, width and length. What happens?",
        [
            Choice(
                "clean pictures that ignore the prompt",
                True,
                "The U-Net still knows how to draw; it does not understand what it is told.",
            ),
            Choice("an error at the first cross-attention", False, "All shapes fit: nothing complains."),
            Choice(
                "noise",
                False,
                "The U-Net draws clean pictures for any context, even for that of the empty text.",
            ),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*, arXiv 2112.10752: section 3,
#   the three parts; section 3.3, cross-attention.
# - Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision* (CLIP), arXiv
#   2103.00020: section 2.4, the towers.
# - Liu et al. 2022, *Pseudo Numerical Methods for Diffusion Models on Manifolds* (PNDM), arXiv 2202.09778: section
#   3, the linear multistep method.
# - Bansal et al. 2023, *Universal Guidance for Diffusion Models*, arXiv 2302.07121: section 3; ours is a single
#   step of their backward guidance.
# - Rando et al. 2022, *Red-Teaming the Stable Diffusion Safety Filter*, arXiv 2210.04610: figure 1, the check;
#   appendix E, the concepts.
# - Yin et al. 2024, *One-step Diffusion with Distribution Matching Distillation* (DMD), arXiv 2311.18828: tables 3
#   and 4.
# - Whitaker, *Stable Diffusion Deep Dive* (with fast.ai's part 2), and Hugging Face's *Diffusion Models Course*, unit
#   3: the same pieces with the published weights; section by section a good companion.
#
# In this course diffusion has had no rival so far. There has been one since 2014, and it draws in a single step:
# {{lesson 13}}
