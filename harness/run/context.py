"""What all cases of a run share, made once and kept in the store: weights, exports, data sets, reference answers."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.backends import registry
from harness.backends.base import BuildSpec, Device
from harness.baselines import Baselines
from harness.case import Image, Predictions, Tensors
from harness.chips import Chip
from harness.datasets import DATASETS, scenes
from harness.datasets.base import Absent, Dataset, Sample
from harness.datasets.stream import stream
from harness.errors import DataError
from harness.judge.timing import Plan
from harness.models.base import Frame, Model, Prepared, Protocol
from harness.reference import eager
from harness.run import devices
from harness.run.devices import Presence
from harness.store import Store, canonical
from harness.worker.process import RemoteSession, Worker

if TYPE_CHECKING:
    from torch import nn


WITNESSES = 5  # images whose raw outputs are compared with the reference's, in turn through the batch
CALIBRATION = 32  # images an int8 engine is calibrated on, at most
CALIBRATION_SCENE = 2000  # index of the first scene it may be calibrated on
# how a chip is timed: single executes enough for p99 of what takes 5 ms
CHIP_PLAN = Plan(warmup_s=1.0, window_s=1.0, windows=20, latencies=10_000, latency_s=5.0)
# what decides a reference: all that pre- and post-processing import
PREPARATION = (
    "arrays", "models", "datasets/drawing", "datasets/scenes",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What the user asked for, once. `environment` gives the worker of a backend its extra environment variables; a
    simulated SDK enters there and nowhere else."""

    store: Store
    baselines: Baselines
    data: Path | None = None
    limit: int | None = None
    device: int | None = None
    sdk_python: str = sys.executable
    runner: str | None = None
    environment: Callable[[Chip], Mapping[str, str] | None] = lambda chip: None
    logs: Path | None = None
    progress: Callable[[str, int], Callable[[int], None]] = lambda what, total: lambda done: None
    plan: Plan = CHIP_PLAN
    patience: float | None = None  # seconds a case may be timed until it is decided; None: as is usual for its chip


@dataclass(frozen=True)
class Weighed:
    """Weights of a model: a plain state dict on disk, and what they are."""

    path: Path
    digest: str
    seeded: bool
    source: str


