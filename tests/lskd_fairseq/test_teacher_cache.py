"""Students of cached teachers, compared with students of the same teachers online."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from helpers.small_nmt import batch_of, make_cache, make_criterion, make_model, make_task, save_checkpoint
from omegaconf import OmegaConf
from safetensors.numpy import load_file, save_file

from lskd.io.errors import InputError
from lskd.io.files import sha256
from lskd.io.tensor_files import write_tensors
from lskd_fairseq import representations
from lskd_fairseq.cache.cached_teacher import sentence_hashes
from lskd_fairseq.cache.manifest import read_manifest, write_manifest
from lskd_fairseq.cache.shards import open_cache
from lskd_fairseq.options import KDConfig
from lskd_fairseq.task import KDTaskConfig
from lskd_fairseq.training_checks import check_config

TOLERANCE = {"fp16": 1e-3, "fp32": 1e-5}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="module")
def caches(data_bin, teacher_path, place):
    """Caches of one teacher by name: both types, several shards, and two sizes of top-k."""
    whole = len(make_task(data_bin).target_dictionary)
    kinds = {
        "fp16": "--dtype fp16",
        "fp32": "--dtype fp32 --shard-mb 0.1",
        "top8": "--format topk --topk 8 --dtype fp32",
        "all": f"--format topk --topk {whole} --temperatures 1 2.5 --dtype fp32",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(representations, "WINDOW", 50)
        return {name: make_cache(place / name, data_bin, teacher_path, words) for name, words in kinds.items()}


@pytest.fixture
def cache(caches, tmp_path):
    """A copy of a cache, to be damaged."""
    return shutil.copytree(caches["fp32"], tmp_path / "cache")


def gradient(task, batch, teacher_path=None, **options) -> tuple[torch.Tensor, dict]:
    """The gradient of one student on a batch, in one vector, and what is logged."""
    student = make_model(task, seed=2, dropout=0)
    loss, _, log = make_criterion(task, teacher_path, **options)(student, batch)
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in student.parameters()]), log


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("T", [1, 3, 64])
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_cached_features_give_the_gradient_of_the_teacher_itself(task, teacher_path, caches, dtype, T):
    batch = batch_of(task, [0, 3, 7, 11])
    assert batch["target"].eq(task.tgt_dict.pad()).any()
    expected, log = gradient(task, batch, teacher_path, temperature=T)
    found, cached_log = gradient(task, batch, teacher_cache=str(caches[dtype]), temperature=T)
    assert 0 < distance(found, expected) <= TOLERANCE[dtype]
    for name in ("kd_loss", "nll_loss", "teacher_entropy"):
        assert cached_log[name].item() == pytest.approx(log[name].item(), rel=10 * TOLERANCE[dtype])


@pytest.mark.parametrize(
    "options", [{"kd_weight": 0.9, "label_smoothing": 0.1, "teacher_topk": 4}, {"teacher_topk": 8}]
)
@pytest.mark.parametrize("name", ["fp32", "top8", "all"])
def test_the_top_k_of_a_cache_are_those_of_the_teacher(task, teacher_path, caches, name, options):
    batch = batch_of(task, [0, 3, 7, 11])
    expected, _ = gradient(task, batch, teacher_path, temperature=2, **options)  # no cache was made for this T
    assert (
        distance(gradient(task, batch, teacher_cache=str(caches[name]), temperature=2, **options)[0], expected) < 1e-5
    )


def test_validation_against_a_cache_has_the_fidelity_to_the_teacher_itself_but_no_kl_of_the_top_k(
    task, teacher_path, caches
):
    student, batch = make_model(task, seed=2).eval(), batch_of(task, [0, 3, 7, 11])

    def fidelity(path=None, **options):
        log = make_criterion(task, path, temperature=2, **options)(student, batch)[2]
        return {name: log[name].item() for name in ("teacher_agreement", "teacher_kl") if name in log}

    expected = fidelity(teacher_path)
    assert fidelity(teacher_cache=str(caches["fp32"])) == pytest.approx(expected, rel=1e-5)
    found = fidelity(teacher_cache=str(caches["top8"]), teacher_topk=8)
    assert found == {"teacher_agreement": expected["teacher_agreement"]}


def test_all_symbols_with_their_normaliser_are_the_whole_distribution(task, teacher_path, caches):
    batch = batch_of(task, [0, 3, 7, 11])
    expected, _ = gradient(task, batch, teacher_path, temperature=2.5)
    assert distance(gradient(task, batch, teacher_cache=str(caches["all"]), temperature=2.5)[0], expected) < 1e-5


def test_a_top_k_with_its_normaliser_is_nearer_to_the_teacher_than_one_that_is_renormalised(task, teacher_path, caches):
    batch = batch_of(task, [0, 3, 7, 11])
    expected, _ = gradient(task, batch, teacher_path, temperature=3)
    top8 = {"teacher_cache": str(caches["top8"]), "temperature": 3}
    assert distance(gradient(task, batch, **top8)[0], expected) < 0.5 * distance(
        gradient(task, batch, **top8, teacher_topk=8)[0], expected
    )


def test_stored_top_k_are_the_largest_logits_and_what_all_of_them_sum_up_to(task, teacher_model, caches):
    batch = batch_of(task, [5, 2])
    keep = batch["target"].ne(task.tgt_dict.pad())
    with torch.no_grad():
        logits = teacher_model(**batch["net_input"])[0][keep].double()
    logits -= logits.amax(1, keepdim=True)
    teacher = make_criterion(task, teacher_cache=str(caches["top8"]), temperature=64).teacher
    found = teacher.logits(batch, keep, like=logits.float())
    values, symbols = logits.topk(8)
    torch.testing.assert_close(found.values.double(), values, atol=1e-5, rtol=0)
    assert torch.equal(found.indices, symbols)
    torch.testing.assert_close(found.log_normaliser.double(), torch.logsumexp(logits / 64, 1), atol=1e-5, rtol=0)


def test_sentences_are_found_in_any_order_and_company_in_every_split_wherever_the_padding_is(
    task, teacher_model, caches
):
    teacher = make_criterion(task, teacher_cache=str(caches["fp32"])).teacher
    assert sum(file.split == "train" for file in read_manifest(caches["fp32"]).files) > 3
    for split, indices in (("train", [401, 3, 77, 550, 12, 3]), ("valid", [11, 0, 7]), ("train", [0])):
        for left_pad in (False, True):
            dataset = task.dataset(split)
            dataset.left_pad_target, dataset.left_pad_source = left_pad, not left_pad
            batch = batch_of(task, indices, split)
            dataset.left_pad_target, dataset.left_pad_source = False, True
            keep = batch["target"].ne(task.tgt_dict.pad())
            with torch.no_grad():
                expected = teacher_model(**batch["net_input"])[0][keep]
                (found,) = teacher.logits(batch, keep, like=expected)
            torch.testing.assert_close(found[:], expected, atol=1e-4, rtol=1e-5)


def test_hashes_tell_every_sentence_of_the_data_from_every_other(task):
    dataset = task.dataset("train")
    pairs = {(tuple(dataset[i]["source"].tolist()), tuple(dataset[i]["target"].tolist())) for i in range(len(dataset))}
    batch = batch_of(task, list(range(len(dataset))), "train")
    hashes = sentence_hashes(batch["net_input"]["src_tokens"], batch["target"], task.tgt_dict.pad())
    assert len(set(hashes.tolist())) == len(pairs)


def test_hashes_depend_on_places_and_sides_and_not_on_padding():
    def hashed(source, target):
        return sentence_hashes(torch.tensor([source]), torch.tensor([target]), pad=1).item()

    known = hashed([5, 6, 2], [7, 2])
    assert known == hashed([1, 5, 6, 2, 1], [1, 1, 7, 2])
    others = [
        hashed(*pair) for pair in (([6, 5, 2], [7, 2]), ([7, 2], [5, 6, 2]), ([5, 6], [2, 7, 2]), ([5, 6, 2], [7]))
    ]
    assert len({known, *others}) == 5


def test_several_caches_are_averaged_as_several_teachers_are(task, data_bin, teacher_path, caches, tmp_path):
    second = save_checkpoint(tmp_path / "second.pt", make_model(task, seed=9), task)
    other = make_cache(tmp_path / "other", data_bin, second, "--dtype fp32 --split valid")
    batch = batch_of(task, [0, 3, 5])
    expected, _ = gradient(task, batch, f"{teacher_path}:{second}", temperature=2)
    assert distance(gradient(task, batch, teacher_cache=f"{caches['fp32']}:{other}", temperature=2)[0], expected) < 1e-5
    online = make_criterion(task, f"{teacher_path}:{second}").teacher.record()
    cached = make_criterion(task, teacher_cache=f"{caches['fp32']}:{other}").teacher.record()
    assert len(cached.pop("cache")) == 2
    assert cached == online


def test_the_record_is_that_of_the_teacher_itself_and_names_the_cache(task, teacher_path, caches):
    record = make_criterion(task, teacher_cache=str(caches["fp16"])).teacher.record()
    assert record.pop("cache") == [{"path": str(caches["fp16"]), "format": "features", "dtype": "fp16"}]
    assert record == make_criterion(task, teacher_path).teacher.record()


def test_nothing_of_the_teacher_is_loaded_registered_or_drawn_at_random(task, teacher_path, caches):
    before = torch.get_rng_state()
    criterion = make_criterion(task, teacher_path, teacher_cache=str(caches["fp16"]))
    assert torch.equal(torch.get_rng_state(), before)
    assert criterion.teacher.models == []
    assert criterion.state_dict() == {}
    assert list(criterion.parameters()) == []


def test_the_cached_teacher_takes_on_the_students_dtype(task, caches):
    student = make_model(task).double()
    criterion = make_criterion(task, teacher_cache=str(caches["fp16"]))
    criterion(student, batch_of(task, [0, 1]))
    batch = batch_of(task, [0, 1])
    (logits,) = criterion.teacher.logits(batch, batch["target"].ne(1), like=torch.zeros((), dtype=torch.float64))
    assert logits[:].dtype == torch.float64


@pytest.mark.parametrize(("temperature", "warned"), [(2.0, True), (1.0, False)])
def test_the_papers_rule_is_told_of_a_cached_teacher_too(task, caches, temperature, warned):
    warnings = make_criterion(task, teacher_cache=str(caches["fp16"]), temperature=temperature).warnings()
    assert bool(warnings) is warned


def test_a_cached_teachers_score_is_the_remembered_one_or_none(data_bin, task, teacher_path, caches):
    def scores(**options):
        fresh = make_task(data_bin)
        make_criterion(fresh, **options)
        fresh.begin_epoch(1, make_model(fresh))
        return fresh.teacher_scores

    cache = {"teacher_cache": str(caches["fp16"])}
    assert scores(**cache) is None
    online = scores(teacher_path=teacher_path)
    assert scores(**cache) == online != {}


def test_without_the_cache_validation_gives_nll_and_training_is_refused(task, tmp_path, capsys):
    criterion = make_criterion(task, teacher_cache=str(tmp_path / "gone"))
    student, batch = make_model(task).eval(), batch_of(task, [0, 1])
    with torch.no_grad():
        _, _, log = criterion(student, batch)
    assert log["loss"] == log["nll_loss"]
    with pytest.raises(SystemExit) as left:
        criterion(student.train(), batch)
    assert left.value.code == 2
    assert f"--teacher-cache: {tmp_path / 'gone'} (must be an existing cache)" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["truncated", "other", "target"])
def test_a_batch_that_is_not_in_the_cache_ends_in_one_line(task, caches, capsys, change):
    criterion, batch = make_criterion(task, teacher_cache=str(caches["fp16"])), batch_of(task, [0, 3])
    source = batch["net_input"]["src_tokens"]
    if change == "truncated":
        batch["net_input"]["src_tokens"] = source[:, :-2]
    elif change == "other":
        source[0, -2] = 11 if source[0, -2] != 11 else 12
    else:
        batch["target"][0, 0] = 11 if batch["target"][0, 0] != 11 else 12
    with pytest.raises(SystemExit) as left:
        criterion(make_model(task), batch)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--teacher-cache: {caches['fp16']} (must hold the sentences of this batch, has train, valid:" in line


def rewritten(cache, number, **changes):
    """Change tensors of a file of a cache, and its checksum with it."""
    manifest = read_manifest(cache)
    file = manifest.files[number]
    tensors = {name: tensor for name, tensor in (load_file(cache / file.name) | changes).items() if tensor is not None}
    save_file(tensors, cache / file.name)
    files = list(manifest.files)
    files[number] = dataclasses.replace(
        file, bytes=(cache / file.name).stat().st_size, sha256=sha256(cache / file.name)
    )
    write_manifest(cache, dataclasses.replace(manifest, files=files))


def edited(cache, change):
    """Change cache.json."""
    content = json.loads((cache / "cache.json").read_text())
    change(content)
    (cache / "cache.json").write_text(json.dumps(content))


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def shortened(path):
    path.write_bytes(path.read_bytes()[:-10])


def first(cache):
    return cache / read_manifest(cache).files[0].name


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda cache: shutil.rmtree(cache), "must be a directory made by `lskd nmt cache`"),
        (lambda cache: (cache / "cache.json").unlink(), "must be a directory made by"),
        (lambda cache: flipped(first(cache)), "00000-train.safetensors (has another SHA-256 than cache.json says"),
        (lambda cache: shortened(first(cache)), " bytes, must have "),
        (lambda cache: first(cache).unlink(), "00000-train.safetensors (is missing"),
        (lambda cache: (cache / "projection.safetensors").unlink(), "projection.safetensors (is missing"),
        (lambda cache: edited(cache, lambda c: c.update(schema_version=2)), "has schema version 2; supported up to 1"),
        (lambda cache: edited(cache, lambda c: c.update(finished=False)), "must be finished"),
        (lambda cache: edited(cache, lambda c: c.update(format="words")), "format (invalid enum value 'words')"),
        (lambda cache: edited(cache, lambda c: c.update(dtype="int8")), "dtype (invalid enum value 'int8')"),
        (lambda cache: edited(cache, lambda c: c.update(topk=3)), "topk = 3"),
        (
            lambda cache: edited(cache, lambda c: c.update(dimension=0.5)),
            "dimension (must be a whole number, not a decimal number)",
        ),
        (
            lambda cache: edited(cache, lambda c: c["teacher"].pop("label_smoothing")),
            "must have the field label_smoothing",
        ),
        (lambda cache: edited(cache, lambda c: c["files"].pop()), "files (must hold projection.safetensors"),
        (lambda cache: edited(cache, lambda c: c["files"].pop(0)), "must hold the sentences of every split"),
        (
            lambda cache: edited(cache, lambda c: c["files"][0].update(name="../x")),
            "files[0] (name = ../x, must be the name of a file",
        ),
        (lambda cache: edited(cache, lambda c: c.update(vocabulary=9)), "weight: float32"),
        (lambda cache: (cache / "cache.json").write_text("{"), "must be JSON"),
        (lambda cache: (cache / "cache.json").write_text("[]"), "content (must be an object, not a list)"),
        (lambda cache: rewritten(cache, 0, hashes=None), "00000-train.safetensors: has no hashes"),
        (lambda cache: rewritten(cache, 0, features=np.zeros((3, 16), np.float32)), "features: float32 (3, 16)"),
        (lambda cache: rewritten(cache, -1, weight=np.zeros((3, 16), np.float32)), "weight: float32 (3, 16)"),
    ],
)
def test_a_cache_that_is_not_as_it_was_written_is_refused_in_one_line(cache, damage, words):
    open_cache(cache)  # as it was it could be used, and is remembered
    damage(cache)
    with pytest.raises(InputError) as refused:
        open_cache(cache)
    assert words in str(refused.value)
    assert str(cache) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_refused_cache_ends_the_process_with_one_line(task, cache, capsys):
    flipped(first(cache))
    with pytest.raises(SystemExit) as left:
        make_criterion(task, teacher_cache=str(cache))
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "error: --teacher-cache: " in line


def test_offsets_and_symbols_out_of_range_are_refused(caches, tmp_path):
    cache = shutil.copytree(caches["top8"], tmp_path / "cache")
    tensors = load_file(first(cache))
    offsets = tensors["offsets"].copy()
    offsets[1] = offsets[2] + 1
    rewritten(cache, 0, offsets=offsets)
    with pytest.raises(InputError, match="offsets: must rise from 0 to"):
        open_cache(cache)
    symbols = tensors["symbols"].copy()
    symbols[3, 2] = 60_000
    rewritten(cache, 0, offsets=tensors["offsets"], symbols=symbols)
    with pytest.raises(InputError, match="symbols: 60000"):
        open_cache(cache)


@pytest.fixture(scope="module")
def others(data_bin, task, place):
    """Data that differ in one split, data with one symbol more, and another teacher."""
    data, symbols = (shutil.copytree(data_bin, place / name) for name in ("data", "symbols"))
    shutil.copy(data / "valid.en-de.de.bin", data / "test.en-de.de.bin")
    for language in ("en", "de"):
        with open(symbols / f"dict.{language}.txt", "a", encoding="utf-8") as file:
            file.write("unheard 1\n")
    teacher = save_checkpoint(place / "other.pt", make_model(task, seed=4), task)
    return {"other_data": data, "symbols": symbols, "other_teacher": teacher}


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ("data", {}, None),
        ("data", {"teacher_path": "{teacher}"}, None),
        ("data", {"teacher_cache": None}, "--teacher-path: not given"),
        (
            "data",
            {"teacher_cache": "{place}/missing"},
            "must be a directory made by `lskd nmt cache`",
        ),
        ("other_data", {}, "must be of the data "),
        ("symbols", {}, "must be of the student's source dictionary"),
        ("data", {"teacher_path": "{other_teacher}"}, "must be of the weights of "),
        ("data", {"teacher_path": "{place}/missing.pt"}, "--teacher-path: "),
        ("data", {"valid_subset": "valid,test"}, "must hold the split test, was made of train, valid"),
        ("data", {"train_subset": "test"}, "must hold the split test, was made of train, valid"),
        ("data", {"valid_subset": "test", "disable_validation": True}, None),
        ("data", {"teacher_topk": 393}, "--teacher-topk: 393 (must be at most 392"),
        ("data", {"label_smoothing": 0.9999}, "--label-smoothing: 0.9999 (must be below 391/392"),
        ("data", {"teacher_cache": "{top8}", "temperature": 1.5}, "--temperature: 1.5 (must be of 1, 2, 3, 64 with "),
        ("data", {"teacher_cache": "{top8}", "temperature": 1.5, "teacher_topk": 8}, None),
        ("data", {"teacher_cache": "{top8}", "teacher_topk": 9}, "--teacher-topk: 9 (must be at most 8, of "),
        ("data", {"teacher_cache": "{top8}", "kd_loss": "mse"}, "and --kd-loss mse needs all: a cache with --format"),
        ("data", {"teacher_cache": "{top8}", "kd_gradient_scale": "match"}, "and --kd-gradient-scale match needs all"),
        ("data", {"teacher_cache": "{top8}", "best": "teacher_kl"}, "--best-checkpoint-metric teacher_kl needs all"),
        ("data", {"best": "teacher_kl"}, None),
        ("data", {"kd_loss": "mse"}, None),
        ("data", {"teacher_cache": "{top8}:{fp16}"}, "must be one where it has the format topk"),
        ("data", {"teacher_cache": "{fp32}:{fp16}"}, None),
    ],
)
def test_what_does_not_fit_a_training_is_found_before_it_begins(
    data_bin, teacher_path, caches, others, place, data, options, words
):
    names = caches | others | {"data": data_bin, "teacher": teacher_path, "place": place}
    options = {"teacher_cache": "{fp16}"} | options
    options = {key: value.format(**names) if isinstance(value, str) else value for key, value in options.items()}
    dataset = {"train_subset": "train", "valid_subset": "valid", "disable_validation": False}
    dataset |= {"max_tokens": 1000, "max_tokens_valid": 1000, "skip_invalid_size_inputs_valid_test": False}
    dataset |= {name: options.pop(name) for name in dataset if name in options}
    checkpoint = {"best_checkpoint_metric": options.pop("best", "loss")}
    sections = {"checkpoint": checkpoint, "criterion": KDConfig(**options, sentence_avg=False), "dataset": dataset}
    own = {"train_subset": "train", "dataset_impl": None, "required_seq_len_multiple": 1}
    sections["task"] = KDTaskConfig(data=str(names[data]), **own)
    sections["task"]._name = "label_smoothed_kd"
    if words is None:
        check_config(OmegaConf.create(sections))
        return
    with pytest.raises(InputError) as refused:
        check_config(OmegaConf.create(sections))
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_cache_is_a_twentieth_of_the_logits(tmp_path):
    """V = 10000, d = 512 in fp16. The projection, 20 MB of it, does not grow with the 4 million tokens of IWSLT."""
    V, d, tokens = 10_000, 512, 150_000
    sentences = tokens // 25
    shard = {
        "features": np.zeros((tokens, d), np.float16),
        "hashes": np.arange(sentences),
        "offsets": np.arange(sentences + 1) * 25,
    }
    write_tensors(tmp_path / "a", shard, {})
    write_tensors(tmp_path / "b", {"weight": np.zeros((V, d), np.float32)}, {})
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size <= 0.06 * tokens * V * 2
