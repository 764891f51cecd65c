"""Everything that knows VLMEvalKit. In a notebook that imported VLMEvalKit before the plugin was installed, call
`capcurr_plugin.vlmeval_host.activate()`; otherwise there is nothing to call.
"""


def activate() -> None:
    """Let the plugins into this very process, which started before they were installed."""
    import _capcurr_boot

    _capcurr_boot.install()
