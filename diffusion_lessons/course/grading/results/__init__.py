"""What the grader writes: rows, points, tables, pages, feedback."""
