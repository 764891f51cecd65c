"""Which errors begin in perception, and how sure that is. With OUT.jsonl of `capcurr attribute`, its shares by
benchmark, corrected by audits of `capcurr audit`, and how much other judges agree; without, what the published share
and its judge's accuracy allow to conclude.
"""

import argparse
import json
import sys
from pathlib import Path

from capcurr_plugin.arguments import share
from capcurr_plugin.attribution.agreement import between_judges
from capcurr_plugin.attribution.audits import read_audit
from capcurr_plugin.attribution.corrections import corrected, what_follows
from capcurr_plugin.attribution.records import read_records
from capcurr_plugin.attribution.shares import Drawing, Kinds, scope_numbers
from capcurr_plugin.cli import Parser, ended
from capcurr_plugin.evaluation.published import load_published


def main() -> int:
    published = load_published()["qwen3_vl_8b/base"].errors
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", metavar="OUT.jsonl", type=Path, nargs="?", help="of capcurr attribute")
    parser.add_argument("--beside", metavar="OUT.jsonl", type=Path, nargs="+", default=[], help="other judges' files")
    parser.add_argument("--audit", metavar="FILE", type=Path, nargs="+", default=[], help="of capcurr audit")
    parser.add_argument("--judge-accuracy", metavar="SHARE", type=share, help="known of the judge (published: 0.825)")
    parser.add_argument("--share", metavar="SHARE", type=share, help="of perception, without a file (published: 0.869)")
    args = parser.parse_args()
    if args.records:
        return ended(lambda: of_records(args))
    accuracy = args.judge_accuracy or published["judge_accuracy"]
    print("\n".join(what_follows(args.share or published["perception_share"], accuracy)))
    return 0


def of_records(args: argparse.Namespace) -> int:
    drawing = Drawing(resamples=4_000, seed=2026, confidence=0.95)
    wrong = [Kinds(r.model, r.benchmark, r.index, r.unit, r.category, r.kind) for r in read_records(args.records)]
    models = list(dict.fromkeys(one.model for one in wrong))
    found = corrected(args.records, models, [read_audit(path) for path in args.audit], args.judge_accuracy, drawing)
    for model in models:
        own = [one for one in wrong if one.model == model]
        scopes = {name: [one for one in own if one.benchmark == name] for name in sorted({o.benchmark for o in own})}
        shares = {name: scope_numbers(some, 0, drawing, model, name)["kinds"] for name, some in scopes.items()}
        print(json.dumps({"model": model, "benchmarks": shares, "corrected": found[model]}, indent=1))
    if args.beside:
        verdicts: dict[str, dict[str, str]] = {}
        for record in (record for path in (args.records, *args.beside) for record in read_records(path)):
            verdicts.setdefault(record.judge, {})[record.id] = record.kind
        print(json.dumps({"agreement": between_judges(verdicts)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
