"""Finds what VLMEvalKit wrote: which files belong to which model, data set, run and judge.

Upstream writes `{work}/{model}/T{time}/` with links to the files one level up; ms-vlmeval writes `{work}/{model}/`, or
such folders in its API mode. Names of models, data sets and judges may all hold `_` and `-`, so that a file is split by
the names that are known. Nothing outside the folders given is read.
"""

import json
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from capcurr_plugin.errors import InputError
from capcurr_plugin.evaluation.responses import side_car
from capcurr_plugin.evaluation.score_files import Layout
from capcurr_plugin.evaluation.table_files import ENDINGS
from capcurr_plugin.judge.config import PERCEPTION_ERROR

MAX_DEPTH = 4  # of folders: work folders in one folder, models, runs, and the plugin's own
OWN = ".capcurr"  # the plugin's folder beside a run's files, with a lock on each data set
MAX_FILES = 100_000
MAX_STATUS_BYTES = 16 << 20
MAX_DATASETS = 1_000  # that a status.json may name
PREDICTIONS = (".tsv", ".xlsx", ".json")

_RUN = re.compile(r"T(\d{8})(?:-(\d{6})|_G?[0-9a-fA-F]+)")
# What VLMEvalKit writes after `{model}_{data set}` beside a judge's name.
_NO_JUDGE = re.compile(
    r"(.*_)?(acc|auxmatch|checkpoint|detailed_results|extract|PREV|rating|result|results|score|structs|tmp)"
)
_JUDGES = {  # short forms in names of some of VLMEvalKit's files
    "openai": "chatgpt-0125",
    "gpt4": "gpt-4-0125",
    "gpt4-turbo": "gpt-4-turbo",
    "gpt4o-mini": "gpt-4o-mini",
}


@dataclass(frozen=True)
class Status:
    """What a run's status.json says of a data set. It is not trusted: only plain texts are taken."""

    judge: str | None = None
    state: str | None = None  # pending, infer, eval or done
    error: str | None = None
    skipped: str | None = None
    limited: bool = False  # the run was asked for the first rows only


@dataclass(frozen=True)
class Found:
    """The files of a model and data set in one folder, by what their names have after the names of both."""

    model: str
    dataset: str
    folder: Path
    run: str
    time: float | None  # of the run; None for a folder that takes any number of runs
    files: dict[str, Path]
    status: Status
    under_way: bool


@dataclass(frozen=True)
class Candidate:
    """A result: the files of one judge."""

    found: Found
    judge: str | None  # None where no name of a judge is known
    score: Path | None
    judged: Path | None
    predictions: Path | None
    shared_score: bool  # the score file's name holds no judge, and there are files of several
    notes: tuple[str, ...]

    @property
    def time(self) -> float:
        if self.found.time is not None:
            return self.found.time
        return max((_modified(path) for path in (self.score, self.judged) if path), default=0.0)

    @property
    def responses(self) -> Path | None:
        """The side-car of the predictions."""
        return self.found.files.get(side_car(Path(".tsv")).name.removeprefix(".tsv"))


@dataclass
class Folder:
    path: Path
    files: dict[str, Path] = field(default_factory=dict)


def judge_name(written: str | None) -> str | None:
    """The judge's name, from how a file's name or a run's status has it."""
    written = written.removeprefix(PERCEPTION_ERROR) if written else None
    return _JUDGES.get(written, written) if written else None


# Folders


def find(folders: Sequence[Path], datasets: Iterable[str], notes: list[str], others: Iterable[str] = ()) -> list[Found]:
    """All files of these data sets; what is passed over is noted. `others` are data sets whose names may start like
    theirs."""
    gathered: dict[Path, Folder] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: is no folder; name VLMEvalKit's work folder, or a model's or a run's in it")
        root = folder.resolve()
        for path in _files(root, notes):
            home = path.parent.parent if path.parent.name == OWN else path.parent
            if home == path.parent or path.suffix == ".lock":
                gathered.setdefault(home, Folder(home)).files[path.name] = path
    return [found for folder in gathered.values() for found in _split(folder, set(datasets), set(others), notes)]


