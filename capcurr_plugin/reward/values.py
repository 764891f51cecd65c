r"""What an answer says: a quantity, a choice of values, an interval, an equation, and when two such say the same.

Policy. A unit that only one side has is ignored; two different units are different. Numbers are compared exactly; where
the ground truth is a decimal, the answer, rounded to as many places, must equal it; where it is a fraction or a root,
an answer may be its decimal with nine places or more. A list without brackets and a set have no order; coordinates and
intervals have one, and their brackets count.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from capcurr_plugin.reward.expression import Node, NotAnExpression, parse, symbols
from capcurr_plugin.reward.plain import UNIT_MARK
from capcurr_plugin.reward.units import is_known, split_unit, unit_name
from capcurr_plugin.reward.words import NEGATIVE, NOT_COUNTED, SCALES, spoken

MAX_ITEMS = 100
MAX_DEPTH = 4  # of groups in groups


class NotAValue(Exception):
    """The text is none, whatever a later reader makes of it."""


@dataclass(frozen=True, slots=True)
class Quantity:
    node: Node
    unit: str | None = None
    places: int | None = None  # after the point, of a number that is written out as a decimal


@dataclass(frozen=True, slots=True)
class Group:
    """Values between brackets: "{}" is a set or a union, "" a list without brackets, "&" all at once, "|" one of some
    equations, ":" a ratio of several, "-" from the first to the last. `name`: of the variable in an interval."""

    brackets: str
    items: "tuple[Value, ...]"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """left = right, left != right, left < right or left <= right."""

    sign: str
    left: Quantity
    right: Quantity


Value = Quantity | Group | Relation

_SCALED = re.compile(r"(.{0,40}?\d)\s*(thousand|million|billion|trillion)\b\s*(.{0,40})", re.IGNORECASE)
_NAMED = re.compile(  # x \in ..., (x, y) = ..., the point P(...)
    r"(?:[A-Z](?=\()|[A-Za-z]\s*(?:\\in(?![A-Za-z])|∈)|\(\s*([A-Za-z](?:\s*,\s*[A-Za-z]){1,5})\s*\)\s*=(?=\s*\())"
)
_SEGMENT = re.compile(r"\|?[A-Z]{2}\|?")
_NAME = re.compile(  # of a function, its value or derivative, a vector, an angle, or a word
    r"[A-Za-z]'{0,2}(?:\^\{-1\})?\((?:[A-Za-z]|-?\d{1,3})\)|[A-Za-z]'{1,2}|[A-Za-z]_\{?\w{1,4}\}?"
    r"|\\(?:sin|cos|tan|cot|sec|csc|det|log|ln)\s*[({]?\s*\\?[A-Za-z]{1,6}\s*[)}]?"
    r"|(?:\\?\|)?\\(?:bar|vec|hat|overline)\s*\{?\s*[A-Za-z]{1,2}\s*\}?(?:\\?\|)?|\\\|[A-Za-z]\\\|"
    r"|\\frac\{d[a-z]?\}\{d[a-z]\}(?:[a-z]\([a-z]\))?|m?\\(?:angle|triangle)_\{\w{1,4}\}"
    r"|(?:(?:the )?[A-Za-z]{3,20})(?: [a-z]{1,20}){0,3}(?: [A-Z]{1,3})?"
)
_RANGE = re.compile(
    r"([$€£])?(\d{1,12}(?:\.\d{1,9})?)(\\?%|)-([$€£])?(\d{1,12}(?:\.\d{1,9})?)(\\?%|\s?[A-Za-z ]{1,20})?"
)
_CASES = re.compile(r"\\begin\{(?:cases|aligned)\}(.{1,500}?)\\end\{(?:cases|aligned)\}", re.DOTALL)
_SET_BUILDER = re.compile(r"\\?\{\s*[A-Za-z]\s*(?:\\mid|\||:)\s*(.{1,200}?)\s*\\?\}", re.DOTALL)
_EMPTY_SETS = ("\\emptyset", "\\varnothing", "∅", "\\{\\}", "{}")
_ALL_NUMBERS = ("\\mathbb{R}", "all real numbers", "all reals", "the real numbers")
SECONDS = {"s": 1, "min": 60, "h": 3600, "day": 86400}

_PLAIN = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3}){1,20}|\d{1,3}(?: \d{3}){1,20}|\d{1,300})?(?:\.(\d{1,300}))?")
_SCIENTIFIC = re.compile(r"([+-]?\d{1,30}(?:\.\d{1,30})?)[eE]([+-]?\d{1,3})")
_REPEATING = re.compile(
    r"([+-]?\d{0,30})\.(\d{0,30})(?:\\(?:overline|bar|dot)\{(\d{1,30})\}|\\(?:overline|bar|dot)\s*(\d)|\((\d{1,30})\))"
)
_TIMES_POWER_OF_TEN = re.compile(
    r"([+-]?\d{1,30}(?:\.\d{1,30})?)\s*(?:\\times|\\cdot|[*×·])\s*10\s*\^\s*\{?\s*([+-]?\d{1,3})\s*\}?"
)
_IN_BASE = re.compile(r"(\d{1,60})_(?:\{(\d{1,2})\}|(\d{1,2}))")
_TWO_DIGITS = re.compile(r"[+-]?[1-9],\d")
_DECIMAL_COMMA = re.compile(r"[+-]?(?!\d{1,3}(?:,\d{3})+$)\d+,\d+|[+-]?0,\d+")
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
_OR = re.compile(r",?\s*(?<![A-Za-z])(?:or|and)(?![A-Za-z])\s*|\\(?:vee|lor)(?![A-Za-z])|∨")
_EITHER = re.compile(r"(?<![A-Za-z])or(?![A-Za-z])|\\(?:vee|lor)(?![A-Za-z])|∨")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])|±")
_MATRIX = re.compile(
    r"\(?(?:\\begin\{[pb]?matrix\}|[(\[]\s*\\begin\{array\}\{[lcr|]*\})((?:(?!\\(?:begin|end)).){0,1500})"
    r"(?:\\end\{[pb]?matrix\}|\\end\{array\}\s*[)\]])\)?",
    re.DOTALL,
)


def parse_values(text: str, depth: int = 0, *, decimal_comma: bool = True) -> list[Value]:
    """Everything that a text may mean; empty when it is no mathematics that is known here. `decimal_comma`: 3,4 may be
    3.4 as well as two values."""
    if depth > MAX_DEPTH:
        return []
    text = text.strip()
    found: list[Value] = []
    for reader in READERS:
        try:
            value = reader(text, depth)
        except NotAValue:
            break
        except (ValueError, ArithmeticError, RecursionError):  # NotAnExpression is a ValueError
            continue
        if value is not None:
            found.append(value)
            if reader is not _time:  # 12:30 may be a ratio
                break
    if "," in text:
        stripped, unit, _ = split_unit(text)
        if _DECIMAL_COMMA.fullmatch(stripped) and (decimal_comma or not _TWO_DIGITS.fullmatch(stripped)):
            number = _decimal(stripped.replace(",", "."), stripped.partition(",")[2])
            found.append(replace(number, unit=unit))
    return found


def _decimal(text: str, decimals: str) -> Quantity:
    return Quantity(Node("number", value=Fraction(text)), places=len(decimals) or None)


def _spoken(text: str, depth: int) -> Value | None:
    """A number in words, or a sign in words before a value."""
    value = spoken(text)
    if value is not None:
        return Quantity(Node("number", value=value))
    words = text.split()
    for count in (1, 2, 3):  # three birds
        value = spoken(" ".join(words[:count])) if count < len(words) else None
        unit = unit_name(" ".join(words[count:]), letters_too=False) if value is not None else None
        if value is not None and unit:
            return Quantity(Node("number", value=value), unit)
    for sign in NEGATIVE:
        if text.casefold().startswith(sign):
            quantity = _quantity(text[len(sign) :].strip())
            if not isinstance(quantity, Quantity) or quantity.node.kind == "neg":
                raise NotAValue
            return Quantity(Node("neg", (quantity.node,)), quantity.unit, quantity.places)
    return None


def _range(text: str, depth: int) -> Value | None:
    """10-20, which nobody writes for -10."""
    match = _RANGE.fullmatch(text)
    if not match:
        return None
    ends = [
        _quantity(f"{match[1] or ''}{match[2]}{match[3]}"),
        _quantity(f"{match[4] or match[1] or ''}{match[5]}{match[6] or ''}"),
    ]
    if not all(isinstance(end, Quantity) for end in ends):
        raise NotAValue
    first, last = ends
    assert isinstance(first, Quantity) and isinstance(last, Quantity)
    return Group("-", (replace(first, unit=first.unit or last.unit), last))


def _system(text: str, depth: int) -> Value | None:
    r"""The lines of a cases environment, as a list; and what \{x \mid x > 3\} says of x."""
    match = _CASES.fullmatch(text)
    if match:
        return _solutions(", ".join(part for part in match[1].split("\\\\") if part.strip()), depth)
    match = _SET_BUILDER.fullmatch(text)
    return _item(match[1], depth) if match else None


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
        unit = unit_name(match[2], letters_too=True)
        if match.start() != end or unit not in SECONDS:
            return None
        seconds += Fraction(match[1]) * SECONDS[unit]
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
    scale = Node("number", value=Fraction(SCALES[match[2].lower()]))
    return Quantity(Node("*", (value.node, scale)), value.unit)


def _solutions(text: str, depth: int) -> Value | None:
    r"""Several values: with "or", with commas, or with \pm. A list of which an item is no value is none."""
    parts = [part for piece in _OR.split(text) for list_ in _split(piece, ";") for part in _split(list_, ",")]
    if len(parts) < 2 and not _PLUS_MINUS.search(text):
        return None
    if _PLAIN.fullmatch(text):
        return None
    if len(parts) > MAX_ITEMS:
        raise NotAValue
    signed = [_PLUS_MINUS.sub(sign, part) for part in parts for sign in ("+-" if _PLUS_MINUS.search(part) else "+")]
    items = [_item(part, depth) for part in signed]
    if any((isinstance(item, Relation) and item.sign != "=") or isinstance(item, Group) for item in items):
        return _combined(items, either=bool(_EITHER.search(text)))
    names = {item.left.node.name for item in items if isinstance(item, Relation)}
    if len(names) > 1 and _EITHER.search(text):
        return Group("|", tuple(items))
    return Group("{}" if _PLUS_MINUS.search(text) else "", tuple(items))


def _item(text: str, depth: int) -> Value:
    try:
        return _only(text, depth)
    except ValueError:
        raise NotAValue from None


def _combined(items: list[Value], *, either: bool) -> Value:
    """Inequalities: either, or all at once; two that bound one variable are an interval."""
    if either or not all(isinstance(item, Relation) for item in items):
        return Group("{}" if either else "", tuple(items))
    if len(items) == 2 and isinstance(items[0], Relation) and isinstance(items[1], Relation):
        between = _between(items[0], items[1])
        if between is not None:
            return between
    return Group("&", tuple(items))


def _bracketed(text: str, depth: int) -> Value | None:
    """A tuple, an interval or a set, or a union of them."""
    parts = re.split(r"\\cup(?![A-Za-z])|∪", text)
    if len(parts) > 1:
        return Group("{}", tuple(_item(part, depth) for part in parts))
    text, names = _unnamed(text)
    if text in _EMPTY_SETS:
        return Group("{}", ())
    if text in _ALL_NUMBERS:
        infinity = Node("symbol", name="infty")
        return Group("()", (Quantity(Node("neg", (infinity,))), Quantity(infinity)))
    for opening, closing in (("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), ("\\{", "\\}"), ("{", "}")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening):
            inside = text[len(opening) : -len(closing)]
            parts = _split(inside, ";" if ";" in inside else ",", thousands=False)
            if len(parts) < 2 and "{" not in opening:
                return None
            if len(parts) > MAX_ITEMS:
                raise NotAValue
            items = [_item(part, depth) for part in parts]
            if len(names) == len(items) > 1:  # (y, x) = (1, 2) is (x, y) = (2, 1)
                items = [item for _, item in sorted(zip(names, items, strict=True), key=lambda pair: pair[0])]
            brackets = {"\\{": "{}", "{": ""}.get(opening, opening + closing)  # TeX does not show bare braces
            return Group(brackets, tuple(items))
    return None


def _unnamed(text: str) -> tuple[str, list[str]]:
    """Without "x \\in" or "(x, y) =" before it, and the names of a tuple's places."""
    match = _NAMED.match(text)
    return (text[match.end() :].strip(), re.findall(r"[A-Za-z]", match[1] or "")) if match else (text, [])


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
        exact = [sign for sign in signs if text[sign[0] : sign[1]] == "="]
        if not exact:
            return _approximated(text[: signs[0][0]], text[signs[0][1] :])
        end = len(text) if exact[-1] == signs[-1] else signs[len(exact)][0]
        starts = [0, *(sign[1] for sign in signs)]
        names = [text[start : sign[0]] for start, sign in zip(starts, signs, strict=False)]
        letters = [name.strip() for name in names if name.strip().isalpha()]
        if len(set(letters)) < len(letters):  # x = 5 = x = 6
            raise NotAValue
        name = next((name for name in names if len(name.strip()) == 1 and name.strip().isalpha()), names[0])
        value = text[exact[-1][1] : end].strip()
        return Relation("=", _named_side(name), _named_side(value) if _SEGMENT.fullmatch(value) else _side(value))
    if len(signs) > 2:
        return None
    sides = [text[a:b] for a, b in zip([0, *(s[1] for s in signs)], [*(s[0] for s in signs), len(text)], strict=True)]
    relations = []
    for (_, _, sign), left, right in zip(signs, sides, sides[1:], strict=False):
        ends = _side(left), _side(right)
        relations.append(Relation(_FLIPPED.get(sign, sign), *(reversed(ends) if sign in _FLIPPED else ends)))
    return relations[0] if len(relations) == 1 else _between(*relations)


