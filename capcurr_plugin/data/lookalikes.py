"""Which images are the same picture, though stored anew, resized, cropped a little or made brighter.

A picture's fingerprint holds two hashes of 256 bits and a small copy in colour. Two pictures are near when both hashes
differ in few bits, and no part of either copy is missing in the other: the first hash tells shapes, the second edges,
the copy colours and small parts, which charts and diagrams of one style differ in. All of it is whole numbers, so that
each machine finds the same. `benchmarks/overlap.py` measures what is found and what is mistaken.
"""

import functools
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcurr_plugin.database import Database, cache_folder
from capcurr_plugin.images import BadImage, open_image, read_image
from capcurr_plugin.ray_jobs import IMAGES_AT_ONCE, Mapped
from capcurr_plugin.reward.workers import cores

if TYPE_CHECKING:
    import numpy as np

BITS = 256  # of each hash
DISTANCE = 40  # bits in which each hash of near pictures may differ
COLOUR_TOLERANCE = 0.3  # of a picture's contrast, that the copies of near pictures may differ in the mean

SIDE = 128  # of the square that everything is made from
WAVES = 16  # of the cosine transform that are kept in each direction
COPY = 24  # side of the copy in colour
BLANK = 8  # levels of grey; with less between the darkest and the brightest, there is nothing to tell
FLAT = 2  # levels of grey; a smaller step is noise
MIN_CONTRAST = 4.0  # levels of grey, in a copy of very little ink

HASH_BYTES = 2 * BITS // 8
COPY_BYTES = COPY * COPY * 3
CONTRAST = 64  # whole numbers to a contrast
NEAREST = 100  # that a picture matches at most, beside itself; more have its style, and are no news
ROWS_AT_ONCE, ROWS_AT_ONCE_ON_CLUSTER = 256, 4096  # whose images are fingerprinted together
BATCH, BLOCK = 512, 1024  # pictures that are compared at once with so many

Image = tuple[Path | bytes, str]  # a file or its content, and what it is called

# The form of what is stored is part of the name: change it with anything above that changes a fingerprint.
_TABLES = "CREATE TABLE IF NOT EXISTS fingerprints_1 (file BLOB PRIMARY KEY, pixels BLOB, looks BLOB)"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    pixels: bytes  # their digest
    looks: bytes  # both hashes and the copy; of a picture of one colour nothing

    @property
    def blank(self) -> bool:
        return not self.looks


@dataclass(frozen=True, slots=True)
class Match:
    number: int  # of the picture that is matched, in the order in which they were added
    distance: int  # the larger of the two hashes'
    exact: bool  # all pixels are the same


def fingerprint_of(image: Any) -> Fingerprint:
    pixels = hashlib.sha256(b"%d %d " % image.size)
    pixels.update(image.tobytes())
    return Fingerprint(pixels.digest(), _looks(image))


def _looks(image: Any) -> bytes:
    import numpy as np
    from PIL import Image

    smooth = Image.Resampling.BILINEAR
    square = image.resize((SIDE, SIDE), smooth, reducing_gap=2.0)
    grey = square.convert("L")
    shape = np.asarray(grey.resize((64, 64), smooth), dtype=np.int64)
    if shape.max() - shape.min() < BLANK:
        return b""
    waves = (_cosines() @ shape @ _cosines().T).ravel()
    # Half of the waves are above the median of those that carry shape; the first one is the brightness.
    shapes = waves > np.median(waves[1:])
    steps = np.diff(np.asarray(grey.resize((WAVES + 1, WAVES), smooth), dtype=np.int64)) > FLAT
    copy = np.asarray(square.resize((COPY, COPY), smooth))
    return np.packbits(shapes).tobytes() + np.packbits(steps).tobytes() + copy.tobytes()


@functools.cache
def _cosines() -> "np.ndarray":
    import numpy as np

    waves, places = np.arange(WAVES)[:, None], np.arange(64)[None]
    return np.rint(1024 * np.cos(np.pi * (2 * places + 1) * waves / 128)).astype(np.int64)


