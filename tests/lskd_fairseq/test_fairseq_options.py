"""fairseq's own options of a training, checked before fairseq trips over them."""

from types import SimpleNamespace

import pytest
from fairseq.data.indexed_dataset import make_builder
from fairseq.dataclass.configs import CheckpointConfig, DatasetConfig
from omegaconf import OmegaConf

from lskd.io.errors import InputError
from lskd_fairseq import fairseq_options, supported, training_checks
from lskd_fairseq.splits import load_split
from tests.helpers.small_nmt import make_task


def settings(metric: str, criterion: str = "cross_entropy", task: str = "translation", **dataset):
    return SimpleNamespace(
        checkpoint=CheckpointConfig(best_checkpoint_metric=metric),
        criterion={"_name": criterion},
        dataset=DatasetConfig(**dataset),
        optimization=SimpleNamespace(sentence_avg=False),
        task={"_name": task},
        model={"_name": "transformer"},
    )


def refused(check, *arguments) -> str:
    with pytest.raises(InputError) as error:
        check(*arguments)
    return str(error.value)


@pytest.mark.parametrize("metric", ["acc", "nll_loss"])  # cross_entropy logs nll_loss where the loss is of sentences
def test_a_metric_that_cross_entropy_does_not_log_is_refused(metric):
    line = refused(fairseq_options.check_best_metric, settings(metric))
    assert line == f"--best-checkpoint-metric: {metric} (must be one of loss, ppl, or bleu with --eval-bleu)"


def test_a_metric_that_no_criterion_for_translation_logs_is_refused_before_training():
    for criterion in supported.CRITERIONS:
        line = refused(fairseq_options.check_best_metric, settings("acc", criterion))
        assert line.startswith("--best-checkpoint-metric: acc (must be one of loss, ")


def test_bleu_needs_eval_bleu_with_any_criterion_of_fairseq():
    assert "must come with --eval-bleu" in refused(fairseq_options.check_best_metric, settings("bleu"))


def test_the_first_validation_of_another_criterion_tells_what_it_logs():
    cfg = settings("acc", criterion="of others")
    fairseq_options.check_best_metric(cfg)
    line = refused(fairseq_options.check_logged, cfg, {"loss": 1.0, "ppl": 2.0, "wps": 3.0})
    assert line == "--best-checkpoint-metric: acc (must be one of loss, ppl)"
    fairseq_options.check_logged(cfg, {"acc": 1.0})


def test_the_task_does_not_validate_on_what_is_trained_on():
    cfg = settings("loss", task="label_smoothed_kd", train_subset="valid", valid_subset="test,valid")
    line = refused(supported.check_training, cfg)
    assert line.startswith("--valid-subset: test,valid (must be without valid, which is trained on")


def test_a_training_begins_from_one_checkpoint(tmp_path):
    cfg = OmegaConf.structured(
        CheckpointConfig(save_dir=str(tmp_path), finetune_from_model="a.pt", restore_file=str(tmp_path / "b.pt"))
    )
    line = refused(training_checks.check_checkpoints, cfg)
    assert line == "--finetune-from-model: a.pt (must be given without --restore-file)"


@pytest.fixture
def old_format(data_bin, tmp_path):
    """The validation split in the format that fairseq wrote before 2019, as its training split too."""
    dataset = make_task(data_bin).dataset("valid")
    for split in ("train", "valid"):
        for side, language in ((dataset.src, "en"), (dataset.tgt, "de")):
            stem = tmp_path / f"{split}.en-de.{language}"
            builder = make_builder(f"{stem}.bin", impl="lazy")
            for index in range(len(dataset)):
                builder.add_item(side[index])
            builder.finalize(f"{stem}.idx")
    for language in ("en", "de"):
        name = f"dict.{language}.txt"
        (tmp_path / name).write_bytes((data_bin / name).read_bytes())
    return tmp_path


def test_data_of_fairseqs_old_format_are_read(data_bin, old_format):
    now, task = make_task(data_bin).dataset("valid"), make_task(old_format)
    load_split(task, str(old_format), "valid")
    found = task.dataset("valid")
    assert [found[i]["target"].tolist() for i in range(len(now))] == [
        now[i]["target"].tolist() for i in range(len(now))
    ]


def test_a_training_on_data_of_the_old_format_asks_for_the_option_that_reads_them(old_format):
    task = make_task(old_format)
    cfg = SimpleNamespace(dataset=DatasetConfig(max_tokens=4000), task=task.cfg)
    line = refused(fairseq_options.check_data, cfg, task)
    assert line == f"--dataset-impl: not given (must be lazy for the old format that {old_format} is in)"
