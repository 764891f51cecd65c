"""The files of a run in VLMEvalKit's output folder, and what keeps them whole when runs meet or are killed.

VLMEvalKit writes its files in place. So a process holds a lock on each data set from its preparation to its end, and
before it goes on with what an earlier run left, files that were cut off are removed and answers are taken back from the
journal. Imports VLMEvalKit, so only its own hooks may import this module.
"""

import fcntl
import os
import pickle
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlmeval.smp import fetch_aux_files, get_logger, get_pred_file_path, load  # pyright: ignore[reportMissingImports]

from capcurr_plugin.atomic import replacing
from capcurr_plugin.evaluation.responses import (
    Replies,
    Response,
    journal_of,
    of_sibling_runs,
    read_responses,
    same_text,
    settle,
    side_car,
)

TABLES = (".csv", ".json", ".tsv", ".xlsx")

logger = get_logger("vlmeval.capcurr")

_journals: dict[str, Replies] = {}  # by data set: a process runs each once at a time
PROCESS = uuid.uuid4().hex[:12]  # names this process in its records


# The journal


def begin(dataset: str, predictions: Path) -> None:
    """Responses of this data set belong to that prediction file from now on."""
    if dataset not in _journals or _journals[dataset].path != journal_of(predictions):
        _journals[dataset] = Replies(journal_of(predictions))


def keep(dataset: str, row: Any, reply: bytes, **facts: str | None) -> None:
    """The answer goes on to VLMEvalKit even when the disk is full: its row will have no record, and be counted so."""
    try:
        if dataset in _journals:
            _journals[dataset].keep(row, reply, run=PROCESS, **facts)
    except OSError as error:
        logger.error(f"capcurr: {_journals[dataset].path}: a response was not kept ({error.strerror})")


def predictions_of(work_dir: str, model_name: str, dataset: str) -> Path:
    return Path(str(get_pred_file_path(work_dir, model_name, dataset, use_env_format=True)))


def end(dataset: str, predictions: Path) -> None:
    """Settle the side-car of predictions that are complete. Runs without our adapter have none."""
    _journals.pop(dataset, None)
    recorded = any(path.exists() for path in (journal_of(predictions), *of_sibling_runs(predictions)))
    settled_before = side_car(predictions).exists() and not journal_of(predictions).exists()
    if predictions.exists() and recorded and not settled_before:
        table: Any = load(str(predictions))
        settled = settle(predictions, zip(table["index"], table["prediction"], strict=True))
        logger.info(
            f"capcurr: {side_car(predictions).name}: {settled.rows} rows, {settled.unparsed} without a final box, "
            f"{settled.missing} without a record"
        )


# The lock, which is also the mark of a run that is under way


_claims: dict[str, int] = {}  # open lock files by data set


def claim(dataset: str, predictions: Path) -> float | None:
    """Wait for the lock, then mark it. The time of a mark that was never taken off: its run was killed."""
    release(dataset)
    _lock_of(predictions).parent.mkdir(parents=True, exist_ok=True)
    file = os.open(_lock_of(predictions), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.warning(f"capcurr: another run works on {predictions.name}; waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)
    mark = _read_mark(os.pread(file, 100, 0))
    os.ftruncate(file, 0)
    os.pwrite(file, f"{time.time()}".encode(), 0)
    _claims[dataset] = file
    return mark


def release(dataset: str) -> None:
    """The run has ended with the data set. A process that ends without this leaves the mark."""
    file = _claims.pop(dataset, None)
    if file is not None:
        os.ftruncate(file, 0)
        os.close(file)


def mark_of(predictions: Path) -> float | None:
    """When the run that left this folder began with the data set, if it did not end with it."""
    lock = _lock_of(predictions)
    return _read_mark(lock.read_bytes()[:100]) if lock.exists() else None


def _lock_of(predictions: Path) -> Path:
    return predictions.parent / ".capcurr" / f"{predictions.stem}.lock"


def _read_mark(content: bytes) -> float | None:
    try:
        return float(content)
    except ValueError:
        return None


# What a killed run left


def mend(predictions: Path, dataset: Any, since: float, source: Path) -> None:
    """Make what a killed run left (in the folder of `source`, and taken over from there) fit to go on with."""
    for table in map(Path, fetch_aux_files(str(predictions))):
        ours = table == predictions or "_responses" in table.stem
        if table.suffix in TABLES and not ours and table.stat().st_mtime >= since - 1:
            _remove(table, "was being written when its run was killed")
    recorded = {r.index: r for r in _recorded(predictions, source) if r.response is not None}
    if predictions.exists() and _is_cut_off(predictions, recorded):
        _remove(predictions, "was cut off when its run was killed; its answers are taken from the journal")
    folder, name = predictions.parent, dataset.dataset_name
    for pickled in {*folder.glob(f"{predictions.stem}*.pkl"), *folder.glob(f"[0-9]*_{name}.pkl")}:
        if _is_cut_off(pickled, {}):
            _remove(pickled, "was cut off when its run was killed")
    if recorded and not predictions.exists():
        rows = {str(index): index for index in dataset.data["index"]}
        answered = {index: recorded[index].prediction for index in rows if index in recorded}
        _add(folder / f"{predictions.stem}_checkpoint.pkl", answered)
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:  # where models in process keep theirs
            _add(folder / f"01_{name}.pkl", {rows[index]: answer for index, answer in answered.items()})


def _recorded(predictions: Path, source: Path) -> Iterator[Response]:
    for place in dict.fromkeys((source, predictions)):
        for path in (side_car(place), journal_of(place)):
            if path.exists():
                yield from read_responses(path)


def _is_cut_off(path: Path, recorded: dict[str, Response]) -> bool:
    try:
        content: Any = load(str(path))
        rows = zip(content["index"], content["prediction"], strict=True) if recorded else ()
        return any(str(i) in recorded and not same_text(p, recorded[str(i)].prediction) for i, p in rows)
    except Exception:  # noqa: BLE001  whatever half a file makes of its reader
        return True


def _add(path: Path, answers: dict[Any, str]) -> None:
    have: Any = load(str(path)) if path.exists() else {}
    if answers.keys() - have.keys():
        with replacing(path) as file:
            pickle.dump(answers | have, file)
        logger.info(f"capcurr: {path.name}: {len(answers.keys() - have.keys())} answers taken from the journal")


def _remove(path: Path, why: str) -> None:
    path.unlink()
    logger.warning(f"capcurr: {path.name} {why}; removed")