class Fingerprinter:
    """Takes fingerprints on all cores or on a cluster, once for each content of a file: they are kept in the user's
    cache."""

    def __init__(self, path: Path | None = None, cluster: Mapped | None = None) -> None:
        self._cluster = cluster
        self._kept = Database(path or cache_folder() / "fingerprints.sqlite", _TABLES, "fingerprints of images")
        # Decoding and resizing, where the time goes, hold no lock of the interpreter's.
        self._threads = ThreadPoolExecutor(cores())

    def __enter__(self) -> "Fingerprinter":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    @property
    def rows_at_once(self) -> int:
        """A cluster wants more to do at a time."""
        return ROWS_AT_ONCE if self._cluster is None else ROWS_AT_ONCE_ON_CLUSTER

    def all(self, images: Sequence[Image]) -> list[Fingerprint | str]:
        """Of each image; or the reason why there is none."""
        known = list(self._threads.map(self._known, images))
        new = [image for image, one in zip(images, known, strict=True) if one is None]
        made = list(self._cluster(_made, new, IMAGES_AT_ONCE) if self._cluster else self._threads.map(_made, new))
        self._keep([(file, one) for file, one in made if isinstance(one, Fingerprint)])
        rest = iter(made)
        return [next(rest)[1] if one is None else one for one in known]

    def _keep(self, made: Sequence[tuple[bytes, Fingerprint]]) -> None:
        if made:
            rows = [(file, one.pixels, one.looks) for file, one in made]
            with self._kept.transaction() as database:
                database.executemany("INSERT OR REPLACE INTO fingerprints_1 VALUES (?, ?, ?)", rows)

    def _known(self, image: Image) -> Fingerprint | str | None:
        try:
            file = hashlib.sha256(read_image(*image)).digest()
        except BadImage as error:
            return str(error)
        with self._kept.transaction() as database:
            row = database.execute("SELECT pixels, looks FROM fingerprints_1 WHERE file = ?", (file,)).fetchone()
        return Fingerprint(*row) if row and len(row[1]) in (0, HASH_BYTES + COPY_BYTES) else None


def _made(image: Image) -> tuple[bytes, Fingerprint | str]:
    """And the digest of the file's content."""
    source, name = image
    try:
        content = read_image(source, name)
        return hashlib.sha256(content).digest(), fingerprint_of(open_image(content, name, SIDE))
    except BadImage as error:
        return b"", str(error)


class Lookalikes:
    """Pictures, to find those that others match. A blank one matches none, not even itself."""

    def __init__(self, distance: int = DISTANCE) -> None:
        self.distance = distance
        self._numbers: dict[bytes, int] = {}  # by pixels
        self._looks: list[bytes] = []

    def add(self, picture: Fingerprint) -> int:
        """The number of a picture that is not blank; one of the same pixels has the same one."""
        number = self._numbers.setdefault(picture.pixels, len(self._looks))
        if number == len(self._looks):
            self._looks.append(picture.looks)
        return number

    def matches(self, pictures: Sequence[Fingerprint]) -> list[list[Match]]:
        """Of each picture: the same one, and the NEAREST near ones, in the order of the numbers."""
        found: list[dict[int, Match]] = [{} for _ in pictures]
        shown = [i for i, picture in enumerate(pictures) if not picture.blank]
        for first in range(0, len(shown), BATCH):
            part = shown[first : first + BATCH]
            for place, number, distance in self._near([pictures[i].looks for i in part]):
                found[part[place]][number] = Match(number, distance, exact=False)
        for i in shown:
            number = self._numbers.get(pictures[i].pixels)
            if number is not None:
                found[i][number] = Match(number, 0, exact=True)
        return [[matches[number] for number in sorted(matches)] for matches in found]

    def _near(self, looks: list[bytes]) -> list[tuple[int, int, int]]:
        """Which of these are near which number, and how near."""
        import numpy as np

        mine = _array(looks)
        signs = _signs(mine)
        pairs = np.empty((0, 3), dtype=np.int64)
        for first in range(0, len(self._looks), BLOCK):
            theirs = _array(self._looks[first : first + BLOCK])
            # A product of signs tells how many bits differ, exactly: floats hold whole numbers of this size.
            apart = (BITS - signs @ _signs(theirs).T) / 2
            places, others = np.nonzero(apart <= self.distance)
            shapes = apart[places, others].astype(np.int64)
            distances = np.maximum(shapes, _steps_apart(mine[places, :HASH_BYTES], theirs[others, :HASH_BYTES]))
            near = distances <= self.distance
            block = np.stack([places[near], distances[near], first + others[near]], axis=1)
            pairs = _nearest(np.concatenate([pairs, block]))
        theirs = _array([self._looks[number] for number in pairs[:, 2]])
        same = _same_copies(mine[pairs[:, 0], HASH_BYTES:], theirs[:, HASH_BYTES:])
        return [(place, number, distance) for place, distance, number in pairs[same].tolist()]


