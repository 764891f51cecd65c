"""Score files of the real evaluators, read as `capcurr results` reads them.

Small tables with the columns of the official ones; planted predictions; a judge that answers from the prediction.
"""

import re
from pathlib import Path

import pandas
import pytest
from vlmeval import dataset as datasets
from vlmeval.dataset import dynamath, image_mcq, image_vqa, image_yorn
from vlmeval.dataset.utils.mathv import is_equal
from vlmeval.dataset.utils.yorn import YOrN_Extraction
from vlmeval.smp import LMUDataRoot, dump, upsert_dataset_status, upsert_run_status
from vlmeval.utils import can_infer

from capcurr_plugin.evaluation import host_rules
from capcurr_plugin.evaluation.benchmark_results import Missing, Result, choose
from capcurr_plugin.evaluation.run_folders import candidates, find
from capcurr_plugin.evaluation.score_files import LAYOUTS
from capcurr_plugin.evaluation.suites import Benchmark, load_suites

pytestmark = pytest.mark.slow

MODEL = "Qwen3_VL-8B_Staged.v1"
JUDGE = "claude-haiku-4.5"
RUN = "T20260101-000000"
FAILED = "Failed to obtain answer via API."
OPTIONS = {"A": "red", "B": "green", "C": "blue", "D": "pink"}

MCQ = {  # prediction -> where the verdict comes from; the right answer is B
    "B": "rule",
    "\\boxed{B}": "rule",
    "It is green": "rule",
    "C": "rule",
    "D": "rule",
    "say-B-now": "judge",
    "say-A-now": "judge",
    "say-nothing-now": "random",
    f"{FAILED}": "random",
}
YES_NO = {
    "Yes": "rule",
    "yes, it is.": "rule",
    "No": "rule",
    "affirmative": "judge",
    "who knows": "none",
    "no!": "rule",
}


class Judge:
    """Answers what the prediction says between `say-` and `-now`, or compares, as MathVerse asks; else it fails."""

    def working(self):
        return True

    def generate(self, prompt, **_):
        if "Judgement:" in prompt:
            answer, extracted = re.findall(r"\[(?:Standard Answer|Model_answer)\] ?: (.*)", prompt)[-2:]
            return str(int(answer.lower() == extracted.lower()))
        if "affirmative" in prompt:
            return "Yes"
        said = re.findall(r"say-(.+?)-now", prompt)
        return said[-1] if said and said[-1] != "nothing" else FAILED


def mcq_rows(**more):
    return [
        {"index": i, "question": f"Which colour, {i}?", **OPTIONS, "answer": "B", "prediction": prediction, **more}
        for i, prediction in enumerate(MCQ, 1)
    ]


def cv_bench_rows():
    rows = mcq_rows(category="Count", split="2D", prompt="p")
    return [row | {"source": "ADE20K" if i < 3 else "COCO"} for i, row in enumerate(rows)]


def wemath_rows():
    """Problems whose steps and whole are right, or not: mastered, learned by rote, not generalised, not known."""
    rows = []
    for problem, right in enumerate(["111", "101", "110", "000", "1111", "1110", "0111"], 1):
        steps = len(right) - 1
        for place, verdict in zip([*range(1, steps + 1), "multi"], right, strict=True):
            rows.append(
                {"index": len(rows), "ID": problem, "key": f"{steps}steps_{place}", "question": "q", **OPTIONS}
                | {"answer": "B", "prediction": "Answer: B" if verdict == "1" else "say-C-now"}
                | {"knowledge concept": "area", "option": "A. red; B. green; C. blue; D. pink", "problem_type": "x"}
            )
    return rows


def mathvista_rows():
    cases = [  # kind, answer type, answer, option, prediction
        ("free_form", "integer", "3", "", "3"),
        ("free_form", "integer", "4", "", "say-4-now"),
        ("free_form", "integer", "5", "", "say-4-now"),
        ("free_form", "float", "0.5", "", "0.50"),
        ("free_form", "float", "0.5", "", "say-0.4-now"),
        ("free_form", "text", "Yes", "", "Yes"),
        ("multi_choice", "text", "15", "B", "B"),
        ("multi_choice", "text", "15", "B", "the answer is 15"),
        ("multi_choice", "text", "15", "B", "A"),
        ("multi_choice", "text", "15", "B", "say-nothing-now"),
    ]
    return [
        {
            "index": i,
            "question": f"q{i}",
            "answer": answer,
            "question_type": kind,
            "answer_type": of,
            "prediction": said,
        }
        | {"answer_option": option, "choices": "['12', '15']" if option else "[]", "task": "t", "skills": "['s']"}
        for i, (kind, of, answer, option, said) in enumerate(cases)
    ]


