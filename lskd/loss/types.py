"""Types of the distillation loss: its settings, projected and top-k logits of a teacher, and the sums it returns."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import linear

LossType = Literal["kl", "standardised", "mse", "decoupled", "wttm"]
GradientScale = Literal["t2", "none", "match"]


class Settings(NamedTuple):
    """T of the teacher, T_s of the student, β, α of the hard-label loss, and settings that only some losses have.

    Attributes:
        gradient_factor: multiplies the gradient of the distillation term, but not its value.
        nckd_weight: weight of the decoupled loss's term of the non-target classes.
    """

    temperature: float
    student_temperature: float
    kd_weight: float
    label_smoothing: float
    gradient_factor: float = 1.0
    nckd_weight: float = 8.0


@dataclass(frozen=True)
class DistillationSums:
    """Sums over the N rows, in nats; divide by the number of sentences, tokens or images once, at the end.

    Attributes:
        loss: the loss to minimise; differentiable with respect to the student's logits. Scalar, float32.
        kd_loss: the distillation term, T_s² · KL(p_t(T) ‖ p_s(T_s)) or another of :mod:`lskd.loss.reference`, at least
            0. Scalar, float64, like all that follow.
        hard_loss: H(y_LS, p_s(1)), the label-smoothed cross entropy.
        nll_loss: -log p_s(1)[y], always at temperature 1 and without smoothing.
        teacher_entropy: H(p_t(T)), of the soft targets as used, that is after top-k.
        agreement: number of rows in which student and teacher have the same most probable class (of equal ones, the
            first), 0 to N.
    """

    loss: Tensor
    kd_loss: Tensor
    hard_loss: Tensor
    nll_loss: Tensor
    teacher_entropy: Tensor
    agreement: Tensor


@dataclass(frozen=True)
class MeasuredSums(DistillationSums):
    """The sums, and the squared norm of the distillation term's gradient at the student's logits, without β.

    The square root of the ratio of the two squares is the step size relative to that at T = 1. If there are many rows,
    both are estimated from some of them.

    Attributes:
        gradient_square: squared norm of the gradient, scaled as in training, summed over rows. Scalar, float64.
        gradient_square_t1: the same for the paper's loss at T = 1 and the same logits.
    """

    gradient_square: Tensor
    gradient_square_t1: Tensor


@dataclass(frozen=True)
class ProjectedLogits:
    """A teacher's last features and its output projection, from which its logits are computed chunk by chunk.

    Attributes:
        features: (N, d) floating.
        weight: (V, d).
        bias: (V,) or None.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the logits: (N, V)."""
        return len(self.features), len(self.weight)

    def __getitem__(self, chunk: slice | Tensor) -> Tensor:
        """The logits of a chunk of rows."""
        return linear(self.features[chunk], self.weight, self.bias)


@dataclass(frozen=True)
class TopkLogits:
    """A teacher's k largest logits in each of N rows, in place of all V.

    Attributes:
        values: (N, k) floating, in descending order, up to a constant per row.
        indices: (N, k) int64, their indices in the vocabulary, 0 to V-1.
        log_normaliser: (N,) log Σ exp(z/T) over the whole vocabulary, at the temperature in use and less the same
            constant divided by T. The probability that the k leave over is then spread evenly over all other tokens.
            None: the k have all the probability.
    """

    values: Tensor
    indices: Tensor
    log_normaliser: Tensor | None = None

    def __getitem__(self, chunk: slice) -> "TopkLogits":
        """The k largest logits of a chunk of rows."""
        normaliser = None if self.log_normaliser is None else self.log_normaliser[chunk]
        return TopkLogits(self.values[chunk], self.indices[chunk], normaliser)
