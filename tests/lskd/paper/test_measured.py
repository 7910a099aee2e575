import json
import re

import numpy as np
import pytest
from helpers.small_runs import image_run, translation_run

from lskd.commands.main import parser
from lskd.io.errors import InputError
from lskd.measure.representation_collector import RepresentationCollector
from lskd.measure.representations import write_representations
from lskd.paper.measured import measure
from lskd.paper.published import published
from lskd.paper.table_layout import grid
from lskd.records.runs import read_run, write_run
from lskd.report.origins import described, of_measurements


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def by_place(figures):
    return {(f.student, f.label_smoothing, f.temperature, f.target_class, f.split, f.metric): f for f in figures}


def eta_file(path, split="validation", variant="centroid", model="student_net", alpha=0.10005):
    def file(temperature):
        provenance = {"model": model, "split": split, "data": {"dataset": "torch/clothes"}}
        provenance |= {"teacher": {"model": "teacher_net", "label_smoothing": {"alpha": alpha}}}
        return [{"file": "x", "provenance": provenance | {"configuration": {"temperature": temperature}}}]

    row = {"target": "n02099601", "eta_similar_percent": -1.5, "eta_similar_sd_percent": 0.5, "n": 2}
    row |= {"eta_dissimilar_percent": 0.25, "eta_dissimilar_sd_percent": None, "similar": ["a"], "dissimilar": ["b"]}
    return written(path, {"first": file(1.0), "second": file(3.0), "variant": variant, "rows": [row]})


def entropy_row(alpha, temperature, nats, seed=1, **others):
    row = {"file": f"t{seed}", "model": "teacher_net", "label_smoothing": alpha, "seed": seed, "split": "train"}
    return row | {"temperature": temperature, "entropy_nats": nats, "largest_entropy_nats": 2.302585} | others


def test_seeds_are_one_figure_with_mean_and_sample_standard_deviation(tmp_path):
    for seed, top1 in enumerate([80.0, 81.0, 83.0], 1):
        image_run(tmp_path, 0.1, 1.0, seed=seed, top1=top1)
    image_run(tmp_path, 0.1, 3.0, top1=70.0)
    figures, notes = measure("D.1", [tmp_path])
    found = by_place(figures)
    one = found["student_net", 0.1, 1.0, None, None, "top1"]
    assert one.mean == pytest.approx(244 / 3)
    assert one.standard_deviation == pytest.approx((7 / 3) ** 0.5)  # 16/9, 1/9 and 25/9, halved
    assert (one.n, one.unit, one.data, one.teacher, one.table) == (3, "%", "clothes", "teacher_net", "D.1")
    single = found["student_net", 0.1, 3.0, None, None, "top1"]
    assert (single.mean, single.standard_deviation, single.n, single.flag) == (70.0, None, 1, None)
    assert len(figures) == 4
    assert notes == []


def test_the_last_epoch_counts_not_the_best(tmp_path):
    image_run(tmp_path, 0.1, 1.0, top1=80.0)  # its best checkpoint has 99.99
    assert {figure.mean for figure in measure("2A", [tmp_path])[0] if figure.metric == "top1"} == {80.0}


def test_teachers_are_those_that_taught_and_models_that_taught_nobody_are_ignored(tmp_path):
    image_run(tmp_path, 0.1, 1.0)
    image_run(tmp_path, 0.1, top1=77.0)
    image_run(tmp_path, 0.1, top1=79.0, seed=2)  # taught none of these students, but is of the teachers' model
    image_run(tmp_path, 0.0, top1=50.0, model="another_net")
    teachers = [figure for figure in measure("2B", [tmp_path])[0] if figure.student is None]
    assert [(f.teacher, f.label_smoothing, f.metric, f.n) for f in teachers] == [
        ("teacher_net", 0.1, "top1", 2),
        ("teacher_net", 0.1, "top5", 2),
    ]
    assert teachers[0].mean == 78.0
    assert teachers[0].temperature is None


