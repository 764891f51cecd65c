"""The ablation whose first stage is supervised training on captions: verl's SFT trainer, then two stages."""

import json

import pytest
from conftest import SMALL, kill_capcurr_at, run_capcurr

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def captions(toy):
    rows = [json.loads(line) for line in (toy / "perception.jsonl").read_text().splitlines()]
    lines = [
        {"example_id": row["index"], "description": f"It is {row['answer']}.", "image_file": row["images"][0]}
        for row in rows
    ]
    (toy / "docci.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run_capcurr("data", "captions", toy / "docci.jsonl", toy / "captions.parquet")
    assert done.returncode == 0, done.stderr
    return toy / "captions.parquet"


def test_the_first_stage_is_supervised_and_the_others_go_on_from_it(toy, older_qwen, captions, tmp_path):
    settings = [
        "data.train_batch_size=8",
        "data.micro_batch_size_per_gpu=8",
        "trainer.total_epochs=10",
        "optim.lr=1e-3",
    ]
    command = ["train", "qwen2_5_vl_7b", "--recipe", "caption_sft", "--data", toy, "--model", older_qwen, "--cpu"]
    short = [*SMALL, "trainer.total_training_steps=1", "trainer.val_before_train=false", "trainer.test_freq=-1"]
    command += ["--out", tmp_path / "run", "--set-sft", *settings, "--set", *short]
    kill_capcurr_at(6, tmp_path / "run" / "1_caption_sft" / "losses-1.jsonl", *command)
    done = run_capcurr(*command)
    assert done.returncode == 0, done.stderr
    assert "1/3 caption_sft: goes on from global_step_" in done.stdout
    stages = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]
    assert [stage["run"] for stage in stages] == [
        "caption_sft",
        "qwen2_5_vl_7b/stage2_text_reasoning",
        "qwen2_5_vl_7b/stage3_visual_reasoning",
    ]
    supervised, second, _ = stages
    assert (supervised["steps"], supervised["measure"], len(supervised["commands"])) == (40, "loss", 2)
    assert supervised["last"] < supervised["first"] - 0.5
    assert f"actor_rollout_ref.model.path={supervised['model']}" in second["commands"][0]
    assert [stage["measure"] for stage in stages[1:]] == ["reward", "reward"]


def test_rows_that_are_no_captions_are_told(toy, older_qwen, tmp_path):
    command = ["train", "qwen2_5_vl_7b", "--recipe", "caption_sft", "--data", toy, "--model", older_qwen, "--cpu"]
    done = run_capcurr(*command, "--out", tmp_path / "run", "--rows", f"captions={toy / 'perception.jsonl'}")
    assert done.returncode == 2
    assert "perception.jsonl, line 1: is no conversation about an image; write captions with" in done.stderr
    done = run_capcurr(*[word for word in command if word != "--cpu"], "--out", tmp_path / "run", "--nnodes", "2")
    assert "the caption stage runs on one machine" in done.stderr
