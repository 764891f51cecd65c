"""verl's own Parquet form of rows, which its stock RLHFDataset reads without this plugin."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from capcurr_plugin.atomic import replacing
from capcurr_plugin.jsonl import dumps
from capcurr_plugin.parquet import write_table
from capcurr_plugin.prompt import TRAINING, Placement, chat_messages
from capcurr_plugin.rows import ImageRoot, Row, RowError

MAX_IMAGE_BYTES = 64 << 20
OTHER_MARKS = ("<video>", "<audio>")  # verl splits prompts at these, too


@dataclass(frozen=True)
class VerlForm:
    images: ImageRoot
    placement: Placement = TRAINING
    embed_images: bool = False

    def schema(self) -> pa.Schema:
        text = pa.string()
        image = pa.field("bytes", pa.binary()) if self.embed_images else pa.field("image", text)
        return pa.schema(
            {
                "data_source": text,
                "prompt": pa.list_(pa.struct({"role": text, "content": text})),
                "images": pa.list_(pa.struct([image])),
                "ability": text,
                "reward_model": pa.struct({"style": text, "ground_truth": text}),
                "extra_info": pa.struct(
                    {
                        "index": text,
                        "source": text,
                        "options": pa.list_(text),
                        "pass_rate": pa.float64(),
                        "row": text,
                    }
                ),
            }
        )

    def record(self, row: Row) -> dict[str, Any]:
        """The row as verl wants it; `extra_info.row` keeps all of it, so that it can be read back."""
        if row.capability is None:
            raise RowError(
                "column 'capability' is missing; name it for all rows with --capability (in verl, data.capability)"
            )
        for mark in OTHER_MARKS:
            if mark in row.problem:
                raise RowError(f"column 'problem' holds {mark}, which verl takes for a place to put one")
        return {
            "data_source": row.capability,  # verl reports validation by data source
            "prompt": chat_messages(row.problem, self.placement),
            "images": [self._image(name) for name in row.images],
            "ability": row.capability,
            "reward_model": {"style": "rule", "ground_truth": row.answer},
            "extra_info": {
                "index": row.index,
                "source": row.source,
                "options": row.options,  # for the reward
                "pass_rate": row.pass_rate,  # for the order of a curriculum
                "row": dumps(row.record()),
            },
        }

    def _image(self, name: str) -> dict[str, Any]:
        path = self.images.find(name)
        if not self.embed_images:
            try:
                str(path).encode()
            except UnicodeEncodeError:
                raise RowError(f"image {name!r} lies in a folder whose name is not UTF-8; use --embed-images") from None
            return {"image": str(path)}
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise RowError(f"image {name!r} is larger than {MAX_IMAGE_BYTES >> 20} MiB, too large to embed")
        return {"bytes": path.read_bytes()}

    def write(self, path: Path, records: Iterable[dict[str, Any]]) -> int:
        with replacing(path) as file:
            return write_table(file, self.schema(), ((record, _size(record)) for record in records))


def _size(record: dict[str, Any]) -> int:
    return len(record["extra_info"]["row"]) + sum(len(image.get("bytes", b"")) for image in record["images"])
