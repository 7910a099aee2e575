"""Sequence-level distillation: the teacher's translations of the training split as data to train on."""

import json
import shutil

import pytest
import sacrebleu
import torch
from fairseq.data.data_utils import infer_language_pair, load_indexed_dataset
from helpers.commands import run, train
from helpers.small_nmt import make_model, make_task, save_checkpoint

from lskd.io.errors import run_command
from lskd_fairseq import distil_data, text, translation_parts
from lskd_fairseq.score import load
from lskd_fairseq.splits import load_split
from lskd_fairseq.translate import Search, hypotheses, translate

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(translation_parts, "PART", 150)


@pytest.fixture
def command(data_bin, teacher, monkeypatch, capsys):
    """Run the command in this process; gives its output, or the line of its refusal."""

    def command(dest, options="", data=data_bin, path=teacher, status=0):
        words = ["distil_data", "--data", data, "--path", path, "--dest", dest, "--cpu", *options.split()]
        monkeypatch.setattr("sys.argv", list(map(str, words)))
        with pytest.raises(SystemExit) as left:
            run_command(distil_data.parser(), distil_data.main)
        said = capsys.readouterr()
        assert left.value.code == status, said.err
        return said.out if not status else said.err.strip().splitlines()[-1]

    return command


@pytest.fixture(scope="module")
def loaded(data_bin, teacher):
    """The teacher's model, and its task with the training split."""
    model, task = load(str(teacher), str(data_bin))
    load_split(task, str(data_bin), "train")
    return model.eval(), task


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def sentences(directory, language, dictionary):
    found = load_indexed_dataset(str(directory / f"train.en-de.{language}"), dictionary, None)
    return [found[number].tolist() for number in range(len(found))]


def test_each_sentence_has_the_teachers_best_translation_and_everything_else_is_as_it_was(
    command, data_bin, loaded, tmp_path
):
    said = command(tmp_path / "made", "--beam 2")
    model, task = loaded
    dictionary, dataset = task.target_dictionary, task.dataset("train")
    found = dict(hypotheses([model], task, "train", range(len(dataset)), Search(beam=2)))
    expected = [found[number][0]["tokens"].tolist() for number in range(len(dataset))]
    assert sentences(tmp_path / "made", "de", dictionary) == expected
    assert sentences(tmp_path / "made", "en", dictionary) == [dataset.src[n].tolist() for n in range(len(dataset))]
    theirs, ours = contents(data_bin), contents(tmp_path / "made")
    assert theirs.keys() == ours.keys()
    changed = {str(path) for path in ours if ours[path] != theirs[path]}
    assert changed == {"manifest.json", "raw/train.de", "train.en-de.de.bin", "train.en-de.de.idx"}
    lines = (tmp_path / "made" / "raw" / "train.de").read_text().splitlines()
    decode = text.Detokeniser(dictionary, "de", text.chosen_postprocessing(data_bin, dictionary, dataset))
    assert lines == translate([model], task, "train", decode, beam=2)
    manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
    made = manifest["distilled"]
    equal = sum(a == dataset.tgt[n].tolist() for n, a in enumerate(expected))
    assert made["counts"]["translated"] == made["counts"]["pairs"] == len(dataset) == made["sentences"]
    assert made["counts"]["equal_to_the_reference"] == equal
    assert manifest["counts"]["train"]["sentences"] == len(dataset)
    assert f"{len(dataset)} sentences translated en-de with beam 2, {equal} of them as the reference" in said
    assert not (tmp_path / "made.parts").exists()
    assert command(tmp_path / "made", "--beam 2") == f"{tmp_path / 'made'} is ready\n"


def test_the_name_of_a_teacher_may_have_a_colon(command, teacher, tmp_path):
    path = tmp_path / "run:1" / "teacher.pt"
    path.parent.mkdir()
    shutil.copy(teacher, path)
    command(tmp_path / "made", "--beam 1", path=path)
    assert text.manifest(tmp_path / "made")["distilled"]["teacher"]["paths"] == [str(path)]


def test_data_of_a_reverse_teacher_have_its_direction_in_all_of_their_names(command, data_bin, tmp_path):
    task = make_task(data_bin, source_lang="de", target_lang="en")
    reverse = save_checkpoint(tmp_path / "reverse.pt", make_model(task), task)
    data = shutil.copytree(data_bin, tmp_path / "data")
    for suffix in ("bin", "idx"):
        shutil.copy(data / f"valid.en-de.en.{suffix}", data / f"valid.align.en-de.{suffix}")
        for language in ("en", "de"):  # a split that is there in both directions
            shutil.copy(data / f"test.en-de.{language}.{suffix}", data / f"test.de-en.{language}.{suffix}")
    said = command(tmp_path / "made", "--beam 1", data=data, path=reverse)
    assert "sentences translated de-en with beam 1" in said
    assert infer_language_pair(str(tmp_path / "made")) == ["de", "en"]
    assert not [*(tmp_path / "made").glob("*.en-de.*"), *(tmp_path / "made").glob("*.align.*")]
    made = make_task(tmp_path / "made", source_lang=None, target_lang=None)
    for split in ("train", "valid", "test"):
        load_split(made, str(tmp_path / "made"), split)
        load_split(task, str(data_bin), split)
        assert len(made.dataset(split)) == len(task.dataset(split))
        assert torch.equal(made.dataset(split)[0]["source"], task.dataset(split)[0]["source"])


