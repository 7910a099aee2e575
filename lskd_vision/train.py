"""Train image classifiers: teachers with label smoothing, students at temperatures.

    lskd vision train --data-dir DIR --model resnet50 --smoothing 0.1
    lskd vision train --data-dir DIR --model resnet18 --kd-checkpoint TEACHER --kd-temperature 1 2 3 64

All combinations of models, seeds, temperatures and teachers are trained in one process, which decodes and augments an
image once and runs each teacher once; each writes a run directory as if it had been trained alone.
"""

import argparse
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from lskd.io.errors import report, run_command
from lskd.io.files import remove_partials
from lskd.io.output import say
from lskd.measure.accuracy import accuracy_metrics
from lskd.records.runs import write_run
from lskd_vision import options
from lskd_vision.command_line import check_num_classes, check_resumed, training_configs
from lskd_vision.config import TrainingConfig
from lskd_vision.data import Data, data_config, load_data
from lskd_vision.evaluate import evaluate
from lskd_vision.loader import Loader
from lskd_vision.logs import Logs, check_logs
from lskd_vision.memory_groups import free_memory, groups_of
from lskd_vision.mixing import Mixing
from lskd_vision.models import meta_model
from lskd_vision.processes import memory_errors, start_processes
from lskd_vision.progress import epoch_line
from lskd_vision.run import TrainingRun
from lskd_vision.run_directories import check_directories_differ, check_directory, is_of_its_teacher
from lskd_vision.run_lines import batch_lines, start_lines, table
from lskd_vision.scoring import score_teachers
from lskd_vision.teacher import Normalisation
from lskd_vision.teachers import load_teachers
from lskd_vision.trial import try_out
from lskd_vision.validation_fidelity import TeacherFidelity

logger = logging.getLogger("lskd_vision")


