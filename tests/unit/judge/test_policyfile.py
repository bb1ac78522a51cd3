"""A policy file is read whole, or its wrong row is named."""

from datetime import date

import pytest

from harness.errors import UsageError
from harness.judge import policyfile
from harness.vocabulary import Outcome

CASES = ["regnety_016-ascend310p-fp16-bs16", "regnety_016-cpu-fp32-bs1"]
STEPS = ("build", "run")
WHOLE = """
decided = 0.9

[limits]
run = 60
memory_gb = 8

[[expect]]
case = "*-ascend310p-*"
stage = "numerics"
outcome = "INVALID"
reason = "driver 24"
link = "https://example.com/1"
until = 2027-03-01

[[observe]]
case = "*"
stage = "*"
reason = "new"

[[gate]]
case = "*-fp16-*"
stage = "throughput"
figure = "latency_p99_us"
most = 5000
reason = "the product's budget"
"""


def read(tmp_path, text):
    (tmp_path / "chipproof.toml").write_text(text, encoding="utf-8")
    return policyfile.read(tmp_path / "chipproof.toml", CASES, STEPS)


def test_a_row_of_a_file_that_this_run_does_not_test_stands(tmp_path):
    """One policy serves runs with --onnx and without."""
    path = tmp_path / "chipproof.toml"
    path.write_text('[[expect]]\ncase = "own_lane-*"\nstage = "numerics"\noutcome = "FAIL"\nreason = "x"\n')

    (row,) = policyfile.read(path, ["regnety_016-cpu-fp32-bs1"], STEPS).expected

    assert row.case == "own_lane-*"


def test_every_kind_of_row_is_read_with_its_place(tmp_path):
    policy = read(tmp_path, WHOLE)

    (expected,), (observed,), (gate,) = policy.expected, policy.observed, policy.gates
    assert (expected.outcome, expected.until, expected.place) == (Outcome.INVALID, date(2027, 3, 1), "chipproof.toml:8")
    assert (observed.case, observed.place) == ("*", "chipproof.toml:16")
    assert (gate.figure, gate.most, gate.least, gate.place) == ("latency_p99_us", 5000, None, "chipproof.toml:21")
    assert (policy.decided, policy.limits_of("cpu")) == (0.9, {"run": 60.0, "memory_gb": 8.0})
    assert policy.digest != read(tmp_path, WHOLE + "\n").digest


def test_interpreters_are_told_as_on_the_command_line_and_are_relative_to_the_file(tmp_path):
    policy = read(tmp_path, '[sdk_python]\nrk3588 = "rknn/bin/python"\nt4 = "/opt/python"\nmlu370_s4 = "python3.7"')

    assert policy.pythons == (f"rk3588={tmp_path}/rknn/bin/python", "t4=/opt/python", "mlu370_s4=python3.7")


def test_limits_of_a_chip_come_before_those_of_all(tmp_path):
    policy = read(tmp_path, "[limits]\nrun = 5\nmemory_gb = 8\n[limits.ascend310p]\nrun = 60\nbuild = 7200")

    assert policy.limits_of("ascend310p") == {"run": 60.0, "memory_gb": 8.0, "build": 7200.0}
    assert policy.limits_of("cpu") == {"run": 5.0, "memory_gb": 8.0}


def test_a_variable_may_hold_others_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB", "/opt/lab")
    monkeypatch.delenv("NOT_SET", raising=False)
    given = 'LD_LIBRARY_PATH = "/cann:$LAB/lib$NOT_SET"\nLEVEL = "3"\nPRICE = "$$5 or ${LAB}$"'
    policy = read(tmp_path, f"[environment.ascend310p]\n{given}")

    wanted = {"LD_LIBRARY_PATH": "/cann:/opt/lab/lib", "LEVEL": "3", "PRICE": "$5 or /opt/lab$"}
    assert policy.environment == {"ascend310p": wanted}


