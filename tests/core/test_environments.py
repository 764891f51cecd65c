"""The environments for the hosts: their locks, their Pythons, and when they are made anew. Nothing is downloaded."""

import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from capcurr_plugin import environments
from capcurr_plugin.environments import ENVIRONMENTS, Environment, EnvironmentFailed
from capcurr_plugin.environments.__main__ import main

CHECKOUT = Path(__file__).resolve().parents[2]
THIS = sys.version_info[:2]
OTHERS = Environment("others", ((3, 97), (3, 99)))  # Pythons that do not exist yet
LOCKS = {name: environment.lock.read_text().splitlines() for name, environment in ENVIRONMENTS.items()}
ENVIRONMENT_AND_MINOR = [
    (name, minor)
    for name, environment in ENVIRONMENTS.items()
    for minor in range(environment.pythons[0][1], environment.pythons[1][1] + 1)
]


@pytest.fixture(autouse=True)
def fresh_caches():
    cached = [environments._pip_settings, environments.uv]
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def pip_settings(monkeypatch, tmp_path):
    """Lets `pip config list` print the given lines."""

    def set_lines(*lines):
        monkeypatch.setattr(environments, "uv", lambda: tmp_path / "uv")
        monkeypatch.setattr(environments, "_run", lambda *_: "".join(f"{line}\n" for line in lines))
        return environments._pip_settings()

    return set_lines


# Locks


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_lock_lines(name):
    assert LOCKS[name]
    for line in LOCKS[name]:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][a-z0-9.]*( ; [^;]+)?", line), line
        assert not re.search(r"[/@#\\]|://|--|localhost", line), line
        assert Requirement(line).url is None
    assert LOCKS[name] == sorted(set(LOCKS[name]))


def pins(name, minor):
    """What the lock pins for one Python on this machine; a package must not be pinned twice."""
    python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.5"}
    wanted = [Requirement(line) for line in LOCKS[name]]
    wanted = [requirement for requirement in wanted if not requirement.marker or requirement.marker.evaluate(python)]
    found = {requirement.name: str(requirement.specifier).removeprefix("==") for requirement in wanted}
    assert len(found) == len(wanted)
    return found


@pytest.mark.parametrize(("name", "minor"), ENVIRONMENT_AND_MINOR)
def test_lock_holds_what_the_environment_asks_for(name, minor):
    environment, pinned = ENVIRONMENTS[name], pins(name, minor)
    wanted = [Requirement(text) for text in environment.requirements]
    for requirement in map(Requirement, requires("capcurr-plugin") or []):
        python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.5"}
        extras = ["", *environment.extras]
        if not requirement.marker or any(requirement.marker.evaluate(python | {"extra": e}) for e in extras):
            wanted.append(requirement)
    assert {"pyarrow", "pyyaml", "packaging", "tqdm", "pytest"} <= {requirement.name for requirement in wanted}
    for requirement in wanted:
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier


def test_locks_of_the_hosts():
    for _, minor in [pair for pair in ENVIRONMENT_AND_MINOR if pair[0] == "verl"]:
        pinned = pins("verl", minor)
        assert pinned["verl"] == "0.9.1"
        assert f"torch=={pinned['torch']}" == environments.TORCH
        assert f"torchvision=={pinned['torchvision']}" == environments.TORCHVISION
    for _, minor in [pair for pair in ENVIRONMENT_AND_MINOR if pair[0] == "vlmeval"]:
        pinned = pins("vlmeval", minor)
        assert pinned["ms-vlmeval"] == "0.0.20"
        assert f"torch=={pinned['torch']}" == environments.TORCH
        assert f"torchvision=={pinned['torchvision']}" == environments.TORCHVISION


def test_core_needs_no_host():
    assert not {"torch", "verl", "ms-vlmeval", "transformers", "pandas"} & {
        line.split("==")[0] for line in LOCKS["core"]
    }


# Pythons


