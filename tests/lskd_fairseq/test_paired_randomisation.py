"""Two systems' translations of the same sentences, compared by approximate randomisation."""

import random

import numpy as np
import pytest
import sacrebleu

from lskd_fairseq.paired_randomisation import TRIALS, paired_randomisation

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "the", "dog", "run"]


def sentences(count, seed):
    draws = random.Random(seed)
    return [" ".join(draws.choices(WORDS, k=draws.randint(4, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def references():
    return sentences(150, seed=1)


def translations(references, share, seed):
    """Each word is replaced by another with this probability."""
    draws = random.Random(seed)
    return [
        " ".join(draws.choice(WORDS) if draws.random() < share else word for word in line.split())
        for line in references
    ]


def test_the_scores_are_those_of_sacrebleu(references):
    ours, other = translations(references, 0.2, 2), translations(references, 0.4, 3)
    found = paired_randomisation(ours, other, references)
    assert found.keys() == {"bleu", "chrf"}
    for name, metric in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())):
        each = found[name]
        assert each.score == pytest.approx(metric.corpus_score(ours, [references]).score)
        assert each.other == pytest.approx(metric.corpus_score(other, [references]).score)
        assert each.difference == each.score - each.other > 0


def test_a_much_better_system_differs_significantly_and_the_same_one_does_not(references):
    ours, other = translations(references, 0.2, 2), translations(references, 0.5, 3)
    for each in paired_randomisation(ours, other, references).values():
        assert each.p_value == pytest.approx(1 / (TRIALS + 1))
    for each in paired_randomisation(ours, ours, references).values():
        assert (each.difference, each.p_value) == (0, 1.0)


def test_the_p_value_is_two_sided_and_that_of_an_independent_randomisation(references):
    ours, other = translations(references, 0.30, 4), translations(references, 0.31, 5)
    found = paired_randomisation(ours, other, references)["chrf"]
    swapped = paired_randomisation(other, ours, references)["chrf"]
    assert swapped.difference == -found.difference
    assert swapped.p_value == pytest.approx(found.p_value, abs=0.02)
    # of a line: n-grams of 1 to 6 characters in hypothesis, reference and both
    metric = sacrebleu.CHRF(references=[references])
    one, two = (np.array(metric._extract_corpus_statistics(each, None), dtype=np.float64) for each in (ours, other))
    draws = np.random.default_rng(0)
    observed, differences = _chrf(one.sum(0)) - _chrf(two.sum(0)), []
    for _ in range(2000):
        swap = draws.random(len(references))[:, None] < 0.5
        differences.append(_chrf(np.where(swap, two, one).sum(0)) - _chrf(np.where(swap, one, two).sum(0)))
    expected = (np.abs(differences) >= abs(observed)).mean()
    assert observed == pytest.approx(found.difference)
    assert 0.01 < expected < 0.5
    assert found.p_value == pytest.approx(expected, abs=0.02)


def _chrf(counts):
    """chrF2 of summed counts, in percent."""
    hypothesis, reference, both = counts.reshape(-1, 3).T
    precision, recall = (both / hypothesis).mean(), (both / reference).mean()
    return 100 * 5 * precision * recall / (4 * precision + recall)


@pytest.mark.parametrize("different", [1, 2, 3])
def test_few_sentences_that_differ_show_next_to_nothing(references, different):
    # with all of n different sentences better, 2 of the 2^n ways to swap them give as large a difference
    worse = [line if place >= different else "dog dog dog dog" for place, line in enumerate(references)]
    for each in paired_randomisation(references, worse, references, trials=2000).values():
        assert each.difference > 0
        assert each.p_value == pytest.approx(2 / 2**different, abs=0.04)


def test_two_equally_good_systems_are_rarely_called_different():
    # sacreBLEU's paired bootstrap does so in 12 to 14 % of these comparisons
    claims = {"bleu": 0, "chrf": 0}
    for seed in range(200):
        references = sentences(60, seed)
        ours, other = translations(references, 0.3, 1000 + seed), translations(references, 0.3, 2000 + seed)
        for name, each in paired_randomisation(ours, other, references, trials=200).items():
            claims[name] += each.p_value <= 0.05
    assert all(count / 200 <= 0.085 for count in claims.values()), claims