def mathvision_rows():
    cases = [  # options, answer, prediction
        ("['A', 'B', 'C', 'D', 'E']", "C", "C"),
        ("['A', 'B', 'C', 'D', 'E']", "C", "say-D-now"),
        ("[]", "7", "7"),
        ("[]", "0.5", "say-\\frac{1}{2}-now"),
        ("[]", "8", "say-2*4-now"),
        ("[]", "8", "say-9-now"),
    ]
    return [
        {
            "index": i,
            "question": f"q{i}",
            "choices": options,
            "answer": answer,
            "prediction": said,
            "category": "algebra",
        }
        for i, (options, answer, said) in enumerate(cases)
    ]


def mathverse_rows(version):
    cases = [("A", "A"), ("B", "b"), ("C", "D"), ("12", "nothing")]
    about = "{'split': 'testmini', 'source': 'g', 'subject': 'Plane Geometry', 'subfield': 'Angle'}"
    return [
        {"index": i, "question": f"q{i}", "answer": answer, "prediction": f"say-{said}-now", "metadata": about}
        | {"question_for_eval": "x", "problem_version": version, "question_type": "free-form"}
        for i, (answer, said) in enumerate(cases)
    ]


def pope_rows():
    return [
        {"index": i, "question": f"q{i}", "answer": truth, "prediction": said, "image_source": f"COCO_{i // 2}"}
        | {"category": "adversarial,popular" if i % 3 == 0 else "random"}
        for i, (truth, said) in enumerate((truth, said) for truth in ("Yes", "No") for said in YES_NO)
    ]


def hallusion_rows():
    return [
        {"index": f"VD_chart_{1 + figure}_{group}_{figure}_{question}", "question": "q", "answer": truth}
        | {"prediction": said, "category": "VD", "l2-category": "chart"}
        for group, (figure, question), truth, said in zip(
            [0, 0, 0, 0, 1, 1], [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (0, 1)], ["Yes", "No"] * 3, YES_NO, strict=True
        )
    ]


