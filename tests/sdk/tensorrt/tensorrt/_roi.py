"""The plug-ins ROIAlign_TRT and PyramidROIAlign_TRT as ONNX operators: RoiAlign, and of a pyramid one for each map.

Meaning, parameters and defaults: plugin/roiAlignPlugin, plugin/pyramidROIAlignPlugin and roiAlign_kernel of
plugin/common/kernels/maskRCNNKernels.cu of github.com/NVIDIA/TensorRT. Samples of a pyramid leave its maps by half
a pixel at most, where RoiAlign holds the border's value as the kernel does."""

from __future__ import annotations

from tensorrt._nms import Body

OLDEST = 16  # opset of RoiAlign with a choice of coordinates
FIELDS = {
    "coordinate_transformation_mode": 1,
    "mode": 1,
    "output_height": 1,
    "output_width": 1,
    "sampling_ratio": 0,
    "spatial_scale": 1.0,
}
PYRAMID_FIELDS = {
    "fpn_scale": 224,
    "pooled_size": 7,
    "image_size": [1024, 1024],
    "roi_coords_absolute": 1,
    "roi_coords_swap": 0,
    "roi_coords_plusone": 0,
    "roi_coords_transform": 2,
    "sampling_ratio": 0,
    "legacy": 0,
}
OFFSETS = {
    -1: (0.0, 0.0),
    0: (0.0, 0.0),
    1: (0.0, 0.5),
    2: (0.5, 0.5),
}  # of a map's coordinates, and of a sample in its bin
LEGACY_SIDE = 158.4  # an fpn_scale of 224 / sqrt(2) over an image of 1024 by 1024
LEAST = 1e-4  # pixels: a region without area is sampled once, where RoiAlign would not sample it


def aligned(name, inputs, outputs, fields, constants=()):
    """The nodes of ROIAlign_TRT: maps (N, C, H, W), regions (R, 4), image of each region (R). Raises ValueError for a
    parameter that the plug-in refuses."""
    from onnx import TensorProto, helper

    given = dict(FIELDS, **fields)
    wrong = [key for key in ("mode", "coordinate_transformation_mode") if given[key] not in (0, 1)]
    wrong += [key for key in ("output_height", "output_width", "spatial_scale") if given[key] <= 0]
    if wrong or given["sampling_ratio"] < 0:
        raise ValueError(f"{name}: {(wrong or ['sampling_ratio'])[0]} is out of its range")
    pooled = {key: given[key] for key in ("output_height", "output_width", "sampling_ratio", "spatial_scale")}
    coordinates = ("output_half_pixel", "half_pixel")[given["coordinate_transformation_mode"]]
    wide = f"{name}.images"
    return [
        helper.make_node("Cast", inputs[2:3], [wide], name=wide, to=TensorProto.INT64),
        helper.make_node(
            "RoiAlign", [*inputs[:2], wide], list(outputs), name=name, mode=("max", "avg")[given["mode"]],
            coordinate_transformation_mode=coordinates, **pooled,
        ),
    ]  # fmt: skip


