"""Metadata and settings are in pyproject.toml. Here: what a wheel holds beside the packages, in lskd/workflow."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# What `lskd reproduce` and `lskd data` run. In a checkout, and after `pip install -e`, they run it where it is.
WORKFLOW = (
    "data_prep/*.py",
    "data_prep/samples/*",
    "scripts/Snakefile",
    *(
        f"scripts/{name}.py"
        for name in (
            "definitions",
            "jobs",
            "measurements",
            "models",
            "plan",
            "run_job",
            "scale_definitions",
            "students",
            "study",
            "translation_models",
        )
    ),
    "scripts/experiments/*.yaml",
    "scripts/profiles/*/config.yaml",
    "scripts/scales/*.yaml",
)


class BuildWithWorkflow(build_py):
    """Copy the workflow too."""

    def run(self) -> None:
        """Build the packages, and copy what :data:`WORKFLOW` names; a pattern that fits nothing is an error."""
        super().run()
        if self.editable_mode:
            return
        for pattern in WORKFLOW:
            if not (files := sorted(Path().glob(pattern))):
                raise FileNotFoundError(f"{pattern}: no such file")
            for file in files:
                place = Path(self.build_lib, "lskd", "workflow", file)
                self.mkpath(str(place.parent))
                self.copy_file(str(file), str(place))


setup(cmdclass={"build_py": BuildWithWorkflow})
