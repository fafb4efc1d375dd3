# %% [markdown] tags=["header"]
# title: The forward process
# question: What is the forward process of a diffusion model, and why can it be skipped in one jump?
# difficulty: 1
# prerequisites: 01, Gaussian distributions
# builds: Level, NoisePath, DiscreteVP, add_noise, renoise, linear_betas, paths

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - take one step of the noising chain and keep the variance where it is (exercise 02.1)
# - jump from a clean picture to any noise level in one line (exercise 02.2)
# - read a noise level as a signal-to-noise ratio (exercise 02.3)
# - find a variance that stands where a standard deviation belongs (exercise 02.4)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# A flower, destroyed in a thousand steps. Drag the slider, or press play. Watch *what* goes first: the single
# petals, or the round shape?

# %%
import torch
from sklearn.datasets import load_sample_image
from torch.nn import functional

from diffusion_lessons.course import Histogram, budget, exercise, figure, scrub
from diffusion_lessons.paths import DiscreteVP, add_noise

photo = torch.tensor(load_sample_image("flower.jpg")).permute(2, 0, 1)[None].float()  # (1, 3, 427, 640)
flower = functional.interpolate(photo[..., 106:533], size=(48, 48), mode="area") / 127.5 - 1  # in [−1, 1]

betas = torch.linspace(0.0001, 0.02, 1000)  # how much noise each step adds
path = DiscreteVP(betas)
noise = torch.randn(1, 3, 48, 48, generator=generator)
levels = [path(t) for t in range(0, 1001, 50)]
frames = torch.cat([add_noise(flower, noise, level) for level in levels])  # (21, 3, 48, 48)

scrub(
    {"x": frames, "its values": Histogram(frames, normal=True)},
    levels,
    alt="A flower sinks into noise between t = 0 and t = 1000: the petals are gone by t = 150, the round shape "
    "by about t = 550; the histogram of its values turns into the bell curve of N(0, 1).",
)

# %% [markdown]
# The curve over the histogram is the density of $\mathcal N(0, 1)$. Whatever picture you start from, its values
# end there. That is the whole purpose of this process: it leads every picture to *one* known distribution, from
# which we can draw. The model of later lessons learns the way back.
#
# Nothing is learned on the way there. The forward process has no parameters to train. It is fixed before
# training starts, by a list of 1,000 numbers.

# %% [markdown] tags=["predict"]
# ## Predict
#
# The slider above, half way, stands at t = 500.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "At t = 500 of 1000, how much of the variance of xₜ still comes from the picture?",
    [
        Choice(
            "about 50 %",
            False,
            "Half of the steps is not half of the signal: the steps grow, and what they leave multiplies.",
        ),
        Choice(
            "about 25 %",
            False,
            "Less. Each step keeps a share of what the step before has left, and the later steps are larger.",
        ),
        Choice("about 8 %", True, "ᾱ₅₀₀ = 0.079 for this list of steps. You compute it below."),
        Choice("less than 1 %", False, "That comes later: at t = 700 it is 0.7 %."),
    ],
)

# %% [markdown] tags=["idea"]
# ## One step: turn the picture down, add a little noise
#
# Suppose we only added noise, a thousand times. The picture would never go away; it would sit under a growing
# heap of noise, and the numbers would grow with it. A network that has to read such pictures would meet inputs
# of every size.
#
# So each step does two things. It turns the picture down a little, and then adds as much noise as was lost. If
# the pixels have variance 1, they keep it. Such a chain is called **variance preserving**. And a step looks at
# the picture as it is now and at nothing before: the chain is a **Markov chain**.

# %% [markdown]
# $$q(x_t \mid x_{t-1}) = \mathcal N\!\left(\sqrt{1-\beta_t}\;x_{t-1},\; \beta_t I\right)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $x_{t-1}, x_t$ | the picture before and after step $t$; $x_0$ is clean | (B, C, H, W) |
# | $\beta_t$ | variance of the noise that step $t$ adds, here 0.0001 to 0.02 | number |
# | $I$ | identity: every pixel gets noise of its own | |
#
# The second argument of $\mathcal N$ is a *variance*. To draw from $\mathcal N(m, s^2)$, take $m + s\cdot\varepsilon$
# with $\varepsilon \sim \mathcal N(0, 1)$.

