"""The doctor says what is here with its evidence, and only what is required and broken makes it fail."""

import json
import re
import resource
import shutil
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from harness.backends.base import Device, Found
from harness.backends.registry import Pythons
from harness.chips import CHIPS
from harness.errors import WorkerError
from harness.run import devices
from harness.run.devices import Presence
from tools import cli, doctor
from tools.doctor import State

FIND = devices.find


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    """Chips are looked for elsewhere; here only cpu is found."""

    def find(chip, start):
        if chip.name == "cpu":
            return Presence("ort", "ONNX Runtime 9", (Device(0, "a CPU"),), "ort: looked, found one")
        return Presence("", "", (), f"{chip.backends[0]}: looked, found none")

    monkeypatch.setattr(devices, "find", find)
    monkeypatch.setattr(doctor, "untraced", lambda *_: "")


HERE = doctor.Interpreter((3, 11), True, frozenset())


def nothing_of(rows):
    return [doctor.Finding("chips", chip.name, State.ABSENT, "looked") for chip in rows]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", *map(str, arguments)])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_every_area_is_there_and_nothing_is_broken_without_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "requirements", lambda: ["pytest>=8"])

    status, out, _ = run(capsys, "--cache", tmp_path / "cache", "--json")

    findings = json.loads(out)
    areas = list(dict.fromkeys(finding["area"] for finding in findings))
    assert areas == ["machine", "packages", "chips", "sdks", "data sets", "weights", "storage"]
    assert "broken" not in {finding["state"] for finding in findings}
    assert status == 0


def test_each_chip_shows_its_evidence_and_the_way_to_it():
    found = {finding.name: finding for finding in doctor.chips(Pythons(), {sys.executable: HERE})}

    assert set(found) == set(CHIPS)
    assert (found["cpu"].state, found["ascend310p"].state) == (State.OK, State.ABSENT)
    assert "looked, found one" in found["cpu"].detail
    assert found["ascend310p"].detail == "acl: looked, found none"
    assert found["ascend310p"].next == CHIPS["ascend310p"].hint


@pytest.mark.parametrize("dies", [False, True])
def test_a_backend_is_started_once_for_all_chips_that_name_it_and_again_when_it_is_gone(monkeypatch, dies):
    started, asked = [], []

    class FakeWorker:
        def __init__(self, backend, python):
            self.backend, self.alive = backend, True

        def __enter__(self):
            started.append(self.backend)
            return self

        def __exit__(self, *error):
            self.alive = False

        def devices(self, match):
            asked.append(self.backend)
            assert self.alive
            if dies:
                self.alive = False
                raise WorkerError(f"{self.backend} died", hint="-")
            return Found((), "nothing here")

    monkeypatch.setattr(devices, "find", FIND)
    monkeypatch.setattr("harness.worker.process.Worker", FakeWorker)

    found = doctor.chips(Pythons(), {sys.executable: HERE})

    assert [finding.name for finding in found] == list(CHIPS)
    each = [chip.backends[:1] if dies else chip.backends for chip in CHIPS.values()]  # a broken SDK is not passed over
    assert sorted(asked) == sorted(backend for backends in each for backend in backends)
    assert {finding.state for finding in found} == {doctor.State.BROKEN if dies else doctor.State.ABSENT}
    assert sorted(started) == (sorted(asked) if dies else sorted(set(asked)))


@pytest.mark.parametrize(
    ("line", "state", "words"),
    [
        ("pytest>=8", State.OK, ""),
        ("pytest>=99", State.BROKEN, "required >=99"),
        ("no-such-package-at-all>=1", State.BROKEN, "not installed"),
        ("no-such-package-at-all>=1; python_version < '3'", None, ""),
    ],
)
def test_packages_are_held_to_what_the_project_requires(monkeypatch, line, state, words):
    monkeypatch.setattr(doctor, "requirements", lambda: [line])

    findings = list(doctor.packages())

    assert [finding.state for finding in findings] == ([] if state is None else [state])
    assert all(words in finding.detail for finding in findings)
    assert all(finding.next.startswith("pip install") for finding in findings if finding.state is State.BROKEN)


