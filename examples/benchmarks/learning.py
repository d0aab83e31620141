"""Show that each preset learns, and what each part of M-ODISE buys, from scratch in small sizes on the same budget.

Every preset keeps its wiring and takes `tiny`'s sizes and random parts, so nothing here is pretrained: presets that
differ in their pretrained weights alone are one network then, and share a row. Then M-ODISE without one part at a time.
With --budget all families, each in a small size, are compared by `mammoprep benchmark` for the same time instead.
A row is trained on every fold, on phantoms or on CDD-CESM, and scored on the fold's held-out images. With --views the
rows are not networks but what a training view shows, and how often: `tiny` with one setting changed at a time.

Type: python examples/benchmarks/learning.py [--views] [--cdd-cesm RAW] [--steps 150] [--folds 3] [--jobs 2]
On phantoms that took 20 minutes of CPU time, so about ten on two idle cores; on a GPU give more steps and --jobs 1.
"""

import argparse
import csv
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from mammoprep import folds, panoptic, phantom
from mammoprep.convert import Options, convert
from mammoprep.evaluation.scores import score
from mammoprep.evaluation.tally import tally
from mammoprep.pseudo_mask import Recipe
from mammoprep.readers import READERS
from mammoprep_model import settings
from mammoprep_model.config import ModelConfig, Preset
from mammoprep_model.zoo import PRESETS

AT = 0.1
"""The IoU threshold of PQ and AP: the paper's for CDD-CESM."""
HEIGHT = 640
"""Height of a phantom in pixels; the paper's recipe is meant for 3,518."""
WITHOUT: Mapping[str, Mapping[str, str | bool]] = {
    "the captioner": {"image_encoder": "none"},
    "the captioner's time term": {"time_embedding": False},
    "the text head (linear instead)": {"text_encoder": "none"},
    "a trained backbone (frozen, random)": {"backbone_frozen": True},
}
VIEWS = (
    (),
    ("train.augment=none",),
    ("train.augment=flip",),
    ("train.augment=crop", "train.size=192"),
    ("train.balance=true",),
    ("train.class_weights=inverse",),
    ("train.lesion_crops=0.7", "train.augment=crop", "train.size=192"),
    ("train.view=windows", "train.lesion_crops=0.7"),
    ("train.view=both",),
)
"""Settings of `tiny`, whose windows are of 128 pixels; images are stored at 256 (phantoms) or 512 (CDD-CESM)."""

_SEEN = ("train.size=128", "train.crop=128", "train.batch_size=4", "train.learning_rate=1e-3", "train.cpu_threads=1")
_THESIS = (*_SEEN, "train.schedule=milestones", "train.early_stop=0")
_TRANSFORMER = ("model.backbone=random", "model.width=64", "model.layers=4", "model.heads=4", "model.head=32")
_SAM = (
    "model.backbone=random",
    "model.size=128",
    "model.width=64",
    "model.layers=4",
    "model.heads=4",
    "model.hidden=64",
)
_DIFFUSION = ("model.channels=16", "model.dense_blocks=2", "model.dense_channels=16", "model.highway_channels=8")
_DRAWN = (*_SEEN, *_DIFFUSION, "model.samples=3", "model.sampler=ddim", "model.sampling_steps=5")
SMALL: Mapping[str, tuple[str, ...]] = {
    "u-net": (*_THESIS, "model.width=8"),
    "setr-fs": (*_THESIS, *_TRANSFORMER),
    "setr-vpt": (*_THESIS, *_TRANSFORMER),
    "sam-ft": (*_THESIS, *_SAM, "model.feedforward=128", "train.stride=128"),
    "segdiff": (
        *_DRAWN,
        "train.ema=0",
        "model.multipliers=1,1,2,2,4,4",
        "model.residual_blocks=1",
        "model.dense_blocks=1",
    ),
    "ensemdiff": _DRAWN,
    "medsegdiff": _DRAWN,
}
"""What makes networks beside the ODISE family small, from scratch. Left out: setr-ft, which from scratch is setr-fs at
other rates, and sam-zs, which would be noise."""
AS_TINY = ("m2f-swin-l", "m2f-sd", "m-odise")
"""Presets that take `tiny`'s sizes: the others of the paper differ from m-odise in pretrained weights alone."""
COMPACT = "m-odise-compact"
"""Takes `tiny`'s sizes too, on a frozen backbone that is pretrained first, one for each fold."""
_STAGE = ("batch_size=4", "micro_batch=4", "lr=1e-3", "warmup_steps=50", "ema=0.99")
PRETRAINED = (
    *("sizes.unet=32,32,64,64", "sizes.vae=8,16,16,32", "sizes.text=32", "sizes.text_layers=2", "sizes.text_heads=2"),
    *("sizes.head=8", "sizes.groups=8", "size=128", "fit=pad", "samples=0", "distance_images=0"),
    *("autoencoder.steps=200", "diffusion.steps=500"),
    *(f"{stage}.{value}" for stage in ("autoencoder", "diffusion") for value in _STAGE),
)
"""How: in the sizes of `tiny`'s backbone, on the images of 128 pixels that the segmenter sees."""