# %% [markdown] tags=["exercise-card"]
# {{exercise 02.1}}


# %% tags=["exercise"]
@exercise("02.1")
def one_step(x, noise, beta):
    """From x_{t−1} to x_t.

    x, noise: (B, ...), noise from N(0, 1); beta: 0-d tensor. Returns (B, ...).
    """
    ### BEGIN SOLUTION
    return torch.sqrt(1 - beta) * x + torch.sqrt(beta) * noise
    ### END SOLUTION


# %% [markdown]
# Now run the chain with your step on real handwritten digits, and keep the mean and the variance of all pixels.

# %%
from diffusion_lessons.data import load_dataset, to_float

train, test = load_dataset("digits", "train", size=16), load_dataset("digits", "test", size=16)
digits = to_float(train.images)  # (1442, 1, 16, 16) in [−1, 1]

x = digits[:300]
means, variances = [x.mean().item()], [x.var().item()]
for beta in betas:
    x = one_step(x, torch.randn(x.shape, generator=generator), beta)
    means.append(x.mean().item())
    variances.append(x.var().item())
print(f"at t = 0: mean {means[0]:.2f}, variance {variances[0]:.2f}")
print(f"at t = T: mean {means[-1]:.2f}, variance {variances[-1]:.2f}")

# %%
import matplotlib.pyplot as plt

from diffusion_lessons.course.widgets import plain_lines

with plain_lines():
    fig, ax = plt.subplots(figsize=(6.4, 2.6))
    ax.plot(variances, label="variance, your chain")
    ax.plot(means, label="mean, your chain")
    ax.plot([variances[0] + betas[:t].sum().item() for t in range(1001)], label="variance, noise only added")
    ax.set(xlabel="t", ylim=(-0.6, 3), ylabel="of all pixels")
    ax.legend(loc="upper right")
figure(
    fig,
    alt="Over 1000 steps the variance of your chain rises from 0.50 to 1 and stays, and the mean rises from "
    "−0.38 to 0. Where noise is only added, the variance leaves the top of the plot at 3 by t = 500.",
)

# %% [markdown]
# **What to notice:** the digits begin with variance 0.50, not 1, and end at 1 all the same; their mean goes to 0.
# Every step mixes a little of $\mathcal N(0, 1)$ in, so the chain is drawn there from wherever it starts. With
# noise only added, the variance would end above 10.

# %% [markdown] tags=["idea"]
# ## The jump: a thousand steps in one line
#
# Training will ask for a picture at t = 731, then one at t = 12, millions of times. Running the chain for each
# would cost hundreds of steps a picture. It is not needed. The sum of two independent Gaussian draws is Gaussian
# again, and variances add. So a thousand small steps in a row are one large step, and how large is known
# beforehand.
#
# Each step multiplies the *variance* that the picture contributes by $1 - \beta$. After $t$ steps the product of
# all these factors is left, and the rest is noise.

# %% [markdown]
# $$q(x_t \mid x_0) = \mathcal N\!\left(\sqrt{\bar\alpha_t}\;x_0,\; (1-\bar\alpha_t) I\right),
# \qquad \bar\alpha_t = \prod_{s=1}^{t} (1-\beta_s), \quad \bar\alpha_0 = 1$$
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon, \qquad \varepsilon \sim \mathcal N(0, I)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\bar\alpha_t$ | share of the variance that still comes from $x_0$ (where $x_0$ has variance 1) | (T + 1,) |
# | $\varepsilon$ | noise, one number for each pixel | (B, C, H, W) |
#
# Ho et al. write $\alpha_t$ for $1-\beta_t$. In this course $\alpha_t$ is kept for the factor of the picture,
# $\alpha_t = \sqrt{\bar\alpha_t}$, and $\sigma_t = \sqrt{1-\bar\alpha_t}$ for that of the noise: $x_t = \alpha_t x_0 + \sigma_t\varepsilon$.
#
# <details><summary>Why: two steps make one, and so do all</summary>
#
# Put step 1 into step 2, with two independent draws:
#
# $$x_2 = \sqrt{1-\beta_2}\left(\sqrt{1-\beta_1}\,x_0 + \sqrt{\beta_1}\,\varepsilon_1\right) + \sqrt{\beta_2}\,\varepsilon_2 .$$
#
# The factor of $x_0$ is $\sqrt{(1-\beta_1)(1-\beta_2)} = \sqrt{\bar\alpha_2}$. The two noise terms are independent,
# so their sum is Gaussian with variance
# $(1-\beta_2)\beta_1 + \beta_2 = 1 - (1-\beta_1)(1-\beta_2) = 1-\bar\alpha_2$. Repeat with step 3, and so on.
#
# </details>

