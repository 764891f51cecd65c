r"""Mathematical expressions, LaTeX or plain: a parser and an evaluator that are bounded by construction.

Nothing here runs what a model wrote: text becomes tokens, tokens a tree, and a tree is computed with exact rationals
where that is possible and cheap, else with complex floats. Whatever is too long, too deep or too large is refused.
"""

import cmath
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MAX_CHARACTERS = 2_000
MAX_TOKENS = 400
MAX_DEPTH = 40
MAX_BITS = 4_096  # of an exact numerator or denominator
MAX_FACTORIAL = 400

Number = Fraction | complex


class NotAnExpression(ValueError):
    """The text is none, or one that is refused."""


@dataclass(frozen=True, slots=True)
class Node:
    """`kind` is "number", "symbol", an operator, or the name of a function."""

    kind: str
    parts: "tuple[Node, ...]" = ()
    value: Fraction = Fraction(0)
    name: str = ""


_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "﹣": "-", "＋": "+", "×": "*", "·": "*", "⋅": "*", "∙": "*", "∗": "*", "÷": "/",
        "∕": "/", "⁄": "/", "π": r"\pi ", "∞": r"\infty ", "°": r"\degree ", "√": r"\sqrt ", "∛": r"\cbrt ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ",
        "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "φ": r"\phi ",
        "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
        "⅕": r"\frac{1}{5}", "⅛": r"\frac{1}{8}", "（": "(", "）": ")", "，": ",", "：": ":",
        "⅙": r"\frac{1}{6}", "⅚": r"\frac{5}{6}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}",
        "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}",
    }
)  # fmt: skip
_RAISED, _LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-"), str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SCRIPTS = re.compile(r"([⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+)|([₀₁₂₃₄₅₆₇₈₉]+)")
_TOKEN = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)|\\([A-Za-z]+|.)|(\*\*|[A-Za-z])|(\S))", re.DOTALL)
_SPACES = frozenset({",", ";", ":", "!", " ", "quad", "qquad", "left", "right", "displaystyle", "limits", "big", "Big"})
# Commands that are written differently here, or not at all; every other one keeps its name.
_SAME = {
    "dfrac": "\\frac", "tfrac": "\\frac", "cfrac": "\\frac", "dbinom": "\\binom", "tbinom": "\\binom", "cdot": "*",
    "times": "*", "ast": "*", "div": "/", "lbrace": "(", "rbrace": ")", "{": "(", "}": ")", "lvert": "|", "rvert": "|",
    "vert": "|", "mid": "|", "circ": "\\degree", "%": "%", "operatorname": "", "mathrm": "", "mathbf": "", "mathit": "",
    "text": "", "lg": "\\log",
}  # fmt: skip
_FUNCTIONS = frozenset("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp sqrt cbrt".split())
_PLAIN_WORDS = {word: word for word in (*_FUNCTIONS, "pi", "infty", "theta")} | {"inf": "infty", "infinity": "infty"}
_WORDS = re.compile(r"[A-Za-z]{2,}")
_VARIABLES = re.compile(r"[^aeiouAEIOU]{3}|[abc]{3}|[A-Za-z]?[xyz][A-Za-z]?[xyz]|[xyz]{2}[A-Za-z]")
_SHORT_WORDS = frozenset("is it to no or of in so we at be by do if me my on up us an as he go ok".split())
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def parse(text: str) -> Node:
    """The expression that the whole text is."""
    if len(text) > MAX_CHARACTERS:
        raise NotAnExpression("too long")
    return _parse(text)


@lru_cache(256)  # a group of rollouts shares its ground truth
def _parse(text: str) -> Node:
    parser = _Parser(_tokens(text))
    node = parser.sum()
    if parser.peek():
        raise NotAnExpression(f"{parser.peek()!r} is left over")
    return node


def _tokens(text: str) -> list[str]:
    if not text.isascii():
        text = _SCRIPTS.sub(_script, text.translate(_UNICODE))
    text = _THOUSANDS.sub("", _WORDS.sub(_word, text))
    tokens: list[str] = []
    for number, command, letter, other in _TOKEN.findall(text):
        if command:
            if command in _SPACES:
                continue
            token = _SAME.get(command, f"\\{command}")
            if token:
                tokens.append(token)
        elif letter or number:
            tokens.append("^" if letter == "**" else number or letter)
        elif other != "$":
            tokens.append(other)
        if len(tokens) > MAX_TOKENS:
            raise NotAnExpression("too many tokens")
    return tokens


