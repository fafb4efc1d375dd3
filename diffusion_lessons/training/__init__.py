"""Training: one loop for every task, the recipe it follows, and the folder that a run lives in."""
