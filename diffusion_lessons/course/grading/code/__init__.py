"""A notebook's code, read without running it."""
