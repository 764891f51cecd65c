"""Files and folders that are there whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from capcurr_plugin.errors import InputError, JobError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` when the block ends well, and vanishes when it does not."""
    check_place(path)
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        with os.fdopen(handle, "wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(part).chmod(0o666 & ~_umask())  # mkstemp makes private files
        Path(part).replace(path)
    except OSError as error:  # no space, a quota, a broken disk
        Path(part).unlink(missing_ok=True)
        raise JobError(f"{path}: not written ({error.strerror or error}); what was there before is unchanged") from None
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def check_place(path: Path) -> None:
    """A file can be there."""
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of `path`, with all that was in it, when the block ends well."""
    try:
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part"))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    new, old = part / "new", part / "old"
    try:
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        new.rename(path)
    except OSError as error:
        raise JobError(f"{path}: not written ({error.strerror or error}); what was there before is unchanged") from None
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(part)


def remove_parts(path: Path) -> None:
    """What killed processes have left of a folder that nobody else writes now."""
    for part in path.parent.glob(f".{path.name[:40]}.*.part"):
        shutil.rmtree(part)


def _umask() -> int:
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return mask
