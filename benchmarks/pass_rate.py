"""How long K answers to each of many rows take, beside the published way: one row at a time, n=K, and wait.

    .envs/core/bin/python benchmarks/pass_rate.py http://127.0.0.1:8000      # any server of a vision-language model
    .envs/core/bin/python benchmarks/pass_rate.py --stub                     # how fast the client can be

Both ask the same server the same requests in one run. `--stub` is a server of the benchmark's own that answers at once,
in a process of its own, so that what is measured is the client.
"""

import argparse
import asyncio
import base64
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from capcurr_plugin.prompt import user_turn

MAX_TOKENS = 64
WORDS = ["--temperature", "0.7", "--top-p", "0.9", "--max-tokens", str(MAX_TOKENS), "--prompt", "user"]


def write_rows(folder: Path, count: int, images: bool) -> Path:
    from PIL import Image

    with (folder / "rows.jsonl").open("w") as file:
        for n in range(count):
            if images:
                picture = Image.effect_noise((84, 84), 90).convert("RGB")
                picture.putpixel((0, 0), (n % 256, n // 256, 0))  # each its own: servers remember images
                picture.save(folder / f"{n}.png")
            row = {"index": f"r{n}", "problem": f"{'<image>' * images}How many dots are in picture {n}?", "answer": "7"}
            file.write(json.dumps(row | {"images": [f"{n}.png"] * images, "source": "made up"}) + "\n")
    return folder / "rows.jsonl"


def one_at_a_time(url: str, rows: Path, k: int) -> tuple[float, int]:
    """The published way."""
    model = requests.get(f"{url}/v1/models", timeout=10).json()["data"][0]["id"]
    start, answers = time.perf_counter(), 0
    for row in map(json.loads, rows.read_text().splitlines()):
        text = user_turn(row["problem"].replace("<image>", ""), "user")
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        for name in row["images"]:
            data = base64.b64encode((rows.parent / name).read_bytes()).decode()
            content.insert(0, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
        body = {"model": model, "messages": [{"role": "user", "content": content}], "n": k}
        body |= {"temperature": 0.7, "top_p": 0.9, "max_tokens": MAX_TOKENS}
        reply = requests.post(f"{url}/v1/chat/completions", json=body, timeout=600)
        reply.raise_for_status()
        answers += len(reply.json()["choices"])
    return time.perf_counter() - start, answers


def all_at_once(url: str, rows: Path, k: int, parallel: int) -> tuple[float, float, dict[str, float]]:
    """Seconds, seconds of processor time, and what the command told."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [Path(sys.executable).with_name("capcurr"), "data", "pass-rate", rows, rows.with_name("out.jsonl")]
    words = ["--api-base", url, "-k", k, "--parallel", parallel, *WORDS]
    done = subprocess.run([str(w) for w in [*command, *words]], stderr=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = json.loads(done.stderr.splitlines()[-1])
    return told["seconds"], cpu, told


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    choice = (
        b'{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"<think> x </think> \\\\boxed{7}"}}'
    )
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length)) if length else b""
        n = int(body.partition(b'"n": ')[2].partition(b",")[0]) if body else 0
        said = b'{"data":[{"id":"m"}]}' if not body else b'{"choices":[%s]}' % b",".join([choice] * n)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said) + said
        )


async def _stub(port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


def stub(rows: int) -> None:
    port = 18_000 + os.getpid() % 10_000
    with subprocess.Popen([sys.executable, __file__, "--stub-at", str(port)]) as server:
        time.sleep(1)
        with tempfile.TemporaryDirectory() as folder:
            for k, count in ((1, rows), (16, rows // 4)):
                table = write_rows(Path(folder), count, images=False)
                seconds, cpu, told = all_at_once(f"http://127.0.0.1:{port}", table, k, 256)
                answers, asked = told["answers"] / seconds, told["requests"] / seconds
                print(f"n={k}: {answers:,.0f} answers and {asked:,.0f} requests a second; {cpu:.1f} s of CPU")
                for path in Path(folder).glob("out*"):
                    path.unlink()
        server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--stub", action="store_true")
    parser.add_argument("--stub-at", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("-k", type=int, default=16)
    parser.add_argument("--parallel", type=int, default=128)
    args = parser.parse_args()
    if args.stub_at:
        asyncio.run(_stub(args.stub_at))
    elif args.stub:
        stub(20_000)
    else:
        with tempfile.TemporaryDirectory() as folder:
            rows = write_rows(Path(folder), args.rows, images=True)
            seconds, cpu, told = all_at_once(args.url, rows, args.k, args.parallel)
            slow, answers = one_at_a_time(args.url, rows, args.k)
        print(f"all at once: {args.rows / seconds:.2f} rows a second ({told['answers']} answers in {seconds:.1f} s)")
        print(f"one at a time: {args.rows / slow:.2f} rows a second ({answers} answers in {slow:.1f} s)")
        print(f"{slow / seconds:.1f} times as fast; the client took {100 * cpu / seconds:.0f} % of one core")


if __name__ == "__main__":
    main()
