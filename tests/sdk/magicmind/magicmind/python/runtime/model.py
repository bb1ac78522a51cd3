"""A built model: described, written to a file, read back."""

from __future__ import annotations

from pathlib import Path

from magicmind.python.common.types import DataType
from magicmind.python.runtime import _base as base
from magicmind.python.runtime._base import Code, compiled, injected, refused, shout, simulate, status


class EngineConfig:
    device_type = "MLU"


class Model:
    EngineConfig = EngineConfig

    def __init__(self, header=None, graph=b""):
        if header is None and refused("mm.Model"):
            raise RuntimeError("mm.Model: out of host memory")
        self.header = header
        self.graph = graph

    def serialize_to_file(self, path):
        call = "mm.Model.serialize_to_file"
        failed = injected(call)
        if failed:
            Path(path).write_bytes(b"half")  # a failed write leaves rubbish
            return failed
        Path(path).write_bytes(compiled.pack(base.MAGIC, self.header, self.graph))
        return status(call)

    def deserialize_from_file(self, path):
        call = "mm.Model.deserialize_from_file"
        failed = injected(call)
        if failed:
            return failed
        try:
            self.header, self.graph = compiled.unpack(base.MAGIC, Path(path).read_bytes())
        except OSError as error:
            return status(call, Code.NOT_FOUND, str(error))
        except ValueError as error:
            return status(call, Code.DATA_LOSS, str(error))
        return status(call)

    def _rows(self, call, which):
        if refused(call):
            raise RuntimeError(f"{call}: internal error")
        if self.header is None:
            base.violation(f"{call} of a model that was never read")
            raise RuntimeError("the model is empty")
        return self.header[which]

    def get_input_num(self):
        return len(self._rows("mm.Model.get_input_num", "inputs"))

    def get_output_num(self):
        return len(self._rows("mm.Model.get_output_num", "outputs"))

    def get_input_names(self):
        return self._names("mm.Model.get_input_names", "inputs")

    def get_output_names(self):
        return self._names("mm.Model.get_output_names", "outputs")

    def _names(self, call, which):
        names = [row[0] for row in self._rows(call, which)]
        if simulate.switches().get("mangle_names"):  # as the PyTorch parser does
            return [f"main/node_{i}:0" for i, _ in enumerate(names)]
        return [f"main/{name}:0" for name in names]

    def get_input_data_types(self):
        return [DataType[row[1]] for row in self._rows("mm.Model.get_input_data_types", "inputs")]

    def get_input_data_type(self, i):
        return DataType[self._rows("mm.Model.get_input_data_type", "inputs")[i][1]]

    def get_output_data_types(self):
        return [DataType[row[1]] for row in self._rows("mm.Model.get_output_data_types", "outputs")]

    def get_input_dimensions(self):
        from magicmind.python.runtime._network import Dims

        return [Dims(self._told(row[2])) for row in self._rows("mm.Model.get_input_dimensions", "inputs")]

    def get_output_dimensions(self):
        from magicmind.python.runtime._network import Dims

        return [Dims(self._told(row[2])) for row in self._rows("mm.Model.get_output_dimensions", "outputs")]

    @staticmethod
    def _told(sizes):
        """Switch `told_sizes` "free": a mutable engine says -1 for every axis, as mm_run's guide shows one."""
        free = sizes[:1] == [-1] and simulate.switches().get("told_sizes") == "free"
        return [-1] * len(sizes) if free else sizes

    def create_i_engine(self, config=None):
        from magicmind.python.runtime._run import Engine

        call = "mm.Model.create_i_engine"
        if refused(call):
            return None
        if self.header is None:
            return shout(call, "the model is empty", Code.FAILED_PRECONDITION)
        device = base.driver.device(call)
        soc = str(simulate.switches().get("soc", "MLU370-S4"))
        have = base.CLUSTERS.get(soc, 8)
        if min(self.header["clusters"]) > have:
            text = "the engine needs {} clusters or more, the card has {}".format(min(self.header["clusters"]), have)
            return shout(call, text, Code.FAILED_PRECONDITION)
        return Engine(self.header, self.graph, device)
