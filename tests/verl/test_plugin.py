"""The plugin inside the real verl."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

TRAINER = [sys.executable, "-m", "verl.trainer.main_ppo", "--cfg", "job"]


def run(command, cwd, **settings):
    environment = {**os.environ, **settings}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def doctor(cwd, **settings):
    command = [sys.executable, "-m", "capcurr_plugin.cli", "doctor", "--for", "verl", "--json"]
    code, output, _ = run(command, cwd, **settings)
    return code, {check["name"]: check for check in json.loads(output)["checks"] if check["section"] == "verl"}


def test_the_trainers_configuration_is_the_same_with_and_without_the_plugin(tmp_path):
    code, with_plugin, errors = run(TRAINER, tmp_path)
    assert code == 0, errors
    assert "trainer:" in with_plugin
    assert run(TRAINER, tmp_path, VERL_USE_EXTERNAL_PLUGINS="none")[1] == with_plugin


def test_a_recipe_file_composes_by_one_flag(tmp_path):
    code, output, errors = run([*TRAINER, "+capcurr=reward"], tmp_path)
    assert code == 0, errors
    assert "path: pkg://capcurr_plugin.reward\n    name: compute_score" in output


def test_the_group_is_unknown_without_the_plugin(tmp_path):
    """Hydra then takes the flag for a new key, without a word: the reason for `capcurr doctor`."""
    code, output, _ = run([*TRAINER, "+capcurr=reward"], tmp_path, VERL_USE_EXTERNAL_PLUGINS="none")
    assert code == 0
    assert "capcurr: reward\n" in output
    assert "capcurr_plugin" not in output


def test_the_group_is_unknown_to_other_hydra_programs(tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "main.yaml").write_text("x: 1\n")
    program = tmp_path / "program.py"
    program.write_text(
        "import hydra\n@hydra.main(config_path='conf', config_name='main', version_base=None)\n"
        "def main(config): print(config)\nmain()\n"
    )
    assert run([sys.executable, program, "+capcurr=reward"], tmp_path)[1] == "{'x': 1, 'capcurr': 'reward'}\n"


def test_the_plugin_imports_nothing_but_hydra(tmp_path):
    program = (
        "import sys, verl; before = set(sys.modules)\n"
        "assert 'capcurr_plugin' not in before\n"
        "import capcurr_plugin.verl_host.plugin\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - sys.stdlib_module_names))"
    )
    code, output, errors = run([sys.executable, "-c", program], tmp_path, VERL_USE_EXTERNAL_PLUGINS="none")
    assert code == 0, errors
    new = set(output.splitlines()[-1].split())
    assert "capcurr_plugin" in new
    assert new <= {"capcurr_plugin", "hydra", "omegaconf", "antlr4"}


def test_doctor_proves_that_the_plugin_is_active(tmp_path):
    code, checks = doctor(tmp_path)
    assert code == 0, checks
    assert checks["verl"]["status"] == "ok"
    assert checks["hook"]["status"] == "ok"


def test_doctor_says_that_verl_was_told_to_leave_plugins_out(tmp_path):
    code, checks = doctor(tmp_path, VERL_USE_EXTERNAL_PLUGINS="none")
    assert code == 1
    assert "VERL_USE_EXTERNAL_PLUGINS is 'none'" in checks["hook"]["detail"]
    assert "unset VERL_USE_EXTERNAL_PLUGINS" in checks["hook"]["fix"]


def test_doctor_shows_the_error_that_verl_swallows(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Spoiler:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'hydra.plugins.search_path_plugin' and 'capcurr_plugin.verl_host' in sys.modules:\n"
        "            raise ImportError('spoiled on purpose')\n"
        "sys.meta_path.insert(0, Spoiler)\n"
    )
    code, checks = doctor(tmp_path, PYTHONPATH=str(tmp_path))
    assert code == 1
    assert checks["hook"]["status"] == "broken"
    assert "spoiled on purpose" in checks["hook"]["detail"]
