"""The quick demo, killed again and again at random moments, beside one that nobody kills: whether both come to the same
data, weights, scores and verdicts, to the bit, and whether a kill leaves a process behind.

usage: python benchmarks/demo_kills.py [--out DIR] [--seed N] [--shortest S] [--longest S]

Takes some 20 minutes on two cores, in an environment that `make demo` has made. A model is taught anew for it.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "servers"))

from processes import left_naming  # pyright: ignore[reportMissingImports]  of the tests

COMPARED = ("base/*.safetensors", "data/*.jsonl", "data/LMUData/*.tsv", "runs/*/*/global_step_*/actor/huggingface/*")
NAMING = ("results.json", "errors.jsonl")  # files that hold the folder's own name
JOURNALS = ".answers.jsonl"  # in the order in which the answers came


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo_kills"))
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--shortest", type=float, default=30, help="seconds to a kill; default: %(default)g")
    parser.add_argument("--longest", type=float, default=150, help="the same; longer than any step that begins anew")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    undisturbed, killed = args.out.absolute() / "undisturbed", args.out.absolute() / "killed"
    if run(undisturbed).wait():
        return 1
    dice, kills, left_behind = random.Random(args.seed), 0, 0
    while (code := ended_within(process := run(killed), dice.uniform(args.shortest, args.longest))) is None:
        process.kill()
        process.wait()
        kills += 1
        done = json.loads((killed / "demo.json").read_text())["done"]
        left = left_naming(killed)
        left_behind += len(left)
        print(f"kill {kills}: steps done before it: {len(done)}; processes left: {left or 'none'}", flush=True)
    ours, theirs = contents(killed), contents(undisturbed)
    differing = differences(ours, theirs)
    print(f"ended with {code} after {kills} kills; {left_behind} processes left behind")
    print(f"{len(ours)} files compared; differing: {', '.join(differing) or 'none'}")
    return int(bool(code or left_behind or differing))


def run(folder: Path) -> subprocess.Popen[bytes]:
    command = [Path(sys.executable).with_name("capcurr"), "demo", "--quick", "--out", folder]
    environment = os.environ | {"CAPCURR_CACHE": str(folder.with_name(f"{folder.name}_cache"))}
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def ended_within(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def contents(folder: Path) -> dict[str, str]:
    """A digest of each file that should be the same."""
    found = [file for pattern in (*COMPARED, *NAMING) for file in folder.glob(pattern) if file.is_file()]
    files = [file for file in found if not file.name.endswith(JOURNALS)]
    own_name = os.fsencode(folder)
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes().replace(own_name, b"")).hexdigest()
        for file in files
    }


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


if __name__ == "__main__":
    sys.exit(main())
