"""From subwords back to the text that BLEU is measured on, and the references as they were before preparation."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq.data import Dictionary

from lskd.io.errors import input_error
from lskd.io.schema import read_json
from lskd.records.runs import look_up

UNKNOWN = "⁇"  # of a hypothesis: what sentencepiece itself prints; stands in no reference
UNKNOWN_IN_REFERENCE = "UNKNOWNTOKENINREF"  # fairseq's own word for it, so that nothing matches what nobody knows
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
CLEAR, NEGLIGIBLE = 0.05, 0.005  # share of a dictionary that a kind of subwords has at least, and that others may have
PUNCTUATION = re.compile(r"\w*[.,!?;:]")
FEWEST = 10  # marks of punctuation that tell whether text is tokenised


@dataclass(frozen=True)
class Postprocessing:
    """How the symbols of a target dictionary become text.

    Attributes:
        remove_bpe: how subwords are joined, fairseq's name of it; None: they are words.
        detokenize: what is done with the words, one of :data:`DETOKENIZE`. ``sentencepiece``: its pieces are of
            text that was not tokenised, and joining them is all.
        tokenised: whether the words are those of a tokeniser, so that ``none`` leaves tokenised text; None: unknown.
        escaped: whether Moses has put ``&quot;`` and its like into them.
    """

    remove_bpe: str | None
    detokenize: str
    tokenised: bool | None = None
    escaped: bool = False

    def leaves_tokens(self) -> bool:
        """Whether what comes out is still tokenised."""
        return self.detokenize != "moses" and bool(self.tokenised)

    def __str__(self) -> str:
        text = "tokenised text" if self.leaves_tokens() else "detokenised text"
        if self.detokenize == "none" and self.tokenised is None:
            text = "text as it was binarised"
        steps = [f"{self.remove_bpe.strip()} joined"] if self.remove_bpe else []
        steps += ["Moses-detokenised"] if self.detokenize == "moses" else []
        return f"{text} ({', '.join(steps)})" if steps else text


def chosen_postprocessing(
    data: str | Path,
    dictionary: Dictionary,
    dataset,
    remove_bpe: str | None = None,
    detokenize: str | None = None,
    arguments: tuple[str, str] = ("--remove-bpe", "--detokenize"),
) -> Postprocessing:
    """Choose how symbols become text: as asked for, by the data directory's manifest, or by dictionary and sentences.

    Args:
        data: the data directory.
        dictionary: of the target language.
        dataset: fairseq's, of sentence pairs of a split.
        remove_bpe: one of :data:`REMOVE_BPE`, None: not asked for.
        detokenize: one of :data:`DETOKENIZE`, None: not asked for.
        arguments: what errors call the two.

    Raises:
        InputError: neither manifest nor data tell, or what is asked for does not go together.
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
                arguments[1], "not given", "must be moses or none: the target sentences do not tell which"
            )
        detokenize = "moses" if tokenised else untouched
    return Postprocessing(remove_bpe, detokenize, tokenised, escaped=not known)


def _subwords(dictionary: Dictionary, argument: str) -> str:
    """Recognise the subwords of a dictionary by its symbols: ``sentencepiece``, ``@@ `` or ``none``.

    Its share is of the symbols, or of their occurrences where that is more. Raises InputError where it is ambiguous.
    """
    symbols, counts = dictionary.symbols[dictionary.nspecial :], dictionary.count[dictionary.nspecial :]
    shares = {}
    for name, marked in (("sentencepiece", lambda s: s.startswith("▁")), ("@@ ", lambda s: s.endswith("@@"))):
        having = [marked(symbol) for symbol in symbols]
        occurrences = sum(count for count, has in zip(counts, having, strict=True) if has)
        shares[name] = max(sum(having) / max(len(having), 1), occurrences / max(sum(counts), 1))
    possible = [name for name, share in shares.items() if share > NEGLIGIBLE]
    if not possible:
        return "none"
    if len(possible) == 1 and shares[possible[0]] >= CLEAR:
        return possible[0]
    found = f"{100 * shares['sentencepiece']:.1f} % of the target dictionary begin with ▁"
    found += f", {100 * shares['@@ ']:.1f} % end with @@"
    raise input_error(argument, "not given", f"must be sentencepiece, '@@ ' or none: {found}")


def _tokenised(dictionary: Dictionary, dataset, remove_bpe: str | None) -> bool | None:
    """Whether punctuation stands alone in the target sentences, as after a tokeniser; None where they do not tell."""
    alone = attached = 0
    for number in range(min(len(dataset), 2000)):
        for word in dictionary.string(dataset.tgt[number], remove_bpe).split():
            if PUNCTUATION.fullmatch(word):
                alone, attached = alone + (len(word) == 1), attached + (len(word) > 1)
    total = alone + attached
    if total < FEWEST or total / 5 < alone < 4 * total / 5:
        return None
    return alone > attached


class Detokeniser:
    """Turns a model's output, or the target sentences, into text.

    Args:
        dictionary: of the text.
        language: of the text, for Moses.
        processing: how.
    """

    def __init__(self, dictionary: Dictionary, language: str, processing: Postprocessing):
        self.dictionary, self.processing, self._moses = dictionary, processing, None
        if processing.detokenize == "moses":
            from sacremoses import MosesDetokenizer

            self._moses = MosesDetokenizer(language)

    def __call__(self, tokens, unknown: str = UNKNOWN) -> str:
        """The text of a tensor of symbols, without padding and end of sentence."""
        dictionary = self.dictionary
        tokens = tokens.int().cpu()
        text = dictionary.string(tokens[tokens != dictionary.pad()], self.processing.remove_bpe, unk_string=unknown)
        return self._moses.detokenize(text.split(), unescape=self.processing.escaped) if self._moses else text


def manifest(data: str | Path) -> dict:
    """What the data directory says of itself; empty where there is no manifest."""
    path = Path(data) / "manifest.json"
    try:
        return read_json(path, dict[str, Any])
    except FileNotFoundError:
        return {}


def load_dictionary(path: str | Path) -> Dictionary:
    """A dictionary that fairseq-preprocess wrote.

    Raises:
        InputError: it is something else.
    """
    try:
        return Dictionary.load(str(path))
    except Exception as error:  # fairseq raises the class itself where it is no UTF-8
        reason = str(error).split(" in /")[0].split("\n")[0]
        raise input_error("data", path, f"must be a dictionary of fairseq-preprocess, UTF-8 text: {reason}") from None


def raw_references(data: str | Path, split: str, language: str, sentences: int) -> list[str] | None:
    """The reference translations of a split as they were before preparation; None where the data have none.

    The last line may lack its end, the first one begin with a byte-order mark, and lines may end as on Windows.

    Raises:
        InputError: the file is no UTF-8, or has another number of lines than there are sentences.
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


def decoded_references(dataset, detokenise: Detokeniser) -> list[str]:
    """The target sentences of a split, made text as hypotheses are; an unknown symbol in them is matched by nothing."""
    return [detokenise(dataset.tgt[index], UNKNOWN_IN_REFERENCE) for index in range(len(dataset))]


def moses_lower(lines: list[str], language: str) -> list[str]:
    """Moses-tokenised, lower-cased text: what published IWSLT scores are measured on."""
    from sacremoses import MosesTokenizer

    tokeniser = MosesTokenizer(language)
    return [tokeniser.tokenize(line, return_str=True, escape=False).lower() for line in lines]
