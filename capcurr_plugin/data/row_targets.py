"""The files that a command writes rows to: one, or one for each capability or part."""

from collections.abc import Iterator
from pathlib import Path

from capcurr_plugin.data.split import PARTS
from capcurr_plugin.errors import InputError
from capcurr_plugin.row_files import format_of
from capcurr_plugin.rows import CAPABILITIES

CAPABILITY, SPLIT = "{capability}", "{split}"  # what stands for their names in the name of an output


class Targets:
    """The outputs by their number, which grows with the capability and then with the part."""

    def __init__(self, output: Path, split: bool) -> None:
        for mark in (CAPABILITY, SPLIT):
            if mark in str(output.parent):
                raise InputError(f"{output}: {mark} can stand in the name of the file, not in that of a folder")
        self.by_capability = CAPABILITY in output.name
        self.by_part = split
        if SPLIT in output.name and not split:
            raise InputError(f"{output}: {SPLIT} in the name goes with --split")
        self._whole = output
        if split and SPLIT not in output.name:
            ending = format_of(output)
            output = output.with_name(f"{output.name[: -len(ending)]}-{SPLIT}{output.name[-len(ending) :]}")
        self._pattern = output

    @property
    def whole(self) -> Path:
        """The name that stands for all of them."""
        return _named(self._whole, "all", "all")

    def numbers(self) -> Iterator[int]:
        capabilities = range(len(CAPABILITIES) if self.by_capability else 1)
        return (c * len(PARTS) + p for c in capabilities for p in range(len(PARTS) if self.by_part else 1))

    def path(self, number: int) -> Path:
        return _named(self._pattern, CAPABILITIES[number // len(PARTS)], PARTS[number % len(PARTS)])

    def all(self) -> list[Path]:
        return [self.path(number) for number in self.numbers()]


def _named(pattern: Path, capability: str, part: str) -> Path:
    return pattern.with_name(pattern.name.replace(CAPABILITY, capability).replace(SPLIT, part))
