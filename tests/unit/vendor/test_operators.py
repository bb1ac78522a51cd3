"""Lists of operators are read with their source; what a graph uses beyond them is named with its nodes."""

import onnx
import pytest

from harness.backends.registry import BACKENDS
from harness.vendor import operators
from harness.vendor.operators import LISTS, Operators

LISTED = [row for row in BACKENDS.values() if row.operators]
# of makers, or of ONNX before 1.0
OLD = {"AdaptiveAvgPool2d", "Affine", "ATen", "ConstantFill", "Crop", "ImageScaler", "Inverse", "IsFinite",
       "MMCVRoIAlignRotated", "NMSRotated", "ParametricSoftplus", "ScaledTanh", "AdaptiveAvgPool2D", "AscendAntiQuant",
       "AscendQuant", "BatchMultiClassNMS", "Corr", "DeformableConv2D", "DynSeqOuter", "EmbeddingBag", "LSTMP",
       "MovingSumWithSigmoid", "RoiExtractor"}  # fmt: skip


@pytest.mark.parametrize("file", sorted(path.name for path in LISTS.iterdir()))
def test_a_list_names_its_source_and_operators_of_onnx(file):
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
    found = operators.read(file)

    assert any(char.isdigit() for char in found.source.split(":")[0]), "the release it is of"
    assert any(place in found.source for place in ("github.com/", "docs.", "hiascend.com/"))
    assert {name for name in found.names if ":" not in name} <= known | OLD
    assert {"Conv", "Relu", "Softmax", "Resize"} <= found.names


def test_every_list_is_of_a_backend():
    assert {row.operators for row in LISTED} == {path.name for path in LISTS.iterdir()}


@pytest.mark.parametrize(
    ("file", "has", "lacks"),
    [
        ("tensorrt.txt", "Attention", "Unique"),  # read in the documents a second time
        ("qnn.txt", "com.microsoft:QuickGelu", "Loop"),
        ("openvino.txt", "BitShift", "Optional"),
        ("rknn.txt", "ScatterND", "Abs"),
        ("cann.txt", "NonMaxSuppression", "Loop"),
    ],
)
def test_each_list_is_that_of_its_document(file, has, lacks):
    names = operators.read(file).names

    assert has in names
    assert lacks not in names


def test_what_is_lacking_is_told_with_its_nodes(tmp_path):
    (tmp_path / "own.txt").write_text("# Acme 1\nConv Relu\nlab:Foo\n")
    found = operators.read(str(tmp_path / "own.txt"))
    used = {"Conv": ["c"], "Constant": ["k"], "Unique": ["/u"], "lab:Bar": ["a", "b", "c", "d"], "lab:Foo": ["f"]}

    assert found == Operators("Acme 1", frozenset({"Conv", "Relu", "lab:Foo"}))
    assert operators.told(found.lacks(used)) == "Unique (node /u), lab:Bar (4 nodes: a, b, c, ...)"
