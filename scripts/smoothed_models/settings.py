"""The models of the smoothing study, and their halves: for tuning the estimator, and for testing it."""

import hashlib
from dataclasses import dataclass

MODELS = {
    "linear": ("digits", "mixture5", "mixture20", "mixture100", "clothes", "letters"),
    "perceptron": ("digits", "mixture5", "mixture20", "mixture100", "mixture1000", "clothes", "letters"),
    "overtrained": ("digits", "clothes"),  # perceptrons, four times as long
    "resnet": ("clothes", "letters40"),
    "transformer": ("words", "characters"),
}
PLAIN = (0, 0, 0, 0, 0.01, 0.02, 0.05, 0.05, 0.1, 0.1, 0.2, 0.3)
# Kind of training, its amount, α of the labels. A student's α is its teacher's, on whose outputs it is trained.
TRAININGS = [
    *(("plain", 0, alpha) for alpha in PLAIN),
    *(("decay", amount, alpha) for amount in (1e-3, 1e-2) for alpha in (0, 0.1)),
    *(("mixup", amount, 0) for amount in (0.2, 1)),
    ("mixup", 0.2, 0.1),
    *(("cutmix", 1, alpha) for alpha in (0, 0.1)),
    *(("penalty", amount, 0) for amount in (0.1, 0.3, 1)),
    *(("focal", amount, 0) for amount in (1, 2, 5)),
    *(("noise", amount, 0) for amount in (0.05, 0.2)),
    ("noise", 0.1, 0.1),
    *(("imbalance", 10, alpha) for alpha in (0, 0.1)),
    *(("student", 1, alpha) for alpha in (0, 0.05, 0.1, 0.2)),
]
L2 = (1e-2, 1e-3, 1e-5)  # of logistic regression, per sample: sklearn's C = 1 / (n L2)


@dataclass(frozen=True)
class Setting:
    """One training run; each of its snapshots is a model of the study."""

    model: str
    data: str
    training: str
    amount: float
    alpha: float
    seed: int

    def __str__(self) -> str:
        return f"{self.model}_{self.data}_{self.training}{self.amount:g}_a{self.alpha:g}_s{self.seed}"

    @property
    def digest(self) -> int:
        """A pseudo-random number that determines width, depth and learning rate."""
        return int(hashlib.sha256(str(self).encode()).hexdigest()[:12], 16)


def settings() -> dict[Setting, str]:
    """All settings with their half, "tuning" or "test".

    Settings of the same model and training, with or without smoothing, alternate in the order of their digests: the
    halves are alike, a run with all its snapshots is in one of them, and no measurement influences the choice.
    """
    found = []
    for model, sets in MODELS.items():
        for place, data in enumerate(sets):
            if model == "linear":
                cells = [("plain", each, alpha) for each in L2 for alpha in (0, 0, 0.02, 0.05, 0.1, 0.2, 0.3)]
                cells += [("noise", 0.1, 0), ("imbalance", 10, 0), ("imbalance", 10, 0.1)]
            elif model == "transformer":
                cells = [each for each in TRAININGS if each[0] not in ("mixup", "cutmix", "imbalance")]
            else:
                cells = [each for each in TRAININGS if each[0] != "cutmix" or model == "resnet"]
            if data == "characters":
                cells = cells[::2]
            found += [Setting(model, data, *cell, 100 * place + number) for number, cell in enumerate(cells)]
    halves: dict[Setting, str] = {}
    turns: dict[tuple[str, str, bool], int] = {}
    for setting in sorted(found, key=lambda each: each.digest):
        stratum = setting.model, setting.training, setting.alpha > 0
        turns[stratum] = turn = turns.get(stratum, hash_bit(stratum)) + 1
        halves[setting] = "tuning" if turn % 2 else "test"
    return halves


def hash_bit(stratum: tuple[str, str, bool]) -> int:
    """0 or 1: the half with which a stratum begins."""
    return hashlib.sha256(repr(stratum).encode()).digest()[0] % 2
