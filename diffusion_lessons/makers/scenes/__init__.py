"""The bundled models of scenes: an autoencoder, two towers that meet, text to image, and inpainting.

Each is a function of its recipe, of rendered scenes and of the models before it; a run that was stopped goes
on, as those of digits do.
"""
