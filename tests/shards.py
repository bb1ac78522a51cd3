"""Which part of a run is whose: --shard K/N, balanced by what the tests took in an earlier run."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from harness.errors import UsageError
from harness.report.records import Run
from tests.session import plain
from tests.spread import scope_of


def shard_of(text: str) -> tuple[int, int]:
    """(k, n) of "k/n". Raises UsageError."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(
            f"--shard {text} is not a valid part of a run", hint="write K/N with K from 1 to N, for example 2/4"
        )
    return int(found[1]), int(found[2])


def durations(run: Run | None) -> dict[str, float]:
    """Seconds of each test of an earlier run (--baseline), the same file for all shards."""
    lines = run.lines if run is not None else ()
    return {line["test"]: line["seconds"] for line in lines if line.get("kind") == "end" and "seconds" in line}


def mine(tests: Iterable[str], shard: tuple[int, int], known: Mapping[str, float]) -> set[str]:
    """The tests of shard (k, n). Tests of one model, chip and precision stay together, because ratios are drawn from
    their throughputs; the longest such group goes to the shard with the least so far. A test without a known duration
    counts as the mean of the others, or 1 s. Every machine that is given the same names and durations decides alike."""
    usual = sum(known.values()) / len(known) if known else 1.0
    groups: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        groups[scope_of(test) or test].append(test)
    cost = {name: sum(known.get(plain(test), usual) for test in group) for name, group in groups.items()}
    shares: list[list[str]] = [[] for _ in range(shard[1])]
    totals = [0.0] * shard[1]
    for name in sorted(groups, key=lambda name: (-cost[name], name)):
        least = totals.index(min(totals))
        shares[least].append(name)
        totals[least] += cost[name]
    return {test for name in shares[shard[0] - 1] for test in groups[name]}
