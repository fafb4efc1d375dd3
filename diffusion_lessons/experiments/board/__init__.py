"""The parts of the experiment `leaderboard`: models of digits, and of scenes."""
