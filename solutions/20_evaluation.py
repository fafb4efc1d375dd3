# %% [markdown] tags=["header"]
# title: Evaluation
# question: How do you tell whether one generative model is better than another, when no single number can?
# difficulty: 2
# prerequisites: 07, 10, 16
# builds: metrics

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
#
# - compute a Fréchet distance from features (exercise 20.1)
# - say what the number of samples does to it, and compare models fairly (exercises 20.2 and 20.3)
# - compute a distance without that bias (exercise 20.4)
# - tell fidelity from diversity, and see through cheats (exercise 20.5)
# - turn votes into strengths with intervals (exercise 20.6)

# %% tags=["setup"]
# {{setup}}

# %% [markdown] tags=["see"]
# ## See it first
#
# Six "models" were asked for the digits 0 to 9. **Which is the best one? Write down an order, from best to worst**, before
# you read on.

# %%
import torch

from diffusion_lessons.course import blind_vote, budget, exercise, figure, strip
from diffusion_lessons.experiments import recorded

board = recorded("leaderboard")


def row_of(model, **settings):
    """The row of the leaderboard with these settings, drawn with seed 0."""
    wanted = {"model": model, "seed": 0, **settings}
    return next(row for row in board["rows"] if wanted.items() <= row["settings"].items())


# %% jupyter={"source_hidden": true}
shown = {
    "A": row_of("1-step student"),
    "B": row_of("unet", guidance=4.0),
    "C": row_of("copies"),
    "D": row_of("means"),
    "E": row_of("unet", sampler="ddpm", steps=25),
    "F": row_of("one a class"),
}


def pictures_of(row):
    """The ten pictures that a row of the leaderboard keeps."""
    return torch.frombuffer(bytearray.fromhex(row["pictures"]), dtype=torch.uint8).view(10, 1, 32, 32)


strip(
    {letter: pictures_of(row) for letter, row in shown.items()},
    alt="Six rows, A to F, of the digits 0 to 9. All can be read. A and E vary in slant and stroke; strokes of A are smeared in the 2 and the 5. B, C and F are clean. D is blurred.",
    columns=10,
)

# %% [markdown]
# Now five metrics are asked. Each says who is first.

# %%
BETTER = {"frechet": -1, "kernel": -1, "precision": 1, "recall": 1, "accuracy": 1}  # −1: less is better
print("metric     first … last")
for metric, sign in BETTER.items():
    order = sorted(shown, key=lambda letter: -sign * shown[letter][metric])
    values = [f"{letter} {shown[letter][metric]:.2f}" for letter in order]
    print(f"{metric:10}", "  ".join(values))

# %% [markdown]
# <details><summary>Who is who</summary>
#
# - **A** is the student of one step (lesson 7).
# - **B** is the U-Net with a guidance of 4.
# - **C** is no model: it hands back pictures of the training set.
# - **D** is no model, either: for each class it gives the mean of all training pictures.
# - **E** is the U-Net with 25 ancestral steps.
# - **F** gives one training picture for each class, the clearest, again and again.
#
# Accuracy puts D and F, which cannot draw, at the top. The two distances put C at the top. At the end of this lesson you
# know which metric is fooled by what.
#
# </details>

# %% [markdown] tags=["guess"]
# ## Guess
#
# You have 1,000 pictures of a model and 10,000 real ones. **How would you put a number on how good the model is?** Take
# two minutes.
#
# <details><summary>What can be said</summary>
#
# - *Compare pixel by pixel.* With which picture? No real one belongs to a made one.
# - *The likelihood.* GANs have none, and it says little about looks (lesson 4).
# - *Let a classifier judge.* It says whether a 7 can be read as a 7. One perfect 7, a thousand times, would win.
# - *Compare two clouds*: make numbers of each picture that say what is on it, and compare their distributions. That is
#   what FID does. But which numbers, and how does one compare?
# - *Ask people.* In the end nothing else counts. It costs money, and people see one picture at a time: they do not notice
#   that a model draws the same thing again and again.
#
# </details>

# %% [markdown] tags=["predict"]
# ## Predict
#
# Two equal distributions have the Fréchet distance 0. We estimate it from samples of them. We take two sets of *real* digits: first
# 100 in each, then 1,600 in each.

# %% jupyter={"source_hidden": true}
from diffusion_lessons.course import Choice, Question, interview_card, predict, quiz

predict(
    "What is measured?",
    [
        Choice("about 0 both times: both are real", False, "That is the truth, and the estimate is far from it."),
        Choice(
            "less with 100: few samples look alike",
            False,
            "The other way round. Few samples scatter, and every scatter counts as a distance.",
        ),
        Choice(
            "far more with 100",
            True,
            "About 16 times as much: the bias falls as 1/n. So a small sample looks worse, never better.",
        ),
        Choice(
            "the same on average, with more scatter at 100",
            False,
            "That holds for an unbiased estimate. You build one in exercise 20.4.",
        ),
    ],
)

# %% [markdown] tags=["idea"]
# ## Two clouds of features
#
# A classifier turns a picture into a few numbers before it decides: its **features**. Pictures that look alike have
# features that lie near each other. So a set of pictures becomes a cloud of points.
#
# Describe each cloud by its mean and its covariance, as if it were Gaussian. Between two Gaussians there is a distance
# with a closed form, the **Fréchet distance**. With the features of an Inception network trained on ImageNet it is called
# **FID** (Heusel et al. 2017). Ours come from a small classifier of digits: 64 numbers a picture. Figures of different
# features are not comparable.

# %% [markdown] tags=["exercise-card"]
# $$d^2 = \lvert\mu_a - \mu_b\rvert^2 + \operatorname{tr}\big(\Sigma_a + \Sigma_b - 2\,(\Sigma_a \Sigma_b)^{1/2}\big)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $a, b$ | features of two sets, a row for each picture | (N, D), (M, D) |
# | $\mu$ | mean of the features | (D,) |
# | $\Sigma$ | their covariance | (D, D) |
#
# The root is that of a matrix. Its trace is the sum of $\sqrt{\lambda_i}$ over the eigenvalues of $\Sigma_a \Sigma_b$,
# which are real and not negative.
#
# {{exercise 20.1}}


# %% tags=["exercise"]
@exercise("20.1")
def frechet_distance(a, b):
    """The (squared) Fréchet distance between features a (N, D) and b (M, D), float64. A number."""
    ### BEGIN SOLUTION
    shift = (a.mean(0) - b.mean(0)).square().sum()
    one, other = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(one @ other).real.clamp(min=0).sqrt()
    return float(shift + one.trace() + other.trace() - 2 * roots.sum())
    ### END SOLUTION


# %% [markdown]
# The package keeps features of 2,000 real digits of each split. We draw 900 digits with the one-step student and take
# their features, too.

