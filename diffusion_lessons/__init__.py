"""Diffusion models from scratch: paths, targets, denoisers, guidance, samplers and training.

One idea carries everything: a path says how much data and how much noise a sample holds, a denoiser
estimates both, and a sampler walks down the path. The names below are the whole vocabulary.
"""

from diffusion_lessons.bound import vlb_terms
from diffusion_lessons.denoiser import Denoiser, NetworkDenoiser, OnPath
from diffusion_lessons.guidance import ClassifierFreeGuidance, ClassifierGuidance, Clip, Rescale
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import DiscreteVP, Level, StraightPath, add_noise, posterior, renoise
from diffusion_lessons.runge_kutta import adaptive
from diffusion_lessons.samplers import ddim_step, ddpm_step, dpmpp_2m, heun, invert, sample, slerp, trajectory
from diffusion_lessons.schedules import (
    cosine_betas,
    linear_betas,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
    sigmoid_betas,
)
from diffusion_lessons.targets import EPSILON, FLOW, X0, Estimate, Target, V

__version__ = "0.1.0"

__all__ = [
    "EPSILON",
    "FLOW",
    "X0",
    "ClassifierFreeGuidance",
    "ClassifierGuidance",
    "Clip",
    "Denoiser",
    "DiscreteVP",
    "Estimate",
    "GaussianMixture",
    "Level",
    "NetworkDenoiser",
    "OnPath",
    "Rescale",
    "StraightPath",
    "Target",
    "V",
    "adaptive",
    "add_noise",
    "cosine_betas",
    "ddim_step",
    "ddpm_step",
    "diffusion_loss",
    "dpmpp_2m",
    "heun",
    "invert",
    "linear_betas",
    "posterior",
    "renoise",
    "rescale_zero_terminal_snr",
    "sample",
    "scaled_linear_betas",
    "sigmoid_betas",
    "slerp",
    "trajectory",
    "vlb_terms",
]
