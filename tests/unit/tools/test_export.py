"""chipproof export says where the ONNX file is, for which protocol, and whose weights it has."""

import json
from types import SimpleNamespace

import pytest

from tools import cli, export


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A stand-in for the suite: what it was asked to export."""
    asked = []
    kept = tmp_path / "kept.onnx"
    kept.write_bytes(b"onnx")

    def exported(model, protocol):
        asked.append((model.name, protocol.name))
        return kept

    weights = lambda model: SimpleNamespace(source="seeded: no checkpoint")  # noqa: E731
    made = SimpleNamespace(references=SimpleNamespace(exported=exported, weights=weights))
    monkeypatch.setattr(export, "suite", lambda data, cache: made)
    return asked, kept


def run(*words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", *map(str, words)])
    return ended.value.code


def test_the_facts_are_printed_as_json(shop, capsys):
    _, kept = shop

    assert run("regnety_016", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "regnety_016", "protocol": "ascend", "onnx": str(kept), "weights": "seeded: no checkpoint",
    }  # fmt: skip


@pytest.mark.parametrize(("chip", "protocol"), [("ascend310", "ascend"), ("mlu370_s4", "mlu")])
def test_a_chip_decides_the_protocol(chip, protocol, shop, capsys):
    assert run("retinaface_mobilenet025", "--chip", chip) == 0
    assert shop[0] == [("retinaface_mobilenet025", protocol)]
    assert f"protocol {protocol}, weights: seeded" in capsys.readouterr().out


def test_the_file_is_copied_to_where_it_was_asked_for(shop, tmp_path, capsys):
    out = tmp_path / "new" / "model.onnx"

    assert run("regnety_016", "--out", out) == 0
    assert out.read_bytes() == b"onnx"
    assert capsys.readouterr().out.splitlines()[0] == str(out)


@pytest.mark.parametrize(
    ("words", "fact"),
    [(["resnet18"], "there is no model 'resnet18'"), (["regnety_016", "--chip", "tpu"], "there is no chip 'tpu'")],
)
def test_an_unknown_name_is_refused_with_those_there_are(words, fact, shop, capsys):
    assert run(*words, "--json") == 2

    said = json.loads(capsys.readouterr().out)
    assert said["fact"] == fact
    assert ("cpu" if "chip" in fact else "regnety_016") in said["next"]
    assert shop[0] == []
