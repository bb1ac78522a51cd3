"""chipproof build says where the engine is, and whose weights it has."""

from pathlib import Path

from tools import build


def test_an_engine_says_whose_weights_it_has(tmp_path, monkeypatch, capsys):
    facts = {"version": "CANN 8.0", "weights": "seeded: no checkpoint in --data"}
    monkeypatch.setattr(build.CaseRun, "facts", facts)
    monkeypatch.setattr(build.CaseRun, "engine_file", lambda bench: Path("engine.om"))

    build.command("regnety_016-ascend310-fp16-bs1", cache=tmp_path)

    assert "weights: seeded" in capsys.readouterr().out
