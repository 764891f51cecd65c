"""What runs on this machine, as Linux tells."""

import time
from pathlib import Path

PATIENCE = 30.0


def left_naming(text: object) -> list[str]:
    """Processes whose command line names it, and that have not ended after a while."""
    deadline = time.monotonic() + PATIENCE
    while (left := _naming(str(text).encode())) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def _naming(text: bytes) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found += [folder.name] if text in (folder / "cmdline").read_bytes() else []
        except OSError:  # it has just ended
            continue
    return found
