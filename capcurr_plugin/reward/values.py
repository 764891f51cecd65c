r"""What an answer says: a quantity, a choice of values, an interval, an equation, and when two such say the same.

Policy. A unit that only one side has is ignored; two different units are different. Numbers are compared exactly; where
the ground truth is a decimal, the answer, rounded to as many places, must equal it; where it is a fraction or a root,
an answer may be its decimal with nine places or more. A list without brackets and a set have no order; coordinates and
intervals have one, and their brackets count.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from capcurr_plugin.reward.expression import (
    EPSILON,
    Node,
    NotAnExpression,
    close,
    evaluate,
    parse,
    point_of,
    same,
    symbols,
)

MAX_ITEMS = 100
MAX_DEPTH = 4  # of groups in groups
ROUNDED_PLACES = 9  # a decimal as long as this may stand for a fraction or a root: that is how computers print them


@dataclass(frozen=True, slots=True)
class Quantity:
    node: Node
    unit: str | None = None
    places: int | None = None  # after the point, of a number that is written out as a decimal


@dataclass(frozen=True, slots=True)
class Group:
    """Values between brackets: "{}" is a set or a union, "" a list without brackets, ":" a ratio of several."""

    brackets: str
    items: "tuple[Value, ...]"


@dataclass(frozen=True, slots=True)
class Relation:
    """left = right, left < right or left <= right."""

    sign: str
    left: Node
    right: Node


Value = Quantity | Group | Relation

_UNITS = {
    "mm": "millimeter millimetre mm", "cm": "centimeter centimetre cm", "dm": "decimeter decimetre dm",
    "m": "meter metre m", "km": "kilometer kilometre km", "in": "inch inches in", "ft": "foot feet ft", "yd": "yard yd",
    "mi": "mile mi",
    "g": "gram gramme g", "kg": "kilogram kilo kg", "mg": "milligram mg", "lb": "pound lb",
    "oz": "ounce oz", "ton": "ton tonne t", "s": "second sec s", "min": "minute min", "h": "hour hr h", "day": "day",
    "week": "week",
    "month": "month", "year": "year yr", "ms": "millisecond ms", "l": "liter litre l", "ml": "milliliter millilitre ml",
    "degree": "degree deg", "c": "celsius", "f": "fahrenheit", "rad": "radian rad", "n": "newton n", "j": "joule j",
    "w": "watt w", "v": "volt v", "a": "ampere amp a", "ohm": "ohm", "pa": "pascal pa", "hz": "hertz hz", "mph": "mph",
    "%": "percent percentage pct", "usd": "dollar usd", "eur": "euro eur", "gbp": "gbp", "jpy": "yen jpy",
    "cent": "cent", "unit": "unit",    "mol": "mole mol", "k": "kelvin k", "kw": "kilowatt kw", "kj": "kilojoule kj",
}  # fmt: skip
_UNIT_OF = {alias: unit for unit, aliases in _UNITS.items() for alias in aliases.split()}
_MONEY = {"$": "usd", "€": "eur", "£": "gbp", "¥": "jpy"}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALED = re.compile(r"(.{0,40}?\d)\s*(thousand|million|billion|trillion)\b\s*(.{0,40})", re.IGNORECASE)
_EMPTY_SETS = ("\\emptyset", "\\varnothing", "∅", "\\{\\}", "{}")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "day": 86400}

_PLAIN = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3}){1,20}|\d{1,3}(?: \d{3}){1,20}|\d{1,300})?(?:\.(\d{1,300}))?")
_SCIENTIFIC = re.compile(r"([+-]?\d{1,30}(?:\.\d{1,30})?)[eE]([+-]?\d{1,3})")
_REPEATING = re.compile(r"([+-]?\d{0,30})\.(\d{0,30})\\overline\{(\d{1,30})\}")
_TRAILING_UNIT = re.compile(
    r"(?<=[\d)}.\s])\s*([A-Za-zµΩ][A-Za-z .]*(?:\s*/\s*[A-Za-z]+)?(?:\s*\^\s*\{?-?[23]\}?|[23²³])?"
    r"(?:\s*/\s*[A-Za-z]+)?)$"
)
_POWER_WORDS = {"square ": "^2", "squared": "^2", "sq ": "^2", "sq.": "^2", "cubic ": "^3", "cubed": "^3"}
_GROUPED = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(?:([ap])\.?\s?m\.?)?", re.IGNORECASE)
_HOUR = re.compile(r"(\d{1,2})\s*([ap])\.?\s?m\.?", re.IGNORECASE)
_PART_OF_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\.?,?\s*(?:and\s+)?", re.IGNORECASE)
_SIGNS = {
    "\\neq": "!=",
    "\\ne": "!=",
    "≠": "!=",
    "\\approx": "=",
    "≈": "=",
    "\\leqslant": "<=",
    "\\geqslant": ">=",
    "\\leq": "<=",
    "\\le": "<=",
    "\\geq": ">=",
    "\\ge": ">=",
    "\\lt": "<",
    "\\gt": ">",
    "≤": "<=",
    "≥": ">=",
}
_RELATION = re.compile(r"\\(?:leqslant|geqslant|leq?|geq?|neq?|lt|gt|approx)(?![A-Za-z])|<=|>=|!=|[<>=≤≥≠≈]")
_FLIPPED = {">": "<", ">=": "<="}
_OR = re.compile(r",?\s*(?<![A-Za-z])(?:or|and)(?![A-Za-z])\s*|\s*[;]\s*|\\(?:vee|lor)(?![A-Za-z])")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])|±")
_MATRIX = re.compile(r"\\begin\{[pbv]?matrix\}(.{0,1500})\\end\{[pbv]?matrix\}", re.DOTALL)


def parse_values(text: str, depth: int = 0) -> list[Value]:
    """Everything that a text may mean; empty when it is no mathematics that is known here."""
    if depth > MAX_DEPTH:
        return []
    text = text.strip()
    found: list[Value] = []
    for reader in (_time, _duration, _matrix, _scaled, _solutions, _bracketed, _relation, _ratio, _quantity):
        try:
            value = reader(text, depth)
        except (ValueError, ArithmeticError, RecursionError):  # NotAnExpression is a ValueError
            continue
        if value is not None:
            found.append(value)
            if reader is not _solutions:
                break
    if re.fullmatch(r"[+-]?\d+,\d+", text):  # a decimal comma, where that is not a list
        found.append(_decimal(text.replace(",", "."), text.partition(",")[2]))
    return found


def _decimal(text: str, decimals: str) -> Quantity:
    return Quantity(Node("number", value=Fraction(text)), places=len(decimals) or None)


def _time(text: str, depth: int) -> Value | None:
    """A time of day in minutes; with a.m. or p.m., or the hours and minutes of a clock."""
    match = _TIME.fullmatch(text)
    if match and int(match[2]) < 60:
        hours, minutes, seconds, half = int(match[1]), int(match[2]), int(match[3] or 0), match[4]
    else:
        match = _HOUR.fullmatch(text)
        if not match:
            return None
        hours, minutes, seconds, half = int(match[1]), 0, 0, match[2]
    if hours > 24 or (half and not 1 <= hours <= 12):
        return None
    if half:
        hours = hours % 12 + (12 if half.lower() == "p" else 0)
    total = Fraction(3600 * hours + 60 * minutes + seconds)
    return Quantity(Node("number", value=total), unit="half-day clock" if half else "clock")


def _duration(text: str, depth: int) -> Value | None:
    """ "2 hours 30 minutes": at least two parts, in seconds."""
    seconds, count, end = Fraction(0), 0, 0
    for match in _PART_OF_DURATION.finditer(text[:100]):
        unit = _unit(match[2])
        if match.start() != end or unit not in _SECONDS:
            return None
        seconds += Fraction(match[1]) * _SECONDS[unit]
        count, end = count + 1, match.end()
    return Quantity(Node("number", value=seconds), unit="duration") if count > 1 and end == len(text) else None


def _matrix(text: str, depth: int) -> Value | None:
    match = _MATRIX.fullmatch(text)
    if not match:
        return None
    rows = [row for row in re.split(r"\\\\", match[1]) if row.strip()]
    cells = [tuple(_only(cell, depth) for cell in row.split("&")) for row in rows]
    return Group("[]", tuple(Group("[]", row) for row in cells))


def _scaled(text: str, depth: int) -> Value | None:
    """1.2 million."""
    match = _SCALED.fullmatch(text)
    value = _quantity(f"{match[1]} {match[3]}".strip()) if match else None
    if not match or not isinstance(value, Quantity):
        return None
    scale = Node("number", value=Fraction(_SCALES[match[2].lower()]))
    return Quantity(Node("*", (value.node, scale)), value.unit)


def _solutions(text: str, depth: int) -> Value | None:
    r"""Several values: with "or", with commas, or with \pm."""
    if _PLUS_MINUS.search(text):
        return Group("{}", tuple(_only(_PLUS_MINUS.sub(sign, text), depth) for sign in "+-"))
    parts = [part for piece in _OR.split(text) for part in _split(piece, ",")]
    if len(parts) < 2 or len(parts) > MAX_ITEMS or _PLAIN.fullmatch(text):
        return None
    return Group("", tuple(_only(part, depth) for part in parts))


def _bracketed(text: str, depth: int) -> Value | None:
    """A tuple, an interval or a set, or a union of them."""
    parts = re.split(r"\\cup(?![A-Za-z])|∪", text)
    if len(parts) > 1:
        return Group("{}", tuple(_only(part, depth) for part in parts))
    text = re.sub(r"^[A-Za-z]\s*(?:\\in(?![A-Za-z])|∈)", "", text).strip()
    if text in _EMPTY_SETS:
        return Group("{}", ())
    for opening, closing in (("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), ("\\{", "\\}"), ("{", "}")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening):
            items = _split(text[len(opening) : -len(closing)], ",", thousands=False)
            if len(items) < 2 and "{" not in opening:
                return None
            if len(items) > MAX_ITEMS:
                raise NotAnExpression("too many items")
            brackets = "{}" if "{" in opening else opening + closing
            return Group(brackets, tuple(_only(item, depth) for item in items))
    return None


def _split(text: str, mark: str, *, thousands: bool = True) -> list[str]:
    """At the commas outside of brackets; a comma of thousands is none, unless brackets make it one."""
    if mark not in text:
        return [text.strip()]
    kept = {place for match in _GROUPED.finditer(text) for place in range(*match.span())} if thousands else set()
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == mark and depth == 0 and place not in kept:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def _only(text: str, depth: int) -> Value:
    """The value of an item, which is one level deeper."""
    values = parse_values(text, depth + 1)
    if not values:
        raise NotAnExpression("an item is no value")
    return values[0]


def _relation(text: str, depth: int) -> Value | None:
    signs = [(m.start(), m.end(), _SIGNS.get(m[0], m[0])) for m in _RELATION.finditer(text)]
    if not signs or len(signs) > MAX_ITEMS:
        return None
    if all(sign == "=" for *_, sign in signs):  # x = 5 + 6 = 11 says x = 11
        exact = [sign for sign in signs if text[sign[0] : sign[1]] == "="] or signs
        end = len(text) if exact[-1] == signs[-1] else signs[len(exact)][0]
        return Relation("=", _side(text[: signs[0][0]]), _side(text[exact[-1][1] : end]))
    if len(signs) > 2:
        return None
    sides = [text[a:b] for a, b in zip([0, *(s[1] for s in signs)], [*(s[0] for s in signs), len(text)], strict=True)]
    relations = []
    for (_, _, sign), left, right in zip(signs, sides, sides[1:], strict=False):
        left_node, right_node = _side(left), _side(right)
        if sign in _FLIPPED:
            sign, left_node, right_node = _FLIPPED[sign], right_node, left_node
        relations.append(Relation(sign, left_node, right_node))
    if len(relations) == 1:
        return relations[0]
    return _between(*relations)


def _side(text: str) -> Node:
    value = _quantity(text.strip())
    if not isinstance(value, Quantity):
        raise NotAnExpression("a side is no expression")
    return value.node


def _between(first: Relation, second: Relation) -> Value | None:
    """a < x <= b, in either direction, as an interval."""
    if first.left == second.right:
        first, second = second, first
    if first.right != second.left or "=" in (first.sign, second.sign) or first.right.kind != "symbol":
        return None
    opening, closing = "[" if first.sign == "<=" else "(", "]" if second.sign == "<=" else ")"
    return Group(opening + closing, (Quantity(first.left), Quantity(second.right)))


def _ratio(text: str, depth: int) -> Value | None:
    sides = text.split(":")
    if not 2 <= len(sides) <= 10:
        return None
    if len(sides) == 2:
        return Quantity(Node("/", (_side(sides[0]), _side(sides[1]))), unit="ratio")
    return Group(":", tuple(Quantity(_side(side)) for side in sides))


def _quantity(text: str, depth: int = 0) -> Value | None:
    number = _number(text)
    if number is not None:
        return number
    stripped, unit = _without_unit(text)
    if unit and stripped:
        number = _number(stripped)
        known = all(part.partition("^")[0] in _UNITS for part in unit.split("/"))
        if number is not None and (known or unit.replace(" ", "").isalpha()):  # any word is what is counted
            return Quantity(number.node, unit, number.places)
        if known and unit != "degree":  # a degree may belong to what a function is taken of
            return Quantity(parse(stripped), unit)
    return Quantity(parse(text))


def _number(text: str) -> Quantity | None:
    """A number that is written out, with the places after its point."""
    match = _PLAIN.fullmatch(text)
    if match and any(map(str.isdigit, text)):
        return _decimal(text.replace(",", "").replace(" ", ""), match[1] or "")
    match = _SCIENTIFIC.fullmatch(text)
    if match:
        return Quantity(Node("number", value=Fraction(match[1]) * Fraction(10) ** int(match[2])))
    match = _REPEATING.fullmatch(text)
    if match:
        whole, fixed, cycle = match[1], match[2], match[3]
        head = Fraction(f"{whole or 0}.{fixed}" if fixed else whole.rstrip("+-") or "0")
        tail = Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(fixed))
        return Quantity(Node("number", value=head - tail if whole.startswith("-") else head + tail))
    return None


def _without_unit(text: str) -> tuple[str, str | None]:
    """The text without the unit before or after it, and that unit."""
    for sign, unit in _MONEY.items():
        if text.startswith((sign, f"-{sign}")):
            return text.replace(sign, "", 1).strip(), unit
        if text.endswith(sign):
            return text[: -len(sign)].strip(), unit
    degrees = re.fullmatch(r"(.*?)\s*(?:\^\s*\{?\s*(?:\\circ|°)\s*\}?|°|\\degree)\s*([CF]?)", text, re.DOTALL)
    if degrees:
        return degrees[1], degrees[2].lower() or "degree"
    percent = re.fullmatch(r"(.*?)\s*\\?%", text, re.DOTALL)
    if percent:
        return percent[1], "%"
    match = _TRAILING_UNIT.search(text)
    if not match or "\\" in text[match.start() :]:
        return text, None
    unit = _unit(match[1])
    return (text[: match.start()], unit) if unit else (text, None)


def _unit(text: str) -> str | None:
    """The canonical name of a unit; any word counts as the unit of what it counts, a single letter must be known."""
    text = text.strip().lower().replace("²", "^2").replace("³", "^3").replace("{", "").replace("}", "").strip(" .")
    text = re.sub(r"^degrees?\s+(?=\S)", "", text)
    text = re.sub(r"^per ", "/", text).replace(" per ", "/")
    power = ""
    for word, suffix in _POWER_WORDS.items():
        if word in text:
            text, power = text.replace(word, "").strip(), suffix
    raised = re.fullmatch(r"(.+?)\s*\^?\s*([23])", text)
    if raised:
        text, power = raised[1], f"^{raised[2]}"
    names = []
    for part in text.split("/"):
        part = part.strip(" .")
        single = part[:-1] if len(part) > 2 and part.endswith("s") and not part.endswith("ss") else part
        name = (
            _UNIT_OF.get(part)
            or _UNIT_OF.get(single)
            or (single if len(single) > 2 and single.replace(" ", "").isalpha() else None)
        )
        if name is None:
            return None
        names.append(name)
    return "/".join(names) + power


# Equality


def equal(answer: Value, truth: Value) -> bool | None:
    """Whether an answer says what the ground truth says; None when that cannot be told here."""
    try:
        return _equal(answer, truth)
    except NotAnExpression:
        return None


def _equal(answer: Value, truth: Value) -> bool | None:
    if isinstance(answer, Relation) and isinstance(truth, Relation):
        return _same_relation(answer, truth)
    answer, truth = _solved(answer), _solved(truth)
    if isinstance(answer, Quantity) and isinstance(truth, Quantity):
        return _same_quantity(answer, truth)
    if isinstance(answer, Group) and isinstance(truth, Group):
        return _same_group(answer, truth)
    if isinstance(answer, Relation) or isinstance(truth, Relation):
        return None
    for group, other in ((answer, truth), (truth, answer)):  # {5} is 5
        if isinstance(group, Group) and len(group.items) == 1:
            return _equal(group.items[0], other) if group is answer else _equal(other, group.items[0])
    return False


def _solved(value: Value) -> Value:
    """x = 5 says 5; x > 3 says (3, infinity)."""
    if not isinstance(value, Relation):
        return value
    left, right = value.left, value.right
    if value.sign == "=":
        for one, other in ((left, right), (right, left)):
            if one.kind == "symbol" and one not in other.parts:
                return Quantity(other)
        return value
    closed = value.sign == "<="
    infinity = Quantity(Node("symbol", name="infty"))
    if left.kind == "symbol" and not symbols(right):
        return Group("(]" if closed else "()", (Quantity(Node("neg", (infinity.node,))), Quantity(right)))
    if right.kind == "symbol" and not symbols(left):
        return Group("[)" if closed else "()", (Quantity(left), infinity))
    return value


def _same_quantity(answer: Quantity, truth: Quantity) -> bool | None:
    units = {answer.unit, truth.unit}
    if None not in units and len(units) > 1:
        if units == {"clock", "half-day clock"}:
            return _same_time(answer, truth)
        if "duration" in units:
            return _same_duration(answer, truth)
        return False
    verdict = _same_number(answer, truth)
    if verdict is False and "%" in units and None in units:  # 50 % is 50, and it is 0.5
        answer, truth = (
            Quantity(Node("percent", (q.node,)), None, None if q.places is None else q.places + 2)
            if q.unit == "%"
            else q
            for q in (answer, truth)
        )
        verdict = _same_number(answer, truth)
    return verdict


def _same_time(answer: Quantity, truth: Quantity) -> bool:
    """3:30 without a.m. or p.m. may be either; 15:30 and 0:30 may not."""
    bare, halved = (answer, truth) if answer.unit == "clock" else (truth, answer)
    seconds = complex(evaluate(bare.node)).real
    difference = seconds - complex(evaluate(halved.node)).real
    return difference == 0 or (abs(difference) == 43200 and 3600 <= seconds < 13 * 3600)


def _same_duration(answer: Quantity, truth: Quantity) -> bool:
    def seconds(quantity: Quantity) -> complex:
        factor = 1 if quantity.unit == "duration" else _SECONDS.get(quantity.unit or "", 0)
        return complex(evaluate(quantity.node)) * factor

    return close(seconds(answer), seconds(truth))


def _same_number(answer: Quantity, truth: Quantity) -> bool | None:
    infinite = _infinite(answer.node), _infinite(truth.node)
    if any(infinite):
        return infinite[0] == infinite[1]
    if truth.places and not symbols(answer.node):
        return _rounds_to(answer, truth)
    if (answer.places or 0) >= ROUNDED_PLACES and truth.node.kind != "number" and not symbols(truth.node):
        return _rounds_to(truth, answer)
    return same(answer.node, truth.node)


def _infinite(node: Node) -> str:
    if node.kind == "neg" and _infinite(node.parts[0]) == "infty":
        return "-infty"
    return "infty" if node.kind == "symbol" and node.name == "infty" else ""


def _rounds_to(answer: Quantity, truth: Quantity) -> bool:
    value, wanted = evaluate(answer.node), evaluate(truth.node)
    half = Fraction(1, 2 * 10 ** (truth.places or 0))
    if isinstance(value, Fraction) and isinstance(wanted, Fraction):
        return abs(value - wanted) <= half
    value = complex(value)
    return abs(value.imag) <= EPSILON and abs(value.real - complex(wanted).real) <= float(half) * (1 + 1e-9)


def _same_group(answer: Group, truth: Group) -> bool | None:
    if len(answer.items) != len(truth.items):
        return False
    brackets = {answer.brackets, truth.brackets}
    if brackets <= {"", "{}"}:
        return _same_items(answer.items, list(truth.items))
    if len(brackets) > 1 and "" not in brackets and brackets != {"()", "{}"}:
        return False
    if brackets == {":"}:
        pairs = [(_number_of(a), _number_of(t)) for a, t in zip(answer.items, truth.items, strict=True)]
        return all(close(a * pairs[0][1], t * pairs[0][0]) for a, t in pairs)
    verdicts = [_equal(a, t) for a, t in zip(answer.items, truth.items, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _number_of(value: Value) -> complex:
    if not isinstance(value, Quantity):
        raise NotAnExpression("not a number")
    return complex(evaluate(value.node))


def _same_items(answers: Sequence[Value], truths: list[Value]) -> bool | None:
    """Every answer is some truth, and each truth is one's; None when a pair that could not be told may matter."""
    left = list(truths)
    for answer in answers:
        match = next((truth for truth in left if equal(answer, truth)), None)
        if match is None:
            undecided = any(equal(a, t) is None for a in answers for t in truths)
            return None if undecided else False
        left.remove(match)
    return not left


def _same_relation(answer: Relation, truth: Relation) -> bool | None:
    """One is a multiple of the other: by any number for equations, by a positive one for inequalities."""
    if answer.sign != truth.sign:
        return False
    names = symbols(answer.left) | symbols(answer.right)
    if names != symbols(truth.left) | symbols(truth.right):
        return False
    ratios = []
    for number in range(5):
        point = point_of(names, number)
        try:
            differences = [
                complex(evaluate(r.left, point)) - complex(evaluate(r.right, point)) for r in (answer, truth)
            ]
        except NotAnExpression:
            continue
        if abs(differences[1]) > EPSILON:
            ratios.append(differences[0] / differences[1])
    if len(ratios) < 3:
        return None
    first = ratios[0]
    if abs(first) <= EPSILON or not all(close(first, ratio) for ratio in ratios):
        return False
    return truth.sign == "=" or (abs(first.imag) <= EPSILON and first.real > 0)