def add_python(folder, name, *lines, interpreter="/bin/sh"):
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text("\n".join([f"#!{interpreter}", *lines, ""]))
    file.chmod(0o755)
    return file


@pytest.fixture
def path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_this_python_is_preferred(path):
    add_python(path, f"python3.{THIS[1]}", f"echo {THIS[0]} {THIS[1]}")
    found = environments.find_python(Environment("this", (THIS, THIS)))
    assert environments._python_version(found) == THIS
    assert found.parent != path
    assert Path(sys.base_prefix) in found.resolve().parents or found == Path(sys.executable)


def test_newest_python_of_the_path(path):
    add_python(path, "python3.96", "echo 3 96")
    add_python(path, "python3.97", "echo 3 97")
    expected = add_python(path, "python3.98", "echo 3 98")
    assert environments.find_python(OTHERS) == expected


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"lines": ["echo not installed >&2", "exit 1"]}, id="pyenv-shim"),
        pytest.param({"lines": ["echo 3 11"]}, id="another-version"),
        pytest.param({"lines": ["exit 0"]}, id="silent"),
        pytest.param({"lines": ["echo 3 99"], "interpreter": "/nonexistent/python"}, id="interpreter-removed"),
    ],
)
def test_broken_python_is_passed_over(broken, path):
    add_python(path, "python3.99", *broken["lines"], interpreter=broken.get("interpreter", "/bin/sh"))
    expected = add_python(path, "python3.97", "echo 3 97")
    assert environments.find_python(OTHERS) == expected


def test_shim_before_a_python_of_the_same_name_is_passed_over(monkeypatch, tmp_path):
    add_python(tmp_path / "shims", "python3.98", "exit 1")
    expected = add_python(tmp_path / "bin", "python3.98", "echo 3 98")
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}:{tmp_path / 'bin'}")
    assert environments.find_python(OTHERS) == expected


def test_no_python_fits(path):
    add_python(path, "python3.99", "exit 1")
    with pytest.raises(EnvironmentFailed) as failure:
        environments.find_python(OTHERS)
    message = str(failure.value)
    assert "'others' needs Python 3.97 to 3.99" in message
    assert platform.python_version() in message
    assert "\n" not in message


# pip's settings


def test_pip_settings(pip_settings):
    settings = pip_settings(
        "global.index-url='https://mirror.example/simple'",
        "global.cert='/etc/ssl/certs/ca certificates.crt'",
        "install.no-deps='yes'",
        "freeze.all='yes'",
        "WARNING: something else",
        "",
    )
    assert settings == {
        "index-url": "https://mirror.example/simple",
        "cert": "/etc/ssl/certs/ca certificates.crt",
        "no-deps": "yes",
    }


@pytest.mark.parametrize("order", [1, -1])
def test_environment_wins(order, pip_settings):
    lines = [":env:.index-url='https://env.example'", "global.index-url='https://file.example'"]
    assert pip_settings(*lines[::order]) == {"index-url": "https://env.example"}


def test_no_pip_settings(pip_settings):
    assert pip_settings() == {}


def wheel(tag, version="2.13.0+cpu", name="torch", machine=None):
    return f"{name}-{version}-{tag}-manylinux_2_28_{machine or platform.machine()}.whl"


TAG = f"cp{THIS[0]}{THIS[1]}"
PYTHON = Path(sys.executable)


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_local_torch(prefix, pip_settings, tmp_path):
    (tmp_path / wheel(f"{TAG}-{TAG}")).touch()
    pip_settings(f"global.find-links='{prefix}{tmp_path}'")
    assert environments._local_cpu_torch(PYTHON) == tmp_path


