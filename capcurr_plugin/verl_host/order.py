"""The order in which training sees the rows of a curriculum, the same on every machine, and after a resume."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler

from capcurr_plugin.curriculum import Order, sort_key


def epoch_order(
    order: Order, capabilities: Sequence[str], pass_rates: Sequence[float | None], seed: int, epoch: int
) -> list[int]:
    """The rows of one epoch; each epoch shuffles what the order leaves open."""
    places = list(range(len(capabilities)))
    random.Random(f"{seed} {epoch}").shuffle(places)
    return sorted(places, key=lambda place: sort_key(order, capabilities[place], pass_rates[place]))


class OrderSampler(Sampler[int]):
    """Goes through a data set that has an `epoch_order(epoch)`; each pass that was finished is followed by the next
    epoch."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.epoch = 0
        dataset.epoch_order(0)  # rows that cannot be ordered are told before a GPU is used

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        return _Pass(self, self.epoch)


class _Pass(Iterator[int]):
    """One epoch; what verl's data loader saves of it is enough to go on at the same row."""

    def __init__(self, sampler: OrderSampler, epoch: int) -> None:
        self.sampler = sampler
        self._start(epoch, 0)

    def _start(self, epoch: int, yielded: int) -> None:
        self.epoch, self.yielded = epoch, yielded
        self.places = self.sampler.dataset.epoch_order(epoch)

    def __next__(self) -> int:
        if self.yielded == len(self.places):
            self.sampler.epoch = self.epoch + 1  # not earlier: loaders with workers begin passes that they never take
            raise StopIteration
        self.yielded += 1
        return self.places[self.yielded - 1]

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "yielded": self.yielded}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._start(state_dict["epoch"], state_dict["yielded"])
