"""fairseq's ``--eval-bleu`` options in the task ``label_smoothed_kd``: each is honoured, or rejected in one line.

Without them BLEU compares detokenised text with the raw references. With ``--eval-bleu-detok``,
``--eval-bleu-remove-bpe`` or ``--eval-tokenized-bleu`` it is what fairseq's own translation task computes for the same
weights: both sides decoded by these options, the reference from the binarised data. ``--eval-bleu-detok space`` alone
is fairseq's default and cannot be recognised; ``--eval-bleu-remove-bpe none`` asks for it.
"""

import json
from argparse import Namespace
from dataclasses import fields
from typing import Any

from fairseq.data import Dictionary, encoders
from fairseq.data.encoders import TOKENIZER_REGISTRY
from fairseq.dataclass.configs import GenerationConfig
from fairseq.registry import REGISTRIES
from fairseq.tasks.translation import TranslationConfig
from torch import Tensor

from lskd.io.errors import input_error
from lskd_fairseq.text import REMOVE_BPE, UNKNOWN

NO_DETOKENISER = "space"  # fairseq's default


def is_fairseqs(cfg: TranslationConfig) -> bool:
    """Whether the options of a task ask for fairseq's own validation BLEU."""
    asked = cfg.eval_bleu_detok != NO_DETOKENISER, cfg.eval_bleu_remove_bpe is not None, cfg.eval_tokenized_bleu
    return any(asked)


def identity(cfg: TranslationConfig) -> str:
    """The options that determine a score, as part of its cache key; empty for BLEU of detokenised text."""
    asked = cfg.eval_bleu_detok, cfg.eval_bleu_detok_args, cfg.eval_bleu_remove_bpe, cfg.eval_tokenized_bleu
    return f" {asked}" if is_fairseqs(cfg) else ""


def check_options(cfg: TranslationConfig) -> None:
    """Check the options of a task.

    Raises:
        InputError: an option has a value that fairseq would fail on, or would ignore.
    """
    detok, remove_bpe = cfg.eval_bleu_detok, cfg.eval_bleu_remove_bpe
    if detok not in TOKENIZER_REGISTRY:
        raise input_error("--eval-bleu-detok", detok, f"must be one of {', '.join(TOKENIZER_REGISTRY)}")
    if remove_bpe not in (None, *REMOVE_BPE):
        raise input_error("--eval-bleu-remove-bpe", remove_bpe, f"must be one of {', '.join(REMOVE_BPE)}")
    _check_json("--eval-bleu-args", cfg.eval_bleu_args, GenerationConfig, "fairseq-generate")
    args = cfg.eval_bleu_detok_args
    if detok == NO_DETOKENISER and args not in (None, "{}"):
        raise input_error("--eval-bleu-detok-args", args, "must come with --eval-bleu-detok")
    tokenizers: dict[str, Any] = REGISTRIES["tokenizer"]
    dataclass = tokenizers["dataclass_registry"].get(detok)
    _check_json("--eval-bleu-detok-args", args, dataclass, f"the tokenizer {detok}")


def _check_json(argument: str, text: str | None, dataclass: type | None, owner: str) -> None:
    """Check options in a JSON object. Raises InputError if it is not one, or has an option unknown to ``dataclass``."""
    try:
        content = json.loads(text or "{}")
    except ValueError as error:
        raise input_error(argument, text, f"must be a JSON object: {error}") from None
    if not isinstance(content, dict):
        raise input_error(argument, text, "must be a JSON object")
    known = {field.name for field in fields(dataclass)} if dataclass else set(content)
    if unknown := sorted(content.keys() - known):
        raise input_error(argument, text, f"has {unknown[0]}, must have options of {owner}")


class FairseqsDecoder:
    """Decodes tokens by the options of a task, as fairseq's translation task does; called like ``text.Detokeniser``."""

    def __init__(self, cfg: TranslationConfig, dictionary: Dictionary) -> None:
        self.dictionary, self.remove_bpe = dictionary, cfg.eval_bleu_remove_bpe
        options = json.loads(cfg.eval_bleu_detok_args or "{}")
        self.tokenizer: Any = encoders.build_tokenizer(Namespace(tokenizer=cfg.eval_bleu_detok, **options))

    def __call__(self, tokens: Tensor, unknown: str = UNKNOWN) -> str:
        """The text of a tensor of tokens."""
        tokens = tokens.int().cpu()
        text = self.dictionary.string(tokens[tokens != self.dictionary.pad()], self.remove_bpe, unk_string=unknown)
        return self.tokenizer.decode(text)
