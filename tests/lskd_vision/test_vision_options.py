"""The command line of ``lskd_vision.train`` and its YAML file: defaults, refusals, and that both say the same."""

import itertools
import re
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lskd.io import tables
from lskd.io.errors import InputError
from lskd_vision import options
from lskd_vision.command_line import STUDENT_RECIPE, check_num_classes, check_resumed, training_configs
from lskd_vision.config import OptimisationConfig, TrainingConfig
from lskd_vision.config_values import flag
from lskd_vision.timm_flags import INSTEAD

STUDENT = "--kd-checkpoint teacher.pth"


def configs(*words: str, data_dir: Path | str = ".") -> list[TrainingConfig]:
    """The trainings of a command line."""
    return training_configs(options.parser().parse_args(["--data-dir", str(data_dir), *" ".join(words).split()]))


def parsed(*words: str, data_dir: Path | str = ".") -> SimpleNamespace:
    """The settings of a command line's one training."""
    (config,) = configs(*words, data_dir=data_dir)
    return SimpleNamespace(**config.stored())


def temperatures(*words: str) -> list[float]:
    """Those of a command line's students."""
    return [config.distillation.kd_temperature for config in configs(STUDENT, *words)]


def refused(capsys, *words: str) -> str:
    """The one line with which a command line is refused."""
    with pytest.raises((InputError, SystemExit)) as left:
        configs(*words)
    out, complaint = capsys.readouterr()
    assert out == ""
    if left.type is InputError:
        complaint = str(left.value)
    else:
        assert left.value.code == 2
        assert complaint.startswith("lskd_vision.train: error: ")
        complaint = complaint.removeprefix("lskd_vision.train: error: ").strip()
    assert "\n" not in complaint
    return complaint