# %%
from diffusion_lessons import zoo
from diffusion_lessons.data import to_uint8
from diffusion_lessons.generate import generate
from diffusion_lessons.metrics import features_and_classes

yardstick = zoo.yardstick("mnist")
train, test = (yardstick.references[split].sample.double() for split in ("train", "test"))  # (2000, 64) each


def features_of(pictures):
    """Pictures (N, 1, 32, 32), bytes -> features (N, 64)."""
    return features_and_classes(yardstick.classifier, pictures)[0].double()


model = zoo.load("mnist-unet-1-step").on(device)
labels = torch.arange(budget.samples(900)) % 10
drawn = to_uint8(generate(model, labels, seed=1, device=device).clamp(-1, 1))
student = features_of(drawn)
print(f"real against real: {frechet_distance(train, test):.2f}")
print(f"student against real: {frechet_distance(student, test):.2f}")

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

means = features_of(pictures_of(shown["D"]))
centre, directions = test.mean(0), torch.linalg.eigh(torch.cov(test.T)).eigenvectors[:, -2:].flip(1)
fig, axes = plt.subplots(1, 3, figsize=(8.6, 3.1), sharex=True, sharey=True)
clouds = {"real": train[:900], "student, 1 step": student, "mean pictures": means}
for axis, (name, cloud) in zip(axes, clouds.items()):
    behind, x = ((each - centre) @ directions for each in (test[:900], cloud))
    axis.scatter(*behind.T, s=3, color="0.75")
    axis.scatter(*x.T, s=5 if len(x) > 10 else 60, marker="o" if len(x) > 10 else "D", color="#0072B2")
    axis.set_title(f"{name}, distance {frechet_distance(cloud.repeat(90 if len(x) == 10 else 1, 1), test):.2f}", fontsize=10)
figure(
    fig,
    alt="Three clouds of features over the grey cloud of real ones, in the two directions in which these spread most. Other real "
    "digits and the student's cover all of the grey cloud with its lumps. The ten mean pictures are ten points, in the lumps or between them.",
)

# %% [markdown]
# **What to notice:** these are 2 of 64 directions. The cloud has lumps, one or more classes in each: it is no Gaussian, and the distance
# treats it as one. The student's cloud looks right at a glance. Where it differs, two directions do not show. The mean pictures lie
# where real ones lie in these two directions (in all 64 they do not: their precision is 0, below), and within a class they have no spread.

# %% [markdown] tags=["idea"]
# ## Few samples look far
#
# A mean of $n$ samples is off by some error, whose square falls as $1/n$. A covariance is off as well. The distance
# squares all of these errors and *adds* them: they never cancel. So the measured distance is too **large**, by about
# $c/n$ (Chong and Forsyth 2020). The constant $c$ depends on the features and on the model.
#
# Some teaching pages have it the other way round: "a small sample gives a low FID". Measure it.

# %%
sizes = [100, 200, 400, 800, 1600]
draws = budget.samples(12)
print("   n   real against real    n · distance")
for n in sizes:
    found = torch.tensor(
        [
            frechet_distance(
                train[torch.randperm(2000, generator=generator)[:n]], test[torch.randperm(2000, generator=generator)[:n]]
            )
            for _ in range(draws)
        ]
    )
    print(f"{n:5} {found.mean():9.2f} ± {found.std():.2f} {n * found.mean():16.0f}")

# %% [markdown]
# (± is the standard deviation over the draws; draws of 1,600 out of 2,000 share most digits, so that it is too small there.) The truth is
# about 0, and n · distance hardly changes: nearly all that was
# measured is bias. The recorded experiment (`diffusion-lessons experiment metric-bias`) has 20 draws from 60,000 digits,
# and two students.

# %% jupyter={"source_hidden": true}
bias = {}
for row in recorded("metric-bias")["rows"]:
    bias.setdefault(row["settings"]["pool"], {})[row["settings"]["n"]] = row
NAMES = {
    "real": "two real sets",
    "real, reference": "real, against the test split",
    "1-step student": "1-step student, against the test split",
    "4-step student": "4-step student, against the test split",
}


def over_n(axis, metric, share):
    """Means of a metric over 1/n, a line for each pool; the bars are a share of the scatter over the draws."""
    for k, (pool, name) in enumerate(NAMES.items()):
        rows = [row for n, row in bias[pool].items() if n >= 200]
        mean, error = (torch.tensor([row[metric + end] for row in rows]) for end in ("", "_sd"))
        over = [(1 + 0.015 * k) / row["settings"]["n"] for row in rows]  # side by side
        axis.errorbar(over, mean, share * error, capsize=3, label=name)
    axis.set(xlabel="1/n", xlim=0)


fig, axis = plt.subplots(figsize=(7.4, 3.6))
over_n(axis, "frechet", 20**-0.5)
axis.set(ylabel="Fréchet distance", ylim=0)
axis.legend(fontsize=9)
figure(
    fig,
    alt="Fréchet distances over 1/n are nearly straight lines that rise with 1/n. Two real sets rise about twice as steeply as the three "
    "others and begin near 0. Against the test split real digits begin near 0, too, the students at 0.3 and 0.4.",
)

# %% [markdown] tags=["exercise-card"]
# **What to notice:** the lines are straight over 1/n, and what they reach at 1/n = 0 differs. (Bars: one standard error of the mean of
# 20 draws.) At n = 200 all look bad. Two small sets have about twice the bias of one small set against a large one (the test split has
# 10,000).
#
# A colleague's leaderboard finds that the student beats *real digits*. The student came with 900 samples, the real ones
# with 300.
#
# {{exercise 20.2}}


# %% tags=["exercise"]
@exercise("20.2")
def fair_distances(features, reference):
    """The Fréchet distance of each model from the reference (M, D), by name; features: name -> (N, D).

    N differs from model to model. Compare by the first rows of each.
    """
    ### BEGIN SOLUTION
    n = min(len(each) for each in features.values())
    return {name: frechet_distance(each[:n], reference) for name, each in features.items()}
    ### END SOLUTION
    ### BEGIN STUDENT
    # # Its author says: "I used every sample that I had. More data cannot hurt."
    # return {name: frechet_distance(each, reference) for name, each in features.items()}
    ### END STUDENT


# %%
sets = {"student": student, "real digits": train[:300]}
unfair = {name: frechet_distance(each, test) for name, each in sets.items()}
fair = fair_distances(sets, test)
for name, each in sets.items():
    print(f"{name:12} {unfair[name]:.2f} with all {len(each)}    {fair[name]:.2f} with as many of each")

