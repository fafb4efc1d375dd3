"""What a system keeps submissions from, said plainly to the instructor."""

from dataclasses import asdict, dataclass

from diffusion_lessons.course.grading.sandbox import kernel


@dataclass
class Protection:
    """What holds here."""

    namespaces: bool = False
    files: bool = False
    calls: bool = False
    user: bool = False
    limits: bool = False

    def lines(self) -> list[str]:
        """What holds and what does not, in sentences for the instructor."""
        network, processes = self.namespaces or self.calls, self.namespaces
        return [
            _line(
                self.limits and kernel.LINUX,
                "CPU time, memory, processes and file size are limited",
                "only the wall clock is limited" + (", and CPU time" if self.limits else ""),
            ),
            _line(network, "no network", "submissions can reach the network"),
            _line(
                self.files,
                "no file outside its folder is written, and only Python and the package are read (Landlock)",
                "submissions can write wherever "
                + (
                    "anybody can"
                    if self.user
                    else "you can: grade in a container, or as a user that owns nothing"
                ),
            ),
            _line(
                processes,
                "no other process in sight, and all of a submission's ended with it",
                "the processes of a submission are looked for and ended",
            ),
            _line(
                self.calls,
                "no other programs, no changes to the rights of files (seccomp)",
                "submissions can start other programs",
            ),
        ]

    def to_json(self) -> dict[str, bool]:
        return asdict(self)


def _line(holds: bool, yes: str, no: str) -> str:
    return yes if holds else f"NOT here: {no}"
