"""The task ``label_smoothed_kd``, also called ``translation_kd``: translation with a teacher.

It adds to fairseq's ``translation`` task: the teacher is scored on the validation split, BLEU is of detokenised text
against the raw references (with ``--eval-bleu``), and validation and tests leave out no sentence.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import sacrebleu
import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.models import BaseFairseqModel
from fairseq.sequence_generator import SequenceGenerator
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from numpy.typing import NDArray
from omegaconf import DictConfig
from sacrebleu.metrics.bleu import BLEUScore

from lskd.io.errors import InputError, input_error
from lskd.io.files import write_json
from lskd.io.schema import Name, Number, convert, read_json
from lskd.loss.schedule import highest_temperature
from lskd.measure.smoothing_estimate import REVISION, SmoothingEstimate, estimate_label_smoothing, most_smoothed
from lskd.measure.teacher_smoothing import Estimate, temperature_warnings, with_estimate
from lskd_fairseq import eval_bleu, options
from lskd_fairseq.batch import Batch, to_device
from lskd_fairseq.cache.cached_teacher import CachedTeacher
from lskd_fairseq.decoder_output import output_logits
from lskd_fairseq.run_record import data_fingerprint
from lskd_fairseq.teacher import Teacher
from lskd_fairseq.text import Decode, Detokeniser, chosen_postprocessing, decoded_references, raw_references
from lskd_fairseq.translate import check_lengths, every_batch, translate

logger = logging.getLogger(__name__)
SAMPLES = 2000  # validation tokens from which a teacher's label smoothing is estimated


@dataclass
class KDTaskConfig(TranslationConfig):
    """Options of fairseq's translation task, and one more."""

    skip_teacher_score: bool = field(
        default=False, metadata={"help": "do not score the teacher on the validation split at the start"}
    )


class Scores(TypedDict):
    """A teacher's scores on valid, stored beside its checkpoint; early versions had no estimate."""

    bleu: Number
    signature: Name
    nll_loss: Number
    smoothing_estimate: NotRequired[Estimate]


