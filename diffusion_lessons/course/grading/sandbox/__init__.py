"""Where a submission's code runs, and what it is kept from; the rest of the grader imports from here.

A `Worker` (`workers`) starts a `server` with a clean environment. That forks a process for each request,
which locks itself up (`confinement`, `namespaces`, `kernel`), runs an answer (`runner`, `pieces`) and sends
plain data back (`protocol`), while the server looks after its limits (`watch`).
"""

from diffusion_lessons.course.grading.sandbox.confinement import PACKAGE, Protection
from diffusion_lessons.course.grading.sandbox.protocol import TooLarge, Unreadable, read_outputs, unpack
from diffusion_lessons.course.grading.sandbox.watch import DISK, MOST_PROCESSES, Ending, Limits
from diffusion_lessons.course.grading.sandbox.workers import Worker

__all__ = ["DISK", "MOST_PROCESSES", "PACKAGE", "Ending", "Limits", "Protection", "TooLarge", "Unreadable"]
__all__ += ["Worker", "read_outputs", "unpack"]
