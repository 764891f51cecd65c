"""How long models think: tokens of thinking of each row, from the side-cars of VLMEvalKit's predictions.

Servers count the tokens of a response, not those of its thinking: these are its share of the response's characters. A
response in which no thinking is marked is thinking in whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from capcurr_plugin.evaluation.benchmark_results import Result
from capcurr_plugin.evaluation.responses import Response, read_responses
from capcurr_plugin.evaluation.table_files import canonical
from capcurr_plugin.statistics import bootstrap, percentile_interval, stream

UNIT = "tokens of thinking"
EDGES = [0] + [round(2 ** (power / 2)) for power in range(4, 35)]  # 4 to 131,072, each 1.41 times the one before
MAX_TOKENS = 1 << 30


def read_lengths(result: Result) -> dict[str, float]:
    """By the row's index; of rows whose server counted."""
    path = result.candidate.responses
    if path is None:
        return {}
    found = {canonical(one.index): thinking_tokens(one) for one in read_responses(path)}
    return {index: tokens for index, tokens in found.items() if tokens is not None}


def thinking_tokens(one: Response) -> float | None:
    tokens, thinking, response = one.completion_tokens, one.thinking, one.response
    if type(tokens) is not int or not 0 <= tokens <= MAX_TOKENS or not isinstance(response, str):
        return None
    if not isinstance(thinking, str) or not thinking:
        return float(tokens)
    characters = len(response) if thinking in response else len(thinking) + len(response)
    return tokens * len(thinking) / characters


def length_numbers(tokens: Sequence[float]) -> dict[str, Any] | None:
    import numpy as np

    if not tokens:
        return None
    values = np.asarray(tokens, float)
    counts, _ = np.histogram(values, [*EDGES[:-1], max(EDGES[-1], float(values.max()) + 1)])
    return {
        "rows": len(values),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "quantiles": {str(q): float(np.percentile(values, q)) for q in (5, 25, 75, 95)},
        "histogram": {"edges": EDGES, "counts": counts.tolist()},
    }


def model_lengths(results: Mapping[str, Result]) -> dict[str, Any] | None:
    """Overall, for right and for wrong answers; None when no side-car counts tokens."""
    of_all: dict[str, list[float]] = {"all": [], "right": [], "wrong": []}
    benchmarks = {}
    for name, result in results.items():
        own = _by_outcome(result)
        if own["all"]:
            benchmarks[name] = {outcome: length_numbers(tokens) for outcome, tokens in own.items()}
            for outcome, tokens in own.items():
                of_all[outcome] += tokens
    if not benchmarks:
        return None
    return {"unit": UNIT, **{o: length_numbers(t) for o, t in of_all.items()}, "benchmarks": benchmarks}


def _by_outcome(result: Result) -> dict[str, list[float]]:
    lengths = read_lengths(result)
    right = {sample.index: not sample.wrong for sample in result.judged.samples} if result.judged else {}
    return {
        "all": list(lengths.values()),
        "right": [tokens for index, tokens in lengths.items() if right.get(index) is True],
        "wrong": [tokens for index, tokens in lengths.items() if right.get(index) is False],
    }


def paired_lengths(
    first: Mapping[str, Result], second: Mapping[str, Result], resamples: int, seed: int, confidence: float
) -> dict[str, Any] | None:
    """Of two models on the rows that both have: the mean difference and the ratio of the means, second to first."""
    import numpy as np

    pairs = []
    for name in first.keys() & second.keys():
        ours, theirs = read_lengths(first[name]), read_lengths(second[name])
        pairs += [(ours[index], theirs[index], 1.0) for index in sorted(ours.keys() & theirs.keys())]
    if not pairs:
        return None
    sums = np.array(sorted(pairs))
    means = sums.mean(axis=0)
    generator = stream(seed, "lengths")

    def difference_and_ratio(totals: Any) -> Any:
        return np.stack([(totals[:, 1] - totals[:, 0]) / totals[:, 2], totals[:, 1] / np.maximum(totals[:, 0], 1e-9)])

    difference, ratio = bootstrap(sums, difference_and_ratio, resamples, generator)
    return {
        "unit": UNIT,
        "pairs": len(pairs),
        "first_mean": float(means[0]),
        "second_mean": float(means[1]),
        "difference": [float(means[1] - means[0]), *percentile_interval(difference, confidence)],
        "ratio": [float(means[1] / max(means[0], 1e-9)), *percentile_interval(ratio, confidence)],
    }