def _files(root: Path, notes: list[str]) -> Iterator[Path]:
    """The files below, each once, with links to files inside followed and no others."""
    pending, seen, lost = [(root, 0)], {root}, []
    while pending:
        folder, depth = pending.pop()
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            notes.append(f"{folder}: cannot be read ({error.strerror})")
            continue
        for path in paths:
            real = _inside(path, root) if path.is_symlink() else path
            if real is None:
                lost.append(path)
            elif real not in seen:
                seen.add(real)
                if len(seen) > MAX_FILES:
                    raise InputError(f"{root}: holds over {MAX_FILES:,} files; name a model's folder")
                mode = _mode(real)
                if stat.S_ISREG(mode):  # a pipe would wait for a writer
                    yield real
                elif depth < MAX_DEPTH and stat.S_ISDIR(mode) and (path.name == OWN or path.name[0] != "."):
                    pending.append((real, depth + 1))
    if lost:
        notes.append(f"{lost[0]}: is a link out of {root} or to nothing, and was not followed" + _more(len(lost) - 1))


def _inside(link: Path, root: Path) -> Path | None:
    try:
        real = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return real if real == root or root in real.parents else None


def _more(count: int) -> str:
    return f" (and {count:,} more)" if count > 0 else ""


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


# Names


def _split(folder: Folder, datasets: set[str], others: set[str], notes: list[str]) -> Iterator[Found]:
    status = _read_status(folder, notes)
    told = list(_texts(status.get("datasets")))[:MAX_DATASETS]
    known = sorted({*datasets, *others, *told}, key=len, reverse=True)
    run = _RUN.fullmatch(folder.path.name)
    expected = folder.path.parent.name if run else folder.path.name
    models = [m for m in (expected, status.get("model_name")) if isinstance(m, str) and m]
    named = [m for m in models if any(_dataset(name, m, known) for name in folder.files)]
    groups, foreign = _grouped(folder, named, known)
    unread = sorted({dataset for _, dataset in groups if dataset not in datasets})
    if unread:
        notes.append(f"{folder.path}: also holds {', '.join(unread)}: read with --data NAME=LAYOUT")
    if foreign:
        name, model = foreign[0]
        where = f"{folder.path / name}: is of model {model}, in the folder of {named[0]}, and was passed over"
        notes.append(where + _more(len(foreign) - 1))
    for (model, dataset), files in groups.items():
        lock = files.pop(".lock", None)
        under_way = lock is not None and _size(lock) > 0  # it is empty when its run has ended
        time = _time(run) if run else None
        if files and dataset in datasets:
            entry = _status_of(status, dataset)
            yield Found(model, dataset, folder.path, folder.path.name, time, files, entry, under_way)


def _grouped(
    folder: Folder, named: Sequence[str], known: Sequence[str]
) -> tuple[dict[tuple[str, str], dict[str, Path]], list[tuple[str, str]]]:
    """The files by model and data set, and those of models that the folder is not of."""
    groups: dict[tuple[str, str], dict[str, Path]] = {}
    foreign: list[tuple[str, str]] = []
    for name, path in folder.files.items():
        model = next((m for m in named if _dataset(name, m, known)), None) or _model_by_dataset(name, known)
        dataset = _dataset(name, model, known) if model else None
        if model and dataset and named and model not in named:
            foreign.append((name, model))
        elif model and dataset:
            groups.setdefault((model, dataset), {})[name[len(f"{model}_{dataset}") :]] = path
    return groups, foreign


def _dataset(name: str, model: str, known: Iterable[str]) -> str | None:
    """The data set that a file of this model is of; a longer name goes first."""
    rest = name.removeprefix(f"{model}_")
    if rest == name:
        return None
    return next((d for d in known if rest.startswith(d) and rest[len(d) : len(d) + 1] in ("_", ".")), None)


def _model_by_dataset(name: str, known: Iterable[str]) -> str | None:
    """The model of a file in a folder that has another name: what stands before the last name of a data set."""
    if not name.endswith((*ENDINGS, ".lock", ".jsonl", ".pkl")):
        return None
    found = [re.search(rf"^(.+)_{re.escape(dataset)}(?=[_.])", name) for dataset in known]
    return max((match[1] for match in found if match), key=len, default=None)


