"""ONNX to .om through the vendor's compiler `atc`: its flags, its AIPP file, its messages; and `aoe`, which tunes.

Flags and their rules: CANN's ATC manual; the published models' own command lines are the pattern. AOE measures variants
of subgraphs and operators on the device and writes the best into a bank; atc reads the bank that TUNE_BANK_PATH names
(CANN's AOE instructions, and its reference of environment variables).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Mapping, Sequence

from harness.backends.ascend._codes import COMPILER_ADVICE
from harness.backends.base import BuildSpec, Normalize, TensorSpec, as_list, scratch, shape_at, trail
from harness.errors import BuildError

AIPP = "aipp.cfg"
KEPT = "keep.cfg"  # names of nodes, a line each, that keep the precision of the ONNX file: --keep_dtype
SUBGRAPHS, OPERATORS = 1, 2  # job types of AOE, which asks for them in this order
NOT_OF_AOE = ("--soc_version", "--op_compiler_cache_mode", "--deterministic")  # it tunes for the device that it runs on
SUCCESS = "ATC run success"
SOURCE = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"
OUTPUT_NAMES = "attr_model_out_nodes_name"  # key in the JSON of an engine
LINES = 30  # of the compiler's output that an error shows
PLAIN = re.compile(r"[\w./-]+")  # tensor names that are safe in --out_nodes, where ; and : are separators


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    """Compile `onnx` to exactly `engine`; the command and all that it printed stay beside it as `<engine>.log`. Raises
    BuildError with the compiler's last lines, the meaning of its error code, and the command to run again."""
    onnx, engine = Path(onnx).absolute(), Path(engine).absolute()
    _refuse_unsupported(spec)
    program = shutil.which("atc")
    if program is None:
        raise BuildError("the compiler atc is not on PATH", hint=SOURCE)
    if not onnx.is_file():
        raise BuildError(f"there is not an ONNX file {onnx}", hint="export the model first")
    files = {AIPP: aipp(spec.normalize, spec.inputs)} if spec.normalize else {}
    kept = as_list(spec.options.get("in_fp32"))
    if kept:
        files[KEPT] = "".join(f"{name}\n" for name in kept)
    # atc leaves files in its working directory, adds .om itself, and refuses some characters in paths: it therefore
    # runs in a temporary directory beside the engine, with fixed file names
    with tempfile.TemporaryDirectory(prefix=".atc-", dir=str(engine.parent)) as folder:
        work = Path(folder)
        _bring(onnx, work / "model.onnx")
        for name, content in files.items():
            (work / name).write_text(content, encoding="utf-8")
        tuning, bank = _tuned(work, spec) if spec.tune else ("", {})
        for chosen in _out_nodes(spec):
            again = _shell(command("atc", str(onnx), "engine", spec, chosen), files)
            status, said = _run(command(program, "model.onnx", "engine", spec, chosen), work, bank)
            if status == 0 or "out_nodes" not in said:
                break
        engine.with_name(engine.name + ".log").write_text(f"{tuning}{again}\n{said}", encoding="utf-8")
        made = sorted(path for path in work.glob("engine*.om") if path.stat().st_size > 0)
        if status != 0 or SUCCESS not in said or len(made) != 1:
            raise _failure(status, said, len(made), again)
        made[0].replace(engine)


def output_names(engine: Path) -> list[str]:
    """The names of an engine's outputs in its order, as the runtime gives them: `atc --mode=1` writes what a .om holds
    as JSON. [] where atc is not on PATH, fails, or writes no names.

    Source of the key: OmParser of github.com/Ascend/msit."""
    program = shutil.which("atc")
    if program is None:
        return []
    with tempfile.TemporaryDirectory(prefix=scratch()) as folder:
        work = Path(folder)
        _bring(Path(engine).absolute(), work / "model.om")
        try:
            _run([program, "--mode=1", "--om=model.om", "--json=model.json"], work, {})
            held = json.loads((work / "model.json").read_text(encoding="utf-8", errors="replace"))
            named = [item["value"]["list"]["s"] for item in held["attr"] if item["key"] == OUTPUT_NAMES]
        except (BuildError, OSError, ValueError, LookupError, TypeError):
            return []
    return [str(name) for name in named[0]] if named else []


