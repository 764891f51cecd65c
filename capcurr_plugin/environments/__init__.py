"""Environments for the hosts on this machine's CPU, for tests and the demo: real verl, real VLMEvalKit, pinned.

They cannot share one: verl's hydra needs omegaconf<2.4, ms-vlmeval omegaconf>=2.4. Standard library only, because
`python -m capcurr_plugin.environments` runs before anything is installed.
"""

from __future__ import annotations  # an older python3 may run this, to find a newer one

import ast
import contextlib
import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]

TORCH, TORCHVISION = "torch==2.13.0", "torchvision==0.28.0"


class EnvironmentFailed(Exception):
    """An environment could not be made; the message says at which step and what that step printed."""


@dataclass(frozen=True)
class Environment:
    """What an environment holds. `lock` pins all of it, for every Python of the range."""

    name: str
    pythons: tuple[tuple[int, int], tuple[int, int]]  # first and last minor version
    requirements: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)  # of the plugin
    needs_torch: bool = False

    @property
    def lock(self) -> Path:
        return HERE / f"{self.name}.lock"


TEST_TOOLS = ["hypothesis>=6.100", "pytest>=8", "pytest-timeout>=2.2"]

ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment("core", ((3, 10), (3, 13)), extras=["data", "dev", "judge"]),
        Environment(
            "verl",
            ((3, 10), (3, 12)),  # verl 0.9.1 refuses 3.13
            requirements=["verl==0.9.1", "TransferQueue>=0.1.10", *TEST_TOOLS],
            extras=["verl"],
            needs_torch=True,
        ),
        Environment(
            "vlmeval",
            ((3, 10), (3, 13)),
            requirements=["ms-vlmeval==0.0.20", "pandas<3", *TEST_TOOLS],  # pandas 3 breaks its WeMath
            extras=["vlmeval", "judge", "serve"],
            needs_torch=True,
        ),
    )
}


def root() -> Path:
    if not (CHECKOUT / "pyproject.toml").exists():
        raise EnvironmentFailed("environments are made from a checkout of the project; this is an installed copy")
    return CHECKOUT / ".envs"


def ensure(name: str) -> Path:
    """The environment's Python; the environment is made when it is missing or its definition has changed."""
    environment = ENVIRONMENTS[name]
    folder = root() / name
    with _lock(folder):
        base = find_python(environment)
        stamp = _stamp(environment, base)
        stamp_file = folder / ".capcurr-stamp"
        if not (stamp_file.exists() and stamp_file.read_text() == stamp):
            print(f"making the environment {name} in {folder} (once; the download is cached)", flush=True)
            start = time.monotonic()
            build(environment, folder, plugin=CHECKOUT, base=base)
            stamp_file.write_text(stamp)
            print(f"made the environment {name} in {time.monotonic() - start:.0f} s", flush=True)
    return folder / "bin" / "python"


def build(environment: Environment, folder: Path, *, plugin: Path | None, base: Path | None = None) -> None:
    """Make the environment anew: the host from its lock, then the plugin, editable, unless it is left out."""
    base = base or find_python(environment)
    _uv("venv", "--quiet", "--clear", "--python", str(base), str(folder))
    install = ["pip", "install", "--quiet", "--python", str(folder), "--constraint", str(environment.lock)]
    if environment.needs_torch:
        _install_torch(install, folder, base)
    if environment.requirements:
        _uv(*install, *environment.requirements)
    if plugin is not None:
        _uv(*install, "--editable", f"{plugin}[{','.join(environment.extras)}]")


def _install_torch(install: list[str], folder: Path, base: Path) -> None:
    """CPU builds of torch and torchvision: a local wheel when pip is told of one, else PyTorch's own index."""
    links = _local_cpu_torch(base)
    if links is None:
        _uv(*install, "--torch-backend", "cpu", TORCH, TORCHVISION)
        return
    _uv(*install, "--find-links", str(links), TORCH)
    _uv(*install, "--no-deps", TORCHVISION)  # PyPI's build, for CUDA: it needs the remedy
    site = next(folder.glob("lib/python*/site-packages"))
    shutil.copy(HERE / "torchvision_on_cpu.py", site / "torchvision_on_cpu.py")
    (site / "torchvision_on_cpu.pth").write_text("import torchvision_on_cpu; torchvision_on_cpu.install()\n")


def _local_cpu_torch(base: Path) -> Path | None:
    """The folder of pip's `find-links` that holds a CPU wheel of torch for this Python, if any."""
    version = _python_version(base)
    if version is None:
        return None
    tag = f"cp{version[0]}{version[1]}"
    wheel = f"{TORCH.replace('==', '-')}+cpu-{tag}-{tag}-*{platform.machine()}.whl"
    for place in _pip_settings().get("find-links", "").split():
        folder = Path(place.removeprefix("file://"))
        if any(folder.glob(wheel)):
            return folder
    return None