# %%
alphas_cumprod = torch.cat(
    [torch.ones(1), (1 - betas).cumprod(0)]
)  # (1001,), the entry for time t at place t
print(
    f"ᾱ at t = 0: {alphas_cumprod[0]:.4f}, 500: {alphas_cumprod[500]:.4f}, 1000: {alphas_cumprod[1000]:.6f}"
)

# %% [markdown] tags=["exercise-card"]
# {{exercise 02.2}}


# %% tags=["exercise"]
@exercise("02.2")
def jump(x0, noise, t, alphas_cumprod):
    """From clean pictures to time t, each picture to its own.

    x0, noise: (B, C, H, W); t: (B,) whole numbers from 0 to T; alphas_cumprod: (T + 1,).
    """
    ### BEGIN SOLUTION
    kept = alphas_cumprod[t].view(-1, 1, 1, 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    ### END SOLUTION


# %% [markdown]
# Is the jump the same as the chain? Take one digit 2,000 times, run your chain to t = 300, and jump there with
# other noise. The two clouds of pictures must have the same mean and the same spread in each of the 256 pixels.

# %%
copies = digits[:1].expand(2000, -1, -1, -1)
walked = copies
for beta in betas[:300]:
    walked = one_step(walked, torch.randn(copies.shape, generator=generator), beta)
time = torch.full((2000,), 300)
jumped = jump(copies, torch.randn(copies.shape, generator=generator), time, alphas_cumprod)

gap = (walked.mean(0) - jumped.mean(0)).abs().max().item()
expected = (jumped.var(0).mean() * 2 / 2000).sqrt().item()  # standard error of such a difference
print(f"largest difference of two means: {gap:.3f}, that is {gap / expected:.1f} standard errors")
print(f"spread: {walked.std(0).mean():.3f} by the chain, {jumped.std(0).mean():.3f} by the jump")

# %%
pixel = (0, 3, 8)  # one pixel of the digit
fig, ax = plt.subplots(figsize=(6.4, 2.4))
ax.hist(walked[:, *pixel].numpy(), bins=50, density=True, alpha=0.35, label="300 steps")
ax.hist(jumped[:, *pixel].numpy(), bins=50, density=True, histtype="step", lw=1.8, label="one jump")
ax.set(xlabel="value of the pixel at t = 300", ylabel="density")
ax.legend()
figure(
    fig,
    alt="Two histograms of one pixel over 2000 runs, one from 300 steps and one from a single jump. Both are "
    "bell shaped and lie over each other.",
)

# %% [markdown]
# **What to notice:** the two histograms lie over each other. The largest of 256 differences is some 3 standard
# errors, as the largest of 256 chance differences should be. From here on nobody runs the chain to noise a
# picture. But beware of what the jump does *not* give: two jumps to t = 299 and t = 300 with fresh noise are not
# neighbours of one chain. Their noise has nothing in common.

# %% [markdown] tags=["idea"]
# ## One number for a noise level: the signal-to-noise ratio
#
# Is t = 300 noisy? That depends on the list of $\beta$s, so t alone says nothing. What matters is how the two
# variances compare: that of the picture's part against that of the noise's part. This is the **signal-to-noise
# ratio**. It falls from infinity at t = 0 to nearly 0 at t = T, and any two processes can be compared by it.
#
# It runs over many powers of ten, so it is usually drawn as a logarithm. Engineers use decibels; papers on
# diffusion use the natural logarithm, log SNR, which will carry lesson 5.

# %% [markdown]
# $$\mathrm{SNR}(t) = \frac{\alpha_t^2}{\sigma_t^2} = \frac{\bar\alpha_t}{1-\bar\alpha_t}, \qquad
# \mathrm{SNR_{dB}} = 10\,\log_{10} \mathrm{SNR}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\alpha_t, \sigma_t$ | factors of picture and noise | (T + 1,) |
# | $\mathrm{SNR}(t)$ | ratio of two variances, for $x_0$ with variance 1 | (T + 1,) |

# %% [markdown] tags=["exercise-card"]
# {{exercise 02.3}}


# %% tags=["exercise"]
@exercise("02.3")
def equal_time(alphas_cumprod):
    """The first time at which there is no more signal than noise (SNR ≤ 1), a whole number.

    alphas_cumprod: (T + 1,), from 1 downwards.
    """
    ### BEGIN SOLUTION
    snr = alphas_cumprod / (1 - alphas_cumprod)
    return int((snr <= 1).nonzero()[0])
    ### END SOLUTION


# %% tags=["nbval-check-output"]
for t in (1, 10, 100, 300, 500, 1000):
    level = path(t)
    print(
        f"t = {t:4d}   ᾱ = {level.alpha**2:.5f}   SNR = {level.snr:9.4g}   {10 * level.snr.log10():6.1f} dB"
    )
print("signal and noise are equal at t =", equal_time(alphas_cumprod))

# %%
snr = alphas_cumprod / (1 - alphas_cumprod)
half = equal_time(alphas_cumprod)
with plain_lines():
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6))
    left.plot(alphas_cumprod.sqrt().numpy(), label="α (picture)")
    left.plot((1 - alphas_cumprod).sqrt().numpy(), label="σ (noise)")
    left.set(xlabel="t", ylabel="factor")
    left.legend(loc="center right")
    right.plot((10 * snr.log10()).numpy())
    right.axvline(half, color="gray", linestyle=":")
    right.set(xlabel="t", ylabel="SNR in dB")
