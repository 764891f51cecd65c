import sys

import pytest
from venvs import Venv


@pytest.fixture
def make_venv(tmp_path):
    def make(name="venv", base=sys.executable):
        venv = Venv(tmp_path / name, base)
        venv.add_stand_in()
        return venv

    return make
