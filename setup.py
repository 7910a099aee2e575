"""The distribution `lskd`: a light base install, and an extra for each thing one may want to do with it."""

import re
from pathlib import Path

from setuptools import setup

here = Path(__file__).parent
version = re.search(r'__version__ = "([^"]+)"', (here / "lskd" / "__init__.py").read_text())[1]

torch = ["torch>=2.6"]
extras = {
    # Transformer distillation with fairseq. fairseq-fixed imports as fairseq and runs on Python >= 3.11.
    "nmt": [*torch, "fairseq-fixed==0.12.3.1", "sacrebleu>=2.6", "sentencepiece>=0.2", "sacremoses>=0.1"],
    # Image classification with timm. torch and torchvision are a pair: the resolver picks the newest that fit.
    "vision": [*torch, "torchvision", "timm>=1.0.31", "pyyaml>=6", "scipy>=1.11", "tensorboard>=2.16"],
    # Figures and reports; the WordNet of classes that are not ImageNet-1K's.
    "report": ["scikit-learn>=1.4", "matplotlib>=3.8", "nltk>=3.10"],
    # Whole experiments, on this machine or on a Slurm cluster.
    "workflow": ["snakemake>=9.27", "snakemake-executor-plugin-slurm>=2.8"],
}
extras["all"] = sorted({requirement for requirements in extras.values() for requirement in requirements})
extras["dev"] = ["pytest>=8", "pytest-xdist>=3.6", "pytest-cov>=7", "coverage>=7.10", "hypothesis>=6.100"]
extras["dev"] += ["ruff==0.17.*", "pre-commit>=4", "detect-secrets>=1.5", "pip-audit>=2.9"]

setup(
    name="lskd",
    version=version,
    description="Label smoothing meets knowledge distillation: distil with fairseq and timm, measure what it did",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=["lskd", "lskd.commands", "lskd.report", "lskd_fairseq", "lskd_vision"],
    package_data={"lskd": ["data/*"], "lskd_fairseq": ["config/*.yaml"]},
    entry_points={"console_scripts": ["lskd = lskd.cli:main"]},
    install_requires=["numpy>=1.26", "safetensors>=0.4", "tqdm>=4.66"],
    extras_require=extras,
)
