# %% [markdown] tags=["header"]
# title: The U-Net
# question: Why is the network of a diffusion model a U-Net, and how is it told the time?
# difficulty: 2
# prerequisites: 03, 04, 05, convolutions
# builds: networks

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - say how far a network sees, and confirm it by a gradient (exercise 06.1)
# - write a time as a vector that a network can read, and build the block that listens to it (exercises 06.2 and 06.3)
# - find out why an attention layer looks everywhere at once (exercise 06.4)
# - assemble a U-Net from its blocks, give it trained weights and draw with it (exercise 06.5)
# - build the block of a transformer, which can take the U-Net's place (exercise 06.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# So far the network was a closed box. Here it draws a 4, a 3, a 5 and a 2. The first two panels are x and the guess x̂₀. For
# the other two something was cut out of the trained network: **part A** for one, **part B** for the other. All three guess
# from the same x. Drag the slider. What is each part good for?

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import Watched, budget, exercise, figure, scrub, strip
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.guidance import Clip
from diffusion_lessons.networks import Patched
from diffusion_lessons.samplers import sample, trajectory
from diffusion_lessons.targets import V

bundled = zoo.load("mnist-unet")
net = bundled.network.to(device).network  # the U-Net itself, without the patching around it
path, asked = bundled.path, torch.tensor([4, 3, 5, 2], device=device)
noise = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(3)).to(device)


def guesser(network):
    """The denoiser that asks this U-Net, and keeps its guess between black and white."""
    return Clip(NetworkDenoiser(Patched(network, 2), path, V))


points = list(trajectory(guesser(net), noise, path.levels(20), asked))
digits = points[-1][1]  # (4, 1, 32, 32), the finished pictures

# %% jupyter={"source_hidden": true}
from copy import deepcopy

from torch import nn


def before(layer, change):
    """From now on the layer gets change(what it would have got)."""
    layer.register_forward_pre_hook(lambda _, given: change(*given))


def change_skips(network, change):
    """From now on the blocks on the way up get the channels change(h, skip)."""
    own = network.middle_2.conv_2.out_channels
    for stage in network.up:
        if isinstance(stage, nn.ModuleList):
            before(stage[0], lambda x, e, own=own: (torch.cat(change(x[:, :own], x[:, own:]), 1), e))
            own = stage[0].conv_2.out_channels


def square(pictures):
    """Four pictures as one."""
    a, b, c, d = pictures.cpu()
    return torch.cat([torch.cat([a, b], 2), torch.cat([c, d], 2)], 1)


# %% jupyter={"source_hidden": true}
without_a, without_b = deepcopy(net), deepcopy(net)
change_skips(without_a, lambda h, skip: [h, 0 * skip])
without_b.up[5].register_forward_hook(lambda _, given, made: 0 * made)  # the last step up to the full size
panels = {"x": [], "x̂₀": [], "x̂₀ without A": [], "x̂₀ without B": []}
shown = points[:20:2]  # t = 1000, 900, …, 100
for level, x, guess in shown:
    cut_guesses = [guesser(each)(x, level, asked).x0 for each in (without_a, without_b)]
    for frames, pictures in zip(panels.values(), (x, guess.x0, *cut_guesses), strict=True):
        frames.append(square(pictures))
scrub(
    panels,
    [f"t = {level.t:.0f}" for level, _, _ in shown],
    alt="From t = 1000 to 100: x, from noise to a 4, a 3, a 5 and a 2. The guess is blurred at first and soon sharp. Without "
    "A it is the same at t = 1000, and then the digits are there, but grainy. Without B there is nothing at t = 1000, "
    "then strokes that do not fit together, and from about t = 500 on the same digits as the whole network guesses.",
    columns=5,
)

# %% [markdown]
# Without A the digits can be read from the start, but they are grainy where the noise is medium. The grain is noise of x that was
# not removed: at t = 500 the difference of this guess from that of the whole network has a correlation of 0.8 with the noise.
# Without B the network draws strokes at high noise that do not fit together. At low noise B is not missed. So part B knows
# *what* is drawn, and part A knows *where* exactly the noise lies. What these parts are, this lesson tells. (The sampler is
# lesson 3's loop, with the step of lesson 1. The network's output v is a closed box: {{built-in 17}}.)

# %% [markdown] tags=["guess"]
# ## Guess
#
# You design the network. In goes a noisy picture of 64 × 64 pixels, out comes a picture of the same size. Each pixel of the
# output must be placed exactly. And each must depend on the *whole* picture: whether a stroke belongs there is decided by the
# rest of the digit. A 3 × 3 convolution sees one pixel to each side. **How would you do it?** Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Connect every pixel with every pixel.* One such layer has 4,096² = 16.8 million weights for a single channel. And what it
#   learns in one corner it does not know in another.
# - *Many convolutions, one after the other.* Each adds one pixel of sight to each side. The centre sees the whole picture
#   after 32 of them, and all work at the full size.
# - *A small copy.* In a picture of 8 × 8 the centre sees everything after four convolutions, and each costs a sixty-fourth.
#   But an 8 × 8 result, enlarged, is a blur.
# - *A small copy, and the large one kept beside it.* The small one decides what is there, the large one where exactly. That is
#   the U-Net, and these are the parts B and A above.
# - *Cut the picture into patches, and let every patch ask every other.* That is a transformer. It comes at the end of this
#   lesson.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# A U-Net has three parts beside plain convolutions. **Skips** hand the picture across, from the large layers at the beginning to
# those at the end (part A). An **embedding** tells the network the time. **Attention** connects distant places. Above, a
# trained network was cut. Now one part is left out from the beginning, and the network is trained without it, with the same
# budget: it may learn to do without.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "Without which of them does a small U-Net draw the worst 16 × 16 digits?",
    [
        Choice(
            "without the skips",
            True,
            "The Fréchet distance doubles: all detail has to pass through 4 × 4 positions.",
        ),
        Choice(
            "without the time",
            False,
            "One would think so. But a noisy picture shows how noisy it is: the loss rises by about 6 % only.",
        ),
        Choice(
            "without attention",
            False,
            "Not at this size: the convolutions at the bottom see the whole picture already.",
        ),
        Choice("it is bad without any of them", False, "Two of the three are hardly missed here. You measure it below."),
    ],
)

# %% [markdown] tags=["idea"]
# ## Down: see far, cheaply
#
# To remove noise from one pixel, its neighbours help. To know whether a stroke belongs there at all, one must see the whole
# digit. A 3 × 3 convolution sees one pixel to each side, and a second one after it two. At that rate the centre of a
# 64 × 64 picture sees the whole picture after 32 layers, each of them at full size.
#
# So the network halves the picture now and then. After a halving neighbours lie two pixels apart, and each
# convolution reaches twice as far. It also costs a quarter, since it has a quarter of the positions to visit. The
# price is detail: the exact place of a stroke is lost on the way down. Keep that in mind.
#
# $$r_\ell = r_{\ell-1} + (k_\ell - 1)\, j_{\ell-1}, \qquad j_\ell = j_{\ell-1}\, s_\ell, \qquad r_0 = j_0 = 1, \qquad
# \mathrm{FLOPs} = 2\,k^2\, C\, C'\, H W$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $r_\ell$ | **receptive field**: pixels a side that one number after layer $\ell$ depends on | number |
# | $j_\ell$ | step: pixels from one position of the grid to the next | number |
# | $k_\ell, s_\ell$ | kernel and stride of layer $\ell$ | numbers |
# | $C, C', H, W$ | channels in and out, height and width of the output | numbers |
#
# (A FLOP is one multiplication or one addition.)

