"""chipproof preprocess: pictures become the .bin and .info files that benchmark, msame and ais_bench read."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import DataError, StoreError, UsageError
from tools.language import say

if TYPE_CHECKING:
    from harness.arrays.images import Decoder
    from harness.datasets.base import Sample
    from harness.models.base import Model, Protocol

DECODERS: dict[str, Decoder] = {"imagenet": "pillow", "peta": "pillow"}
"""By data set, where its authors do not read with OpenCV."""

DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="CHIPPROOF_DATA", help="folder with imagenet/, widerface/, ...")
]
ChipOption = Annotated[str | None, typer.Option(help="prepare as for this chip's published figures")]
ProtocolOption = Annotated[str | None, typer.Option(help="by name instead of by chip: ascend, mlu")]


def command(
    model: Annotated[str, typer.Argument(help="name of the model, as in its marker")],
    out: Annotated[Path, typer.Option(help="folder to make; it must not hold anything yet")],
    images: Annotated[Path | None, typer.Option(help="any folder of pictures; default: the data set of --data")] = None,
    data: DataOption = None,
    chip: ChipOption = None,
    protocol: ProtocolOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print what was written as JSON")] = False,
) -> None:
    """Write OUT/prep/NAME.bin for every picture, and OUT/MODEL.info, their list; for RetinaFace as on the Ascend also
    OUT/prep_info/NAME.bin, the scale. Pixels are uint8 where the chip normalises, else float32."""
    row, chosen, raw = choose(model, chip, protocol)
    samples, kind = _samples(row, images, data)
    _write_all(row, chosen, raw, samples, out)
    shape = (*chosen.size, 3) if raw else (3, *chosen.size)
    facts = {
        "model": model, "protocol": chosen.name, "images": len(samples), "kind": kind,
        "dtype": "uint8" if raw else "float32", "shape": list(shape), "prep": str(out / "prep"),
        "info": str(out / f"{model}.info"), "prep_info": str(out / "prep_info") if scales(row, chosen) else None,
    }  # fmt: skip
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
        return
    say(f"{len(samples)} files ({kind}), {facts['dtype']} {'x'.join(map(str, shape))}, protocol {chosen.name}")
    print("\n".join(str(facts[key]) for key in ("prep", "info", "prep_info") if facts[key]))


def choose(model: str, chip: str | None, protocol: str | None) -> tuple[Model, Protocol, bool]:
    """The model's row, its protocol, and whether the chip is fed raw uint8 pixels under it. Raises UsageError."""
    from harness import matrix

    row = matrix.model(model)
    if chip is not None:
        matrix.chip(chip)
    if chip is not None and protocol is not None:
        raise UsageError("--chip and --protocol both name a protocol", hint="give one of them")
    named = {each.name: each for each in row.protocols}
    if protocol is not None and protocol not in named:
        raise UsageError(f"{model} has no protocol {protocol!r}", hint=f"protocols: {', '.join(named)}")
    found = named[protocol] if protocol is not None else row.protocol(chip) if chip is not None else row.protocols[0]
    return row, found, chip in found.normalized_by_chip if chip is not None else bool(found.normalized_by_chip)


def scales(model: Model, protocol: Protocol) -> bool:
    """Whether the published post-processing wants a file with each picture's scale."""
    return model.task == "faces" and protocol.name == "ascend"


def bin_name(sample_id: str) -> str:
    """Name of a sample's .bin file, without ending."""
    return sample_id.rpartition("/")[2]


def _samples(model: Model, images: Path | None, data: Path | None) -> tuple[list[Sample], str]:
    """What to prepare, and whether it is the whole data set, part of it, or a folder of its own."""
    from harness import datasets

    if images is not None:
        return _pictures(images, DECODERS.get(model.dataset, "opencv")), "a folder of pictures"
    if data is None:
        raise UsageError("there are no pictures to prepare", hint="give --images DIR, or --data DIR with the data set")
    dataset = datasets.load(model.dataset, data)
    kind = "whole data set" if dataset.kind == "whole" else f"part of the {dataset.total} of {dataset.name}"
    return list(dataset.samples), kind


def _pictures(folder: Path, decoder: Decoder) -> list[Sample]:
    """Pictures in a folder and those below it, in the order of their names."""
    from harness.arrays.images import read
    from harness.datasets.base import Sample
    from harness.datasets.files import SUFFIXES, utf8

    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", hint="give a folder of pictures")
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    for path in paths:
        utf8(path)
    if not paths:
        raise DataError(f"there is no picture in {folder}", hint=f"endings: {', '.join(sorted(SUFFIXES))}")
    return [
        Sample((path.parent.relative_to(folder) / path.name.split(".")[0]).as_posix(), partial(read, path, decoder))
        for path in paths
    ]


def _write_all(model: Model, protocol: Protocol, raw: bool, samples: list[Sample], out: Path) -> None:
    """Everything under `out`, or nothing. Raises DataError (a picture, named) and StoreError (the disk)."""
    from harness.datasets.stream import stream
    from harness.vendor import files

    place = out.resolve()
    _check(samples, place, protocol, raw)
    staged = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        (staged / "prep").mkdir(parents=True)
        with progress(f"{model.name} ({protocol.name})", len(samples)) as advance:
            for _ in stream(samples, partial(_write_one, model, protocol, raw, staged)):
                advance()
        height, width = protocol.size
        files.write_info(
            staged / f"{model.name}.info",
            [files.Entry(str(place / "prep" / f"{bin_name(s.id)}.bin"), width, height) for s in samples],
        )
        if place.exists():
            place.rmdir()
        staged.replace(place)
    except OSError as error:
        raise StoreError(f"{place} cannot be written: {error}", hint="give --out another folder") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _check(samples: list[Sample], place: Path, protocol: Protocol, raw: bool) -> None:
    """Refuse before the first picture what would fail after the last."""
    import numpy as np

    from harness.datasets.files import utf8

    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"{place} is there already", hint="give --out a new or an empty folder")
    utf8(place)
    if any(blank in str(place) for blank in " \t\n"):
        raise UsageError(
            f"{place} has a blank, at which the tools split an .info file", hint="give --out another folder"
        )
    seen: dict[str, str] = {}
    for sample in samples:
        name = bin_name(sample.id)
        if name in seen:
            raise DataError(f"{seen[name]} and {sample.id} would both be {name}.bin", hint="rename one of them")
        if any(blank in name for blank in " \t\n"):
            raise DataError(f"the picture {sample.id!r} has a blank, at which an .info file splits", hint="rename it")
        seen[name] = sample.id
    needed = len(samples) * int(np.prod(protocol.size)) * 3 * (1 if raw else 4)
    parent = next(folder for folder in place.parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise StoreError(
            f"{len(samples)} pictures need {needed / 1e9:.1f} GB, {parent} has {free / 1e9:.1f} GB free",
            hint="free space there, or give --out another disk",
        )


def _write_one(model: Model, protocol: Protocol, raw: bool, staged: Path, sample: Sample) -> None:
    import numpy as np

    prepared = protocol.preprocess(sample.read(), raw)
    (staged / "prep" / f"{bin_name(sample.id)}.bin").write_bytes(np.ascontiguousarray(prepared.tensor).tobytes())
    if scales(model, protocol):
        path = staged / "prep_info" / f"{sample.id}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(np.float32(prepared.frame.scale[0]).tobytes())


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """How far the work is, on standard error; call what it yields once a step."""
    from harness.report.progress import Shown

    shown = Shown(sys.stderr)
    advance = shown(what, total)
    try:
        yield lambda: advance(1)
    finally:
        shown.clear()
