"""`capcurr data convert` from end to end."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from row_samples import ENDINGS, choice, convert, error_line, exact, read_lines, read_rows, row, write_lines

from capcurr_plugin.prompt import UNIFIED_PROMPT
from capcurr_plugin.row_files import write_rows

ROWS = [
    row("r1", answer="größer als 3, 是", note=None, score=1, nested={"a": [1, 1.0, True, None]}),
    row("r2", problem="<image>Which?<image>", images=["a.png", "sub/b.png"], score=1.0, capability="visual_reasoning"),
    row("r3", predictions=["4", None], correctness=[True, False], pass_rate=0.5, big=2**70, score="one"),
]
CHOICES = [choice("c1"), choice("c2", prompt="<image>?", image_path=["a.png"], source="mine", level=2, note=None)]


def images(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.png").write_bytes(b"\x89PNG first \xff\0")
    (folder / "sub" / "b.png").write_bytes(b"\x89PNG second")


def read_choices(path: Path) -> list[dict[str, Any]]:
    """The multiple-choice rows of any row file, by way of JSON Lines."""
    plain = path.with_name("plain.jsonl")
    assert convert(path, plain, "--to", "choices") == 0
    return read_lines(plain)


@pytest.mark.parametrize("output", ENDINGS)
@pytest.mark.parametrize("source", ENDINGS)
def test_rows_from_each_format_to_each(tmp_path, source, output):
    before, after = tmp_path / f"in{source}", tmp_path / f"out{output}"
    write_rows(before, ROWS)
    content = before.read_bytes()
    assert convert(before, after) == 0
    assert exact(read_rows(after)) == exact(ROWS)
    assert before.read_bytes() == content
    if source == output:
        assert after.read_bytes() == content


@pytest.mark.parametrize("output", ENDINGS)
@pytest.mark.parametrize("source", ENDINGS)
def test_choices_from_each_format_to_each(tmp_path, source, output):
    before, after = tmp_path / f"in{source}", tmp_path / f"out{output}"
    write_rows(before, CHOICES)
    assert convert(before, after, "--to", "choices") == 0
    assert exact(read_choices(after)) == exact(CHOICES)


@pytest.mark.parametrize("ending", ENDINGS)
def test_choices_become_rows_and_choices_again(tmp_path, ending):
    middle = tmp_path / f"rows{ending}"
    assert convert(write_lines(tmp_path / "in.jsonl", *CHOICES), middle) == 0
    first, second = read_rows(middle)
    assert (first["problem"], first["images"], first["source"]) == ("Which one?", [], "synthesised")
    assert (second["problem"], second["images"], second["source"]) == ("<image>?", ["a.png"], "mine")
    assert exact(read_choices(middle)) == exact(CHOICES)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("embed", [(), ("--embed-images",)], ids=["paths", "embedded"])
@pytest.mark.parametrize("form", ["rows", "choices"])
def test_verls_form_and_back(tmp_path, ending, embed, form):
    images(tmp_path)
    records = [record | {"capability": "perception"} for record in (ROWS if form == "rows" else CHOICES)]
    source, middle, output = tmp_path / f"in{ending}", tmp_path / "verl.parquet", tmp_path / f"out{ending}"
    write_rows(source, records)
    assert convert(source, middle, "--to", "verl", *embed) == 0
    assert convert(middle, output, "--to", form) == 0
    assert exact(read_rows(output) if form == "rows" else read_choices(output)) == exact(records)


def test_verls_form_is_rewritten_with_another_prompt(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", row(capability="perception"))
    assert convert(source, tmp_path / "user.parquet", "--to", "verl") == 0
    assert convert(source, tmp_path / "none.parquet", "--to", "verl", "--prompt", "none") == 0
    assert convert(tmp_path / "user.parquet", tmp_path / "again.parquet", "--to", "verl", "--prompt", "none") == 0
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "none.parquet").read_bytes()


# The summary


def test_json_summary(tmp_path, capsys):
    source, output = write_lines(tmp_path / "in.jsonl", *ROWS), tmp_path / "out.parquet"
    assert convert(source, output, "--json") == 0
    printed = capsys.readouterr()
    summary = {"input": str(source), "output": str(output), "rows": 3, "bad_rows": 0, "bad_rows_file": None}
    assert json.loads(printed.out) == summary
    assert printed.out.count("\n") == 1
    assert printed.err == ""


def test_plain_summary(tmp_path, capsys):
    source, output = write_lines(tmp_path / "in.jsonl", *ROWS, "{"), tmp_path / "out.jsonl"
    assert convert(source, output, "--on-bad-row", "skip") == 0
    printed = capsys.readouterr()
    assert printed.out == f"3 rows -> {output}; 1 bad rows -> {output}.bad.jsonl\n"
    assert printed.err == ""


def outputs_at_two_times(folder: Path, monkeypatch, ending: str, form: str) -> tuple[bytes, bytes]:
    source, first, second = folder / "in.jsonl", folder / f"first{ending}", folder / f"second name{ending}"
    options = ["--to", form, "--capability", "perception"]
    assert convert(source, first, *options) == 0
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert convert(source, second, *options) == 0
    return first.read_bytes(), second.read_bytes()


@pytest.mark.parametrize("form", ["rows", "choices"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_same_input_gives_the_same_bytes(tmp_path, monkeypatch, ending, form):
    write_lines(tmp_path / "in.jsonl", *CHOICES)
    first, second = outputs_at_two_times(tmp_path, monkeypatch, ending, form)
    assert first == second


def test_same_input_gives_the_same_bytes_for_verl(tmp_path, monkeypatch):
    images(tmp_path)
    write_lines(tmp_path / "in.jsonl", *ROWS)
    first, second = outputs_at_two_times(tmp_path, monkeypatch, ".parquet", "verl")
    assert first == second


# Options


@pytest.mark.parametrize("ending", ENDINGS)
def test_capability_is_for_rows_that_name_none(tmp_path, ending):
    output = tmp_path / f"out{ending}"
    assert convert(write_lines(tmp_path / "in.jsonl", *ROWS), output, "--capability", "textual_reasoning") == 0
    expected = ["textual_reasoning", "visual_reasoning", "textual_reasoning"]
    assert [record["capability"] for record in read_rows(output)] == expected


def test_capability_in_verls_form(tmp_path):
    images(tmp_path)
    source, output = write_lines(tmp_path / "in.jsonl", *ROWS), tmp_path / "out.parquet"
    assert convert(source, output, "--to", "verl", "--capability", "perception") == 0
    records = pq.read_table(output).to_pylist()
    expected = ["perception", "visual_reasoning", "perception"]
    assert [record["data_source"] for record in records] == expected
    assert [record["ability"] for record in records] == expected
    assert [record["reward_model"]["ground_truth"] for record in records] == [record["answer"] for record in ROWS]
    assert [record["extra_info"]["index"] for record in records] == ["r1", "r2", "r3"]


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ((), [("user", f"Is it <image>? {UNIFIED_PROMPT}")]),
        (("--prompt", "user"), [("user", f"Is it <image>? {UNIFIED_PROMPT}")]),
        (("--prompt", "system"), [("system", UNIFIED_PROMPT), ("user", "Is it <image>?")]),
        (("--prompt", "none"), [("user", "Is it <image>?")]),
    ],
    ids=["default", "user", "system", "none"],
)
def test_prompt_placement(tmp_path, options, messages):
    images(tmp_path)
    record = row(problem="Is it <image>?", images=["a.png"], capability="perception")
    source, output = write_lines(tmp_path / "in.jsonl", record), tmp_path / "out.parquet"
    assert convert(source, output, "--to", "verl", *options) == 0
    (found,) = pq.read_table(output).to_pylist()
    assert found["prompt"] == [{"role": role, "content": content} for role, content in messages]
    assert convert(output, tmp_path / "back.jsonl") == 0
    assert exact(read_lines(tmp_path / "back.jsonl")) == exact([record])


def test_embedded_images_are_the_files(tmp_path):
    images(tmp_path)
    source, output = write_lines(tmp_path / "in.jsonl", *ROWS), tmp_path / "out.parquet"
    assert convert(source, output, "--to", "verl", "--capability", "perception", "--embed-images") == 0
    expected = [{"bytes": (tmp_path / name).read_bytes()} for name in ("a.png", "sub/b.png")]
    assert [record["images"] for record in pq.read_table(output).to_pylist()] == [[], expected, []]


def test_image_paths_in_verls_form_work_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    images(Path("pictures"))
    write_lines(Path("in.jsonl"), ROWS[1])
    assert convert("in.jsonl", "out.parquet", "--to", "verl", "--image-root", "pictures") == 0
    (found,) = pq.read_table("out.parquet").to_pylist()
    expected = [str(tmp_path / "pictures" / name) for name in ("a.png", "sub/b.png")]
    assert [image["image"] for image in found["images"]] == expected


def test_image_root_is_the_folder_of_the_input_for_verl_only(tmp_path, capsys):
    record = row(problem="<image>", images=["a.png"], capability="perception")
    source = write_lines(tmp_path / "in.jsonl", record)
    assert convert(source, tmp_path / "out.jsonl") == 0
    capsys.readouterr()
    assert convert(source, tmp_path / "out.parquet", "--to", "verl") == 2
    assert f"{source}, line 1: image 'a.png' does not exist under {tmp_path}" in error_line(capsys)
    images(tmp_path)
    assert convert(source, tmp_path / "out.parquet", "--to", "verl") == 0


# Files around the output


def test_clean_run_removes_the_bad_rows_of_an_earlier_one(tmp_path):
    source, output = write_lines(tmp_path / "in.jsonl", row(), "{"), tmp_path / "out.jsonl"
    assert convert(source, output, "--on-bad-row", "skip") == 0
    assert (tmp_path / "out.jsonl.bad.jsonl").exists()
    write_lines(source, row())
    assert convert(source, output) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_failed_run_keeps_the_bad_rows_of_an_earlier_one(tmp_path):
    source, output = write_lines(tmp_path / "in.jsonl", row(), "{"), tmp_path / "out.jsonl"
    assert convert(source, output, "--on-bad-row", "skip") == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert convert(source, output) == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_input_that_has_the_name_of_the_bad_rows_is_kept(tmp_path):
    """A mended file of bad rows may well be the next input."""
    source = write_lines(tmp_path / "out.jsonl.bad.jsonl", row())
    content = source.read_bytes()
    convert(source, tmp_path / "out.jsonl")
    assert source.exists()
    assert source.read_bytes() == content


def test_folder_that_has_the_name_of_the_bad_rows(tmp_path):
    source = write_lines(tmp_path / "in.jsonl", row())
    (tmp_path / "out.jsonl.bad.jsonl").mkdir()
    assert convert(source, tmp_path / "out.jsonl") in (0, 2)
    assert (tmp_path / "out.jsonl.bad.jsonl").is_dir()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)], ids=["022", "077", "002"])
def test_permissions_follow_the_umask(tmp_path, ending, mask, mode):
    source, output = write_lines(tmp_path / "in.jsonl", row(), "{"), tmp_path / f"out{ending}"
    old = os.umask(mask)
    try:
        assert convert(source, output, "--on-bad-row", "skip") == 0
    finally:
        os.umask(old)
    assert output.stat().st_mode & 0o777 == mode
    assert Path(f"{output}.bad.jsonl").stat().st_mode & 0o777 == mode


def test_names_with_spaces_quotes_and_other_scripts(tmp_path):
    source, output = write_lines(tmp_path / "дан ные'.jsonl", row()), tmp_path / '結果 "1".PARQUET'
    assert convert(source, output) == 0
    assert exact(read_rows(output)) == exact([row()])


# Jobs that do not come to their end

COMMAND = [sys.executable, "-m", "capcurr_plugin.cli", "data", "convert"]


NOT_UTF8 = os.fsdecode(b"\xff")


@pytest.mark.parametrize(
    ("source", "output", "options"),
    [
        pytest.param(f"in{NOT_UTF8}.jsonl", "out.jsonl", (), id="input"),
        pytest.param(f"in{NOT_UTF8}.parquet", "out.jsonl", (), id="parquet-input"),
        pytest.param("in.jsonl", f"out{NOT_UTF8}.jsonl", (), id="output"),
        pytest.param("in.jsonl", "out.parquet", ("--to", "verl", "--image-root", f"root{NOT_UTF8}"), id="image-root"),
    ],
)
def test_names_that_are_not_utf8_work_or_are_refused(tmp_path, source, output, options):
    (tmp_path / f"root{NOT_UTF8}").mkdir()
    images(tmp_path / f"root{NOT_UTF8}")
    plain = tmp_path / f"plain{Path(source).suffix}"
    write_rows(plain, [ROWS[1]])
    plain.rename(tmp_path / source)
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:strict"}
    command = [*COMMAND, source, output, *options]
    job = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert job.returncode in (0, 2)
    assert job.stderr.count(b"\n") == (1 if job.returncode else 0)
    assert (tmp_path / output).exists() == (job.returncode == 0)


LINE = (
    '{"index": "r%d", "problem": "Größe von %d <image>?", "answer": "%d", "images": ["%d/é.png"], "source": "sample", '
    '"predictions": ["3", null], "correctness": [true, false], "pass_rate": 0.5, "level": %d, "mixed": %s, '
    '"nested": {"a": [%d, null]}}\n'
)


def big_file(path: Path, count: int) -> Path:
    """Rows in the form in which the tool itself writes them, so that they come back byte for byte."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            file.write(LINE % (i, i * 7919 % 100_003, i % 97, i % 1000, i % 5, "1.0" if i % 3 else "1", i))
    return path


