"""The input of the chip's compiler for one case, and the engine that it builds, by variant."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness import matrix
from harness.backends import registry
from harness.backends.base import BuildSpec, Device, TensorSpec
from harness.case import Case, Precision
from harness.errors import BuildError, DataError, DeviceError, UsageError
from harness.export.export import NMS_OUTPUTS
from harness.run import artefacts
from harness.run.context import RunContext
from harness.run.devices import Presence
from harness.worker.process import Worker


@dataclass(frozen=True)
class Variant:
    """What the engine does besides the network: normalise raw pixels (`raw`), suppress overlapping boxes (`nms`).
    `tiers` are the batches that it serves; empty: that of the case alone. `traced`: from TorchScript, else ONNX."""

    raw: bool
    nms: bool = False
    tiers: tuple[int, ...] = ()
    traced: bool = False

    @property
    def static(self) -> Variant:
        """The same for the batch of the case alone, from ONNX."""
        return replace(self, tiers=(), traced=False)

    @property
    def facts(self) -> dict[str, Any]:
        """What a record says of it: whether it normalises, its batches, and what it is compiled from."""
        batches = ", ".join(map(str, self.tiers))
        source = "TorchScript" if self.traced else "ONNX"
        words = f"one for batches {batches}, from {source}" if batches else f"static, from {source}"
        return {"normalized_by_chip": self.raw, "compiled": words}


@dataclass(frozen=True)
class Built:
    """A compiled engine: its path and the spec to load it with, which has the batch of the case."""

    path: Path
    spec: BuildSpec


class CaseEngine:
    """The engine of one case: what is compiled, with which options, and where it is stored. Raises UsageError for a
    case whose model or chip does not exist."""

    _checked: str | None = None  # the calibration file whose images were looked at

    def __init__(self, context: RunContext, case: Case, anew: bool = False) -> None:
        self.context = context
        self.case = case
        self.anew = anew  # build engines again that this process did not build
        self.rebuilt = ""  # what that gave: "the same" engine byte by byte, or "another"
        self.chip = matrix.chip(case.chip)
        self.model = matrix.model(case.model)
        self.protocol = self.model.protocol(case.chip)
        raw, traced = (case.chip in chips for chips in (self.protocol.normalized_by_chip, self.protocol.traced))
        if traced:
            traced = registry.backend(context.settings.runner or self.chip.backends[0]).traced
            traced = traced and "in_fp32" not in context.settings.backend_options.of(
                case.chip
            )  # nodes of the ONNX file
        tiers = matrix.batches(self.model, self.chip, case.precision) if traced else ()
        self.variant = Variant(raw=self.chip.normalizes and raw, tiers=tiers, traced=traced)

    @cached_property
    def present(self) -> Presence:
        """The chip's devices. Raises DeviceError when there is none."""
        present = self.context.present(self.chip)
        if not present.devices:
            raise DeviceError(f"{self.chip.title} is absent: {present.evidence}", hint=present.hint or self.chip.hint)
        return present

    @property
    def tiers(self) -> tuple[int, ...]:
        """The batches that one engine can serve, smallest first: those at which the chip runs the model in this
        precision; none where the backend compiles for one batch."""
        several = registry.backend(self.present.backend).tiers
        return matrix.batches(self.model, self.chip, self.case.precision) if several else ()

    @property
    def tuned(self) -> str:
        """How the compiler tunes the engine, as the backend's row tells it; "" without --tune, and where it cannot."""
        return registry.backend(self.present.backend).tunes(self.device) if self.context.settings.tune else ""

    @property
    def device(self) -> Device:
        """The device of this process: with pytest -n the processes take the chip's devices in turn, else the first."""
        return self.present.devices[self.context.settings.process % len(self.present.devices)]

    @cached_property
    def options(self) -> dict[str, Any]:
        """What --backend-option sets for this chip, as its backend takes it. Raises UsageError."""
        given = self.context.settings.backend_options.of(self.case.chip)
        found = registry.backend(self.present.backend).read_settings(given)
        there = nodes_of(self.onnx()) if "in_fp32" in found else ()
        for name in found.get("in_fp32", ()):
            if name not in there:
                near = get_close_matches(name, there) or there[:3]
                raise UsageError(
                    f"{self.case.model} has no node {name}, which in_fp32 names",
                    hint=f"name nodes of its ONNX file, such as {', '.join(near)}",
                )
        return found

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that the lab's policy sets for the chip's workers."""
        return self.context.settings.policy.environment.get(self.case.chip, {})

    def onnx(self, variant: Variant | None = None) -> Path:
        """Path of the ONNX file of the model. Raises ExportError."""
        references = self.context.references
        make = references.exported_with_suppression if (variant or self.variant).nms else references.exported
        return make(self.model, self.protocol)

    def source(self, variant: Variant) -> Path:
        """Path of the file that is compiled: ONNX, or TorchScript. Raises ExportError."""
        return self.context.references.traced(self.model, self.protocol) if variant.traced else self.onnx(variant)

    def outputs_of(self, variant: Variant) -> tuple[str, ...]:
        """ONNX names of the engine's outputs."""
        return NMS_OUTPUTS if variant.nms else self.model.outputs

    def plain_spec(self) -> BuildSpec:
        """The part of the spec that all variants share."""
        height, width = self.protocol.size
        int8 = self.case.precision is Precision.INT8
        return BuildSpec(
            precision=str(self.case.precision),
            batch=self.case.batch,
            inputs=(TensorSpec(self.model.input, "float32", (-1, 3, height, width)),),
            outputs=self.model.outputs,
            calibration=str(self.calibration()) if int8 else None,
            target=self.device.target or self.chip.target,
        )

    def spec(self, variant: Variant) -> BuildSpec:
        """The spec for the compiler; the backend's row adds the options that it needs besides the graph, the user those
        of --backend-option. An engine for several batches is tuned for the largest, so that all cases that it serves
        have the same one. Raises UsageError."""
        return replace(
            self.plain_spec(),
            batch=max(variant.tiers, default=self.case.batch),
            tiers=variant.tiers,
            tune=bool(self.tuned),
            outputs=self.outputs_of(variant),
            normalize=self.protocol.normalize if variant.raw else None,
            options={**registry.backend(self.present.backend).needs(_Beside(self, variant)), **self.options},
        )

    def calibration(self) -> Path:
        """Path of the prepared images for INT8, an .npy file of float32 (N, 3, H, W)."""
        dataset, _ = self.context.calibration(self.model)
        return artefacts.calibration_file(self.context.settings.store, self.model, self.protocol, dataset)

    def check_calibration(self, path: Path) -> None:
        """Raises DataError when the file does not hold the calibration images, prepared as the reference is fed; a few
        are prepared once more."""
        dataset, _ = self.context.calibration(self.model)
        rows = np.load(path, mmap_mode="r")
        fault = f"delete {path.parent}, then run again"
        if len(rows) != len(dataset):
            raise DataError(f"{len(rows)} calibration images were found, not {len(dataset)}", hint=fault)
        for place in {0, len(dataset) - 1, random.randrange(len(dataset))}:
            sample = dataset.samples[place]
            if not np.array_equal(rows[place], self.protocol.preprocess(sample.read(), False).tensor):
                raise DataError(
                    f"calibration image {place} is not {sample.id} as prepared for the reference: the engine "
                    "would be calibrated on values that differ from its inputs",
                    hint=fault,
                )

    def built(self, worker: Worker, variant: Variant) -> Built:
        """The compiled engine, from the store or built by the worker. Raises BuildError, and DataError when it would be
        calibrated on other images."""
        backend = registry.backend(self.present.backend)
        if self.case.precision not in backend.precisions:
            raise BuildError(
                f"the backend {backend.name} does not build {self.case.precision}",
                hint=f"select another precision: {', '.join(backend.precisions)}",
            )
        source, spec = self.source(variant), self.spec(variant)
        if spec.calibration not in (None, self._checked):
            self.check_calibration(Path(str(spec.calibration)))
            self._checked = spec.calibration
        if backend.quantises_apart and spec.calibration is not None:
            shared = replace(spec, batch=1, tiers=(), tune=False, normalize=None)
            first = self._kept(worker, source, replace(shared, options={**spec.options, "only": "quantised"}))
            spec = replace(spec, options={**spec.options, "quantised": str(first)})
        path = self._kept(worker, source, spec)
        return Built(path, replace(spec, batch=self.case.batch))

    def _kept(self, worker: Worker, source: Path, spec: BuildSpec) -> Path:
        """What the backend makes of `source` by `spec`, from the store or built by the worker; with `anew` by this
        process, and after what it is made of."""
        store, backend = self.context.settings.store, registry.backend(self.present.backend)

        def get(anew: bool) -> Path:
            return artefacts.engine_file(
                store,
                source,
                spec,
                backend,
                version=self.present.version,
                device=self.device.name,
                build=lambda path: worker.build(source, path, spec),
                anew=anew,
                environment=self.environment,
            )

        path, first = get(anew=False), spec.options.get("quantised")
        older = first is not None and store.told(path)["built"] < store.told(Path(first))["built"]
        if self.anew and (older or not store.made_here(path)):
            before, path = store.told(path)["sha256"], get(anew=True)
            self.rebuilt = "the same" if store.told(path)["sha256"] == before else "another"
        return path

    def layers_in_int8(self, engine: Path) -> str:
        """How many layers are in INT8, such as "26 of 56", from the metadata of an ONNX engine; else ""."""
        if self.case.precision is not Precision.INT8 or not registry.backend(self.present.backend).engine_is_onnx:
            return ""
        import onnx

        told = {entry.key: entry.value for entry in onnx.load(engine).metadata_props}
        return str(told.get("layers_in_int8", ""))


