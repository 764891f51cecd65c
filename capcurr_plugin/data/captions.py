"""`capcurr data captions`: captions and their images as supervised training data, for verl or for LLaMA-Factory."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from capcurr_plugin.atomic import replacing
from capcurr_plugin.data.caption_fields import CaptionFields
from capcurr_plugin.errors import InputError
from capcurr_plugin.progress import progress_bar
from capcurr_plugin.row_files import BadRows, RecordReader, check_output, format_of, write_rows
from capcurr_plugin.rows import ImageRoot

REQUEST = "Please describe this image in detail."
DATASET_INFO = "dataset_info.json"
# What LLaMA-Factory has to be told of the file's form.
FACTORY_FORM = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write captions as conversations: an image and a request for its description, answered by the caption. "
        "OUT.parquet is for verl's SFT trainer (and `capcurr train --recipe caption_sft`); OUT.jsonl is for "
        f"LLaMA-Factory, whose entry of the data set is written to {DATASET_INFO} beside it."
    )
    parser.add_argument("input", type=Path, metavar="IN", help="captions, such as DOCCI's docci_descriptions.jsonlines")
    parser.add_argument("output", type=Path, metavar="OUT", help="OUT.parquet or OUT.jsonl")
    parser.add_argument("--image-root", type=Path, metavar="FOLDER", help="default: the folder of IN")
    CaptionFields.add_arguments(parser)
    parser.add_argument("--request", default=REQUEST, help="what the caption answers (default: %(default)r)")
    BadRows.add_argument(parser, beside="OUT")


def run(args: argparse.Namespace) -> int:
    check_output(args.output, args.input, args.on_bad_row)
    verl = format_of(args.output) == ".parquet"
    images = ImageRoot(args.image_root or args.input.parent)
    fields = CaptionFields.of(args)

    def conversation(record: dict[str, Any]) -> dict[str, Any]:
        path = str(images.find(fields.text(record, "image")))
        messages = [
            {"role": "user", "content": f"<image>{args.request}"},
            {"role": "assistant", "content": fields.text(record, "caption")},
        ]
        return {"id": fields.id(record), "messages": messages, "images": [{"image": path} if verl else path]}

    with BadRows(args.on_bad_row, args.output) as bad, progress_bar() as tell:
        records = RecordReader(args.input, bad, tell).read(conversation)
        count = _write_verl(args.output, records) if verl else write_rows(args.output, records)
    if not verl:
        _add_entry(args.output)
    print(json.dumps({"conversations": count, "file": str(args.output), **bad.summary()}), file=sys.stderr)
    return 0


def _write_verl(path: Path, records: Any) -> int:
    import pyarrow as pa  # not at the top: most commands are answered without it

    from capcurr_plugin.parquet import write_table

    text = pa.string()
    turn = pa.struct({"role": text, "content": text})
    schema = pa.schema(
        {"id": text, "messages": pa.list_(turn), "images": pa.list_(pa.struct([pa.field("image", text)]))}
    )
    with replacing(path) as file:
        return write_table(file, schema, ((record, len(record["messages"][1]["content"])) for record in records))


def _add_entry(output: Path) -> None:
    """Into LLaMA-Factory's list of data sets, beside those that it has already."""
    path = output.parent / DATASET_INFO
    try:
        entries = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        entries = None
    if not isinstance(entries, dict):
        raise InputError(f"{path}: holds no JSON object, so that no entry can be added; mend it or remove it")
    entries[output.name.partition(".")[0]] = {"file_name": output.name, **FACTORY_FORM}
    with replacing(path) as file:
        file.write(json.dumps(entries, indent=2, ensure_ascii=False).encode() + b"\n")
