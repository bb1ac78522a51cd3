"""The sentences of summaries and reports in English and Chinese, through gettext.

A catalogue is harness/report/languages/<language>.po, text in the format of GNU gettext; the English sentence is the
key. What a record says (its `text`) is kept in the language in which it was written."""

from __future__ import annotations

import ast
import gettext
import io
import os
import re
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

LANGUAGES = ("en", "zh")
CATALOGUES = Path(__file__).with_name("languages")


class Translate(Protocol):
    """Gives a sentence in the language of the reader; {names} in it are filled in from the keywords."""

    def __call__(self, sentence: str, /, **values: object) -> str: ...


def language(
    chosen: str | None = None, environment: Mapping[str, str] = os.environ, encoding: str | None = "utf-8"
) -> str:
    """`chosen`, or "zh" when the locale is a Chinese one and `encoding`, that of the output, has Chinese, or "en"."""
    if chosen:
        return chosen
    names = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    if not next(filter(None, names), "").lower().startswith("zh"):
        return "en"
    try:
        "\u4e2d".encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return "en"
    return "zh"


@cache
def translation(lang: str = "en") -> Translate:
    """The function that puts a sentence into `lang`. A sentence that the catalogue lacks stays English."""
    said = _catalogue(lang).gettext

    def translate(sentence: str, /, **values: object) -> str:
        text = said(sentence) if sentence else ""
        return text.format(**values) if values else text

    return translate


def _catalogue(lang: str) -> gettext.NullTranslations:
    path = CATALOGUES / f"{lang}.po"
    if lang == "en":
        return gettext.NullTranslations()
    return gettext.GNUTranslations(io.BytesIO(compiled(entries(path.read_text(encoding="utf-8")))))


def entries(text: str) -> dict[str, str]:
    """msgid -> msgstr of a .po file, the header ("") included. Raises ValueError for an entry given twice."""
    found: dict[str, str] = {}
    string = r'((?:"(?:[^"\\]|\\.)*"\s*)+)'
    for key, value in re.findall(rf"^msgid\s+{string}^msgstr\s+{string}", text, re.MULTILINE):
        name = _joined(key)
        if name in found:
            raise ValueError(f"{name!r} is translated twice")
        found[name] = _joined(value)
    return found


def _joined(literals: str) -> str:
    return "".join(ast.literal_eval(line) for line in literals.split("\n") if line.strip())


def compiled(messages: Mapping[str, str]) -> bytes:
    """The .mo file of a catalogue. Format: GNU gettext manual, "The Format of GNU MO Files"."""
    pairs = sorted((key.encode(), value.encode()) for key, value in messages.items() if value)
    start = 28 + 16 * len(pairs)
    body = b""
    keys: list[bytes] = []
    values: list[bytes] = []
    for table, column in ((keys, 0), (values, 1)):
        for pair in pairs:
            table.append(struct.pack("<II", len(pair[column]), start + len(body)))
            body += pair[column] + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, start)
    return head + b"".join(keys) + b"".join(values) + body
