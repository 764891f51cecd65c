"""The servers that judges run on, each asked through one function: a question in, a reply out, or an error that says
whether asking again can help."""

import base64
import hashlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from capcurr_plugin.errors import JobError
from capcurr_plugin.judge.config import JudgeConfig, Tokens
from capcurr_plugin.judge.ledger import Reply

BUSY = {408, 409, 425, 429, 529}  # and all from 500 on
WRONG = {400, 413, 422}  # what is asked, not who asks or whom
AT_ONCE = 256  # connections that are kept open
MAX_REPLY_BYTES = 16 << 20

# The version of Anthropic's API that takes a temperature, whichever the installed SDK asks for by itself. The SDKs from
# 1.0 on have no argument for it either, so it goes into the body; extra_body and extra_headers exist in all of them.
API_VERSION, BEDROCK_VERSION = "2023-06-01", "bedrock-2023-05-31"

THREADS_OF_CLIENT = 8
KEEP = {"type": "ephemeral"}
BEDROCK_ACCESS = "set AWS_BEARER_TOKEN_BEDROCK to a Bedrock API key, or pip install boto3 and give it AWS credentials"


class Picture(Protocol):
    """What is sent as an image. The digest names it where questions are told apart."""

    @property
    def digest(self) -> str: ...
    def sent(self) -> tuple[bytes, str]:
        """The content, and its media type."""
        ...


@dataclass(frozen=True)
class Image:
    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def sent(self) -> tuple[bytes, str]:
        return self.content, self.media_type


@dataclass(frozen=True)
class Question:
    parts: Sequence[str | Picture]
    temperature: float
    max_tokens: int
    system: str | None = None
    to_be_repeated: bool = False  # all of it will be asked again soon, so that the server should keep it


class JudgeFailed(JobError):
    """The judge does not answer this, and will not when it is asked again."""


class QuestionRefused(JudgeFailed):
    """The judge's server takes this question for wrong; it may answer others."""


class JudgeBusy(Exception):
    """The judge may answer when it is asked again, after so many seconds if it named them."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


Ask = Callable[[Question], Reply]


def connect(config: JudgeConfig) -> Ask:
    """What asks the judge. Nothing is sent yet."""
    return _openai(config) if config.api == "openai" else _claude(config)


# Claude, through Anthropic and Amazon Bedrock


def _claude(config: JudgeConfig) -> Ask:
    client_of_thread = _spread(lambda: claude_client(config))
    version = {"anthropic_version": BEDROCK_VERSION} if config.api == "bedrock" else {}
    headers = {} if config.api == "bedrock" else {"anthropic-version": API_VERSION}

    def ask(question: Question) -> Reply:
        import anthropic

        params = claude_params(config, question)
        temperature = params.pop("temperature")
        try:
            message = client_of_thread().messages.create(
                **params, extra_body={**version, "temperature": temperature}, extra_headers=headers
            )
            return claude_reply(message)
        except anthropic.APIStatusError as error:
            raise _of_status(config, error.status_code, _reason(error), error.response.headers) from None
        except anthropic.APIConnectionError as error:  # and a timeout, which is one
            raise JudgeBusy(_reason(error)) from None
        except (ImportError, RuntimeError) as error:  # Bedrock's signing, when it has no boto3 or no credentials
            raise JudgeFailed(f"judge {config.name}: {' '.join(str(error).split())}; {BEDROCK_ACCESS}") from None
        except (anthropic.APIError, ValueError, AttributeError, TypeError) as error:  # a body that is no message
            raise JudgeBusy(f"the reply is no message ({type(error).__name__})") from None

    return ask


def _spread(make: Callable[[], Any]) -> Callable[[], Any]:
    """A client for each few threads: one client looks through all its connections for every call, which takes longer
    than the call's own work when there are many."""
    clients, threads, own = [make()], itertools.count(), threading.local()
    making = threading.Lock()

    def of_thread() -> Any:
        if not hasattr(own, "client"):
            with making:
                number = next(threads) // THREADS_OF_CLIENT
                if number == len(clients):
                    clients.append(make())
                own.client = clients[number]
        return own.client

    return of_thread


def claude_params(config: JudgeConfig, question: Question) -> dict[str, Any]:
    """A message to be made, in the API's words. What does not change from question to question is marked to be kept by
    the server, which charges a tenth for it from then on."""
    content = _claude_content(question)
    if question.to_be_repeated:
        content[-1]["cache_control"] = KEEP
    system = {"system": [{"type": "text", "text": question.system, "cache_control": KEEP}]} if question.system else {}
    return {
        "model": config.model,
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
        "messages": [{"role": "user", "content": content}],
        **system,
    }


def claude_reply(message: Any) -> Reply:
    text = "".join(block.text for block in message.content if block.type == "text")
    usage = message.usage
    read, written = (
        int(getattr(usage, name, None) or 0) for name in ("cache_read_input_tokens", "cache_creation_input_tokens")
    )
    tokens = Tokens(usage.input_tokens + read + written, usage.output_tokens, read, written)
    return Reply(text, message.stop_reason, tokens)


