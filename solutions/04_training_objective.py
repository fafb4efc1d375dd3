# %% [markdown] tags=["header"]
# title: The training objective
# question: What loss does a diffusion model minimise, and where does it come from?
# difficulty: 2
# prerequisites: 02, 03
# builds: diffusion_loss, vlb_terms, losses, bound, training

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - compute the divergence of two Gaussians, from which the variational bound is built (exercise 04.1)
# - turn a term of the bound into a weight on the error in the noise (exercise 04.2)
# - write the loss that DDPM trains on, and say what it changes in the bound (exercise 04.3)
# - find a target that is out of step with its input, from the value at which the loss sticks (exercise 04.4)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Suppose a network errs by the same small amount at every time: its $\hat\varepsilon$ is off by a tenth of the noise.
# What does that do to its idea of the picture, $\hat x_0$? Drag the slider.

# %%
import torch

from diffusion_lessons.course import budget, exercise, figure, scrub, strip
from diffusion_lessons.data import load_dataset, to_float
from diffusion_lessons.paths import DiscreteVP, add_noise
from diffusion_lessons.schedules import linear_betas
from diffusion_lessons.targets import EPSILON

train, test = load_dataset("digits", "train", size=16), load_dataset("digits", "test", size=16)
digits, held_out = to_float(train.images), to_float(test.images)  # (1442, 1, 16, 16), (355, 1, 16, 16)
path = DiscreteVP(linear_betas())
alphas_cumprod = path.alphas_cumprod  # (1001,), float64; the entry for time t at place t


def side_by_side(batches):
    """Batches (B, C, H, W) as one picture each: (N, C, H, B·W)."""
    return torch.stack([torch.cat(list(pictures), -1) for pictures in batches])


two = torch.cat([digits[train.labels == label][1:2] for label in (3, 8)])  # (2, 1, 16, 16)
noise, mistake = torch.randn(2, *two.shape, generator=generator)
levels = [path(t) for t in (2, 5, 10, 20, 50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800, 900, 1000)]
seen = [add_noise(two, noise, level) for level in levels]
guessed = [EPSILON.solve(noise + 0.1 * mistake, x, level).x0 for x, level in zip(seen, levels, strict=True)]
scrub(
    {"x": side_by_side(seen), "x̂₀": side_by_side(guessed)},
    levels,
    alt="Two digits from t = 2 to t = 1000, and below them the picture that follows from a noise estimate "
    "that is off by 10 %. Up to t = 300 that picture is clean; at t = 500 it is grainy, and from t = 800 on "
    "nothing but noise.",
)

# %% [markdown]
# The same mistake is invisible at t = 100 and ruins the picture at t = 1000, since
# $\hat x_0 = (x - \sigma\hat\varepsilon)/\alpha$ multiplies it by $\sigma/\alpha$: 0.04 at t = 10, 157 at t = 1000. One
# network serves all times. When it is trained, its mistakes at all these times are added up into *one* number. How much
# should each of them count?
#
# Probability theory has an answer. It is called the variational bound, and it is not the loss that made diffusion models
# famous.
#
# ## Predict

