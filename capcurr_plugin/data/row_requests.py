"""How a row is asked: its words and images as messages, and the key that its answers are found by."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from capcurr_plugin.chat import Unusable
from capcurr_plugin.images import MAX_PIXELS, data_url
from capcurr_plugin.prompt import Placement, system_message, user_turn
from capcurr_plugin.rows import IMAGE_MARK, ImageRoot, Row, RowError


@dataclass(frozen=True)
class Asking:
    """How a row becomes a request."""

    prompt: Placement
    min_pixels: int | None = None
    max_pixels: int | None = None

    def key(self, row: Row) -> str:
        """Names the row's question: its index, for people, and all that is asked."""
        asked = json.dumps([row.problem, row.images, self.prompt, self.min_pixels, self.max_pixels])
        return f"{row.index} {hashlib.blake2b(asked.encode('utf-8', 'backslashreplace'), digest_size=8).hexdigest()}"

    def messages(self, row: Row, images: ImageRoot) -> list[dict[str, Any]]:
        system = system_message(self.prompt)
        start = [{"role": "system", "content": system}] if system else []
        text = user_turn(row.problem, self.prompt)
        if not row.images:
            return [*start, {"role": "user", "content": text}]
        content: list[dict[str, Any]] = []
        pieces = text.split(IMAGE_MARK)
        for piece, name in zip(pieces, [*row.images, None], strict=True):
            if piece.strip():
                content.append({"type": "text", "text": piece})
            if name is not None:
                content.append({"type": "image_url", "image_url": {"url": self._picture(images, name)}})
        return [*start, {"role": "user", "content": content}]

    def _picture(self, images: ImageRoot, name: str) -> str:
        try:
            return data_url(images.find(name), name, self.min_pixels or 1, self.max_pixels or MAX_PIXELS)
        except RowError as error:
            raise Unusable(str(error)) from None
