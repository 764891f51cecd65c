"""The final answer of a response: the content of its last box."""

import re

# One pass over whatever could open or close a brace; `\{` and `\}` are characters, not braces.
_TOKENS = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)


def extract_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` or `\fbox{...}`; None when there is none or it is empty."""
    last: tuple[int, int] | None = None
    open_braces: list[int | None] = []  # where a box's content starts, or None for any other brace
    for token in _TOKENS.finditer(text):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None:
                last = start, token.start()
        elif token[0].endswith("{") and len(token[0]) > 2:
            open_braces.append(token.end())
    return text[slice(*last)].strip() or None if last else None
