import copy
import math

import pytest
import torch
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.distributed import utils as distributed
from fairseq.logging import metrics
from helpers.small_nmt import batch_of, make_criterion, make_model, make_task, save_checkpoint

from lskd.loss import distillation, reference


@pytest.fixture(scope="module")
def task(data_bin):
    return make_task(data_bin)


@pytest.fixture(scope="module")
def teacher_model(task):
    return make_model(task, seed=1)


@pytest.fixture(scope="module")
def teacher_path(task, teacher_model, tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("teacher") / "teacher.pt", teacher_model, task)


@pytest.fixture(scope="module")
def second_teacher(task, tmp_path_factory):
    """A model, and its checkpoint."""
    model = make_model(task, seed=9)
    return model, save_checkpoint(tmp_path_factory.mktemp("second") / "second.pt", model, task)


def reference_loss(student, teachers, batch, pad, T, Ts, beta, epsilon, topk):
    """The loss in float64, straight from the formulas, over all positions, with the padded ones masked at the end."""
    z = student(**batch["net_input"])[0].double()
    p = sum(torch.softmax(t.eval()(**batch["net_input"])[0].double() / T, -1) for t in teachers) / len(teachers)
    if topk:
        kth = p.topk(topk).values[..., -1:]
        p = torch.where(p >= kth, p, 0.0)
        p = p / p.sum(-1, keepdim=True)
    mask = batch["target"].ne(pad)
    kl = (torch.xlogy(p, p) - p * torch.log_softmax(z / Ts, -1)).sum(-1)[mask].sum()
    log_p = torch.log_softmax(z, -1)
    nll = -log_p.gather(-1, batch["target"][..., None])[..., 0][mask].sum()
    eps_i = epsilon / (z.size(-1) - 1)
    hard = (1 - epsilon - eps_i) * nll + eps_i * -log_p.sum(-1)[mask].sum()
    return (1 - beta) * hard + beta * Ts**2 * kl, nll, kl


@pytest.mark.parametrize(
    ("T", "Ts", "beta", "epsilon", "topk"),
    [
        (1, None, 1, 0, 0),
        (3, None, 1, 0, 0),
        (64, None, 1, 0, 0),
        (3, 1, 1, 0, 0),
        (2, None, 0.9, 0.1, 4),
        (1, None, 0, 0.1, 0),
    ],
)
def test_loss_and_gradient_are_those_of_the_formula_in_float64(
    task, teacher_path, teacher_model, T, Ts, beta, epsilon, topk
):
    student = make_model(task, seed=2, dropout=0)
    exact = copy.deepcopy(student).double()
    batch = batch_of(task, [0, 3, 7, 11])
    assert batch["target"].eq(task.tgt_dict.pad()).any()
    criterion = make_criterion(
        task,
        teacher_path,
        temperature=T,
        student_temperature=Ts,
        kd_weight=beta,
        label_smoothing=epsilon,
        teacher_topk=topk,
    )
    loss, sample_size, log = criterion(student, batch)
    loss.backward()
    expected, nll, kl = reference_loss(
        exact, [copy.deepcopy(teacher_model).double()], batch, task.tgt_dict.pad(), T, Ts or T, beta, epsilon, topk
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert log["nll_loss"].item() == pytest.approx(nll.item(), rel=1e-5)
    assert log["kd_loss"].item() == pytest.approx((Ts or T) ** 2 * kl.item(), rel=1e-4)
    assert sample_size == batch["ntokens"] == log["ntokens"]
    ours, theirs = (torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (student, exact))
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [1e-2, 1, 1e4])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_extreme_temperatures_and_logits_give_finite_losses_in_every_precision(
    task, teacher_path, temperature, scale, dtype
):
    student = make_model(task, seed=2, scale=scale).to(dtype)
    batch = batch_of(task, [0, 3, 7])
    loss, _, log = make_criterion(task, teacher_path, temperature=temperature)(student, batch)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(torch.as_tensor(value).isfinite().all() for value in (loss, *log.values()))
    assert log["kd_loss"] >= 0
    gradients = torch.cat([p.grad.double().flatten() for p in student.parameters()])
    # The largest gradient of the logits is 1/T times T²; what the layers below make of it, float16 may not hold.
    assert dtype == torch.float16 or gradients.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"kd_weight": 0.5, "label_smoothing": 0.1}, {"teacher_topk": 4}])