def test_a_package_that_its_authors_gave_up_is_named_with_what_replaces_it(monkeypatch):
    monkeypatch.setattr(doctor, "requirements", list)
    versions = {"pynvml": "13.0.1"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)

    (finding,) = doctor.packages()

    assert (finding.name, finding.state) == ("pynvml", State.PART)
    assert "13.0.1, deprecated" in finding.detail
    assert "pip install nvidia-ml-py" in finding.next


def test_the_requirements_are_the_projects_own():
    names = {Requirement(line).name for line in doctor.requirements()}

    assert {"numpy", "torch", "onnxruntime", "pillow", "typer"} <= names


def test_a_broken_package_makes_the_doctor_fail(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "requirements", lambda: ["numpy>=999"])

    status, out, _ = run(capsys, "--cache", tmp_path)

    assert status == 1
    assert "pip install 'numpy>=999'" in out


def test_an_old_python_is_broken(monkeypatch):
    monkeypatch.setattr(doctor, "OLDEST", (9, 0))

    assert next(iter(doctor.machine())).state is State.BROKEN


def test_data_sets_are_whole_partial_absent_or_damaged(tmp_path):
    peta = tmp_path / "peta" / "images"
    peta.mkdir(parents=True)
    (peta / "00001.png").write_bytes(b"\x89PNG\r\n\x1a\n and more")
    damaged = tmp_path / "imagenet" / "val"
    damaged.mkdir(parents=True)
    (damaged / "a.JPEG").write_bytes(b"")

    found = {finding.name: finding for finding in doctor.sets(tmp_path)}

    assert {name: finding.state for name, finding in found.items()} == {
        "imagenet": State.BROKEN, "widerface": State.ABSENT, "coco": State.ABSENT, "peta": State.PART,
    }  # fmt: skip
    assert "1 of 7600" in found["peta"].detail
    assert "a.JPEG" in found["imagenet"].detail
    assert all(finding.next for finding in found.values())


def test_weights_of_another_digest_are_broken(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "regnety_016-54367f74.pth").write_bytes(b"not it")
    (tmp_path / "weights" / "Resnet50_Final.pth").write_bytes(b"no digest was published for it")

    states = {finding.name: finding.state for finding in doctor.checkpoints(tmp_path)}

    assert states["regnety_016"] is State.BROKEN
    assert states["retinaface_resnet50"] is State.OK
    assert states["gfocalv2_r50_fpn"] is State.ABSENT


def test_a_cache_that_cannot_be_written_is_broken(tmp_path):
    (tmp_path / "file").write_text("in the way")

    (finding,) = doctor.storage(tmp_path / "file")

    assert finding.state is State.BROKEN
    assert "--cache" in finding.next


def test_a_cache_shows_its_size_and_the_room_beside_it(tmp_path, monkeypatch):
    (tmp_path / "engine").write_bytes(bytes(30_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("usage", (), {"free": 1e9}))

    cache, disk = doctor.storage(tmp_path)

    assert "1 files, 0.03 GB" in cache.detail
    assert disk.state is State.PART


def test_traces_of_an_sdk_are_named_and_so_is_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("ASCEND_TOOLKIT_HOME", "/usr/local/Ascend")
    program = tmp_path / "npu-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "magicmind.py").write_text("raise SystemExit('imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    found = {finding.name: finding for finding in doctor.sdks({sys.executable: doctor.interpreter(sys.executable)})}

    assert found["CANN"].state is State.PART
    assert f"npu-smi: {program}" in found["CANN"].detail
    assert "no atc, msame; no module acl" in found["CANN"].detail
    assert "set_env.sh" in found["CANN"].next
    assert f"module magicmind in {sys.executable}" in found["MagicMind"].detail
    assert found["TensorRT"].state is State.ABSENT


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (None, "no such program"),
        ("exit 0", "is not a Python interpreter: it printed nothing"),
        ("echo 'cannot execute' >&2; exit 1", "is not a Python interpreter: cannot execute"),
        ("echo 3 6; echo numpy", "is Python 3.6"),
    ],
)
def test_a_wrong_sdk_python_is_named_as_such(tmp_path, capsys, program, said):
    path = tmp_path / "python"
    if program is not None:
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)

    status, _, err = run(capsys, "--sdk-python", path, "--cache", tmp_path / "cache")

    assert status == 2
    assert f"--sdk-python {path}" in err
    assert said in err


