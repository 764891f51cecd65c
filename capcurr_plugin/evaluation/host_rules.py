"""How VLMEvalKit reads answers, where its files hold the answer and not the verdict.

MathVista's and MathVision's judged files say what was extracted; what is right is decided when the score is computed.
The rules are VLMEvalKit's, but nothing is evaluated as code: what `eval` and LaTeX parsing would make of a text is done
here for lists, plain arithmetic and fractions. Where that is not enough, the share of right rows differs from that in
the score file, and whoever reads both says so.
"""

import ast
import operator
import re
from collections.abc import Mapping
from fractions import Fraction

MAX_TEXT = 2_000  # characters of an answer that is computed
MAX_DEPTH = 50
MAX_BITS = 4_096  # of a power
MAX_LIST = 100_000

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_MIXED = re.compile(r"(\d+)\s*(\\[dt]?frac\{\d+\}\{\d+\})")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
_DRESS = re.compile(r"\\(?:left|right|boxed|[()\[\],;:! ])|\^\{?\\circ\}?|\$")
_SIGNS = {"\\times": "*", "\\cdot": "*", "\\div": "/", ":": "/", "^": "**"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def option_of(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that an answer names, `Z` for a refusal; None where the rule sees none."""
    return _option_by_letter(answer, options) or _option_by_text(answer, options)


def _option_by_letter(answer: str, options: Mapping[str, str]) -> str | None:
    if "Failed to obtain answer via API" in answer:
        return None
    if any(refusal in answer for refusal in _REFUSALS):
        return "Z"
    words = answer.translate(str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    return "Z" if not named and "Z" in words else None


def _option_by_text(answer: str, options: Mapping[str, str]) -> str | None:
    answer = answer.lower()
    if len(answer) > 2 * sum(map(len, options.values())):
        return None
    named = [letter for letter, text in options.items() if text.lower() in answer]
    return named[0] if len(named) == 1 else None


def yes_or_no(answer: str) -> str:
    lowered = answer.lower()
    digits_comma = re.search(r"\d,\d", lowered) is not None
    text = lowered
    for sign in _PUNCTUATION:
        joined = digits_comma or f"{sign} " in lowered or f" {sign}" in lowered
        text = text.replace(sign, "" if joined else " ")
    words = re.sub(r"(?<!\d)\.(?!\d)", "", text, count=32).split()  # VLMEvalKit takes a flag, 32, for the count
    yes, no = "yes" in words, "no" in words
    return "Unknown" if yes == no else "Yes" if yes else "No"


def mathvista_is_right(row: Mapping[str, str]) -> bool:
    """Of integers, pandas makes decimals where a table has no other answers."""
    extracted = row["res"]
    if row["question_type"] == "multi_choice":
        return option_of(extracted, _lettered(row["choices"])) == row["answer_option"]
    try:
        if row["answer_type"] == "integer":
            return int(extracted) == int(row["answer"].strip().removesuffix(".0"))
        if row["answer_type"] == "float":
            return float(extracted) == float(row["answer"])
    except ValueError:
        pass
    return False  # also for texts: MathVista's own comparison of these never holds


def mathvision_is_right(row: Mapping[str, str]) -> bool:
    options = _lettered(row["choices"])
    extracted = (option_of(row["res"], options) or "False") if options else row["res"]
    given, wanted = extracted.lower().strip(), row["answer"].lower().strip()
    if given == wanted:
        return True
    first, second = number_of(given), number_of(wanted)
    return first is not None and second is not None and abs(first - second) < Fraction(1, 10**6)


def _lettered(choices: str) -> dict[str, str]:
    """What the text of a Python list says, by letter."""
    try:
        values = ast.literal_eval(choices) if len(choices) <= MAX_LIST else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        values = []
    return {chr(65 + i): str(value) for i, value in enumerate(values)} if isinstance(values, list) else {}


def number_of(text: str) -> Fraction | None:
    """The value of arithmetic on whole numbers and decimals, as Python or LaTeX writes it."""
    if len(text) > MAX_TEXT:
        return None
    text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), _DRESS.sub("", text))
    text = _FRACTION.sub(r"((\1)/(\2))", _MIXED.sub(r"(\1+\2)", text))
    for sign, operation in _SIGNS.items():
        text = text.replace(sign, operation)
    text = _LEADING_ZEROS.sub("", text.translate(str.maketrans("{}[]", "()()")))
    try:
        return _value(ast.parse(text.strip(), mode="eval").body, MAX_DEPTH)
    except (ValueError, SyntaxError, MemoryError, RecursionError, ZeroDivisionError):
        return None


def _value(node: ast.expr, depth: int) -> Fraction:
    if depth and isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if depth and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, depth - 1)
        return -value if isinstance(node.op, ast.USub) else value
    if depth and isinstance(node, ast.BinOp):
        left, right = _value(node.left, depth - 1), _value(node.right, depth - 1)
        if isinstance(node.op, ast.Pow) and right.denominator == 1:
            bits = max(left.numerator.bit_length(), left.denominator.bit_length())
            if bits * abs(right.numerator) <= MAX_BITS:
                return left**right.numerator
        if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](left, right)
    raise ValueError("no arithmetic")
