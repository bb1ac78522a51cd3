"""The published figures: typed a second time, and looked up by case."""

import re
from dataclasses import fields, replace

import pytest
from baselines_copies import spoil

from harness.baselines import load
from harness.baselines.registry import DIRECTORY, OTHERS, check_reach, covers
from harness.case import Case
from harness.chips import CHIPS
from harness.errors import BaselineError

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


def test_models_are_those_of_the_suite():
    from harness.models import MODELS as ROWS

    assert {path.stem for path in DIRECTORY.glob("*.toml") if path.stem not in OTHERS} == set(ROWS)


def test_protocols_are_those_of_the_models(registry):
    from harness.models import MODELS as ROWS

    for cell in registry.cells:
        if cell.role == "cell":
            names = {protocol.name for protocol in ROWS[cell.model].protocols if cell.chip in protocol.chips}
            assert cell.protocol in names, f"{cell.place}: {cell.protocol} is none of {names} for {cell.chip}"


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


def test_an_accuracy_printed_without_a_batch_holds_before_those_of_other_batches(registry):
    printed = registry.cell(Case.parse("regnety_016-ascend310-fp16-bs16"), "top1")
    any_batch, first = replace(printed, batch=None, value=0.5), replace(printed, batch=1, value=0.25)

    for order in ((any_batch, first), (first, any_batch)):
        table = replace(registry, cells=order)
        found = [table.cell(Case.parse(f"regnety_016-ascend310-fp16-bs{n}"), "top1").value for n in (1, 8)]
        assert found == [0.25, 0.5]


@pytest.mark.parametrize(("batch", "covered"), [(None, "1"), (1, "1"), (16, "16")])
def test_a_deviation_covers_a_figure_without_a_batch_as_one_of_batch_1(registry, batch, covered):
    cell = replace(registry.cell(Case.parse("regnety_016-ascend310-fp16-bs16"), "top1"), batch=batch)
    rows = {n: replace(registry.deviations[0], case=f"regnety_016-ascend310-fp16-bs{n}") for n in ("0", "1", "2", "16")}

    assert [n for n, row in rows.items() if covers(row, cell)] == [covered]
    assert not any(covers(row, replace(cell, role="source")) for row in rows.values())


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


def test_rows_of_each_kind_are_kept_apart(registry):
    kinds = {
        field.name: {type(row).__name__ for row in getattr(registry, field.name)} for field in fields(registry)[:-1]
    }

    assert kinds == {
        "cells": {"Cell"}, "logs": {"Log"}, "times": {"Times"}, "ratios": {"Ratio"}, "bests": {"Best"},
        "rows_of_targets": {"Target"}, "deviations": {"Deviation"}, "errata": {"Erratum"},
    }  # fmt: skip


def test_the_digest_follows_every_file(registry, copied):
    assert load(copied).digest == registry.digest

    with (copied / "errata.toml").open("a") as file:
        file.write("\n")

    assert load(copied).digest != registry.digest


def test_a_figure_of_which_none_is_chosen_is_refused(copied):
    spoil(
        copied, "regnety_016.toml", "batch = 64, value = 2487.792 }", "batch = 64, value = 2487.792, chosen = false }"
    )

    with pytest.raises(BaselineError, match="no throughput of regnety_016-ascend310-fp16-bs64 is chosen"):
        load(copied)


def test_a_directory_without_figures_is_refused(tmp_path):
    with pytest.raises(BaselineError, match=r"no \.toml file"):
        load(tmp_path)


# ---------------------------------------------------------------- of installed packages

SECTION = """
[[section]]
document = "Acme A1 datasheet"
section = "2"
protocol = "ascend"
unit = "images/s"
metric = "throughput"
figures = [
    { chip = "acme_a1", precision = "fp16", batch = 1, value = 250.5 },
]
"""
TARGET = """
[[target]]
chip = "acme_a1"
other = "ascend310"
ratio = 2
aggregation = "best_batch"
document = "Acme A1 datasheet"
section = "3"
"""
DEVIATION = """
[[deviation]]
case = "*-acme_a1-*"
stage = "numerics"
reason = "known"
link = "https://example.org"
"""
ACME = Case.parse("regnety_016-acme_a1-fp16-bs1")
CASES = {ACME, Case.parse("acme_net-acme_a1-fp16-bs1"), Case.parse("regnety_016-ascend310p-fp16-bs1")}


def brought(tmp_path, name="acme", **files):
    """A package's folder of figures."""
    folder = tmp_path / name / "published"
    folder.mkdir(parents=True)
    for stem, text in files.items():
        (folder / f"{stem}.toml").write_text(text, encoding="utf-8")
    return folder