@pytest.mark.parametrize(
    "name",
    [
        wheel(f"cp{THIS[0]}{THIS[1] + 1}-cp{THIS[0]}{THIS[1] + 1}"),
        wheel(f"cp{THIS[0]}{THIS[1] - 1}-cp{THIS[0]}{THIS[1] - 1}"),
        wheel(f"{TAG}0-{TAG}0"),
        wheel(f"{TAG}-{TAG}t"),
        wheel(f"{TAG}-{TAG}", machine="riscv64"),
        wheel(f"{TAG}-{TAG}", version="2.13.0+cu128"),
        wheel(f"{TAG}-{TAG}", version="2.13.0"),
        wheel(f"{TAG}-{TAG}", name="torchvision"),
        "torch-2.13.0+cpu.tar.gz",
    ],
)
def test_local_torch_that_does_not_fit(name, pip_settings, tmp_path):
    (tmp_path / name).touch()
    pip_settings(f"global.find-links='{tmp_path}'")
    assert environments._local_cpu_torch(PYTHON) is None


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("global.index-url='https://mirror.example'",),
        ("global.find-links=''",),
        ("global.find-links='/no/such/folder https://wheels.example/torch'",),
    ],
)
def test_no_local_torch(lines, pip_settings):
    pip_settings(*lines)
    assert environments._local_cpu_torch(PYTHON) is None


@pytest.mark.parametrize("form", [":env:.find-links='{} {}'", r"global.find-links='\n{}\n{}'"], ids=["env", "pip.conf"])
def test_local_torch_in_the_second_of_two_places(form, pip_settings, tmp_path):
    # The second form is what pip prints for the several lines that its documentation shows.
    (tmp_path / wheel(f"{TAG}-{TAG}")).touch()
    pip_settings(form.format("/no/such/folder", tmp_path))
    assert environments._local_cpu_torch(PYTHON) == tmp_path


