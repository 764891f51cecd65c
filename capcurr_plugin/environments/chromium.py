"""The Chromium in which tests look at pages: the system's own, since a browser does not come from PyPI."""

from __future__ import annotations  # an older python3 may run this, to find a newer one

import os
import shutil
from pathlib import Path

from capcurr_plugin.environments import EnvironmentFailed, _lock, _run, root

VARIABLE = "CAPCURR_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "fonts-dejavu-core")  # without recommended packages it has no font
MISSING = f"no Chromium on the PATH: install one (apt-get install chromium), or name it in ${VARIABLE}"


def find_chromium() -> Path | None:
    """The one that $CAPCURR_CHROMIUM names, else the first on the PATH."""
    named = os.environ.get(VARIABLE)
    if named:
        if shutil.which(named) is None:
            raise EnvironmentFailed(f"${VARIABLE} names {named}, which is no program")
        return Path(named)
    return next((Path(found) for found in map(shutil.which, NAMES) if found), None)


def ensure_chromium() -> Path:
    """The browser; where nothing stands in the way, as in a fresh container, it is installed first."""
    found = find_chromium()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with _lock(root() / "chromium"):
            if find_chromium() is None:
                _install()
        found = find_chromium()
    if found is None:
        raise EnvironmentFailed(MISSING)
    return found


def _install() -> None:
    print(f"installing {' and '.join(PACKAGES)} (once)", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "--quiet=2", "--option", "Acquire::Retries=3"]
    _run([*apt, "update"], "update the list of Debian packages", quiet)
    _run([*apt, "install", "--yes", "--no-install-recommends", *PACKAGES], "install Chromium", quiet)
