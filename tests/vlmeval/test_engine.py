"""Against a real engine: a tiny Qwen2.5-VL on the CPU, served by `transformers serve`, from a checkpoint to a table."""

import base64
import io
import json
import subprocess

import pandas as pd
import pytest
import tiny_models
import toy_suites
from PIL import Image
from test_eval import CAPCURR, evaluate

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


def test_pass_rates_come_from_an_engine_that_the_command_starts_and_stops(tmp_path):
    """`transformers serve` gives one answer to a request for several, and says nothing about it."""
    checkpoint = tiny_models.make("qwen2_5_vl", tmp_path / "model")
    tiny_models.teach(checkpoint, "\\boxed{A}")
    (tmp_path / "1.png").write_bytes(base64.b64decode(picture(112, 112)))
    rows = [
        {"index": "1", "problem": "<image>Which? A or B", "answer": "A", "images": ["1.png"], "source": "s"},
        {"index": "2", "problem": "Which? A or B", "answer": "B", "images": [], "source": "s"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--engine", "transformers", "--model", checkpoint, "--port", 18231, "-k", 3, "--max-tokens", 16]
    command = [CAPCURR, "data", "pass-rate", tmp_path / "rows.jsonl", tmp_path / "out.jsonl", *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert (first["predictions"], first["pass_rate"]) == (["A"] * 3, 1)
    assert (second["predictions"], second["pass_rate"]) == (["A"] * 3, 0)
    summary = json.loads(done.stderr.splitlines()[-1])
    assert (summary["requests"], summary["answers"]) == (6, 6)
    again = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    assert "starting" in done.stderr
    assert "starting" not in again.stderr  # nothing is to be asked, so no engine is started
