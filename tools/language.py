"""The option --lang of the verbs that print in both languages."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.report.messages import LANGUAGES


def spoken(lang: str | None) -> str | None:
    """The language. Raises typer.BadParameter for one that does not exist."""
    if lang is not None and lang not in LANGUAGES:
        raise typer.BadParameter(f"{lang}: there are {', '.join(LANGUAGES)}")
    return lang


LangOption = Annotated[
    str | None,
    typer.Option("--lang", metavar="|".join(LANGUAGES), help="language (default: the locale's)", callback=spoken),
]