def _approximated(left: str, right: str) -> Value:
    r"""16\pi \approx 50.27 says 16\pi, and x \approx 50.27 says 50.27."""
    name = _named_side(left)
    return Relation("=", name, _side(right)) if symbols(name.node) else name


def _side(text: str) -> Quantity:
    value = _quantity(text.strip())
    if not isinstance(value, Quantity):
        raise NotAnExpression("a side is no expression")
    return value


def _named_side(text: str) -> Quantity:
    """A length AB, a function f(x) and a word name what they equal."""
    name = text.strip()
    if _SEGMENT.fullmatch(name):
        return Quantity(Node("symbol", name="".join(sorted(name.strip("|")))))
    if _NAME.fullmatch(name) and (name[0] == "\\" or NOT_COUNTED.isdisjoint(name.lower().split())):
        return Quantity(Node("symbol", name=name.casefold() if name.islower() else name))
    return _side(text)


def _between(first: Relation, second: Relation) -> Value | None:
    """a < x <= b, in either direction, as an interval."""
    if first.left == second.right:
        first, second = second, first
    if first.right != second.left or not {first.sign, second.sign} <= {"<", "<="} or first.right.node.kind != "symbol":
        return None
    opening, closing = "[" if first.sign == "<=" else "(", "]" if second.sign == "<=" else ")"
    return Group(opening + closing, (first.left, second.right), first.right.node.name)