@pytest.fixture
def config(tmp_path):
    """Write a YAML file and give the words that name it."""

    def write(content: str | bytes | dict) -> str:
        path = tmp_path / "options.yaml"
        if isinstance(content, dict):
            content = yaml.safe_dump(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return f"--config {path}"

    return write


@pytest.mark.parametrize(("words", "epochs", "decay", "warmup"), [("", 90, 30, 0), (STUDENT, 200, 80, 5)])
def test_the_defaults_are_the_papers(words, epochs, decay, warmup):
    made = parsed(words)
    assert (made.epochs, made.decay_epochs, made.warmup_epochs) == (epochs, decay, warmup)
    assert (made.sched, made.decay_rate, made.lr) == ("step", 0.1, 0.1)
    assert (made.opt, made.momentum, made.weight_decay, made.batch_size) == ("momentum", 0.9, 1e-4, 256)
    assert not made.filter_bias_and_bn
    assert (made.scale, made.hflip, made.color_jitter, made.rotation) == ((0.08, 1.0), 0.5, (0.0,), 0)
    assert (made.reprob, made.aa, made.drop, made.clip_grad) == (0, None, None, None)
    assert not made.model_ema
    assert not made.amp
    assert made.kd_temperature == (1.0 if words else [1.0])
    assert (made.kd_student_temperature, made.task_loss_weight) == (None, 0.0)
    assert (made.smoothing, made.kd_distill_type) == (0.0, "logit")


def test_the_default_optimiser_is_sgd_without_nesterov():
    from timm.optim import create_optimizer_v2, optimizer_kwargs
    from torch import nn

    (made,) = configs()
    filtering = {"filter_bias_and_bn": made.optimisation.filter_bias_and_bn}
    optimiser = create_optimizer_v2(nn.Linear(2, 2), **optimizer_kwargs(made.optimisation), **filtering)
    assert type(optimiser).__name__ == "SGD"
    (group,) = optimiser.param_groups
    assert (group["momentum"], group["nesterov"], group["weight_decay"], group["lr"]) == (0.9, False, 1e-4, 0.1)


def test_what_the_command_line_says_wins_over_the_recipe():
    made = parsed(STUDENT, "--epochs 7 --decay-epochs 3 --warmup-epochs 0")
    assert (made.epochs, made.decay_epochs, made.warmup_epochs) == (7, 3, 0)


OUT_OF_RANGE = [
    *(f"{STUDENT} --kd-temperature {value}" for value in ("0", "-1", "nan", "inf", "1 0", "warm")),
    *(f"{STUDENT} --kd-student-temperature {value}" for value in ("0", "-2", "nan")),
    *(f"{STUDENT} --task-loss-weight {value}" for value in ("-0.1", "1.1", "nan")),
    *(f"--smoothing {value}" for value in ("1", "-0.1", "nan", "inf", "0.1 1")),
    *(f"--lr {value}" for value in ("0", "-1", "nan", "inf")),
    *(f"--weight-decay {value}" for value in ("-1", "nan")),
    *(f"--epochs {value}" for value in ("0", "-1", "1.5")),
    *(f"--seed {value}" for value in ("-1", "1 -1", "x")),
    *(f"--data-seed {value}" for value in ("-1", "0.5")),
    *(f"--batch-size {value}" for value in ("0", "-1")),
    *(f"--std {value}" for value in ("0", "nan", "255")),
    *(f"--mean {value}" for value in ("-1", "nan", "128")),
    "--drop 1.5",
    "--reprob 2",
    "--workers -1",
    "--rotation 181",
    "--crop-pct 0",
    "--momentum 1.1",
    "--decay-milestones 0",
    "--group-size 0",
]


@pytest.mark.parametrize("words", OUT_OF_RANGE)
def test_a_number_out_of_range_is_refused(words, capsys):
    option, *values = words.removeprefix(STUDENT).split()
    complaint = refused(capsys, words)
    assert option in complaint.split(":")[0]
    assert "must be a" in complaint
    assert any(value in complaint for value in values)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--kd-temperature 3", "--kd-temperature: 3.0 (needs a teacher: --kd-checkpoint)"),
        ("--kd-student-temperature 1", "--kd-student-temperature: 1.0 (needs a teacher: --kd-checkpoint)"),
        ("--task-loss-weight 0.5", "--task-loss-weight: 0.5 (needs a teacher: --kd-checkpoint)"),
        ("--kd-distill-type overhaul", "--kd-distill-type: overhaul (needs a teacher: --kd-checkpoint)"),
        ("--kd-batch-statistics", "--kd-batch-statistics: True (needs a teacher: --kd-checkpoint)"),
        (f"{STUDENT} --kd-batch-statistics", "--kd-batch-statistics: True (needs --kd-distill-type overhaul)"),
        ("--kd-loss mse", "--kd-loss: mse (needs a teacher: --kd-checkpoint)"),
        (f"{STUDENT} --kd-loss mse --kd-temperature 3", "--kd-temperature: 3.0 (must be 1: the loss mse"),
        (f"{STUDENT} --kd-loss wttm --kd-student-temperature 3", "--kd-student-temperature: 3.0 (must be 1: the loss"),
        (f"{STUDENT} --kd-loss wttm --kd-gradient-scale none", "--kd-gradient-scale: 'none' (must be t2 or match"),
        (f"{STUDENT} --kd-nckd-weight 2", "--kd-nckd-weight: 2.0 (must be left out: the loss kl"),
        (
            f"{STUDENT} --kd-gradient-scale match --task-loss-weight 1",
            "--task-loss-weight: 1.0 (must be below 1: --kd-gradient-scale match applies to the distillation term)",
        ),
        (
            f"{STUDENT} --kd-final-temperature 2",
            "--kd-final-temperature: 2.0 (must be left out: the temperature is constant)",
        ),
        (
            f"{STUDENT} --kd-temperature-schedule linear",
            "--kd-final-temperature: None (must be a number from",
        ),
        (
            f"{STUDENT} --kd-temperature-schedule linear --kd-final-temperature 1",
            "--kd-final-temperature: 1.0 (must differ from the T at the start)",
        ),
        (
            f"{STUDENT} --kd-temperature-schedule cosine --kd-final-temperature 3 --epochs 1",
            "--kd-temperature-schedule: cosine (needs --epochs of at least 2)",
        ),
        (
            f"{STUDENT} --kd-temperature-schedule cosine --kd-final-temperature 3 --kd-loss mse",
            "--kd-temperature-schedule: 'cosine' (must be constant: the loss mse has no T)",
        ),
        (f"{STUDENT} --smoothing 0 0.1", "--smoothing: 0.0 0.1 (must be one value beside a teacher"),
        (f"{STUDENT} --kd-model-name a b", "--kd-model-name: a b (must be one, or as many as checkpoints: 1)"),
        ("--model a b a", "--model: a b a (must not repeat a value)"),
        ("--seed 1 01", "--seed: 1 1 (must not repeat a value)"),
        ("--smoothing 0.1 .10", "--smoothing: 0.1 0.1 (must not repeat a value)"),
        (f"{STUDENT} --kd-temperature 2 1 2.0", "--kd-temperature: 2.0 1.0 2.0 (must not repeat a value)"),
        ("--kd-model-name a b a", "--kd-model-name: a b a (must not repeat a value)"),
        ("--kd-temperature 1 2", "--kd-temperature: 1.0 2.0 (needs a teacher: --kd-checkpoint)"),
        ("--kd-checkpoint a ./a", "--kd-checkpoint: a a (must not repeat a value)"),
        ("--decay-milestones 60 30", "--decay-milestones: 60 30 (must ascend)"),
        ("--scale 1 0.5", "--scale: 1.0 0.5 (must ascend)"),
        ("--ratio 2 1", "--ratio: 2.0 1.0 (must ascend)"),
        ("--color-jitter 0.1 0.2", "--color-jitter: 0.1 0.2 (must be one value, 3 or 4)"),
        ("--torchcompile quickly", "--torchcompile: quickly (must be one of "),
        ("--model-kwargs num_classes=3", "--model-kwargs: num_classes=3 (is set by the data or by another flag"),
        ("--experiment a/b", "--experiment: a/b (must be the name of a folder in --output)"),
        ("--experiment ..", "--experiment: .. (must be the name of a folder in --output)"),
        ("--model-kwargs depth", "--model-kwargs: depth (must be name=value)"),
        ("--mixup-mode elem", "--mixup-mode: elem (needs --mixup, --cutmix or --cutmix-minmax)"),
        ("--mixup 0.2 --mixup-switch-prob 0.1", "--mixup-switch-prob: 0.1 (needs --mixup and --cutmix, to switch)"),
        ("--cutmix-minmax 0.8 0.2", "--cutmix-minmax: 0.8 0.2 (must ascend)"),
        ("--mixup 0.2 -b 7", "--batch-size: 7 (must be even: images are mixed in pairs)"),
        (f"{STUDENT} --cutmix 1 --kd-loss decoupled", "--kd-loss: decoupled (needs one label per image"),
        (f"{STUDENT} --kd-token-distill-type hard", "--kd-token-distill-type: hard (needs --kd-distill-type token)"),
        (f"{STUDENT} --kd-distill-type token", "--task-loss-weight: 0.0 (must be above 0 and below 1 for"),
        (
            f"{STUDENT} --kd-distill-type token --kd-token-distill-type hard --task-loss-weight 0.5 --kd-temperature 3",
            "--kd-temperature: 3.0 (must be left out: --kd-token-distill-type hard learns the teacher's class alone)",
        ),
        (f"{STUDENT} --kd-distill-type feature", "--task-loss-weight: 0.0 (must be above 0 and below 1 for"),
        (
            f"{STUDENT} --kd-distill-type feature --task-loss-weight 0.5 --kd-temperature 3",
            "--kd-temperature: 3.0 (must be left out: --kd-distill-type feature learns features, which have no",
        ),
        (
            f"{STUDENT} --kd-distill-type feature --task-loss-weight 0.5 --kd-loss wttm",
            "--kd-loss: wttm (must be left out: --kd-distill-type feature learns features, which have no",
        ),
        ("--bce-pos-weight 2", "--bce-pos-weight: 2.0 (needs --bce-loss)"),
        (f"{STUDENT} --bce-loss", "--bce-loss: True (needs --task-loss-weight: without it labels are not trained on)"),
        ("--sched multistep", "--sched: multistep (needs --decay-milestones)"),
        ("--sched wsd", "--sched: invalid choice: 'wsd'"),
        ("--patience-epochs 3", "--patience-epochs: 3 (needs --sched plateau)"),
        ("--sched plateau --sched-on-updates", "--sched-on-updates: True (must be left out: --sched plateau follows"),
        ("--sched plateau --val-interval 2", "--val-interval: 2 (must be 1: --sched plateau follows the validation)"),
        ("--val-interval 0", "--val-interval: '0' (must be a whole number above 0)"),
        ("--sched plateau --decay-rate 1", "--decay-rate: 1.0 (must be below 1 for --sched plateau)"),
        ("--interpolation random", "--interpolation: invalid choice: 'random'"),
        ("--temperature 3", "no such option: --temperature 3"),
        ("--epoch 3", "no such option: --epoch 3"),
        ("--lr", "--lr: expected one argument"),
        ("--model", "--model: expected at least one argument"),
        ("--data-dir does-not-exist", "--data-dir: does-not-exist (must be the directory of the data set)"),
    ],
)
def test_what_does_not_fit_together_is_refused(words, complaint, capsys):
    assert refused(capsys, words).startswith(complaint)


