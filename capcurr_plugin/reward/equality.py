"""When two values say the same; None when that cannot be told here."""

from collections.abc import Sequence
from fractions import Fraction

from capcurr_plugin.reward.expression import EPSILON, Node, NotAnExpression, close, evaluate, point_of, same, symbols
from capcurr_plugin.reward.values import SECONDS, Group, Quantity, Relation, Value

ROUNDED_PLACES = 9  # a decimal as long as this may stand for a fraction or a root: that is how computers print them
# What these say is no bare number.
_OWN_KINDS = frozenset({"clock", "half-day clock", "duration"})


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
    if isinstance(answer, Group) and answer.brackets == "-" and isinstance(truth, Quantity):
        first, last = answer.items  # 5-3 is also 2, but a range is no number
        if isinstance(first, Quantity) and isinstance(last, Quantity):
            minus = Node("neg", (last.node,))
            return _same_quantity(Quantity(Node("+", (first.node, minus)), first.unit), truth)
    for group, other in ((answer, truth), (truth, answer)):  # {5} is 5
        if isinstance(group, Group) and len(group.items) == 1:
            return _equal(group.items[0], other) if group is answer else _equal(other, group.items[0])
    return False


def _solved(value: Value) -> Value:
    """x = 5 says 5; x > 3 says (3, infinity)."""
    if not isinstance(value, Relation):
        return value
    left, right = value.left.node, value.right.node
    if value.sign == "=":
        for one, other in ((value.left, value.right), (value.right, value.left)):
            if one.node.kind == "symbol" and one.node.name not in symbols(other.node):
                return other
        if left.kind != "number" and not symbols(left) and not symbols(right):  # 2 + 3 = 5
            return value.right
        return value
    infinity = Quantity(Node("symbol", name="infty"))
    if value.sign in ("<", "<="):
        closed = value.sign == "<="
        if left.kind == "symbol" and not symbols(right):
            below = Quantity(Node("neg", (infinity.node,)))
            return Group("(]" if closed else "()", (below, value.right), left.name)
        if right.kind == "symbol" and not symbols(left):
            return Group("[)" if closed else "()", (value.left, infinity), right.name)
    return value


def _same_quantity(answer: Quantity, truth: Quantity) -> bool | None:
    units = {answer.unit, truth.unit}
    if None not in units and len(units) > 1:
        if units == {"clock", "half-day clock"}:
            return _same_time(answer, truth)
        if "duration" in units:
            return _same_duration(answer, truth)
        return False
    if None in units and not _OWN_KINDS.isdisjoint(units):
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
        factor = 1 if quantity.unit == "duration" else SECONDS.get(quantity.unit or "", 0)
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
    """To the places of the ground truth; a half is rounded up or to the even digit."""
    value, wanted = evaluate(answer.node), evaluate(truth.node)
    half = Fraction(1, 2 * 10 ** (truth.places or 0))
    if isinstance(value, Fraction) and isinstance(wanted, Fraction):
        is_even = wanted * 10 ** (truth.places or 0) % 2 == 0
        distance = abs(value - wanted)
        return distance < half or (distance == half and (abs(value) < abs(wanted) or is_even))
    value = complex(value)
    return abs(value.imag) <= EPSILON and abs(value.real - complex(wanted).real) <= float(half) * (1 + 1e-9)


def _same_group(answer: Group, truth: Group) -> bool | None:
    brackets = {answer.brackets, truth.brackets}
    if len(answer.items) != len(truth.items) or (answer.name and truth.name and answer.name != truth.name):
        return False
    if brackets <= {"", "{}"} or brackets in ({"&"}, {"|"}):
        return _same_items(answer.items, list(truth.items))
    if len(brackets) > 1 and (brackets != {"", "()"} or answer.name or truth.name):
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
    values = _value_of(answer), _value_of(truth)
    if values[0] and values[1]:  # x = 5 cm
        return values[0][0] == values[1][0] and _same_quantity(values[0][1], values[1][1])
    sides = [side.node for relation in (answer, truth) for side in (relation.left, relation.right)]
    if symbols(sides[0]) | symbols(sides[1]) != symbols(sides[2]) | symbols(sides[3]):
        return False
    ratios = _ratios_of_differences(sides)
    if len(ratios) < 3:
        return None
    first = ratios[0]
    if abs(first) <= EPSILON or not all(close(first, ratio) for ratio in ratios):
        return False
    return truth.sign in ("=", "!=") or (abs(first.imag) <= EPSILON and first.real > 0)


def _value_of(relation: Relation) -> tuple[str, Quantity] | None:
    """The name and the value, of a relation that gives a variable one."""
    for one, other in ((relation.left, relation.right), (relation.right, relation.left)):
        if relation.sign == "=" and one.node.kind == "symbol" and not symbols(other.node):
            return one.node.name, other
    return None


def _ratios_of_differences(sides: list[Node]) -> list[complex]:
    names = frozenset().union(*map(symbols, sides))
    ratios = []
    for number in range(5):
        point = point_of(names, number)
        try:
            a, b, c, d = (complex(evaluate(side, point)) for side in sides)
        except NotAnExpression:
            continue
        if abs(c - d) > EPSILON:
            ratios.append((a - b) / (c - d))
    return ratios
