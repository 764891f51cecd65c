"""What several commands take on their command lines."""

import argparse
import math
from collections.abc import Sequence
from typing import Any


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def minutes(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a time in minutes")
    return number


def dollars(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no sum of dollars above 0")
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; write 0.825 for 82.5 %")
    return value


def take_words_after_dashes(parser: argparse.ArgumentParser) -> None:
    """As `more`. argparse itself refuses words after `--` when options stand before it."""
    parse = parser.parse_known_args

    def parse_before_dashes(args: Sequence[str], namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        words = list(args)
        end = words.index("--") if "--" in words else len(words)
        parsed, unknown = parse(words[:end], namespace)
        parsed.more = words[end + 1 :]
        return parsed, unknown

    parser.parse_known_args = parse_before_dashes  # pyright: ignore[reportAttributeAccessIssue]
