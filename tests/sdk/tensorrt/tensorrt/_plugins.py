"""The registry of plug-ins, as far as programs look into it: which there are, and how their fields are given. Those of
RUNS are run; a network with another is not built."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np

from tensorrt import _nms, _roi
from tensorrt._kinds import Enumeration, major, removed_in, until

FIELD_TYPES = "FLOAT16 FLOAT32 FLOAT64 INT8 INT16 INT32 CHAR DIMS UNKNOWN BF16 INT64 FP8 INT4 FP4"
PluginFieldType = Enumeration("PluginFieldType", {word: i for i, word in enumerate(FIELD_TYPES.split(" "))})
TensorRTPhase = Enumeration("TensorRTPhase", {"BUILD": 0, "RUNTIME": 1})


class PluginField:
    def __init__(self, name="", data=None, type=PluginFieldType.UNKNOWN):
        self.name, self.data, self.type = name, data, type
        self.size = 0 if data is None else int(np.asarray(data).size)


class PluginFieldCollection(list):
    """A list of PluginField."""


class IPluginCreator:
    """Base of a program's own: sets name, plugin_version, plugin_namespace and field_names."""

    def __init__(self):
        self.name = self.plugin_version = self.plugin_namespace = ""
        self.field_names = PluginFieldCollection()

    def create_plugin(self, name, field_collection, phase=None):
        raise RuntimeError('Tried to call pure virtual function "IPluginCreator::create_plugin"')

    def deserialize_plugin(self, name, serialized_plugin):
        raise RuntimeError('Tried to call pure virtual function "IPluginCreator::deserialize_plugin"')


class IPluginCreatorV3One(IPluginCreator):
    """The one for IPluginV3 (from 10)."""


class IPluginCreatorV3Quick(IPluginCreator):
    """The one for plug-ins by decorators (from 10.7)."""


class BuiltIn(IPluginCreator):
    """A plug-in that comes with TensorRT."""

    def __init__(self, name, fields):
        IPluginCreator.__init__(self)
        self.name, self.plugin_version = name, "1"
        self.field_names = PluginFieldCollection(PluginField(field) for field in fields.split())

    def create_plugin(self, name, field_collection, phase=None):
        """None, as of a plug-in that cannot be made, where it is not simulated."""
        if self.name not in RUNS:
            return None
        given = {field.name: np.asarray(field.data).reshape(-1).tolist() for field in field_collection}
        return Plugin(self.name, name, {key: data if len(data) > 1 else data[0] for key, data in given.items()})


class Plugin:
    """IPluginV2 of one that is run."""

    plugin_version, plugin_namespace = "1", ""

    def __init__(self, kind, name, fields):
        self.plugin_type, self.name, self.fields = kind, name, fields
        self.num_outputs = RUNS[kind].outputs


Runs = namedtuple("Runs", "fields outputs oldest nodes")
RUNS = {
    "EfficientNMS_TRT": Runs(_nms.FIELDS, 4, _nms.OLDEST, _nms.suppressing),
    "ROIAlign_TRT": Runs(_roi.FIELDS, 1, _roi.OLDEST, _roi.aligned),
    "PyramidROIAlign_TRT": Runs(_roi.PYRAMID_FIELDS, 1, _roi.OLDEST, _roi.aligned_pyramid),
}
"""Plug-ins that are run: their fields, number of outputs, the oldest opset of the nodes that they become, and those."""


NMS = (
    "shareLocation backgroundLabelId numClasses topK keepTopK scoreThreshold iouThreshold isNormalized clipBoxes "
    "scoreBits caffeSemantics"
)
SHIPPED = (
    *((name, " ".join(row.fields)) for name, row in RUNS.items()),
    ("BatchedNMS_TRT", NMS),
    ("BatchedNMSDynamic_TRT", NMS),
    ("InstanceNormalization_TRT", "epsilon scales bias relu alpha"),
    ("LReLU_TRT", "negSlope"),
    ("ResizeNearest_TRT", "scale"),
)  # of version 1, and not all that come with TensorRT


class IPluginRegistry:
    def __init__(self):
        self._creators = [BuiltIn(*row) for row in SHIPPED]
        self.error_recorder, self.parent_search_enabled = None, True

    @property
    def plugin_creator_list(self):
        removed_in(11)
        return list(self._creators)

    @property
    def all_creators(self):
        """From 10."""
        if major() < 10:
            raise AttributeError("all_creators came with TensorRT 10")
        return list(self._creators)

    def get_creator(self, type, version, plugin_namespace=""):
        """From 10; None where there is none."""
        if major() < 10:
            raise AttributeError("get_creator came with TensorRT 10")
        return self._found(type, version, plugin_namespace)

    @until(11)
    def get_plugin_creator(self, type, version, plugin_namespace=""):
        return self._found(type, version, plugin_namespace)

    def _found(self, *wanted):
        rows = [(made.name, made.plugin_version, made.plugin_namespace) for made in self._creators]
        return self._creators[rows.index(wanted)] if wanted in rows else None

    def register_creator(self, creator, plugin_namespace=""):
        """False where one of the same name, version and namespace is known."""
        creator.plugin_namespace = plugin_namespace or creator.plugin_namespace
        if self._found(creator.name, creator.plugin_version, creator.plugin_namespace) is not None:
            return False
        self._creators.append(creator)
        return True

    def deregister_creator(self, creator):
        if creator not in self._creators:
            return False
        self._creators.remove(creator)
        return True

    def load_library(self, plugin_path):
        """A handle, or None where there is no such file; what is in it stays unknown."""
        return object() if Path(plugin_path).is_file() else None

    def deregister_library(self, handle):
        """Nothing was loaded."""


registry = IPluginRegistry()


def get_plugin_registry():
    return registry