def aligned_pyramid(name, inputs, outputs, fields, constants=()):
    """The node of PyramidROIAlign_TRT, image by image: regions (N, R, 4), then four maps (N, C, H, W) from the largest
    on. Raises ValueError for a parameter that the plug-in refuses or that is not simulated."""
    from onnx import TensorProto, helper

    given = dict(PYRAMID_FIELDS, **fields)
    if given["legacy"]:
        given.update(roi_coords_transform=-1, roi_coords_plusone=0, roi_coords_swap=1, roi_coords_absolute=0)
        given.update(sampling_ratio=1, fpn_scale=LEGACY_SIDE, image_size=[1024, 1024])
    pooled, samples, kind = (given[key] for key in ("pooled_size", "sampling_ratio", "roi_coords_transform"))
    if len(inputs) != 5 or pooled < 1 or samples < 0 or given["fpn_scale"] < 1 or kind not in OFFSETS:
        raise ValueError(f"{name}: five inputs, and parameters within their ranges")
    if kind == -1 and (samples != 1 or pooled == 1):
        raise ValueError(
            f"{name}: roi_coords_transform -1 is simulated with a sampling_ratio of 1 and two bins or more"
        )
    b = Body(name)
    names = [f"{name}.image.{i}" for i in range(5)]
    low, high, area = _regions(b, names[0], given)
    height, width = given["image_size"]
    limit = given["fpn_scale"] ** 2 / (height * width) / 4
    chosen = None
    for level, each in enumerate(names[1:]):
        made = _of_map(b, each, low, high, given)
        if chosen is not None:
            larger = b.node("Greater", [area, b.constant(limit * 4 ** (level - 1), "f4")])
            made = b.node("Where", [b.node("Reshape", [larger, b.constant([-1, 1, 1, 1], "i8")]), made, chosen])
        chosen = made
    body = helper.make_graph(
        b.nodes,
        name,
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in names],
        [helper.make_tensor_value_info(chosen, TensorProto.FLOAT, [None, None, pooled, pooled])],
    )
    return [helper.make_node("Scan", list(inputs), list(outputs), name=name, body=body, num_scan_inputs=5)]


def _regions(b, rois, given):
    """Least and largest corners (R, 2), as y and x from 0 to 1, and areas (R, 1)."""
    y, x = (0, 1) if given["roi_coords_swap"] else (1, 0)
    first, second = (b.node("Concat", [b.column(rois, y + at), b.column(rois, x + at)], axis=1) for at in (0, 2))
    size = b.constant(given["image_size"] if given["roi_coords_absolute"] else [1, 1], "f4")
    ends = []
    for kind in ("Min", "Max"):
        within = b.node("Min", [size, b.node(kind, [first, second])])
        ends.append(b.node("Div", [b.node("Max", [b.constant(0, "f4"), within]), size]))
    sides = b.node("Sub", ends[::-1])
    if given["roi_coords_plusone"]:
        sides = b.node("Add", [sides, b.constant([1 / side for side in given["image_size"]], "f4")])
    return (*ends, b.node("Mul", [b.column(sides, 0), b.column(sides, 1)]))


def _of_map(b, source, low, high, given):
    """What the regions take from one map (C, H, W): (R, C, pooled, pooled)."""
    pooled, kind = given["pooled_size"], given["roi_coords_transform"]
    offset, within = OFFSETS[kind]
    size = b.node("Gather", [b.node("Shape", [source]), b.constant([1, 2], "i8")])
    size = b.node("Cast", [size], to=1)
    if kind == -1:
        size = b.node("Sub", [size, b.constant(1, "f4")])
    start, end = (b.node("Sub", [b.node("Mul", [at, size]), b.constant(offset, "f4")]) for at in (low, high))
    length = b.node("Max", [b.node("Sub", [end, start]), b.constant(LEAST, "f4")])
    bins = b.node("Div", [length, b.constant(pooled - (kind == -1), "f4")])
    if given["sampling_ratio"]:
        number = b.constant(given["sampling_ratio"], "f4")
    else:
        number = b.node("Ceil", [bins])
    # RoiAlign takes half a pixel off, and looks at the middle of each part of a bin
    back = b.node("Mul", [b.node("Div", [bins, number]), b.constant(0.5 - within, "f4")])
    start = b.node("Sub", [b.node("Add", [start, b.constant(0.5, "f4")]), back])
    end = b.node("Add", [start, b.node("Mul", [bins, b.constant(pooled, "f4")])])
    rois = b.node("Concat", [b.column(each, i) for each in (start, end) for i in (1, 0)], axis=1)
    one = b.node("Unsqueeze", [source, b.constant([0], "i8")])
    flat = b.node("Reshape", [b.column(rois, 0), b.constant([-1], "i8")])
    image = b.node("Cast", [b.node("Mul", [flat, b.constant(0, "f4")])], to=7)
    return b.node(
        "RoiAlign", [one, rois, image], output_height=pooled, output_width=pooled, mode="avg",
        sampling_ratio=given["sampling_ratio"], coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
