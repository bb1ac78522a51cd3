"""chipproof check hands a user's file to the suite."""

import own_models
import pytest

from tools import cli, run


def check(monkeypatch, *arguments):
    handed = []
    monkeypatch.setattr(run, "conformance", lambda select, more: handed.append((select, list(more))))
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", *map(str, arguments)])
    return ended.value.code, handed


def test_file_chip_and_every_other_option_are_passed_on(tmp_path, monkeypatch):
    file = own_models.save(own_models.dense, tmp_path / "m.onnx")

    status, handed = check(monkeypatch, file, "--chip", "t4", "--simulate", "--select", "fp16 and bs4")

    assert status == 0
    assert handed == [("t4 and (fp16 and bs4)", ["--onnx", str(file), "--simulate"])]


def test_without_a_chip_it_is_the_cpu(tmp_path, monkeypatch):
    file = own_models.save(own_models.dense, tmp_path / "m.onnx")

    assert check(monkeypatch, file)[1] == [("cpu", ["--onnx", str(file)])]


@pytest.mark.parametrize(("given", "said"), [
    (("nowhere.onnx",), "nowhere.onnx: no such file\n  next: chipproof check FILE.onnx --chip CHIP"),
    (("m.onnx", "--chip", "tpu"), "--chip tpu: there is no such chip"),
])  # fmt: skip
def test_what_is_not_there_is_named(given, said, monkeypatch, capsys):
    status, handed = check(monkeypatch, *given)

    assert (status, handed) == (2, [])
    assert said in capsys.readouterr().err
