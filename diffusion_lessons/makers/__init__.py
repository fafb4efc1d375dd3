"""The factory: how the bundled weights and the demo are made. The shelf is `diffusion_lessons.zoo`."""
