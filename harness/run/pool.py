"""Images prepared by processes: on many cores threads would wait for Python's lock, which preparing holds for a part.

Each child is a Python of its own that reads and prepares. Tensors pass through memory that it shares with the run, and
what is to be kept it writes into a file of its own; neither has a name, so that nothing is left of them. Only names and
places pass through its socket. When the run ends, however it does, the socket is closed, and the child ends after the
images at hand.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import subprocess
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, reduction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.case import Image
from harness.datasets.base import Sample
from harness.errors import DataError
from harness.models.base import Frame, Prepared

AHEAD = 4  # groups of images that each process may have prepared, or is told to prepare, before the caller takes them
GROUP, GROUP_BYTES = 8, 2**22  # images that are sent together at most: small ones, so that words cost little
ENVIRONMENT = {
    **{f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "NUMBA")},
    # what one image gave back serves the next: glibc would have each page of it from the system anew (mallopt(3))
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}
CHILD = "import sys; sys.path[:] = sys.argv[2:]; from harness.run.pool import serve; serve(int(sys.argv[1]))"
Preprocess = Callable[[Image, bool], Prepared]
Place = tuple[int, int]  # descriptor, offset in bytes


class _There(Exception):  # noqa: N818 - shown as the cause of an error
    """An image, and the traceback in the process that prepared it."""

    def __str__(self) -> str:
        return "\n".join(self.args)


@dataclass(frozen=True)
class _Group:
    """What a child made of a few samples: tensors end to end in a piece of shared memory, whose descriptor follows when
    it is `fresh`; and from `offset` of its file, where they are kept."""

    made: list[tuple[tuple[int, ...], np.dtype[Any], Frame]]
    piece: int
    fresh: bool
    offset: int | None
    error: BaseException | None = None  # of the sample after the last that was made
    trace: str = ""


@dataclass(frozen=True)
class _Child:
    process: subprocess.Popen[bytes]
    link: connection.Connection
    file: int | None
    pieces: list[mmap.mmap] = field(default_factory=list)  # of the memory that it shares
    free: list[int] = field(default_factory=list)  # those whose tensors are not used any more, and it is not yet told


def can(preprocess: Preprocess, samples: Sequence[Sample]) -> bool:
    """Whether this system and these functions, by the first sample's, are such that another process can take over."""
    try:
        sent = pickle.dumps((preprocess, samples[0].read))
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return hasattr(os, "memfd_create") and b"__main__" not in sent


def prepared(
    samples: Sequence[Sample], preprocess: Preprocess, raw: bool, files: Sequence[int | None], room: float, size: int
) -> Generator[tuple[Prepared, Place | None], None, None]:
    """preprocess(sample.read(), raw) of each sample in order, computed ahead by a process for each of `files`, and
    where its tensor is kept: each process appends at most `room` bytes to its file, and keeps nothing without a file,
    beyond the room, or when the disk is full. `size`: bytes of a tensor, about. Tensors cannot be written to.

    Raises what preparing raises, in the place of its sample, and DataError when a process ends."""
    count = max(1, min(GROUP, GROUP_BYTES // size))
    groups = [samples[begin : begin + count] for begin in range(0, len(samples), count)]
    children: list[_Child] = []
    try:
        for file in files[: len(groups)]:
            children.append(_started(file, preprocess, raw, room))
        sent = 0
        for number, group in enumerate(groups):
            while sent < min(len(groups), number + AHEAD * len(children)):
                child = children[sent % len(children)]
                free = [child.free.pop() for _ in range(len(child.free))]  # a thread may append meanwhile
                _send(child, (free, [sample.read for sample in groups[sent]]))
                sent += 1
            yield from _taken(children[number % len(children)], [sample.id for sample in group])
    finally:
        for child in children:  # they hold nothing that would have to be given back
            child.process.kill()
            child.link.close()
        for child in children:
            child.process.wait()


def _started(file: int | None, preprocess: Preprocess, raw: bool, room: float) -> _Child:
    ours, theirs = connection.Pipe()
    given = (theirs.fileno(), *([] if file is None else [file]))
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(theirs.fileno()), *sys.path],
            stdin=subprocess.DEVNULL,
            pass_fds=given,
            start_new_session=True,  # Ctrl-C is the run's, which ends the children
            env={**os.environ, **ENVIRONMENT},
        )
    except OSError as error:
        raise DataError(
            f"no process can be started to prepare images: {error.strerror}", "allow more processes with ulimit -u"
        ) from error
    finally:
        theirs.close()
    child = _Child(process, ours, file)
    plain = [row for row in warnings.filters if row[2].__module__ == "builtins"]  # others would have to be imported
    _send(child, (plain, preprocess, raw, file, room))
    return child


def _send(child: _Child, what: object) -> None:
    try:
        child.link.send(what)
    except OSError:  # it has ended: told where its next answer is awaited, after all that it answered before
        return


