"""InternVL in verl: its processor, the prompts that an engine expands, its images."""

import pytest
import tiny_models
from PIL import Image

from capcurr_plugin.verl_host.internvl import bounded, collapsed

START, CONTEXT, END = 1, 2, 3


@pytest.mark.parametrize(
    ("prompt", "short"),
    [
        ([9, START, CONTEXT, CONTEXT, CONTEXT, END, 8], [9, CONTEXT, 8]),
        ([START, CONTEXT, END, START, CONTEXT, CONTEXT, END], [CONTEXT, CONTEXT]),
        ([9, 8, 7], [9, 8, 7]),
        ([], []),
        ([9, CONTEXT, 8], [9, CONTEXT, 8]),  # it is bare already
        ([START, 9, END], [START, 9, END]),  # tags without an image are text
        ([START, CONTEXT, CONTEXT], [CONTEXT]),  # cut off
    ],
)
def test_an_expanded_image_is_one_placeholder(prompt, short):
    assert collapsed(prompt, START, CONTEXT, END) == short
    assert collapsed(short, START, CONTEXT, END) == short


@pytest.mark.parametrize(
    ("size", "bounds", "expected"),
    [
        ((100, 50), (None, None), (100, 50)),
        ((100, 50), (100, 10_000), (100, 50)),
        ((400, 100), (None, 10_000), (200, 50)),
        ((10, 40), (1600, None), (20, 80)),
        ((1, 5000), (None, 50), (1, 500)),
    ],
)
def test_an_image_keeps_its_proportions_within_the_bounds(size, bounds, expected):
    image = bounded(Image.new("L", size), *bounds)
    assert image.size == expected
    assert image.mode == "RGB"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.make("internvl", tmp_path_factory.mktemp("internvl"))


@pytest.mark.slow
def test_the_processor_puts_back_the_placeholders_that_verl_has_stripped(folder):
    """verl's agent loop decodes the whole conversation without special tokens, and asks for the pixels anew."""
    import verl  # noqa: F401  loads the plugin
    from verl.utils import hf_processor

    processor = hf_processor(str(folder))
    image = Image.new("RGB", (84, 84), "red")
    whole = processor(text=["<IMG_CONTEXT>\nHow many?"], images=[image], return_tensors="pt")
    stripped = processor(text=["How many?"], images=[image], return_tensors="pt")
    assert (whole["pixel_values"] == stripped["pixel_values"]).all()
    ids = whole["input_ids"][0].tolist()
    short = collapsed(ids, processor.start_image_token_id, processor.image_token_id, processor.end_image_token_id)
    assert processor.tokenizer.decode(short) == "<IMG_CONTEXT>\nHow many?"


@pytest.mark.slow
def test_verls_rollout_collapses_the_prompt_of_internvl(folder):
    import verl  # noqa: F401  loads the plugin
    from verl.utils import hf_processor
    from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

    processor = hf_processor(str(folder))
    image = Image.new("RGB", (84, 84), "red")
    ids = processor(text=["<IMG_CONTEXT>\nHow many?"], images=[image])["input_ids"][0]
    short = qwen2_5_vl_dedup_image_tokens(list(ids), processor)
    assert short.count(processor.image_token_id) == 1
    assert len(short) < len(ids)


@pytest.mark.slow
def test_a_checkpoint_names_the_processors_own_class(folder, tmp_path):
    import json

    import verl  # noqa: F401  loads the plugin
    from verl.utils import hf_processor

    hf_processor(str(folder)).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "processor_config.json").read_text())["processor_class"] == "InternVLProcessor"
