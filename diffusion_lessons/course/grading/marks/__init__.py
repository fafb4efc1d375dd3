"""What is known of each answer: its row, its points, and the store that a stopped run goes on from."""
