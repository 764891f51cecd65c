"""`--ray` does the same work on a cluster: the same requests, the same files."""

import base64
import hashlib
import json

import local_servers as servers
import pytest
from conftest import run_capcurr, run_on_cpu

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """Two nodes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Multiple-choice rows with images of many sizes, one of them cut off."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("rows")
    lines = []
    for n in range(80):
        image = Image.effect_noise((20 + 7 * n, 900 - 10 * n), 90)
        image.save(folder / f"{n}.{'png' if n % 2 else 'jpg'}")
        options = {f"option_{letter}": f"{letter.lower()} {n}" for letter in "ABCD"}
        shown = "\n".join(f"{letter}: {options[f'option_{letter}']}" for letter in "ABCD")
        row = {"index": f"r{n}", "prompt": f"<image>Which one, {n}?\n{shown}", "answer": "ABCD"[n % 4], **options}
        image_path = [f"{n}.{'png' if n % 2 else 'jpg'}"]
        row |= {"example_id": f"e{n}", "split": "train", "image_path": image_path, "note": [1, 2.0, None]}
        lines.append(json.dumps(row | {"caption": f"Picture {n}."}) + "\n")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:500])
    (folder / "rows.jsonl").write_text("".join(lines))
    return folder / "rows.jsonl"


def answer(body):
    """As many as are asked for, by all that is asked, pictures too."""
    digest = hashlib.sha256(json.dumps(body["messages"]).encode()).digest()
    texts = [f"<think> x </think> \\boxed{{{'ABCD'[digest[n] % 4]}}}" for n in range(body["n"])]
    choices = [{"index": n, "finish_reason": "stop", "message": {"content": text}} for n, text in enumerate(texts)]
    return {"model": "served/model", "choices": choices}


def requests(server):
    asked = [{name: value for name, value in body.items() if name != "headers"} for body in server.requests]
    return sorted(json.dumps(body, sort_keys=True) for body in asked)


def files(folder):
    """What a run wrote. Answers stand in the order in which they came."""
    return {
        path.name: sorted(path.read_bytes().splitlines()) if "answers" in path.name else path.read_bytes()
        for path in sorted(folder.iterdir())
    }


def run(command, rows, folder, *words, **environment):
    folder.mkdir()
    with servers.serving(answer) as server:
        where = ["--model", f"small={server.url}"] if command == "filter" else ["--api-base", server.url, "-k", 4]
        words = ["--max-pixels", 90_000, "--skip-refused", *where, *words]
        done = run_capcurr("data", command, rows, folder / "out.jsonl", *words, **environment)
    assert done.returncode == 0, done.stderr
    return files(folder), requests(server)


@pytest.mark.parametrize("command", ["pass-rate", "filter"])
def test_a_cluster_asks_the_same_and_writes_the_same(tmp_path, cluster, rows, command):
    here = run(command, rows, tmp_path / "here")
    assert run(command, rows, tmp_path / "there", "--ray", "--ray-address", cluster) == here
    written, asked = here
    assert len(asked) == (79 if command == "pass-rate" else 159)
    assert b"7.png" in written[f"out.jsonl{'.small' * (command == 'filter')}.refused.jsonl"]


def test_fingerprints_are_the_same(tmp_path, cluster, rows):
    """Of a benchmark's images, one in ten of the rows' own, and of all rows; one image is cut off."""
    table = tmp_path / "T.tsv"
    images = [base64.b64encode((rows.parent / f"{n}.jpg").read_bytes()).decode() for n in range(0, 80, 10)]
    table.write_text("index\timage\tquestion\n" + "".join(f"{n}\t{i}\tWhat is it?\n" for n, i in enumerate(images)))

    def found(name, *words):
        folder = tmp_path / name
        folder.mkdir()
        words = ["--benchmarks", table, "--report", folder / "leaks.jsonl", "--out", folder / "out.jsonl", *words]
        words += ["--on-bad-row", "skip"]
        done = run_capcurr("data", "overlap", rows, *words, CAPCURR_CACHE=str(tmp_path / f"cache {name}"))
        assert done.returncode == 0, done.stderr
        return files(folder)

    here = found("here")
    assert found("there", "--ray", "--ray-address", cluster) == here
    assert len(here["leaks.jsonl"].splitlines()) == len(images)
    assert b"7.png" in here["out.jsonl.bad.jsonl"]


def test_the_cluster_is_found_by_its_variable(tmp_path, cluster, rows):
    here = run("pass-rate", rows, tmp_path / "here", "--until-width", 0.7)
    assert run("pass-rate", rows, tmp_path / "there", "--until-width", 0.7, "--ray", RAY_ADDRESS=cluster) == here


def test_a_cluster_that_is_not_there_is_told(tmp_path, rows):
    with servers.serving(answer) as server:
        words = ["--api-base", server.url, "--ray", "--ray-address", "127.0.0.1:1"]
        done = run_capcurr("data", "pass-rate", rows, tmp_path / "out.jsonl", *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("capcurr: error: --ray: no cluster at 127.0.0.1:1 (")
    assert "Traceback" not in done.stderr


IN_MANY_JOBS = """
import argparse
from capcurr_plugin import ray_jobs

ray_jobs.PIECES = 3
values = [1, 1.0, None, "a", [2, 2.5], {"b": None}, b"c"] * 9
with ray_jobs.mapped_by(argparse.Namespace(ray=True, ray_address=%r)) as mapped:
    found = list(mapped(lambda value: [value, type(value).__name__], values, 4))
assert found == [[value, type(value).__name__] for value in values]
"""


def test_values_keep_their_order_and_types_over_many_jobs(cluster):
    run_on_cpu("-c", IN_MANY_JOBS % cluster)
