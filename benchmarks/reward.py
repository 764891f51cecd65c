"""Speed and agreement of the reward beside the graders that exist, in one run on one core.

usage: .envs/verl/bin/python benchmarks/reward.py

verl's own rewards are in that environment; `.envs/uv/bin/uv pip install -p .envs/verl mathruler` adds MathRuler. The
workload: 512 prompts, 5 answers each; 40 % letters, 30 % numbers with or without units, 20 % fractions, 10 % radicals.
"""

import importlib
import random
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests" / "core"))

from capcurr_plugin.reward import at_sight, compute_score, expression, verdict, verify, warm_up  # noqa: E402

Row = tuple[str, str]  # response, ground truth
Grader = Callable[[str, str], float]

PROMPTS, GROUP, EPOCHS = 512, 5, 3
PEER_ROWS = 300  # of the workload, for peers that need milliseconds an answer
PASSES = 3


def workload(seed: int = 0) -> list[Row]:
    chance = random.Random(seed)
    rows = []
    for _ in range(PROMPTS):
        truth, answers = _prompt(chance)
        for _ in range(GROUP):
            rows.append((f"<think> I look, then think. </think> So \\boxed{{{chance.choice(answers)}}}.", truth))
    return rows


def _prompt(chance: random.Random) -> tuple[str, list[str]]:
    """A ground truth and what models say to it, right and wrong."""
    kind, a, b = chance.random(), chance.randint(2, 20), chance.randint(2, 20)
    if kind < 0.4:
        letter = chance.choice("ABCD")
        return letter, [letter, f"({letter})", f"\\text{{{letter}}}", chance.choice("ABCD")]
    if kind < 0.7:
        number = chance.choice([str(chance.randint(1, 999)), f"{chance.uniform(0, 99):.2f}"])
        unit = chance.choice(["", "\\text{ cm}", "^\\circ"])
        return number + unit, [number, number + unit, str(chance.randint(1, 999))]
    if kind < 0.9:
        return f"\\frac{{{a}}}{{{b}}}", [f"{a}/{b}", f"\\dfrac{{{2 * a}}}{{{2 * b}}}", f"\\frac{{{a + 1}}}{{{b}}}"]
    return f"{a}\\sqrt{{{b}}}", [f"\\sqrt{{{a * a * b}}}", f"{a}\\sqrt{{{b}}}", f"{a}\\sqrt{{{b + 1}}}"]


def peers() -> dict[str, Grader]:
    """The graders that are installed here, by name."""
    found: dict[str, Grader] = {"math-verify": _math_verify()}
    if find_spec("mathruler"):
        grader = importlib.import_module("mathruler.grader")
        found["MathRuler"] = lambda response, truth: float(
            grader.grade_answer(grader.extract_boxed_content(response), truth)
        )
    for name in ("geo3k", "math_verify"):
        if find_spec("verl") and (name != "geo3k" or find_spec("mathruler")):
            module = importlib.import_module(f"verl.utils.reward_score.{name}")
            found[f"verl {name}"] = lambda response, truth, module=module: float(module.compute_score(response, truth))
    return found


def _math_verify() -> Grader:
    module = importlib.import_module("math_verify")
    return lambda response, truth: float(module.verify(module.parse(f"${truth}$"), module.parse(response)))


def rate(grader: Grader, rows: list[Row], *, cold: bool = False) -> float:
    """Answers a second, in the best of some passes, because other programs run beside this one."""
    times = []
    for _ in range(PASSES):
        if cold:
            forget()
        start = time.perf_counter()
        for response, truth in rows:
            grader(response, truth)
        times.append(time.perf_counter() - start)
    return len(rows) / min(times)


def forget() -> None:
    """What this has kept of earlier answers."""
    verdict._cache.clear()
    for function in (verdict.plain, verdict._values, at_sight._read_truth, expression._parse):
        function.cache_clear()


def agreement(grader: Grader) -> tuple[float, int]:
    """The share of the labelled cases that a grader judges as labelled, and how many wrong answers it accepts."""
    cases = [case for case in importlib.import_module("labelled_answers").CASES if case.options is None]
    right = false_positives = 0
    for case in cases:
        try:
            equal = bool(grader(f"\\boxed{{{case.answer}}}", case.truth))
        except Exception:  # noqa: BLE001  a peer that stumbles has not judged
            equal = False
        right += equal == case.equal
        false_positives += equal and not case.equal
    return right / len(cases), false_positives


def main() -> None:
    rows = workload()
    warm_up()
    ours: Grader = lambda response, truth: compute_score("", response, truth)["accuracy"]  # noqa: E731
    verdict_length, verdict.MAX_CACHED_LENGTH = verdict.MAX_CACHED_LENGTH, -1  # cold: no verdict is kept
    cold = rate(ours, rows, cold=True)
    verdict.MAX_CACHED_LENGTH = verdict_length
    training = rate(ours, rows * EPOCHS, cold=True)
    warm = rate(ours, rows)
    speeds = {name: rate(grader, rows[:PEER_ROWS]) for name, grader in peers().items()}
    fastest = max(speeds.values())
    print(f"{'answers a second, one core':<36} {'rate':>10} {'to the fastest peer':>20}")
    for name, speed in (("cold", cold), (f"{EPOCHS} epochs of groups", training), ("warm", warm)):
        print(f"{'this, ' + name:<36} {speed:>10,.0f} {speed / fastest:>19.1f}x")
    for name, speed in speeds.items():
        print(f"{name:<36} {speed:>10,.0f} {speed / fastest:>19.1f}x")
    print(f"\n{'labelled cases without options':<36} {'agreement':>10} {'false positives':>20}")
    this: Grader = lambda response, truth: float(verify(response[7:-1], truth))  # noqa: E731
    for name, grader in {"this": this, **peers()}.items():
        share, wrong = agreement(grader)
        print(f"{name:<36} {share:>10.1%} {wrong:>20}")


if __name__ == "__main__":
    main()
