"""Draws that hang on a request's own seed alone."""

from collections import Counter

import pytest
import torch

from capcurr_plugin.draws import own_draws

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