def dynamath_rows():
    cases = [
        ("float", "3.0", '{"solution": "s", "short answer": "3.000"}'),
        ("float", "3.0", "say-3.1-now"),
        ("multiple choice", "B", "b"),
        ("multiple choice", "B", "hmm"),
        ("text", "cat", "cat"),
        ("text", "cat", "dog"),
    ]
    return [
        {"index": i, "question": f"q{i}", "answer": answer, "answer_type": kind, "prediction": said}
        | {"subject": "algebra", "knowledge_level": "high school", "qid": 2 * (i // 2), "varid": 1 + i % 2}
        for i, (kind, answer, said) in enumerate(cases)
    ]


def chartqa_rows():
    cases = [("42", "41.5", "test_human"), ("Blue", "blue", "test_human"), ("Blue", "Red", "test_augmented")]
    return [
        {"index": i, "question": f"q{i}", "answer": answer, "prediction": said, "split": split}
        for i, (answer, said, split) in enumerate(cases)
    ]


def textvqa_rows():
    answers = [["stop"] * 10, ["stop"] * 2 + ["go"] * 8, ["a", "b"] * 5]
    said = ["stop", "stop", "c"]
    return [
        {"index": i, "question": f"q{i}", "answer": str(texts), "prediction": said[i]}
        for i, texts in enumerate(answers)
    ]


ROWS = {
    "MathVista_MINI": mathvista_rows(),
    "MathVision_MINI": mathvision_rows(),
    "MathVerse_MINI_Vision_Intensive": mathverse_rows("Vision Intensive"),
    "WeMath": wemath_rows(),
    "A-OKVQA": mcq_rows(category="x", split="val"),
    "RealWorldQA": mcq_rows(),
    "MMStar": mcq_rows(category="x"),
    "POPE": pope_rows(),
    "MathVerse_MINI_Vision_Only": mathverse_rows("Vision Only"),
    "DynaMath": dynamath_rows(),
    "HallusionBench": hallusion_rows(),
    "BLINK": mcq_rows(category="Counting", split="val"),
    "VisOnlyQA-Synthetic": mcq_rows(category="geometry"),
    "VisOnlyQA-Real": mcq_rows(category="charts"),
    "CV-Bench-2D": cv_bench_rows(),
    "VStarBench": mcq_rows(category="direct_attributes"),
    "ChartQA_TEST": chartqa_rows(),
    "TextVQA_VAL": textvqa_rows(),
}
CLASSES = {
    "mathvista": datasets.MathVista,
    "mathvision": datasets.MathVision,
    "mathverse": datasets.MathVerse,
    "wemath": datasets.WeMath,
    "mcq": datasets.ImageMCQDataset,
    "cvbench": datasets.CVBench,
    "pope": datasets.ImageYORNDataset,
    "hallusion": datasets.ImageYORNDataset,
    "dynamath": datasets.Dynamath,
    "chartqa": datasets.ImageVQADataset,
    "textvqa": datasets.ImageVQADataset,
}


def layout_of(name):
    return load_suites().facts[name].layout


def evaluated(folder, name, judge, prediction_ending, kind=None):
    """Plant the predictions, let the real evaluator score them, and say what it returned."""
    rows = pandas.DataFrame(ROWS[name])
    folder.mkdir(parents=True, exist_ok=True)
    rows.drop(columns="prediction").assign(image="x" * 100).to_csv(
        Path(LMUDataRoot()) / f"{name}.tsv", sep="\t", index=False
    )
    built = (kind or CLASSES[layout_of(name)])(name)
    predictions = folder / f"{MODEL}_{name}{prediction_ending}"
    dump(rows, str(predictions))
    return built.evaluate(str(predictions), model=judge, nproc=2)


def headline(name, returned):
    """Where the headline stands in what an evaluator returns, in percent."""
    first = returned.iloc[0]
    layout = layout_of(name)
    if layout == "wemath":
        return float(first["Score (Strict)"].rstrip("%"))
    if layout in ("mathvista", "mathvision"):
        return float(returned[returned[returned.columns[0]] == "Overall"]["acc"].iloc[0])
    if layout == "hallusion":
        return float(first["aAcc"])
    return float(first["Overall"]) * (100 if layout in ("mcq", "cvbench", "dynamath") else 1)


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory):
    """VLMEvalKit with the small tables and the judge of this file."""
    patch = pytest.MonkeyPatch()
    patch.setenv("LMUData", str(tmp_path_factory.mktemp("LMUData")))
    for module in (dynamath, image_mcq, image_vqa, image_yorn):
        patch.setattr(module, "build_judge", lambda **_: Judge())
    for kind in set(CLASSES.values()):
        patch.setattr(kind, "DATASET_MD5", {})
    yield patch
    patch.undo()


@pytest.fixture(scope="module", params=["tsv", "xlsx"])
def outputs(request, host, tmp_path_factory):
    """A work folder in upstream's form, and what each evaluator returned."""
    host.setenv("PRED_FORMAT", request.param)
    work = tmp_path_factory.mktemp("work")
    folder = work / MODEL / RUN
    returned = {name: evaluated(folder, name, JUDGE, f".{request.param}") for name in ROWS}
    for path in folder.iterdir():
        (folder.parent / path.name).symlink_to(path.relative_to(folder.parent))
    return work, returned


def read(work, name, judge=None, rows=None):
    notes = []
    found = [f for f in find([work], load_suites().facts, notes) if f.dataset == name]
    benchmark = Benchmark(name, layout_of(name), rows)
    chosen = choose([c for f in found for c in candidates(f, LAYOUTS[benchmark.layout])], benchmark, judge, str)
    assert not notes
    return chosen


def test_every_layout_is_read_as_the_evaluators_wrote_it(outputs):
    work, returned = outputs
    for name, result in ((name, read(work, name)) for name in returned):
        assert isinstance(result, Result), (name, result)
        if layout_of(name) == "wemath":
            continue  # see below: VLMEvalKit divides by 525
        assert result.value == pytest.approx(headline(name, returned[name]), abs=1e-6), name
        assert result.computed == pytest.approx(result.value, abs=1e-6), name
        assert result.complete, (name, result.doubts)
        assert result.candidate.found.run == RUN
        assert result.judged.rows == len(ROWS[name]), name
        assert "prediction" not in " ".join(result.doubts), name
        assert 0 < result.value < 100, name
        if LAYOUTS[layout_of(name)].asks_judge and "{judge}" in LAYOUTS[layout_of(name)].judged:
            assert result.judge == JUDGE, name


def test_where_verdicts_come_from(outputs):
    work, _ = outputs
    origins = {name: dict(read(work, name).judged.origins) for name in ROWS}
    by_rule, by_judge = (sum(kind == one for kind in MCQ.values()) for one in ("rule", "judge"))
    for name in ("A-OKVQA", "RealWorldQA", "MMStar", "BLINK", "VisOnlyQA-Real", "CV-Bench-2D", "VStarBench"):
        assert origins[name] == {"rule": by_rule, "judge": by_judge, "random": 2}, name
    assert origins["WeMath"] == {"rule": 17, "judge": 7}
    assert origins["MathVista_MINI"] == {"rule": 4, "judge": 3, "none": 3}
    assert origins["MathVision_MINI"] == {"rule": 2, "judge": 4}
    assert origins["MathVerse_MINI_Vision_Only"] == {"rule": 1, "judge": 2, "none": 1}
    assert origins["POPE"] == {"rule": 8, "judge": 2, "none": 2}
    assert origins["HallusionBench"] == {"rule": 4, "judge": 1, "none": 1}
    assert origins["DynaMath"] == {"unknown": 5, "none": 1}
    assert origins["ChartQA_TEST"] == {"rule": 3}
    assert read(work, "A-OKVQA").judged.api_failed == 1


def test_units_are_what_belongs_together(outputs):
    work, _ = outputs
    units = {name: (read(work, name).unit, len(read(work, name).units.names)) for name in ROWS}
    assert units["RealWorldQA"] == ("row", len(MCQ))
    assert units["CV-Bench-2D"] == ("row, within its source", len(MCQ))
    assert units["WeMath"] == ("problem", 7)
    assert units["POPE"] == ("image", 6)
    assert units["HallusionBench"] == ("set of figures", 2)
    assert units["DynaMath"] == ("question with its variants", 3)


def test_wemath_is_divided_by_525_whatever_there_is(outputs):
    work, returned = outputs
    result = read(work, "WeMath")
    assert result.value == pytest.approx(headline("WeMath", returned["WeMath"]))
    assert result.computed == pytest.approx(100 * (1 + 0 + 0.5 + 0 + 1 + 0.5 + 0) / 7)
    assert not result.complete
    assert "divides by 525 problems, and these are 7" in " ".join(result.doubts)


def test_wemath_of_525_problems_agrees(host, tmp_path, monkeypatch):
    host.setenv("PRED_FORMAT", "tsv")
    few = wemath_rows()
    rows = [row | {"ID": row["ID"] + 7 * i, "index": row["index"] + 24 * i} for i in range(75) for row in few]
    monkeypatch.setitem(ROWS, "WeMath", rows)
    for judge, value in ((JUDGE, "42.86"), ("exact_matching", "42.86")):
        folder = tmp_path / judge / MODEL
        returned = evaluated(folder, "WeMath", judge, ".tsv")
        result = read(tmp_path / judge, "WeMath")
        assert f"{headline('WeMath', returned):.2f}" == value
        assert result.complete, result.doubts
        assert result.judge == judge
        assert result.doubts == []


def test_a_judge_that_did_not_work_shows(host, tmp_path, monkeypatch):
    host.setenv("PRED_FORMAT", "tsv")
    monkeypatch.setattr(Judge, "working", lambda self: False)
    for name in ("RealWorldQA", "WeMath", "POPE"):
        evaluated(tmp_path / MODEL, name, JUDGE, ".tsv")
    assert read(tmp_path, "RealWorldQA").judged.origins == {"rule": 5, "none": 4}
    assert f"4 rows left to the rule, because {JUDGE} did not work" in " ".join(read(tmp_path, "RealWorldQA").doubts)
    assert f"judged by rule: {JUDGE} did not work" in " ".join(read(tmp_path, "WeMath").doubts)
    assert read(tmp_path, "POPE").judged.origins == {"rule": 8, "none": 4}


def test_two_judges_in_one_folder_are_kept_apart(host, tmp_path):
    host.setenv("PRED_FORMAT", "tsv")
    folder = tmp_path / MODEL  # where ms-vlmeval writes
    by_judge = {
        judge: {
            name: headline(name, evaluated(folder, name, judge, ".tsv")) for name in ("RealWorldQA", "MathVista_MINI")
        }
        for judge in (JUDGE, "gpt-4o-mini")
    }
    exact = headline(
        "RealWorldQA", evaluated(folder, "RealWorldQA", "exact_matching", ".tsv")
    )  # the last to write _acc.csv
    result = read(tmp_path, "RealWorldQA", "exact_matching")
    assert (result.value, result.judge, result.complete) == (pytest.approx(exact), "exact_matching", True)
    result = read(tmp_path, "RealWorldQA", JUDGE)
    assert result.judge == JUDGE
    assert result.value == pytest.approx(result.computed)
    assert result.value == pytest.approx(by_judge[JUDGE]["RealWorldQA"]) or result.judged.origins["random"]
    for judge, values in by_judge.items():
        assert read(tmp_path, "MathVista_MINI", judge).value == pytest.approx(values["MathVista_MINI"])
    assert read(tmp_path, "MathVista_MINI", "another").reason == f"judged by gpt-4o-mini, {JUDGE} only"
    assert "also judged by" in " ".join(read(tmp_path, "MathVista_MINI").notes)


def test_the_plugins_own_data_sets(host, tmp_path, monkeypatch):
    from capcurr_plugin.vlmeval_host import datasets as own

    host.setenv("PRED_FORMAT", "tsv")
    monkeypatch.setattr(own, "build_judge", lambda **_: Judge())
    several = {"question_type": "multiple_answers", "answer": "A,C", "prediction": "C and A"}
    rows = [row | {"question_type": "single_answer"} for row in mcq_rows(category="angle")]
    monkeypatch.setitem(ROWS, "VisOnlyQA-Real", [*rows, rows[0] | several | {"index": 20}])
    returned = evaluated(tmp_path / MODEL, "VisOnlyQA-Real", JUDGE, ".tsv", own.VisOnlyQA)
    result = read(tmp_path, "VisOnlyQA-Real")
    assert (result.value, result.complete) == (pytest.approx(headline("VisOnlyQA-Real", returned)), True)
    assert result.judged.origins == {"rule": 6, "judge": 2, "random": 2}


def test_scores_as_json(host, tmp_path):
    host.setenv("PRED_FORMAT", "tsv")
    host.setenv("EVAL_FORMAT", "json")
    for name in ("ChartQA_TEST", "TextVQA_VAL"):
        returned = evaluated(tmp_path / MODEL, name, JUDGE, ".tsv")
        result = read(tmp_path, name)
        assert result.candidate.score.suffix == ".json"
        assert result.value == pytest.approx(headline(name, returned))
        assert result.complete
    host.delenv("EVAL_FORMAT")


def test_what_status_says(host, tmp_path):
    host.setenv("PRED_FORMAT", "tsv")
    folder = tmp_path / MODEL / RUN
    returned = evaluated(folder, "POPE", JUDGE, ".tsv")
    upsert_run_status(str(folder), model_name=MODEL, argv=["run.py", "--limit", "12"])
    told = {"run_dir": str(folder), "model_name": MODEL, "dataset_name": "POPE", "judge_model": JUDGE}
    upsert_dataset_status(**told, status="done", metrics_source=returned)
    result = read(tmp_path, "POPE")
    assert (result.judge, result.complete) == (JUDGE, True)
    assert "its run was given --limit" in result.doubts
    assert "12 rows, where the benchmark has 20 (its run was given --limit)" in read(tmp_path, "POPE", rows=20).doubts
    upsert_dataset_status(**told, status="done", error_message="no space left")
    assert "its run reports: no space left" in read(tmp_path, "POPE").doubts


def test_no_judge_is_missing_where_predictions_are(host, tmp_path):
    host.setenv("PRED_FORMAT", "tsv")
    folder = tmp_path / MODEL
    folder.mkdir()
    dump(pandas.DataFrame(ROWS["MMStar"]), str(folder / f"{MODEL}_MMStar.tsv"))
    chosen = read(tmp_path, "MMStar")
    assert isinstance(chosen, Missing)
    assert chosen.reason.startswith("predicted, but not judged")


ANSWERS = [
    *MCQ,
    *YES_NO,
    "A or B",
    "The answer is (B).",
    "Z",
    "Sorry",
    "green and red",
    "GREEN",
    "a",
    "I think A is it, no",
]
ANSWERS += ["Cannot determine the answer", "yes/no", "no,yes", "1,000 yes", "yes. " * 40, "", "nan", "[B]", "B: green"]


@pytest.mark.parametrize("answer", ANSWERS)
def test_rules_for_options_and_yes_or_no(answer):
    assert host_rules.option_of(answer, OPTIONS) == (can_infer(answer, dict(OPTIONS)) or None)
    assert host_rules.yes_or_no(answer) == YOrN_Extraction(answer)


EQUAL = [
    ("7", "7"),
    ("7.0", "7"),
    (r"\frac{1}{2}", "0.5"),
    ("1/2", "0.5"),
    (r"\sqrt{3}", "1.732"),
    ("a", "A "),
    ("2*4", "8"),
]
EQUAL += [
    ("3", "3.0000001"),
    ("3", "3.001"),
    (r"12\pi", "37.699"),
    ("x", "y"),
    ("2^3", "8"),
    ("$5$", "5"),
    (r"-\frac{3}{4}", "-0.75"),
]


@pytest.mark.parametrize(("answer", "truth"), EQUAL)
def test_rule_for_mathvision(answer, truth):
    row = {"choices": "[]", "res": answer, "answer": truth}
    assert host_rules.mathvision_is_right(row) == is_equal(answer, truth)