# %% [markdown] tags=["exercise-card"]
# With 300 of each the student is *still* ahead, and that is no merit: its labels go round the classes, 30 of each, the
# real digits come as they are. The number of each class scatters, too, and counts as distance. In 12 draws from the kept training digits,
# 300 are 0.86 ± 0.29 from the test digits at random, and 0.41 ± 0.02 with 30 of each class. Equal n *and* equal classes make a comparison
# fair. (The recorded draws over n take every set at random, the tables below every set with equal classes.)
# 
# But the *value* still has a bias, and a paper with 50,000 samples cannot be compared with
# yours of 5,000. If the points lie on a line over 1/n, read it off where n is infinite:
#
# $$d^2(n) \approx d^2_\infty + \frac{c}{n}$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $d^2(n)$ | Fréchet distance that n samples give, on average | a number |
# | $d^2_\infty$ | what infinitely many would give | a number |
# | $c$ | strength of the bias, of these features and this model | a number |
#
# {{exercise 20.3}}


# %% tags=["exercise"]
@exercise("20.3")
def at_infinity(sizes, distances):
    """What is left of the distances at infinitely many samples, by a least-squares line. A number.

    sizes: numbers of samples; distances: what was measured with so many.
    """
    ### BEGIN SOLUTION
    n, d = (torch.tensor(each, dtype=torch.float64) for each in (sizes, distances))
    line = torch.stack([torch.ones_like(n), 1 / n], 1)  # (sizes, 2)
    return float(torch.linalg.lstsq(line, d[:, None]).solution[0])
    ### END SOLUTION


# %%
for pool in ("real, reference", "1-step student", "4-step student"):
    rows = bias[pool]
    whole = at_infinity(list(rows), [row["frechet"] for row in rows.values()])
    few, many = rows[400], rows[3200]
    print(f"{pool:16} n = 400: {few['frechet']:.2f} ± {few['frechet_sd']:.2f}    line through all: {whole:.2f}")
    for row in (few, many):
        n, limit, scatter = row["settings"]["n"], row["at_infinity"], row["at_infinity_sd"]
        print(f"{'':16} who has {n} samples gets {limit:.2f} ± {scatter:.2f} at infinity")

# %% [markdown]
# The last lines are what one team finds that has only these samples: it measures parts of them and draws the line. The
# bias of the model's samples is gone; that of the 10,000 in the reference stays, about 0.02, the same for all. The price is scatter: at 400
# samples 1.2 to 1.9 times that of the plain distance. (Draws of 3,200 out of 6,400 share
# many pictures: their scatter is shown too small.)

# %% [markdown] tags=["idea"]
# ## A distance without bias
#
# Ask pairs. How alike are two samples of $a$, two samples of $b$, and one of each? If both follow one distribution, the three
# means agree. The difference is the **maximum mean discrepancy**; with a cubic kernel on features it is called **KID**
# (Bińkowski et al. 2018).
#
# A mean over pairs has no bias, *if* the samples are drawn independently and none is paired with itself. $k(x, x)$ is larger than
# other pairs. It does not say how $a$ and $b$ differ, and its share falls as 1/n: that would be a bias of c/n again.

# %% [markdown] tags=["exercise-card"]
# $$\widehat{\mathrm{MMD}}^2 = \frac{1}{n(n-1)}\sum_{i \ne j} k(a_i, a_j) + \frac{1}{m(m-1)}\sum_{i \ne j} k(b_i, b_j)
# - \frac{2}{nm}\sum_{i, j} k(a_i, b_j), \qquad k(x, y) = \Big(\frac{x^\top y}{D} + 1\Big)^3$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $a, b$ | features of two sets | (n, D), (m, D) |
# | $k$ | how alike two samples are | a number |
#
# {{exercise 20.4}}


# %% tags=["exercise"]
@exercise("20.4")
def kernel_distance(a, b):
    """The unbiased kernel distance between features a (N, D) and b (M, D). A number; it may lie below 0."""

    ### BEGIN SOLUTION
    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3  # (rows of x, rows of y)

    def among_others(x):
        k, n = kernel(x, x), len(x)
        return (k.sum() - k.diagonal().sum()) / (n * (n - 1))

    return float(among_others(a) + among_others(b) - 2 * kernel(a, b).mean())
    ### END SOLUTION


# %%
print("   n   real against real   student against real")
for n in (100, 300, 900):
    pairs = []
    for _ in range(draws):
        some = torch.randperm(2000, generator=generator)[:n]
        ours = torch.randperm(len(student), generator=generator)[:n]
        pairs.append((kernel_distance(train[some], test), kernel_distance(student[ours], test)))
    (real, made), (s, t) = torch.tensor(pairs).mean(0), torch.tensor(pairs).std(0)
    print(f"{n:5} {real:10.3f} ± {s:.3f} {made:14.3f} ± {t:.3f}")

# %% [markdown]
# A single figure may lie below 0. That is no bug: an unbiased estimate of nearly nothing has to (for two sets of 200 real digits it did in
# 59 % of 300 draws). At n = 900 the student's draws are all of its samples. Their classes are *equally* frequent, which independent draws
# would
# not be: two samples are of one class too rarely, and the estimate comes out too low. For 1,000 real digits: 0.002 ± 0.005 at random,
# −0.007
# with equal classes. The recorded draws, at random and from far more pictures:

# %% jupyter={"source_hidden": true}
fig, axis = plt.subplots(figsize=(7.4, 3.4))
over_n(axis, "kernel", 1)
axis.set(ylabel="kernel distance", ylim=(-0.045, 0.07))
axis.legend(fontsize=9, loc="upper left")
figure(
    fig,
    alt="Kernel distances over 1/n are about level: real digits at 0, the students at 0.008 and 0.013. The bars, one standard deviation over "
    "the draws, grow with 1/n: at n = 200 they are 0.02 and longer, more than what parts the models.",
)

# %% [markdown]
# **What to notice:** the means do not rise with 1/n, only the scatter does. (Bars: one standard deviation over the draws.) With 200
# samples the scatter is larger than what parts these models. Unbiased does not mean precise.

# %% [markdown] tags=["idea"]
# ## Fidelity, diversity, and cheats
#
# One number cannot say *what* is wrong: are pictures bad, or do some kinds of pictures never come? **Precision** is the share of
# made pictures that lie among the real ones. **Recall** is the share of real pictures that lie among the made ones
# (Kynkäänniemi et al. 2019).
#
# "Among" needs a shape. Put a ball around each sample that reaches to its k-th neighbour in its own set. A point lies among the
# set if it lies in any of its balls.

# %% [markdown] tags=["exercise-card"]
# $$\text{precision} = \frac{1}{M}\sum_{j} \mathbf 1\big[\exists\, i: \lvert m_j - r_i\rvert \le \rho_k(r_i)\big], \qquad
# \text{recall} = \frac{1}{N}\sum_{i} \mathbf 1\big[\exists\, j: \lvert r_i - m_j\rvert \le \rho_k(m_j)\big]$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $r, m$ | features of real and of made pictures | (N, D), (M, D) |
# | $\rho_k(c)$ | distance of $c$ to its k-th neighbour in its own set, itself not counted | a number |
#
# {{exercise 20.5}}


