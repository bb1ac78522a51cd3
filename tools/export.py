"""chipproof export: a model as ONNX, with its published weights or seeded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tools.language import say
from tools.suite import CacheOption, DataOption, deliver, suite


def command(
    model: Annotated[str, typer.Argument(help="name of the model, as in its marker")],
    out: Annotated[Path | None, typer.Option(help="copy the file here; default: only into the cache")] = None,
    chip: Annotated[str, typer.Option(help="export for the protocol of this chip's published figures")] = "cpu",
    data: DataOption = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the facts as JSON")] = False,
) -> None:
    """Export MODEL, check it against PyTorch, and say where it is."""
    from harness import matrix

    row = matrix.model(model)
    matrix.chip(chip)
    shop = suite(data, cache)
    path = shop.references.exported(row, row.protocol(chip))
    if out is not None:
        deliver(path, out)
    weights = shop.references.weights(row)
    facts = {"model": model, "protocol": row.protocol(chip).name, "onnx": str(out or path), "weights": weights.source}
    if as_json:
        print(json.dumps(facts))
        return
    say(f"{facts['onnx']}\n{model}, protocol {facts['protocol']}, weights: {weights.source}; equals PyTorch")
