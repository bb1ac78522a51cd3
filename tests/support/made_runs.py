"""Records of runs that never ran: the whole matrix with failures where a test wants them."""

import math
from dataclasses import replace

import numpy as np

from harness import matrix
from harness.case import Case
from harness.report.records import Record, Run

HEADER = {
    "time": "2026-01-01T00:00:00Z", "host": "lab", "platform": "Linux", "processor": "P", "cores": 2, "python": "3.11",
    "seconds": 12.5, "packages": {"torch": "2.5", "onnxruntime": "1.18"},
    "options": {"data": "None", "limit": "None", "device": "None", "simulate": "True", "runner": "None"},
}  # fmt: skip
ALL = len(matrix.cases())
LOST = "device 0 was lost: acl.rt.synchronize_stream gave 507018 after 12.3 ms"


def timed(case, measured, outcome="PASS", text="fast enough", published=None, half=0.01, **more):
    values = {"measured": measured, "low": measured * (1 - half), "high": measured * (1 + half),
              "latency": case.batch / measured, **more}  # fmt: skip
    if published is not None:
        values |= {"published": published, "ratio": measured / published}
    latencies = {f"latency_{name}_us": 1e6 * case.batch / measured * factor
                 for name, factor in (("p50", 1.0), ("p90", 1.02), ("p99", 1.1), ("p999", 1.5))}  # fmt: skip
    facts = {"backend": "acl", "against": "published" if published else "-"}
    return Record(case, "throughput", outcome, text, "", {**values, **latencies}, ("simulated",), facts)


def agreed(case, metric, outcome="PASS", drop=0.001, text="agrees"):
    values = {"measured": 0.77, "reference": 0.771, "drop": drop, "low": drop - 0.002, "high": drop + 0.003}
    return Record(case, "accuracy", outcome, text, metric, values, ("simulated", "scenes"), {"images": 96})


def whole_matrix(cases=None, broken=True):
    """Every case at every stage. Three causes when `broken`: a lost device, wrong outputs, a throughput too low."""
    records = []
    for case in matrix.cases() if cases is None else cases:
        lost = broken and case.chip == "ascend310" and case.batch == 16
        wrong = broken and (case.chip, str(case.precision)) == ("mlu370_x4", "int8")
        slow = broken and case.chip == "t4" and case.batch == 64
        records.append(Record(case, "export", "PASS", "opset 11", "", {}, ("simulated",)))
        if lost:
            facts = {"next": "npu-smi info: look whether device 0 is healthy"}
            records += [Record(case, stage, "ERROR", LOST, "", {}, ("simulated",), facts)
                        for stage in ("numerics", "accuracy", "throughput")]  # fmt: skip
            continue
        text = f"cosine 0.9{case.batch:02d}, largest error 0.3; asked cosine >= 0.97; worst of 2 outputs"
        records.append(Record(case, "numerics", "FAIL" if wrong else "PASS", text, "", {}, ("simulated",)))
        records += [agreed(case, metric) for metric in matrix.models()[case.model].metrics]
        bound = 1000.0 + case.batch
        text = f"{bound / 2:.1f} images/s, 0.500 of the published {bound} (doc, 1.{case.batch}); asked at least 950"
        records.append(timed(case, bound / (2 if slow else 0.9), "FAIL" if slow else "PASS", text, bound))
    return records


def run_of(records, asked=None, **header):
    cases = {record.case for record in records}
    return Run({"kind": "header", **HEADER, **header}, tuple(records), {"asked": asked or len(cases), "stopped": ""})


SERIES = Case.parse("regnety_016-ascend310p-fp16-bs16")


def past(values, versions=None, noise=0.01, seed=0, **header):
    """Runs of one case day after day, with those throughputs and some noise."""
    chance = np.random.default_rng(seed)
    runs = []
    for day, value in enumerate(values):
        facts = {"version": versions[day]} if versions else {}
        record = Record(SERIES, "throughput", "PASS", "x", "", {"measured": value * math.exp(chance.normal(0, noise))},
                        (), facts)  # fmt: skip
        runs.append(run_of([record], time=f"2026-01-{day + 1:02d}T00:00:00Z", **header))
    return runs


def heavy(records):
    """With as many facts as a real record has."""
    facts = {"backend": "acl", "engine": "a" * 64, "version": "CANN 7.0.0 " * 8, "device": "Ascend310P3 " * 6}
    return [
        replace(r, facts={**facts, **r.facts, "digest": f"{i:064x}", "own": "b" * 400}) for i, r in enumerate(records)
    ]
