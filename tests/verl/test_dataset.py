"""CapabilityDataset: rows as they are, in a curriculum's order, through verl's own data loader."""

import json

import pytest

from capcurr_plugin.curriculum import ORDERS
from capcurr_plugin.errors import InputError
from capcurr_plugin.prompt import UNIFIED_PROMPT
from capcurr_plugin.rows import CAPABILITIES
from capcurr_plugin.verl_host.order import OrderSampler, epoch_order

pytestmark = pytest.mark.slow


@pytest.fixture
def tokenizer(tokenizer_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    return tokenizer


def row(number, **columns):
    return {
        "index": f"r{number}",
        "problem": f"What is {number} + 1?",
        "answer": str(number + 1),
        "images": [],
        "source": "sums",
        "capability": CAPABILITIES[number % 3],
        "pass_rate": (number * 7 % 10) / 10,
        **columns,
    }


@pytest.fixture
def make(tmp_path, tokenizer):
    def dataset(rows, name="rows.jsonl", processor=None, **settings):
        from omegaconf import OmegaConf

        from capcurr_plugin.verl_host.dataset import CapabilityDataset

        path = tmp_path / name
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        config = OmegaConf.create(
            {
                "cache_dir": str(tmp_path / "cache"),
                "max_prompt_length": 2048,
                "filter_overlong_prompts": True,
                "filter_overlong_prompts_workers": 1,
                "seed": 1,
                **settings,
            }
        )
        return CapabilityDataset(str(path), tokenizer, config, processor)

    return dataset


def indices(dataset):
    return [dataset[place]["index"] for place in range(len(dataset))]


def test_rows_are_read_as_they_are(make):
    dataset = make([row(n) for n in range(5)])
    assert indices(dataset) == ["r0", "r1", "r2", "r3", "r4"]
    first = dataset[0]
    assert first["data_source"] == "perception"
    assert first["reward_model"] == {"ground_truth": "1", "style": "rule"}
    assert first["raw_prompt"] == [{"role": "user", "content": f"What is 0 + 1? {UNIFIED_PROMPT}"}]


def test_the_prompt_goes_where_the_recipe_says(make):
    dataset = make([row(0)], prompt_placement="system")
    assert [message["role"] for message in dataset[0]["raw_prompt"]] == ["system", "user"]
    assert dataset[0]["raw_prompt"][0]["content"] == UNIFIED_PROMPT


def test_rows_without_a_capability_get_the_recipes(make):
    bare = row(0)
    del bare["capability"]
    with pytest.raises(InputError, match="line 1: column 'capability' is missing"):
        make([bare])
    assert make([bare], capability="visual_reasoning")[0]["data_source"] == "visual_reasoning"


def test_overlong_rows_are_named_and_past_a_bound_fatal(make, caplog):
    rows = [row(n) for n in range(40)] + [row(40, problem="long " * 1000)]
    dataset = make(rows)
    assert len(dataset) == 40
    assert "row 'r40' is dropped: its prompt has" in caplog.text
    assert "1 of 41 rows are dropped; " in caplog.text
    with pytest.raises(
        InputError, match=r"1 of 41 rows cannot be used, the first of them, 'r40', because its prompt has"
    ):
        make(rows, max_dropped=0.01)


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([row(0, answer=None)], {}, "rows.jsonl, line 1: column 'answer' is null"),
        ([row(0, images=["a.png"], problem="<image>")], {}, "line 1: image 'a.png' does not exist under"),
        ([row(0)], {"order": "hard_first"}, "data.order=hard_first is not known; use one of shuffled, difficulty"),
    ],
)
def test_bad_input_is_one_clear_line(make, rows, settings, message):
    with pytest.raises(InputError, match=message):
        make(rows, **settings)


def test_an_order_by_difficulty_needs_the_pass_rates_of_the_rows_to_train_on(make):
    unmeasured = make([row(0), row(1, pass_rate=None)], order="difficulty")  # good enough to validate on
    with pytest.raises(InputError, match=r"which row 'r1' of .* has not; measure it"):
        OrderSampler(unmeasured)


# Images


@pytest.fixture(scope="module", params=["qwen3_vl", "internvl"])
def processor(request, tmp_path_factory):
    import tiny_models
    import verl  # noqa: F401  loads the plugin
    from verl.utils import hf_processor

    return hf_processor(str(tiny_models.make(request.param, tmp_path_factory.mktemp(request.param))))


def image_row(folder, number, size=(96, 64)):
    from PIL import Image

    Image.new("RGB", size, (number, 0, 0)).save(folder / f"{number}.png")
    return row(number, problem="<image>What color?", images=[f"{number}.png"])


def sizes_of(processor):
    return "bounded" if "InternVL" in type(processor).__name__ else "patches"


def test_image_rows_have_their_images_in_the_prompt(make, tmp_path, processor):
    dataset = make(
        [image_row(tmp_path, 0), row(1)],
        processor=processor,
        image_sizes=sizes_of(processor),
        min_pixels=4096,
        max_pixels=20_000,
    )
    content = dataset[0]["raw_prompt"][0]["content"]
    assert [part["type"] for part in content] == ["image", "text"]
    assert content[0] == {"type": "image", "image": str(tmp_path / "0.png"), "min_pixels": 4096, "max_pixels": 20_000}
    assert content[1]["text"].endswith(UNIFIED_PROMPT)
    assert isinstance(dataset[1]["raw_prompt"][0]["content"], str)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", [1, 2])
