"""What VLMEvalKit is given, through the entry-point group `vlmeval.plugins` (docs/vlmeval-plugins.md)."""

import atexit
import os
import sys
from functools import wraps
from typing import Any

from capcurr_plugin.vlmeval_host.rebind import rebind


def on_config(config: Any) -> None:
    """Add the adapter, the aliases and the data sets to those that run.py knows, and look after its files."""
    from _capcurr_boot import when_executed

    from capcurr_plugin.vlmeval_host import hooks, models

    models.register(config)
    when_executed("vlmeval.dataset", hooks.at_datasets)
    when_executed("vlmeval.smp.file", hooks.at_files)
    when_executed("vlmeval.smp.status_report", hooks.at_status)
    when_executed("vlmeval.inference", hooks.at_inference)
    when_executed("vlmeval.inference_api", hooks.at_pipeline)
    when_executed("vlmeval.api.openai_sdk", hooks.at_client)


def on_judge_util(judge_util: Any) -> None:
    """Let `--judge` find our judges. VLMEvalKit's API clients are half imported now: they are not touched here."""
    from capcurr_plugin.judge.config import find_judge

    _tell_spend_at_the_end()
    build_host_judge = judge_util.build_judge

    @wraps(build_host_judge)
    def build_judge(**options: Any) -> Any:
        config = find_judge(str(options.get("model")), options.get("api_base"))
        if config is None:
            return build_host_judge(**options)
        from capcurr_plugin.vlmeval_host.judge import host_judge

        return host_judge(config, options)

    rebind(build_host_judge, build_judge)


def _tell_spend_at_the_end() -> None:
    """In the process that names the run: its children, and whoever started it with a name, know of it."""
    from capcurr_plugin.judge.judge import RUN, run_name, spend_line

    if RUN not in os.environ:
        run = run_name()
        atexit.register(lambda: _print(spend_line(run)))


def _print(line: str | None) -> None:
    if line:
        print(line, file=sys.stderr, flush=True)
