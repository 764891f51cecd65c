"""The judges through every generation of Anthropic's SDK: each has other arguments, defaults and transports."""

import os
import subprocess
import sys

import pytest
from venvs import CHECKOUT

from capcurr_plugin.environments import uv

pytestmark = pytest.mark.slow

ASK = """
import os, sys
import anthropic
from dataclasses import replace
from pathlib import Path
import local_servers as servers
from capcurr_plugin.judge.config import load_judges
from capcurr_plugin.judge import judge
from capcurr_plugin.judge.ledger import Ledger

judge.BACKOFF = 0.01
faults = [servers.http_error(429, retry_after_ms="5"), servers.garbage, servers.closed_in_the_middle]
faults += [servers.hanging(5)]
for name, key in (("claude-haiku-4.5", "k"), ("bedrock-claude-haiku-4.5", "k"), ("bedrock-claude-haiku-4.5", None)):
    with servers.serving(
        lambda body: servers.claude_message("B"), lambda number, body: dict(enumerate(faults)).get(number)
    ) as server:
        config = replace(load_judges({})[name], base_url=server.url, key=key, timeout=2)
        try:
            asked = judge.Judge(config, None, Ledger(Path(sys.argv[1], "ledger.sqlite")))
            said = asked.ask([f"{name} {key}"], temperature=1.5)
        except Exception as error:
            said = str(error)
        last = server.requests[-1] if server.requests else {"headers": {}}
        version = last.get("anthropic_version") or last["headers"].get("anthropic-version")
        assert anthropic.__version__ == sys.argv[2]
        print(said, len(server.requests), last.get("temperature"), version, sep="|")
"""
ASKED = "B|5|1.0|"  # after four faults


@pytest.mark.parametrize("version", ["0.40.0", "0.77.0", "0.125.0", "1.17.0", "2.12.0"])
def test_verdicts_through_this_sdk(tmp_path, version):
    target = tmp_path / "sdk"
    command = [uv(), "pip", "install", "--quiet", "--python", sys.executable, "--target", target]
    subprocess.run([*command, f"anthropic=={version}", "boto3"], check=True)
    environment = {name: text for name, text in os.environ.items() if name != "AWS_BEARER_TOKEN_BEDROCK"}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, (target, CHECKOUT, CHECKOUT / "tests" / "servers")))}
    environment |= {"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "s", "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK, tmp_path, version],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    anthropic, bedrock_key, bedrock_signed = done.stdout.splitlines()
    assert anthropic == f"{ASKED}2023-06-01"
    assert bedrock_signed == f"{ASKED}bedrock-2023-05-31"
    if version in ("0.40.0", "0.77.0"):
        assert bedrock_key.startswith(
            f"judge bedrock-claude-haiku-4.5: anthropic {version} knows no Bedrock API key; pip install -U anthropic|0|"
        )
    else:
        assert bedrock_key == f"{ASKED}bedrock-2023-05-31"
