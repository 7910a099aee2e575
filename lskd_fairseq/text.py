"""Turn subwords back into the text that BLEU compares, and read the references as they were before preparation."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fairseq.data import Dictionary, LanguagePairDataset
from torch import Tensor

from lskd.io.errors import input_error
from lskd.io.schema import read_json
from lskd.records.runs import look_up

UNKNOWN = "⁇"  # an unknown token in a hypothesis, as sentencepiece prints it; occurs in no reference
UNKNOWN_IN_REFERENCE = "UNKNOWNTOKENINREF"  # fairseq's own, so that an unknown token is never matched
REMOVE_BPE = (
    "sentencepiece",
    "@@ ",
    "@@",
    "subword_nmt",
    "wordpiece",
    "letter",
    "silence",
    "_EOW",
    "none",
)  # fairseq's
DETOKENIZE = ("sentencepiece", "moses", "none")
CLEAR, NEGLIGIBLE = 0.05, 0.005  # shares of a dictionary: the least for a kind of subwords, the most for others
PUNCTUATION = re.compile(r"\w*[.,!?;:]")
FEWEST = 10  # punctuation marks needed to decide whether text is tokenised


class Decode(Protocol):
    """A function from tokens to text, such as :class:`Detokeniser`."""

    def __call__(self, tokens: Tensor, unknown: str = UNKNOWN) -> str:
        """The text of a tensor of tokens; ``unknown`` stands for an unknown token."""
        ...


@dataclass(frozen=True)
class Postprocessing:
    """How the tokens of a target dictionary become text.

    Attributes:
        remove_bpe: how subwords are joined, by fairseq's name; None if the tokens are words.
        detokenize: how words become text, one of :data:`DETOKENIZE`. ``sentencepiece``: its pieces are of text that
            was not tokenised, and only have to be joined.
        tokenised: whether the words are from a tokeniser, so that ``none`` leaves tokenised text; None if unknown.
        escaped: whether Moses has escaped characters, such as ``&quot;``.
    """

    remove_bpe: str | None
    detokenize: str
    tokenised: bool | None = None
    escaped: bool = False

    def leaves_tokens(self) -> bool:
        """Whether the resulting text is still tokenised."""
        return self.detokenize != "moses" and bool(self.tokenised)

    def __str__(self) -> str:
        text = "tokenised text" if self.leaves_tokens() else "detokenised text"
        if self.detokenize == "none" and self.tokenised is None:
            text = "text as it was binarised"
        steps = [f"{self.remove_bpe.strip()} joined"] if self.remove_bpe else []
        steps += ["Moses-detokenised"] if self.detokenize == "moses" else []
        return f"{text} ({', '.join(steps)})" if steps else text


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that control how tokens become text."""
    parser.add_argument(
        "--remove-bpe",
        nargs="?",
        const="@@ ",
        choices=REMOVE_BPE,
        help="how subwords are joined, as in fairseq (default: as the data directory was made)",
    )
    parser.add_argument(
        "--detokenize",
        choices=DETOKENIZE,
        help="how words become text; joined sentencepiece pieces already are text (default: as the data were made)",
    )


def chosen_postprocessing(
    data: str | Path,
    dictionary: Dictionary,
    dataset: LanguagePairDataset,
    remove_bpe: str | None = None,
    detokenize: str | None = None,
    arguments: tuple[str, str] = ("--remove-bpe", "--detokenize"),
) -> Postprocessing:
    """Choose how tokens become text: by options, the data directory's manifest, or the dictionary and sentences.

    Args:
        data: the data directory.
        dictionary: that of the target language.
        dataset: sentence pairs of a split.
        remove_bpe: one of :data:`REMOVE_BPE`; None to choose by the data.
        detokenize: one of :data:`DETOKENIZE`; None to choose by the data.
        arguments: the names of these two options in error messages.

    Raises:
        InputError: it cannot be decided from manifest and data, or the options contradict each other.
    """
    if detokenize == "sentencepiece" and remove_bpe not in (None, "sentencepiece"):
        raise input_error(arguments[0], remove_bpe, f"must be sentencepiece with {arguments[1]} sentencepiece")
    known = look_up(manifest(data), "parameters", "tokenisation")
    if remove_bpe is None:
        pieces = known or detokenize == "sentencepiece"
        remove_bpe = "sentencepiece" if pieces else _subwords(dictionary, arguments[0])
    remove_bpe = None if remove_bpe == "none" else remove_bpe
    tokenised = known == "moses" if known else _tokenised(dictionary, dataset, remove_bpe)
    if detokenize is None:
        untouched = "sentencepiece" if remove_bpe == "sentencepiece" else "none"
        if tokenised is None and untouched == "none":
            raise input_error(
                arguments[1], "not given", "must be moses or none: the target sentences do not show which"
            )
        detokenize = "moses" if tokenised else untouched
    return Postprocessing(remove_bpe, detokenize, tokenised, escaped=not known)


