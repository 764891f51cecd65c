"""Verdicts to audit: made up, with real pictures."""

import re
import signal
import struct
import subprocess
import zlib
from contextlib import contextmanager
from pathlib import Path

from killing import CAPCURR

from capcurr_plugin.attribution.records import OUTCOMES, Record, Vote, images_folder


def record(number, kind="perception", **other):
    response = (
        f"<think>\nThe picture shows a chart with {number + 3} bars.\n\nSo the answer is {number + 3}.\n</think>\n"
    )
    values = {
        "model": "Qwen3_VL_8B_Base",
        "benchmark": "RealWorldQA",
        "index": str(number),
        "unit": str(number),
        "category": "counting",
        "question": f"How many bars does chart {number} have?\nA. {number}\nB. {number + 3}",
        "truth": str(number),
        "response": response + f"\\boxed{{{number + 3}}}",
        "final": str(number + 3),
        "whole": True,
        "images": ("chart.png",),
        "judge": "claude-haiku-4.5",
        "votes": (Vote(kind, f"a chart with {number + 3} bars.", f"SECRET {number} bars", "high"),),
    }
    return Record(**(values | other))


def png(width=320, height=200):
    """Bars on white."""
    row = lambda y: bytes(40 if x // 20 % 2 and y > 150 - 8 * (x // 40) else 250 for x in range(width))  # noqa: E731
    rows = b"".join(b"\0" + row(y) for y in range(height))

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write(folder, records, images=None):
    path = Path(folder) / "base.jsonl"
    path.write_bytes(b"".join(one.line() for one in records))
    there = images_folder(path)
    there.mkdir(exist_ok=True)
    for name, content in (images or {"chart.png": png()}).items():
        (there / name).write_bytes(content)
    return path


def many(count=60):
    """Half of them perception, the others of all outcomes in turn."""
    return [record(n, "perception" if n % 2 else OUTCOMES[n // 2 % len(OUTCOMES)]) for n in range(count)]


@contextmanager
def auditing(path, *words):
    """capcurr audit as a process of its own, and its address."""
    command = [CAPCURR, "audit", path, "--no-open", "--annotator", "ann", *words]
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in a shell's background
    ) as process:
        try:
            yield process, _address(process)
        finally:
            process.kill()


def _address(process):
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            return re.search(r"http://\S+", said)[0]
    raise AssertionError(said)
