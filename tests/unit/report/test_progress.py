"""A bar where someone looks, a line now and then in a log, and nothing left on the screen."""

import io
import os
import pty
import re
import threading

import pytest

from harness.report.progress import EVERY_S, Shown


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_log_gets_a_line_now_and_then_with_the_time_left():
    log, clock = io.StringIO(), Clock()
    advance = Shown(log, ["a", "b"], clock)("accuracy b", 100)

    for _ in range(10):
        clock.now += EVERY_S / 3 + 0.01
        advance(10)

    assert log.getvalue().splitlines() == [
        "chipproof: case 2 of 2, accuracy: b: 30 of 100, about 70 s left",
        "chipproof: case 2 of 2, accuracy: b: 60 of 100, about 40 s left",
        "chipproof: case 2 of 2, accuracy: b: 90 of 100, about 10 s left",
    ]


def test_a_line_in_chinese():
    log, clock = io.StringIO(), Clock()
    advance = Shown(log, ["a", "b"], clock, "zh")("accuracy b", 100)

    clock.now += EVERY_S
    advance(25)

    assert log.getvalue() == "chipproof: 用例 2/2，accuracy：b: 25/100，大约还要 90 秒\n"


def test_the_reference_is_named_in_the_readers_language():
    log, clock = io.StringIO(), Clock()
    for lang in ("en", "zh"):
        advance = Shown(log, ["a"], clock, lang)("reference regnety_016", 100)
        clock.now += EVERY_S
        advance(50)

    assert log.getvalue().splitlines() == [
        "chipproof: answers of the reference: regnety_016: 50 of 100, about 30 s left",
        "chipproof: 参考实现的结果：regnety_016: 50/100，大约还要 30 秒",
    ]


def test_short_work_has_no_line():
    log = io.StringIO()
    advance = Shown(log)("reference", 5)
    for _ in range(5):
        advance(1)

    assert log.getvalue() == ""


@pytest.fixture
def terminal(monkeypatch):
    """(stream, read): a pseudo-terminal of 80 columns, and a function that gives what it has shown."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    shown = bytearray()

    def drain():
        while True:
            try:
                shown.extend(os.read(ours, 4096))
            except OSError:
                return

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    stream = os.fdopen(theirs, "w", encoding="utf-8")

    def read():
        stream.close()
        reader.join(5)
        os.close(ours)
        return shown.decode()

    return stream, read


def test_a_terminal_shows_a_bar_and_keeps_nothing_of_it(terminal):
    stream, read = terminal
    advance = Shown(stream, ["regnety_016-cpu-fp32-bs1"])("throughput regnety_016-cpu-fp32-bs1", 4)
    for _ in range(5):
        advance(1)

    text = read()
    assert "case 1 of 1, throughput: regnety_016-cpu-fp32-bs1" in text
    assert re.search(r"\d/4", text)
    left = text[text.rindex("\x1b[2K") :]
    assert re.sub(r"\x1b\[[?\d]*[a-zA-Z]", "", left).strip() == "", "the line is cleared"
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is hidden and comes back"


def test_bars_of_work_at_the_same_time_share_the_terminal(terminal):
    stream, read = terminal
    begin = Shown(stream)
    one, two = begin("one", 2), begin("two", 1)
    one(1)
    two(1)
    one(1)

    text = read()
    assert text.count("\x1b[?25h") == 1
    assert "one" in text
    assert "two" in text


def test_work_that_breaks_off_leaves_no_bar(terminal):
    stream, read = terminal
    shown = Shown(stream)
    shown("broken", 4)(1)
    shown.clear()
    shown("next", 1)(1)

    text = read()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 2
    assert "broken" not in text[text.index("\x1b[?25h") :]
