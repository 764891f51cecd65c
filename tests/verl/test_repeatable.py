"""Answers that hang on their request alone: its own draws, and the same bits in any batch."""

from collections import Counter

import pytest
import torch

from capcurr_plugin.repeatable import by_width, filled, own_draws
from capcurr_plugin.toyworld.tiny_models import make

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0])


def drawn(seeds, temperatures, logits=LOGITS):
    noisy = own_draws(seeds, temperatures)
    return [noisy(None, logits.repeat(len(seeds), 1)).argmax(-1).tolist() for _ in range(3)]  # three tokens


def test_what_shares_the_batch_makes_no_difference():
    alone = [token for (token,) in drawn([7], [1.0])]
    for others in ([1, 2], [3] * 50, [7]):
        together = drawn([*others, 7], [0.5] * len(others) + [1.0])
        assert [tokens[-1] for tokens in together] == alone
    seeds = range(40)
    assert len({tuple(tokens[seed] for tokens in drawn(list(seeds), [1.0] * 40)) for seed in seeds}) > 5


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_tokens_come_as_often_as_their_probability_says(temperature):
    count = 20_000
    (first, *_) = drawn(list(range(count)), [temperature] * count)
    found = Counter(first)
    for token, share in enumerate((LOGITS / temperature).softmax(0).tolist()):
        assert found[token] / count == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)


def test_without_temperature_the_likeliest_is_taken_and_what_is_ruled_out_never():
    assert drawn([1, 2, 3], [0.0] * 3) == [[0, 0, 0]] * 3
    assert drawn([1, 2], [0.0, 1.0])[0][0] == 0
    ruled_out = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0])
    for tokens in drawn(list(range(200)), [1.0] * 200, ruled_out):
        assert set(tokens) == {1, 3}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from transformers import AutoModelForImageTextToText

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = make("qwen2_5_vl", tmp_path_factory.mktemp("model"))
    yield AutoModelForImageTextToText.from_pretrained(folder).eval()
    torch.set_num_threads(threads)


def logits(model, prompts, width):
    """Of the first tokens behind each prompt."""
    rows = filled(prompts)
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    told = {"max_new_tokens": 5, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with torch.no_grad():
        out = model.generate(input_ids=ids, attention_mask=mask, pad_token_id=0, min_new_tokens=5, **told)
    return torch.stack(out.logits, 1)[: len(prompts)]


@pytest.mark.parametrize("some", [1, 2, 3, 5, 8, 13, 30])
def test_a_prompt_has_the_same_logits_in_any_batch(some, model):
    dice = torch.Generator().manual_seed(1)
    sizes = torch.randint(3, 90, (200,), generator=dice).tolist()
    prompts = [torch.randint(10, 250, (size,), generator=dice).tolist() for size in sizes]
    groups = by_width(sizes)
    assert sorted(groups) == [16, 32, 48, 64, 80, 96] and sum(map(len, groups.values())) == 200
    for width, places in groups.items():
        together = logits(model, [prompts[place] for place in places], width)
        part = logits(model, [prompts[place] for place in places[:some]], width)
        assert part.equal(together[:some])
