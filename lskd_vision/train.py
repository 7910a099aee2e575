"""Train image classifiers: teachers with label smoothing, students at temperatures.

    python -m lskd_vision.train --data-dir DIR --model resnet50 --smoothing 0.1
    python -m lskd_vision.train --data-dir DIR --model resnet18 --kd-checkpoint TEACHER --kd-temperature 1 2 3 64

Several models, seeds, temperatures and teachers are all combined. The combinations are trained in one process, which
decodes and augments an image once and asks each teacher once; each leaves a run directory as if it had been alone.
"""

import argparse
import contextlib
import functools
import itertools
import logging
import os
import sys

import torch
from timm.utils import init_distributed_device
from torch import Tensor
from tqdm import tqdm

from lskd.accuracy import accuracy_figures
from lskd.errors import bad, report, run_command
from lskd.files import remove_partials
from lskd.runs import read_run, write_run
from lskd.smoothing_estimate import estimate_label_smoothing
from lskd.teacher import with_estimate
from lskd_vision import options
from lskd_vision.data import Data, data_config, load_data
from lskd_vision.evaluate import evaluate
from lskd_vision.groups import free_memory, groups_of, weight_bytes
from lskd_vision.loader import Loader
from lskd_vision.logs import Logs, check_logs
from lskd_vision.models import outline
from lskd_vision.precision import autocast
from lskd_vision.records import check_directory
from lskd_vision.run import BEST, LAST, Run, Setting
from lskd_vision.teacher import Normalisation, Teacher, load_teacher

logger = logging.getLogger("lskd_vision")
SAMPLES = 2000  # of validation, that say whether a teacher was smoothed


def main(arguments: argparse.Namespace) -> int:
    """Train every combination; the exit status is 1 where a run failed, 130 after Ctrl-C or SIGTERM."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        device = start_processes(arguments)
        check_logs(arguments)
        data = load_data(arguments)
        runs = plan(arguments, data, device)
        waiting = groups_of(
            [run for run in runs if run.next_epoch < arguments.epochs],
            {name: weight_bytes(outline(arguments, name, data.num_classes)) for name in arguments.model},
            free_memory(device),
            arguments.group_size,
        )
        while waiting:
            group = waiting.pop(0)
            try:
                train(group, data, arguments, device)
            except torch.OutOfMemoryError:
                if len(group) == 1 or arguments.distributed:
                    raise bad(
                        "--batch-size", arguments.batch_size, "is too large for the memory of the device"
                    ) from None
                half = len(group) // 2
                waiting = [group[:half], group[half:], *waiting]  # each goes on from its last checkpoint
                logger.warning("out of memory with %d models at once, trying %d", len(group), len(group) - half)
            finally:
                for run in group:
                    run.free()
        if arguments.rank == 0:
            print(table(runs), flush=True)
            for run in runs:
                if run.failure:
                    report("lskd_vision.train", RuntimeError(f"{run.name}: {run.failure}"))
        return 1 if any(run.failure for run in runs) else 0
    except KeyboardInterrupt:
        print("\nlskd_vision.train: interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130
    finally:
        if arguments.distributed:
            torch.distributed.destroy_process_group()


def start_processes(arguments: argparse.Namespace) -> torch.device:
    """Join the other processes, if there are any, and choose the device; sets ``rank``, ``world_size``, ….

    Raises:
        InputError: there is no such device.
    """
    arguments.distributed, arguments.rank = False, 0
    arguments.device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = arguments.device.split(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise bad("--device", arguments.device, "must be cpu, or cuda where there is a GPU")
    device = init_distributed_device(arguments)
    if arguments.rank:  # the first process speaks for all
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        logger.setLevel(logging.CRITICAL)
    if device.type == "cuda":  # pragma: no cover (GPU)
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
    return device


def plan(arguments: argparse.Namespace, data: Data, device: torch.device) -> list[Run]:
    """Every combination as a run that has not begun, checked as far as can be checked before anything is written.

    Raises:
        InputError: an option does not fit the models, the teachers or what is in the output directory.
    """
    configs = {name: data_config(arguments, outline(arguments, name, data.num_classes)) for name in arguments.model}
    teachers = load_teachers(arguments, data, configs, device)
    record = data.record(arguments)
    smoothings = arguments.smoothing
    grid = itertools.product(arguments.model, smoothings, range(len(teachers)) or [None], arguments.seed)
    runs = []
    for model, smoothing, teacher, seed in grid:
        for temperature in arguments.kd_temperature if teachers else [None]:
            setting = Setting(model, seed, smoothing, temperature, teacher)
            teaching = teachers[teacher] if teachers else None
            runs.append(Run(setting, arguments, teaching, data.name, record, configs[model]))
    for first, second in itertools.combinations(runs, 2):
        if first.directory == second.directory:
            raise bad(
                "--kd-checkpoint", second.teacher.path, f"and {first.teacher.path} would both write {first.directory}"
            )
    for run in runs:
        run.next_epoch = check_directory(run)
    if arguments.distributed:  # nobody writes while another still looks
        torch.distributed.barrier()
    return runs


def load_teachers(arguments: argparse.Namespace, data: Data, configs: dict, device: torch.device) -> list[Teacher]:
    """The teachers of the command line, each checked against the data and the students' input."""
    paths = arguments.kd_checkpoint or [None] * len(arguments.kd_model_name or ())
    names = arguments.kd_model_name or [None]
    names = names * len(paths) if len(names) == 1 else names
    inputs = {tuple(config["input_size"]) for config in configs.values()}
    teachers = []
    for name, path in zip(names, paths, strict=True):
        teacher = load_teacher(
            name,
            path,
            data.class_names,
            max(inputs),
            device,
            features=arguments.kd_distill_type == "overhaul",
            use_batch_statistics=arguments.kd_batch_statistics,
        )
        teacher.speed_up(max(inputs), arguments.channels_last, arguments.torchcompile)
        teachers.append(teacher)
    return teachers


