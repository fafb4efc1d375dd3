"""The twenty lessons, their names and titles, and where they are published."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """A place in the course."""

    stem: str  # the file name without its ending
    title: str

    @property
    def number(self) -> str:
        """Two digits, "00" for the start page."""
        return self.stem[:2]


LESSONS = (
    Entry("00_start_here", "Start here"),
    Entry("01_what_is_a_diffusion_model", "What is a diffusion model?"),
    Entry("02_forward_process", "The forward process"),
    Entry("03_reverse_process", "The reverse process"),
    Entry("04_training_objective", "The training objective"),
    Entry("05_noise_schedules", "Noise schedules"),
    Entry("06_unet", "The U-Net"),
    Entry("07_sampling_cost", "The cost of sampling"),
    Entry("08_ddim", "DDIM"),
    Entry("09_classifier_guidance", "Classifier guidance"),
    Entry("10_classifier_free_guidance", "Classifier-free guidance"),
    Entry("11_latent_diffusion", "Latent diffusion"),
    Entry("12_stable_diffusion", "The pieces of Stable Diffusion"),
    Entry("13_diffusion_vs_gans", "Diffusion against GANs"),
    Entry("14_video_diffusion", "Video diffusion"),
    Entry("15_inpainting", "Inpainting"),
    Entry("16_text_conditioning", "Text conditioning"),
    Entry("17_snr_weighting", "SNR weighting"),
    Entry("18_flow_matching", "Flow matching"),
    Entry("19_compute_and_data", "Compute and data"),
    Entry("20_evaluation", "Evaluation"),
)

PLAYGROUND = "playground-frame.html"  # the page of the site that the lessons' widget `playground` shows

# Parts of the system that no lesson builds: data, files and pictures, the bundled models and how they
# are made, the settings of a run, the uncertainty of a figure, the reader of scenes.
UNBUILT = (
    "checkpoint, cli, course, data, experiments, makers, pictures, support, zoo, training.progress, "
    "training.run_folder, metrics.captions_met, metrics.intervals, metrics.reader, metrics.rows, "
    "metrics.sliced_wasserstein, "
    "bootstrap_counts, bootstrap_error, share_error, wilson_interval"
)


@cache
def entries() -> dict[str, Entry]:
    """The lessons by number."""
    return {entry.number: entry for entry in LESSONS}


def repository_address(root: Path | None = None) -> str:
    """The project's public address, `[project.urls] Repository` of pyproject.toml; "" where it is not set.

    `root` is the repository; default the one that this package lies in, else what is installed says it.
    """
    return _address("Repository", root)


def site_address(root: Path | None = None) -> str:
    """Where the site is published, `[project.urls] Documentation` of pyproject.toml; "" where none is set."""
    return _address("Documentation", root)


def _address(name: str, root: Path | None) -> str:
    project = (root or Path(__file__).resolve().parents[2]) / "pyproject.toml"
    if root is not None or project.is_file():
        urls = tomllib.loads(project.read_text(encoding="utf-8"))["project"].get("urls", {})
        return str(urls.get(name, ""))
    for line in metadata.metadata("diffusion-lessons").get_all("Project-URL") or ():
        label, _, address = line.partition(",")
        if label.strip() == name:
            return address.strip()
    return ""
