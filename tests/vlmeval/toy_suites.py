"""Small tables in the shape of the suites' benchmarks, and the scores that their planted answers must give.

A question holds `GOLD=x`, and the model behind the servers of the tests answers x in its box, after a thinking that
says otherwise. So a row is right when its `answer` is x.
"""

import base64
import io
import re

import local_servers as servers

METADATA = "{'split': 'testmini', 'source': 'g', 'subject': 'Plane Geometry', 'subfield': 'Angle'}"


def picture(seed):
    from PIL import Image

    image = Image.new("RGB", (96, 64), (40 * seed % 255, 90, 200))
    image.paste((255, 255, 255), (seed % 90, 5, seed % 90 + 6, 40))
    content = io.BytesIO()
    image.save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def choice(number, said, answer, **more):
    options = {"A": "red", "B": "green", "C": "blue", "D": "pink"}
    return {"index": number, "question": f"Which colour? GOLD={said}", **options, "answer": answer, **more}


def options(*pairs, **more):
    return [choice(n, said, answer, **more) for n, (said, answer) in enumerate(pairs)]


def yes_no(*pairs):
    return [
        {
            "index": n,
            "question": f"Is there a dog? Please answer yes or no. GOLD={said}",
            "answer": answer,
            "category": "popular" if n % 2 else "random,adversarial",
            "image_source": "x",
        }
        for n, (said, answer) in enumerate(pairs)
    ]


def math_vista():
    common = {
        "task": "figure question answering",
        "skills": "['statistical reasoning']",
        "category": "general-vqa",
        "split": "testmini",
        "unit": None,
        "precision": None,
        "answer_option": None,
        "choices": "[]",
    }
    free = {"question_type": "free_form", **common}
    return [
        {"index": 1, "question": "Hint: integer. How many? GOLD=3", "answer": "3", "answer_type": "integer", **free},
        {"index": 2, "question": "Hint: float. Value? GOLD=0.4", "answer": "0.5", "answer_type": "float", **free},
        {
            "index": 3,
            "question": "Hint: letter. Which? GOLD=B\nChoices:\n(A) 12\n(B) 15",
            "answer": "15",
            "answer_type": "text",
            **common,
            "question_type": "multi_choice",
            "choices": "['12', '15']",
            "answer_option": "B",
        },
        {"index": 4, "question": "Hint: integer. How many? GOLD=7", "answer": "7", "answer_type": "integer", **free},
    ]


def math_vision():
    def row(number, said, answer, letters):
        choices = "['A', 'B', 'C', 'D', 'E']" if letters else "[]"
        return {
            "index": number,
            "id": number,
            "question": f"Which? GOLD={said}",
            "choices": choices,
            "options": "[]",
            "answer": answer,
            "category": "counting",
            "level": 1,
            "subject": "counting",
        }

    return [row(1, "C", "C", True), row(2, "7", "7", False), row(3, "8", "9", False), row(4, "A", "B", True)]


def math_verse(version):
    return [
        {
            "index": n,
            "sample_index": n,
            "problem_index": n,
            "problem_version": version,
            "question": f"Find x. GOLD={said}",
            "answer": answer,
            "question_type": "multi-choice",
            "metadata": METADATA,
            "query_cot": "q",
            "query_wo": "q",
            "question_for_eval": f"Find x in problem {n}",
        }
        for n, (said, answer) in enumerate([("A", "A"), ("C", "B"), ("D", "D"), ("B", "B")], 1)
    ]


def we_math():
    """Problems of two steps, right in all of (step 1, step 2, both) or not; one of three steps, right in all."""
    rows = []
    problems = [("2steps", (1, 1, 1)), ("2steps", (1, 0, 1)), ("2steps", (0, 0, 0)), ("3steps", (1, 1, 1, 1))]
    for problem, (kind, right) in enumerate(problems, 1):
        for step, good in enumerate(right, 1):
            key = f"{kind}_{'multi' if step == len(right) else step}"
            more = {"ID": problem, "key": key, "split": "testmini", "knowledge": "area", "knowledge concept": "area"}
            more |= {"problem_type": "x", "requirement": "r", "hint": "h", "option": "A. red; B. green; C. blue"}
            rows.append(choice(len(rows), "A", "A" if good else "B", **more))
    return rows


def hallusion():
    asked = [(0, 0, "Yes", "Yes"), (0, 1, "No", "Yes"), (1, 0, "Yes", "Yes"), (1, 1, "No", "No")]
    return [
        {
            "index": f"VD_chart_0_{set_}_{figure}_0",
            "question": f"Is it so? GOLD={said}",
            "answer": answer,
            "category": "VD",
            "l2-category": "chart",
        }
        for set_, figure, said, answer in asked
    ]


def dyna_math():
    def row(number, said, answer, kind, variant):
        more = {"subject": "algebra", "knowledge_level": "high school", "qid": 0, "varid": variant}
        return {"index": number, "question": f"q GOLD={said}", "answer": answer, "answer_type": kind, **more}

    return [
        row(0, "3.000", "3.0", "float", 1),
        row(1, "B", "C", "multiple choice", 2),
        row(2, "cat", "cat", "text", 3),
        row(3, "2.500", "2.5", "float", 4),
    ]


