"""Where a submission's code runs, and what it is kept from."""
