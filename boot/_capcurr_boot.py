"""Lets plugins into VLMEvalKit, which has no plugin mechanism of its own, and into parts of hosts that load late.

Python calls `install` at every start, from `_capcurr_boot.pth` (up to 3.17) or `_capcurr_boot.start` (from 3.15).
So this module is small, imports nothing but sys, and costs two dictionary look-ups an import until a host comes.
When a module of HOOKS has been executed, every entry point of the group `vlmeval.plugins` is called with it; other
modules are waited for with `when_executed`.
"""

import sys

TYPE_CHECKING = False  # typing itself costs more than everything here
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

GROUP = "vlmeval.plugins"
HOOKS = {"vlmeval.config": "on_config", "vlmeval.dataset.utils.judge_util": "on_judge_util"}

_awaited: "dict[str, Callable[[ModuleType], object]]" = {}
_named: "set[tuple[str, str]]" = set()  # entry points whose failure has been told


class Finder:
    """Finds nothing itself: lets the other finders find a hooked module and adds a call after its execution."""

    @staticmethod
    def find_spec(
        name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name not in HOOKS and name not in _awaited:
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
            _call(sys.modules[name])


def when_executed(name: str, call: "Callable[[ModuleType], object]") -> None:
    """Call with a module once it has been executed, or now; what the call raises is told, and its host goes on."""
    install()
    _awaited[name] = call
    if name in sys.modules:
        _call(sys.modules[name])


def _call_after_execution(name: str, loader: "Loader") -> None:
    execute = loader.exec_module

    def exec_module(module: "ModuleType") -> None:
        execute(module)
        if module.__name__ == name:  # a zip importer is one loader for all modules of its archive
            _call(module)

    # On the instance, so that the loader keeps its type and with it get_source and resources.
    loader.exec_module = exec_module


def _call(module: "ModuleType") -> None:
    if module.__name__ in HOOKS:
        _call_plugins(module)
    if module.__name__ in _awaited:
        try:
            _awaited[module.__name__](module)
        except Exception as error:  # noqa: BLE001  a plugin must not take its host down
            _warn_once(module.__name__, "", f"capcurr-plugin failed at {module.__name__}", error)


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
            owner = f" of {entry_point.dist.metadata['Name']}" if entry_point.dist else ""
            what = f"VLMEvalKit plugin {entry_point.name!r}{owner} failed in {hook_name} ({entry_point.value})"
            _warn_once(entry_point.name, entry_point.value, what, error)


def _warn_once(name: str, value: str, what: str, error: BaseException) -> None:
    import warnings

    if (name, value) in _named:
        return
    _named.add((name, value))
    message = f"{what}: {type(error).__name__}: {error}; the host goes on without it"
    warnings.warn(message, RuntimeWarning, stacklevel=3)
