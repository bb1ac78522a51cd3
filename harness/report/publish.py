"""Writes what people read of a run: latest.md, latest.html and latest.csv, and what a CI system shows by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.report import ci, compare, history
from harness.report.html import page
from harness.report.records import Run, write_whole

PAST = 24  # record files in the folder, the last by name, that lines over time are drawn of


def publish(
    folder: Path, run: Run, environment: Mapping[str, str], lang: str = "en", baseline: Run | None = None
) -> list[str]:
    """Write the reports of a run and what changed since `baseline`; also when nothing ran, so that no older
    report stays the latest. Returns lines for a CI system to read from standard output. Raises StoreError."""
    found = None if baseline is None else compare.compare(baseline, run)
    told = ("", "") if found is None else (compare.markdown(found, lang), compare.html(found, lang))
    write_whole(folder / "latest.md", ci.markdown(run, lang, told[0]))
    write_whole(folder / "latest.html", page(run, lang, told[1], [folder], history.read(folder, PAST)[0]))
    write_whole(folder / "latest.csv", ci.comma_separated(run.records))
    return ci.github(run, environment, lang)