# %% tags=["exercise"]
@exercise("20.5")
def precision_recall(real, made, k):
    """(precision, recall) of made features (M, D) against real ones (N, D), with balls to the k-th neighbour."""

    ### BEGIN SOLUTION
    def share(points, centres):
        reach = torch.cdist(centres, centres).kthvalue(k + 1, dim=1).values  # the first is the centre itself
        return float((torch.cdist(points, centres) <= reach).any(1).double().mean())

    return share(made, real), share(real, made)
    ### END SOLUTION


# %% [markdown]
# Real digits, damaged in ways that we know (`diffusion-lessons experiment metric-damages`). Each row has 1,000 pictures; the last
# four are cheats that learnt nothing. (Prec. is the precision, acc. the accuracy, "halved" means halved and enlarged again.) All
# classes come equally often, so real digits have a kernel distance of −0.007. "Nearer" is the share of pictures that are nearer,
# in pixels, to one of 10,000 training pictures than to one of 10,000 others: about half, for a model that did not copy. The
# cheats copy from these 10,000; a model that copies other pictures is not caught.

# %% jupyter={"source_hidden": true}
damages = recorded("metric-damages")["rows"]
SAID = {
    ("none", 0): "real",
    ("jpeg", 50): "JPEG, quality 50",
    ("noise", 0.2): "noise, σ = 0.2",
    ("shifted", 1): "one pixel to the right",
    ("blur", 1): "blur, σ = 1 pixel",
    ("halved", 1): "halved, antialiased",
    ("halved, nearest", 1): "halved, every 2nd pixel",
    ("classes dropped", 1): "no nines",
    ("wrong labels", 0.1): "every 10th label wrong",
    ("copies", 1): "1,000 training pictures",
    ("few", 200): "200 of them, 5 times",
    ("one a class", 1): "one a class, 100 times",
    ("means", 1): "mean of each class",
}
print(f"{'':24}  Fréchet        kernel      prec. recall  acc. nearer")
for (name, strength), said in SAID.items():
    row = next(r for r in damages if r["settings"] == {"damage": name, "strength": strength, "seed": 0})
    print(
        f"{said:24} {row['frechet']:5.2f} ± {row['frechet_error']:.2f} {row['kernel']:6.3f} ± {row['kernel_error']:.3f}"
        f" {row['precision']:5.2f} {row['recall']:6.2f} {row['accuracy']:5.3f} {row['nearer_to_training']:6.2f}"
    )

# %% [markdown]
# (± is one standard error over the draw of the 1,000 pictures. One draw. In a second one, recorded beside it, the Fréchet distances of real
# and lightly damaged digits are 0.06 to 0.09 higher, and their order is the same.)

# %% jupyter={"source_hidden": true}
fig, axis = plt.subplots(figsize=(7.4, 3.9))
crowd = []
for (name, strength), said in SAID.items():
    row = next(r for r in damages if r["settings"] == {"damage": name, "strength": strength, "seed": 0})
    at = row["recall"], row["precision"]
    axis.plot(*at, "o", color="#0072B2")
    beside = {"va": "center", "fontsize": 8, "textcoords": "offset points"}
    if at[0] > 0.85:
        crowd.append((at, said))
    elif at[0] > 0.7:
        axis.annotate(said, at, (-8, 0), ha="right", **beside)
    else:
        axis.annotate(said, at, (8, 0), **beside)
for k, (at, said) in enumerate(sorted(crowd, key=lambda each: -each[0][1])):
    line = {"arrowstyle": "-", "color": "0.5", "lw": 0.7, "relpos": (0, 0.5)}
    axis.annotate(said, at, (1.02, 0.98 - 0.07 * k), va="center", fontsize=8, arrowprops=line)
axis.set(xlabel="recall", ylabel="precision", xlim=(-0.03, 1.35), ylim=(-0.05, 1.05), xticks=[0, 0.2, 0.4, 0.6, 0.8, 1])
figure(
    fig,
    alt="Precision over recall. Real digits, copies, JPEG and others lie together at the upper right, "
    "cheats with few pictures at the upper left, mean pictures, blur and antialiased halving at the lower left.",
)

# %% [markdown]
# **What to notice:** few pictures again and again are at the upper left, blurred ones at the lower left. Copies lie with the real
# pictures. In detail:
#
# - **What people hardly see, the distances do.** A shift by one pixel (0.74) costs more than the student's errors (0.49). Resizing costs
#   most:
#   two ways to halve a picture are 5 apart, and here the one *with* antialiasing is farther away, near strong blur. FID does not
#   say which filter is better: resize made and real pictures in the same way (with antialiasing, by convention) before any FID.
# - **Copies are perfect** by all five metrics. Two hundred pictures that are repeated have the Fréchet distance of the student,
#   and a *smaller* kernel distance. Only recall is 0, and even that by a technicality: with 5 of each, the third neighbour is a
#   duplicate, and each ball has
#   radius 0. The share "nearer" is 1.00 for all three cheats that copy. It does not catch mean pictures (0.50): they copy none.
# - **Precision and accuracy are blind to variety**: one picture a class has a precision of 0.80 and 100 % accuracy, mean pictures have
#   100 %
#   accuracy. Precision does not move without nines, and recall little (0.90 to 0.83). The distances see that at once.
# - **Labels** are seen by accuracy alone.

# %% [markdown] tags=["idea"]
# ## From votes to strengths
#
# Show two pictures and ask which is better. That is easier to answer than "how good is it, from 1 to 5?". But not every two models
# meet, and the votes contradict each other. Give each model a **strength** θ, such that the chance that $i$ is chosen over $j$
# depends on $\theta_i - \theta_j$ alone (Bradley and Terry 1952). Then find the strengths under which the votes are likeliest.
# Chess calls them Elo, language models are ranked with them.
#
# Only differences are determined: we set the mean to 0. Votes are few, so an interval belongs to each difference.

# %% [markdown] tags=["exercise-card"]
# $$P(i \succ j) = \frac{1}{1 + e^{-(\theta_i - \theta_j)}}, \qquad
# g_i = \sum_j \big(w_{ij} - n_{ij} P(i \succ j)\big) = 0, \qquad
# I = \operatorname{diag}\Big(\sum_j v_{ij}\Big) - v,\quad v_{ij} = n_{ij}\,P(i \succ j)\,P(j \succ i)$$
#
# | symbol | meaning | shape |
# |---|---|---|
# | $w_{ij}$ | how often $i$ was chosen over $j$ | (K, K) |
# | $n_{ij} = w_{ij} + w_{ji}$ | how often they met | (K, K) |
# | $\theta$ | strengths, mean 0 | (K,) |
# | $g, I$ | slope of the log-likelihood, and its information; the covariance of θ is its (pseudo-)inverse | (K,), (K, K) |
#
# {{exercise 20.6}}


