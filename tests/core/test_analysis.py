"""The scripts of analysis/, on published results and on planted ones."""

import json
import subprocess
import sys
from pathlib import Path

import local_servers as servers
import pytest
from planted_errors import kinds_for, oracle, plant

from capcurr_plugin.cli import main

ANALYSIS = Path(__file__).parents[2] / "analysis"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two models' results, attributed."""
    folder = tmp_path_factory.mktemp("analysis")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPCURR_CACHE", str(folder / "cache"))
        patch.setenv("LMUData", str(folder / "lmu"))
        patch.setenv("ANTHROPIC_API_KEY", "k")
        (folder / "lmu").mkdir()
        plant(folder / "work", folder / "lmu", "Qwen3_VL_8B_Base", kinds_for(30, right=10), tokens=100)
        plant(folder / "work", folder / "lmu", "Qwen3_VL_8B_Staged", kinds_for(25, right=15), tokens=50)
        with servers.serving(oracle) as server:
            patch.setenv("ANTHROPIC_BASE_URL", server.url)
            words = ["attribute", folder / "work", folder / "out.jsonl", "--resamples", "200"]
            assert main([*map(str, words)]) == 0
    return folder


def script(name, *words):
    done = subprocess.run(
        [sys.executable, ANALYSIS / name, *map(str, words)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(ANALYSIS.glob("*.py")), ids=lambda path: path.name)
def test_each_says_what_it_is_for(path):
    assert "usage:" in script(path.name, "--help")


def test_what_the_published_share_and_accuracy_allow_to_conclude():
    told = script("attribute_errors.py")
    assert "A judge says 86.9 %, and is right about 82.5 % of the errors." in told
    assert "from 69.4 % to 95.6 % are of this kind: most errors are of this kind" in told
    assert "unless these differ by over 26.2 points" in told
    assert "whether most are is open" in script("attribute_errors.py", "--share", "0.55", "--judge-accuracy", "0.8")


def test_shares_of_own_results_by_benchmark(world):
    told = script("attribute_errors.py", world / "out.jsonl", "--judge-accuracy", "0.9")
    first = json.JSONDecoder().raw_decode(told)[0]
    kinds = kinds_for(30, right=10)[10:]
    assert first["model"] == "Qwen3_VL_8B_Base"
    assert first["benchmarks"]["MMStar"]["perception"]["count"] == kinds.count("perception")
    assert first["corrected"]["methods"][0]["method"] == "bounds"


def test_how_much_judges_agree(world, tmp_path):
    lines = [json.loads(line) for line in (world / "out.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["judge"] = "another"
        if number % 5 == 0:
            line["votes"] = [line["votes"][0] | {"kind": "undecided"}]
        elif number % 2:
            line["votes"] = [line["votes"][0] | {"kind": "reasoning"}]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = script("attribute_errors.py", world / "out.jsonl", "--beside", tmp_path / "other.jsonl")
    agreement = json.loads(told[told.index('{\n "agreement"') :])["agreement"]
    assert agreement["cases"] == 44  # of 55 wrong answers, a fifth undecided
    pair = agreement["pairs"]["claude-haiku-4.5 and another"]
    assert pair["cases"] == 44 and 20 < pair["same"] < 44 and 0 < pair["cohen_kappa"] < 1
    assert agreement["krippendorff_alpha"] == pytest.approx(agreement["fleiss_kappa"], abs=0.02)


def test_lengths_of_thinking(world):
    assert "qwen3_vl_8b/staged: 445 tokens" in script("compare_lengths.py")
    told = json.loads(script("compare_lengths.py", world / "work", "--resamples", "200"))
    ((name, pair),) = told["pairs"].items()
    assert name == "Qwen3_VL_8B_Base -> Qwen3_VL_8B_Staged" and pair["pairs"] == 40
    assert pair["difference"][0] < 0 < pair["ratio"][2] < 1
    assert told["models"]["Qwen3_VL_8B_Base"]["wrong"]["rows"] == 30


def test_two_models_row_by_row(world):
    words = [world / "work", "--models", "Qwen3_VL_8B_Base", "Qwen3_VL_8B_Staged", "--resamples", "200"]
    told = json.loads(script("compare_runs.py", *words, "--attribution", world / "out.jsonl"))
    assert (told["both_right"], told["both_wrong"], sum(told["fixed"].values()), told["new"]) == (10, 25, 5, {})
    assert told["fixed"].keys() <= set(kinds_for(30)) and "not_judged" not in told["fixed"]
    without = json.loads(script("compare_runs.py", *words))
    assert without["fixed"] == {"not_judged": 5}


def test_the_published_tables_with_own_results_beside_them(world):
    lines = [[cell.strip() for cell in line.split("|")] for line in script("reproduce_tables.py").splitlines()]
    cells = dict(zip(lines[0], next(line for line in lines if line[1] == "qwen3_vl_8b/staged"), strict=True))
    assert (cells["overall"], cells["MMStar"], cells["POPE"]) == ("65.77", "73.07", "")
    own = script("reproduce_tables.py", world / "work")
    assert "| qwen3_vl_8b/staged, own |" in own and "37.50" in own


def test_a_folder_without_results_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, ANALYSIS / "compare_lengths.py", tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "no files of VLMEvalKit's" in done.stderr and "Traceback" not in done.stderr
