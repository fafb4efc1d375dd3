"""Exercises: plain data, and how an answer is run and judged."""
