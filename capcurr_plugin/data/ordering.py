"""Row files into ordered row files: read and sorted a block at a time, merged, and written whole or not at all."""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from capcurr_plugin import jsonl
from capcurr_plugin.atomic import replacing
from capcurr_plugin.curriculum import Order
from capcurr_plugin.data.keyed_rows import LINE, LineSource, Reading, RecordSource, Source, block_bytes
from capcurr_plugin.data.row_keys import NO_CAPABILITY, NO_PASS_RATE, Wanted
from capcurr_plugin.data.row_shapes import BAD, KEPT, SOLVED, UNSOLVED, text_of
from capcurr_plugin.data.row_targets import Targets
from capcurr_plugin.data.sorted_runs import SortedRuns, ahead, merged, ordered
from capcurr_plugin.data.split import PARTS
from capcurr_plugin.errors import InputError
from capcurr_plugin.row_files import RecordReader, format_of
from capcurr_plugin.rows import CAPABILITIES, Capability, RowError

READING = 0.6  # its share of the time, about
WRITTEN_BYTES = 256 << 10  # at once; Linux takes ten times as long for pieces of some megabytes
UNPACKED = 6  # times as large as the packed file, about

Chunks = Iterator[tuple[np.ndarray, pa.RecordBatch]]


@dataclass(frozen=True)
class Job:
    order: Order
    seed: int | None  # none is given: what the order leaves open stays as it is
    drop_solved: bool
    drop_unsolved: bool
    wanted: Wanted
    targets: Targets
    tell: Callable[[float], object]

    def outputs(self, keys: np.ndarray) -> np.ndarray:
        """The number of each row's output."""
        return keys["part"] + keys["capability"] * (len(PARTS) * self.targets.by_capability)

    def ordered(self, keys: np.ndarray, first: int = 0) -> np.ndarray:
        """The places of the rows that are kept, in their order; `first` is the number of the row at place 0."""
        places = np.flatnonzero(keys["status"] == KEPT)
        outputs = self.outputs(keys)[places]
        return places[ordered(self.order, self.seed, keys, places, outputs, first)]


