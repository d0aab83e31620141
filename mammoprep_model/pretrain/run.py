"""Pretrain a backbone on a DATASET: what is said before anything is written, stage after stage, and the folder made."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Panoptic
from mammoprep_model import checkpoint, parts, provenance, settings, weights
from mammoprep_model.log import Step
from mammoprep_model.pretrain import images, loop, pipeline, recipe, samples
from mammoprep_model.pretrain.diffusion import Diffusion
from mammoprep_model.pretrain.images import Chosen, Mammograms
from mammoprep_model.pretrain.leakage import NAME
from mammoprep_model.pretrain.loop import Work
from mammoprep_model.pretrain.pipeline import Pipeline
from mammoprep_model.pretrain.recipe import PretrainConfig, StageConfig
from mammoprep_model.pretrain.stage import Stage
from mammoprep_model.ranks import Ranks

_RESULT, _STATE = "pipeline", "state.pt"
_FINISHING_IMAGES = 1024
"""At most so many images are given to a stage that measures something at its end."""


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


@dataclass(frozen=True)
class _Job:
    """One pretraining, resolved: what is learnt from, and the folder `work` in which it is done."""

    root: Path
    choices: Choices
    chosen: Chosen
    device: str
    work: Path
    ranks: Ranks
    session: Session


def pretrain(dataset: Path, *, out: Path, choices: Choices, session: Session) -> Path:
    """Pretrain on the lesion-free images of a DATASET and give the diffusers folder `out`, which is whole or not there.

    Meanwhile all lies in `out`.partial, from which `session.resume` goes on as if it had never stopped. Under torchrun
    all processes train one network; the first of them writes and is listened to.

    Raises `Stopped` after Ctrl-C or SIGTERM.
    """
    recipe.check(choices.config)
    with Ranks(session.device) as ranks, panoptic.locked(panoptic.lock_of(out)) if ranks.is_first else nullcontext():
        source = panoptic.load(dataset)
        chosen = images.choose(source, fold=choices.fold)
        _check_enough(source.root, chosen, choices.config)
        device = str(checkpoint.pick_device(session.device))
        work = panoptic.partial_of(out)
        facts = _facts(source, choices=choices, chosen=chosen, device=device, places=session.weights)
        if session.resume and _is_done(out, work, facts=facts):
            if ranks.is_first:
                panoptic.discard(work)
            return out
        _check_out(out, work, facts=facts, session=session)
        job = _Job(source.root, choices, chosen, device, work, ranks, session)
        made = _base(choices.base, session.weights)
        ranks.gather(None)
        if ranks.is_first:
            _begin(work, facts=facts, resume=session.resume, note=session.on_note)
        ranks.gather(None)
        try:
            for name, config in _stages(choices.config):
                made = _run(name, made, config=config, job=job)
        except torch.OutOfMemoryError as error:
            raise MammoprepError(
                "Out of GPU memory. Go on with --resume and a lower --set diffusion.micro_batch=N (or samples=N), or"
                " begin anew with a smaller size."
            ) from error
        if ranks.is_first:
            _publish(job, out)
        ranks.gather(None)
    return out


def read_choices(out: Path) -> Choices:
    """Read with what the pretraining of `out` was started."""
    work = panoptic.partial_of(out)
    path = (work if work.exists() else out) / NAME
    content = panoptic.read_json(path, hint="There is nothing to resume; leave --resume out to start.")
    try:
        config = settings.from_json(PretrainConfig, content["config"])
        return Choices(content["base"], config, content["fold"], content["seed"])
    except (KeyError, TypeError) as error:
        raise MammoprepError(f"{path} is not a pretraining's: {error!s} is missing or of another type.") from error


def _stages(config: PretrainConfig) -> Iterator[tuple[str, StageConfig]]:
    """Give the stages that are to be run, in their order."""
    for name in ("diffusion",):
        if (stage := getattr(config, name)).steps:
            yield name, stage


def _check_enough(root: Path, chosen: Chosen, config: PretrainConfig) -> None:
    """Refuse fewer images than one step takes."""
    needed = max((stage.batch_size for _, stage in _stages(config)), default=0)
    if not needed:
        raise MammoprepError("No stage has a step. Say --set diffusion.steps=10000.")
    if len(chosen.images) < needed:
        others = f" ({chosen.held_out_images} more are of patients that the fold validates on)"
        raise MammoprepError(
            f"{root} has {len(chosen.images)} lesion-free images to learn from{others * bool(chosen.held_out_images)},"
            f" but one step takes {needed}. Convert more with --normals, or lower --set diffusion.batch_size=N."
        )


def _facts(
    source: Panoptic, *, choices: Choices, chosen: Chosen, device: str, places: Mapping[str, str]
) -> dict[str, Any]:
    """Give what pretrain.json says."""
    return {
        "base": choices.base,
        "weights": places.get(choices.base, weights.source_of(choices.base).default),
        "dataset": str(source.root),
        "manifest_sha256": provenance.data_hash(source.root),
        "folds_sha256": None if choices.fold is None else panoptic.file_hash(source.root / "folds.json"),
        "fold": choices.fold,
        "images": len(chosen.images),
        "patients": chosen.patients,
        "left_out": {"images": chosen.held_out_images, "patients": chosen.held_out_patients},
        "seed": choices.seed,
        "config": asdict(choices.config),
        "sheet": samples.most_frequent(chosen.prompts),
        "device": device,
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
    }


def _fixed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what may differ between two starts of one pretraining: how the stages train, and where."""
    config = {name: value for name, value in facts["config"].items() if not isinstance(value, dict)}
    ours = {"config": config, "versions": {**facts["versions"], "gpu": ""}}
    free = ("weights", "dataset", "device", "git_commit")
    return {**{name: value for name, value in facts.items() if name not in free}, **ours}