def test_every_combination_is_a_training_the_last_of_model_smoothing_teacher_seed_and_temperature_the_fastest():
    made = configs("--model a b --kd-checkpoint t u --kd-model-name m --seed 1 2 --kd-temperature 3 4")
    found = [(m.model.model, str(m.distillation.kd_checkpoint), m.run.seed, m.distillation.temperature) for m in made]
    assert found == list(itertools.product("ab", "tu", (1, 2), (3.0, 4.0)))
    assert {config.distillation.kd_model_name for config in made} == {"m"}
    assert [config.distillation.smoothing for config in configs("--smoothing 0 0.1")] == [0.0, 0.1]


def test_a_configuration_has_every_flag_and_cannot_be_changed():
    (config,) = configs()
    flags = {action.dest for action in options.parser()._actions} - {"help", "num_classes"}
    assert config.stored().keys() - flags == {"debug", "distributed", "rank", "world_size", "local_rank"}
    assert flags <= config.stored().keys()
    for role in (config, *(getattr(config, each.name) for each in fields(config) if each.name != "config")):
        with pytest.raises(FrozenInstanceError):
            setattr(role, fields(role)[0].name, None)


def test_a_command_without_data_is_refused(capsys):
    with pytest.raises(SystemExit) as left:
        options.parser().parse_args([])
    assert left.value.code == 2
    assert capsys.readouterr().err == "lskd_vision.train: error: the following arguments are required: --data-dir\n"