def _subwords(dictionary: Dictionary, argument: str) -> str:
    """Recognise the kind of subwords in a dictionary: ``sentencepiece``, ``@@ `` or ``none``.

    A kind's share is that of the symbols, or of their occurrences if larger. Raises InputError if it is ambiguous.
    """
    symbols, counts = dictionary.symbols[dictionary.nspecial :], dictionary.count[dictionary.nspecial :]
    shares = {}
    for name, is_marked in (("sentencepiece", lambda s: s.startswith("▁")), ("@@ ", lambda s: s.endswith("@@"))):
        marked = [is_marked(symbol) for symbol in symbols]
        occurrences = sum(count for count, has in zip(counts, marked, strict=True) if has)
        shares[name] = max(sum(marked) / max(len(marked), 1), occurrences / max(sum(counts), 1))
    possible = [name for name, share in shares.items() if share > NEGLIGIBLE]
    if not possible:
        return "none"
    if len(possible) == 1 and shares[possible[0]] >= CLEAR:
        return possible[0]
    found = f"{100 * shares['sentencepiece']:.1f} % of the target dictionary begin with ▁"
    found += f", {100 * shares['@@ ']:.1f} % end with @@"
    raise input_error(argument, "not given", f"must be sentencepiece, '@@ ' or none: {found}")


def _tokenised(dictionary: Dictionary, dataset: LanguagePairDataset, remove_bpe: str | None) -> bool | None:
    """Whether punctuation stands alone in the target sentences, as after a tokeniser; None if it is undecided."""
    alone = attached = 0
    targets: Any = dataset.tgt
    for number in range(min(len(dataset), 2000)):
        for word in dictionary.string(targets[number], remove_bpe).split():
            if PUNCTUATION.fullmatch(word):
                alone, attached = alone + (len(word) == 1), attached + (len(word) > 1)
    total = alone + attached
    if total < FEWEST or total / 5 < alone < 4 * total / 5:
        return None
    return alone > attached


class Detokeniser:
    """Turns a model's output, or the target sentences, into text.

    Args:
        dictionary: the dictionary of the text.
        language: the language of the text, for Moses.
        processing: the steps to take.
    """

    def __init__(self, dictionary: Dictionary, language: str, processing: Postprocessing) -> None:
        self.dictionary, self.processing = dictionary, processing
        self._moses: Any = None
        if processing.detokenize == "moses":
            from sacremoses import MosesDetokenizer

            self._moses = MosesDetokenizer(language)

    def __call__(self, tokens: Tensor, unknown: str = UNKNOWN) -> str:
        """The text of a tensor of tokens, without padding and end of sentence."""
        dictionary = self.dictionary
        tokens = tokens.int().cpu()
        text = dictionary.string(tokens[tokens != dictionary.pad()], self.processing.remove_bpe, unk_string=unknown)
        return self._moses.detokenize(text.split(), unescape=self.processing.escaped) if self._moses else text


def manifest(data: str | Path) -> dict[str, Any]:
    """The data directory's manifest; empty if there is none."""
    path = Path(data) / "manifest.json"
    try:
        return read_json(path, dict[str, Any])
    except FileNotFoundError:
        return {}


def load_dictionary(path: str | Path) -> Dictionary:
    """Read a dictionary that fairseq-preprocess wrote.

    Raises:
        InputError: it is not such a file.
    """
    try:
        return Dictionary.load(str(path))
    except Exception as error:  # fairseq raises plain Exception if it is not UTF-8
        reason = str(error).split(" in /")[0].split("\n")[0]
        raise input_error("data", path, f"must be a dictionary of fairseq-preprocess, UTF-8 text: {reason}") from None


def raw_references(data: str | Path, split: str, language: str, sentences: int) -> list[str] | None:
    """Read the reference translations of a split as they were before preparation; None if the data have none.

    The file may begin with a byte-order mark, have Windows line ends, and lack the last line end.

    Raises:
        InputError: the file is not UTF-8, or its number of lines is not the number of sentences.
    """
    path = Path(data) / "raw" / f"{split}.{language}"
    if not path.is_file():
        return None
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise input_error("data", path, f"must be UTF-8 text: {error.reason} at byte {error.start}") from None
    if not lines[-1]:
        lines.pop()
    if len(lines) != sentences:
        raise input_error("data", path, f"has {len(lines)} lines, the {split} split has {sentences} sentences")
    return [line.removesuffix("\r") for line in lines]


def decoded_references(dataset: LanguagePairDataset, detokenise: Decode) -> list[str]:
    """The target sentences of a split, decoded as hypotheses are; an unknown token in them is never matched."""
    targets: Any = dataset.tgt
    return [detokenise(targets[index], UNKNOWN_IN_REFERENCE) for index in range(len(dataset))]


def moses_lower(lines: Sequence[str], language: str) -> list[str]:
    """Moses-tokenised, lower-cased text, on which published IWSLT scores are measured."""
    from sacremoses import MosesTokenizer

    tokeniser: Any = MosesTokenizer(language)
    return [tokeniser.tokenize(line, return_str=True, escape=False).lower() for line in lines]
