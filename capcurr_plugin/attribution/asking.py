"""How a judge comes to a verdict on a wrong answer: what it is asked, how often, and what becomes of its replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from capcurr_plugin.attribution.records import UNDECIDED, Vote, WrongAnswer
from capcurr_plugin.attribution.verdicts import Case, Rejected, read_verdict, system_text
from capcurr_plugin.images import MAX_PIXELS, image_size, sendable
from capcurr_plugin.judge.clients import Picture, Question, QuestionRefused
from capcurr_plugin.judge.config import JudgeConfig, Tokens
from capcurr_plugin.judge.ledger import Reply
from capcurr_plugin.rows import RowError

TRIES = 3  # questions for one vote: a reply that is no verdict is answered with the reason
REFUSING = ("refusal", "content_filter")
CUT_OFF = ("max_tokens", "length")

# What Claude looks at: a larger image is made smaller at the server.
CLAUDE_PIXELS, CLAUDE_SIDE = 1_150_000, 1_568
OTHER_PIXELS = 4_000_000  # for servers that take images as they are

# For estimates only: what is paid is what servers count.
CHARACTERS_PER_TOKEN, PIXELS_PER_TOKEN, VERDICT_TOKENS = 3.6, 750, 180


@dataclass(frozen=True)
class Fitted:
    """A picture's file, made as large as the judge looks at when it is sent."""

    path: Path
    max_pixels: int
    max_side: int

    @property
    def digest(self) -> str:
        return f"{self.path.name} {self.max_pixels} {self.max_side}"  # the file is named by its content

    def sent(self) -> tuple[bytes, str]:
        return sendable(self.path, self.path.name, 1, self.max_pixels, self.max_side, check=False)

    @property
    def shrinks(self) -> bool:
        """The judge sees fewer pixels than the model may have seen."""
        width, height = image_size(self.path, self.path.name)
        return width * height > self.max_pixels or max(width, height) > self.max_side


@dataclass(frozen=True)
class Asking:
    config: JudgeConfig
    votes: int
    images: Path
    max_pixels: int | None = None  # None: as the judge's API has it

    @property
    def temperature(self) -> float:
        """Votes have to be able to differ."""
        return 0.0 if self.votes == 1 else 1.0

    def pictures(self, answer: WrongAnswer) -> list[Fitted]:
        claude = self.config.api != "openai"
        pixels = self.max_pixels or (CLAUDE_PIXELS if claude else OTHER_PIXELS)
        return [Fitted(self.images / name, pixels, CLAUDE_SIDE if claude else MAX_PIXELS) for name in answer.images]

    def question(self, case: Case, pictures: Sequence[Picture], rejected: Sequence[str]) -> Question:
        parts: list[str | Picture] = [case.before_images(), *pictures, case.after_images()]
        if rejected:
            reasons = "\n".join(f"- {reason}" for reason in rejected)
            parts.append(
                f"Your earlier replies to this were rejected:\n{reasons}\nReply anew, with the JSON object alone."
            )
        return Question(
            parts, self.temperature, int(self.config.max_tokens), system_text(), to_be_repeated=self.votes > 1
        )

    def vote(self, answer: WrongAnswer, pictures: Sequence[Picture], reply: Callable[[Question], Reply]) -> Vote:
        """From as many replies as it takes, or undecided after TRIES. `reply` may raise to say that there is none."""
        case, rejected = answer.case, list[str]()
        while len(rejected) < TRIES:
            try:
                said = reply(self.question(case, pictures, rejected))
            except (QuestionRefused, RowError) as error:  # the judge's server does not take it, or a file is gone
                return Vote(UNDECIDED, tries=len(rejected), why=str(error))
            try:
                verdict = read_verdict(said.text, case)
            except Rejected as error:
                rejected.append(_why(said, str(error)))
                continue
            return Vote(verdict.kind, verdict.quote, verdict.image, verdict.confidence, tries=len(rejected) + 1)
        return Vote(UNDECIDED, tries=TRIES, why=rejected[-1])


def _why(said: Reply, error: str) -> str:
    if said.stop in REFUSING or not said.text.strip():
        return "the judge refused" if said.stop in REFUSING else "the reply was empty"
    return f"the reply was cut off, and {error}" if said.stop in CUT_OFF else error


def likely_tokens(question: Question) -> Tokens:
    texts = sum(len(part) for part in question.parts if isinstance(part, str)) + len(question.system or "")
    pixels = 0
    for part in question.parts:
        if isinstance(part, Fitted):
            width, height = image_size(part.path, part.path.name)
            pixels += min(width * height, part.max_pixels)
    return Tokens(int(texts / CHARACTERS_PER_TOKEN + pixels / PIXELS_PER_TOKEN), VERDICT_TOKENS)