def test_a_table_of_students_alone_takes_no_teachers(tmp_path):
    image_run(tmp_path, 0.1, 1.0)
    teacher = image_run(tmp_path, 0.1)
    assert {figure.student for figure in measure("D.2", [tmp_path])[0]} == {"student_net"}
    with pytest.raises(InputError, match=r"must have a result of Table D\.2"):
        measure("D.2", [teacher])


def test_translations_have_bleu_of_the_best_checkpoint_and_that_of_tokenised_text(tmp_path):
    translation_run(tmp_path, bleu=22.0)
    translation_run(tmp_path, 3.0, bleu=12.5)
    found = by_place(measure("5", [tmp_path])[0])
    student = "transformer, 2+1 layers, d = 128"
    assert found[student, 0.1, 3.0, None, None, "bleu"].mean == 12.5  # fairseq's .10005 is .1
    assert found[student, 0.1, 3.0, None, None, "tokenised_lowercased_bleu"].mean == 13.5
    assert found[None, 0.1, None, None, None, "bleu"].mean == 22.0
    assert {figure.unit for figure in found.values()} == {"BLEU"}


def test_of_a_directory_with_images_and_translations_a_table_takes_its_own(tmp_path):
    image_run(tmp_path / "letters", 0.1, 1.0, top1=80.0)
    image_run(tmp_path / "letters", 0.1)
    translation_run(tmp_path / "en-de", bleu=22.0)
    translation_run(tmp_path / "en-de", 3.0, bleu=12.5)
    for table, place in (("2A", "letters"), ("5", "en-de")):
        assert measure(table, [tmp_path]) == measure(table, [tmp_path / place])


def test_a_model_keeps_its_name_beside_the_one_it_stands_for(tmp_path):
    image_run(tmp_path / "a", 0.1, 1.0)
    image_run(tmp_path / "a", 0.1)
    figures, _ = measure("2A", [tmp_path / "a"], {"student_net": "ResNet-18"})
    assert {(f.student, f.stands_for) for f in figures} == {("student_net", "ResNet-18"), (None, None)}
    translation_run(tmp_path / "b", 1.0)
    figures, _ = measure("5", [tmp_path / "b"], {"transformer": "Transformer"})
    assert {f.stands_for for f in figures} == {"Transformer"}
    with pytest.raises(
        InputError, match=r"^--as: student \(must be a model of the inputs: student_net, teacher_net\)$"
    ):
        measure("2A", [tmp_path / "a"], {"student": "ResNet-18"})


def test_eta_is_of_the_table_whose_variant_it_is(tmp_path):
    centroid, pairwise = eta_file(tmp_path / "c.json"), eta_file(tmp_path / "p.json", variant="pairwise")
    train = eta_file(tmp_path / "t.json", split="train")
    figures, _ = measure("3", [centroid, train])
    assert len(figures) == 4
    found = by_place(figures)
    similar = found["student_net", 0.1, 3.0, "golden retriever", "val", "eta_similar"]
    assert (similar.mean, similar.standard_deviation, similar.n) == (-1.5, 0.5, 2)
    assert (similar.reference_temperature, similar.unit, similar.data) == (1.0, "%", "clothes")
    assert found["student_net", 0.1, 3.0, "golden retriever", "train", "eta_dissimilar"].mean == 0.25
    assert {f.metric for f in measure("K.1", [pairwise])[0]} == {"eta_pairwise_similar", "eta_pairwise_dissimilar"}
    for table, path in (("3", pairwise), ("K.1", centroid)):
        with pytest.raises(InputError, match=re.escape(f"INPUT: {path} (must have a result of Table {table}: eta_")):
            measure(table, [path])
    squared = eta_file(tmp_path / "x.json", variant="pairwise-squared")
    with pytest.raises(InputError, match=re.escape(f"INPUT: {squared} (has η of variant pairwise-squared; must be")):
        measure("3", [squared])


