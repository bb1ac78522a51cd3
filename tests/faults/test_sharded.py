"""A run in shards says what the whole run says: tests are split, the images of a data set never."""

import json

from apart import plain

from harness.report.records import Record
from tools.report import command


def test_a_report_of_shards_is_that_of_the_whole_run(conform, tmp_path, capsys):
    """WIDER FACE's scores are scaled by the lowest and the highest of all images: no two halves give the whole's AP."""
    marks = "(tiny_faces or tiny_classes or tiny_attributes) and fp32 and (export or numerics or accuracy)"
    whole = conform(marks).records
    parts = [conform(marks, more=(f"--shard={k}/2", f"--results={tmp_path}")).records for k in (1, 2)]
    capsys.readouterr()

    command([tmp_path], as_json=True)

    merged = [Record.of_json(one) for one in json.loads(capsys.readouterr().out)]
    assert plain(merged) == plain(whole)
    scores = [r for r in merged if (r.case.model, r.metric) == ("tiny_faces", "ap_hard")]
    assert scores
    assert len({r.facts["images"] for r in scores}) == 1, "a shard scored some of the images only"
    models = [{r.case.model for r in part} for part in parts]
    assert all(models)
    assert not models[0] & models[1], "batches of one model were apart"
