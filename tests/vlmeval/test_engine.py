"""Against a real engine: a tiny Qwen2.5-VL on the CPU, served by `transformers serve`, from a checkpoint to a table."""

import base64
import io
import json

import pandas as pd
import pytest
import tiny_models
import toy_suites
from PIL import Image
from test_eval import evaluate

from capcurr_plugin.evaluation.responses import read_responses, side_car

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def picture(width, height):
    content = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def test_a_checkpoint_is_served_asked_and_scored(host):
    checkpoint = tiny_models.make("qwen2_5_vl", host.folder / "step_30")
    tiny_models.teach(checkpoint, "\\boxed{A}")
    pictures = [picture(112, 112), picture(300, 100)]
    rows = [toy_suites.choice(n, "?", "AC"[n], image=pictures[n]) for n in range(2)]
    pd.DataFrame(rows).to_csv(host.data / "RealWorldQA.tsv", sep="\t", index=False)
    toy_suites.write_tables(host.data, ["A-OKVQA"])
    words = ["--checkpoint", checkpoint, "--backbone", "qwen2_5_vl_7b", "--data", "RealWorldQA", "A-OKVQA"]
    evaluate(host, *words, "--serve", "--engine", "transformers")
    folder = host.out / "step_30"
    table = json.loads((folder / "capcurr-results.json").read_text())["models"]["step_30"]["benchmarks"]
    assert (table["RealWorldQA"]["value"], table["A-OKVQA"]["value"]) == (50, 25)
    square, wide = read_responses(side_car(host.results("step_30") / "step_30_RealWorldQA.tsv"))
    for record in (square, wide):
        assert (record.prediction, record.response, record.finish_reason) == ("A", "\\boxed{A}", "stop")
        assert record.model.startswith(str(checkpoint))
        assert record.completion_tokens == len("\\boxed{A}") + 1
    # The pictures come through: 4 x 4 and, within the processor's bound, 6 x 2 squares of 28 pixels, each a token
    assert square.prompt_tokens - wide.prompt_tokens == 16 - 12
