"""What symbols become before they are scored: chosen by what dictionary and data are, never by a stray mark."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from sacremoses import MosesTokenizer

from lskd.io.errors import InputError
from lskd_fairseq.text import (
    UNKNOWN,
    UNKNOWN_IN_REFERENCE,
    Detokeniser,
    Postprocessing,
    chosen_postprocessing,
    decoded_references,
    raw_references,
)

RAW = [
    'Er sagte: "Das ist gut", und ging.',
    "Wo ist es? Hier!",
    "Klicken Sie auf Datei, dann auf Öffnen.",
    "Es kostet 3,5 Euro mehr; das ist viel.",
    "Fisch & Brot sind teuer, aber gut.",
]
MOSES = [MosesTokenizer("de").tokenize(line, return_str=True) for line in RAW]
PIECES = [" ".join("▁" + word[:3] + (" " + word[3:]) * bool(word[3:]) for word in line.split()) for line in RAW]


def subwords(line: str) -> str:
    """Words of more than three characters in two parts, as subword-nmt marks them."""
    return " ".join(f"{word[:3]}@@ {word[3:]}" if len(word) > 3 else word for word in line.split())


def binarised(lines: list[str], *more: str):
    """A dictionary of these symbols and ``more``, and a data set of the lines."""
    dictionary = Dictionary()
    for symbol in [*" ".join(lines).split(), *more]:
        dictionary.add_symbol(symbol)
    sentences = [dictionary.encode_line(line, add_if_not_exist=False).long() for line in lines]
    return dictionary, SimpleDataset(sentences)


class SimpleDataset(SimpleNamespace):
    """The target sentences of a data set."""

    def __init__(self, sentences: list[torch.Tensor]):
        super().__init__(tgt=sentences)

    def __len__(self) -> int:
        return len(self.tgt)


@pytest.mark.parametrize(
    ("lines", "chosen"),
    [
        (PIECES, ("sentencepiece", "sentencepiece")),
        ([subwords(line) for line in MOSES], ("@@ ", "moses")),
        ([subwords(line) for line in RAW], ("@@ ", "none")),
        (MOSES, (None, "moses")),
        (RAW, (None, "none")),
    ],
)
def test_text_comes_back_as_it_was_whatever_it_was_made_with(tmp_path, lines, chosen):
    dictionary, dataset = binarised(lines)
    processing = chosen_postprocessing(tmp_path, dictionary, dataset)
    assert (processing.remove_bpe, processing.detokenize) == chosen
    assert decoded_references(dataset, Detokeniser(dictionary, "de", processing)) == RAW
    assert str(processing).startswith("detokenised text")


def test_one_mark_in_ordinary_text_does_not_make_it_sentencepiece(tmp_path):
    dictionary, dataset = binarised([*MOSES, "Das Zeichen ▁ ."], *(f"wort{number}" for number in range(300)))
    processing = chosen_postprocessing(tmp_path, dictionary, dataset)
    assert (processing.remove_bpe, processing.detokenize) == (None, "moses")
    assert Detokeniser(dictionary, "de", processing)(dataset.tgt[1]) == RAW[1]


def test_a_dictionary_with_both_marks_is_refused_with_the_shares_of_both(tmp_path):
    dictionary, dataset = binarised([*PIECES, *map(subwords, MOSES)])
    with pytest.raises(InputError, match=r"--remove-bpe: not given \(must be .*: \d+\.\d % .* begin with ▁, \d+\.\d %"):
        chosen_postprocessing(tmp_path, dictionary, dataset)
    asked = chosen_postprocessing(tmp_path, dictionary, dataset, remove_bpe="@@ ", detokenize="none")
    assert (asked.remove_bpe, asked.detokenize) == ("@@ ", "none")


def test_text_without_punctuation_may_be_tokenised_or_not_and_is_refused(tmp_path):
    dictionary, dataset = binarised(["ein haus", "zwei bäume"])
    with pytest.raises(InputError, match=r"--detokenize: not given \(must be moses or none"):
        chosen_postprocessing(tmp_path, dictionary, dataset)
    assert "as it was binarised" in str(chosen_postprocessing(tmp_path, dictionary, dataset, detokenize="none"))


def test_what_is_left_tokenised_is_called_so(tmp_path):
    processing = chosen_postprocessing(tmp_path, *binarised(MOSES), detokenize="none")
    assert processing.leaves_tokens()
    assert str(processing) == "tokenised text"


def test_sentencepiece_goes_with_no_other_way_to_join_subwords(tmp_path):
    with pytest.raises(InputError, match="must be sentencepiece with --detokenize sentencepiece"):
        chosen_postprocessing(tmp_path, *binarised(PIECES), remove_bpe="@@ ", detokenize="sentencepiece")


def test_the_manifest_of_a_prepared_directory_decides(tmp_path):
    (tmp_path / "manifest.json").write_text('{"parameters": {"tokenisation": "moses"}}')
    processing = chosen_postprocessing(tmp_path, *binarised(PIECES))
    assert processing == Postprocessing("sentencepiece", "moses", tokenised=True, escaped=False)


@pytest.mark.parametrize(
    ("mark", "line", "text"),
    [
        ("letter", "e i n | H a u s", "ein Haus"),
        ("_EOW", "ei n_EOW Ha us_EOW", "ein Haus"),
        ("silence", "ein <SIL> Haus", "ein Haus"),
        ("wordpiece", "_ein _Ha us", "ein Haus"),
        ("none", "ei@@ n Haus", "ei@@ n Haus"),
    ],
)
def test_subwords_are_joined_in_all_of_fairseqs_ways(tmp_path, mark, line, text):
    dictionary, dataset = binarised([line])
    processing = chosen_postprocessing(tmp_path, dictionary, dataset, mark, "none")
    assert Detokeniser(dictionary, "de", processing)(dataset.tgt[0]) == text


def test_an_unknown_symbol_of_the_reference_is_matched_by_nothing():
    dictionary, _ = binarised(RAW)
    detokenise = Detokeniser(dictionary, "de", Postprocessing(None, "none"))
    unknown = torch.tensor([dictionary.unk(), dictionary.eos()])
    assert decoded_references(SimpleDataset([unknown]), detokenise) == [UNKNOWN_IN_REFERENCE]
    assert detokenise(unknown) == UNKNOWN


@pytest.mark.parametrize(
    "content", [b"eins\nzwei\n", b"eins\nzwei", b"\xef\xbb\xbfeins\nzwei\n", b"eins\r\nzwei\r\n", b"eins\r\nzwei"]
)
def test_raw_references_are_read_as_any_editor_leaves_them(tmp_path, content):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "test.de").write_bytes(content)
    assert raw_references(tmp_path, "test", "de", 2) == ["eins", "zwei"]


def test_empty_references_and_other_line_ends_are_sentences_too(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "test.de").write_bytes("\neins\u2028und\x0bmehr\n\n".encode())
    assert raw_references(tmp_path, "test", "de", 3) == ["", "eins\u2028und\x0bmehr", ""]
    assert raw_references(tmp_path, "valid", "de", 3) is None
