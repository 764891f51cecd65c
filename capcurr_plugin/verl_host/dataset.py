"""verl's data set of rows: `data.custom_cls.path=pkg://capcurr_plugin.verl_host.dataset`, `name=CapabilityDataset`.

It reads row files as they are, puts the unified prompt in, keeps the capability as verl's data source, so that
validation is reported by capability, and yields rows in a curriculum's order. What it cannot use, it names.
"""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import datasets
import torch
from omegaconf import DictConfig
from PIL import Image
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer import build_multimodal_processor_inputs

from capcurr_plugin import parquet
from capcurr_plugin.curriculum import ORDERS, needs_pass_rate
from capcurr_plugin.errors import InputError
from capcurr_plugin.prompt import PLACEMENTS, TRAINING
from capcurr_plugin.row_files import BadRows, RowReader, write_rows
from capcurr_plugin.rows import CAPABILITIES, ImageRoot
from capcurr_plugin.verl_form import VerlForm
from capcurr_plugin.verl_host.internvl import bounded
from capcurr_plugin.verl_host.order import epoch_order

logger = logging.getLogger(__name__)

MAX_DROPPED = 0.05  # share of the rows; more is a mistake in the data
IMAGE_SIZES = ("patches", "bounded")  # verl's rounding to Qwen's patches, or only within min_pixels and max_pixels
LOGGED = 20  # dropped rows that stand in the log, too


