"""Representation files of translation models: compared with what a hook sees, sentence by sentence, unpadded."""

import json

import numpy as np
import pytest
import sentencepiece
import torch
from helpers.small_nmt import make_model, make_task, save_checkpoint

from lskd.io.errors import run_command
from lskd.measure import representation_command
from lskd.measure.representations import read_representations
from lskd.records.fingerprints import weights_fingerprint
from lskd_fairseq import representations
from lskd_fairseq.representations import batches, windows


@pytest.fixture(scope="module")
def task(data_bin):
    return make_task(data_bin)


@pytest.fixture(scope="module")
def model(task):
    return make_model(task).eval()


@pytest.fixture
def checkpoint(tmp_path, model, task):
    (tmp_path / "run").mkdir()
    return save_checkpoint(tmp_path / "run" / "checkpoint_best.pt", model, task)


@pytest.fixture
def command(data_bin, monkeypatch, capsys):
    """Run the command in this process; gives its output, or the line of its refusal."""

    def command(path, *words, data=data_bin, status=0):
        words = [str(word) for part in words for word in (part.split() if isinstance(part, str) else [part])]
        words = ["representations", "--data", str(data), "--path", str(path), "--cpu", *words]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as left:
            run_command(representations.parser(), representations.main)
        said = capsys.readouterr()
        assert left.value.code == status, said.err
        return said.out if not status else said.err.strip().splitlines()[-1]

    return command


def beside(checkpoint, split="validation"):
    return read_representations(checkpoint.with_name(f"{checkpoint.stem}.{split}.representations.safetensors"))


def files(directory):
    return {path.name for path in directory.iterdir()}


EVERYTHING = "--least 1 --keep-per-class 100000"  # the features of all tokens are kept


@pytest.fixture(scope="module")
def independent(task, model):
    """Features that a hook sees entering the output projection, logits and targets, one sentence after the other."""
    dataset, seen, logits, targets = task.dataset("valid"), [], [], []
    hook = model.decoder.output_projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    for number in range(len(dataset)):
        target = dataset.tgt[number]
        previous = torch.cat([target[-1:], target[:-1]])
        with torch.no_grad():
            source = dataset.src[number]
            logits.append(model(source[None], torch.tensor([len(source)]), previous[None])[0][0])
        targets.append(target)
    hook.remove()
    return tuple(torch.cat(each).double().numpy() for each in (seen, logits)) + (torch.cat(targets).numpy(),)


def close(found, expected, tolerance=1e-5):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(found, np.float64) / scale, expected / scale, rtol=0, atol=tolerance)


def test_features_and_logits_are_those_that_a_hook_sees(task, checkpoint, command, independent):
    command(checkpoint, EVERYTHING)
    found = beside(checkpoint)
    features, logits, targets = independent
    assert found.labels.tolist() == targets.tolist()
    assert found.index.tolist() == list(range(len(targets)))
    assert found.complete
    close(found.features, features)
    close(found.logits(), logits)
    assert found.bias is None
    assert found.class_names == task.target_dictionary.symbols


def test_labels_are_the_raw_target_side_token_by_token(task, data_bin, checkpoint, command):
    command(checkpoint, EVERYTHING)
    pieces = sentencepiece.SentencePieceProcessor(str(data_bin / "sentencepiece.model"))
    expected = []
    for line in (data_bin / "raw" / "valid.de").read_text(encoding="utf-8").splitlines():
        expected += [*pieces.encode(line, out_type=str), "</s>"]
    found = beside(checkpoint)
    known = set(found.class_names)
    assert [found.class_names[label] for label in found.labels] == [
        piece if piece in known else "<unk>" for piece in expected
    ]
    assert "<pad>" not in {found.class_names[label] for label in found.labels}


