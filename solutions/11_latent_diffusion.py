# %% [markdown] tags=["header"]
# title: Latent diffusion
# question: Why do large models diffuse in the latents of an autoencoder, and what does that save?
# difficulty: 2
# prerequisites: 02, 05, 06, 08
# builds: Vae, VaeConfig, networks.vae

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - draw latents so that gradients pass, and say how far they are from N(0, I) (exercises 11.1 and 11.2)
# - write the training of an autoencoder, and say what the weight of its divergence decides (exercise 11.3)
# - bring latents to the size that the noise schedule expects, and find a scale that acts twice (exercises 11.4 and 11.5)
# - say what latents save in one step, and when the autoencoder has paid for itself (exercise 11.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# A bundled model draws three pictures from captions (it is a closed box here: {{built-in 16}}). Move the slider from noise to
# data. The first row is what the sampler *holds*: four small grey maps for each picture. The second row is what a
# second network, the **decoder**, makes of them. The third row is the decoded guess $\hat x_0$.

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.generate import walk

model = zoo.load("scenes-text").on(device)
vae = model.vae
captions = ["a large red circle", "three small green triangles", "two large purple circles"]
told = {name: value.to(device) for name, value in model.prompts(captions).items()}
noise = torch.randn(3, *model.shape, generator=generator).to(device)  # (3, 4, 16, 16)
points = list(walk(model, told, noise, steps=20, precision="float32"))


# %% jupyter={"source_hidden": true}
def beside(pictures):
    """Pictures (B, C, H, W) as one, side by side."""
    return torch.cat(list(pictures), -1)


def maps(latents):
    """Latents (B, 4, 16, 16) as grey pictures (B, 1, 64, 64): four maps in two rows, each value twice as wide."""
    tiles = latents.view(-1, 2, 2, 16, 16).permute(0, 1, 3, 2, 4).reshape(-1, 1, 32, 32)
    return (tiles / 3).clamp(-1, 1).repeat_interleave(2, -1).repeat_interleave(2, -2)


def coarse(x):
    """Fewer shades, so that the notebook stays small."""
    return ((x.detach().cpu().clamp(-1, 1) * 8).round() / 8).float()


shown = [0, 5, 8, 11, 14, 17, 20]
with torch.no_grad():
    panels = {
        "latents": torch.stack([beside(coarse(maps(points[i][1]))) for i in shown]),
        "decoded": torch.stack([beside(coarse(vae.decode(points[i][1]))) for i in shown]),
        "x̂₀, decoded": torch.stack([beside(coarse(vae.decode(points[i][2].x0))) for i in shown]),
    }
scrub(
    panels,
    [points[i][0] for i in shown],
    alt="From noise to three pictures, in three rows. Latents: four small maps for each picture, grey noise at first; at the "
    "end two of the four show the shapes, and two are noise still. Decoded: coloured specks that turn into a red circle, "
    "three green triangles and two purple circles. The decoded guess: pale blobs in wrong colours at t = 1000, the right "
    "shapes and colours from t = 750 on, with the purple circles ragged at first.",
    title="Scrub from noise to data",
    columns=4,
)

# %% [markdown]
# The diffusion model never sees a pixel. It works on 4 × 16 × 16 = 1,024 numbers, and the picture has 3 × 64 × 64 = 12,288. The
# decoder is needed once, at the end. Stable Diffusion does the same with 512 × 512 pixels and latents of 4 × 64 × 64.

