"""New weights for an engine that was built with REFIT or without weights (STRIP_PLAN): Refitter, OnnxParserRefitter."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from simulated_gpu import compiled, gpu

from tensorrt._build import ParserError, finished, refused
from tensorrt._kinds import Listed, Scoped, Severity, TensorLocation, kind_of, loggable, major
from tensorrt._layers import Weights, WeightsRole, values_of


class Refitter(Scoped):
    """By name: a constant of the ONNX graph, or "LAYER ROLE" of a layer that a program added."""

    def __init__(self, engine, logger):
        self.logger = loggable(logger)
        self._engine = engine
        self.max_threads, self.weights_validation, self.error_recorder = 1, True, None
        held = engine.header.get("refit")
        if refused("trt.Refitter", self.logger) or held is None:
            self._say("the engine was not built with BuilderFlag.REFIT or STRIP_PLAN")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        import onnx

        self._source = onnx.load_from_string(base64.b64decode(held["source"]))
        self._constants = {tensor.name: tensor for tensor in self._source.graph.initializer}
        self._missing = set(self._constants) if held["stripped"] else set()
        self._given = {}

    def _say(self, text):
        self.logger.log(Severity.ERROR, f"4: [refit.cpp] Error Code 4: API Usage Error ({text})")
        return False

    def get_all_weights(self):
        return list(self._constants)

    def get_missing_weights(self):
        return sorted(self._missing - set(self._given))

    def _by_role(self, names):
        pairs = [name.rpartition(" ") for name in names]
        roles = WeightsRole.__members__
        named = [(layer, roles[role]) if role in roles else (layer + space + role, WeightsRole.ANY)
                 for layer, space, role in pairs]  # fmt: skip
        return [layer for layer, _ in named], [role for _, role in named]

    def get_all(self):
        return self._by_role(self.get_all_weights())

    def get_missing(self):
        return self._by_role(self.get_missing_weights())

    def get_weights_prototype(self, weights_name):
        tensor = self._constants.get(weights_name)
        if tensor is None:
            return Weights()
        made = Weights(kind_of(compiled.numpy_name(tensor.data_type)))
        made.size = int(np.prod(list(tensor.dims), dtype=np.int64))
        return made

    def set_weights(self, layer_name, role, weights):
        name = layer_name if role == WeightsRole.ANY else f"{layer_name} {WeightsRole(role).name}"
        return self.set_named_weights(name, weights)

    def set_named_weights(self, name, weights, location=TensorLocation.HOST):
        """Values in device memory are read when the engine is refitted."""
        if refused("trt.Refitter.set_named_weights", self.logger):
            return False
        if name not in self._constants:
            return self._say(f"there are no weights {name}")
        weights = weights if isinstance(weights, Weights) else Weights(weights)
        wanted = self.get_weights_prototype(name)
        if (weights.size, weights.dtype) != (wanted.size, wanted.dtype):
            return self._say(
                f"{name} has {wanted.size} values of {wanted.dtype}, not {weights.size} of {weights.dtype}"
            )
        if location == TensorLocation.DEVICE and gpu.find(int(weights._address), weights.nbytes, "weights") is None:
            return self._say(f"{name} is not in device memory")
        self._given[name] = (weights, location)
        return True

    def get_named_weights(self, weights_name):
        return self._given[weights_name][0] if weights_name in self._given else Weights()

    def get_weights_location(self, weights_name):
        return self._given[weights_name][1] if weights_name in self._given else TensorLocation.HOST

    def unset_named_weights(self, weights_name):
        return self._given.pop(weights_name, None) is not None

    def refit_cuda_engine(self):
        if refused("trt.Refitter.refit_cuda_engine", self.logger):
            return False
        missing = self.get_missing_weights()
        if missing:
            return self._say(f"weights are missing: {missing[0]} and {len(missing) - 1} more")
        from onnx import numpy_helper

        for name, (weights, _) in self._given.items():
            tensor = self._constants[name]
            values = np.array(values_of(weights)).reshape(list(tensor.dims))
            tensor.CopyFrom(numpy_helper.from_array(values, name))
        self._missing.clear()
        model = type(self._source)()
        model.CopyFrom(self._source)
        self._engine.refitted(finished(model, self._engine.header["refit"]).SerializeToString())
        return True

    def refit_cuda_engine_async(self, stream_handle):
        return self.refit_cuda_engine()


class OnnxParserRefitter(Listed):
    """Gives a Refitter the constants of another ONNX file (from 10)."""

    def __init__(self, refitter, logger):
        self._refitter, self._log, self._errors = refitter, loggable(logger), []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index):
        return self._errors[index]

    def clear_errors(self):
        self._errors = []

    def refit_from_file(self, model):
        if not Path(model).is_file():
            self._errors.append(ParserError("MODEL_DESERIALIZE_FAILED", f"could not open file {model}"))
            return False
        return self.refit_from_bytes(Path(model).read_bytes(), model)

    def refit_from_bytes(self, model, path=None):
        import onnx
        from onnx import numpy_helper

        try:
            found = onnx.load_from_string(bytes(model))
            if path is not None:
                onnx.load_external_data_for_model(found, str(Path(path).parent))
        except Exception as error:
            self._errors.append(ParserError("MODEL_DESERIALIZE_FAILED", type(error).__name__))
            return False
        given = {tensor.name: tensor for tensor in found.graph.initializer}
        for name in self._refitter.get_all_weights():
            if name not in given or not self._refitter.set_named_weights(name, numpy_helper.to_array(given[name])):
                self._errors.append(ParserError("REFIT_FAILED", f"no weights {name} of the same shape and type"))
                return False
        return True


def parser_refitter():
    return OnnxParserRefitter if major() >= 10 else None


__all__ = ["OnnxParserRefitter", "Refitter", "parser_refitter"]