def test_eta_corrected_for_few_samples_is_taken_with_a_note_and_its_warnings(tmp_path):
    path = eta_file(tmp_path / "c.json", variant="corrected")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"warnings": ["--second: b (has label smoothing 0.1 …), allowed."]}))
    figures, notes = measure("3", [path])
    assert {(f.metric, f.mean) for f in figures} == {("eta_similar", -1.5), ("eta_dissimilar", 0.25)}
    assert notes == [
        "--second: b (has label smoothing 0.1 …), allowed.",
        "η of clothes is corrected for the noise of few samples (variant corrected); the paper's is not.",
    ]


def test_scores_are_told_to_be_of_which_text(tmp_path):
    for temperature, text in ((1.0, "tokenised text"), (3.0, "detokenised text")):
        scored(translation_run(tmp_path, temperature), text)
    assert measure("5", [tmp_path])[1] == [
        "BLEU is of detokenised text.",
        "BLEU is of tokenised text.",
        "Scores of different texts do not compare.",
    ]
    translation_run(tmp_path, 2.0)
    assert "The record of 1 run does not say of which text BLEU was computed." in measure("5", [tmp_path])[1]


def scored(run, text):
    record = read_run(run)
    record.metrics["test"]["checkpoint_best.pt"]["of"] = f"of {text}"
    write_run(record, run)


def test_entropies_of_teachers_are_summed_up_over_seeds(tmp_path):
    rows = [entropy_row(0.1, 1.0, 0.5), entropy_row(0.1, 1.0, 0.7, seed=2), entropy_row(0.0, 2.0, 0.25)]
    rows.append(entropy_row(None, 1.0, 9.0))  # a student's
    figures, notes = measure("H.1", [written(tmp_path / "e.json", {"rows": rows})])
    assert [(f.label_smoothing, f.temperature, round(f.mean, 6), f.n) for f in figures] == [
        (0.0, 2.0, 0.25, 1),
        (0.1, 1.0, 0.6, 2),
    ]
    assert figures[1].standard_deviation == pytest.approx(0.02**0.5)
    assert notes == ["Measured entropies are at most ln K = 2.303 nats."]


def test_students_stand_beside_the_entropy_of_their_targets(tmp_path):
    image_run(tmp_path, 0.1, 1.0, top1=70.0)
    image_run(tmp_path, 0.0, 1.481375, top1=75.0)
    rows = [entropy_row(0.1, 1.0, 0.5), entropy_row(0.0, 1.0, 0.1), entropy_row(0.0, 1.4814, 0.5)]
    path = written(tmp_path / "e.json", {"rows": rows})
    found = by_place(measure("H.2", [tmp_path / "data", path])[0])
    assert found["student_net", 0.1, 1.0, None, "train", "entropy"].mean == 0.5
    assert found["student_net", 0.0, 1.481375, None, "train", "entropy"].mean == 0.5
    assert found["student_net", 0.0, 1.481375, None, None, "top1"].mean == 75.0
    assert len(found) == 6
    other = written(tmp_path / "o.json", {"rows": [entropy_row(0.2, 1.0, 0.5)]})
    with pytest.raises(InputError, match=re.escape(str(other))):
        measure("H.2", [tmp_path / "data", path, other])


def test_counts_of_classes_are_of_mean_outputs(tmp_path):
    far = {"class": "Bag", "far_below_second": 7, "classes": 10, "outputs": "Bag 1"}
    row = {name: value for name, value in entropy_row(0.1, 1.0, 0).items() if "entropy" not in name}
    path = written(tmp_path / "e.json", {"rows": [entropy_row(0.1, 1.0, 0.5), row | far]})
    figures, notes = measure("E", [path])
    assert [(f.target_class, f.mean, f.unit, f.metric) for f in figures] == [("Bag", 7, "classes", "count")]
    assert notes == ["Measured counts are of 10 classes."]