# %% tags=["exercise"]
@exercise("20.6")
def bradley_terry(wins):
    """(strengths (K,) of mean 0, their covariance (K, K)) from wins (K, K): how often i was chosen over j.

    There are no ties here. Go on until the slope is 0.
    """
    ### BEGIN SOLUTION
    wins = wins.double()
    games = wins + wins.T
    theta = torch.zeros_like(wins[0])
    for _ in range(30):
        chance = torch.sigmoid(theta[:, None] - theta[None])  # (K, K)
        slope = wins.sum(1) - (games * chance).sum(1)
        v = games * chance * (1 - chance)
        information = torch.diag(v.sum(1)) - v
        theta = theta + torch.linalg.pinv(information) @ slope
    return theta - theta.mean(), torch.linalg.pinv(information)
    ### END SOLUTION


# %%
truth = torch.tensor([0.8, 0.3, 0.0, -1.1])  # four models; the first is chosen over the second in 62 %
fig, axis = plt.subplots(figsize=(7.4, 3.2))
for k, each in enumerate((10, 40, 200)):  # votes for every two
    chance = torch.sigmoid(truth[:, None] - truth[None]).triu(1)
    won = torch.binomial(torch.full((4, 4), float(each)).triu(1), chance, generator=generator)
    theta, covariance = bradley_terry(won + (torch.full((4, 4), float(each)).triu(1) - won).T)
    error = 1.96 * covariance.diagonal().sqrt()
    axis.errorbar(torch.arange(4) + 0.15 * k, theta, error, fmt="o", capsize=3, label=f"{each} votes for every two")
middle = torch.arange(4) + 0.15
axis.hlines(truth, middle - 0.2, middle + 0.2, color="grey", lw=1, label="truth")
axis.set(ylabel="strength", xticks=middle.tolist(), xticklabels=["A", "B", "C", "D"])
axis.legend(fontsize=8)
figure(
    fig,
    alt="Strengths of four models with 95 % intervals, from 10, 40 and 200 votes for every two. With 10 those of B and C overlap by far, "
    "and A lies 0.7 above the truth. With 200 the intervals are about a fifth as long, and lie about the truth.",
)

# %% [markdown]
# **What to notice:** how many votes it takes. Ten for every two models do not tell B from C. (Bars are of each strength; whether two
# models differ, the interval of their *difference* says, for which the whole covariance is needed.) An interval assumes that votes are
# *independent*: if one picture is in many votes, it is too short. Ties are information as well. The package's `bradley_terry` gives them a
# chance of their own (Davidson 1970); counting a tie as two games would make the interval too short.


# %% [markdown] tags=["experiment"]
# ## Experiment: the leaderboard
#
# The U-Net of this course with its samplers and kinds of guidance, on its own path and as a flow ({{lesson 18}}), its students, and
# cheats: 1,000 digits each, all classes equally often, drawn with two seeds and measured in one recorded run
# (`diffusion-lessons experiment leaderboard`). "Preference" comes from a **simulated voter**: no person, but a number. It
# chooses the picture whose wanted digit a classifier sees more clearly, and says "tie" where the two hardly differ. The same classifier
# gives the features and the accuracy: that accuracy and preference agree is no surprise. "Calls" are those of the U-Net alone.
#
# **Not on the board** are models that only an experiment trains: GANs ({{lesson 13}}, `gan-vs-diffusion`), pixels against latents
# ({{lesson 11}}, `pixels-vs-latents`), weights of the loss ({{lesson 17}}, `snr-weighting`), trained flows ({{lesson 18}}, `flow-matching`).
# They learnt other pictures with other budgets, and other features judge them: their distances mean nothing beside these.

# %%
import itertools

from diffusion_lessons import metrics
from diffusion_lessons.metrics import Vote


def simulated(name, other, margin, other_margin, close=2.0):
    """A vote by one number of each picture."""
    choice = "first" if margin > other_margin else "second"
    return Vote(name, other, "tie" if abs(margin - other_margin) < close else choice)


def title(row):
    """A short name: of the U-Net what is done with it; sampler, steps, × scale of guidance."""
    s = row["settings"]
    what = s["model"].removeprefix("unet").removeprefix(", ")
    how = [str(s[key]) for key in ("sampler", "steps") if key in s and "student" not in what]
    return " ".join([*filter(None, [what]), *how, *([f"×{s['guidance']:g}"] if "guidance" in s else [])])


def rated(seed):
    """The digits of a seed, a row each, with its strength by the simulated voter."""
    rows, votes = [row for row in board["rows"] if "margins" in row and row["settings"]["seed"] == seed], []
    each = len(rows[0]["margins"]) // len(rows)  # pictures in a match: no picture is voted on twice
    for i, j in itertools.combinations(range(len(rows)), 2):
        one, other, start = rows[i], rows[j], each * ((i + j) % len(rows))
        some = slice(start, start + each)  # the same digits of both
        votes += [
            simulated(title(one), title(other), a, b) for a, b in zip(one["margins"][some], other["margins"][some])
        ]
    ratings = metrics.bradley_terry(votes)  # the package's: it knows ties, too
    for row in rows:
        place = ratings.names.index(title(row))
        row["preference"] = float(ratings.strengths[place])
        row["preference_error"] = float(ratings.covariance[place, place]) ** 0.5
    return rows


digits, again = rated(0), rated(1)

# %% jupyter={"source_hidden": true}
print(f"{'':21}calls {'Fréchet':>10} seed1 {'kernel':>6} prec rec. {'acc.':>5} near {'pref.':>5}")
for row, other in sorted(zip(digits, again), key=lambda both: both[0]["frechet"]):
    print(
        f"{title(row):23} {row['calls']:2.0f} {row['frechet']:5.2f}±{row['frechet_error']:.2f} {other['frechet']:5.2f} {row['kernel']:6.3f}"
        f" {row['precision']:4.2f} {row['recall']:4.2f} {row['accuracy']:5.3f} {row['nearer_to_training']:4.2f} {row['preference']:5.2f}"
    )
errors = [row["preference_error"] for row in digits]
print("names: sampler, steps, × scale of guidance; seed1: its Fréchet distance;")
print("prec: precision, rec.: recall, acc.: accuracy, near: nearer to training;")
print(f"pref.: preference, each ± {min(errors):.2f} to {max(errors):.2f}")
print(f"recorded on {board['hardware'].get('gpu') or board['hardware']['processor']}")

# %% [markdown]
# Do the metrics *contradict* each other, or is it noise? We count pairs of models: metric 1 prefers the one, metric 2 the other,
# and both differences are beyond 1.96 standard errors. Cheats and real pictures are left out.