@register_task("label_smoothed_kd", dataclass=KDTaskConfig)
class LabelSmoothedKDTask(TranslationTask):
    """Translation with a teacher.

    Attributes:
        teacher: the criterion's; None without one.
        teacher_scores: the teacher's ``bleu``, ``signature`` and ``nll_loss`` (bits per token) on the validation split,
            once the first epoch has begun; None without a teacher.
    """

    cfg: Any  # a KDTaskConfig, as omegaconf's DictConfig where fairseq's commands make it

    def __init__(self, cfg: KDTaskConfig, src_dict: Dictionary, tgt_dict: Dictionary) -> None:
        super().__init__(cfg, src_dict, tgt_dict)
        self.teacher: Teacher | CachedTeacher | None = None
        self.teacher_scores: Scores | None = None
        self._temperature = 1.0
        self._raw_references: dict[str, list[str] | None] = {}
        self._decoders: dict[str, Decode] = {}
        self._references: dict[str, list[str]] = {}
        self._validating: str | None = "valid"
        with options.exit_on_input_error():
            eval_bleu.check_options(cfg)

    def build_criterion(self, cfg: DictConfig, from_checkpoint: bool = False) -> FairseqCriterion:
        """Build the criterion and keep its teacher."""
        criterion: Any = super().build_criterion(cfg, from_checkpoint)
        self.teacher = getattr(criterion, "teacher", None)
        if self.teacher is not None:
            self._temperature = highest_temperature(cfg.kd_loss, cfg.temperature, cfg.kd_final_temperature)
        return criterion

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any) -> None:
        """Load a split and, for BLEU, its references."""
        super().load_dataset(split, epoch, combine, **kwargs)
        dataset = self.dataset(split)
        if split == self.cfg.train_subset or dataset.tgt is None:
            return
        self._decoders.pop(split, None)
        with options.exit_on_input_error():
            # With --combine-valid-subsets the sentences are from several raw files: they are decoded instead.
            raw = None if combine else raw_references(self._data(), split, self.cfg.target_lang, len(dataset))
            self._raw_references[split] = raw
            if self.cfg.eval_bleu:
                self.decoder(split)  # fails before training if BLEU cannot be computed

    def decoder(self, split: str) -> Decode:
        """The function from the tokens of a loaded split, or of hypotheses for it, to the text that BLEU compares.

        Raises:
            InputError: it follows neither from the options nor from the data.
        """
        if split not in self._decoders:
            self._decoders[split] = self._decoder(split)
        return self._decoders[split]

    def _decoder(self, split: str) -> Decode:
        dataset, raw = self.dataset(split), self._raw_references[split]
        decode: Decode
        if eval_bleu.is_fairseqs(self.cfg):
            decode, raw = eval_bleu.FairseqsDecoder(self.cfg, self.tgt_dict), None
            of = "as fairseq's translation task measures it, of both sides decoded alike"
        else:
            arguments = "--eval-bleu-remove-bpe", "--eval-bleu-detok"
            processing = chosen_postprocessing(self._data(), self.tgt_dict, dataset, arguments=arguments)
            decode = Detokeniser(self.tgt_dict, self.cfg.target_lang, processing)
            against = "binarised references treated alike" if raw is None else "raw references"
            of = f"of {processing}, against the {against}"
        self._references[split] = decoded_references(dataset, decode) if raw is None else raw
        logger.info(f"BLEU on {split}: {of}")
        return decode

    def get_batch_iterator(
        self,
        dataset: LanguagePairDataset,
        *args: Any,
        max_positions: tuple[int, int] | None = None,
        required_batch_size_multiple: int = 1,
        ignore_invalid_inputs: bool = False,
        **kwargs: Any,
    ) -> EpochBatchIterator:
        """Iterate over batches; except for training, of every sentence: fairseq silently drops the last few."""
        split = next((name for name, loaded in self.datasets.items() if loaded is dataset), None)
        if split != self.cfg.train_subset:
            self._validating = split  # a batch does not say which split it is from; the next ones are from this
            required_batch_size_multiple = 1
            ignore_invalid_inputs = False
            if max_positions is not None:
                with options.exit_on_input_error():
                    check_lengths(dataset, str(split), max_positions)
        return super().get_batch_iterator(
            dataset,
            *args,
            max_positions=max_positions,
            required_batch_size_multiple=required_batch_size_multiple,
            ignore_invalid_inputs=ignore_invalid_inputs,
            **kwargs,
        )

    def begin_epoch(self, epoch: int, model: BaseFairseqModel) -> None:
        """Score the teacher on the validation split before the first epoch, unless its scores are stored."""
        super().begin_epoch(epoch, model)
        if self.teacher is None or self.cfg.skip_teacher_score or self.teacher_scores is not None:
            return
        if "valid" not in self._raw_references:  # validation is off or on another split, or valid is trained on
            return
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not distributed or torch.distributed.get_rank() == 0:
            self.teacher_scores = self._score_teacher(self.teacher, next(model.parameters()))
            if self.teacher_scores is None:
                return
            estimate = self.teacher_scores.pop("smoothing_estimate", None)
            known = self.teacher.label_smoothing
            before = known.get("estimate", {}).get("revision")  # a cache may have it
            if estimate and known["alpha"] is None and before != REVISION:
                self._add_estimate(self.teacher, SmoothingEstimate(**estimate))
            logger.info("teacher on valid: " + ", ".join(f"{k} {v}" for k, v in self.teacher_scores.items()))

    def _add_estimate(self, teacher: Teacher | CachedTeacher, estimate: SmoothingEstimate) -> None:
        """Add an estimate of a teacher's label smoothing from its outputs, and warn if T does not suit it."""
        teacher.label_smoothing = with_estimate(teacher.label_smoothing, estimate)
        for warning in temperature_warnings(teacher.label_smoothing, self._temperature):
            logger.warning(warning)

    def _inference_with_bleu(self, generator: SequenceGenerator, sample: Batch, model: BaseFairseqModel) -> BLEUScore:
        assert self._validating is not None
        found = self.inference_step(generator, [model], sample, prefix_tokens=None)
        decode = self.decoder(self._validating)
        hypotheses = [decode(hypothesis[0]["tokens"]) for hypothesis in found]
        lines = self._references[self._validating]
        # A process that has run out of batches gets one of the train split, and fairseq discards its result.
        expected = [lines[index] if index < len(lines) else "" for index in sample["id"].tolist()]
        if self.cfg.eval_bleu_print_samples:
            logger.info(f"example hypothesis: {hypotheses[0]}")
            logger.info(f"example reference: {expected[0]}")
        return sacrebleu.corpus_bleu(hypotheses, [expected], **self._bleu_options())

    def _bleu_options(self) -> dict[str, Any]:
        return {"tokenize": "none", "force": True} if self.cfg.eval_tokenized_bleu else {}

    def _data(self) -> str:
        return utils.split_paths(self.cfg.data)[0]

    def _score_teacher(self, teacher: Teacher | CachedTeacher, like: torch.Tensor) -> Scores | None:
        """The teacher's scores on valid: read from the file beside its checkpoint, or measured now and stored there.

        None for a cached teacher without stored scores: it cannot translate.
        """
        path = Path(teacher.paths[0] + ".valid.json")
        if not path.is_file() and not teacher.models:
            return None
        key = f"{teacher.fingerprint} {data_fingerprint([self._data()])}{eval_bleu.identity(self.cfg)}"
        stored: dict[str, Any] = {}
        scores: Scores | None = None
        try:
            stored = read_json(path, dict[str, Any])
            if stored.get(key) is not None:
                scores = convert(stored[key], Scores, str(path))
        except (OSError, InputError):  # no file yet, or not one in this format
            stored = {}
        if scores and scores.get("smoothing_estimate", {}).get("revision") != REVISION:  # by an earlier version's rule
            scores.pop("smoothing_estimate", None)
        if scores is None or (teacher.models and "smoothing_estimate" not in scores):
            if not teacher.models:
                return None
            # Training must see the same random numbers as without a teacher.
            devices = [like.device] if like.device.type == "cuda" else []
            with options.exit_on_input_error(), torch.random.fork_rng(devices=devices):
                scores = stored[key] = self._measure_teacher(teacher, like)
            try:
                write_json(path, stored)
            except OSError as error:
                logger.warning(f"the teacher's scores cannot be stored beside it: {error}")
        return scores.copy()

    @torch.no_grad()
    def _measure_teacher(self, teacher: Teacher | CachedTeacher, like: torch.Tensor) -> Scores:
        """Measure a teacher's scores on valid. Raises InputError if its loss is not finite."""
        models = [model.to(device=like.device, dtype=like.dtype) for model in teacher.models]
        hypotheses = translate(models, self, "valid", self.decoder("valid"))
        bleu = sacrebleu.BLEU(**self._bleu_options())
        score = bleu.corpus_score(hypotheses, [self._references["valid"]]).score
        total, tokens = 0.0, 0
        for batch in every_batch(models, self, "valid", max_tokens=8000):
            batch = to_device(batch, like.device)
            keep = batch["target"].ne(self.target_dictionary.pad())
            logits = [output_logits(model, batch["net_input"], keep).float() for model in models]
            # In logarithms: a confident teacher's probability of the target may be too small for float32.
            log_p = torch.stack([each.log_softmax(-1).gather(1, batch["target"][keep][:, None]) for each in logits])
            total -= (log_p.logsumexp(0) - math.log(len(models))).sum().item()
            tokens += batch["ntokens"]
        if not math.isfinite(total):
            found = "must have a finite loss on valid: it gives a token there the probability 0, or NaN"
            raise input_error("--teacher-path", ":".join(teacher.paths), f"{found}; or give --skip-teacher-score")
        return {
            "smoothing_estimate": asdict(estimate_smoothing(models, self, "valid")),
            "bleu": round(score, 2),
            "signature": f"{bleu.get_signature()} beam:5",
            "nll_loss": round(total / tokens / math.log(2), 4),
        }


@torch.no_grad()
def estimate_smoothing(models: Sequence[BaseFairseqModel], task: TranslationTask, split: str) -> SmoothingEstimate:
    """Estimate the label smoothing of teachers from their outputs for a few thousand tokens of a loaded split.

    For several teachers it is the estimate of the most smoothed one, or of one that may be smoothed.
    """
    samples: list[list[NDArray[np.float32]]] = [[] for _ in models]
    tokens, device = 0, next(models[0].parameters()).device
    for batch in every_batch(models, task, split, max_tokens=8000):
        if tokens >= SAMPLES:
            break
        batch = to_device(batch, device)
        keep = batch["target"].ne(task.target_dictionary.pad())
        for of_model, model in zip(samples, models, strict=True):
            logits = output_logits(model, batch["net_input"], keep).float()
            of_model.append(logits[logits.isfinite().all(1)].cpu().numpy())
        tokens += batch["ntokens"]
    return most_smoothed(map(estimate_label_smoothing, samples))


@register_task("translation_kd", dataclass=KDTaskConfig)
class TranslationKDTask(LabelSmoothedKDTask):
    """The same task under its other name: fairseq registers a class only once."""