figure(
    fig,
    alt=f"Left: the factor of the picture falls from 1 to 0 while that of the noise rises from 0 to 1; they cross "
    f"at t = {half}. Right: the SNR falls from 40 dB at t = 1 through 0 dB at t = {half} to −44 dB at t = 1000.",
)

# %% [markdown]
# **What to notice:** the two factors cross at t = 260, a quarter of the way. The second half of the chain, all of
# t > 500, works on pictures with less than a tenth of the signal. Whether so many steps are well spent there is
# the question of lesson 5.

# %% [markdown] tags=["idea"]
# ## Fine detail drowns first
#
# In the scrubber the petals went long before the round shape. Why? The noise treats every pixel alike, and so
# also every *frequency*: white noise has the same power in coarse waves and in fine ones. Pictures do not. Most of
# their power lies in coarse, slow waves.
#
# So each frequency has a signal-to-noise ratio of its own, and a time at which it drowns. Run backwards, this
# tells you what a diffusion model does when it draws: coarse shapes first, fine detail last.

# %% [markdown]
# $$\mathrm{SNR}(t, f) = \mathrm{SNR}(t)\cdot S(f), \qquad S(f) = \mathbb E\,\big|\hat X_0(f)\big|^2$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $f$ | frequency: waves across the picture, 0 to 8 for 16 pixels | (9,) |
# | $\hat X_0(f)$ | Fourier transform of the picture, scaled so that noise of variance 1 has power 1 | (16, 16) |
# | $S(f)$ | mean power of the pictures at frequency $f$ | (9,) |

# %%
power = torch.fft.fft2(digits[:, 0], norm="ortho").abs().square().mean(0)  # (16, 16), mean over the digits
waves = torch.fft.fftfreq(16) * 16  # −8 … 7
frequency = (waves[:, None] ** 2 + waves**2).sqrt().round()  # (16, 16)
spectrum = torch.stack([power[frequency == f].mean() for f in range(9)])  # (9,)
drowned = [int((snr * spectrum[f] <= 1).nonzero()[0]) for f in range(1, 9)]  # first t with SNR(t, f) ≤ 1

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.7))
left.semilogy(range(1, 9), spectrum[1:].numpy(), label="digits")
for t, line in ((50, ":"), (200, "-."), (500, "--")):
    left.axhline(1 / snr[t].item(), color="gray", linestyle=line, label=f"noise at t = {t}")