def _ratio(text: str, depth: int) -> Value | None:
    sides = text.split(":")
    if not 2 <= len(sides) <= 10:
        return None
    nodes = [_side(side).node for side in sides]
    if len(nodes) == 2:
        return Quantity(Node("/", tuple(nodes)), unit="ratio")
    return Group(":", tuple(map(Quantity, nodes)))


def _quantity(text: str, depth: int = 0) -> Value | None:
    number = _number(text)
    if number is not None:
        return number
    stripped, unit, sure = split_unit(text)
    if unit and stripped:
        number = _number(stripped)
        if number is not None:
            return Quantity(number.node, unit, number.places)
        if sure and is_known(unit):
            return Quantity(parse(stripped), unit)
    return Quantity(parse(text.replace(UNIT_MARK, " ")))


def _number(text: str) -> Quantity | None:
    """A number that is written out, with the places after its point."""
    match = _PLAIN.fullmatch(text)
    if match and any(map(str.isdigit, text)):
        return _decimal(text.replace(",", "").replace(" ", ""), match[1] or "")
    match = _SCIENTIFIC.fullmatch(text) or _TIMES_POWER_OF_TEN.fullmatch(text)
    if match:
        return Quantity(Node("number", value=Fraction(match[1]) * Fraction(10) ** int(match[2])))
    match = _IN_BASE.fullmatch(text)
    if match:  # the digits as they stand: the base is what they are measured in
        return Quantity(Node("number", value=Fraction(match[1])), f"base {match[2] or match[3]}")
    match = _REPEATING.fullmatch(text)
    if match:
        whole, fixed, cycle = match[1], match[2], next(filter(None, match.groups()[2:]))
        head = Fraction(f"{whole or 0}.{fixed}" if fixed else whole.rstrip("+-") or "0")
        tail = Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(fixed))
        return Quantity(Node("number", value=head - tail if whole.startswith("-") else head + tail))
    return None


READERS = (
    _spoken,
    _range,
    _system,
    _time,
    _duration,
    _matrix,
    _scaled,
    _solutions,
    _bracketed,
    _relation,
    _ratio,
    _quantity,
)
