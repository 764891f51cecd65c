"""What travels in the wheel, and that it is found where it was installed."""

import subprocess
import sys
import zipfile

import pytest
from venvs import CHECKOUT, Venv

pytestmark = pytest.mark.slow

FIND_FILES = """
from importlib.resources import files
import verl_recipes, vlmeval_configs
for path in (files("verl_recipes") / "capcurr" / "reward.yaml", files("vlmeval_configs") / "aliases.yaml"):
    assert path.is_file() and path.read_text().strip(), path
print(verl_recipes.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_users_need_and_nothing_of_the_checkout(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    boot = {"_capcurr_boot.py", "_capcurr_boot.pth", "_capcurr_boot.start"}
    assert tops == {"capcurr_plugin", "verl_recipes", "vlmeval_configs", "capcurr_plugin-0.1.0.dist-info"} | boot
    assert "verl_recipes/capcurr/reward.yaml" in names
    assert "vlmeval_configs/aliases.yaml" in names
    assert "capcurr_plugin/environments/verl.lock" in names
    assert "capcurr_plugin/attribution/audit_page/page.js" in names
    assert "capcurr_plugin/py.typed" in names
    assert {f"capcurr_plugin/report/errors_browser.{ending}" for ending in ("js", "css")} <= set(names)
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_configs_are_found_through_importlib_resources(wheel, tmp_path, how):
    venv = Venv(tmp_path / "venv")
    source = [wheel] if how == "wheel" else ["--editable", CHECKOUT]
    venv.uv("pip", "install", "--quiet", "--python", venv.folder, *source)
    found = venv.run(FIND_FILES)
    assert found.startswith(str(venv.site if how == "wheel" else CHECKOUT))


def test_the_command_works_from_the_wheel_alone(wheel, tmp_path):
    venv = Venv(tmp_path / "venv")
    venv.uv("pip", "install", "--quiet", "--python", venv.folder, wheel)
    assert venv.converts_rows()
    demo = subprocess.run([venv.folder / "bin" / "capcurr", "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert demo.returncode == 2
    assert "run the demo in a clone of the project, or name an environment with --verl-python" in demo.stderr
    assert not (tmp_path / "demo").exists()