left.set(xlabel="frequency f", ylabel="power")
left.legend(fontsize=8)
right.bar(range(1, 9), drowned, color="#0072B2")
right.set(xlabel="frequency f", ylabel="t at which it drowns")
figure(
    fig,
    alt=f"Left: the power of digits falls from 10 at frequency 1 to 0.002 at frequency 8 and crosses the noise's "
    f"level, a flat line that rises with t. Right: frequency 1 drowns at t = {drowned[0]}, frequency 8 at t = {drowned[-1]}.",
)

# %% [markdown]
# **What to notice:** the power falls some 4,000-fold from frequency 1 to 8. The finest waves are under the noise after
# a dozen steps, the coarsest hold out for 489. "Noisy" is not one moment but a tide that rises through the
# frequencies.

# %% [markdown] tags=["exercise-card"]
# One thing is left before the measurement: a chain with a bug that public code really had.
#
# {{exercise 02.4}}


# %% tags=["exercise"]
@exercise("02.4")
def run_chain(x0, noises, betas):
    """All steps of the chain.

    x0: (B, C, H, W); noises: (T, B, C, H, W), one for each step; betas: (T,). Returns x_T.
    """
    ### BEGIN SOLUTION
    x = x0
    for step, beta in enumerate(betas):
        x = torch.sqrt(1 - beta) * x + torch.sqrt(beta) * noises[step]
    return x
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "It runs, but everything fades to a flat grey." Find out why, and mend it.
    # x = x0
    # for step, beta in enumerate(betas):
    #     x = torch.sqrt(1 - beta) * x + beta * noises[step]
    # return x
    ### END STUDENT


# %% [markdown] tags=["experiment"]
# ## Experiment: how long can the class still be told?
#
# The claim is that the end of the chain is pure noise: nothing can be read from it. Let us measure it. We train a
# small classifier on pictures of *all* noise levels, and tell it the level (its network is a closed box here:
# {{built-in 09}}). Beside it we ask the course's bundled classifier, which has only ever seen clean digits.

# %%
from diffusion_lessons import zoo
from diffusion_lessons.networks import Classifier, ClassifierConfig

aware = Classifier(ClassifierConfig(patch=2, time=True))
optimizer = torch.optim.AdamW(aware.parameters(), lr=2e-3)
for _ in range(budget.steps(400)):
    index = torch.randint(len(digits), (128,), generator=generator)
    t = torch.randint(0, 1001, (128,), generator=generator)
    x = jump(digits[index], torch.randn(128, 1, 16, 16, generator=generator), t, alphas_cumprod)
    loss = functional.cross_entropy(aware(x, t.float()), train.labels[index])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
from diffusion_lessons.metrics import wilson_interval

held_out, labels = to_float(test.images).repeat(4, 1, 1, 1), test.labels.repeat(4)  # each with 4 noises
clean, times = zoo.load("digits-classifier"), [0, 50, 100, 200, 300, 400, 500, 600, 700, 800, 1000]
shares = {"knows the noise": [], "knows clean digits only": []}
with torch.no_grad():
    for time in times:
        t = torch.full((len(labels),), time)
        x = jump(held_out, torch.randn(held_out.shape, generator=generator), t, alphas_cumprod)
        for name, logits in zip(shares, (aware(x, t.float()), clean(x)), strict=True):
            right = int((logits.argmax(1) == labels).sum())
            shares[name].append((right / len(labels), *wilson_interval(right, len(labels))))
for name, rows in shares.items():
    last, low, high = rows[-1]
    print(
        f"{name}: {rows[0][0]:.1%} right at t = 0, {last:.1%} at t = 1000 (95 % interval {low:.1%} to {high:.1%})"
    )

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.8))
for name, rows in shares.items():
    share, low, high = torch.tensor(rows).T.numpy()
    ax.errorbar(times, share, yerr=[share - low, high - share], capsize=2, label=name)
ax.axhline(0.1, color="gray", linestyle="--", label="guessing")
ax.set(xlabel="t", ylabel="share recognised", ylim=(0, 1.05))
ax.legend()
figure(
    fig,
    alt="Share of held-out digits recognised over t, with 95 % intervals. The classifier that knows the noise stays "
    "near 90 % to t = 300 and falls to the guessing line of 10 % by t = 800; the one that knows only "
    "clean digits falls earlier.",
)