# %% tags=["predict"] jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "A network makes the same squared error in ε at every t. Which of these errors does the variational "
    "bound, a bound on −log p(x₀), punish most?",
    [
        Choice(
            "those near t = T, which ruin the picture",
            False,
            "At t = T the step only has to get from one nearly pure noise to the next: whatever it thinks "
            "of the picture hardly moves it. The weight there is 0.01.",
        ),
        Choice(
            "those near t = 0, which nobody can see",
            True,
            "The weight is 0.6 at t = 2 and 0.005 at t = 350. A likelihood asks for every last grey level, "
            "seen or not.",
        ),
        Choice(
            "those in the middle, where the picture is decided",
            False,
            "There the weight is smallest, about 0.005. You compute it below.",
        ),
        Choice(
            "all alike",
            False,
            "That is L_simple, which people prefer for pictures. The bound is not like that.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## The bound: what it costs to send a picture
#
# A good model gives real pictures a high probability $p_\theta(x_0)$. That number cannot be computed: it sums over all
# ways in which noise may become $x_0$. It can be bounded.
#
# Think of sending a picture with as few bits as possible. First you send $x_T$, then $x_{T-1}$, and so on down to $x_0$.
# The receiver has the network and guesses each next one. You pay for how far its guess, $p_\theta(x_{t-1}\mid x_t)$, is from
# what you know, the posterior $q(x_{t-1}\mid x_t, x_0)$ of lesson 3. That distance is a **Kullback–Leibler divergence**.
# The sum of all payments is never less than $-\log p_\theta(x_0)$. With the logarithm to base 2 it is in bits; divided by the
# number of pixels, in **bits per dimension**.

# %% [markdown]
# $$-\log p_\theta(x_0) \;\le\; \underbrace{\mathrm{KL}\big(q(x_T\mid x_0)\,\|\,\mathcal N(0, I)\big)}_{L_T:\ \text{prior}}
# + \sum_{t=2}^{T}\underbrace{\mathbb E_q\,\mathrm{KL}\big(q(x_{t-1}\mid x_t,x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\big)}_{L_{t-1}:\ \text{steps}}
# + \underbrace{\mathbb E_q\big[-\log p_\theta(x_0\mid x_1)\big]}_{L_0:\ \text{decoder}}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $L_T$ | what the noisiest level still tells of $x_0$; nothing to learn | number |
# | $L_{t-1}$ | price of the step from $t$ to $t-1$ | number, for $t = 2 … T$ |
# | $L_0$ | price of the exact grey levels, given $x_1$ | number |
#
# <details><summary>Why: Jensen's inequality and Bayes' rule</summary>
#
# The chain of all noisy pictures is drawn from $q(x_{1:T}\mid x_0)$. For any such $q$,
#
# $$-\log p_\theta(x_0) = -\log \mathbb E_q\!\left[\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\right]
# \le \mathbb E_q\!\left[-\log\frac{p(x_T)\prod_{t\ge 1} p_\theta(x_{t-1}\mid x_t)}{\prod_{t\ge 1} q(x_t\mid x_{t-1})}\right],$$
#
# because the logarithm is concave (Jensen). For $t \ge 2$ Bayes' rule turns each forward step round:
# $q(x_t\mid x_{t-1}) = q(x_{t-1}\mid x_t, x_0)\, q(x_t\mid x_0)/q(x_{t-1}\mid x_0)$. In the product the last two factors cancel
# from one $t$ to the next and leave $q(x_T\mid x_0)$ against the $q(x_1\mid x_0)$ of the first step. Sorted, this is the sum
# above.
#
# </details>

# %% [markdown] tags=["exercise-card"]
# {{exercise 04.1}}


# %% tags=["exercise"]
@exercise("04.1")
def gaussian_kl(mean_p, std_p, mean_q, std_q):
    """KL(p ‖ q) in nats of p = N(mean_p, std_p²) from q = N(mean_q, std_q²).

    Four tensors of shapes that fit together. Returns one number for each entry.
    """
    ### BEGIN SOLUTION
    distance = mean_p - mean_q
    return torch.log(std_q / std_p) + (std_p**2 + distance**2) / (2 * std_q**2) - 0.5
    ### END SOLUTION


# %% [markdown]
# How tight is this bound? Take data for which all is known: "pictures" of one
# pixel, dark, grey or bright, from a mixture of three Gaussians. Its denoiser is exact, so nothing in the bound is a
# network's fault, and the true $-\log_2 p(x_0)$ is known too.

# %%
from diffusion_lessons.data import to_uint8
from diffusion_lessons.bound import vlb_terms
from diffusion_lessons.mixtures import GaussianMixture

BITS = 1 / torch.log(torch.tensor(2.0)).item()  # bits in a nat
pixel = GaussianMixture(torch.tensor([[-0.6], [0.0], [0.6]]).double(), 0.1)
x0 = to_float(to_uint8(pixel.sample(4000, generator)[0])).double()  # (4000, 1), 256 grey levels
normal = torch.distributions.Normal(pixel.means[:, 0], pixel.stds)
true = -(normal.cdf(x0 + 1 / 255) - normal.cdf(x0 - 1 / 255)).mean(1).log2()  # (4000,) bits

end, nothing = path(1000), torch.zeros(1)
prior = gaussian_kl(end.alpha * digits, end.sigma, nothing, nothing + 1).mean().item() * BITS
print(f"L_T of our digits, with your function: {prior:.6f} bits per dimension")
chain_lengths, rows = [25, 50, 100, 250, 1000], []
for T in chain_lengths:
    chain = DiscreteVP(linear_betas(T, 0.1 / T, 20 / T))  # the same noise in fewer, larger steps
    terms = vlb_terms(pixel, chain, x0, list(range(2, T + 1)), generator=generator)
    rows.append(torch.stack([terms.prior, terms.steps.sum(0), terms.decoder]))  # (3, 4000)
means = torch.stack(rows).mean(2)  # (5, 3)
errors = torch.stack([(row.sum(0) - true).std() / 4000**0.5 for row in rows])
for T, mean, error in zip(chain_lengths, means, errors, strict=True):
    print(f"T = {T:4d}: {mean.sum():5.2f} bits, {mean.sum() - true.mean():.2f} ± {error:.2f} above the truth")

# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(6.4, 2.6))
place = list(range(5))
ax.bar(place, means[:, 2], color="#56B4E9", hatch="//", label="decoder")
ax.bar(place, means[:, 1], bottom=means[:, 2], color="#E69F00", yerr=errors, capsize=3, label="steps")
ax.axhline(true.mean(), color="black", linestyle="--", label=f"true: {true.mean():.2f} bits")
ax.set_xticks(place, [f"T = {T}" for T in chain_lengths])
ax.set(ylabel="bits", ylim=(0, 15))
ax.legend(ncols=3, loc="upper right")
figure(
    fig,
    alt=f"The bound for chains of 25 to 1000 steps as bars of decoder and steps. Its sum falls from {means[0].sum():.1f} to "
    f"{means[-1].sum():.1f} bits and stays above the dashed line of the true {true.mean():.1f} bits.",
)

# %% [markdown]
# **What to notice:** the bound is above the truth even for a perfect denoiser, and comes down as T grows. One Gaussian is a
# poor guess at the reverse of a large step (lesson 3), and that costs bits. The prior is there too, too small to see. And
# bits move from one part to another: a longer chain ends at a cleaner $x_1$, so its decoder has less left to say.

# %% [markdown] tags=["idea"]
# ## From divergence to a squared error in the noise
#
# Each $L_{t-1}$ compares two Gaussians. We *choose* the model's variance equal to the posterior's, $\tilde\beta_t$. Then the
# logarithm in your formula vanishes, the constants cancel, and what remains is a squared distance of means.
#
# The posterior's mean is a mix of $x_t$ and $x_0$. Both sides know $x_t$; only for $x_0$ the model has to put its guess
# $\hat x_0$. So the error in the mean is a fixed multiple of the error in $x_0$. And that, as the slider showed, is
# $\sigma/\alpha$ times the error in $\varepsilon$. Divergence, mean, picture, noise: one error in four units.

# %% [markdown]
# $$L_{t-1} = \frac{\mathbb E\,\|\tilde\mu_t(x_t,x_0)-\tilde\mu_t(x_t,\hat x_0)\|^2}{2\tilde\beta_t}
# = \tfrac12\big(\mathrm{SNR}(t-1)-\mathrm{SNR}(t)\big)\,\mathbb E\,\|x_0-\hat x_0\|^2
# = w_t\;\mathbb E\,\|\varepsilon-\hat\varepsilon\|^2$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\tilde\mu_t, \tilde\beta_t$ | mean and variance of the posterior | (B, C, H, W), number |
# | $\hat x_0, \hat\varepsilon$ | the network's estimate, $x_t=\alpha_t\hat x_0+\sigma_t\hat\varepsilon$ | (B, C, H, W) |
# | $w_t$ | weight on the error in $\varepsilon$: yours to find | (T + 1,) |
#
# <details><summary>Why the SNR appears</summary>
#
# In $\tilde\mu_t$ the factor of $x_0$ is $\alpha_{t-1}\beta_t/\sigma_t^2$, and $\tilde\beta_t=\beta_t\sigma_{t-1}^2/\sigma_t^2$. So
#
# $$\frac{1}{2\tilde\beta_t}\left(\frac{\alpha_{t-1}\beta_t}{\sigma_t^2}\right)^2
# = \frac{\alpha_{t-1}^2\,\beta_t}{2\,\sigma_{t-1}^2\,\sigma_t^2}.$$
#
# With $\alpha_t^2=(1-\beta_t)\,\alpha_{t-1}^2$ and $\sigma^2=1-\alpha^2$ one finds
# $\sigma_t^2\alpha_{t-1}^2-\sigma_{t-1}^2\alpha_t^2 = \alpha_{t-1}^2-\alpha_t^2=\beta_t\,\alpha_{t-1}^2$. Divided by
# $\sigma_{t-1}^2\sigma_t^2$, the left side is $\mathrm{SNR}(t-1)-\mathrm{SNR}(t)$.
#
# </details>

# %% [markdown] tags=["exercise-card"]
# {{exercise 04.2}}


# %% tags=["exercise"]
@exercise("04.2")
def vlb_weight(t, alphas_cumprod):
    """The weight w_t of the squared error in ε in the term L_{t−1} of the bound, in nats.

    t: (B,) whole numbers from 2 to T; alphas_cumprod: (T + 1,), float64, from 1 downwards. Returns (B,).
    """
    ### BEGIN SOLUTION
    snr = alphas_cumprod / (1 - alphas_cumprod)
    return 0.5 * (snr[t - 1] / snr[t] - 1)
    ### END SOLUTION


# %% [markdown]
# Put the two exercises against each other. On the left, your divergence between the two posteriors, with the true $x_0$ and
# with a wrong guess. On the right, your weight times the error in the noise.

# %% tags=["nbval-check-output"]
from diffusion_lessons.paths import posterior

four, noise = digits[:4].double(), torch.randn(4, 1, 16, 16, generator=generator).double()
guess = noise + 0.3 * torch.randn(4, 1, 16, 16, generator=generator)
error = (noise - guess).square().mean()
print("   t   divergence   weight × error")
for t in (2, 10, 100, 500, 1000):
    now, next_level = path(t), path(t - 1)
    x = add_noise(four, noise, now)
    mean_true, variance = posterior(four, x, now, next_level)
    mean_guess, _ = posterior(EPSILON.solve(guess, x, now).x0, x, now, next_level)
    kl = gaussian_kl(mean_true, variance.sqrt(), mean_guess, variance.sqrt()).mean()
    print(f"{t:4d}   {kl:.4e}   {vlb_weight(torch.tensor([t]), alphas_cumprod).item() * error:.4e}")

# %%
from diffusion_lessons.course.widgets import plain_lines

steps = torch.arange(2, 1001)
weights = vlb_weight(steps, alphas_cumprod)  # (999,)
early = (weights[steps <= 20].sum() / weights.sum()).item()
with plain_lines():
    fig, ax = plt.subplots(figsize=(6.4, 2.6))
    ax.loglog(steps, weights, label="variational bound")
    ax.loglog(steps, weights.mean().expand(999), label="all alike (same total)")
    ax.set(xlabel="t", ylabel="weight on the error in ε")
    ax.legend()
figure(
    fig,
    alt="Weight on the error in ε over t, both axes logarithmic. The bound's weight falls from 0.6 at t = 2 "
    "to 0.005 at t = 350 and rises to 0.01 at t = 1000; a flat line at 0.01 has the same total.",
)
print(f"{early:.0%} of the bound's weight lies on the first 19 of 999 steps")

# %% [markdown]
# **What to notice:** the bound cares most where errors cannot be seen. To give the exact grey levels a high probability, the
# network has to tell the faintest noise from the faintest grain. That is honest bookkeeping of bits, and it
# spends the network's effort on what no eye will notice.

# %% [markdown] tags=["idea"]
# ## L_simple: drop the weight
#
# Ho et al. tried the bound, and then left its weight out. Every t counts alike. The terms are the same and each still has its
# minimum at the same network, the one that answers $\mathbb E[\varepsilon\mid x_t]$. What changes is where a network that
# cannot be perfect spends its effort: less on the faintest noise, more on the shapes.
#
# Training needs no chain. Draw a picture, a time and a noise, jump to $x_t$ (lesson 2), ask the network for the noise,
# take the squared error.
#
# $$L_{\text{simple}} = \mathbb E_{\,x_0,\;\varepsilon\sim\mathcal N(0,I),\;t\sim\mathcal U\{1..T\}}\;
# \big\|\varepsilon-\varepsilon_\theta\big(\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon,\;t\big)\big\|^2$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\varepsilon_\theta(x_t, t)$ | the network's answer | (B, C, H, W) |
# | $t$ | one time for each picture, each as likely | (B,) |
#
# As in most code, the square is averaged over the pixels: a network that always answers 0 has loss 1.

# %% [markdown] tags=["exercise-card"]
# {{exercise 04.3}}


# %% tags=["exercise"]
@exercise("04.3")
def simple_loss(network, x0, noise, t, alphas_cumprod):
    """The error in the noise, averaged over the pixels of each picture.

    network: called as network(x, t), gives (B, C, H, W); x0, noise: (B, C, H, W);
    t: (B,) whole numbers from 1 to T; alphas_cumprod: (T + 1,). Returns (B,).
    """
    ### BEGIN SOLUTION
    kept = alphas_cumprod[t].view(-1, 1, 1, 1)
    x = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    return (network(x, t) - noise).square().flatten(1).mean(1)
    ### END SOLUTION


# %% [markdown] tags=["exercise-card"]
# A colleague wrote a whole training step. It has a bug that has cost many people a day.
#
# {{exercise 04.4}}


# %% tags=["exercise"]
@exercise("04.4")
def training_step(network, optimizer, x0, noise, t, alphas_cumprod):
    """Change the network's weights once, by the gradient of the mean loss of this batch; return that loss (0-d).

    network: called as network(x, t); x0, noise: (B, C, H, W); t: (B,); alphas_cumprod: (T + 1,).
    """
    ### BEGIN SOLUTION
    loss = simple_loss(network, x0, noise, t, alphas_cumprod).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "I sort each batch by t, for a tidy log. The loss goes to 1 and sticks there."
    # order = t.argsort()
    # kept = alphas_cumprod[t[order]].view(-1, 1, 1, 1)
    # x = kept.sqrt() * x0[order] + (1 - kept).sqrt() * noise[order]
    # loss = (network(x, t[order]) - noise).square().mean()
    # optimizer.zero_grad()
    # loss.backward()
    # optimizer.step()
    # return loss.detach()
    ### END STUDENT


# %% [markdown]
# Now *your* step trains a U-Net on real digits (the network is a closed box here: {{built-in 06}}). It counts times from 0, so
# it is told $t-1$; sampling must tell it the same. On the way we keep its $\hat x_0$ of four held-out digits for later.

# %%
from diffusion_lessons.networks import UNet, UNetConfig

kept = alphas_cumprod.float()
BATCH, STEPS = 32, budget.steps(250)


def train_unet(draw_times, watch=None):
    """A U-Net trained for STEPS steps on times from draw_times(n); and its losses."""
    torch.manual_seed(0)
    unet, draws = UNet(UNetConfig(base_channels=16, head_dim=16)), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS, pct_start=0.1)
    losses = []
    for step in range(STEPS):
        if watch is not None and step % max(1, STEPS // 24) == 0:
            watch(unet, step)
        x0 = digits[torch.randint(len(digits), (BATCH,), generator=draws)]
        noise = torch.randn(x0.shape, generator=draws)
        t = draw_times(BATCH, draws)
        losses.append(training_step(lambda x, t: unet(x, t - 1.0), optimizer, x0, noise, t, kept).item())
        schedule.step()
    return unet.eval(), losses


# %%
from diffusion_lessons.denoiser import NetworkDenoiser

watched, WATCH = {}, (50, 150, 300, 500)
four = torch.cat([held_out[test.labels == label][:1] for label in (0, 2, 5, 7)])  # (4, 1, 16, 16)
fixed = torch.randn(four.shape, generator=generator)


@torch.no_grad()
def watch(unet, step):
    denoiser = NetworkDenoiser(unet, path, EPSILON)
    guesses = [denoiser(add_noise(four, fixed, path(t)), path(t)).x0 for t in WATCH]
    watched[step] = side_by_side(guesses)  # (4, 1, 16, 64)


unet, losses = train_unet(lambda n, draws: torch.randint(1, 1001, (n,), generator=draws), watch)
print(f"loss: first step {losses[0]:.2f}, mean of the last 50 {torch.tensor(losses[-50:]).mean():.3f}")

# %%
from diffusion_lessons.guidance import Clip
from diffusion_lessons.samplers import ddpm_step, sample


def draw_digits(unet, n, seed=1):
    """n pictures by ancestral sampling in 50 steps (lesson 3), the same noise for every network."""
    draws = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 1, 16, 16, generator=draws)
    denoiser = Clip(NetworkDenoiser(unet, path, EPSILON))
    return sample(denoiser, noise, path.levels(50), step=ddpm_step, generator=draws)


made = draw_digits(unet, budget.samples(80, at_least=72))
strip(made[:16], alt="Sixteen samples of the network that your step trained; about half can be read.", columns=16)

# %% [markdown]
# **What to notice:** no term of a bound, no chain. A squared error between two pictures of noise, for 250 steps, and from
# pure noise come digits, or nearly.

# %% [markdown] tags=["idea"]
# ## How low can the loss go?
#
# A classifier's loss can approach 0. This one cannot. Many pairs of picture and noise lead to the same $x_t$, and the
# network has one answer for all of them. The best is their mean; what remains is the spread around it, the
# **irreducible loss**. For real pictures it is unknown. For a mixture of Gaussians it is known exactly.
#
# The bug of exercise 04.4 is the extreme case: a target that has nothing to do with the input. The best answer is the
# mean of the noise, 0, and the loss $\mathbb E[\varepsilon^2]=1$. A loss that sticks at 1 says: *the input tells nothing
# of the target*.
#
# $$\min_{\varepsilon_\theta}\ \mathbb E\,\|\varepsilon-\varepsilon_\theta(x_t,t)\|^2
# = \mathbb E\,\big\|\varepsilon-\mathbb E[\varepsilon\mid x_t]\big\|^2 > 0$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\mathbb E[\varepsilon\mid x_t]$ | mean of all noises that may have led to $x_t$ | (B, C, H, W) |
#
# We train a small network of three layers on pictures of two pixels, drawn from a mixture: once with your step, once with
# its answers compared with the noise of the *next* picture.

# %%
from torch import nn

blobs = GaussianMixture(torch.tensor([[-0.8, 0.6], [0.8, 0.6], [0.0, -0.9]]), 0.3)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        inner = [nn.Linear(10, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU()]
        self.layers = nn.Sequential(*inner, nn.Linear(96, 2))

    def forward(self, x, t):
        angle = t[:, None] / 1000 * torch.tensor([3.0, 10.0, 30.0, 100.0])
        return self.layers(torch.cat([x.flatten(1), angle.sin(), angle.cos()], 1)).view_as(x)


# %%
curves, LAST = {}, budget.steps(1200)
for name, shift in (("target out of step", 1), ("your step", 0)):
    torch.manual_seed(0)
    small, draws, curve = Small(), torch.Generator().manual_seed(0), []
    optimizer = torch.optim.Adam(small.parameters(), lr=5e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, LAST)
    for _ in range(LAST):
        x0 = blobs.sample(512, draws)[0].view(512, 1, 1, 2)
        noise, t = torch.randn(x0.shape, generator=draws), torch.randint(1, 1001, (512,), generator=draws)
        loss = training_step(lambda x, t: small(x, t).roll(-shift, 0), optimizer, x0, noise, t, kept)
        curve.append(loss.item())
        decay.step()
    curves[name] = torch.tensor(curve)  # what is left in `small` at the end was trained by your step

# %%
times = [1, 3, 10, 30, 60, 100, 150, 200, 300, 400, 500, 650, 1000]
floor = [blobs.optimal_loss(EPSILON, path(t), 20_000, generator)[0] for t in times]
x0 = blobs.sample(4000, generator)[0].view(4000, 1, 1, 2)
noise, losses_at = torch.randn(x0.shape, generator=generator), []
with torch.no_grad():
    for t in times:
        losses_at.append(simple_loss(small, x0, noise, torch.full((4000,), t), kept))  # (4000,)
reached = torch.stack(losses_at)  # (13, 4000)
every_tenth = [blobs.optimal_loss(EPSILON, path(t), 2000, generator)[0] for t in range(5, 1000, 10)]
overall, last = torch.tensor(every_tenth).mean(), curves["your step"][-LAST // 10 :]
print(f"mean over t: no network can go below {overall:.3f}")
print(f"yours, last tenth of training: {last.mean():.3f} ± {last.std() / len(last) ** 0.5:.3f}")

# %%
with plain_lines():
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.7))
    for name, curve in curves.items():
        left.plot(curve[: LAST // 20 * 20].view(-1, 20).mean(1), label=name)
    left.axhline(overall, color="gray", linestyle=":", label="irreducible")
    left.set(xlabel="training step / 20", ylabel="loss", ylim=(0, 1.25))
    left.legend(fontsize=8)
right.semilogx(times, floor, "--", marker="", color="gray", label="irreducible, exact")
right.errorbar(times, reached.mean(1), 2 * reached.std(1) / 4000**0.5, fmt="o", capsize=2, label="reached")
right.set(xlabel="t", ylabel="loss", ylim=(0, 1.25))
right.legend(fontsize=8)
figure(
    fig,
    alt=f"Left: the loss of your step falls to the dotted line of the irreducible loss, {overall:.2f}, and that of the step with "
    "a target out of step stays at 1. Right: the irreducible loss over t falls from 1 at t = 1 to 0 at t = "
    "1000, and the network's lies on it, or up to 5 % above.",
)

# %% [markdown]
# **What to notice:** a loss that has stopped falling may be perfect. The loss is near 1 where the noise is faint (who can tell it from
# the data's own grain?) and near 0 at t = 1000, where $x_t$ *is* the noise. So most of L_simple's value comes from
# small t, and two losses can only be compared for the same data, schedule and weights.

# %% [markdown] tags=["experiment"]
# ## Experiment: the bound against L_simple
#
# We train a second U-Net on the bound itself: same start, same data, same number of steps. A weight can be applied in two
# ways whose gradients have the same mean: multiply the loss by $w_t$, or draw t in proportion to $w_t$ and
# multiply by nothing. The second is far less noisy, so we take it. (At t = 1, the decoder's, we use the weight of
# t = 2.) Then we send held-out digits through both, and count bits: the error in $\varepsilon$ by your `simple_loss` at
# some twenty times, every other t taking its nearest neighbour's, times your $w_t$. Last come samples, from the same
# noise, and their Fréchet distance to real digits: 0 is a perfect match ({{built-in 20}}). Each ± is a standard error
# over the pictures, for one seed.

# %%
w = torch.cat([weights[:1], weights])  # (1000,), the entry for time t at place t − 1
bound_unet, _ = train_unet(lambda n, draws: torch.multinomial(w, n, replacement=True, generator=draws) + 1)

at = (2 * torch.logspace(0, 1, 24, base=500)).round().long().unique()  # times from 2 to 1000, even in log t
nearest = (steps.log()[:, None] - at.log()).abs().argmin(1)  # (999,)
weight_of = torch.zeros(len(at)).double().index_add(0, nearest, weights)  # the weights that each stands for


@torch.no_grad()
def count_bits(unet, x0):
    """(3, B): prior, steps and decoder of each picture in bits per dimension."""
    draws, errors = torch.Generator().manual_seed(2), []
    for t in at:
        noise = torch.randn(x0.shape, generator=draws)
        errors.append(simple_loss(lambda x, t: unet(x, t - 1.0), x0, noise, t.repeat(len(x0)), kept))
    ends = vlb_terms(NetworkDenoiser(unet, path, EPSILON), path, x0, [], generator=draws)
    return torch.stack([ends.prior, weight_of @ torch.stack(errors).double() * BITS, ends.decoder])


x0 = held_out[::2][: budget.samples(90)]
for name, each in (("L_simple", unet), ("bound", bound_unet)):
    bits = count_bits(each, x0)
    total, (_, middle, decoder) = bits.sum(0), bits.mean(1)
    print(f"{name:8s}  {total.mean():.2f} ± {total.std() / len(total) ** 0.5:.2f} bits per dimension "
          f"(steps {middle:.2f}, decoder {decoder:.2f})")  # fmt: skip

# %%
from diffusion_lessons import zoo
from diffusion_lessons.metrics import evaluate

pair = {"L_simple": made, "bound": draw_digits(bound_unet, len(made))}
for name, pictures in pair.items():
    value, error = evaluate(pictures.clamp(-1, 1), yardstick=zoo.yardstick("digits"))["frechet"].values()
    print(f"{name:8s}  Fréchet distance {value:.1f} ± {error:.1f} (n = {len(made)})")
strip(
    {name: pictures[:12] for name, pictures in pair.items()},
    alt="Twelve samples of each network from the same noise. Those of the network trained on L_simple are "
    "mostly readable digits; many of the one trained on the bound are broken strokes.",
    columns=12,
)

# %% [markdown]
# One run each proves little, so here is the same as a **recorded experiment**: longer training, networks that are told the
# class, three seeds, and the bound trained in both ways. `diffusion-lessons experiment simple-vs-vlb --n 500` runs it again.

# %%
from diffusion_lessons.experiments import recorded

result, by_name = recorded("simple-vs-vlb"), {}
for row in result["rows"]:
    by_name.setdefault(row["settings"]["objective"], []).append(row)
print(
    f"{result['hardware']['cores']} cores, torch {result['versions']['torch']}, n = {result['options']['n']}"
)
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8))
base = torch.tensor([row["error_in_eps"] for row in by_name["simple"]]).mean(0)
for name, rows in by_name.items():
    figures = torch.tensor([[row["bits"], row["frechet"], row["accuracy"]] for row in rows])  # (3, 3)
    mean, error = figures.mean(0), figures.std(0) / 3**0.5
    print(f"{name:15s}  {mean[0]:.2f} ± {error[0]:.2f} bits per dimension, Fréchet distance "
          f"{mean[1]:.2f} ± {error[1]:.2f}, accuracy {mean[2]:.2f} ± {error[2]:.2f}")  # fmt: skip
    (drawn,) = right.plot(figures[:, 0], figures[:, 1], linestyle="", label=name)
    ratio = torch.tensor([row["error_in_eps"] for row in rows]).mean(0) / base
    left.semilogx(rows[0]["t"], ratio, color=drawn.get_color(), marker=drawn.get_marker(), ms=3)
left.set(xlabel="t", ylabel="error in ε ÷ that of simple", ylim=(0, None))
right.set(xlabel="bits per dimension", ylabel="Fréchet distance", ylim=(0, None))
right.legend(fontsize=8)
figure(
    fig,
    alt="Left: error in ε over t, divided by that of L_simple: with t drawn from 0.65 at t = 2 through 1 "
    "near t = 40 to almost 2; with the loss weighted from 1 to 4. Right: bits against Fréchet distance of "
    "nine networks: few bits with t drawn, small distances with simple, neither with weighted.",
)
saved = {
    name: torch.frombuffer(bytearray.fromhex(rows[0]["pictures"]), dtype=torch.uint8).view(10, 1, 16, 16)
    for name, rows in by_name.items()
}
kinds = "all readable with L_simple, many broken with the bound weighted, most readable with t drawn"
strip(saved, alt=f"Ten recorded samples, 0 to 9, of each training: {kinds}.", columns=10)

# %% [markdown]
# The direction is the same. With t drawn by its weight, the bound needs the fewest bits, and L_simple makes the better digits.
# The left plot says why. At small t, where the bits are, that network is up to a third more exact; beyond t = 500, where
# shapes are decided, its error is up to twice as large. The weighted loss has the same gradient on average, but so
# noisy a one that the network gains nothing at small t and loses most elsewhere.
#
# **Published**, for other data, another network and another kind of features (Ho et al. 2020, CIFAR-10, tables 1 and 2):
#
# | trained on | bits per dimension | FID |
# |---|---|---|
# | the bound, fixed variance | ≤ 3.70 | 13.51 |
# | L_simple | ≤ 3.75 | 3.17 |
#
# They also tell where the 3.75 bits go: 1.78 into prior and steps, 1.97 into the decoder, which pays for errors of about one
# grey level in 256 (section 4.3).

# %% [markdown] tags=["play"]
# ## Play
#
# What your `training_step` did to the network: its idea $\hat x_0$ of four held-out digits, from
# $x_{50}$, $x_{150}$, $x_{300}$ and $x_{500}$, over the steps of training. Which is learnt first?

# %%
shown = torch.stack(list(watched.values()))  # (25, 4, 1, 16, 64): frames, times
scrub(
    {f"x̂₀ at t = {t}": shown[:, k] for k, t in enumerate(WATCH)},
    [f"step {step}" for step in watched],
    alt="The network's guess at four digits over training: noise at step 0. From t = 50 the digits stand "
    "there after a few dozen steps; from t = 300 and 500 they come later, and stay grainy or wrong.",
    columns=5,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your functions against torch's own divergence and against this package's `losses`, written in other terms: a weight on the
# error in $x_0$ for every target.

# %%
from diffusion_lessons.losses import diffusion_loss, variational_bound

a, b = torch.distributions.Normal(0.3, 0.5), torch.distributions.Normal(-0.2, 0.8)
four_numbers = [torch.tensor(v) for v in (0.3, 0.5, -0.2, 0.8)]
print(
    f"gaussian_kl against torch.distributions: {(gaussian_kl(*four_numbers) - torch.distributions.kl_divergence(a, b)).abs():.1e}"
)
level = path(steps)
package = variational_bound(path)(level) * (level.sigma / level.alpha) ** 2
print(f"vlb_weight against losses.variational_bound, relative: {(weights / package - 1).abs().max():.1e}")
x0, t = held_out[:8], torch.tensor([1, 2, 10, 100, 250, 500, 900, 1000])
noise = torch.randn(x0.shape, generator=generator)
with torch.no_grad():
    ours = simple_loss(lambda x, t: unet(x, t - 1.0), x0, noise, t, kept)
    package = diffusion_loss(unet, path, EPSILON, x0, noise, t)
print(f"simple_loss against losses.diffusion_loss: {(ours - package).abs().max():.1e}")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks |
# |---|---|
# | target and input from different noise: a shuffled batch, fresh noise drawn for the target | the loss falls to 1 and stays; samples are noise |
# | target $x_t - x_0$ or $\sigma\varepsilon$ in place of $\varepsilon$ | the loss looks *better*, as the target is smaller at small t; samples stay grainy |
# | the network is told t in training and t − 1 (or t/T) in sampling | no error; samples slightly or wholly wrong |
# | one t for the whole batch | the loss jumps from step to step, training is slow |
# | the bound's weight with t drawn evenly | a few pictures of a batch decide each step: noisy gradients, a network that is bad at everything |
# | losses of two schedules or weights compared | nothing follows: each has another irreducible part |
# | the last batch's loss taken for progress | it depends on the times drawn: average over hundreds of steps |

# %% tags=["interview"] jupyter={"source_hidden": true}
interview_card(
    "What is the training objective of a diffusion model?",
    "Draw a clean picture, a random time t and Gaussian noise ε, make xₜ = √ᾱₜ·x₀ + √(1 − ᾱₜ)·ε in one "
    "jump, and train a network to predict ε from xₜ and t with a mean squared error.\n\nIt comes from the "
    "variational bound on −log p(x₀): a sum of KL divergences between the true posterior step and the "
    "model's step. Both are Gaussian with the same variance, so each KL is a squared distance of means, "
    "which is a squared error in ε times a weight. L_simple drops the weight. That gives up some "
    "likelihood, which asks most for errors at tiny noise that nobody sees, and gains sample quality.",
    [
        (
            "Why predict ε and not x₀ or the mean?",
            "In principle they are the same: with xₜ known, each follows from the others. In practice they "
            "differ by a weight over t and in the scale of the output; ε has variance 1 at every t. Lesson "
            "17 compares the targets.",
        ),
        (
            "Is L_simple still a bound?",
            "Not with its uniform weight as such. It is a weighted sum of the bound's terms, without its "
            "prior and with another decoder. Each term keeps its minimum at E[ε | xₜ].",
        ),
        (
            "What loss would a perfect model have?",
            "The mean variance of ε given xₜ: above 0, unknown for real data, computable for a mixture of "
            "Gaussians. So the loss alone does not say how good a model is.",
        ),
        (
            "Your loss sits at exactly 1.0. What do you check?",
            "1 is the loss of answering 0 to unit noise: the input tells nothing of the target. Check that "
            "the target is the very noise that made xₜ, row by row, and that the gradient reaches the "
            "weights.",
        ),
        (
            "How would you train the bound itself?",
            "Draw t in proportion to its weight, or by the size of its recent losses. With t drawn evenly "
            "the few steps near t = 0 dominate and the gradient is noisy.",
        ),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Why does the KL of a step reduce to a squared distance of means?",
        [
            Choice(
                "because both Gaussians have the same variance",
                True,
                "We give the model's step the posterior's variance, and the terms with variances cancel.",
            ),
            Choice(
                "because the steps are small",
                False,
                "It holds for steps of any size, if the variances are equal.",
            ),
            Choice(
                "because the network predicts ε",
                False,
                "It would be the same if it predicted x₀: the mean is linear in both.",
            ),
        ],
    ),
    Question(
        "L_simple gives every t the same weight on the error in ε. Which weight is that on the error in x₀?",
        [
            Choice(
                "1 as well",
                False,
                "x₀ − x̂₀ is σ/α times the error in ε, so the weights differ by that factor squared.",
            ),
            Choice("SNR(t)", True, "|ε − ε̂|² = (α²/σ²)·|x₀ − x̂₀|²."),
            Choice("½(SNR(t−1) − SNR(t))", False, "That is the bound's."),
            Choice(
                "1/SNR(t)", False, "The other way round: errors in x₀ count most where the signal is strong."
            ),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Two models of the same data: A has an ε-loss of 0.031 on a cosine schedule, B 0.045 on a linear "
        "one. Which is better?",
        [
            Choice(
                "A",
                False,
                "Its schedule may only visit noisier levels, where the loss is small for everybody.",
            ),
            Choice("B", False, "Nothing speaks for it either."),
            Choice(
                "one cannot tell",
                True,
                "The irreducible part depends on the levels visited. Compare bits, or samples, or losses on "
                "the same levels.",
            ),
        ],
    ),
    Question(
        "A network trained on the bound has fewer bits per dimension, and worse samples. How can that be?",
        [
            Choice(
                "the bound is not tight", False, "Here bits were measured for both networks in the same way."
            ),
            Choice(
                "most bits pay for faint grain, samples are judged by their shapes",
                True,
                "A network of limited size and time spends its effort where the weight is: at tiny noise.",
            ),
            Choice(
                "it was trained for fewer steps", False, "Both had the same number of steps and pictures."
            ),
        ],
    ),
)

# %% [markdown] tags=["references"]
# ## References
#
# - Ho, Jain and Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv 2006.11239: eq. 5 (the bound), eq. 8 to 12 (from
#   KL to ε), eq. 13 (decoder), eq. 14 (L_simple); tables 1 and 2; section 4.3 (where the bits go); appendix A (derivation).
# - Sohl-Dickstein et al. 2015, arXiv 1503.03585: section 2.4, the bound for diffusion.
# - Kingma et al. 2021, *Variational Diffusion Models*, arXiv 2107.00630: eq. 13, the bound by differences of the SNR.
# - Nichol and Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, arXiv 2102.09672: section 3.3, noisy
#   gradients of the bound and drawing t by importance.
#
# So far the list of $\beta$s was given. Who chose it, and is it a good one? {{lesson 05}}.
