"""Speed and memory of `capcurr data order` on rows of the released shape, beside a plain load-and-sort in Python.

usage: .envs/core/bin/python benchmarks/order.py [ROWS] [--rounds N] [--alone] [--parquet]
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ORDER = "import sys; from capcurr_plugin.cli import main; sys.exit(main(['data', 'order', *sys.argv[1:]]))"
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
PEAK = "import atexit; atexit.register(lambda: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]))\n"

THINGS = ("mug", "bottle", "lamp", "chair", "plate", "dog", "sign", "window", "bicycle", "tree")
PLACES = ("left of", "right of", "behind", "in front of", "above", "below")
K = 16


def write_rows(path: Path, count: int) -> None:
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            target, *options = chance.sample(THINGS, 4)
            answer, difficulty = chance.choice("ABCD"), chance.random()
            correctness = [chance.random() < difficulty for _ in range(K)]
            texts = "".join(f"\n{letter}: {text}" for letter, text in zip("ABCD", [*options, "none"], strict=True))
            row = {
                "index": f"docci_{number}",
                "problem": f"<image>Which object is {chance.choice(PLACES)} the {target} in picture {number}?{texts}\n"
                "Answer with the letter of the right option only.",
                "answer": answer,
                "images": [f"images/train_{number:07d}.jpg"],
                "source": "docci",
                "predictions": [answer if right else chance.choice("ABCD") for right in correctness],
                "correctness": correctness,
                "pass_rate": sum(correctness) / K,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def measure(program: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak MB of a process that orders source into target."""
    start = time.perf_counter()
    command = [sys.executable, "-c", PEAK + program, str(source), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Order rows, and compare with a plain load-and-sort in Python.")
    parser.add_argument("rows", type=int, nargs="?", default=500_000)
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turns; the fastest counts (default: 3)")
    parser.add_argument("--alone", action="store_true", help="leave the plain one out")
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