def test_moments_accuracy_and_entropy_are_those_of_all_tokens(task, checkpoint, command, independent):
    command(checkpoint, "--keep-per-class 0 --temperatures 1 3")
    found = beside(checkpoint)
    features, logits, targets = independent
    assert found.features.shape == (0, features.shape[1])
    assert found.moments.counts.tolist() == np.bincount(targets, minlength=len(found.class_names)).tolist()
    present = np.unique(targets)
    centroids = np.stack([features[targets == label].mean(0) for label in present])
    close(found.moments.centroids()[present], centroids)
    deviations = sum(
        ((features[targets == label] - each) ** 2).sum() for label, each in zip(present, centroids, strict=True)
    )
    assert found.moments.squared_deviations().sum() == pytest.approx(deviations, rel=1e-4)
    order = np.argsort(-logits, axis=1, kind="stable")
    for row, top in enumerate((1, 5)):
        right = (order[:, :top] == targets[:, None]).any(1)
        assert found.correct[row].tolist() == np.bincount(targets[right], minlength=len(found.class_names)).tolist()
    assert 0 < found.correct[1].sum() < len(targets)
    assert found.entropy[:, 0].tolist() == [1, 3]
    for temperature, total, _ in found.entropy:
        p = torch.from_numpy(logits / temperature).softmax(1)
        assert total == pytest.approx(torch.special.entr(p).sum().item(), rel=1e-5)


@pytest.mark.parametrize(("max_tokens", "window"), [(1, 1024), (60, 1024), (4000, 5), (60, 1)])
def test_neither_batches_nor_windows_change_what_is_recorded(
    task, checkpoint, command, independent, monkeypatch, max_tokens, window
):
    monkeypatch.setattr(representations, "WINDOW", window)
    command(checkpoint, EVERYTHING, "--max-tokens", max_tokens)
    found = beside(checkpoint)
    features, _, targets = independent
    assert found.labels.tolist() == targets.tolist()
    close(found.features, features)


def test_windows_give_no_more_than_their_sentences_at_once(task, model, monkeypatch):
    monkeypatch.setattr(representations, "WINDOW", 5)
    dataset = task.dataset("valid")
    with torch.no_grad():
        found = [len(labels) for _, labels in windows(model, dataset, task.target_dictionary.pad(), 4000)]
    lengths = [len(dataset.tgt[number]) for number in range(len(dataset))]
    assert found == [sum(lengths[start : start + 5]) for start in range(0, len(lengths), 5)]


def test_batches_hold_every_sentence_once_and_at_most_so_many_tokens(task):
    dataset = task.dataset("valid")
    found = list(batches(dataset, range(3, len(dataset)), 40))
    assert sorted(number for batch in found for number in batch) == list(range(3, len(dataset)))
    assert max(len(batch) for batch in found) > 1
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(max(dataset.size(number)) for number in batch) <= 40
    alone = list(batches(dataset, range(len(dataset)), 1))
    assert [len(batch) for batch in alone] == [1] * len(dataset)


def test_two_models_on_one_split_have_the_same_samples(task, checkpoint, command, tmp_path):
    other = save_checkpoint(tmp_path / "other.pt", make_model(task, seed=1, decoder_layers=2), task)
    command(checkpoint)
    command(other, "--max-tokens 70")
    one, two = beside(checkpoint), beside(other)
    assert one.labels.tolist() == two.labels.tolist()
    assert one.index.tolist() == two.index.tolist()
    assert not np.allclose(one.features, two.features)


def test_tokens_that_begin_a_word_are_kept_at_most_200_each(task, checkpoint, command, independent):
    command(checkpoint, "--split train valid")
    targets = independent[2]
    for split in ("train", "validation"):
        found = beside(checkpoint, split)
        kept = np.bincount(found.labels, minlength=len(found.class_names))
        expected = [
            min(count, 200) if name.startswith("▁") else 0
            for name, count in zip(found.class_names, found.moments.counts.tolist(), strict=True)
        ]
        assert kept.tolist() == expected
        if split == "validation":
            begin = [number for number, label in enumerate(targets) if found.class_names[label].startswith("▁")]
            assert found.index.tolist() == begin
        else:
            assert max(found.moments.counts[kept > 0]) > 200


