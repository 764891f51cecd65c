"""What the adapter and its side-car cost a row, beside the same client of VLMEvalKit sending the same without them.

    .envs/vlmeval/bin/python benchmarks/adapter.py

The server's reply is made up in memory, 400 words of thinking long, so that only the client is timed. Both clients take
turns; each figure is a median over rows.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import requests
from vlmeval.config import supported_VLM  # pyright: ignore[reportMissingImports]

ROWS, TURNS = 2000, 5
THINKING = " ".join(["the angle at B looks like a right one so"] * 50)


def reply() -> requests.Response:
    message = {"role": "assistant", "content": f"<think>{THINKING}</think> So \\boxed{{\\text{{B}}}}"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    response = requests.Response()
    response.status_code, response.encoding = 200, "utf-8"
    response._content = json.dumps(
        {"id": "1", "model": "m", "choices": [choice], "usage": {"prompt_tokens": 900, "completion_tokens": 450}}
    ).encode()
    return response


class Table:
    """A data set, as far as the adapter looks at it."""

    def dump_image(self, line: Any) -> None: ...

    def build_prompt(self, line: Any) -> list[dict[str, str]]:
        return [{"type": "text", "value": f"Question: which of the four options is it? {line['index']}"}]


def microseconds(model: Any, table: Table, start: int) -> list[float]:
    times = []
    for index in range(start, start + ROWS):
        line = {"index": index}
        begin = time.perf_counter()
        custom = model.use_custom_prompt("D")
        message = model.build_prompt(line, dataset="D") if custom else table.build_prompt(line)
        model.generate_inner(message, dataset="D")
        times.append(1e6 * (time.perf_counter() - begin))
    return times


def main() -> None:
    from capcurr_plugin.evaluation.responses import settle
    from capcurr_plugin.prompt import system_message
    from capcurr_plugin.vlmeval_host import run_files

    answer = reply()
    requests.post = lambda *args, **options: answer  # both clients call it
    table = Table()
    with_adapter = supported_VLM["Qwen3_VL_8B_Staged"](model="m", api_base="http://127.0.0.1:1")
    bare = {"custom_prompt": None, "system_prompt": system_message("system")}
    without = supported_VLM["Qwen3_VL_8B_Staged"](model="m", api_base="http://127.0.0.1:1", **bare)
    for model in (with_adapter, without):
        model.set_dump_image(table.dump_image)
    with tempfile.TemporaryDirectory() as folder:
        predictions = Path(folder, "m_D.tsv")
        run_files.begin("D", predictions)
        ours, theirs = [], []
        for turn in range(TURNS):
            ours += microseconds(with_adapter, table, turn * ROWS)
            theirs += microseconds(without, table, turn * ROWS)
        begin = time.perf_counter()
        settled = settle(predictions, ((index, "B") for index in range(TURNS * ROWS)))
        settling = 1e6 * (time.perf_counter() - begin) / settled.rows
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"with the adapter {a:.1f} us a row, without {b:.1f} us: it adds {a - b:.1f} us")
    print(
        f"settling the side-car of {settled.rows:,} rows: {settling:.1f} us a row, {settled.missing} without a record"
    )


if __name__ == "__main__":
    main()