# %%
ranked = BETTER | {"preference": 1}
honest, second = ([row for row in each if row["calls"] > 0] for each in (digits, again))  # seeds 0 and 1


def verdict(metric, one, other):
    """1 if the first is better, −1 if the second is, 0 if they cannot be told apart."""
    gap = ranked[metric] * (one[metric] - other[metric])
    error = (one[f"{metric}_error"] ** 2 + other[f"{metric}_error"] ** 2) ** 0.5
    return 0 if abs(gap) < 1.96 * error else 1 if gap > 0 else -1


pairs = list(itertools.combinations(honest, 2))
print(f"of {len(pairs)} pairs of models, contradictions beyond the intervals:")
print(" " * 11 + "".join(f"{name:>11}" for name in ranked))
for metric in ranked:
    counts = [sum(verdict(metric, *pair) * verdict(name, *pair) < 0 for pair in pairs) for name in ranked]
    print(f"{metric:11}" + "".join(f"{count:11}" for count in counts))

# %% jupyter={"source_hidden": true}
COMPARED = (
    "1-step student", "4-step student", "dpmpp-2m 5 ×1", "ddpm 25 ×1", "interval ddim 10 ×2",
    "dpmpp-2m 10 ×1.5", "dpmpp-2m 10 ×4",
)  # fmt: skip
lines = [row for row in honest if title(row) in COMPARED]
fig, axis = plt.subplots(figsize=(8.6, 4.2))
for row in lines:
    places = [sorted(lines, key=lambda r: -sign * r[metric]).index(row) + 1 for metric, sign in ranked.items()]
    axis.plot(list(ranked), places, lw=1.5)
    axis.text(5.1, places[-1], title(row), va="center", fontsize=9)
axis.set(ylabel="place", xlim=(-0.2, 7.2), yticks=range(1, len(lines) + 1))
axis.set_xticks(range(len(ranked)), list(ranked))
axis.invert_yaxis()
figure(
    fig,
    alt="Places of seven models by six metrics. The lines cross again and again: the strongest guidance is last by the distances and by "
    "recall, and first by precision and preference; the ancestral sampler with 25 steps is first by the distances.",
)

# %% [markdown]
# What is such an order worth? With seed 1 the same models draw other samples. How many models then moved beyond 1.96 standard errors? How
# many pairs stand in the other order, by bare values? And the pairs that seed 0 told apart: what says seed 1?

# %%
print("           moved  other order  told apart  again  no longer  turned round")
for metric in ranked:
    moved = sum(verdict(metric, *both) != 0 for both in zip(honest, second))
    turned, tally = 0, [0, 0, 0]  # the last of these is tally[-1]
    for (a, b), (c, d) in zip(pairs, itertools.combinations(second, 2)):
        turned += (a[metric] - b[metric]) * (c[metric] - d[metric]) < 0
        if verdict(metric, a, b):
            tally[verdict(metric, a, b) * verdict(metric, c, d)] += 1
    print(f"{metric:10} {moved:5} {turned:12} {sum(tally):11} {tally[1]:6} {tally[0]:10} {tally[-1]:13}")

# %% [markdown]
# **The result:**
#
# - **The two distances agree**: no pair is contradicted.
# - **Distance against preference**: 54 of 190 pairs are contradicted, 47 of them with seed 1 as well. Guidance of 4 is the last but one by
#   distance (1.96) and the first by the voter. (The last, classifier guidance, has a scale that nobody tuned.) Ancestral
#   sampling with 25 steps is the first by distance (0.21, real digits 0.15; 0.19 ± 0.03 in lesson 7's draw), and sixth by the voter.
# - **Precision against recall**: 125 pairs. In 50 of them neither model is guided; in the others guidance plays a part: the trade of
#   lesson 10.
# - **A path is the sampler's choice**: as a flow the denoiser draws as well (Heun 0.32, on its own path 0.31). PLMS ({{lesson 12}}) cannot
#   begin at α = 0, so it begins at t = 901, and is the worst without guidance (1.45).
# - **Between the seeds** no pair that seed 0 told apart turned round. Bare values do turn, 9 pairs by the Fréchet distance: Heun is second
#   with seed 0, DDIM with 25 steps with seed 1. Recall moved more than its ± allows in 3 of 20 models, where chance explains one: that ±
#   takes real pictures for independent, and all meet the same drawn ones.
# - **The voter can be gamed.** It puts "one a class" far above real digits, and guidance of 2 and 4 as well. (Ten pictures get all 184
#   votes of "one a class": its ± is too short.) Whoever optimises for it gets boring digits.
# - **Which would you ship?** To fill a form with clear digits: guidance of 1.5 or 2. To train another model on, where variety counts: 25
#   ancestral steps. Where speed counts most: a student, with 1 call (an evaluation, lesson 7) in place of 9 to 25. For a little of all: guidance in an interval.
#   The metric follows from the use, not the other way round.
#
# Two seeds draw other samples of the same models. Another training moves FID by more.

# %% [markdown]
# ### Text: does it show what was asked for?
#
# **CLIP score** asks two towers that were trained on pictures with captions ({{lesson 16}}):
# $2.5 \cdot \max(\cos(\text{picture}, \text{caption}), 0)$. Scenes have an oracle, too: the reader (lesson 11). First, the
# score itself, on real scenes.

# %%
from diffusion_lessons.data.captions import captions, read, wrong
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.metrics.clip_score import clip_scores

towers, tokenizer = zoo.load("scenes-clip")
n = budget.samples(60)
scenes = draw(0, torch.arange(n), "test")
texts = captions(scenes, 0, torch.arange(n), unsized=0)
rendered = scenes.render(64)
asked = {"its own caption": texts, "the caption of another": [*texts[1:], texts[0]]}
for said, each in asked.items():
    scores = clip_scores(towers, tokenizer, rendered, each)
    print(f"{said:24} {scores.mean():.2f} ± {scores.std() / n**0.5:.2f}")

# %% jupyter={"source_hidden": true}
judged = [[row for row in board["rows"] if "met" in row and row["settings"]["seed"] == seed] for seed in (0, 1)]
print(f"{'':31}   n calls   captions met  seed 1   CLIP score")
for row, other in zip(*judged):
    print(
        f"{title(row):31} {row['n']:3} {row['calls']:5.0f} {row['met']:6.1%} ± {row['met_error']:.1%}  {other['met']:6.1%}"
        f" {row['clip']:6.3f} ± {row['clip_error']:.3f}"
    )
print(f"\n{'':31}         Fréchet  precision  recall")
for row in judged[0]:
    print(
        f"{title(row):31} {row['frechet']:7.3f} ± {row['frechet_error']:.3f} {row['precision']:10.2f} {row['recall']:7.2f}"
    )
