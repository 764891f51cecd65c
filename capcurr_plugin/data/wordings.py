"""Which texts ask a benchmark's questions, word for word or nearly so.

Texts are compared by the runs of words that they share. An index of the benchmarks' runs finds every match, where
MinHash with LSH would miss some: the questions of benchmarks are few, and runs that many of them hold are no sign.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

NGRAM = 3  # words in a run
SIMILARITY = 0.7  # share of a question's own runs that a near text holds
MIN_RUNS = 10  # of its own that a question needs for its text alone to tell
COMMON = 20  # questions of a benchmark; a run that more of them hold is its template's

_MARK = re.compile(r"<image[ _]?\d*>")
_OPTION = re.compile(r"^[ \t]*[(\[]?([a-h])[)\].:][ \t]*\S.*$", re.MULTILINE)
_HEADING = re.compile(r"^[ \t]*(?:choices|options)[ \t]*:?[ \t]*$", re.MULTILINE)
# A run of letters and digits is a word; where words have no spaces between them, a character is.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


@dataclass(frozen=True, slots=True)
class Wording:
    """How a text is like a question."""

    question: int
    similarity: float  # share of the question's own runs that the text holds
    exact: bool  # nothing but case, space, marks of images and lines of options differs


def normal(text: str) -> str:
    """The text without what may change when it is copied: case, space, marks of images, lines of options."""
    text = _MARK.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    if {"a", "b"} <= set(_OPTION.findall(text)):
        text = _HEADING.sub("", _OPTION.sub("", text))
    return " ".join(text.split())


def digest(normal_text: str) -> bytes:
    return blake2b(normal_text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def runs(normal_text: str, length: int) -> set[int]:
    """The runs of so many words, as numbers of 64 bits; a shorter text has none."""
    words = _WORD.findall(normal_text)
    return {_number(" ".join(words[i : i + length])) for i in range(len(words) - length + 1)}


@lru_cache(1 << 16)
def _number(run: str) -> int:
    return int.from_bytes(blake2b(run.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Questions:
    """The benchmarks' questions, to find those that texts ask."""

    def __init__(self, ngram: int = NGRAM, similarity: float = SIMILARITY, min_runs: int = MIN_RUNS) -> None:
        self.ngram, self.similarity, self.min_runs = ngram, similarity, min_runs
        self._runs: list[np.ndarray] = []  # of each text
        self._questions: list[int] = []  # that each text belongs to
        self._digests: list[bytes] = []
        self._holders: defaultdict[str, Counter[int]] = defaultdict(Counter)  # benchmark -> run -> questions
        self._common: set[int] = set()  # runs

    def add(self, benchmark: str, question: int, texts: Iterable[str]) -> None:
        """A question, by any number, and the texts that ask it."""
        import numpy as np

        held: set[int] = set()
        for text in dict.fromkeys(map(normal, texts)):
            found = runs(text, self.ngram)
            held |= found
            self._runs.append(np.array(sorted(found), dtype=np.uint64))
            self._questions.append(question)
            self._digests.append(digest(text))
        self._holders[benchmark].update(held)

    def settle(self, benchmark: str) -> None:
        """To be called when all questions of a benchmark are added: how often they hold which run need not be kept."""
        holders = self._holders.pop(benchmark, Counter())
        self._common |= {run for run, count in holders.items() if count > COMMON}

    def close(self) -> None:
        """To be called when all questions are added."""
        import numpy as np

        for benchmark in list(self._holders):
            self.settle(benchmark)
        template = np.array(sorted(self._common), dtype=np.uint64)
        own = [one[~np.isin(one, template)] for one in self._runs]
        self._sizes = np.array([len(one) for one in own], dtype=np.int64)
        flat = np.concatenate([*own, np.empty(0, dtype=np.uint64)])
        holders = np.repeat(np.arange(len(own)), self._sizes)
        order = np.lexsort((holders, flat))
        self._index, self._texts = flat[order], holders[order]
        self._runs.clear()
        self._same: defaultdict[bytes, list[int]] = defaultdict(list)
        for number, one in enumerate(self._digests):
            if self._sizes[number] >= self.min_runs:
                self._same[one].append(number)

    @property
    def templates(self) -> int:
        """How many questions have too little of their own for their text alone to tell."""
        telling = {q for q, size in zip(self._questions, self._sizes, strict=True) if size >= self.min_runs}
        return len(set(self._questions) - telling)

    def asked_by(self, texts: Sequence[str]) -> list[list[Wording]]:
        """Of each text, the questions that it asks, in their order."""
        normals = list(map(normal, texts))
        found = [self._near(normals), [self._exact(text) for text in normals]]
        return [_best([*near, *exact]) for near, exact in zip(*found, strict=True)]

    def _exact(self, text: str) -> list[Wording]:
        return [Wording(self._questions[number], 1.0, exact=True) for number in self._same.get(digest(text), ())]

    def _near(self, normals: Sequence[str]) -> list[list[Wording]]:
        import numpy as np

        held = [np.fromiter(runs(text, self.ngram), dtype=np.uint64) for text in normals]
        places = np.repeat(np.arange(len(held)), [len(one) for one in held])
        flat = np.concatenate([*held, np.empty(0, dtype=np.uint64)])
        first, last = (np.searchsorted(self._index, flat, side) for side in ("left", "right"))
        counts = last - first
        # Each run of a text stands beside each question's text that holds it.
        offsets = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        holders = self._texts[np.repeat(first, counts) + offsets]
        pairs, shared = np.unique(np.repeat(places, counts) * len(self._sizes) + holders, return_counts=True)
        places, numbers = pairs // len(self._sizes), pairs % len(self._sizes)
        shares = shared / self._sizes[numbers]
        near = (shares >= self.similarity) & (self._sizes[numbers] >= self.min_runs)
        found: list[list[Wording]] = [[] for _ in normals]
        for place, number, share in zip(places[near], numbers[near], shares[near], strict=True):
            found[place].append(Wording(self._questions[number], float(share), exact=False))
        return found


def _best(wordings: Iterable[Wording]) -> list[Wording]:
    """Of each question the nearest one: it may have several texts."""
    best: dict[int, Wording] = {}
    for one in wordings:
        known = best.setdefault(one.question, one)
        if (one.exact, one.similarity) > (known.exact, known.similarity):
            best[one.question] = one
    return [best[question] for question in sorted(best)]
