"""What a lesson shows a student: verdicts, hints, progress, quizzes, the lab."""