def test_an_sdk_python_without_numpy_is_broken(tmp_path, capsys):
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\necho 3 9\necho acl\n")
    path.chmod(0o755)

    assert doctor.interpreter(str(path)) == doctor.Interpreter((3, 9), False, frozenset({"acl"}))
    assert run(capsys, "--sdk-python", path, "--cache", tmp_path / "cache")[0] == 1


def test_a_chip_is_asked_under_its_own_interpreter(tmp_path, capsys, monkeypatch):
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\necho 3 9\necho rknn\n")
    path.chmod(0o755)
    started = []
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "_chips", lambda rows, pythons: started.extend(rows) or nothing_of(rows))

    status, out, _ = run(capsys, "--sdk-python", f"rk3588={path}", "--cache", tmp_path / "cache", "--json")

    found = {finding["name"]: finding for finding in json.loads(out)}
    assert "rk3588" in {chip.name for chip in started}
    assert "htp_v73" not in {chip.name for chip in started}  # its module is in neither interpreter
    assert found["RKNN"]["detail"] == f"module rknn in {path}"
    assert found["--sdk-python"]["detail"] == f"{path} has no NumPy, which the worker needs"
    assert status == 1


def test_the_conclusion_comes_first_with_the_command_of_each_chip(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "requirements", lambda: ["pytest>=8"])
    lines = run(capsys, "--cache", tmp_path, "--lang", "en")[1].splitlines()

    assert lines[0] == "you can run: cpu -> make run"
    head = " ".join(line.strip() for line in lines[: lines.index("")])
    assert re.search(r"ascend310, ascend310p\b.*?: absent; to have it: install the driver and CANN", head)


def test_an_absence_is_told_once_however_many_chips_share_it_and_fits_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run(capsys, "--cache", tmp_path, "--lang", "en")[1]

    assert out.count("mlu370_s4, mlu370_x4") == 2  # in the conclusion, and in the table
    assert out.count("mlu370_x4") == 2
    assert max(map(len, out.splitlines())) <= 80


def test_what_is_broken_stands_in_the_conclusion_with_its_next_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "requirements", lambda: ["numpy>=999"])
    out = run(capsys, "--cache", tmp_path, "--lang", "en")[1]
    head = out[: out.index("\n\n")]

    assert "broken: numpy" in head
    assert "next: pip install 'numpy>=999'" in head


@pytest.mark.parametrize(("lang", "said"), [("en", "is not a folder"), ("zh", "不是目录")])
def test_a_data_folder_that_is_not_there_is_told_once_and_in_the_readers_language(
    lang, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "300")
    out = run(capsys, "--cache", tmp_path, "--data", tmp_path / "none", "--lang", lang)[1]
    head = out[: out.index("\n\n")]

    assert head.count(said) == 1, head
    assert "imagenet, widerface, coco, peta" in head
    assert "give the folder" not in head or lang == "en"


def test_without_any_trace_no_worker_is_started(monkeypatch, tmp_path):
    asked = []
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    for sdk in doctor._sdks():
        for name in sdk.variables:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(devices, "find", lambda chip, start: asked.append(chip.name) or Presence("", "", (), "x"))
    found = {finding.name: finding for finding in doctor.chips(Pythons(), {sys.executable: HERE})}

    assert "cpu" in asked
    assert not {"ascend310", "ascend310p", "mlu370_s4", "t4", "cuda"} & set(asked)
    asked.clear()
    assert "no npu-smi, atc, msame on PATH" in found["ascend310p"].detail
    assert found["t4"].next == CHIPS["t4"].hint
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    doctor.chips(Pythons(), {sys.executable: HERE})
    assert {"cpu", "t4", "cuda"} <= set(asked)
    assert "ascend310" not in asked


def test_the_bundle_is_written_beside_the_findings(tmp_path, capsys):
    status, out, err = run(capsys, "--cache", tmp_path, "--bundle", tmp_path / "lab.txt", "--lang", "en")

    assert "chips cpu: ok" in (tmp_path / "lab.txt").read_text()
    assert "read it before you send it" in err
    assert out.startswith("you can run")
    assert status in (0, 1)


def test_the_doctor_takes_less_than_3_seconds_without_sdks(tmp_path):
    """Seconds of all its processes on the cores, for other load on the machine is not the doctor's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "tools", "doctor", "--cache", tmp_path], cwd=doctor.ROOT, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 3
