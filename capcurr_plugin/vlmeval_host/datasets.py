"""VisOnlyQA's two evaluation sets, and the toy world's, as VLMEvalKit data sets. Imports VLMEvalKit.

VLMEvalKit has a set of its own with a similar name, less one task and with another prompt. These hold all tasks; the
tables are built by `capcurr data visonlyqa` and lie in LMUData.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from vlmeval.dataset.image_mcq import ImageMCQDataset  # pyright: ignore[reportMissingImports]
from vlmeval.dataset.image_vqa import MathVista  # pyright: ignore[reportMissingImports]
from vlmeval.dataset.utils import build_judge  # pyright: ignore[reportMissingImports]
from vlmeval.dataset.utils.multiple_choice import (  # pyright: ignore[reportMissingImports]
    extract_answer_from_item,
    report_acc,
)
from vlmeval.smp import LMUDataRoot, dump, get_intermediate_file_path, load  # pyright: ignore[reportMissingImports]
from vlmeval.utils import track_progress_rich  # pyright: ignore[reportMissingImports]

VISONLYQA = ("VisOnlyQA-Synthetic", "VisOnlyQA-Real")
OF_DEMO = "set LMUData to data/LMUData of a folder that capcurr demo has made; it holds"
RULE = "the letters of all figures that fit"  # the log of a row that no judge is asked about


class _BuiltHere:
    """Of a table without an address to download it from; `HOW` comes before the table's path."""

    HOW: ClassVar[str]
    dataset_name: str

    def prepare_tsv(self, url: str, file_md5: str | None = None) -> Any:
        path = Path(LMUDataRoot(), f"{self.dataset_name}.tsv")
        if not path.exists():
            raise FileNotFoundError(f"{path}: is not there; {self.HOW} {path}")
        return super().prepare_tsv(url, file_md5)  # pyright: ignore[reportAttributeAccessIssue]  VLMEvalKit's


class VisOnlyQA(_BuiltHere, ImageMCQDataset):
    DATASET_URL = dict.fromkeys(VISONLYQA, "")
    HOW = "build it from the public files: capcurr data visonlyqa FILE..."

    def build_prompt(self, line: Any) -> list[dict[str, Any]]:
        message = super().build_prompt(line)
        if self._takes_several(line):
            message[-1]["value"] = (
                f"Question: {line['question']}\nAnswer with the letters of all of them, such as A, C.\n"
            )
        return message

    def evaluate_heuristic(self, eval_file: str, **judge_kwargs: Any) -> Any:
        """VLMEvalKit's own reading of one chosen option; a list of figures is right when it is the whole list."""
        name = judge_kwargs.get("model", "exact_matching")
        model = None if name == "exact_matching" else build_judge(**judge_kwargs)
        table: Any = load(eval_file)
        data = table.sort_values(by="index")
        data["prediction"] = data["prediction"].astype(str)
        rows = [row for _, row in data.iterrows()]
        verdicts = track_progress_rich(
            _verdict,
            [(model, row, self.dataset_name, self._takes_several(row)) for row in rows],
            nproc=judge_kwargs.get("nproc", 4),
            chunksize=judge_kwargs.get("nproc", 4),
            save=get_intermediate_file_path(eval_file, f"_{name}_result", "pkl"),
            keys=[str(row["index"]) for row in rows],
        )
        data["hit"] = [int(verdict["opt"] == row["answer"]) for verdict, row in zip(verdicts, rows, strict=True)]
        data["log"] = [verdict["log"] for verdict in verdicts]
        dump(data, get_intermediate_file_path(eval_file, f"_{name}_result"))
        accuracy = report_acc(data)
        dump(accuracy, get_intermediate_file_path(eval_file, "_acc", "csv"))
        return accuracy

    @staticmethod
    def _takes_several(line: Mapping[str, Any]) -> bool:
        return str(line["question_type"]) == "multiple_answers"


class ToyWorldPerception(_BuiltHere, ImageMCQDataset):
    """In MMStar's shape."""

    DATASET_URL: ClassVar = {"ToyWorld_Perception": ""}
    HOW = OF_DEMO


class ToyWorldReasoning(_BuiltHere, MathVista):
    DATASET_URL: ClassVar = {"ToyWorld_Reasoning": ""}
    HOW = OF_DEMO


DATASETS = (VisOnlyQA, ToyWorldPerception, ToyWorldReasoning)


def _verdict(model: Any, row: Mapping[str, Any], dataset: str, several: bool) -> Any:
    if not several:
        return extract_answer_from_item(model, row, dataset)
    letters = sorted(set(re.findall(r"(?<![A-Za-z])[A-Da-d](?![A-Za-z])", row["prediction"])))
    return {"opt": ",".join(letters).upper(), "log": RULE}
