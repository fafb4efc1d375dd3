"""Checking one notebook and grading a class's, whatever was handed in.

A verdict is computed outside the student's process. `workers` starts servers with a clean
environment; a `server` has loaded the package once and forks a child for each run; the child locks
itself up (`sandbox`), runs what an answer needs (`inside`, `slicing`) and sends its outputs back as
plain arrays (`protocol`). The reference's values exist only in the process that judges (`marking`).
"""