# %% [markdown] tags=["guess"]
# ## Guess
#
# Your model of 64 × 64 pixels works. Now pictures of 512 × 512 are wanted: 64 times as many pixels, and attention over all
# of them would cost 4,096 times as much. You have the same machine. **How would you do it?** Take two minutes before you
# unfold.
#
# <details><summary>What can be said</summary>
#
# - *Draw small, then enlarge*, with a second diffusion model that adds detail (a **cascade**: DALL·E 2, Imagen). It works. Each
#   stage is a network of its own, and the last one still works on all pixels.
# - *Shrink the data*, and enlarge the samples by interpolation. Cheap, and the detail is gone: you measure it below.
# - *Fold squares of pixels into channels*, as lesson 6 does. Each step gets cheaper and nothing is lost. But the model still has
#   to draw every pixel. You measure this, too.
# - *Compress first.* Train a network that turns a picture into few numbers, and one that turns them back. Do it once. Then
#   diffuse the few numbers. This is latent diffusion.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# The latents have a quarter of the height and width of the picture, and 4 channels in place of 3: 12 times fewer numbers.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "The same U-Net, once on 3 × 64 × 64 pixels, once on 4 × 16 × 16 latents. How many times fewer FLOPs does the second need?",
    [
        Choice("4 times: a quarter of the side", False, "Height and width both shrink, so 4 · 4 at least."),
        Choice(
            "12 times: so many fewer numbers",
            False,
            "The channels of the picture matter in the first and the last layer only.",
        ),
        Choice(
            "16 times or more",
            True,
            "A convolution costs the same at each place, and there are 16 times fewer. Attention compares all places "
            "with each other, so it falls 256 times.",
        ),
        Choice(
            "it depends on the autoencoder",
            False,
            "The autoencoder is not part of a step. It costs once, before and after.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Most of a picture is detail
#
# To draw a scene a model has to decide what stands where. That is little information. Most of the 12,288 numbers say
# something else: that the background goes on being grey, that an edge is smooth. Such detail is cheap to describe and easy to
# restore, so a small network can do it *once*, and diffusion need not do it in every step.
#
# An **autoencoder** is two networks. The encoder $E$ makes latents, the decoder $D$ makes the picture again. Rombach et al.
# train them first and then leave them as they are.
#
# What is lost on the way is lost for good: **no model in these latents can draw better than the decoder.** So we measure this
# ceiling first, beside two simple ways to keep as many numbers.

# %% [markdown]
# $$z = E(x), \qquad \hat x = D(z) \approx x$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x, \hat x$ | picture, and what comes back | (B, 3, 64, 64) |
# | $z$ | its latents | (B, 4, 16, 16) |
# | $f$ | factor by which height and width shrink; 4 here, 8 in Stable Diffusion | number |
#
# The **reader** is a program, not a network, that says what a picture of a scene shows. It cuts out what differs from the
# background, takes the nearest colour, and compares each piece with all shapes of its size. It sees each picture after the round trip, and has to name all colours, shapes, sizes and the relation. PSNR is the squared error in decibels: 10 dB
# more are a tenth of the error.

# %%
from torch.nn import functional as F

from diffusion_lessons.data import captions as grammar
from diffusion_lessons.data.dataset import to_float, to_uint8
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.metrics.captions_met import captions_met

n = budget.samples(128)
scenes = draw(0, torch.arange(n), "test")
pictures = to_float(scenes.render(64))  # (n, 3, 64, 64)
truth = grammar.captions(scenes, 0, torch.arange(n), unsized=0)
with torch.no_grad():
    latents = vae.encode(pictures.to(device))  # (n, 4, 16, 16)
    back = {"autoencoder": vae.decode(latents).cpu()}

# %% jupyter={"source_hidden": true}
# As many numbers without a network: pictures of 18×18, and the best linear code of 4 numbers for 4×4 pixels.
small = F.interpolate(pictures, (18, 18), mode="bicubic", antialias=True)
back["shrunk to 18×18"] = F.interpolate(small, (64, 64), mode="bicubic")
squares = F.unfold(pictures, 4, stride=4).transpose(1, 2)  # (n, 256, 48)
middle = squares.mean((0, 1))
_, _, directions = torch.linalg.svd((squares - middle).flatten(0, 1)[::7], full_matrices=False)
four = (squares - middle) @ directions[:4].T  # (n, 256, 4)
back["linear, 4 of 48"] = F.fold((four @ directions[:4] + middle).transpose(1, 2), 64, 4, stride=4)

# %%
for name, made in back.items():
    psnr = 10 * torch.log10(4 / (made - pictures).square().mean())
    share, (low, high) = captions_met(to_uint8(made), truth)["everything"]
    numbers = 3 * 18 * 18 if "18" in name else 4 * 16 * 16
    print(
        f"{name:16} {numbers} numbers, {psnr:.1f} dB, read right {share:.0%} "
        f"(95 % interval {low:.0%} to {high:.0%})"
    )
print(f"n = {n} scenes that no training has seen")

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

card_of_reader = recorded("reader-accuracy")
for row in card_of_reader["rows"]:
    if row["settings"]["size"] == 64:
        shares = ", ".join(f"{what} {row[what][0]:.1%}" for what in ("right", "refused", "wrong"))
        print(f"the reader itself, {row['settings']['damage']:14}: {shares}")
print(f"n = {card_of_reader['options']['n']} rendered scenes of 64×64, recorded")
some = [0, 3, 5, 6, 9, 11]
strip(
    {"original": coarse(pictures[some]), **{name: coarse(made[some]) for name, made in back.items()}},
    alt="Six scenes in four rows: original; autoencoder, hardly to be told from it; shrunk to 18×18 and enlarged, with "
    "blurred edges and rounded corners; linear code, with steps and coloured fringes along the edges.",
    columns=6,
)

# %% [markdown]
# **What to notice:** with as many numbers the shrunk pictures lose their corners, and the linear code breaks up the edges. The
# autoencoder keeps both. It has learnt what scenes look like, and spends its numbers on what it cannot guess. The price: on
# other pictures (faces, text) it would fail. And even a good one has a limit: what is smaller than one place of the latents
# (small letters, distant faces) comes back wrong. Stable Diffusion is known for this.

# %% [markdown] tags=["idea"]
# ## A cloud, not a point
#
# A plain autoencoder may put its latents anywhere. Two pictures that look alike may be far apart, and a point between them may
# decode to nothing. A diffusion model makes small errors, so it needs a decoder that forgives them.
#
# The **variational** autoencoder (VAE) answers with a cloud: for each picture a mean and a variance of each latent number. The
# decoder is trained on *draws*. So all points of a cloud must decode to nearly the same picture.
#
# If nothing stopped it, the encoder would make the variance zero and be a plain one again. A second term stops it: the
# divergence from $\mathcal N(0, I)$, with a small weight β. It also keeps the latents of all pictures near 0. With a large
# weight it would press all clouds into one, and the pictures would be lost.

# %% [markdown]
# $$L = \underbrace{|\hat x - x| + 2\,(\hat x - x)^2}_{\text{mean over the entries of a picture}} + \beta\,\frac{\mathrm{KL}}{3HW}, \qquad
# \mathrm{KL} = \tfrac12\sum\big(m^2 + s^2 - 1 - \log s^2\big), \qquad z = m + s\,\varepsilon$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $m, \log s^2$ | mean and log-variance from the encoder | (B, 4, h, w) each |
# | $\varepsilon$ | noise from N(0, 1) | (B, 4, h, w) |
# | KL | divergence in nats, a **sum** over one picture's latents | (B,) |
# | $\beta$ | its weight; 0.004 here | number |
#
# The draw is written as arithmetic on $m$ and $s$, with the noise from outside. So gradients reach the encoder: this is the
# **reparameterisation trick**. Published training adds two terms against blur on photographs: a **perceptual** distance
# (between the features of a trained classifier) and a discriminator. Flat scenes need neither.

# %% [markdown] tags=["exercise-card"]
# {{exercise 11.1}}


# %% tags=["exercise"]
@exercise("11.1")
def draw_latents(mean, logvar, noise):
    """Latents (B, C, h, w) drawn from the normal distribution of each entry.

    mean: its mean; logvar: the natural logarithm of its variance; noise: N(0, 1); all (B, C, h, w).
    """
    ### BEGIN SOLUTION
    return mean + (logvar / 2).exp() * noise
    ### END SOLUTION


# %% [markdown] tags=["exercise-card"]
# {{exercise 11.2}}


# %% tags=["exercise"]
@exercise("11.2")
def kl_of_pictures(mean, logvar):
    """The divergence of each picture's latents from N(0, I), in nats: (B,).

    mean, logvar: (B, C, h, w), mean and log-variance of each latent number.
    """
    ### BEGIN SOLUTION
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3))
    ### END SOLUTION


# %%
# What the bundled encoder makes of the scenes, channel by channel.
with torch.no_grad():
    mean, logvar = vae.moments(pictures.to(device))
for channel in range(4):
    m, log = mean[:, channel : channel + 1], logvar[:, channel : channel + 1]
    kl = kl_of_pictures(m, log).mean()
    flat = latents.clone()
    flat[:, channel] = flat[:, channel].mean()
    with torch.no_grad():
        psnr = 10 * torch.log10(4 / (vae.decode(flat).cpu() - pictures).square().mean())
    print(
        f"channel {channel}: means spread {m.std():.2f}, own deviation {(log / 2).exp().mean():.2f}, "
        f"KL {kl:5.0f} nats; held constant, {psnr:.1f} dB"
    )

# %% [markdown]
# A surprise, which the first row at the start has shown: two of the four channels hold nearly nothing. Their clouds are nearly N(0, 1), and you may set them to a constant
# without a visible loss. The divergence has switched them off: flat scenes do not need four numbers a place. (For photographs
# they are needed: models later than Stable Diffusion have 16.)
#
# Now your own autoencoder, for crops of 32 × 32 pixels with a single object. First the data and the networks: a few
# convolutions each.

# %%
from torch import nn

