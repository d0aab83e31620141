"""`mammoprep pretrain`: a diffusion backbone from the lesion-free mammograms of a DATASET."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mammoprep.cli import console
from mammoprep.cli.extra import require_model
from mammoprep.cli.train import Device, Live, is_first, parse_weights
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep_model.log import Step
    from mammoprep_model.pretrain.plan import Choices, Session

Base = Literal["sd-1.5", "compact"]
"""What a pretraining may start from: `recipe.BASES`."""


def pretrain(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A data set with lesion-free images.")],
    base: Annotated[Base | None, typer.Option(help="What to start from.", show_default="sd-1.5")] = None,
    fold: Annotated[
        str | None,
        typer.Option(help="Fold whose validation patients are left out, 0 … k-1; none: nobody is.", show_default="0"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to make.", show_default="backbones/BASE-fold-FOLD")] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="Where the base lies: sd-1.5=DIR (or hub id), or a folder of parts.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Short for --set diffusion.steps=…", show_default="as the base has it")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A value: diffusion.lr=1e-6. May be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Start of every random stream.", show_default="0")] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on as if never stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder in --out.")] = False,
    json: console.Json = False,
) -> int | None:
    """Fine-tune a latent-diffusion model on mammograms without lesions, as MAM-E was, for `train --weights mam-e=DIR`.

    On several GPUs, or machines with shared folders: torchrun --nproc-per-node GPUS -m mammoprep pretrain …

    Ctrl-C or SIGTERM finishes the step and writes a checkpoint; --resume goes on from there, to the last digit.
    On --resume base, fold, seed and settings are those of the start; --set diffusion.… may change them from there on.
    """
    require_model()
    console.existing(resume=resume, overwrite=overwrite)
    from mammoprep_model import settings
    from mammoprep_model.pretrain import plan

    out = out or Path("backbones") / f"{base or 'sd-1.5'}-fold-{fold or 0}"
    choices = plan.read_choices(out) if resume else _start(base or "sd-1.5")
    if resume and base not in (None, choices.base):
        raise MammoprepError(f"{out} was started from {choices.base}, not {base}. Name another --out.")
    assignments = [*(set_ or []), *([] if steps is None else [f"diffusion.steps={steps}"])]
    choices = replace(
        choices,
        config=settings.change(choices.config, assignments),
        fold=choices.fold if fold is None else _parse_fold(fold),
        seed=choices.seed if seed is None else seed,
    )
    places = parse_weights(weights or [], [choices.base])
    session = plan.Session(weights=places, device=device, resume=resume, overwrite=overwrite)
    try:
        _pretrain(dataset, out, choices=choices, session=session)
    except KeyboardInterrupt as stopped:
        if not str(stopped):
            raise
        if is_first():
            again = shlex.join(["mammoprep", "pretrain", str(dataset), "--out", str(out), "--resume"])
            console.note(f"{stopped} Continue with: {again}")
        return 130
    if is_first():
        _report(out, json=json)
    return None


def _start(base: Base) -> "Choices":
    from mammoprep_model.pretrain import plan, recipe

    return plan.Choices(base, recipe.BASES[base])


def _parse_fold(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise MammoprepError(f"--fold {text!r} is neither a number from 0 nor none.")
    return int(text)


def _pretrain(dataset: Path, out: Path, *, choices: "Choices", session: "Session") -> None:
    """Pretrain as chosen, and show it: a bar a stage."""
    from mammoprep_model.pretrain import run

    with console.bar() as bar:
        bar.disable = bar.disable or not is_first()
        live: dict[str, Live] = {}

        def show(stage: str, step: "Step") -> None:
            live.setdefault(stage, Live(bar, title=stage)).step(step)

        note = Live(bar).note if is_first() else None
        run.pretrain(dataset, out=out, choices=choices, session=replace(session, on_step=show, on_note=note))


def _report(out: Path, *, json: bool) -> None:
    """Say what was made, and what takes it."""
    from mammoprep import panoptic
    from mammoprep_model.pretrain import leakage

    facts = panoptic.read_json(out / leakage.NAME, hint="Pretrain again.")
    if json:
        console.print_json(
            {"backbone": str(out), **{name: facts[name] for name in ("base", "fold", "images", "patients")}}
        )
        return
    whose = "" if facts["fold"] is None else f" --fold {facts['fold']}"
    model, part = ("m-odise-compact", "compact") if facts["base"] == "compact" else ("m-odise", "mam-e")
    console.stdout().print(
        f"{out} holds the backbone. Next: mammoprep train DATASET --model {model}{whose} --weights {part}={out}",
        soft_wrap=True,
    )
