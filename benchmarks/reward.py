"""Speed and agreement of the reward beside the graders that exist, in one run on one core.

usage: .envs/verl/bin/python benchmarks/reward.py [--math-verify-tests Math-Verify/tests/test_all.py]

verl's own rewards are in that environment; `.envs/uv/bin/uv pip install -p .envs/verl mathruler` adds MathRuler. The
workload: 512 prompts, 5 answers each; 40 % letters, 30 % numbers with or without units, 20 % fractions, 10 % radicals.
Agreement is measured on the labelled sets of the tests, and on the cases of math-verify's own tests, which a clone of
https://github.com/huggingface/Math-Verify has: each as it stands, sentences around the answer included.
"""

import argparse
import ast
import importlib
import random
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests" / "core"))

from capcurr_plugin.reward import at_sight, compute_score, expression, plain, verdict, verify, warm_up  # noqa: E402

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
    for function in (plain.plain, plain.with_units, verdict._values, at_sight._read_truth, expression._parse):
        function.cache_clear()


Case = tuple[str, str, bool]  # answer, ground truth, equal


def labelled(module: str) -> list[Case]:
    cases = importlib.import_module(module)
    if module == "labelled_answers":
        return [(case.answer, case.truth, case.equal) for case in cases.CASES if case.options is None]
    return [case[:3] for case in cases.ADVERSARIAL if case[3] is None]


def math_verify_cases(path: Path) -> list[Case]:
    """The (gold, pred, expected) of its parametrized tests, read and not run."""
    cases = []
    for function in ast.parse(path.read_text()).body:
        for decorator in getattr(function, "decorator_list", []):
            if not isinstance(decorator, ast.Call) or len(decorator.args) != 2:
                continue
            names, rows = decorator.args
            if isinstance(names, ast.Constant) and str(names.value).replace(" ", "").startswith("gold,pred"):
                cases += [case for row in getattr(rows, "elts", []) if (case := _literal(row))]
    return [(pred, gold, bool(expected)) for gold, pred, expected in cases]


def _literal(row: ast.expr) -> tuple[str, str, int] | None:
    try:
        return ast.literal_eval(row)[:3]
    except ValueError:  # it is computed, so it cannot be read
        return None


def agreement(grader: Grader, cases: list[Case], *, boxed: bool) -> tuple[float, int]:
    """The share of cases that a grader judges as labelled, and how many wrong answers it accepts."""
    right = false_positives = 0
    for answer, truth, expected in cases:
        try:
            equal = bool(grader(f"\\boxed{{{answer}}}" if boxed else answer, truth))
        except Exception:  # noqa: BLE001  a peer that stumbles has not judged
            equal = False
        right += equal == expected
        false_positives += equal and not expected
    return right / len(cases), false_positives


def raw_graders() -> dict[str, Grader]:
    """The graders on whole texts instead of boxed answers."""
    module = importlib.import_module("math_verify")
    found: dict[str, Grader] = {
        "this": lambda answer, truth: float(verify(answer, truth)),
        "math-verify": lambda answer, truth: float(module.verify(module.parse(truth), module.parse(answer))),
    }
    if find_spec("mathruler"):
        grade = importlib.import_module("mathruler.grader").grade_answer
        found["MathRuler"] = lambda answer, truth: float(grade(answer, truth))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--math-verify-tests", type=Path, metavar="FILE")
    args = parser.parse_args()
    warm_up()
    print_speed()
    boxed = {"this": lambda response, truth: float(verify(response[7:-1], truth)), **peers()}
    for module in ("labelled_answers", "adversarial_answers"):
        print_agreement(module.replace("_", " "), boxed, labelled(module), boxed=True)
    if args.math_verify_tests:
        print_agreement(
            "math-verify's own tests", raw_graders(), math_verify_cases(args.math_verify_tests), boxed=False
        )


def print_agreement(title: str, graders: dict[str, Grader], cases: list[Case], *, boxed: bool) -> None:
    print(f"\n{f'{len(cases):,} {title}':<36} {'agreement':>10} {'false positives':>20}")
    for name, grader in graders.items():
        share, wrong = agreement(grader, cases, boxed=boxed)
        print(f"{name:<36} {share:>10.1%} {wrong:>20,}")


def print_speed() -> None:
    rows = workload()
    ours: Grader = lambda response, truth: compute_score("", response, truth)["accuracy"]  # noqa: E731
    kept, verdict.MAX_CACHED_LENGTH = verdict.MAX_CACHED_LENGTH, -1  # cold: no verdict is kept
    cold = rate(ours, rows, cold=True)
    verdict.MAX_CACHED_LENGTH = kept
    training = rate(ours, rows * EPOCHS, cold=True)
    warm = rate(ours, rows)
    speeds = {name: rate(grader, rows[:PEER_ROWS]) for name, grader in peers().items()}
    fastest = max(speeds.values())
    print(f"{'answers a second, one core':<36} {'rate':>10} {'to the fastest peer':>20}")
    for name, speed in (("cold", cold), (f"{EPOCHS} epochs of groups", training), ("warm", warm)):
        print(f"{'this, ' + name:<36} {speed:>10,.0f} {speed / fastest:>19.1f}x")
    for name, speed in speeds.items():
        print(f"{name:<36} {speed:>10,.0f} {speed / fastest:>19.1f}x")


if __name__ == "__main__":
    main()