from dataclasses import replace

from diffusion_lessons.data.scenes import ONE
from diffusion_lessons.data.shapes import RADII, REACH

many = draw(1, torch.arange(budget.samples(24_000)))
alone = many[many.form == ONE]
edge = (REACH * torch.tensor(RADII)[alone.large] + 1)[..., None]  # how near to the border a centre may lie
chance = torch.rand(alone.place.shape, generator=generator)
cut = replace(alone, place=edge + chance * (32 - 2 * edge)).render(64)[..., :32, :32]
singles = to_float(cut).contiguous().to(device)  # (about 2,400, 3, 32, 32)


# %%


def conv(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def autoencoder():
    """Two networks: pictures (B, 3, 32, 32) to (B, 8, 8, 8), means and log-variances; latents back."""
    torch.manual_seed(0)
    down = [nn.PixelUnshuffle(2), conv(12, 32), nn.SiLU(), conv(32, 64, 2), nn.SiLU()]
    encoder = nn.Sequential(*down, conv(64, 64), nn.SiLU(), conv(64, 8))
    up = [nn.Upsample(scale_factor=2), conv(64, 32), nn.SiLU(), conv(32, 12), nn.PixelShuffle(2)]
    decoder = nn.Sequential(conv(4, 64), nn.SiLU(), conv(64, 64), nn.SiLU(), *up)
    return encoder.to(device), decoder.to(device)


# %% [markdown] tags=["exercise-card"]
# And now the whole piece: the loop that trains both.
#
# {{exercise 11.3}}


# %% tags=["exercise"]
@exercise("11.3")
def train_autoencoder(encode, decode, optimizer, draw, watched, kl_weight):
    """Train an autoencoder; returns the list of (error, divergence), two floats for each step.

    encode(x) gives mean and logvar, decode(latents) pictures; optimizer holds the weights of both. draw()
    gives x and noise for one step: pictures (B, C, H, W), and noise like their latents. watched: loop over
    it, one training step each, and give each loss to watched.tell(loss). error: the mean over all entries of
    |x̂ − x| + 2·(x̂ − x)²; divergence: the mean of your kl_of_pictures over the batch. The loss is the error
    plus kl_weight times the divergence over the number of entries of one picture.
    """
    ### BEGIN SOLUTION
    history = []
    for _ in watched:
        x, noise = draw()
        mean, logvar = encode(x)
        difference = decode(draw_latents(mean, logvar, noise)) - x
        error = (difference.abs() + 2 * difference.square()).mean()
        kl = kl_of_pictures(mean, logvar).mean()
        loss = error + kl_weight * kl / x[0].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watched.tell(loss)
        history.append((error.item(), kl.item()))
    return history
    ### END SOLUTION


# %%
from diffusion_lessons.course import Watched


def some_singles():
    """A batch of pictures, and noise like their latents."""
    index = torch.randint(len(singles), (32,), generator=generator).to(device)
    return singles[index], torch.randn(32, 4, 8, 8, generator=generator).to(device)


trained, histories = {}, {}
for weight in (0.0, 0.004, 0.5):
    encoder, decoder = autoencoder()
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 2e-3)

    def encode(x):
        return encoder(x).chunk(2, 1)

    watched = Watched(budget.steps(250))
    histories[weight] = train_autoencoder(encode, decoder, optimizer, some_singles, watched, weight)
    trained[weight] = encoder.eval(), decoder.eval()

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course.widgets import plain_lines

import matplotlib.pyplot as plt

with plain_lines():
    fig, axes = plt.subplots(1, 2, figsize=(8.0, 2.8))
    for weight, history in histories.items():
        error, kl = torch.tensor(history).T
        axes[0].plot(error, label=f"β = {weight:g}")
        axes[1].plot(kl, label=f"β = {weight:g}")
    axes[0].set(xlabel="training step", ylabel="error", yscale="log")
    axes[1].set(xlabel="training step", ylabel="KL, nats a picture", yscale="log")
    axes[0].legend()
figure(
    fig,
    alt="Two figures over the training steps, each for β = 0, 0.004 and 0.5. Left: the error falls in all three. "
    "Right: the divergence rises to about 1,600 nats with β = 0, to a quarter less with 0.004, and to about 200 with 0.5.",
)

# %%
decoded = {"original": coarse(singles[:8])}
for weight, (encoder, decoder) in trained.items():
    with torch.no_grad():
        m, log = encoder(singles[:256]).chunk(2, 1)
        clouds = draw_latents(m, log, torch.randn(m.shape, generator=generator).to(device))
        psnr = 10 * torch.log10(4 / (decoder(clouds) - singles[:256]).square().mean())
    decoded[f"β = {weight:g}"] = coarse(decoder(m[:8]))
    print(
        f"β = {weight:<5g}: KL {kl_of_pictures(m, log).mean():5.0f} nats a picture, means spread {m.std():.2f}, "
        f"own deviation {(log / 2).exp().mean():.2f}, decoded {psnr:.1f} dB"
    )
strip(
    decoded,
    alt="Eight pictures with one object in four rows: original; decoded after training with β = 0 and 0.004, soft but with "
    "their shapes and colours; with β = 0.5, a little softer.",
    columns=8,
)

# %% [markdown]
# **What to notice:** without the divergence the clouds are narrow (a deviation of about 0.05 beside means that spread 2), and a
# picture holds about 1,600 nats. β = 0.004 takes about a quarter of them, at no loss here. β = 0.5 takes most of them: the
# clouds are more than half as wide as the means spread, and the pictures lose about 1 dB. After so few steps all pictures are
# soft. The bundled autoencoder had 8 times the steps, and twice the batch.

# %% [markdown] tags=["idea"]
# ## One number: the scale
#
# A noise schedule is made for data of standard deviation 1 or a little less. Pictures in [−1, 1] are such data. Latents may
# have any size: the encoder chose it. Those of Stable Diffusion are about 5.5 wide.
#
# What happens to latents that are too large? At the same $t$ they hold more signal, so most levels are nearly clean, and the
# few that decide what stands where are passed in a few steps. Too small, and they drown in noise from the first level on.
#
# The cure is one number. Draw latents of many pictures, measure their standard deviation and divide by it. The factor is
# stored with the autoencoder; Stable Diffusion's is 0.18215. After sampling, divide by the factor, and then decode.

# %% [markdown]
# $$x_t = \alpha_t\, s z + \sigma_t\,\varepsilon, \qquad s = \frac{1}{\operatorname{std}(z)}, \qquad
# \mathrm{SNR}_t = \frac{\alpha_t^2}{\sigma_t^2}\, s^2 \operatorname{std}(z)^2$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $z$ | latents as the encoder makes them, drawn | (N, 4, h, w) |
# | $s$ | the scale, one number for all pictures, channels and places | number |
# | $x_t$ | what the diffusion model sees at time $t$ | (B, 4, h, w) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 11.4}}


