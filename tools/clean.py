"""chipproof clean: what an interrupted run left behind, and what of the cache is old."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.store import Left, Store, size_of
from tools.language import say
from tools.suite import CacheOption, cache_folder


def command(
    cache: CacheOption = None,
    older: Annotated[
        float | None, typer.Option("--older", min=0, help="also files that were not used for that many days")
    ] = None,
    most: Annotated[
        float | None, typer.Option("--most", min=0, help="also the longest unused files, until that many GB are left")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="remove them; without this they are only shown")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object for each")] = False,
) -> None:
    """Show incomplete cache files, temporary folders and lock notes that a killed run or a power cut left; with --older
    and --most also old files of the cache; with --remove remove them. Files of running processes are never touched."""
    from harness.run import leases  # with NumPy, which the help does not need

    store = Store(cache_folder(cache))
    found = store.leftovers()
    found += [entry for entry in store.old(older, most) if entry.path not in {left.path for left in found}]
    for root in (leases.LEASES, leases.SIMULATED):
        found += [
            Left(note, note.stat().st_size, "lock note of a process that has ended")
            for note in leases.stale_notes(root)
        ]
    found += [
        Left(path, size_of(path), "temporary folder of a process that has ended") for path in leases.stale_scratch()
    ]
    removed = [left for left in found if remove and store.remove(left)]
    if as_json:
        print(json.dumps([{"path": str(left.path), "bytes": left.size, "why": left.why, "removed": left in removed}
                          for left in found], ensure_ascii=False))  # fmt: skip
        return
    for left in found:
        kept = "; kept: it is in use, or does not belong to the suite" if remove and left not in removed else ""
        say(f"{left.size / 1e6:10.1f} MB  {left.why}: {left.path}{kept}")
    size = sum(left.size for left in (removed if remove else found)) / 1e6
    said = f"{len(removed)} removed, {size:.1f} MB" if remove else f"{len(found)} to remove, {size:.1f} MB"
    say(said + ("" if remove or not found else "; to remove: chipproof clean --remove"))
