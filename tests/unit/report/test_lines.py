"""Lines of a terminal: no line is too long, and no command is broken."""

import pytest
from rich.cells import cell_len

from harness import matrix
from harness.report.lines import COMMAND, wrapped
from harness.report.messages import translation

HINTS = sorted({chip.hint for chip in matrix.chips().values()})
LONG = "pytest -m 'ascend310p and regnety_016 and fp16 and bs16' --sdk-python=/usr/local/python3.7.5/bin/python3"


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [40, 60, 66, 80, 200])
@pytest.mark.parametrize("hint", HINTS)
def test_the_command_of_every_hint_stands_on_one_line(hint, width, lang):
    text = translation(lang)("{chips}: absent; to have it: {hint}", chips="x", hint=translation(lang)(hint))
    commands = [found[0] for found in COMMAND.finditer(text)]

    lines = [line.plain for line in wrapped(text, width)]

    for command in commands:
        assert any(command in line for line in lines), lines
    assert commands or "--sdk-python" in hint or "container" in hint
    assert all(cell_len(line) <= width or line in commands for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_command_that_is_too_long_stands_alone_and_whole():
    lines = [line.plain for line in wrapped(f"it failed; run it again: {LONG}; then look at the log of it", 80)]

    assert lines == ["it failed; run it again:", LONG, "; then look at the log of it"]


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("chipproof fetch says where to get each", ["chipproof fetch"]),
        ("pip install onnxruntime-qnn onnx into a Python of its own", ["pip install onnxruntime-qnn onnx"]),
        ("you can run: cpu -> make run", ["make run"]),
        ("用 chipproof doctor 查看", ["chipproof doctor"]),
        ("source of the pytest plug-in", []),
        ("/opt/p/bin/python -m pip install numpy", ["/opt/p/bin/python -m pip install numpy"]),
    ],
)
def test_a_command_ends_where_the_sentence_goes_on(text, commands):
    assert [found[0] for found in COMMAND.finditer(text)] == commands


def test_what_is_no_command_is_broken_where_it_must_be():
    assert [line.plain for line in wrapped("a" * 90 + " b", 40)] == ["a" * 40, "a" * 40, "aaaaaaaaaa b"]
    assert [line.plain for line in wrapped("one\ntwo", 40)] == ["one", "two"]
    assert [line.plain for line in wrapped("", 40)] == [""]
