"""The head line of a run, posted to an address that a lab gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.report import ci
from harness.report.records import Run

SECONDS = 10.0  # that an address may take; a run does not wait longer for it


def check(url: str) -> str:
    """The address. Raises UsageError when it is not one of HTTP."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(f"--webhook {url} is not an address", hint="write https://HOST/PATH")
    return url


def body(run: Run, status: int, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """What is posted: `text` (the head line, as chat systems show it), conclusion, exit status, counts by outcome,
    host and time."""
    counts: dict[str, int] = {}
    for record in run.records:
        counts[record.outcome.value] = counts.get(record.outcome.value, 0) + 1
    conclusion = ci.conclusion(run.records, required, run.footer.get("stopped", ""))
    return {
        "text": f"chipproof on {run.header.get('host', '?')}: {conclusion}; {run.head_line}",
        "conclusion": conclusion, "status": status, "counts": counts, "host": run.header.get("host"),
        "time": run.header.get("time"),
    }  # fmt: skip


def post(url: str, told: Mapping[str, Any]) -> str:
    """Post it as JSON. Returns why it could not be done, or "": no verdict depends on it."""
    import urllib.request  # takes a while, and few runs post anything

    request = urllib.request.Request(
        url, json.dumps(told, ensure_ascii=False).encode(), {"Content-Type": "application/json; charset=utf-8"}
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return "" if answer.status < 300 else f"{url} answered {answer.status}"
    except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
        return f"{url}: {error}"
