"""Logits and features of the target tokens alone, of every kind of decoder that fairseq translates with."""

import copy

import pytest
import torch
from helpers.small_nmt import batch_of, make_cache, make_criterion, make_model, make_task, save_checkpoint

from lskd.io.errors import InputError
from lskd_fairseq.decoder_output import output_features, output_logits

KERNELS = {"encoder_kernel_size_list": [3], "decoder_kernel_size_list": [3], "weight_softmax": True}
PROJECTING = {
    "transformer": {},
    "transformer_align": {},
    "transformer_align of full context": {"full_context_alignment": True, "alignment_layer": 0},
    "lightconv": KERNELS | {"encoder_conv_type": "lightweight", "decoder_conv_type": "lightweight"},
    "dynamicconv": KERNELS | {"encoder_conv_type": "dynamic", "decoder_conv_type": "dynamic"},
}
OTHERS = {
    "lstm": {"encoder_layers": 1, "decoder_layers": 1, "decoder_out_embed_dim": 16},
    "fconv": {"encoder_layers": "[(16, 3)]", "decoder_layers": "[(16, 3)]", "decoder_out_embed_dim": 16},
}


def architecture(kind: str) -> str:
    return "lightconv" if kind == "dynamicconv" else kind.split()[0]


@pytest.fixture(scope="module")
def task(data_bin):
    return make_task(data_bin)


@pytest.mark.parametrize("kind", [*PROJECTING, *OTHERS])
def test_logits_are_the_models_own_at_the_kept_positions(task, kind):
    model = make_model(task, arch=architecture(kind), **(PROJECTING | OTHERS)[kind]).eval()
    batch = batch_of(task, [0, 3, 1])
    keep = batch["target"].ne(task.tgt_dict.pad())
    logits = output_logits(model, batch["net_input"], keep)
    assert torch.allclose(logits, model(**batch["net_input"])[0][keep], rtol=1e-5, atol=1e-5)
    assert not keep.all()
    logits.sum().backward()
    assert any(parameter.grad is not None for parameter in model.decoder.parameters())


@pytest.mark.parametrize("kind", PROJECTING)
def test_features_are_what_the_projection_makes_the_logits_of(task, kind):
    model = make_model(task, arch=architecture(kind), **PROJECTING[kind]).eval()
    batch = batch_of(task, [0, 3, 1])
    keep = batch["target"].ne(task.tgt_dict.pad())
    features = output_features(model, batch["net_input"], keep)
    expected = model(**batch["net_input"])[0][keep]
    assert torch.allclose(features @ model.decoder.output_projection.weight.T, expected, rtol=1e-5, atol=1e-5)
    assert not model.decoder.output_projection._forward_pre_hooks


@pytest.mark.parametrize("kind", OTHERS)
def test_other_decoders_have_no_features(task, kind):
    model = make_model(task, arch=architecture(kind), **OTHERS[kind])
    assert output_features(model, batch_of(task, [0])["net_input"], None) is None


@pytest.mark.parametrize("arch", ["transformer", "lightconv"])
def test_an_adaptive_softmax_is_refused_with_every_architecture(task, arch):
    model = make_model(task, arch=arch, **PROJECTING[arch])
    model.decoder.adaptive_softmax = torch.nn.Identity()
    batch = batch_of(task, [0])
    with pytest.raises(InputError, match="--adaptive-softmax-cutoff: set"):
        output_logits(model, batch["net_input"], batch["target"].ne(task.tgt_dict.pad()))


@pytest.mark.parametrize("kind", [name for name in PROJECTING if name != "transformer"])
def test_such_a_model_teaches_and_learns_with_and_without_a_cache(task, data_bin, tmp_path, kind):
    """The loss is that of KL in float64 on both models' own logits, and the cached teacher's the same."""
    options = {"arch": architecture(kind), **PROJECTING[kind]}
    teacher = make_model(task, seed=1, **options).eval()
    student = make_model(task, seed=2, **options).eval()
    path = save_checkpoint(tmp_path / "teacher.pt", teacher, task)
    batch = batch_of(task, list(range(8)))
    keep = batch["target"].ne(task.tgt_dict.pad())
    p, q = (copy.deepcopy(m)(**batch["net_input"])[0][keep].double().log_softmax(-1) for m in (teacher, student))
    expected = (p.exp() * (p - q)).sum().item()
    loss, _, _ = make_criterion(task, path)(student, batch)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    cache = make_cache(tmp_path / "cache", data_bin, path, "--dtype fp32 --split valid")
    cached, _, _ = make_criterion(task, teacher_cache=str(cache))(student, batch)
    assert cached.item() == pytest.approx(expected, rel=1e-4)