class CapabilityDataset(RLHFDataset):
    """Besides verl's own settings under `data`: image_root (default: each file's folder), capability (of rows that name
    none), prompt_placement, order, max_dropped (a share), image_sizes, min_pixels and max_pixels."""

    def __init__(
        self,
        data_files: Any,
        tokenizer: Any,
        config: DictConfig,
        processor: Any = None,
        max_samples: int = -1,
    ) -> None:
        self._made_in = os.getpid()
        self.order = _one_of(config, "order", ORDERS, None)
        self.placement = _one_of(config, "prompt_placement", PLACEMENTS, TRAINING)
        self.capability = _one_of(config, "capability", CAPABILITIES, None)
        _one_of(config, "image_sizes", IMAGE_SIZES, IMAGE_SIZES[0])
        self.max_dropped = float(config.get("max_dropped", MAX_DROPPED))
        self.pixels = {name: config[name] for name in ("min_pixels", "max_pixels") if config.get(name) is not None}
        super().__init__(data_files, tokenizer, config, processor, max_samples)

    def _download(self, use_origin_parquet: bool = False) -> None:
        super()._download(use_origin_parquet)
        self.data_files = [str(self._prepared(Path(file))) for file in self.data_files]

    def _prepared(self, file: Path) -> Path:
        """The file in verl's form: itself when it is, else one in the cache that is made once for what it holds."""
        if not file.exists():
            raise InputError(f"{file}: no such file")
        if file.suffix == ".parquet" and parquet.holds_verl_form(file):
            return file
        root = Path(self.config.get("image_root") or file.parent)
        stat = file.stat()
        made_of = repr(
            (os.path.realpath(file), stat.st_size, stat.st_mtime_ns, str(root), self.placement, self.capability)
        )
        folder = Path(self.cache_dir) / "capcurr"
        target = folder / f"{file.name.partition('.')[0]}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.parquet"
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self._convert(file, root, target)
        return target

    def _convert(self, file: Path, root: Path, target: Path) -> None:
        with BadRows("fail", target) as bad:
            reader = RowReader(file, bad)
            reader.images = ImageRoot(root)
            form = VerlForm(reader.images, self.placement)
            form.write(target, reader.converted(lambda row: form.record(row.with_capability(self.capability))))

    def _read_files_and_tokenize(self) -> None:
        super()._read_files_and_tokenize()
        self._capabilities: list[str] = list(self.dataframe["ability"])
        self._pass_rates: list[float | None] = [info.get("pass_rate") for info in self.dataframe["extra_info"]]

    def epoch_order(self, epoch: int) -> list[int]:
        """Asked of the rows to train on, not of those to validate on."""
        assert self.order is not None
        if needs_pass_rate(self.order) and None in self._pass_rates:
            index = self.dataframe[self._pass_rates.index(None)]["extra_info"]["index"]
            raise InputError(
                f"data.order={self.order} goes by pass_rate, which row {index!r} of {', '.join(self.data_files)} "
                "has not; measure it, or use another order"
            )
        seed = self.config.get("seed") or 0
        return epoch_order(self.order, self._capabilities, self._pass_rates, seed, epoch)

    def _build_messages(self, example: dict[str, Any], key: str) -> list[dict[str, Any]]:
        messages = super()._build_messages(example, key)
        for message in messages:
            parts = message["content"] if isinstance(message["content"], list) else []
            for part in parts:
                if part["type"] == "image":
                    part |= self.pixels
        return messages

    @classmethod
    def _process_multi_modal_info(
        cls, messages: list[dict[str, Any]], image_patch_size: Any, config: DictConfig
    ) -> tuple[Any, Any, Any]:
        if config.get("image_sizes", IMAGE_SIZES[0]) == IMAGE_SIZES[0]:
            return super()._process_multi_modal_info(messages, image_patch_size, config)
        parts = [part for message in messages if isinstance(message["content"], list) for part in message["content"]]
        images = [_bounded(part) for part in parts if part["type"] == "image"]
        return images or None, None, None

    # Dropped rows

    def maybe_filter_out_long_prompts(self, dataframe: datasets.Dataset | None = None) -> datasets.Dataset:
        """Without the rows that cannot be used, each named in a file; an error when they are too many."""
        assert dataframe is not None
        if not self.filter_overlong_prompts:
            return dataframe
        reasons = dataframe.map(
            self._reason,
            num_proc=self.num_workers if self.num_workers and self.num_workers > 1 else None,
            remove_columns=dataframe.column_names,
            desc="Looking at the prompts",
            load_from_cache_file=False,
        )["dropped"]
        dropped = [(dataframe[place]["extra_info"]["index"], reason) for place, reason in enumerate(reasons) if reason]
        if not dropped:
            return dataframe
        named = self._write_dropped(dropped)
        for index, reason in dropped[:LOGGED]:
            logger.warning("row %r is dropped: %s", index, reason)
        logger.warning("%d of %d rows are dropped; %s names each", len(dropped), len(reasons), named)
        if len(dropped) > self.max_dropped * len(reasons):
            index, reason = dropped[0]
            raise InputError(
                f"{', '.join(self.data_files)}: {len(dropped)} of {len(reasons)} rows cannot be used, the first of "
                f"them, {index!r}, because {reason}; mend the rows, or set data.max_dropped (now {self.max_dropped:g})"
            )
        return dataframe.select([place for place, reason in enumerate(reasons) if not reason])

    def _write_dropped(self, dropped: list[tuple[str, str]]) -> Path:
        files = "-".join(Path(file).stem for file in self.data_files)
        path = Path(self.cache_dir) / "capcurr" / f"{files[:150]}-dropped.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, ({"index": index, "reason": reason} for index, reason in dropped))
        return path

    def _reason(self, example: dict[str, Any]) -> dict[str, str]:
        if os.getpid() != self._made_in:
            torch.set_num_threads(1)  # a fork of a process whose torch has run on several threads would wait for them
        try:
            length = self._prompt_length(example)
        except Exception as error:  # noqa: BLE001  whatever an image library raises on a damaged file
            return {"dropped": f"its prompt cannot be made ({type(error).__name__}: {error})"}
        long = length > self.max_prompt_length
        return {"dropped": f"its prompt has {length} tokens, more than {self.max_prompt_length}" if long else ""}

    def _prompt_length(self, example: dict[str, Any]) -> int:
        messages = self._build_messages(dict(example), self.prompt_key)
        tokenizer: Any = self.tokenizer
        processor: Any = self.processor
        maker = processor or tokenizer
        text = maker.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **self.apply_chat_template_kwargs
        )
        if processor is None:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])
        images, videos, audios = self._process_multi_modal_info(messages, self.image_patch_size, self.config)
        if images is None and videos is None and audios is None:
            return len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        inputs = build_multimodal_processor_inputs(
            processor,
            text=[text],
            images=images,
            videos=videos,
            audio=audios,
            mm_processor_kwargs=self.mm_processor_kwargs,
        )
        return len(inputs["input_ids"][0])


def _bounded(part: dict[str, Any]) -> Image.Image:
    image = part["image"]
    opened = image if isinstance(image, Image.Image) else Image.open(image)
    return bounded(opened, part.get("min_pixels"), part.get("max_pixels"))


def _one_of(config: DictConfig, name: str, known: tuple[Any, ...], default: Any) -> Any:
    value = config.get(name) or default
    if value is not None and value not in known:
        raise InputError(f"data.{name}={value} is not known; use one of {', '.join(known)}")
    return value
