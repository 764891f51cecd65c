"""How near `capcurr attribute` comes to what a judge's limit of calls allows: wrong answers with pictures, a local
judge that takes a second for each, so many calls at once. Prints the share of the limit's throughput and the memory
that the command took. Other guests of a virtual machine's host can slow a run down: their time is shown as stolen.

usage: python benchmarks/attribute.py [ERRORS] [--parallel 64] [--latency 1] [--faults SHARE]
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

STOLEN = 7  # among the counts of /proc/stat: time in which a virtual machine wanted to run and was not let

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "tests" / "servers"), str(CHECKOUT / "tests" / "core")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("errors", type=int, nargs="?", default=10_000)
    parser.add_argument("--parallel", type=int, default=64)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--side", type=int, default=600, help="of the pictures, in pixels")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(args, Path(folder))))


def measure(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    planted = importlib.import_module("planted_errors")  # of the tests
    kinds = planted.kinds_for(args.errors)
    planted.plant(folder / "work", folder / "lmu", "Model", kinds, side=args.side, response_words=1_500)
    environment = {
        **os.environ,
        "CAPCURR_CACHE": str(folder / "cache"),
        "LMUData": str(folder / "lmu"),
        "ANTHROPIC_API_KEY": "k",
    }
    server = subprocess.Popen(
        [sys.executable, __file__.replace("attribute.py", "slow_judge.py"), str(args.latency), str(args.faults)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        environment["ANTHROPIC_BASE_URL"] = server.stdout.readline().strip()
        words = ["attribute", folder / "work", folder / "out.jsonl", "--parallel", str(args.parallel)]
        command = [str(word) for word in (Path(sys.executable).with_name("capcurr"), *words)]
        prepared, _ = timed([*command, "--dry-run"], environment)
        before = processor_times()
        seconds, usage = timed(command, environment)
        taken = [later - earlier for earlier, later in zip(before, processor_times(), strict=True)]
        told = requests.get(f"{environment['ANTHROPIC_BASE_URL']}/told", timeout=10).json()
    finally:
        server.terminate()
    ideal = args.errors * args.latency / args.parallel
    return {
        "errors": args.errors,
        "seconds": round(seconds, 1),
        "seconds_before": round(prepared, 1),
        "seconds_asking": round(told["seconds"], 1),
        "limit_seconds": round(ideal, 1),
        "share_of_limit_while_asking": round(ideal / told["seconds"], 3),
        "share_of_limit_in_all": round(ideal / seconds, 3),
        "most_in_flight": told["most_in_flight"],
        "memory_mb": round(usage.ru_maxrss / 1024),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "stolen_cpu_seconds": round(taken[STOLEN] / os.sysconf("SC_CLK_TCK"), 1),
    }


def processor_times() -> list[int]:
    """What Linux counts of all processors together."""
    return [int(count) for count in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, resource.struct_rusage]:
    begun = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"it ended with {status}"
    return time.monotonic() - begun, usage


if __name__ == "__main__":
    main()
