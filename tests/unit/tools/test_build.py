"""chipproof build says where the engine is, and whose weights it has."""

from pathlib import Path

from harness.run.case_run import CaseRun
from harness.run.engine import Built
from tools import build


def test_a_tuned_engine_is_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(CaseRun, "facts", {"version": "CANN 8.0", "weights": "seeded"})
    monkeypatch.setattr(CaseRun, "built", lambda case: asked.append(case.context.settings.tune) or Built(Path(), None))

    for tune in (True, False):
        build.command("regnety_016-ascend310-fp16-bs1", cache=tmp_path, tune=tune)

    assert asked == [True, False]


def test_an_engine_says_whose_weights_it_has(tmp_path, monkeypatch, capsys):
    facts = {"version": "CANN 8.0", "weights": "seeded: no checkpoint in --data"}
    monkeypatch.setattr(CaseRun, "facts", facts)
    monkeypatch.setattr(CaseRun, "built", lambda case: Built(Path("engine.om"), None))

    build.command("regnety_016-ascend310-fp16-bs1", cache=tmp_path)

    assert "weights: seeded" in capsys.readouterr().out
