"""Rules (being written)."""
def source_problems(lesson, context): return []
def student_problems(lesson, student, context): return []
def solved_problems(lesson, solved): return []
