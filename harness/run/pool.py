"""Images prepared by processes: on many cores threads would wait for Python's lock, which preparing holds for a part.

Each child is a Python of its own that reads and prepares. Tensors pass through memory that it shares with the run, and
what is to be kept it writes into a file of its own; neither has a name, so that nothing is left of them. Only names and
places pass through its socket. When the run ends, however it does, the socket is closed, and the child ends after the
images at hand.
"""

from __future__ import annotations

import math
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
from itertools import accumulate
from multiprocessing import connection, reduction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.arrays import images
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
    """What a child made of a few samples: tensors in a piece of shared memory; and end to end from `offset` of its
    file, where they are kept. Descriptors of `fresh` new pieces follow."""

    made: list[tuple[tuple[int, ...], np.dtype[Any], Frame, int]]  # shape, dtype, frame, where in the piece
    piece: int
    fresh: int
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
            f"no process can be started to prepare images: {error.strerror}", hint="allow more processes with ulimit -u"
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
    for tensor, (_, _, frame, _) in zip(tensors, group.made, strict=True):
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
        return DataError(f"a process exited with {status} while it prepared {what}", hint=hint)
    return DataError(f"a process died of {signal.Signals(-status).name} while it prepared {what}", hint=hint)


def _mapped(child: _Child, group: _Group) -> list[NDArray[np.generic]]:
    """The tensors of a group where they are. When none of them is used any more, the child may write there again."""
    for _ in range(group.fresh):
        file = reduction.recv_handle(child.link)
        try:
            child.pieces.append(mmap.mmap(file, 0, prot=mmap.PROT_READ))
        finally:
            os.close(file)
    if not group.made:
        return []
    whole = np.frombuffer(child.pieces[group.piece], np.uint8)
    weakref.finalize(whole, child.free.append, group.piece).atexit = False
    return [np.ndarray(shape, dtype, whole, begin) for shape, dtype, _, begin in group.made]


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
        images.unwritten = shared.lend
        while True:
            free, reads = link.recv()
            shared.free += free
            link.send(_made(reads, preprocess, raw, shared, kept))
            while shared.fresh:
                reduction.send_handle(link, shared.fresh[0], os.getppid())
                os.close(shared.fresh.pop(0))
    except (EOFError, ConnectionError):  # the run is gone
        return


def _made(
    reads: Sequence[Callable[[], Image]], preprocess: Preprocess, raw: bool, shared: _Shared, kept: _Kept
) -> _Group:
    made: list[Prepared] = []
    failed: tuple[BaseException | None, str] = None, ""
    shared.begin()
    try:
        for read in reads:
            made.append(preprocess(read(), raw))
    except Exception as error:  # the run raises it
        failed = _sendable(error), traceback.format_exc()
    tensors = [np.ascontiguousarray(one.tensor).reshape(-1).view(np.uint8) for one in made]
    piece, places = shared.put(tensors)
    told = [(one.tensor.shape, one.tensor.dtype, one.frame, place) for one, place in zip(made, places, strict=True)]
    return _Group(told, piece, len(shared.fresh), kept.append(tensors) if made else None, *failed)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error of any library
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Shared:
    """Pieces of memory that the run reads, used again and again: new memory costs more than to copy into it. A tensor
    is written there at once where what prepares it asks `lend` for its memory, and copied otherwise."""

    def __init__(self) -> None:
        self.free: list[int] = []
        self.fresh: list[int] = []  # descriptors of pieces of which the run does not know yet
        self._pieces: list[mmap.mmap] = []
        self._lent: dict[int, weakref.ref[NDArray[np.uint8]]] = {}  # by piece: dead once nothing lies there any more
        self._at: tuple[int, NDArray[np.uint8]] | None = None  # the piece of the group at hand
        self._asked = 0  # bytes that the group asked for so far

    def begin(self) -> None:
        """The next group: with a piece for as much as the last one asked for."""
        if self._asked:
            number = self._chosen(self._asked)
            self._at = number, np.frombuffer(self._pieces[number], np.uint8)
            self._lent[number] = weakref.ref(self._at[1])
        self._asked = 0

    def lend(self, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """Memory for a tensor: shared, as far as the group's piece goes."""
        begin, size = self._asked, math.prod(shape) * np.dtype(dtype).itemsize
        self._asked += _aligned(size)
        if self._at is None or begin + size > len(self._at[1]):
            return np.empty(shape, dtype)
        lent: NDArray[Any] = np.ndarray(shape, dtype, self._at[1], begin)
        return lent

    def put(self, tensors: Sequence[NDArray[np.uint8]]) -> tuple[int, list[int]]:
        """(number of the piece that holds them, where in it each begins): of the group that ends."""
        at, self._at = self._at, None
        if at is not None:
            places = [tensor.ctypes.data - at[1].ctypes.data for tensor in tensors]
            if tensors and all(0 <= place <= len(at[1]) - len(tensor)
                               for place, tensor in zip(places, tensors, strict=True)):  # fmt: skip
                return at[0], places
            self.free.append(at[0])
        if not tensors:
            return 0, []
        *places, total = accumulate((_aligned(tensor.size) for tensor in tensors), initial=0)
        number = self._chosen(total)
        whole = np.frombuffer(self._pieces[number], np.uint8)
        for place, tensor in zip(places, tensors, strict=True):
            whole[place : place + tensor.size] = tensor
        return number, places

    def _chosen(self, total: int) -> int:
        """The number of a piece of so many bytes in which nothing lies any more."""
        for number in self.free:
            lent = self._lent.get(number)
            if len(self._pieces[number]) >= total and (lent is None or lent() is None):
                self.free.remove(number)
                return number
        self.fresh.append(os.memfd_create("chipproof"))
        os.posix_fallocate(self.fresh[-1], 0, total)  # where there is no memory, this tells it, and writing would crash
        self._pieces.append(mmap.mmap(self.fresh[-1], total))
        return len(self._pieces) - 1


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


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
