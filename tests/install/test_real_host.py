"""An untouched ms-vlmeval learns the aliases from an installation and forgets them with it."""

import pytest
from venvs import CHECKOUT, run

from capcurr_plugin.environments import ENVIRONMENTS, build, uv

KNOWN = "from vlmeval.config import supported_VLM; print('Qwen3_VL_8B_Staged' in supported_VLM)"


@pytest.mark.slow
def test_vlmevalkit_knows_the_aliases_exactly_while_the_plugin_is_installed(tmp_path):
    folder = tmp_path / "host"
    build(ENVIRONMENTS["vlmeval"], folder, plugin=None)
    python = folder / "bin" / "python"

    def known():
        return run(python, "-c", KNOWN, cwd=tmp_path).splitlines()[0]

    before = run(uv(), "pip", "freeze", "--python", python).splitlines()
    assert known() == "False"
    run(uv(), "pip", "install", "--quiet", "--python", python, CHECKOUT)
    assert known() == "True"
    after = run(uv(), "pip", "freeze", "--python", python).splitlines()
    assert [line for line in after if line not in before] == [f"capcurr-plugin @ {CHECKOUT.as_uri()}"]
    run(uv(), "pip", "uninstall", "--quiet", "--python", python, "capcurr-plugin")
    assert known() == "False"
    assert run(uv(), "pip", "freeze", "--python", python).splitlines() == before
