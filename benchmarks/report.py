"""Time and memory of `capcurr report` on a million rows, and on a tenth of them, beside json.loads of each line alone.

usage: .envs/core/bin/python benchmarks/report.py [ROWS]
"""

import sys
import tempfile
from pathlib import Path

from convert import measure, write_rows

REPORT = """
import sys; from capcurr_plugin.cli import main
sys.exit(main(['report', sys.argv[2], '--rows', sys.argv[1], '--order', sys.argv[1]]))"""
JSON = """
import json, sys
rates = {}
for _ in range(2):
    for line in open(sys.argv[1], 'rb'):
        rate = json.loads(line)['pass_rate']
        rates[rate] = rates.get(rate, 0) + 1"""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{'':<36} {'rows':>10} {'seconds':>8} {'rows/s':>9} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        for rows in (count // 10, count):
            write_rows(source, rows)
            for name, program in (("capcurr report --rows F --order F", REPORT), ("json.loads, read twice, too", JSON)):
                seconds, peak = measure(program, source, Path(folder) / "out.html")
                print(f"{name:<36} {rows:>10,} {seconds:>8.1f} {2 * rows / seconds:>9,.0f} {peak:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