def test_the_data_directory_may_be_the_first_word_as_in_timms_script(tmp_path, capsys):
    found = options.parser().parse_args([str(tmp_path), "--model", "resnet18"])
    assert (found.data_dir, found.model) == (tmp_path, ["resnet18"])
    with pytest.raises(SystemExit):
        options.parser().parse_args([str(tmp_path), "--data-dir", "."])
    assert capsys.readouterr().err.endswith(f"unexpected argument: {tmp_path} (--data-dir is given, too)\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--jsd-loss", "no such option: --jsd-loss (auxiliary batch norms and the JSD loss are not supported"),
        ("--drop-connect=0.1", "no such option: --drop-connect (use --drop-path)"),
        ("--lr 1 --sched step --lr-cycle-mul 3", "no such option: --lr-cycle-mul (one cycle only"),
        ("--mxup 0.2", "no such option: --mxup 0.2"),
    ],
)
def test_a_flag_of_timms_that_is_not_here_is_refused_with_what_to_use(words, said, capsys):
    assert said in refused(capsys, words)


def test_every_flag_of_timms_that_is_explained_is_really_missing():
    known = {option for action in options.parser()._actions for option in action.option_strings}
    assert not known & INSTEAD.keys()
    named = {word for reason in INSTEAD.values() for word in re.findall(r"--[a-z-]+[a-z]", reason)}
    assert named <= known


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--mixup nan", "--mixup: nan (must be a finite number, 0 or more)"),
        ("--cutmix inf", "--cutmix: inf (must be a finite number, 0 or more)"),
        ("--smoothing 0 nan", "--smoothing: nan (must be a number from 0 to 0.999)"),
        ("--lr NaN", "--lr: NaN (must be a finite number above 0)"),
        ("--scale 0.1 1e999", "--scale: 1e999 (must be a finite number above 0)"),
        ("--crop-pct nan", "--crop-pct: nan (must be a number above 0, at most 1)"),
        ("--kd-temperature nan", "--kd-temperature: nan (must be a finite number above 0, or a .csv"),
    ],
)
def test_what_is_no_finite_number_is_refused_with_what_is_valid(words, said, capsys):
    assert said in refused(capsys, words)