def accuracy_row(name, top1, temperature=1.0, role="student", split="valid"):
    row = {
        "number": 1,
        "role": role,
        "model": f"{role}_net",
        "label_smoothing": 0.10005,
        "temperature": temperature,
        "split": split,
        "class": name,
    }
    return row | {"top1": top1, "top1_sd": 1.0, "n": 3, "files": "x"}


def test_accuracy_of_classes_has_an_average_as_the_table_has(tmp_path):
    rows = [accuracy_row(None, 75.0), accuracy_row("Bag", 70.0), accuracy_row("Coat", 80.0)]
    rows += [accuracy_row("Bag", 9.0, None, "teacher")]
    figures, _ = measure("I.1", [written(tmp_path / "a.json", {"rows": rows})])
    assert [(f.target_class, f.mean, f.standard_deviation, f.n) for f in figures] == [
        ("Bag", 70.0, 1.0, 3),
        ("Coat", 80.0, 1.0, 3),
        ("average", 75.0, None, 3),
    ]
    assert {(f.student, f.split, f.temperature, f.label_smoothing) for f in figures} == {
        ("student_net", "val", 1.0, 0.1)
    }


def test_agreement_keeps_its_mean_and_what_chance_gives(tmp_path):
    rows = [
        {"target": name, "shown": name, "similar": similar, "dissimilar": 0.5}
        for name, similar in (("Bag", 0.25), ("Coat", 0.75), ("mean", 0.5), ("by chance", 0.1))
    ]
    figures, _ = measure("G.1", [written(tmp_path / "g.json", {"by": "wordnet", "rows": rows})])
    assert [(f.target_class, f.mean) for f in figures if f.metric == "agreement_similar"] == [
        ("Bag", 0.25),
        ("Coat", 0.75),
        ("average", 0.5),
        ("by chance", 0.1),
    ]


def test_figures_name_the_model_and_data_that_the_file_was_made_from(tmp_path):
    names = ["ant", "bee", "cow", "dog", "elk"]
    features = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for data, split, expected in (
        (None, "last-layer", "efficient_net, its last layer alone"),
        ({"dataset": "torch/clothes"}, "validation", "clothes: teacher efficient_net, val"),
    ):
        recorder = RepresentationCollector(names, 4)
        if data:
            recorder.add(features, np.arange(5))
        provenance = {"model": "efficient_net", "split": split, "data": data}
        file = tmp_path / f"{split}.representations.safetensors"
        write_representations(file, recorder.result(weight=features, bias=None, provenance=provenance))
        groups = written(tmp_path / "groups.json", {"small": names[:2], "large": names[2:]})
        words = ["similar", file, "--by", "groups", "--groups", groups, "--dissimilar", "2", "--agree-with", "distance"]
        words += ["--from", "templates" if data is None else "centroids", "--agreement", tmp_path / "g.json"]
        arguments = parser().parse_args(list(map(str, words)))
        arguments.run(arguments)
        figures, _ = measure("G.1", [tmp_path / "g.json"])
        assert of_measurements(figures) == [expected]
        assert "teacher efficient_net" in described(figures)


@pytest.mark.parametrize("command", ["entropy", "accuracy"])
def test_tables_of_other_commands_carry_their_data(command, tmp_path):
    row = entropy_row(0.1, 1.0, 0.5, data="clothes") if command == "entropy" else accuracy_row("Bag", 1.0, 1)
    table = {"entropy": "H.1", "accuracy": "I.1"}[command]
    figures, _ = measure(table, [written(tmp_path / "a.json", {"rows": [row | {"data": "clothes"}]})])
    assert {figure.data for figure in figures} == {"clothes"}
    without = written(tmp_path / "b.json", {"rows": [{key: row[key] for key in row if key != "data"}]})
    assert all(origin.startswith("data not recorded: ") for origin in of_measurements(measure(table, [without])[0]))


