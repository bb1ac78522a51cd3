"""chipproof fetch: where weights and data sets come from, and the download of what has a published digest.

urllib and not pooch: pooch 1.9 begins an interrupted download anew, and needs requests."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import UsageError, WeightsError
from harness.store import whole_file
from tools.language import say

if TYPE_CHECKING:
    from harness.models.base import Model, Weights

SETS: dict[str, tuple[tuple[str, ...], str]] = {
    "imagenet": (("https://image-net.org/download.php",), "ILSVRC2012 validation images; an account is needed"),
    "widerface": (
        ("http://shuoyang1213.me/WIDERFACE/", "https://github.com/biubug6/Pytorch_Retinaface"),
        "WIDER_val.zip; the four .mat files lie in widerface_evaluate/ground_truth",
    ),
    "coco": (("https://cocodataset.org/#download",), "val2017.zip and annotations_trainval2017.zip"),
    "peta": (
        ("http://mmlab.ie.cuhk.edu.hk/projects/PETA.html", "https://gitee.com/ascend/ModelZoo-PyTorch"),
        "19,000 images; label.json, which names 7,600 of them: Deepmar_for_Pytorch",
    ),
}
"""Data set -> (addresses, what to take from them). A person must agree to their terms: they are not downloaded here."""

TIMEOUT_S = 30
CHUNK = 1 << 20
MOST = 1_000_000_000  # bytes that a checkpoint may have
RANGE_NOT_SATISFIABLE = 416
SLOW_S, SLOWEST = 60.0, 1000.0  # after so many seconds, fewer bytes a second are a broken line


def command(
    names: Annotated[list[str] | None, typer.Argument(help="models and data sets; default: all")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", envvar="CHIPPROOF_DATA", help="folder with weights/, imagenet/, ...")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="fetch weights that have a published digest")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the rows as JSON")] = False,
) -> None:
    """Say where the weights and data sets of NAMES come from and where they belong; with --download, fetch weights
    whose digest is published and check them."""
    from harness import matrix

    rows = {name: model for name, model in matrix.models().items() if not names or name in names}
    sets = {name: source for name, source in SETS.items() if not names or name in names}
    unknown = sorted(set(names or ()) - set(rows) - set(sets))
    if unknown:
        raise UsageError(f"{unknown[0]!r} is neither a model nor a data set", hint=", ".join((*matrix.models(), *SETS)))
    if download and names and sets:
        name, ((url, *_), _) = next(iter(sets.items()))
        raise UsageError(
            f"{name} is not downloaded: its owners ask a person to agree to their terms",
            hint=f"fetch it by hand from {url}; chipproof fetch {name} says what belongs where",
        )
    if download and data is None:
        raise UsageError("there is no folder to download into", hint="give --data DIR, or set CHIPPROOF_DATA")
    if download and data is not None:
        _fetch_all(list(rows.values()), data, asked=bool(names))
    table = [_model_row(model, data) for model in rows.values()] + [
        {"name": name, "kind": "data set", "state": _set_state(name, data), "url": url, "also": also, "what": what,
         "belongs": f"DATA/{name}/", "digest": None}
        for name, ((url, *also), what) in sets.items()
    ]  # fmt: skip
    if as_json:
        print(json.dumps(table, ensure_ascii=False, indent=1))
        return
    _show(table)


def _model_row(model: Model, data: Path | None) -> dict[str, Any]:
    from harness.reference.weights import find

    weights = model.weights
    found = "no --data" if data is None else state(weights, find(model, data))
    digest = f"sha256 {weights.sha256}" if weights.sha256 else f"md5 {weights.md5}" if weights.md5 else None
    return {
        "name": model.name, "kind": "weights", "state": found, "url": weights.url, "also": [],
        "what": " / ".join(weights.files), "belongs": f"DATA/weights/{weights.files[0]}", "digest": digest,
    }  # fmt: skip


def _set_state(name: str, data: Path | None) -> str:
    if data is None:
        return "no --data"
    return "here" if (data / name).is_dir() else "missing"


STATES = ("no --data", "missing", "here", "here, no digest published", "here, digest right", "here, digest WRONG")


def state(weights: Weights, path: Path | None) -> str:
    """State of the checkpoint at `path` for the table: "missing", or "here" and whether its digest is right."""
    if path is None:
        return "missing"
    if not (weights.sha256 or weights.md5):
        return "here, no digest published"
    return "here, digest right" if _right(weights, path) else "here, digest WRONG"


def _right(weights: Weights, path: Path) -> bool:
    found = hashlib.sha256() if weights.sha256 else hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest() == (weights.sha256 or weights.md5)


def _show(table: list[dict[str, Any]]) -> None:
    """A block a row. Addresses and paths stand on lines of their own and are never broken, so that they can be
    copied whole whatever the width of the terminal."""
    for row in table:
        say(f"{row['name']}: {row['state']}\n  {row['what']}")
        print(row["url"], *row["also"], sep="\n")
        print(f"-> {row['belongs']}\n")


def _fetch_all(models: list[Model], data: Path, asked: bool) -> None:
    """Download each missing checkpoint that has a digest. Raises WeightsError; files downloaded before stay."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.reference.weights import find

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for model in models:
            weights, path = model.weights, data / "weights" / model.weights.files[0]
            here = find(model, data)
            if here is not None and (_right(weights, here) or not (weights.sha256 or weights.md5)):
                continue
            if here is not None:
                raise WeightsError(f"{here} is not the published file: its digest differs", hint="move it away")
            if not (weights.sha256 or weights.md5):
                if asked:
                    raise WeightsError(
                        f"no digest of {path.name} is published, so it is not downloaded automatically",
                        hint=f"fetch it by hand from {weights.url} to {path}",
                    )
                continue
            task = progress.add_task(path.name, total=None)

            def tell(done: int, total: int | None, task: Any = task) -> None:
                progress.update(task, completed=done, total=total)

            fetch(weights, path, tell)