def cv_bench():
    def row(number, said, answer, source):
        more = {"prompt": f"Which? GOLD={said} (A) x (B) y", "source": source, "split": "2D", "category": "Count"}
        return choice(number, said, answer, **more)

    return [row(0, "A", "A", "ADE20K"), row(1, "B", "C", "COCO"), row(2, "B", "B", "COCO")]


def short_answers(*pairs, **more):
    return [
        {"index": n, "question": f"What? GOLD={said}", "answer": answer, **more}
        for n, (said, answer) in enumerate(pairs)
    ]


def vis_only():
    rows = options(("A", "A"), ("B", "C"), category="angle", question_type="single_answer")
    several = choice(2, "A,C", "A,C", category="shape_multi", question_type="multiple_answers")
    return [*rows, several]


# Benchmark -> its rows, and the headline metric as its score file has it, worked out by hand.
BENCHMARKS = {
    "MathVista_MINI": (math_vista, 75.0),
    "MathVision_MINI": (math_vision, 50.0),
    "MathVerse_MINI_Vision_Intensive": (lambda: math_verse("Vision Intensive"), 75.0),
    # Of VLMEvalKit's fixed 525 problems one was not known and one got by rote: 523 / 525
    "WeMath": (we_math, 99.62),
    "A-OKVQA": (lambda: options(("A", "A"), ("B", "B"), ("C", "D"), ("D", "D"), split="val"), 0.75),
    "RealWorldQA": (lambda: options(("A", "A"), ("B", "C")), 0.5),
    "MMStar": (lambda: options(("A", "A"), ("B", "C"), category="logic", **{"l2-category": "x", "bench": "y"}), 0.5),
    # A row of two categories counts in both: 2 true and 2 false positives, 1 false negative
    "POPE": (lambda: yes_no(("Yes", "Yes"), ("No", "No"), ("Yes", "No"), ("No", "Yes")), 100 * 4 / 7),
    "MathVerse_MINI_Vision_Only": (lambda: math_verse("Vision Only"), 75.0),
    "DynaMath": (dyna_math, 0.75),
    "HallusionBench": (hallusion, 75.0),
    "BLINK": (lambda: options(("A", "A"), ("B", "C"), category="Counting", split="val"), 0.5),
    "CV-Bench-2D": (cv_bench, 0.75),  # the mean over the sources, of 1 and 1/2
    "VStarBench": (lambda: options(("A", "A"), ("B", "C"), category="relative_position"), 0.5),
    "ChartQA_TEST": (lambda: short_answers(("42", "41.5"), ("Blue", "Red"), split="test_human"), 50.0),
    "TextVQA_VAL": (lambda: short_answers(("stop", str(["stop"] * 10)), ("go", str(["no"] * 10))), 50.0),
    "VisOnlyQA-Synthetic": (vis_only, 2 / 3),
    "VisOnlyQA-Real": (vis_only, 2 / 3),
}


def write_tables(folder, names=tuple(BENCHMARKS)):
    import pandas as pd

    for name in names:
        rows = [row | {"image": picture(n)} for n, row in enumerate(BENCHMARKS[name][0]())]
        pd.DataFrame(rows).to_csv(folder / f"{name}.tsv", sep="\t", index=False)


# The servers


def misleading_model(body):
    """Says in its thinking that it is A, and yes, and 99; boxes what is planted."""
    said = re.search(r"GOLD=([\w.,]+)", servers.asked_text(body))
    planted = said[1] if said else "B"
    if "\\boxed" not in servers.system_text(body):
        return servers.chat_completion(planted)
    thinking = "Is it A? At first sight the answer is A. Yes, \\boxed{99} {x}. No, looking again it is not so."
    return servers.chat_completion(f"<think>{thinking}</think>\nSo: \\boxed{{\\text{{{planted}}}}}")


def fair_judge(body):
    """Takes the answer out of a response, and compares it where it is asked to."""
    text = servers.asked_text(body)
    if "Judgement:" in text[-40:]:
        standard = re.findall(r"\[Standard Answer\]: (.*)", text)[-1].strip()
        given = re.findall(r"\[Model_answer\] : (.*)", text)[-1].strip()
        return servers.claude_message("1" if given == standard else "0")
    found = re.findall(
        r"(?:Model respon(?:s)?e|Free-form answer): ?'?(.*?)'?\s*(?:Extracted|Instruction|$)", text, re.S
    )
    return servers.claude_message(found[-1].strip() if found else "Z")


# Scores on disk


def headline(folder, model, name, judge):
    """The number that stands in the benchmark's own score file."""
    import pandas as pd

    def read(suffix):
        return pd.read_csv(folder / f"{model}_{name}{suffix}.csv")

    if name == "WeMath":
        return float(read(f"_{judge}_score")["Score (Strict)"].iloc[0].rstrip("%"))
    if name.startswith("MathV"):
        table = read(f"_{judge}_score")
        return float(
            table["Overall"].iloc[0] if "Overall" in table else table.set_index(table.columns[0])["acc"]["Overall"]
        )
    if name == "DynaMath":
        table = read(f"_{judge}_score")
        return float(table[table["Setting"] == "Average"]["Overall"].iloc[0])
    if name in ("POPE", "HallusionBench"):
        table = read("_score")
        row = table[table["split"] == "Overall"].iloc[0]
        return float(row["Overall"] if name == "POPE" else row["aAcc"])
    return float(read("_acc")["Overall"].iloc[0])