def _script(match: re.Match[str]) -> str:
    return f"^{{{match[1].translate(_RAISED)}}}" if match[1] else f"_{{{match[2].translate(_LOWERED)}}}"


def _word(match: re.Match[str]) -> str:
    """sin, pi and the like without their backslash; other short runs of letters multiply, unless they are a word."""
    run, before = match[0], match.string[: match.start()]
    if before.endswith(("\\", "_", "_{")):
        return run
    if run.isupper() and len(run) > 1:
        return f"\\name{run} "  # a name: its letters do not multiply
    if run in _PLAIN_WORDS:
        return f"\\{_PLAIN_WORDS[run]} "
    if len(run) > 3 or (len(run) == 3 and not _VARIABLES.fullmatch(run)) or run.lower() in _SHORT_WORDS:
        raise NotAnExpression(f"{run} is a word")
    return run


class _Parser:
    """Recursive descent; `depth` bounds the recursion."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str | None = None) -> str:
        token = self.peek()
        if not token or (wanted is not None and token != wanted):
            raise NotAnExpression(f"{wanted or 'more'} is missing")
        self.at += 1
        return token

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotAnExpression("too deep")
        node = self.product()
        while self.peek() in ("+", "-"):
            sign, right = self.take(), self.product()
            node = Node("+", (node, right if sign == "+" else Node("neg", (right,))))
        self.depth -= 1
        return node

    def product(self) -> Node:
        negative = self.signs()
        node = self.power()
        while True:
            token = self.peek()
            if token in ("*", "/"):
                self.take()
                node = Node(token, (node, self.signed()))
            elif self.starts_factor(token):
                node = self.beside(node)
            else:
                return Node("neg", (node,)) if negative else node

    def beside(self, left: Node) -> Node:
        r"""A factor without a sign between: a product, or a mixed number such as 1 1/2 and 1\frac{1}{2}."""
        bracketed = self.peek() in ("(", "[", "{")
        right = self.power()
        if left.kind != "number" or bracketed:
            return Node("*", (left, right))
        if right.kind == "number":
            self.take("/")  # two numbers side by side are no product
            right = Node("/", (right, self.power()))
            if not _is_proper(right):
                raise NotAnExpression("two numbers side by side")
        mixed = right.kind == "/" and left.value.denominator == 1 and _is_proper(right)
        return Node("+" if mixed else "*", (left, right))

    def starts_factor(self, token: str) -> bool:
        if not token or token in ("|", ")", "]", "}", "^", "_", "+", "-", "*", "/", "!", "%", ",", "=", "<", ">"):
            return False
        if token[0] == "\\":
            return token[1:] in _FUNCTIONS or token in _ATOMS or token.startswith("\\name")
        return token in ("(", "[", "{") or token.isalpha() or token[0] in "0123456789."

    def signs(self) -> bool:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        return negative

    def signed(self) -> Node:
        negative = self.signs()
        node = self.power()
        return Node("neg", (node,)) if negative else node

    def power(self) -> Node:
        node = self.atom()
        while self.peek() in ("!", "%", "^", "\\degree"):
            token = self.take()
            if token == "^":
                if self.peek() == "\\degree" or self.tokens[self.at : self.at + 3] == ["{", "\\degree", "}"]:
                    self.at += 1 if self.peek() == "\\degree" else 3
                    node = Node("degree", (node,))
                else:
                    node = Node("^", (node, self.script()))
            else:
                node = Node({"!": "factorial", "%": "percent"}.get(token, "degree"), (node,))
        return node

    def script(self) -> Node:
        """An exponent or a base: one group, or one token; a sign may stand before an exponent."""
        if self.peek() in ("{", "("):
            return self.atom()
        if self.peek() == "-":
            self.take()
            return Node("neg", (self.script(),))
        return self.power() if self.peek()[:1] != "\\" else self.atom()

    def argument(self) -> Node:
        r"""What \frac or \sqrt takes: a group, or one character, as in \frac12."""
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1:
            self.tokens[self.at : self.at + 1] = [token[0], token[1:]]
        return self.atom()

    def atom(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotAnExpression("too deep")
        node = self._atom(self.take())
        self.depth -= 1
        return node

    def _atom(self, token: str) -> Node:
        if token[0].isdecimal() or (token[0] == "." and len(token) > 1):
            if len(token) > MAX_BITS // 4:
                raise NotAnExpression("too many digits")
            return Node("number", value=Fraction(token))
        closing = {"(": ")", "[": "]", "{": "}", "|": "|"}.get(token)
        if closing:
            node = self.sum()
            self.take(closing)
            return Node("abs", (node,)) if token == "|" else node
        if token.isalpha():
            return self.symbol(token)
        if token in ("\\frac", "\\binom"):
            return Node({"\\frac": "/", "\\binom": "binom"}[token], (self.argument(), self.argument()))
        if token == "\\sqrt":
            index = Node("number", value=Fraction(2))
            if self.peek() == "[":
                index = self.atom()
            return Node("root", (self.argument(), index))
        if token == "\\cbrt":
            return Node("root", (self.argument(), Node("number", value=Fraction(3))))
        if token[1:] in _FUNCTIONS:
            return self.function(token[1:])
        if token in _ATOMS or token.startswith("\\name"):
            return self.symbol(token[1:])
        raise NotAnExpression(f"{token!r} is not known")

    def symbol(self, name: str) -> Node:
        if self.peek() == "_":
            self.take()
            start = self.at
            self.atom()
            name += "_" + "".join(t for t in self.tokens[start : self.at] if t not in "{}")
        return Node("symbol", name=name)

    def function(self, name: str) -> Node:
        base, exponent = None, None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = self.script()
            else:
                exponent = self.script()
        argument = self.power() if self.peek() in ("(", "{", "|", "[") else self.bare_argument()
        parts = (argument,) if base is None else (argument, base)
        node = Node(name, parts)
        if exponent is None:
            return node
        if exponent == Node("neg", (Node("number", value=Fraction(1)),)) and f"arc{name}" in _FUNCTIONS:
            return Node(f"arc{name}", parts)
        return Node("^", (node, exponent))

    def bare_argument(self) -> Node:
        r"""\sin 2x takes the product that follows, up to a sign or the next function."""
        node = self.signed()
        while self.starts_factor(self.peek()) and self.peek()[1:] not in _FUNCTIONS:
            node = Node("*", (node, self.power()))
        return node


_ATOMS = frozenset(
    f"\\{name}"
    for name in (
        "pi infty theta alpha beta gamma lambda phi mu sigma omega rho tau delta varphi epsilon angle triangle"
    ).split()
) | {"\\frac", "\\binom", "\\sqrt", "\\cbrt"}


def _is_proper(node: Node) -> bool:
    """A fraction of two whole numbers, the smaller one above."""
    above, below = node.parts
    return above.kind == below.kind == "number" and 0 < above.value < below.value and below.value.denominator == 1


def symbols(node: Node) -> frozenset[str]:
    """The variables of an expression."""
    if node.kind == "symbol":
        return frozenset() if node.name in ("pi", "e", "infty", "i") else frozenset({node.name})
    return frozenset().union(*(symbols(part) for part in node.parts))


def evaluate(node: Node, point: dict[str, complex] | None = None) -> Number:
    """The value; NotAnExpression when it has none, or only one that is too large."""
    try:
        return _evaluate(node, point or {})
    except (ArithmeticError, ValueError, TypeError) as error:
        raise NotAnExpression(str(error)) from None


def _evaluate(node: Node, point: dict[str, complex]) -> Number:
    if node.kind == "number":
        return node.value
    if node.kind == "symbol":
        return _symbol_value(node.name, point)
    values = [_evaluate(part, point) for part in node.parts]
    result = _apply(node.kind, values)
    if isinstance(result, Fraction):
        if max(result.numerator.bit_length(), result.denominator.bit_length()) > MAX_BITS:
            raise NotAnExpression("too large")
    elif not cmath.isfinite(result):
        raise NotAnExpression("not finite")
    return result


def _symbol_value(name: str, point: dict[str, complex]) -> Number:
    if name in point:
        return point[name]
    constants = {"pi": complex(math.pi), "e": complex(math.e), "i": 1j}
    if name in constants:
        return constants[name]
    raise NotAnExpression(f"{name} has no value")


def _apply(kind: str, values: list[Number]) -> Number:
    first = values[0]
    second = values[1] if len(values) > 1 else Fraction(0)
    if kind in ("+", "*", "/"):
        if not (isinstance(first, Fraction) and isinstance(second, Fraction)):
            first, second = complex(first), complex(second)
        if kind == "+":
            return first + second  # pyright: ignore[reportOperatorIssue]
        return first * second if kind == "*" else first / second  # pyright: ignore[reportOperatorIssue]
    if kind == "neg":
        return -first
    if kind == "abs":
        return abs(first) if isinstance(first, Fraction) else complex(abs(first))
    if kind == "percent":
        return first / 100
    if kind == "degree":
        return complex(first) * math.pi / 180
    if kind == "^":
        return _power(first, second)
    if kind == "root":
        return _power(first, 1 / second)
    if kind in ("factorial", "binom"):
        return _count(kind, values)
    return _function(kind, complex(first), complex(second) if len(values) > 1 else None)


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            power = exponent.numerator
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if bits * abs(power) > MAX_BITS and base not in (0, 1, -1):
                raise NotAnExpression("too large")
            if base in (1, -1, 0):
                power = power % 2 + 2 if base == -1 else min(max(power, -1), 1)
            return base**power
        exact = _exact_root(base, exponent)
        if exact is not None:
            return exact
        if base < 0 and exponent.denominator % 2 == 1:  # the real root, as school has it
            return -complex(_power(-base, exponent)) if exponent.numerator % 2 else complex(_power(-base, exponent))
    return complex(base) ** complex(exponent)


def _exact_root(base: Fraction, exponent: Fraction) -> Fraction | None:
    """base ** exponent when that is rational."""
    index = exponent.denominator
    if base < 0 or index > 64 or abs(exponent.numerator) > 64:
        return None
    parts = []
    for number in (base.numerator, base.denominator):
        if number.bit_length() > 512:
            return None
        root = math.isqrt(number) if index == 2 else round(number ** (1 / index))
        if root**index != number:
            return None
        parts.append(root)
    return Fraction(*parts) ** exponent.numerator


def _count(kind: str, values: list[Number]) -> Fraction:
    numbers = []
    for value in values:
        if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
            raise NotAnExpression("not a small whole number")
        numbers.append(value.numerator)
    return Fraction(math.factorial(numbers[0]) if kind == "factorial" else math.comb(*numbers))


def _function(name: str, x: complex, base: complex | None) -> complex:
    if name == "log":
        return cmath.log(x) / cmath.log(base if base is not None else 10)
    return 1 / _RECIPROCALS[name](x) if name in _RECIPROCALS else _CALLS[name](x)


_RECIPROCALS = {"cot": cmath.tan, "sec": cmath.cos, "csc": cmath.sin}
_CALLS = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "tanh": cmath.tanh,
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "ln": cmath.log,
    "exp": cmath.exp,
}


# Equality

EPSILON = 1e-11
SMALLEST = 1e-3  # what is smaller is compared as if it were this large, because floats cancel
MAX_FLOAT = 1e15  # beyond it, floats do not tell neighbouring whole numbers apart
_POINTS = (0.7310585, 1.6180339, -0.5671432, 7.2360679, -5.3247179, -1.3247179, 2.6651441)


def same(left: Node, right: Node) -> bool | None:
    """Whether two expressions are equal: exactly, or at points of both signs; None when that cannot be told."""
    names = symbols(left) | symbols(right)
    smallest = SMALLEST if _cancels(left) or _cancels(right) else 0
    if not names:
        return close(evaluate(left), evaluate(right), smallest)
    agreed = 0
    for number in range(len(_POINTS)):
        point = point_of(names, number)
        try:
            values = evaluate(left, point), evaluate(right, point)
        except NotAnExpression:
            continue
        if not close(*values, smallest):
            return False
        agreed += 1
    return True if agreed >= 3 else None


def point_of(names: frozenset[str], number: int) -> dict[str, complex]:
    """Fixed values, other ones for each variable, so that a verdict is the same everywhere."""
    return {
        name: complex(_POINTS[(number + place) % len(_POINTS)] * (1 + 0.1371 * place))
        for place, name in enumerate(sorted(names))
    }


def close(left: Number, right: Number, smallest: float = SMALLEST) -> bool:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    left, right = complex(left), complex(right)
    if max(abs(left), abs(right)) > MAX_FLOAT:
        raise NotAnExpression("too large for floats to tell")
    return abs(left - right) <= EPSILON * max(abs(left), abs(right), smallest)


def _cancels(node: Node) -> bool:
    """Whether floats may lose digits in it: a sum, or a function."""
    return node.kind not in _PRODUCTS or any(map(_cancels, node.parts))


_PRODUCTS = frozenset({"number", "symbol", "*", "/", "^", "root", "neg", "percent"})
