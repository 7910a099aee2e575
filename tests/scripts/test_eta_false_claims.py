import csv

import pytest
from helpers.commands import run

pytestmark = pytest.mark.slow


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_of_false_claims_goes_on_where_it_stopped(tmp_path):
    table = tmp_path / "claims.csv"
    words = ["python scripts/eta_false_claims.py --simulations 2 --output", table]
    printed = run(*words).stdout
    assert "no effect" in printed
    assert "an effect" in printed
    whole = rows(table)
    assert all(0 <= float(row["isotropic_percent"]) <= 100 for row in whole)
    assert len({row["setting"] for row in whole}) == len(whole) == 30
    lines = table.read_text(encoding="utf-8").splitlines()
    told = lines[1].replace(lines[1].split(",")[-1], "77.0")  # what is there is not simulated again
    table.write_text("\n".join([lines[0], told, *lines[2:9]]) + "\n", encoding="utf-8")
    run(*words)
    again = rows(table)
    assert again[0]["together_percent"] == "77.0"
    assert again[1:] == whole[1:]