def test_a_vocabulary_without_word_beginnings_keeps_all(task, checkpoint, command, independent, monkeypatch):
    arguments = representations.parser().parse_args(["--data", "d", "--path", "p"])
    assert representations.kept_classes(arguments, ["the@@", "m"], None) is None
    assert representations.kept_classes(arguments, ["▁the", "m"], None) == [0]


def test_classes_can_be_chosen_by_name_and_by_number_of_samples(task, checkpoint, command, independent):
    targets = independent[2]
    counts = np.bincount(targets, minlength=len(task.target_dictionary))
    command(checkpoint, "--least 8")
    found = beside(checkpoint)
    assert set(found.labels.tolist()) == set(np.flatnonzero(counts >= 8).tolist())
    assert not all(found.class_names[label].startswith("▁") for label in found.labels)
    names = [task.target_dictionary.symbols[label] for label in np.argsort(-counts)[[0, 3, 40]]]
    command(checkpoint, "--keep-classes", *names, "--least 8 --keep-per-class 3")
    found = beside(checkpoint)
    frequent = [name for name in names if counts[found.class_names.index(name)] >= 8]
    assert 1 < len(frequent) < 3
    assert sorted(found.class_names[label] for label in found.labels) == sorted(frequent * 3)
    assert found.moments.counts.tolist() == counts.tolist()


def test_half_precision_halves_the_features_and_leaves_the_moments(checkpoint, command):
    command(checkpoint)
    full = beside(checkpoint)
    command(checkpoint, "--dtype float16")
    half = beside(checkpoint)
    assert half.features.dtype == np.float16
    close(half.features, np.asarray(full.features, np.float64), 1e-3)
    np.testing.assert_array_equal(half.moments.centroids(), full.moments.centroids())


def test_an_output_projection_of_its_own_is_recorded(task, command, tmp_path):
    model = make_model(task, arch="transformer_tiny")
    path = save_checkpoint(tmp_path / "own.pt", model, task)
    command(path)
    weight = model.decoder.output_projection.weight.detach().numpy()
    assert not np.allclose(weight, model.decoder.embed_tokens.weight.detach().numpy())
    assert np.array_equal(beside(path).weight, weight)


def test_a_file_says_where_it_came_from(task, model, data_bin, checkpoint, command, tmp_path):
    command(checkpoint)
    about = beside(checkpoint).provenance
    assert (about["kind"], about["layer"], about["model"]) == ("translation", "decoder", "transformer")
    assert (about["checkpoint"], about["split"]) == (str(checkpoint), "validation")
    assert about["fingerprint"] == weights_fingerprint(model.state_dict())
    # The smoothing that fairseq's own configuration tells, as the paper's α.
    alpha = 0.1 * len(task.target_dictionary) / (len(task.target_dictionary) - 1)
    assert about["configuration"] == {"label_smoothing": pytest.approx(alpha)}
    assert (about["seed"], about["teacher"]) == (None, None)
    assert about["samples"] == int(beside(checkpoint).moments.counts.sum())
    assert (about["data"]["path"], about["data"]["dataset"]) == (str(data_bin), "en-de")
    assert len(about["data"]["fingerprint"]) == 64
    assert json.loads(json.dumps(about)) == about
    assert about.keys() == {
        *("kind", "layer", "model", "checkpoint", "fingerprint", "moving_average", "split", "samples", "seed"),
        *("configuration", "teacher", "data", "command", "versions", "hardware", "revision", "made"),
    }

    made = {
        "configuration": {"temperature": 3.0, "kd_weight": 1.0, "label_smoothing": 0.0, "label_smoothing_epsilon": 0.0}
    }
    made |= {"seed": 7, "teacher": {"paths": ["teacher.pt"], "fingerprint": "f"}}
    ours = save_checkpoint(tmp_path / "ours.pt", model, task, task_state={"lskd": made})
    exported = save_checkpoint(tmp_path / "exported.pt", model, task, lskd=made)
    for path in (ours, exported):
        command(path)
        about = beside(path).provenance
        assert about["configuration"] == {"temperature": 3.0, "kd_weight": 1.0, "label_smoothing": 0.0}
        assert (about["seed"], about["teacher"]) == (7, made["teacher"])


