import pytest
import torch

from lskd.records.determinism import Switches, nondeterminism, switches

STRICT = Switches(deterministic_algorithms=True, cublas_workspace=":4096:8")


@pytest.mark.parametrize(
    "options", [{}, {"processes": 4}, {"compiled": True, "switches": Switches(cudnn_benchmark=True)}]
)
def test_nothing_of_a_run_on_a_cpu_comes_out_otherwise(options):
    assert nondeterminism("cpu", **options) == []


def test_torch_s_own_defaults_on_a_gpu_leave_the_order_of_sums_open():
    causes = nondeterminism("cuda")
    assert len(causes) == 3
    assert all(name in cause for name, cause in zip(("use_deterministic", "cuDNN", "cuBLAS"), causes, strict=True))
    assert all(cause.endswith(".") and "\n" not in cause for cause in causes)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"switches": Switches(deterministic_algorithms=True)}, "CUBLAS_WORKSPACE_CONFIG"),
        ({"switches": Switches(deterministic_algorithms=True, cublas_workspace=":0:0")}, "CUBLAS_WORKSPACE_CONFIG"),
        ({"switches": Switches(True, True, True, ":16:8")}, "benchmark is on"),
        ({"switches": STRICT, "processes": 8}, "the gradients of 8 processes"),
        ({"switches": STRICT, "compiled": True}, "torch.compile"),
    ],
)
def test_each_cause_on_a_gpu_is_named_by_itself(options, word):
    (cause,) = nondeterminism("cuda", **options)
    assert word in cause


def test_a_gpu_that_is_told_to_be_deterministic_is():
    assert nondeterminism("cuda", switches=STRICT) == []
    assert nondeterminism("cuda", compiled=True, switches=Switches(True, False, False, ":4096:8", True)) == []


def test_the_switches_are_those_of_torch_and_of_the_environment(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.use_deterministic_algorithms(True)
    try:
        found = switches()
    finally:
        torch.use_deterministic_algorithms(False)
    assert found == Switches(True, False, True, ":16:8", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.delenv("TORCH_COMPILE_DISABLE")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    assert switches() == Switches()
