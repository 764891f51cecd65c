"""Runs every test in the environment of its host and ends with one summary in pytest's words.

usage: python3 scripts/run_tests.py [--fast] [--env NAME ...] [pytest arguments]

The tests of core, of installing, and of the house itself run in the environment `core`; `tests/verl` and
`tests/vlmeval` run beside the real hosts; `tests/demo` runs in `core`, and calls both. Environments are made on first
use; two at a time have their tests run.
"""

from __future__ import annotations  # an older python3 may run this, to find a newer one

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from capcurr_plugin.environments import EnvironmentFailed, ensure, uv  # noqa: E402
from capcurr_plugin.environments.chromium import ensure_chromium  # noqa: E402

# The longest first
FOLDERS = {
    "verl": ["tests/verl"],
    "core": ["tests/core", "tests/install", "tests/house"],
    "demo": ["tests/demo"],
    "vlmeval": ["tests/vlmeval"],
}
ENVIRONMENT = {"demo": "core"}  # where it has another name
AT_ONCE = 2  # most of them wait for processes to start
NO_TESTS = 5  # pytest's exit code when nothing was selected
OUTCOMES = ("failed", "passed", "skipped", "xfailed", "errors")


@dataclass
class Summary:
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    bad: list[str] = field(default_factory=list)  # what failed, by name
    broken: list[str] = field(default_factory=list)  # environments whose tests did not run to their end

    def add(self, environment: str, cases: list[ET.Element], exit_code: int) -> None:
        for case in cases:
            self._add_case(environment, case)
        if exit_code not in (0, 1, NO_TESTS):
            self.broken.append(f"{environment}: pytest ended with exit code {exit_code}")

    def _add_case(self, environment: str, case: ET.Element) -> None:
        kinds = [child.tag for child in case]
        name = f"[{environment}] {case.get('classname')}::{case.get('name')}"
        if "failure" in kinds or "error" in kinds:
            outcome = "failed" if "failure" in kinds else "errors"
            self.bad.append(f"{outcome.upper()} {name}")
        elif "skipped" in kinds:
            skipped = case.find("skipped")
            outcome = "xfailed" if skipped is not None and skipped.get("type") == "pytest.xfail" else "skipped"
        else:
            outcome = "passed"
        self.counts[outcome] += 1

    @property
    def ok(self) -> bool:
        return not self.bad and not self.broken and self.counts["passed"] > 0

    def line(self, seconds: float) -> str:
        parts = [f"{count} {outcome}" for outcome, count in self.counts.items() if count] or ["no tests ran"]
        return f" {', '.join(parts)} in {seconds:.2f}s ".center(100, "=")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked slow")
    parser.add_argument("--env", action="append", choices=FOLDERS, help="only these tests")
    args, pytest_args = parser.parse_known_args(argv)
    if args.fast:
        pytest_args = ["-m", "not slow", *pytest_args]
    start = time.monotonic()
    summary = Summary()
    try:
        uv()  # the install tests call it
        with ThreadPoolExecutor(AT_ONCE) as lanes:
            for done in lanes.map(lambda name: run(name, pytest_args), args.env or FOLDERS):
                summary.add(*done)
    except EnvironmentFailed as error:
        summary.broken.append(str(error))
    for line in [*summary.broken, *summary.bad]:
        print(line)
    print(summary.line(time.monotonic() - start))
    return 0 if summary.ok else 1


def run(name: str, pytest_args: list[str]) -> tuple[str, list[ET.Element], int]:
    python = ensure(ENVIRONMENT.get(name, name))
    if name == "core":
        try_chromium()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        code = run_pytest(name, python, report, pytest_args)
        return name, list(ET.parse(report).iter("testcase")) if report.exists() else [], code


def try_chromium() -> None:
    """Without it the tests of pages fail, and say why; the others can do without."""
    try:
        ensure_chromium()
    except EnvironmentFailed as error:
        print(f"[core] {error}", flush=True)


def run_pytest(name: str, python: Path, report: Path, arguments: list[str]) -> int:
    """pytest in one environment; `-qq` keeps its own summary line away, failures are shown in full."""
    folders = [folder for folder in FOLDERS[name] if (CHECKOUT / folder).is_dir()]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # The hosts are large: without cached bytecode each of their many starts would compile them anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [
        str(python),
        "-m",
        "pytest",
        "-qq",
        f"--junitxml={report}",
        "--disable-warnings",
        "--durations=5",
        *folders,
        *arguments,
    ]
    pytest = subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
    )
    assert pytest.stdout is not None
    for line in pytest.stdout:
        print(f"[{name}] {line}", end="", flush=True)
    return pytest.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
