"""From solutions/NN_name.py to the notebooks."""
