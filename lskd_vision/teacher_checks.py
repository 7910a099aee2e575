"""Check a teacher before anything is trained: when it is loaded, and by its accuracy on the validation split."""

import logging
import math
from collections.abc import Collection, Sequence

from lskd.io.errors import input_error
from lskd.measure.accuracy import ClassCounts
from lskd_vision.checkpoints import check_finite
from lskd_vision.class_names import check_classes
from lskd_vision.models import check_input
from lskd_vision.other_order import NEAR_CHANCE, OtherOrder
from lskd_vision.timm_model import TimmModel

logger = logging.getLogger(__name__)


def check_teacher(
    model: TimmModel,
    own_classes: Sequence[str] | None,
    class_names: Sequence[str],
    input_sizes: Collection[tuple[int, int, int]],
    argument: str,
    value: object,
) -> None:
    """Check that a loaded teacher has finite weights and the data's classes, and can take the students' images.

    Args:
        model: the teacher, in eval mode.
        own_classes: the names of its classes, in the order of its outputs; None if unknown.
        class_names: the data's class names, in the order of their labels.
        input_sizes: channels, height and width of the students' images.
        argument: the teacher's name in error messages.
        value: the value that was given for it.

    Raises:
        InputError: one of the checks fails.
    """
    check_finite(model.state_dict(), argument, value)
    check_classes(model.num_classes, own_classes, class_names, argument, value)
    for input_size in sorted(input_sizes):
        if getattr(model, "in_chans", input_size[0]) != input_size[0]:
            raise input_error(
                argument, value, f"wants {model.in_chans} input channels, must be the student's {input_size[0]}"
            )
        check_input(model, input_size, argument, value)


def check_score(
    counts: ClassCounts,
    order: OtherOrder | None,
    others: ClassCounts | None,
    argument: str,
    value: object,
    half: bool,
) -> None:
    """Check a teacher's predictions on the validation split; warn if they are near chance.

    Args:
        counts: for its predictions.
        order: the other order of the data's classes, if there is one.
        others: for the same predictions in that order.
        argument: the teacher's name in error messages.
        value: the value that was given for it.
        half: whether it computes in float16.

    Raises:
        InputError: logits are not finite, or its classes are in the other order.
    """
    if not math.isfinite(counts.nll()):
        instead = "; in half precision: try --amp-dtype bfloat16" if half else ""
        valid = f"gives logits that are not finite for images of the validation split{instead}"
        raise input_error(argument, value, valid)
    if order and others and order.explains(counts, others):
        raise input_error(argument, value, order.described(counts, others))
    chance = 100 / counts.classes
    if counts.top1() < NEAR_CHANCE * chance:
        question = "in either order of the classes" if order else "is the order of its classes the data's?"
        logger.warning(f"teacher {value} is hardly better than chance, which is {chance:.3g} %: {question}")
