"""Work on many items, one after the other here or as Ray Data jobs over a cluster; the results are the same."""

import argparse
import contextlib
import importlib
import itertools
import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

from capcurr_plugin.errors import InputError

CONNECT_SECONDS = 10
IMAGES_AT_ONCE, SCORES_AT_ONCE = 32, 256  # rows whose images, or answers, are one piece of the work
PIECES = 512  # of the work are one Ray Data job, so that all of it need not be in memory at once

Item = TypeVar("Item")
Result = TypeVar("Result")


class Mapped(Protocol):
    """Results in the order of the items. `at_once` items are one piece of a cluster's work."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> Iterator[Result]: ...


def here(function: Callable[[Item], Result], items: Iterable[Item], at_once: int = 1) -> Iterator[Result]:
    return map(function, items)


def on_cluster(function: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> Iterator[Result]:
    """Functions and items travel as pickles, so that no value changes its type on the way, as it may in a column."""
    import pyarrow as pa

    ray = _ray()
    waiting, work = iter(items), partial(_worked, function)
    while pieces := list(itertools.islice(_pieces(waiting, at_once), PIECES)):
        data = ray.data.from_arrow([pa.table({"item": pa.array(piece, pa.large_binary())}) for piece in pieces])
        done = data.map_batches(work, batch_size=None, batch_format="pyarrow")
        for batch in done.iter_batches(batch_size=None, batch_format="pyarrow"):
            for result in batch.column("result"):
                yield pickle.loads(result.as_py())


def _pieces(items: Iterator[Any], at_once: int) -> Iterator[list[bytes]]:
    while piece := [pickle.dumps(item) for item in itertools.islice(items, at_once)]:
        yield piece


def _worked(function: Callable[[Any], Any], batch: Any) -> Any:
    import pyarrow as pa

    results = [pickle.dumps(function(pickle.loads(item.as_py()))) for item in batch.column("item")]
    return pa.table({"result": pa.array(results, pa.large_binary())})


def add_ray_arguments(parser: argparse.ArgumentParser, work: str) -> None:
    group = parser.add_argument_group("Ray")
    group.add_argument("--ray", action="store_true", help=f"{work} as Ray Data jobs over a cluster")
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of the cluster (default: $RAY_ADDRESS, the one that runs on this machine, or else one of its own)",
    )


@contextlib.contextmanager
def mapped_by(args: argparse.Namespace) -> Iterator[Mapped | None]:
    """None without --ray."""
    if not args.ray:
        if args.ray_address:
            raise InputError("--ray-address goes with --ray")
        yield None
        return
    with _connected(args.ray_address):
        yield on_cluster


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    ray = _ray()
    _check_address(address or os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(address, log_to_driver=False, logging_level="error", include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--ray: no cluster at {address or 'the default address'} ({_first_line(error)})") from None
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells every start and end
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--ray: no cluster at {address} ({error})") from None


def _ray() -> Any:
    """Core is checked and tested without Ray, which verl brings."""
    try:
        importlib.import_module("ray.data")
    except ImportError as error:
        raise InputError(f"--ray: Ray cannot be imported ({error}); it comes with verl") from None
    return importlib.import_module("ray")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
