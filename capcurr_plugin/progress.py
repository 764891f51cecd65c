"""The bar of a long job, on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar() -> Iterator[Callable[[float], object]]:
    """A bar over the share of the input that is read."""
    from tqdm import tqdm

    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed} < {remaining}", disable=None, delay=1) as bar:
        yield lambda share: bar.update(100 * share - bar.n)
