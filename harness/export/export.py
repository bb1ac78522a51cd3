"""PyTorch -> ONNX: one file of opset 11, with the tensor names and the dynamic batch of the published exports."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.backends.base import scratch
from harness.errors import ExportError
from harness.export import graph
from harness.models.base import Model, Protocol
from harness.store import whole_file

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn

OPSET = 11  # the opset of all published exports, and the newest that all four compilers parse
# Largest difference from PyTorch, relative to the largest value of an output. Sums in another order differ by up to
# 1.5e-4 after 50 layers of badly scaled weights; a graph that is not the model differs far more.
PARITY = 1e-3
BATCH = "batch"  # name of the dynamic axis

CANDIDATES = ("boxes", "scores")  # inputs of the NMS node, before the casts
NMS_OUTPUTS = ("dets", "labels")
NMS: dict[str, float | int] = {
    "score_threshold": 0.05,
    "iou_threshold": 0.6,
    "max_size_per_class": 100,
    "max_total_size": 100,
}


def export(model: Model, protocol: Protocol, state: Mapping[str, Tensor], path: Path, nms: bool = False) -> None:
    """Write the model with weights `state` to `path`, for inputs of the protocol's size; equal arguments give equal
    bytes. The batch is dynamic. Raises ExportError, and writes nothing, when the exporter or ONNX's checker fails.

    With `nms`, GFocalV2 ends as in Ascend's export: decoded, and with one BatchMultiClassNMS node, which no standard
    runtime has. Then the batch is 1, and the outputs are `dets` (1, 100, 5) float32 x1, y1, x2, y2, score in pixels of
    the network's input, and `labels` (1, 100) int64."""
    network = _network(model, state)
    if nms:
        onnx_model = _with_nms(model, network, protocol)
    else:
        onnx_model = _traced(network, protocol.size, model.input, model.outputs, batch=BATCH)
    try:
        with whole_file(path) as beside:
            beside.write_bytes(onnx_model.SerializeToString(deterministic=True))
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error}", hint="free space there, or choose another --cache"
        ) from error


def check(
    model: Model, protocol: Protocol, state: Mapping[str, Tensor], path: Path, batches: Sequence[int] | None = None
) -> dict[str, float]:
    """The largest relative difference of each output between the exported file on ONNX Runtime and the network on
    PyTorch, on the same pictures at each batch.

    Batches are by default the model's published batches, or 1 and 2. Raises ExportError when a difference exceeds
    PARITY, when the file is not valid ONNX of opset 11, or when names or shapes are not the model's. A file with
    BatchMultiClassNMS is compared up to that node, at batch 1."""
    import onnx
    import torch

    batches = batches or model.batches or (1, 2)
    network, names = _network(model, state), model.outputs
    exported = onnx.load(path)
    if any(node.op_type == "BatchMultiClassNMS" for node in exported.graph.node):
        network, names, batches = _candidates(model, network), CANDIDATES, (1,)
        exported = graph.cut(exported, CANDIDATES)
    _valid(exported, model.input, names)
    images = _pictures(protocol, max(batches))
    with torch.inference_mode():  # channels last, like the reference
        wanted = [output.numpy() for output in network.to(memory_format=torch.channels_last)(torch.from_numpy(images))]
    worst = dict.fromkeys(names, 0.0)
    run = _session(exported, model.input)
    for batch in batches:
        outputs = run(images[:batch])
        for name, got, want in zip(names, outputs, wanted, strict=True):
            want = want if names is CANDIDATES else want[:batch]
            if got.shape != want.shape:
                raise _not_the_model(f"{name!r} is {got.shape} at batch {batch}, PyTorch gives {want.shape}")
            gap = _gap(got, want) if names is not CANDIDATES else _unordered_gap(got, want)
            if not gap <= PARITY:  # also true for NaN
                raise _not_the_model(f"{name!r} is off by {gap:.1e} of its largest value at batch {batch}")
            worst[name] = max(worst[name], gap)
    return worst


