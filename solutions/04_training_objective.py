# %% [markdown] tags=["header"]
# title: The training objective
# question: What loss does a diffusion model minimise, and where does it come from?
# difficulty: 2
# prerequisites: 02, 03
# builds: diffusion_loss, vlb_terms, losses, bound, training

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - compute the divergence of two Gaussians, and choose the width of a step so that it becomes smallest (exercises 04.1
#   and 04.5)
# - turn a term of the variational bound into a weight on the error in the noise (exercise 04.2)
# - write the loss that DDPM trains on, and say what it changes in the bound (exercise 04.3)
# - find a target that is out of step with its input, from the value at which the loss sticks (exercise 04.4)
# - build the whole training: batches, steps, and an average of the weights (exercises 04.6 and 04.7)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# A 3 and an 8, drawn by the MNIST model that comes with this course, under more and more noise. Suppose a network makes the
# same small mistake at every time $t$: its estimate $\hat\varepsilon$ of the noise is off by a tenth of the noise's size. What
# does that do to the picture $\hat x_0$ that follows from it? Drag the slider.

# %%
import torch

from diffusion_lessons import zoo
from diffusion_lessons.course import Watched, budget, exercise, figure, scrub, strip
from diffusion_lessons.generate import generate
from diffusion_lessons.paths import DiscreteVP, add_noise
from diffusion_lessons.schedules import linear_betas
from diffusion_lessons.targets import EPSILON

path = DiscreteVP(linear_betas())  # T = 1000
alphas_cumprod = path.alphas_cumprod  # (1001,), float64; the entry for time t at place t


def side_by_side(batches):
    """Batches (B, C, H, W) as one picture each: (N, C, H, B·W)."""
    return torch.stack([torch.cat(list(pictures), -1) for pictures in batches])


two = generate(zoo.load("mnist-unet"), torch.tensor([3, 8]), seed=6, steps=20, guidance=1.0).clamp(-1, 1)
noise, mistake = torch.randn(2, *two.shape, generator=generator)
times = (2, 5, 10, 20, 50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800, 900, 1000)
levels = [path(t) for t in times]
seen = [add_noise(two, noise, level) for level in levels]
guessed = [EPSILON.solve(noise + 0.1 * mistake, x, level).x0 for x, level in zip(seen, levels, strict=True)]
scrub(
    {"x": side_by_side(seen), "x̂₀": side_by_side(guessed)},
    [f"t = {t} · σ/α = {level.sigma / level.alpha:.2f}" for t, level in zip(times, levels, strict=True)],
    alt="A 3 and an 8 from t = 2 to t = 1000, and beside them the picture that follows from a noise estimate that is "
    "off by a tenth. Up to t = 300 that picture is nearly clean; at t = 500 it is grainy, and from t = 800 on nothing but noise.",
)

# %% [markdown]
# The same mistake is invisible at t = 100 and hides the picture at t = 1000. The reason is
# $\hat x_0 = (x - \sigma\hat\varepsilon)/\alpha$: a mistake in $\hat\varepsilon$ is multiplied by $\sigma/\alpha$. This factor is
# 0.04 at t = 10 and 157 at t = 1000. (`generate` drew the two digits. It is a closed box here: {{built-in 10}}.)

# %% [markdown] tags=["guess"]
# ## Guess
#
# One network serves all 1000 times. In training, its mistakes at all these times are added up into *one* number, the loss.
# **How much should a mistake in $\hat\varepsilon$ count at each $t$?** Think of a rule, and of what it would lead to. Take two
# minutes before you unfold.
#
# <details><summary>What can be said</summary>
#
# - *By what it does to $\hat x_0$.* Then the weight is $\sigma^2/\alpha^2$: about 25,000 at t = 1000 and 0.002 at t = 10. Nearly
#   all of the weight lies on times at which nothing of the picture can be seen. The strokes get next to none.
# - *All alike.* It needs no reason, and it is what most models were trained with. You will see what it stands for.
# - *By how probable the real pictures become.* A generative model should give real pictures a high probability. That is a
#   principle, and it fixes every weight. You derive them in this lesson, and they may surprise you.
# - *By how hard the time is*, for instance divided by the loss that is reached there. A few recent models do this.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# The principle has a name: the variational bound. It is not the loss that made diffusion models famous.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "A network makes the same squared error in ε at every t. Which of these errors does the variational "
    "bound, a bound on −log p(x₀), punish most?",
    [
        Choice(
            "those near t = 0, which nobody can see",
            True,
            "The weight is 0.6 at t = 2 and 0.005 at t = 350. A likelihood asks for every last grey level, "
            "seen or not.",
        ),
        Choice(
            "those near t = T, which hide the picture",
            False,
            "At t = T the step only has to get from one nearly pure noise to the next: whatever the network thinks "
            "of the picture hardly moves it. The weight there is 0.01.",
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
# The receiver has the network and guesses each next one. You pay for how far that guess, $p_\theta(x_{t-1}\mid x_t)$, is from
# what you know, the posterior $q(x_{t-1}\mid x_t, x_0)$ of lesson 3. This distance is a **Kullback–Leibler divergence**.
# The sum of all payments is never less than $-\log p_\theta(x_0)$, on average over the noise. With the logarithm to base 2 it
# is in bits; divided by the number of pixels, in **bits per dimension**.

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
# How close is the bound to the truth? Take data for which all is known: "pictures" of one pixel, dark, grey or bright, from
# a mixture of three Gaussians. Its denoiser is exact, so no network is to blame for anything. The true $-\log_2 p(x_0)$
# is known, too. The width of the model's step is still to be chosen. We take the posterior's variance, $\tilde\beta_t$.

# %%
from diffusion_lessons.bound import vlb_terms
from diffusion_lessons.data import to_float, to_uint8
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import posterior

BITS = 1 / torch.log(torch.tensor(2.0)).item()  # bits in a nat
pixel = GaussianMixture(torch.tensor([[-0.6], [0.0], [0.6]]).double(), 0.1)
x0 = to_float(to_uint8(pixel.sample(4000, generator)[0])).double()  # (4000, 1), 256 grey levels
normal = torch.distributions.Normal(pixel.means[:, 0], pixel.stds)
true = -(normal.cdf(x0 + 1 / 255) - normal.cdf(x0 - 1 / 255)).mean(1).log2()  # (4000,) bits


def short_chain(T):
    return DiscreteVP(linear_betas(T, 0.1 / T, 20 / T))  # the same noise in fewer, larger steps


# %%
LENGTHS, measured = (25, 50, 100, 250, 1000), {}
for T in LENGTHS:
    chain, t, errors = short_chain(T), torch.arange(2, T + 1), []
    for s in range(2, T + 1):
        level, noise = chain(s), torch.randn(4000, 1, generator=generator).double()
        errors.append((pixel(add_noise(x0, noise, level), level).x0 - x0).square()[:, 0])
    error = torch.stack(errors)  # (T − 1, 4000), the squared error of x̂₀
    off, narrow = posterior(error.sqrt(), 0 * error, chain(t), chain(t - 1))  # error of the mean; β̃
    std = narrow.sqrt()[:, None]
    steps = gaussian_kl(0 * off, std, off, std).sum(0) * BITS  # (4000,), with your function
    ends = vlb_terms(pixel, chain, x0, [], generator=generator)  # prior and decoder
    gap = ends.prior + steps + ends.decoder - true  # (4000,)
    measured[T] = error.mean(1), (ends.prior + ends.decoder - true).mean()
    print(f"T = {T:4d}: {gap.mean():.2f} ± {gap.std() / 4000**0.5:.2f} bits above the true {true.mean():.2f}")

# %% [markdown]
# The denoiser is perfect, and the bound is still bits above the truth. Each ± is a standard error over the 4,000 pixels. There
# are two suspects. Lesson 3 showed that one Gaussian has the wrong *shape* for the reverse of a large step. Or the Gaussian has
# the wrong *width*.
#
# $\tilde\beta_t$ is the posterior's variance for somebody who knows $x_0$. The receiver knows $\hat x_0$ only, so the mean of
# the guess is off. A guess that is off should be wider. How much wider?

# %% [markdown] tags=["exercise-card"]
# The mean of the step moves with $\hat x_0$ by the factor $c_t = \alpha_{t-1}\beta_t/\sigma_t^2$ (lesson 3). So the mean
# divergence for a step of variance $v$ is
# $\tfrac12\big(\ln(v/\tilde\beta_t) + (\tilde\beta_t + c_t^2\,\mathbb E\|x_0-\hat x_0\|^2)/v - 1\big)$ for each pixel.
#
# {{exercise 04.5}}


# %% tags=["exercise"]
@exercise("04.5")
def best_variance(error, t, alphas_cumprod):
    """The variance of the step from t to t − 1 for which the mean divergence is smallest: one for each t.

    error: (B,), entry i is the mean of (x̂₀ − x₀)² over all pixels and pictures at time t[i]; t: (B,) whole
    numbers from 2 to T; alphas_cumprod: (T + 1,), float64, from 1 downwards. The model's step has the
    posterior's mean, with x̂₀ in the place of x₀. Returns (B,), float64.
    """
    ### BEGIN SOLUTION
    now, before = alphas_cumprod[t], alphas_cumprod[t - 1]
    beta = 1 - now / before
    factor = before.sqrt() * beta / (1 - now)
    return beta * (1 - before) / (1 - now) + factor**2 * error
    ### END SOLUTION


# %%
def bits_of_steps(error, t, chain):
    """Bits of each step (n,) for three choices of its variance; error: (n,) in x̂₀ at the times t (n,)."""
    zero = torch.zeros_like(error)
    off, narrow = posterior(error.sqrt(), zero, chain(t), chain(t - 1))  # how far the mean is off; β̃
    choices = {"β̃": narrow, "β": chain.betas[t - 1], "best": best_variance(error, t, chain.alphas_cumprod)}
    return {name: gaussian_kl(zero, narrow.sqrt(), off, v.sqrt()) * BITS for name, v in choices.items()}


gaps = {}
for T, (error, ends) in measured.items():
    steps = bits_of_steps(error, torch.arange(2, T + 1), short_chain(T))
    gaps[T] = {name: (bits.sum() + ends).item() for name, bits in steps.items()}
    print(f"T = {T:4d}: " + ", ".join(f"{name} {gap:.2f}" for name, gap in gaps[T].items()))

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(7.4, 3))
for k, (name, hatch) in enumerate({"β̃": "//", "β": "", "best": ".."}.items()):
    place = [i + 0.27 * (k - 1) for i in range(5)]
    ax.bar(place, [gaps[T][name] for T in LENGTHS], 0.25, hatch=hatch, label=name)
ax.set_xticks(range(5), [f"T = {T}" for T in LENGTHS])
ax.set(ylabel="bits above the truth")
ax.legend(title="variance of the step")
figure(
    fig,
    alt="Bits above the truth for chains of 25 to 1000 steps, for three variances. With β̃ the bars fall from above 4 to "
    "about 0.6. With β they fall from 0.5 to nearly nothing, and with the best variance they are a little lower still.",
)

# %% [markdown]
# **What to notice:** it was the width. With the best variance for each t, nearly all of the gap is gone: at T = 25 it falls
# from more than 4 bits to about 0.4. What is left has two causes: one width has to do for all $x_t$, and the shape is wrong.
# (With the best width for each $x_t$, which can be computed for this mixture, 0.26 bits are left at T = 25, and 0.09 at T = 50.
# That part is the shape.) At T = 1000 the rest is within the noise of this measurement.
#
# Even β, which needs no measurement, is nearly as good. Ho et al. tried β and $\tilde\beta$ in sampling, and the results were
# similar. For the mathematics $\tilde\beta_t$ is the convenient choice, as you will see now.

# %% [markdown] tags=["idea"]
# ## From divergence to a squared error in the noise
#
# Each $L_{t-1}$ compares two Gaussians. Give the model's step the posterior's variance, $\tilde\beta_t$. Then the
# logarithm in your formula vanishes, the constants cancel, and what remains is a squared distance of means.
#
# The posterior's mean is a mix of $x_t$ and $x_0$. Both sides know $x_t$. Only for $x_0$ the model has to put its guess
# $\hat x_0$. So the error in the mean is a fixed multiple of the error in $x_0$. And the error in $x_0$, as the slider showed,
# is $\sigma/\alpha$ times the error in $\varepsilon$. Mean, picture, noise: one error in three units.

# %% [markdown]
# $$L_{t-1} = \frac{\mathbb E\,\|\tilde\mu_t(x_t,x_0)-\tilde\mu_t(x_t,\hat x_0)\|^2}{2\tilde\beta_t}
# = \tfrac12\big(\mathrm{SNR}(t-1)-\mathrm{SNR}(t)\big)\,\mathbb E\,\|x_0-\hat x_0\|^2
# = w_t\;\mathbb E\,\|\varepsilon-\hat\varepsilon\|^2$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\tilde\mu_t, \tilde\beta_t$ | mean and variance of the posterior | (B, C, H, W), number |
# | $\mathrm{SNR}(t)$ | $\alpha_t^2/\sigma_t^2 = \bar\alpha_t/(1-\bar\alpha_t)$ | number |
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
    Whether the squares are added up over the pixels or averaged, in error and term alike, changes no weight.
    """
    ### BEGIN SOLUTION
    snr = alphas_cumprod / (1 - alphas_cumprod)
    return 0.5 * (snr[t - 1] / snr[t] - 1)
    ### END SOLUTION


# %% [markdown]
# Put two exercises against each other, on real digits. On the left, your divergence between the two posteriors, with the true
# $x_0$ and with a wrong guess. On the right, your weight times the error in the noise.

# %% tags=["nbval-check-output"]
from diffusion_lessons.data import load_dataset

train, test = load_dataset("digits", "train", size=16), load_dataset("digits", "test", size=16)
digits, held_out = to_float(train.images), to_float(test.images)  # (1442, 1, 16, 16), (355, 1, 16, 16)

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
steps = torch.arange(2, 1001)
weights = vlb_weight(steps, alphas_cumprod)  # (999,)
early = (weights[steps <= 20].sum() / weights.sum()).item()
print(f"{early:.0%} of the bound's weight lies on the first 19 of 999 steps")

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course.widgets import plain_lines

with plain_lines():
    fig, ax = plt.subplots(figsize=(7.4, 2.8))
    ax.loglog(steps, weights, label="variational bound")
    ax.loglog(steps, weights.mean().expand(999), label="all alike (same total)")
    ax.set(xlabel="t", ylabel="weight on the error in ε")
    ax.legend()
figure(
    fig,
    alt="Weight on the error in ε over t, both axes logarithmic. The bound's weight falls from 0.6 at t = 2 "
    "to 0.005 at t = 350 and rises to 0.01 at t = 1000; a flat line at 0.01 has the same total.",
)

# %% [markdown]
# **What to notice:** the bound cares most where errors cannot be seen. To give the exact grey levels a high probability, the
# network has to tell the faintest noise from the faintest grain of the data. For the bits this is right. But then the network
# spends its effort on what no eye will notice.

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
    """The error in the noise, averaged over all entries of each picture, its channels included.

    network: called as network(x, t), with the whole batch or picture by picture, gives the shape of x;
    x0, noise: (B, C, H, W); t: (B,) whole numbers from 1 to T; alphas_cumprod: (T + 1,). Noise i and time i
    belong to picture i. Returns (B,).
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
    """Change the network's weights once, by the gradient of the mean loss of this batch; return that loss.

    network: called as network(x, t); x0, noise: (B, C, H, W); t: (B,); alphas_cumprod: (T + 1,). Picture i
    is noised with noise[i] to the time t[i]. Gradients that are left over from earlier must not count. The
    loss is that of the weights before the change; it comes back as a 0-d tensor, detached.
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
# ### How low can the loss go?
#
# A classifier's loss can approach 0. This one cannot. Many pairs of picture and noise lead to the same $x_t$, and the
# network has one answer for all of them. The best is their mean. What remains is the spread around it, the
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

# %% [markdown]
# Watch it for a picture of two pixels, which is a point in the plane. The first panel shows $x_t$ of one picture and one noise,
# over the density of noisy data. The second panel shows 200 pictures that may lie behind this $x_t$. The third panel shows
# the 200 noises that belong to them. Drag from t = 20 to t = 1000: which of the two clouds shrinks?

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Points, landscape

blobs = GaussianMixture(torch.tensor([[-0.8, 0.6], [0.8, 0.6], [0.0, -0.9]]), 0.3)
one, its_noise = torch.tensor([[0.6, 0.3]]), torch.tensor([[-0.9, -0.4]])
uniform, spread = torch.rand(200, generator=generator), torch.randn(200, 2, generator=generator)
shown = [path(t) for t in (20, 50, *range(100, 1001, 50))]
dot = 0.06 * torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))  # 3 × 3 points: x is one large dot
places, pictures, noises = [], [], []
for level in shown:
    x = add_noise(one, its_noise, level)
    alpha, sigma = level.like(x)
    mean, variance = blobs.component_moments(x, level)  # (1, 3, 2), (1, 3)
    k = torch.searchsorted(blobs.posterior(x, level)[0].cumsum(0), uniform).clamp(max=2)
    x0 = mean[0, k] + variance[0, k, None].sqrt() * spread  # (200, 2), draws of x₀ given x
    places.append(x + dot)
    pictures.append(x0)
    noises.append((x - alpha * x0) / sigma)
scrub(
    {
        "x": landscape(blobs, shown, torch.stack(places), arrows=0),
        "pictures behind x": Points(pictures, behind=blobs.sample(400, generator)[0]),
        "their noises": Points(noises),
    },
    shown,
    alt="One point x over a density that melts from three spots into one. At t = 20 the pictures that may lie behind x are "
    "one small spot, and the noises that belong to them a cloud as wide as the noise itself. From t = 250 on the pictures "
    "fill all three groups of the data. The noises draw together, to one spot at t = 1000.",
    title="Scrub from little noise to much",
    columns=5,
)

# %% [markdown]
# The third cloud is what the network has to guess, and it can give one answer only. The size of this cloud is the irreducible
# loss: near 1 where the noise is faint, near 0 at t = 1000, where $x_t$ *is* the noise.
#
# Does training get there? We train a small network of three layers on such pictures: once with your step, once with its answers
# compared with the noise of the *next* picture.

# %%
import copy

from torch import nn

kept = alphas_cumprod.float()


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        inner = [nn.Linear(10, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU()]
        self.layers = nn.Sequential(*inner, nn.Linear(96, 2))

    def forward(self, x, t):
        angle = t[:, None] / 1000 * torch.tensor([3.0, 10.0, 30.0, 100.0])
        return self.layers(torch.cat([x.flatten(1), angle.sin(), angle.cos()], 1)).view_as(x)


# %%
def train_small(shift):
    """A trained network and its losses; its answers are compared with the noise of `shift` pictures on."""
    torch.manual_seed(0)
    small, draws, losses = Small(), torch.Generator().manual_seed(0), []
    optimizer = torch.optim.Adam(small.parameters())
    for step in (steps := Watched(budget.steps(1200))):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / len(steps))
        x0 = blobs.sample(512, draws)[0].view(512, 1, 1, 2)
        noise, t = torch.randn(x0.shape, generator=draws), torch.randint(1, 1001, (512,), generator=draws)
        loss = training_step(lambda x, t: small(x, t).roll(-shift, 0), optimizer, x0, noise, t, kept)
        losses.append(loss.item())
        steps.tell(loss)
    return small, torch.tensor(losses)


curves = {"target out of step": train_small(1)[1]}
small, curves["your step"] = train_small(0)

# %%
times = [1, 3, 10, 30, 60, 100, 150, 200, 300, 400, 500, 650, 1000]
floor = [blobs.optimal_loss(EPSILON, path(t), 20_000, generator)[0] for t in times]
x0 = blobs.sample(4000, generator)[0].view(4000, 1, 1, 2)
noise = torch.randn(x0.shape, generator=generator)
with torch.no_grad():
    reached = torch.stack([simple_loss(small, x0, noise, torch.full((4000,), t), kept) for t in times])
every_tenth = [blobs.optimal_loss(EPSILON, path(t), 2000, generator)[0] for t in range(5, 1000, 10)]
overall, last = torch.tensor(every_tenth).mean(), curves["your step"][-len(curves["your step"]) // 10 :]
print(f"mean over t: no network can go below {overall:.3f}")
print(f"yours, last tenth of training: {last.mean():.3f} ± {last.std() / len(last) ** 0.5:.3f} (over the batches)")

# %% jupyter={"source_hidden": true}
with plain_lines():
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3))
    for name, curve in curves.items():
        left.plot(curve[: len(curve) // 20 * 20].view(-1, 20).mean(1), label=name)
    left.axhline(overall, color="gray", linestyle=":", label="irreducible")
    left.set(xlabel="training step / 20", ylabel="loss", ylim=(0, 1.25))
    left.legend(fontsize=9)
right.semilogx(times, floor, "--", marker="", color="gray", label="irreducible, exact")
two_errors = 2 * reached.std(1) / 4000**0.5
right.errorbar(times, reached.mean(1), two_errors, fmt="o", capsize=2, label="reached, ± 2 standard errors")
right.set(xlabel="t", ylabel="loss", ylim=(0, 1.25))
right.legend(fontsize=9)
above = (reached.mean(1) - torch.tensor(floor)).max()
figure(
    fig,
    alt=f"Left: the loss of your step falls to the dotted line of the irreducible loss, {overall:.2f}, and that of the step "
    "with a target out of step stays at 1. Right: the irreducible loss over t falls from 1 at t = 1 to 0 at t = "
    f"1000, and the network's lies on it, or at most {above:.2f} above.",
)

# %% [markdown]
# **What to notice:** a loss that has stopped falling may be nearly as good as it can be. Yours ends about 5 % above the
# irreducible loss. Of this, 85 % comes from t ≤ 300, and 40 % from t ≤ 100, where no network can do much. Two losses can only be
# compared for the same data, schedule and weights.

# %% [markdown] tags=["idea"]
# ## The whole training, and an average
#
# Now real digits. The loop is short: draw a batch, take a step, repeat. But each step follows the gradient of one batch, with
# times and noise drawn by chance. So the weights never rest. They jitter around a good place, and the samples with them.
#
# One remedy is a learning rate that falls to 0. It has to know when training ends. Another is an **exponential moving average
# (EMA)**. Keep a second copy of the network. After each step, move its weights a little towards those in training. Samples are
# drawn with the copy.
#
# $$\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta, \qquad d = \min\!\Big(0.999,\ \frac{n}{n+10}\Big)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $\theta, \bar\theta$ | weights in training, and their average | those of the network |
# | $n$ | number of steps done | number |
# | $d$ | share of the average that is kept | number |
#
# Why the second part of $d$? The average starts at the random weights of an untrained network. With $d = 0.999$ from the
# start, $0.999^{600}$ = 55 % of them would still be there after 600 steps. With $n/(n+10)$ they are soon
# forgotten. (Ho et al. used 0.9999, in 800,000 steps.)

# %% [markdown] tags=["exercise-card"]
# {{exercise 04.6}}


# %% tags=["exercise"]
@exercise("04.6")
def average_weights(average, network, step, decay):
    """Move the weights of `average` towards those of `network`, in place, after step number `step` (1, 2, …).

    average, network: two networks of one class; .parameters() gives their weights in the same order. Each
    weight of the average keeps the share min(decay, step / (step + 10)) of itself and gets the rest from the
    network, which stays as it is. Returns nothing.
    """
    ### BEGIN SOLUTION
    share = min(decay, step / (step + 10))
    with torch.no_grad():
        for kept, now in zip(average.parameters(), network.parameters()):
            kept.copy_(share * kept + (1 - share) * now)
    ### END SOLUTION


# %% [markdown] tags=["exercise-card"]
# Your pieces now make a whole: everything between a data set and a trained network. The network is told the label of each
# picture, so that it can be asked for a digit later. `network.of(labels)` is the network for pictures with these labels: a
# function of x and t.
#
# The argument `shares` says how often each time is drawn. All shares alike give L_simple. Other shares come later.
#
# {{exercise 04.7}}


# %% tags=["exercise"]
@exercise("04.7")
def train_averaged(network, optimizer, pictures, labels, alphas_cumprod, shares, steps, generator, after_step):
    """Train network, step by step; return a copy of it (copy.deepcopy, made first) with the averaged weights.

    pictures: (N, C, H, W); labels: (N,), label i of picture i; network.of(labels of a batch) is called as
    (x, t); shares: (T + 1,), how often each t from 0 to T is drawn; they need not add up to 1, and that of
    t = 0 is 0; steps: a range or the like, to loop over once, gives 0, 1, 2, …

    In each step draw with the generator, in this order: which 32 pictures (torch.randint, any of the N, also
    twice), their times (torch.multinomial on shares, with replacement) and their noise (torch.randn). Then
    take one training_step and one average_weights with decay 0.999 (the first step has the number 1 there),
    and call after_step(loss) with what training_step returned.
    """
    ### BEGIN SOLUTION
    average = copy.deepcopy(network)
    for step in steps:
        chosen = torch.randint(len(pictures), (32,), generator=generator)
        t = torch.multinomial(shares, 32, replacement=True, generator=generator)
        x0 = pictures[chosen]
        noise = torch.randn(x0.shape, generator=generator)
        of_these = network.of(labels[chosen])
        loss = training_step(of_these, optimizer, x0, noise, t, alphas_cumprod)
        average_weights(average, network, step + 1, 0.999)
        after_step(loss)
    return average
    ### END SOLUTION


# %%
from diffusion_lessons.networks import Patched, UNet, UNetConfig


class DigitNet(nn.Module):
    """A small U-Net that is told the label; a closed box here."""

    def __init__(self):
        super().__init__()
        shape = dict(in_channels=4, out_channels=4, base_channels=16, channel_mults=(1, 2), head_dim=16)
        unet = UNet(UNetConfig(**shape, attention_levels=(1,), num_classes=10))
        self.unet = Patched(unet, 2)  # 2 × 2 pixels at a time

    def of(self, labels):
        return lambda x, t: self.unet(x, t, labels)


def denoiser_of(network):
    """A network that guesses ε as a denoiser for the sampler; it is told the t that it was trained with."""

    def answer(x, level, labels):
        t = level.t.to(x).expand(len(x))
        return EPSILON.solve(network.of(labels)(x, t), x, level)

    return answer


# %% [markdown]
# *Your* loop now trains this U-Net ({{built-in 06}}) on 1,442 real digits. The learning rate is constant: it is the average
# that brings the weights to rest. On the way we keep $\hat x_0$ of two held-out digits, for the end of the lesson.

# %%
zero_and_two = torch.cat([held_out[test.labels == k][:1] for k in (0, 2)])  # (2, 1, 16, 16)
fixed, asked = torch.randn(zero_and_two.shape, generator=generator), torch.tensor([0, 2])
WATCH, watched = (150, 300, 450, 600), {}


@torch.no_grad()
def look(network, step):
    seen = [add_noise(zero_and_two, fixed, path(t)) for t in WATCH]
    guesses = [denoiser_of(network)(x, path(t), asked).x0 for x, t in zip(seen, WATCH)]
    watched[step] = side_by_side(guesses)  # (4, 1, 16, 32)


# %%
def fit(shares, watch=False):
    """Train a DigitNet with your loop; gives the network, the one with averaged weights, and the losses."""
    torch.manual_seed(0)
    network, steps, losses = DigitNet(), Watched(budget.steps(600)), []
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)

    def after_step(loss):
        losses.append(loss.item())
        steps.tell(loss)
        if watch and (len(losses) - 1) % max(1, len(steps) // 24) == 0:
            look(network, len(losses))

    draws = torch.Generator().manual_seed(0)
    average = train_averaged(network, optimizer, digits, train.labels, kept, shares, steps, draws, after_step)
    return network, average, losses


alike = torch.ones(1001)
alike[0] = 0  # there is nothing to learn at t = 0
raw, simple, losses = fit(alike, watch=True)
print(f"loss: first step {losses[0]:.2f}, mean of the last 50 {sum(losses[-50:]) / len(losses[-50:]):.3f}")

# %%
from diffusion_lessons.guidance import Clip
from diffusion_lessons.samplers import ddpm_step, sample

n = budget.samples(200, at_least=70)


def draw(network, seed=1):
    """n digits, 0 to 9 in turn, by ancestral sampling in 50 steps (lesson 3); the same noise for every network."""
    draws, labels = torch.Generator().manual_seed(seed), torch.arange(n) % 10
    noise = torch.randn(n, 1, 16, 16, generator=draws)
    denoiser = Clip(denoiser_of(network))
    return sample(denoiser, noise, path.levels(50), labels, step=ddpm_step, generator=draws).clamp(-1, 1)


drawn = {"weights at the end": draw(raw), "average": draw(simple)}


# %% jupyter={"source_hidden": true}
from diffusion_lessons.metrics import evaluate

yardstick = zoo.yardstick("digits")


def judged(name, pictures, labels):
    result = evaluate(pictures, labels, yardstick, reference="train")
    right, far = result["accuracy"], result["frechet"]
    print(f"{name:22s} {right['value']:.1%} ± {right['uncertainty']:.1%} read as asked, "
          f"Fréchet distance {far['value']:.2f} ± {far['uncertainty']:.2f}")  # fmt: skip


balanced = torch.cat([(test.labels == k).nonzero()[: n // 10, 0] for k in range(10)])
judged("real, held out", held_out[balanced], test.labels[balanced])
for name, pictures in drawn.items():
    judged(name, pictures, torch.arange(n) % 10)
strip(
    {name: pictures[:10] for name, pictures in drawn.items()},
    alt="Digits 0 to 9, drawn from the same noise with the weights at the end of training and with their average. Each pair "
    "has the same outline. The average closes the ring of the 0 and fills gaps in the 4 and the 6; 2, 3, 5 and 9 are hard to read in both rows.",
    captions=[str(k) for k in range(10)],
    columns=10,
)

# %% [markdown]
# **What to notice:** no term of a bound, no chain. A squared error between two pictures of noise, and from pure noise come
# digits. A bundled classifier reads most of them as asked. But the network is small and its training short: of the ten
# above, 2, 3, 5 and 9 are hard to read. (Each ± is a standard error over the pictures, for one seed. The Fréchet
# distance is 0 for a perfect match, {{built-in 20}}.)
#
# The two rows come from one training and the same noise; only the average differs. It lowers the Fréchet distance from
# about 2.9 to 2.0. At three more training seeds, tried when this lesson was written, it lowered it each time, by 0.3 to 1.2. The
# share that is read as asked rose by 0.5 to 7.5 points over the four seeds. With other noise, it fell once. The average costs a
# second copy of the weights, and nothing when pictures are drawn.
#
# The rival is a learning rate that falls evenly from 0.002 to 0. We tried it with the same four seeds. Mean Fréchet distances
# over the seeds: 2.7 for the weights at the end with the constant rate, 2.0 for their average, and 2.2 for the weights at the
# end with the falling rate (standard errors up to 0.25). So the falling rate does most of the same work. The average has one
# advantage: samples can be drawn at any time in training.

# %% [markdown] tags=["experiment"]
# ## Experiment: the bound against L_simple
#
# We train a second network on the bound itself: same start, same data, same number of steps. A weight can be applied in two
# ways whose gradients have the same mean: multiply the loss by $w_t$, or draw t in proportion to $w_t$ and
# multiply by nothing. The second way is far less noisy, and for your loop it is only another list of `shares`. (At t = 1, the
# decoder's, we use the weight of t = 2.)
#
# Then we send held-out digits through both, and count bits, with $\tilde\beta_t$ and with your best variance. The error in
# $\varepsilon$ is measured by your `simple_loss` at some twenty times, and interpolated over $\log t$ for all others.

# %%
_, bound, _ = fit(torch.cat([torch.zeros(1), weights[:1], weights]).float())

# %%
import numpy as np

AT = (2 * torch.logspace(0, 1, 24, base=500)).round().long().unique()  # times from 2 to 1000, even in log t
snr = alphas_cumprod / (1 - alphas_cumprod)


def all_steps(at, errors):
    """Bits of all 999 steps from errors in ε at some times: with the variance β̃, and with the best."""
    every = torch.from_numpy(np.interp(steps.log(), at.log(), errors))  # (999,)
    bits = bits_of_steps(every / snr[steps], steps, path)
    return bits["β̃"].sum().item(), bits["best"].sum().item()


@torch.no_grad()
def count_bits(network, x0, labels):
    draws, errors = torch.Generator().manual_seed(2), []
    for t in AT:
        noise = torch.randn(x0.shape, generator=draws)
        errors.append(simple_loss(network.of(labels), x0, noise, t.repeat(len(x0)), kept).mean())
    ends = vlb_terms(denoiser_of(network), path, x0, [], labels, generator=draws)
    narrow, best = all_steps(AT, torch.stack(errors).double())
    return narrow, best, (ends.prior + ends.decoder).mean().item()


some = held_out[:: 355 // budget.samples(118)], test.labels[:: 355 // budget.samples(118)]
for name, network in {"L_simple": simple, "bound": bound}.items():
    narrow, best, ends = count_bits(network, *some)
    print(f"{name:9s} {narrow + ends:.2f} bits per dimension with β̃, {best + ends:.2f} with the best variance")
pair = {"L_simple": drawn["average"], "bound": draw(bound)}

# %% jupyter={"source_hidden": true}
for name, pictures in pair.items():
    judged(name, pictures, torch.arange(n) % 10)
strip(
    {name: pictures[:10] for name, pictures in pair.items()},
    alt="Digits 0 to 9 by each network, from the same noise. The bound's have the same places and poses, but their strokes run "
    "together, most of all in 1, 4 and 8. Their background is often a spotted grey where that of L_simple is black.",
    captions=[str(k) for k in range(10)],
    columns=10,
)

# %% [markdown]
# The network that was trained on the bound needs fewer bits, and draws worse digits. One run each proves little, so here is
# the same as a **recorded experiment**: a larger U-Net, 1000 steps, a falling learning rate, three seeds, and the bound trained
# in both ways. `diffusion-lessons experiment simple-vs-vlb --n 500` runs it again.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.experiments import recorded

result, by_name = recorded("simple-vs-vlb"), {}
for row in result["rows"]:
    by_name.setdefault(row["settings"]["objective"], []).append(row)
machine, torch_version = result["hardware"]["cores"], result["versions"]["torch"]
print(f"{machine} cores, torch {torch_version}, n = {result['options']['n']}; ± one standard error over 3 seeds")
for name, rows in by_name.items():
    table = []
    for row in rows:
        errors = torch.tensor(row["error_in_eps"]).double()
        _, best = all_steps(torch.tensor(row["t"]).double(), errors)
        table.append([row["bits"], best + row["prior"] + row["decoder"], row["frechet"], row["accuracy"]])
    mean, error = torch.tensor(table).mean(0), torch.tensor(table).std(0) / 3**0.5
    print(f"{name:15s} {mean[0]:.2f} ± {error[0]:.2f} bits per dimension ({mean[1]:.2f} with the best variance)")
    print(f"{'':15s} Fréchet distance {mean[2]:.2f} ± {error[2]:.2f}, {mean[3]:.1%} read as asked")

# %% jupyter={"source_hidden": true}
fig, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.2))
base = torch.tensor([row["error_in_eps"] for row in by_name["simple"]]).mean(0)
for name, rows in by_name.items():
    figures = torch.tensor([[row["bits"], row["frechet"]] for row in rows])  # (3, 2)
    (points,) = right.plot(figures[:, 0], figures[:, 1], linestyle="", label=name)
    ratio = torch.tensor([row["error_in_eps"] for row in rows]).mean(0) / base
    left.semilogx(rows[0]["t"], ratio, color=points.get_color(), marker=points.get_marker(), ms=3)
left.set(xlabel="t", ylabel="error in ε ÷ that of simple", ylim=(0, None))
right.set(xlabel="bits per dimension (β̃)", ylabel="Fréchet distance", ylim=(0, None))
right.legend(fontsize=9)
figure(
    fig,
    alt="Left: error in ε over t, divided by that of L_simple: with t drawn from 0.62 at t = 2 through 1 "
    "near t = 45 to almost 2 at t = 1000; with the loss weighted from 0.93 to 4. Right: bits against Fréchet distance of "
    "nine networks: few bits with t drawn, small distances with simple, neither with weighted.",
)
saved = {
    name: torch.frombuffer(bytearray.fromhex(rows[0]["pictures"]), dtype=torch.uint8).view(10, 1, 16, 16)
    for name, rows in by_name.items()
}
strip(
    saved,
    alt="Ten recorded samples, 0 to 9, of each training, in the same poses. With L_simple all but 5 and 9 are easy to read. With the "
    "bound weighted some backgrounds are grey, 0 and 6 have gaps, and 1, 5 and 7 cannot be read. With t drawn the backgrounds "
    "are black, and 1, 5 and 7 are hard to read.",
    columns=10,
)

# %% [markdown]
# With t drawn by its weight, the bound needs the fewest bits, and L_simple makes the better digits. The best variance
# takes between 0.05 and 0.11 bits off each, and leaves their order as it is. The left plot says why. At small t, where the bits are,
# the error of the network with t drawn is up to 38 % smaller. Beyond t = 500, where shapes are decided, it is up to 1.9 times as large.
# The weighted loss has the same gradient on average, but so noisy a one that the network is at most 7 % better, at the smallest t.
# From about t = 12 on it is worse, at t = 1000 four times.
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
# What your loop did to the network: its guess $\hat x_0$ of two held-out digits, from
# $x_{150}$, $x_{300}$, $x_{450}$ and $x_{600}$, over the steps of training. Which is learnt first?

# %%
shown = torch.stack(list(watched.values()))  # (24, 4, 1, 16, 32): frames, times
scrub(
    {f"x̂₀ at t = {t}": shown[:, k] for k, t in enumerate(WATCH)},
    [f"step {step}" for step in watched],
    alt="The network's guess at a 0 and a 2 over training. At step 1 it is the noisy picture, brighter. By step 151 both digits are "
    "clean from t = 150, and a little grainy from t = 300. From t = 450 the 0 comes clean by about step 400, while the 2 stays "
    "blurred. From t = 600 both stay grainy to the end.",
    columns=5,
)

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your functions against torch's own divergence and against this package's `losses`, written in other terms: a weight on the
# error in $x_0$ for every target. And your average against this package's `EMA`. (The networks of this package count t from 0.)

# %%
from diffusion_lessons.losses import diffusion_loss, variational_bound
from diffusion_lessons.training.ema import EMA

a, b = torch.distributions.Normal(0.3, 0.5), torch.distributions.Normal(-0.2, 0.8)
kl = gaussian_kl(*(torch.tensor(v) for v in (0.3, 0.5, -0.2, 0.8)))
print(f"gaussian_kl against torch.distributions: {(kl - torch.distributions.kl_divergence(a, b)).abs():.1e}")
level = path(steps)
package = variational_bound(path)(level) * (level.sigma / level.alpha) ** 2
print(f"vlb_weight against losses.variational_bound, relative: {(weights / package - 1).abs().max():.1e}")
x0, t = held_out[:8], torch.tensor([1, 2, 10, 100, 250, 500, 900, 1000])
noise, of_these = torch.randn(x0.shape, generator=generator), simple.of(test.labels[:8])
with torch.no_grad():
    ours = simple_loss(of_these, x0, noise, t, kept)
    package = diffusion_loss(lambda x, time, label: of_these(x, time + 1), path, EPSILON, x0, noise, t)
print(f"simple_loss against losses.diffusion_loss: {(ours - package).abs().max():.1e}")
average, ema = copy.deepcopy(simple), EMA(simple)
average_weights(average, raw, 1, 0.999)
ema.update(raw)
gap = max((ema.shadow[name] - weight).abs().max().item() for name, weight in average.named_parameters())
print(f"average_weights against training.ema: {gap:.1e}")

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
# | an average with decay 0.999 from the first step of a short training | samples look like those of an untrained network, while the loss is fine |
# | samples drawn with the weights in training, the average forgotten | samples are worse than the loss lets expect, and change from step to step |
# | losses of two schedules or weights compared | nothing follows: each has another irreducible part |
# | the last batch's loss taken for progress | it depends on the times drawn: average over hundreds of steps |

# %% tags=["interview"] jupyter={"source_hidden": true}
interview_card(
    "What is the training objective of a diffusion model?",
    "Draw a clean picture, a random time t and Gaussian noise ε, make xₜ = √ᾱₜ·x₀ + √(1 − ᾱₜ)·ε in one "
    "jump, and train a network to predict ε from xₜ and t with a mean squared error.\n\n"
    "It comes from the variational bound on −log p(x₀), a sum of KL divergences between Gaussians. With "
    "equal variances each is a weight times the squared error in ε. L_simple drops the weight: it gives up "
    "some likelihood, which asks most for noise so faint that nobody sees it, and gains sample quality.",
    [
        ("Why predict ε and not x₀ or the mean?",
         "In principle they are the same: with xₜ known, each follows from the others. In practice they differ by a weight "
         "over t and in the scale of the output; ε has variance 1 at every t. Lesson 17 compares the targets."),
        ("Is L_simple still a bound?",
         "Not with its uniform weight as such. It is a weighted sum of the bound's terms, without its prior and with "
         "another decoder. Each term keeps its minimum at E[ε | xₜ]."),
        ("What loss would a perfect model have?",
         "The mean variance of ε given xₜ: above 0, unknown for real data, computable for a mixture of Gaussians. So the "
         "loss alone does not say how good a model is."),
        ("Your loss sits at exactly 1.0. What do you check?",
         "1 is the loss of answering 0 to unit noise: the input tells nothing of the target. Check that the target is the "
         "very noise that made xₜ, row by row, and that the gradient reaches the weights."),
        ("Which variance should the reverse step have?",
         "For samples Ho et al. found β and β̃ alike. For bits it matters, most where a step is large or near t = 0: the best "
         "constant variance is β̃ plus the mean squared error of the predicted mean. Improved DDPM learns it."),
        ("Why draw samples with an average of the weights?",
         "Each step follows one noisy batch, so the weights jitter, and the average does not. A learning rate that falls to "
         "0 does much the same, but only at the end. The average needs a warm-up, or in a short training it still holds "
         "much of the random start."),
        ("How would you train the bound itself?",
         "Draw t in proportion to its weight, or by the size of its recent losses. With t drawn evenly the few steps near "
         "t = 0 dominate and the gradient is noisy."),
    ],
)  # fmt: skip

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
                "most bits pay for grain that nobody sees",
                True,
                "A network of limited size and time spends its effort where the weight is: at tiny noise.",
            ),
            Choice(
                "the bound is not tight", False, "Here bits were measured for both networks in the same way."
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
#   Section 3.2: β or β̃ for the step; appendix B: the average of the weights.
# - Sohl-Dickstein et al. 2015, arXiv 1503.03585: section 2.4, the bound for diffusion.
# - Kingma et al. 2021, *Variational Diffusion Models*, arXiv 2107.00630: eq. 13, the bound by differences of the SNR.
# - Bao et al. 2022, *Analytic-DPM*, arXiv 2201.06503: theorem 1, the best variance of the reverse step.
# - Nichol and Dhariwal 2021, *Improved Denoising Diffusion Probabilistic Models*, arXiv 2102.09672: section 3.3, noisy
#   gradients of the bound and drawing t by importance.
#
# So far the list of $\beta$s was given. Who chose it, and is it a good one? {{lesson 05}}.