def train(runs: list[Run], data: Data, arguments: argparse.Namespace, device: torch.device) -> None:
    """Train the runs of a group to the end, or on from their last checkpoints."""
    config = runs[0].config
    batches = Loader(data.train, config, arguments, device, training=True)
    validation = Loader(data.val, config, arguments, device, training=False)
    normalisation = Normalisation.of(config, device)
    teachers = {run.setting.teacher: run.teacher for run in runs if run.teacher}
    score_teachers(runs, teachers, validation, normalisation, arguments, device)
    for run in runs:
        run.start(device, len(batches))
    for warning in dict.fromkeys(warning for run in runs for warning in run.record.warnings):
        logger.warning(warning)
    with contextlib.ExitStack() as stack:
        logs = {}
        if arguments.rank == 0:
            for run in runs:
                run.directory.mkdir(parents=True, exist_ok=True)
                remove_partials(run.directory)
                write_run(run.record, run.directory)
                log = Logs(arguments, run.directory, run.name, run.record.configuration, run.record.history)
                logs[run] = stack.enter_context(contextlib.closing(log))
        for epoch in range(min(run.next_epoch for run in runs), arguments.epochs):
            # After a kill, some have finished an epoch that others have not.
            active = [run for run in runs if run.next_epoch == epoch and not run.failure]
            if not active:
                continue
            train_epoch(active, epoch, batches, teachers, normalisation, arguments, device)
            means = {run: run.end_epoch() for run in active}
            active = [run for run in active if not run.failure]
            if not active:
                continue
            figures = validate(active, validation, arguments, device, data)
            for run in active:
                run.finish_epoch(epoch, means[run], figures[run])
                if run in logs:
                    logs[run].add(run.record.history[-1])


