"""Putting a function of ours where VLMEvalKit has one. Imports nothing of it: it may be half imported now."""

import sys


def rebind(original: object, replacement: object) -> None:
    """Wherever VLMEvalKit has bound the original, also by name in modules that imported it before."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").partition(".")[0] in ("vlmeval", "__main__"):
            for name, value in list(vars(module).items()):
                if value is original:
                    setattr(module, name, replacement)
