"""The task ``label_smoothed_kd``, also called ``translation_kd``: translation, and what people who distil need.

Everything of fairseq's ``translation`` task, and on top of it: the teacher scored on the validation split, BLEU on
detokenised text against the raw references (with ``--eval-bleu``), and no sentence left out of validation or a test.
"""

import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import sacrebleu
import torch
from fairseq import utils
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from lskd.io.errors import InputError
from lskd.io.files import write_json
from lskd.io.schema import Name, Number, convert, read_json
from lskd.measure.smoothing_estimate import REVISION, SmoothingEstimate, estimate_label_smoothing, most_smoothed
from lskd.measure.teacher_smoothing import Estimate, temperature_warnings, with_estimate
from lskd_fairseq import eval_bleu, options
from lskd_fairseq.decoder_output import output_logits
from lskd_fairseq.records import data_fingerprint
from lskd_fairseq.text import Detokeniser, chosen_postprocessing, decoded_references, raw_references
from lskd_fairseq.translate import check_lengths, every_batch, translate

logger = logging.getLogger(__name__)
SAMPLES = 2000  # tokens of validation, that say whether a teacher was smoothed


@dataclass
class KDTaskConfig(TranslationConfig):
    """Options of fairseq's translation task, and one more."""

    skip_teacher_score: bool = field(
        default=False, metadata={"help": "do not score the teacher on the validation split at the start"}
    )


class Scores(TypedDict):
    """A teacher's figures on valid, remembered beside its checkpoint; the first ones had no estimate."""

    bleu: Number
    signature: Name
    nll_loss: Number
    smoothing_estimate: NotRequired[Estimate]


