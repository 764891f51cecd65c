"""The shares of kinds, with the judge's own errors counted in: by every method that what is known of the judge allows,
each with what it assumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capcurr_plugin.attribution.audit_numbers import effective_confusion, effective_rates, judge_numbers
from capcurr_plugin.attribution.audits import Audit, Header, combine
from capcurr_plugin.attribution.kinds import KINDS
from capcurr_plugin.attribution.records import Record, read_records
from capcurr_plugin.attribution.shares import Drawing
from capcurr_plugin.attribution.statistics import (
    Audited,
    Estimate,
    Rate,
    audited_shares,
    posterior_share,
    prediction_powered,
    rogan_gladen,
    share_bounds,
    unmixed_shares,
)
from capcurr_plugin.statistics import stream

LEAST = 2  # audited verdicts, below which nothing can be said of their spread

Method = dict[str, Any]


def corrected(
    path: Path, models: Sequence[str], audits: Sequence[Audit], accuracy: float | None, drawing: Drawing
) -> dict[str, dict[str, Any] | None]:
    """By model. `path` holds the records, which are not read when nothing is known of the judge."""
    if not audits and accuracy is None:
        return dict.fromkeys(models)
    records = list(read_records(path))
    known = _known(records, audits, drawing) if audits else None
    found: dict[str, dict[str, Any] | None] = {}
    for model in models:
        own = [record for record in records if record.model == model]
        methods = list(_methods(own, known, accuracy, drawing)) if own else []
        found[model] = {"audit": known and known.numbers, "methods": methods} if methods else None
    return found


@dataclass(frozen=True)
class _Known:
    """What audits say, whichever model it is used for."""

    header: Header
    truths: Mapping[str, str]  # by wrong answer
    numbers: dict[str, Any]
    rates: Mapping[str, tuple[Rate, Rate]]
    confusion: Mapping[str, Mapping[str, float]]


def _known(records: Sequence[Record], audits: Sequence[Audit], drawing: Drawing) -> _Known:
    return _Known(
        audits[0].header,
        combine(audits).truths,
        judge_numbers(records, audits, confidence=drawing.confidence, seed=drawing.seed),
        effective_rates(records, audits),
        effective_confusion(records, audits),
    )


def _methods(own: Sequence[Record], known: _Known | None, accuracy: float | None, drawing: Drawing) -> Iterator[Method]:
    if known:
        yield from _by_own_audit(own, known, drawing)
        yield from _by_rates(own, known, drawing)
    if accuracy is not None:
        yield _bounds(own, accuracy)


def _by_own_audit(own: Sequence[Record], known: _Known, drawing: Drawing) -> Iterator[Method]:
    """By audited verdicts that were drawn from these very ones."""
    header, said = known.header, {record.id: record.kind for record in own}
    truths = {id: truth for id, truth in known.truths.items() if id in said}
    same_judge = header.judge == own[0].judge and header.benchmarks is None
    if not same_judge or len(truths) < LEAST or (header.models and own[0].model not in header.models):
        return
    audited = [Audited(said[id], truth, said[id]) for id, truth in truths.items()]
    strata = Counter(said.values())
    if not strata.keys() - {one.stratum for one in audited}:
        generator = stream(drawing.seed, "audited", own[0].model)
        yield {
            "method": "audited shares",
            "assumes": "nothing: these verdicts were audited, by a sample drawn at random within each verdict",
            "kinds": _told(audited_shares(strata, audited, generator, drawing.confidence)),
        }
    if header.design == "simple":
        yield {
            "method": "prediction-powered",
            "assumes": "nothing: these verdicts were audited, by a sample drawn at random from all",
            "kinds": _told(
                {
                    kind: prediction_powered(
                        [record.kind == kind for record in own],
                        [one.verdict == kind for one in audited],
                        [one.truth == kind for one in audited],
                        drawing.confidence,
                    )
                    for kind in KINDS
                }
            ),
        }


def _by_rates(own: Sequence[Record], known: _Known, drawing: Drawing) -> Iterator[Method]:
    """By how often the judge was found to err on all that was audited."""
    if not known.rates:
        return
    verdicts = Counter(record.kind for record in own)
    generator = stream(drawing.seed, "rates", own[0].model)
    pairs = {kind: (Rate(verdicts[kind], len(own)), *of_kind) for kind, of_kind in known.rates.items()}
    by_inversion = {kind: rogan_gladen(*three, drawing.confidence) for kind, three in pairs.items()}
    alike = "the judge errs on these wrong answers as often as on the audited ones"
    yield {
        "method": "Rogan-Gladen",
        "assumes": alike,
        "kinds": _told({kind: one for kind, one in by_inversion.items() if one}),
    }
    yield {
        "method": "Bayes",
        "assumes": f"{alike}; flat priors on its rates and on the share",
        "kinds": _told({kind: posterior_share(*three, generator, drawing.confidence) for kind, three in pairs.items()}),
    }
    yield {
        "method": "unmixed",
        "assumes": f"{alike}, kind by kind, and no kind occurs that the audit did not find",
        "kinds": _told(unmixed_shares(verdicts, known.confusion, generator, drawing.confidence)),
    }


def _bounds(own: Sequence[Record], accuracy: float) -> Method:
    """What can be said when no more than the judge's accuracy is known."""
    shares = {kind: count / len(own) for kind, count in Counter(record.kind for record in own).items()}
    return {
        "method": "bounds",
        "assumes": f"the judge is right about {100 * accuracy:g} % of these verdicts; nothing is known of its errors",
        "kinds": {kind: [share, *share_bounds(share, accuracy)] for kind, share in shares.items()},
    }


def what_follows(share: float, accuracy: float) -> list[str]:
    """From a judge's share of one kind and its accuracy alone: what can be concluded, and what cannot."""
    low, high = share_bounds(share, accuracy)
    told = f"{100 * share:.1f} %"
    least, greatest, between = f"{100 * low:.1f} %", f"{100 * high:.1f} %", f"{100 * (high - low):.1f} points"
    most = "most errors are of this kind" if low > 0.5 else "most are not" if high < 0.5 else "whether most are is open"
    return [
        f"A judge says {told}, and is right about {100 * accuracy:.1f} % of the errors. Whichever it gets wrong, from "
        f"{least} to {greatest} are of this kind: {most}.",
        f"That it is {told} cannot be concluded: it is {least} if as many of the judge's errors as can be are false "
        f"alarms, and {greatest} if they are misses.",
        f"Nor can two models be told apart by such shares unless these differ by over {between}, or the judge is known "
        "to err alike on both. An audit of a random sample of the verdicts narrows it: capcurr audit.",
    ]


def _told(estimates: dict[str, Estimate]) -> dict[str, list[float]]:
    return {kind: list(estimate) for kind, estimate in estimates.items()}