def _taken(child: _Child, names: Sequence[str]) -> Iterator[tuple[Prepared, Place | None]]:
    try:
        group: _Group = child.link.recv()
        tensors, place = _mapped(child, group), group.offset
    except (EOFError, ConnectionError) as error:
        raise _lost(child.process, names) from error
    for tensor, (_, _, frame) in zip(tensors, group.made, strict=True):
        kept = None if place is None or child.file is None else (child.file, place)
        place = None if place is None else place + tensor.nbytes
        yield Prepared(tensor, frame), kept
    if group.error is not None:
        raise group.error from _There(names[len(group.made)], group.trace)


def _lost(process: subprocess.Popen[bytes], names: Sequence[str]) -> DataError:
    process.kill()  # one that closed its socket and did not end; the status of an ended one stays
    status = process.wait()
    what = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"
    hint = "the kernel may have run out of memory, see dmesg"
    if status >= 0:
        return DataError(f"a process exited with {status} while it prepared {what}", hint)
    return DataError(f"a process died of {signal.Signals(-status).name} while it prepared {what}", hint)


def _mapped(child: _Child, group: _Group) -> list[NDArray[np.generic]]:
    """The tensors of a group where they are. When none of them is used any more, the child may write there again."""
    if group.fresh:
        file = reduction.recv_handle(child.link)
        try:
            child.pieces.append(mmap.mmap(file, 0, prot=mmap.PROT_READ))
        finally:
            os.close(file)
    if not group.made:
        return []
    whole = np.frombuffer(child.pieces[group.piece], np.uint8)
    weakref.finalize(whole, child.free.append, group.piece).atexit = False
    tensors, end = [], 0
    for shape, dtype, _ in group.made:
        begin, end = end, end + int(np.prod(shape)) * dtype.itemsize
        tensors.append(whole[begin:end].view(dtype).reshape(shape))
    return tensors


# -------------------------------------------------------------------- the child


def serve(socket: int) -> None:
    """A child's main: answer groups of samples until the run is gone."""
    import cv2

    cv2.setNumThreads(1)
    link = connection.Connection(socket)
    try:
        plain, preprocess, raw, file, room = link.recv()
        warnings.resetwarnings()
        warnings.filters[:] = plain  # type: ignore[index]
        shared, kept = _Shared(), _Kept(file, room)
        while True:
            free, reads = link.recv()
            shared.free += free
            group, memory = _made(reads, preprocess, raw, shared, kept)
            link.send(group)
            if memory is not None:
                reduction.send_handle(link, memory, os.getppid())
                os.close(memory)
    except (EOFError, ConnectionError):  # the run is gone
        return


def _made(
    reads: Sequence[Callable[[], Image]], preprocess: Preprocess, raw: bool, shared: _Shared, kept: _Kept
) -> tuple[_Group, int | None]:
    """What was made, and the descriptor of the shared memory where that is new."""
    made: list[Prepared] = []
    failed: tuple[BaseException | None, str] = None, ""
    try:
        for read in reads:
            made.append(preprocess(read(), raw))
    except Exception as error:  # the run raises it
        failed = _sendable(error), traceback.format_exc()
    tensors = [np.ascontiguousarray(one.tensor).reshape(-1).view(np.uint8) for one in made]
    piece, memory = shared.put(tensors) if made else (0, None)
    told = [(one.tensor.shape, one.tensor.dtype, one.frame) for one in made]
    return _Group(told, piece, memory is not None, kept.append(tensors) if made else None, *failed), memory


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error of any library
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Shared:
    """Pieces of memory that the run reads, used again and again: new memory costs more than to copy into it."""

    def __init__(self) -> None:
        self.free: list[int] = []
        self._pieces: list[mmap.mmap] = []

    def put(self, tensors: Sequence[NDArray[np.uint8]]) -> tuple[int, int | None]:
        """(number of the piece that holds them end to end, its descriptor when it is new)."""
        total = sum(tensor.size for tensor in tensors)
        number = next((number for number in self.free if len(self._pieces[number]) >= total), len(self._pieces))
        memory = None
        if number < len(self._pieces):
            self.free.remove(number)
        else:
            memory = os.memfd_create("chipproof")
            os.posix_fallocate(memory, 0, total)  # where there is no memory, this tells it, and writing would crash
            self._pieces.append(mmap.mmap(memory, total))
        np.concatenate(tensors, out=np.frombuffer(self._pieces[number], np.uint8, total))
        return number, memory


class _Kept:
    """What is appended to a file, as long as there is room on the disk and for this process."""

    def __init__(self, file: int | None, room: float) -> None:
        self._file, self._left = file, room
        self._end = 0 if file is None else os.fstat(file).st_size

    def append(self, tensors: Sequence[NDArray[np.uint8]]) -> int | None:
        """Where they begin in the file; None where they are not kept."""
        total, begin = sum(tensor.size for tensor in tensors), self._end
        if self._file is None or total > self._left:
            return None
        try:
            whole = os.pwritev(self._file, [tensor.data for tensor in tensors], begin) == total
        except OSError:
            whole = False
        if not whole:  # the disk is full
            self._left = 0
            return None
        self._left -= total
        self._end += total
        return begin
