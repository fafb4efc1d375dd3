"""What stands around the pieces in `my_diffusion.py`: `given` above, `system` below; at most 150 lines."""
