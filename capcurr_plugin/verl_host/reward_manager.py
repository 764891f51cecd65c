"""verl's reward manager `capcurr`: `reward.reward_manager.name=capcurr`. It scores the responses that wait together as
one batch, so that what takes long runs on all cores of the node and repeats are judged once."""

import asyncio
import logging
from typing import Any

from omegaconf import DictConfig
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RawRewardFn, RewardManagerBase

from capcurr_plugin.reward import compute_score_batch, timed_out_verdicts, warm_up

OWN_FUNCTION = "pkg://capcurr_plugin.reward"
SETTINGS = ("format_weight", "grader")

logger = logging.getLogger(__name__)


@register("capcurr")
class CapcurrRewardManager(RewardManagerBase):
    def __init__(
        self,
        config: DictConfig,
        tokenizer: Any,
        compute_score: RawRewardFn = None,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        super().__init__(config, tokenizer, compute_score)
        self._settings = _settings(config)
        self._tokenizer = tokenizer
        self._waiting: list[tuple[Any, asyncio.Future[dict[str, Any]]]] = []
        self._batches: set[asyncio.Task[None]] = set()  # asyncio itself holds tasks only weakly
        warm_up()

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Of several outputs of one prompt, the last counts, as in verl's own managers."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((data[len(data) - 1], future))
        if len(self._waiting) == 1:
            batch = asyncio.create_task(self._score_waiting())
            self._batches.add(batch)
            batch.add_done_callback(self._batches.discard)
        score = await future
        return {"reward_score": score["score"], "reward_extra_info": score}

    async def _score_waiting(self) -> None:
        await asyncio.sleep(0)  # let all that is ready now come in
        batch, self._waiting = self._waiting, []
        try:
            scores = await asyncio.get_running_loop().run_in_executor(None, self._score, [item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  whoever waits has to hear of it
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), score in zip(batch, scores, strict=True):
            if not future.done():  # its asker may have gone
                future.set_result(score)

    def _score(self, items: list[Any]) -> list[dict[str, Any]]:
        columns = [item.non_tensor_batch for item in items]
        scores = compute_score_batch(
            [column["data_source"] for column in columns],
            self._tokenizer.batch_decode([_response(item) for item in items], skip_special_tokens=True),
            [column["reward_model"]["ground_truth"] for column in columns],
            [column.get("extra_info") for column in columns],
            **self._settings,
        )
        late = sum(score["timed_out"] for score in scores)
        if late:
            logger.warning("capcurr reward: %d of %d timed out, %d so far", late, len(scores), timed_out_verdicts())
        return scores


def _response(item: Any) -> Any:
    ids = item.batch["responses"]
    return ids[: item.batch["attention_mask"][-ids.shape[-1] :].sum()]


def _settings(config: DictConfig) -> dict[str, Any]:
    function = config.reward.get("custom_reward_function") or {}
    if function.get("path") not in (None, OWN_FUNCTION):
        raise ValueError(
            f"reward.reward_manager.name=capcurr scores by capcurr_plugin.reward, but "
            f"reward.custom_reward_function.path is {function.get('path')}; name another reward manager for it"
        )
    settings = {str(name): value for name, value in (function.get("reward_kwargs") or {}).items()}
    unknown = settings.keys() - set(SETTINGS)
    if unknown:
        raise ValueError(
            f"reward.custom_reward_function.reward_kwargs: {', '.join(sorted(unknown))} not known; "
            f"there are {', '.join(SETTINGS)}"
        )
    return settings