# %% [markdown]
# Up to t = 200 the class survives almost untouched, although the picture looks ruined. Then it goes, and at t = 1000 the
# interval holds 10 %, the share of a guess (n = 1,420: 355 held-out digits with 4 noises each, so the interval is a
# little too narrow). The second classifier fails earlier. *It* failed there, not the information: this difference
# is why lesson 9 trains a classifier on noisy pictures.
#
# A number for what is left at $T$, with no classifier: the Kullback–Leibler divergence of $q(x_T\mid x_0)$ from
# $\mathcal N(0, I)$, which has a closed form. You meet it again as one term of lesson 4.


# %%
def bits_left(alpha_bar):
    """KL(q(x_t | x0) ‖ N(0, I)) in bits for each pixel, mean over the digits and its standard error."""
    kl = (alpha_bar * digits.square() - alpha_bar - torch.log1p(-alpha_bar)).flatten(1).mean(1) / 2
    bits = kl / torch.log(torch.tensor(2.0))
    return bits.mean().item(), bits.std().item() / len(bits) ** 0.5


for t in (500, 800, 1000):
    mean, error = bits_left(alphas_cumprod[t].double())
    print(f"t = {t:4d}: {mean:.2e} ± {error:.0e} bits a pixel, {256 * mean:.4f} bits for all 256")

# %% [markdown] tags=["play"]
# ## Play
#
# Six digits and your own `jump`. Find the last t at which *you* can name each of them, and compare with the curve
# above.

# %%
six = torch.cat([digits[train.labels == label][3:4] for label in (0, 2, 3, 5, 7, 8)])  # (6, 1, 16, 16)
fixed = torch.randn(six.shape, generator=generator)
steps = range(0, 1001, 40)
made = [jump(six, fixed, torch.full((6,), t), alphas_cumprod) for t in steps]
rows = torch.stack([x.view(2, 3, 16, 16).permute(0, 2, 1, 3).reshape(1, 32, 48) for x in made])
scrub(
    {"six digits": rows, "values": Histogram(torch.stack(made), normal=True)},
    [path(t) for t in steps],
    alt="Six digits from t = 0 to t = 1000. Most can be named up to about t = 300 and none after t = 600.",
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Hugging Face's diffusers has the same process. It stores $\bar\alpha$ without $\bar\alpha_0 = 1$, so its index is ours
# minus 1: a frequent source of off-by-one errors when code is ported.

# %%
import importlib.util

x0, noise = digits[:8], torch.randn(8, 1, 16, 16, generator=generator)
t = torch.tensor([1, 2, 10, 100, 250, 500, 999, 1000])
ours = jump(x0, noise, t, alphas_cumprod)
exact = path(t)
largest = (ours - add_noise(x0, noise, exact)).abs().max().item()
print(f"largest difference from the package's float64 path: {largest:.1e}")
if importlib.util.find_spec("diffusers"):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_start=0.0001, beta_end=0.02).add_noise(x0, noise, t - 1)
    print(f"largest difference from diffusers' DDPMScheduler:   {(ours - theirs).abs().max().item():.1e}")
else:
    print("diffusers is not installed here; the solved notebook shows the difference")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | $\beta$ in place of $\sqrt\beta$, or $1-\bar\alpha$ in place of its root | noise too weak: pictures fade to grey and the network learns levels that sampling never visits |
