"""The language of the verbs: what they print, and their help. A verb prints with say(), and need not know of it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len

from harness.report.messages import LANGUAGES, Translate, chosen, language, translation

if TYPE_CHECKING:
    from rich.table import Table

WORD = re.compile(r"\s*[（“]?(?:[^\s\u3000-\u9fff\uff00-\uffef]+|\S)[，。；：、）”]*")
"""What is not broken: a Latin word or a Chinese sign, with the marks that belong to it."""

_asked: list[str | None] = []  # by --lang, of the call of chipproof that is running


def known(lang: str | None) -> str | None:
    """The language. Raises typer.BadParameter for one that does not exist."""
    if lang is not None and lang not in LANGUAGES:
        raise typer.BadParameter(f"{lang}: there are {', '.join(LANGUAGES)}")
    return lang


LangOption = Annotated[
    str | None,
    typer.Option("--lang", metavar="|".join(LANGUAGES), help="language (default: the locale's)", callback=known),
]


@contextmanager
def read_in(arguments: Sequence[str]) -> Iterator[None]:
    """Everything printed meanwhile is in the language that this command line asks for."""
    _asked.append(chosen(arguments))
    try:
        yield
    finally:
        _asked.pop()


def lang(stream: Any = None) -> str:
    """The language of whoever reads the stream, by default standard output."""
    return language(_asked[-1] if _asked else None, encoding=(stream or sys.stdout).encoding)


def reader(stream: Any = None) -> Translate:
    """Puts sentences into the language of whoever reads the stream, by default standard output."""
    return translation(lang(stream))


def say(text: str, stream: Any = None) -> None:
    """Print a text in the reader's language, line by line. What the catalogue lacks stays English. Not for JSON."""
    t = reader(stream)
    lines = ((line[: len(line) - len(line.lstrip())], line.lstrip()) for line in text.split("\n"))
    print("\n".join(indent + t(line) for indent, line in lines), file=stream or sys.stdout)


def show(table: Table, least: int = 80) -> None:
    """Print a table of rich, its headings in the reader's language, at least `least` cells wide."""
    from rich.console import Console

    t = reader()
    for column in table.columns:
        column.header = t(str(column.header))
    width = max(shutil.get_terminal_size((130, 40)).columns, least)
    Console(width=width, highlight=False, markup=False).print(table)


def speaking(group: Any) -> Any:
    """A group of click's commands whose help is in the reader's language, and each of which takes the group's --lang,
    but those that pass their options on."""
    option = next(param for param in group.params if param.name == "lang")
    option.expose_value = False  # to no function: read_in() has it
    for command in (group, *group.commands.values()):
        if command is not group and not command.context_settings.get("ignore_unknown_options"):
            command.params.append(option)
        if lang() != "en":
            formatter = type("Formatter", (_Help, command.context_class.formatter_class), {"t": staticmethod(reader())})
            command.context_class = type("Context", (command.context_class,), {"formatter_class": formatter})
    return group


class _Help:
    """What click writes of a command, in another language and with signs of two cells. Mixed into its formatter."""

    t: Translate
    width: int
    current_indent: int
    write: Any

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, f"{self.t('Usage')}：")  # type: ignore[misc]

    def write_heading(self, heading: str) -> None:
        self.write(f"{'':>{self.current_indent}}{self.t(heading)}：\n")

    def write_text(self, text: str) -> None:
        indent = " " * self.current_indent
        told = (self._told(paragraph, self.width - self.current_indent) for paragraph in text.split("\n\n"))
        self.write("\n\n".join("\n".join(indent + line for line in lines) for lines in told) + "\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        first = min(max(len(name) for name, _ in rows), col_max) + col_spacing
        for name, text in rows:
            start = f"{'':>{self.current_indent}}{name}"
            lines = self._told(text, self.width - first - self.current_indent)
            if len(name) > first - col_spacing:
                self.write(f"{start}\n")
                start = ""
            for line in lines:
                self.write(f"{start:<{first + self.current_indent}}{line}".rstrip() + "\n")
                start = ""

    def _told(self, text: str, width: int) -> list[str]:
        """Lines of a paragraph in the reader's language, with what click adds in brackets: the default, the range."""
        if text.startswith("\b\n"):  # of click: not to be broken
            return [self.t(text[2:])]
        said, _, more = (
            " ".join(text.split()).partition(" [") if text.endswith("]") else (" ".join(text.split()), "", "")
        )
        notes = f"（{self.t(more[:-1])}）" if more else ""
        return folded(self.t(said) + notes, width)


def folded(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells: Chinese is broken anywhere, but before no mark."""
    lines = [""]
    for word in WORD.findall(text):
        if cell_len(lines[-1] + word) > width:
            lines.append("")
        lines[-1] += word if lines[-1] else word.lstrip()
    return lines