def main(arguments: argparse.Namespace) -> int:
    """Train every combination; the exit status is 1 if a run failed, 130 after Ctrl-C or SIGTERM."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    configs = training_configs(arguments)
    try:
        with memory_errors("--batch-size", configs[0].optimisation.batch_size):
            return train_all(configs, arguments)
    except KeyboardInterrupt:
        print("\nlskd_vision.train: interrupted; the same command with --resume resumes", file=sys.stderr)
        return 130
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def train_all(configs: Sequence[TrainingConfig], arguments: argparse.Namespace) -> int:
    """Train every configuration; the exit status is 1 if a run failed.

    Args:
        configs: from the command line.
        arguments: its options, to check them against the data.
    """
    device, processes = start_processes(configs[0].device)
    configs = [replace(config, device=device, processes=processes) for config in configs]
    common = configs[0]  # they only differ in model, seed, smoothing, teacher and temperature
    check_logs(common.run)
    data = load_data(common.dataset)
    check_num_classes(vars(arguments), data.num_classes)
    runs = plan(configs, data)
    check_resumed(vars(arguments), [run.directory for run in runs])
    unfinished = [run for run in runs if run.next_epoch < common.optimisation.epochs]
    try_out(unfinished)
    score_teachers(unfinished, data)
    sizes = {run.config.model.model: 4 * run.parameters for run in unfinished}  # bytes, in float32
    groups = groups_of(unfinished, sizes, free_memory(device.torch_device), common.run.group_size)
    for line in start_lines(runs, groups, data.name):
        say(line)
    train_groups(groups, data)
    if processes.rank == 0:
        print(table(runs), flush=True)
        for run in runs:
            if run.failure:
                report("lskd_vision.train", RuntimeError(f"{run.name}: {run.failure}"))
    return 1 if any(run.failure for run in runs) else 0


def plan(configs: Sequence[TrainingConfig], data: Data) -> list[TrainingRun]:
    """Make a run for each configuration, and check it as far as possible before anything is written.

    Raises:
        InputError: a configuration does not fit the models, the teachers or what is in the output directory.
    """
    models = {config.model.model: config for config in configs}  # equal for equal names, and built once
    data_configs = {
        name: data_config(each.input, meta_model(each.model, each.input, data.num_classes))
        for name, each in models.items()
    }
    teachers = load_teachers(configs, data, list(data_configs.values()))
    record = data.record(configs[0].dataset)
    same = Counter(teacher.label_smoothing["alpha"] for teacher in teachers.values())
    runs = []
    for config in configs:
        teacher = teachers.get((config.distillation.kd_model_name, config.distillation.kd_checkpoint))
        named = teacher is not None and same[teacher.label_smoothing["alpha"]] > 1
        if teacher is not None:
            config = replace(config, distillation=replace(config.distillation, kd_model_name=teacher.name))
        run = TrainingRun(config, teacher, data.name, record, data_configs[config.model.model])
        if named and not is_of_its_teacher(run):
            run = TrainingRun(config, teacher, data.name, record, data_configs[config.model.model], names_teacher=True)
        runs.append(run)
    check_directories_differ(runs)
    for run in runs:
        run.next_epoch = check_directory(run)
    if torch.distributed.is_initialized():  # no process writes while another still checks
        torch.distributed.barrier()
    return runs


def train_groups(groups: Sequence[Sequence[TrainingRun]], data: Data) -> None:
    """Train one group after the other; one that does not fit in memory is split into halves."""
    waiting = list(groups)
    while waiting:
        group = waiting.pop(0)
        try:
            train(group, data)
        except torch.OutOfMemoryError:
            if len(group) == 1 or group[0].config.processes.distributed:
                raise
            half = len(group) // 2
            waiting = [group[:half], group[half:], *waiting]  # each resumes from its last checkpoint
            logger.warning("out of memory with %d models at once, trying %d", len(group), len(group) - half)
        finally:
            for run in group:
                run.free()


def train(runs: Sequence[TrainingRun], data: Data) -> None:
    """Train the runs of a group to the end, from their last checkpoints if there are any."""
    common, inputs = runs[0].config, runs[0].data_config
    batches = Loader.for_training(data.train, inputs, common)
    validation = Loader.for_evaluation(data.val, inputs, common)
    normalisation = Normalisation.of(inputs, common.device.torch_device)
    mixing = None
    if common.mixing.mixes:
        size, seed = inputs["input_size"], common.run.data_seed
        mixing = Mixing(common.mixing, data.num_classes, size, seed, common.processes)
    width = max(len(run.name) for run in runs)
    for run in runs:
        run.start(len(batches))
    for warning in dict.fromkeys(warning for run in runs for warning in run.record.warnings):
        logger.warning(warning)
    with contextlib.ExitStack() as stack:
        logs = {}
        if common.processes.rank == 0:
            for run in runs:
                run.directory.mkdir(parents=True, exist_ok=True)
                remove_partials(run.directory)
                if run.record.history:  # a kill may have left it without the last epoch
                    run.write_log()
                write_run(run.record, run.directory)
                log = Logs(run.config.run, run.directory, run.name, run.record.configuration, run.record.history)
                logs[run] = stack.enter_context(contextlib.closing(log))
        for epoch in range(min(run.next_epoch for run in runs), common.optimisation.epochs):
            # After a kill, some have finished an epoch that others have not.
            active = [run for run in runs if run.next_epoch == epoch and not run.failure]
            if not active:
                continue
            train_epoch(active, epoch, batches, normalisation, mixing)
            means = {run: run.end_epoch() for run in active}
            active = [run for run in active if not run.failure]
            if not active:
                continue
            due = common.optimisation.is_validated(epoch)
            metrics = validate(active, validation, data) if due else {run: {} for run in active}
            for run in active:
                run.finish_epoch(epoch, means[run], metrics[run])
                line = epoch_line(run.record.history, common.optimisation.epochs, run.images_per_epoch)
                say(f"{run.name:<{width}}  {line}")
                if run in logs:
                    logs[run].add(run.record.history[-1])


def train_epoch(
    runs: Sequence[TrainingRun], epoch: int, batches: Loader, normalisation: Normalisation, mixing: Mixing | None = None
) -> None:
    """Make one pass over the training images: each teacher runs once per batch, then each student takes its step.

    If images are mixed, teachers and students see the same mixed images.
    """
    for run in runs:
        run.begin_epoch(epoch, batches.ids, len(runs))
    config = runs[0].config
    teachers = list(dict.fromkeys(run.teacher for run in runs if run.teacher))
    name = f"epoch {epoch + 1}/{config.optimisation.epochs}"
    hidden = None if config.processes.rank == 0 else True
    with tqdm(batches.epoch(epoch), total=len(batches), desc=name, unit="batch", leave=False, disable=hidden) as bar:
        for number, (images, target) in enumerate(bar):
            if all(run.failure for run in runs) and not config.processes.distributed:
                break
            if mixing:
                images, target = mixing(images, target, epoch, number)
            with config.device.autocast():
                outputs = {teacher: teacher(images, normalisation) for teacher in teachers}
            for run in runs:
                run.step(images, target, outputs[run.teacher] if run.teacher else None, epoch, number)
            if (every := config.run.log_interval) and not hidden and (number + 1) % every == 0:
                for line in batch_lines(runs, number + 1, len(batches)):
                    say(line)
            if not hidden and number % 50 == 0:
                bar.set_postfix_str(f"loss {runs[0].means.loss:.3f}")


def validate(runs: Sequence[TrainingRun], batches: Loader, data: Data) -> dict[TrainingRun, dict[str, dict[str, Any]]]:
    """Metrics on the validation split, of the weights and of their moving averages, by run and by suffix.

    Those of students include the fidelity to their teacher.
    """
    models: dict[tuple[TrainingRun, str], nn.Module] = {}
    fidelities: list[TeacherFidelity | None] = []
    for run in runs:
        for suffix, ema in (("", False), ("_ema", True))[: 1 + run.task.has_ema()]:
            if (model := run.task.get_eval_model(ema=ema)) is not None:
                models[run, suffix] = model.eval()
                fidelities.append(TeacherFidelity(run.teacher_logits) if run.teacher_logits else None)
    device, passed = runs[0].config.device, list(models.values())
    counts = evaluate(passed, batches.epoch(0), data.num_classes, device, len(batches), fidelities=fidelities)
    metrics: dict[TrainingRun, dict[str, dict[str, Any]]] = {run: {} for run in runs}
    for (run, suffix), count, fidelity in zip(models, counts, fidelities, strict=True):
        metrics[run][suffix] = accuracy_metrics(count, data.class_names) | (fidelity.metrics() if fidelity else {})
    return metrics


parser = options.parser

if __name__ == "__main__":
    run_command(parser(), main)