# %% tags=["exercise"]
@exercise("11.4")
def scaled_latents(mean, logvar, noise):
    """Latents with a standard deviation of 1, and the number they were multiplied by: the pair (latents, scale).

    mean, logvar, noise: (N, C, h, w), as for draw_latents, of N pictures, and not to be changed. The standard
    deviation is that of the drawn latents, over all their entries together. scale: a float or a 0-d tensor.
    """
    ### BEGIN SOLUTION
    latents = draw_latents(mean, logvar, noise)
    scale = 1 / latents.std()
    return scale * latents, scale
    ### END SOLUTION


# %%
path = model.path
drawn, scale = scaled_latents(mean, logvar, torch.randn(mean.shape, generator=generator).to(device))
print(f"the bundled encoder: scale {scale:.3f}, stored {vae.config.scale:.3f} (measured on other scenes)")

# %% tags=["nbval-check-output"]
times = [100, 300, 500, 700, 850, 950]
eps, rows = torch.randn(1, 4, 16, 16, generator=generator).to(device), {}
for size in (0.2, 1.0, 5.0):
    alike = [t for t in range(1, 1001) if path(t).alpha * size > path(t).sigma]
    print(f"latents of standard deviation {size:g}: more signal than noise up to t = {alike[-1]}")
    noisy = [path(t).alpha * size * latents[6:7] + path(t).sigma * eps for t in times]
    with torch.no_grad():  # what is left of the picture: brought to the size that the decoder knows
        rows[f"std {size:g}"] = torch.cat(
            [vae.decode((x / path(t).alpha / size).float()) for t, x in zip(times, noisy, strict=True)]
        )

# %% jupyter={"source_hidden": true}
strip(
    {name: coarse(made) for name, made in rows.items()},
    alt="A yellow triangle and a red circle, noised in their latents at t = 100 to 950 and decoded, in three rows. Standard "
    "deviation 0.2: ragged at t = 100, lost among specks from 300 on. Standard deviation 1: clean at 100, lost at about 700. "
    "Standard deviation 5: clean up to 700, and still to be seen at 950.",
    captions=[f"t = {t}" for t in times],
    columns=6,
)

# %% [markdown]
# **What to notice:** the same times, the same noise; only the size of the latents differs. The first row has lost the scene at
# once, the last one keeps it nearly to the end. A model of such latents can be trained, and its loss looks normal. But most of
# its times teach next to nothing.

# %% [markdown] tags=["exercise-card"]
# The scale has a second trap: somebody has to divide by it, and *one* only. A colleague's sampler:
#
# {{exercise 11.5}}


# %% tags=["exercise"]
from itertools import pairwise


@exercise("11.5")
def draw_pictures(denoiser, vae, noise, levels):
    """Pictures from noise: DDIM steps in the latents, down the levels, and then the decoder, once for each picture.

    denoiser(x, level) gives the pair (x0, eps); noise: (B, C, h, w), at levels[0]; levels: falling to t = 0, each
    with alpha and sigma. vae.decode(z): pictures of scaled latents z, as the diffusion model was trained on;
    vae.config.scale: by which the latents of the encoder were multiplied. Nothing is clipped here.
    """
    ### BEGIN SOLUTION
    x = noise
    for now, after in pairwise(levels):
        x0, eps = denoiser(x, now)
        x = (after.alpha * x0 + after.sigma * eps).to(noise.dtype)
    return vae.decode(x)
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "All the shapes are right. But I ask for purple and get green."
    # x = noise
    # for now, after in pairwise(levels):
    #     x0, eps = denoiser(x, now)
    #     x = (after.alpha * x0 + after.sigma * eps).to(noise.dtype)
    # return vae.decode(x / vae.config.scale)
    ### END STUDENT


# %%
from diffusion_lessons.guidance import ClassifierFreeGuidance

guided = ClassifierFreeGuidance(model.denoiser(), 2.0)
z = points[-1][1]  # the latents at the end of the walk that opened the lesson
with torch.no_grad():
    yours = draw_pictures(lambda x, level: guided(x, level, told), vae, noise, path.levels(20))
    outcomes = {
        "your sampler": yours,
        "divided twice": vae.decode(z / vae.config.scale),
        "never divided": vae.decode(z * vae.config.scale),
    }

# %% jupyter={"source_hidden": true}
strip(
    {name: coarse(made) for name, made in outcomes.items()},
    alt="The three pictures of the start in three rows. Your sampler: red circle, green triangles, purple circles. Divided "
    "twice: a dark red circle, nearly black triangles, green circles. Never divided: an orange circle, purple triangles, "
    "pink circles.",
    captions=captions,
    columns=3,
)

# %% [markdown]
# Shapes survive, colours do not. On photographs the same bug gives garish or washed-out pictures. It hides where the scale is
# near 1, and no error is raised. Libraries differ in who divides: this package's decoder does it itself, in diffusers the
# pipeline does.

# %% [markdown] tags=["idea"]
# ## The same diffusion, elsewhere
#
# From here on nothing is new. Encode all pictures once. Train a diffusion model on the latents, as on any data. Sample, decode.
#
# So where does the saving come from? Partly from the smaller grid, and the grid can be had without an autoencoder:
# fold squares of 4 × 4 pixels into 48 channels. Such a model costs nearly the same in each step, and nothing is lost. That is the
# fair rival. If it draws as well, then nobody needs an autoencoder.
#
# So here is a small race, on the crops with one object, whose grid is 8 × 8. The same small U-Net learns the bundled
# autoencoder's latents, 4 numbers a place, and patches, 48 numbers a place. Li and He found that large patches want the
# target $x_0$, so the rival gets it. Your `scaled_latents` and `draw_pictures` do the rest.

# %% [markdown]
# $$L = \mathbb E\,\big\lVert v - v_\theta(\alpha_t\, s z + \sigma_t\,\varepsilon,\; t)\big\rVert^2, \qquad
# x_{\text{new}} = D\big(z_{\text{new}} / s\big)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $v_\theta$ | the network; its target is $v = \alpha_t\varepsilon - \sigma_t s z$: {{built-in 17}} | (B, 4, 8, 8) |
# | $z_{\text{new}}/s$ | what the sampler ends with, divided by the scale | (B, 4, 8, 8) |

# %%
from diffusion_lessons.data import Dataset
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising

with torch.no_grad():
    parts = [vae.moments(part) for part in singles.split(256)]
