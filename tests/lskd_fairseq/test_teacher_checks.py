"""Teachers that do not fit, and data that cannot be compared: what the one check of all commands says of them."""

import os
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq.data.indexed_dataset import make_builder
from helpers.refusals import refusal
from helpers.small_nmt import SHAPE, batch_of, make_cache, make_criterion, make_model, make_task, save_checkpoint

from lskd.io.errors import InputError
from lskd.io.joined_paths import joined_paths
from lskd_fairseq import score
from lskd_fairseq.cache.cached_teacher import CachedTeacher
from lskd_fairseq.checkpoints import read_checkpoint
from lskd_fairseq.teacher import Teacher
from lskd_fairseq.teacher_checks import PairedData, check_fit, dictionary_fingerprint, say_once
from lskd_fairseq.training_checks import check_own_files

TRAIN = "fairseq-train {data} --user-dir lskd_fairseq --criterion kd --arch transformer --optimizer adam --cpu"
TRAIN += " --max-tokens 1000 --source-lang en --target-lang de --save-dir {save_dir} {teacher}"


@pytest.fixture(scope="module")
def task(data_bin):
    return make_task(data_bin)


@pytest.fixture(scope="module")
def model(task):
    return make_model(task)


@pytest.fixture
def checkpoint(task, model, tmp_path):
    """A file of the model whose task has these settings, below ``tmp_path``."""

    def checkpoint(name: str, weights: dict | None = None, state: dict | None = None, **settings) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, model, task, **({"last_optimizer_state": {}} | (state or {})))
        content = torch.load(path, weights_only=False)
        content["cfg"]["task"].update(settings)
        content["model"] = {**content["model"], **(weights or {})}
        content["model"] = {name: weight for name, weight in content["model"].items() if weight is not None}
        torch.save(content, path)
        return path

    return checkpoint


@pytest.fixture
def other_words(data_bin, tmp_path):
    """Data of as many symbols, of which one is another."""
    data = shutil.copytree(data_bin, tmp_path / "there" / "bin")
    for language in ("en", "de"):
        file = data / f"dict.{language}.txt"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(["unheard-of 1\n", *lines[1:]]), encoding="utf-8")
    return data


def refused(call, *arguments, **options) -> str:
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def compared(path: Path, task) -> str | None:
    return check_fit(str(path), read_checkpoint(str(path)), PairedData.of(task), "--teacher-path")


# Languages and direction


def test_a_teacher_of_the_reverse_direction_is_refused(task, checkpoint, data_bin):
    """The dictionary is joined: symbols do not tell."""
    right, reverse = checkpoint("right.pt"), checkpoint("reverse.pt", source_lang="de", target_lang="en")
    line = f"{reverse} (translates de-en, must translate en-de)"
    assert refused(Teacher, [str(reverse)], task) == f"--teacher-path: {line}"
    assert refused(Teacher, [str(right), str(reverse)], task) == f"--teacher-path: {line}"
    words = ["--data", str(data_bin), "--path", str(right), "--against", str(reverse), "--cpu"]
    assert refused(score.main, score.parser().parse_args(words)) == f"--against: {line}"


def test_a_cached_teacher_of_the_reverse_direction_is_refused(checkpoint, data_bin, tmp_path):
    cache = make_cache(tmp_path / "cache", data_bin, checkpoint("teacher.pt"), "--split valid")
    reverse = PairedData.of(make_task(data_bin, source_lang="de", target_lang="en"))
    line = refused(CachedTeacher, [str(cache)], reverse, 1.0, 0)
    assert line == f"--teacher-cache: {cache} (is of a teacher that translates en-de, must translate de-en)"


