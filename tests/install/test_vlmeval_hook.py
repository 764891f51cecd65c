"""The hook into VLMEvalKit, in every way that it is installed and every way that Python starts."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from venvs import CHECKOUT, STAND_IN, Venv

pytestmark = pytest.mark.slow

# The same question to a forked child, a spawned child, and the process itself.
ASK_EVERYWHERE = """
import multiprocessing

def known():
    from vlmeval.config import supported_VLM
    return "Qwen3_VL_8B_Staged" in supported_VLM

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.apply(known))
    print("self", known())
"""
KNOWN = "import vlmeval.config; print(sorted(vlmeval.config.supported_VLM))"


def ask_everywhere(venv, *options):
    script = venv.folder / "ask.py"
    script.write_text(ASK_EVERYWHERE)
    return venv.call(venv.python, *options, script).split()


@pytest.mark.parametrize("how", ["pip", "pip -e", "uv", "uv -e"])
def test_active_after_install_in_all_processes_and_gone_after_uninstall(make_venv, how):
    venv = make_venv()
    assert ask_everywhere(venv) == ["fork", "False", "spawn", "False", "self", "False"]
    venv.install(how)
    assert ask_everywhere(venv) == ["fork", "True", "spawn", "True", "self", "True"]
    assert ask_everywhere(venv, "-I") == ["fork", "True", "spawn", "True", "self", "True"]
    venv.uninstall(how)
    assert ask_everywhere(venv) == ["fork", "False", "spawn", "False", "self", "False"]
    assert not list(venv.site.glob("*capcurr*"))


def pythons_of_this_machine():
    """Every supported Python on the PATH or under pyenv, this one included."""
    folders = [*os.environ["PATH"].split(os.pathsep)]
    folders += map(str, Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin"))
    found = {f"3.{sys.version_info.minor}": sys.executable}
    for version in ("3.10", "3.11", "3.12", "3.13"):
        for folder in folders:
            python = Path(folder) / f"python{version}"
            # A pyenv shim stands on the PATH for versions that are not installed, too.
            if (
                version not in found
                and python.exists()
                and subprocess.run([python, "-c", ""], check=False).returncode == 0
            ):
                found[version] = str(python)
    return [pytest.param(python, id=version) for version, python in sorted(found.items())]


@pytest.mark.parametrize("python", pythons_of_this_machine())
def test_active_under_every_python_of_this_machine(make_venv, python):
    venv = make_venv(base=python)
    venv.install("uv")
    assert ask_everywhere(venv) == ["fork", "True", "spawn", "True", "self", "True"]
    assert venv.converts_rows()


def test_late_install_into_a_running_process(make_venv):
    venv = make_venv()
    output = venv.run(
        f"""
        import importlib, subprocess
        from vlmeval.config import supported_VLM
        import vlmeval.dataset
        assert "Qwen3_VL_8B_Staged" not in supported_VLM
        install = [{str(venv.python)!r}, "-m", "pip", "install", "--quiet", {str(CHECKOUT)!r}]
        subprocess.run(install, check=True)
        importlib.invalidate_caches()
        import capcurr_plugin.vlmeval_host
        capcurr_plugin.vlmeval_host.activate()
        print("Qwen3_VL_8B_Staged" in supported_VLM)
        """
    )
    assert "True" in output.splitlines()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One environment for what does not change the installation."""
    venv = Venv(tmp_path_factory.mktemp("shared") / "venv")
    venv.add_stand_in()
    venv.install("uv")
    return venv


FAILING = {
    "at_import": "raise ImportError('no such luck')",
    "in_hook": "def on_config(module): raise KeyError('no such luck')\non_judge_util = on_config",
    "by_exit": "import sys\ndef on_config(module): sys.exit('no such luck')",
}


@pytest.mark.parametrize("way", FAILING)
def test_a_failing_plugin_is_named_once_and_the_host_goes_on(make_venv, way):
    venv = make_venv()
    venv.install("uv")
    venv.add_plugin("aardvark", FAILING[way])  # sorts before capcurr-plugin, so it fails first
    output = venv.run(f"{KNOWN}; import vlmeval.dataset")
    warnings = [line for line in output.splitlines() if "RuntimeWarning" in line]
    assert len(warnings) == 1, output
    assert "'aardvark' of aardvark failed" in warnings[0]
    assert "no such luck" in warnings[0]
    assert "Qwen3_VL_8B_Staged" in output


def test_another_projects_plugin_is_called_with_each_module(shared):
    shared.add_plugin(
        "neighbour",
        """
        def on_config(config):
            config.supported_VLM["Neighbour_1B"] = print
        def on_judge_util(judge_util):
            judge_util.build_judge = lambda **options: "neighbour's judge"
        """,
    )
    code = f"{KNOWN}; import vlmeval.dataset; print(vlmeval.dataset.build_judge())"
    output = shared.run(code).splitlines()
    assert "Neighbour_1B" in output[0]
    assert output[1] == "neighbour's judge"  # also where the host copied the name


def test_not_reached_when_python_skips_site(shared):
    code = f"import sys; sys.path.append({str(shared.site)!r}); {KNOWN}"
    assert shared.run(code, "-S") == "[]"


def test_hooked_module_keeps_its_source_and_reloads(shared):
    output = shared.run(
        """
        import importlib, inspect, vlmeval.config as config
        assert "supported_VLM = {}" in inspect.getsource(config)
        assert type(config.__spec__.loader).__name__ == "SourceFileLoader"
        importlib.reload(config)
        print("Qwen3_VL_8B_Staged" in config.supported_VLM)
        """
    )
    assert output == "True"


def test_a_host_inside_a_zip_archive_is_hooked(shared, tmp_path):
    archive = tmp_path / "host.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in STAND_IN.items():
            file.writestr(name, text)
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); {KNOWN}; print(vlmeval.__file__)"
    output = shared.run(code)
    assert "Qwen3_VL_8B_Staged" in output
    assert "host.zip" in output


def test_the_start_file_names_what_the_pth_file_calls(shared):
    """Python 3.15 calls what the .start file names and then ignores the import line of the .pth file."""
    line = (shared.site / "_capcurr_boot.start").read_text().strip()
    output = shared.run(
        f"""
        import pkgutil, sys
        sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "__module__", "") != "_capcurr_boot"]
        assert not any("capcurr" in repr(f) for f in sys.meta_path)
        pkgutil.resolve_name({line!r})()
        pkgutil.resolve_name({line!r})()
        print(sum("capcurr" in repr(f) for f in sys.meta_path))
        """
    )
    assert output == "1"
    assert (shared.site / "_capcurr_boot.pth").read_text() == "import _capcurr_boot; _capcurr_boot.install()\n"


def test_a_deleted_checkout_does_not_break_every_start_of_python(make_venv, tmp_path):
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".envs", ".git", "__pycache__", ".hypothesis", ".pytest_cache")
    shutil.copytree(CHECKOUT, checkout, ignore=ignored)
    venv = make_venv()
    venv.uv("pip", "install", "--quiet", "--python", venv.folder, "--editable", checkout)
    assert "Qwen3_VL_8B_Staged" in venv.run(KNOWN)
    shutil.rmtree(checkout)
    assert venv.run("print('fine')") == "fine"
    output = venv.run(KNOWN)
    assert output.count("RuntimeWarning") == 1
    assert "'capcurr' of capcurr-plugin failed" in output
    assert "[]" in output.splitlines()


def test_starting_python_imports_only_the_boot_module(shared):
    output = shared.run("import sys; print([name for name in sys.modules if 'capcurr' in name])")
    assert output == "['_capcurr_boot']"
