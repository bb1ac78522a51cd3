"""A backend in a process of its own: what is asked of it, and the sessions loaded in it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import errors
from harness.backends import base
from harness.errors import RunError
from harness.judge.timing import Plan, Timing
from harness.worker import wire
from harness.worker.limits import Limits
from harness.worker.pipe import Pipe

if TYPE_CHECKING:
    from types import TracebackType

    from harness.backends.base import BuildSpec, Device, Found, Health, Tensors


class Worker:
    """A process with one backend and the sessions loaded in it; one thread at a time may use it. It starts on entry
    and is awaited when the first command is given.

    `backend` names a row of BACKENDS, or with a dot any module on PYTHONPATH. `python` needs only NumPy
    and the vendor's SDK, from 3.7 on; `env` is added to the environment; what the SDK prints goes to `log`. Every
    method raises WorkerError when the worker died, hung, grew too large or sent an unreadable reply; after that it is
    gone, `alive` is False, and the next case takes a new one. Errors of the backend arrive as they were raised."""

    def __init__(
        self,
        backend: str,
        *,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        log: Path | None = None,
    ) -> None:
        self.backend, self.limits = backend, limits or Limits()
        self.pipe = Pipe(backend, python, env or {}, self.limits, log)

    @property
    def alive(self) -> bool:
        """Whether the process was started and has not ended."""
        return self.pipe.alive

    def __enter__(self) -> Worker:
        self.pipe.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pipe.__exit__(kind, error, trace)

    def kill(self) -> None:
        """End it at once, for one that holds no device to be given back."""
        self.pipe.end("was killed")

    @property
    def python_version(self) -> str:
        """Of the Python it runs under."""
        return self.pipe.python_version

    @property
    def peak_mb(self) -> float | None:
        """Most resident memory of the process so far, in MB; None where the system does not report it."""
        return self.pipe.peak_mb

    def version(self) -> str:
        """SDK and driver, one line."""
        version: str = self.pipe.call("version", self.limits.look)
        return version

    def devices(self, match: str) -> Found:
        """Devices whose vendor name fully matches the regular expression, with the evidence."""
        return wire.found(self.pipe.call("devices", self.limits.look, match=match))

    def health(self, device: Device) -> Health:
        """How the device is now. Raises WorkerError and DeviceError."""
        return wire.health(self.pipe.call("health", self.limits.look, device=wire.plain(device)))

    def reset(self, device: Device) -> str:
        """Reset the device by the vendor's tool: the command and what it said. Raises WorkerError and DeviceError."""
        return str(self.pipe.call("reset", self.limits.load, device=wire.plain(device)))

    def build(self, onnx: Path, engine: Path, spec: BuildSpec) -> None:
        """Compile to exactly the path `engine`. Raises BuildError, which tells of a disk that is nearly full: compilers
        say anything then, and what they wrote is gone."""
        try:
            self.pipe.call("build", self.limits.build, onnx=str(onnx), engine=str(engine), spec=wire.plain(spec))
        except errors.BuildError as error:
            free = shutil.disk_usage(engine.parent).free
            if free >= (onnx.stat().st_size if onnx.exists() else 0):
                raise
            raise errors.BuildError(
                f"{error.fact}; {free / 1e6:.0f} MB are free for the engine, fewer than the model has",
                hint=f"free some, or name another cache with --cache DIR; else {error.hint}",
            ) from error
        if not engine.exists():
            fact = f"{self.backend} reported success and wrote no {engine.name}"
            raise errors.BuildError(fact, hint=self.pipe.tail())

    def load(self, engine: Path, device: Device, spec: BuildSpec, rows: bool = True) -> RemoteSession:
        """The engine on the device, for use in a `with`; with `rows` every output must have a row for each row of the
        inputs. Raises DeviceError, and RunError when its outputs are not those of `spec`."""
        tensors = self.pipe.call(
            "load", self.limits.load, engine=str(engine), device=wire.plain(device), spec=wire.plain(spec)
        )
        inputs, outputs = (tuple(map(wire.tensor_spec, tensors[name])) for name in ("inputs", "outputs"))
        by_name = {output.name: output for output in outputs}
        if not set(spec.outputs) <= set(by_name):
            raise RunError(
                "the engine has the outputs {}".format(", ".join(sorted(by_name)) or "none"),
                hint="the model's are {}".format(", ".join(spec.outputs)),
            )
        outputs = tuple(by_name[name] for name in spec.outputs or by_name)
        batched = rows and all(tensor.shape[:1] == (-1,) for tensor in spec.inputs)
        return RemoteSession(
            self.pipe, tensors["session"], inputs, outputs, batched, tensors["places"], tensors["on_chip"], device.index
        )