def test_languages_that_fairseq_has_inferred_are_known_from_the_teachers_data(task, checkpoint, data_bin, tmp_path):
    reverse = data_bin.parent / "reverse"
    if not reverse.exists():
        shutil.copytree(data_bin, reverse)
        for file in reverse.glob("*.en-de.*"):
            file.rename(reverse / file.name.replace(".en-de.", ".de-en."))
    inferred = {"source_lang": None, "target_lang": None}
    assert compared(checkpoint("same.pt", **inferred), task) is None
    other = checkpoint("reverse.pt", data=str(reverse), **inferred)
    assert "translates de-en, must translate en-de" in refused(compared, other, task)
    remembered = {"task_state": {"lskd": {"data": {"pair": "de-en"}}}}
    gone = checkpoint("gone.pt", state=remembered, data=str(tmp_path / "gone"), **inferred)
    assert "translates de-en, must translate en-de" in refused(compared, gone, task)


def test_a_task_of_several_pairs_has_no_pair(task):
    """fairseq keeps its options as ``args``."""
    several = Namespace(data="a:b", source_lang=None, target_lang=None)
    task = Namespace(cfg=None, args=several, source_dictionary=task.src_dict, target_dictionary=task.tgt_dict)
    data = PairedData.of(task)
    assert (data.pair, data.directory) == (None, Path("a"))


# Symbols, and where the teacher's are found


def test_unequal_symbols_are_refused_with_the_first_that_differs(task, checkpoint, other_words):
    theirs, ours = make_task(other_words).source_dictionary[4], task.source_dictionary[4]
    line = refused(compared, checkpoint("t.pt", data=str(other_words)), task)
    found = f"has {theirs!r} as symbol 4 of its source dictionary in {other_words}"
    assert line.endswith(f"({found}, the data have {ours!r})")


def test_a_relative_data_path_is_looked_up_beside_the_checkpoint_and_never_where_the_command_runs(
    checkpoint, data_bin, other_words, tmp_path, monkeypatch
):
    """``here`` and ``there`` have each a directory ``bin`` of as many symbols."""
    shutil.copytree(data_bin, tmp_path / "here" / "bin")
    here, there = make_task(tmp_path / "here" / "bin"), make_task(other_words)
    inferred = {"data": "bin", "source_lang": None, "target_lang": None}
    ours, theirs = checkpoint("here/runs/a/t.pt", **inferred), checkpoint("there/runs/a/t.pt", **inferred)
    for place in ("here", "there"):
        monkeypatch.chdir(tmp_path / place)
        for teacher, task, words in ((theirs, here, other_words), (ours, there, tmp_path / "here" / "bin")):
            assert f"of its source dictionary in {words}, the data have" in refused(compared, teacher, task)
        for teacher, task in ((ours, here), (theirs, there)):
            place = teacher.parents[2] / "bin"
            assert compared(teacher, task) == f"{teacher}: trained on bin, a relative path; compared with {place}"