# | index off by one: $\bar\alpha_{t-1}$ for $t$, or $t$ up to $T$ in a list without $\bar\alpha_0$ | no error, a slightly wrong level everywhere; at t = 0 the *last* entry, pure noise |
# | a factor of shape (B,) against pictures (B, C, H, W) | an error, or, where B equals the width, one time for each *column* |
# | pictures in [0, 255] or [0, 1] | the level says SNR = 1 and the eye sees none of the noise, or far too much |
# | noise from `torch.rand` | uniform instead of Gaussian: the histogram at t = T is a box |
# | the product of $\bar\alpha$ in half precision | steps of 0.0001 are lost in rounding, and $\bar\alpha$ stands still |
#
# Pixels have to be scaled to about [−1, 1] for the statement "variance preserving" to mean anything.

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "What is the forward process in a diffusion model?",
    "A fixed Markov chain that turns data into Gaussian noise in T small steps. Step t scales the picture by √(1 − βₜ) "
    "and adds Gaussian noise of variance βₜ, so that the variance stays near 1. Nothing in it is learned.\n\n"
    "Because sums of Gaussians are Gaussian, the picture at any time is one draw: xₜ = √ᾱₜ·x₀ + √(1 − ᾱₜ)·ε with "
    "ᾱₜ the product of all 1 − β up to t. Training uses this jump: one random t for each picture, no chain. "
    "At t = T almost no signal is left, so sampling can start from N(0, I).",
    [
        (
            "Why scale the picture down at all?",
            "Without it the variance grows without bound (variance exploding). Both work; "
            "preserving it keeps the network's inputs at one scale.",
        ),
        (
            "Why many small steps, if one jump gets there?",
            "The way forward needs no steps. The way back does: the reverse of a "
            "small step is nearly Gaussian, that of a large one is not. Lesson 3 shows it.",
        ),
        (
            "Is x_T exactly N(0, I)?",
            "No. With the linear list ᾱ_T = 4·10⁻⁵, so a factor 0.006 of the picture is left. "
            "Lesson 5 shows a case where that matters.",
        ),
        (
            "What does SNR tell that t does not?",
            "t depends on the list of βs and on T; the SNR says how noisy a level is whatever the list.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "xₜ = √ᾱₜ·x₀ + √(1 − ᾱₜ)·ε, and x₀ has variance 1. What is the variance of xₜ?",
        [
            Choice("1", True, "ᾱₜ·1 + (1 − ᾱₜ)·1 = 1, since x₀ and ε are independent."),
            Choice("√ᾱₜ + √(1 − ᾱₜ)", False, "Those are the factors. Variances take their squares."),
            Choice("1 − ᾱₜ", False, "That is the noise's part alone; the picture's part adds ᾱₜ."),
            Choice("it grows with t", False, "That is the case where noise is only added."),
        ],
    ),
    Question(
        "What has to be trained in the forward process of DDPM?",
        [
            Choice("the list of βs", False, "It is chosen beforehand. (Some later models do learn it.)"),
            Choice(
                "a network that predicts the next picture",
                False,
                "The forward step is a formula. The network works on the way back.",
            ),
            Choice(
                "nothing", True, "It is fixed, which is why training pairs (x₀, xₜ) can be made in one line."
            ),
        ],
    ),
    Question(
        "A training loop needs x₇₃₁ of a picture. What does that cost?",
        [
            Choice(
                "731 steps of the chain",
                False,
                "The chain gives the same distribution, at 731 times the price.",
            ),
            Choice("one multiplication and one addition for each pixel", True, "That is the jump."),
            Choice("one pass through the network", False, "No network is involved on the way forward."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "With the linear list, SNR = 1 at t = 260. You replace the list by one with T = 100 steps that ends at the same ᾱ_T. Where is SNR = 1?",
        [
            Choice("still at t = 260", False, "There is no such time in a list of 100 steps."),
            Choice(
                "at t = 26 exactly",
                False,
                "Near there if the new list has the same shape, but nothing forces it to.",
            ),
            Choice(
                "it depends on the new list",
                True,
                "ᾱ_T alone fixes only the end. That is why levels are compared by SNR and not by t.",
            ),
        ],
    ),
    Question(
        "Which part of a picture disappears under the noise first?",
        [
            Choice(
                "fine detail",
                True,
                "Pictures have little power in high frequencies, and white noise has as much there as anywhere.",
            ),
            Choice("coarse shapes", False, "They have most of the power, so they hold out longest."),
            Choice(
                "all at the same time", False, "They would if pictures had the same power in all frequencies."
            ),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Ho, Jain and Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv 2006.11239: section 2, eq. 2 (one step) and
#   eq. 4 (the jump); section 4 (the linear list).
# - Sohl-Dickstein et al. 2015, *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, arXiv 1503.03585: section 2.1,
#   where the forward process comes from.
# - Kingma et al. 2021, *Variational Diffusion Models*, arXiv 2107.00630: section 3.1, the process by its SNR.
#
# You can now turn any picture into noise. Next, the way back: {{lesson 03}}.
