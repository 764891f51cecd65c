"""Fresh environments, a stand-in for VLMEvalKit's modules, and third-party plugins: what an installation meets."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from capcurr_plugin.environments import uv

CHECKOUT = Path(__file__).resolve().parents[2]

# Just enough of VLMEvalKit's shape to be hooked; the real one is met in test_real_host.py and tests/vlmeval.
STAND_IN = {
    "vlmeval/__init__.py": "",
    "vlmeval/config.py": "supported_VLM = {}\n",
    "vlmeval/dataset/__init__.py": "from .utils import build_judge\nDATASET_CLASSES = []\nSUPPORTED_DATASETS = []\n",
    "vlmeval/dataset/image_mcq.py": "class ImageMCQDataset: pass\n",
    "vlmeval/dataset/image_vqa.py": "class MathVista: pass\n",
    "vlmeval/dataset/utils/multiple_choice.py": "extract_answer_from_item = report_acc = None\n",
    "vlmeval/utils.py": "track_progress_rich = None\n",
    "vlmeval/dataset/utils/__init__.py": "from .judge_util import build_judge\n",
    "vlmeval/dataset/utils/judge_util.py": "def build_judge(**options): return options\n",
    "vlmeval/api/__init__.py": "class LMDeployAPI:\n    def __init__(self, **options): self.options = options\n",
    "vlmeval/api/adapters.py": "class ModelAdapter: pass\ndef register_adapter(name, factory): return factory\n",
    "vlmeval/smp.py": "from logging import getLogger as get_logger\n"
    "fetch_aux_files = get_gpu_memory = get_intermediate_file_path = get_pred_file_path = None\n"
    "dump = load = LMUDataRoot = None\n",
}


def run(*words: object, cwd: Path | None = None, code: int = 0, **settings: str) -> str:
    """Run a command and return what it printed, both streams."""
    command = [str(word) for word in words]
    environment = {**os.environ, **settings}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
    return (done.stdout + done.stderr).strip()


class Venv:
    """A virtual environment and the Python in it."""

    def __init__(self, folder: Path, base: str = sys.executable) -> None:
        self.folder = folder
        self.uv("venv", "--quiet", "--seed", "--python", base, folder)
        self.python = folder / "bin" / "python"
        self.site = next(folder.glob("lib/python*/site-packages"))

    def uv(self, *words: object) -> str:
        return self.call(uv(), *words)

    def call(self, *words: object, code: int = 0, **settings: str) -> str:
        return run(*words, cwd=self.folder.parent, code=code, **settings)

    def run(self, source: str, *options: str, **settings: str) -> str:
        return self.call(self.python, *options, "-c", textwrap.dedent(source), **settings)

    def converts_rows(self) -> bool:
        """A command that needs nothing but the plugin's own dependencies."""
        folder = self.folder.parent
        row = {"index": "1", "problem": "What is 1 + 1?", "answer": "2", "images": [], "source": "s"}
        (folder / "rows.jsonl").write_text(json.dumps(row | {"capability": "textual_reasoning"}) + "\n")
        words = ("data", "convert", "rows.jsonl", "rows.parquet", "--to", "verl")
        said = self.call(self.folder / "bin" / "capcurr", *words)
        return "1 rows -> rows.parquet" in said and (folder / "rows.parquet").exists()

    def install(self, how: str) -> None:
        """As users do: "pip", "pip -e", "uv" or "uv -e"."""
        tool, *editable = how.split()
        if tool == "uv":
            self.uv("pip", "install", "--quiet", "--python", self.folder, *editable, CHECKOUT)
        else:
            self.call(self.python, "-m", "pip", "install", "--quiet", *editable, CHECKOUT)

    def uninstall(self, how: str) -> None:
        if how.startswith("uv"):
            self.uv("pip", "uninstall", "--quiet", "--python", self.folder, "capcurr-plugin")
        else:
            self.call(self.python, "-m", "pip", "uninstall", "--quiet", "--yes", "capcurr-plugin")

    def add_stand_in(self) -> None:
        for name, text in STAND_IN.items():
            path = self.site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.uv("pip", "install", "--quiet", "--python", self.folder, "requests")

    def add_plugin(self, name: str, source: str) -> None:
        """Another project's plugin: a module and the metadata that registers it."""
        (self.site / f"{name}.py").write_text(textwrap.dedent(source))
        info = self.site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[vlmeval.plugins]\n{name} = {name}\n")