def test_a_batch_without_target_tokens_has_no_loss_and_no_gradient(task, teacher_path, options):
    student, batch = make_model(task), batch_of(task, [0, 3, 7])
    batch["target"] = torch.full_like(batch["target"], task.tgt_dict.pad())
    batch["ntokens"] = 0
    criterion = make_criterion(task, teacher_path, **options)
    loss, sample_size, log = criterion(student, batch)
    loss.backward()
    assert (loss.item(), sample_size) == (0, 0)
    assert all(p.grad is None or not p.grad.any() for p in student.parameters())
    with metrics.aggregate() as aggregate:
        criterion.reduce_metrics([log])
    found = aggregate.get_smoothed_values()
    assert found["loss"] == found["nll_loss"] == found["kd_loss"] == 0
    with_others = [log, criterion(make_model(task, seed=2), batch_of(task, [1, 2]))[2]]
    with metrics.aggregate() as aggregate, metrics.aggregate() as alone:
        criterion.reduce_metrics(with_others)
    assert aggregate.get_smoothed_values() == alone.get_smoothed_values()


@pytest.mark.parametrize("topk", [0, 4])
def test_a_batch_is_examined_as_it_was_computed(task, teacher_path, topk):
    student, batch = make_model(task, dropout=0.5), batch_of(task, [0, 3, 7])
    criterion = make_criterion(task, teacher_path, temperature=2, teacher_topk=topk)
    torch.manual_seed(3)
    loss, _, _ = criterion(student, batch)
    torch.manual_seed(3)
    again, tensors = criterion.examine(student, batch)
    assert again == loss.item()
    assert tensors["student_logits"].shape == tensors["teacher_logits"].shape
    assert len(tensors["target"]) == batch["ntokens"]


def test_padded_positions_are_not_projected_to_the_vocabulary(task, teacher_path):
    student, criterion = make_model(task), make_criterion(task, teacher_path)
    batch = batch_of(task, [0, 3, 7, 11])
    rows = []
    for layer in (student.decoder.output_projection, criterion.teacher.models[0].decoder.output_projection):
        layer.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[:-1].numel()))
    criterion(student, batch)
    assert rows == [batch["ntokens"], 0]  # the teacher's are projected by the loss, as it needs them
    keep = batch["target"].ne(task.tgt_dict.pad())
    (taught,) = criterion.teacher.logits(batch, keep, like=torch.zeros(()))
    assert taught.shape == (batch["ntokens"], len(task.tgt_dict))
    assert batch["ntokens"] < batch["target"].numel()


def test_the_teacher_is_in_no_checkpoint_and_in_no_optimizer_and_stays_in_eval(task, teacher_path):
    criterion = make_criterion(task, teacher_path)
    criterion.train()
    assert criterion.state_dict() == {}
    assert list(criterion.parameters()) == []
    assert list(criterion.children()) == []
    (model,) = criterion.teacher.models
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_teacher_takes_on_the_students_dtype(task, teacher_path):
    criterion = make_criterion(task, teacher_path)
    student = make_model(task).double()
    criterion(student, batch_of(task, [0, 1]))
    assert {p.dtype for p in criterion.teacher.models[0].parameters()} == {torch.float64}


