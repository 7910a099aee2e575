"""fairseq's options of ``--eval-bleu`` in the task ``label_smoothed_kd``: each is followed, or refused in one line.

Without them BLEU is of detokenised text against the raw references. With one of ``--eval-bleu-detok``,
``--eval-bleu-remove-bpe`` and ``--eval-tokenized-bleu`` it is what fairseq's own translation task makes of the same
weights: of both sides as these options decode them, the reference from the binarised data. ``--eval-bleu-detok space``
alone is fairseq's default, which cannot be told from nothing; ``--eval-bleu-remove-bpe none`` asks for it.
"""

import json
from argparse import Namespace
from dataclasses import fields

from fairseq.data import Dictionary, encoders
from fairseq.data.encoders import TOKENIZER_REGISTRY
from fairseq.dataclass.configs import GenerationConfig
from fairseq.registry import REGISTRIES

from lskd.io.errors import input_error
from lskd_fairseq.text import REMOVE_BPE, UNKNOWN

NO_DETOKENISER = "space"  # fairseq's default


def is_fairseqs(cfg) -> bool:
    """Whether the options of a task ask for fairseq's own validation BLEU."""
    asked = cfg.eval_bleu_detok != NO_DETOKENISER, cfg.eval_bleu_remove_bpe is not None, cfg.eval_tokenized_bleu
    return any(asked)


def identity(cfg) -> str:
    """The options that decide a score, as a key to remember it by; empty where it is of detokenised text."""
    asked = cfg.eval_bleu_detok, cfg.eval_bleu_detok_args, cfg.eval_bleu_remove_bpe, cfg.eval_tokenized_bleu
    return f" {asked}" if is_fairseqs(cfg) else ""


def check_options(cfg) -> None:
    """Check the options of a task.

    Raises:
        InputError: one has a value that fairseq would trip over, or would not look at.
    """
    detok, remove_bpe = cfg.eval_bleu_detok, cfg.eval_bleu_remove_bpe
    if detok not in TOKENIZER_REGISTRY:
        raise input_error("--eval-bleu-detok", detok, f"must be one of {', '.join(TOKENIZER_REGISTRY)}")
    if remove_bpe not in (None, *REMOVE_BPE):
        raise input_error("--eval-bleu-remove-bpe", remove_bpe, f"must be one of {', '.join(REMOVE_BPE)}")
    _options("--eval-bleu-args", cfg.eval_bleu_args, GenerationConfig, "fairseq-generate")
    args = cfg.eval_bleu_detok_args
    if detok == NO_DETOKENISER and args not in (None, "{}"):
        raise input_error("--eval-bleu-detok-args", args, "must come with --eval-bleu-detok")
    dataclass = REGISTRIES["tokenizer"]["dataclass_registry"].get(detok)
    _options("--eval-bleu-detok-args", args, dataclass, f"the tokenizer {detok}")


def _options(argument: str, text: str | None, dataclass: type | None, owner: str) -> dict:
    """The options in a JSON object. Raises InputError where it is none, or has one that ``dataclass`` does not know."""
    try:
        content = json.loads(text or "{}")
    except ValueError as error:
        raise input_error(argument, text, f"must be a JSON object: {error}") from None
    if not isinstance(content, dict):
        raise input_error(argument, text, "must be a JSON object")
    known = {field.name for field in fields(dataclass)} if dataclass else set(content)
    if unknown := sorted(content.keys() - known):
        raise input_error(argument, text, f"has {unknown[0]}, must have options of {owner}")
    return content


class FairseqsDecoder:
    """Decodes symbols as the options of a task say, like fairseq's translation task; called as ``text.Detokeniser``."""

    def __init__(self, cfg, dictionary: Dictionary):
        self.dictionary, self.remove_bpe = dictionary, cfg.eval_bleu_remove_bpe
        options = json.loads(cfg.eval_bleu_detok_args or "{}")
        self.tokenizer = encoders.build_tokenizer(Namespace(tokenizer=cfg.eval_bleu_detok, **options))

    def __call__(self, tokens, unknown: str = UNKNOWN) -> str:
        """The text of a tensor of symbols."""
        tokens = tokens.int().cpu()
        text = self.dictionary.string(tokens[tokens != self.dictionary.pad()], self.remove_bpe, unk_string=unknown)
        return self.tokenizer.decode(text)
