"""Streams of random numbers do not disturb each other, and are the same whenever they are drawn from."""

import contextlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lskd_vision.randomness import RandomStream, seed_all

CPU = torch.device("cpu")
SEEDS = st.lists(st.integers(0, 2**70), min_size=1, max_size=3)


def draw() -> tuple[float, float, float]:
    """A number each of torch, numpy and Python."""
    return torch.rand((), dtype=torch.float64).item(), np.random.rand(), random.random()


@pytest.fixture(autouse=True)
def leave_as_it_was():
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_the_same_numbers_come_after_the_same_seeds(seeds):
    seed_all(*seeds)
    first = [draw(), draw()]
    torch.rand(5), np.random.rand(5), random.random()
    seed_all(*seeds)
    assert [draw(), draw()] == first


@given(SEEDS, SEEDS)
@settings(deadline=None, max_examples=50)
def test_other_seeds_give_other_numbers_in_each_library(seeds, others):
    if seeds == others:
        others = [*others, 1]
    seed_all(*seeds)
    first = draw()
    seed_all(*others)
    assert all(one != other for one, other in zip(first, draw(), strict=True))


@pytest.mark.parametrize(
    ("seeds", "others"), [((1, 2), (2, 1)), ((0,), (0, 1)), ((1, 23), (12, 3)), ((5, 0, 1), (5, 1, 0))]
)
def test_the_order_of_the_seeds_matters(seeds, others):
    seed_all(*seeds)
    first = draw()
    seed_all(*others)
    assert draw() != first


def test_a_stream_moves_nothing_outside():
    seed_all(3)
    expected = [draw() for _ in range(4)]
    seed_all(3)
    found = [draw()]
    stream = RandomStream(CPU, 8)
    found.append(draw())
    with stream:
        draw()
    found.append(draw())
    with contextlib.suppress(KeyError), stream:  # also where the block is left with an error
        draw()
        raise KeyError
    found.append(draw())
    assert found == expected


def test_a_stream_goes_on_where_it_was_whatever_happens_outside():
    stream = RandomStream(CPU, 8, 1)
    with stream:
        expected = [draw() for _ in range(4)]
    stream, found = RandomStream(CPU, 8, 1), []
    for number in range(4):
        seed_all(number)
        draw()
        with stream:
            found.append(draw())
    assert found == expected
    assert len(set(found)) == 4


def test_two_streams_take_turns_and_draw_what_they_draw_alone():
    alone = {}
    for seed in (1, 2):
        with RandomStream(CPU, seed):
            alone[seed] = [draw() for _ in range(3)]
    streams, found = {seed: RandomStream(CPU, seed) for seed in (1, 2)}, {1: [], 2: []}
    for seed in (1, 2, 2, 1, 1, 2):
        with streams[seed]:
            found[seed].append(draw())
    assert found == alone
    assert alone[1] != alone[2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_stream_has_the_numbers_of_its_gpu():
    device = torch.device("cuda", torch.cuda.current_device())
    torch.cuda.manual_seed(5)
    outside = [torch.rand(2, device=device) for _ in range(2)]
    with RandomStream(device, 8):
        inside = torch.rand(2, device=device)
    torch.cuda.manual_seed(5)
    stream = RandomStream(device, 8)
    assert torch.equal(torch.rand(2, device=device), outside[0])
    with stream:
        assert torch.equal(torch.rand(2, device=device), inside)
    assert torch.equal(torch.rand(2, device=device), outside[1])
    with RandomStream(device, 9):
        assert not torch.equal(torch.rand(2, device=device), inside)