def test_the_guide_says_how_long_a_student_trains_and_warms_up():
    guide = Path(__file__).parents[2] / "docs" / "guides" / "timm-teacher.md"
    for name, of_student in STUDENT_RECIPE.items():
        said = f"`{flag(name)}` {getattr(OptimisationConfig, name)}, of a student {of_student} ("
        assert said in guide.read_text(encoding="utf-8")


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (4, 4), (64, 4), (None, 4)])
def test_there_are_no_more_loader_processes_than_cores_unless_asked_for(cores, workers, monkeypatch):
    monkeypatch.setattr("lskd_vision.config.usable_cores", lambda: cores)
    assert configs()[0].loader.workers == workers
    assert configs("--workers 7")[0].loader.workers == 7


def test_resume_takes_the_checkpoint_of_a_run_and_finds_its_place(tmp_path):
    file = tmp_path / "out" / "clothes" / "resnet18_a0_s42" / "last.pth.tar"
    file.parent.mkdir(parents=True)
    file.touch()
    found = parsed(f"--resume {file}")
    assert (found.resume, found.output, found.experiment) == (True, tmp_path / "out", "clothes")
    assert parsed(f"--resume {file} --output elsewhere").output == Path("elsewhere")
    assert parsed("--resume").output == Path("runs")
    check_resumed({"resume": file}, [file.parent])
    with pytest.raises(InputError, match="must be of a run of this command: runs/clothes/other"):
        check_resumed({"resume": file}, [Path("runs/clothes/other")])


def test_resume_of_anything_else_is_refused(tmp_path, capsys):
    for name in ("model_best.pth.tar", "missing/last.pth.tar"):
        file = tmp_path / name
        if file.parent.is_dir():
            file.touch()
        assert f"--resume: {file} (must be the last.pth.tar of a run" in refused(capsys, f"--resume {file}")


def test_the_number_of_classes_is_what_the_data_have():
    check_num_classes({}, 10)
    check_num_classes({"num_classes": 10}, 10)
    with pytest.raises(InputError, match="--num-classes: 1000"):
        check_num_classes({"num_classes": 1000}, 10)


def matched(path: Path, *temperatures: object) -> Path:
    """What ``lskd match-temperature`` writes of these."""
    tables.write(path, [{"reference": "a", "reference_temperature": 1.0, "temperature": each} for each in temperatures])
    return path


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_temperatures_may_be_those_of_a_file_of_match_temperature(tmp_path, config, suffix):
    first, second = matched(tmp_path / f"a.{suffix}", 1.4813753, 3), matched(tmp_path / f"b.{suffix}", 0.5)
    assert temperatures(f"--kd-temperature {first}") == [1.4813753, 3.0]
    assert temperatures(f"--kd-temperature 2 {first} 64 {second}") == [2.0, 1.4813753, 3.0, 64.0, 0.5]
    file = config({"kd-temperature": [1, str(second)]})
    assert temperatures(file) == [1.0, 0.5]
    assert temperatures(file, "--kd-temperature 7") == [7.0]


def test_a_temperature_that_a_file_repeats_is_refused(tmp_path, capsys):
    file = matched(tmp_path / "a.json", 1.5, 2)
    expected = "--kd-temperature: 1.5 2.0 2.0 (must not repeat a value)"
    assert refused(capsys, STUDENT, f"--kd-temperature {file} 2") == expected