def test_what_cannot_be_recorded_is_refused_in_one_line_and_nothing_is_written(
    task, model, checkpoint, data_bin, command, monkeypatch
):
    run = checkpoint.parent
    kept = run / "checkpoint_best.validation.representations.safetensors"
    kept.write_text("from before")
    state = model.state_dict()
    broken = make_model(task)
    with torch.no_grad():
        broken.load_state_dict(state)
        broken.decoder.layers[0].fc1.bias.fill_(float("nan"))
        save_checkpoint(run / "nan.pt", broken, task)
        broken.decoder.layers[0].fc1.bias.fill_(3e38)
        save_checkpoint(run / "huge.pt", broken, task)
    save_checkpoint(run / "lstm.pt", make_model(task, arch="lstm"), task)
    short = make_model(task)
    short.args.max_target_positions = 4
    short.args.max_source_positions = 4
    save_checkpoint(run / "short.pt", short, task)
    (run / "notes.txt").write_text("no checkpoint")
    before = files(run)
    for name, words, expected in (
        ("no.pt", "", "must be the path of an existing checkpoint file"),
        ("notes.txt", "", "cannot be read as a fairseq checkpoint"),
        ("nan.pt", "", "of its weight decoder.layers.0.fc1.bias are NaN or infinite"),
        ("huge.pt", "", "features: not a finite number in sample 0"),
        ("lstm.pt", "", "has a LSTMDecoder, must have an output projection"),
        ("short.pt", "", "sentences are longer than the model's"),
        ("checkpoint_best.pt", "--split nonsense", "--split: nonsense"),
        ("checkpoint_best.pt", "--split valid nonsense", "--split: nonsense"),
        ("checkpoint_best.pt", "--split valid valid", "must not repeat a split"),
        (
            "checkpoint_best.pt",
            "--keep-classes ▁diee",
            "--keep-classes: '▁diee' (must be a class, such as ▁die",
        ),
        ("checkpoint_best.pt", "--keep-per-class -1", "--keep-per-class: -1"),
        ("checkpoint_best.pt", "--least 0", "--least"),
        ("checkpoint_best.pt", "--max-tokens 0", "--max-tokens"),
        ("checkpoint_best.pt", "--temperatures -1", "--temperatures"),
        ("checkpoint_best.pt", f"--output {run}/figures.csv", "must end in .representations.safetensors"),
    ):
        line = command(run / name, words, status=2)
        assert expected in line
    assert "--data" in command(checkpoint, data=run / "nowhere", status=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "WORLD_SIZE: 2 (must be 1" in command(checkpoint, status=2)
    assert files(run) == before
    assert kept.read_text() == "from before"


def test_a_decoder_that_does_more_after_its_features_is_refused(task, checkpoint, command, monkeypatch):
    monkeypatch.setattr(
        "fairseq.models.transformer.TransformerDecoderBase.output_layer",
        lambda decoder, features: 5 * torch.tanh(decoder.output_projection(features) / 5),
    )
    assert "has logits that are not its last layer's of its features" in command(checkpoint, status=2)


def test_an_interrupted_pass_leaves_nothing_behind(checkpoint, command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(representation_command.Recording, "add", interrupted)
    assert "interrupted" in command(checkpoint, status=130)
    assert files(checkpoint.parent) == {"checkpoint_best.pt"}