def fetch(weights: Weights, path: Path, tell: Callable[[int, int | None], None] = lambda done, total: None) -> None:
    """Download to `path`. What an earlier download left in `path`.part is gone on from. Raises WeightsError when it is
    incomplete, and leaves the part; when it has another digest, or is more than any checkpoint, leaves nothing."""
    from http.client import HTTPException
    from urllib.error import URLError

    by_hand = f"fetch it by hand from {weights.url} to {path}"
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (part.is_file() and _right(weights, part)):
            _download(weights.url, part, by_hand, tell)
        if not _right(weights, part):
            part.unlink()
            raise WeightsError(f"what {weights.url} gave is not the published file: its digest differs", hint=by_hand)
        with whole_file(path) as beside:
            part.replace(beside)
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        size = part.stat().st_size if part.is_file() else 0
        hint = f"run it again: it resumes after {size} bytes; or {by_hand}" if size else by_hand
        raise WeightsError(f"{weights.url} cannot be fetched: {reason}", hint=hint) from error


def _download(url: str, part: Path, by_hand: str, tell: Callable[[int, int | None], None]) -> None:
    """Bring `part` to its end: what it has is not asked for again (RFC 9110, 14.2), unless the publisher gives all of
    it. Raises WeightsError for too much, too slowly or too little."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    have = part.stat().st_size if part.is_file() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not have:
            raise
        part.unlink()  # there is no more of it, and it is not the file
        return _download(url, part, by_hand, tell)
    goes_on = (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
    have = have if goes_on else 0
    with answer, part.open("ab" if goes_on else "wb") as file:
        length = answer.headers.get("Content-Length")
        total, done = have + int(length) if length else None, have
        begun = time.monotonic()
        while chunk := answer.read1(CHUNK):  # what has come: a drip would keep read() for ever
            file.write(chunk)
            done += len(chunk)
            tell(done, total)
            seconds = time.monotonic() - begun
            if max(done, total or 0) > MOST:
                part.unlink()
                raise WeightsError(f"{url} gives more than {MOST / 1e6:.0f} MB, no checkpoint", hint=by_hand)
            if seconds > SLOW_S and (done - have) / seconds < SLOWEST:
                rate = (done - have) / seconds
                raise WeightsError(f"{url} gives {rate:.0f} bytes/s: {done - have} in {seconds:.0f} s", hint=by_hand)
    if total is not None and done != total:
        raise WeightsError(
            f"{url} stopped after {done} of {total} bytes", hint=f"run it again: it resumes after {done} bytes"
        )
    return None
