"""The answers of a job that asks a model many questions: kept as they come, found again after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capcurr_plugin.chat import Choice, Reply
from capcurr_plugin.errors import InputError
from capcurr_plugin.journal import Journal, read_lines


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a reply stands in the file, and which answers to its question it holds."""

    at: int
    count: int
    position: int


class Answers:
    """A file of replies. Its first line says what was asked for, so that answers of two setups are never mixed."""

    def __init__(self, path: Path, setup: Mapping[str, Any]) -> None:
        self.path = path
        self._places: dict[str, list[_Place]] = {}
        self._journal = Journal(path)
        if path.exists():
            self._read(setup)
        if not path.exists() or not path.stat().st_size:
            self._journal.append(_line({"setup": setup}))

    def _read(self, setup: Mapping[str, Any]) -> None:
        known: Any = None
        for position, line in read_lines(self.path):
            record = _record(line)
            if known is None:
                known = record.get("setup")
                self._check(known, setup)
            elif record.keys() >= {"key", "at", "choices"}:
                place = _Place(record["at"], len(record["choices"]), position)
                self._places.setdefault(record["key"], []).append(place)

    def _check(self, known: Any, setup: Mapping[str, Any]) -> None:
        if not isinstance(known, dict):
            raise InputError(f"{self.path}: holds no answers; remove it, or give the output another name")
        for name in {**known, **setup}:
            if known.get(name) != setup.get(name):
                raise InputError(
                    f"{self.path}: holds answers with {name} {json.dumps(known.get(name))}, and this run has "
                    f"{json.dumps(setup.get(name))}; give the output another name, or remove that file to start anew"
                )

    def count(self, key: str) -> int:
        return max((place.at + place.count for place in self._places.get(key, ())), default=0)

    def add(self, key: str, at: int, reply: Reply) -> None:
        choices = [{"text": choice.text, "finish_reason": choice.finish_reason} for choice in reply.choices]
        record = {"key": key, "at": at, "model": reply.model, "tokens": reply.completion_tokens, "choices": choices}
        self._places.setdefault(key, []).append(_Place(at, len(choices), self._journal.append(_line(record))))

    def of(self, key: str) -> list[Choice]:
        """All answers to a question, in the order in which they were asked for."""
        with self.path.open("rb") as file:
            choices: dict[int, Choice] = {}
            for place in self._places.get(key, ()):
                file.seek(place.position)
                for n, choice in enumerate(_record(file.readline())["choices"]):
                    choices.setdefault(place.at + n, Choice(choice["text"], choice["finish_reason"]))
        return [choices[n] for n in sorted(choices)]


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _record(line: bytes) -> dict[str, Any]:
    """Of a line that a killed process left, nothing."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
