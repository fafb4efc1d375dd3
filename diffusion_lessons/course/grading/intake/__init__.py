"""From what was handed in to notebooks: whose they are and of which lesson."""
