"""The side-car of a prediction file: the full response behind each row, beside what the evaluators see of it.

While a run infers, each reply of a server is appended to a journal as it comes. When the predictions are complete, the
journal is settled: the side-car then holds one line a row, in the rows' order. Lines of earlier runs in sibling folders
serve rows that VLMEvalKit takes over from them.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import replacing
from capcurr_plugin.journal import Journal, read_lines

NOT_A_NUMBER = {"", "#n/a", "n/a", "na", "nan", "null", "none", "<na>", "-nan"}  # what pandas reads as a missing value


@dataclass(frozen=True)
class Response:
    """`response` is all that the model said, `prediction` what VLMEvalKit's evaluators get of it; `answer` is the
    content of the final box, None where there is none, and then the prediction is the response itself."""

    index: str
    prediction: str
    response: str | None = None  # None: no record of it, the row was answered without the adapter
    answer: str | None = None
    thinking: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str | None = None  # the id under which the server ran it
    prompt: str | None = None  # where the unified prompt stood
    request: str | None = None  # names the request: the same for the same question, images and settings
    run: str | None = None  # names the process that asked


_encode = json.JSONEncoder(ensure_ascii=False).encode
_FIELDS = {field.name for field in fields(Response)}


def side_car(predictions: Path) -> Path:
    """Of a prediction file. VLMEvalKit takes it for none of its own files."""
    return predictions.with_name(f"{predictions.stem}_responses.jsonl")


def journal_of(predictions: Path) -> Path:
    return predictions.with_name(f"{predictions.stem}_responses.partial.jsonl")


class Replies(Journal):
    """The journal of servers' replies. They are read when it is."""

    def keep(self, row: Any, reply: bytes, **facts: str | None) -> None:
        """Facts are fields of the response that its server does not know."""
        self.append(_spliced({"index": str(row), **facts}, reply))


def read_responses(path: Path) -> Iterator[Response]:
    """The records of a side-car or a journal; a line that is none, such as a killed process leaves, is passed over."""
    for _, line in read_lines(path):
        try:
            record = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            continue
        response = _response(record) if isinstance(record, dict) else None
        if response is not None:
            yield response


def _response(record: dict[str, Any]) -> Response | None:
    try:
        said = _facts(record.pop("reply"), record.get("answer")) if "reply" in record else {}
    except (KeyError, TypeError, IndexError, AttributeError):  # not a reply; VLMEvalKit could not read it either
        return None
    facts = {"prediction": "", **record, **said}
    return (
        Response(**{key: facts[key] for key in facts.keys() & _FIELDS}) if isinstance(facts.get("index"), str) else None
    )


def _facts(reply: Mapping[str, Any], answer: str | None) -> dict[str, Any]:
    """What a server's reply holds. A server with a parser for it hands the thinking over apart."""
    choice, usage = reply["choices"][0], reply.get("usage")
    message, usage = choice["message"], usage if isinstance(usage, dict) else {}
    said = str(message["content"]).strip()
    facts = {
        "prediction": answer or said,
        "response": said,
        "thinking": message.get("reasoning_content") or message.get("reasoning") or _thinking(said),
        "finish_reason": choice.get("finish_reason"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
    }
    return {**facts, "model": reply["model"]} if reply.get("model") else facts


def reply_of(text: str) -> bytes:
    """As a server would have said it."""
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@dataclass(frozen=True)
class Settled:
    rows: int
    unparsed: int  # rows whose response held no final box
    missing: int  # rows without a record


def settle(predictions: Path, rows: Iterable[tuple[Any, Any]]) -> Settled:
    """Write the side-car of complete predictions, given as (index, prediction), and end the journal."""
    journal, target = journal_of(predictions), side_car(predictions)
    known = _by_index([journal, target])
    others: dict[str, list[Response]] | None = None
    count = unparsed = missing = 0
    with replacing(target) as file:
        for index, prediction in rows:
            found = _matching(known, str(index), prediction)
            if found is None:
                if others is None:
                    others = _by_index(of_sibling_runs(predictions))
                found = _matching(others, str(index), prediction)
            if found is None:
                found = Response(str(index), str(prediction))
            file.write(_line(found))
            count += 1
            unparsed += found.response is not None and found.answer is None
            missing += found.response is None
    journal.unlink(missing_ok=True)
    return Settled(count, unparsed, missing)


def _thinking(response: str) -> str | None:
    """What stands before the end of thinking, where the model says it in its response."""
    for tag in ("think>", "thinking>"):
        end = response.find(f"</{tag}")
        if end >= 0:
            return response[:end].removeprefix(f"<{tag}").strip()
    return None


def _line(response: Response) -> bytes:
    # Half of a surrogate pair, which JSON from a server may hold, becomes the escape that JSON has for it.
    return _encode(vars(response)).encode("utf-8", "backslashreplace") + b"\n"


def _spliced(facts: Mapping[str, Any], reply: bytes) -> bytes:
    """A line with the reply in it, which is JSON already and may be long."""
    if not reply.startswith(b'{"') or b"\n" in reply or b"\r" in reply:
        reply = json.dumps(json.loads(reply)).encode()
    return _encode(facts)[:-1].encode("utf-8", "backslashreplace") + b', "reply": ' + reply + b"}\n"


def of_sibling_runs(predictions: Path) -> list[Path]:
    """Side-cars and journals of other runs of the model: VLMEvalKit keeps a folder a run, named by its time."""
    folders = sorted(predictions.parent.parent.glob("T[0-9]*"), reverse=True)
    names = (side_car(predictions).name, journal_of(predictions).name)
    return [folder / name for folder in folders if folder != predictions.parent for name in names]


def _by_index(paths: Iterable[Path]) -> dict[str, list[Response]]:
    """The records of each row, the likeliest last."""
    found: dict[str, list[Response]] = defaultdict(list)
    for path in reversed(list(paths)):
        if path.exists():
            for response in read_responses(path):
                found[response.index].append(response)
    return found


def _matching(known: dict[str, list[Response]], index: str, prediction: Any) -> Response | None:
    return next((r for r in reversed(known.get(index, ())) if r.response and same_text(prediction, r.prediction)), None)


def same_text(read: Any, written: str) -> bool:
    """Whether `read`, which may have been through a table, is the text that was written there: a table makes numbers of
    digits, and a missing value of words such as "None"."""
    text = str(read)
    if text == written or text.split() == written.split():
        return True
    if read is None or read != read:  # NaN is what differs from itself
        return written.strip().lower() in NOT_A_NUMBER
    try:
        return float(text) == float(written)
    except ValueError:
        return False
