"""Counts in sentences: messages are written in the plural ("{n} images are"), and read right where there is one."""

from __future__ import annotations

import re
from collections.abc import Mapping

REGULAR = """answer argument attribute byte card case cause chip column core cycle day device disagreement engine event
example execute face failure fault figure file image input iteration key layer line log mistake model name node
number object output package pair part picture point prediction reason record result row run sample
scene score second shape step tensor time value verdict window"""
NOUNS: dict[str, str] = {
    **{f"{noun}s": noun for noun in REGULAR.split()},
    "boxes": "box", "batches": "batch", "classes": "class", "entries": "entry", "summaries": "summary",
    "passes": "pass", "processes": "process", "tries": "try",
}  # fmt: skip
"""What is counted in messages: of several -> of one."""
VERBS: dict[str, str] = {"are": "is", "were": "was", "have": "has", "differ": "differs", "do": "does", "need": "needs"}
SEVERAL = ({one: more for more, one in NOUNS.items()}, {one: more for more, one in VERBS.items()})
"""Nouns and verbs of one -> of several."""
ONE = r"(?<![\w.,:/-])(?<!batch )(?<!device )(?<!card )1((?: [a-z]+)?) (%s)(?![\w/(])(?: (%s)\b)?"
APART = frozenset(["a", "of", "to", "and", "in", "for", "or", "is", "at", "on", "by", "x", "per", "from"]).union(
    VERBS, VERBS.values()
)
"""Words after which the noun is not what the 1 counts: "1 of images"."""


def singular(text: str) -> str:
    """The text with "1 image is" for "1 images are"."""
    return _exchanged(text, NOUNS, VERBS)


def plural(text: str) -> str:
    """The inverse of singular: what a sentence of one reads like in the catalogues."""
    return _exchanged(text, *SEVERAL)


def _exchanged(text: str, nouns: Mapping[str, str], verbs: Mapping[str, str]) -> str:
    """The text with other forms of the noun and of its verb after each 1 that counts."""
    if "1 " not in text:
        return text

    def exchange(found: re.Match[str]) -> str:
        between, noun, verb = found.groups()
        if between.strip() in APART:
            return found[0]
        return f"1{between} {nouns[noun]}{f' {verbs[verb]}' if verb else ''}"

    return re.sub(ONE % ("|".join(nouns), "|".join(verbs)), exchange, text)