def heed_interrupts():
    """A shell's job in the background ignores them, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start_job(folder: Path, ending: str) -> tuple[subprocess.Popen[str], Path]:
    """A conversion that is well under way, with an old output in place."""
    source, output = big_file(folder / "in.jsonl", 150_000), folder / f"out{ending}"
    output.write_bytes(b"what was here before")
    job = subprocess.Popen(
        [*COMMAND, str(source), str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob(".out*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert job.poll() is None
    return job, output


@pytest.mark.parametrize("ending", ENDINGS)
def test_killed_job_leaves_the_old_output(tmp_path, ending):
    job, output = start_job(tmp_path, ending)
    job.kill()
    job.communicate(timeout=60)
    assert job.returncode == -signal.SIGKILL
    assert output.read_bytes() == b"what was here before"
    assert convert(write_lines(tmp_path / "small.jsonl", row()), output) == 0
    assert exact(read_rows(output)) == exact([row()])


@pytest.mark.parametrize("ending", ENDINGS)
def test_interrupted_job_says_so_and_leaves_nothing(tmp_path, ending):
    job, output = start_job(tmp_path, ending)
    job.send_signal(signal.SIGINT)
    printed, told = job.communicate(timeout=60)
    assert job.returncode == 130
    assert printed == ""
    assert told == "capcurr: stopped\n"
    assert output.read_bytes() == b"what was here before"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.jsonl", output.name])


# The limit on the size of a file stands in for a disk that is full.
LIMITED = """
import resource, sys
from capcurr_plugin.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.exit(main(["data", "convert", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_disk_full_is_told_in_one_line(tmp_path, ending):
    source, output = big_file(tmp_path / "in.jsonl", 30_000), tmp_path / f"out{ending}"
    output.write_bytes(b"what was here before")
    command = [sys.executable, "-c", LIMITED, str(source), str(output)]
    job = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert job.returncode in (1, 2)
    assert job.stderr.count("\n") == 1
    assert str(output) in job.stderr
    assert output.read_bytes() == b"what was here before"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.jsonl", output.name])


MEASURED = """
import re, sys
from pathlib import Path
from capcurr_plugin.cli import main
code = main(["data", "convert", *sys.argv[1:]])
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
sys.exit(code)
"""


def peak_megabytes(source: Path, output: Path) -> float:
    command = [sys.executable, "-c", MEASURED, str(source), str(output)]
    job = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=500, check=True)
    return int(job.stdout.split()[-1]) / 1024


def digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()


@pytest.mark.slow
def test_a_million_rows_in_bounded_memory(tmp_path):
    source, middle, output = tmp_path / "in.jsonl", tmp_path / "middle.parquet", tmp_path / "out.jsonl"
    big_file(source, 1_000_000)
    assert peak_megabytes(source, middle) < 500
    assert pq.ParquetFile(middle).metadata.num_rows == 1_000_000
    assert peak_megabytes(middle, output) < 500
    assert digest(output) == digest(source)
