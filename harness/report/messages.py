"""The sentences of summaries and reports in English and Chinese.

A catalogue is harness/report/languages/<language>.po, text in the format of GNU gettext; the English sentence is the
key. A record keeps its text in English; the reader gets it clause by clause. The catalogue has a clause as a pattern
with {0}, {1} ... where its values stand, so that records of any age and of any machine can be read in any language."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

from harness.errors import HarnessError
from harness.report.counting import plural, singular

LANGUAGES = ("en", "zh")
CATALOGUES = Path(__file__).with_name("languages")
FOREIGN = (
    "Usage", "No such option", "No such command {0}.", "Missing argument {0}.", "Missing option {0}.",
    "Missing command.",
    "Option {0} requires an argument.", "Option {0} requires {1} arguments.", "Option {0} does not take a value.",
    "Got unexpected extra argument(s) ({0})", "Got unexpected extra argument ({0})", "Invalid value for {0}",
    "Got unexpected extra arguments ({0})",
    "{0} (Possible options: {1})", "Value {0} is not a valid {1}.", "{0} is not a valid {1}.", "{0} is not one of {1}.",
    "Input should be a valid integer, unable to parse string as an integer",
    "Input should be a valid number, unable to parse string as a number", "Input should be {0}",
    "argument {0}", "unrecognized arguments", "expected one argument", "expected at least one argument",
    "invalid choice", "{0} (choose from {1})", "invalid {0} value", "ignored explicit argument {0}",
)  # fmt: skip
"""What typer and argparse say of a command line that they cannot read. What is missing here stays English."""
HEADINGS = ("Arguments", "Commands", "Options", "Example", "default", "env var", "required",
            "Show this message and exit.")  # fmt: skip
"""What typer writes into every page of help."""
SUFFIX = r"((?:[ ,(\[].*?)?)"
MARKS = {"; ": "；", ": ": "：", "\n": "\n"}


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


def chosen(arguments: Sequence[str]) -> str | None:
    """The language that --lang names on a command line that could not be read, or nothing."""
    found = [after for before, after in itertools.pairwise(arguments) if before == "--lang"]
    found += [word.removeprefix("--lang=") for word in arguments if word.startswith("--lang=")]
    return next((word for word in found if word in LANGUAGES), None)


@cache
def translation(lang: str = "en") -> Translate:
    """The function that puts a sentence, or a record's text, into `lang`. What the catalogue lacks stays English."""
    known = {} if lang == "en" else entries((CATALOGUES / f"{lang}.po").read_text(encoding="utf-8"))

    def said(sentence: str) -> str:
        return known.get(sentence) or sentence

    @cache  # not where a page of help needs none
    def patterns() -> list[_Pattern]:
        found = [_Pattern(key, told) for key, told in known.items() if re.search(r"\{\d", key)]
        return sorted(found, key=lambda pattern: -pattern.size)

    def translate(sentence: str, /, **values: object) -> str:
        if not sentence:
            return ""
        text = said(sentence)
        text = text.format(**values) if values else text
        if not known:
            return singular(text)
        return _told(text, said, patterns) if text == sentence and not values else text

    return translate


def refusal(error: HarnessError, t: Translate) -> str:
    """The fact and the next step of an error, as the reader of `t` gets them."""
    return f"{t(error.fact)}\n  {t('next: {text}', text=t(error.hint))}"


class _Pattern:
    """A clause with its translation. `literal` is its longest piece without a value, `size` the length of all."""

    def __init__(self, key: str, told: str) -> None:
        pieces = re.split(r"\{(\d+)\}", key)
        self.literal, self.size = max(pieces[::2], key=len), len("".join(pieces[::2]))
        self.places = [int(place) for place in pieces[1::2]]
        self.told = told
        self._texts = pieces[::2]

    @cached_property
    def _form(self) -> re.Pattern[str]:
        form = re.escape(self._texts[0])
        for at, (before, after) in enumerate(itertools.pairwise(self._texts)):
            attached = re.search("[A-Za-z]{2}$", before) or (at > 0 and not before)  # to a word: it may be missing
            form += (SUFFIX if attached else "(.*?)") + re.escape(after)
        return re.compile(form, re.DOTALL)

    def values(self, clause: str) -> dict[int, str] | None:
        """Place -> value, or nothing for another clause: no value has a bracket without the other one."""
        found = self._form.fullmatch(clause) if self.literal in clause else None
        if found is None or (_paired(clause) and not all(map(_paired, found.groups()))):
            return None
        return dict(zip(self.places, found.groups(), strict=True))


def _paired(text: str) -> bool:
    return text.count("(") == text.count(")")


def clauses(text: str) -> list[str]:
    """The clauses of a text, and between them the marks that part them (MARKS). What stands in brackets is not parted;
    brackets that never close are none."""
    found, depth, paired = [""], 0, _paired(text)
    for piece in re.split(r"([()]|; |: |\n)", text):
        depth += paired * ((piece == "(") - (piece == ")"))
        if piece in MARKS and depth <= 0:
            found += [piece, ""]
        else:
            found[-1] += piece
    return found


def _told(text: str, said: Callable[[str], str], patterns: Callable[[], Sequence[_Pattern]]) -> str:
    """A text clause by clause, each with its values. A mark beside a clause that was translated is the reader's."""
    pieces = clauses(text) if text else []  # the catalogue has its header for ""
    whole, mark, new = "", "", True
    while pieces:
        ends = range(len(pieces), 0, -2)  # a sentence of several clauses may be known as a whole
        end = next((end for end in ends if said(piece := "".join(pieces[:end])) != piece), 1)
        before = "".join(pieces[:end])
        now = _clause(before, said, patterns)
        whole += (MARKS[mark] if mark and (new or now != before) else mark) + now
        new, mark = now != before, pieces[end] if end < len(pieces) else ""
        pieces = pieces[end + 1 :]
    return whole


def _clause(clause: str, said: Callable[[str], str], patterns: Callable[[], Sequence[_Pattern]]) -> str:
    if clause and (told := said(clause)) != clause:
        return told
    forms = dict.fromkeys((clause, plural(clause)))
    either = "\0".join(forms)
    for pattern in (one for one in patterns() if one.literal in either):  # few: a report asks thousands of times
        for values in map(pattern.values, forms):
            if values is not None:
                return pattern.told.format(*(_told(values[place], said, patterns) for place in sorted(values)))
    return clause


def entries(text: str) -> dict[str, str]:
    """msgid -> msgstr of a .po file, the header ("") included. Raises ValueError for an entry given twice."""
    string = r'((?:"(?:[^"\\]|\\.)*"\s*)+)'
    pairs = re.findall(rf"^msgid\s+{string}^msgstr\s+{string}", text, re.MULTILINE)
    literals = ",".join(_joined(lines) for pair in pairs for lines in pair)
    strings = json.loads(f"[{literals}]")  # their escapes are JSON's
    found: dict[str, str] = {}
    for name, told in zip(strings[::2], strings[1::2], strict=True):
        if name in found:
            raise ValueError(f"{name!r} is translated twice")
        found[name] = told
    return found


def _joined(lines: str) -> str:
    """One literal of those that stand on a line each."""
    return '"' + "".join(line.strip()[1:-1] for line in lines.split("\n")) + '"'
