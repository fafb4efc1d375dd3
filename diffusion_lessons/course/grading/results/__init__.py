"""What the grader writes: tables, the report, feedback."""