@functools.cache
def _pip_settings() -> dict[str, str]:
    """pip's settings of this machine by their plain names; of several places the environment's wins."""
    lines = _run([str(uv().with_name("pip")), "config", "list"], "read pip's settings").splitlines()
    settings: dict[str, str] = {}
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        match = re.fullmatch(r"(?:global|install|:env:)\.([a-z-]+)=('.*'|\".*\")", line.strip())
        if match:
            settings[match[1]] = ast.literal_eval(match[2])  # pip prints values as Python's repr
    return settings


@functools.cache
def uv() -> Path:
    """uv in an environment of its own: it makes the others from its cache in seconds, where pip takes minutes."""
    folder = root() / "uv"
    executable = folder / "bin" / "uv"
    if not executable.exists():
        root().mkdir(parents=True, exist_ok=True)
        _run([str(_base_python()), "-m", "venv", "--clear", str(folder)], "make a virtual environment")
        _run([str(folder / "bin" / "pip"), "install", "--quiet", "uv>=0.5"], "install uv")
    return executable


def _uv(*arguments: str) -> str:
    settings = _pip_settings()
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    if "index-url" in settings:  # a mirror that pip uses is meant for uv as well
        environment.setdefault("UV_DEFAULT_INDEX", settings["index-url"])
    if "cert" in settings:
        environment.setdefault("SSL_CERT_FILE", settings["cert"])
    return _run([str(uv()), *arguments], f"uv {' '.join(arguments[:2])}", environment)


def _run(command: list[str], doing: str, environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EnvironmentFailed(f"could not {doing}: {error}") from None
    if done.returncode:
        raise EnvironmentFailed(
            f"could not {doing} (exit code {done.returncode}):\n{(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


def find_python(environment: Environment) -> Path:
    """This Python when it fits, else the newest on the PATH that does."""
    first, last = environment.pythons
    if first <= sys.version_info[:2] <= last:
        return _base_python()
    for minor in range(last[1], first[1] - 1, -1):
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            found = shutil.which(f"python3.{minor}", path=folder)
            if found and _python_version(Path(found)) == (3, minor):
                return Path(found)
    raise EnvironmentFailed(
        f"the environment {environment.name!r} needs Python {first[0]}.{first[1]} to {last[0]}.{last[1]}; "
        f"this is {platform.python_version()} and none is on the PATH"
    )


def _base_python() -> Path:
    """The Python under this one: the same whether or not an environment of ours is running."""
    return Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"


def _python_version(python: Path) -> tuple[int, int] | None:
    """None when it does not run, such as a pyenv shim for a version that is not installed."""
    command = [str(python), "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.fullmatch(r"(\d+) (\d+)", done.stdout.strip())
    return (int(match[1]), int(match[2])) if match and done.returncode == 0 else None


def _stamp(environment: Environment, base: Path) -> str:
    """Changes whenever the environment has to be made anew. The plugin's code is not in it: the install is editable."""
    digest = hashlib.sha256(repr((environment, str(base), str(_local_cpu_torch(base)))).encode())
    copied = [HERE / "torchvision_on_cpu.py", *sorted((CHECKOUT / "boot").glob("_capcurr_boot.*"))]
    for file in [environment.lock, *copied]:
        digest.update(file.read_bytes())
    for table in re.split(r"(?m)^(?=\[)", (CHECKOUT / "pyproject.toml").read_text()):
        if not table.startswith(("[tool.pytest", "[tool.ruff", "[tool.pyright")):  # nothing is built from these
            digest.update(table.encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Two commands that need the same environment make it once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def renew_lock(environment: Environment) -> None:
    """Resolve the environment anew, for every Python of its range, and write the versions to its lock.

    The host is resolved alone, as its users have it; the plugin's extras must then fit to what is there.
    """
    torch = [TORCH, TORCHVISION] if environment.needs_torch else []
    host = _compile(environment, [*torch, *environment.requirements])
    plugin = f"capcurr-plugin[{','.join(environment.extras)}] @ {CHECKOUT.as_uri()}"
    lines = _compile(environment, [*torch, *environment.requirements, plugin], constraints=host)
    # A CPU build needs none of these, and the lock should not name versions that nobody runs.
    unused = re.compile(r"(nvidia-|cuda-|triton\b|torch(vision)?==)")
    environment.lock.write_text("\n".join(sorted([*(x for x in lines if not unused.match(x)), *torch])) + "\n")
    print(f"wrote {environment.lock}")


def _compile(environment: Environment, wanted: list[str], constraints: list[str] | None = None) -> list[str]:
    root().mkdir(parents=True, exist_ok=True)
    source, bound = root() / f"{environment.name}.in", root() / f"{environment.name}.bound"
    source.write_text("\n".join(wanted))
    bound.write_text("\n".join(constraints or []))
    first = ".".join(map(str, environment.pythons[0]))
    text = _uv(
        *("pip", "compile", "--quiet", "--universal", "--python-version", first, "--no-header", "--no-annotate"),
        *("--no-emit-package", "capcurr-plugin", "--constraint", str(bound), str(source)),
    )
    return [line for line in text.splitlines() if line and not line.startswith("#")]
