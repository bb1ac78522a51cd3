"""What passes between the suite and its worker comes out as it went in."""

from pathlib import Path

import numpy as np
from fake_workers import DEVICE, SPEC, worker

from harness.backends.base import BuildSpec, Normalize


def test_tensors_that_are_not_contiguous_arrive_as_they_look():
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T[:, ::-1]

    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        assert session.run({"x": x})["y"].tolist() == (2 * x).tolist()


def test_a_batch_larger_than_all_before_finds_room():
    with worker("doubles") as chip, chip.load(Path("e"), DEVICE, SPEC) as session:
        for rows in (1, 5, 1_000_000, 3, 2_000_000):
            x = np.full((rows, 3), rows, np.float32)

            assert (session.run({"x": x})["y"] == 2 * rows).all()


def test_a_build_spec_survives_the_pipe():
    from harness.worker import wire

    spec = BuildSpec(
        "int8",
        4,
        SPEC.inputs,
        ("y",),
        (1, 4),
        Normalize((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "BGR"),
        "c.npy",
        "t",
        {"a": [1]},
    )

    assert wire.build_spec(wire.plain(spec)) == spec