class RemoteSession:
    """A session in the worker: an engine on a device, to be used in a `with`.

    `run` for outputs; `measure` for time, or `start` and `finish` apart, so that the devices of a card, each with a
    worker of its own, are measured at once; `read` then gives what the measured engine computed."""

    def __init__(
        self,
        pipe: Pipe,
        number: int,
        inputs: tuple[base.TensorSpec, ...],
        outputs: tuple[base.TensorSpec, ...],
        batched: bool = True,
        places: int = 1,
        on_chip: float | None = None,
        device: int = 0,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._batched = batched  # axis 0 of every output is the batch
        self.places = places  # executes that can be in flight together, each with inputs of its own
        self.executes = 0  # so far
        self.on_chip = on_chip  # share of the graph's nodes that run on the device; None where the runtime is silent
        self._pipe = pipe
        self._number = number
        self._batch = 0
        self._device = device
        self._measuring: Plan | None = None

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._measuring is not None:
            self._pipe.end("was stopped while measuring")
        if self._pipe.alive:
            self._pipe.call("unload", self._pipe.limits.load, session=self._number)

    def run(self, inputs: Tensors, *, finite: bool = True) -> Tensors:
        """Outputs of one batch, as fresh arrays. Raises RunError when the inputs are not what the engine takes, or
        the outputs not what it says; `finite` refuses NaN and infinity as well."""
        layout = self._pipe.call("run", self._pipe.limits.run, session=self._number, inputs=self._put(inputs))
        self.executes += 1
        return self._outputs(layout, finite)

    @property
    def resident_mb(self) -> float | None:
        """Resident memory of the process now, in MB; None where the system does not report it."""
        return self._pipe.resident_mb

    def together(self, batches: Sequence[Tensors], *, finite: bool = True) -> list[Tensors]:
        """Outputs of batches, at most as many as there are `places`, all in flight together. Raises RunError as run
        does."""
        ask, limit = self._pipe.call, self._pipe.limits.run
        for place, inputs in enumerate(batches):
            ask("write_at", limit, session=self._number, place=place, inputs=self._put(inputs))
        ask("execute", limit, session=self._number, times=len(batches))
        self.executes += len(batches)
        return [
            self._outputs(ask("read_at", limit, session=self._number, place=place), finite)
            for place in range(len(batches))
        ]

    def measure(self, inputs: Tensors | None, plan: Plan) -> Timing:
        """Raw samples of back-to-back executes of one batch; None: of the one that it was fed last."""
        self.start(inputs, plan)
        return self.finish()

    def start(self, inputs: Tensors | None, plan: Plan) -> None:
        """Begin to measure, and return at once."""
        layout = None if inputs is None else self._put(inputs)
        self._pipe.send("measure", session=self._number, inputs=layout, plan=wire.plain(plan))
        self._measuring = plan

    def finish(self) -> Timing:
        """The samples of what was started. Raises ValueError when nothing was, InvalidMeasurement for what no clock
        shows."""
        if self._measuring is None:
            raise ValueError("start() comes before finish()")
        plan, self._measuring = self._measuring, None
        limit = self._pipe.limits.measure + plan.warmup_s + plan.limit_s
        timing = Timing.from_json(self._pipe.receive("measure", limit)).check()
        self.executes += sum(window.executes for window in (*timing.warmup, *timing.windows)) + len(timing.latencies)
        return timing

    def read(self, *, finite: bool = True) -> Tensors:
        """Outputs of the last execute, measured or not, as fresh arrays. Raises RunError as run does."""
        return self._outputs(self._pipe.call("read", self._pipe.limits.run, session=self._number), finite)

    def _put(self, inputs: Tensors) -> list[dict[str, Any]]:
        self._pipe.ready()
        self._batch = base.check(inputs, self.inputs, "input")
        return self._pipe.memory.put(inputs)

    def _outputs(self, layout: list[dict[str, Any]], finite: bool) -> Tensors:
        wanted = {output.name for output in self.outputs}
        views = self._pipe.memory.views([item for item in layout if item["name"] in wanted])
        base.check(views, self.outputs, "output")
        rows = {view.shape[0] if view.shape else 0 for view in views.values()} if self._batched else set()
        if rows - {self._batch}:
            returned = min(rows - {self._batch})
            raise RunError(
                f"the engine was fed {self._batch} images and returned {returned}", hint="rebuild the engine"
            )
        if finite:
            from harness.arrays.finite import not_finite

            for name, view in views.items():
                if bad := not_finite(view):
                    raise RunError(
                        f"output {name} of device {self._device} has {bad} values of {view.size} that are NaN or "
                        "infinite",
                        hint="see which layer makes the first: chipproof diagnose",
                    )
        return {output.name: views[output.name].copy() for output in self.outputs}
