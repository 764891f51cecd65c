"""Speed and memory of `capcurr data order` on rows of the released shape, beside a plain load-and-sort in Python.

usage: .envs/core/bin/python benchmarks/order.py [ROWS] [--rounds N] [--alone] [--parquet] [--published SCRIPT]

SCRIPT is the published generate_curriculum_per_stage.py. It writes the rows and, in a second file, those that
are not always solved; beside it, `capcurr data order` runs twice.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ORDER = "import sys; from capcurr_plugin.cli import main; assert main(['data', 'order', *sys.argv[1:]]) == 0"
PLAIN = """
import json, random, sys
with open(sys.argv[1], encoding="utf-8") as file:
    rows = [json.loads(line) for line in file]
chance = random.Random(42)
rows.sort(key=lambda row: (-row["pass_rate"], chance.random()))
with open(sys.argv[2], "w", encoding="utf-8") as file:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\\n")
"""
BOTH = ORDER + "; main(['data', 'order', *sys.argv[1:], '--drop-solved'])"
PUBLISHED = """
import pathlib, runpy, sys
source, target = map(pathlib.Path, sys.argv[1:])
sys.argv = ["", "--input_files", str(source), "--output_dir", str(target.parent)]
runpy.run_path({script!r}, run_name="__main__")
"""
PEAK = "import atexit; atexit.register(lambda: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]))\n"

THINGS = ("mug", "bottle", "lamp", "chair", "plate", "dog", "sign", "window", "bicycle", "tree")
PLACES = ("left of", "right of", "behind", "in front of", "above", "below")
K = 16


def write_rows(path: Path, count: int) -> None:
    """A third of them as each of the three published sets has them."""
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            problem, answer, others = (perception, text_only, visual)[number % 3](number, chance)
            difficulty = chance.random()
            correctness = [chance.random() < difficulty for _ in range(K)]
            images = [f"images/train_{number:07d}.jpg"] * problem.count("<image>")
            row = {
                "index": f"row_{number}",
                "problem": problem,
                "answer": answer,
                "images": images,
                "source": "made up",
            }
            row["predictions"] = [answer if right else chance.choice(others) for right in correctness]
            row |= {"correctness": correctness, "pass_rate": sum(correctness) / K}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def perception(number: int, chance: random.Random) -> tuple[str, str, list[str]]:
    target, *options = chance.sample(THINGS, 4)
    texts = "".join(f"\n{letter}: {text}" for letter, text in zip("ABCD", [*options, "none"], strict=True))
    question = f"<image>Which object is {chance.choice(PLACES)} the {target} in picture {number}?{texts}"
    return f"{question}\nAnswer with the letter of the right option only.", chance.choice("ABCD"), list("ABCD")


def text_only(number: int, chance: random.Random) -> tuple[str, str, list[str]]:
    a, b, c = (chance.randrange(2, 999) for _ in range(3))
    question = f"Let $x$ be a real number with $\\frac{{{a}}}{{{b}}} x + {c} = {number}$. What is $x$, in lowest terms?"
    return question, f"\\frac{{{(number - c) * b}}}{{{a}}}", [f"{chance.randrange(10**6) / 100}" for _ in range(K)]


def visual(number: int, chance: random.Random) -> tuple[str, str, list[str]]:
    a, b = chance.sample(THINGS, 2)
    question = f"<image>Subtract all {a}s and add {number} {b}s. How many objects are left in the picture?"
    return question, str(number + chance.randrange(10)), [str(number + n) for n in range(10)]


def measure(program: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak MB of a process that orders source into target."""
    os.sync()  # what the one before has left to write is not this one's
    start = time.perf_counter()
    command = [sys.executable, "-c", PEAK + program, str(source), str(target)]
    # An installed package has bytecode.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return time.perf_counter() - start, int(done.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Order rows, and compare with a plain load-and-sort in Python.")
    parser.add_argument("rows", type=int, nargs="?", default=500_000)
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turns; the fastest counts (default: 3)")
    parser.add_argument("--alone", action="store_true", help="leave the plain one out")
    parser.add_argument("--published", type=Path, metavar="SCRIPT", help="measure it, too")
    parser.add_argument("--parquet", action="store_true", help="order the rows as Parquet, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "rows.jsonl"
        write_rows(source, args.rows)
        print(f"{args.rows:,} rows, {source.stat().st_size / 1e6:,.0f} MB of JSON Lines")
        jobs = {"capcurr data order": (ORDER, source)}
        if not args.alone:
            jobs["json, sort, json (checks nothing)"] = (PLAIN, source)
        if args.published:
            jobs["capcurr data order, both files"] = (BOTH, source)
            jobs["published script, both files"] = (PUBLISHED.format(script=str(args.published)), source)
        if args.parquet:
            from capcurr_plugin.cli import main as capcurr

            capcurr(["data", "convert", str(source), str(folder / "rows.parquet")])
            jobs["capcurr data order, Parquet"] = (ORDER, folder / "rows.parquet")
        print(f"{'':<36} {'seconds':>8} {'rows/s':>9} {'peak MB':>8}")
        best: dict[str, tuple[float, float]] = {}
        for turn in range(args.rounds):
            for job, (program, path) in jobs.items():
                seconds, peak = measure(program, path, folder / f"out{path.suffix}")
                print(f"{f'{job}, round {turn + 1}':<46} {seconds:>8.2f} {peak:>8.0f}", flush=True)
                best[job] = min(best.get(job, (seconds, peak)), (seconds, peak))
        for job, (seconds, peak) in best.items():
            print(f"{job:<36} {seconds:>8.2f} {args.rows / seconds:>9,.0f} {peak:>8.0f}")


if __name__ == "__main__":
    main()