class Suite:
    """All that one run of the suite shares: settings, chips found, and what was made for their cases."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._present: dict[str, Presence] = {}
        self._weights: dict[str, Weighed] = {}
        self._datasets: dict[str, Dataset] = {}
        self._networks: dict[str, nn.Module] = {}
        self._peer: Worker | None = None
        self._stack = ExitStack()
        self._nodes: dict[Path, dict[str, str]] = {}
        self._specs: dict[Path, dict[str, list[object]]] = {}
        self._predictions: dict[str, list[Predictions]] = {}

    # ---------------------------------------------------------------- what is here

    def simulated(self, chip: Chip) -> bool:
        """Whether a simulated SDK stands in the vendor's place."""
        return self.settings.environment(chip) is not None

    def present(self, chip: Chip) -> Presence:
        """The chip's devices, those of --device only, or none and the evidence."""
        if chip.name not in self._present:
            asked = chip if self.settings.runner is None else replace(chip, backends=(self.settings.runner,))
            found = devices.find(asked, lambda backend: self.worker(chip, backend))
            if self.settings.device is not None:
                chosen = tuple(d for d in found.devices if d.index == self.settings.device)
                found = replace(
                    found, devices=chosen, evidence=f"{found.evidence}; of these --device {self.settings.device}"
                )
            self._present[chip.name] = found
        return self._present[chip.name]

    def worker(self, chip: Chip, backend: str) -> Worker:
        """A fresh process for a backend of the chip."""
        log = None if self.settings.logs is None else self.settings.logs / f"{chip.name}-{backend}.log"
        python = sys.executable if registry.backend(backend).own_python else self.settings.sdk_python
        return Worker(backend, python=python, env=self.settings.environment(chip), log=log)

    # ---------------------------------------------------------------- what every chip shares

    def weights(self, model: Model) -> Weighed:
        """The published checkpoint in --data, else seeded weights."""
        if model.name not in self._weights:
            self._weights[model.name] = self._weigh(model)
        return self._weights[model.name]

    def _weigh(self, model: Model) -> Weighed:
        from harness.reference import weights

        published = weights.find(model, self.settings.data)
        if published is not None:
            source, key = published.name, {"model": model.name, "sha256": weights.sha256(published)}
        else:
            recipe = sources("reference/weights", *PREPARATION) + own_code(model)
            source, key = "seeded", {"model": model.name, "recipe": recipe, "torch": version("torch")}

        def make(path: Path) -> None:
            import torch

            torch.save(weights.load(model, published) if published else weights.seeded(model), path)

        path = self.settings.store.get(key, make, kind="weights", suffix=".pt")
        return Weighed(path, _digest_of(key), published is None, source)

    def network(self, model: Model) -> nn.Module:
        """The reference: eager PyTorch, FP32, on the CPU. Channels last, which takes up to a third less time;
        the peer, which is timed, has PyTorch's own layout."""
        if model.name not in self._networks:
            import torch

            made = eager.network(model, self.weights(model).path).to(memory_format=torch.channels_last)
            self._networks = {model.name: made}  # one: the large are large
        return self._networks[model.name]

    def exported(self, model: Model, protocol: Protocol, nms: bool = False) -> Path:
        """The ONNX file: exported, checked, and equal to the network in PyTorch, or not there at all. `nms` ends it
        in the suppression that some chips do by themselves."""
        from harness.export import export

        key = {
            "model": model.name, "protocol": protocol.name, "weights": self.weights(model).digest,
            "exporter": sources("export", "models/networks") + own_code(model), "torch": version("torch"),
            "onnx": version("onnx"), "nms": nms,
        }  # fmt: skip

        def make(path: Path) -> None:
            state = self.network(model).state_dict()
            export.export(model, protocol, state, path, nms=nms)
            export.check(model, protocol, state, path)

        return self.settings.store.get(key, make, kind="onnx", suffix=".onnx")

    def traced(self, model: Model, protocol: Protocol) -> Path:
        """The network as TorchScript, for the backend that runs PyTorch itself."""
        import torch

        key = {
            "model": model.name,
            "weights": self.weights(model).digest,
            "size": protocol.size,
            "torch": version("torch"),
        }

        def make(path: Path) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tracing is deprecated, and the only form that loads without our code
                traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                    eager.network(model, self.weights(model).path), torch.zeros(1, 3, *protocol.size)
                )
                torch.jit.save(traced, str(path))

        return self.settings.store.get(key, make, kind="torchscript", suffix=".pt")

    def out_nodes(self, exported: Path, outputs: Sequence[str]) -> list[str]:
        """Node and output number that make each output, as ATC wants them named."""
        import onnx

        from harness.export import graph

        if exported not in self._nodes:
            self._nodes[exported] = graph.outputs_of(onnx.load(exported))
        return [self._nodes[exported][name] for name in outputs]

    def out_specs(self, exported: Path, outputs: Sequence[str]) -> list[list[object]]:
        """Name, dtype and shape (-1 for the batch) of each output, for tools that do not tell them."""
        import onnx

        if exported not in self._specs:
            rows = onnx.load(exported).graph.output
            self._specs[exported] = {
                row.name: [
                    row.name,
                    np.dtype(onnx.helper.tensor_dtype_to_np_dtype(row.type.tensor_type.elem_type)).name,
                    [-1, *(dim.dim_value for dim in row.type.tensor_type.shape.dim[1:])],
                ]
                for row in rows
            }
        return [self._specs[exported][name] for name in outputs]

    def dataset(self, model: Model) -> Dataset:
        """The model's data set in --data, else scenes; cut by --limit."""
        if model.name not in self._datasets:
            dataset = scenes.dataset(model.task, model.scenes)
            if self.settings.data is not None:
                try:
                    dataset = DATASETS[model.dataset](self.settings.data)
                except Absent as absent:
                    dataset = replace(dataset, note=f"{absent.fact}; {absent.hint}")
            self._datasets[model.name] = dataset if self.settings.limit is None else dataset.head(self.settings.limit)
        return self._datasets[model.name]

    def calibration(self, model: Model) -> tuple[Dataset, Dataset]:
        """(images to calibrate on, images to evaluate on), disjoint. Of a large set the images whose names hash
        lowest are held out; a small one is kept whole and scenes are drawn instead."""
        dataset = self.dataset(model)
        if dataset.kind == "scenes" or len(dataset) < 2 * CALIBRATION:
            return scenes.dataset(model.task, CALIBRATION // 4, first=CALIBRATION_SCENE), dataset
        ranks = sorted(range(len(dataset)), key=lambda i: hashlib.sha256(dataset.samples[i].id.encode()).digest())
        held = set(ranks[:CALIBRATION])
        return dataset.take(sorted(held)), dataset.take([i for i in range(len(dataset)) if i not in held])

    # ---------------------------------------------------------------- the reference

    def eager(self, model: Model, images: NDArray[np.float32]) -> Tensors:
        """Outputs of the network in eager PyTorch, by ONNX name. `images` is float32 (N, 3, H, W)."""
        return eager.outputs(self.network(model), model.outputs, images)

    @contextmanager
    def peer(self, model: Model, device: Device, spec: BuildSpec) -> Iterator[RemoteSession]:
        """The same in a worker, to be timed. The worker stays until `close`."""
        known = replace(spec, options={"model": model.name})
        with self.expect_peer().load(self.weights(model).path, device, known) as session:
            yield session

    def expect_peer(self) -> Worker:
        """The peer's worker. Before its first use it needs seconds to import PyTorch, while others work."""
        if self._peer is None or not self._peer.alive:
            log = None if self.settings.logs is None else self.settings.logs / "peer.log"
            self._peer = self._stack.enter_context(Worker("harness.reference.peer", log=log))
        return self._peer

    def close(self) -> None:
        if self._peer is not None:
            self._peer.kill()  # PyTorch takes seconds to leave by itself
        self._stack.close()

    def reference(self, model: Model, protocol: Protocol, dataset: Dataset) -> list[Predictions]:
        """What the reference finds in every image of the data set."""
        key = {**self._reference_key(model, protocol), "dataset": dataset.digest}
        memo = _digest_of(key)
        if memo not in self._predictions:

            def make(path: Path) -> None:
                found = list(
                    self.predict(
                        f"reference {model.name}",
                        dataset,
                        lambda image: protocol.preprocess(image, False),
                        lambda images: self.eager(model, images.astype(np.float32, copy=False)),
                        protocol.postprocess,
                        batch=8 if max(protocol.size) <= 256 else 1,
                    )
                )
                with path.open("wb") as file:
                    np.savez(file, allow_pickle=False, **pack(found))

            path = self.settings.store.get(key, make, kind="reference", suffix=".npz")
            with np.load(path) as arrays:
                kept = unpack(dict(arrays))
            if len(kept) != len(dataset):
                raise DataError(
                    f"the kept reference answers for {len(kept)} images of {len(dataset)}", hint=f"delete {path.parent}"
                )
            self._predictions[memo] = kept
        return self._predictions[memo]

    def witnesses(self, model: Model, protocol: Protocol, count: int) -> Tensors:
        """The reference's raw outputs for that many first images of the data set."""
        dataset = self.dataset(model).head(count)
        prepared = [protocol.preprocess(sample.read(), False) for sample in dataset.samples]
        images = np.stack([p.tensor for p in prepared]).astype(np.float32, copy=False)
        key = {**self._reference_key(model, protocol), "inputs": hashlib.sha256(images.tobytes()).hexdigest()}

        def make(path: Path) -> None:
            parts = [self.eager(model, images[i : i + 1]) for i in range(len(images))]
            with path.open("wb") as file:
                np.savez(
                    file,
                    allow_pickle=False,
                    **{name: np.concatenate([part[name] for part in parts]) for name in model.outputs},
                )

        path = self.settings.store.get(key, make, kind="witness", suffix=".npz")
        with np.load(path) as arrays:
            return dict(arrays)

    def _reference_key(self, model: Model, protocol: Protocol) -> dict[str, str]:
        code = sources("reference/eager", *PREPARATION) + own_code(model)
        return {
            "model": model.name, "protocol": protocol.name, "weights": self.weights(model).digest, "code": code,
            "torch": version("torch"),
        }  # fmt: skip

    # ---------------------------------------------------------------- images through a network

    def predict(
        self,
        what: str,
        dataset: Dataset,
        prepare: Callable[[Image], Prepared],
        run: Callable[[NDArray[np.generic]], Tensors],
        interpret: Callable[[Tensors, Frame], Predictions],
        batch: int,
    ) -> Iterator[Predictions]:
        """Decode, run and interpret every image: all three at once, in order, with few images in memory. The last
        batch is filled up with its last image, and what comes out for the filling is dropped."""
        advance = self.settings.progress(what, len(dataset))

        def read(sample: Sample) -> Prepared:
            return prepare(sample.read())

        with ThreadPoolExecutor(1) as interpreter:
            waiting: list[Future[list[Predictions]]] = []
            for group in _batched(stream(dataset.samples, read), batch):
                tensors = np.stack([p.tensor for p in group] + [group[-1].tensor] * (batch - len(group)))
                outputs = run(tensors)
                frames = [p.frame for p in group]
                waiting.append(interpreter.submit(_interpret, interpret, outputs, frames))
                while len(waiting) > 2 or (waiting and waiting[0].done()):
                    yield from waiting.pop(0).result()
                advance(len(group))
            for future in waiting:
                yield from future.result()


def sources(*names: str) -> str:
    """Digest of the harness's own code that decides a result: modules or packages, so that a change makes it anew."""
    root = Path(__file__).parents[1]
    total = hashlib.sha256()
    for name in names:
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
            total.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return total.hexdigest()


def own_code(model: Model) -> str:
    """Digest of the files that define what a model from outside the harness does: a plug-in's are under no name above.
    "" for the harness's own."""
    functions = [model.network, *(f for p in model.protocols for f in (p.preprocess, p.postprocess))]
    modules = {getattr(function, "func", function).__module__ for function in functions}
    outside = sorted(name for name in modules if name.split(".")[0] != "harness")
    total = hashlib.sha256()
    for name in outside:
        total.update(Path(str(sys.modules[name].__file__)).read_bytes())
    return total.hexdigest() if outside else ""


def pack(predictions: Sequence[Predictions]) -> dict[str, NDArray[np.generic]]:
    """Predictions as few arrays: each name's values end to end, beside how many each image has."""
    if not predictions:
        return {}
    packed: dict[str, NDArray[np.generic]] = {}
    for name in predictions[0]:
        packed[name] = np.concatenate([p[name] for p in predictions])
        packed[f"{name}#"] = np.array([len(p[name]) for p in predictions], np.int64)
    return packed


def unpack(packed: Mapping[str, NDArray[np.generic]]) -> list[Predictions]:
    """The inverse of pack."""
    names = [name for name in packed if not name.endswith("#")]
    parts = {name: np.split(packed[name], np.cumsum(packed[f"{name}#"])[:-1]) for name in names}
    return [{name: parts[name][i] for name in names} for i in range(len(parts[names[0]]))] if names else []


def _interpret(
    interpret: Callable[[Tensors, Frame], Predictions], outputs: Tensors, frames: Sequence[Frame]
) -> list[Predictions]:
    return [interpret({name: value[i] for name, value in outputs.items()}, frame) for i, frame in enumerate(frames)]


def _batched(items: Iterator[Prepared], size: int) -> Iterator[list[Prepared]]:
    group: list[Prepared] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _digest_of(key: object) -> str:
    return hashlib.sha256(canonical(key).encode()).hexdigest()
