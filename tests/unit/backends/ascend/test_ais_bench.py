"""ais_bench: the summaries of its releases, and the files that it refuses."""

from __future__ import annotations

import subprocess

import pytest
from ascend_tiny import DEVICE, cann, compiled, images
from ascend_told import told

from harness.backends.ascend import ais_bench
from harness.judge.timing import Plan


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        yield sdk
        assert sdk.wrongs() == []


def test_the_summary_of_an_older_release_is_found(sdk, folder):
    known = told()
    _, engine = compiled(folder, "cli", known)
    sdk.switch(ais_bench="old", slow=0.1)

    with ais_bench.load(engine, DEVICE, known) as session:
        session.write({"image": images()})
        timing = session.measure(Plan(warmup_s=0.0, window_s=0.001, windows=3, latencies=0))

    assert len(timing.windows) == 3


def test_an_error_in_the_log_is_one_though_the_status_is_0_and_a_throughput_is_printed():
    done = "[INFO] throughput 1000*batchsize.mean(4)/NPU_compute_time.mean(4.1): 975.6\n"

    assert ais_bench.failure(done) is None
    assert ais_bench.failure(f"[ERROR] ACL: 507011\n{done}") == "[ERROR] ACL: 507011"
    assert ais_bench.failure("[INFO] no more\n") == "it printed no throughput"


@pytest.mark.parametrize("spoil", ["link", "input", "output"])
def test_the_simulated_ais_bench_refuses_what_the_real_one_does(sdk, folder, tmp_path, spoil):
    known = told()
    _, engine = compiled(folder, "cli", known)
    model, image, output = tmp_path / "model.om", tmp_path / "image.bin", tmp_path / "out"
    image.write_bytes(images().tobytes())
    image.chmod(0o664 if spoil == "input" else 0o644)
    output.mkdir()
    output.chmod(0o755 if spoil == "output" else 0o750)
    if spoil == "link":
        model.symlink_to(engine)
    else:
        model.write_bytes(engine.read_bytes())
        model.chmod(0o640)
    words = [*ais_bench.program(), "--model", model, "--input", image, "--output", output, "--output_dirname", "o"]

    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert {"link": "soft link", "input": "0o755", "output": "0o750"}[spoil] in done.stdout
