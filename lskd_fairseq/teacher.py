"""The teacher: one checkpoint or several, frozen, in eval mode, and never part of what is trained or saved."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fairseq.models import BaseFairseqModel
from fairseq.tasks.translation import TranslationTask
from torch import Tensor, nn

from lskd.io.errors import input_error
from lskd.loss.distillation import ProjectedLogits
from lskd.measure.teacher_smoothing import of_several
from lskd.records.fingerprints import joint_fingerprint, weights_fingerprint
from lskd_fairseq.batch import Batch, NetInput
from lskd_fairseq.checkpoints import build_model, own_task, read_checkpoint, smoothing_of_training
from lskd_fairseq.decoder_output import output_features, output_logits
from lskd_fairseq.supported import check_checkpoint
from lskd_fairseq.teacher_checks import SIDES, PairedData, check_fit, say_once


class Teacher:
    """Teacher models that give logits for the student's target positions.

    Not an ``nn.Module``, and held by the criterion outside its module registry: a registered teacher would be saved in
    every checkpoint, put into train mode, given to the optimizer and wrapped for several GPUs.

    Attributes:
        models: the teachers, in eval mode, without gradients.
        paths: their checkpoints.
        fingerprints: a SHA-256 over the weights of each.
        fingerprint: a joint fingerprint of all teachers.
        label_smoothing: the label smoothing they were trained with, see :func:`smoothing_of_training`.

    Raises:
        InputError: a checkpoint cannot be read or built, or does not fit the task's data, see
            :func:`lskd_fairseq.teacher_checks.check_fit`.
    """

    def __init__(self, paths: list[str], task: TranslationTask) -> None:
        self.paths = paths
        self.models: list[BaseFairseqModel] = []
        self.fingerprints: list[str] = []
        data, smoothing, doubts = PairedData.of(task), [], []
        for path in paths:
            state = read_checkpoint(path, "--teacher-path")
            check_checkpoint("--teacher-path", path, state)
            doubts.append(check_fit(path, state, data, "--teacher-path"))
            smoothing.append(smoothing_of_training(state, len(task.target_dictionary)))
            self.fingerprints.append(weights_fingerprint(state["model"]))
            # Not the student's task: building the teacher would replace its sequence generator, for validation BLEU.
            own = own_task(path, state, str(task.cfg.data), "--teacher-path")
            model = build_model(path, own, "--teacher-path")
            self.models.append(model.eval().requires_grad_(False))
        self.label_smoothing: dict[str, Any] = of_several(smoothing)
        self.fingerprint = joint_fingerprint(self.fingerprints)
        if doubt := "; ".join(filter(None, doubts)):
            say_once(f"teacher {doubt}")

    def record(self) -> dict[str, Any]:
        """The teacher's entry in a run record."""
        return {"paths": self.paths, "fingerprint": self.fingerprint, "label_smoothing": self.label_smoothing}

    @torch.no_grad()
    def logits(self, sample: Batch, keep: Tensor, like: Tensor) -> list[Tensor | ProjectedLogits]:
        """The logits of each teacher at the kept positions; those of a Transformer are projected only when needed.

        Args:
            sample: a fairseq batch, with teacher forcing.
            keep: (batch, length) bool, the target positions that are not padding, N in all.
            like: the student's output; the teacher is moved to its device and dtype.

        Returns:
            For each teacher, (N, V).

        Raises:
            InputError: a sentence is longer than a teacher's maximum.
        """
        self._check_lengths(sample, keep)
        for model in self.models:
            if (parameter := next(model.parameters())).device != like.device or parameter.dtype != like.dtype:
                model.to(device=like.device, dtype=like.dtype)
        return [self._logits(model, sample["net_input"], keep) for model in self.models]

    def check_split(self, task: TranslationTask, split: str, limits: tuple[int, int], way_out: str) -> None:
        """Check that the teachers can process every sentence of a split.

        Args:
            task: with the split loaded.
            split: its name.
            limits: the most source and target tokens of the student's sentences.
            way_out: what to do about longer sentences; ``{side}`` and ``{limit}`` are filled in.

        Raises:
            InputError: a sentence has more tokens than a teacher's maximum.
        """
        dataset = task.dataset(split)
        kept, _ = dataset.filter_indices_by_size(np.arange(len(dataset)), limits)
        longest = [int(sizes[kept].max(initial=0)) for sizes in (dataset.src_sizes, dataset.tgt_sizes)]
        self._check_longest(longest, f"of {split}; {way_out}")

    def _check_lengths(self, sample: Batch, keep: Tensor) -> None:
        widths = sample["net_input"]["src_tokens"].size(1), keep.size(1)
        limits = zip(*(_limits(model) for model in self.models), strict=True)
        if any(width > min(limit) for width, limit in zip(widths, limits, strict=True)):  # a width includes padding
            longest = int(sample["net_input"]["src_lengths"].max()), int(keep.sum(1).max())
            self._check_longest(longest, "of this batch")

    def _check_longest(self, longest: Sequence[int], where: str) -> None:
        for path, model in zip(self.paths, self.models, strict=True):
            for side, length, limit in zip(SIDES, longest, _limits(model), strict=True):
                if length > limit:
                    found = f"takes at most {limit} {side} tokens, must take the {length} of the longest sentence "
                    raise input_error("--teacher-path", path, found + where.format(side=side, limit=limit))

    @staticmethod
    def _logits(model: BaseFairseqModel, net_input: NetInput, keep: Tensor) -> Tensor | ProjectedLogits:
        layer = getattr(model.decoder, "output_projection", None)
        if type(layer) is nn.Linear and (features := output_features(model, net_input, keep)) is not None:
            return ProjectedLogits(features, layer.weight, layer.bias)
        return output_logits(model, net_input, keep)


def _limits(model: BaseFairseqModel) -> tuple[float, float]:
    """The most source and target tokens that a model takes."""
    limits = model.max_positions()
    return limits if isinstance(limits, tuple) else (math.inf, math.inf)
