"""Compute a merge: read chunks of rows, compute in float32, round once and write, on all cores.

Each core takes the next chunk, reads its rows of every parent, computes and writes them, so that
reading, arithmetic and writing overlap; memory is a few chunks per core, whatever the model's size.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock, Thread
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lingraft.checkpoints.dtypes import LARGEST, STORAGE, TORCH_NAMES, Bits, finite, fits, narrow
from lingraft.checkpoints.shard_writer import Shard, shard_files
from lingraft.checkpoints.weights import StoredTensor
from lingraft.errors import ModelError
from lingraft.merging.formulas import Formula
from lingraft.merging.tensor_reader import CHUNK, Desk, OpenFiles, Operand, Rows, chunks, open_files

Job = TypeVar("Job")


@dataclass(frozen=True)
class Task:
    """A tensor of the result, and the formulas of its rows."""

    tensor: StoredTensor
    """Its place in the result."""
    formulas: Sequence[Formula]
    which: NDArray[np.uint8] | None = None
    """(rows,): the index of each row's formula; `None`: the first formula makes all rows."""

    def rows_of(self, formula: int, rows: Rows) -> Rows:
        """The part of `rows` that a formula makes."""
        return rows if self.which is None else rows[self.which[rows] == formula]


def combine(tasks: Sequence[Task], shards: Sequence[Shard]) -> None:
    """Make every tensor and write it into its shard.

    Raises:
        ModelError: NaN or Inf in a parent, or a result beyond the range of its dtype.
        OSError: the disk is full.
    """
    operands = [operand for task in tasks for formula in task.formulas for operand in formula.operands]
    files = chain.from_iterable(map(_files, operands))
    size = max([CHUNK, *(task.tensor.row_size for task in tasks)])
    with open_files(files) as inputs, shard_files(shards) as outputs:
        workers = _Workers(inputs, size)
        for task in tasks:
            for i, formula in enumerate(task.formulas):
                formula.prepare(partial(_see_all, workers, task, i))

        def make(job: tuple[Task, Rows], desk: Desk) -> None:
            task, rows = job
            outputs.write(task.tensor, int(rows[0]), _make(task, rows, desk))

        workers.each(make, ((task, rows) for task in tasks for rows in _chunks(task)))


def _files(operand: Operand) -> list[Path]:
    factors = operand.low_rank
    return [operand.tensor.file, *([factors.up.file, factors.down.file] if factors else [])]


def _chunks(task: Task) -> Iterator[Rows]:
    return chunks(task.tensor.num_rows, task.tensor.row_size)


def _see_all(workers: _Workers, task: Task, formula: int, see: Callable[[Rows, Desk], None]) -> None:
    """Call a function on all rows that a formula makes."""

    def work(rows: Rows, desk: Desk) -> None:
        its = task.rows_of(formula, rows)
        if len(its):
            see(its, desk)

    workers.each(work, _chunks(task))


def _make(task: Task, rows: Rows, desk: Desk) -> Bits:
    """(rows, row size): the result in its stored dtype."""
    if task.which is None:
        return _made_by(task.formulas[0], task.tensor, rows, desk)
    result = np.empty((len(rows), task.tensor.row_size), STORAGE[task.tensor.dtype])
    for i, formula in enumerate(task.formulas):
        its = task.rows_of(i, rows)
        if len(its):
            result[its - rows[0]] = _made_by(formula, task.tensor, its, desk)
    return result


def _made_by(formula: Formula, tensor: StoredTensor, rows: Rows, desk: Desk) -> Bits:
    copied = formula.copied
    if copied is not None and copied.low_rank is None and copied.tensor.dtype == tensor.dtype:
        bits = desk.bits(copied, rows)
        if not finite(bits):
            _refuse(formula, tensor, rows, desk)
        return bits
    numbers = formula(rows, desk)
    if not fits(numbers, tensor.dtype):
        _refuse(formula, tensor, rows, desk)
    return narrow(numbers, tensor.dtype, desk.rounded(tensor.dtype, numbers.shape), desk.whole(numbers.shape))


def _refuse(formula: Formula, tensor: StoredTensor, rows: Rows, desk: Desk) -> None:
    for operand in formula.operands:
        for stored in desk.not_finite(operand, rows):
            raise ModelError(
                f"{operand.parent}: tensor '{stored.name}' in {stored.file} holds NaN or Inf; "
                "this model is broken, take an earlier checkpoint or fetch it again"
            )
    raise ModelError(
        f"tensor '{tensor.name}' of the result has weights beyond {LARGEST[tensor.dtype]:.5g}, the largest of "
        f"{TORCH_NAMES[tensor.dtype]}; lower the scales or ask for --dtype float32"
    )


class _Workers:
    """A thread and a desk for each core; numpy and system calls let the others work meanwhile."""

    def __init__(self, files: OpenFiles, size: int) -> None:
        self._desks = [Desk(files, size) for _ in range(_num_cores())]

    def each(self, work: Callable[[Job, Desk], None], jobs: Iterable[Job]) -> None:
        """Do all jobs; the first that fails stops the others, and is raised."""
        waiting, lock = iter(jobs), Lock()
        failed: list[BaseException] = []

        def run(desk: Desk) -> None:
            try:
                with np.errstate(all="ignore"):  # what is not finite is found and named
                    while not failed:
                        with lock:
                            job = next(waiting, None)
                        if job is None:
                            return
                        work(job, desk)
            except BaseException as error:
                failed.append(error)

        threads = [Thread(target=run, args=(desk,)) for desk in self._desks]
        try:
            with _no_signals():  # a thread is started, and known, or it is not
                for thread in threads:
                    thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:  # a signal reaches this thread, not those
            failed.append(error)
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            raise
        if failed:
            raise failed[0]


@contextmanager
def _no_signals() -> Iterator[None]:
    """Signals that stop a program wait until the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
