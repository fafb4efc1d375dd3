"""What stands in for the internet."""

from dataclasses import dataclass, field


@dataclass
class Mirror:
    """What the server answers for each path: the bytes, and how many it says they are."""

    url: str = ""
    answers: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def serve(self, path: str, body: bytes, announced: int | None = None) -> str:
        """Put a file there; `announced` bytes if that should be a lie. Returns the address of its folder."""
        self.answers[f"/{path}"] = body, len(body) if announced is None else announced
        return f"{self.url}/{path.rpartition('/')[0]}/"

    def gets(self) -> int:
        return sum(line.startswith("GET") for line in self.asked)
