"""The parts of the experiment `speed-ladder`, each with its settings and how one of them is measured."""
