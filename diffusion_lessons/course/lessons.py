"""The twenty lessons, and which of them builds what: the one table behind links and refusals."""

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Entry:
    """A place in the course: `stem` is the file name without its ending."""

    stem: str
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

# Public names of the system half -> the lesson that builds them. A lesson that uses a name of a
# later one says so with `{{built-in NN}}`.
NAMES = {
    "Denoiser": "03",
    "Estimate": "03",
    "NetworkDenoiser": "03",
    "GaussianMixture": "01",
    "Level": "02",
    "Path": "02",
    "DiscreteVP": "02",
    "add_noise": "02",
    "renoise": "02",
    "linear_betas": "02",
    "posterior": "03",
    "forward_kernel": "03",
    "ddpm_step": "03",
    "trajectory": "03",
    "sample": "03",
    "Target": "03",
    "EPSILON": "03",
    "X0": "03",
    "diffusion_loss": "04",
    "vlb_terms": "04",
    "scaled_linear_betas": "05",
    "cosine_betas": "05",
    "sigmoid_betas": "05",
    "rescale_zero_terminal_snr": "05",
    "ddim_step": "08",
    "invert": "08",
    "heun": "08",
    "slerp": "08",
    "dpmpp_2m": "08",
    "ClassifierGuidance": "09",
    "NetworkClassifier": "09",
    "class_gradient": "09",
    "classifier_loss": "09",
    "ClassifierFreeGuidance": "10",
    "Rescale": "10",
    "Clip": "03",
    "V": "17",
    "StraightPath": "18",
    "FLOW": "18",
    "Classifier": "09",
    "ClassifierConfig": "09",
    **dict.fromkeys(("bootstrap_counts", "bootstrap_error", "share_error", "wilson_interval"), "00"),
}
# Modules, for the names that are not listed above; the longest prefix counts. What no lesson builds
# is "00": data, files and pictures, the bundled models, the settings of a run.
MODULES = {
    **dict.fromkeys(("checkpoint", "course", "data", "demo", "errors", "experiments", "files"), "00"),
    **dict.fromkeys(("machine", "pictures", "progress", "run_folder", "zoo", "cli"), "00"),
    "paths": "02",
    "targets": "03",
    "denoiser": "03",
    "mixtures": "01",
    "losses": "04",
    "training": "04",
    "batches": "04",
    "ema": "04",
    "recipe": "04",
    "schedules": "05",
    "networks": "06",
    "cost": "07",
    "distillation": "07",
    "networks.classifier": "09",
    "samplers": "08",
    "guidance": "10",
    "generate": "10",
    "precision": "19",
    "speed_check": "19",
    "winograd": "19",
    "processes": "19",
    "metrics": "20",
    "metrics.intervals": "00",
    "metrics.rows": "00",
    "metrics.sliced_wasserstein": "00",
}


@cache
def entries() -> dict[str, Entry]:
    """The lessons by number."""
    return {entry.number: entry for entry in LESSONS}


def built_in(module: str, name: str | None = None) -> str | None:
    """The number of the lesson that builds a public name, or None where this table does not know it.

    Args:
        module: dotted, without the package's own name: "networks.unet", "" for the package itself.
        name: what is imported from it, or None for the module itself.
    """
    if MODULES.get(module.split(".")[0]) == "00":
        return "00"
    if name in NAMES:
        return NAMES[name]
    parts = [part for part in (*module.split("."), name) if part]
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in MODULES:
            return MODULES[".".join(parts[:end])]
    return None
