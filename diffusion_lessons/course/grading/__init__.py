"""Checking one notebook and grading a class's, whatever was handed in.

`intake` finds the notebooks and says whose each is and of which lesson, `results` is what is written at
the end. Between them a verdict is computed outside the student's process: a process in the `sandbox` finds
each answer and what it needs (`code`), runs them and sends the outputs back as plain arrays. The reference's
values exist only in the process that judges (`marking`).
"""