# When an environment is made anew


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A copy of all that goes into a stamp."""
    folder = tmp_path / "checkout"
    here = folder / "capcurr_plugin" / "environments"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "capcurr_plugin" / "environments", here, ignore=ignored)
    shutil.copytree(CHECKOUT / "boot", folder / "boot", ignore=ignored)
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    monkeypatch.setattr(environments, "HERE", here)
    monkeypatch.setattr(environments, "CHECKOUT", folder)
    monkeypatch.setattr(environments, "_local_cpu_torch", lambda base: None)
    return folder


def stamp(name="verl", base=PYTHON):
    return environments._stamp(ENVIRONMENTS[name], base)


def test_stamp_stays(checkout):
    assert stamp() == stamp()
    assert len({stamp(name) for name in ENVIRONMENTS}) == len(ENVIRONMENTS)


@pytest.mark.parametrize(
    "name",
    [
        "capcurr_plugin/environments/verl.lock",
        "capcurr_plugin/environments/torchvision_on_cpu.py",
        "boot/_capcurr_boot.py",
        "boot/_capcurr_boot.pth",
        "boot/_capcurr_boot.start",
    ],
)
def test_stamp_changes_with_a_file(name, checkout):
    before = stamp()
    with (checkout / name).open("a") as file:
        file.write("\n")
    assert stamp() != before


def add_to_table(checkout, table):
    file = checkout / "pyproject.toml"
    text = file.read_text()
    assert f"\n{table}\n" in f"\n{text}"
    file.write_text(text.replace(f"{table}\n", f"{table}\nadded = 1\n", 1))


@pytest.mark.parametrize(
    "table",
    [
        "[build-system]",
        "[project]",
        "[project.optional-dependencies]",
        "[project.scripts]",
        '[project.entry-points."verl.plugins"]',
        "[tool.hatch.build.targets.wheel]",
    ],
)
def test_stamp_changes_with_what_is_installed(table, checkout):
    before = stamp()
    add_to_table(checkout, table)
    assert stamp() != before


@pytest.mark.parametrize("table", ["[tool.ruff]", "[tool.ruff.lint]", "[tool.pytest.ini_options]", "[tool.pyright]"])
def test_stamp_does_not_change_with_settings_of_tools(table, checkout):
    before = stamp()
    add_to_table(checkout, table)
    assert stamp() == before


def test_stamp_does_not_change_with_the_lock_of_another(checkout):
    before = stamp("verl")
    (checkout / "capcurr_plugin" / "environments" / "vlmeval.lock").write_text("torch==1.0\n")
    assert stamp("verl") == before


def test_stamp_changes_with_python_and_local_torch(checkout, monkeypatch):
    before = stamp()
    assert stamp(base=Path("/usr/bin/python3.99")) != before
    monkeypatch.setattr(environments, "_local_cpu_torch", lambda base: Path("/opt/wheels"))
    assert stamp() != before


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """The environments that `ensure` builds; building makes a folder, and fails when told so."""
    built = []

    def build(environment, folder, *, plugin, base):
        built.append(environment.name)
        if "failing" in built:
            raise EnvironmentFailed("no network")
        time.sleep(0.05)
        folder.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environments, "root", lambda: tmp_path / "envs")
    monkeypatch.setattr(environments, "build", build)
    monkeypatch.setattr(environments, "find_python", lambda environment: PYTHON)
    monkeypatch.setattr(environments, "_stamp", lambda environment, base: "first")
    return built


def test_ensure_builds_once(builds, tmp_path, capsys):
    expected = tmp_path / "envs" / "core" / "bin" / "python"
    assert environments.ensure("core") == expected
    assert "making the environment core" in capsys.readouterr().out
    assert environments.ensure("core") == expected
    assert builds == ["core"]
    assert capsys.readouterr().out == ""


def test_ensure_builds_anew_when_the_stamp_changes(builds, monkeypatch):
    environments.ensure("core")
    monkeypatch.setattr(environments, "_stamp", lambda environment, base: "second")
    environments.ensure("core")
    environments.ensure("core")
    assert builds == ["core", "core"]


def test_ensure_tries_again_after_a_failure(builds):
    builds.append("failing")
    with pytest.raises(EnvironmentFailed, match="no network"):
        environments.ensure("core")
    builds.clear()
    environments.ensure("core")
    assert builds == ["core"]


def test_ensure_twice_at_the_same_time_builds_once(builds):
    threads = [threading.Thread(target=environments.ensure, args=("core",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == ["core"]


def test_root(monkeypatch, tmp_path):
    monkeypatch.setattr(environments, "CHECKOUT", tmp_path)
    with pytest.raises(EnvironmentFailed, match="from a checkout"):
        environments.root()
    (tmp_path / "pyproject.toml").touch()
    assert environments.root() == tmp_path / ".envs"


# Steps that fail, and the command


def test_run_returns_the_output():
    assert environments._run(["/bin/sh", "-c", "echo out; echo err >&2"], "try") == "out\n"


@pytest.mark.parametrize("stream", ["1", "2"])
def test_run_failing_tells_the_output(stream):
    with pytest.raises(EnvironmentFailed) as failure:
        environments._run(["/bin/sh", "-c", f"echo no space left >&{stream}; exit 3"], "install uv")
    assert str(failure.value) == "could not install uv (exit code 3):\nno space left"


def test_run_without_the_program(tmp_path):
    with pytest.raises(EnvironmentFailed, match=r"could not install uv: .*No such file"):
        environments._run([str(tmp_path / "nothing")], "install uv")


@pytest.mark.parametrize("arguments", [["nonsense"], ["core", "nonsense"], ["--lock", "nonsense"]])
def test_unknown_environment(arguments):
    # -S: without site-packages, as the command runs before anything is installed.
    command = [sys.executable, "-S", "-m", "capcurr_plugin.environments", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no environment is called 'nonsense'; there are core, verl, vlmeval\n"


def test_command_makes_what_it_is_told(builds):
    assert main(["vlmeval", "core"]) == 0
    assert builds == ["vlmeval", "core"]


def test_command_tells_of_a_failure(builds, capsys):
    builds.append("failing")
    assert main(["core"]) == 1
    assert capsys.readouterr().err == "error: no network\n"
