"""From the results of models to the verdicts on their wrong answers, which can be stopped at any moment: what was paid
for is kept with the judge's replies, and found there when the job is run again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from capcurr_plugin.atomic import check_place, replacing
from capcurr_plugin.attribution.asking import Asking, likely_tokens
from capcurr_plugin.attribution.batches import Batches, Unasked
from capcurr_plugin.attribution.cases import Gathered, Sampled, gather, read_gathered
from capcurr_plugin.attribution.records import UNDECIDED, Record, Vote, WrongAnswer, images_folder, majority
from capcurr_plugin.attribution.shares import Kinds
from capcurr_plugin.errors import InputError, JobError
from capcurr_plugin.evaluation.results import Model
from capcurr_plugin.judge.clients import Question, QuestionRefused
from capcurr_plugin.judge.config import JudgeConfig
from capcurr_plugin.judge.judge import Judge, most_tokens
from capcurr_plugin.judge.ledger import Reply
from capcurr_plugin.locks import holding
from capcurr_plugin.threads import in_threads

REFUSED = 5  # questions that the judge's server does not take, and a fifth of all, end the job
TOLD_EVERY = 0.5  # seconds


@dataclass
class Estimate:
    """What is still to be asked, and what that may cost; each rejected reply costs once more."""

    answers: int = 0
    kept: int = 0  # votes that have been paid for
    calls: int = 0
    input_tokens: int = 0
    usd: float = 0.0
    most_usd: float = 0.0
    smaller: int = 0  # answers with a picture that the judge sees smaller than it is

    def line(self, config: JudgeConfig, max_usd: float | None) -> str:
        kept = f", {self.kept:,} verdicts are there" if self.kept else ""
        cost = f"about ${self.usd:.2f}, at most ${self.most_usd:.2f} if no verdict is rejected"
        cost = cost if config.usd_per_million else "at a price that is not known (usd_per_million)"
        bound = f"; it stops before ${max_usd:g}" if max_usd is not None else ""
        asked = f"{self.calls:,} calls to {config.name}, about {self.input_tokens:,} tokens in: {cost}{bound}"
        return f"{self.answers:,} wrong answers{kept}; {asked if self.calls else 'nothing is left to ask'}"


@dataclass
class Job:
    output: Path
    judge: Judge
    asking: Asking
    tables: Path  # of the benchmarks
    sampled: Sampled
    batch: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = self._refused = 0

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Two jobs with one output would pay for the same."""
        check_place(self.output)
        try:
            images_folder(self.output).mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.output}: cannot be written ({error.strerror})") from None
        lock = self._beside("lock")
        with holding(lock, f"{self.output}: another capcurr attribute works on it; wait for it, or end it"):
            yield
            lock.unlink(missing_ok=True)

    @property
    def cases(self) -> Path:
        """What is to be judged, while the job is under way."""
        return self._beside("cases.jsonl")

    def _beside(self, ending: str) -> Path:
        return self.output.with_name(f"{self.output.name}.{ending}")

    def gather(self, models: Mapping[str, Model]) -> Gathered:
        with replacing(self.cases) as file:
            return gather(models, self.tables, self.sampled, images_folder(self.output), file)

    def estimate(self) -> Estimate:
        estimate, config, counted = Estimate(), self.judge.config, set[str]()
        for answer, why in read_gathered(self.cases):
            estimate.answers += 1
            if why:
                continue
            pictures = self.asking.pictures(answer)
            estimate.smaller += any(picture.shrinks for picture in pictures)
            for number in range(self.asking.votes):
                try:
                    self.asking.vote(answer, pictures, lambda question, n=number: self._kept(question, n))
                    estimate.kept += 1
                except Unasked as unasked:
                    if unasked.key in counted:  # two models may say the same
                        continue
                    counted.add(unasked.key)
                    likely = likely_tokens(unasked.question)
                    estimate.calls += 1
                    estimate.input_tokens += likely.input
                    estimate.usd += config.usd(likely, self.batch)
                    estimate.most_usd += config.usd(most_tokens(unasked.question), self.batch)
        return estimate

    def _kept(self, question: Question, number: int) -> Reply:
        key = self.judge.key(question, number)
        reply = self.judge.ledger.verdict(key)
        if reply is None:
            raise Unasked(question, key)
        return reply

    # Asking

    def votes(self, total: int) -> list[tuple[Vote, ...]]:
        """On each wrong answer, in the order of the cases."""
        if self.batch:
            return self._from_batches()
        found: list[tuple[Vote, ...]] = [()] * total
        with _bar(total, self.judge) as tell:
            # Some more than calls at once, so that the next questions are ready when a call ends.
            threads = self.judge.parallel + self.judge.parallel // 4 + 1
            for place, votes in in_threads(self._judged, enumerate(read_gathered(self.cases)), threads):
                found[place] = votes
                tell(votes)
        return found

    def _judged(self, item: tuple[int, tuple[WrongAnswer, str]]) -> tuple[int, tuple[Vote, ...]]:
        place, (answer, why) = item
        return place, self._votes_on(answer, why, self._paid)

    def _votes_on(self, answer: WrongAnswer, why: str, reply: Callable[[Question, int], Reply]) -> tuple[Vote, ...]:
        """One after another: a server that keeps the first question charges little for the next."""
        if why:
            return (Vote(UNDECIDED, tries=0, why=why),) * self.asking.votes
        pictures = self.asking.pictures(answer)
        return tuple(
            self.asking.vote(answer, pictures, lambda question, n=number: reply(question, n))
            for number in range(self.asking.votes)
        )

    def _paid(self, question: Question, number: int) -> Reply:
        try:
            reply = self.judge.reply(question, number)
        except QuestionRefused as error:
            self._count(refused=True)
            if self._refused >= REFUSED and self._refused * 5 >= self._asked:
                raise JobError(f"{error} (so it went with {self._refused:,} of {self._asked:,} questions)") from None
            raise
        self._count(refused=False)
        return reply

    def _count(self, refused: bool) -> None:
        with self._lock:
            self._asked += 1
            self._refused += refused

    def _from_batches(self) -> list[tuple[Vote, ...]]:
        """In rounds: a reply that is no verdict leads to another question."""
        batches = Batches(self.judge, self._beside("batches.jsonl"))
        batches.finish()  # what an earlier run has sent
        while batches.send(self._unasked(batches)):
            batches.finish()
        found = [self._votes_on(answer, why, batches.reply) for answer, why in read_gathered(self.cases)]
        batches.forget()
        return found

    def _unasked(self, batches: Batches) -> Iterator[Unasked]:
        for answer, why in read_gathered(self.cases):
            if why:
                continue
            pictures = self.asking.pictures(answer)
            for number in range(self.asking.votes):
                try:
                    self.asking.vote(answer, pictures, lambda question, n=number: batches.reply(question, n))
                except Unasked as unasked:
                    yield unasked

    def write(self, votes: Sequence[tuple[Vote, ...]]) -> list[Kinds]:
        """The records; what numbers are made of is returned."""
        kinds = []
        with replacing(self.output) as file:
            for (answer, _), of_answer in zip(read_gathered(self.cases), votes, strict=True):
                record = Record(**vars(answer), judge=self.judge.config.name, votes=of_answer)
                file.write(record.line())
                kinds.append(Kinds(*(getattr(record, field.name) for field in fields(Kinds))))
        self.cases.unlink()
        return kinds


def run_of(output: Path) -> str:
    """Names the job wherever it is started again, so that its spend is added up."""
    return f"attribute {hashlib.sha256(os.fsencode(output.absolute())).hexdigest()[:24]}"


@contextlib.contextmanager
def _bar(total: int, judge: Judge) -> Iterator[Callable[[Sequence[Vote]], None]]:
    from tqdm import tqdm

    counts, told = Counter[str](), time.monotonic()
    with tqdm(total=total, desc="attributing", unit="error", disable=None, smoothing=0.05) as bar:

        def tell(votes: Sequence[Vote]) -> None:
            nonlocal told
            counts[majority([vote.kind for vote in votes])] += 1
            bar.update()
            if not bar.disable and time.monotonic() - told > TOLD_EVERY:
                told = time.monotonic()
                facts = {kind: f"{counts[kind] / counts.total():.1%}" for kind in ("perception", UNDECIDED)}
                bar.set_postfix(facts | {"paid": f"${judge.spend().usd:.2f}"})

        yield tell