def _tuned(work: Path, spec: BuildSpec) -> tuple[str, dict[str, str]]:
    """(what AOE was told and printed, the environment in which atc finds what it learned). Raises BuildError."""
    program = shutil.which("aoe")
    if program is None:
        raise BuildError("aoe is not on PATH, and --tune needs it", hint=f"{SOURCE}; or leave --tune out")
    bank = work / "bank"
    bank.mkdir()
    environment = {"TUNE_BANK_PATH": str(bank), "ASCEND_DEVICE_ID": str(spec.options.get("device", 0))}
    told = ""
    for job in (SUBGRAPHS, OPERATORS):
        words = [
            word for word in command(program, "model.onnx", f"tuned{job}", spec, ()) if not word.startswith(NOT_OF_AOE)
        ]
        status, said = _run([*words, f"--job_type={job}"], work, environment)
        line = _shell(["aoe", *words[1:], f"--job_type={job}"], {})
        told += f"{line}\n{said}"
        if status != 0:
            tail = "\n".join(said.rstrip().splitlines()[-LINES:])
            hint = f"read the message, then see $HOME/ascend/log; or leave --tune out; to see it again: {line}"
            raise BuildError(f"aoe failed with status {status}\n{tail}", hint=hint)
    return told, environment


def _out_nodes(spec: BuildSpec) -> list[list[str]]:
    """What --out_nodes may name, in the order in which it is tried: the ONNX names of the outputs, which are the same
    whatever the exporter calls its nodes; for a release that does not know them, node and output number."""
    nodes = [str(node) for node in as_list(spec.options.get("out_nodes"))]
    plain = all(PLAIN.fullmatch(name) for name in spec.outputs)
    return [*([list(spec.outputs)] if plain or not nodes else []), *([nodes] if nodes else [])]


def command(program: str, onnx: str, output: str, spec: BuildSpec, out_nodes: Sequence[str] | None = None) -> list[str]:
    """The argument list; `output` has no suffix, `out_nodes` are the outputs by the names to be tried, by default the
    first choice. Where the chip normalises it names the file AIPP, where nodes stay in FP32 the file KEPT."""
    nodes = _out_nodes(spec)[0] if out_nodes is None else out_nodes
    sizes = tiers(spec)
    batch = -1 if sizes else spec.batch
    shapes = [
        "{}:{}".format(tensor.name, ",".join(str(dim) for dim in shape_at(tensor, batch))) for tensor in spec.inputs
    ]
    words = [
        program,
        "--framework=5",
        "--model=" + onnx,
        "--output=" + output,
        "--input_format=" + ("NCHW" if all(len(tensor.shape) == 4 for tensor in spec.inputs) else "ND"),
        "--input_shape=" + ";".join(shapes),
        "--soc_version=" + spec.target,
        "--precision_mode=" + str(spec.options.get("precision_mode", "force_fp16")),
        "--log=" + str(spec.options.get("log", "error")),
    ]
    if sizes:
        words.append("--dynamic_batch_size=" + ",".join(str(size) for size in sizes))
    if spec.tune:
        words.append("--op_compiler_cache_mode=disable")  # else what was compiled before is taken as it is
    if nodes:
        words.append("--out_nodes=" + ";".join(nodes))
    if spec.normalize:
        words += ["--insert_op_conf=" + AIPP, "--enable_small_channel=1"]
    if spec.options.get("in_fp32"):
        words.append("--keep_dtype=" + KEPT)
    words += [
        f"--{name}={spec.options[name]}" for name in ("op_select_implmode", "deterministic") if name in spec.options
    ]
    return words


def aipp(normalize: Normalize, inputs: tuple[TensorSpec, ...]) -> str:
    """The AIPP file that makes the chip compute (x - mean) / std on uint8 N x H x W x C.

    Per channel AIPP computes (x - mean_chn - min_chn) * var_reci_chn. mean_chn is a whole number and the other two
    are FP16, so the mean is split: its whole part costs no precision, and of its fraction FP16 loses 2^-12."""
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise BuildError(
            f"the chip can normalise one picture, the model takes {[tensor.shape for tensor in inputs]}",
            hint="build it without normalisation on the chip",
        )
    channels, height, width = inputs[0].shape[1:]
    form = {1: "YUV400_U8", 3: "RGB888_U8"}.get(channels)
    if form is None or len(normalize.mean) != channels or len(normalize.std) != channels:
        raise BuildError(
            f"AIPP takes 1 or 3 channels, not {channels} with means {normalize.mean}, deviations {normalize.std}",
            hint="build it without normalisation on the chip",
        )
    if any(not 0 <= mean < 256 for mean in normalize.mean) or any(std <= 0 for std in normalize.std):
        raise BuildError(
            f"AIPP takes means of 0 to 255 and positive deviations, not {normalize.mean} and {normalize.std}",
            hint="give mean and std in units of uint8 pixels",
        )
    lines = [
        "aipp_op {",
        "    aipp_mode: static",
        "    related_input_rank: 0",
        "    input_format: " + form,
        f"    src_image_size_w: {width}",
        f"    src_image_size_h: {height}",
        "    csc_switch: false",
        "    rbuv_swap_switch: false",
    ]
    for channel, (mean, std) in enumerate(zip(normalize.mean, normalize.std)):
        lines.append(f"    mean_chn_{channel}: {int(mean)}")
        lines.append(f"    min_chn_{channel}: {round(float(mean) - int(mean), 9)!r}")
        lines.append(f"    var_reci_chn_{channel}: {1.0 / float(std)!r}")
    return "\n".join(lines) + "\n}\n"