def test_random_numbers_are_those_of_a_training_without_a_teacher(task, teacher_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    criterion = make_criterion(task, teacher_path)
    assert torch.equal(torch.get_rng_state(), before)
    student = make_model(task, dropout=0.5)
    batch = batch_of(task, [0, 3, 7])
    torch.manual_seed(6)
    student(**batch["net_input"])
    expected = torch.get_rng_state()
    torch.manual_seed(6)
    criterion(student, batch)
    assert torch.equal(torch.get_rng_state(), expected)


def test_validation_bleu_is_the_students_and_not_the_teachers(data_bin, teacher_path):
    task = make_task(data_bin, eval_bleu=True)
    student = make_model(task)
    make_criterion(task, teacher_path)
    assert task.sequence_generator.model.models_size == 1
    assert task.sequence_generator.model.single_model is student


@pytest.mark.parametrize("sentence_avg", [False, True])
def test_logged_figures_are_sums_divided_once(task, teacher_path, sentence_avg, monkeypatch):
    monkeypatch.setattr(distillation, "MEASURED_ELEMENTS", 10**6)  # every row, however many are in a batch
    student = make_model(task, dropout=0)
    criterion = make_criterion(task, teacher_path, temperature=2, sentence_avg=sentence_avg)
    whole = criterion(student, batch_of(task, [0, 1, 2, 3, 4]))[2]
    parts = [criterion(student, batch_of(task, indices))[2] for indices in ([0], [1, 2, 3], [4])]

    def reduced(logs):
        with metrics.aggregate() as aggregate:
            criterion.reduce_metrics(logs)
        return aggregate.get_smoothed_values()

    one, several = reduced([whole]), reduced(parts)
    names = {"loss", "nll_loss", "kd_loss", "teacher_entropy", "teacher_agreement", "ppl", "kd_gradient_ratio"}
    assert one.keys() == names
    assert several == pytest.approx(one, rel=1e-3)
    divisor = 5 if sentence_avg else whole["ntokens"]
    assert one["loss"] == pytest.approx(whole["loss"].item() / divisor / math.log(2), abs=6e-4)
    assert one["kd_loss"] == pytest.approx(whole["kd_loss"].item() / whole["ntokens"] / math.log(2), abs=6e-4)
    assert 0 <= one["teacher_agreement"] <= 100


def test_gradients_of_two_halves_add_up_to_the_gradient_of_the_whole(task, teacher_path):
    criterion = make_criterion(task, teacher_path, temperature=3)

    def gradient(batches):
        student = make_model(task, seed=2, dropout=0)
        sizes = 0
        for indices in batches:
            loss, sample_size, _ = criterion(student, batch_of(task, indices))
            loss.backward()
            sizes += sample_size
        return torch.cat([p.grad.flatten() for p in student.parameters()]) / sizes

    whole, halves = gradient([[0, 1, 2, 3, 4, 5]]), gradient([[0, 1, 2], [3, 4, 5]])
    assert (whole - halves).norm() <= 1e-5 * whole.norm()


def test_a_student_that_is_its_teacher_has_no_loss_and_full_agreement(task, teacher_path, teacher_model):
    criterion = make_criterion(task, teacher_path, temperature=3)
    student = copy.deepcopy(teacher_model).eval()
    batch = batch_of(task, [0, 3, 7])
    loss, _, log = criterion(student, batch)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert log["teacher_agreement"].item() == batch["ntokens"]


def test_several_teachers_are_averaged_in_probability(task, teacher_model, teacher_path, tmp_path):
    second = make_model(task, seed=9)
    both = f"{teacher_path}:{save_checkpoint(tmp_path / 'second.pt', second, task)}"
    criterion = make_criterion(task, both, temperature=2)
    student, batch = make_model(task, dropout=0), batch_of(task, [0, 3])
    teachers = [copy.deepcopy(model).double() for model in (teacher_model, second)]
    expected, _, _ = reference_loss(
        copy.deepcopy(student).double(), teachers, batch, task.tgt_dict.pad(), 2, 2, 1, 0, 0
    )
    assert criterion(student, batch)[0].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("arch", ["lstm", "fconv"])
def test_models_that_project_inside_are_distilled_too(task, teacher_path, teacher_model, arch):
    options = {"encoder_embed_dim": 16, "decoder_embed_dim": 16, "decoder_out_embed_dim": 16}
    if arch == "lstm":
        options |= {"encoder_hidden_size": 16, "decoder_hidden_size": 16}
    else:
        options |= {"encoder_layers": "[(16, 3)]", "decoder_layers": "[(16, 3)]"}
    student, exact = (make_model(task, arch=arch, dropout=0, **options).eval() for _ in range(2))
    batch = batch_of(task, [0, 3, 7])
    expected, _, _ = reference_loss(
        exact.double(), [copy.deepcopy(teacher_model).double()], batch, task.tgt_dict.pad(), 1, 1, 1, 0, 0
    )
    loss, _, _ = make_criterion(task, teacher_path)(student, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_without_the_teacher_file_validation_gives_nll_and_training_is_refused(task, tmp_path, capsys):
    criterion = make_criterion(task, tmp_path / "gone.pt")
    student, batch = make_model(task).eval(), batch_of(task, [0, 1])
    with torch.no_grad():
        _, _, log = criterion(student, batch)
    assert log["loss"] == log["nll_loss"]
    assert "kd_loss" not in log
    with pytest.raises(SystemExit) as left:
        criterion(student.train(), batch)
    assert left.value.code == 2
    assert "--teacher-path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("smoothing", "temperature", "warned"),
    [(0.1, 2.0, True), (0.1, 1.0, False), (0.0, 2.0, False)],
)
def test_a_high_temperature_from_a_smoothed_teacher_warns_with_the_papers_rule(
    task, teacher_model, tmp_path, smoothing, temperature, warned
):
    trained_with = {"_name": "label_smoothed_cross_entropy", "label_smoothing": smoothing}
    path = save_checkpoint(tmp_path / "t.pt", teacher_model, task, criterion=trained_with)
    warnings = make_criterion(task, path, temperature=temperature).warnings()
    assert bool(warnings) is warned
    assert not warned or "smoothed teacher with T = 1" in warnings[0]


def test_both_names_are_one_criterion():
    assert CRITERION_REGISTRY["kd"] is CRITERION_REGISTRY["label_smoothed_kd"]


@pytest.mark.parametrize("loss", ["standardised", "mse", "decoupled", "wttm"])
def test_another_loss_and_its_gradient_are_those_of_its_formula_at_the_target_tokens(
    task, teacher_path, teacher_model, loss
):
    student = make_model(task, seed=2, dropout=0)
    exact, batch = copy.deepcopy(student).double(), batch_of(task, [0, 3, 7, 11])
    T = {} if loss == "mse" else {"temperature": 2}
    value, _, log = make_criterion(task, teacher_path, kd_loss=loss, **T)(student, batch)
    value.backward()
    keep = batch["target"].ne(task.tgt_dict.pad())
    z = exact(**batch["net_input"])[0][keep]
    with torch.no_grad():
        teacher = copy.deepcopy(teacher_model).double().eval()(**batch["net_input"])[0][keep]
    of_target = (batch["target"][keep],) if loss == "decoupled" else ()
    expected = getattr(reference, loss)(z, teacher, *of_target, **T).sum()
    expected.backward()
    assert [value.item(), log["kd_loss"].item()] == pytest.approx([expected.item()] * 2, rel=1e-5)
    ours, theirs = (torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (student, exact))
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_match_gives_a_batch_the_gradient_norm_of_a_temperature_of_one_and_logs_a_ratio_of_one(task, teacher_path):
    batch = batch_of(task, [0, 3, 7])

    def ratio(**options):
        criterion = make_criterion(task, teacher_path, **options)
        log = criterion(make_model(task, seed=2, dropout=0), batch)[2]
        with metrics.aggregate() as aggregate:
            criterion.reduce_metrics([log])
        return aggregate.get_smoothed_values()["kd_gradient_ratio"]

    assert ratio(temperature=1) == ratio(temperature=8, kd_gradient_scale="match") == 1
    with_factor, without = ratio(temperature=8), ratio(temperature=8, kd_gradient_scale="none")
    assert with_factor == pytest.approx(64 * without, rel=0.02)  # logged to four decimals


def test_a_batch_that_stands_in_for_none_has_no_part_in_the_norm_that_processes_match(task, teacher_path, monkeypatch):
    """fairseq computes such a batch where a process has none left, and drops its gradient."""
    shared = []
    monkeypatch.setattr(distributed, "get_data_parallel_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "get_data_parallel_group", lambda: None)
    monkeypatch.setattr(distributed, "all_reduce", lambda squares, group: shared.append(squares.tolist()))
    criterion = make_criterion(task, teacher_path, temperature=8, kd_gradient_scale="match")
    student, batch = make_model(task, dropout=0), batch_of(task, [0, 3])
    criterion.begin_update(0, 10, [batch, {}])
    for _ in range(2):
        criterion(student, batch)[0].backward()
    criterion.begin_update(1, 10, [batch])
    criterion(student.eval(), batch)
    criterion(student.train(), batch)
    assert len(shared) == 3
    assert min(shared[0]) > 0
    assert shared[1:] == [[0.0, 0.0], shared[0]]


SOFTER = {"temperature": 3}


@pytest.mark.parametrize(
    "options",
    [
        {},
        SOFTER,
        {"student_temperature": 1.0} | SOFTER,
        {"kd_loss": "decoupled"} | SOFTER,
        {"kd_loss": "mse"},
        {"teacher_topk": 4},
        {"kd_weight": 0.5, "label_smoothing": 0.1} | SOFTER,
    ],
    ids=str,
)
@pytest.mark.parametrize("teachers", [1, 2])
def test_validation_has_the_fidelity_to_the_whole_teacher_at_a_temperature_of_one_whatever_is_distilled(
    task, teacher_path, teacher_model, second_teacher, options, teachers
):
    path = f"{teacher_path}:{second_teacher[1]}" if teachers == 2 else teacher_path
    student, criterion = make_model(task, seed=2).eval(), make_criterion(task, path, **options)
    logs, expected = [], []
    for indices in ([0, 3, 7, 11], [1, 2]):
        batch = batch_of(task, indices)
        logs.append(criterion(student, batch)[2])
        keep = batch["target"].ne(task.tgt_dict.pad())
        with torch.no_grad():
            log_q, *probabilities = (
                copy.deepcopy(model).double().eval()(**batch["net_input"])[0][keep].log_softmax(1)
                for model in (student, teacher_model, second_teacher[0])[: teachers + 1]
            )
        p = torch.stack(probabilities).exp().mean(0)
        expected.append(torch.stack([(p.argmax(1) == log_q.argmax(1)).double(), (p * (p.log() - log_q)).sum(1)], 1))
    with metrics.aggregate() as aggregate:
        criterion.reduce_metrics(logs)
    found, (agreement, kl) = aggregate.get_smoothed_values(), torch.cat(expected).mean(0).tolist()
    assert found["teacher_agreement"] == pytest.approx(100 * agreement, abs=0.006)
    assert found["teacher_kl"] == pytest.approx(kl, rel=1e-4, abs=6e-6)
    assert "teacher_kl" not in criterion(student.train(), batch)[2]


def test_a_scheduled_temperature_follows_the_updates_and_is_logged(task, teacher_path):
    options = {"temperature": 3, "kd_temperature_schedule": "linear", "kd_final_temperature": 1}
    scheduled, batch = make_criterion(task, teacher_path, **options), batch_of(task, [0, 3])
    for update, T in ((0, 3.0), (2, 2.0), (4, 1.0), (9, 1.0)):
        scheduled.begin_update(update, 5)
        loss, _, log = scheduled(make_model(task, seed=2, dropout=0), batch)
        expected = make_criterion(task, teacher_path, temperature=T)(make_model(task, seed=2, dropout=0), batch)[0]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert log["kd_temperature"] == T * batch["ntokens"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kd_loss": "l2"}, "--kd-loss: 'l2' (must be one of kl, standardised, mse, decoupled, wttm)"),
        ({"kd_loss": "mse", "temperature": 3.0}, "--temperature: 3.0 (must be 1: the loss mse"),
        ({"kd_loss": "mse", "teacher_topk": 4}, "--teacher-topk: 4 (must be 0: the loss mse needs all logits"),
        ({"kd_gradient_scale": "match", "kd_weight": 0.0}, "--kd-weight: 0.0 (must be above 0: the gradient scale"),
        ({"kd_nckd_weight": 2.0}, "--kd-nckd-weight: 2.0 (must be left out: the loss kl"),
        ({"kd_loss": "wttm", "teacher_path": "a.pt:b.pt"}, "--teacher-path: a.pt:b.pt (must be one: the loss wttm"),
        ({"kd_temperature_schedule": "step"}, "--kd-temperature-schedule: 'step' (must be one of constant, linear"),
        ({"kd_temperature_schedule": "linear"}, "--kd-final-temperature: None (must be a number from"),
    ],
)
def test_options_that_make_no_sense_together_are_refused_in_one_line(task, teacher_path, options, message, capsys):
    with pytest.raises(SystemExit) as left:
        make_criterion(task, **{"teacher_path": teacher_path} | options)
    assert left.value.code == 2
    assert message in capsys.readouterr().err