def test_feature_distillation_is_not_mixed_with_that_of_logits(tmp_path):
    logit = image_run(tmp_path / "a", 0.1, 1.0)
    features = image_run(tmp_path / "b", 0.1, 1.0, host={"kd_distill_type": "overhaul"})
    assert {f.distill_type for f in measure("B.5", [features])[0]} == {"overhaul"}
    assert {f.distill_type for f in measure("2B", [logit])[0]} == {"logit"}
    with pytest.raises(InputError, match=r"must be distilled by features too .* for Table B\.5"):
        measure("B.5", [logit])
    with pytest.raises(InputError, match="must be distilled by the logits alone"):
        measure("2B", [features])


def test_runs_of_one_seed_or_of_other_settings_are_no_figure(tmp_path):
    first = image_run(tmp_path / "a", 0.1, 1.0)
    again = image_run(tmp_path / "b", 0.1, 1.0)
    with pytest.raises(InputError, match="is the same run as"):
        measure("2A", [first, again])
    other = image_run(tmp_path / "c", 0.1, 1.0, seed=2, host={"epochs": 90})
    with pytest.raises(InputError, match=rf"INPUT: {re.escape(str(other))} \(differs from .* in epochs"):
        measure("2A", [first, other])
    teachers = [image_run(tmp_path / place, 0.1, top1=80.0) for place in "de"]
    with pytest.raises(InputError, match="must be given once"):
        measure("2A", [first, *teachers])


def test_what_cannot_be_used_is_said_in_one_line(tmp_path):
    run = image_run(tmp_path, 0.1, 1.0)
    unknown = image_run(tmp_path / "u", None, 1.0)
    entropies = written(tmp_path / "e.json", {"rows": [entropy_row(0.1, 1.0, 0.5)]})
    wrong = written(tmp_path / "w.json", {"rows": [entropy_row(0.1, "hot", 0.5)]})
    nothing = written(tmp_path / "n.json", {"sets": 1})
    (tmp_path / "empty").mkdir()
    for table, inputs, message in [
        ("9Z", [run], "table: 9Z (must be one of"),
        ("5", [run], f"INPUT: {run} (must have a result of Table 5: bleu of teachers and students)"),
        ("3", [run], f"INPUT: {run} (must have a result of Table 3"),
        ("2A", [run, entropies], f"INPUT: {entropies} (must have a result of Table 2A: top1, top5 of teachers and"),
        ("2A", [unknown], "must be of a teacher whose α is known"),
        ("H.1", [entropies, tmp_path / "w.json"], f"{wrong}: rows[0]: temperature (must be a number, not text)"),
        ("H.1", [nothing], f"INPUT: {nothing} (must be a run, a representation file"),
        ("2A", [tmp_path / "run.txt"], "must be a run, a representation file"),
        ("2A", [tmp_path / "empty"], "must be a run, a representation file"),
    ]:
        with pytest.raises(InputError) as error:
            measure(table, inputs)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"none\.json"):
        measure("H.1", [tmp_path / "none.json"])


def test_one_entropy_from_two_files_is_refused(tmp_path):
    paths = [written(tmp_path / name, {"rows": [entropy_row(0.1, 1.0, 0.5)]}) for name in ("a.json", "b.json")]
    with pytest.raises(InputError, match="has seed 1 at T = 1 twice, or as another input"):
        measure("H.1", paths)


def test_the_layout_is_the_published_table_s_and_what_varies_besides_goes_down(tmp_path):
    image_run(tmp_path, 0.1, 1.0)
    layout = grid(measure("2A", [tmp_path])[0], published("2A"))
    assert layout.down == ["student", "temperature"]
    assert layout.titles == ["top-1 % α = 0.1", "top-5 % α = 0.1"]
    image_run(tmp_path, 0.1, 1.0, model="other_net")
    layout = grid(measure("D.4", [tmp_path])[0], published("D.4"))
    assert layout.down == ["temperature", "student"]
    assert [names for names, _ in layout.rows] == [[1.0, "other_net"], [1.0, "student_net"]]
