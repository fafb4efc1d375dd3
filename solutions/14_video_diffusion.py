# %% [markdown] tags=["header"]
# title: Video diffusion
# question: How do you make a video model out of a picture model, and what does the time axis cost?
# difficulty: 3
# prerequisites: 06, 08, 11
# builds: clips, filming, networks.video, training.text_to_video, metrics.motion

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - let every place of a picture look at itself in other frames, and say which of them it may see (exercises 14.1 and 14.2)
# - add layers over time that change nothing at first (exercise 14.3)
# - give each frame a noise level of its own, and find the bug that makes a model ignore its first frame (exercise 14.4)
# - build the loop that goes on from a first frame (exercise 14.5)
# - count what attention over time costs (exercise 14.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Four first frames, and four captions. On the left a model of this course goes on from the first frame. On the right the
# *same* model draws every frame for itself, without the layers that you build in this lesson. Move the slider, or press
# play.

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.clips import film as drawn
from diffusion_lessons.course import Choice, Question, Watched, budget, exercise, figure, interview_card, predict, quiz, scrub, strip
from diffusion_lessons.data.clips import MOTIONS
from diffusion_lessons.data.dataset import to_uint8
from diffusion_lessons.filming import asked_clips
from diffusion_lessons.metrics.motion import clips_met

model = zoo.load("scenes-video").on(device)
FRAMES, WINDOW = 8, model.shape[0]
asked, captions = asked_clips(40)  # clips that the model has not seen, and what their captions say
chosen = [int((asked.motion == k).nonzero()[1]) for k in range(4)]  # one for each direction
texts = [captions[i] for i in chosen]
true = asked[torch.tensor(chosen)].render(64, FRAMES).float() / 127.5 - 1  # (4, F, 3, 64, 64)
moving = drawn(model, model.prompts(texts), FRAMES, first=true[:, 0], guidance=1.0, steps=8, device=device)
each = model.prompts([text for text in texts for _ in range(FRAMES)])
apart = drawn(model, each, 1, device=device, seed=1).unflatten(0, (4, FRAMES))[:, :, 0]
print("\n".join(texts))


# %% jupyter={"source_hidden": true}
def coarse(x):
    """Fewer shades, so that the notebook stays small."""
    return (x.clamp(-1, 1) * 12).round() / 12


def sheet(clips):
    """Clips (4, F, C, H, W) as one, two in a row, with a line around each: (F, C, H', W')."""
    framed = torch.nn.functional.pad(coarse(clips), (1, 1, 1, 1), value=0.2)
    rows = [torch.cat(list(row), -1) for row in framed.chunk(2)]
    return torch.cat(rows, -2)


scrub(
    {"with layers over time": sheet(moving), "every frame for itself": sheet(apart)},
    axes={"frame": range(FRAMES)},
    alt="Two panels of four clips, eight frames. With layers over time: one shape in each clip moves evenly to the left, to the "
    "right, up and down. Every frame for itself: shapes of the right kind jump about from frame to frame.",
    title="Four clips",
)

# %% [markdown]
# Every single frame on the right is right: the colour and the shape are those of the caption. What is missing is that one
# frame *knows* of another. The motion on the left was learnt by new layers. The picture network inside is that of
# lesson 16 ({{built-in 16}}), and not one of its weights was changed.

# %% [markdown] tags=["guess"]
# ## Guess
#
# You have a good text-to-image model, and a set of clips that is small beside the pictures it was trained on. **How would
# you make it draw clips?** Take two minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *Draw frame after frame with the same noise.* With one caption all frames are then the same picture. With noises that
#   differ a little they resemble each other, but nothing moves as it was asked to.
# - *Train a network for clips from scratch.* It works (Ho et al. 2022: convolutions in space, attention over time, single
#   pictures as further examples). It throws away what the picture model knows.
# - *Put layers over time between its own*, and train these alone. Single pictures, which do without these layers, stay as
#   good as they were. This is what we do.
# - *Let every place of every frame look at every other* (CogVideoX and other large models). It asks least of the layers and
#   costs most: you count how much.
# - *Start from the frame before*: encode it, noise it a little, denoise it. Cheap, and the object stays where it is.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict

