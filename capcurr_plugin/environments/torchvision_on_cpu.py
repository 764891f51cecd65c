"""Copied into environments that hold CPU torch: lets a torchvision that was built for CUDA load beside it.

Its compiled part cannot load there, and then its Python part stops at two operators that nobody declared. Declaring
them is enough for torchvision.transforms; calling them still fails. Images are decoded by Pillow instead.
"""

import importlib.util
import io
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_libraries: list[Any] = []  # operators live as long as the library object that declared them


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "torchvision":
            _declare_operators()
        if name != "torchvision.io.image":
            return None
        sys.meta_path.remove(_Finder)  # pyright: ignore[reportArgumentType]
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        loader: Any = spec.loader
        loader.exec_module = _then(loader.exec_module, _decode_with_pillow)
        return spec


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


def _then(execute: Callable[[ModuleType], None], change: Callable[[Any], None]) -> Callable[[ModuleType], None]:
    def executing(module: ModuleType) -> None:
        execute(module)
        change(module)

    return executing


def _decode_with_pillow(module: Any) -> None:
    """Where the compiled decoder did not load. What it is asked for here is colour, whatever the image's mode."""
    if module._has_image_ops():
        return

    def decode_image(input: Any, *args: Any, **options: Any) -> Any:
        import PIL.Image
        import torch
        from torchvision.transforms.functional import pil_to_tensor

        source = io.BytesIO(bytes(input.numpy())) if isinstance(input, torch.Tensor) else str(input)
        return pil_to_tensor(PIL.Image.open(source).convert("RGB"))

    module.decode_image = decode_image
