"""Installing the plugin, with any extra, next to either host leaves every package of the host at its version."""

import json
import re
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from venvs import CHECKOUT, run

from capcurr_plugin.environments import ensure, uv

pytestmark = pytest.mark.slow

EXTRAS = sorted(metadata("capcurr-plugin").get_all("Provides-Extra") or [])
HOSTS = ["verl", "vlmeval"]


def installed(python):
    lines = run(uv(), "pip", "freeze", "--python", python).splitlines()
    found = dict(line.split("==") for line in lines if "==" in line)
    return {canonical(name): version for name, version in found.items()}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def changed_by_uv(python, *requirements):
    """What uv would take away from an environment; a change of version is a removal and an addition."""
    output = run(uv(), "pip", "install", "--dry-run", "--python", python, *requirements)
    assert "Would" in output, output
    return {canonical(name) for name in re.findall(r"^ - (\S+)==", output, re.MULTILINE)} - {"capcurr-plugin"}


def test_the_extras_are_those_of_the_readme():
    assert EXTRAS == ["data", "dev", "judge", "serve", "toyworld", "verl", "vlmeval"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_changes_no_package_of_the_host(host, extra):
    assert changed_by_uv(ensure(host), f"{CHECKOUT}[{extra}]") == set()


@pytest.mark.parametrize("host", HOSTS)
def test_all_extras_at_once_change_no_package_of_the_host(host):
    assert changed_by_uv(ensure(host), f"{CHECKOUT}[{','.join(EXTRAS)}]") == set()


@pytest.mark.parametrize("host", HOSTS)
def test_pip_says_the_same_of_all_extras_at_once(host, tmp_path):
    python = ensure(host)
    before = installed(python)
    report = tmp_path / "report.json"
    # The environments have no pip of their own; another Python's can look into them.
    base = Path(sys.base_prefix) / "bin" / "python3"
    pip = [base, "-m", "pip", "--python", python, "install", "--dry-run", "--quiet", "--report", report]
    run(*pip, f"{CHECKOUT}[{','.join(EXTRAS)}]")
    planned = {
        canonical(item["metadata"]["name"]): item["metadata"]["version"]
        for item in json.loads(report.read_text())["install"]
    }
    assert "ruff" in planned  # the report is not empty: the host environments hold no linter
    assert {name for name in planned.keys() & before.keys() if planned[name] != before[name]} <= {"capcurr-plugin"}


@pytest.mark.parametrize(("host", "clash"), [("verl", "omegaconf>=2.4"), ("vlmeval", "omegaconf<2.4")])
def test_a_clashing_requirement_would_be_seen(host, clash):
    assert "omegaconf" in changed_by_uv(ensure(host), CHECKOUT, clash)
