"""verl's own data set reads what `capcurr data convert --to verl` writes."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from capcurr_plugin.cli import main
from capcurr_plugin.prompt import UNIFIED_PROMPT


@pytest.fixture
def source():
    return Path(__file__).with_name("sample_rows") / "rows.jsonl"


class NoProcessor:
    """verl only asks whether there is one, until prompts are tokenized."""


def read_with_verl(path, tmp_path):
    from verl.utils.dataset.rl_dataset import RLHFDataset

    config = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path / "cache")})
    return RLHFDataset(str(path), tokenizer=None, config=config, processor=NoProcessor())


@pytest.mark.parametrize("options", [[], ["--embed-images"]], ids=["paths", "embedded"])
def test_rlhf_dataset_gets_prompts_images_and_truths(source, tmp_path, options):
    from verl.utils.dataset.rl_dataset import collate_fn
    from verl.utils.dataset.vision_utils import process_image

    out = tmp_path / "train.parquet"
    assert main(["data", "convert", str(source), str(out), "--to", "verl", *options]) == 0
    rows = read_with_verl(out, tmp_path)
    assert len(rows) == 12
    two_images = next(row for row in rows if row["index"] == "v4")
    (message,) = two_images["raw_prompt"]
    first, second, text = message["content"]
    assert text["text"] == f"How many shapes are in both images together? {UNIFIED_PROMPT}"
    for content, name in ((first, "one"), (second, "four")):
        seen = process_image({k: v for k, v in content.items() if k == "image"})
        wanted = Image.open(source.parent / "images" / f"{name}.png").convert("RGB")
        assert seen.resize((1, 1)).getpixel((0, 0)) == wanted.resize(seen.size).resize((1, 1)).getpixel((0, 0))
    text_only = next(row for row in rows if row["index"] == "t1")
    assert text_only["raw_prompt"] == [{"role": "user", "content": f"What is 17 + 26? {UNIFIED_PROMPT}"}]
    batch = collate_fn([two_images, text_only])
    assert list(batch["data_source"]) == ["visual_reasoning", "textual_reasoning"]
    assert [truth["ground_truth"] for truth in batch["reward_model"]] == ["3", "43"]


def test_the_reward_of_the_recipe_scores_what_the_data_set_yields(source, tmp_path):
    from verl.utils.import_utils import load_extern_object

    compute_score = load_extern_object("pkg://capcurr_plugin.reward", "compute_score")
    out = tmp_path / "train.parquet"
    assert main(["data", "convert", str(source), str(out), "--to", "verl"]) == 0
    for row in read_with_verl(out, tmp_path):
        truth = row["reward_model"]["ground_truth"]
        arguments = {"data_source": row["data_source"], "ground_truth": truth, "extra_info": row["extra_info"]}
        right = compute_score(solution_str=f"<think> so </think> \\boxed{{{truth}}}", **arguments)
        wrong = compute_score(solution_str="<think> so </think> \\boxed{none of these}", **arguments)
        assert (right["score"], wrong["score"]) == (1.0, 0.1)
