"""Lint, format and types. Each host package is checked against the types of the real host.

usage: python3 scripts/check.py [ruff|core|verl|vlmeval ...]   (all when none is named)
"""

from __future__ import annotations  # an older python3 may run this, to find a newer one

import json
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from capcurr_plugin.environments import ensure, root  # noqa: E402

HOST_FILES = {
    "verl": [
        "capcurr_plugin/verl_host",
        "capcurr_plugin/repeatable.py",
        "capcurr_plugin/environments/torchvision_on_cpu.py",
        *(f"capcurr_plugin/toyworld/{name}.py" for name in ("serving", "tiny_models", "warm_start")),
    ],
    "vlmeval": ["capcurr_plugin/vlmeval_host"],
}


def main(names: list[str]) -> int:
    core = ensure("core").parent
    failed = False
    for name in names or ["ruff", "core", *HOST_FILES]:
        if name == "ruff":
            commands = [[core / "ruff", "check", "."], [core / "ruff", "format", "--check", "."]]
        elif name == "core":
            commands = [[core / "pyright", "--pythonpath", core / "python"]]
        else:
            commands = [[core / "pyright", "--pythonpath", ensure(name), "--project", _project(name)]]
        for command in commands:
            failed |= subprocess.run(list(map(str, command)), cwd=CHECKOUT, check=False).returncode != 0
    return int(failed)


def _project(name: str) -> Path:
    """pyright reads its settings, with paths relative to their file, from one file: a host's files need their own."""
    file = root() / f"pyright-{name}.json"
    file.write_text(json.dumps({"include": [f"../{path}" for path in HOST_FILES[name]], "pythonVersion": "3.10"}))
    return file


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
