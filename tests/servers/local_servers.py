"""Servers on this machine in place of what costs money or needs a GPU, spoken to by the real clients."""

import json
import random
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Answers a request's JSON with what `answer` makes of it; keeps all requests, and those that it answered well."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer, fault=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.fault = answer, fault or (lambda number, body: None)
        self.requests, self.answered = [], []
        self.models = ["served/model"]  # that it lists
        self.get = self.post = None  # that take the place of the usual answers
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # clients that are killed are part of the tests


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.server.get:
            return self.server.get(self)
        return self.send(
            200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]}
        )

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.requests)
            self.server.requests.append(
                {"path": self.path, "headers": {name.lower(): text for name, text in self.headers.items()}, **body}
            )
        fault = self.server.fault(number, body)
        if fault is not None:
            return fault(self)
        reply = self.server.post(self, body) if self.server.post else self.server.answer(body)
        with self.server.lock:
            self.server.answered.append(body)
        return self.send(200, reply)

    def send(self, code, value, **headers):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serving(answer, fault=None):
    server = Server(answer, fault)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# Replies in the shapes of the two protocols


def chat_completion(text, finish="stop", **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 11, "completion_tokens": len(text.split()), "total_tokens": 11 + len(text.split())}
    return {"id": "1", "object": "chat.completion", "model": "served/model", "choices": [choice], "usage": usage}


def streamed(completion):
    """The same in pieces of one letter, as a server sends it when it is asked to stream."""
    said = completion["choices"][0]["message"]["content"]
    chunks = [{"choices": [{"index": 0, "delta": {"content": letter}}]} for letter in said]
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"


def claude_message(text, stop="end_turn", tokens=(100, 10)):
    usage = {"input_tokens": tokens[0], "output_tokens": tokens[1]}
    content = [{"type": "text", "text": text}] if text else []
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def asked_text(body):
    """The words of a request, without its images."""
    parts = []
    for message in body["messages"]:
        content = message["content"]
        parts += [content] if isinstance(content, str) else [p["text"] for p in content if p["type"] == "text"]
    return "\n".join(parts)


def system_text(body):
    return "\n".join(m["content"] for m in body["messages"] if m["role"] == "system")


# Faults


def http_error(code, **headers):
    error = {"type": "error", "error": {"type": "api_error", "message": "not now"}}
    return lambda handler: handler.send(code, error, **headers)


def garbage(handler):
    handler.send(200, b'{"id": "msg_1", "content": [{"type": "te')


def closed_in_the_middle(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b'{"id": "msg_1", "type"')
    handler.close_connection = True


def hanging(seconds):
    def hang(handler):
        time.sleep(seconds)
        handler.close_connection = True

    return hang


def without_end(pause, piece=b" " * (1 << 20)):
    """Goes on with its reply until nobody listens."""

    def send(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.close_connection = True
        try:
            while True:
                handler.wfile.write(piece)
                time.sleep(pause)
        except OSError:
            pass

    return send


FAULTS = {
    "429": http_error(429, retry_after_ms="5"),
    "500": http_error(500),
    "529": http_error(529),
    "garbage": garbage,
    "no message": lambda handler: handler.send(200, {"type": "error"}),
    "hangs": hanging(5.0),  # longer than clients wait in tests
    "closes": closed_in_the_middle,
}


def sometimes(seed, share=0.3, kinds=tuple(FAULTS)):
    """A share of all requests ends badly, in every way."""
    dice, lock = random.Random(seed), threading.Lock()

    def fault(number, body):
        with lock:
            return FAULTS[dice.choice(kinds)] if dice.random() < share else None

    return fault
