"""A right answer with one operation changed is a wrong one, and the cases of its exercise tell."""

import pytest

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.exercise import Exercise
from tests.course.bank.mutants import mutants

SCALAR = "a factor is a number or has the shape of a batch: one entry a sample never comes"
RANGE = "the result lies within [−1, 1]"
EVEN = "it is halved, and an odd number is refused or never comes"
WHOLE = "the number is a whole one already"
LIMIT = "no input lies just on the limit between two formulas that agree there"
ON_LIMIT = "no input lies just on the limit"
UNIT = "a vector of length 1 has no entry beyond 1"
MASK = "a mask lies between 0 and 1, and so does 1 − mask"
SHARE = "a share of attention lies between 0 and 1"
# What can make no difference for any input that the exercise allows: the id, how the change begins, why.
EQUIVALENT = (
    ("00.1", "", RANGE.replace("the result", "a picture in [0, 1] and half of one")),
    ("01.1", "_level: factor.ndim > 1", SCALAR),
    ("01.2", "_level: factor.ndim > 1", SCALAR),
    ("01.3", "_level: factor.ndim > 1", SCALAR),
    ("01.6", "_level: factor.ndim > 1", SCALAR),
    ("01.7", "_level: factor.ndim > 1", SCALAR),
    ("01.3", "_by_halves: now.alpha * denoiser(x, now)", "the guess of the ring, turned down: within ±1"),
    ("02.3", "equal_time: int((level.snr", WHOLE),
    ("02.3", "int((alphas_cumprod > 0.5).sum())", WHOLE),
    ("05.4", "_walk_by_hand: range(1, steps + 1)", "a step from T to T changes nothing"),
    ("05.4", "_walk_by_hand: k * path.T // steps", "a time between may be rounded either way"),
    ("05.6", "_ByLerp: t - below", "a share of the way, within [0, 1]"),
    ("05.6", "_ByLerp: 1 - signal", "a share of the variance, within [0, 1]"),
    ("06.2", "_embedded_by_", EVEN),
    ("06.2", "the result, cut", RANGE),
    ("06.3", "_block_in_steps: told.shape[1] // 2", EVEN),
    ("06.5", "UNetConfig: range(len(self.channel_mults))", "it checks the levels that are given"),
    ("06.6", "DiTBlock: channels // head_dim", "the width of a head divides the channels"),
    ("07.2", "spaced_times: int(level.t)", WHOLE),
    ("07.2", "_spaced_by_torch: times.round().int()", WHOLE),
    ("07.5", "_example_by_", "an intermediate sum within ±1, the guesses of the ring turned down"),
    ("07.5", "_target_solved: s * reached - u * x", "an intermediate difference within ±1"),
    ("08.3", "_rising: :len(rising) - stop", "a slice up to the end and one beyond are the same"),
    ("08.4", "_arc: small(omega) < 0.0001", LIMIT),
    ("08.4", "_by_turning: across.norm() < 1e-06", LIMIT),
    ("08.4", "slerp: angle < 0.001", LIMIT),
    ("08.4", "_by_turning: v - (u * v)", UNIT),
    ("08.4", "_by_turning: one / one.norm()", UNIT),
    ("08.4", "_by_turning: other / other.norm()", UNIT),
    ("08.4", "_by_turning: (u * v)", UNIT),
    ("08.4", "_by_turning: u * v", UNIT),
    ("08.6", "_there_and_back: next.alpha * guess →", "a guess within ±1, turned down"),
    ("08.6", "_by_pieces: (next.alpha - kept * now.alpha) * guess →", "a guess within ±1, turned down"),
    ("08.6", "the result, cut", RANGE),
    ("09.2", "guided_eps: gradient * x", "x is 0 in the reference"),
    ("09.3", "guided_eps: gradient * x", "x is 0 in the reference"),
    ("09.3", "what a function answers, cut", "of the two guesses ε̂ alone is read"),
    ("09.6", "what a function answers, cut", "of the two guesses ε̂ alone is read"),
    ("09.6", "guided_eps: gradient * x", "x is 0 in the reference"),
    ("12.2", "text_to_pictures: (decode(x / factor) + 1) / 2", "it is cut to [0, 1] next"),
    ("12.2", "_pipeline: drawn / 2", "it is shifted by a half and cut to [0, 1] next"),
    ("12.2", "guided_batch: len(x) // len(context)", WHOLE),
    ("12.2", "the result, cut", RANGE),
    ("13.4", "_modes: distance <= reach * std → distance <", ON_LIMIT),
    ("13.4", "_modes: int(covers(hits, n, k).sum())", WHOLE),
    ("13.4", "_modes_by_a_loop: int((mine <= 3 * std).sum()) → _round", WHOLE),
    ("13.4", "_modes_by_a_loop: mine <= 3 * std → mine <", ON_LIMIT),
    ("13.4", "_modes_by_a_loop: x[:, None] - centres[None] → _cut", "samples lie within 1 of their mode"),
    ("14.6", "attention_pairs: frames * (frames + 1) // 2", WHOLE),
    ("14.6", "_pairs: f * (f + 1) // 2", WHOLE),
    ("14.6", "_pairs_counted: int((seen.tril() if causal else seen).sum())", WHOLE),
    ("15.1", "_replaced: 1 - m →", MASK),
    ("15.2", "_kept: 1 - mask →", MASK),
    ("15.2", "_kept_by_differences: 1 - mask →", MASK),
    ("15.3", "_seam_by_loops: range(", "a pixel beyond the last one has no neighbour"),
    ("15.5", "_repainted: next.sigma > now.sigma → next.sigma >=", "neighbours are never equally noisy"),
    ("15.5", "_repainted_by_variance: float(next.alpha) < ", "neighbours are never equally noisy"),
    ("15.5", "_repainted: now.sigma > 0 →", "it stands in a slip, and a right answer never comes there"),
    ("15.6", "conditioning_input: 1 - mask →", MASK),
    ("15.6", "_inputs: 1 - mask →", MASK),
    ("15.6", "conditioning_input: picture.shape[-1] // x.shape[-1]", WHOLE),
    ("15.6", "_inputs: picture.shape[2] // x.shape[2]", WHOLE),
    ("15.6", "_inputs_by_squares: mask.shape[-1] // width", WHOLE),
    ("15.6", "conditioning_input: picture * (1 - mask)", RANGE.replace("the result", "a picture")),
    ("15.6", "_inputs: picture * (1 - mask)", RANGE.replace("the result", "a picture")),
    ("16.2", "_contrast: x / x.norm", UNIT),
    ("16.3", "_head_by_head: x.shape[2] // heads", "the number of heads divides the channels"),
    ("16.3", "_head_by_head: (scores - scores.amax", SHARE),
    ("16.3", "_head_by_head: exps / exps.sum", SHARE),
    ("16.5", "_maps_in_loops: maps[:pictures", SHARE),
    ("16.5", "the result, cut", SHARE),
    ("18.4", "adaptive_heun: t - end > 1e-09", ON_LIMIT),
    ("18.4", "adaptive_heun: error <= tolerance →", ON_LIMIT),
    ("18.4", "_chosen: error <= tolerance →", ON_LIMIT),
    ("18.4", "_chosen: t > end + 1e-09", ON_LIMIT),
    ("18.4", "_chosen_by_tries: left > 1e-09", ON_LIMIT),
    ("18.4", "_chosen_by_tries: error <= tolerance →", ON_LIMIT),
    ("20.6", "bradley_terry: int(wins[i, j]) → _round", WHOLE),
    ("20.6", "_newton: range(steps)", "the slope is 0 long before"),
    ("20.6", "_by_counting: range(1000)", "the odds stand long before"),
    ("20.6", "_information: 1 - chance →", "a chance lies between 0 and 1"),
    ("20.6", "_by_counting: odds[:, None] / (odds[:, None] + odds[None]) → _cut", "a chance"),
    ("20.6", "_by_counting: torch.ones(k, k, dtype=w.dtype, device=w.device) / k → _cut", "it is at most 1"),
    ("20.6", "_by_counting: torch.linalg.inv(", "covariances of so many votes are below 1"),
    ("20.6", "the result, cut", "covariances of so many votes are below 1"),
    ("19.1", "count_flops: channels // heads", WHOLE),
    ("19.3", "_blocks_by_logs: range(0, key.shape[-2], block) → range(0, key.shape[-2] + 1", "no key in it"),
    ("19.5", "_profile: b[1] <= a[1] → b[1] <", "no two events begin at the same time"),
)


def _known(id: str, change: str) -> bool:
    return any(id == known and change.startswith(begin) for known, begin, _ in EQUIVALENT)


@pytest.mark.parametrize("exercise", bank.exercises(), ids=lambda exercise: exercise.id)
@pytest.mark.filterwarnings("ignore")
def test_each_change_of_a_right_answer_is_noticed(exercise: Exercise) -> None:
    tried = [each for each in mutants(exercise) if not _known(exercise.id, each.change)]
    assert exercise.kind == "predict" or exercise.id == "00.1" or tried
    assert [each.change for each in tried if each.missed()] == []


def test_what_is_held_for_equivalent_is_still_there() -> None:
    """No entry may outlive what it excuses."""
    for id, begin, _ in EQUIVALENT:
        assert any(each.change.startswith(begin) for each in mutants(bank.get(id))), (id, begin)
