"""The teacher: one checkpoint or several, frozen, in eval mode, and never part of what is trained or saved."""

import hashlib
import logging
from pathlib import Path

import torch
from fairseq import checkpoint_utils, utils
from fairseq.data import Dictionary, data_utils
from fairseq.models import BaseFairseqModel
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from lskd.distillation import ProjectedLogits
from lskd.errors import bad
from lskd.runs import look_up
from lskd.teacher import weights_fingerprint
from lskd.torch_files import load_plain
from lskd_fairseq.decoder_output import output_features, output_logits
from lskd_fairseq.options import paper_alpha
from lskd_fairseq.supported import check_checkpoint
from lskd_fairseq.text import load_dictionary

logger = logging.getLogger(__name__)
POSITIONS = 1_000_000  # of a sentence, for which a model may keep a table; fairseq's own default is a thousandth


class Teacher:
    """Teacher models that give logits for the student's target positions.

    Not an ``nn.Module``, and held by the criterion outside its module registry: a registered teacher would be saved in
    every checkpoint, put into train mode, given to the optimizer and wrapped for several GPUs.

    Attributes:
        models: the teachers, in eval mode, without gradients.
        paths: their checkpoints.
        fingerprint: one SHA-256 over the weights of all of them.
        label_smoothing: what is known of the smoothing they were trained with, see :func:`smoothing_of_training`.
    """

    def __init__(self, paths: list[str], task):
        self.paths = paths
        self.models: list[BaseFairseqModel] = []
        smoothing, fingerprints = [], []
        for path in paths:
            state = read_checkpoint(path, "--teacher-path")
            check_checkpoint("--teacher-path", path, state)
            check_dictionaries(path, state, task.source_dictionary, task.target_dictionary)
            smoothing.append(smoothing_of_training(state, len(task.target_dictionary)))
            fingerprints.append(weights_fingerprint(state["model"]))
            self.models.append(_build(path, task))
        self.label_smoothing, self.fingerprint = most_smoothed(smoothing), joint_fingerprint(fingerprints)

    def record(self) -> dict:
        """What a run record says of the teacher."""
        return {"paths": self.paths, "fingerprint": self.fingerprint, "label_smoothing": self.label_smoothing}

    @torch.no_grad()
    def logits(self, sample: dict, keep: Tensor, like: Tensor) -> list[Tensor | ProjectedLogits]:
        """The logits of each teacher at the kept positions; a Transformer's not before they are needed.

        Args:
            sample: a fairseq batch, teacher-forced.
            keep: (batch, length) bool, the target positions that are not padding, N in all.
            like: the student's output, whose device and dtype the teacher takes on.

        Returns:
            For each teacher, (N, V).
        """
        for model in self.models:
            if (parameter := next(model.parameters())).device != like.device or parameter.dtype != like.dtype:
                model.to(device=like.device, dtype=like.dtype)
        return [self._logits(model, sample["net_input"], keep) for model in self.models]

    @staticmethod
    def _logits(model: BaseFairseqModel, net_input: dict, keep: Tensor) -> Tensor | ProjectedLogits:
        layer = getattr(model.decoder, "output_projection", None)
        if type(layer) is not nn.Linear:
            return output_logits(model, net_input, keep)
        return ProjectedLogits(output_features(model, net_input, keep), layer.weight, layer.bias)


def most_smoothed(known: list[dict]) -> dict:
    """Of what is known of several teachers' smoothing, that which the reader has to know: of the most smoothed one."""
    return max(known, key=lambda each: each["alpha"] or 0)


def joint_fingerprint(fingerprints: list[str]) -> str:
    """One SHA-256 over those of the weights of all teachers, in their order."""
    return hashlib.sha256("".join(fingerprints).encode()).hexdigest()


def read_checkpoint(path: str, argument: str = "checkpoint") -> dict:
    """A fairseq checkpoint's content, without running anything in it and without reading the weights before use.

    ``argument`` is what errors call it.

    Raises:
        InputError: no such file, not a fairseq checkpoint, or one that would run code.
    """
    if not Path(path).is_file():
        raise bad(argument, path, "must be the path of an existing checkpoint file")
    try:
        state = load_plain(path, mapped=True)
    except Exception as error:  # a damaged file may raise anything inside the unpickler
        reason = str(error).strip().splitlines()
        reason = next((line.strip() for line in reason if "Unsupported" in line), reason[0] if reason else "empty file")
        raise bad(argument, path, f"cannot be read as a fairseq checkpoint: {reason[:200]}") from None
    if (
        not isinstance(state, dict)
        or not isinstance(state.get("model"), dict)
        or not (state.get("cfg") or state.get("args"))
    ):
        raise bad(argument, path, "must be a fairseq checkpoint: it lacks the model or its configuration")
    for name, value in state["model"].items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            found = f"{name!r}: {type(value).__name__}"
            raise bad(argument, path, f"has {found} among its weights, must be names and tensors only")
    _check_proportion(path, state, argument)
    return state


def _check_proportion(path: str, state: dict, argument: str) -> None:
    """Check that the model that fairseq would build of the configuration is not far larger than the weights.

    Raises:
        InputError: it has more layers or dimensions than these, or very many positions.
    """
    options = look_up(state, "cfg", "model") or state.get("args") or {}
    options = dict(options) if isinstance(options, dict) else dict(getattr(options, "__dict__", {}))
    for side in ("encoder", "decoder"):
        if isinstance(section := options.pop(side, None), dict):  # hydra's, beside which are defaults that do not count
            options = {name: value for name, value in options.items() if not str(name).startswith(f"{side}_")}
            options |= {f"{side}_{name}": value for name, value in section.items()}
    dimension = max((size for tensor in state["model"].values() for size in tensor.shape), default=0)
    most = {"_embed_dim": dimension, "_layers": len(state["model"]), "_positions": POSITIONS}
    for name, value in options.items():
        limit = next((each for end, each in most.items() if str(name).endswith(end)), None)
        if state["model"] and limit is not None and isinstance(value, int) and value > limit:
            raise bad(
                argument, path, f"has {name} = {value:.6g}, must be at most {limit}, in proportion to its weights"
            )


