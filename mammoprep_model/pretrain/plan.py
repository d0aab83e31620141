"""What a pretraining learns from and writes where: said, and refused where it cannot be, before anything is written."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Panoptic
from mammoprep_model import provenance, settings, weights
from mammoprep_model.log import Step
from mammoprep_model.pretrain import recipe, samples
from mammoprep_model.pretrain.images import Chosen
from mammoprep_model.pretrain.leakage import NAME
from mammoprep_model.pretrain.recipe import FromScratch, PretrainConfig

_HINT = "There is nothing to resume; leave --resume out to start."


@dataclass(frozen=True)
class Choices:
    """What a backbone is made with: `fold` is the one whose validation patients are left out, None: nobody is."""

    base: str
    config: PretrainConfig
    fold: int | None = 0
    seed: int = 0


@dataclass(frozen=True)
class Session:
    """What is said about one call: where it computes, how it treats an old OUT, who listens to each stage's steps."""

    weights: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    on_step: Callable[[str, Step], None] | None = None
    on_note: Callable[[str], None] | None = None


def _started(out: Path) -> Path:
    """Give the pretrain.json of a pretraining that goes on in `out`.partial, or that is done."""
    work = panoptic.partial_of(out)
    return (work if work.exists() else out) / NAME


def read_choices(out: Path) -> Choices:
    """Read with what the pretraining of `out` was started."""
    path = _started(out)
    content = panoptic.read_json(path, hint=_HINT)
    try:
        config = settings.from_json(type(recipe.BASES[content["base"]]), content["config"])
        return Choices(content["base"], config, content["fold"], content["seed"])
    except (KeyError, TypeError) as error:
        raise MammoprepError(f"{path} is not a pretraining's: {error!s} is missing or of another type.") from error


def with_places(session: Session, *, base: str, out: Path) -> Session:
    """Give a session that resumes the place of the base with which it was started, where it names no other."""
    place = panoptic.read_json(_started(out), hint=_HINT).get("weights") if session.resume else None
    return replace(session, weights={base: place, **session.weights}) if place else session


def check_enough(root: Path, chosen: Chosen, config: PretrainConfig) -> None:
    """Refuse fewer images than one step takes, or than two for each side of a comparison."""
    stages = recipe.stages(config)
    if not stages:
        raise MammoprepError("No stage has a step. Say --set diffusion.steps=10000.")
    needed = max(4, *(stage.batch_size for stage in stages.values()))
    if len(chosen.images) < needed:
        more = f" ({len(chosen.held_out)} more are of patients that the fold validates on)" if chosen.held_out else ""
        raise MammoprepError(
            f"{root} has {len(chosen.images)} lesion-free images to learn from{more}, but {needed} are needed: as many"
            " as a step takes, at least 4. Convert more of them, or lower --set diffusion.batch_size=N."
        )


def facts_of(
    source: Panoptic, *, choices: Choices, chosen: Chosen, device: str, places: Mapping[str, str]
) -> dict[str, Any]:
    """Give what pretrain.json says."""
    is_random = isinstance(choices.config, FromScratch)
    return {
        "base": choices.base,
        "weights": None if is_random else places.get(choices.base, weights.source_of(choices.base).default),
        "dataset": str(source.root),
        "manifest_sha256": provenance.data_hash(source.root),
        "folds_sha256": None if choices.fold is None else panoptic.file_hash(source.root / "folds.json"),
        "fold": choices.fold,
        "images": len(chosen.images),
        "patients": chosen.patients,
        "left_out": {"images": len(chosen.held_out), "patients": chosen.held_out_patients},
        "seed": choices.seed,
        "config": asdict(choices.config),
        "sheet": samples.most_frequent(chosen.prompts),
        "device": device,
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
    }


def _fixed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what may differ between two starts of one pretraining: how the stages train, and where."""
    config = {name: value for name, value in facts["config"].items() if name not in recipe.STAGES}
    ours = {"config": config, "versions": {**facts["versions"], "gpu": ""}}
    free = ("weights", "dataset", "device", "git_commit")
    return {**{name: value for name, value in facts.items() if name not in free}, **ours}


def is_done(out: Path, work: Path, *, facts: Mapping[str, Any]) -> bool:
    """Tell whether `out` is the finished backbone that is asked for; where `work` is there, it may be an older one."""
    if not (out / NAME).is_file():
        return False
    before = panoptic.read_json(out / NAME, hint="Begin anew with --overwrite.")
    try:
        panoptic.refuse_other(*({**_fixed(each), "config": each["config"]} for each in (before, facts)), where=out)
    except MammoprepError:
        if work.exists():
            return False
        raise
    return True


def check_out(out: Path, work: Path, *, facts: Mapping[str, Any], session: Session) -> None:
    """Refuse an `out` that is taken, and a pretraining begun there that neither is resumed nor may be replaced."""
    if session.resume:
        before = panoptic.read_json(work / NAME, hint=_HINT)
        panoptic.refuse_other(_fixed(before), _fixed(facts), where=work)
        return
    panoptic.check_vacant(out, overwrite=session.overwrite)
    if work.exists() and not session.overwrite:
        raise MammoprepError(f"{work} holds a pretraining that was stopped. Say --resume, or --overwrite.")


def begin(work: Path, *, facts: Mapping[str, Any], resume: bool, note: Callable[[str], None] | None) -> None:
    """Make room, and say what is learnt from."""
    if not resume:
        panoptic.discard(work)
    with panoptic.writing(work):
        work.mkdir(parents=True, exist_ok=True)
    panoptic.write_bytes(work / NAME, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
    if note:
        left = facts["left_out"]
        whose = f"{left['patients']} patients of fold {facts['fold']}'s validation set are left out"
        who = "no patient is left out: scores of a segmenter on these patients would be flattered"
        said = who if facts["fold"] is None else f"{whose}, with {left['images']} such images"
        note(f"{facts['images']} lesion-free images of {facts['patients']} patients; {said}.")
