"""A tiny tokenizer and a toy task, saved as verl loads them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capcurr_plugin.verl_host.steps import read_steps

CAPCURR = Path(sys.executable).with_name("capcurr")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """Every byte is a token, so that any text can be said."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>")
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


def host_environment():
    """For a run of verl: no network, and bytecode kept, since each of its ten processes imports the same packages."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }


def run_capcurr(*words, **environment):
    command = [str(word) for word in (CAPCURR, *words)]
    return subprocess.run(command, env=host_environment() | environment, capture_output=True, text=True)


def kill_capcurr_at(step, steps_file, *words):
    """Start the command, and kill it when a line of that step stands in the file."""
    command = [str(word) for word in (CAPCURR, *words)]
    process = subprocess.Popen(command, env=host_environment(), start_new_session=True)
    while not any(line["step"] >= step for line in read_steps(steps_file)):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    process.kill()
    process.wait()


def run_on_cpu(*words):
    """What a process of verl's on the CPU said; it must end well."""
    done = subprocess.run(
        [sys.executable, *(str(word) for word in words)],
        env=host_environment() | {"VERL_PLATFORM": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Rows of the three capabilities and of the validation, for models that `toy_task.make_model` makes."""
    import toy_task

    from capcurr_plugin.rows import CAPABILITIES

    folder = tmp_path_factory.mktemp("toy")
    validation = []
    for capability in CAPABILITIES:
        file = toy_task.make_rows(folder, capability, 32)
        validation += file.read_text().splitlines()[:4]
    (folder / "validation.jsonl").write_text("\n".join(validation) + "\n")
    return folder


@pytest.fixture(scope="session")
def qwen(toy):
    import toy_task

    return toy_task.make_model("qwen3_vl", toy / "qwen3_vl")


@pytest.fixture(scope="session")
def older_qwen(toy):
    import toy_task

    return toy_task.make_model("qwen2_5_vl", toy / "qwen2_5_vl")


@pytest.fixture(scope="session")
def internvl(toy):
    import toy_task

    return toy_task.make_model("internvl", toy / "internvl")


SMALL = [
    "data.train_batch_size=8",
    "data.val_batch_size=12",
    "data.max_prompt_length=256",
    "data.max_response_length=24",
    "data.min_pixels=null",
    "data.max_pixels=null",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.actor.optim.lr=1e-3",
    "trainer.total_epochs=2",
    "trainer.save_freq=2",
    "trainer.test_freq=4",
]