def as_tiny(name: str) -> Iterator[str]:
    """Say what gives a preset `tiny`'s sizes and training."""
    preset = PRESETS[name]
    model = small(preset.model)
    if name == COMPACT:
        model = replace(model, backbone=preset.model.backbone, backbone_frozen=True)
    wanted = {"model": model, "train": PRESETS["tiny"].train}
    for part, values in wanted.items():
        for field, value in asdict(values).items():
            if field != "steps" and value != getattr(getattr(preset, part), field):
                text = ",".join(map(str, value)) if isinstance(value, tuple) else value
                yield f"{part}.{field}={text}"


def benchmark(dataset: Path, *, budget: float, count: int, device: str) -> int:
    """Compare the families as they learn in the same time."""
    backbones = pretrain(dataset, count=count, device=device)
    sizes = {**SMALL, **{name: tuple(as_tiny(name)) for name in (*AS_TINY, *[COMPACT] * bool(backbones))}}
    changes = [f"--set={name}:{change}" for name, each in sizes.items() for change in each]
    options = ["--models", ",".join(sizes), "--folds", str(count), "--budget", str(budget), "--device", device]
    command = [sys.executable, "-m", "mammoprep", "benchmark", str(dataset), *options, *changes, *backbones]
    return subprocess.run([*command, "--out", str(dataset.with_name("benchmark"))], check=False).returncode


def pretrain(dataset: Path, *, count: int, device: str) -> list[str]:
    """Pretrain a backbone for each fold; give the option that names them, none where every image has a lesion."""
    if not any(row["lesion_free"] == "1" for row in panoptic.load_cases(dataset)):
        print(f"{COMPACT} is left out: no image is lesion-free.", flush=True)
        return []
    places = dataset.with_name("backbones")
    changes = [f"--set={change}" for change in PRETRAINED]
    for fold in range(count):
        command = [sys.executable, "-m", "mammoprep", "pretrain", str(dataset), "--base", "compact", *changes]
        out = ["--fold", str(fold), "--out", str(places / str(fold)), "--device", device]
        subprocess.run([*command, *out], check=True)
    return ["--weights", f"compact={places}/{{fold}}"]


@dataclass(frozen=True)
class Job:
    """One training: a row's small preset on one fold."""

    row: str
    preset: Preset
    dataset: Path
    fold: int
    out: Path
    device: str


@dataclass(frozen=True)
class Outcome:
    """What one training gave: qualities in [0, 1], parameters in thousands, losses of the first and last tenth.

    `seconds` are those of the clock and of the CPU; the latter do not hang on what else the machine does.
    """

    parameters: float
    before: Mapping[str, float]
    after: Mapping[str, float]
    losses: tuple[float, float]
    seconds: tuple[float, float]


def small(model: ModelConfig) -> ModelConfig:
    """Give a preset's wiring in `tiny`'s sizes on random parts; its backbone is trained, for nothing is pretrained."""
    encoders = {"image_encoder": model.image_encoder, "text_encoder": model.text_encoder}
    return replace(
        PRESETS["tiny"].model,
        backbone="tiny-swin" if model.backbone.startswith("swin") else "tiny",
        synonyms=model.synonyms,
        time_embedding=model.time_embedding,
        **{field: part if part == "none" else "tiny" for field, part in encoders.items()},
    )


def rows(steps: int) -> dict[str, Preset]:
    """Name the networks: the six presets, equal ones together, then M-ODISE without one part at a time."""
    models: dict[ModelConfig, list[str]] = {}
    for name in (name for name, preset in PRESETS.items() if preset.published):
        models.setdefault(small(PRESETS[name].model), []).append(name)
    named = {", ".join(names): model for model, names in models.items()}
    whole = small(PRESETS["m-odise"].model)
    named |= {f"… without {part}": replace(whole, **change) for part, change in WITHOUT.items()}
    train = replace(PRESETS["tiny"].train, steps=steps)
    return {name: replace(PRESETS["tiny"], model=model, train=train) for name, model in named.items()}


def views(steps: int) -> dict[str, Preset]:
    """Give `tiny` with each of `VIEWS`."""
    return {
        " ".join(each) or "lsj (tiny's own)": settings.change(PRESETS["tiny"], [f"train.steps={steps}", *each])
        for each in VIEWS
    }


