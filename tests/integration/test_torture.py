"""Some of the kills of ``make torture``: commands that are killed at random moments lose nothing and resume."""

import json
import textwrap
from pathlib import Path

import pytest
from torture import kill_at_random as torture
from torture import subjects

pytestmark = pytest.mark.slow

ROWS = """
    import json, sys, time
    from pathlib import Path
    from lskd.io.files import parse_json, remove_partials, write_json

    path = Path(sys.argv[1], "rows.json")
    path.parent.mkdir(exist_ok=True)
    remove_partials(path.parent)
    rows = parse_json(path.read_text()) if path.exists() else []
    for row in range(len(rows), 30):
        rows.append({"row": row})
        time.sleep(0.01)
        write_json(path, rows)
"""
WRITE = "    write_json(path, rows)\n"
IN_PLACE = ROWS.replace(
    WRITE,
    """    with open(path, "w") as file:
            for piece in json.JSONEncoder().iterencode(rows):
                file.write(piece)
                file.flush()
                time.sleep(1e-4)
""",
)
TWICE = ROWS.replace("range(len(rows), 30)", "range(max(0, len(rows) - 1), 30)")
LEAVING = ROWS.replace(WRITE, WRITE + '        Path(sys.argv[1], f".{row}.partial").write_text("")\n')


def rows_of(dest: Path) -> dict[str, str]:
    return {str(place): str(row) for place, row in enumerate(json.loads((dest / "rows.json").read_text()))}


def tortured(program: str, place: Path) -> list[torture.Kill]:
    """A program that appends 30 rows to a file, and resumes where it was, killed while it sleeps: on a row, or in one.

    Moments, not seconds: on a machine that is busy with something else all kills could come before the first row.
    """
    script = place / "rows.py"
    script.write_text(textwrap.dedent(program))
    moments = {"sleep": ["time:sleep"]}
    return torture.torture(
        subjects.Subject("rows", [str(script), "{dest}"], rows_of, ("rows.json",), moments), 6, place
    )


def test_a_careful_program_survives(tmp_path):
    found = tortured(ROWS, tmp_path)
    assert len(found) >= 6
    assert all(each.survived for each in found)
    assert torture.table(found).startswith(f"rows: survived {len(found)} of {len(found)} kills")


@pytest.mark.parametrize(
    ("program", "lost"),
    [(IN_PLACE, "unreadable"), (TWICE, "differences"), (LEAVING, "differences")],
    ids=["writes in place", "writes a row twice", "leaves files"],
)
def test_a_program_that_is_not_careful_does_not(program, lost, tmp_path):
    assert any(getattr(each, lost) for each in tortured(program, tmp_path))


def test_a_translation_training_survives(data_bin, teacher, tmp_path):
    survives(subjects.nmt(data_bin, teacher), 3, tmp_path)


def test_students_of_images_in_one_process_survive(images, image_teachers, tmp_path):
    survives(subjects.vision(images, image_teachers), 3, tmp_path)


def test_the_cache_of_a_teacher_survives(data_bin, teacher, tmp_path):
    survives(subjects.cache(data_bin, teacher), 2, tmp_path)


def survives(subject: subjects.Subject, kills: int, place: Path) -> None:
    """Kill a command that often, and see that nothing was lost."""
    found = torture.torture(subject, kills, place)
    assert len(found) >= kills
    assert all(each.survived for each in found), torture.table(found)
