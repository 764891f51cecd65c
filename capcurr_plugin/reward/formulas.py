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
    "phi varphi chi psi omega Delta Gamma Sigma Omega Pi Phi sum int to binom choose in cup cap setminus subset "
    "subseteq mathbb emptyset varnothing forall ge geq le leq lt gt leqslant geqslant begin end overline bar hat vec "
    "dot mathbf mathrm lfloor rfloor lceil rceil langle rangle lvert rvert left right bmod pmod circ degree prime "
    "approx equiv angle triangle cdots ldots dots operatorname partial nabla ell".split()
    + _FUNCTIONS
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_KNOWN = re.compile(r"[A-Za-z0-9+\-*/^_=<>()\[\]{}|.,!%'\s°√π∞≤≥·×÷∪∩∈∅θαβγδλμσφω²³−&]*")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{(?:[pbvBV]?matrix|array)\}(?:\{[lcr|]{1,20}\})?")
_UNFINISHED = re.compile(r"(?:^[*/^_=<>]|[-+*/^_=<>(\[{]$|\.\.|\|\s*\||(?<![_^{\d])\d+_)")
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
    return is_formula(given) and is_formula(wanted) and relations[0] == relations[1]


def is_formula(text: str) -> bool:
    if len(text) > MAX_FORMULA or not ("\\" in text or any(map(str.isdigit, text))):
        return False
    if text.count("^") + text.count("**") > MAX_POWERS or _depth(text) > MAX_DEPTH or _HEAVY.search(text):
        return False
    bare = _ENVIRONMENT.sub(" ", text)
    if not _COMMANDS.issuperset(_COMMAND.findall(bare)):
        return False
    bare = _COMMAND.sub(" ", bare)
    if "\\begin" not in text and ("&" in bare or "\\\\" in bare):
        return False
    bare = re.sub(r"\\[\\{}%]", " ", bare)
    if bare.count("|") % 2:
        return False
    return bool(_KNOWN.fullmatch(bare)) and not _WORD.search(bare) and not _UNFINISHED.search(text.strip())


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")}]":
            depth -= 1
    return deepest