def first_line(error: Exception) -> str:
    """What an error says, or where it says nothing, what it is."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def checkpoint_config(state: dict) -> DictConfig:
    """The configuration in a checkpoint, also in one made before fairseq had structured configurations."""
    if state.get("cfg"):
        return OmegaConf.create(state["cfg"], flags={"allow_objects": True})
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    return convert_namespace_to_omegaconf(state["args"])


def check_dictionaries(path: str, state: dict, source: Dictionary, target: Dictionary) -> None:
    """Check that a checkpoint was trained with the same symbols in the same order.

    Symbols are compared where the data directory of the checkpoint is still there, the fingerprint that the checkpoint
    remembers where it has one, the number of symbols always.

    Raises:
        InputError: they differ; the message names the first symbol that does.
    """
    made = state.get("lskd") or look_up(state, "task_state", "lskd")
    remembered = look_up(made, "data", "dictionaries") or {}
    try:
        task = checkpoint_config(state).task
        directory, languages = Path(utils.split_paths(str(task.data))[0]), (task.source_lang, task.target_lang)
    except Exception as error:  # OmegaConf and fairseq may raise anything
        raise bad("teacher", path, f"has a configuration that is not whole: {first_line(error)}") from None
    if None in languages and directory.is_dir():  # a training whose languages fairseq has inferred
        languages = data_utils.infer_language_pair(directory)
    for side, ours, language in zip(("source", "target"), (source, target), languages, strict=True):
        file = directory / f"dict.{language}.txt"
        name = f"teacher {path}, {side} dictionary"
        theirs = load_dictionary(file) if file.is_file() else None
        embedding = state["model"].get(f"{'encoder' if side == 'source' else 'decoder'}.embed_tokens.weight")
        fingerprint = remembered.get(side)
        # The directory may have been made anew since: it counts only if it is what the teacher was trained with.
        if theirs is not None and fingerprint in (None, dictionary_fingerprint(theirs)):
            _same_symbols(name, theirs.symbols, ours.symbols)
        elif embedding is not None and len(embedding) != len(ours):
            raise bad(name, f"{len(embedding)} symbols", f"must be the {len(ours)} of the student's data")
        elif fingerprint is None:
            logger.warning(f"{name}: {file} is gone, only the number of symbols could be compared")
        elif fingerprint != dictionary_fingerprint(ours):
            raise bad(name, "other symbols", f"must be those of the student's data; {file} could name the first one")


def _same_symbols(name: str, theirs: list[str], ours: list[str]) -> None:
    for index, (their_symbol, our_symbol) in enumerate(zip(theirs, ours, strict=False)):
        if their_symbol != our_symbol:
            raise bad(name, f"symbol {index} is {their_symbol!r}", f"must be the student's {our_symbol!r}")
    if len(theirs) != len(ours):
        raise bad(name, f"{len(theirs)} symbols", f"must be the {len(ours)} of the student's data")


def dictionary_fingerprint(dictionary: Dictionary) -> str:
    """SHA-256 over the symbols in their order."""
    return hashlib.sha256("\n".join(dictionary.symbols).encode()).hexdigest()


def smoothing_of_training(state: dict, vocabulary: int) -> dict:
    """What a checkpoint's own configuration says of its label smoothing.

    Returns:
        ``alpha``: the paper's α, None where the configuration does not tell; ``epsilon``: fairseq's; ``source``.
    """
    try:
        name, epsilon = _criterion(state)
    except Exception:  # OmegaConf may raise anything, and others may have written anything
        name, epsilon = "a configuration that is not whole", None
    if epsilon is None:
        return {"alpha": None, "epsilon": None, "source": f"unknown: trained with {name or 'distillation'}"}
    return {"alpha": paper_alpha(epsilon, vocabulary), "epsilon": epsilon, "source": "the teacher's configuration"}


def _criterion(state: dict) -> tuple[str | None, float | None]:
    """The name of the criterion, and its ε where labels were smoothed or not; None for what is not known."""
    criterion = checkpoint_config(state).get("criterion") or {}
    name = criterion if isinstance(criterion, str) else criterion.get("_name")
    if not criterion:  # an export keeps what it remembers of its training, and not the configuration
        made = state.get("lskd", {}).get("configuration", {})
        criterion = made | ({"label_smoothing": made["label_smoothing_epsilon"]} if made else {})
    if name == "cross_entropy":
        return name, 0.0
    if "label_smoothing" not in criterion or criterion.get("kd_weight", 0) >= 1:
        return name, None
    if not 0 <= (epsilon := float(criterion["label_smoothing"])) < 1:
        raise ValueError(f"label_smoothing = {epsilon}")
    return name, epsilon


def _build(path: str, task) -> BaseFairseqModel:
    # The student must start from the same random numbers as without a teacher, and keep its own task: a teacher that is
    # loaded into it would take over its sequence generator, and so its validation BLEU.
    overrides = {"data": task.cfg.data, "eval_bleu": False}
    with torch.random.fork_rng(devices=[]):
        try:
            (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task([path], arg_overrides=overrides)
        except Exception as error:  # whatever fairseq trips over in a configuration that others may have written
            raise bad("--teacher-path", path, f"cannot be built: {first_line(error)}") from None
    return model.eval().requires_grad_(False)
