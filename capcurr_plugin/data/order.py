"""`capcurr data order IN... OUT`: rows in the order of a curriculum."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import check_place
from capcurr_plugin.curriculum import Order, needs_capability, needs_pass_rate
from capcurr_plugin.data.row_keys import SPLIT_COLUMNS, Wanted
from capcurr_plugin.data.row_targets import Targets
from capcurr_plugin.data.split import PARTS, SHARES
from capcurr_plugin.errors import InputError
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.row_files import ENDINGS, BadRows, RecordReader, check_output
from capcurr_plugin.rows import CAPABILITIES, Capability

BY: dict[str, Order] = {
    "difficulty": "difficulty",
    "capability": "capability",
    "capability,difficulty": "capability_then_difficulty",
}
SEED = 42  # of the published data

DESCRIPTION = f"""\
Order rows for a curriculum: by difficulty, from high pass rates to low ones; by capability, {", ".join(CAPABILITIES)};
or by both. All inputs become one output; with {{capability}} in the name of OUT, such as data/{{capability}}.jsonl,
each capability gets its own. Rows are checked and otherwise left as they are; files of either format can be mixed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("inputs", metavar="IN", type=Path, nargs="+", help=f"row files: {', '.join(ENDINGS)}")
    parser.add_argument("output", metavar="OUT", type=Path, help="the file to write; it is replaced when all is well")
    parser.add_argument(
        "--by", choices=BY, metavar="ORDER", default="difficulty", help=f"{', '.join(BY)} (default: %(default)s)"
    )
    parser.add_argument("--seed", type=_seed, default=SEED, metavar="N", help="of random ties (default: %(default)s)")
    parser.add_argument(
        "--ties",
        choices=("random", "file"),
        default="random",
        help="rows that the order leaves open: shuffled by the seed (default), or as they stand in the files",
    )
    parser.add_argument("--drop-solved", action="store_true", help="leave out rows whose pass rate is 1")
    parser.add_argument("--drop-unsolved", action="store_true", help="leave out rows whose pass rate is 0")
    parser.add_argument(
        "--split",
        action="store_true",
        help=f"write {', '.join(PARTS)} ({', '.join(map(str, SHARES.values()))} percent) by a hash of the example, as "
        f"OUT-{PARTS[0]} and so on, or where {{split}} stands in the name of OUT",
    )
    parser.add_argument(
        "--split-by",
        metavar="COLUMN",
        help=f"what rows of one example share (default: the first that a row has of {', '.join(SPLIT_COLUMNS)})",
    )
    parser.add_argument(
        "--capability",
        type=_capabilities,
        default=(),
        metavar="NAME",
        help="the capability of rows that do not name one, written into them: one for all inputs, or one for each, "
        "with commas between them",
    )
    BadRows.add_argument(parser, "OUT")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 2^64 - 1")
    return number


def _capabilities(text: str) -> tuple[Capability, ...]:
    names: list[Capability] = []
    for name in text.split(","):
        if name not in CAPABILITIES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(CAPABILITIES)}")
        names.append(name)
    return tuple(names)


def run(args: argparse.Namespace) -> int:
    from capcurr_plugin.data import ordering  # which needs numpy and pyarrow

    targets = Targets(args.output, args.split)
    order = BY[args.by]
    wanted = Wanted(
        pass_rate=needs_pass_rate(order) or args.drop_solved or args.drop_unsolved,
        capability=needs_capability(order) or targets.by_capability,
        split=args.split,
        split_by=args.split_by,
    )
    capabilities = _of_each(args)
    _check(args, targets)
    seed = args.seed if args.ties == "random" else None
    with progress_bar() as tell, BadRows(args.on_bad_row, targets.whole) as bad:
        job = ordering.Job(order, seed, args.drop_solved, args.drop_unsolved, wanted, targets, tell)
        done = ordering.order_files(job, [RecordReader(path, bad) for path in args.inputs], capabilities)
    summary = {
        "inputs": [str(path) for path in args.inputs],
        "by": args.by,
        "ties": args.ties,
        "seed": args.seed,
        **done,
        **bad.summary(),
    }
    print(json.dumps(summary) if args.json else "\n".join(_table(summary)))
    return 0


def _of_each(args: argparse.Namespace) -> list[Capability | None]:
    """The capability of each input's rows that name none."""
    given, count = args.capability, len(args.inputs)
    if len(given) not in (0, 1, count):
        raise InputError(f"--capability names {len(given)} capabilities for {count} inputs; name one, or one for each")
    return list(given) if len(given) == count else [given[0] if given else None] * count


def _check(args: argparse.Namespace, targets: Targets) -> None:
    if args.split_by is not None and not args.split:
        raise InputError("--split-by goes with --split")
    for place, path in enumerate(args.inputs):
        for target in (*targets.all(), targets.whole):
            check_output(target, path, args.on_bad_row)
        for other in args.inputs[:place]:
            if path.exists() and other.exists() and path.samefile(other):
                raise InputError(f"{path}: is given twice; every row would stand in the output twice")
    for target in targets.all():
        check_place(target)


def _table(summary: dict[str, Any]) -> Iterator[str]:
    for output in summary["outputs"]:
        rates = output["pass_rates"]
        shown = f", pass rates {rates[0]:g} to {rates[1]:g}" if rates else ""
        yield f"{output['rows']:,} rows -> {output['file']}{shown}"
    for name in ("solved", "unsolved"):
        if summary[f"dropped_{name}"]:
            yield f"{summary[f'dropped_{name}']:,} {name} rows dropped"
    if summary["bad_rows"]:
        yield f"{summary['bad_rows']:,} bad rows -> {summary['bad_rows_file']}"