def order_files(job: Job, readers: Sequence[RecordReader], capabilities: Sequence[Capability | None]) -> dict[str, Any]:
    """Write the rows of all readers to the targets; what was done. `capabilities`: those of rows that name none."""
    total = sum(map(_unpacked_size, readers))
    reading = Reading(job.wanted, block_bytes(total))
    sources = _sources(job.targets.whole, readers, capabilities, reading)
    with SortedRuns(job.targets.whole, total // reading.block_bytes) as runs, ExitStack() as stack:
        keys, first_of_run, first_of_file = _gather(job, sources, runs)
        with ThreadPoolExecutor(1) as pool:
            repeated = pool.submit(_repeated, keys)
            numbers = job.ordered(keys)
        # They stay in the runs, and are left out when these are merged.
        _refuse_repeated(readers, first_of_file, keys, repeated.result())
        outputs = job.outputs(keys)[numbers]
        kept = keys["status"][numbers] == KEPT
        used, begins = np.unique(outputs, return_index=True)
        _check_outputs(job.targets, np.unique(outputs[kept]).tolist(), readers)
        written, done = [], 0
        for output, begin, end in zip(used.tolist(), begins, [*begins[1:], len(numbers)], strict=True):
            rows = numbers[begin:end]
            chunks = _told(job, _left(keys, merged(runs, first_of_run, rows, keys["size"])), done, int(kept.sum()))
            rows = rows[kept[begin:end]]
            done += len(rows)
            if len(rows):
                _write(job.targets.path(output), sources[0].schema, chunks, stack)
                written.append(_report(job.targets.path(output), keys, rows))
            else:
                deque(chunks, maxlen=0)  # rows that others repeat have to be taken from the runs all the same
    return {
        "rows_read": len(keys),
        "dropped_solved": int((keys["status"] == SOLVED).sum()),
        "dropped_unsolved": int((keys["status"] == UNSOLVED).sum()),
        "outputs": written,
    }


# Reading


def _sources(
    output: Path, readers: Sequence[RecordReader], capabilities: Sequence[Capability | None], reading: Reading
) -> Sequence[Source]:
    """Parquet stays in columns when all of it has the same ones; otherwise rows are moved as lines of JSON."""
    each = list(zip(readers, capabilities, [reading] * len(readers), strict=True))
    paths = [reader.path for reader in readers]
    if all(format_of(path) == ".parquet" for path in (output, *paths)):
        from capcurr_plugin import parquet  # not at the top: JSON Lines are ordered without it
        from capcurr_plugin.data.keyed_batches import BatchSource

        schema = parquet.common_schema(paths, ["capability"] if any(capabilities) else [])
        if schema is not None:
            return [BatchSource(*one, schema) for one in each]
    return [RecordSource(*one) if one[0].format == ".parquet" else LineSource(*one) for one in each]


def _unpacked_size(reader: RecordReader) -> int:
    return reader.path.stat().st_size * (1 if reader.format == ".jsonl" else UNPACKED)


def _gather(job: Job, sources: Sequence[Source], runs: SortedRuns) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Read everything into sorted runs: the keys of all rows in the order of the files, the number of the first row of
    each run, and of each file."""
    sizes = [source.reader.path.stat().st_size for source in sources]
    keys: list[np.ndarray] = []
    of_run, of_file, number = [], [], 0
    for source, size, before in zip(sources, sizes, np.cumsum([0, *sizes]).tolist(), strict=False):
        source.reader.tell = lambda share, size=size, before=before: job.tell(
            READING * (before + share * size) / sum(sizes)
        )
        of_file.append(number)
        for block in source.blocks():
            status = block.keys["status"]
            if job.drop_solved:
                status[(status == KEPT) & (block.keys["pass_rate"] == 1)] = SOLVED
            if job.drop_unsolved:
                status[(status == KEPT) & (block.keys["pass_rate"] == 0)] = UNSOLVED
            runs.add(block.rows.take(pa.array(job.ordered(block.keys, number))))
            keys.append(block.keys)
            of_run.append(number)
            number += len(block.keys)
            del block  # before the next one is read
        if number == of_file[-1]:
            raise InputError(f"{source.reader.path}: the file has no rows")
        if all(
            (block["status"] == BAD).all() for block, first in zip(keys, of_run, strict=True) if first >= of_file[-1]
        ):
            raise source.reader.bad.nothing_left(source.reader.path)
    return np.concatenate(keys), np.array(of_run), of_file


def _repeated(keys: np.ndarray) -> np.ndarray:
    """The hashes that several rows have."""
    hashes = np.sort(keys["hash"][keys["status"] != BAD])
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def _refuse_repeated(
    readers: Sequence[RecordReader], first_of_file: Sequence[int], keys: np.ndarray, hashes: np.ndarray
) -> None:
    """An index may stand once in the output. Only the rows with these hashes are looked at again."""
    if not len(hashes):
        return
    suspects = (keys["status"] != BAD) & np.isin(keys["hash"], hashes)
    first_use: dict[str, tuple[RecordReader, int]] = {}
    for source, first in zip(readers, first_of_file, strict=True):
        reader = RecordReader(source.path, source.bad)
        for record, raw in reader.records():
            number = first + reader.number - 1
            if not suspects[number] or isinstance(record, RowError):
                continue
            earlier, place = first_use.setdefault(record["index"], (reader, reader.number))
            if (earlier, place) != (reader, reader.number):
                where = "" if earlier is reader else f"{earlier.path}, "
                reader.refuse(f"index {record['index']!r} was already used in {where}{earlier.unit} {place}", raw)
                keys["status"][number] = BAD


def _check_outputs(targets: Targets, used: Sequence[int], readers: Sequence[RecordReader]) -> None:
    if not used:
        files = ", ".join(str(reader.path) for reader in readers)
        raise InputError(f"{files}: no row is left to write; all are dropped or bad")
    for number in set(targets.numbers()) - set(used):
        path = targets.path(number)
        if path.exists():
            raise InputError(f"{path}: is there from before, but no row belongs into it now; remove it")


# Writing


def _left(keys: np.ndarray, chunks: Chunks) -> Iterator[pa.RecordBatch]:
    """Without rows that were found to be bad only when all were read."""
    for numbers, rows in chunks:
        good = keys["status"][numbers] == KEPT
        yield rows if good.all() else rows.filter(pa.array(good))


def _told(job: Job, chunks: Iterator[pa.RecordBatch], done: int, total: int) -> Iterator[pa.RecordBatch]:
    for rows in chunks:
        yield rows
        done += len(rows)
        job.tell(READING + (1 - READING) * done / total)


def _write(path: Path, schema: pa.Schema, chunks: Iterator[pa.RecordBatch], stack: ExitStack) -> None:
    """The file takes its place when `stack` ends, together with the others."""
    file, ending = stack.enter_context(replacing(path)), format_of(path)
    if ending == ".parquet":
        _write_parquet(file, path.parent, schema, chunks)
    else:
        with jsonl.compressing(file, ending) as out:
            for rows in ahead(chunks):
                text, begun = text_of(rows.column("line")), file.tell()
                for start in range(0, len(text), WRITTEN_BYTES):
                    out.write(text[start : start + WRITTEN_BYTES])
                _start_disk(file, begun)


def _start_disk(file: IO[bytes], begun: int) -> None:
    """Let the disk write what was written since `begun`, so that there is little to wait for at the end."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), begun, file.tell() - begun, os.POSIX_FADV_DONTNEED)


def _write_parquet(file: IO[bytes], folder: Path, schema: pa.Schema, chunks: Iterator[pa.RecordBatch]) -> None:
    from capcurr_plugin import parquet

    if schema != LINE:
        parquet.write_batches(file, schema, chunks)
    else:
        lines = (line for rows in chunks for line in rows.column("line").to_pylist())
        parquet.write_records_to(file, folder, map(json.loads, lines))


def _report(path: Path, keys: np.ndarray, numbers: np.ndarray) -> dict[str, Any]:
    """What stands in an output that has the rows of these numbers in this order."""
    rates = keys["pass_rate"][numbers[[0, -1]]].tolist()
    counts = np.bincount(keys["capability"][numbers], minlength=NO_CAPABILITY).tolist()
    return {
        "file": str(path),
        "rows": len(numbers),
        "capabilities": {name: count for name, count in zip(CAPABILITIES, counts, strict=False) if count},
        "pass_rates": None if NO_PASS_RATE in rates else rates,
    }
