"""The kinds of a wrong answer: where the first error is that the answer hangs on.

The first four are those of MMErroR (ACL 2026), so that shares can be compared with it. The other three are no errors of
the model's reading or thinking; without them a judge has to blame one of the four for them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "perception",
    "reasoning",
    "knowledge",
    "question_comprehension",
    "flawed_question_or_label",
    "format_or_extraction",
    "answer_is_right",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
ERRORS: tuple[Kind, ...] = KINDS[:4]  # of the model's own, and comparable


@dataclass(frozen=True)
class Meaning:
    rule: str
    example: str


MEANINGS: dict[Kind, Meaning] = {
    "perception": Meaning(
        "The response states something about the image that the image does not show, or misses something that it shows "
        "and the answer needs: an object, a number, a word, a colour, a place, a relation, a line, a value on an axis.",
        "The bar ends at 40, the response reads 60 and calculates rightly with 60.",
    ),
    "reasoning": Meaning(
        "Everything that was read is right, and a step does not follow: a wrong calculation, a wrong deduction, a case "
        "left out, a contradiction.",
        "Read rightly: 12 apples, 5 eaten. 'So 12 - 5 = 8 are left.'",
    ),
    "knowledge": Meaning(
        "A fact, formula or definition from outside the image and the question is wrong or missing.",
        "Read rightly: a circle of radius 3. 'The area of a circle is 2 pi r.'",
    ),
    "question_comprehension": Meaning(
        "The response answers something else than was asked: another object, another quantity, a condition or an "
        "option misread.",
        "Asked how many dogs are NOT on the grass, the response counts those on the grass, rightly.",
    ),
    "flawed_question_or_label": Meaning(
        "The given answer is wrong, or the question with its image has no answer, or several.",
        "The image shows 3 cups, the response says 3, and the given answer is 4.",
    ),
    "format_or_extraction": Meaning(
        "The response reaches the given answer but does not say it in a form that was recognised, or is cut off before "
        "it ends.",
        "The last line is 'so it must be the second option', and the given answer is B.",
    ),
    "answer_is_right": Meaning(
        "The final answer is the given answer, perhaps written in another way, and was counted as wrong.",
        "Given: 0.5. The response ends in \\boxed{1/2}.",
    ),
}
