"""What is timed, side by side with other projects: `python -m tests.benchmarks.run`, or `make bench`."""