class _Beside:
    """Files and facts that a backend's row may need besides the ONNX file of one variant (see registry.Beside)."""

    def __init__(self, engine: CaseEngine, variant: Variant) -> None:
        self._engine, self._variant = engine, variant
        self.precision = str(engine.case.precision)
        self.version = engine.present.version
        self.device = engine.device

    def out_nodes(self) -> list[str]:
        nodes, _ = graph_outputs(self._engine.onnx(self._variant))
        return [nodes[name] for name in self._engine.outputs_of(self._variant)]

    def out_specs(self) -> list[list[object]]:
        _, specs = graph_outputs(self._engine.onnx(self._variant))
        return [specs[name] for name in self._engine.outputs_of(self._variant)]

    def torchscript(self) -> str:
        return str(self._engine.context.references.traced(self._engine.model, self._engine.protocol))

    def rounded(self) -> str:
        kept = {name: value for name, value in self._engine.options.items() if name == "in_fp32"}
        spec = replace(self._engine.plain_spec(), tiers=(self._engine.case.batch,), options=kept)
        return str(artefacts.rounded_file(self._engine.context.settings.store, self._engine.onnx(), spec))

    def timing_cache(self) -> str:
        return str(self._engine.context.settings.store.root / "timing" / "trt.cache")


@cache
def nodes_of(exported: Path) -> tuple[str, ...]:
    """Names of the nodes of an ONNX file, in its order."""
    import onnx

    return tuple(node.name for node in onnx.load(exported, load_external_data=False).graph.node)


@cache
def graph_outputs(exported: Path) -> tuple[dict[str, str], dict[str, list[object]]]:
    """(by output: "NodeName:index" as ATC's --out_nodes takes it; by output: [name, dtype, shape])."""
    import onnx

    from harness.export import graph

    def shape(row: onnx.ValueInfoProto) -> Sequence[int]:
        return [-1, *(dim.dim_value for dim in row.type.tensor_type.shape.dim[1:])]

    model = onnx.load(exported)
    specs: dict[str, list[object]] = {
        row.name: [
            row.name,
            np.dtype(onnx.helper.tensor_dtype_to_np_dtype(row.type.tensor_type.elem_type)).name,
            shape(row),
        ]
        for row in model.graph.output
    }
    return graph.outputs_of(model), specs
