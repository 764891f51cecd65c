"""Speed and memory of `capcurr data convert` on a million rows, beside pandas on the same file.

usage: .envs/verl/bin/python benchmarks/convert.py [ROWS]     (the verl environment has pandas)
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PANDAS = "import sys, pandas; pandas.read_json(sys.argv[1], lines=True).to_parquet(sys.argv[2])"
CAPCURR = "import sys; from capcurr_plugin.cli import main; sys.exit(main(['data', 'convert', *sys.argv[1:]]))"
PEAK = "import atexit; atexit.register(lambda: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]))\n"


def write_rows(path: Path, count: int) -> None:
    chance = random.Random(0)
    with path.open("w") as file:
        for number in range(count):
            correctness = [chance.random() < 0.6 for _ in range(4)]
            row = {
                "index": f"row-{number}",
                "problem": f"<image>How many red shapes are there, and what is that number times {number}?",
                "answer": str(chance.randrange(100)),
                "images": [f"images/{number:07d}.jpg"],
                "source": "benchmark",
                "predictions": [str(chance.randrange(9)) for _ in correctness],
                "correctness": correctness,
                "pass_rate": sum(correctness) / len(correctness),
                "note": "größer",
                "scene": {"shapes": chance.randrange(9)},
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def measure(program: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak MB of a process that converts source to target."""
    start = time.perf_counter()
    command = [sys.executable, "-c", PEAK + program, str(source), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1]) / 1024


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        write_rows(source, count)
        print(f"{count:,} rows, {source.stat().st_size / 1e6:.0f} MB of JSON Lines to Parquet")
        print(f"{'':<28} {'seconds':>8} {'rows/s':>9} {'peak MB':>8}")
        for name, program in (("capcurr data convert", CAPCURR), ("pandas (checks nothing)", PANDAS)):
            seconds, peak = measure(program, source, Path(folder) / "out.parquet")
            print(f"{name:<28} {seconds:>8.1f} {count / seconds:>9,.0f} {peak:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
