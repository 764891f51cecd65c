"""verl's rollout `transformers`: responses by transformers' `generate`, many at a time, tokens in and tokens out.

A server, which is a Ray actor, holds a copy of the model; an adapter in the training worker sends it new weights. With
`full_determinism` a run can be repeated: what is drawn for a request hangs on seed, step and request alone.
"""

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
import torch
from transformers import (
    AutoModelForImageTextToText,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import HFModelConfig
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput
from verl.workers.rollout.utils import get_vision_placeholder_token_ids

from capcurr_plugin.repeatable import filled, own_draws, width_of

GATHER_SECONDS = 0.02  # the requests of a step mostly arrive within it of each other


def _server_name(replica_rank: int) -> str:
    return f"capcurr_transformers_{replica_rank}"


class TransformersAdapter(BaseRollout):
    """In the training worker: sends the weights after each step."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, model_config, device_mesh)
        world = self.config.tensor_model_parallel_size * self.config.data_parallel_size
        rank = int(os.environ["RANK"])
        self._replica_rank, self._sends = rank // world, rank % world == 0

    async def resume(self, tags: list[str]) -> None:
        pass

    async def release(self) -> None:
        pass

    @torch.no_grad()
    async def update_weights(
        self,
        weights: Iterable[tuple[str, torch.Tensor]],
        wire_format: str = "named_tensors",
        global_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Every rank goes through the weights, because gathering them takes all; one sends."""
        assert wire_format == "named_tensors"
        limit = self.config.checkpoint_engine.update_weights_bucket_megabytes << 20
        bucket: dict[str, torch.Tensor] = {}
        for name, tensor in weights:
            if not self._sends:
                continue
            bucket[name] = tensor.detach().cpu().clone()
            if sum(held.nbytes for held in bucket.values()) >= limit:
                await self._server().load_weights.remote(bucket, None)
                bucket = {}
        if self._sends:
            await self._server().load_weights.remote(bucket, global_steps)

    def _server(self) -> Any:
        return ray.get_actor(_server_name(self._replica_rank))


@dataclass(frozen=True, eq=False)
class _Request:
    prompt: list[int]
    images: list[Any]
    temperature: float
    top_k: int
    top_p: float
    max_tokens: int
    seed: int
    future: "asyncio.Future[TokenOutput]"

    @property
    def sampling(self) -> tuple[float, int, float]:
        return self.temperature, self.top_k, self.top_p

    @property
    def width(self) -> int:
        return width_of(len(self.prompt))

    def can_share_a_batch_with(self, other: "_Request") -> bool:
        return (self.sampling, self.width) == (other.sampling, other.width)


class TransformersServer:
    def __init__(self, rollout_config: Any, model_config: Any, replica_rank: int) -> None:
        self.config: Any = omega_conf_to_dataclass(rollout_config)
        torch.set_num_threads(1)  # as Ray has it; with more, a row's last bits hang on the thread that it falls to
        described = omega_conf_to_dataclass(model_config, dataclass_type=HFModelConfig)
        self.processor, self.tokenizer = described.processor, described.tokenizer
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            described.local_path, dtype=torch.float32, trust_remote_code=described.trust_remote_code
        ).eval()
        eos = self.model.generation_config.eos_token_id
        self.ends = set(eos if isinstance(eos, list) else [eos])
        # As verl's vLLM server does: behind a sampled image token there is no image.
        self.never = get_vision_placeholder_token_ids(self.processor) or None
        self.global_steps = 0
        self.seed = self.config.seed + replica_rank
        self.asked: Counter[bytes] = Counter()  # how often the same was asked of these weights
        self.waiting: list[_Request] = []
        self.last_arrival = 0.0
        self.busy = asyncio.Lock()

    async def load_weights(self, weights: dict[str, torch.Tensor], global_steps: int | None) -> None:
        async with self.busy:
            unexpected = self.model.load_state_dict(weights, strict=False).unexpected_keys
            if unexpected:
                raise RuntimeError(f"the trainer's weights have names that the model has not: {unexpected[:5]}")
            if global_steps is not None:
                self.global_steps = global_steps
                self.asked.clear()

    async def generate(
        self,
        prompt_ids: list[int],
        sampling_params: dict[str, Any],
        request_id: str,
        image_data: list[Any] | None = None,
        **kwargs: Any,
    ) -> TokenOutput:
        loop = asyncio.get_running_loop()
        room = self.config.prompt_length + self.config.response_length - len(prompt_ids)
        prompt, images = list(prompt_ids), list(image_data or [])
        request = _Request(
            prompt=prompt,
            images=images,
            temperature=float(sampling_params.get("temperature", 1.0)),
            top_k=max(0, int(sampling_params.get("top_k", -1))),
            top_p=float(sampling_params.get("top_p", 1.0)),
            max_tokens=max(1, min(sampling_params.get("max_tokens") or self.config.response_length, room)),
            seed=self._seed_of([request_id, prompt, sampling_params], images),
            future=loop.create_future(),
        )
        self.waiting.append(request)
        self.last_arrival = loop.time()
        while (more := self.last_arrival + GATHER_SECONDS - loop.time()) > 0:
            await asyncio.sleep(more)
        async with self.busy:
            if not request.future.done():
                await self._answer_like(request)
        return await request.future

    def _seed_of(self, request: list[Any], images: list[Any]) -> int:
        """Of the samples to one row, which come in any order, each has another, and all of them always the same."""
        content = hashlib.blake2b(json.dumps(request, sort_keys=True, default=str).encode())
        for image in images:
            content.update(f"{image.mode} {image.size}".encode() + image.tobytes())
        name = content.digest()
        self.asked[name] += 1
        told = f"{self.seed} {self.global_steps} {self.asked[name]}"
        return int.from_bytes(hashlib.blake2b(told.encode() + name, digest_size=7).digest(), "big")

    async def _answer_like(self, first: _Request) -> None:
        """Answer the requests that wait and are of this one's kind, as one batch."""
        batch = [one for one in self.waiting if one.can_share_a_batch_with(first)][: self.config.max_num_seqs]
        if first not in batch:
            batch[-1] = first
        self.waiting = [one for one in self.waiting if one not in batch]
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(None, self._generate, batch)
        except Exception as error:  # noqa: BLE001  each asker has to hear of it
            for request in batch:
                request.future.set_exception(error)
            return
        for request, output in zip(batch, outputs, strict=True):
            request.future.set_result(output)

    @torch.no_grad()
    def _generate(self, batch: list[_Request]) -> list[TokenOutput]:
        temperature, rows = batch[0].temperature, filled(batch)
        inputs = self._inputs(rows)
        out = self.model.generate(
            **inputs,
            do_sample=False,
            logits_processor=_sampling(rows) if temperature > 0 else None,
            max_new_tokens=max(request.max_tokens for request in batch),
            suppress_tokens=self.never,
            pad_token_id=self.tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = out.sequences[:, inputs["input_ids"].shape[1] :]
        logits = torch.stack(out.logits, dim=1).float() / (temperature or 1.0)
        log_probs = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        return [self._output(request, tokens[n].tolist(), log_probs[n].tolist()) for n, request in enumerate(batch)]

    def _inputs(self, batch: list[_Request]) -> dict[str, torch.Tensor]:
        """Prompts padded on the left, and the images of all of them in a row."""
        width = batch[0].width
        ids = torch.full((len(batch), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for place, request in enumerate(batch):
            ids[place, width - len(request.prompt) :] = torch.tensor(request.prompt)
            mask[place, width - len(request.prompt) :] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        images = [image for request in batch for image in request.images]
        if images:
            pixels = self.processor.image_processor(images=images, return_tensors="pt")
            inputs |= {name: pixels[name] for name in ("pixel_values", "image_grid_thw") if name in pixels}
            if "image_grid_thw" in pixels:
                inputs["mm_token_type_ids"] = (ids == self.processor.image_token_id).long()
        return inputs

    def _output(self, request: _Request, tokens: list[int], log_probs: list[float]) -> TokenOutput:
        end = next((place + 1 for place, token in enumerate(tokens) if token in self.ends), len(tokens))
        end = min(end, request.max_tokens)
        return TokenOutput(
            token_ids=tokens[:end],
            log_probs=log_probs[:end],
            stop_reason="completed" if tokens[end - 1] in self.ends else "length",
            extra_fields={"global_steps": self.global_steps},
        )

    async def _nothing(self, *_: Any, **__: Any) -> None:
        """Memory is not scarce here, and no request outlives its step."""

    wake_up = sleep = clear_kv_cache = release_kv_cache = resume_kv_cache = _nothing
    abort_all_requests = resume_generation = start_profile = stop_profile = _nothing


def _sampling(rows: list[_Request]) -> LogitsProcessorList:
    temperature, top_k, top_p = rows[0].sampling
    steps: list[Any] = [TemperatureLogitsWarper(temperature)]
    steps += [TopKLogitsWarper(top_k)] if top_k else []
    steps += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    return LogitsProcessorList([*steps, own_draws([row.seed for row in rows], [1.0] * len(rows))])


class TransformersReplica(RolloutReplica):
    async def launch_servers(self) -> None:
        name = _server_name(self.replica_rank)
        server: Any = ray.remote(TransformersServer).options(
            name=name, num_cpus=0, max_concurrency=self.max_concurrency
        )
        self.servers = [server.remote(self.config, self.model_config, self.replica_rank)]
        self._server_handle, self._server_address = self.servers[0], name
        await self.servers[0].sleep.remote()  # it answers when it is up