def _array(looks: Sequence[bytes]) -> "np.ndarray":
    import numpy as np

    return np.frombuffer(b"".join(looks), dtype=np.uint8).reshape(len(looks), HASH_BYTES + COPY_BYTES)


def _signs(looks: "np.ndarray") -> "np.ndarray":
    """1 and -1 for the bits of the first hash."""
    import numpy as np

    return np.unpackbits(looks[:, : HASH_BYTES // 2], axis=1).astype(np.float32) * 2 - 1


def _steps_apart(mine: "np.ndarray", theirs: "np.ndarray") -> "np.ndarray":
    """How many bits of the second hashes differ, pair by pair."""
    import numpy as np

    ones = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
    half = slice(HASH_BYTES // 2, HASH_BYTES)
    return ones[mine[:, half] ^ theirs[:, half]].sum(axis=1, dtype=np.int64)


def _nearest(pairs: "np.ndarray") -> "np.ndarray":
    """Of pairs (place, distance, number): the NEAREST of each place."""
    import numpy as np

    pairs = pairs[np.lexsort(pairs.T[::-1])]
    starts = np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[np.arange(len(pairs)) - starts < NEAREST]


def _same_copies(mine: "np.ndarray", theirs: "np.ndarray") -> "np.ndarray":
    """Whether all of each copy is in the other one, pair by pair: in the same place, or in one beside it."""
    import numpy as np

    same = np.empty(len(mine), dtype=bool)
    for first in range(0, len(mine), BATCH):
        part = slice(first, first + BATCH)
        one, other = _contrasts(mine[part]), _contrasts(theirs[part])
        missing = np.maximum(_missing(one, other), _missing(other, one)).max(axis=3).astype(np.int64)
        same[part] = (missing**2).sum(axis=(1, 2)) <= (COPY * COPY) * (COLOUR_TOLERANCE * CONTRAST) ** 2
    return same


def _contrasts(copies: "np.ndarray") -> "np.ndarray":
    """Colours as distances from the mean brightness, in parts of the contrast: a brighter picture has the same."""
    import numpy as np

    colours = copies.reshape(-1, COPY, COPY, 3).astype(np.int64)
    grey = colours @ np.array([299, 587, 114])
    mean = grey.mean(axis=(1, 2)) / 1000
    contrast = np.maximum(np.sqrt((grey**2).mean(axis=(1, 2)) / 1e6 - mean**2), MIN_CONTRAST)
    scaled = (colours - mean[:, None, None, None]) * (CONTRAST / contrast)[:, None, None, None]
    return np.rint(scaled).astype(np.int32)


def _missing(copies: "np.ndarray", others: "np.ndarray") -> "np.ndarray":
    """How far each colour is from those of the other copy around its place."""
    import numpy as np

    padded = np.pad(others, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    around = [padded[:, y : y + COPY, x : x + COPY] for y in range(3) for x in range(3)]
    return np.maximum(np.maximum(copies - np.maximum.reduce(around), np.minimum.reduce(around) - copies), 0)
