"""From subwords back to the text that BLEU is measured on, and the references as they were before preparation."""

from collections.abc import Callable
from pathlib import Path

from fairseq.data import Dictionary

from lskd.errors import bad
from lskd.files import parse_json
from lskd.runs import look_up

UNKNOWN = "⁇"  # what sentencepiece itself prints; stands in no reference


class Detokeniser:
    """Turns a model's output into plain text, as the data directory's manifest says.

    Without a manifest (a data directory made otherwise), subword marks are removed by what the dictionary holds:
    sentencepiece's ``▁`` or subword-nmt's ``@@``, and words stay as tokenised.

    Args:
        data: the data directory.
        language: of the text, for Moses.
        dictionary: of the text.
    """

    def __init__(self, data: str | Path, language: str, dictionary: Dictionary):
        self.dictionary = dictionary
        tokenisation = look_up(manifest(data), "parameters", "tokenisation")
        marks = {"▁": "sentencepiece", "@@": "@@ "}
        found = next((mark for mark in marks if any(mark in symbol for symbol in dictionary.symbols)), None)
        self.subwords = "sentencepiece" if tokenisation else marks.get(found)
        self.to_text: Callable[[str], str] = str
        if tokenisation == "moses":
            from sacremoses import MosesDetokenizer

            moses = MosesDetokenizer(language)
            self.to_text = lambda text: moses.detokenize(text.split(), unescape=False)

    def __call__(self, tokens) -> str:
        """The text of a tensor of symbols, without padding and end of sentence."""
        return self.to_text(self.dictionary.string(tokens.int().cpu(), self.subwords, unk_string=UNKNOWN))


def manifest(data: str | Path) -> dict:
    """What the data directory says of itself; empty where there is no manifest."""
    path = Path(data) / "manifest.json"
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise bad("data", path, f"must be JSON: {error}") from None
    if not isinstance(content, dict):
        raise bad("data", path, "must hold a JSON object")
    return content


def load_dictionary(path: str | Path) -> Dictionary:
    """A dictionary that fairseq-preprocess wrote.

    Raises:
        InputError: it is something else.
    """
    try:
        return Dictionary.load(str(path))
    except Exception as error:  # fairseq raises the class itself where it is no UTF-8
        reason = str(error).split(" in /")[0].split("\n")[0]
        raise bad("data", path, f"must be a dictionary of fairseq-preprocess, UTF-8 text: {reason}") from None


def references(data: str | Path | None, split: str, language: str, dataset, detokenise: Detokeniser) -> list[str]:
    """The reference translations of a split, in the order of the sentences' ids.

    They are the raw sentences where there is a data directory that has them, else the decoded target tokens.

    Raises:
        InputError: the raw file is no UTF-8, or has another number of lines than the split has sentences.
    """
    raw = Path(data or "") / "raw" / f"{split}.{language}"
    if data is not None and raw.is_file():
        try:
            lines = raw.read_text(encoding="utf-8").split("\n")[:-1]
        except UnicodeDecodeError as error:
            raise bad("data", raw, f"must be UTF-8 text: {error.reason} at byte {error.start}") from None
        if len(lines) != len(dataset):
            raise bad("data", raw, f"has {len(lines)} lines, the {split} split has {len(dataset)} sentences")
        return lines
    return [detokenise(dataset.tgt[index]) for index in range(len(dataset))]


def moses_lower(lines: list[str], language: str) -> list[str]:
    """Moses-tokenised, lower-cased text: what published IWSLT scores are measured on."""
    from sacremoses import MosesTokenizer

    tokeniser = MosesTokenizer(language)
    return [tokeniser.tokenize(line, return_str=True, escape=False).lower() for line in lines]
