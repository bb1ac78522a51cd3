"""The published figures: typed a second time, looked up by case, refused when they contradict themselves, linted."""

import json
import re
import shutil
from collections import Counter
from decimal import Decimal

import pytest
import typer
from typer.testing import CliRunner

from harness import matrix
from harness.baselines import load
from harness.baselines.arithmetic import evaluate, lint
from harness.baselines.registry import DIRECTORY, OTHERS
from harness.case import Case
from harness.chips import CHIPS
from harness.errors import BaselineError
from harness.vocabulary import ACCURACIES, METRICS

# Typed from the documents a second time, in their order: what each prints for (chip, precision, batch), and the
# digits as printed; "!" marks a figure that does not judge.
RETINAFACE_ASCEND = """
source                ap_easy !88.67  ap_medium !87.09  ap_hard !80.99
source                ap_easy 90.70   ap_medium 88.16   ap_hard 73.82
ascend310 fp16 1      ap_easy 90.4    ap_medium 87.57   ap_hard 72.43
ascend310 fp16 16     ap_easy 90.4    ap_medium 87.57   ap_hard 72.43
ascend310 fp16 1      device !106.197  throughput 424.778
ascend310 fp16 16     device !136.207  throughput 544.828
t4 fp16 1             throughput 542.446
t4 fp16 16            throughput !717.328 throughput 721.566
"""
RETINAFACE_MLU = """
source                ap_easy 95.48   ap_medium 94.04   ap_hard 84.43
source                ap_easy !94.82  ap_medium !93.84  ap_hard !89.60
mlu370_s4 int8 1      ap_easy !0.9485227574365432 ap_medium !0.9298110377781337 ap_hard !0.8070893019687196
mlu370_x4 int8 1      ap_easy !0.9485227574365432 ap_medium !0.9298110377781337 ap_hard !0.8070893019687196
mlu370_s4 fp32 1      throughput 22.3537
mlu370_s4 fp32 4      throughput 33.2657
mlu370_s4 fp32 8      throughput 27.755
mlu370_s4 fp16 1      throughput 62.5968
mlu370_s4 fp16 4      throughput 113.325
mlu370_s4 fp16 8      throughput 104.611
mlu370_s4 int8 1      throughput 97.8772
mlu370_s4 int8 4      throughput 363.162
mlu370_s4 int8 8      throughput 382.091
mlu370_x4 fp32 1      throughput 22.9354
mlu370_x4 fp32 4      throughput 36.7685
mlu370_x4 fp32 8      throughput 35.1435
mlu370_x4 fp16 1      throughput 64.2167
mlu370_x4 fp16 4      throughput 117.414
mlu370_x4 fp16 8      throughput 115.893
mlu370_x4 int8 1      throughput 97.9781
mlu370_x4 int8 4      throughput 366.324
mlu370_x4 int8 8      throughput 615.642
mlu370_s4 fp32 -      ap_easy 0.9493  ap_medium 0.9314  ap_hard 0.8093
mlu370_s4 fp16 -      ap_easy 0.9495  ap_medium 0.9315  ap_hard 0.8092
mlu370_s4 int8 -      ap_easy 0.9485  ap_medium 0.9298  ap_hard 0.8071
mlu370_x4 fp32 -      ap_easy 0.9493  ap_medium 0.9314  ap_hard 0.8093
mlu370_x4 fp16 -      ap_easy 0.9495  ap_medium 0.9315  ap_hard 0.8092
mlu370_x4 int8 -      ap_easy 0.9485  ap_medium 0.9298  ap_hard 0.8071
"""
DEEPMAR = """
source                instance_accuracy 78.9
ascend310 fp16 1      instance_accuracy 0.78965245043699 instance_precision 0.8823281028182345
ascend310 fp16 1      instance_recall 0.8496866930584036 instance_f1 0.8656998192635741
ascend310 fp16 8      instance_accuracy 0.78965245043699 instance_precision 0.8823281028182345
ascend310 fp16 8      instance_recall 0.8496866930584036 instance_f1 0.8656998192635741
ascend310 fp16 1      device !326.049  throughput 1304.196
ascend310 fp16 8      device !508.133  device !491.668 throughput 2032.532
ascend310 fp16 4      device !435.322  throughput 1741.288
ascend310 fp16 16     device !542.935  throughput 2171.812
ascend310 fp16 32     device !535.007  throughput 2140.028
ascend310 fp16 64     device !416.653  throughput 1666.608
"""
REGNETY = """
ascend310 fp16 1      top1 77.85 top5 93.72
ascend310 fp16 16     top1 77.83 top5 93.75
ascend310p fp16 1     top1 77.85 top5 93.73
ascend310p fp16 16    top1 77.85 top5 93.72
source                top1 77.862 top5 93.720
ascend310 fp16 1      device !263.872  throughput !1055.488
ascend310 fp16 16     device !714.514  throughput !2858.056
ascend310 fp16 4      device !580.005  throughput !2320.02
ascend310 fp16 8      device !673.207  throughput !2692.828
ascend310 fp16 32     device !683.088  throughput !2732.352
ascend310p fp16 1     device !624.486  throughput !624.486
ascend310p fp16 4     throughput !2228.9
ascend310p fp16 8     throughput !3495.03
ascend310p fp16 16    throughput !3907.39
ascend310p fp16 32    throughput !3655.45
t4 fp16 1             execution !231.086 throughput !231.086
t4 fp16 4             execution !184.037 throughput !736.148
t4 fp16 8             execution !152.263 throughput !1218.104
t4 fp16 16            execution !91.5943 throughput !1465.5088
t4 fp16 32            execution !59.0443 throughput !1889.4176
ascend310 fp16 1      throughput 1132.564
ascend310p fp16 1     throughput 634.528
t4 fp16 1             throughput 280.845
ascend310 fp16 4      throughput 2404.912
ascend310p fp16 4     throughput 2228.9
t4 fp16 4             throughput 777.088
ascend310 fp16 8      throughput 2751.4
ascend310p fp16 8     throughput 3495.03
t4 fp16 8             throughput 1183.992
ascend310 fp16 16     throughput 2917.84
ascend310p fp16 16    throughput 3907.39
t4 fp16 16            throughput 1569.184
ascend310 fp16 32     throughput 2783.564
ascend310p fp16 32    throughput 3655.45
t4 fp16 32            throughput 1793.392
ascend310 fp16 64     throughput 2487.792
ascend310p fp16 64    throughput 3108.82
t4 fp16 64            throughput 1918.7328
"""
GFOCAL = """
ascend310 fp16 1      ap 0.406
ascend310p fp16 1     ap 0.406
source                ap 0.410
ascend310 fp16 1      throughput 17.92
ascend310p fp16 1     throughput 34.49
t4 fp16 1             throughput 9.4
"""
PRINTED = {
    "retinaface_mobilenet025": RETINAFACE_ASCEND,
    "retinaface_resnet50": RETINAFACE_MLU,
    "deepmar_resnet50": DEEPMAR,
    "regnety_016": REGNETY,
    "gfocalv2_r50_fpn": GFOCAL,
}


