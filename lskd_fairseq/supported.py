"""Which of fairseq's tasks, models and criterions are supported; all others are rejected with one line.

Distillation and scoring need a model that gives logits for every target token with teacher forcing, and that translates
from left to right: an autoregressive encoder-decoder of one pair of languages.
"""

from typing import Any

from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY, FairseqEncoderDecoderModel
from fairseq.models.nat import FairseqNATModel
from fairseq.tasks import TASK_REGISTRY
from fairseq.tasks.translation import TranslationTask
from fairseq.tasks.translation_from_pretrained_bart import TranslationFromPretrainedBARTTask
from fairseq.tasks.translation_lev import TranslationLevenshteinTask
from omegaconf import DictConfig

from lskd.io.errors import input_error
from lskd.records.runs import look_up
from lskd_fairseq.checkpoints import State

OUR_TASKS = ("label_smoothed_kd", "translation_kd")
TASKS = "translation or label_smoothed_kd"
MODELS = "an autoregressive encoder-decoder, as transformer, transformer_align, lightconv, lstm or fconv"
OTHER_TASKS = TranslationLevenshteinTask, TranslationFromPretrainedBARTTask  # not left to right, or with more symbols
# fairseq's criterions that train such a model; user directories may have registered more.
CRITERIONS = ("cross_entropy", "label_smoothed_cross_entropy", "label_smoothed_cross_entropy_with_alignment")
CRITERIONS += ("label_smoothed_cross_entropy_with_rdrop", "adaptive_loss")


def is_translation(task: str | None) -> bool:
    """Whether a task of that name translates between two languages, token by token."""
    known = TASK_REGISTRY.get(task or "")
    return known is not None and issubclass(known, TranslationTask) and not issubclass(known, OTHER_TASKS)


def is_autoregressive(model: str | None) -> bool:
    """Whether an architecture or model of that name is an autoregressive encoder-decoder; unknown names pass."""
    known = ARCH_MODEL_REGISTRY.get(model) or MODEL_REGISTRY.get(model)
    return known is None or (issubclass(known, FairseqEncoderDecoderModel) and not issubclass(known, FairseqNATModel))


def name_of(section: object) -> str | None:
    """The name in a section of fairseq's configuration, whatever its type; for a legacy model its architecture.

    >>> name_of({"_name": "translation"})
    'translation'
    """
    get: Any = getattr(section, "get", lambda name: getattr(section, name, None))
    names = [section, get("_name"), get("arch")]
    return next((name for name in names if isinstance(name, str)), None)


def check_training(cfg: DictConfig) -> None:
    """Check that the task, model and criterion of a training work with distillation, or with our task.

    Raises:
        InputError: one of them is not supported.
    """
    task, model, criterion = name_of(cfg.task), name_of(cfg.model), name_of(cfg.criterion)
    if not is_translation(task):
        raise input_error("--task", task, f"must be {TASKS}")
    if not is_autoregressive(model):
        raise input_error("--arch", model, f"must be {MODELS}")
    fairseqs = CRITERION_REGISTRY[criterion].__module__.startswith("fairseq.")
    if fairseqs and criterion not in CRITERIONS:
        raise input_error("--criterion", criterion, f"must be kd or one for translation: {', '.join(CRITERIONS)}")
    train, validated = cfg.dataset.train_subset, cfg.dataset.valid_subset
    if task in OUR_TASKS and not cfg.dataset.disable_validation and train in validated.split(","):
        raise input_error(
            "--valid-subset", validated, f"must be without {train}, which is trained on, for --task {task}"
        )


def check_checkpoint(argument: str, path: str, state: State) -> None:
    """Check that a checkpoint holds a model that translates from left to right.

    Args:
        argument: the checkpoint's name in error messages.
        path: the checkpoint.
        state: its content.

    Raises:
        InputError: it holds another kind of model.
    """
    if state.get("cfg"):
        task, model = (name_of(look_up(state, "cfg", section)) for section in ("task", "model"))
    else:  # from before fairseq had structured configurations
        task, model = name_of(getattr(state.get("args"), "task", None)), name_of(state.get("args"))
    if task is not None and not is_translation(task):
        raise input_error(argument, path, f"is of the task {task}, must be of {TASKS}")
    if not is_autoregressive(model):
        raise input_error(argument, path, f"is a {model}, must be {MODELS}")