def computed(path: Path, input_name: str, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Outputs of an exported file, in its order, on ONNX Runtime's CPU provider, image by image: float32 (N, 3, H, W).
    Raises ExportError."""
    import onnx

    run = _session(onnx.load(path), input_name)
    parts = [run(images[i : i + 1]) for i in range(len(images))]
    return [np.concatenate(rows) for rows in zip(*parts, strict=True)]


def _network(model: Model, state: Mapping[str, Tensor]) -> nn.Module:
    from harness.models.networks.undrawn import undrawn

    network = undrawn(model.network)
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise ExportError(
            f"these weights do not fit {model.name}: {str(error).splitlines()[-1].strip()}",
            hint="read them with harness.reference.weights.load, whose error names the model that they fit",
        ) from error
    return network.eval()


def _traced(
    network: nn.Module, size: tuple[int, int], input_name: str, outputs: Sequence[str], batch: str | None
) -> ModelProto:
    """The network as a checked graph; `batch` names the dynamic axis 0 of input and outputs."""
    import onnx
    import torch

    image = torch.zeros(1, 3, *size)
    axes = {name: {0: batch} for name in (input_name, *outputs)} if batch else {}
    shapes: list[tuple[int, ...]] = []

    def note_shapes(_network: Any, _given: Any, returned: tuple[Tensor, ...]) -> None:
        shapes[:] = [tuple(int(length) for length in output.shape) for output in returned]

    hook = network.register_forward_hook(note_shapes)  # uses the tracer's pass: another full-size pass takes seconds
    with TemporaryDirectory(prefix=scratch()) as folder, torch.inference_mode():
        file = Path(folder) / "traced.onnx"
        try:
            with _quiet():
                torch.onnx.export(
                    network, (image,), file, dynamo=False, opset_version=OPSET, do_constant_folding=True,
                    input_names=[input_name], output_names=list(outputs), dynamic_axes=axes,
                )  # fmt: skip
        except OSError as error:
            raise ExportError(
                f"cannot write the traced network to {folder}: {error}",
                hint="free space there, or set TMPDIR to another folder",
            ) from error
        except Exception as error:
            raise ExportError(
                f"PyTorch {torch.__version__} cannot export this network: {str(error).splitlines()[0]}",
                hint=f"its TorchScript exporter must write opset {OPSET}; try another release of torch",
            ) from error
        finally:
            hook.remove()
        traced = onnx.load(file)
    traced = graph.drop_identities(traced)
    traced, _ = graph.drop_noop_pads(traced)
    traced, _ = graph.fold_batch_norm(traced)
    for value, shape in zip(traced.graph.output, shapes, strict=True):
        dims = value.type.tensor_type.shape.dim
        for dim, length in list(zip(dims, shape, strict=True))[1 if batch else 0 :]:
            dim.dim_value = length  # the exporter does not know the size after a Reshape
    _valid(traced, input_name, outputs)
    return traced


def _candidates(model: Model, network: nn.Module) -> nn.Module:
    from harness.models.networks.gfocalv2 import Candidates, GFocalV2

    if not isinstance(network, GFocalV2):
        raise ExportError(
            f"{model.name} has no classes to suppress one by one", hint="export it without nms; only GFocalV2 takes it"
        )
    return Candidates(network)


def _with_nms(model: Model, network: nn.Module, protocol: Protocol) -> ModelProto:
    """The decoded graph followed by the custom node. The checker has checked all but that node and its casts."""
    from onnx import TensorProto, helper, numpy_helper

    decoded = _traced(_candidates(model, network), protocol.size, model.input, CANDIDATES, batch=None)
    part = decoded.graph
    rows, classes = (dim.dim_value for dim in part.output[1].type.tensor_type.shape.dim)
    kept = int(NMS["max_total_size"])
    arrays = {
        "background": np.zeros((rows, 1), np.float32),  # the op takes the last column as background
        "boxes_shape": np.array([1, rows, 1, 4]),  # one box for all classes
        "scores_shape": np.array([1, rows, classes + 1]),
        "dets_scores_shape": np.array([1, kept, 1]),
    }
    half, single, integer = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64
    suppressed = {
        "nmsed_boxes": [1, kept, 4], "nmsed_scores": [1, kept], "nmsed_classes": [1, kept], "nmsed_num": [1],
    }  # fmt: skip

    def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        part.node.append(helper.make_node(kind, inputs, outputs, f"{kind}_{outputs[0]}", **attributes))

    for name, array in arrays.items():
        part.initializer.append(numpy_helper.from_array(array, name))
    node("Reshape", ["boxes", "boxes_shape"], ["boxes_1"])
    node("Cast", ["boxes_1"], ["boxes_half"], to=half)
    node("Concat", ["scores", "background"], ["scores_all"], axis=1)
    node("Reshape", ["scores_all", "scores_shape"], ["scores_1"])
    node("Cast", ["scores_1"], ["scores_half"], to=half)
    node("BatchMultiClassNMS", ["boxes_half", "scores_half"], list(suppressed), **NMS)
    node("Cast", ["nmsed_boxes"], ["boxes_single"], to=single)
    node("Cast", ["nmsed_scores"], ["scores_single"], to=single)
    node("Reshape", ["scores_single", "dets_scores_shape"], ["dets_scores"])
    node("Concat", ["boxes_single", "dets_scores"], ["dets"], axis=2)
    node("Cast", ["nmsed_classes"], ["labels"], to=integer)
    part.value_info.extend(helper.make_tensor_value_info(name, half, shape) for name, shape in suppressed.items())
    part.value_info.extend(part.output)
    del part.output[:]
    part.output.append(helper.make_tensor_value_info("dets", single, [1, kept, 5]))
    part.output.append(helper.make_tensor_value_info("labels", integer, [1, kept]))
    return decoded


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warnings that the exporter always gives here; other warnings still show."""
    with warnings.catch_warnings():
        legacy = r"You are using the legacy TorchScript-based ONNX export|The feature will be removed"
        warnings.filterwarnings("ignore", legacy, DeprecationWarning)
        # group norm checks for a batch of a single value; the protocol fixes the sizes, so tracing the check is safe
        baked = r"(?s)Converting a tensor to a Python (boolean|integer)"
        warnings.filterwarnings("ignore", baked, Warning)
        yield


def _valid(exported: ModelProto, input_name: str, outputs: Sequence[str]) -> None:
    """Raises ExportError unless the graph is valid ONNX of opset 11 with the model's names and folded batch norms."""
    import onnx

    try:
        onnx.checker.check_model(exported, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _not_the_model(f"ONNX's checker says: {str(error).splitlines()[0]}") from error
    opsets = {opset.domain or "ai.onnx": opset.version for opset in exported.opset_import}
    if opsets != {"ai.onnx": OPSET}:
        raise _not_the_model(f"it is written in {opsets}, not in opset {OPSET}")
    names = [value.name for value in exported.graph.input], [value.name for value in exported.graph.output]
    if names != ([input_name], list(outputs)):
        raise _not_the_model(f"it goes from {names[0]} to {names[1]}, not from {[input_name]} to {list(outputs)}")
    norms = [node.name for node in exported.graph.node if node.op_type == "BatchNormalization"]
    if norms:
        raise _not_the_model(f"{len(norms)} batch norms are not folded, {norms[0]} first: FP16 would lose accuracy")


def _gap(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    """Largest absolute difference, relative to the largest absolute value of `want`."""
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-12))


def _unordered_gap(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    """The same for rows sorted by score, where rounding may swap two rows of equal score and may replace the last row
    of a level: each row is compared with the nearest row of the other side, except one row for each level."""
    from scipy.spatial.distance import cdist

    apart = cdist(got, want, "chebyshev")
    levels = 5
    worst = max(np.sort(apart.min(axis=axis))[-1 - levels] for axis in (0, 1))
    return float(worst / max(np.abs(want).max(), 1e-12))


def _pictures(protocol: Protocol, batch: int) -> NDArray[np.float32]:
    """`batch` different noise pictures of the protocol's size, prepared: float32 (batch, 3, H, W)."""
    height, width = protocol.size
    noise = np.random.default_rng(batch).integers(0, 256, (batch, height, width, 3), np.uint8)
    return np.stack([protocol.preprocess(picture, False).tensor for picture in noise]).astype(np.float32)


def _session(exported: ModelProto, input_name: str) -> Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """A function that runs the file on ONNX Runtime's CPU provider. Both raise ExportError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            exported.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has one exception class for each status, without another common base
        raise _not_the_model(f"ONNX Runtime cannot load it: {error}") from error

    def run(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            outputs: list[NDArray[np.float32]] = session.run(None, {input_name: images})
        except Exception as error:
            raise _not_the_model(f"ONNX Runtime cannot run it at batch {len(images)}: {error}") from error
        return outputs

    return run


def _not_the_model(fact: str) -> ExportError:
    return ExportError(
        f"the exported file is not the model: {fact}", hint="report it with the versions of torch and onnx in use"
    )
