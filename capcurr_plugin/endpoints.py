"""Addresses of servers that speak the OpenAI protocol."""

import re
from urllib.parse import urlsplit

from capcurr_plugin.errors import InputError


def api_root(url: str) -> str:
    """The root of a server, however much of a chat endpoint's address is given."""
    root = re.sub(r"/+(chat/completions/*)?$", "", url.strip())
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", root):
        raise InputError(f"{url!r}: is no server's address; give one such as http://127.0.0.1:8000/v1")
    return root if urlsplit(root).path else f"{root}/v1"
