"""Locate the workflow and the scripts that prepare data, and make the latter available as ``lskd data NAME``.

In a checkout they are ``scripts/`` and ``data_prep/`` beside the packages; a wheel has them in ``lskd/workflow``. Only
:func:`workflow_root` depends on which it is: the scripts find each other by their own location.
"""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import lskd

DATA = {  # the scripts with a command line, and the extra that each needs
    "letters": "vision",
    "fashion_mnist": "vision",
    "cub200": "vision",
    "imagenet": "vision",
    "efficientnet_lite0": "vision",
    "torchvision_weights": "vision",
    "libreoffice_help": "nmt",
    "ddtp": "nmt",
    "iwslt14": "nmt",
}


def workflow_root() -> Path:
    """The directory that holds ``scripts`` and ``data_prep``."""
    package = Path(lskd.__file__).resolve().parent
    installed = package / "workflow"
    return installed if installed.is_dir() else package.parent


@dataclass(frozen=True)
class DataScript:
    """A script of ``data_prep`` as a subcommand, which the command line loads like an entry point.

    Attributes:
        stem: stem of the script's file name.
        extra: the extra of this package that installs the script's requirements.
    """

    stem: str
    extra: str

    @property
    def name(self) -> str:
        """The subcommand's name, such as ``libreoffice-help``."""
        return self.stem.replace("_", "-")

    @property
    def path(self) -> Path:
        """The script's file."""
        return workflow_root() / "data_prep" / f"{self.stem}.py"

    def load(self) -> ModuleType:
        """Import the script, which has ``parser()`` and ``main(arguments)``."""
        if (directory := str(self.path.parent)) not in sys.path:
            sys.path.insert(0, directory)  # the scripts import each other
        return importlib.import_module(self.stem)


if __name__ == "__main__":  # cp -r "$(python -m lskd.commands.workflow)/scripts/profiles/slurm" my_cluster
    print(workflow_root())
