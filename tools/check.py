"""chipproof check: a model of one's own on a chip, through pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError
from tools import run


def command(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="an ONNX file")],
    chip: Annotated[str, typer.Option("--chip", help="the chip, a name as for pytest -m")] = "cpu",
    select: Annotated[str, typer.Option("--select", help="further markers: 'fp16 and bs4', 'numerics'")] = "",
) -> None:
    """Compile MODEL for a chip, run it there on drawn inputs, compare it with ONNX Runtime, and time it.

    Inputs are drawn by dtype and range; --onnx-input NAME=LOW:HIGH bounds one, NAME=FILE.npy gives its rows. Any other
    option goes to pytest as it is: --simulate, --results, --cache, --sdk-python, --backend-option, --patience. Exit
    status: that of the run, or 2 where it could not begin."""
    from harness import matrix

    if chip not in matrix.chips():
        raise UsageError(f"--chip {chip}: there is no such chip", hint=f"there are {', '.join(matrix.chips())}")
    if not model.is_file():
        raise UsageError(f"{model}: no such file", hint="chipproof check FILE.onnx --chip CHIP [OPTIONS]")
    run.conformance(f"{chip} and ({select})" if select else chip, ["--onnx", str(model), *context.args])


command.passes_on = True  # type: ignore[attr-defined]  # options that it does not know are pytest's