def claude_client(config: JudgeConfig) -> Any:
    try:
        import anthropic
    except ImportError:
        raise JudgeFailed(
            f"judge {config.name}: needs the anthropic package; pip install 'capcurr-plugin[judge]'"
        ) from None
    # Retries are ours: they outlast a server's own retry-after, and they also cover a body that is no JSON.
    options: dict[str, Any] = {"timeout": config.timeout, "max_retries": 0, "base_url": config.base_url}
    try:
        if config.api == "anthropic":
            return anthropic.Anthropic(api_key=config.key or _key(config, "ANTHROPIC_API_KEY"), **options)
        key = config.key or os.environ.get("AWS_BEARER_TOKEN_BEDROCK")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        bedrock: Any = anthropic  # which exports it by other means in every second version
        return bedrock.AnthropicBedrock(aws_region=region, **({"api_key": key} if key else {}), **options)
    except (ImportError, anthropic.AnthropicError) as error:
        raise JudgeFailed(f"judge {config.name}: {' '.join(str(error).split())}; {BEDROCK_ACCESS}") from None
    except TypeError:
        raise JudgeFailed(
            f"judge {config.name}: anthropic {anthropic.__version__} knows no Bedrock API key; pip install -U anthropic"
        ) from None


def _claude_content(question: Question) -> list[dict[str, Any]]:
    return [{"type": "text", "text": p} if isinstance(p, str) else _claude_image(p) for p in question.parts]


def _claude_image(picture: Picture) -> dict[str, Any]:
    content, media_type = picture.sent()
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": _base64(content)}}


# Any server that speaks the OpenAI protocol


def _openai(config: JudgeConfig) -> Ask:
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=AT_ONCE))
    key = config.key or os.environ.get("OPENAI_API_KEY") or "none"
    url = f"{config.base_url}/chat/completions"

    def ask(question: Question) -> Reply:
        system = [{"role": "system", "content": question.system}] if question.system else []
        body = {
            "model": config.model,
            "messages": [*system, {"role": "user", "content": _openai_content(question)}],
            "temperature": question.temperature,
            "max_tokens": question.max_tokens,
        }
        try:
            answer = session.post(
                url,
                json=body,
                headers={"Authorization": f"Bearer {key}"},
                timeout=config.timeout,
                allow_redirects=False,
                stream=True,
            )
            with answer:
                content = _bounded(_arriving(answer.raw), time.monotonic() + config.timeout)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise JudgeBusy(_reason(error)) from None
        if not answer.ok:
            told = content[:1_000].decode(errors="replace")
            raise _of_status(config, answer.status_code, " ".join(told.split())[:300], answer.headers)
        try:
            reply = json.loads(content)
            choice, usage = reply["choices"][0], reply.get("usage") or {}
            read = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"), read)
            tokens = Tokens(*(int(count or 0) for count in counts))
            return Reply(choice["message"]["content"] or "", choice.get("finish_reason"), tokens)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise JudgeBusy(f"the reply is no chat completion ({type(error).__name__})") from None

    return ask


def _arriving(response: Any) -> Iterator[bytes]:
    """As it comes; urllib3 before 2.3 can only wait until there are as many bytes as are asked for."""
    read = getattr(response, "read1", None) or (lambda _size, **options: response.read(1, **options))
    while piece := read(1 << 16, decode_content=True):
        yield piece


def _bounded(chunks: Iterable[bytes], deadline: float) -> bytes:
    """A reply of usual size, within the time of a call: a server may send without end, or a byte now and then."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > MAX_REPLY_BYTES:
            raise JudgeBusy(f"the reply has over {MAX_REPLY_BYTES >> 20} MB")
        if time.monotonic() > deadline:
            raise JudgeBusy("the reply did not end in time")
    return bytes(content)


def _openai_content(question: Question) -> list[dict[str, Any]]:
    return [{"type": "text", "text": p} if isinstance(p, str) else _openai_image(p) for p in question.parts]


def _openai_image(picture: Picture) -> dict[str, Any]:
    content, media_type = picture.sent()
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{_base64(content)}"}}


# Errors


def _of_status(config: JudgeConfig, status: int, reason: str, headers: Mapping[str, str]) -> Exception:
    if status in BUSY or status >= 500:
        return JudgeBusy(f"HTTP {status}", _wait(headers))
    advice = {
        401: "; check its API key",
        403: "; check that the key may use the model",
        404: "; check the model's name and the address",
    }
    failed = QuestionRefused if status in WRONG else JudgeFailed
    return failed(f"judge {config.name}: HTTP {status}: {reason[:300]}{advice.get(status, '')}")


def _wait(headers: Mapping[str, str]) -> float | None:
    """The server's own retry-after, in seconds. One that is given as a date is passed over."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name, "")) * unit)
        except ValueError:
            continue
    return None


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _key(config: JudgeConfig, variable: str) -> str:
    key = os.environ.get(variable)
    if not key:
        raise JudgeFailed(f"judge {config.name}: no API key; set {variable}")
    return key


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
