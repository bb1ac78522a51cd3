"""Small logs of the vendors' tools whose figures hang together, in the forms that the tools print."""

from __future__ import annotations


def _spread(mean: float, unit: str) -> str:
    parts = [f"min = {mean * 0.97:g}{unit}", f"max = {mean * 1.05:g}{unit}", f"mean = {mean:g}{unit}"]
    return ", ".join([*parts, f"median = {mean:g}{unit}", f"percentile(99%) = {mean * 1.04:g}{unit}"])


def trtexec(command: str, *, gpu: float = 4.0, rate_times: int = 1, walls: bool = True, stamp: str = "") -> str:
    """A summary of TensorRT 8 to 10. The rate is `rate_times` the queries/s; `stamp` stands before each [I]."""
    copies, wall = 0.5, 3.0
    queries = 0.99 * 1000 / gpu
    lines = [
        "=== Performance summary ===",
        f"Throughput: {queries * rate_times:g} qps",
        f"Latency: {_spread(gpu + 2 * copies, ' ms')}",
        f"Enqueue Time: {_spread(0.3, ' ms')}",
        f"H2D Latency: {_spread(copies, ' ms')}",
        f"GPU Compute Time: {_spread(gpu, ' ms')}",
        f"D2H Latency: {_spread(copies, ' ms')}",
    ]
    if walls:
        lines += [f"Total Host Walltime: {wall:g} s", f"Total GPU Compute Time: {queries * wall * gpu / 1000:g} s"]
    body = [f"{stamp}[I] {line}" for line in lines]
    name = "TensorRT.trtexec [TensorRT v8601] # trtexec " + command
    return "\n".join([f"&&&& RUNNING {name}", *body, f"&&&& PASSED {name}"]) + "\n"


def msame(runs: list[float], *, means: str = "both", listed: bool = True, batch: int = 4, end: bool = True) -> str:
    """`means`: both, all or later."""
    lines = ["[INFO] acl init success", "[INFO] open device 0 success", f"[INFO] load model ./net_bs{batch}.om success"]
    if listed:
        lines += [line for run in runs for line in ("[INFO] model execute success", f"Inference time: {run:g}ms")]
    if means in ("both", "all"):
        lines.append(f"Inference average time: {sum(runs) / len(runs):.6f} ms")
    if means in ("both", "later"):
        lines.append(f"Inference average time without first time: {sum(runs[1:]) / (len(runs) - 1):.6f} ms")
    if end:
        lines += ["[INFO] unload model success, model Id is 1", "[INFO] Execute sample success."]
    return "\n".join(lines) + "\n"


def ais_bench(mean: float = 5.0, batch: int = 8, spread: str | None = None) -> str:
    """`spread`: what stands after `NPU_compute_time (ms): `."""
    spread = _spread(mean, "") if spread is None else spread
    return (
        f"[INFO] open device 0 success\n[INFO] try get model batchsize:{batch}\n"
        "[INFO] -----------------Performance Summary------------------\n"
        f"[INFO] NPU_compute_time (ms): {spread}\n"
        f"[INFO] throughput 1000*batchsize.mean({batch})/NPU_compute_time.mean({mean:g}): {1000 * batch / mean!r}\n"
        "[INFO] ------------------------------------------------------\n"
    )


def pure(
    rate: float, latency: float, form: str = "[INFO] ave_throughputRate: {:g}samples/s, ave_latency: {:g}ms"
) -> str:
    return (
        "[INFO] Dataset number: 19 finished cost 8.1ms\n"
        "[INFO] PureInfer result saved in ./result/PureInfer_perf_of_net_bs8_in_device_1.txt\n"
        "-----------------PureInfer Performance Summary------------------\n"
        + form.format(rate, latency)
        + "\n----------------------------------------------------------------\n"
    )


def benchmark() -> str:
    """Batches of 4; every line's two figures are one."""
    return (
        "[e2e] throughputRate: 200, latency: 100000\n"
        "[data read] throughputRate: 250, moduleLatency: 4\n"
        "[preprocess] throughputRate: 240, moduleLatency: 4.16667\n"
        "[infer] throughputRate: 202, Interface throughputRate: 500, moduleLatency: 3\n"
        "[post] throughputRate: 50.5, moduleLatency: 19.802\n"
    )


def mm_run() -> str:
    return (
        "mm_run --magicmind_model net.magicmind --batch_size 8 --devices 0 --iterations 1000\n"
        "Total iterations:             1000\nHost wall time(s):            16\n"
        "Throughput (qps):             500\n  MLU Compute (Launch jobs) Summary:\n"
        "  Latency(host clock, ms):    min: 15 max: 17 mean: 16 median: 16 percentile: (90%) 16 (95%) 16 (99%) 17\n"
    )


def trtexec_7() -> str:
    return (
        "[I] GPU Compute\n[I] min: 3.9 ms\n[I] max: 4.2 ms\n[I] mean: 4 ms\n[I] median: 4 ms\n"
        "[I] percentile: 4.1 ms at 99%\n[I] total compute time: 3 s\n"
    )


ALL = {
    "benchmark": benchmark(),
    "pure": pure(500, 2),
    "msame": msame([10, 10.1, 9.9]),
    "ais_bench": ais_bench(),
    "mm_run": mm_run(),
    "trtexec_7": trtexec_7(),
    "trtexec": trtexec("--onnx=net.onnx --shapes=image:8x3x4x4", stamp="[11/03/2024-09:12:44] "),
}
"""One of each kind, by name; those that do not say their batch are of batch 8 (benchmark: 4)."""
