"""Train image classifiers: teachers with label smoothing, students at temperatures.

    lskd vision train --data-dir DIR --model resnet50 --smoothing 0.1
    lskd vision train --data-dir DIR --model resnet18 --kd-checkpoint TEACHER --kd-temperature 1 2 3 64

Several models, seeds, temperatures and teachers are all combined. The combinations are trained in one process, which
decodes and augments an image once and asks each teacher once; each leaves a run directory as if it had been alone.
"""

import argparse
import contextlib
import itertools
import logging
import os
import sys

import torch
from timm.utils import init_distributed_device
from tqdm import tqdm

from lskd.io.errors import input_error, report, run_command
from lskd.io.files import remove_partials
from lskd.measure.accuracy import accuracy_figures
from lskd.records.runs import read_run, write_run
from lskd_vision import options
from lskd_vision.data import Data, data_config, load_data
from lskd_vision.evaluate import evaluate
from lskd_vision.loader import Loader
from lskd_vision.logs import Logs, check_logs
from lskd_vision.memory_groups import free_memory, groups_of, weight_bytes
from lskd_vision.models import meta_model
from lskd_vision.precision import autocast
from lskd_vision.records import BEST, LAST, check_directories_differ, check_directory
from lskd_vision.run import Run, Setting
from lskd_vision.scoring import score_teachers
from lskd_vision.teacher import Normalisation, Teacher, load_teacher
from lskd_vision.trial import try_out

logger = logging.getLogger("lskd_vision")


def main(arguments: argparse.Namespace) -> int:
    """Train every combination; the exit status is 1 where a run failed, 130 after Ctrl-C or SIGTERM."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        device = start_processes(arguments)
        check_logs(arguments)
        data = load_data(arguments)
        runs = plan(arguments, data, device)
        unfinished = [run for run in runs if run.next_epoch < arguments.epochs]
        try_out(unfinished, device)
        score_teachers(unfinished, data, arguments, device)
        waiting = groups_of(
            unfinished,
            {name: weight_bytes(meta_model(arguments, name, data.num_classes)) for name in arguments.model},
            free_memory(device),
            arguments.group_size,
        )
        while waiting:
            group = waiting.pop(0)
            try:
                train(group, data, arguments, device)
            except torch.OutOfMemoryError:
                if len(group) == 1 or arguments.distributed:
                    raise
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
    except torch.OutOfMemoryError:
        raise input_error("--batch-size", arguments.batch_size, "is too large for the memory of the device") from None
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
        raise input_error("--device", arguments.device, "must be cpu, or cuda where there is a GPU")
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
    configs = {name: data_config(arguments, meta_model(arguments, name, data.num_classes)) for name in arguments.model}
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
    check_directories_differ(runs)
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
            inputs,
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


parser = options.parser

if __name__ == "__main__":
    run_command(parser(), main)
