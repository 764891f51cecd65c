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
    counterexample: str  # looks like it, and is another kind


MEANINGS: dict[Kind, Meaning] = {
    "perception": Meaning(
        "The response states something about the image that the image does not show, or misses something that it shows "
        "and the answer needs: an object, a number, a word, a colour, a place, a relation, a line, a value on an axis.",
        "The bar ends at 40, the response reads 60 and calculates rightly with 60.",
        "The response reads 40 and 25 off the bars, as they are, and subtracts them to 25: reasoning.",
    ),
    "reasoning": Meaning(
        "Everything that was read is right, and a step does not follow: a wrong calculation, a wrong deduction, a case "
        "left out, a contradiction.",
        "Read rightly: 12 apples, 5 eaten. 'So 12 - 5 = 8 are left.'",
        "The response overlooks a third angle that the figure marks, and concludes rightly from two: perception.",
    ),
    "knowledge": Meaning(
        "A fact, formula or definition from outside the image and the question is wrong or missing.",
        "Read rightly: a circle of radius 3. 'The area of a circle is 2 pi r.'",
        "The response names the right formula, and puts the diameter where the figure marks a radius: perception.",
    ),
    "question_comprehension": Meaning(
        "The response answers something else than was asked: another object, another quantity, a condition or an "
        "option misread.",
        "Asked how many dogs are NOT on the grass, the response counts those on the grass, rightly.",
        "The response counts the dogs that are not on the grass, and misses one behind the fence: perception.",
    ),
    "flawed_question_or_label": Meaning(
        "The given answer is wrong, or the question with its image has no answer, or several.",
        "The image shows 3 cups, the response says 3, and the given answer is 4.",
        "The image shows 4 cups, one half hidden, the response says 3, and the given answer is 4: perception.",
    ),
    "format_or_extraction": Meaning(
        "The response reaches the given answer but does not say it in a form that was recognised, or is cut off before "
        "it ends.",
        "The last line is 'so it must be the second option', and the given answer is B.",
        "The response is cut off while it goes on from a number that it misread in the image: perception.",
    ),
    "answer_is_right": Meaning(
        "The final answer is the given answer, perhaps written in another way, and was counted as wrong.",
        "Given: 0.5. The response ends in \\boxed{1/2}.",
        "Given: 0.5, in metres. The response ends in \\boxed{50 m}, after a wrong conversion: reasoning.",
    ),
}