def _is_done(out: Path, work: Path, *, facts: Mapping[str, Any]) -> bool:
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


def _check_out(out: Path, work: Path, *, facts: Mapping[str, Any], session: Session) -> None:
    """Refuse an `out` that is taken, and a pretraining begun there that neither is resumed nor may be replaced."""
    if session.resume:
        before = panoptic.read_json(work / NAME, hint="There is nothing to resume; leave --resume out to start.")
        panoptic.refuse_other(_fixed(before), _fixed(facts), where=work)
        return
    panoptic.check_vacant(out, overwrite=session.overwrite)
    if work.exists() and not session.overwrite:
        raise MammoprepError(f"{work} holds a pretraining that was stopped. Say --resume, or --overwrite.")


def _base(base: str, places: Mapping[str, str]) -> Pipeline:
    """Load what the pretraining starts from."""
    place = weights.locate(base, places)
    if place.is_file():
        raise MammoprepError(f"{place} is one file. Pretraining needs a diffusers folder. {weights.needs(base)}")
    made = pipeline.load(place)
    parts.check_layout(base, place, unet=made.unet, vae=made.vae)
    return made


def _begin(work: Path, *, facts: Mapping[str, Any], resume: bool, note: Callable[[str], None] | None) -> None:
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


def _run(name: str, made: Pipeline, *, config: StageConfig, job: _Job) -> Pipeline:
    """Train a stage, unless it is done, and give the pipeline behind it."""
    folder = job.work / name
    result = folder / _RESULT
    if (result / "model_index.json").is_file():
        return pipeline.load(result)
    with panoptic.writing(folder):
        folder.mkdir(exist_ok=True)
    stage: Stage = Diffusion(made, checkpointing=config.checkpointing)
    shown = Mammograms(
        job.root, job.chosen, config=job.choices.config, micro_batch=config.micro_batch, seed=job.choices.seed
    )
    on_step, first = job.session.on_step, job.ranks.is_first
    loop.train(
        stage,
        shown,
        config=config,
        work=Work(
            folder=folder,
            seed=job.choices.seed,
            device=job.device,
            ranks=job.ranks,
            on_step=(lambda step: on_step(name, step)) if on_step and first else None,
            look=_sheets(folder, made, job=job),
            look_every=job.choices.config.sample_every,
        ),
    )
    count = min(len(job.chosen.images), _FINISHING_IMAGES)
    stage.finish(shown.batch(at).images.to(job.device) for at in range(0, count, config.micro_batch))
    if first:
        pipeline.save(made, result)
        (folder / _STATE).unlink()
    return made


def _sheets(folder: Path, made: Pipeline, *, job: _Job) -> Callable[[int], None] | None:
    """Give what draws a sheet of samples after a step."""
    config, prompts = job.choices.config, samples.most_frequent(job.chosen.prompts)
    if not config.samples:
        return None

    def draw(step: int) -> None:
        path = folder / "samples" / f"step-{step:06}.png"
        with panoptic.writing(path):
            path.parent.mkdir(exist_ok=True)
        samples.write_sheet(path, made, prompts, config=config)

    return draw


def _publish(job: _Job, out: Path) -> None:
    """Give the last stage's pipeline its name, with what tells how it came about and the hash of every file."""
    names = [name for name, _ in _stages(job.choices.config)]
    made = job.work / names[-1] / _RESULT
    with panoptic.writing(made):
        shutil.copy(job.work / NAME, made / NAME)
        for name in names:
            ignored = shutil.ignore_patterns(_RESULT, _STATE, "*.partial*")
            shutil.copytree(job.work / name, made / name, ignore=ignored, dirs_exist_ok=True)
    files = sorted(path for path in made.rglob("*") if path.is_file())
    panoptic.write_sums(made, [(path.relative_to(made).as_posix(), panoptic.file_hash(path)) for path in files])
    panoptic.restore(out.resolve())
    panoptic.publish(made, out.resolve())
    panoptic.discard(job.work)
