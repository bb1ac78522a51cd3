"""Shards: every test is in exactly one, line-ups stay together, and long ones are spread."""

import pytest

pytest.importorskip("xdist")

from harness import matrix
from harness.errors import UsageError
from harness.report.records import Run
from tests import shards
from tests.spread import scope_of

TESTS = [f"tests/conformance/test_{stage}.py::test_x[{case}]" for stage in ("export", "numerics", "throughput")
         for case in matrix.cases()]  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_every_test_is_in_exactly_one_shard(n):
    parts = [shards.mine(TESTS, (k, n), {}) for k in range(1, n + 1)]

    assert sum(map(len, parts)) == len(TESTS)
    assert set().union(*parts) == set(TESTS)
    scopes = [{scope_of(test) for test in part} for part in parts]
    assert all(not a & b for i, a in enumerate(scopes) for b in scopes[i + 1 :])


def test_the_order_of_the_tests_decides_nothing():
    assert shards.mine(TESTS, (2, 3), {}) == shards.mine(TESTS[::-1], (2, 3), {})


def test_known_durations_balance_the_shards():
    names = [f"t.py::t[m{i}-t4-fp16-bs1]" for i in range(6)]
    known = dict(zip(names, [60.0, 10.0, 10.0, 10.0, 20.0, 10.0], strict=True))

    parts = [shards.mine(names, (k, 2), known) for k in (1, 2)]

    assert sorted(sum(known[test] for test in part) for part in parts) == [60.0, 60.0]


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match="write K/N"):
        shards.shard_of(text)


def test_durations_are_those_of_the_earlier_run():
    lines = ({"kind": "end", "test": "a", "seconds": 2.5}, {"kind": "end", "test": "b"}, {"kind": "begin", "test": "c"})

    assert shards.durations(Run({}, (), {}, lines)) == {"a": 2.5}
    assert shards.durations(None) == {}
