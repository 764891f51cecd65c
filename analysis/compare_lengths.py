"""How long models think: tokens of thinking overall, for right and for wrong answers, and of each two models on the
rows that both have, from VLMEvalKit's outputs below the folders.
"""

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path

from capcurr_plugin.attribution.lengths import model_lengths, paired_lengths
from capcurr_plugin.cli import Parser, ended
from capcurr_plugin.evaluation.published import load_published
from capcurr_plugin.evaluation.results import read_everything


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="*", help="where VLMEvalKit wrote (none: published)")
    parser.add_argument("--resamples", metavar="N", type=int, default=4_000, help="of the bootstrap (%(default)s)")
    args = parser.parse_args()
    return ended(lambda: compare(args) if args.folders else published())


def compare(args: argparse.Namespace) -> int:
    models = read_everything(args.folders)
    lengths = {name: model_lengths(model.results) for name, model in models.items()}
    pairs = {
        f"{one} -> {other}": paired_lengths(models[one].results, models[other].results, args.resamples, 2026, 0.95)
        for one, other in combinations(models, 2)
    }
    print(json.dumps({"models": lengths, "pairs": pairs}, indent=1))
    return 0


def published() -> int:
    for name, one in load_published().items():
        if one.response_tokens:
            print(f"{name}: {one.response_tokens:g} tokens a response on average, as published")
    return 0


if __name__ == "__main__":
    sys.exit(main())
