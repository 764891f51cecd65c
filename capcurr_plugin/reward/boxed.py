"""The final answer of a response: the content of its last box."""

import re

# Whatever could open or close a brace, in runs; `\{` and `\}` are characters, not braces. That each alternative begins
# with a plain character makes the search several times faster.
_TOKENS = re.compile(
    r"\\(?:boxed|fbox)(?![A-Za-z])\s*\{?|\\\\(?!boxed|fbox)(?:\\\\(?!boxed|fbox)|\\[{}])*|\\[{}]|\{\{*|\}\}*"
)
_BARE = re.compile(r"\$?([^\s${}]*(?:\{[^{}]{0,200}\}[^\s${}]*)*)")


def extract_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` or `\fbox{...}`, or what follows a last `\boxed` without braces.

    None when there is none or it is empty. A box within a box is the later one.
    """
    start = text.rfind("\\boxed{")
    if start >= 0 and text.rfind("\\fbox") < start and text.rfind("\\boxed") == start:
        content = _between_braces(text, start + 7)
        if content is not None:
            return content.strip() or None
    return _last_box(text)


def _between_braces(text: str, start: int) -> str | None:
    """From an open brace to its closing one; None when that is missing or takes a closer look."""
    at, end = start, text.find("}", start)
    depth = 0
    while end >= 0:
        depth += text.count("{", at, end)
        if depth == 0:
            content = text[start:end]
            escapes = "\\" in content and ("\\{" in content or "\\}" in content or "\\\\" in content)
            return None if escapes or content.endswith("\\") else content
        depth -= 1
        at, end = end + 1, text.find("}", end + 1)
    return None


def _last_box(text: str) -> str | None:
    """The same by a look at all braces, in one pass however many boxes are never closed."""
    start, last = -1, ""
    open_braces: list[int | None] = []  # where a box's content starts, or None for any other brace
    for token in _TOKENS.finditer(text):
        found = token[0]
        if found[0] == "{":
            open_braces += [None] * len(found)
        elif found[0] == "}":
            closed = open_braces[-len(found) :]
            del open_braces[-len(found) :]
            for end, opened in enumerate(reversed(closed), token.start()):
                if opened is not None and opened > start:
                    start, last = opened, text[opened:end].strip()
        elif found[1] not in "bf":
            continue
        elif found[-1] == "{":
            open_braces.append(token.end())
        else:
            bare = _bare(text, token.end())
            if bare:
                start, last = token.end(), bare
    return last or None


def _bare(text: str, start: int) -> str:
    r"""What `\boxed 7` boxes: up to the next space, if that can be a value; a word of prose cannot."""
    match = _BARE.match(text, start, start + 500)
    content = match[1].rstrip(".,;:!?") if match else ""
    names_a_value = re.search(r"[\d\\=]", content) or sum(map(str.isalpha, content)) == 1
    return content if names_a_value else ""