mean, logvar = (torch.cat(each) for each in zip(*parts, strict=True))
small_latents, factor = scaled_latents(mean, logvar, torch.randn(mean.shape, generator=generator).to(device))
drawings = Dataset("singles", to_uint8(singles).cpu())
spaces = {  # what is noised, the side of a patch, the target
    "latents": (Dataset("latents of singles", small_latents.cpu()), 1, "v"),
    "patches": (drawings, 4, "x0"),
}
SHAPE = dict(base_channels=24, channel_mults=(1, 2), attention_levels=(1,), head_dim=24, channels_last=False)


# %%
def learn(data, patch, target, seed):
    """A denoiser of pictures or latents without labels."""
    steps = Watched(budget.steps(240))
    how = dict(lr=5e-3, patch=patch, target=target, seed=seed, class_dropout=0.0)
    how |= dict(time_power=0.6)  # more of the times near noise, where shape and place are decided
    recipe = Recipe(steps=len(steps), batch=64, **how, **SHAPE)
    task = Denoising(recipe, data).place(device)
    network, averaged = task.network, EMA(task.network)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    for step in steps:
        optimizer.param_groups[0]["lr"] = recipe.learning_rate(step, step / len(steps))
        loss = task.loss(network, task.batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        averaged.update(network)
        steps.tell(loss)
    averaged.copy_to(network)
    return NetworkDenoiser(network.eval(), task.path, task.target)


# %%
import time
from types import SimpleNamespace

own_scale = SimpleNamespace(
    decode=lambda z: vae.decode(z * vae.config.scale / factor)
)  # yours, not the stored one
nothing = SimpleNamespace(decode=lambda z: z)  # patches are folded back inside the network
denoisers, seconds = {}, {}
for name, space in spaces.items():
    begin = time.perf_counter()
    denoisers[name] = learn(*space, seed=0)
    seconds[name] = time.perf_counter() - begin

# %% jupyter={"source_hidden": true}
from diffusion_lessons.metrics import wilson_interval
from diffusion_lessons.metrics.reader import read_scenes


def read_as_one(cuttings):
    """How many of some cuttings (B, 3, 32, 32) the reader reads as one object, on a ground of 64×64."""
    ground = cuttings[:, :, 0].median(-1).values[..., None, None]
    whole = ground.repeat(1, 1, 64, 64)
    whole[..., 16:48, 16:48] = cuttings
    return sum(each is not None and len(each) == 1 for each in read_scenes(to_uint8(whole)))


count, made, good = budget.samples(200), {}, {}
for name, denoiser in denoisers.items():
    shape = (count, *spaces[name][0].shape)
    start = torch.randn(shape, generator=generator).to(device)
    with torch.no_grad():
        drawn = draw_pictures(denoiser, own_scale if name == "latents" else nothing, start, path.levels(20))
    made[name] = drawn.clamp(-1, 1).cpu()
    good[name] = read_as_one(made[name])
for name in spaces:
    low, high = wilson_interval(good[name], count)
    print(
        f"{name:11} {seconds[name]:4.1f} s of training, read as one object: {good[name] / count:.0%} "
        f"(95 % interval {low:.0%} to {high:.0%})"
    )
with torch.no_grad():
    ceiling = read_as_one(vae.decode(vae.encode(singles[:count])).clamp(-1, 1).cpu()) / count
print(f"n = {count} samples; one training each")
print(f"the same for {count} real ones, encoded and decoded: {ceiling:.0%}")
strip(
    {name: coarse(made[name][:10]) for name in spaces},
    alt="Ten samples in each of two rows. Latents: single objects with fairly sharp edges, some misshapen or in two colours. "
    "Patches: single objects that are blurred, one of them hardly there.",
    columns=10,
)

# %% [markdown]
# **What to notice:** the same grid, the same network, the same number of steps and nearly the same time. What differs is what has
# to be drawn: 4 numbers a place, or 48. The edges of the first row come from the decoder, those of the second row from the
# model itself. One training each is no verdict: the recorded race below has three seeds. (And the autoencoder cost its own
# training. You count that next.)

# %% [markdown] tags=["experiment"]
# ## Experiment: what a step costs, and what it buys
#
# First the cost, with one network and four things to noise: pixels of 64 × 64, patches of 2, patches of 4, and latents. FLOPs and
# memory are counted, seconds are measured: the median of a training step and, in brackets, the middle half. Memory is what a
# training step keeps for its way back, for each picture.

# %% jupyter={"source_hidden": true}
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lessons.networks import UNet, UNetConfig


def flops_of(network, x):
    """FLOPs of one evaluation for one picture; attention is written out, so that the counter sees it."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(x[:1], torch.ones(1, device=device))
    return counter.get_total_flops()


def step_of(network, x):
    """Seconds of a step, forwards and backwards, for each picture; and the bytes that it keeps in between."""
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    begin = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(x, torch.ones(len(x), device=device)).square().mean()
    loss.backward()
    loss.item()
    weights = {p.data_ptr() for p in network.parameters()}
    held = sum(size for place, size in kept.items() if place not in weights)
    return (time.perf_counter() - begin) / len(x), held / len(x)


# %%
shapes = {"pixels": (3, 64), "patches of 2": (12, 32), "patches of 4": (48, 16), "latents": (4, 16)}
clock, flops, memory = {}, {}, {}
for name, (channels, side) in shapes.items():
    config = UNetConfig(channels, channels, 24, (1, 2), attention_levels=(1,), head_dim=24)
    network, x = UNet(config).to(device), torch.randn(4, channels, side, side).to(device)
    flops[name] = flops_of(network, x)
    step_of(network, x)  # the first step sets things up: not counted
    steps = [step_of(network, x) for _ in range(5)]
    clock[name], memory[name] = torch.tensor([seconds for seconds, _ in steps]), steps[0][1]
print(f"{'':12} MFLOP an evaluation, times latents     MB   ms a step (half of them)")
for name in shapes:
    low, middle, high = (1000 * clock[name]).quantile(torch.tensor([0.25, 0.5, 0.75]))
    print(
        f"{name:12} {flops[name] / 1e6:19.0f} {flops[name] / flops['latents']:14.1f} "
        f"{memory[name] / 1e6:6.1f}  {middle:6.1f} ({low:.1f} to {high:.1f})"
    )

# %% [markdown] tags=["exercise-card"]
# Each step is cheaper. But the autoencoder had to be trained, and the data had to be encoded.
#
# {{exercise 11.6}}


# %% tags=["exercise"]
import math


@exercise("11.6")
def break_even(pixel, latent, training, encoding, rows):
    """The number of training steps from which on latents have cost no more in all than pixels: an int.

    pixel, latent: seconds of one training step, latent < pixel; training: seconds of the autoencoder's training;
    encoding: seconds to encode one picture; rows: pictures that are encoded, once each.
    """
    ### BEGIN SOLUTION
    return math.ceil((training + encoding * rows) / (pixel - latent))
    ### END SOLUTION


# %% jupyter={"source_hidden": true}
card = zoo.card("scenes-vae")
some, batch = pictures[:8].to(device), 64
begin = time.perf_counter()
error = (vae(some, torch.randn(8, 4, 16, 16).to(device))[0] - some).abs().mean()
torch.autograd.grad(error, list(vae.parameters()), allow_unused=True)
autoencoder_step = (time.perf_counter() - begin) / 8  # seconds for each picture
begin = time.perf_counter()
with torch.no_grad():
    vae.encode(some)
encoding = (time.perf_counter() - begin) / 8
training = card["recipe"]["steps"] * card["recipe"]["batch"] * autoencoder_step
print(
    f"the autoencoder on this machine: {training / 60:.0f} minutes of training, "
    f"{encoding * 100_000 / 60:.0f} to encode 100,000 pictures"
)
for name in ("pixels", "patches of 2"):
    costs = [batch * clock[each].median().item() for each in (name, "latents")]
    steps = break_even(*costs, training, encoding, 100_000)
    print(
        f"against {name}: paid back after {steps:,} steps of {batch} pictures, "
        f"{steps * costs[0] / 60:.0f} minutes"
    )

# %% [markdown]
# Patches of 4 cost nearly what latents cost. Against them the autoencoder hardly pays *by the step*: it has to pay by what a
# step teaches. The live race has one training each. The **recorded** one has scenes of 64 × 64 with all their objects, and gives
# equal seconds to latents, to patches of 4 (with the targets $v$ and $x_0$) and to patches of 2: three seeds each, on
# one core. `diffusion-lessons experiment pixels-vs-latents --n 128` runs it in an hour. Two figures say how good the
# pictures are: the share that the reader can read as a scene, and the Fréchet distance ({{built-in 20}}) to real scenes, 0
# for equal ones, between vectors of a picture encoder ({{built-in 16}};
# in the recorded rows an earlier one, so compare them with each other only).

# %% jupyter={"source_hidden": true}
kept, races = recorded("pixels-vs-latents"), {}
for row in kept["rows"]:
    if row["settings"].get("lr") == 2e-3:
        races.setdefault(row["settings"]["space"], []).append(row)
marks = races["latents"][0]["marks"]
print(f"n = {kept['options']['n']}, ± one standard error over three seeds, {kept['hardware']['processor']}")
print(f"after {', '.join(f'{mark:g}' for mark in marks)} seconds of training:")
curves = {}
for name, rows_of in races.items():
    for what in ("readable", "frechet"):
        values = torch.tensor([row["at_marks"][what] for row in rows_of])  # seeds, marks
        curves[name, what] = values, values.mean(0), values.std(0) / len(values) ** 0.5
        figures = zip(*(each.tolist() for each in curves[name, what][1:]), strict=True)
        print(f"{name:16} {what:8} " + "   ".join(f"{v:5.2f} ± {e:4.2f}" for v, e in figures))
for row in kept["rows"][:2]:
    print(f"{row['settings']['space']:16} readable {row['readable']:.2f}, frechet {row['frechet']:.2f}")

# %% jupyter={"source_hidden": true}
import zlib

with plain_lines():
    fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.4))
    looks = dict(zip(races, ("o-", "s--", "^-.", "D:"), strict=True))
    for ax, what in zip(axes, ("readable", "frechet"), strict=True):
        for place, name in enumerate(races):
            _, middle, error = curves[name, what]
            ax.errorbar(marks, middle, error, fmt=looks[name], capsize=3, label=name, color=f"C{place}")
        ax.axhline(kept["rows"][1][what], color="grey", linewidth=1)
        ax.annotate("real, decoded", (marks[0], kept["rows"][1][what]), fontsize=9, color="grey", va="bottom")
        ax.set(xlabel="seconds of training", xscale="log", xticks=marks)
        ax.set_xticklabels([f"{mark:g}" for mark in marks])
        ax.minorticks_off()
    axes[0].set(ylabel="share that can be read", ylim=(0, 1.05))
    ticks = (2, 5, 10, 20, 50)
    axes[1].set(ylabel="Fréchet distance", yscale="log", yticks=ticks, yticklabels=ticks)
    axes[1].minorticks_off()
    axes[0].legend(fontsize=9, loc="center left")
figure(
    fig,
    alt="Two figures over the seconds of training. Left, the share of pictures that can be read: latents rise to about a "
    "quarter, patches of 4 with the target x₀ to about half of that, the other two stay at 0. Right, the Fréchet distance "
    "on a logarithmic axis: latents lowest, patches with x₀ close above them, patches of 4 with v and patches of 2 "
    "six to seven times as high. A grey line for real scenes lies far better than all of them.",
)
drawn = {}
for name, rows_of in races.items():
    raw = bytearray(zlib.decompress(bytes.fromhex(rows_of[0]["pictures"])))
    drawn[name] = coarse(to_float(torch.frombuffer(raw, dtype=torch.uint8).view(-1, 3, 64, 64)))
strip(
    drawn,
    alt="Four samples in each of four rows, after 200 seconds. Latents: single-coloured squares, a triangle, a circle "
    "and a cross with fairly sharp edges. Patches of 4: coloured blobs under strong noise. Patches of 4 with the target x₀: "
    "recognisable shapes, blurred. Patches of 2: broken blobs of several colours under weak noise.",
    columns=4,
)

# %% jupyter={"source_hidden": true}
def seconds_until(values, goal):
    """Seconds of training until a curve over the marks has fallen to the goal; straight lines between marks."""
    for k, value in enumerate(values):
        if value <= goal and k == 0:
            return f"less than {marks[0]:g}"
        if value <= goal:
            share = (values[k - 1] - goal) / (values[k - 1] - value)
            return f"{marks[k - 1] + share * (marks[k] - marks[k - 1]):.0f}"
    return f"more than {marks[-1]:g}"


print(f"seconds until latents are as good as a rival after {marks[-1]:g} s, three seeds:")
for name in list(races)[1:]:
    goals, latent = curves[name, "frechet"][0], curves["latents", "frechet"][0]
    seeds = [seconds_until(latent[k].tolist(), goals[k, -1].item()) for k in range(len(goals))]
    print(f"{name:16} {', '.join(seeds)}")
print(f"Fréchet distance after {marks[0]:g} s by learning rate, one seed:")
for name in races:
    tried = {}
    for row in kept["rows"][2:]:
        if row["settings"]["space"] == name and row["settings"]["seed"] == 0:
            tried[row["settings"]["lr"]] = row["at_marks"]["frechet"][0]
    figures = ", ".join(f"{lr:g}: {value:.1f}" for lr, value in sorted(tried.items()))
    if len(tried) > 1:
        print(f"{name:16} {figures}")

# %% [markdown]
# At equal *time* three things show. **Patches of 4 with the target $v$ fail**: their samples stay under noise. That is no
# verdict on pixels. $v$ holds all the noise, 48 numbers a place, and a network of 24 channels cannot pass it on: this is Li
# and He's explanation. **With the target $x_0$ the same patches nearly keep up**: 5.3 ± 0.3 against 4.75 ± 0.05 in Fréchet
# distance after 200 s, which three seeds hardly tell apart. **Latents are sharper**: the reader can read 27 % ± 3 % of
# their pictures, and 11 % ± 3 % of the rival's. Their edges come from the decoder, which had learnt them before. Patches
# of 2 make a third of the steps in these seconds, and they have not been tried with $x_0$. Nobody is near the ceiling.
#
# At equal *quality*, by the Fréchet distance, latents need less than a quarter of the seconds of two rivals. Against patches
# with $x_0$ they save 115 s and 33 s of 200 with two seeds, and nothing with the third: **no clear saving**. And the bill has
# another line, the autoencoder: the cell with `break_even` says what its training would take on this machine, many times the
# whole race. So for *one* model of small pictures latents do not pay here. They pay when the autoencoder is there already
# and serves many models, as Stable Diffusion's does, or when the run is long. (All four share one learning rate, 0.002;
# with 0.001 and 0.004, tried for 50 s with one seed, the order is the same.)

# %% [markdown]
# **Published**, for photographs. Rombach et al. trained the same model in latents of several factors $f$. Their autoencoders' own
# error is the FID of reconstructions (R-FID, 0 is perfect):
#
# | f | 2 | 4 | 8 | 16 | 32 |
# |---|---|---|---|---|---|
# | R-FID, autoencoders with KL (table 8) | 0.086 | 0.27 | 0.90 | 0.87 | 2.04 |
#
# With f = 1 (pixels) training is slow: after 2 million steps pixels and f = 8 are 38 FID apart. With f = 32 the ceiling is too
# low. Best were 4 to 16. On ImageNet, against the best model in pixels of its time (table 18):
#
# | model | training, V100-days | pictures a second | FID |
# |---|---|---|---|
# | pixels: ADM-G | 962 | 0.07 | 4.59 |
# | latents: LDM-4-G | 271 | 0.4 | 3.60 |
#
# The two differ in more than the latents: in the network and the guidance, too. The autoencoder is not in the 271 days (the
# same table counts 29 for one with f = 4). And pixels are not out of the race: cascades, and later networks for large
# patches, draw well, too.

# %% [markdown] tags=["play"]
# ## Play
#
# A walk from one scene to another, in three ways. Is a latent a *meaning*, or a small picture? Guess before you move the slider:
# what is half-way between a red circle and two purple ones?

# %%
from diffusion_lessons.samplers import slerp

weights = torch.linspace(0, 1, 7).tolist()
first, last = z[:1], z[2:]  # the latents of the red circle and of the purple ones
with torch.no_grad():
    a, b = vae.decode(first), vae.decode(last)
    blended = torch.cat([torch.lerp(a, b, w) for w in weights])
    latent_walk = vae.decode(torch.cat([torch.lerp(first, last, w) for w in weights]))
    arc = torch.cat([slerp(noise[:1], noise[2:], w) for w in weights])  # lesson 8: an arc between two noises
    same = {name: value[2:].expand(7, -1) for name, value in told.items()}
    noise_walk = draw_pictures(lambda x, level: guided(x, level, same), vae, arc, path.levels(15))

# %% jupyter={"source_hidden": true}
scrub(
    {name: coarse(frames) for name, frames in {
        "pixels, blended": blended, "latents, blended": latent_walk, "noise, on an arc": noise_walk}.items()},
    [f"{w:.0%} of the way" for w in weights],
    alt="Three walks in seven frames. Blended pixels: one purple circle fades in, and the red circle gives way to a purple one. "
    "Blended latents: the new circle is cyan and then brown before it becomes purple. Noise on an arc, drawn from the caption "
    "of the last: two clean purple circles in every frame. Up to half of the way they stay at the left, and then they jump.",
    title="Walk from scene to scene",
    columns=7,
)  # fmt: skip

# %% [markdown]
# A latent of such an autoencoder is a small picture, in colours of its own. Blending two of them fades one scene into the
# other, as blending pixels does, and worse: between white and purple lies cyan. On a straight line between two latents
# there need be no data. The meaning is in the diffusion model: *its* walk draws two clean circles in every frame, and jumps between two places.
#
# But latents can be edited as pictures are. Choose an edit and an amount: move everything by whole places (4 pixels each), add
# to a channel, put the left part of one scene beside the right part of another.

# %%
from diffusion_lessons.course import live


def edited(edit, amount):
    """The three latents with one edit made by hand."""
    hand = z.clone()
    if edit == "move right":
        hand = hand.roll(amount, -1)
    elif edit == "move down":
        hand = hand.roll(amount, -2)
    elif edit == "add to channel 0":
        hand[:, 0] += amount / 2
    elif edit == "add to channel 3":
        hand[:, 3] += amount / 2
    else:
        hand[..., 8 + amount :] = hand.roll(1, 0)[..., 8 + amount :]
    return hand


def show_edit(edit, amount):
    with torch.no_grad():
        rows = {"before": vae.decode(z), "after": vae.decode(edited(edit, amount))}
    alt = f"Three scenes before and after the edit {edit} by {amount}."
    return strip({name: coarse(each) for name, each in rows.items()}, alt, columns=3)


edits = ["move right", "move down", "add to channel 0", "add to channel 3", "cut and join"]
live(show_edit, edit=edits, amount=[-4, -3, -2, -1, 0, 1, 2, 3, 4], start={"amount": 2})

# %% jupyter={"source_hidden": true}
with torch.no_grad():
    sheet = {name: coarse(vae.decode(edited(name, 2))) for name in edits}
    sheet = {"before": coarse(vae.decode(z)), **sheet}
strip(
    sheet,
    alt="Three scenes before and after five edits of their latents. Moved right and down, with what leaves at one side coming back "
    "at the other; in other colours after an addition to channel 0 or 3; joined from parts of two scenes, with cyan seams.",
    columns=3,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# The package's `Vae` has the names and details of diffusers' `AutoencoderKL`. So the weights of one can be loaded into the other.
# Yours must agree with its draw and its divergence.

# %% jupyter={"source_hidden": true}
import importlib.util

from diffusion_lessons.networks import Vae, VaeConfig

if importlib.util.find_spec("diffusers"):
    from diffusers import AutoencoderKL

    ours = Vae(VaeConfig(widths=(16, 32, 48), blocks_per_level=1, groups=8)).double().eval()
    with torch.no_grad():
        for parameter in ours.parameters():  # away from the values that layers begin with
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    theirs = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        norm_num_groups=8,
    ).double()
    theirs.load_state_dict(ours.state_dict())  # every name and every shape
    x = pictures[:2, :, :32, :48].double()
    with torch.no_grad():
        mine, other = ours.moments(x), theirs.encode(x).latent_dist
        eps = torch.randn(other.mean.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        sampled = other.sample(torch.Generator().manual_seed(1))
        print(f"mean:     {(mine.mean - other.mean).abs().max():.0e}")
        print(f"decoded:  {(ours.decode(ours.encode(x)) - theirs.decode(other.mean).sample).abs().max():.0e}")
        print(f"your draw: {(draw_latents(*mine, eps) - sampled).abs().max():.0e}")
        print(f"your KL:   {(kl_of_pictures(*mine) - other.kl()).abs().max():.0e}")
else:
    print("diffusers is not installed here; the solved notebook shows the differences")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks | seen in |
# |---|---|---|
# | the scale divided by twice, or never | right shapes, wrong or garish colours; hidden where the scale is near 1 | diffusers 5166, 6923 |
# | another autoencoder's scale | washed out or too strong; a tiny decoder may have the scale 1 | diffusers 4676 |
# | scaled in place | the first decoding is right, the second is not | a public port of Stable Diffusion |
# | scale measured on the first batch alone, and not again after a restart | a model that goes on from a checkpoint sees latents of another size | CompVis latent-diffusion |
# | KL averaged over the latents, not summed | its weight is too small by their number: 1,024 here | keras-molecules 59 |
# | the mean where a draw was meant, or the other way | encodings that cannot be repeated, or a decoder that never saw noise | OneTrainer 363 |
# | $\hat x_0$ clipped to [−1, 1] in latents | dull, flat pictures | samplers written for pixels |
# | pictures in [0, 1] given to an encoder of [−1, 1] | pale reconstructions | |
# | the encoder's downsampling padded on both sides | a shift, and a grey frame at the top and the left | diffusers 156 |
# | decoded in half precision | NaN, black pictures: large activations overflow | diffusers 7188 |
# | a large picture decoded in tiles, each alone | seams: each tile is normalised by its own numbers | stable-diffusion.cpp 353 |
# | a model blamed for what the decoder cannot draw | no training helps: look at the reconstructions of real pictures first | |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is latent diffusion, and why is it cheaper?",
    "Two stages. First an autoencoder learns to turn a picture into a small tensor and back: in Stable "
    "Diffusion 512×512×3 into 64×64×4, 48 times fewer numbers, held near N(0, I) by a small KL. Then an "
    "ordinary diffusion model is trained on its latents, scaled to a standard deviation of 1. To sample: "
    "denoise noise, divide by the scale, decode once.\n\n"
    "A step is cheaper: f² fewer places. And the decoder draws the fine detail. The price is a ceiling: "
    "what the autoencoder loses never comes back.",
    [
        (
            "Folding pixels into patches gives the same grid. Why an autoencoder?",
            "The cost of a step is the same, but patches of 4×4 pixels hold 48 numbers, most of them detail, and the model must "
            "draw them all. Latents hold 4. With more training or other targets patches can be made to work.",
        ),
        (
            "Why 0.18215?",
            "It is 1 over the standard deviation of that autoencoder's latents, measured once. The noise schedule is made for "
            "data of deviation 1. Another autoencoder has another number.",
        ),
        (
            "Why is the KL weight so small (1e-6 in LDM)?",
            "The latents shall be well-behaved, not N(0, I): the diffusion model learns their true distribution anyway. A large "
            "weight costs detail. Their losses are sums, so compare weights only with that in mind.",
        ),
        (
            "How do you choose the factor f?",
            "Small f: dear steps, much detail left to draw. Large f: cheap steps, low ceiling. LDM found 4 to 16 best. More "
            "channels raise the ceiling and make the latents harder to model.",
        ),
        ("Samples look soft. Autoencoder or diffusion model?", "Encode and decode real pictures. If those are soft, it is the autoencoder, and no training helps."),
        ("Can you interpolate in the latents?", "They fade, like pixels, through colours that were in neither. Interpolate the noise (DDIM) or the prompt."),
        ("What is the autoencoder's loss?", "Reconstruction, a perceptual and an adversarial term against blur, and a small KL that keeps latents near N(0, I)."),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Pictures of 256 × 256 in latents with f = 8. How many times fewer pairs of places does full attention compare?",
        [
            Choice("8", False, "That is the side. Places fall with f², and pairs of places with f⁴."),
            Choice("64", False, "So many fewer places. Pairs are places squared."),
            Choice("4,096", True, "64 times fewer places, so 64² times fewer pairs."),
            Choice(
                "it depends on the channels",
                False,
                "They change the cost of a pair, not the number of pairs.",
            ),
        ],
    ),
    Question(
        "A colleague averages the KL over the latents instead of summing it, with the same weight. What happens?",
        [
            Choice("nothing: the optimum is the same", False, "The weight against the error is another one."),
            Choice(
                "the latents are hardly held near N(0, I)",
                True,
                "The weight is too small by the number of latents. The pictures look fine, so nobody notices.",
            ),
            Choice("the latents collapse to noise", False, "That is what a weight that is too large does."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Your model's samples have the right shapes and the wrong colours. Real pictures, encoded and decoded, look right. First you check …",
        [
            Choice(
                "who divides by the scale",
                True,
                "The round trip multiplies and divides in one place; sampling may do it in two, or in none.",
            ),
            Choice("the autoencoder's training", False, "Its round trip is right."),
            Choice(
                "the number of sampling steps",
                False,
                "Too few steps blur or leave noise. They do not turn purple into green.",
            ),
        ],
    ),
    title="One more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*, arXiv 2112.10752: section 3.1, the
#   autoencoder; section 4.1, the factor f; tables 8 and 18; appendix G, the loss and the scale.
# - Kingma and Welling 2014, *Auto-Encoding Variational Bayes*, arXiv 1312.6114: section 2.4, reparameterisation; appendix B, the KL.
# - Esser et al. 2021, *Taming Transformers for High-Resolution Image Synthesis*, arXiv 2012.09841: perceptual and adversarial
#   terms.
# - Ho et al. 2022, *Cascaded Diffusion Models for High Fidelity Image Generation*, arXiv 2106.15282: the other way.
# - Li and He 2025, *Back to Basics: Let Denoising Generative Models Denoise*, arXiv 2511.13720: large patches of pixels and
#   the target $x_0$.
#
# A text encoder, a U-Net in latents, an autoencoder and a scheduler make Stable Diffusion. You take it apart next
# (its text encoder is lesson 16's: read that one first, or take it as a closed box): {{lesson 12}}.
