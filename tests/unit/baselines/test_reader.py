"""A row of baselines/ is read with its file and line, or refused with them."""

import re

import pytest
from baselines_copies import spoil

from harness import matrix
from harness.baselines import load
from harness.baselines.registry import DIRECTORY
from harness.errors import BaselineError


def test_every_figure_names_document_section_file_and_line(registry):
    for cell in registry.cells:
        lines = (DIRECTORY / cell.file.split("/")[1]).read_text(encoding="utf-8").splitlines()

        assert str(cell.printed) in lines[cell.line - 1], f"{cell.place} does not hold {cell.printed}"
        assert re.search(r"\((00\d_[0-9a-f]{16}|[0-9a-f]{40})\)$", cell.document)
        assert cell.section


REFUSALS = {
    "unknown chip": ("regnety_016.toml", '{ chip = "t4", batch = 64', '{ chip = "t5", batch = 64', "unknown chip 't5'"),
    "unknown metric": (
        "gfocalv2_r50_fpn.toml",
        '{ metric = "ap", value = 0.410',
        '{ metric = "map", value = 0.410',
        "unknown metric 'map'",
    ),
    "unknown precision": (
        "retinaface_resnet50.toml",
        'precision = "fp32", batch = 8, value = 27.755',
        'precision = "tf32", batch = 8, value = 27.755',
        "unknown precision 'tf32'",
    ),
    "unknown unit": (
        "retinaface_resnet50.toml",
        "value = 0.8093 }",
        'unit = "points", value = 0.8093 }',
        "unknown unit",
    ),
    "unknown role": ("gfocalv2_r50_fpn.toml", "value = 0.410", 'role = "rumour", value = 0.410', "unknown role"),
    "unknown key of a section": (
        "gfocalv2_r50_fpn.toml",
        'role = "source"\n',
        'role = "source"\nrumour = "x"\n',
        "unknown key rumour",
    ),
    "table in a section": (
        "gfocalv2_r50_fpn.toml",
        'role = "source"\n',
        'role = "source"\nnote = { a = 1 }\n',
        "unknown key note",
    ),
    "rows that are none": (
        "gfocalv2_r50_fpn.toml",
        'role = "source"\n',
        'role = "source"\nratios = [5]\n',
        "ratios is not a list of rows",
    ),
    "unknown key": ("gfocalv2_r50_fpn.toml", "value = 0.410", "valeu = 1, value = 0.410", "unknown key valeu"),
    "accuracy above one": ("gfocalv2_r50_fpn.toml", "value = 0.410", "value = 41.0", "out of range"),
    "accuracy of zero": ("gfocalv2_r50_fpn.toml", "value = 0.410", "value = 0", "out of range"),
    "negative throughput": ("gfocalv2_r50_fpn.toml", "value = 9.4", "value = -9.4", "out of range"),
    "nan": ("gfocalv2_r50_fpn.toml", "value = 9.4", "value = nan", "out of range"),
    "text for a number": ("gfocalv2_r50_fpn.toml", "value = 9.4", 'value = "9.4"', "is not a"),
    "batch zero": (
        "retinaface_resnet50.toml",
        "batch = 8, value = 27.755",
        "batch = 0, value = 27.755",
        "out of range",
    ),
    "no batch": ("retinaface_resnet50.toml", "batch = 8, value = 27.755", "value = 27.755", "out of range"),
    "accuracy in images/s": ("gfocalv2_r50_fpn.toml", "value = 0.410", 'unit = "images/s", value = 0.410', "is not in"),
    "two chosen": (
        "retinaface_mobilenet025.toml",
        "labelled = 32, chosen = false",
        "labelled = 32",
        "a second throughput",
    ),
    "a source with a chip": (
        "gfocalv2_r50_fpn.toml",
        '{ metric = "ap", value = 0.410',
        '{ chip = "t4", metric = "ap", value = 0.410',
        "a source has no chip",
    ),
    "two target rows": ("targets.toml", 'other = "t4"', 'other = "ascend310"', "is already at baselines/targets.toml:"),
    "unknown chip of a target": ("targets.toml", 'other = "t4"', 'other = "v100"', "unknown other 'v100'"),
    "unknown aggregation": ("targets.toml", '"best_batch"', '"same_batch"', "unknown aggregation"),
    "deviation without a reason": (
        "deviations.toml",
        'reason = "published so: 73',
        'because = "published so: 73',
        "reason is missing",
    ),
    "deviation without a case": (
        "deviations.toml",
        "retinaface_mobilenet025-ascend310-fp16-bs*",
        "retinaface_mobilenet025-t4-fp16-bs*",
        "matches no published ap_hard",
    ),
    "deviation without the metric of its stage": (
        "deviations.toml",
        'metric = "ap_medium"\n',
        "",
        "metric is missing",
    ),
    "deviation of a stage that gives no such verdict": (
        "deviations.toml",
        'stage = "published"',
        'stage = "numerics"',
        "unknown metric 'ap_hard'",
    ),
    "deviation of an unknown metric": ("deviations.toml", '"ap_medium"', '"ap_mid"', "unknown metric"),
    "a rate without its time": (
        "retinaface_mobilenet025.toml",
        "e2e = [20.3771, 158315]",
        "e2e = [20.3771]",
        "is not two numbers",
    ),
    "a rate with two times": (
        "retinaface_mobilenet025.toml",
        "e2e = [20.3771, 158315]",
        "e2e = [20.3771, 158315, 1]",
        "is not two numbers",
    ),
    "a rate that is a text": (
        "retinaface_mobilenet025.toml",
        "e2e = [20.3771, 158315]",
        'e2e = ["20.3771", 158315]',
        "is not two numbers",
    ),
    "an accuracy printed as 100.1 %": (
        "regnety_016.toml",
        "value = 77.862",
        "value = 100.1",
        "out of range",
    ),
    "syntax": ("deepmar_resnet50.toml", "value = 326.049 }", "value = 326.049", "not TOML"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_faulty_row_is_refused_with_file_and_line(copied, fault):
    name, old, new, says = REFUSALS[fault]
    line = spoil(copied, name, old, new)

    with pytest.raises(BaselineError) as caught:
        load(copied)

    assert says in caught.value.fact
    assert caught.value.hint
    found = re.match(r"baselines/(\w+\.toml):(\d+): ", caught.value.fact)
    assert found, f"no file and line in: {caught.value.fact}"
    assert found.group(1) == name
    # the second of two, or the table around the row, may be the line at fault
    assert line - 9 <= int(found.group(2)) <= line + 30


def test_the_line_of_a_faulty_row_is_exact(copied):
    line = spoil(copied, "deepmar_resnet50.toml", "value = 535.007", "value = -535.007")

    with pytest.raises(BaselineError, match=rf"baselines/deepmar_resnet50\.toml:{line}: value = -535\.007 is out of"):
        load(copied)


@pytest.mark.parametrize("key", ["document", "section"])
def test_a_figure_without_its_source_is_refused(copied, key):
    path = copied / "gfocalv2_r50_fpn.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    gone = next(i for i, line in enumerate(lines) if line.startswith(f"{key} ="))
    path.write_text("\n".join(lines[:gone] + lines[gone + 1 :]), encoding="utf-8")

    with pytest.raises(BaselineError, match=rf"gfocalv2_r50_fpn\.toml:\d+: {key} is missing"):
        load(copied)


def test_a_figure_that_stands_twice_is_refused(copied):
    row = '    { chip = "t4", batch = 64, value = 1918.7328 },\n'
    line = spoil(copied, "regnety_016.toml", row, row + row)

    with pytest.raises(BaselineError, match=rf"regnety_016\.toml:{line + 1}: .* is already at .*:{line}"):
        load(copied)


def test_a_file_of_an_unknown_model_is_refused(copied):
    (copied / "resnet50.toml").write_text("")

    with pytest.raises(BaselineError, match=r"baselines/resnet50\.toml:1: unknown model 'resnet50'"):
        load(copied, models=matrix.models())


def test_two_rows_on_one_line_are_refused(copied):
    path = copied / "gfocalv2_r50_fpn.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace("{ batch = 1, value = 17.92", "{ batch = 2, value = 8.1 }, { batch = 1, value = 17.92"),
        encoding="utf-8",
    )

    with pytest.raises(BaselineError, match="one row a line"):
        load(copied)


DEVIATION = """
[[deviation]]
case = "regnety_016-t4-fp16-bs*"
stage = "{stage}"
{metric}
reason = "seen"
link = "https://example.org/1"
"""


@pytest.mark.parametrize(
    ("stage", "metric"),
    [
        ("numerics", ""),
        ("numerics", "repeated"),
        ("numerics", "normalised by host"),
        ("export", ""),
        ("throughput", "throughput"),
        ("targets", "ascend310"),
        ("targets", "latency"),
        ("accuracy", "top1"),
        ("accuracy", "top1 suppressed by chip"),
    ],
)
def test_a_deviation_names_a_verdict_of_its_stage(copied, stage, metric):
    with (copied / "deviations.toml").open("a", encoding="utf-8") as file:
        file.write(DEVIATION.format(stage=stage, metric=f'metric = "{metric}"' if metric else ""))

    row = load(copied).deviations[-1]

    assert (row.case, row.stage, row.metric) == ("regnety_016-t4-fp16-bs*", stage, metric)
    assert (row.reason, row.link) == ("seen", "https://example.org/1")


@pytest.mark.parametrize(
    ("stage", "metric"),
    [("export", "top1"), ("throughput", ""), ("targets", "top1"), ("targets", ""), ("accuracy", ""), ("numerics", "x")],
)
def test_a_deviation_of_no_verdict_of_its_stage_is_refused(copied, stage, metric):
    with (copied / "deviations.toml").open("a", encoding="utf-8") as file:
        file.write(DEVIATION.format(stage=stage, metric=f'metric = "{metric}"' if metric else ""))

    with pytest.raises(BaselineError, match=r"unknown metric|metric is missing"):
        load(copied)