@pytest.fixture(scope="module")
def registry():
    return load()


@pytest.fixture
def copied(tmp_path):
    """A copy of baselines/ to spoil."""
    return shutil.copytree(DIRECTORY, tmp_path / "baselines", ignore=shutil.ignore_patterns("__pycache__"))


def transcribed(model):
    """(chip, precision, batch, metric, per, printed digits, chosen) of the second transcription."""
    for line in PRINTED[model].strip().splitlines():
        words = line.split()
        head, rest = (words[:1], words[1:]) if words[0] == "source" else (words[:3], words[3:])
        for name, digits in zip(rest[::2], rest[1::2], strict=True):
            per = name if name in ("device", "execution") else "card"
            metric = name if per == "card" else "throughput"
            key = (None, None, None) if head == ["source"] else (head[0], head[1], head[2].replace("-", "") or None)
            yield (*key, metric, per, digits.lstrip("!"), not digits.startswith("!"))


def spoil(directory, name, old, new, count=1):
    path = directory / name
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{name} has no {old}"
    path.write_text(text.replace(old, new, count), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1


# ---------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("model", PRINTED)
def test_every_printed_figure_stands_with_its_digits(model, registry):
    typed = list(transcribed(model))
    stored = {
        (
            *(None if v is None else str(v) for v in (c.chip, c.precision, c.batch)),
            c.metric,
            c.per,
            str(c.printed),
            c.chosen,
        )
        for c in registry.cells
        if c.model == model
    }

    missing = set(typed) - stored
    assert not missing, f"typed from the document and not in baselines/{model}.toml: {sorted(map(str, missing))}"
    repeated = {key[:-1] for key in typed}
    extra = {key for key in stored if key[:-1] not in repeated}
    assert not extra, f"in baselines/{model}.toml and not typed from the document: {sorted(map(str, extra))}"


def test_the_second_transcription_is_worth_its_name():
    assert sum(len(list(transcribed(model))) for model in PRINTED) >= 120


def test_accuracies_are_fractions_and_keep_the_printed_digits(registry):
    hard = registry.source("retinaface_mobilenet025", "ap_hard")
    top5 = registry.source("regnety_016", "top5")

    assert hard.value == 0.7382
    assert str(top5.printed) == "93.720"
    assert top5.lowest == 0.937195
    assert registry.best("gfocalv2_r50_fpn", "t4").lowest == 9.35
    assert all(0 < c.value <= 1 for c in registry.cells if c.metric in ACCURACIES)


def test_every_figure_names_document_section_file_and_line(registry):
    for cell in registry.cells:
        lines = (DIRECTORY / cell.file.split("/")[1]).read_text(encoding="utf-8").splitlines()

        assert str(cell.printed) in lines[cell.line - 1], f"{cell.place} does not hold {cell.printed}"
        assert re.search(r"\((00\d_[0-9a-f]{16}|[0-9a-f]{40})\)$", cell.document)
        assert cell.section


def test_models_are_those_of_the_suite():
    from harness.models import MODELS as ROWS

    assert {path.stem for path in DIRECTORY.glob("*.toml") if path.stem not in OTHERS} == set(ROWS)


def test_protocols_are_those_of_the_models(registry):
    from harness.models import MODELS as ROWS

    for cell in registry.cells:
        if cell.role == "cell":
            names = {protocol.name for protocol in ROWS[cell.model].protocols if cell.chip in protocol.chips}
            assert cell.protocol in names, f"{cell.place}: {cell.protocol} is none of {names} for {cell.chip}"


# ---------------------------------------------------------------------------------------------- lookup


@pytest.mark.parametrize(
    ("name", "metric", "value"),
    [
        ("regnety_016-ascend310p-fp16-bs16", "throughput", 3907.39),
        ("regnety_016-ascend310p-fp16-bs1", "throughput", 634.528),
        ("retinaface_mobilenet025-t4-fp16-bs16", "throughput", 721.566),
        ("deepmar_resnet50-ascend310-fp16-bs8", "throughput", 2032.532),
        ("regnety_016-ascend310-fp16-bs16", "top1", 0.7783),  # its own batch
        ("regnety_016-ascend310-fp16-bs64", "top1", 0.7785),  # the smallest batch printed
        ("retinaface_resnet50-mlu370_x4-int8-bs8", "ap_hard", 0.8071),  # printed without a batch
        ("deepmar_resnet50-ascend310-fp16-bs32", "instance_f1", 0.8656998192635741),
    ],
)
def test_the_cell_of_a_case_is_found(registry, name, metric, value):
    assert registry.cell(Case.parse(name), metric).value == value


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("regnety_016-ascend310p-fp16-bs2", "throughput"),
        ("regnety_016-cpu-fp32-bs1", "top1"),
        ("retinaface_mobilenet025-ascend310p-fp16-bs1", "ap_hard"),
        ("regnety_016-ascend310-fp32-bs1", "top1"),
    ],
)
def test_a_case_without_a_figure_has_none(registry, name, metric):
    assert registry.cell(Case.parse(name), metric) is None