def _time(run: re.Match[str]) -> float | None:
    try:
        return datetime.strptime(run[1] + (run[2] or "000000"), "%Y%m%d%H%M%S").timestamp()
    except (ValueError, OverflowError):
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


# status.json


def _read_status(folder: Folder, notes: list[str]) -> dict[str, Any]:
    if "status.json" not in folder.files:
        return {}
    path = folder.path / "status.json"
    try:
        if path.stat().st_size > MAX_STATUS_BYTES:
            raise ValueError
        status = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        status = None
    if not isinstance(status, dict):
        notes.append(f"{path}: is no JSON object, or cut off; what it says of judges and errors is not known")
        return {}
    return status


def _status_of(status: dict[str, Any], dataset: str) -> Status:
    entry = _texts(_texts(status.get("datasets")).get(dataset))
    argv = status.get("argv")
    return Status(
        judge=_word(entry.get("judge_model")),
        state=_word(entry.get("status")),
        error=_word(entry.get("error_message")),
        skipped=_word(entry.get("skip_reason")),
        limited=isinstance(argv, list) and any(isinstance(a, str) and a.partition("=")[0] == "--limit" for a in argv),
    )


def _texts(value: Any) -> dict[str, Any]:
    return {k: v for k, v in value.items() if isinstance(k, str)} if isinstance(value, dict) else {}


def _word(value: Any) -> str | None:
    return " ".join(value.split())[:200] or None if isinstance(value, str) else None


# Results


def candidates(found: Found, layout: Layout) -> list[Candidate]:
    """One to each judge whose files are there; one without files of a judge where there are none."""
    predictions, notes = _newest(found, [("", e) for e in PREDICTIONS])
    judged = _by_judge(found, layout.judged, PREDICTIONS)
    scores = _by_judge(found, layout.score, layout.score_endings)
    if "{judge}" not in layout.judged:
        return [_candidate(found, found.status.judge, scores.get(None), judged.get(None), predictions, False, notes)]
    shared = "{judge}" not in layout.score
    judges = list(judged) if shared else list({**judged, **scores})
    made = [
        _candidate(
            found,
            judge,
            scores.get(None if shared else judge),
            judged.get(judge),
            predictions,
            shared and len(judges) > 1,
            notes,
        )
        for judge in judges
    ]
    alone = scores.get(None) if shared else None
    return made or [_candidate(found, found.status.judge, alone, None, predictions, False, notes)]


def _candidate(
    found: Found,
    judge: str | None,
    score: list[tuple[str, str]] | None,
    judged: list[tuple[str, str]] | None,
    predictions: Path | None,
    shared: bool,
    notes: list[str],
) -> Candidate:
    score_path, score_notes = _newest(found, score or [])
    judged_path, judged_notes = _newest(found, judged or [])
    return Candidate(found, judge, score_path, judged_path, predictions, shared, (*notes, *score_notes, *judged_notes))


def _by_judge(found: Found, form: str, endings: Sequence[str]) -> dict[str | None, list[tuple[str, str]]]:
    """The files whose names have this form: (what stands before the ending, ending) by judge."""
    pattern = re.compile(re.escape(form).replace(r"\{judge\}", "(?P<judge>.+)"))
    by_judge: dict[str | None, list[tuple[str, str]]] = {}
    for rest in sorted(found.files):
        ending = next((e for e in endings if rest.endswith(e)), None)
        match = pattern.fullmatch(rest.removesuffix(ending)) if ending else None
        if not match:
            continue
        judge = match.groupdict().get("judge")
        if judge is None or not _NO_JUDGE.fullmatch(judge):
            by_judge.setdefault(judge, []).append((match[0], str(ending)))
    return by_judge


def _newest(found: Found, names: Sequence[tuple[str, str]]) -> tuple[Path | None, list[str]]:
    """A table may be there in several forms, when runs with different settings wrote to one folder."""
    paths = [found.files[stem + ending] for stem, ending in names if stem + ending in found.files]
    if not paths:
        return None, []
    paths.sort(key=lambda path: (_modified(path), path.name), reverse=True)
    notes = [f"{paths[0].name} is newer than {paths[1].name}, and was used"] if len(paths) > 1 else []
    return paths[0], notes
