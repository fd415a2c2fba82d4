"""A terminal that is none, and what stands on a screen, from what was sent to it."""

import io
import re


def screen(raw: str, columns: int) -> list[str]:
    """What stands on a terminal of endless height, down to the cursor. Fails on sequences that rich has no use for."""
    lines, row, column = [""], 0, 0
    for found in re.finditer(r"\x1b\[(\?25[hl]|[\d;]*m|\d*[AK])|(\r)|(\n)|([^\x1b\r\n]+)|(\x1b.?)", raw):
        sequence, back, down, text, unknown = found.groups()
        lines += [""] * (row + 1 - len(lines))
        assert unknown is None, f"an unknown sequence: {unknown!r}"
        if back:
            column = 0
        elif down:
            row += 1
        elif sequence and sequence[-1] == "A":
            row = max(0, row - int(sequence[:-1] or 1))
        elif sequence == "2K":
            lines[row] = ""
        for character in text or "":
            if column == columns:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    while len(lines) > row + 1 and not lines[-1].strip():
        lines.pop()
    return [line.rstrip() for line in lines]


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True