def test_the_best_batch_is_that_of_the_documents(registry):
    def best(chip, **more):
        cell = registry.best("regnety_016", chip, **more)
        return cell.batch, cell.value

    assert best("ascend310") == (16, 2917.84)
    assert best("ascend310p") == (16, 3907.39)
    assert best("t4") == (64, 1918.7328)
    assert registry.best("retinaface_resnet50", "mlu370_x4", precision="fp16").value == 117.414
    assert registry.best("deepmar_resnet50", "t4") is None


def test_targets_are_best_batch_ratios_of_the_310p(registry):
    assert {(t.other, t.ratio, t.aggregation) for t in registry.targets("ascend310p")} == {
        ("ascend310", 1.2, "best_batch"),
        ("t4", 1.6, "best_batch"),
    }
    assert registry.targets("t4") == ()


def test_a_deviation_is_found_by_case_stage_and_metric(registry):
    case = Case.parse("retinaface_mobilenet025-ascend310-fp16-bs16")

    assert "72.43" in registry.deviation(case, "published", "ap_hard").reason
    assert registry.deviation(case, "published", "ap_easy") is None
    assert registry.deviation(case, "throughput", "ap_hard") is None
    assert registry.deviation(Case.parse("retinaface_mobilenet025-t4-fp16-bs16"), "published", "ap_hard") is None


