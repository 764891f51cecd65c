"""Copied into environments that hold CPU torch: lets a torchvision that was built for CUDA load beside it.

Its compiled part cannot load there, and then its Python part stops at two operators that nobody declared. Declaring
them is enough for torchvision.transforms, all that the hosts use on a CPU; calling them still fails.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_libraries: list[Any] = []  # operators live as long as the library object that declared them


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(_Finder)  # pyright: ignore[reportArgumentType]
            _declare_operators()
        return None


def install() -> None:
    sys.meta_path.insert(0, _Finder)  # pyright: ignore[reportArgumentType]


def _declare_operators() -> None:
    import torch
    from torch.library import Library

    if torch.version.cuda is not None:
        return
    library = Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
