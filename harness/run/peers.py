"""Programs that a chip without published figures is timed in turn with, on the same processor: one row each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.backends import registry
from harness.backends.base import BuildSpec
from harness.chips import EAGER, ONNX_RUNTIME
from harness.run import artefacts
from harness.run.context import RunContext
from harness.run.engine import CaseEngine, graph_outputs
from harness.worker.process import RemoteSession, Worker


@dataclass(frozen=True)
class Peer:
    """`name` is what records and tables call it, `log` its log in the folder of logs. `backend` is loaded in a worker
    under the suite's own Python; `given` makes the file that it loads for a case, and the spec to load it with."""

    name: str
    log: str
    backend: str
    given: Callable[[RunContext, Worker, CaseEngine], tuple[Path, BuildSpec]]


def _weights(context: RunContext, worker: Worker, engine: CaseEngine) -> tuple[Path, BuildSpec]:
    options: dict[str, object] = {"model": engine.model.name}
    if engine.model.heavy:  # else a pass, of seconds, would be run to learn them
        _, outputs = graph_outputs(engine.onnx())
        options["shapes"] = [outputs[name][2] for name in engine.model.outputs]
    spec = replace(engine.plain_spec(), options=options)
    return context.references.weights(engine.model).path, spec


def _engine_of_cpu(context: RunContext, worker: Worker, engine: CaseEngine) -> tuple[Path, BuildSpec]:
    """The engine of the chip `cpu` for the same model and batch, kept in the store for both."""
    source, (processor,) = context.references.exported(engine.model, engine.protocol), worker.devices(".*").devices
    spec = replace(engine.plain_spec(), target=processor.target)
    path = artefacts.engine_file(
        context.settings.store, source, spec, registry.backend("ort"), worker.version(), processor.name,
        lambda made: worker.build(source, made, spec),
    )  # fmt: skip
    return path, spec


PEERS: dict[str, Peer] = {
    row.name: row
    for row in (
        Peer(EAGER, "peer", "harness.reference.peer", _weights),
        Peer(ONNX_RUNTIME, "peer-ort", "ort", _engine_of_cpu),
    )
}


def expect(context: RunContext, name: str) -> Worker:
    """The worker of that peer, started if needed."""
    return context.peer_worker(PEERS[name].backend, PEERS[name].log)


@contextmanager
def opened(context: RunContext, name: str, engine: CaseEngine) -> Iterator[RemoteSession]:
    """A session of that peer, to be timed, for the case of `engine`."""
    worker = expect(context, name)
    file, spec = PEERS[name].given(context, worker, engine)
    with worker.load(file, engine.device, spec) as session:
        yield session
