"""Every MagicMind call fails once: first, middle and last time. Typed error, nothing leaked, next case clean."""

from __future__ import annotations

import numpy as np
import pytest
from vendor_sweep import NORMALIZE, simulated, sweep, tiny_batch, tiny_model, tiny_pixels, tiny_spec

from harness.backends.base import Device
from harness.backends.cambricon import magicmind

DEVICE = Device(0, "MLU370-S4")


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with simulated(monkeypatch, tmp_path, "magicmind", ("magicmind",), "magicmind.python.runtime._base") as sdk:
        yield sdk


def held():
    from magicmind.python.runtime._base import driver

    return driver.open, len(driver.live)


def test_every_call_of_a_whole_case_may_fail(sdk, tmp_path):
    onnx = tiny_model(tmp_path / "tiny.onnx")
    engine = tmp_path / "tiny.magicmind"
    calibration = tmp_path / "calibration.npy"
    np.save(calibration, tiny_batch(4))
    spec = tiny_spec("int8", calibration=str(calibration), normalize=NORMALIZE)

    def case():
        engine.unlink(missing_ok=True)
        try:
            magicmind.build(onnx, engine, spec)
        except BaseException:
            assert not engine.exists(), "a failed build leaves no engine"
            raise
        with magicmind.load(engine, DEVICE, spec) as session:
            for seed in range(3):
                session.write({"image": tiny_pixels(seed=seed)})
                session.execute(40)
                session.read()

    count = sweep(sdk, case, held, {"slow": 0.001}, 13)

    assert count > 45


def test_devices_never_raises_whatever_fails(sdk):
    for call in ("mm.System", "mm.System.initialize", "mm.System.device_count", "mm.System.destory"):
        sdk.calls.reset()
        sdk.switch(fail=[[call, 1, 14]])

        found = magicmind.devices("MLU370-S4")

        assert found.devices == (), call
        assert call in found.evidence
        assert sdk.wrongs() == [], call


def test_the_check_itself_sees_a_status_that_nobody_asked(sdk):
    import magicmind.python.runtime as mm

    mm.BuilderConfig().parse_from_string("{}")

    assert sdk.wrongs() == ["Status of mm.BuilderConfig.parse_from_string was never asked: OK"]


def test_the_check_itself_sees_an_engine_that_outlives_its_system(sdk, tmp_path):
    import magicmind.python.runtime as mm

    engine = tmp_path / "tiny.magicmind"
    magicmind.build(tiny_model(tmp_path / "tiny.onnx"), engine, tiny_spec())
    with mm.System():
        device = mm.Device()
        assert device.active().ok()
        model = mm.Model()
        assert model.deserialize_from_file(str(engine)).ok()
        made = model.create_i_engine()
        assert made is not None
        del device

    assert sdk.wrongs() == ["System closed before its Engine"]


def test_the_check_itself_sees_a_read_before_the_sync(sdk, tmp_path):
    import magicmind.python.runtime as mm

    engine = tmp_path / "tiny.magicmind"
    magicmind.build(tiny_model(tmp_path / "tiny.onnx"), engine, tiny_spec())
    with magicmind.load(engine, DEVICE, tiny_spec()) as session:
        session.write({"image": tiny_batch()})
        outputs = []
        assert session.context.enqueue(session.tensors, outputs, session.queue).ok()
        outputs[0].asnumpy()
        del outputs
        assert session.queue.sync().ok()

    assert sdk.wrongs() == ["asnumpy before the queue was synchronised"]
    assert mm.Status().ok()
