"""The commands in a row, each on what the one before it wrote: from captions to a curriculum and its pictures."""

import base64
import io
import json
import re

import local_servers as servers
import numpy as np
from PIL import Image

from capcurr_plugin.cli import main

ROWS, K = 24, 8
WORDS = ["red", "green", "blue", "pink"]  # the first is right


def picture(number):
    """Each its own, with enough in it to be told from the others."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)).resize((160, 120))


def write_captions(folder):
    lines = []
    for n in range(ROWS):
        picture(n).save(folder / f"{n}.png")
        lines.append(json.dumps({"example_id": f"e{n}", "description": f"Door {n} is red.", "image_file": f"{n}.png"}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")


def write_benchmark(path, number):
    content = io.BytesIO()
    picture(number).resize((200, 150)).save(content, "JPEG")
    path.write_text(f"index\timage\tquestion\n1\t{base64.b64encode(content.getvalue()).decode()}\tWhat colour is it?\n")


def model(body):
    """Writes questions; sees the colour of every fourth door, and of every door in its caption; solves door n in n % 9
    of eight tries."""
    text = servers.asked_text(body)
    if text == "Hi":  # does it take a schema?
        return servers.chat_completion("Hi")
    number = int(re.findall(r"[Dd]oor (\d+)", text)[0])
    if "response_format" in body:
        draft = {"question": f"What colour is door {number}?", "options": WORDS, "answer": "red"}
        return servers.chat_completion(json.dumps(draft))
    right = re.search(r"^([A-D]): red$", text, re.MULTILINE)[1]
    wrong = "ABCD"[("ABCD".index(right) + 1) % 4]
    if "<think>" in text:
        letters = [right if n < number % 9 else wrong for n in range(body["n"])]
        texts = [f"<think> hm </think> \\boxed{{{letter}}}" for letter in letters]
        return {"choices": [{"index": n, "message": {"content": text}} for n, text in enumerate(texts)]}
    return servers.chat_completion(right if "is red" in text or number % 4 == 0 else wrong)


def test_from_captions_to_a_curriculum(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAPCURR_CACHE", str(tmp_path / "cache"))
    write_captions(tmp_path)
    write_benchmark(tmp_path / "T.tsv", 5)
    with servers.serving(model) as server:
        for command in (
            f"data synthesize captions.jsonl questions.jsonl --api-base {server.url}",
            f"data filter questions.jsonl kept.jsonl --model one={server.url}",
            f"data pass-rate kept.jsonl measured.jsonl -k {K} --api-base {server.url}",
            "data overlap measured.jsonl --benchmarks T.tsv --out clean.jsonl",
            "data order clean.jsonl curriculum.jsonl --by capability,difficulty --drop-solved",
            "report page.html --rows measured.jsonl --kept clean.jsonl --order curriculum.jsonl --json",
        ):
            capsys.readouterr()
            assert main(command.split()) == 0
    unseen = [n for n in range(ROWS) if n % 4]
    rows = [json.loads(line) for line in (tmp_path / "curriculum.jsonl").read_text().splitlines()]
    rates = {row["index"]: row["pass_rate"] for row in rows}
    assert rates == {f"e{n}": (n % 9) / K for n in unseen if n % 9 != 8 and n != 5}
    assert list(rates.values()) == sorted(rates.values(), reverse=True)
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["pass_rates"]["all"]["before"]["rows"] == len(unseen)
    assert numbers["pass_rates"]["all"]["after"]["rows"] == len(unseen) - 1
    assert numbers["order"]["stages"][0]["capabilities"]["perception"]["direction"] == "easy to hard"
    assert (tmp_path / "page_figures" / "order.png").exists()