moves = [each[-1] for each in judged]  # of the video model, both seeds
print("clips that move as asked:", ", ".join(f"{row['moves']:.0%} of {row['n']}" for row in moves))

# %% [markdown]
# - **Distances do not read.** Real scenes with captions of others have the same distance, precision and recall. Captions met fall to 0,
#   the CLIP score to 0.33.
# - **The CLIP score follows the oracle** where differences are large: with a guidance of 8 a quarter of the captions is missed, in holes
#   that the text model fills untrained ({{lesson 15}}) a third, and these scores are the lowest of all scenes that were drawn. Ancestral
#   samples miss 1.0 % with seed 0 and 2.5 % with seed 1: only the second can be told from real scenes.
# - **The distance hardly sees that**: 0.032 ± 0.007 and 0.035 ± 0.010 against 0.023 ± 0.006 is no difference at n = 200. A scene with a
#   wrong colour is a good scene of another caption.
# - **The inpainting model** meets nearly all captions in a hole. Painting all of it, it loses to the text model with seed 0 (91 % against
#   98.5 %); with seed 1 nobody can tell (93 % against 95.5 %).
# - **A frame is no clip.** All last frames of the video model show their object, and the CLIP score prefers them to real ones (2.28 against
#   2.18; so with seed 1). 92 % of the clips move as asked (85 to 96 %). Frames are held against those of real clips: do not compare
#   them with scenes.
#
# These towers and this reader know nothing but scenes. On photographs there is no oracle, and CLIP scores miss who is left of
# whom.

# %% [markdown]
# **Published.** Kirstain et al. (PickScore, 2023) find that FID and the preference of experts rank models in *opposite* orders
# (rank correlation −0.90), and PickScore in nearly the same (0.92). Dhariwal and Nichol (2021, table 5) show the trade of guidance
# on ImageNet-256: FID 10.94 → 4.59, precision .69 → .82, recall .63 → .52. There guidance *lowers* FID; on our digits it raises the
# distance. Stein et al. (2023) find that no metric in use follows people's judgement closely, and that Inception's features rank
# diffusion models too low.

# %% [markdown] tags=["play"]
# ## Play: a blind vote
#
# Three of the models draw digits. You see two pictures at a time and do not know whose they are. Click on the better one, or use the
# arrow keys: left, right, down for a tie, Backspace to go back. Then run the next cell. **Save the votes** gives you a file: collect
# those of others, and analyse them together with `load_votes("one.json", "two.json")`.

# %%
student_pictures = drawn[:20]
more = torch.arange(20) % 10
teacher = zoo.load("mnist-unet").on(device)
voted = {
    "student, 1 step": student_pictures,
    "U-Net, scale 1": to_uint8(generate(teacher, more, seed=1, steps=10, sampler="dpmpp-2m", guidance=1.0, device=device)),
    "U-Net, scale 4": to_uint8(generate(teacher, more, seed=2, steps=10, sampler="dpmpp-2m", guidance=4.0, device=device)),
}
ballot = blind_vote(
    voted,
    alt="Six pairs of digits, left and right. Both of a pair are the same digit; some have odd strokes.",
    question="Which looks more like the digit that was asked for, written by a person?",
    asked=[f"digit {label}" for label in more.tolist()],
    pairs=24,
)
ballot

# %% [markdown]
# The next cell analyses your votes. Where there are none, the simulated voter fills in, and the cell says so.

# %%
from diffusion_lessons.data import to_float
from diffusion_lessons.experiments.board.digits import margins
from diffusion_lessons.metrics.votes import load_votes

seen = {name: margins(yardstick.classifier, to_float(each), more) for name, each in voted.items()}
stand_in = [
    simulated(pair.first, pair.second, float(seen[pair.first][pair.place]), float(seen[pair.second][pair.place]))
    for pair in ballot.pairs
]
mine = ballot.votes or stand_in  # or load_votes("one.json", "two.json")
print(f"{len(mine)} votes of {'the simulated voter' if mine is stand_in else 'people'}")
try:
    result = metrics.bradley_terry(mine)
    for one, other in itertools.combinations(result.names, 2):
        share, low, high = result.chosen(one, other)
        print(f"{one:16} over {other:16} {share:4.0%} ({low:.0%} to {high:.0%})")
    share, low, high = metrics.first_chosen(mine)
    print(f"the left picture was taken in {share:.0%} of the decided votes ({low:.0%} to {high:.0%})")
except ValueError as error:  # one of them never lost
    print(error)

# %% [markdown]
# **What to notice:** how wide the last interval is (8 to 97 %): with eight votes, most of them ties, it says nothing. Do not trust the
# narrow ones of the simulated voter either: all decided votes, 6 and 5, went one way, and the interval assumes that the likelihood is a
# parabola. Counted plainly, 6 of 6 leave 61 to 100 % (Wilson). To tell 55 % from 50 % takes about 400 decided votes (and 800, to succeed
# in four of five tries). If the left picture wins far more than half, you vote for a side and not for a picture.

# %% [markdown] tags=["agreement"]
# ## Agreement
#
# Your functions against the package's, SciPy's matrix root and, if it is installed, choix. (The tests of the package hold its
# functions against torchmetrics, torch-fidelity and POT as well, on given features.)

# %% tags=["nbval-check-output"]
import importlib.util

import scipy.linalg

one, other = torch.cov(train.T), torch.cov(test.T)
root = scipy.linalg.sqrtm((one @ other).numpy()).real.trace()
theirs = float((train.mean(0) - test.mean(0)).square().sum() + one.trace() + other.trace()) - 2 * root
print("Fréchet, SciPy's root:", abs(frechet_distance(train, test) - theirs) < 1e-6)
print("Fréchet, the package:", abs(frechet_distance(train, test) - metrics.frechet_distance(train, test)) < 1e-6)
print("kernel, the package:", abs(kernel_distance(train, test) - metrics.kernel_distance(train, test)) < 1e-9)
theirs = metrics.precision_recall(test[:500], train[:500], 3)
print("precision and recall:", precision_recall(test[:500], train[:500], 3) == (theirs.precision, theirs.recall))
wins = torch.tensor([[0, 8, 12], [4, 0, 9], [3, 6, 0]])
if importlib.util.find_spec("choix"):
    import choix

    won = [(i, j) for i in range(3) for j in range(3) for _ in range(int(wins[i, j]))]
    strengths = torch.tensor(choix.ilsr_pairwise(3, won))
    print("strengths, choix:", bool((bradley_terry(wins)[0] - strengths + strengths.mean()).abs().max() < 1e-6))

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
#
# | bug | how it looks | seen in |
# |---|---|---|
# | other n, other features, other reference | figures that cannot be compared, off by any factor | pytorch-fid#16, ignite#2423: other weights |
# | "a small sample gives a low FID" | a model with fewer samples is thought to be favoured | a course page; the sign is wrong |
# | resized without antialiasing | pixels off by up to 0.85 of the range; FID changes without the model | torchmetrics#3130, cmmd-pytorch#5 |
# | sums in float32 | wrong figures, NaN | torcheval#192, MONAI GenerativeModels#231 |
# | covariance of covariances in place of the root of their product | a number, and no distance | HiGANplus#12 |
# | fewer samples than features, plus two | a covariance without rank, and a figure all the same | torch-fidelity 0.4.0 answers at 40 for 64 |
# | precision and recall swapped | a collapsed model has recall 1 | torch-fidelity#58 |
# | diagonal kept in the kernel distance | two sets of 200 real digits are 0.10 apart | google-research#1926 |
# | CLIP score times 1, 2.5 or 100, cut at 0 or not | figures of two papers differ by a constant | clipscore#17, T2I-CompBench#14 |
# | a model that never lost | strength "+10" or 0, or a crash | BradleyTerry2#6; choix's `opt_pairwise` |
# | stopped before the slope is 0 | strengths hundreds of Elo points short | tabarena#500 |
# | the side that is shown first | first place wins 52.6 %, 12.9 % of votes flip | FastChat#3911 |
# | figures of one training compared | another training moves FID 3.2 times as much as other samples | "FID lottery", 2026 |

