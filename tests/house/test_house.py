"""The rules of the house that a machine can check."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def run(*command):
    done = subprocess.run(list(map(str, command)), cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_lint_and_format():
    code, output = run(sys.executable, "scripts/check.py", "ruff")
    assert code == 0, output


@pytest.mark.slow
@pytest.mark.parametrize("part", ["core", "verl", "vlmeval"])
def test_types(part):
    code, output = run(sys.executable, "scripts/check.py", part)
    assert code == 0, output


# Modules of arrays and columns, which others import only when they need them.
OF_COLUMNS = ("parquet", "verl_form", "keyed_batches", "keyed_rows", "ordering", "row_shapes", "sorted_runs")


def test_core_imports_no_host_and_nothing_heavy():
    modules = [
        path.relative_to(CHECKOUT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in sorted((CHECKOUT / "capcurr_plugin").rglob("*.py"))
        if "_host" not in path.as_posix() and path.stem not in ("__main__", *OF_COLUMNS)
    ]
    assert "capcurr_plugin.rows" in modules
    code = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        "heavy = {'torch', 'pandas', 'numpy', 'pyarrow', 'PIL', 'aiohttp', 'transformers', 'verl', 'vlmeval', 'ray',"
        " 'hydra', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run(sys.executable, "-c", code) == (0, "[]\n")


def test_package_init_is_empty_of_imports():
    assert "import" not in (CHECKOUT / "capcurr_plugin" / "__init__.py").read_text()


def test_no_committed_file_is_large_or_names_this_machine():
    code, listing = run("git", "ls-files")
    assert code == 0, listing
    needles = [f"{folder}/".encode() for folder in (CHECKOUT, Path.home()) if folder != Path("/")]
    for name in listing.splitlines():
        path = CHECKOUT / name
        if path.exists():  # a file may be deleted and not yet committed
            content = path.read_bytes()
            assert len(content) < 1_000_000, name
            assert not [needle for needle in needles if needle in content], name


ELSEWHERE = {"datasketch", "vlmeval"}  # what a benchmark runs beside, and this environment has not


@pytest.mark.parametrize("path", sorted((CHECKOUT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_finds_its_modules(path):
    as_script = f"import runpy, sys; sys.argv = ['', '0', '0']; sys.path[0] = {str(path.parent)!r}"
    code, output = run(sys.executable, "-c", f"{as_script}; runpy.run_path({str(path)!r}, run_name='read')")
    missing = re.search(r"No module named '(\w+)'", output)
    assert code == 0 or (missing and missing[1] in ELSEWHERE), output
