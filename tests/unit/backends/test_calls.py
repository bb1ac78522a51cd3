"""Vendor calls are named, their answers are checked, and what they print is part of the error."""

import os
from types import SimpleNamespace

import pytest

from harness.backends._calls import Calls
from harness.errors import BuildError

CALLS = Calls(BuildError, "build it again")


def status(good):
    return SimpleNamespace(ok=lambda: good, __str__=lambda self: "bad status")


@pytest.mark.parametrize(
    "made",
    [
        lambda: CALLS.ok("v.call", lambda: status(False)),
        lambda: CALLS.make("v.call", lambda: None),
        lambda: CALLS.true("v.call", lambda: False),
        lambda: CALLS.do("v.call", lambda: 1 / 0),
    ],
    ids=["a status that is not ok", "nothing where an object was asked for", "false", "an exception"],
)
def test_a_failed_call_is_an_error_that_names_it(made):
    with pytest.raises(BuildError, match=r"v\.call") as raised:
        made()
    assert "build it again" in raised.value.hint


def test_what_a_good_call_returns_comes_back():
    assert CALLS.ok("v.call", lambda: status(True)) is None
    assert CALLS.make("v.call", lambda x: [x], 3) == [3]
    assert CALLS.do("v.call", lambda: None) is None


def test_a_call_that_may_return_anything_is_no_failure_for_that():
    assert CALLS.ok("v.call", lambda: "done", void=True) is None
    with pytest.raises(BuildError):
        CALLS.ok("v.call", lambda: status(False), void=True)


def test_what_a_vendor_prints_on_stderr_is_in_the_error():
    def refuses():
        os.write(2, b"[ERROR] layer 7 is unknown\n")

    with pytest.raises(BuildError, match="layer 7 is unknown"):
        CALLS.make("v.call", refuses)


def test_a_runtime_with_its_own_log_is_asked_for_its_words():
    with pytest.raises(BuildError, match="from its own log"):
        Calls(BuildError, "hint", words=lambda: "from its own log").make("v.call", lambda: None)
