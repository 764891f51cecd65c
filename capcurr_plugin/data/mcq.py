"""Multiple-choice rows as they are asked: the letter that an answer names, and the options in another order."""

import re
from collections.abc import Mapping

from capcurr_plugin.reward import extract_boxed, verify
from capcurr_plugin.rows import IMAGE_MARK, OPTION_LETTERS, Row, RowError

REQUEST = "Answer with the letter of the right option only."
FROM_CAPTION = "Answer from this description of an image."

_THINKING = re.compile(r".*</think(?:ing)?>", re.DOTALL)


def options_of(row: Row) -> dict[str, str]:
    texts = row.options
    if texts is None or row.answer not in tuple(OPTION_LETTERS):
        raise RowError("is no multiple-choice row: it needs option_A to option_D, and an answer that is one letter")
    return dict(zip(OPTION_LETTERS, texts, strict=True))


def letter_of(response: str, options: Mapping[str, str]) -> str | None:
    """The one letter that a response names; None when it names none, or more."""
    said = extract_boxed(response) or _THINKING.sub("", response).strip()
    first_line = said.partition("\n")[0].strip()
    for text in dict.fromkeys((said, first_line)):
        named = [letter for letter in options if text and verify(text, letter, options=options)]
        if named:
            return named[0] if len(named) == 1 else None
    return None


def question_text(question: str, options: Mapping[str, str], request: str) -> str:
    """`<image>`, the question, its options in lines of their own, and what is to be answered."""
    lines = [f"{letter}: {text}" for letter, text in options.items()]
    return "\n".join([f"<image>{question}", *lines, request])


def about_caption(problem: str, caption: str) -> str:
    """The question as it is asked of one who sees no image."""
    return f"{FROM_CAPTION}\n\n{caption}\n\n{problem.replace(IMAGE_MARK, '').strip()}"


def reordered(row: Row, shift: int) -> Row:
    """The same question with each option `shift` letters further on."""
    options = options_of(row)
    texts = list(options.values())
    moved = dict(zip(OPTION_LETTERS, texts[-shift:] + texts[:-shift], strict=True))
    lines = ["\n".join(f"{letter}: {text}" for letter, text in each.items()) for each in (options, moved)]
    if row.problem.count(lines[0]) != 1:
        raise RowError("its options do not stand as lines 'A: ...' to 'D: ...' in the problem; it has no second order")
    answer = OPTION_LETTERS[(OPTION_LETTERS.index(row.answer) + shift) % len(OPTION_LETTERS)]
    extra = row.extra | {f"option_{letter}": text for letter, text in moved.items()}
    problem = row.problem.replace(lines[0], lines[1])
    return Row(row.index, problem, answer, row.images, row.source, extra=extra)
