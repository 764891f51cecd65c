"""The toy world over several seeds: whether each stage teaches its own capability, and whether the order of the stages
matters there. Trains staged and merged once for each seed, by `capcurr demo`, and prints tables with intervals.

usage: python benchmarks/toyworld.py [--out DIR] [--seeds 1 2 3 4 5] [--quick]

Run it again after a stop: it goes on where it stopped. Five seeds take about 100 minutes on two cores.
"""

import argparse
import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from capcurr_plugin.cli import main as capcurr
from capcurr_plugin.rows import CAPABILITIES
from capcurr_plugin.statistics import wilson_interval
from capcurr_plugin.toyworld.loop import BASE, model_name
from capcurr_plugin.verl_host.steps import read_steps

# Student's t, two-sided 95 %, by degrees of freedom
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
RECIPES = ("staged", "merged")
TABLES = ("ToyWorld_Perception", "ToyWorld_Reasoning")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("toyworld"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    words = ["demo", "--out", str(args.out), "--compare", "--seeds", *map(str, args.seeds)]
    code = capcurr([*words, *(["--quick"] if args.quick else [])])
    if code:
        return code
    print_rises(args.out, args.seeds)
    print_scores(json.loads((args.out / "results.json").read_text()), args.seeds)
    return 0


def print_rises(out: Path, seeds: Sequence[int]) -> None:
    """Of each stage's own capability, from before its first step to after its last."""
    rows = validated(out)
    told = ", ".join(f"{count} of {capability}" for capability, count in rows.items())
    print(f"Accuracy on validation rows ({told}), before and after the stage, and the gain's 95 % interval\n")
    print("| seed | " + " | ".join(CAPABILITIES) + " |\n|---" + "|---" * len(CAPABILITIES) + "|")
    rising = dict.fromkeys(CAPABILITIES, 0)
    for seed in seeds:
        cells = []
        for number, capability in enumerate(CAPABILITIES, 1):
            before, after = rise(out / "runs" / f"staged_{seed}", number, capability)
            low, high = difference(before, after, rows[capability])
            rising[capability] += low > 0
            cells.append(f"{before:.2f} -> {after:.2f} ({low:+.2f} to {high:+.2f})")
        print(f"| {seed} | {' | '.join(cells)} |")
    told = ", ".join(f"{capability} {count} of {len(seeds)}" for capability, count in rising.items())
    print(f"\nrises beyond its interval: {told}\n")


def validated(out: Path) -> dict[str, int]:
    """How many rows of each capability."""
    lines = (out / "data" / "validation.jsonl").read_text().splitlines()
    return dict(Counter(json.loads(line)["capability"] for line in lines))


def rise(run: Path, number: int, capability: str) -> tuple[float, float]:
    (folder,) = run.glob(f"{number}_*")
    name = f"val-aux/{capability}/accuracy/mean@1"
    found = [step["validation"][name] for step in read_steps(folder / "steps.jsonl") if step.get("validation")]
    return found[0], found[-1]


def difference(before: float, after: float, rows: int) -> tuple[float, float]:
    """The interval of the difference of two shares (Newcombe's, from Wilson's of each)."""
    (low_b, high_b), (low_a, high_a) = (wilson_interval(share * rows, rows, 0.95) for share in (before, after))
    gain = after - before
    return gain - math.hypot(after - low_a, high_b - before), gain + math.hypot(high_a - after, before - low_b)


def print_scores(results: dict, seeds: Sequence[int]) -> None:
    """Of VLMEvalKit, in percent; the interval is over seeds."""
    models = results["models"]

    def score(model: str, table: str) -> float:
        told = models[model]
        return told["averages"]["toyworld"]["value"] if table == "average" else told["benchmarks"][table]["value"]

    print("Scores on held-out scenes, mean and 95 % t interval over seeds\n")
    print("| | " + " | ".join((*TABLES, "average")) + " |\n|---" + "|---" * (len(TABLES) + 1) + "|")
    columns = (*TABLES, "average")
    print(f"| base | {' | '.join(f'{score(BASE, table):.1f}' for table in columns)} |")
    found = {
        recipe: {table: [score(model_name(recipe, seed), table) for seed in seeds] for table in columns}
        for recipe in RECIPES
    }
    for recipe in RECIPES:
        print(f"| {recipe} | {' | '.join(over_seeds(found[recipe][table]) for table in columns)} |")
    gaps = [
        over_seeds([one - other for one, other in zip(*(found[recipe][table] for recipe in RECIPES), strict=True)], "+")
        for table in columns
    ]
    print(f"| staged minus merged | {' | '.join(gaps)} |")


def over_seeds(values: Sequence[float], sign: str = "") -> str:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:{sign}.1f}"
    half = T95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:{sign}.1f} ({mean - half:{sign}.1f} to {mean + half:{sign}.1f})"


if __name__ == "__main__":
    sys.exit(main())
