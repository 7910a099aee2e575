"""Where the workflow and the scripts that prepare data are, and these scripts as ``lskd data NAME``.

In a checkout they are ``scripts/`` and ``data_prep/`` beside the packages; a wheel has them in ``lskd/workflow``. Only
:func:`workflow_root` tells the two apart: the scripts find each other by their own place.
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
    """A script of ``data_prep`` as a subcommand, which the command line loads as it does an entry point.

    Attributes:
        stem: of the file.
        extra: of this package, with what the script needs.
    """

    stem: str
    extra: str

    @property
    def name(self) -> str:
        """The command: ``libreoffice-help``."""
        return self.stem.replace("_", "-")

    @property
    def path(self) -> Path:
        """The file."""
        return workflow_root() / "data_prep" / f"{self.stem}.py"

    def load(self) -> ModuleType:
        """Import the script, which has ``parser()`` and ``main(arguments)``."""
        if (directory := str(self.path.parent)) not in sys.path:
            sys.path.insert(0, directory)  # the scripts import each other
        return importlib.import_module(self.stem)


if __name__ == "__main__":  # cp -r "$(python -m lskd.commands.workflow)/scripts/profiles/slurm" my_cluster
    print(workflow_root())
