"""VLMEvalKit's own run.py, unmodified, on small tables and local servers."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Python imports it at start: the tables are the tests' own, so VLMEvalKit must not look for the published ones.
OWN_TABLES = """
from _capcurr_boot import when_executed

def own_tables(module):
    for dataset in module.DATASET_CLASSES:
        dataset.DATASET_MD5 = {}

when_executed("vlmeval.dataset", own_tables)
"""


class Host:
    """A folder to run VLMEvalKit in."""

    def __init__(self, folder, **settings):
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(OWN_TABLES)
        (folder / "LMUData").mkdir()
        self.folder, self.data, self.out = folder, folder / "LMUData", folder / "outputs"
        home = os.environ.get("VLMEVALKIT_HOME")
        self.command = [sys.executable, str(Path(home, "run.py"))] if home else [sys.executable, "-m", "vlmeval"]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("CAPCURR_", "PYTHONDONT"))},
            "PYTHONPATH": os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "LMUData": str(self.data),
            "PRED_FORMAT": "tsv",
            "CAPCURR_CACHE": str(folder / "cache"),
            "ANTHROPIC_API_KEY": "k",
            "HF_HUB_OFFLINE": "1",
            **settings,
        }

    def words(self, *words, model="Qwen3_VL_8B_Staged", judge="claude-haiku-4.5"):
        command = [*self.command, "--model", model, "--work-dir", self.out, "--judge", judge, *words]
        return [str(word) for word in command]

    def start(self, *words, **options):
        return subprocess.Popen(
            self.words(*words, **options),
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words, code=0, **options):
        process = self.start(*words, **options)
        try:
            said, _ = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"run.py did not end: {process.communicate()[0][-3000:]}") from None
        assert process.returncode == code, said[-5000:]
        return said

    def results(self, model="Qwen3_VL_8B_Staged"):
        """Where the newest results of a model lie: in a folder of their run, or in the model's own."""
        runs = sorted((self.out / model).glob("T[0-9]*"))
        return runs[-1] if runs and (runs[-1] / "status.json").exists() else self.out / model


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)
