"""Which pairs of formulas are worth the time of a symbolic judge, and cannot keep it busy for long.

The judge reads what it can of a text and leaves the rest out; so whatever is not plainly one formula is kept from it.
"""

import re

MAX_FORMULA = 400  # characters
MAX_POWERS, MAX_DEPTH = 12, 16

_FUNCTIONS = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp lim max min gcd lcm mod det sqrt"
).split()
_COMMANDS = frozenset(
    "frac cdot times div pm mp pi infty theta alpha beta gamma delta epsilon varepsilon lambda mu nu xi rho sigma tau "
    "phi varphi chi psi omega Delta Gamma Sigma Omega Pi Phi sum int binom ge geq le leq lt gt leqslant geqslant "
    "mathbf mathrm bar hat vec dot overline left right circ degree prime operatorname ell".split()
    + _FUNCTIONS
)
# The judge skips these when it cannot read what stands around them: both sides must have the same.
_STRUCTURE = frozenset(
    "to choose in cup cap setminus subset subseteq mathbb emptyset varnothing forall begin end lfloor rfloor lceil "
    "rceil langle rangle lvert rvert bmod pmod approx equiv angle triangle cdots ldots dots lim max min gcd lcm "
    "det partial nabla".split()
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_KNOWN = re.compile(r"[A-Za-z0-9+\-*/^_=<>()\[\]{}|.,!%'\s°√π∞≤≥·×÷∪∩∈∅θαβγδλμσφω²³−&]*")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{(?:[pbvBV]?matrix|array)\}(?:\{[lcr|]{1,20}\})?")
_UNFINISHED = re.compile(
    r"(?:^[*/^_=<>,.)}\]]|[-+*/^_=<>(\[{,'.]$|\.\s|\.\.|,\s*,|//|\^\s*\^|\{\s*\}|\d\s+\d|[a-z]\.|\|\s*\||(?<![_^{\d])\d+_"
    r"|\\(?:overline|bar|hat|vec|mathbf|mathrm|sqrt|binom|frac)(?![A-Za-z])\s*(?![\s\[{\dA-Za-z\\])|\\(?:left|right)\s*\."
    r"|\\(?:sum|int|lim)(?![A-Za-z])(?!\s*_)|\\binom(?!\s*[{\d])|(?:sqrt|sin|cos|tan|log|ln)\s*$)"
)
_WORD = re.compile(
    rf"(?<![A-Za-z])(?!(?:{'|'.join(_FUNCTIONS)})(?![A-Za-z]))(?:[A-Za-z]{{3,}}|no|to|or|is|in|at|of|by|if|so|we|it)"
    r"(?![A-Za-z])"
)
_NAMED = re.compile(r"^[A-Za-z](?:_\w)?(?:\([A-Za-z]\))?\s*=")
_RELATION = re.compile(r"\\(?:leqslant|geqslant|leq?|geq?|lt|gt|approx|equiv|in)(?![A-Za-z])|[<>=≤≥∈]")
_HEAVY = re.compile(
    r"\d{40}"  # numbers without end
    r"|[\^*]\s*[({\s-]*\d{4}"  # powers of them
    r"|(?:\^|\*\*)[({\s-]*\d[\d.]*[)}\s]*(?:\^|\*\*)"  # powers of powers
    r"|\d[eE][+-]?\d{4}"
    r"|(?:\d{3}|[)}\]!])\s*!"  # factorials of what is large
    r"|\\(?:sum|int|lim|binom)(?![A-Za-z]).*\d{4}",
    re.DOTALL,
)


def comparable(given: str, wanted: str) -> bool:
    """Both are formulas of one kind: an equation is no number."""
    relations = [len(_RELATION.findall(_NAMED.sub("", text))) for text in (given, wanted)]
    if relations[0] != relations[1] or not (is_formula(given) and is_formula(wanted)):
        return False
    one, other = (_STRUCTURE.intersection(_COMMAND.findall(text)) for text in (given, wanted))
    return one == other or _is_worked_out(one ^ other)


def _is_worked_out(only_on_one_side: frozenset[str]) -> bool:
    """A limit or a matrix has a value; "to" is no more than a part of a limit."""
    return only_on_one_side <= {"lim", "to", "begin", "end"} and (
        "to" not in only_on_one_side or "lim" in only_on_one_side
    )


def is_formula(text: str) -> bool:
    if len(text) > MAX_FORMULA or not ("\\" in text or any(map(str.isdigit, text))):
        return False
    if text.count("\\begin") != text.count("\\end"):
        return False
    if text.count("^") + text.count("**") > MAX_POWERS or _depth(text) > MAX_DEPTH or _HEAVY.search(text):
        return False
    bare = _ENVIRONMENT.sub(" ", text)
    if not (_COMMANDS | _STRUCTURE).issuperset(_COMMAND.findall(bare)) or not _is_balanced(bare):
        return False
    bare = _COMMAND.sub(" ", bare)
    if "\\begin" not in text and ("&" in bare or "\\\\" in bare):
        return False
    bare = re.sub(r"\\[\\{}%]", " ", bare)
    if bare.count("|") % 2:
        return False
    return bool(_KNOWN.fullmatch(bare)) and not _WORD.search(bare) and not _UNFINISHED.search(text.strip())


def _is_balanced(text: str) -> bool:
    """Of braces, and of other brackets but for their kind: an interval may be half open."""
    braces = brackets = 0
    for character in text.replace("\\{", "(").replace("\\}", ")"):
        braces += (character == "{") - (character == "}")
        brackets += (character in "([") - (character in ")]")
        if braces < 0 or brackets < 0:
            return False
    return braces == brackets == 0


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")}]":
            depth -= 1
    return deepest
