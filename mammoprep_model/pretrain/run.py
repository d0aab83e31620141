"""Pretrain a backbone on a DATASET: stage after stage, then the folder that is left."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, compact, parts, weights
from mammoprep_model.pretrain import distance, images, loop, pipeline, plan, recipe, samples
from mammoprep_model.pretrain.autoencoder import Autoencoder
from mammoprep_model.pretrain.diffusion import Diffusion
from mammoprep_model.pretrain.images import Chosen, Mammograms
from mammoprep_model.pretrain.leakage import NAME
from mammoprep_model.pretrain.loop import Work
from mammoprep_model.pretrain.pipeline import Pipeline
from mammoprep_model.pretrain.plan import Choices, Session
from mammoprep_model.pretrain.recipe import FromScratch, StageConfig
from mammoprep_model.pretrain.stage import Stage
from mammoprep_model.ranks import Ranks

_RESULT, _STATE = "pipeline", "state.pt"
_FINISHING_IMAGES = 1024
"""At most so many images are given to a stage that measures something at its end."""


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
        plan.check_enough(source.root, chosen, choices.config)
        device = str(checkpoint.pick_device(session.device))
        work = panoptic.partial_of(out)
        session = plan.with_places(session, base=choices.base, out=out)
        facts = plan.facts_of(source, choices=choices, chosen=chosen, device=device, places=session.weights)
        if session.resume and plan.is_done(out, work, facts=facts):
            if ranks.is_first:
                panoptic.discard(work)
            return out
        plan.check_out(out, work, facts=facts, session=session)
        job = _Job(source.root, choices, chosen, device, work, ranks, session)
        made = _base(choices, session.weights)
        ranks.gather(None)
        if ranks.is_first:
            plan.begin(work, facts=facts, resume=session.resume, note=session.on_note)
        ranks.gather(None)
        try:
            result: Path | None = None
            for name, config in recipe.stages(choices.config).items():
                made = pipeline.load(result) if result else made  # as another start would find it
                result = work / name / _RESULT
                if not (result / "model_index.json").is_file():
                    _run(name, made, config=config, job=job)
        except torch.OutOfMemoryError as error:
            raise MammoprepError(
                "Out of GPU memory. Go on with --resume and a lower --set diffusion.micro_batch=N (or samples=N), or"
                " begin anew with a smaller size."
            ) from error
        if ranks.is_first:
            _publish(job, out)
        ranks.gather(None)
    return out


def _base(choices: Choices, places: Mapping[str, str]) -> Pipeline:
    """Load, or make at random, what the pretraining starts from."""
    base, config = choices.base, choices.config
    if isinstance(config, FromScratch):
        return compact.make(config.sizes, seed=choices.seed)
    place = weights.locate(base, places)
    if place.is_file():
        raise MammoprepError(f"{place} is one file. Pretraining needs a diffusers folder. {weights.needs(base)}")
    made = pipeline.load(place)
    parts.check_layout(base, place, unet=made.unet, vae=made.vae)
    return made


def _run(name: str, made: Pipeline, *, config: StageConfig, job: _Job) -> None:
    """Train a stage and write the pipeline that it leaves."""
    folder = job.work / name
    with panoptic.writing(folder):
        folder.mkdir(exist_ok=True)
    kinds: dict[str, Callable[..., Stage]] = {"autoencoder": Autoencoder, "diffusion": Diffusion}
    stage = kinds[name](made, checkpointing=config.checkpointing)
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
            look=_look(folder, made, job=job) if name == "diffusion" else None,
            look_every=job.choices.config.sample_every,
        ),
    )
    count = min(len(job.chosen.images), _FINISHING_IMAGES)
    stage.finish(shown.batch(at).images.to(job.device) for at in range(0, count, config.micro_batch))
    if first:
        pipeline.save(made, folder / _RESULT)
        (folder / _STATE).unlink()
    job.ranks.gather(None)


def _look(folder: Path, made: Pipeline, *, job: _Job) -> Callable[[int], None]:
    """Give what shows after a step what has been learnt."""
    root, chosen, config = job.root, job.chosen, job.choices.config

    def look(step: int) -> None:
        path = folder / "samples" / f"step-{step:06}.png"
        with panoptic.writing(path):
            path.parent.mkdir(exist_ok=True)
        if config.samples:
            samples.write_sheet(path, made, samples.most_frequent(chosen.prompts), config=config)
        if config.distance_images:
            found = distance.measure(made, root, chosen, config=config, device=job.device)
            panoptic.write_json(path.with_suffix(".json"), found)

    return look


def _publish(job: _Job, out: Path) -> None:
    """Give the last stage's pipeline its name, with what tells how it came about and the hash of every file."""
    names = list(recipe.stages(job.choices.config))
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
