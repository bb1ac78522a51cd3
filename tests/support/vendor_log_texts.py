"""What each tool prints for one run."""

# ruff: noqa: E501 - logs and tables stand as they are printed

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


PUBLISHED = tomllib.loads((Path(__file__).parent / "golden" / "vendorlogs.toml").read_text(encoding="utf-8"))
TRT8 = PUBLISHED["regnety_016-t4-bs1"]["text"]
AIS_FOUR = """[INFO] try get model batchsize:16
0:0 device_0 throughput:1000.0 start_time:1.5 end_time:3.5
1:0 device_1 throughput:1010.0 start_time:1.5 end_time:3.5
2:0 device_2 throughput:990.0 start_time:1.5 end_time:3.5
3:0 device_3 throughput:1004.0 start_time:1.5 end_time:3.5
[INFO] summary throughput:4004.0
"""
MM = """mm_run --magicmind_model m.magicmind --batch_size 8 --devices 0 --threads 1 --iterations 1000
=================== Performance Summary
Total iterations:             1000
Host wall time(s):            13.0
Throughput (qps):             615.385 with total batch sizes: 8000 and 76.9231 iterations/second
Input shape group 0: [input: [8, 3, 672, 1024]]
  H2D Summary:
  Latency(host clock, ms):    min: 0.12       max: 1.053      mean: 0.36809    median: 0.326      percentile: (90%) 0.651      (95%) 0.716      (99%) 0.808
  MLU Compute (Launch jobs) Summary:
  Latency(host clock, ms):    min: 12.5       max: 13.9       mean: 12.9       median: 12.8       percentile: (90%) 13.1      (95%) 13.2      (99%) 13.7
"""
TRT10 = """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=m.onnx --fp16 --shapes=image:16x3x224x224
[05/17/2026-15:33:49] [I] Throughput: 128.422 qps
[05/17/2026-15:33:49] [I] Latency: min = 7.9 ms, max = 8.1 ms, mean = 7.96549 ms, median = 7.95 ms, percentile(90%) = 8 ms, percentile(99%) = 8.08 ms
[05/17/2026-15:33:49] [I] Enqueue Time: min = 0.5 ms, max = 0.7 ms, mean = 0.6 ms, median = 0.6 ms, percentile(90%) = 0.6 ms, percentile(99%) = 0.7 ms
[05/17/2026-15:33:49] [I] H2D Latency: min = 0.1 ms, max = 0.1 ms, mean = 0.1 ms, median = 0.1 ms, percentile(90%) = 0.1 ms, percentile(99%) = 0.1 ms
[05/17/2026-15:33:49] [I] GPU Compute Time: min = 7.74 ms, max = 7.89 ms, mean = 7.76549 ms, median = 7.76 ms, percentile(90%) = 7.8 ms, percentile(99%) = 7.88 ms
[05/17/2026-15:33:49] [I] D2H Latency: min = 0.1 ms, max = 0.1 ms, mean = 0.1 ms, median = 0.1 ms, percentile(90%) = 0.1 ms, percentile(99%) = 0.1 ms
[05/17/2026-15:33:49] [I] Total Host Walltime: 3.02128 s
[05/17/2026-15:33:49] [I] Total GPU Compute Time: 3.01301 s
[05/17/2026-15:33:49] [W] * GPU compute time is unstable, with coefficient of variance = 3.1%.
&&&& PASSED TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=m.onnx --fp16 --shapes=image:16x3x224x224
"""