# %% jupyter={"source_hidden": true}
predict(
    "New layers are put between those of a trained picture model. Their weights are random, and nothing is trained yet. What "
    "happens to the pictures?",
    [
        Choice(
            "they are spoilt, unless the last weights of each new layer are 0",
            True,
            "With x + W·f(x) and W = 0 the layer is the identity. Then training starts from a model that draws well.",
        ),
        Choice(
            "they stay as they were, whatever the new weights are",
            False,
            "Only if the new layers add nothing. Random weights do add something.",
        ),
        Choice(
            "they are spoilt, but the first training steps mend that",
            False,
            "The picture network may be mended or not; meanwhile the new layers learn to undo noise that they made.",
        ),
        Choice(
            "nothing, because attention over one frame is the identity",
            False,
            "Attention over one frame returns its *value*, which is a product with a random matrix.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Fold: one axis at a time
#
# A clip has a batch, frames, channels, height and width. A picture network knows four of these five. So the frames are
# **folded into the batch**: to the picture network a clip of 8 frames is 8 pictures. Nothing has to be rewritten.
#
# A layer over time does the opposite. It folds height and width into the batch. What is left is a short sequence for each
# place: the same place in frame 1, 2, 3 … On it works any layer for sequences, and attention is the usual one.
#
# This is called **factorised** attention: first over space, then over time. A place sees the whole clip after both.
#
# The danger is in the fold. `reshape` never fails when the sizes multiply to the same number. With dimensions in the wrong
# order it mixes channels with frames, and the network trains, badly.

# %% [markdown]
# $$x_f(p) \;\leftarrow\; x_f(p) + W_o \sum_{g} \operatorname{softmax}_g\!\Big(\frac{q_f(p)\cdot k_g(p)}{\sqrt C}\Big)\, v_g(p)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_f(p)$ | features of frame $f$ at the place $p$ | (C,) |
# | $q, k, v$ | $W_q x$, $W_k x$, $W_v x$ | (C,) each |
# | $W_o$ | the last weight; 0 at the start | (C, C) |
# | $g$ | frames that frame $f$ may see | |

# %% [markdown] tags=["exercise-card"]
# {{exercise 14.1}}


# %% tags=["exercise"]
@exercise("14.1")
def attend_over_time(x, frames, w_q, w_k, w_v, w_out, seen):
    """x with attention over time added: every place looks at itself in the other frames of its clip.

    x: (B·F, C, H, W), F = frames, the frames of a clip next to each other. w_q, w_k, w_v, w_out: (C, C), each used as a
    linear layer without bias. One head: scores are divided by the root of C. seen: (F, F) bool, True where a frame (row)
    may look at another (column).
    """
    ### BEGIN SOLUTION
    channels, height, width = x.shape[1:]
    clips = x.unflatten(0, (-1, frames))  # (B, F, C, H, W)
    tokens = clips.permute(0, 3, 4, 1, 2).flatten(0, 2)  # (B·H·W, F, C)
    query, key, value = tokens @ w_q.T, tokens @ w_k.T, tokens @ w_v.T
    scores = query @ key.transpose(1, 2) / channels**0.5
    shares = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    y = (shares @ value @ w_out.T).unflatten(0, (-1, height, width))  # (B, H, W, F, C)
    return x + y.permute(0, 3, 4, 1, 2).flatten(0, 1)
    ### END SOLUTION


# %% tags=["nbval-check-output"]
pixels = torch.randn(6, 8, 4, 5, generator=generator)  # two clips of three frames
weights = [torch.randn(8, 8, generator=generator) for _ in range(4)]
all_frames = torch.ones(3, 3).bool()
before = attend_over_time(pixels, 3, *weights, all_frames)
pixels[1, :, 2, 3] += 1  # one place of the second frame of the first clip
changed = (attend_over_time(pixels, 3, *weights, all_frames) - before).abs().amax(1) > 1e-6
print("places that changed:", [tuple(place) for place in changed.nonzero().tolist()])

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(6.4, 2.6))
long = torch.randn(6, 8, 2, 2, generator=generator)
for ax, (name, mask) in zip(axes, {"all frames": torch.ones(6, 6).bool(), "no later frame": torch.ones(6, 6).tril().bool()}.items(), strict=True):
    plain, reached = attend_over_time(long, 6, *weights, mask), []
    for k in range(6):
        other = long.clone()
        other[k] += 1
        reached.append((attend_over_time(other, 6, *weights, mask) - plain).abs().amax((1, 2, 3)) > 1e-6)
    ax.imshow(torch.stack(reached, 1).float(), cmap="Greys", vmin=0, vmax=1.3)
    ax.grid(False)
    ax.set(title=name, xlabel="frame that is changed", ylabel="frame of the result")
figure(
    fig,
    alt="Two squares of six frames by six, dark where a change reaches. With all frames seen all is dark. With no later frame seen the "
    "diagonal and what is below it are dark.",
)

# %% [markdown]
# **What to notice:** one place was changed in one frame. The change reaches the same place (2, 3) in frames 0, 1 and 2 of
# its clip, and nothing else: no other place, and not the second clip. This little test finds wrong folds. The figure does the same
# for six frames, with two masks.

# %% [markdown]
# ### Causal: no frame sees a later one
#
# If all frames are drawn together, each may look at all. If frames are drawn *one after the other*, a frame that is drawn
# now cannot look at one that comes later. A **causal mask** makes training agree with that.
#
# It has a second use. What was computed for earlier frames never changes when later ones come. So it can be kept, as
# language models keep their keys and values. (Our `film` computes it anew; that is slower and shorter to read.)
#
# And a trap. When one new frame looks at seven old ones, there is one query and there are eight keys. PyTorch's
# `scaled_dot_product_attention(…, is_causal=True)` then aligns the two at the *first*: the query sees one key of eight. The
# query is the *last* frame, and should see all.

# %% [markdown]
# $$\text{seen}_{ij} \;=\; \big[\, j \le K - Q + i \,\big], \qquad i = 0 \dots Q - 1, \quad j = 0 \dots K - 1$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $Q, K$ | number of queries and of keys; the queries are the last $Q$ frames | numbers |
# | seen | True where query $i$ may look at key $j$ | (Q, K) bool |

# %% [markdown] tags=["exercise-card"]
# {{exercise 14.2}}


# %% tags=["exercise"]
@exercise("14.2")
def frames_seen(queries, keys):
    """Who may look at whom, (queries, keys) bool, True where a query may look at a key.

    The queries are the last frames of the keys' frames; each sees itself and those before it. queries ≤ keys.
    """
    ### BEGIN SOLUTION
    at = torch.arange(queries) + keys - queries
    return at[:, None] >= torch.arange(keys)
    ### END SOLUTION


# %% tags=["nbval-check-output"]
from torch.nn.functional import scaled_dot_product_attention as fused

query, key, value = (torch.randn(1, n, 4, generator=generator) for n in (2, 8, 8))
theirs = fused(query, key, value, is_causal=True)
aligned = fused(query, key, value, attn_mask=torch.ones(2, 8).tril().bool())
mine = fused(query, key, value, attn_mask=frames_seen(2, 8))
print("2 queries, 8 keys; keys that each query sees:", frames_seen(2, 8).sum(1).tolist())
print("is_causal=True lets them see 1 and 2 keys:   ", bool(torch.allclose(theirs, aligned)))
print("largest difference between the two:          ", "large" if (mine - theirs).abs().max() > 0.1 else "small")

# %% [markdown] tags=["idea"]
# ## Inflate: add layers that do nothing yet
#
# Attention by itself has no sense of order: it must be told which frame is which. A convolution over time has one. It mixes
# a frame with the two before it, each with its own weight. (In both a place looks at *itself* in other frames.)
# **Inflating** a picture network: behind each of its blocks put a convolution over
# time, behind each transformer an attention over time.
#
# Each new layer ends in weights that are **0**. So $x + 0$ comes out, and the inflated network draws every frame exactly
# as the picture network did. Training changes the new weights alone: without the new layers it draws pictures as before.
#
# Zeros at the end are enough. If *all* weights were 0, no gradient would flow: the last weight gets its gradient from what
# comes before it, and that must not be 0, too.

# %% [markdown]
# $$x_f \;\leftarrow\; x_f + b + \sum_{k=0}^{2} W_k\, x_{f-2+k}, \qquad W_k = 0,\; b = 0 \text{ at the start}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $W_k$ | weight of the frame itself ($k = 2$), of the one before (1), and two before (0) | (C, C) each |
# | $x_{-1}, x_{-2}$ | before the first frame: 0 | |

# %% [markdown] tags=["exercise-card"]
# {{exercise 14.3}}


# %% tags=["exercise"]
@exercise("14.3")
def convolve_over_time(x, frames, weight, bias):
    """x with a causal convolution over time added, a residual: the same shape as x.

    x: (B·F, C, H, W), F = frames, the frames of a clip next to each other. weight: (C, C, 3), what comes out first, then
    what goes in; weight[..., 2] belongs to the frame itself, [..., 0] to the one two frames before. bias: (C,). Before
    the first frame of a clip there are zeros.
    """
    ### BEGIN SOLUTION
    clips = x.unflatten(0, (-1, frames))  # (B, F, C, H, W)
    series = clips.permute(0, 3, 4, 2, 1).flatten(0, 2)  # (B·H·W, C, F)
    y = torch.nn.functional.conv1d(torch.nn.functional.pad(series, (2, 0)), weight, bias)
    y = y.unflatten(0, (len(clips), *x.shape[2:]))  # (B, H, W, C, F)
    return x + y.permute(0, 4, 3, 1, 2).flatten(0, 1)
    ### END SOLUTION


# %% [markdown]
# Now a picture network that is small enough to train here, and your layers in it. The "pictures" are lines of 16 pixels
# with a bright bump. A clip is six such lines. In each clip the bump moves 1.5 pixels a frame, in half of the clips to the
# left and in half to the right, and at the border it comes in again on the other side.

# %%
from torch import nn

from diffusion_lessons.networks.embedding import sinusoidal_embedding

PIXELS, LENGTH, CHANNELS = 16, 6, 32


def bumps(n):
    """n clips of a bump that moves evenly, (n, LENGTH, 1, 1, PIXELS) in [−1, 1]."""
    way = 2 * torch.randint(2, (n, 1), generator=generator) - 1
    at = PIXELS * torch.rand(n, 1, generator=generator) + 1.5 * way * torch.arange(LENGTH)
    distance = (torch.arange(PIXELS) - at[..., None] + PIXELS / 2) % PIXELS - PIXELS / 2
    return (2 * torch.exp(-(distance**2) / 3) - 1)[:, :, None, None].to(device)


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, (1, 5), padding=(0, 2), padding_mode="circular")


# %%
class OverTime(nn.Module):
    """Your two layers, with weights that change nothing at first."""

    def __init__(self):
        super().__init__()
        self.maps = nn.ParameterList([torch.randn(CHANNELS, CHANNELS) / CHANNELS**0.5 for _ in range(3)])
        self.out = nn.Parameter(torch.zeros(CHANNELS, CHANNELS))
        self.weight, self.bias = nn.Parameter(torch.zeros(CHANNELS, CHANNELS, 3)), nn.Parameter(torch.zeros(CHANNELS))
        self.places = nn.Parameter(0.3 * torch.randn(LENGTH, CHANNELS, 1, 1))  # which frame is which

    def forward(self, x, frames):
        seen = frames_seen(frames, frames).to(x.device)
        told = nn.functional.group_norm(x, 4) + self.places[:frames].repeat(len(x) // frames, 1, 1, 1)
        x = x + attend_over_time(told, frames, *self.maps, self.out, seen) - told
        h = nn.functional.silu(x)
        return x + convolve_over_time(h, frames, self.weight, self.bias) - h


# %%
class LineNetwork(nn.Module):
    """A picture network for noisy clips (B, F, 1, 1, W), told times (B, F); layers over time where it has any."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.leave = conv(1, CHANNELS), conv(CHANNELS, 1)
        self.blocks = nn.ModuleList(conv(CHANNELS, CHANNELS) for _ in range(3))
        self.time = nn.Sequential(nn.Linear(32, CHANNELS), nn.SiLU(), nn.Linear(CHANNELS, CHANNELS))
        self.over_time = nn.ModuleList()  # empty: frames know nothing of each other

    def forward(self, x, t):
        frames, told = x.shape[1], self.time(sinusoidal_embedding(t.flatten().float().to(x.device), 32))
        h = self.enter(x.flatten(0, 1))
        for k, block in enumerate(self.blocks):
            h = h + block(nn.functional.silu(h + told[:, :, None, None]))
            if self.over_time:
                h = self.over_time[k](h, frames)
        return self.leave(nn.functional.silu(h)).unflatten(0, (-1, frames))

    def inflate(self):
        """Freeze what is there, and put layers over time behind each block."""
        self.requires_grad_(False)
        self.over_time = nn.ModuleList(OverTime() for _ in self.blocks).to(device)


# %% tags=["nbval-check-output"]
lines, some = LineNetwork().to(device), bumps(4)
some_times = torch.full((4, LENGTH), 500.0)
with torch.no_grad():
    as_pictures = lines(some, some_times)
    lines.inflate()
    print(f"inflated, not trained: largest change {(lines(some, some_times) - as_pictures).abs().max():.0e}")
    for layer in lines.over_time:
        layer.out.normal_(0, 0.3)
    wild = (lines(some, some_times) - as_pictures).abs().max()
print("with random last weights:", "pictures are spoilt" if wild > 0.05 else "hardly a change")

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(6.4, 2.4))
names, starts = ["w_q", "w_k", "w_v", "w_out"], {"last weight 0": (1.0, 0.0), "all weights 0": (0.0, 0.0), "none 0": (1.0, 1.0)}
for k, (name, (inner, last)) in enumerate(starts.items()):
    tried = [(size * each / 8**0.5).requires_grad_() for size, each in zip((inner, inner, inner, last), weights, strict=True)]
    aim = torch.randn(long.shape, generator=torch.Generator().manual_seed(5))
    (attend_over_time(long, 6, *tried, torch.ones(6, 6).tril().bool()) - aim).square().mean().backward()
    sizes = [float(each.grad.norm()) for each in tried]
    ax.bar(torch.arange(4) + 0.27 * (k - 1), sizes, 0.25, label=name, hatch=("", "//", "..")[k])
ax.set(ylabel="gradient, norm")
ax.set_xticks(range(4), names)
ax.legend(fontsize=9)
figure(
    fig,
    alt="The norm of the first gradient of four weights. With only the last weight 0, w_out has a gradient and the other three have none. With all "
    "weights 0 no weight has one. With none 0 all have.",
)

# %% [markdown]
# **What to notice:** the change of the inflated network is rounding (we add `told`, and take it away again). With the last weight 0
# the first gradient reaches that weight alone. After one step it is not 0 any more, and
# the others learn, too. With all weights 0 no gradient comes, in the first step or later.

# %% [markdown] tags=["idea"]
# ## A time for each frame
#
# How should such a network be trained? Noise all frames of a clip to one level, and it learns to draw a whole clip at
# once. But it never sees a *clean* frame beside a noisy one, so it cannot go on from a given frame.
#
# **Diffusion forcing** (Chen et al. 2024) gives each frame a level of its own. Some frames have the time 0: they are
# clean. The network learns every task at once: draw all frames together (equal times), draw one behind clean ones (times
# 0, 0, 0, $t$), and anything between.
#
# Two rules follow. The network is told the time of *each* frame, and it is told 0 where a frame is clean. And clean frames
# do not count in the loss: the noise that is not in them cannot be guessed.

# %% [markdown]
# $$L = \frac{\sum_{b,f} [t_{bf} > 0]\; \big\| F(x, t)_{bf} - v_{bf} \big\|^2}{\sum_{b,f} [t_{bf} > 0]}, \qquad
# x_{bf} = \alpha_{t_{bf}} x_{0,bf} + \sigma_{t_{bf}} \varepsilon_{bf}, \quad v = \alpha\,\varepsilon - \sigma\, x_0$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $t$ | a time for each frame, 0 where it is clean | (B, F) |
# | $F(x, t)$ | the network's output for all frames | (B, F, C, H, W) |
# | $v$ | what it is to output ({{built-in 17}}) | (B, F, C, H, W) |
# | $\lVert\cdot\rVert^2$ | mean of the squares over the entries of a frame | |

# %% [markdown] tags=["exercise-card"]
# A model was trained with this loss. It draws fine clips, but they have nothing to do with the first frame that it is given.
#
# {{exercise 14.4}}


# %% tags=["exercise"]
@exercise("14.4")
def clip_loss(network, x0, noise, t, path):
    """The loss of clips whose frames have times of their own: one number, the mean over all frames that are not clean.

    network(x, times): noisy clips (B, F, C, H, W) and times (B, F) to v = α·noise − σ·x0. x0, noise: (B, F, C, H, W).
    t: (B, F), 0 where a frame is clean; at least one is not. path(times) gives a level with alpha and sigma for each of
    (N,) times. A frame's error is the mean over its entries.
    """
    ### BEGIN SOLUTION
    level = path(t.flatten())
    alpha, sigma = (each.view(*t.shape, 1, 1, 1).to(x0) for each in (level.alpha, level.sigma))
    x = alpha * x0 + sigma * noise
    v = alpha * noise - sigma * x0
    error = (network(x, t) - v).square().mean((2, 3, 4))
    noisy = (t > 0).to(error)
    return (error * noisy).sum() / noisy.sum()
    ### END SOLUTION
    ### BEGIN STUDENT
    # level = path(t.flatten())
    # alpha, sigma = (each.view(*t.shape, 1, 1, 1).to(x0) for each in (level.alpha, level.sigma))
    # x = alpha * x0 + sigma * noise
    # v = alpha * noise - sigma * x0
    # times = t.amax(1, keepdim=True).expand_as(t)  # "a network is told one time for a clip"
    # error = (network(x, times) - v).square().mean((2, 3, 4))
    # noisy = (t > 0).to(error)
    # return (error * noisy).sum() / noisy.sum()
    ### END STUDENT


# %%
from diffusion_lessons.training.recipe import PATHS

path = PATHS["cosine"]()


def train_lines(network, steps, batch, clean):
    """Train what is not frozen; clean: the share of clean frames. The losses."""
    weights = [each for each in network.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=4e-3)
    watched, losses = Watched(budget.steps(steps)), []
    for step in watched:
        x0 = bumps(batch)
        t = 1 + 999 * torch.rand(batch, LENGTH, generator=generator)
        t = torch.where(torch.rand(batch, LENGTH, generator=generator) < clean, 0.0, t)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        loss = clip_loss(network, x0, noise, t, path)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watched.tell(loss)
        losses.append(loss.item())
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - (step + 1) / budget.steps(steps))
    return losses


# %%
lines = LineNetwork().to(device)
picture_losses = train_lines(lines, 150, 16, clean=0.0)
lines.inflate()
clip_losses = train_lines(lines, 250, 24, clean=0.35)
print(f"loss: pictures {sum(picture_losses[-20:]) / 20:.2f}, then clips {sum(clip_losses[-20:]) / 20:.2f}")

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course.widgets import plain_lines

with plain_lines():
    fig, ax = plt.subplots(figsize=(6.8, 2.6))
    ax.plot(picture_losses, label="the picture network")
    ax.plot(range(len(picture_losses), len(picture_losses) + len(clip_losses)), clip_losses, label="its layers over time")
    ax.set(xlabel="training step", ylabel="loss", ylim=(0, 0.8))
    ax.legend()
figure(
    fig,
    alt="The loss over the training steps. That of the picture network falls quickly and stays level at about 0.3. With layers over time it goes on "
    "from there and falls to less than half of that.",
)

# %% [markdown]
# **What to notice:** the picture network comes down to 0.27. Training for longer could not bring it below 0.22, the loss of the best
# guess from one frame (the mean over all places of the bump, weighted by how well each explains the frame; 6,000 draws, ± 0.006):
# where all is noise, a frame alone says nothing about the place of its bump. The layers over time begin at 0.27 and pass both, to
# 0.12: frames that are clean, or less noisy, tell.

# %% [markdown] tags=["idea"]
# ## Going on from what is there
#
# The trained network draws in three ways. **Apart**: its layers over time are left out. **Together**: all frames from noise
# at once, at equal times. **One by one**: each frame from noise, behind the frames that are there, which are clean and have
# the time 0. The last two differ in nothing but the times that the network is told.
#
# One by one can go on for as long as you like, in a **window**: the network sees the last $w - 1$ frames and the new one, as
# many as it was trained with. What lies further back is forgotten. And each frame is built on frames that the network drew
# itself: small errors add up. This **drift** is the price.

# %% [markdown]
# $$x^{(f)} \;=\; \text{DDIM}\big(\varepsilon_f \;\big|\; x^{(f-w+1)}, \dots, x^{(f-1)}\big), \qquad f = 1, 2, \dots$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x^{(f)}$ | frame $f$; frame 0 is given, and there is none before it | (B, C, H, W) |
# | $\varepsilon_f$ | the noise that frame $f$ begins with | (B, C, H, W) |
# | $w$ | the window, 2 or more | number |

# %% [markdown] tags=["exercise-card"]
# And now the whole piece: the loop that makes a clip.
#
# {{exercise 14.5}}


# %% tags=["exercise"]
@exercise("14.5")
def film(denoiser, first, frames, window, levels, noises):
    """Clips (B, frames, C, H, W) that begin with first (B, C, H, W), each next frame drawn by DDIM.

    denoiser(x, level, before) gives (x0, eps) of one frame x (B, C, H, W), shown the frames before it, (B, M, C, H, W), the
    latest one last. Show the last window − 1 frames, or as many as there are; window is at least 2. levels fall from noise
    to data. Frame k, counted from 0 for the first, begins with noises(k), which has the shape of first.
    """
    ### BEGIN SOLUTION
    clip = first[:, None]
    for k in range(1, frames):
        x, before = noises(k), clip[:, 1 - window :]
        for now, next in zip(levels, levels[1:], strict=False):
            x0, eps = denoiser(x, now, before)
            x = float(next.alpha) * x0 + float(next.sigma) * eps
        clip = torch.cat([clip, x[:, None]], 1)
    return clip
    ### END SOLUTION


# %%
from diffusion_lessons.samplers import ddim_step, sample
from diffusion_lessons.targets import V

levels = path.levels(20)


def asking(network, over_time=True):
    """The network as a denoiser of all frames of x (B, F, …), shown those before it."""

    def guess(x, level, before):
        times = torch.full((len(x), x.shape[1]), float(level.t))
        clip, kept = torch.cat([before, x], 1), network.over_time
        network.over_time = kept if over_time else nn.ModuleList()
        with torch.no_grad():
            y = network(clip, torch.cat([torch.zeros(len(x), before.shape[1]), times], 1))
        network.over_time = kept
        return V.solve(y[:, before.shape[1] :], x, level)

    return guess


def by_frame(x, level, before):
    """The same for one frame, as `film` asks."""
    guess = asking(lines)(x[:, None], level, before)
    return guess.x0[:, 0], guess.eps[:, 0]


# %%
n = budget.samples(64)
noise = torch.randn(n, LENGTH, 1, 1, PIXELS, generator=generator).to(device)
truth = bumps(n)
toy = {
    "true clips": truth,
    "apart": sample(lambda x, level, _: asking(lines, False)(x, level, x[:, :0]), noise, levels),
    "together": sample(lambda x, level, _: asking(lines)(x, level, x[:, :0]), noise, levels),
    "one by one": film(by_frame, truth[:, 0], LENGTH, LENGTH, levels, lambda k: noise[:, k]),
}


def steps_of(clips):
    """How far the bump moves from frame to frame, (n, LENGTH − 1): from its mean direction on the circle."""
    angle = torch.arange(PIXELS) * 2 * torch.pi / PIXELS
    mass = ((clips[:, :, 0, 0].cpu() + 1) / 2).clamp(0) ** 2
    at = torch.atan2((mass * angle.sin()).sum(2), (mass * angle.cos()).sum(2)) * PIXELS / (2 * torch.pi)
    return (at.diff(dim=1) + PIXELS / 2) % PIXELS - PIXELS / 2


for name, clips in toy.items():
    steps = steps_of(clips)
    even, right = (each.double().mean() for each in ((steps.diff(dim=1).abs() < 1).all(1), steps.mean(1) > 0))
    print(f"{name:11} jitter {steps.diff(dim=1).square().mean().sqrt():.2f} pixels, ", end="")
    print(f"even motion in {even:.0%} of {n}, {right:.0%} go to the right")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 4, figsize=(8.6, 2.9))
for ax, (name, clips) in zip(axes, toy.items(), strict=True):
    rows = [torch.nn.functional.pad(clip[:, 0, 0].cpu(), (0, 0, 0, 1), value=1) for clip in clips[:5]]
    ax.imshow(torch.cat(rows).clamp(-1, 1), cmap="gray", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    ax.set(title=name, xlabel="pixel", yticks=[])
axes[0].set_ylabel("five clips, time down")
figure(
    fig,
    alt="Four panels, each with five clips of six lines. True clips and one by one: a bright bump that moves in a slanted line, in these "
    "five to the right. Apart: bumps that lie anywhere from line to line. Together: pieces of slanted lines, some faint, that break off.",
)

# %% [markdown]
# **What to notice:** each line is a frame, and time runs down, so even motion is a slanted stripe. Apart, every line is a good
# picture, and there is no stripe. One by one, most clips move evenly: the layers over time have learnt what no frame alone can
# show. (This way gets a true first frame, and asks the network five times as often; the other two get noise alone.)
#
# *Together* are the same weights, and most of those clips break. Is the training to blame, or the mask? We trained another network
# for this alone, with equal times and attention that sees all frames: 14 % moved evenly (n = 64, one training), against 12 % here.
# So neither seems to be to blame. Six unknown frames at once are a harder task than one behind known ones.

# %% [markdown] tags=["idea"]
# ## What time costs
#
# A clip of $F$ frames costs the picture network $F$ times as much as a picture. What the time axis adds depends on who looks
# at whom.
#
# **Joint** attention lets all $F \cdot N$ tokens look at all. It grows with the *square* of the number of frames, and the
# square of the number of places. **Factorised** attention has $N$ tokens look at $N$ in each frame, and $F$ look at $F$ at
# each place. The first part dominates: with 256 places and 8 frames, time adds 3 % to what space costs.
#
# Why then does anybody use joint attention? An object that moves is, in the next frame, at *another* place. Factorised
# attention finds it in two hops only: first something at this place has to hear of the object, in space, and then over time.

# %% [markdown]
# $$\text{joint} = N^2 P, \qquad \text{factorised} = F N^2 + N P, \qquad P = F^2 \text{ or } \tfrac12 F (F + 1) \text{ if causal}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $F, N$ | frames, and places of a frame (16 × 16 latents: 256) | numbers |
# | $P$ | pairs of frames in which the first may look at the second | number |

# %% [markdown] tags=["exercise-card"]
# {{exercise 14.6}}


# %% tags=["exercise"]
@exercise("14.6")
def attention_pairs(frames, places, causal):
    """How many pairs (who looks, what is looked at) there are for one head: {"joint": …, "factorised": …}, whole numbers.

    A clip has so many frames of so many places. causal: whether a frame sees itself and earlier ones only; inside a frame
    all places see all. Pairs that a mask hides are not counted. A frame's attention in space and a place's attention over
    time are counted each, with the place itself in both.
    """
    ### BEGIN SOLUTION
    over_time = frames * (frames + 1) // 2 if causal else frames**2
    return {"joint": places**2 * over_time, "factorised": frames * places**2 + places * over_time}
    ### END SOLUTION


# %% tags=["nbval-check-output"]
for frames in (1, 8, 16, 64):
    pairs = attention_pairs(frames, 256, False)
    print(f"{frames:3} frames: joint {pairs['joint']:>13,}, factorised {pairs['factorised']:>10,}, {pairs['joint'] / pairs['factorised']:.1f} times as many")

# %% [markdown]
# Numbers of pairs are one thing, the clock and the memory another. The recorded experiment (`diffusion-lessons experiment
# attention-over-frames`) runs both, written out and with PyTorch's fused attention, which never holds all scores at once.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

costs = recorded("attention-over-frames")
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.0))
for way, marker in (("joint", "o"), ("factorised", "s")):
    rows = [row for row in costs["rows"] if row["settings"]["way"] == way]
    lengths = [row["settings"]["frames"] for row in rows]
    axes[0].plot(lengths, [row["largest_bytes"] / 2**20 for row in rows], marker=marker, label=way)
    for kind, style in (("written", "-"), ("fused", "--")):
        axes[1].plot(lengths, [row[kind] for row in rows], style, marker=marker, label=f"{way}, {kind}")
    last = rows[-1]
    print(f"{lengths[-1]} frames, {way}: largest tensor {last['largest_bytes'] / 2**20:.0f} MiB, written {last['written']:.3f} s, fused {last['fused']:.3f} s")
for ax, what in zip(axes, ("largest tensor, MiB", "seconds a call"), strict=True):
    ax.set(xscale="log", yscale="log", xlabel="frames", ylabel=what)
    ax.set_xticks(lengths, [str(each) for each in lengths])
    ax.minorticks_off()
    ax.legend(fontsize=8)
print(f"median of {last['calls']} calls on {costs['hardware'].get('gpu') or costs['hardware']['processor']}")
figure(
    fig,
    alt="Two figures over the number of frames, 1 to 32, both axes logarithmic. Left, the largest tensor: joint rises twice as steeply "
    "as factorised, to 512 against 16 MiB. Right, seconds a call: joint is slower from 2 frames on, fused or not, and the gap grows.",
)

# %% [markdown]
# **What to notice:** written out, the largest tensor of joint attention is 16 times that of its factorised form at 16 frames: all pairs
# against those of the part in space. Fused, it needs no such tensor, but every pair is still computed, and the clock shows it.

# %% [markdown]
# ## Does it move as it was asked to?
#
# Back to the bundled model, `scenes-video`. Its layers over time are yours with more around them: heads, norms, linear layers, and
# the *text*. Which way a shape moves cannot be seen in one frame: the caption has to say it. So each layer over time hears the
# caption. Its first convolution sees the neighbours of a place in the frames before; then the text scales and shifts each
# channel (FiLM), and so chooses *which* neighbour is taken; a second convolution, 0 at first, puts it in.
#
# When does training learn the direction? The card of the model has a measure: the loss of a second frame with the *opposite*
# caption, minus the loss with the right one.

# %% jupyter={"source_hidden": true}
from dataclasses import replace

from diffusion_lessons.data.clips import STILL, draw_clips
from diffusion_lessons.data.dataset import as_float

some = draw_clips(1, torch.arange(96), "test", room=1.0)  # the clips that the card's measure is of
some = some[(some.motion != STILL).nonzero()[:24, 0]]
after = [replace(some, motion=torch.full_like(some.motion, k)).render(64, 2)[:, 1] for k in range(STILL + 1)]
with torch.no_grad():
    _, logvar = model.vae.moments(as_float(some.render(64, 2)[:, 1]).to(device))
    ways = torch.stack([model.vae.encode(as_float(each).to(device)) for each in after])  # (5, 24, 4, 16, 16)
    right, scale = model.vae.encode(as_float(some.render(64, 2)[:, 1]).to(device)), model.vae.config.scale
floor = float((logvar.exp() * scale**2).mean())  # latents are drawn around their mean
sigma2 = float(model.path(950.0).sigma) ** 2
guesses = {"the right frame": right, "mean over directions": 0.225 * ways[:STILL].sum(0) + 0.1 * ways[STILL], "the frame before": ways[STILL]}
for name, guess in guesses.items():
    guesses[name] = (float((guess - right).square().mean()) + floor) / sigma2
    print(f"t = 950, a guess that is {name}: loss {guesses[name]:.3f}")

# %% jupyter={"source_hidden": true}
log = zoo.card("scenes-video")["wrong_captions"]
at_step = [row["step"] for row in log]
with plain_lines():
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.8))
    for ax, ending, what in zip(axes, (", right", ""), ("loss", "loss more, told\nthe opposite"), strict=True):
        for time, style in ((950, "-"), (700, "--")):
            ax.plot(at_step, [row[f"frame 2 at {time}{ending}"] for row in log], style, label=f"t = {time}")
        ax.set(xlabel="training step", ylabel=what)
    for (name, value), place in zip(guesses.items(), ("top", "bottom", "bottom"), strict=True):
        axes[0].axhline(value, color="grey", lw=0.8)
        axes[0].text(at_step[-1], value, name, ha="right", va=place, fontsize=8)
    axes[0].set_ylim(0.12, 0.32)
    axes[1].legend()
print(f"t = 950, step {at_step[0]}: loss {log[0]['frame 2 at 950, right']:.3f}, told the opposite {log[0]['frame 2 at 950']:+.4f}")
print(f"t = 950, step {at_step[-1]}: loss {log[-1]['frame 2 at 950, right']:.3f}, told the opposite {log[-1]['frame 2 at 950']:+.4f}")
figure(
    fig,
    alt="Two figures over 1200 training steps, for t = 950 and 700. Left, the loss of the second frame: at 950 it falls from 0.236, just below "
    "the mean over directions, to 0.148, just above the right frame; at 700 it hardly falls. Right, what the opposite caption costs: nothing up to step 250, then it rises, at 950 to 0.275, at 700 to 0.047.",
)

# %% [markdown]
# **What to notice:** at step 122 the opposite caption costs nothing, and the loss is that of the *mean* over all directions: a blur. It
# is lower than that of repeating the frame before. Which direction it is, is learnt after that, from step 250 on, and the loss comes
# near to that of the right frame. (That is not 0: a latent is drawn around its mean, as in lesson 11, and this noise cannot be guessed.) It shows at
# t = 950, where the frame itself hardly tells where its object is. The loss alone would not have told you what was learnt. Is it FiLM
# that finds the direction? No: without it, with the text in attention alone, we saw 0.037 at step 293. (One run, stopped there.)
#
# Now your own `film` on this model, from four true first frames.

# %%
told = model.network.told({name: value.to(device) for name, value in model.prompts(texts).items()})
plain, walk = model.denoiser(), model.path.levels(8)
seen_on_the_way = []  # guesses, for the player below


@torch.no_grad()
def in_latents(x, level, before):
    """The model's guess of one frame, shown those before it."""
    guess = plain(x[:, None], level, {**told, "before": before})
    seen_on_the_way.append((x, guess.x0[:, 0]))
    return guess.x0[:, 0], guess.eps[:, 0]


def own_noise(k):
    """Noise for frame k."""
    return torch.randn(4, *model.shape[1:], generator=torch.Generator().manual_seed(k)).to(device)


with torch.no_grad():
    starts = model.vae.encode(true[:, 0].to(device))
    mine = film(in_latents, starts, 6, WINDOW, walk, own_noise)
    mine = model.pictures(mine).float().cpu().clamp(-1, 1)

# %% jupyter={"source_hidden": true}
strip(
    {text: coarse(clip) for text, clip in zip(texts, mine, strict=True)},
    alt="Four rows of six frames: in each a shape moves evenly in the direction that its caption says.",
    captions=[f"frame {k}" for k in range(6)],
    columns=6,
)

# %% [markdown]
# Is that motion the right one? The **reader** (lesson 11: a program that says what a picture shows) names the object of
# every frame and its place. A clip *moves as asked* if the object can be read in all frames and ends where it should, to a
# quarter of its way. *Jitter* is how much its step changes from frame to frame.

# %% tags=["experiment"]
shown = {"goes on": moving, "your film": mine, "apart": apart, "one frame held": true[:, :1].expand_as(true), "true clips": true}
for name, clips in shown.items():
    met = clips_met(to_uint8(clips.clamp(-1, 1)), texts)
    share, (low, high) = met["motion"]
    jitter = f"{met['jitter'][0]:.2f}" if met["jitter"][0] == met["jitter"][0] else "none readable"
    print(f"{name:15} moves as asked {share:.0%} ({low:.0%} to {high:.0%}), kept {met['kept'][0]:.0%}, jitter {jitter}")
print("n = 4 clips, 95 % intervals: see the recorded experiment for more")

# %% [markdown]
# Four clips leave wide intervals. The recorded experiment (`diffusion-lessons experiment clips-by-layers`) has more, and
# longer ones.

# %% jupyter={"source_hidden": true}
record = recorded("clips-by-layers")
names, shares = [], []
print(f"{'':28} {'moves as asked':>20} {'kept':>5} {'all right':>9} {'jitter':>6}")
for row in record["rows"]:
    how, met = row["settings"], row["met"]
    name = f"{how['way']}, window {how['window']}" if how["way"] in ("goes on", "together") else how["way"]
    name += f", {how['frames']} frames" if how["frames"] > FRAMES else ""
    share, low, high = met["motion"]
    names.append(name)
    shares.append((share, share - low, high - share))
    jitter = "none" if met["jitter"] is None else f"{met['jitter'][0]:.2f}"
    asked = f"{share:.0%} ({low:.0%} to {high:.0%})"
    print(f"{name:28} {asked:>20} {met['kept'][0]:5.0%} {met['everything'][0]:9.0%} {jitter:>6}")
print(f"n = {record['rows'][0]['n']} clips a row, 95 % intervals over clips; recorded on {record['hardware'].get('gpu') or record['hardware']['processor']}")
fig, axes = plt.subplots(1, 2, figsize=(9.0, 3.2))
middle, low, high = torch.tensor(shares).T.numpy()
axes[0].errorbar(middle, names, xerr=[low.clip(0), high.clip(0)], fmt="o", capsize=3)
axes[0].set(xlabel="moves as asked", xlim=(-0.05, 1.05))
axes[0].invert_yaxis()
longest = max(record["rows"], key=lambda row: row["settings"]["frames"])
counts, off, error = torch.tensor([[each if each is not None else float("nan") for each in row] for row in longest["drift"]]).T.numpy()
axes[1].errorbar(range(len(off)), off, 2 * error, capsize=3)
axes[1].set(xlabel="frame", ylabel="off its place, pixels of 64", ylim=0)
figure(
    fig,
    alt="Left, the share of clips that move as asked, with intervals: rendered 1, held 0, together 0.91, goes on with a window of 2 0.95 and with a "
    "window of 4 1, apart 0.19, from text 0.92, and 0.84 with a window of 4 over 16 frames. Right, how far the object is off its place over the frames: it rises from 0.8 pixels in frame 1 to 1.6 in frame 9, and is about 1.3 from frame 11 on.",
)

# %% [markdown]
# **The result**, read from the figures above. One training stands behind all rows; the intervals are over clips.
#
# - **Apart**: 19 % end where they should, by chance: an object that lies anywhere is sometimes near the right place. The frames are
#   those of the picture model (10 steps, guidance 2; frames that go on: 8 steps without guidance), and the object is the same in 97 % of the
#   clips. Its jitter, 58 pixels where a picture has 64, tells.
# - **Held**, a picture that stands still: no jitter, all objects kept, and nothing moves as asked. Smoothness alone proves nothing.
# - **Goes on**, one frame at a time: all 100 clips move as asked, and the object is off by one pixel in the mean. With a window of
#   2, where only the caption tells the way, it is off by two pixels, and 5 of 100 clips end too far off.
# - **Together**, three frames at a time behind one: 91 of 100, and in 4 the object is lost. That is less than one at a time behind
#   three (100). One at a time behind one, too, is the window of 2: 95 of 100, and the intervals overlap. So the frames that are
#   seen may count for more here than how many are drawn at once. Together takes 24 calls of the network, one at a time 56.
# - **Drift**: over 16 frames the error grows from 0.8 pixels to 1.6 in frame 9. Then come the losses: 3 of 100 objects cannot be
#   read up to frame 9, 13 up to frame 11, 16 at the end. That is where objects come to the edge, at which they should stop: 45 in
#   frame 8, 98 by frame 11. In training 15 % of the clips showed this. The later errors are those of clips that can still be read,
#   and there most objects stand still: they are no sign that the drift ends. "Ends where it should" is also looser here, a quarter
#   of 60 pixels and not of 28: all 84 clips that can be read pass.
# - **From text**, the first frame drawn, too: 92 of 100 move as asked, and in 6 the object is lost. The edge is a likely reason here as
#   well: a drawn object begins anywhere.
#
# **Published**: Ho et al. (*Video Diffusion Models*, table 4) trained on clips with 0, 4 or 8 single pictures more beside each: FVD
# (a Fréchet distance over features of clips; smaller is better) 202, 68 and 58. When 64 frames are drawn in parts that have to fit,
# replacing known frames, as in lesson 15, gives an FVD of 451, and a gradient that pulls them together 136.

# %% [markdown] tags=["play"]
# ## Play
#
# Two sliders: the frame, and the time $t$ inside the drawing of that frame. The first panel is what the sampler holds,
# decoded; the second is the guess. Go to t = 1000, where $x$ is nothing but noise, and move along the frames. From which $t$ on does
# the guess know where the object will be? Compare with the first panels of lesson 11, where at t = 1000 nothing was known.

# %% jupyter={"source_hidden": true}
at, drawn_frames = len(walk) - 1, 5


def decoded(latents):
    """All guesses or samples of the first clip, decoded: (times·frames, C, H, W), frames fastest."""
    each = torch.stack(latents)[:, 0].unflatten(0, (drawn_frames, at)).transpose(0, 1)[::2]  # (times, frames, …)
    with torch.no_grad():
        return coarse(model.vae.decode(each.flatten(0, 1).to(device)).float().cpu())


scrub(
    {"x, decoded": decoded([x for x, _ in seen_on_the_way]), "the guess, decoded": decoded([x0 for _, x0 in seen_on_the_way])},
    axes={"t": [f"{float(level.t):.0f}" for level in walk[:-1:2]], "frame": range(1, drawn_frames + 1)},
    alt="A clip at four times and five frames. What the sampler holds is noise at t = 1000, and at t = 250 a purple circle with rags around "
    "it. The guess shows the circle at its new place at all times, with a soft edge at t = 1000.",
    title="Inside the drawing of each frame",
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your functions against the package's, and the package's layers against those of diffusers, if that is installed.

# %%
import importlib.util

from diffusion_lessons.experiments.attention_over_frames import scores
from diffusion_lessons.networks import video
from diffusion_lessons.networks.video import ToldClip, VideoUNetConfig

print("the mask:        equal", bool((frames_seen(3, 7) == video.causal_mask(7)[-3:]).all()))
print("pairs:           equal", scores("joint", 8, 256) == attention_pairs(8, 256, False)["joint"])
series = torch.randn(6, 8, 2, 2, generator=generator)
kernel, bias = torch.randn(8, 8, 3, generator=generator), torch.randn(8, generator=generator)
near = video.neighbours(series.unflatten(0, (2, 3)), causal=True).flatten(0, 1)
theirs = series + nn.functional.conv2d(near, kernel.transpose(1, 2).flatten(1)[:, :, None, None], bias)
print(f"the convolution: {(convolve_over_time(series, 3, kernel, bias) - theirs).abs().max():.0e}")
if importlib.util.find_spec("diffusers"):
    from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

    config = VideoUNetConfig(widths=(16,), attention=(True,), heads=(2,), context=16, groups=8, causal=False, places=False, told=False)
    reference = TransformerTemporalModel(2, 8, in_channels=16, norm_num_groups=8).eval()
    layer = video.TemporalTransformer(config, 16, 2).eval()
    nn.init.normal_(reference.proj_out.weight)  # zeros would hide what differs
    layer.load_state_dict(reference.state_dict())
    x = torch.randn(6, 16, 4, 4, generator=generator)
    none = torch.zeros(2, 1, 16)
    with torch.no_grad():
        gap = layer(x, ToldClip(none, none, None, config, 3, none)) - reference(x, num_frames=3).sample
    print(f"diffusers' transformer over time: {gap.abs().max():.0e}")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks | seen in |
# |---|---|---|
# | reshape to (…, channel, frame) for (…, frame, channel) | stripes; frames share channels | diffusers#5496, #5633 |
# | no permute before the reshape | frames and channels mixed; trains, badly | Open-Sora-Plan#171, OmniTokenizer |
# | (h w b) in the place of (b h w) | right with one clip, wrong from the second on | diffusers#7268 |
# | attention without frame positions | shuffled frames give shuffled clips: no direction of time | diffusers#4568 |
# | the last layer over time not zero at first | the picture model is spoilt before training begins | diffusers' `AnimateDiffTransformer3D`, as it is made |
# | boolean mask turned round: True means "may look" in PyTorch's fused attention | NaN in the last frame; all others see the future | LLMs-from-scratch#1061 |
# | `is_causal=True` with fewer queries than keys | new frames see the oldest alone | PyTorch: aligned at the top left |
# | causal padding one frame short under stride 2 | frame $k$ changes outputs before $k$ | magvit2#27 |
# | clean frames told the noisy time | the first frame is ignored | FastGen#26 |
# | target made from another noise than the input | first frames torn | DiffSynth#1175 |
# | trained on clean frames alone, run on its own | errors grow from frame to frame | diffusion-forcing#28 |
# | GroupNorm over the whole clip in a causal model | the statistics tell of later frames | first tries of one's own |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "How do video diffusion models extend image models, and what makes them expensive?",
    "A clip is a batch of frames for the image network. Between its layers come layers over time, attention "
    "of each place over the frames and convolutions, which start as the identity. So the model draws as "
    "before at first, and the image weights can stay frozen.\n\n"
    "To go on from given frames, attention over time is causal, and in training each frame gets its own "
    "noise level.\n\n"
    "Cost: every frame costs an image. Factorised attention adds N·F² to F·N²; joint attention costs "
    "(F·N)², and large models pay it.",
    [
        (
            "Why not inflate 2-D kernels to 3-D ones and train all?",
            "It can be done: a 3-D kernel with the 2-D weights in its middle slice and 0 elsewhere starts as the same network. It costs three times "
            "the work, and training all weights on few clips loses what the images taught. Separate layers over time can be taken out again.",
        ),
        (
            "Why must the last weight be 0, but not all weights?",
            "With the last weight 0 the layer adds nothing. Its gradient is what comes before it, which is not 0, so it learns in the first step. If "
            "the layer before were 0 as well, both gradients would be 0 for ever.",
        ),
        ("What does a causal mask give besides going on frame by frame?", "Features of earlier frames do not depend on later ones, so keys and values can be kept. Drawing a frame then costs one frame, not a window."),
        (
            "Where does drift come from, and what helps?",
            "In training frames before are true; when drawing they are the model's own. Errors feed errors. Noising the context a little in training "
            "(each frame its own level) teaches the model to mistrust it a little; longer windows and a kept first frame help as well.",
        ),
        (
            "Factorised attention is cheap. What does it lose?",
            "A place sees only itself in other frames, so a moving object is found through what attention in space has brought there: two hops. "
            "Convolutions that reach neighbours help with small steps, joint attention in windows with larger ones.",
        ),
        (
            "How do you measure motion?",
            "Frame by frame metrics are blind: frames drawn apart score perfectly. Track objects or optical flow, compare features of a video network (FVD), "
            "and put beside it a clip that stands still: it has no flicker at all.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "A layer over time works on (B·H·W, F, C). What is its batch?",
        [
            Choice("the clips", False, "Clips alone would be B. Every place of a clip has a sequence of its own."),
            Choice("all frames of all clips", False, "That is the batch of the picture network, B·F."),
            Choice("all places of all clips", True, "For each of them the same place in all frames is one sequence."),
        ],
    ),
    Question(
        "Frames 0 to 2 are clean, frame 3 is drawn at t = 700. Which times is the network told?",
        [
            Choice("700 for all", False, "Then it takes clean frames for noisy ones, and learns to ignore them."),
            Choice("175, the mean", False, "No frame has that level."),
            Choice("0, 0, 0, 700", True, "Each frame its own time."),
        ],
    ),
    Question(
        "You double the number of frames, from 16 to 32, at 256 places. What happens to the pairs of joint and of factorised attention?",
        [
            Choice("four times, and a little more than twice", True, "(2F)² is four times F²; of F·N² + N·F² the first part is the larger by far."),
            Choice("both four times", False, "The part in space, F·N², is most of the factorised one, and it doubles."),
            Choice("both twice", False, "Joint attention grows with the square."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Frames drawn apart have an excellent FID. Why is the clip bad?",
        [
            Choice("FID looks at frames one at a time", True, "It is blind for order. Shuffle the frames of true clips: the FID does not change."),
            Choice("the FID was measured with too few frames", False, "More frames would not help: every one of them is a good picture."),
            Choice("FID does not look at colour", False, "It does."),
        ],
    ),
    Question(
        "A causal convolution over three frames: where does the padding go?",
        [
            Choice("one frame of zeros on each side", False, "Then every frame sees the next one."),
            Choice("two frames of zeros before the first", True, "Each frame sees itself and two before."),
            Choice("nowhere: the clip gets shorter", False, "Then the residual x + … has another length."),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Ho et al. 2022, *Video Diffusion Models*, arXiv 2204.03458: section 3, factorised space–time U-Net.
# - Blattmann et al. 2023, *Align your Latents*, arXiv 2304.08818: section 3.1, layers over time behind frozen ones.
# - Wang et al. 2023, *ModelScope Text-to-Video Technical Report*, arXiv 2308.06571: section 4.2, the blocks of our network.
# - Guo et al. 2023, *AnimateDiff*, arXiv 2307.04725: section 4.2, a motion module whose last layer starts at zero.
# - Chen et al. 2024, *Diffusion Forcing*, arXiv 2407.01392: algorithm 1, a noise level for each frame.
# - Perez et al. 2018, *FiLM*, arXiv 1709.07871: section 2, scaling and shifting features by a text.
#
# A clip goes on from frames that are known. What if a picture is known, but for a hole in it? {{lesson 15}}
