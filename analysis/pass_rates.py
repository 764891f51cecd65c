"""Histograms of pass rates by capability, before and after a filter, and the order of a curriculum, as SVG and PNG
files in the folder OUT; the numbers behind them are printed as JSON.
"""

import argparse
import json
import sys
from pathlib import Path

from capcurr_plugin.cli import Parser, ended
from capcurr_plugin.report.command import read_numbers, sections_of
from capcurr_plugin.report.figures import check_drawing, check_folder, write_pictures
from capcurr_plugin.report.pass_rates import RowFile
from capcurr_plugin.row_files import BadRows


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", metavar="ROWS", type=RowFile.of, help="rows with their pass rates")
    for name, text in (
        ("--kept", "what a filter kept; may be repeated"),
        ("--order", "as they are trained; once for each stage"),
    ):
        parser.add_argument(name, metavar="FILE", type=RowFile.of, action="append", default=[], help=text)
    parser.add_argument("output", metavar="OUT", type=Path, help="the folder of the figures")
    BadRows.add_argument(parser, "OUT")
    args = parser.parse_args()
    return ended(lambda: draw(args))


def draw(args: argparse.Namespace) -> int:
    check_folder(args.output)
    check_drawing()
    with BadRows(args.on_bad_row, args.output) as bad:
        numbers = read_numbers([args.rows], args.kept, args.order, bad)
    write_pictures(args.output, [section.picture for section in sections_of(numbers) if section.picture])
    print(json.dumps(numbers | bad.summary()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