ROW = '[[expect]]\ncase = "*"\nstage = "numerics"\nreason = "x"\n'


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("decided = 2", "decided = 2 is not a share", "at most 1"),
        ("decided = 0", "decided = 0 is not a share", "at most 1"),
        ("decided = true", "decided = True is not a share", "at most 1"),
        ("decided = -0.5", "decided = -0.5 is not a share", "at most 1"),
        ('decided = "all"', "decided = 'all' is not a share", "at most 1"),
        (ROW.replace('"*"', "3"), "case = 3 is not allowed", "write a pattern"),
        (ROW.replace('"*"', '""'), "case = '' is not allowed", "write a pattern"),
        (ROW.replace('"x"', "3"), "reason = 3 is not allowed", "say in words"),
        (ROW.replace('"x"', '" "'), "reason = ' ' is not allowed", "say in words"),
        (ROW + "link = 3", "link = 3 is not allowed", "address of the ticket"),
        (ROW + "metric = 3", "metric = 3 is not allowed", "name the verdict"),
        (ROW + "until = 2027-03-01T00:00:00", "until = .* is not allowed", "2027-03-01"),
        (
            '[[gate]]\ncase="*"\nstage="*"\nreason="x"\nmost=1\nfigure=""',
            "figure = '' is not allowed",
            "latency_p99_us",
        ),
        (
            '[[gate]]\ncase="*"\nstage="*"\nreason="x"\nfigure="rms"\nleast=true',
            "least = True is not allowed",
            "number",
        ),
        ('[[bound]]\ncase="*"\nreason="x"', "a bound needs a figure", "cosine, largest, rms, drop, floor"),
        ('[[bound]]\ncase="*"\nstage="accuracy"\nreason="x"\nfloor=1', "a bound needs a figure", "there are drop"),
        ('[[bound]]\ncase="own_*"\nreason="x"\nrms=1', "no case matches 'own_", "--collect-only"),
        ('[[bound]]\ncase="*"\nreason="x"\ncosine=1', "cosine = 1 is not allowed", "0.95"),
        ('[[bound]]\ncase="*"\nreason="x"\nrms=0', "rms = 0 is not allowed", "above 0"),
        ('[[bound]]\ncase="*"\nreason="x"\nlargest=true', "largest = True is not allowed", "above 0"),
        ('[[bound]]\ncase="*"\nreason="x"\nfloor=-1', "floor = -1 is not allowed", "0.9"),
        ('[[bound]]\ncase="*"\nreason="x"\ndrop=1', "drop = 1 is not allowed", "below 1"),
        ("[limits]\nrun = 0", "run = 0 is not allowed", "above 0"),
        ("[limits]\nrun = true", "run = True is not allowed", "above 0"),
        ("expect = [3]", "expect is not a list of rows", r"\[\[expect\]\]"),
        ("expect = 3", "expect is not a list of rows", r"\[\[expect\]\]"),
        ("expct = 3", "there is no 'expct'", "did you mean expect"),
        (ROW + 'stge = "x"', "chipproof.toml:1: there is no 'stge'", "did you mean stage"),
        (ROW.replace('reason = "x"\n', ""), "chipproof.toml:1: reason is missing", "a row has"),
        ('[[expect]]\nstage = "*"\n', "chipproof.toml:1: case is missing", "a row has case, stage, reason"),
        (ROW.replace('"x"', '""'), "reason = '' is not allowed", "say in words"),
        (ROW.replace("numerics", "numbers"), "stage = 'numbers' is not allowed", "numerics"),
        (ROW + 'outcome = "PASS"', "outcome = 'PASS' is not allowed", "FAIL, INVALID, ERROR"),
        (ROW + 'until = "2027"', "until = '2027' is not allowed", "2027-03-01"),
        (ROW.replace('"*"', '"gfocal*"'), "no case matches 'gfocal", "--collect-only"),
        ('[[gate]]\ncase="*"\nstage="*"\nreason="x"\nfigure="rms"', "a gate needs least or most", "most"),
        ('[[gate]]\ncase="*"\nstage="*"\nreason="x"\nmost=1', "figure is missing", "latency_p99_us"),
        ('[[gate]]\ncase="*"\nstage="*"\nreason="x"\nfigure="rms"\nmost="a"', "most = 'a' is not allowed", "number"),
        ("[limits]\nrum = 3", "there is no 'rum'", "did you mean run"),
        ("[limits]\nrun = -3", "run = -3 is not allowed", "above 0"),
        ("limits = 3", "limits is not a table", "run = 60"),
        ("[limits]\nascend310p = 3", "limits.ascend310p is not a table", "[limits.ascend310p]"),
        ("[limits.ascend310p]\nrum = 3", "limits.ascend310p: there is no 'rum'", "did you mean run"),
        ("[limits.ascend310p]\nrun = 0", "limits.ascend310p: run = 0 is not allowed", "above 0"),
        ("[limits.ascend31Op]\nrun = 1", "there is no 'ascend31Op'", "did you mean ascend310p"),
        ("[environment]\nPATH = '/x'", "environment is not a table of tables", "[environment.ascend310p]"),
        ("environment = 3", "environment is not a table of tables", "[environment.ascend310p]"),
        ("[environment.ascend310p]\nN = 3", "environment is not a table of tables", "[environment.ascend310p]"),
        ("[environment.x86]\nN = '3'", "there is no 'x86'", "there are ascend310p, cpu"),
        ("[sdk_python]\nt4 = 3", "sdk_python is not a table of paths", "rk3588 ="),
        ('sdk_python = "python3"', "sdk_python is not a table of paths", "rk3588 ="),
        ("a = [", "cannot be read", "docs/policy.md"),
        ("a = " + "[" * 100_000, "cannot be read", "docs/policy.md"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_the_right_word(text, said, hint, tmp_path):
    with pytest.raises(UsageError, match=said) as refused:
        read(tmp_path, text)
    import re

    assert re.search(hint, refused.value.hint)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        policyfile.read(tmp_path / "no.toml", CASES, STEPS)


def test_rows_that_are_written_are_refused_until_a_person_gives_the_reason(tmp_path):
    text = policyfile.rows_for({(CASES[1], "numerics", "", "FAIL"), (CASES[0], "accuracy", "top1", "INVALID")})

    with pytest.raises(UsageError, match="reason = '' is not allowed"):
        read(tmp_path, text)
    policy = read(tmp_path, text.replace('reason = ""', 'reason = "known"'))
    assert [row.case for row in policy.expected] == CASES


def test_the_least_and_the_most_that_may_be_written_are_read(tmp_path):
    policy = read(tmp_path, "decided = 1\n[limits]\nrun = 0.5\nbuild = 1e-3\n")

    assert policy.decided == 1
    assert policy.limits_of("cpu") == {"run": 0.5, "build": 1e-3}
    assert read(tmp_path, "decided = 0.001").decided == 0.001


def test_bounds_of_the_lab_are_read(tmp_path):
    policy = read(tmp_path, '[[bound]]\ncase = "*"\nreason = "x"\nfloor = 0.9\nrms = 0.05\ndrop = 0')

    (row,) = policy.asked
    assert (row.stage, row.place) == ("*", "chipproof.toml:1")
    assert (row.floor, row.rms, row.drop, row.cosine) == (0.9, 0.05, 0, None)
    assert policy.rows == (row,)
