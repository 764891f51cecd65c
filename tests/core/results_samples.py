"""Work folders as VLMEvalKit leaves them, made by hand: tests/vlmeval holds what its evaluators really write."""

import csv
from pathlib import Path

JUDGE = "gpt-4o-mini"
STAGED = "Qwen3_VL_8B_Staged"
BASE = "Qwen3_VL_8B_Base"
RUN = "T20260102-030405"


def write_table(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",", quoting=csv.QUOTE_ALL
        )
        writer.writeheader()
        writer.writerows(rows)
    return path


class Run:
    """One run's folder of a model."""

    def __init__(self, work: Path, model: str, run: str = RUN, judge: str = JUDGE) -> None:
        self.folder = work / model / run
        self.model = model
        self.judge = judge

    def path(self, name: str, rest: str) -> Path:
        return self.folder / f"{self.model}_{name}{rest}"

    def write(self, name: str, rest: str, rows: list[dict]) -> Path:
        return write_table(self.path(name, rest), rows)

    def predictions(self, name: str, rows: list[dict]) -> None:
        columns = ("index", "question", "answer", "prediction")
        self.write(name, ".tsv", [{column: row[column] for column in columns} for row in rows])

    def mcq(self, name: str, right: int, rows: int, *, first: int = 0, **more: str) -> list[dict]:
        """The rows from `first` on are right, `right` of them."""
        judged = [asked(i) | verdict(first <= i < first + right) | more for i in range(rows)]
        self.predictions(name, judged)
        self.write(name, f"_{self.judge}_result.tsv", judged)
        self.write(name, "_acc.csv", [{"split": "none", "Overall": right / rows}])
        return judged

    def math(self, name: str, right: int, rows: int, column: str = "Task&Skill") -> None:
        judged = [
            asked(i, "3" if i < right else "4")
            | {"answer": "3", "question_type": "free_form", "answer_type": "integer", "choices": "[]"}
            | {"answer_option": "", "res": "3" if i < right else "4", "log": "Prefetch succeed"}
            for i in range(rows)
        ]
        self.predictions(name, judged)
        self.write(name, f"_{self.judge}.tsv", judged)
        self.write(
            name, f"_{self.judge}_score.csv", [{column: "x", "acc": 1}, {column: "Overall", "acc": 100 * right / rows}]
        )

    def mathverse(self, name: str, right: int, rows: int) -> None:
        logs = {"log_extract": "Succeed", "log_score": "Succeed"}
        judged = [asked(i) | logs | {"score": str(i < right)} for i in range(rows)]
        self.predictions(name, judged)
        self.write(name, f"_{self.judge}_score.tsv", judged)
        self.write(name, f"_{self.judge}_score.csv", [{"split": "Vision", "Overall": 100 * right / rows}])

    def wemath(self, right: int, *, problems: int = 525) -> None:
        """That many problems mastered; of the others the steps are not known."""
        keys = [
            f"{2 if i < 360 else 3}steps_{k}"
            for i in range(problems)
            for k in ("1", "2", "3", "multi")
            if k != "3" or i >= 360
        ]
        names = [i for i in range(problems) for _ in range(3 if i < 360 else 4)]
        judged = [
            asked(i) | verdict(problem < right) | {"id": problem, "key": key}
            for i, (problem, key) in enumerate(zip(names, keys, strict=True))
        ]
        self.predictions("WeMath", judged)
        short = {"gpt-4o-mini": "gpt4o-mini"}.get(self.judge, self.judge)
        self.write("WeMath", f"_{short}.tsv", judged)
        score = f"{(525 - problems + right) / 525:.2%}"
        self.write("WeMath", f"_{short}_score.csv", [{"Score (Strict)": score, "Score (Loose)": "0.00%"}])

    def pope(self, right: int, rows: int = 5000) -> None:
        """As many questions whose answer is Yes as No; what is wrong is a No for a Yes."""
        truths = ["Yes" if i % 2 else "No" for i in range(rows)]
        said = [truth if truth == "No" or i < 2 * right else "No" for i, truth in enumerate(truths)]
        judged = [
            asked(i, answer)
            | {"answer": truth, "extracted": answer, "score": str(truth == answer)}
            | {"category": "random", "image_source": f"COCO_{i // 10}"}
            for i, (truth, answer) in enumerate(zip(truths, said, strict=True))
        ]
        self.predictions("POPE", judged)
        self.write("POPE", "_auxmatch.tsv", judged)
        f1 = 200 * right / (right + rows / 2)
        self.write(
            "POPE", "_score.csv", [{"split": "Overall", "Overall": f1, "acc": 1}, {"split": "random", "Overall": 2}]
        )

    def main_suite(self, more: int = 0) -> None:
        """Scores near the published ones, with so many more rows right on each benchmark."""
        self.math("MathVista_MINI", 759 + more, 1000)
        self.math("MathVision_MINI", 100 + more, 304, "Subject")
        self.mathverse("MathVerse_MINI_Vision_Intensive", 300 + more, 788)
        self.wemath(294 + more)
        self.mcq("A-OKVQA", 900 + more, 1145)
        self.mcq("RealWorldQA", 570 + more, 765)
        self.mcq("MMStar", 1096 + more, 1500)
        self.pope(2200 + more)


def asked(index: int, prediction: str = "B") -> dict:
    return {"index": index, "question": f"What is in picture {index}?", "answer": "B", "prediction": prediction}


def verdict(right: bool, log: str = "Match Log: B. ") -> dict:
    return {"hit": int(right), "log": log}
