"""A world in which the kind of every error is known: VLMEvalKit's results of models whose responses name it, tables
with pictures, and a judge that reads it there and errs as often as it is told to."""

import base64
import io
import json
import random
import re
from datetime import datetime, timezone

import local_servers as servers
from results_samples import Run, asked, verdict, write_table

from capcurr_plugin.attribution.kinds import KINDS

JUDGE_NAME = "claude-haiku-4.5"


def picture(number, side=40):
    from PIL import Image

    image = Image.effect_noise((side, side), 30).convert("RGB") if side > 40 else Image.new("RGB", (side, 30))
    image.paste((7 * number % 255, 90, number // 256 % 256), (0, 0, 8, 8))
    out = io.BytesIO()
    image.save(out, "JPEG" if side > 40 else "PNG")
    return base64.b64encode(out.getvalue()).decode()


def said(kind, number, more=""):
    return f"<think>\nI look at row {number}. The error is of kind {kind} here.{more}\n</think>\n\\boxed{{C}}"


def plant(work, tables, model, kinds, name="MMStar", side_car=True, tokens=100, side=40, response_words=0):
    """Results on one benchmark: `kinds` holds the kind of each row's error, None where the row is right."""
    run = Run(work, model)
    rows = [
        asked(i, "B" if kind is None else "C")
        | {"A": "red", "B": "green", "C": "blue", "category": ("colour", "count")[i % 2]}
        | verdict(kind is None)
        for i, kind in enumerate(kinds)
    ]
    run.predictions(name, rows)
    run.write(name, f"_{run.judge}_result.tsv", rows)
    run.write(name, "_acc.csv", [{"split": "none", "Overall": sum(k is None for k in kinds) / len(kinds)}])
    if side_car:
        lines = [
            {
                "index": str(i),
                "prediction": rows[i]["prediction"],
                "answer": rows[i]["prediction"],
                "response": said(kind, i, " word" * response_words),
                "thinking": said(kind, i).split("\n</think>")[0].removeprefix("<think>\n"),
                "completion_tokens": tokens + i,
            }
            for i, kind in enumerate(kinds)
        ]
        run.path(name, "_responses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = tables / f"{name}.tsv"
    if not table.exists() or len(table.read_text().splitlines()) <= len(kinds):
        write_table(table, [{"index": i, "image": picture(i, side), "question": f"q{i}"} for i in range(len(kinds))])
    return rows


def case_of(body):
    """The id, the response and the planted kind in a request to the judge."""
    text = servers.asked_text(body)
    id = re.findall(r"<response id=(\w+)>", text)[-1]
    response = text.split(f"<response id={id}>\n")[1].split(f"\n</response id={id}>")[0]
    return id, response, re.search(r"of kind (\w+) here", response)[1]


def reply_of(id, kind, quote="The error is", **more):
    quote = "" if kind in ("flawed_question_or_label", "answer_is_right") else quote
    told = {"id": id, "kind": kind, "quote": quote, "image": "something else", "confidence": "high"}
    return json.dumps(told | more)


def oracle(body):
    id, _, kind = case_of(body)
    return servers.claude_message(reply_of(id, kind), tokens=(1000, 100))


def erring(confusion, seed=1):
    """A judge that says of a true kind what `confusion` has: kind -> {said: probability}. The same of the same."""

    def answer(body):
        id, _, kind = case_of(body)
        dice = random.Random(f"{seed} {id}")
        told = dice.choices(list(confusion[kind]), list(confusion[kind].values()))[0]
        return servers.claude_message(reply_of(id, told), tokens=(1000, 100))

    return answer


def kinds_for(count, right=0, seed=0, share=0.7):
    """`right` rows that are right, then errors, of which about `share` are of perception."""
    dice = random.Random(seed)
    others = [kind for kind in KINDS if kind != "perception"]
    return [None] * right + ["perception" if dice.random() < share else dice.choice(others) for _ in range(count)]


class Batches:
    """Anthropic's Message Batches, at a server of this machine: a batch ends when it was looked at `looks` times."""

    def __init__(self, answer, looks=1, fate=lambda number, params: None):
        self.answer, self.looks, self.fate = answer, looks, fate
        self.batches = []  # each with its requests, in the order they were made
        self.asked = 0

    def post(self, handler, body):
        if handler.path != "/v1/messages/batches":
            return servers.claude_message("x")
        number = len(self.batches)
        now = datetime.now(timezone.utc).isoformat()
        self.batches.append({"id": f"msgbatch_{number}", "requests": body["requests"], "looked": 0, "at": now})
        return self.told(self.batches[-1])

    def get(self, handler):
        path = handler.path.partition("?")[0]
        if path == "/v1/messages/batches":
            data = [self.told(batch) for batch in reversed(self.batches)]
            return handler.send(200, {"data": data, "has_more": False, "first_id": None, "last_id": None})
        batch = self.batches[int(path.split("msgbatch_")[1].partition("/")[0])]
        if path.endswith("/results"):
            lines = [json.dumps(self.result(n, request)) for n, request in enumerate(batch["requests"])]
            return handler.send(200, "\n".join(lines).encode())
        batch["looked"] += 1
        return handler.send(200, self.told(batch, handler))

    def result(self, number, request):
        self.asked += 1
        result = self.fate(self.asked, request["params"]) or {
            "type": "succeeded",
            "message": self.answer(request["params"]),
        }
        return {"custom_id": request["custom_id"], "result": result}

    def told(self, batch, handler=None):
        ended = batch["looked"] > self.looks
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if ended else "processing"] = len(batch["requests"])
        url = f"{handler.server.url}/v1/messages/batches/{batch['id']}/results" if ended and handler else None
        return {
            "id": batch["id"],
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts,
            "created_at": batch["at"],
            "expires_at": batch["at"],
            "ended_at": batch["at"] if ended else None,
            "results_url": url,
        }
