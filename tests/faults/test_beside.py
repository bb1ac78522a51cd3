"""Plug-ins that labs have beside the suite: order and records stay right, or the suite says what it refuses."""

from importlib.metadata import PackageNotFoundError, distribution

import pytest
from apart import plain

MARKS = "tiny_classes and fp32"
PLUGINS = {
    "pytest-randomly": ("randomly",),
    "pytest-random-order": ("random-order", "random_order"),
    "pytest-timeout": ("timeout",),
    "pytest-rerunfailures": ("rerunfailures",),
    "pytest-html": ("html",),
    "allure-pytest": ("allure_pytest",),
}
"""Distribution -> names under which pytest knows its plug-ins."""


@pytest.fixture(autouse=True)
def alone(request):
    """Options that leave only the plug-in of the test's first argument in place."""
    name = request.getfixturevalue("plugin")
    try:
        distribution(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is absent: pip install {name}")
    return tuple(f"-pno:{own}" for other, names in PLUGINS.items() if other != name for own in names)


@pytest.fixture
def without(conform):
    """The records of a run without any of them."""
    return plain(conform(MARKS, more=tuple(f"-pno:{own}" for names in PLUGINS.values() for own in names)).records)


@pytest.mark.parametrize(
    ("plugin", "options"),
    [
        ("pytest-randomly", ("-prandomly",)),
        ("pytest-random-order", ("--random-order",)),
        ("pytest-timeout", ("--timeout=600",)),
        ("pytest-rerunfailures", ()),
        ("pytest-html", ("--html={}/page.html", "--self-contained-html")),
        ("allure-pytest", ("--alluredir={}/allure",)),
    ],
)
def test_records_are_those_of_a_run_without_the_plug_in(plugin, options, alone, without, conform, tmp_path):
    watch = conform(MARKS, more=(*alone, *(option.format(tmp_path) for option in options)))

    assert plain(watch.records) == without
    stages = [key.split()[1] for key in watch.seen]
    assert stages.index("throughput") < stages.index("targets")
    for page in ("page.html", "allure"):
        assert (tmp_path / page).exists() == any(page in option for option in options)


@pytest.mark.parametrize("plugin", ["pytest-timeout"])
def test_what_a_time_limit_of_a_plug_in_ends_is_an_error_on_record(plugin, alone, conform, monkeypatch):
    monkeypatch.setenv("TESTBED", "hangs")

    watch = conform("tiny_classes and fp32 and bs4 and numerics", "outputs_are_those", more=(*alone, "--timeout=3"))

    (record,) = watch.records
    assert record.outcome == "ERROR"
    assert "Timeout" in record.text


@pytest.mark.parametrize("plugin", ["pytest-rerunfailures"])
def test_a_verdict_is_not_asked_for_until_it_pleases(plugin, alone, conform, capsys):
    with pytest.raises(AssertionError, match="USAGE_ERROR"):
        conform(MARKS, more=(*alone, "--reruns=2"))

    assert "--reruns 2: leave it out" in capsys.readouterr().err