def load_with(*folders):
    own = [path.stem for path in DIRECTORY.glob("*.toml") if path.stem not in OTHERS]
    return load(models=[*own, "acme_net"], chips=[*CHIPS, "acme_a1"], plugins=folders, cases=CASES)


def test_a_package_brings_figures_targets_and_known_failures(registry, tmp_path):
    table = load_with(brought(tmp_path, regnety_016=SECTION, targets=TARGET, deviations=DEVIATION))

    assert str(table.cell(ACME, "throughput")) == "250.5 images/s (Acme A1 datasheet, 2)"
    assert table.cell(ACME, "throughput").place == "acme/published/regnety_016.toml:9"
    assert [(target.other, target.ratio) for target in table.targets("acme_a1")] == [("ascend310", 2.0)]
    assert table.deviation(ACME, "numerics", "").reason == "known"
    assert table.digest != registry.digest
    assert len(table.cells) == len(registry.cells) + 1


def test_a_package_brings_what_the_authors_of_its_model_found(tmp_path):
    authors = SOURCE.replace('chip = "acme_a1", precision = "fp16", batch = 1', 'role = "source"')

    assert load_with(brought(tmp_path, acme_net=authors)).source("acme_net", "top1").value == 0.77


SOURCE = SECTION.replace("throughput", "top1").replace("images/s", "%").replace("250.5", "77")
CONFLICTS = {
    "a figure of the suite": ({"regnety_016": SECTION.replace("acme_a1", "ascend310p")}, "310p.* is the suite's own"),
    "a source of the suite": (
        {"regnety_016": SOURCE.replace('chip = "acme_a1", precision = "fp16", batch = 1', 'role = "source"')},
        "regnety_016 is the suite's own",
    ),
    "a target of the suite": ({"targets": TARGET.replace("acme_a1", "t4")}, "targets.toml:2: t4 is the suite's own"),
    "a known failure of the suite": ({"deviations": DEVIATION.replace("acme_a1", "*")},
                                     "covers regnety_016-ascend310p-fp16-bs1, which is the suite's own"),
    "a batch that does not run": ({"regnety_016": SECTION.replace("batch = 1", "batch = 8")}, "belongs to no case"),
    "a batch that does not run, after what need not": (
        {"acme_net": SOURCE.replace('chip = "acme_a1", precision = "fp16", batch = 1', 'role = "source"')
                     + SECTION.replace("batch = 1", "batch = 8")}, "belongs to no case"),
    "a precision that does not run": ({"regnety_016": SOURCE.replace("fp16", "int8")}, "belongs to no case"),
    "no files": ({}, "no .toml file"),
    "an unknown model": ({"acme_nett": SECTION}, "unknown model 'acme_nett'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFLICTS)
def test_what_a_package_may_not_say_is_refused(name, tmp_path):
    files, said = CONFLICTS[name]
    if "known failure" in name:
        files = {stem: text.replace('"*-*-*"', '"regnety_016-*"') for stem, text in files.items()}

    with pytest.raises(BaselineError, match=said) as refused:
        load_with(brought(tmp_path, **files))
    assert not re.search(r"\.toml:\d", refused.value.hint), "the place is in the fact"


def test_two_packages_that_speak_of_the_same_are_refused_with_both_places(tmp_path):
    one = brought(tmp_path, regnety_016=SECTION)

    with pytest.raises(
        BaselineError, match=r"other/published/regnety_016.toml:9.* at acme/published/regnety_016.toml:9"
    ):
        load_with(one, brought(tmp_path, "other", regnety_016=SECTION.replace("250.5", "300")))
    with pytest.raises(BaselineError, match=r"is already at third/published/targets\.toml:2"):
        load_with(brought(tmp_path, "third", targets=TARGET), brought(tmp_path, "fourth", targets=TARGET))


def test_the_authors_figure_is_that_of_the_model_and_metric(registry):
    chosen = {
        (model, metric): float(digits)
        for model in PRINTED
        for chip, _, _, metric, _, digits, judges in transcribed(model)
        if chip is None and judges
    }

    for (model, metric), digits in chosen.items():
        source = registry.source(model, metric)
        assert (source.model, source.metric) == (model, metric)
        assert source.value == pytest.approx(digits if digits < 1 else digits / 100)
    assert len(chosen) >= 10
    assert registry.source("gfocalv2_r50_fpn", "top1") is None


def test_a_deviation_that_covers_no_case_is_refused_with_its_place(registry):
    covered, renamed = (replace(registry.deviations[0], case=case, line=7) for case in ("regnety_016-*", "regnety_2-*"))

    check_reach([covered], [ACME])
    with pytest.raises(BaselineError, match=r"^baselines/deviations\.toml:7: .* no case of the matrix: regnety_2-\*"):
        check_reach([covered, renamed], [ACME])
