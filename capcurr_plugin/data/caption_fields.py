"""Files of captions name their fields as they like."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capcurr_plugin.rows import RowError

KNOWN = {"caption": ("description", "caption"), "image": ("image_file", "image"), "id": ("example_id", "id", "index")}


@dataclass(frozen=True)
class CaptionFields:
    named: Mapping[str, str | None]  # by the user; None: the first that is known

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        for name, fields in KNOWN.items():
            known = " or ".join(fields)
            parser.add_argument(f"--{name}-field", metavar="NAME", help=f"the field of the {name} (default: {known})")

    @staticmethod
    def of(args: argparse.Namespace) -> "CaptionFields":
        return CaptionFields({name: getattr(args, f"{name}_field") for name in KNOWN})

    def text(self, record: Mapping[str, Any], name: str) -> str:
        field = self._field(record, name)
        if field is None:
            wanted = self.named[name] or " or ".join(KNOWN[name])
            raise RowError(f"field {wanted} is missing; name the field of the {name} with --{name}-field")
        value = record[field]
        if not isinstance(value, str) or not value.strip():
            raise RowError(f"field {field} should be a text that is not empty")
        if "<image>" in value or "<video>" in value:
            raise RowError(f"field {field} holds a mark such as <image>, which verl takes for a place to put one")
        return value

    def id(self, record: Mapping[str, Any]) -> str | None:
        field = self._field(record, "id")
        return None if field is None else str(record[field])

    def _field(self, record: Mapping[str, Any], name: str) -> str | None:
        wanted = self.named[name]
        if wanted:
            return wanted if wanted in record else None
        return next((field for field in KNOWN[name] if field in record), None)