# %% [markdown] tags=["interview"]
# ## Interview card

# %% jupyter={"source_hidden": true}
interview_card(
    "How do you evaluate a generative model of pictures?",
    "By several metrics, for none sees all. *FID* compares Gaussians of features: one number, but biased by "
    "about c/n, bound to its features, and blind to copies. *KID* has no such bias. *Precision and recall* "
    "tell bad pictures from missing ones. For text, *CLIP score* or an oracle asks whether the picture "
    "shows what was asked for.\n\n"
    "In the end *people* choose between pairs, blind; Bradley–Terry turns votes into strengths with "
    "intervals. Always: the same n and features, real pictures as a floor, an uncertainty, and a check for "
    "copies.",
    [
        (
            "Is FID with few samples too low or too high?",
            "Too high, by about c/n: errors of mean and covariance are squared and add up. Two sets of 100 real digits are 4.3 apart here, "
            "of 3,200 0.13.",
        ),
        (
            "FID went down, and people like the pictures less. How can that be?",
            "FID rewards variety like that of the data, people see single pictures. Here less guidance lowered the distance and gave more odd pictures. "
            "Or the features do not see what people see.",
        ),
        (
            "How do you find out whether a model memorised?",
            "Compare the nearest training picture with the nearest held-out one, from sets of equal size. About half should be nearer to "
            "training. FID, KID, precision and recall of copies are perfect.",
        ),
        (
            "Why not sort models by their share of wins?",
            "The share depends on whom one met. Bradley–Terry fits all strengths together. It assumes one line of strengths: where A beats B, B beats C "
            "and C beats A, it cannot say so.",
        ),
        (
            "Two models differ by 0.1 FID. Is that real?",
            "Ask for the error over samples, and over trainings, which is larger. With one training each, you compared two runs and not two methods.",
        ),
        ("What does a high CLIP score not tell?", "Who is left of whom, how many, and how it looks: it takes a picture and a caption for a bag of things, and it is easily optimised for."),
        ("What makes a vote fair?", "Blind, sides at random, ties allowed, no picture in many votes. And for every metric: the same reference and the same resizing."),
    ],
)

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Model A: FID 5.2 with 5,000 samples. Model B: FID 4.9 with 50,000. Same features, same reference. What follows?",
        [
            Choice("B is better", False, "B has the smaller bias. A may be the better one."),
            Choice("A is better: it had fewer samples", False, "It has a larger bias; how much larger is not known here."),
            Choice("nothing, before both have the same n", True, "Or before both are extrapolated to infinity, with their scatter."),
        ],
    ),
    Question(
        "A kernel distance of −0.003 ± 0.004. What do you write down?",
        [
            Choice("0, because a distance cannot be negative", False, "Its estimate can. Cutting at 0 brings a bias back."),
            Choice("−0.003 ± 0.004: no difference was found", True, "With n and the features beside it."),
            Choice("there is a bug: the diagonal was kept", False, "A diagonal that is kept makes it larger, not negative."),
        ],
    ),
)

# %% jupyter={"source_hidden": true}
quiz(
    Question(
        "Precision .95, recall .20. What does the model do?",
        [
            Choice("it copies training pictures", False, "Copies of many pictures have a high recall, too."),
            Choice("it draws all kinds, badly", False, "That would be low precision and high recall."),
            Choice("it draws good pictures of a few kinds", True, "Strong guidance looks so."),
        ],
    ),
    Question(
        "In 20 votes your model won all. What is its strength?",
        [
            Choice("infinite", True, "The likelihood grows with it for ever. Say 20 of 20, with an interval: 84 to 100 %."),
            Choice("log 20", False, "Nothing in the likelihood stops there."),
            Choice("0, as nobody beat it", False, "Some programs answer so. It is no estimate."),
        ],
    ),
    title="Two more",
)

# %% [markdown] tags=["references"]
# ## References
#
# - Heusel et al. 2017, *GANs Trained by a Two Time-Scale Update Rule*, arXiv 1706.08500: equation 6, FID.
# - Chong and Forsyth 2020, *Effectively Unbiased FID and Inception Score and where to find them*, arXiv 1911.07023: section 3.
# - Bińkowski et al. 2018, *Demystifying MMD GANs*, arXiv 1801.01401: section 4, KID and the bias of FID.
# - Kynkäänniemi et al. 2019, *Improved Precision and Recall Metric*, arXiv 1904.06991: equations 1 and 2.
# - Parmar et al. 2022, *On Aliased Resizing and Surprising Subtleties in GAN Evaluation*, arXiv 2104.11222: resizing and JPEG.
# - Hessel et al. 2021, *CLIPScore*, arXiv 2104.08718: section 3.
# - Kirstain et al. 2023, *Pick-a-Pic*, arXiv 2305.01569: section 5, rank correlations.
# - Stein et al. 2023, *Exposing Flaws of Generative Model Evaluation Metrics and Their Unfair Treatment of Diffusion Models*, arXiv
#   2306.04675.
# - Jayasumana et al. 2024, *Rethinking FID*, arXiv 2401.09603: FID against raters, and CMMD.
# - Bradley and Terry 1952, *Rank Analysis of Incomplete Block Designs*, Biometrika 39: section 2.
# - Davidson 1970, *On Extending the Bradley–Terry Model to Accommodate Ties*, JASA 65: section 2.
#
# This was the last lesson. The capstone puts all that you wrote into one program: {{lesson 00}}