def _refuse_unsupported(spec: BuildSpec) -> None:
    if spec.precision == "int8":
        raise BuildError(
            "atc does not quantise: INT8 on Ascend needs a model that AMCT has quantised",
            hint="quantise the ONNX file with the Ascend Model Compression Toolkit, or run fp16",
        )
    if spec.precision != "fp16":
        raise BuildError(
            f"the AI cores of the Ascend 310 family multiply in FP16; {spec.precision} is not offered",
            hint="run fp16",
        )
    if not spec.target:
        raise BuildError("the chip's name for --soc_version is not known", hint="look at npu-smi info, column Name")
    if not spec.inputs:
        raise BuildError("the build names no inputs", hint="give the inputs of the ONNX graph")
    if tiers(spec) and spec.batch not in spec.tiers:
        raise BuildError(f"batch {spec.batch} is none of the sizes {list(spec.tiers)}", hint="add it to them")


def tiers(spec: BuildSpec) -> tuple[int, ...]:
    """Dynamic batch sizes in ascending order; one alone is a static batch."""
    return tuple(sorted(set(spec.tiers))) if len(set(spec.tiers)) > 1 else ()


def _shell(words: list[str], files: Mapping[str, str]) -> str:
    """A command for a shell, with the files that it reads."""
    written = [f"cat > {name} <<'END'\n{content}END\n" for name, content in files.items()]
    return "".join(written) + " ".join(shlex.quote(word) for word in words)


def _bring(source: Path, target: Path) -> None:
    try:
        os.link(str(source), str(target))
    except OSError:  # another file system
        shutil.copyfile(str(source), str(target))


def _run(words: list[str], directory: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    name = Path(words[0]).name
    trail(name)
    path = os.pathsep.join([_python_first(directory), os.environ.get("PATH", os.defpath)])
    try:
        done = subprocess.run(
            words, cwd=str(directory), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False, env=dict(os.environ, PATH=path, **environment),
        )  # fmt: skip
    except OSError as error:
        raise BuildError(f"{name} cannot be started: {error}", hint=SOURCE) from error
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _python_first(directory: Path) -> str:
    """Folder whose `python3` is this interpreter, the SDK's. atc runs the first `python3` on PATH for its operator
    compiler, which imports decorator, sympy and others; in a terminal that is the suite's own environment."""
    own = Path(sys.executable)
    usual = own.with_name("python3")
    if usual.exists() and usual.resolve() == own.resolve():
        return str(own.parent)
    folder = directory / "bin"
    if not folder.exists():
        folder.mkdir()
        script = folder / "python3"  # not a link: beside a link an environment's own packages are not found
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(own))} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return str(folder)


HAL = "libascend_hal.so"  # of the driver, not of the toolkit; atc does not start without it


def _failure(status: int, said: str, made: int, again: str) -> BuildError:
    code = error_code(said)
    if status < 0:
        what = f"atc was killed by signal {-status}"
    elif status != 0 or SUCCESS not in said:
        what = "atc failed with status {}{}".format(status, ": " + code if code else "")
    else:
        what = f"atc reports success but left {made} engines"
    tail = "\n".join(said.rstrip().splitlines()[-LINES:])
    advice = COMPILER_ADVICE.get(code or "", "read the compiler's message, then see $HOME/ascend/log")
    if code is None and HAL in said:
        advice = (
            f"the driver is not here: map /usr/local/Ascend/driver into the container, or put {HAL} on LD_LIBRARY_PATH"
        )
    return BuildError(f"{what}\n{tail}", hint=f"{advice}; to see it again: {again}")


def error_code(said: str) -> str | None:
    """The error code that the compiler printed, such as E10016, or None: the first that is not one for inner errors,
    which only say that something went wrong. Old releases print `E10016: text`, newer ones
    `[PID: 7] 2026-03-18-09:02:18.501.341 Invalid_Argument(E10016): text`."""
    front = r"^\s*(?:\[[^\]\n]*\]\s*)*(?:\d{4}-\d\d-\d\d[-\d:. ]*\s)?"
    pattern = front + r"(?:(E[A-Z0-9]\d{4})\b|\w[^\n:()]*\((E[A-Z0-9]\d{4})\)\s*:)"
    codes = [old or new for old, new in re.findall(pattern, said, re.MULTILINE)]
    return next((code for code in codes if not code.endswith("9999")), codes[0] if codes else None)
