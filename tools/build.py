"""chipproof build: the engine of one case."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from tools.language import say
from tools.suite import (
    BackendOptionOption,
    CacheOption,
    DataOption,
    DeviceOption,
    PolicyOption,
    PythonOption,
    RunnerOption,
    SimulateOption,
    TuneOption,
    deliver,
    suite,
)


def command(
    case: Annotated[str, typer.Argument(help="model-chip-precision-bsN, e.g. regnety_016-ascend310p-fp16-bs16")],
    out: Annotated[Path | None, typer.Option(help="copy the engine here; default: only into the cache")] = None,
    data: DataOption = None,
    cache: CacheOption = None,
    sdk_python: PythonOption = None,
    backend_option: BackendOptionOption = None,
    simulate: SimulateOption = False,
    tune: TuneOption = False,
    runner: RunnerOption = None,
    device: DeviceOption = None,
    policy: PolicyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the facts as JSON")] = False,
) -> None:
    """Export and compile the model of CASE for its chip, which must be here, and say where the engine is."""
    from harness.case import Case
    from harness.run.case_run import CaseRun
    from harness.run.settings import lab_policy

    context = suite(
        data, cache, sdk_python, simulate=simulate, tune=tune, backend_option=backend_option, device=device,
        runner=runner, policy=lab_policy(policy, Path.cwd()),
    )  # fmt: skip
    with closing(CaseRun(context, Case.parse(case))) as case_run:
        engine = case_run.built().path
        facts = {"case": case, "engine": str(out or engine), **case_run.facts}
    if out is not None:
        deliver(engine, out)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    say(f"{facts['engine']}\n{case}, built by {facts['version']}, weights: {facts['weights']}")