def train_epoch(runs, epoch, batches, teachers, normalisation, arguments, device) -> None:
    """One pass over the training images: each teacher runs once a batch, then each student takes its step."""
    for run in runs:
        run.begin_epoch(epoch, batches.ids, len(runs))
    name = f"epoch {epoch + 1}/{arguments.epochs}"
    hidden = None if arguments.rank == 0 else True
    with tqdm(batches.epoch(epoch), total=len(batches), desc=name, unit="batch", disable=hidden) as bar:
        for number, (images, target) in enumerate(bar):
            if all(run.failure for run in runs) and not arguments.distributed:
                break
            with autocast(arguments, device):
                outputs = {key: teacher(images, normalisation) for key, teacher in teachers.items()}
            for run in runs:
                run.step(images, target, outputs.get(run.setting.teacher), epoch, number)
            if not hidden and number % 50 == 0:
                bar.set_postfix_str(f"loss {runs[0].mean_loss():.3f}")


def validate(runs: list[Run], batches: Loader, arguments, device, data: Data) -> dict[Run, dict[str, dict]]:
    """Figures on the validation split, of the weights and of their moving averages, by run and by suffix."""
    models = {(run, ""): run.task.get_eval_model() for run in runs}
    models |= {(run, "_ema"): run.task.get_eval_model(ema=True) for run in runs if run.task.has_ema()}
    for model in models.values():
        model.eval()
    counts = evaluate(list(models.values()), batches.epoch(0), data.num_classes, arguments, device, len(batches))
    figures = {run: {} for run in runs}
    for (run, suffix), count in zip(models, counts, strict=True):
        figures[run][suffix] = accuracy_figures(count, data.class_names)
    return figures


def score_teachers(runs, teachers, batches, normalisation, arguments, device) -> None:
    """Score each teacher on the validation split, unless every run knows how it scored.

    Where a teacher's configuration does not tell its α, its outputs may.
    """
    unknown = []
    for key, teacher in teachers.items():
        records = [read_run(run.directory) for run in runs if run.setting.teacher == key]
        known = [record.teacher for record in records if record and record.teacher["valid"]]
        if len(known) == len(records):
            teacher.valid.update(known[0]["valid"])
            teacher.label_smoothing = known[0]["label_smoothing"]
        else:
            unknown.append(teacher)
    if not unknown:
        return
    some = {teacher: [] for teacher in unknown}
    size = arguments.validation_batch_size or arguments.batch_size
    step = max(1, len(batches) * size // SAMPLES)  # from all of a split, which may be in the order of its classes

    def ask(teacher: Teacher, images: Tensor) -> Tensor:
        logits = teacher.logits(images, normalisation)
        if teacher.label_smoothing["alpha"] is None:
            few = logits[::step].float()
            some[teacher].append(few[few.isfinite().all(1)].cpu().numpy())
        return logits

    models = [functools.partial(ask, teacher) for teacher in unknown]
    classes = unknown[0].num_classes
    counts = evaluate(models, batches.epoch(0), classes, arguments, device, len(batches), name="teacher")
    for teacher, count in zip(unknown, counts, strict=True):
        figures = accuracy_figures(count)
        teacher.valid.update({name: figures[name] for name in ("top1", "top5", "nll_loss")})
        teacher.label_smoothing = with_estimate(teacher.label_smoothing, estimate_label_smoothing(some[teacher]))
        print(f"teacher {teacher.path or teacher.name}: validation top-1 {figures['top1']:.2f} %")
        if figures["top1"] < 150 / classes:
            logger.warning("the teacher is hardly better than chance: is the order of its classes the data's?")


def table(runs: list[Run]) -> str:
    """What came of the runs: best and last accuracy on the validation split, and where everything is."""
    width = max(len(run.name) for run in runs)
    lines = [f"{'run':<{width}} {'best top-1':>12} {'last top-1':>12}"]
    for run in runs:
        record = None if run.failure else read_run(run.directory)
        if record is None:
            lines.append(f"{run.name:<{width}} failed: {run.failure}")
            continue
        best, last = (record.figures["valid"][name]["top1"] for name in (BEST, LAST))
        lines.append(f"{run.name:<{width}} {best:>10.2f} % {last:>10.2f} %")
    return "\n".join([*lines, f"in {runs[0].directory.parent}"])


if __name__ == "__main__":
    run_command(options.parser(), main)