@register_task("label_smoothed_kd", dataclass=KDTaskConfig)
class LabelSmoothedKDTask(TranslationTask):
    """Translation with a teacher.

    Attributes:
        teacher_scores: the teacher's ``bleu``, ``signature`` and ``nll_loss`` (bits per token) on the validation split,
            once the first epoch has begun; None without a teacher.
    """

    def __init__(self, cfg, src_dict, tgt_dict):
        super().__init__(cfg, src_dict, tgt_dict)
        self.teacher = None
        self.teacher_scores: dict | None = None
        self._raw_references: dict[str, list[str] | None] = {}
        self._decoders: dict[str, Detokeniser | eval_bleu.FairseqsDecoder] = {}
        self._references: dict[str, list[str]] = {}
        self._validating = "valid"
        try:
            eval_bleu.check_options(cfg)
        except InputError as error:
            options.exit_with_error(error)

    def build_criterion(self, cfg, from_checkpoint=False):
        """Build the criterion and remember its teacher."""
        criterion = super().build_criterion(cfg, from_checkpoint)
        self.teacher = getattr(criterion, "teacher", None)
        self._temperature = getattr(cfg, "temperature", 1.0)
        return criterion

    def load_dataset(self, split, epoch=1, combine=False, **kwargs):
        """Load a split and, for BLEU, its references."""
        super().load_dataset(split, epoch, combine, **kwargs)
        dataset = self.dataset(split)
        if split == self.cfg.train_subset or dataset.tgt is None:
            return
        self._decoders.pop(split, None)
        try:
            # With --combine-valid-subsets the sentences are those of several raw files: they are decoded instead.
            raw = None if combine else raw_references(self._data(), split, self.cfg.target_lang, len(dataset))
            self._raw_references[split] = raw
            if self.cfg.eval_bleu:
                self.decoder(split)  # what cannot be measured is told before anything is trained
        except InputError as error:
            options.exit_with_error(error)

    def decoder(self, split: str) -> Detokeniser | eval_bleu.FairseqsDecoder:
        """What turns the symbols of a loaded split, and of hypotheses for it, into what BLEU is measured on.

        Raises:
            InputError: neither the options nor the data tell how.
        """
        if split not in self._decoders:
            self._decoders[split] = self._decoder(split)
        return self._decoders[split]

    def _decoder(self, split: str) -> Detokeniser | eval_bleu.FairseqsDecoder:
        dataset, raw = self.dataset(split), self._raw_references[split]
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
        dataset,
        *args,
        max_positions=None,
        required_batch_size_multiple=1,
        ignore_invalid_inputs=False,
        **kwargs,
    ):
        """Batches; for everything but training, of every sentence: fairseq's default drops the last few silently."""
        split = next((name for name, loaded in self.datasets.items() if loaded is dataset), None)
        if split != self.cfg.train_subset:
            self._validating = split  # a batch does not say which split it is of; the next ones are of this
            required_batch_size_multiple = 1
            ignore_invalid_inputs = False
            if max_positions is not None:
                try:
                    check_lengths(dataset, split, max_positions)
                except InputError as error:
                    options.exit_with_error(error)
        return super().get_batch_iterator(
            dataset,
            *args,
            max_positions=max_positions,
            required_batch_size_multiple=required_batch_size_multiple,
            ignore_invalid_inputs=ignore_invalid_inputs,
            **kwargs,
        )

    def begin_epoch(self, epoch, model):
        """Before the first epoch, score the teacher on the validation split, if nobody has yet."""
        super().begin_epoch(epoch, model)
        if self.teacher is None or self.cfg.skip_teacher_score or self.teacher_scores is not None:
            return
        if "valid" not in self._raw_references:  # validation is switched off, or of another split, or trained on
            return
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not distributed or torch.distributed.get_rank() == 0:
            self.teacher_scores = self._score_teacher(next(model.parameters()))
            if self.teacher_scores is None:
                return
            estimate = self.teacher_scores.pop("smoothing_estimate", None)
            known = self.teacher.label_smoothing
            before = known.get("estimate", {}).get("revision")  # a cache has it already
            if estimate and known["alpha"] is None and before != REVISION:
                self._tell(SmoothingEstimate(**estimate))
            logger.info("teacher on valid: " + ", ".join(f"{k} {v}" for k, v in self.teacher_scores.items()))

    def _tell(self, estimate: SmoothingEstimate) -> None:
        """Give the criterion's teacher what its outputs tell of its smoothing, and warn where that asks for it."""
        self.teacher.label_smoothing = with_estimate(self.teacher.label_smoothing, estimate)
        for warning in temperature_warnings(self.teacher.label_smoothing, self._temperature):
            logger.warning(warning)

    def _inference_with_bleu(self, generator, sample, model):
        found = self.inference_step(generator, [model], sample, prefix_tokens=None)
        decode = self.decoder(self._validating)
        hypotheses = [decode(hypothesis[0]["tokens"]) for hypothesis in found]
        lines = self._references[self._validating]
        # A process that has run out of batches is given one of the train split, whose outcome fairseq throws away.
        expected = [lines[index] if index < len(lines) else "" for index in sample["id"].tolist()]
        if self.cfg.eval_bleu_print_samples:
            logger.info(f"example hypothesis: {hypotheses[0]}")
            logger.info(f"example reference: {expected[0]}")
        return sacrebleu.corpus_bleu(hypotheses, [expected], **self._bleu_options())

    def _bleu_options(self) -> dict:
        return {"tokenize": "none", "force": True} if self.cfg.eval_tokenized_bleu else {}

    def _data(self) -> str:
        return utils.split_paths(self.cfg.data)[0]

    def _score_teacher(self, like: torch.Tensor) -> dict | None:
        """The teacher's figures on valid: remembered beside its checkpoint, or measured now and remembered.

        None where it has not been scored and cannot be, being a cached one.
        """
        path = Path(self.teacher.paths[0] + ".valid.json")
        if not path.is_file() and not self.teacher.models:
            return None
        key = f"{self.teacher.fingerprint} {data_fingerprint([self._data()])}{eval_bleu.identity(self.cfg)}"
        try:
            remembered = read_json(path, dict[str, Any])
            scores = convert(remembered.get(key), Scores | None, str(path))
        except (OSError, InputError):  # none yet, or not as it is written here
            remembered, scores = {}, None
        if scores and scores.get("smoothing_estimate", {}).get("revision") != REVISION:  # an earlier rule's
            scores.pop("smoothing_estimate", None)
        if scores is None or (self.teacher.models and "smoothing_estimate" not in scores):
            if not self.teacher.models:
                return None
            try:
                # Nothing here may use up random numbers that training without a teacher would have had.
                with torch.random.fork_rng(devices=[like.device] if like.device.type == "cuda" else []):
                    scores = remembered[key] = self._measure_teacher(like)
            except InputError as error:
                options.exit_with_error(error)
            try:
                write_json(path, remembered)
            except OSError as error:
                logger.warning(f"the teacher's score cannot be remembered beside it: {error}")
        return dict(scores)

    @torch.no_grad()
    def _measure_teacher(self, like: torch.Tensor) -> dict:
        models = [model.to(device=like.device, dtype=like.dtype) for model in self.teacher.models]
        hypotheses = translate(models, self, "valid", self.decoder("valid"))
        bleu = sacrebleu.BLEU(**self._bleu_options())
        score = bleu.corpus_score(hypotheses, [self._references["valid"]]).score
        total, tokens = 0.0, 0
        for batch in every_batch(models, self, "valid", max_tokens=8000):
            batch = utils.move_to_cuda(batch) if like.is_cuda else batch
            keep = batch["target"].ne(self.target_dictionary.pad())
            logits = [output_logits(model, batch["net_input"], keep).float() for model in models]
            mean = torch.stack([each.softmax(-1) for each in logits]).mean(0)
            total -= mean.gather(1, batch["target"][keep][:, None]).log().sum().item()
            tokens += batch["ntokens"]
        return {
            "smoothing_estimate": asdict(estimate_smoothing(models, self, "valid")),
            "bleu": round(score, 2),
            "signature": f"{bleu.get_signature()} beam:5",
            "nll_loss": round(total / tokens / math.log(2), 4),
        }


@torch.no_grad()
def estimate_smoothing(models: list, task, split: str) -> SmoothingEstimate:
    """What the outputs of teachers for a few thousand tokens of a loaded split tell of the smoothing of their training.

    Of several teachers it is the most smoothed one's, or of one that may be smoothed.
    """
    some, tokens = [[] for _ in models], 0
    on_gpu = next(models[0].parameters()).is_cuda
    for batch in every_batch(models, task, split, max_tokens=8000):
        if tokens >= SAMPLES:
            break
        batch = utils.move_to_cuda(batch) if on_gpu else batch
        keep = batch["target"].ne(task.target_dictionary.pad())
        for kept, model in zip(some, models, strict=True):
            logits = output_logits(model, batch["net_input"], keep).float()
            kept.append(logits[logits.isfinite().all(1)].cpu().numpy())
        tokens += batch["ntokens"]
    return most_smoothed(map(estimate_label_smoothing, some))


@register_task("translation_kd", dataclass=KDTaskConfig)
class TranslationKDTask(LabelSmoothedKDTask):
    """The same task under its other name: fairseq registers a class once."""
