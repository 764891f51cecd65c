"""`capcurr doctor --for vlmeval` beside the real VLMEvalKit."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def doctor(cwd, *python_options, **settings):
    command = [sys.executable, *python_options, "-m", "capcurr_plugin.cli", "doctor", "--for", "vlmeval", "--json"]
    environment = {**os.environ, **settings}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    checks = [check for check in json.loads(done.stdout)["checks"] if check["section"] == "vlmeval"]
    return done.returncode, {check["name"]: check for check in checks}


def test_active(tmp_path):
    code, checks = doctor(tmp_path)
    assert code == 0, checks
    assert checks["ms-vlmeval"]["status"] == "ok"
    assert checks["hook"]["status"] == "ok"


def test_a_startup_hook_that_did_not_run_is_told(tmp_path):
    # What `pip --target` leads to: the packages are there, but Python ran no .pth file for them.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path[:] = [f for f in sys.meta_path if getattr(f, '__module__', '') != '_capcurr_boot']\n"
    )
    code, checks = doctor(tmp_path, PYTHONPATH=str(tmp_path))
    assert code == 1
    assert "did not run _capcurr_boot.pth" in checks["hook"]["detail"]
    assert checks["hook"]["fix"]
