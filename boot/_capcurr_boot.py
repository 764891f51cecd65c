"""Lets plugins into VLMEvalKit, which has no plugin mechanism of its own.

Python calls `install` at every start, from `_capcurr_boot.pth` (up to 3.17) or `_capcurr_boot.start` (from 3.15).
So this module is small, imports nothing but sys, and costs one dictionary look-up an import until VLMEvalKit comes.
When a module of HOOKS has been executed, every entry point of the group `vlmeval.plugins` is called with it.
"""

import sys

TYPE_CHECKING = False  # typing itself costs more than everything here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from importlib.metadata import EntryPoint
    from types import ModuleType

GROUP = "vlmeval.plugins"
HOOKS = {"vlmeval.config": "on_config", "vlmeval.dataset.utils.judge_util": "on_judge_util"}

_named: "set[tuple[str, str]]" = set()  # entry points whose failure has been told


class Finder:
    """Finds nothing itself: lets the other finders find a hooked module and adds a call after its execution."""

    @staticmethod
    def find_spec(
        name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name not in HOOKS:
            return None
        for finder in sys.meta_path:
            if finder is Finder or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _call_after_execution(name, spec.loader)
                return spec
        return None


def install() -> None:
    """Put the finder in, once; modules that were imported before it (in a notebook) are served at once."""
    if Finder in sys.meta_path:
        return
    sys.meta_path.insert(0, Finder)  # pyright: ignore[reportArgumentType]  a class serves as finder, as in importlib
    for name in HOOKS:
        if name in sys.modules:
            _call_plugins(sys.modules[name])


def _call_after_execution(name: str, loader: "Loader") -> None:
    execute = loader.exec_module

    def exec_module(module: "ModuleType") -> None:
        execute(module)
        if module.__name__ == name:  # a zip importer is one loader for all modules of its archive
            _call_plugins(module)

    # On the instance, so that the loader keeps its type and with it get_source and resources.
    loader.exec_module = exec_module


def _call_plugins(module: "ModuleType") -> None:
    from importlib.metadata import entry_points

    hook_name = HOOKS[module.__name__]
    done: set[tuple[str, str]] = set()  # a package that is on sys.path twice is listed twice
    for entry_point in entry_points(group=GROUP):
        if (entry_point.name, entry_point.value) in done:
            continue
        done.add((entry_point.name, entry_point.value))
        try:
            hook = getattr(entry_point.load(), hook_name, None)
            if hook is not None:
                hook(module)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a plugin must not take its host down
            _warn(entry_point, hook_name, error)


def _warn(entry_point: "EntryPoint", hook_name: str, error: BaseException) -> None:
    import warnings

    key = (entry_point.name, entry_point.value)
    if key in _named:
        return
    _named.add(key)
    owner = f" of {entry_point.dist.metadata['Name']}" if entry_point.dist else ""
    warnings.warn(
        f"VLMEvalKit plugin {entry_point.name!r}{owner} failed in {hook_name} ({entry_point.value}): "
        f"{type(error).__name__}: {error}; VLMEvalKit goes on without it",
        RuntimeWarning,
        stacklevel=2,
    )
