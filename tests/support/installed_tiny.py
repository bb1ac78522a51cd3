"""A package as pip would install it, with two networks so small that a run of theirs takes no time, on every chip."""

from __future__ import annotations

from pathlib import Path

NETWORK = """
def network(answers=1000):
    from torch import nn

    class Tiny(nn.Sequential):
        def forward(self, images):
            return (super().forward(images),)

    return Tiny(nn.Conv2d(3, 8, 16, 16, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(7), nn.Flatten(),
                nn.Linear(32, answers)).eval()
"""
ROWS = f"""
from dataclasses import replace
from harness.models.regnety import REGNETY_016
{NETWORK}
ONE, TWO = (replace(REGNETY_016, name=name, title=name, network=network) for name in ("tiny_one", "tiny_two"))
"""
ENTRY_POINTS = """[chipproof.models]
tiny_one = chipproof_tiny.rows:ONE
tiny_two = chipproof_tiny.rows:TWO
"""


def site(folder: Path) -> Path:
    """The folder, for PYTHONPATH, with the package in it: tiny_one and tiny_two, classifiers of 224 x 224 pictures."""
    package, info = folder / "chipproof_tiny", folder / "chipproof_tiny-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rows.py").write_text(ROWS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chipproof-tiny\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder
