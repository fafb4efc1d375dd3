"""Rosters and overrides as spreadsheets and platforms save them: CSV in any coding, columns in any order."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAY = "save the sheet as CSV (UTF-8)"


@dataclass(frozen=True)
class Line:
    """One line of a sheet: what its columns hold, by our names for them."""

    place: str  # "roster.csv, line 3", for messages
    cells: Mapping[str, tuple[str, ...]]  # of each column those that are not empty, the best known first

    def __getitem__(self, column: str) -> str:
        """What the column holds, "" for nothing."""
        return next(iter(self.cells[column]), "")


def read(file: Path, columns: Mapping[str, Sequence[str]]) -> list[Line]:
    """The lines below the header, without empty ones.

    Args:
        columns: our name of a column -> how platforms head it, in small letters and digits alone; a sheet
            may have several of them, or none.

    What cannot be read as such a table is a ValueError of one line.
    """
    try:
        reader = csv.reader(io.StringIO(text := _text(file), newline=""), delimiter=_delimiter(text))
        rows = [(reader.line_num, [" ".join(cell.split()) for cell in row]) for row in reader]
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    except csv.Error as error:
        raise ValueError(f"{file} does not read as CSV ({error}): {SAY}") from None
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        raise ValueError(f"{file} is empty: its first line names the columns {', '.join(columns)}")
    heads = ["".join(filter(str.isalnum, head.casefold())) for head in rows[0][1]]
    places = {name: [heads.index(each) for each in known if each in heads] for name, known in columns.items()}
    if not any(places.values()):
        found = ", ".join(filter(None, rows[0][1]))[:200]
        raise ValueError(f"{file}: its first line names the columns {', '.join(columns)}; got {found}")
    return [
        Line(
            f"{file.name}, line {number}",
            {name: tuple(row[i] for i in at if i < len(row) and row[i]) for name, at in places.items()},
        )
        for number, row in rows[1:]
    ]


def _text(file: Path) -> str:
    content = file.read_bytes()
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ValueError(f"{file} is a workbook, no CSV: {SAY}")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _delimiter(text: str) -> str:
    """The one that the header has most of."""
    header = text.lstrip().partition("\n")[0]
    return max(",;\t", key=header.count)