def test_published_cases_are_the_ones_with_a_batch(registry):
    cases = {str(case) for case in registry.cases()}

    assert "gfocalv2_r50_fpn-ascend310p-fp16-bs1" in cases
    assert "retinaface_resnet50-mlu370_s4-int8-bs8" in cases
    assert not any("cpu" in case or "bsNone" in case for case in cases)


def test_the_digest_follows_every_file(registry, copied):
    assert load(copied).digest == registry.digest

    with (copied / "errata.toml").open("a") as file:
        file.write("\n")

    assert load(copied).digest != registry.digest


# ---------------------------------------------------------------------------------------------- refusals


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
    "two target rows": ("targets.toml", 'other = "t4"', 'other = "ascend310"', "stands on line"),
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

    with pytest.raises(BaselineError, match=rf"regnety_016\.toml:{line + 1}: .* stands at .*:{line} already"):
        load(copied)


def test_a_figure_of_which_none_is_chosen_is_refused(copied):
    spoil(
        copied, "regnety_016.toml", "batch = 64, value = 2487.792 }", "batch = 64, value = 2487.792, chosen = false }"
    )

    with pytest.raises(BaselineError, match="no throughput of regnety_016-ascend310-fp16-bs64 is chosen"):
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


def test_a_directory_without_figures_is_refused(tmp_path):
    with pytest.raises(BaselineError, match=r"no \.toml file"):
        load(tmp_path)


# ---------------------------------------------------------------------------------------------- lint


def test_all_disagreements_of_the_documents_are_known(registry):
    new = [str(finding) for finding in lint(registry) if not finding.why]

    assert not new, "\n".join(new)


def test_the_known_contradictions_are_found(registry):
    says = {(finding.rule, finding.says) for finding in lint(registry)}

    assert {
        ("formula", "106.197x4 is 424.788, printed 424.778"),
        ("formula", "491.668x4 is 1966.672, printed 2032.532"),
        ("card", "22.174 gives 721.565798, printed 717.328"),
        ("label", "717.328 of batch 16 is labelled batch 32"),
        ("agreement", "1055.488 in 7.1 310性能数据, 1132.564 in 7.4 性能对比"),
        ("agreement", "231.086 in 7.3 T4性能数据, 280.845 in 7.4 性能对比"),
        ("agreement", "717.328 in 7.2 T4性能数据, 721.566 in 7.3 性能对比"),
        ("claim", "batch 16: claimed to be at least 1.2 x t4, 544.828/721.566 is 0.755"),
        ("source", "73.82 % -> 72.43 % is a drop of 1.88 %"),
        ("source", "84.43 % -> 80.93 % is a drop of 4.15 %"),
        ("images", "461.7 images/s for 382555 ms are 176626 images, the data set has 7600"),
    } <= says


def test_text_and_table_of_regnety_disagree_eleven_times(registry):
    found = [f for f in lint(registry) if f.rule == "agreement" and f.about.startswith("regnety")]

    assert Counter(f.about.split("-")[1] for f in found) == {"ascend310": 5, "ascend310p": 1, "t4": 5}


def new_findings(directory):
    return [finding for finding in lint(load(directory)) if not finding.why]


def test_an_erratum_that_no_longer_occurs_is_a_finding(copied):
    spoil(copied, "errata.toml", "106.197x4 is 424.788, printed 424.778", "106.197x4 is 424.789, printed 424.778")

    rules = Counter(finding.rule for finding in new_findings(copied))

    assert rules == {"erratum": 1, "formula": 1}