def test_prompts_are_looked_at_after_torch_has_run_on_several_threads(make, tmp_path, processor, workers):
    """A forked process inherits the threads' locks, and not the threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    square = torch.ones(1000, 1000)
    assert (square @ square).mean() == 1000
    rows = [image_row(tmp_path, number, size=(400, 300)) for number in range(8)]
    settings = {"image_sizes": sizes_of(processor), "filter_overlong_prompts_workers": workers}
    assert len(make(rows, processor=processor, **settings)) == 8
    torch.set_num_threads(threads)


def test_images_are_kept_within_the_bounds(make, tmp_path, processor):
    dataset = make(
        [image_row(tmp_path, 0, size=(400, 200))],
        processor=processor,
        image_sizes=sizes_of(processor),
        max_pixels=20_000,
    )
    patch = 16 if sizes_of(processor) == "patches" else None
    ((image,), _, _) = dataset._process_multi_modal_info(dataset[0]["raw_prompt"], patch, dataset.config)
    assert 10_000 < image.width * image.height <= 20_000
    if patch:
        assert image.width % 32 == image.height % 32 == 0
    else:
        assert image.size == (200, 100)


def test_every_unreadable_image_is_named_with_its_reason(make, tmp_path, processor, caplog):
    rows = [image_row(tmp_path, number) for number in range(60)]
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:40])
    (tmp_path / "7.png").write_text("no image")
    dataset = make(rows, processor=processor, image_sizes=sizes_of(processor))
    assert len(dataset) == 58
    named = next((tmp_path / "cache" / "capcurr").glob("*-dropped.jsonl"))
    dropped = [json.loads(line) for line in named.read_text().splitlines()]
    assert [one["index"] for one in dropped] == ["r3", "r7"]
    assert all("its prompt cannot be made" in one["reason"] for one in dropped)
    assert f"2 of 60 rows are dropped; {named} names each" in caplog.text


# Orders


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_holds_in_every_epoch_and_is_the_same_everywhere(make, order):
    rows = [row(n) for n in range(60)]
    dataset = make(rows, order=order)
    epochs = [dataset.epoch_order(epoch) for epoch in range(3)]
    for places in epochs:
        assert sorted(places) == list(range(60))
        ranks = [CAPABILITIES.index(rows[place]["capability"]) for place in places]
        rates = [rows[place]["pass_rate"] for place in places]
        if order.startswith("capability"):
            assert ranks == sorted(ranks)
        if order == "difficulty":
            assert rates == sorted(rates, reverse=True)
        if order == "capability_then_difficulty":
            assert list(zip(ranks, [-rate for rate in rates], strict=True)) == sorted(
                zip(ranks, [-rate for rate in rates], strict=True)
            )
    assert epochs[0] != epochs[1]  # what the order leaves open
    assert make(rows, name="again.jsonl", order=order).epoch_order(1) == epochs[1]
    assert make(rows, name="seed.jsonl", order=order, seed=2).epoch_order(1) != epochs[1]


def test_the_order_is_fixed_across_versions_of_python():
    assert epoch_order("shuffled", ["perception"] * 8, [None] * 8, 1, 0) == [5, 2, 7, 4, 0, 3, 6, 1]


def loader(dataset, workers):
    from torchdata.stateful_dataloader import StatefulDataLoader
    from verl.trainer.ppo.utils import create_rl_sampler
    from verl.utils.dataset.rl_dataset import collate_fn

    sampler = create_rl_sampler(dataset.config, dataset)
    return StatefulDataLoader(
        dataset, batch_size=8, num_workers=workers, drop_last=True, collate_fn=collate_fn, sampler=sampler
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_verls_loader_goes_by_the_order_and_on_after_a_resume(make, workers):
    dataset = make([row(n) for n in range(64)], order="capability_then_difficulty", shuffle=True)
    first = loader(dataset, workers)
    assert isinstance(first.sampler, OrderSampler)
    seen = [list(batch["index"]) for _ in range(2) for batch in first]
    expected = [f"r{place}" for epoch in range(2) for place in dataset.epoch_order(epoch)]
    assert [index for batch in seen for index in batch] == expected

    stopped = loader(dataset, workers)
    before = [list(batch["index"]) for batch in stopped]  # epoch 0
    batches = iter(stopped)
    before += [list(next(batches)["index"]) for _ in range(3)]
    state = stopped.state_dict()
    resumed = loader(dataset, workers)
    resumed.load_state_dict(state)
    after = [list(batch["index"]) for batch in resumed]
    assert before + after == seen


def test_without_an_order_verl_shuffles_as_always(make):
    from torchdata.stateful_dataloader.sampler import RandomSampler
    from verl.trainer.ppo.utils import create_rl_sampler

    dataset = make([row(n) for n in range(8)], shuffle=True)
    assert isinstance(create_rl_sampler(dataset.config, dataset), RandomSampler)
