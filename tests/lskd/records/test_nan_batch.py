"""What is said of a batch whose loss is not finite."""

import pytest
import torch

from lskd.records.nonfinite_batch import keep_batch


@pytest.mark.parametrize(
    ("student", "teacher", "advice"),
    [
        (torch.nan, 0.0, "try a smaller learning rate"),
        (torch.nan, -torch.inf, "try a smaller learning rate"),  # a symbol that is masked
        (0.0, torch.nan, "it is the teacher whose logits are not finite"),
        (0.0, torch.inf, "it is the teacher whose logits are not finite"),
        (torch.nan, None, "try a smaller learning rate"),
    ],
)
def test_a_learning_rate_is_not_blamed_for_what_the_teacher_says(tmp_path, student, teacher, advice):
    logits = {"student_logits": student} | ({} if teacher is None else {"teacher_logits_1": teacher})
    tensors = {name: torch.tensor([[0.0, value]]) for name, value in logits.items()} | {"target": torch.zeros(1)}
    told = keep_batch(tmp_path, [7], float("nan"), {}, tensors)
    assert told.startswith("the loss is nan on the batch of 7 (its logits: ")
    assert told.endswith(f"; {advice}")
