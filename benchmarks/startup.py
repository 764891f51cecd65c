"""What the start-up hook costs every Python start, beside other packages' hooks, and how fast the command answers.

usage: .envs/core/bin/python benchmarks/startup.py

Times are the `-X importtime` of each module, median of 30 starts of a new virtual environment with the plugin in it.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from capcurr_plugin.environments import uv  # noqa: E402

STARTS = 30
LIMIT_US = 1000
PEERS = {"wrapt": "wrapt", "_distutils_hack": "setuptools"}  # module -> package that brings it


def run(*words: object, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in words]
    return subprocess.run(command, env={**os.environ, **settings}, check=True, capture_output=True, text=True)


def import_us(python: Path, module: str, code: str, **settings: str) -> float:
    """Median microseconds of a module, with all that it imports."""
    times = []
    for _ in range(STARTS):
        trace = run(python, "-X", "importtime", "-c", code, **settings).stderr
        match = re.search(rf"\|\s+(\d+) \|\s+{re.escape(module)}$", trace, re.MULTILINE)
        assert match, f"{module} was not imported:\n{trace}"
        times.append(int(match[1]))
    return statistics.median(times)


def start_ms(*words: object) -> float:
    times = []
    for _ in range(STARTS):
        start = time.perf_counter()
        run(*words)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        run(uv(), "venv", "--quiet", "--python", sys.executable, venv)
        run(uv(), "pip", "install", "--quiet", "--python", venv, CHECKOUT, *PEERS.values())
        python = venv / "bin" / "python"
        cached = {"PYTHONDONTWRITEBYTECODE": ""}
        for module in ("_capcurr_boot", *PEERS):
            run(python, "-c", f"import {module}", **cached)  # writes the bytecode
        boot = import_us(python, "_capcurr_boot", "pass", **cached)
        print(f"{'module':<34} {'us':>8} {'ratio':>7}")
        print(f"{'_capcurr_boot (this)':<34} {boot:>8.0f} {1:>7.1f}")
        for module in PEERS:
            # Asked for by name: `site` imports those that have a .pth file, the import here those that have none.
            peer = import_us(python, module, f"import {module}", **cached)
            print(f"{module:<34} {peer:>8.0f} {peer / boot:>7.1f}")
        next(venv.glob("lib/python*/site-packages/__pycache__/_capcurr_boot*.pyc")).unlink()
        uncached = import_us(python, "_capcurr_boot", "pass", PYTHONDONTWRITEBYTECODE="1")
        print(f"{'_capcurr_boot, no bytecode cache':<34} {uncached:>8.0f} {uncached / boot:>7.1f}")
        bare, answer = start_ms(python, "-c", "pass"), start_ms(venv / "bin" / "capcurr", "--help")
        print(f"\n`capcurr --help` {answer:.0f} ms, `python -c pass` {bare:.0f} ms, ratio {answer / bare:.1f}")
    print(f"limit of _capcurr_boot {LIMIT_US} us: {'held' if boot <= LIMIT_US else 'MISSED'}")
    return int(boot > LIMIT_US)


if __name__ == "__main__":
    sys.exit(main())
