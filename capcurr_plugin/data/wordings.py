"""Which texts ask a benchmark's questions, word for word or nearly so.

Texts are compared by the runs of words that they share. An index of the benchmarks' runs finds every match, where
MinHash with LSH would miss some: the questions of benchmarks are few, and runs that many of them hold are no sign.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from capcurr_plugin.rows import RowError

if TYPE_CHECKING:
    import numpy as np

NGRAM = 3  # words in a run
SIMILARITY = 0.7  # share of a question's own runs that a near text holds
MIN_RUNS = 10  # of its own that a question needs for its text alone to tell
NEAR_RUNS = 20  # of these that a near text holds: in a short question, each word is the question
MAX_TEXT = 1 << 20  # characters
COMMON = 20  # questions of a benchmark; a run that more of them hold is its template's

_MARK = re.compile(r"<image[ _]?\d*>")
_OPTION = re.compile(r"^[ \t]*[(\[]?([a-h])[)\].:][ \t]*\S.*$", re.MULTILINE)
_HEADING = re.compile(r"^[ \t]*(?:choices|options)[ \t]*:?[ \t]*$", re.MULTILINE)
# Letters and digits in a row are a word, up to a bound; where words have no spaces between them, a character is.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{1,64}")


@dataclass(frozen=True, slots=True)
class Wording:
    """How a text is like a question."""

    question: int
    similarity: float  # share of the question's own runs that the text holds
    exact: bool  # nothing but case, space, marks of images and lines of options differs


def check_length(text: str) -> None:
    if len(text) > MAX_TEXT:
        raise RowError(f"a text has over {MAX_TEXT:,} characters")


def normal(text: str) -> str:
    """The text without what may change when it is copied: case, space, marks of images, lines of options."""
    text = _MARK.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    if {"a", "b"} <= set(_OPTION.findall(text)):
        text = _HEADING.sub("", _OPTION.sub("", text))
    return " ".join(text.split())


def digest(normal_text: str) -> bytes:
    return blake2b(normal_text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def runs(normal_text: str) -> set[int]:
    """The runs of NGRAM words, as numbers of 64 bits; a shorter text has none."""
    words = _WORD.findall(normal_text)
    return {_number(" ".join(words[i : i + NGRAM])) for i in range(len(words) - NGRAM + 1)}


@lru_cache(1 << 16)
def _number(run: str) -> int:
    return int.from_bytes(blake2b(run.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Questions:
    """The benchmarks' questions, to find those that texts ask."""

    def __init__(self, similarity: float = SIMILARITY) -> None:
        self.similarity = similarity
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
            found = runs(text)
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
            if self._sizes[number] >= MIN_RUNS:
                self._same[one].append(number)

    @property
    def templates(self) -> int:
        """How many questions have too little of their own for their text alone to tell."""
        telling = {q for q, size in zip(self._questions, self._sizes, strict=True) if size >= MIN_RUNS}
        return len(set(self._questions) - telling)

    def asked_by(self, text: str) -> list[Wording]:
        """The questions that a text asks, in their order."""
        text = normal(text)
        exact = [Wording(self._questions[number], 1.0, exact=True) for number in self._same.get(digest(text), ())]
        return _best([*self._near(text), *exact])

    def _near(self, normal_text: str) -> list[Wording]:
        import numpy as np

        held = np.fromiter(runs(normal_text), dtype=np.uint64)
        first, last = (np.searchsorted(self._index, held, side) for side in ("left", "right"))
        holders = [self._texts[first[place] : last[place]] for place in np.flatnonzero(last > first)]
        if not holders:
            return []
        numbers, shared = np.unique(np.concatenate(holders), return_counts=True)
        shares = shared / self._sizes[numbers]
        near = (shares >= self.similarity) & (shared >= NEAR_RUNS)
        found = zip(numbers[near].tolist(), shares[near].tolist(), strict=True)
        return [Wording(self._questions[number], share, exact=False) for number, share in found]


def _best(wordings: Iterable[Wording]) -> list[Wording]:
    """Of each question the nearest one: it may have several texts."""
    best: dict[int, Wording] = {}
    for one in wordings:
        known = best.setdefault(one.question, one)
        if (one.exact, one.similarity) > (known.exact, known.similarity):
            best[one.question] = one
    return [best[question] for question in sorted(best)]
