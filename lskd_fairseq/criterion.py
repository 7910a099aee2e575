"""The criterion ``label_smoothed_kd``, also called ``kd``: distillation at a temperature for any translation model.

fairseq-train DATA-BIN --user-dir lskd_fairseq --criterion kd --temperature 1 --teacher-path teacher.pt …
"""

import functools
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.distributed import utils as distributed
from fairseq.logging import metrics
from fairseq.tasks.translation import TranslationTask
from torch import Tensor, nn

from lskd.io.errors import input_error
from lskd.loss.distillation import DistillationSums, ProjectedLogits, TopkLogits, distillation_loss
from lskd.loss.schedule import highest_temperature, scheduled_temperature
from lskd.loss.types import MeasuredSums
from lskd.measure.teacher_smoothing import temperature_warnings
from lskd_fairseq import options
from lskd_fairseq.batch import Batch
from lskd_fairseq.cache.cached_teacher import CachedTeacher
from lskd_fairseq.decoder_output import output_logits
from lskd_fairseq.teacher import Teacher
from lskd_fairseq.teacher_checks import PairedData

logger = logging.getLogger(__name__)
# A tensor for one teacher, a list for several; from a cache perhaps only the k largest.
TeacherLogits = Tensor | list[Tensor | ProjectedLogits] | TopkLogits


