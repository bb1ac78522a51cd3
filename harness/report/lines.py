"""Text as lines of a terminal. A command is never broken: it can be copied whole, whatever the width."""

from __future__ import annotations

import io
import re

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

COMMAND = re.compile(
    r"(?<![\w/-])(?:chipproof [a-z]+|pytest(?= -)|(?:\S+ -m )?pip (?:un)?install|source(?= /)|make(?= run| test)"
    r"|rm(?= -)|lsof(?= /))(?: (?!(?:into|in|and|or|says|lists|names|tells|tries) )"
    r"(?:'[^']*'|\"[^\"]*\"|[^\s;,；，。()（）\u4e00-\u9fff])+)*"
)
"""A program with its words, up to the next word of a sentence."""
BLANK = "\ue000"  # in the place of a command's blanks: no text has it


def wrapped(text: str, width: int, style: str = "") -> list[Text]:
    """Lines of at most `width` cells; Chinese is broken anywhere, and a word that is too long, too. A command that is
    longer than a line stands on one of its own, which the terminal itself goes on below."""
    lines = [line for paragraph in text.splitlines() or [""] for line in _lines(paragraph, width)]
    return [Text(line.replace(BLANK, " "), style, end="") for line in lines]


def _lines(text: str, width: int) -> list[str]:
    lines, end = [""], 0
    for command in COMMAND.finditer(text):
        lines[-1:] = _folded(lines[-1] + text[end : command.start()], width)
        whole, end = command[0].replace(" ", BLANK), command.end()
        if lines[-1] and cell_len(lines[-1] + whole) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append(whole)
        else:
            lines[-1] += whole
    if cell_len(lines[-1]) > width:  # a command, which stays alone
        return [*lines, *_folded(rest, width)] if (rest := text[end:].lstrip()) else lines
    return [*lines[:-1], *_folded(lines[-1] + text[end:].rstrip(), width)]


def _folded(text: str, width: int) -> list[str]:
    """Lines without the blanks at which they were broken."""
    if cell_len(text) <= width:
        return [text]
    console = Console(width=width, file=io.StringIO())
    *before, last = (line.plain.rstrip() for line in Text(text, end="").wrap(console, width, overflow="fold"))
    return [*before, last + " " * (text.endswith(" ") and cell_len(last) < width)]