def test_temperatures_of_a_file_need_a_teacher_too(tmp_path, capsys):
    file = matched(tmp_path / "a.json", 1.5)
    assert refused(capsys, f"--kd-temperature {file}").startswith("--kd-temperature: 1.5 (needs a teacher")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "must be JSON: "),
        (b"\xff\xfe", "must be JSON: "),
        (b"[1.5]", "content (must be an object, not a list)"),
        (b'{"rows": {"temperature": 2}}', "rows (must be a list, not an object)"),
        (b'{"rows": [{"reference_temperature": 2}]}', "rows[0] (must have the field temperature)"),
        (b'{"rows": [{"temperature": 2}]}', "rows[0] (must have the field reference_t"),
        (b'{"rows": [2]}', "rows[0] (must be an object, not a whole number)"),
        (b'{"rows": []}', "rows (must be a list of length >= 1)"),
        *(
            (b'{"rows": [{"reference_temperature": 1, "temperature": %s}]}' % value, complaint)
            for complaint, values in {
                "rows[0].temperature (must be a number": (b"0", b"-1", b"true", b"null", b'"2"', b"[2]"),
                "rows[0].temperature (number out of range": (b"1" + 400 * b"0",),
                "must be JSON: ": (b"NaN", b"Infinity"),
            }.items()
            for value in values
        ),
    ],
)
def test_a_file_without_temperatures_is_refused(content, complaint, tmp_path, capsys):
    refuse_temperatures(tmp_path / "matched.json", content, complaint, capsys)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe", "must be csv: "),
        (b'temperature\n"1.5', "must be csv: "),
        (b"", "rows (must be a list of length >= 1)"),
        (b"reference_temperature,temperature\n", "rows (must be a list of length >= 1)"),
        (b"T,entropy\n1,2\n", "rows[0] (must have the field reference_t"),
        (b"temperature,entropy_nats\n1,2\n", "rows[0] (must have the field reference_t"),
        *(
            (b"reference_temperature,temperature\n1,1.5\n1,%s\n" % value, "rows[1].temperature (")
            for value in (b"0", b"-1", b"nan", b"inf", b"", b"1.5.2", b"two", b"1e999")
        ),
        (b"reference_temperature,temperature\n1\n", "rows[0].temperature (must be a number, not null)"),
    ],
)
def test_a_csv_file_without_temperatures_is_refused(content, complaint, tmp_path, capsys):
    refuse_temperatures(tmp_path / "matched.csv", content, complaint, capsys)