def test_what_could_not_be_compared_is_said_in_one_line_once(task, checkpoint, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(Path(task.cfg.data).parent)  # where there is such a directory
    inferred = {"source_lang": None, "target_lang": None}
    relative = checkpoint("a.pt", data=Path(task.cfg.data).name, **inferred)
    gone = checkpoint("b.pt", data=str(tmp_path / "gone"))
    say_once.cache_clear()
    for _ in range(2):
        Teacher([str(relative), str(gone)], task)
    (line,) = [each.message for each in caplog.records if each.name.startswith("lskd")]
    missing = "which is not there; not compared: symbols beyond their number"
    first = f"{relative}: trained on {Path(task.cfg.data).name}, {missing}, languages"
    assert line == f"teacher {first}; {gone}: trained on {tmp_path / 'gone'}, {missing}"


def test_a_directory_that_was_made_anew_says_nothing_and_the_remembered_fingerprint_counts(
    task, checkpoint, other_words
):
    def made(dictionary) -> dict:
        fingerprints = dict.fromkeys(("source", "target"), dictionary_fingerprint(dictionary))
        data = {"path": str(other_words), "pair": "en-de", "dictionaries": fingerprints}
        return {"task_state": {"lskd": {"data": data}}}

    ours, theirs = task.source_dictionary, make_task(other_words).source_dictionary
    assert compared(checkpoint("ours.pt", state=made(ours), data="bin"), task) is None
    assert "has 'unheard-of' as symbol 4" in refused(compared, checkpoint("t.pt", state=made(theirs)), task)
    other_words.rename(other_words.parent / "moved")
    assert "has other symbols than the data's source" in refused(compared, checkpoint("t.pt", state=made(theirs)), task)


def test_other_embeddings_than_the_dictionary_has_symbols_are_refused_with_both_numbers(task, checkpoint, data_bin):
    """As of multilingual tasks, which append symbols for languages."""
    symbols = len(task.source_dictionary)
    more = dict.fromkeys(
        [f"{side}.embed_tokens.weight" for side in ("encoder", "decoder")] + ["decoder.output_projection.weight"],
        torch.zeros(symbols + 5, SHAPE["encoder_embed_dim"]),
    )
    path = checkpoint("more.pt", weights=more)
    valid = (
        f"has {symbols + 5} symbols in its source embedding, must have the {symbols} of the data's source dictionary"
    )
    assert refused(Teacher, [str(path)], task) == f"--teacher-path: {path} ({valid})"
    assert refused(score.load, str(path), str(data_bin)) == f"--path: {path} ({valid})"


# Weights


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(task, checkpoint, data_bin, value, model):
    name = "decoder.layers.0.fc1.bias"
    bias = model.state_dict()[name].clone()
    bias[3] = value
    path = checkpoint("nan.pt", weights={name: bias})
    valid = f"1 of the {len(bias)} numbers of its weight {name} are NaN or infinite, must be finite"
    assert refused(Teacher, [str(path)], task) == f"--teacher-path: {path} ({valid})"
    assert refused(score.load, str(path), str(data_bin)) == f"--path: {path} ({valid})"


def test_what_fairseq_never_fills_nor_uses_may_be_anything(task, tmp_path):
    kernels = {"weight_softmax": True, "encoder_conv_type": "lightweight", "decoder_conv_type": "dynamic"}
    sizes = {f"{side}_kernel_size_list": [3] for side in ("encoder", "decoder")}
    model = make_model(task, arch="lightconv", **kernels, **sizes)
    model.args._name = model.args.arch  # as fairseq has it
    unused = model.state_dict()["decoder.layers.0.conv.conv_bias"]  # uninitialised memory
    outputs = []
    for value in (0.0, float("nan")):
        unused.fill_(value)
        teacher = Teacher([str(save_checkpoint(tmp_path / f"{value}.pt", model, task))], task)
        outputs.append(teacher.models[0].eval()(**batch_of(task, [0, 1])["net_input"])[0])
    assert outputs[0].isfinite().all()
    assert torch.equal(*outputs)


def test_missing_and_unexpected_weights_are_named(task, checkpoint, model):
    missing = [name for name in model.state_dict() if name.startswith("decoder.layers.0.fc")]
    more = {"decoder.layers.7.fc1.bias": torch.zeros(2)}
    path = checkpoint("partial.pt", weights=dict.fromkeys(missing) | more)
    line = refused(Teacher, [str(path)], task)
    assert line.startswith(f"--teacher-path: {path} (cannot be built: Missing key(s) in state_dict: ")
    assert ", ".join(f'"{name}"' for name in missing[:3]) + " and 1 more." in line
    assert 'Unexpected key(s) in state_dict: "decoder.layers.7.fc1.bias".' in line
    path = checkpoint("other.pt", weights={missing[0]: torch.zeros(3, 3)})
    assert f"size mismatch for {missing[0]}: copying a param with shape" in refused(Teacher, [str(path)], task)


# Positions


POSITIONS = {
    "sinusoidal": {},
    "learned": {"encoder_learned_pos": True, "decoder_learned_pos": True},
    "fconv": {"arch": "fconv", "encoder_layers": "[(16, 3)]", "decoder_layers": "[(16, 3)]"},
}


@pytest.mark.parametrize("kind", POSITIONS)
def test_a_teacher_of_fewer_positions_than_the_data_need_is_refused(task, tmp_path, capsys, kind):
    sizes = task.dataset("valid").src_sizes
    longest = int(sizes.max())
    path = save_checkpoint(tmp_path / "short.pt", make_model(task, positions=longest - 1, **POSITIONS[kind]), task)
    teacher = Teacher([str(path)], task)
    most = longest - (3 if kind == "fconv" else 1)  # two rows of its table are of no position
    found = f"takes at most {most} source tokens, must take the {longest} of the longest sentence of"
    line = refused(teacher.check_split, task, "valid", (1024, 1024), "--max-{side}-positions {limit}")
    assert line == f"--teacher-path: {path} ({found} valid; --max-source-positions {most})"
    teacher.check_split(task, "valid", (most, most), "")  # the student does not get them either
    with pytest.raises(SystemExit):  # where nobody has checked: fairseq-validate
        make_criterion(task, path)(make_model(task), batch_of(task, [int(sizes.argmax()), 0]))
    assert f"{found} this batch" in capsys.readouterr().err


def test_the_training_sentences_of_each_data_directory_have_to_fit_the_teacher(
    task, data_bin, tmp_path, monkeypatch, capsys
):
    (loaded := make_task(data_bin)).load_dataset("train")
    most = max(int(loaded.dataset(split).sizes.max()) for split in ("train", "valid")) + 2
    path = save_checkpoint(tmp_path / "short.pt", make_model(task, positions=most), task)
    longer = shutil.copytree(data_bin, tmp_path / "longer")
    for language in ("en", "de"):
        builder = make_builder(f"{longer}/train.en-de.{language}.bin", impl="mmap", vocab_size=100)
        builder.add_item(torch.tensor([5] * most + [task.source_dictionary.eos()]))
        builder.finalize(f"{longer}/train.en-de.{language}.idx")
    words = TRAIN.format(data=f"{data_bin}:{longer}", save_dir=tmp_path / "new", teacher=f"--teacher-path {path}")
    line = refusal(words.split(), tmp_path, monkeypatch, capsys)
    found = f"takes at most {most} source tokens, must take the {most + 1} of the longest sentence of train; "
    assert f"--teacher-path: {path} ({found}" in line


def test_padding_is_not_counted_as_tokens(task, tmp_path):
    padded = make_task(task.cfg.data, required_seq_len_multiple=64)
    longest = int(max(padded.dataset("valid").src_sizes.max(), padded.dataset("valid").tgt_sizes.max()))
    options = POSITIONS["learned"] | {"positions": longest}
    path = save_checkpoint(tmp_path / "t.pt", make_model(padded, **options), padded)
    batch = batch_of(padded, [0, 1])
    assert batch["target"].size(1) == 64 > longest
    make_criterion(padded, path)(make_model(padded), batch)


# A training's own files


@pytest.fixture
def training(data_bin, tmp_path, monkeypatch, capsys):
    """How ``fairseq-train`` refuses, with nothing written."""

    def training(teacher: Path | str, save_dir: Path, more: str = "") -> str:
        teacher = teacher and f"--teacher-path {teacher}"
        words = f"{TRAIN} {more}".format(data=data_bin, save_dir=save_dir, teacher=teacher).split()
        return refusal(words, tmp_path, monkeypatch, capsys).removeprefix("fairseq-train: error: ")

    return training


@pytest.mark.slow
@pytest.mark.parametrize("own", ["checkpoint_last.pt", "checkpoint_best.pt", "checkpoint3.pt", "checkpoint_2_40.pt"])
def test_a_teacher_that_the_training_would_overwrite_is_refused(checkpoint, task, tmp_path, own):
    run, teacher = tmp_path / "run", checkpoint(f"run/{own}")
    os.link(teacher, tmp_path / "hard.pt")
    (tmp_path / "soft.pt").symlink_to(teacher)
    (tmp_path / "also").symlink_to(run)
    for path in (teacher, tmp_path / "hard.pt", tmp_path / "soft.pt", tmp_path / "also" / own):
        line = refused(check_own_files, str(run), Teacher([str(path)], task))
        assert line == f"--save-dir: {run} (holds the teacher's checkpoint {path} as {own}; name another)"
        refused(check_own_files, str(tmp_path / "also"), Teacher([str(path)], task))
    copy = Path(shutil.copy(teacher, run / "teacher.pt"))  # fairseq gives no checkpoint that name
    check_own_files(str(run), Teacher([str(copy)], task))


def test_a_cached_teacher_that_the_training_would_overwrite_is_refused(checkpoint, data_bin, tmp_path, task):
    teacher = checkpoint("run/checkpoint_best.pt")
    cache = make_cache(tmp_path / "cache", data_bin, teacher, "--split valid")
    cached = CachedTeacher([str(cache)], PairedData.of(task), 1.0, 0)
    assert "holds the teacher's checkpoint" in refused(check_own_files, str(tmp_path / "run"), cached)
    save_checkpoint(teacher, make_model(task, seed=9), task)  # what is there now is another
    check_own_files(str(tmp_path / "run"), cached)


@pytest.mark.slow
def test_before_it_begins_a_training_looks_for_its_teacher_among_its_files(checkpoint, training, tmp_path):
    teacher = checkpoint("run/checkpoint_best.pt")
    assert training(teacher, tmp_path / "run").startswith("--save-dir: ")


@pytest.mark.slow
def test_a_training_that_resumes_with_another_teacher_is_refused_with_both_fingerprints(
    checkpoint, training, task, tmp_path
):
    teacher = checkpoint("teacher.pt")
    ours, theirs = Teacher([str(teacher)], task).fingerprint, "0123456789ab" * 5 + "0123"
    made = {"teacher": {"paths": ["elsewhere.pt"], "fingerprint": theirs}}
    checkpoint("run/checkpoint_last.pt", state={"task_state": {"lskd": made}})
    valid = f"holds a training with the teacher 0123456789ab, and this one is {ours[:12]} (SHA-256 of the weights)"
    assert training(teacher, tmp_path / "run") == f"--save-dir: {tmp_path / 'run'} ({valid}; name another directory)"
    made["teacher"] |= {"fingerprint": ours, "cache": [{"path": "cache", "format": "topk", "dtype": "fp16"}]}
    checkpoint("run/checkpoint_last.pt", state={"task_state": {"lskd": made}})
    assert "with a cached top-k of this teacher" in training(teacher, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["--restore-file", "--finetune-from-model"])
def test_a_training_does_not_begin_from_weights_that_are_not_finite(checkpoint, training, tmp_path, argument):
    start = checkpoint("start.pt", weights={"encoder.layer_norm.bias": torch.full((2,), torch.nan)})
    line = training(checkpoint("teacher.pt"), tmp_path / "new", f"{argument} {start}")
    assert line.startswith(f"{argument}: {start} (2 of the 2 numbers of its weight encoder.layer_norm.bias are NaN")


# Joined paths


@pytest.mark.parametrize("paths", ["teacher.pt:", ":teacher.pt", "a.pt::b.pt", "a.pt: ", ":"])
def test_an_empty_part_of_joined_paths_is_refused(paths):
    valid = "must be a path, or several joined by ':', none of them empty"
    assert refused(joined_paths, "--teacher-cache", paths) == f"--teacher-cache: {paths} ({valid})"


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--teacher-path", "--teacher-cache"])
def test_an_empty_part_is_refused_by_a_training(training, tmp_path, option):
    assert training("", tmp_path / "new", f"{option} teacher.pt:").startswith(f"{option}: teacher.pt: (must be a path")
