"""Which questions of benchmarks the rows of a file touch."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar, get_args

from capcurr_plugin.data import wordings
from capcurr_plugin.data.benchmark_tables import Question, read_questions, refuse
from capcurr_plugin.data.lookalikes import Fingerprinter, Lookalikes, Match
from capcurr_plugin.data.wordings import Questions, Wording
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.row_files import BadRows, RowReader
from capcurr_plugin.rows import ImageRoot, Row, RowError

Kind = Literal["exact-image", "near-image", "exact-text", "near-text", "image-and-text"]
KINDS: tuple[Kind, ...] = get_args(Kind)

CHUNK_BYTES = 64 << 20  # of rows, or questions, that are held at a time
REMEMBERED = 1 << 14  # image files whose matches are kept, because rows share images

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a benchmark."""

    benchmark: str
    number: int  # of its row in the table
    index: str
    texts: frozenset[bytes]  # digests


@dataclass(frozen=True, slots=True)
class Touch:
    """What a row shares with one question."""

    question: int
    kinds: tuple[Kind, ...]
    image: str | None
    image_distance: int | None
    text_similarity: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A training row, and the questions that it touches."""

    file: Path
    number: int
    row: Row
    touches: list[Touch]

    @property
    def kinds(self) -> set[Kind]:
        return {kind for touch in self.touches for kind in touch.kinds}


# Benchmarks


class Benchmarks:
    """The questions of all tables, by their images and by their texts."""

    def __init__(
        self,
        pictures: Lookalikes,
        texts: Questions,
        fingerprinter: Fingerprinter,
        bad: BadRows,
        compare: Collection[str],
    ) -> None:
        self.pictures, self.texts, self.fingerprinter = pictures, texts, fingerprinter
        self.with_images, self.with_texts = "images" in compare, "texts" in compare
        self.asked: list[Asked] = []
        self.counts: dict[str, Counter[str]] = {}  # benchmark -> questions and images
        self.blank = 0  # images
        self._askers: dict[int, list[int]] = {}  # picture -> questions
        self._bad = bad

    def read(self, table: Path) -> None:
        """All questions of a table."""
        counts = self.counts[table.stem] = Counter(questions=0, images=0)
        own: dict[str, list[int]] = {}  # pictures, by the index of the question
        waiting: list[Question] = []
        with progress_bar() as tell:
            questions = read_questions(table, self._bad, tell, self.with_images)
            for chunk in _chunks(questions, self.fingerprinter.rows_at_once, _size_of_question):
                for question, pictures in self._pictures(table, chunk):
                    if question.same_images_as is not None:
                        waiting.append(question)
                        continue
                    own[question.index] = pictures
                    counts["images"] += len(question.images)
                    self._add(table.stem, question, pictures)
        for question in waiting:
            assert question.same_images_as is not None
            if question.same_images_as in own:
                self._add(table.stem, question, own[question.same_images_as])
            else:
                reason = f"column 'image' names row {question.same_images_as!r}, which has no image of its own"
                refuse(table, question.number, reason, self._bad)
        if not counts["questions"]:
            raise self._bad.nothing_left(table)
        self.texts.settle(table.stem)

    def _pictures(self, table: Path, chunk: Sequence[Question]) -> Iterator[tuple[Question, list[int]]]:
        """Each question with the numbers of its pictures; one with a bad image is refused."""
        taken = iter(self.fingerprinter.all([image for question in chunk for image in question.images]))
        for question in chunk:
            found = list(islice(taken, len(question.images)))
            good = [one for one in found if not isinstance(one, str)]
            if len(good) < len(found):
                refuse(table, question.number, next(one for one in found if isinstance(one, str)), self._bad)
                continue
            self.blank += sum(one.blank for one in good)
            yield question, [self.pictures.add(one) for one in good if not one.blank]

    def _add(self, benchmark: str, question: Question, pictures: list[int]) -> None:
        number = len(self.asked)
        digests = frozenset(wordings.digest(wordings.normal(text)) for text in question.texts)
        self.asked.append(Asked(benchmark, question.number, question.index, digests))
        self.counts[benchmark]["questions"] += 1
        for picture in dict.fromkeys(pictures):
            self._askers.setdefault(picture, []).append(number)
        if self.with_texts:
            self.texts.add(benchmark, number, question.texts)

    def close(self) -> None:
        """To be called when all tables are read."""
        self.texts.close()

    def touches(self, row: Row, images: Iterable[tuple[str, Sequence[Match]]]) -> list[Touch]:
        """What a row shares with questions, given what its images match; in the order of the tables."""
        by_image: dict[int, tuple[Match, str]] = {}
        for name, matches in images:
            for match in matches:
                for question in self._askers[match.number]:
                    best = by_image.get(question)
                    if best is None or (not match.exact, match.distance) < (not best[0].exact, best[0].distance):
                        by_image[question] = match, name
        by_text = {wording.question: wording for wording in self.texts.asked_by(row.problem)}
        text = wordings.digest(wordings.normal(row.problem)) if by_image and self.with_texts else None
        touches = []
        for question in {**by_image, **by_text}:
            same_text = text is not None and text in self.asked[question].texts
            touches.append(_touch(question, *by_image.get(question, (None, None)), by_text.get(question), same_text))
        return sorted(touches, key=lambda touch: self.place(touch.question))

    def place(self, question: int) -> tuple[str, int]:
        return self.asked[question].benchmark, self.asked[question].number


def _chunks(items: Iterable[Item], count: int, size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """As many as may be held at a time."""
    chunk, size = [], 0
    for item in items:
        chunk.append(item)
        size += size_of(item)
        if len(chunk) == count or size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _size_of_question(question: Question) -> int:
    images = sum(len(source) for source, _ in question.images if isinstance(source, bytes))
    return images + sum(map(len, question.texts))


def _touch(question: int, match: Match | None, image: str | None, wording: Wording | None, same_text: bool) -> Touch:
    kinds: list[Kind] = []
    if match:
        kinds.append("exact-image" if match.exact else "near-image")
    if wording:
        kinds.append("exact-text" if wording.exact else "near-text")
    if match and (wording or same_text):
        kinds.append("image-and-text")
    similarity = 1.0 if same_text else wording.similarity if wording else None
    return Touch(question, tuple(kinds), image, match.distance if match else None, similarity)


# Training rows


class Matcher:
    """Matches the rows of one file."""

    def __init__(self, reader: RowReader, known: Benchmarks, root: ImageRoot) -> None:
        self.reader, self.known, self.root = reader, known, root
        self._matches: dict[Path, list[Match] | str] = {}  # or why an image has none

    def judged(self) -> Iterator[Judged]:
        found = False
        for chunk in _chunks(self._placed(), self.known.fingerprinter.rows_at_once, lambda one: len(repr(one))):
            self._match({place: name for _, _, places in chunk for name, place in places.items()})
            for number, row, places in chunk:
                try:
                    touches = self.known.touches(row, self._images(places))
                except RowError as error:
                    self.reader.refuse(str(error), row.record(), number)
                else:
                    found = True
                    yield Judged(self.reader.path, number, row, touches)
        if not found:
            raise self.reader.bad.nothing_left(self.reader.path)

    def _placed(self) -> Iterator[tuple[int, Row, dict[str, Path]]]:
        """Each row with its number and the files of its images."""
        for row in self.reader:
            try:
                wordings.check_length(row.problem)
                places = {name: self.root.find(name) for name in row.images} if self.known.with_images else {}
            except RowError as error:
                self.reader.refuse(str(error), row.record())
            else:
                yield self.reader.number, row, places

    def _match(self, places: dict[Path, str]) -> None:
        """Find what images match, unless it is known."""
        if len(self._matches) > REMEMBERED:
            self._matches.clear()
        new = [(place, name) for place, name in places.items() if place not in self._matches]
        taken = self.known.fingerprinter.all(new)
        matches = iter(self.known.pictures.matches([one for one in taken if not isinstance(one, str)]))
        for (place, _), one in zip(new, taken, strict=True):
            self._matches[place] = one if isinstance(one, str) else next(matches)

    def _images(self, places: dict[str, Path]) -> Iterator[tuple[str, list[Match]]]:
        for name, place in places.items():
            matches = self._matches[place]
            if isinstance(matches, str):
                raise RowError(matches)
            yield name, matches