def test_a_deviation_that_is_not_needed_is_a_finding(copied):
    spoil(copied, "retinaface_mobilenet025.toml", "value = 72.43", "value = 73.43")

    assert {finding.rule for finding in new_findings(copied)} == {"deviation"}


def test_a_deviation_that_covers_too_much_is_a_finding(copied):
    spoil(copied, "deviations.toml", "retinaface_resnet50-mlu370_*-int8-bs*", "retinaface_resnet50-mlu370_*-*-bs*")

    found = new_findings(copied)

    assert {finding.rule for finding in found} == {"deviation"}
    assert len(found) == 4  # two boards at two other precisions


def test_an_accuracy_below_99_percent_without_a_deviation_is_a_finding(copied):
    spoil(copied, "gfocalv2_r50_fpn.toml", "value = 0.406", "value = 0.405")

    assert {finding.rule for finding in new_findings(copied)} == {"source"}


@pytest.mark.parametrize(
    ("figures", "suspect"),
    [
        ((1642.5, 869.4, 497.7, 252.4), True),  # falls like one over the batch: the batch was ignored
        ((1378.7, 5539, 10986, 22119), True),  # grows like the batch: it was multiplied twice
        ((634.528, 2228.9, 3495.03, 3907.39), False),
    ],
)
def test_a_batch_that_was_ignored_or_counted_twice_is_a_finding(copied, figures, suspect):
    rows = "".join(
        f'    {{ chip = "cuda", batch = {b}, value = {v} }},\n' for b, v in zip((1, 4, 8, 16), figures, strict=True)
    )
    spoil(copied, "regnety_016.toml", '    { chip = "t4", batch = 64', rows + '    { chip = "t4", batch = 64')

    assert ({f.rule for f in new_findings(copied)} == {"slope"}) is suspect


def test_four_times_a_310p_is_a_finding(copied):
    """The 310P is one device a card; the documents' own script once multiplied by four."""
    spoil(
        copied,
        "gfocalv2_r50_fpn.toml",
        'value = 34.49, formula = "1000/28.99"',
        'value = 137.98, formula = "4*1000/28.99"',
    )

    assert "operand" in {finding.rule for finding in new_findings(copied)}


def figures_in_arithmetic():
    """(file, line, column, digits) of every throughput, ratio and best that a computation takes part in. Those of the
    MLU document stand alone."""
    for path in sorted(DIRECTORY.glob("*_*.toml")):
        if path.stem == "retinaface_resnet50":
            continue
        for n, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
            found = re.search(r"(?<=value = )[\d.]+", line)
            if line.lstrip().startswith("{") and found and "metric = " not in line:
                yield path.name, n, found.start(), found.group()


def test_the_lint_goes_red_when_a_digit_of_any_throughput_or_ratio_is_changed(copied):
    """The last digit, which is the hardest to notice, and the first."""
    places = list(figures_in_arithmetic())
    silent = []
    for name, n, column, number in places:
        path = copied / name
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for at in (len(number) - 1, 0):
            digit = str(int(number[at]) + 1) if number[at] != "9" else "8"
            changed = lines[n][: column + at] + digit + lines[n][column + at + 1 :]
            path.write_text("\n".join([*lines[:n], changed, *lines[n + 1 :]]), encoding="utf-8")
            if not new_findings(copied):
                silent.append(f"{name}:{n + 1}: {changed.strip()}")
        path.write_text(text, encoding="utf-8")

    table = load()
    alone = "baselines/retinaface_resnet50.toml"
    printed = [c for c in table.cells if c.metric == "throughput" and c.file != alone]
    quotients = [row for row in table.ratios if row.value is not None]
    assert len(places) == len(printed) + len(quotients) + len(table.bests), "a figure is not tried any more"
    assert not silent, "\n".join(silent)


