"""What VLMEvalKit is given, through the entry-point group `vlmeval.plugins` (docs/vlmeval-plugins.md)."""

from functools import partial
from types import ModuleType

from capcurr_plugin.vlmeval_host.aliases import load_aliases


def on_config(config: ModuleType) -> None:
    """Add the aliases to the models that run.py knows. VLMEvalKit reads and edits a partial's keywords."""
    from capcurr_plugin.vlmeval_host.served_model import ServedModel

    for alias in load_aliases().values():
        config.supported_VLM[alias.name] = partial(
            ServedModel, api_base=alias.api_base, system_prompt=alias.system_prompt, temperature=0
        )