def run(job: Job) -> Outcome:
    """Train, and score the held-out images before and after."""
    from mammoprep_model import checkpoint, data, inference, trainer

    begun = perf_counter(), process_time()
    trainer.train(
        job.dataset, out=job.out, preset=job.preset, fold=job.fold, session=trainer.Session(device=job.device)
    )
    seconds = perf_counter() - begun[0], process_time() - begun[1]
    config = checkpoint.read_run(job.out)
    network = checkpoint.untrained(config)
    _, held_out = panoptic.load_fold(job.dataset, job.fold)
    pictures = data.pictures(panoptic.load(job.dataset), frozenset(held_out))
    inference.predict(network, pictures, out=job.out / "untrained", config=config)
    trained = sum(p.numel() for p in checkpoint.module_of(network).parameters() if p.requires_grad)
    after = qualities(job, job.out / f"fold-{job.fold}" / "predictions")
    return Outcome(trained / 1e3, qualities(job, job.out / "untrained"), after, losses(job.out / "log.csv"), seconds)


def qualities(job: Job, predictions: Path) -> dict[str, float]:
    """Score a fold's held-out images."""
    _, held_out = panoptic.load_fold(job.dataset, job.fold)
    content = score(tally(job.dataset, predictions, image_ids=held_out)).to_json()
    at = content["thresholds"].index(AT)
    return {"PQ": content["sweep"]["PQ"][at], "AP": content["sweep"]["AP"][at], "Dice": content["dice"]["pooled"]}


def losses(log: Path) -> tuple[float, float]:
    """Give the mean loss of the first and of the last tenth of the steps."""
    with log.open(encoding="utf-8", newline="") as file:
        totals = [float(row["total"]) for row in csv.DictReader(file)]
    tenth = max(1, len(totals) // 10)
    return fmean(totals[:tenth]), fmean(totals[-tenth:])


def make_dataset(root: Path, *, raw: Path | None, count: int) -> Path:
    """Convert CDD-CESM where its raw folder is given, else phantoms in VinDr-Mammo's layout, and make the folds."""
    if raw is None:
        raw, reader = root / "raw", READERS["vindr"]
        phantom.write(raw, patients=40, long_side=HEIGHT)
        shrunk = HEIGHT / 3518
        recipe = Recipe(sigma=round(7 * shrunk, 1), min_area=round(150 * shrunk**2))
        options = Options(labels="birads", long_side=256, recipe=recipe)
    else:
        reader = READERS["cdd-cesm"]
        options = Options(labels="pathology", long_side=512)
    convert(reader, raw, out=root / "dataset", options=options)
    folds.make(root / "dataset", k=count)
    return root / "dataset"


def lines(results: Mapping[str, list[Outcome]]) -> Iterator[str]:
    """Write the table, in per cent: mean ± standard deviation over the folds."""
    yield "| network | parameters | PQ | AP | Dice | untrained PQ | AP | loss, first → last tenth | s a fold (CPU) |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, outcomes in results.items():
        cells = [f"{outcomes[0].parameters:,.0f} k"]
        cells += [spread([each.after[quality] for each in outcomes]) for quality in ("PQ", "AP", "Dice")]
        cells += [spread([each.before[quality] for each in outcomes]) for quality in ("PQ", "AP")]
        first, last = (fmean(each.losses[end] for each in outcomes) for end in (0, 1))
        clock, cpu = (fmean(each.seconds[place] for each in outcomes) for place in (0, 1))
        cells += [f"{first:.1f} → {last:.1f}", f"{clock:.0f} ({cpu:.0f})"]
        yield f"| {name} | {' | '.join(cells)} |"


def spread(values: list[float]) -> str:
    """Give mean ± sample standard deviation in per cent."""
    return f"{100 * fmean(values):.1f} ± {100 * stdev(values):.1f}"


def main() -> None:
    """Train every row on every fold and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", action="store_true", help="compare training views instead of networks")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="compare all families, all for the same time")
    parser.add_argument("--cdd-cesm", type=Path, metavar="RAW", help="raw folder of CDD-CESM (default: phantoms)")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    begun, named = perf_counter(), (views if given.views else rows)(given.steps)
    with TemporaryDirectory() as name:
        root = Path(name)
        dataset = make_dataset(root, raw=given.cdd_cesm, count=given.folds)
        if given.budget:
            sys.exit(benchmark(dataset, budget=given.budget, count=given.folds, device=given.device))
        jobs = [
            Job(row, preset, dataset, fold, root / f"run-{number}-{fold}", given.device)
            for number, (row, preset) in enumerate(named.items())
            for fold in range(given.folds)
        ]
        results: dict[str, list[Outcome]] = {}
        with ProcessPoolExecutor(given.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            for job, outcome in zip(jobs, pool.map(run, jobs), strict=True):
                results.setdefault(job.row, []).append(outcome)
                print(
                    f"{job.row}, fold {job.fold}: PQ {outcome.after['PQ']:.1%}, {outcome.seconds[0]:.0f} s", flush=True
                )
        images = len(panoptic.load(dataset).images)
    print(f"\n{images} images, {given.folds} folds, {given.steps} steps of 4 images, IoU {AT}; per cent")
    print("\n".join(lines(results)))
    print(f"{perf_counter() - begun:.0f} s with {given.jobs} trainings at a time")


if __name__ == "__main__":
    main()
