"""Errors about names name the nearest right one."""

from diffusion_lessons.support.errors import unknown


def test_the_nearest_name_is_offered() -> None:
    error = unknown("sampler", "dpm-2m", ["ddim", "ddpm", "heun", "dpmpp-2m"])
    assert isinstance(error, ValueError)
    assert str(error) == (
        "unknown sampler 'dpm-2m': expected one of ddim, ddpm, heun, dpmpp-2m; did you mean 'dpmpp-2m'?"
    )


def test_no_guess_where_nothing_is_near() -> None:
    assert str(unknown("target", "zzz", ["v", "flow"])) == "unknown target 'zzz': expected one of v, flow"


def test_what_is_not_a_string_and_a_generator_of_names() -> None:
    message = str(unknown("variance", None, (name for name in ["small", "large"])))
    assert message == "unknown variance None: expected one of small, large"