# %% [markdown] tags=["exercise-card"]
# {{exercise 06.1}}


# %% tags=["exercise"]
@exercise("06.1")
def receptive_field(layers):
    """Pixels a side that one number after a chain of convolutions depends on.

    layers: pairs (kernel, stride), the first layer first; with none at all it is the pixel itself, 1.
    """
    ### BEGIN SOLUTION
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    return field
    ### END SOLUTION


# %% [markdown]
# Is it true? A gradient tells: where the derivative of one number in the middle with respect to a pixel is zero, that
# number does not see the pixel. We look at three chains of seven 3 × 3 convolutions with random weights. White is where
# the gradient is largest, black is a thousandth of that or less.


# %% tags=["nbval-check-output"]
def chain(layers, norms=False):
    """Convolutions of 8 channels, each behind a SiLU, or behind a norm and a SiLU."""
    parts = [nn.Conv2d(1, 8, 1)]
    for kernel, stride in layers:
        parts += [nn.GroupNorm(4, 8)] if norms else []
        parts += [nn.SiLU(), nn.Conv2d(8, 8, kernel, stride, padding=kernel // 2)]
    return nn.Sequential(*parts)


flat, halved = [(3, 1)] * 7, [(3, 1), (3, 1), (3, 2), (3, 1), (3, 2), (3, 1), (3, 1)]
chains = {"stride 1": (flat, chain(flat)), "two halvings": (halved, chain(halved))}
chains["halvings, norms"] = halved, chain(halved, norms=True)
print("by formula:", {name: receptive_field(layers) for name, (layers, _) in chains.items()})

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle


def field_of(features, x, draws=8):
    """Root mean square gradient of the numbers in the middle with respect to each pixel: (H, W)."""
    middle = features[:, :, features.shape[2] // 2, features.shape[3] // 2]  # (B, C)
    signs = torch.randint(2, (draws, middle.shape[1]), generator=generator).to(x) * 2 - 1
    grads = [torch.autograd.grad((middle * s).sum(), x, retain_graph=True)[0] for s in signs]
    return torch.stack(grads).square().mean((0, 1, 2)).sqrt().cpu()


def show_field(ax, field, side, title, patch=1):
    """A field on a logarithmic scale, white where it is largest, black at 1/1000 of that or less."""
    ax.imshow((field / field.max()).clamp(min=1e-9).log10(), vmin=-3, vmax=0)
    corner = field.shape[0] / 2 + (patch - 1) / 2 - side / 2
    ax.add_patch(Rectangle((corner, corner), side, side, fill=False, color="#E69F00", linestyle="--"))
    ax.set(xlim=(-0.5, field.shape[0] - 0.5), ylim=(field.shape[0] - 0.5, -0.5))
    ax.set_title(title, fontsize=10)
    ax.axis("off")


fig, axes = plt.subplots(1, 3, figsize=(8.4, 3))
for ax, (name, (layers, network)) in zip(axes, chains.items(), strict=True):
    x = torch.randn(16, 1, 48, 48, generator=generator, requires_grad=True)
    field, side = field_of(network(x), x), receptive_field(layers)
    print(f"{name}: gradient not zero in {int((field > 0).any(0).sum())} columns")
    show_field(ax, field, side, name)
figure(
    fig,
    alt="Three gradients of one number over a picture of 48 by 48 pixels, the field by formula as a dashed square. "
    "Stride 1: a small square of 15 pixels, black outside. Two halvings: 31 pixels, black outside. With norms: the "
    "same square, and grey over the whole rest of the picture.",
)

# %% [markdown]
# **What to notice:** outside the dashed square the gradient is exactly zero, and two halvings double the square's side.
# Within it the middle counts most: the *effective* field is smaller than the formula says (Luo et al. 2016). The norms of
# the third chain break the rule. A GroupNorm takes mean and spread over all positions, so every number depends
# a little on every pixel.

# %% [markdown] tags=["idea"]
# ## Tell the network the time
#
# At t = 20 the network has to remove a little grain. At t = 900 it has to guess a digit. One network does both, so it is
# told t. How? As one number among thousands of others t would hardly be heard. And a layer that only multiplies and adds can
# say "more for later times", but not "only around 300".
#
# A clock does better. Its second hand tells neighbouring moments apart, its hour hand the parts of the day. Take
# $d/2$ hands, from one radian in a unit of time down to almost none, and write each as a sine and a cosine.
#
# Two linear layers turn this vector into an **embedding**. Every block then makes two numbers for each of its
# channels from it: one turns the channel up or down, one moves it.
#
# $$\mathrm{emb}(t) = \big(\sin\omega_0 t, \dots, \sin\omega_{d/2-1} t,\; \cos\omega_0 t, \dots, \cos\omega_{d/2-1} t\big), \qquad
# \omega_i = 10000^{-i/(d/2)}$$
#
# $$h \leftarrow \mathrm{norm}(h)\cdot(1 + \text{scale}) + \text{shift}, \qquad (\text{scale}, \text{shift}) = W e + b$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $t$ | time as the network is told it: 0 to 999 | (B,) |
# | $\omega_i$ | frequency of hand $i$ | (d/2,) |
# | $e$ | embedding: two linear layers on emb(t), plus one learnt vector for the label | (B, E) |
# | $h$ | features in the middle of a block | (B, C, H, W) |
# | scale, shift | one number for each channel | (B, C, 1, 1) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 06.2}}


# %% tags=["exercise"]
@exercise("06.2")
def sinusoidal_embedding(time, dim):
    """Times (B,) as vectors (B, dim): sines at dim/2 frequencies, then cosines at the same.

    time: float32, whole numbers or not; dim: even, at least 2. The result is float32.
    """
    ### BEGIN SOLUTION
    index = torch.arange(dim // 2, device=time.device)
    frequencies = 10_000 ** (-index / (dim // 2))
    angles = time[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
    ### END SOLUTION


# %%
times, apart = torch.arange(1000.0), torch.arange(1, 600)
vectors = sinusoidal_embedding(times, 32)  # (1000, 32)
likeness = {t: vectors[t + apart] @ vectors[t] / 16 for t in (0, 400)}  # 1: the same vector

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course.widgets import plain_lines

with plain_lines():
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9))
    left.imshow(vectors.T, aspect="auto", extent=(0, 1000, 31.5, -0.5))
    left.grid(False)
    left.set(xlabel="t", ylabel="entry")
    for t, row in likeness.items():
        right.semilogx(apart, row, label=f"to t = {t}")
    right.set(xlabel="difference of two times", ylabel="likeness of their vectors", ylim=(0, 1.05))
    right.legend()
figure(
    fig,
    alt="Left: the 32 entries over t; sines above, cosines below, each half from fine stripes to almost constant. "
    "Right: the likeness of two vectors over the difference of their times falls from 1 through 0.6 at 10 to "
    "about 0.4 at 100, in waves; the curves for t = 0 and t = 400 are the same.",
)

# %% [markdown] tags=["exercise-card"]
# **What to notice:** neighbouring times get similar vectors, distant ones different ones. How similar depends only on the
# difference: the two curves are one.
#
# Now the block that listens. It is built around a *shortcut*: what comes in is added to what goes out, so the block only has
# to say what should change. Its layers are given. What flows through them is yours.
#
# {{exercise 06.3}}

# %% tags=["exercise"]
from torch.nn.functional import interpolate, silu

from diffusion_lessons.networks.blocks import zero_conv


@exercise("06.3")
class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut: x (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    def __init__(self, in_channels, out_channels, embedding_dim, groups=8):
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, in_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.to_scale_shift = nn.Linear(embedding_dim, 2 * out_channels)
        self.norm_2 = nn.GroupNorm(groups, out_channels)
        self.conv_2 = zero_conv(out_channels, out_channels)  # starts at zero: at first the block does nothing
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, embedding):
        """Two rounds of norm, SiLU, convolution; scale and shift act in the second, right after the norm.

        embedding: (B, embedding_dim), after a SiLU already; to_scale_shift gives the scale first, then the shift.
        """
        ### BEGIN SOLUTION
        scale, shift = self.to_scale_shift(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_1(silu(self.norm_1(x)))
        h = self.norm_2(h) * (1 + scale) + shift
        return self.shortcut(x) + self.conv_2(silu(h))
        ### END SOLUTION


# %% [markdown]
# What does a trained network do with it? Below your embedding goes through the bundled model's layers. We look at the factor
# 1 + scale of the first six channels in its last block, for the digit 3.


# %%
class TimeEmbedding(nn.Module):
    """Your vector of waves, then two linear layers: (B,) -> (B, out_dim)."""

    def __init__(self, dim, out_dim):
        super().__init__()
        self.dim = dim
        self.linear_1, self.linear_2 = nn.Linear(dim, out_dim), nn.Linear(out_dim, out_dim)

    def forward(self, time):
        return self.linear_2(silu(self.linear_1(sinusoidal_embedding(time, self.dim))))


tell = TimeEmbedding(24, 96).to(device)
tell.load_state_dict(net.time_embedding.state_dict())
last = net.up[7][0]  # the last residual block of the bundled network
with torch.no_grad():
    label = net.label_embedding(torch.full((len(times),), 3, device=device))
    scale, shift = last.to_scale_shift(silu(tell(times.to(device)) + label)).chunk(2, 1)
    factors = 1 + scale.cpu()  # (1000, 24)

# %% jupyter={"source_hidden": true}
with plain_lines():
    fig, ax = plt.subplots(figsize=(7.6, 3))
    ax.plot(times, factors[:, :6])
    ax.axhline(0, color="gray", lw=0.8)
    ax.set(xlabel="t", ylabel="factor of a channel")
figure(
    fig,
    alt="The factor of six channels over t. Two rise, to 5 and 6. Two stay near 2; at the end one rises, one falls. "
    "Two fall from 3 through 0, between t = 600 and 750, to about −2.5.",
)

# %% [markdown]
# **What to notice:** the time sets the channels like the sliders of a mixing desk. Two are turned up as the noise grows. Two
# are turned down to 0 between t = 600 and 750, and beyond that they come back with the other sign. So one set of convolutions
# is used differently at every noise level. The label moves the same sliders.
#
# Dhariwal and Nichol compared this way of telling the time with the older one, which only adds the embedding. Scaling
# too gave the better samples on ImageNet at 128 × 128 (2021, table 3).

# %% [markdown] tags=["idea"]
# ## Attention: every position asks every other
#
# A convolution always looks at the same few places around it. But a stroke at the top may depend on one at
# the bottom: in a 0 both belong to one loop. **Attention** lets each position look anywhere, and choose *where* by
# what it finds there.
#
# Each position makes three vectors. Its **query** says what it looks for, its **key** what it has to offer, its
# **value** what it passes on. Query and key are compared by a product. A softmax turns the products into weights,
# and the weighted mean of the values is the answer.
#
# This happens several times side by side, in **heads**, each with its own part of the channels. With N positions there
# are N² pairs, so it is only done where the picture is small.
#
# $$\mathrm{attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt d}\right) V, \qquad
# \mathrm{FLOPs} = 4\,N^2\,C$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $Q, K, V$ | queries, keys and values | (B, heads, N, d) |
# | $N$ | positions, H·W | number |
# | $d$ | width of one head; heads · d = C | number |

# %% [markdown] tags=["exercise-card"]
# {{exercise 06.4}}


# %% tags=["exercise"]
@exercise("06.4")
def attention(query, key, value):
    """Each position's weighted mean of the values; query, key and value: (B, heads, N, d), as is the result."""
    ### BEGIN SOLUTION
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1) @ value
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "With one head it worked. Now I have eight, and every head looks everywhere at once."
    # channels = query.shape[1] * query.shape[3]
    # scores = query @ key.transpose(-2, -1) / channels**0.5
    # return torch.softmax(scores, dim=-1) @ value
    ### END STUDENT


# %% [markdown]
# Why a scale at all, and why this one? Give attention random queries and keys, and count how many positions each query sees.
# The count is the exponential of the entropy of its weights: 1 for a single position, N for N positions alike.


# %%
def weights_of(query, key):
    """The weights (B, heads, N, N): what attention gives where the values are the unit vectors."""
    return attention(query, key, torch.eye(key.shape[2]).expand(*key.shape[:2], -1, -1))


def positions_seen(weights):
    return (-weights * weights.clamp(min=1e-30).log()).sum(-1).exp().mean().item()


widths, scales = (4, 8, 16, 32, 64, 128), {"none": 0.0, "yours": 0.5, "1/d": 1.0}
counts = {name: [] for name in scales}
for d in widths:
    query, key = (torch.randn(1, 50, 64, d, generator=generator) for _ in range(2))  # 64 positions
    for name, power in scales.items():
        scaled = query * d**0.5 / d**power  # your attention divides by √d: now it is d**power in all
        counts[name].append(positions_seen(weights_of(scaled, key)))

# %% jupyter={"source_hidden": true}
from diffusion_lessons.paths import add_noise


def outputs(places, run):
    """What each of these layers gives while `run` runs, by name."""
    found, hooks = {}, []
    for name, layer in places.items():
        hooks.append(layer.register_forward_hook(lambda _, given, made, name=name: found.update({name: made})))
    run()
    for hook in hooks:
        hook.remove()
    return found


def noisy(t):
    """The four digits of the beginning at time t."""
    draws = torch.randn(digits.shape, generator=generator).to(device)
    return add_noise(digits, draws, path(float(t))).requires_grad_()


def ask(network, x, t):
    """What a U-Net gives for pictures x at time t, patched."""
    return Patched(network, 2)(x, torch.full((len(x),), t - 1.0, device=device), asked)


# %% jupyter={"source_hidden": true}
heads = {"in the middle": net.middle_attention, "on the way up": net.up[1][1]}
normed = outputs({name: layer.norm for name, layer in heads.items()}, lambda: ask(net, noisy(400), 400))

fig, axes = plt.subplots(1, 3, figsize=(8.8, 3), width_ratios=(1.4, 1, 1))
for name, row in counts.items():
    axes[0].semilogx(widths, row, label=name)
axes[0].set(xlabel="width d of a head", ylabel="positions seen", xticks=widths, xticklabels=widths, ylim=(0, 84))
axes[0].minorticks_off()
axes[0].legend(ncols=3, loc="upper center", columnspacing=0.8, handlelength=1.5)
for ax, (name, layer), head in zip(axes[1:], heads.items(), (1, 0), strict=True):
    tokens = normed[name].flatten(2).transpose(1, 2)  # (4, 16, 48)
    query, key, _ = layer.to_qkv(tokens).unflatten(2, (3, 2, 24)).permute(2, 0, 3, 1, 4).detach().cpu()
    ax.imshow(weights_of(query, key)[2, head], vmin=0, vmax=0.5)  # of the 5
    ax.set(title=name, xlabel="position seen", ylabel="position that looks", xticks=[], yticks=[])
figure(
    fig,
    alt="Left: of 64 positions a query sees 21 at d = 4 and 2 at d = 128 without a scale, about 40 at every d with "
    "yours, 57 to 64 with 1/d. Middle and right: weights of two heads of the bundled model, 16 positions by 16; "
    "in one nearly all look at the same one or two positions, in the other a few look at themselves, a few at one other.",
)

# %% [markdown]
# **What to notice:** without a scale, a wide head sees one or two positions; divided by d, nearly all of them alike.
# With √d the width makes no difference. On the right are two heads that training has made, on the noisy 5, a picture of 4 × 4
# positions at the bottom. In the one nearly all positions ask the same one or two. In the other some ask themselves.

# %% [markdown] tags=["idea"]
# ## Up again, with skips across
#
# At the bottom the network knows what the digit is, and has lost where its edges lie. Its output must be as
# sharp as its input. So it goes up again: double height and width, convolve, until the full size is back. And at every
# level the way up is handed what the way down had there. These **skips** carry the detail across. The way through the
# bottom carries the meaning. Drawn on paper, that is a U.
#
# The way up meets the levels in the opposite order, so what was kept last is needed first. A skip is not added. It is put
# beside the rest as further channels, which makes the blocks wider.
#
# $$h \leftarrow \mathrm{block}\big([\,h,\; \text{skip}\,],\, e\big), \qquad
# [\,\cdot,\cdot\,]: (B, C_1, H, W),\, (B, C_2, H, W) \to (B, C_1 + C_2, H, W)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $h$ | what comes up from below | (B, C₁, H, W) |
# | skip | what the way down had at this level | (B, C₂, H, W) |
# | $e$ | embedding of time and label, after a SiLU | (B, E) |
#
# First the other parts. Attention gets a norm, its three vectors and a shortcut. A stage is a block, with attention or
# without.


# %%
class SelfAttention(nn.Module):
    """Your attention over the positions of h (B, C, H, W), with a shortcut."""

    def __init__(self, channels, head_dim, groups):
        super().__init__()
        self.head_dim, self.norm = head_dim, nn.GroupNorm(groups, channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, h):
        tokens = self.norm(h).flatten(2).transpose(1, 2)  # (B, N, C)
        qkv = self.to_qkv(tokens).unflatten(2, (3, -1, self.head_dim))  # (B, N, 3, heads, d)
        seen = attention(*qkv.permute(2, 0, 3, 1, 4))  # (B, heads, N, d)
        return h + self.to_out(seen.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(h.shape)


class Stage(nn.ModuleList):
    """A residual block, then attention or nothing."""

    def forward(self, h, embedding):
        block, attend = self
        return attend(block(h, embedding))


# %%
class Down(nn.Module):
    """Half the height and width, by a convolution of stride 2."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, h, embedding):
        return self.conv(h)


class Up(nn.Module):
    """Twice the height and width: each pixel four times, then a convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h, embedding):
        return self.conv(interpolate(h, scale_factor=2.0))


# %% jupyter={"source_hidden": true}
from diffusion_lessons.networks.embedding import LabelEmbedding


def stage(config, channels, level):
    """A stage from so many channels to the width of its level."""
    width, groups = config.base_channels * config.channel_mults[level], config.groups
    attends = level in config.attention_levels
    attend = SelfAttention(width, config.head_dim, groups) if attends else nn.Identity()
    return Stage([ResidualBlock(channels, width, 4 * config.base_channels, groups), attend])


class Layers(nn.Module):
    """All layers of a U-Net, under the names that they have in the bundled file."""

    def __init__(self, config):
        super().__init__()
        base, levels = config.base_channels, range(len(config.channel_mults))
        widths = [base * mult for mult in config.channel_mults]
        self.time_embedding = TimeEmbedding(base, 4 * base)
        self.label_embedding = LabelEmbedding(config.num_classes, 4 * base)
        self.stem = nn.Conv2d(config.in_channels, base, 3, padding=1)
        self.down, self.up, skips = nn.ModuleList(), nn.ModuleList(), [base]  # widths that wait for the way up
        for level in levels:
            for _ in range(config.blocks_per_level):
                self.down.append(stage(config, skips[-1], level))
                skips.append(widths[level])
            if level < levels[-1]:
                self.down.append(Down(widths[level]))
                skips.append(widths[level])
        channels = widths[-1]
        self.middle_1, self.middle_attention = stage(config, channels, levels[-1])
        self.middle_2 = ResidualBlock(channels, channels, 4 * base, config.groups)
        for level in reversed(levels):
            for _ in range(config.blocks_per_level + 1):
                self.up.append(stage(config, channels + skips.pop(), level))
                channels = widths[level]
            if level > 0:
                self.up.append(Up(channels))
        self.norm_out = nn.GroupNorm(config.groups, channels)
        self.conv_out = zero_conv(channels, config.out_channels)


# %% [markdown] tags=["exercise-card"]
# The folded cell above makes all blocks, with their widths. How they work together is yours: the whole network. It has the
# layers of the bundled one, and can take its weights. (The bundled model works on patches: 2 × 2 pixels are folded into
# four channels first, and unfolded at the end. Nothing is lost, and every convolution costs a quarter.)
#
# {{exercise 06.5}}


# %% tags=["exercise"]
@exercise("06.5")
class UNet(Layers):
    """The layers: time_embedding, label_embedding, stem, down (a list), middle_1, middle_attention, middle_2,
    up (a list), norm_out, conv_out. middle_attention takes h alone; entries of down and up, middle_1 and middle_2 are
    called with (h, embedding), and that is the SiLU of the sum of both embeddings. Kept for the way up: what the stem
    gives, and what every entry of down gives, each Down too. Every entry of up takes one of them, as [h, skip], but
    an Up takes none. At the end: norm, SiLU, convolution.
    """

    def forward(self, x, time, label):
        """x: (B, C, H, W); time: (B,); label: (B,)."""
        ### BEGIN SOLUTION
        embedding = silu(self.time_embedding(time) + self.label_embedding(label))
        h = self.stem(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding)
            skips.append(h)
        h = self.middle_1(h, embedding)
        h = self.middle_attention(h)
        h = self.middle_2(h, embedding)
        for layer in self.up:
            if not isinstance(layer, Up):
                h = torch.cat([h, skips.pop()], dim=1)
            h = layer(h, embedding)
        return self.conv_out(silu(self.norm_out(h)))
        ### END SOLUTION


# %%
yours = UNet(net.config).to(device).eval().requires_grad_(False)
yours.load_state_dict(net.state_dict())
ten, fresh = torch.arange(10, device=device), torch.randn(10, 1, 32, 32, generator=generator).to(device)
drawn = {
    "bundled": sample(guesser(net), fresh, path.levels(20), ten).cpu(),
    "yours": sample(guesser(yours), fresh, path.levels(20), ten).cpu(),
}
print(f"largest difference of a pixel: {(drawn['yours'] - drawn['bundled']).abs().max():.0e}")
strip(
    drawn,
    alt="Digits 0 to 9 in two rows, drawn from the same noise by the bundled network and by yours: the same pictures.",
    columns=10,
)

# %% [markdown]
# What does your network cost, and where? One evaluation of the network, for one picture:

# %%
from diffusion_lessons.networks.counting import unet_costs

costs = unet_costs(net.config, 16, 16)
total = {what: sum(getattr(cost, what) for cost in costs.values()) for what in ("parameters", "flops")}
print(f"{total['parameters']:,} parameters, {total['flops'] / 1e6:.1f} MFLOPs")
levels = {"top": ("down 0", "up 0"), "middle": ("down 1", "up 1"), "bottom": ("down 2", "middle", "up 2")}
for name, stages in levels.items():
    shares = {what: sum(getattr(costs[stage], what) for stage in stages) / total[what] for what in total}
    print(f"{name} level: {shares['parameters']:.0%} of the parameters, {shares['flops']:.0%} of the FLOPs")

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(8.4, 2.9))
for (what, whole), shift, colour, hatch in zip(total.items(), (-0.2, 0.2), ("#0072B2", "#E69F00"), ("", "//"), strict=True):
    shares = [100 * getattr(cost, what) / whole for cost in costs.values()]
    ax.bar([i + shift for i in range(len(costs))], shares, 0.4, color=colour, hatch=hatch, label=what)
ax.set_xticks(range(len(costs)), costs, fontsize=10)
ax.set(ylabel="share in %")
ax.legend(["parameters", "FLOPs"], loc="upper left")
figure(
    fig,
    alt="Share of parameters and of FLOPs by stage. Parameters: 3 % at the top of the way down, 17 % in the middle, "
    "29 % at the bottom of the way up, 7 % at its top. FLOPs: 8 % at the top of the way down, 4 % in the middle, "
    "37 and 29 % in the upper stages of the way up.",
)

# %% jupyter={"source_hidden": true}
def reach(field, middle=16.5):
    """How far from the middle, here that of a patch, the gradient lies: root mean square, in pixels."""
    place = torch.arange(32) - middle
    share = field.square() / field.square().sum()
    return (share * (place[:, None] ** 2 + place**2)).sum().sqrt().item()


block, halve = [(3, 1), (3, 1)], [(3, 2)]  # two convolutions; one that halves
ways = [(2, 2), (3, 1)], block, halve + block, halve + block, block + block  # to the stem, …, to the middle
places = {"stem": yours.stem, "down 0": yours.down[0][1], "down 1": yours.down[2][1], "down 2": yours.down[4][1]}
places |= {"middle": yours.middle_2, "up 2": yours.up[1][1], "up 1": yours.up[4][1], "up 0": yours.up[7][1]}
x = noisy(400)
features = outputs(places | {"output": yours.conv_out}, lambda: ask(yours, x, 400))

fig, axes = plt.subplots(2, 5, figsize=(8.4, 4.2))
for i, (ax, (name, h)) in enumerate(zip(axes.flat, features.items(), strict=False)):
    field, side = field_of(h, x), receptive_field(sum(ways[: i + 1], []))
    show_field(ax, field, side, f"{name}\n{reach(field):.1f} pixels", patch=2)
axes[1, 4].axis("off")
figure(
    fig,
    alt="Nine gradients over 32 by 32 pixels at t = 400, in the order of the stages. The bright spot grows from 6 "
    "pixels a side behind the stem to the whole picture in the middle, and shrinks on the way up to a few pixels.",
)

# %% [markdown]
# **What to notice:** 54 % of the weights lie at the bottom level, which has 18 % of the FLOPs. The middle level has the most
# FLOPs, 44 %, and the top level 37 %. ("up 1" ends with the convolution behind its upsampling, which works at the full size
# already.) The way up costs 4.3 times as much as the way down: its blocks read the skips, too, and there are two of them for
# each block on the way down.
#
# The bright spot grows on the way down and shrinks on the way up. Each number in pixels says how far from the middle the gradient
# lies, as a root mean square. From "down 1" on the square of the formula is larger than the picture. At this noise level the
# output depends on near pixels most, and they come across by the skips.

# %% [markdown] tags=["idea"]
# ## Without a U: the transformer
#
# A single layer of attention sees the whole picture. So is the way down and up needed at all? Peebles and Xie (2023) left it
# out. Their **DiT** cuts the picture into patches, here of 2 × 2 pixels. Each patch becomes one vector, a **token**. All
# layers work on the same row of tokens: attention between them, then two linear layers on each token alone. No
# levels, no skips, no convolutions.
#
# A row knows nothing of above and below. So each token is told its place: waves of its row and column, as for the time, are
# added at the beginning.
#
# The time comes in as in your residual block, by scale and shift after a norm. New is the **gate**, a factor for what a
# layer adds. A layer that starts at zero makes all three: at first each block is the identity (**adaLN-zero**).
#
# $$h \leftarrow h + g_1 \odot \mathrm{attend}\big(\mathrm{norm}(h)\odot(1 + s_1) + b_1\big), \qquad
# h \leftarrow h + g_2 \odot \mathrm{think}\big(\mathrm{norm}(h)\odot(1 + s_2) + b_2\big)$$
#
# $$(b_1, s_1, g_1, b_2, s_2, g_2) = W e + b$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $h$ | tokens | (B, N, C) |
# | $\mathrm{attend}$ | attention with its linear layers | (B, N, C) → (B, N, C) |
# | $\mathrm{think}$ | two linear layers with a GELU between, on each token | (B, N, C) → (B, N, C) |
# | $b, s, g$ | shift, scale, gate: one number for each channel, the same for all tokens of a picture | (B, 1, C) |
# | $e$ | embedding of time and label, after a SiLU | (B, E) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 06.6}}


# %% tags=["exercise"]
from torch.nn.functional import gelu


@exercise("06.6")
class DiTBlock(nn.Module):
    """Attention, then two linear layers, both told by the embedding: tokens (B, N, C) -> (B, N, C)."""

    def __init__(self, channels, embedding_dim, head_dim):
        super().__init__()
        self.heads = channels // head_dim
        self.norm_1 = nn.LayerNorm(channels, elementwise_affine=False)
        self.to_qkv, self.to_out = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels)
        self.norm_2 = nn.LayerNorm(channels, elementwise_affine=False)
        self.widen, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.to_six = nn.Linear(embedding_dim, 6 * channels)
        nn.init.zeros_(self.to_six.weight)
        nn.init.zeros_(self.to_six.bias)

    def attend(self, h):
        """What each token gathers from all, by your attention."""
        query, key, value = self.to_qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.to_out(attention(query, key, value).transpose(1, 2).flatten(2))

    def think(self, h):
        """Two linear layers on each token alone."""
        return self.narrow(gelu(self.widen(h), approximate="tanh"))

    def forward(self, tokens, embedding):
        """embedding: (B, E), after a SiLU already; to_six gives shift, scale, gate for attend, then for think."""
        ### BEGIN SOLUTION
        six = self.to_six(embedding)[:, None]  # (B, 1, 6·C): the same for all tokens
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = six.chunk(6, dim=2)
        h = self.norm_1(tokens) * (1 + scale_1) + shift_1
        tokens = tokens + gate_1 * self.attend(h)
        h = self.norm_2(tokens) * (1 + scale_2) + shift_2
        return tokens + gate_2 * self.think(h)
        ### END SOLUTION


# %% [markdown]
# Around your blocks there is little left: patches into tokens, tokens into patches.


# %%
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


def token_places(rows, columns, width):
    """Where each token lies, waves of its row and of its column: (rows·columns, width)."""
    row = sinusoidal_embedding(torch.arange(float(rows)), width // 2).repeat_interleave(columns, dim=0)
    column = sinusoidal_embedding(torch.arange(float(columns)), width // 2).repeat(rows, 1)
    return torch.cat([row, column], dim=1)


# %%
class Transformer(nn.Module):
    """Called as your UNet; a token is a patch of 2 × 2 pixels of one channel."""

    def __init__(self, width=64, depth=4, head_dim=16, num_classes=10):
        super().__init__()
        self.time_embedding, self.label_embedding = TimeEmbedding(width, width), LabelEmbedding(num_classes, width)
        self.stem = nn.Linear(4, width)
        self.blocks = nn.ModuleList([DiTBlock(width, width, head_dim) for _ in range(depth)])
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.to_two, self.linear_out = nn.Linear(width, 2 * width), nn.Linear(width, 4)
        for start in (*self.to_two.parameters(), *self.linear_out.parameters()):
            nn.init.zeros_(start)

    def forward(self, x, time, label):
        embedding = self.time_embedding(time)
        embedding = silu(embedding + self.label_embedding(label))
        patches = pixel_unshuffle(x, 2)  # (B, 4, rows, columns)
        tokens = self.stem(patches.flatten(2).transpose(1, 2))  # (B, rows·columns, width)
        tokens = tokens + token_places(*patches.shape[2:], tokens.shape[2]).to(x)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        shift, scale = self.to_two(embedding)[:, None].chunk(2, dim=2)
        made = self.linear_out(self.norm_out(tokens) * (1 + scale) + shift)
        return pixel_shuffle(made.transpose(1, 2).reshape(patches.shape), 2)


# %% jupyter={"source_hidden": true}
where = token_places(16, 16, 64)
chosen = {"top left": (1, 1), "middle": (8, 8), "at the right": (5, 14)}
fig, axes = plt.subplots(1, 3, figsize=(8.4, 3))
for ax, (name, (row, column)) in zip(axes, chosen.items(), strict=True):
    ax.imshow((where @ where[16 * row + column] / 32).view(16, 16), vmin=0, vmax=1)
    ax.set(title=name, xticks=[], yticks=[])
figure(
    fig,
    alt="The likeness of one token's place to the places of all tokens of a 16 by 16 grid, for three tokens. Each picture "
    "has its brightest spot at the token itself, a bright cross along its row and column, and darkens with distance.",
)

# %% [markdown]
# **What to notice:** each picture compares the place of one token with all places of a 16 × 16 grid. Places in the same row or
# column are more alike, and near ones more than distant ones. A convolution has "near" built in. A transformer is only told
# the places, and has to learn what to do with them.

# %% [markdown] tags=["experiment"]
# ## Experiment: what is each part worth?
#
# We leave one part out, train again, and compare, on 16 × 16 digits with a network of 300,000 weights. The last row has
# another network:
#
# - **no skips**: the blocks on the way up get what comes from below, and nothing else;
# - **no time**: the network is told the same time at every level;
# - **no attention**: attention layers become the identity;
# - **transformer**: your `Transformer`, of 316,000 weights and nearly the same FLOPs.
#
# Everything else stays: pictures, noise, steps. First here, with your own networks and a few seconds each. We measure the
# loss (target v) on held-out digits at five noise levels.

# %%
from diffusion_lessons.data import load_dataset, to_float
from diffusion_lessons.experiments.unet_ablation import build, losses
from diffusion_lessons.losses import diffusion_loss

train, test = load_dataset("digits", "train", size=16), load_dataset("digits", "test", size=16)
pictures, labels = to_float(train.images).to(device), train.labels.to(device)


def fit(network, steps, rate=3e-3):
    """Lesson 4's training loop: the rate rises over 30 steps, then falls to 0."""
    draws = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    for step in (watched := Watched(steps)):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 30) * (1 - step / steps)
        rows, t = torch.randint(len(pictures), (32,), generator=draws), torch.randint(1, 1001, (32,), generator=draws)
        noise = torch.randn(32, 1, 16, 16, generator=draws).to(device)
        loss = diffusion_loss(network, path, V, pictures[rows], noise, t.double(), labels[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watched.tell(loss)
    return network.eval()


# %%
parts, at, live = ("full", "no skips", "no time", "no attention"), (25, 100, 400, 700, 900), {}
networks = {name: build(name, unet=UNet) for name in parts} | {"transformer": Transformer()}  # yours, less the part
for name, network in networks.items():
    fit(network.to(device), budget.steps(80))
    live[name] = losses(network, test, path, at, budget.samples(200))  # (5, 200)
print("one seed; ± one standard error over the pictures")
print(f"{'loss at t =':13}", *(f"{t:^13}" for t in at))
for name, row in live.items():
    errors = row.std(1) / row.shape[1] ** 0.5
    print(f"{name:13}", *(f"{mean:.3f} ± {error:.3f}" for mean, error in zip(row.mean(1), errors, strict=True)))

# %% [markdown]
# Two rows surprise. **At t = 900 the network without skips is the best of all.** At t = 900 a skip of the top level carries
# almost nothing but noise. The network without skips never sees it. The full one has to learn not to listen. We tried it, with
# 80 steps at t = 900 alone (four seeds, ± over the seeds). The full network is behind, too: 0.193 ± 0.003 against 0.165 ± 0.002.
# With only the two skips of the top level set to 0 it comes to 0.171 ± 0.002: they make most of the gap. After 240 steps at all
# levels the full network is ahead (0.131 against 0.150; one seed).
#
# **The transformer** is behind the full network at each of the five levels. But up to t = 700 it is far ahead of
# the network without skips: it never leaves the level of its patches, so it needs none. (Attention seems to help in this short
# run. After 1,000 steps that is gone.)
#
# So a short run says what is learnt first, not what can be learnt. The **recorded experiment** trains each variant for 1,000
# steps with three seeds. It has one more: without skips a network has fewer weights, so one is made wider.
# `diffusion-lessons experiment unet-ablation` runs all again.
#
# The Fréchet distance to held-out digits ({{built-in 20}}) is of 1,000 drawn digits. Lower is better, and 1,000 real training
# digits are at 0.15 (mean of five balanced draws, from 0.14 to 0.17). Here ± is one standard error over the seeds.
#
# The learning rate is 0.003 for all U-Nets, untuned, and 0.006 for the transformer, which did better there than at half or a
# quarter of it (one seed). We tried 0.006 for two U-Nets as well. The full one came to a loss of 0.119 and a Fréchet distance of
# 0.34 ± 0.02 (three seeds), the one without skips to 0.150 and 0.74 (one seed).

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

kept, rows = recorded("unet-ablation"), {}
for row in kept["rows"]:
    rows.setdefault(row["settings"]["variant"], []).append(row)
print(f"{kept['rows'][0]['steps']} steps, n = {kept['options']['n']}, {kept['hardware']['processor']}")
by_time = {name: torch.tensor([row["losses"] for row in each]) for name, each in rows.items()}  # (3, 13)
for name, each in rows.items():
    figures = torch.tensor([[row["loss"], row["frechet"], row["accuracy"]] for row in each])  # (3, 3)
    mean, error = figures.mean(0), figures.std(0) / len(each) ** 0.5
    print(f"{name:16} {each[0]['parameters']:,} weights  loss {mean[0]:.4f} ± {error[0]:.4f}  Fréchet distance "
          f"{mean[1]:.2f} ± {error[1]:.2f}  recognised {mean[2]:.1%} ± {error[2]:.1%}")  # fmt: skip
fig, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.4), width_ratios=(1.3, 1))
for i, (name, each) in enumerate(rows.items()):
    ratio = by_time[name] / by_time["full"]
    error = ratio.std(0) / len(each) ** 0.5
    (line, *_) = left.errorbar(each[0]["t"], ratio.mean(0), yerr=error, capsize=2, label=name, ms=4)
    values = [row["frechet"] for row in each]
    right.plot([i] * len(values), values, line.get_marker(), color=line.get_color())
left.set(xlabel="t", ylabel="loss ÷ that of full", ylim=(0.95, 1.85))
left.legend(ncols=2, loc="upper right")
right.set(ylabel="Fréchet distance", ylim=(0, None))
right.set_xticks(range(len(rows)), [name.replace(", ", ",\n") for name in rows], rotation=40)
figure(
    fig,
    alt="Left: loss over t, divided by that of full. No skips: 1.3 at t = 10, 1.5 at 300, 1.0 at 975; wider, about "
    "two thirds of that excess; no time: 1.03 to 1.11; no attention: 1.0; transformer: 1.2 at t = 10, 1.03 at 100, "
    "1.1 at 500, 1.0 at 975. Right: Fréchet distances by seed: 0.6 to 0.7 in both variants without skips and for the "
    "transformer, about 0.3 in the others.",
)
saved = {
    name: torch.frombuffer(bytearray.fromhex(each[0]["pictures"]), dtype=torch.uint8).view(10, 1, 16, 16)
    for name, each in rows.items()
}
strip(
    saved,
    alt="Digits 0 to 9 of each variant, alike because they come from the same noise. Without skips the 1, the 2 and the 5 are "
    "grainy, and without the time even more so. The other rows show hardly any grain.",
    columns=10,
)

# %% [markdown]
# **The result.** The **skips** are worth most. Without them the Fréchet distance doubles, from 0.32 ± 0.01 to 0.67 ± 0.02.
# Missing weights are not the reason: the wider network has more than the full one, and ends at 0.63 ± 0.01. The loss tells
# what is lost. At t = 300 it is 1.5 times that of the full network, at t = 975 the same: under that much noise there is no
# detail to hand across. Detail *can* go through the bottom, but it takes long to learn. Without skips, trainings of 80, 500 and
# 1,000 steps ended at a loss of 0.98, 0.48 and 0.17 at t = 100 (the first two: one seed). With skips: 0.26, 0.14 and 0.12.
#
# The **time** is worth less than one would think: 6 % of the loss, and a distance of 0.31 ± 0.01, no measurable difference. A
# noisy picture shows how noisy it is. (The distance is not everything: the grainiest of the digits above are in that row.) Sun et
# al. (2025) found the same on photographs: most models degrade gracefully without it.
#
# **Attention** is worth nothing *here*, 0.31 ± 0.02. On 16 × 16 pixels the convolutions at the bottom see the whole picture.
# At 128 × 128 Dhariwal and Nichol gained by attending at three sizes in place of one (2021, table 1). An
# ablation holds for the size at which it was made.
#
# The **transformer** has a loss a tenth above that of the full U-Net (0.133 against 0.121), and below that of both variants
# without skips. By the Fréchet distance its digits are no better than theirs, 0.64 ± 0.04, although the ten above show no
# grain. So the mean loss does not order the samples. (Without the time the loss is higher, too, and the distance is not.)
# With as many weights, FLOPs, steps and pictures, the U-Net wins here.
#
# Large transformers win elsewhere. DiT-XL/2 came to an FID of 2.27 on ImageNet at 256 × 256, better than all diffusion models
# before it, and transformers with more FLOPs had a lower FID throughout (Peebles and Xie 2023). The usual explanation:
# neighbours and scales are built into a U-Net, and a transformer must learn them. With much data and long training that
# matters less. We have not tested this.

# %% [markdown] tags=["play"]
# ## Play
#
# Where does your network look for *one* pixel, the one in the middle? Below is the gradient of its guess x̂₀ there, with
# respect to every pixel of x, over the noise level. Drag from left to right, and compare with what you can still see in x.

# %% jupyter={"source_hidden": true}
guess, four = NetworkDenoiser(Patched(yours, 2), path, V), digits.repeat(4, 1, 1, 1)  # each with four draws of noise
panels, words = {"x": [], "x̂₀": [], "where it looks": []}, []
for t in (10, *range(50, 1000, 50), 990):
    level = path(float(t))
    x = add_noise(four, torch.randn(four.shape, generator=generator).to(device), level).requires_grad_()
    x0 = guess(x, level, asked.repeat(4)).x0
    field = field_of(x0, x, draws=1)
    panels["x"].append(x[2].detach().cpu())  # the 5
    panels["x̂₀"].append(x0[2].detach().cpu())
    panels["where it looks"].append(1 + (field / field.max()).clamp(min=1e-2).log10()[None])  # black: 1/100 or less
    words.append(f"t = {t} · the gradient reaches {reach(field, middle=16):.1f} pixels")
scrub(
    {name: torch.stack(frames) for name, frames in panels.items()},
    words,
    alt="A 5 under growing noise, the guess at it, and the gradient of the guess's middle pixel. The bright spot is one pixel "
    "at t = 10, some ten across at t = 350, and fills most of the picture at t = 850.",
    columns=7,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your attention against torch's, and your transformer against the package's. The folded cell compares your embedding and your
# block with those of diffusers, with the same weights.

# %%
from diffusion_lessons.networks import DiT, DiTConfig

query, key, value = torch.randn(3, 2, 4, 16, 24, generator=generator)
fused = nn.functional.scaled_dot_product_attention(query, key, value)
print(f"attention, largest difference from torch's: {(attention(query, key, value) - fused).abs().max():.0e}")
ours = DiT(DiTConfig(num_classes=10)).to(device)
ours.load_state_dict(networks["transformer"].state_dict())
x, t = torch.randn(4, 1, 16, 16, generator=generator).to(device), torch.full((4,), 300.0, device=device)
gap = (networks["transformer"](x, t, asked) - ours(x, t, asked)).abs().max()
print(f"transformer, largest difference from ours: {gap:.0e}")

# %% jupyter={"source_hidden": true}
import importlib.util

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
    net(torch.zeros(1, 4, 16, 16, device=device), torch.zeros(1, device=device))
print(f"FLOPs, ours less those that torch counted: {total['flops'] - counter.get_total_flops()}")
if importlib.util.find_spec("diffusers"):
    from diffusers.models.embeddings import get_timestep_embedding
    from diffusers.models.resnet import ResnetBlock2D

    theirs = get_timestep_embedding(times, 32, flip_sin_to_cos=False, downscale_freq_shift=0)
    print(f"embedding, largest difference from diffusers': {(vectors - theirs).abs().max():.0e}")
    shape = dict(in_channels=16, out_channels=32, temb_channels=64, groups=8, eps=1e-5)
    theirs, block = ResnetBlock2D(**shape, time_embedding_norm="scale_shift"), ResidualBlock(16, 32, 64)
    weights = theirs.state_dict()
    for old, new in (("norm1", "norm_1"), ("conv1", "conv_1"), ("norm2", "norm_2"), ("conv2", "conv_2"),
                     ("time_emb_proj", "to_scale_shift"), ("conv_shortcut", "shortcut")):  # fmt: skip
        for kind in ("weight", "bias"):
            weights[f"{new}.{kind}"] = weights.pop(f"{old}.{kind}")
    block.load_state_dict(weights)
    x, e = torch.randn(2, 16, 8, 8, generator=generator), torch.randn(2, 64, generator=generator)
    gap = (block(x, silu(e)) - theirs(x, e)).abs().max()  # theirs puts the SiLU on the embedding itself
    print(f"residual block, largest difference from diffusers': {gap:.0e}")
else:
    print("diffusers is not installed here; the solved notebook shows the differences")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# Most bugs of a U-Net raise no error: the shapes fit. A trained network shows what they do. Below six of them are put into
# yours, with the same weights, and it draws the same ten digits.
#
# | bug | how it looks |
# |---|---|
# | attention not scaled, or by the wrong width | hardly a difference to the eye in this network: compare numbers |
# | sines and cosines swapped | noise is left in the picture. Harmless if it was trained so: it bites with weights from elsewhere |
# | the same time told always | strokes too heavy, shapes wrong: each level is treated like the one that was told |
# | t/1000 told, where 0 to 999 is meant | texture and no digit: every level is taken for an almost clean picture |
# | skips empty | a cloud where the digit should be |
# | skip and h in the other order | noise |
# | a GroupNorm *after* scale and shift | takes mean and spread out again, and with them much of what the time said |
# | layers in a plain list, not a `ModuleList` | they are neither trained nor saved |
# | the time in bf16 | 999 and 998 become the same number |

# %% jupyter={"source_hidden": true}
def unscaled(network):
    """From now on the scores of attention are not divided by √d."""
    for name, layer in network.named_modules():
        if name.endswith("to_qkv"):
            layer.register_forward_hook(lambda _, x, made: torch.cat([made[..., :48] * 24**0.5, made[..., 48:]], 2))


bugs = {"none": lambda n: None, "attention not scaled": unscaled}
bugs["sines and cosines swapped"] = lambda n: before(n.time_embedding.linear_1, lambda v: v.roll(12, 1))
bugs["told 500, always"] = lambda n: before(n.time_embedding, lambda t: 500 + 0 * t)
bugs["told t/1000"] = lambda n: before(n.time_embedding, lambda t: t / 1000)
bugs["skips set to 0"] = lambda n: change_skips(n, lambda h, skip: [h, 0 * skip])
bugs["skip first, then h"] = lambda n: change_skips(n, lambda h, skip: [skip, h])
ill = {}
for name, plant in bugs.items():
    network = deepcopy(yours)
    plant(network)
    ill[name] = sample(guesser(network), fresh, path.levels(20), ten).cpu()
print("mean change of a pixel:")
for name, x in ill.items():
    print(f"{name:26}{(x - ill['none']).abs().mean():.2f}")
strip(
    ill,
    alt="Seven rows of digits 0 to 9. No bug, and attention not scaled: clean digits. Sines and cosines swapped: grain. "
    "Told 500: misshapen strokes. Told t/1000: texture. Skips 0: clouds. Skip first: noise.",
    columns=10,
)

# %% tags=["interview"] jupyter={"source_hidden": true}
interview_card(
    "Why is the network of a diffusion model a U-Net?",
    "It must see the whole picture to know what to draw, and place every pixel exactly. The way down halves "
    "the picture: convolutions reach further and cost less. The way up brings the size back, and skips hand "
    "it the detail that the bottom has lost.\n\n"
    "One network serves all noise levels, so it is told the time: sines and cosines, two linear layers, and "
    "in every residual block a scale and a shift for each channel. Self-attention where the picture is "
    "small lets distant places agree.",
    [
        (
            "Where are the parameters, where the FLOPs?",
            "Parameters grow with the width squared, so most lie at the bottom. FLOPs also grow with the number of "
            "positions, so most are spent above it, on the way up, where the skips widen the blocks. In ours the middle "
            "level has 44 % of the FLOPs, the top one 37 %, the bottom 18 %.",
        ),
        (
            "Why divide by √d in attention?",
            "A score is a sum of d products with a spread of √d. Undivided, the softmax of a wide head picks one "
            "position, and its gradient vanishes. d is the width of a head, not of all channels.",
        ),
        (
            "Could one do without the time?",
            "Better than one would think: the picture itself shows how noisy it is. On small digits the loss rose by 6 % "
            "and the Fréchet distance not measurably. One still tells it.",
        ),
        (
            "Why concatenate the skips and not add them?",
            "The next convolution can weigh the two apart, each channel with its own weights. The price is a wider block.",
        ),
        (
            "What does a diffusion transformer do differently?",
            "Patches become tokens, and all layers work on the same row of tokens: attention, then two linear layers on "
            "each. No levels, skips or convolutions. Time and label come in by shift, scale and gate, which start at zero "
            "(adaLN-zero). That neighbours belong together it has to learn, so it starts slowly.",
        ),
        ("Why not attention at every level?", "Its scores take N² products for N positions. From 16 × 16 to 64 × 64 that is 256 times as many."),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A chain has a 3 × 3 convolution, one of stride 2, and another 3 × 3. How many pixels a side does it see?",
        [
            Choice("7", False, "That is with stride 1 throughout."),
            Choice("9", True, "1 + 2 + 2 + 2·2: the last one steps over two pixels."),
            Choice("11", False, "A stride widens the reach of the layers after it, not its own."),
        ],
    ),
    Question(
        "Height and width are halved and the channels doubled. What happens to a 3 × 3 convolution?",
        [
            Choice("parameters × 4, FLOPs the same", True, "C·C' is four times as large, H·W a quarter."),
            Choice("parameters the same, FLOPs ÷ 4", False, "That is with the same number of channels."),
            Choice("both × 4", False, "There are four times fewer positions to visit."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "At t = 300 a U-Net's loss is 1.5 times another's, at t = 975 the two are equal. What do you check first?",
        [
            Choice("the attention", False, "It connects distant places, which matters most where little can be seen."),
            Choice("the skips", True, "Where much detail is left to be seen, it has no other way to the output."),
            Choice("the label embedding", False, "The label tells most where the noise is strong: at t = 975."),
        ],
    ),
    Question(
        "Weights from another project load without an error, and all samples keep some grain. Which is likely?",
        [
            Choice("a key of the state dict is missing", False, "Loading would have said so."),
            Choice("the network is too small", False, "It is the same network that worked there."),
            Choice("sines and cosines stand in the other order", True, "No shape tells: every time is misread a little."),
        ],
    ),
    title="Two more",
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "All six vectors of a DiT block are 0 at the start of training. What does the block do then?",
        [
            Choice("it gives zeros", False, "The gate belongs to what is added. The tokens themselves pass on."),
            Choice(
                "nothing: tokens come out as they went in",
                True,
                "The gates are 0, so nothing is added. They open as they are trained.",
            ),
            Choice(
                "plain attention and linear layers, without the time",
                False,
                "So it would be with scale and shift at 0 and gates at 1.",
            ),
        ],
    ),
    title="The last",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Ronneberger, Fischer and Brox 2015, *U-Net*, arXiv 1505.04597: section 2 and figure 1.
# - Ho, Jain and Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv 2006.11239: appendix B, the network.
# - Dhariwal and Nichol 2021, *Diffusion Models Beat GANs on Image Synthesis*, arXiv 2105.05233: section 3, tables 1 to 3.
# - Vaswani et al. 2017, *Attention Is All You Need*, arXiv 1706.03762: section 3.2.1, eq. 1, and section 3.5.
# - Luo et al. 2016, *Understanding the Effective Receptive Field*, arXiv 1701.04128: section 2.
# - Araujo, Norris and Sim 2019, *Computing Receptive Fields of Convolutional Neural Networks*, Distill: eq. 2.
# - Peebles and Xie 2023, *Scalable Diffusion Models with Transformers*, arXiv 2212.09748: section 3.2, adaLN-zero; figure 5, it
#   against three other ways to tell the time.
# - Sun et al. 2025, *Is Noise Conditioning Necessary for Denoising Generative Models?*, arXiv 2502.13129: section 1.
#
# You know what one evaluation of the network costs. A picture takes many. Next: {{lesson 07}}.