def test_a_killed_command_resumes_and_several_processes_share_the_work_to_the_same_bytes(
    command, teacher, data_bin, tmp_path, monkeypatch
):
    command(tmp_path / "whole", "--beam 1")
    write, written = distil_data.write_json, []

    def kill(path, value):
        if written:
            raise KeyboardInterrupt
        write(path, value)
        written.append(path.name)

    monkeypatch.setattr(distil_data, "write_json", kill)
    command(tmp_path / "made", "--beam 1", status=130)
    assert sorted(path.name for path in (tmp_path / "made.parts").glob("*.json")) == ["part-000000.json", "plan.json"]
    assert not (tmp_path / "made").exists()
    monkeypatch.setattr(distil_data, "write_json", write)
    refused = command(tmp_path / "made", "--beam 2", status=2)
    assert refused.endswith("made.parts (is of another beam; name a new directory, or remove it)")
    monkeypatch.setattr(translation_parts, "PART", 1024)  # as in the processes: the size it was begun with counts
    words = ["python -m lskd nmt distil-data --cpu --beam 1 --processes 2 --data", data_bin, "--path", teacher]
    run(*words, "--dest", tmp_path / "made")
    whole, made = contents(tmp_path / "whole"), contents(tmp_path / "made")
    assert whole == made


def test_stock_fairseq_trains_on_it_and_word_level_distillation_on_top(command, teacher, tmp_path):
    command(tmp_path / "made", "--beam 1")
    options = "--max-epoch 1 --no-epoch-checkpoints --criterion"
    train(tmp_path / "made", tmp_path / "stock", f"{options} cross_entropy")
    train(tmp_path / "made", tmp_path / "kd", f"{options} kd --temperature 1 --teacher-path", teacher)
    record = json.loads((tmp_path / "kd" / "run.json").read_text())
    assert record["data"]["distilled"]["beam"] == 1
    assert record["data"]["distilled"]["teacher"]["fingerprint"] == record["teacher"]["fingerprint"]
    assert (tmp_path / "stock" / "checkpoint_best.pt").exists()


def test_interpolation_keeps_the_references_as_pairs_of_their_own(command, data_bin, loaded, tmp_path):
    said = command(tmp_path / "made", "--beam 1 --interpolate")
    dictionary = loaded[1].target_dictionary
    sources, targets = (sentences(data_bin, language, dictionary) for language in ("en", "de"))
    assert sentences(tmp_path / "made", "en", dictionary) == 2 * sources
    assert sentences(tmp_path / "made", "de", dictionary)[len(targets) :] == targets
    raw = (tmp_path / "made" / "raw" / "train.de").read_text().splitlines()
    assert raw[len(targets) :] == (data_bin / "raw" / "train.de").read_text().splitlines()
    assert f"{2 * len(targets)} pairs, the references among them" in said


def test_of_the_beam_the_translation_that_is_most_like_the_reference_is_taken(command, data_bin, loaded, tmp_path):
    command(tmp_path / "made", "--beam 4 --nbest-by-bleu")
    model, task = loaded
    dataset, dictionary = task.dataset("train"), task.target_dictionary
    decode = text.Detokeniser(dictionary, "de", text.chosen_postprocessing(data_bin, dictionary, dataset))
    made = sentences(tmp_path / "made", "de", dictionary)
    others = 0
    for number, found in hypotheses([model], task, "train", range(len(dataset)), Search(beam=4)):
        reference = [decode(dataset.tgt[number])]
        scores = [sacrebleu.sentence_bleu(decode(each["tokens"]), reference).score for each in found]
        chosen = sacrebleu.sentence_bleu(decode(torch.tensor(made[number])), reference).score
        assert chosen == max(scores)
        assert made[number] in [each["tokens"].tolist() for each in found]
        others += made[number] != found[0]["tokens"].tolist()
    assert others > 0


def test_what_cannot_be_made_is_refused_in_one_line(command, data_bin, teacher, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    assert command(tmp_path / "there", status=2).endswith("there (must be a new directory)")
    assert "must be a directory made by fairseq-preprocess" in command(
        tmp_path / "made", data=tmp_path / "no", status=2
    )
    assert "--path" in command(tmp_path / "made", path=tmp_path / "no.pt", status=2)
    copy = tmp_path / "copy"
    shutil.copytree(data_bin, copy)
    contradiction = "--remove-bpe letter --detokenize sentencepiece"
    for options in (contradiction, f"--nbest-by-bleu {contradiction}"):
        assert "--remove-bpe: letter (must be sentencepiece" in command(tmp_path / "made", options, copy, status=2)
    (copy / "raw" / "train.en").write_text("a line")
    assert "raw/train.en (has 1 lines, the train split has" in command(tmp_path / "made", data=copy, status=2)
    assert not (tmp_path / "made.parts").exists()  # nothing was translated


def test_how_translations_become_text_can_be_chosen(command, data_bin, loaded, tmp_path):
    command(tmp_path / "made", "--beam 1 --remove-bpe none --detokenize none")
    dictionary = loaded[1].target_dictionary
    symbols = [torch.tensor(row) for row in sentences(tmp_path / "made", "de", dictionary)]
    lines = (tmp_path / "made" / "raw" / "train.de").read_text().splitlines()
    assert lines == [dictionary.string(each, unk_string=text.UNKNOWN) for each in symbols]
    assert command(tmp_path / "made", "--beam 1", status=2).endswith(
        "of another remove_bpe; name a new directory, or remove it)"
    )
    words = ["--data", str(data_bin), "--path", "a.pt", "--dest", str(tmp_path / "b"), "--remove-bpe"]
    arguments = distil_data.parser().parse_args([*words, "--detokenize", "moses", "--nbest-by-bleu"])
    assert distil_data.parser().parse_args(distil_data.words(arguments)) == arguments  # as its processes are told
