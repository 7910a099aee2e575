"""What ``lskd advise`` suggests to run next, the fifth part of its answer, as plain values."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from lskd.commands.advice import Advice, Row
from lskd.commands.training_commands import images, run_beside, student_of, translation
from lskd.measure.representations import Representations
from lskd.records.found_runs import Run

TRIED = (1, 2, 3, 4)  # the temperatures of a first comparison
SEEDS = (1, 2, 3)
USUAL_SMOOTHING = 0.1  # α for new smoothed teachers, if this one is not smoothed


def next_part(path: Path, teacher: Representations, runs: Sequence[Run], outputs: Advice, own: Advice) -> list[Row]:
    """Part 5: what to run next, the most informative first, each with the question that it settles.

    Args:
        path: path of the teacher's representation file.
        teacher: its content.
        runs: the students' runs.
        outputs: part 2.
        own: part 3.
    """
    make = _Trainings(teacher, runs)
    ours = [each for each in own["effects"] if each["of_this_teacher"]]
    steps: list[Row] = []
    if not ours:
        steps.append(_step("which T is best for your data", make.students(TRIED)))
    for effect in (each for each in ours if each["few_seeds"]):
        command = make.students(effect["few_seeds"], "--resume", like=effect["first_run"])
        steps.append(_step(f"whether differences are more than chance, {effect['study']}", command))
    plain = sorted((each for each in ours if each["plain_steps"]), key=lambda each: each["learning_rate"] or 0.0)
    like = plain[0]["first_run"] if plain else None
    matched = {float(T) for each in ours if each["matched"] for T in each["means"]}
    small = {float(T) for T in outputs["small_steps"]}
    missing = sorted({float(T) for each in plain for T in each["means"]} & small - matched)
    if missing and make.vision:
        question = "whether it is T that costs accuracy, or the size of its steps"
        steps.append(_step(question, make.students(missing, "--kd-gradient-scale", "match", like=like)))
    if make.vision and (command := make.larger_rate(plain, own["controls"])):
        steps.append(_step("whether a larger learning rate does better, at T = 1 and at a higher T", command))
    if ours and not own["without_teacher"] and make.vision:
        steps.append(_step("what distillation adds to training on labels", make.alone(like)))
    if (
        ours
        and not any(each["more_than_chance"] for each in own["smoothings"])
        and (command := make.teachers(TRIED, like))
    ):
        steps.append(_step("whether to smooth the teacher, by more teachers of both kinds and their students", command))
    if ours and not own["eta"]:
        steps.append(_step("whether classes drift towards similar ones (η)", make.eta(path)))
    return steps


class _Trainings:
    """Command lines for more runs with this teacher, with the options of an existing run."""

    def __init__(self, teacher: Representations, runs: Sequence[Run]) -> None:
        made = teacher.provenance
        self.checkpoint = made.get("checkpoint") or "TEACHER"
        self.vision = made.get("kind") != "translation"
        self.runs = {str(run.directory): run for run in runs}
        kind = "vision" if self.vision else "translation"
        self.student = student_of([run for run in runs if run.kind == kind])
        self.taught = run_beside(made.get("checkpoint"))
        self.base = self.student or self.taught

    def students(self, temperatures: Sequence[float], *options: str, like: str | None = None) -> str:
        """The command for students at these temperatures, three seeds each, with the settings of the run ``like``."""
        base = self.base if like is None else self.runs[like]
        if not self.vision:
            return translation(base, self.checkpoint, temperatures)
        words = ["--kd-checkpoint", self.checkpoint, "--kd-temperature", *(f"{T:g}" for T in temperatures)]
        return images(base, [*words, *options, "--seed", *SEEDS], None if self.student else "STUDENT")

    def larger_rate(self, plain: Sequence[Row], controls: Sequence[Row]) -> str:
        """The command for students with three times the smallest learning rate, below the directory of their data.

        Empty if there are no students with it at T = 1 and at another T, or if a larger one is compared already.

        Args:
            plain: effects of one student model or of several, by learning rate.
            controls: what is compared.
        """
        compared = {each["student"] for each in controls if each["control"].startswith("--lr")}
        known = [each for each in plain if each["learning_rate"] and "1" in each["means"] and len(each["means"]) > 1]
        base = next((each for each in known if each["student"] not in compared), None)
        if base is None:
            return ""
        rate = f"{3 * base['learning_rate']:g}"
        place = self.runs[base["first_run"]].directory.resolve().parent / f"lr-{rate}"
        options = ("--lr", rate, "--output", str(place), "--resume")
        return self.students([float(T) for T in base["means"]], *options, like=base["first_run"])

    def alone(self, like: str | None) -> str:
        """The command for the student's model without a teacher, with the settings of the run ``like``."""
        return images(self.base if like is None else self.runs[like], ["--seed", *SEEDS], distils=False)

    def teachers(self, temperatures: Sequence[float], like: str | None) -> str:
        """The command for three more teachers, with and without label smoothing, and a student of each at each T.

        The students have the settings of the run ``like``.

        Empty if the command of this teacher, or of a student, is not known.
        """
        if self.taught is None or self.student is None or not self.vision:
            return ""
        used = {run.record.seed for run in (self.taught, *self.runs.values())}
        seeds = [seed for seed in range(1, len(used) + len(SEEDS) + 1) if seed not in used][: len(SEEDS)]
        alpha = f"{self.taught.own_smoothing or USUAL_SMOOTHING:g}"
        train = images(self.taught, ["--smoothing", "0", alpha, "--seed", *seeds], distils=False)
        place = f"{shlex.quote(str(self.taught.directory.parent))}/{self.taught.model}_a$A_s$SEED/last.pth.tar"
        words = ["--kd-temperature", *(f"{T:g}" for T in temperatures)]
        students = (
            f"{images(self.student if like is None else self.runs[like], words)} --kd-checkpoint {place} --seed $SEED"
        )
        every = " ".join(map(str, seeds))
        return f"{train} && for SEED in {every}; do for A in 0 {alpha}; do {students}; done; done"

    def eta(self, path: Path) -> str:
        """The commands for the students' representations, for S1 and S2, and for the answer with η."""
        record = "for RUN in RUNS/*_T[13]_*; do lskd vision representations $RUN/last.pth.tar --data-dir DIR; done"
        if not self.vision:
            record = "lskd nmt representations --data DATA-BIN --path $RUN/checkpoint_best.pt"
            record = f"for RUN in RUNS/*_T[13]_*; do {record}; done"
        sets = f"lskd similar {path} --by distance --targets … --output sets.json"
        return f"{record} && {sets} && lskd advise {path} RUNS --sets sets.json"


def _step(question: str, command: str) -> Row:
    return {"settles": question, "command": command}