@register_criterion("kd", dataclass=options.KDConfig)
@register_criterion("label_smoothed_kd", dataclass=options.KDConfig)
class LabelSmoothedKDCriterion(FairseqCriterion):
    """The loss of :mod:`lskd.loss.distillation` over the target tokens of a batch.

    Logged in bits per target token, as in fairseq: ``kd_loss`` (T_s²·KL), ``nll_loss`` and ``ppl`` (T = 1, no
    smoothing), ``teacher_entropy`` (of the targets at T); ``teacher_agreement`` is in % of the target tokens. In
    training also ``kd_gradient_ratio``: the root mean square, over tokens, of the norm of the distillation term's
    gradient with respect to the logits, relative to that of the paper's loss at T = 1 for the same logits. In
    validation, except with a cached top-k, also ``teacher_kl``, KL(teacher ‖ student) at T = 1 over the whole
    vocabulary, in nats per target token, and the agreement is that of the probabilities at T = 1, whatever the loss.
    Compare runs at different T on BLEU or ``nll_loss``, never on ``loss``, which is scaled by the student's T².
    """

    def __init__(self, cfg: options.KDConfig, task: TranslationTask) -> None:
        super().__init__(task)
        self.cfg = cfg
        self.temperature = cfg.temperature
        # Summed until the trainer checks it: an infinite loss can have finite gradients.
        self.step_loss: Tensor | float = 0.0
        self._counted: Iterator[bool] = iter(())
        with options.exit_on_input_error():
            options.check_criterion(cfg)
            options.check_vocabulary(cfg, len(task.target_dictionary))
            self.teacher = self._teacher(task)
        if self.teacher is None:
            place = cfg.teacher_cache or cfg.teacher_path
            logger.warning(f"no teacher at {place}: validation loss is nll_loss, training is not possible")
        for warning in self.warnings():
            logger.warning(warning)

    @classmethod
    def build_criterion(cls, cfg: Any, task: Any) -> "LabelSmoothedKDCriterion":
        """Build the criterion and load its teacher. Exits with a one-line error if the teacher cannot be used."""
        return cls(cfg, task)

    def _teacher(self, task: TranslationTask) -> Teacher | CachedTeacher | None:
        """The teacher that the options name; None if its files are gone."""
        paths, caches = options.teacher_paths(self.cfg), options.teacher_caches(self.cfg)
        if caches and all(map(os.path.isdir, caches)):
            return CachedTeacher(caches, PairedData.of(task), self.cfg.temperature, self.cfg.teacher_topk)
        return Teacher(paths, task) if paths and not caches and all(map(os.path.isfile, paths)) else None

    def warnings(self) -> list[str]:
        """Warnings about this configuration, such as a smoothed teacher at a high temperature."""
        if not self.teacher:
            return []
        return temperature_warnings(
            self.teacher.label_smoothing,
            highest_temperature(self.cfg.kd_loss, self.cfg.temperature, self.cfg.kd_final_temperature),
        )

    def begin_update(self, update: int, updates: int, batches: Sequence[Batch | None] = ()) -> None:
        """Prepare for an update: set its temperature, which is kept until the next, also for validation.

        Args:
            update: from 0.
            updates: the number of updates of the training.
            batches: of the update; if this process has none left, fairseq runs another, whose gradient is 0.
        """
        self._counted = map(bool, batches)
        schedule, last = self.cfg.kd_temperature_schedule, self.cfg.kd_final_temperature
        progress = min(1.0, update / max(1, updates - 1))
        self.temperature = scheduled_temperature(schedule, self.cfg.temperature, last, progress)

    def forward(self, model: nn.Module, sample: Batch, reduce: bool = True) -> tuple[Tensor, int, dict[str, Any]]:
        """The summed loss, the number to divide it by (sentences or target tokens), and sums for the log."""
        logits, teacher_logits, target = self._logits(model, sample)
        # In training, nothing else reads the logits.
        sums = self._loss(logits, teacher_logits, target, overwrite=model.training, measure_gradient=model.training)
        if model.training:
            self.step_loss = self.step_loss + sums.loss.detach()
        sample_size = sample["target"].size(0) if self.cfg.sentence_avg else sample["ntokens"]
        logging_output: dict[str, Any] = {
            "loss": sums.loss.data if self.teacher else sums.nll_loss,
            "nll_loss": sums.nll_loss,
            "ntokens": sample["ntokens"],
            "nsentences": sample["target"].size(0),
            "sample_size": sample_size,
        }
        if self.teacher is not None:
            logging_output |= {
                "kd_loss": sums.kd_loss,
                "teacher_entropy": sums.teacher_entropy,
                "teacher_agreement": sums.agreement,
            }
            if not model.training and not isinstance(teacher_logits, TopkLogits):
                fidelity = self._at_t1(sums, logits, teacher_logits, target)
                logging_output |= {"teacher_agreement": fidelity.agreement, "teacher_kl": fidelity.kd_loss}
            if isinstance(sums, MeasuredSums):
                logging_output["gradient_square"] = sums.gradient_square
                logging_output["gradient_square_t1"] = sums.gradient_square_t1
            if self.cfg.kd_temperature_schedule != "constant":
                logging_output["kd_temperature"] = self.temperature * sample["ntokens"]
        return sums.loss, sample_size, logging_output

    @torch.no_grad()
    def examine(self, model: nn.Module, sample: Batch) -> tuple[float, dict[str, Tensor]]:
        """The loss of a batch, and its inputs: ``target``, ``student_logits``, ``teacher_logits``, ….

        For a teacher cached as a top-k, ``teacher_logits`` are the k largest, and ``teacher_symbols`` their indices.
        """
        logits, teacher_logits, target = self._logits(model, sample)
        found = {"target": target, "student_logits": logits}
        if isinstance(teacher_logits, TopkLogits):
            found |= {"teacher_logits": teacher_logits.values, "teacher_symbols": teacher_logits.indices}
        else:
            teachers = teacher_logits if isinstance(teacher_logits, list) else [teacher_logits]
            found |= {f"teacher_logits{'_' + str(i) if i else ''}": each[:] for i, each in enumerate(teachers)}
        return self._loss(logits, teacher_logits, target, overwrite=False).loss.item(), found

    def _logits(self, model: nn.Module, sample: Batch) -> tuple[Tensor, TeacherLogits, Tensor]:
        """The student's logits (N, V) and its teacher's, and the N target tokens."""
        keep = sample["target"].ne(self.padding_idx)
        with options.exit_on_input_error():
            logits = output_logits(model, sample["net_input"], keep)
            if self.teacher is not None:
                teacher_logits = self.teacher.logits(sample, keep, like=logits)
            elif not model.training:
                teacher_logits = logits.detach()  # its own teacher: a KL of zero
            elif self.cfg.teacher_cache:
                raise input_error("--teacher-cache", self.cfg.teacher_cache, "must be an existing cache")
            else:
                raise input_error("--teacher-path", self.cfg.teacher_path, "must be an existing checkpoint")
        return logits, teacher_logits, sample["target"][keep]

    def _loss(
        self,
        logits: Tensor,
        teacher_logits: TeacherLogits,
        target: Tensor,
        overwrite: bool,
        measure_gradient: bool = False,
    ) -> DistillationSums:
        alpha = options.paper_alpha(self.cfg.label_smoothing, logits.size(-1))
        arguments = options.loss_arguments(self.cfg)
        arguments |= {"temperature": self.temperature, "label_smoothing": alpha}
        if measure_gradient and distributed.get_data_parallel_world_size() > 1:
            arguments["all_reduce"] = functools.partial(self._add_up, next(self._counted, True))
        return distillation_loss(
            logits, teacher_logits, target, overwrite=overwrite, measure_gradient=measure_gradient, **arguments
        )

    @staticmethod
    def _add_up(counts: bool, squares: Tensor) -> None:
        """Sum over the processes; a process whose batch does not count contributes 0."""
        distributed.all_reduce(squares.mul_(counts), group=distributed.get_data_parallel_group())

    @torch.no_grad()
    def _at_t1(
        self,
        sums: DistillationSums,
        logits: Tensor,
        teacher_logits: Tensor | list[Tensor | ProjectedLogits],
        target: Tensor,
    ) -> DistillationSums:
        """The paper's loss at T = 1, for all of the teacher's logits; ``sums`` if that is the loss already."""
        cfg, ones = self.cfg, (None, 1)
        if cfg.kd_loss == "kl" and self.temperature == 1 and cfg.student_temperature in ones and not cfg.teacher_topk:
            return sums
        return distillation_loss(logits, teacher_logits, target, compiled=False)

    @classmethod
    def reduce_metrics(cls, logging_outputs: Sequence[Mapping[str, Any]]) -> None:
        """Turn the sums of all workers and accumulated batches into metrics, each divided once."""

        def total(key: str) -> float:
            return float(utils.item(sum(log.get(key, 0) for log in logging_outputs)))

        tokens, sample_size = total("ntokens"), total("sample_size")
        metrics.log_scalar("loss", total("loss") / (sample_size or 1) / math.log(2), sample_size, round=3)
        names = ["nll_loss"]
        if any("kd_loss" in log for log in logging_outputs):
            names += ["kd_loss", "teacher_entropy"]
            metrics.log_scalar("teacher_agreement", 100 * total("teacher_agreement") / (tokens or 1), tokens, round=2)
        if any("teacher_kl" in log for log in logging_outputs):
            metrics.log_scalar("teacher_kl", total("teacher_kl") / (tokens or 1), tokens, round=5)
        for name in names:
            metrics.log_scalar(name, total(name) / (tokens or 1) / math.log(2), tokens, round=3)
        if any("gradient_square" in log for log in logging_outputs):
            for name in ("gradient_square", "gradient_square_t1"):  # fairseq shows no name that begins with _
                metrics.log_scalar(f"_{name}", total(name) / (tokens or 1), tokens)
            metrics.log_derived("kd_gradient_ratio", _gradient_ratio)
        if any("kd_temperature" in log for log in logging_outputs):
            metrics.log_scalar("kd_temperature", total("kd_temperature") / (tokens or 1), tokens, round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Whether workers' values may be added before they are reduced: yes, every logged value is a sum."""
        return True


def _gradient_ratio(meters: Mapping[str, Any]) -> float:
    """The root of the ratio of two sums of squares, in fairseq's meters."""
    square, at_one = (float(meters[f"_{name}"].avg) for name in ("gradient_square", "gradient_square_t1"))
    return round(math.sqrt(square / at_one), 4) if at_one else 1.0