def test_text_and_table_of_an_accuracy_agree_to_the_digits_of_the_table(copied):
    for old, new in (("0.9485227574365432", "0.9486227574365432"), ("0.8070893019687196", "0.8070393019687196")):
        spoil(copied, "retinaface_resnet50.toml", old, new)
        found = new_findings(copied)
        spoil(copied, "retinaface_resnet50.toml", new, old)

        assert {finding.rule for finding in found} == {"agreement"}, f"{new} was not noticed"


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("mean = 1.8435", "mean = 2.8435", "order"),
        ("total_s = 2.50163", "total_s = 2.50263", "executes"),
        ("e2e = [20.3771, 158315]", "e2e = [20.3771, 158915]", "images"),
        ("read = [20.524, 48.7234]", "read = [20.524, 49.7234]", "rates"),
    ],
)
def test_a_log_that_contradicts_itself_is_a_finding(copied, old, new, rule):
    spoil(copied, "retinaface_mobilenet025.toml", old, new)

    assert rule in {finding.rule for finding in new_findings(copied)}


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("complement = 22.138", "complement = 22.139", "complement"),
        ("then = [87.5, 90.77, 92.58]", "then = [90.5, 90.47, 92.58]", "order"),
        ("mean = 0.1091", "mean = 0.1191", "parts"),
    ],
)
def test_an_accuracy_or_latency_that_does_not_add_up_is_a_finding(copied, old, new, rule):
    spoil(copied, "regnety_016.toml", old, new)

    assert rule in {finding.rule for finding in new_findings(copied)}


@pytest.mark.parametrize("old", ["0.8823281028182345", "0.8496866930584036", "0.8656998192635741"])
def test_f1_is_computed_from_precision_and_recall(copied, old):
    spoil(copied, "deepmar_resnet50.toml", old, f"{float(old) + 4e-15:.16f}")

    assert {finding.rule for finding in new_findings(copied)} == {"f1"}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("106.197x4", "424.788"),
        ("4*1000/223.21", "17.92034406"),
        ("59.0443 * 32", "1889.4176"),
        ("34.49/17.92", "1.924665"),
    ],
)
def test_printed_computations_are_evaluated_from_left_to_right(formula, value):
    assert float(evaluate(formula)) == pytest.approx(float(value), rel=1e-6)
    assert isinstance(evaluate(formula), Decimal)


# ---------------------------------------------------------------------------------------------- command


@pytest.fixture
def command():
    from tools.baselines import command

    app = typer.Typer()
    app.command()(command)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_the_command_prints_one_json_object_a_figure(command, registry):
    result = command("--json")
    figures = json.loads(result.stdout)

    assert result.exit_code == 0
    assert len(figures) == len(registry.cells)
    keys = {"model", "chip", "precision", "batch", "metric", "value", "unit", "role", "document", "section", "chosen"}
    assert all(set(figure) == keys for figure in figures)
    assert {figure["metric"] for figure in figures} == set(METRICS) - {"mean_accuracy"}, "which nobody published"
    assert [
        f["value"] for f in figures if (f["model"], f["metric"], f["role"]) == ("regnety_016", "top1", "source")
    ] == [0.77862]
    assert {figure["role"] for figure in figures} == {"source", "cell"}
    assert {figure["chip"] for figure in figures} <= {None, *CHIPS}
    key = ("model", "chip", "precision", "batch", "metric", "role")
    chosen = Counter(tuple(f[k] for k in key) for f in figures if f["chosen"])
    assert set(chosen.values()) == {1}
    assert all(f["unit"] == "images/s" for f in figures if f["chosen"] and f["metric"] == "throughput")


def test_the_command_shows_the_figures_as_printed(command):
    result = command()

    assert result.exit_code == 0
    for word in ("1918.7328", "0.9485227574365432", "93.720", "7.1 npu性能数据", "images/s per device"):
        assert word in result.stdout


def test_the_lint_exits_0_when_all_is_known_and_1_when_something_is_new(command, copied):
    known = command("lint")
    spoil(copied, "gfocalv2_r50_fpn.toml", "value = 9.4", "value = 9.6")
    new = command("lint", "--dir", str(copied))

    assert known.exit_code == 0, known.stdout
    assert "0 new" in known.stdout
    assert new.exit_code == 1
    assert "NEW" in new.stdout
    assert "34.49/9.6" in new.stdout


def test_the_lint_prints_json(command):
    findings = json.loads(command("lint", "--json").stdout)

    assert all(finding["known"] and finding["why"] for finding in findings)
    assert {"rule", "about", "says", "file", "line"} <= set(findings[0])
