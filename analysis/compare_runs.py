"""Two models on the rows that both have: the difference on each benchmark with its test, and, with OUT.jsonl of
`capcurr attribute`, which kinds of errors were fixed and which are new.
"""

import argparse
import json
import sys
from pathlib import Path

from capcurr_plugin.attribution.comparing import compare_kinds
from capcurr_plugin.attribution.records import read_records
from capcurr_plugin.attribution.shares import Drawing
from capcurr_plugin.cli import Parser, ended
from capcurr_plugin.evaluation.results import known, read_everything


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="where VLMEvalKit wrote")
    parser.add_argument("--models", metavar=("A", "B"), nargs=2, required=True, help="the earlier and the later one")
    parser.add_argument("--attribution", metavar="OUT.jsonl", type=Path, help="of capcurr attribute")
    parser.add_argument("--resamples", metavar="N", type=int, default=4_000, help="of the bootstrap (%(default)s)")
    args = parser.parse_args()
    return ended(lambda: compare(args))


def compare(args: argparse.Namespace) -> int:
    models = read_everything(args.folders)
    first, second = (known(models, name, "--models") for name in args.models)
    records = read_records(args.attribution) if args.attribution else ()
    kinds = {(record.model, record.benchmark, record.index): record.kind for record in records}
    print(json.dumps(compare_kinds(first, second, kinds, Drawing(args.resamples, 2026, 0.95)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
