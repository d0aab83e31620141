"""Folds that cannot be learnt or judged are refused or remarked upon before anything is written."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import plan, trainer
from mammoprep_model.config import Preset
from mammoprep_model.trainer import Session

pytestmark = pytest.mark.usefixtures("fake_network")
CPU = Session(device="cpu")


def without_lesions(dataset: Path, image_ids: Sequence[int], *, of_class: Sequence[int] = (1, 2)) -> None:
    """Let lesions of some classes be breast on some images; the panoptic PNG stays as it is."""
    source = panoptic.load(dataset)
    images = []
    for image in source.images:
        changed = tuple(
            replace(segment, category_id=3) if image.id in image_ids and segment.category_id in of_class else segment
            for segment in image.segments
        )
        images.append(replace(image, segments=changed))
    panoptic.write_panoptic(dataset, categories=source.categories, images=images)


def test_a_fold_with_nothing_to_learn_is_refused(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    without_lesions(dataset, [2, 3, 5, 6])
    with pytest.raises(MammoprepError, match="none of the 4 training images of fold 0 has a lesion"):
        trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    assert not (tmp_path / "run").exists()


def test_a_fold_that_cannot_be_scored_is_trained_and_remarked_upon(
    dataset: Path, tmp_path: Path, small_preset: Preset
) -> None:
    without_lesions(dataset, [1, 4])
    notes: list[str] = []
    trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=replace(CPU, on_note=notes.append))
    assert notes == ["Fold 0: no validation image has a lesion, so PQ and AP say nothing of it."]


def test_weights_are_not_chosen_by_images_without_lesions(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    without_lesions(dataset, [1, 4])
    validating = replace(small_preset, train=replace(small_preset.train, validate_every=2))
    with pytest.raises(MammoprepError, match="none of the 2 validation images of fold 0 .* train.validate_every=0"):
        trainer.train(dataset, out=tmp_path / "run", preset=validating, session=CPU)
    assert not (tmp_path / "run").exists()


def test_a_class_that_no_training_image_shows_is_remarked_upon(
    dataset: Path, tmp_path: Path, small_preset: Preset
) -> None:
    without_lesions(dataset, [3, 5], of_class=[2])
    source = panoptic.load(dataset)
    jobs = plan.plan(source, out=tmp_path / "run", preset=small_preset, fold="all", seed=0, session=CPU)
    assert plan.remarks(source, jobs) == ["Fold 0: no training image shows BI-RADS 4, which will not be learnt."]


def test_categories_that_differ_on_resume_are_named(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=CPU)
    content = json.loads((dataset / "panoptic.json").read_text())
    content["categories"][1]["name"] = "BI-RADS 5"
    (dataset / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(MammoprepError, match="it lacks BI-RADS 4 and it adds BI-RADS 5") as error:
        trainer.train(dataset, out=run, preset=small_preset, session=replace(CPU, resume=True))
    assert "\n" not in str(error.value)


def test_a_finished_fold_is_known_whatever_else_the_preset_says(
    dataset: Path, tmp_path: Path, small_preset: Preset
) -> None:
    """What the paper published of a preset does not stand in run.json."""
    published = replace(small_preset, published="M-ODISE", trained=27.477)
    run = trainer.train(dataset, out=tmp_path / "run", preset=published, session=CPU)
    predictions = run / "fold-0" / "predictions" / "instances.json"
    before = predictions.stat().st_mtime_ns
    trainer.train(dataset, out=run, preset=published, session=replace(CPU, resume=True))
    assert predictions.stat().st_mtime_ns == before


def test_each_fold_may_have_a_backbone_of_its_own(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    folds = range(len(panoptic.load_folds(dataset)))
    for fold in folds:
        (tmp_path / f"fold-{fold}").mkdir()
    session = replace(CPU, weights={"mam-e": f"{tmp_path}/fold-{{fold}}", "biomedclip": "one/for-all"})
    planned = partial(plan.plan, panoptic.load(dataset), out=tmp_path / "run", preset=small_preset, seed=0)
    places = [job.config.weights for job in planned(fold="all", session=session)]
    assert places == [{"mam-e": f"{tmp_path}/fold-{fold}", "biomedclip": "one/for-all"} for fold in folds]

    (tmp_path / "fold-1").rmdir()
    assert planned(fold=0, session=session)[0].config.weights == places[0]
    with pytest.raises(MammoprepError, match=r"^mam-e: there is no .*/fold-1, which fold 1 needs\.$"):
        planned(fold="all", session=session)


def test_folds_that_a_run_had_not_reached_begin_from_the_same_weights_when_it_is_resumed(
    dataset: Path, tmp_path: Path, small_preset: Preset
) -> None:
    """The line that says how to go on names no weights, and a hub's default would be another backbone."""
    folds = range(len(panoptic.load_folds(dataset)))
    for fold in folds:
        (tmp_path / f"fold-{fold}").mkdir()
    out, source = tmp_path / "run", panoptic.load(dataset)
    session = replace(CPU, weights={"mam-e": f"{tmp_path}/fold-{{fold}}"})
    planned = partial(plan.plan, source, out=out, preset=small_preset, fold="all", seed=0)
    jobs = planned(session=session)
    plan.begin(out, jobs, fold="all", session=session)
    plan.open_run(jobs[0])

    again = plan.with_places(replace(CPU, resume=True), out=out)
    assert [job.config.weights for job in planned(session=again)] == [job.config.weights for job in jobs]
    moved = plan.with_places(replace(CPU, resume=True, weights={"mam-e": "elsewhere"}), out=out)
    assert [job.config.weights for job in planned(session=moved)] == [{"mam-e": "elsewhere"}] * len(folds)
