"""The suite's throughput loop costs nothing: within 1 % of a bare `session.run` loop on ONNX Runtime.

Both loops run the same engine in this process on the calling thread, window by window in turn, in both orders. The
median of the paired ratios is judged, in CPU time: neither loop waits for anything, and CPU time leaves out when the
machine did something else. The ratio in wall time is printed beside it.
"""

import time
from statistics import median

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.backends.base import BuildSpec, Device, TensorSpec
from harness.backends.cpu import ort
from harness.judge.timing import Plan, measure

BAR = 0.01
PAIRS = 40
PLAN = Plan(warmup_s=0.0, window_s=0.05, windows=1, latencies=0)


def model(path, layers=6, channels=24, size=48):
    """A stack of convolutions, a few milliseconds long on one core."""
    draw = np.random.default_rng(0)
    shapes = [(channels, 3 if layer == 0 else channels, 3, 3) for layer in range(layers)]
    weights = [draw.normal(0, 0.1, shape).astype(np.float32) for shape in shapes]
    names = ["image", *(f"x{layer}" for layer in range(layers))]
    nodes = [
        helper.make_node("Conv", [names[n], f"w{n}"], [names[n + 1]], f"conv{n}", pads=[1, 1, 1, 1])
        for n in range(layers)
    ]
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, ["batch", channels, size, size])],
        [numpy_helper.from_array(value, f"w{n}") for n, value in enumerate(weights)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), str(path))
    return names[-1], size


@pytest.mark.benchmark
def test_the_throughput_loop_is_within_one_percent_of_a_bare_loop(tmp_path):
    output, size = model(tmp_path / "stack.onnx")
    inputs = (TensorSpec("image", "float32", (-1, 3, size, size)),)
    spec = BuildSpec("fp32", 1, inputs, (output,), options={"threads": 1})
    ort.build(tmp_path / "stack.onnx", tmp_path / "engine", spec)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    bare = onnxruntime.InferenceSession(tmp_path / "engine", options, providers=["CPUExecutionProvider"])
    feed = {"image": np.random.default_rng(1).normal(0, 1, (1, 3, size, size)).astype(np.float32)}

    def bare_loop(times):
        for _ in range(times):
            bare.run(None, feed)

    with ort.load(tmp_path / "engine", Device(0, "cpu"), spec) as session:
        session.write(feed)
        ratios = {time.process_time: [], time.perf_counter: []}
        for pair in range(PAIRS):
            for clock, found in ratios.items():
                loops = [session.execute, bare_loop] if pair % 2 else [bare_loop, session.execute]
                rates = {loop: measure(loop, PLAN, clock).rates[0] for loop in loops}
                found.append(rates[bare_loop] / rates[session.execute])
        same = session.read()[output]

    assert np.array_equal(same, bare.run(None, feed)[0]), "the two loops did not run the same engine"
    overhead, wall = (median(found) - 1 for found in ratios.values())
    print(f"overhead {overhead:+.3%} (wall time {wall:+.3%}), {1e3 / rates[bare_loop]:.2f} ms an execute")
    assert overhead <= BAR, f"the suite's loop costs {overhead:.2%} more than a bare session.run loop"
