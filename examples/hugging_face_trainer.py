"""Distil with the Hugging Face Trainer: a subclass with one method, on a tiny model and made-up sentences."""

import tempfile
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EvalPrediction,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from lskd import DistillationLoss


class DistillationTrainer(Trainer):
    """A Trainer whose loss is the teacher's: ``DistillationTrainer(model, args, teacher=…, temperature=1.0, …)``."""

    def __init__(self, *positional: Any, teacher: PreTrainedModel, temperature: float = 1.0, **named: Any) -> None:
        super().__init__(*positional, **named)
        self.teacher = teacher.eval().requires_grad_(False).to(self.args.device)
        self.distillation = DistillationLoss(temperature=temperature)
        self.model_accepts_loss_kwargs = False  # this loss is a mean over the batch: the Trainer averages what it adds

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any) -> Any:
        """The loss of a batch; the models do not get the labels, or each would compute a loss of its own."""
        given = {name: value for name, value in inputs.items() if name != "labels"}
        outputs = model(**given)
        with torch.no_grad():
            teacher_logits = self.teacher(**given).logits
        loss = self.distillation(outputs.logits, teacher_logits, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


class Sentences(Dataset):
    """Sentences of 12 random words; the class is the most frequent of the words 1 to 4."""

    def __init__(self, number: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.words = torch.randint(1, 9, (number, 12), generator=generator)
        counts = torch.stack([(self.words == word).sum(1) for word in range(1, 5)], 1)
        self.labels = counts.argmax(1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.words[index], "labels": self.labels[index]}


def new_model(hidden: int, seed: int) -> PreTrainedModel:
    """A BERT with one layer and random weights."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=9,
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=12,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=4,
    )
    return BertForSequenceClassification(config)


def top1(prediction: EvalPrediction) -> dict[str, float]:
    """Top-1 in %."""
    return {"top1": 100 * float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def score(trainer: Trainer) -> float:
    """Train, and return the top-1 on the evaluation set in %."""
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.evaluate()["eval_top1"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        settings: dict[str, Any] = {
            "per_device_train_batch_size": 64,
            "per_device_eval_batch_size": 256,
            "learning_rate": 1e-2,
            "num_train_epochs": 6,
            "save_strategy": "no",
            "report_to": [],
            "logging_strategy": "no",
            "disable_tqdm": True,
            "use_cpu": not torch.cuda.is_available(),
        }
        data: dict[str, Any] = {"train_dataset": Sentences(1500, seed=0), "eval_dataset": Sentences(500, seed=1)}
        data |= {"compute_metrics": top1}

        smoothed = TrainingArguments(directory, label_smoothing_factor=0.1, **settings)
        teacher = new_model(64, seed=0)
        print(f"teacher, α = .1   {score(Trainer(teacher, smoothed, **data)):.1f} %")
        for T in (1.0, 3.0):
            plain = TrainingArguments(directory, **settings)
            trainer = DistillationTrainer(new_model(32, seed=1), plain, teacher=teacher, temperature=T, **data)
            print(f"student, T = {T:g}    {score(trainer):.1f} %")
