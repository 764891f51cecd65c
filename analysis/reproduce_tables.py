"""The published tables, cell by cell, with your own results beside them where there are any: averages and benchmarks of
each backbone, base, merged and staged, as Markdown. What was not published stays empty.
"""

import argparse
import sys
from pathlib import Path

from capcurr_plugin.cli import Parser, ended
from capcurr_plugin.evaluation.published import load_published
from capcurr_plugin.evaluation.results import average_of, read_everything
from capcurr_plugin.evaluation.suites import load_suites


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="*", help="where VLMEvalKit wrote")
    args = parser.parse_args()
    return ended(lambda: reproduce(args.folders))


def reproduce(folders: list[Path]) -> int:
    suites, published = load_suites(), load_published()
    own = {}
    for model in read_everything(folders).values() if folders else ():
        if model.published:
            own[model.published.name] = {name: result.value for name, result in model.results.items()}
    columns = [*suites.averages, *suites.benchmarks("overall")]
    print(f"| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for name, numbers in published.items():
        known = numbers.averages | numbers.benchmarks
        print(f"| {name} | {' | '.join(_cell(known.get(column)) for column in columns)} |")
        if name in own:
            values = [
                average_of(column, suites, own[name]) if column in suites.averages else own[name].get(column)
                for column in columns
            ]
            print(f"| {name}, own | {' | '.join(map(_cell, values))} |")
    return 0


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
