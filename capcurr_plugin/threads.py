"""Work that waits for others, many pieces at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

_END = object()


def in_threads(work: Callable[[Item], Done], items: Iterable[Item], parallel: int) -> Iterator[Done]:
    """What becomes of each item, as it comes. Items are drawn as threads take them; the first error ends it all.
    Threads that still wait then are left behind, and end with the process."""
    waiting: queue.Queue[Any] = queue.Queue(parallel)
    done: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()
    stopped = threading.Event()

    def run() -> None:
        while (item := waiting.get()) is not _END and not stopped.is_set():
            try:
                done.put((work(item), None))
            except BaseException as error:  # noqa: BLE001  raised again where the results are taken
                done.put((None, error))

    threads = under_way = 0
    try:
        for item in items:
            if threads < parallel and under_way >= threads:
                threading.Thread(target=run, daemon=True).start()
                threads += 1
            waiting.put(item)
            under_way += 1
            while under_way >= 2 * parallel or not done.empty():
                under_way -= 1
                yield _taken(done.get())
        for _ in range(under_way):
            yield _taken(done.get())
    finally:
        stopped.set()
        for _ in range(threads):
            try:
                waiting.put_nowait(_END)
            except queue.Full:
                break


def _taken(one: tuple[Any, BaseException | None]) -> Any:
    result, error = one
    if error is not None:
        raise error
    return result