def test_a_csv_file_that_a_spreadsheet_has_written_is_read(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufeffreference_temperature,temperature\r\n1,1.25\r\n".encode())
    assert temperatures(f"--kd-temperature {tmp_path / 'a.csv'}") == [1.25]


def refuse_temperatures(file, content, complaint, capsys):
    if content is not None:
        file.write_bytes(content)
    said = refused(capsys, STUDENT, f"--kd-temperature {file}")
    assert said.startswith("--kd-temperature: ")
    assert str(file) in said
    assert complaint in said


def test_options_about_a_teacher_may_be_said_to_be_nothing_without_one():
    (made,) = configs("--kd-temperature 1 --task-loss-weight 0 --kd-distill-type logit")
    assert not made.distillation.distils


def test_the_data_directory_may_be_missing_where_the_data_are_downloaded(tmp_path):
    made = parsed("--dataset-download", data_dir=tmp_path / "new")
    assert made.data_dir == tmp_path / "new"


def test_a_yaml_file_says_the_same_as_the_words_of_a_command_line(config):
    content = """
model: [resnet18, resnet50]
kd-checkpoint: teacher.pth
kd_temperature: [1, 2, 0.5]
seed: 3
weight_decay: 1e-4
lr: 5e-2
amp: true
no-aug: false
sched: cosine
decay_milestones: null
model-kwargs: {drop_block_rate: 0.1, act_layer: gelu, block_args: {a: [1, 2]}}
torchcompile: true
experiment: cosine
scale: [0.5, 1]
"""
    words = f"{STUDENT} --model resnet18 resnet50 --kd-temperature 1 2 0.5 --seed 3 --weight-decay 1e-4 --lr 5e-2 --amp"
    words += " --sched cosine --torchcompile --experiment cosine --scale 0.5 1"
    words += " --model-kwargs drop_block_rate=0.1 act_layer=gelu block_args={'a':[1,2]}"
    file, line = configs(config(content)), configs(words)
    assert all(isinstance(each.config, Path) for each in file)
    assert [replace(each, config=None) for each in file] == line
    assert len(line) == 6
    assert file[0].optimisation.weight_decay == 1e-4
    assert file[0].model.model_kwargs == {"drop_block_rate": 0.1, "act_layer": "gelu", "block_args": {"a": [1, 2]}}


def test_the_command_line_wins_over_the_file_wherever_it_stands(config):
    file = config({"epochs": 3, "seed": [1, 2], "smoothing": 0.1, "batch_size": 32})
    for words in (f"{file} --epochs 5 --seed 7 -b 64", f"--epochs 5 --seed 7 -b 64 {file.replace('--config', '-c')}"):
        made = parsed(words)
        assert (made.epochs, made.seed, made.smoothing, made.batch_size) == (5, 7, 0.1, 64)


def test_the_file_may_name_the_data_directory(config, tmp_path):
    (made,) = training_configs(options.parser().parse_args(config({"data-dir": str(tmp_path)}).split()))
    assert made.dataset.data_dir == tmp_path


def test_an_empty_file_says_nothing(config):
    ((made,), (plain,)) = configs(config("# nothing\n")), configs()
    assert replace(made, config=None) == plain


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("epoch: 3", "--config: epoch: 3 (no such option, perhaps epochs)"),
        ("kd_temprature: 3", "--config: kd_temprature: 3 (no such option, perhaps kd-temperature)"),
        ("xyzzy: 3", "--config: xyzzy: 3 (no such option)"),
        ("b: 3", "--config: b: 3 (no such option"),
        ("config: other.yaml", "--config: config: other.yaml (no such option"),
        ("help: true", "--config: help: True (no such option"),
        ("amp: 1", "--config: amp: 1 (must be true or false)"),
        ("amp: 'false'", "--config: amp: false (must be true or false)"),
        ("aa: false", "--config: aa: false (must be a value, not true or false)"),
        ("lr: 0", "--lr: 0 (must be a finite number above 0)"),
        ("lr: fast", "--lr: fast (must be a finite number above 0)"),
        ("lr: [0.1, 0.2]", "--config: lr: [0.1, 0.2] (must be one value)"),
        ("lr: {a: 1}", "--lr: a=1 (must be a finite number above 0)"),
        ("seed: []", "--seed: expected at least one argument"),
        ("decay-milestones: [60, 30]", "--decay-milestones: 60 30 (must ascend)"),
    ],
)
def test_a_setting_of_the_file_that_is_none_is_refused(content, complaint, config, capsys):
    assert refused(capsys, config(content)).startswith(complaint)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("- epochs\n- 3\n", "must hold settings, one `name: value` a line"),
        ("epochs 3", "must hold settings, one `name: value` a line"),
        ("epochs: [3", "cannot be read as YAML: "),
        ("epochs: 3\n\tseed: 1", "cannot be read as YAML: "),
        (b"experiment: \xff\xfe", "cannot be read as YAML: "),
    ],
)
def test_a_file_that_holds_no_settings_is_refused(content, complaint, config, capsys):
    file = config(content)
    assert refused(capsys, file).startswith(f"{file.replace(' ', ': ')} ({complaint}")


@pytest.mark.parametrize("name", ["", "does-not-exist.yaml"])
def test_a_file_that_cannot_be_read_is_refused(name, tmp_path, capsys):
    assert refused(capsys, f"--config {tmp_path / name}").startswith(f"--config: {tmp_path / name} (cannot be read")


@pytest.mark.parametrize(
    "hostile",
    [
        "experiment: !!python/object/apply:os.mkdir ['{}']",
        "experiment: !!python/object/new:os.mkdir ['{}']",
        "!!python/object/apply:os.mkdir ['{}']",
        "!!python/object/apply:subprocess.check_call [[mkdir, '{}']]",
        "experiment: !!python/name:os.system",
    ],
)
def test_nothing_in_the_file_is_run(hostile, config, tmp_path, capsys):
    mark = tmp_path / "was-here"
    assert "could not determine a constructor" in refused(capsys, config(hostile.format(mark)))
    assert not mark.exists()


def test_words_of_config_raises_what_the_command_line_reports(config):
    with pytest.raises(InputError, match="no such option, perhaps epochs"):
        options.parser().words_of_config(Path(config("epochz: 3").split()[1]))
