"""`mammoprep models`: the presets, their parts and parameters, the weights that they need, what the paper scored."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mammoprep.cli import console

if TYPE_CHECKING:
    from mammoprep_model.config import Preset
    from mammoprep_model.weights import Source

_SHOWN = ("backbone", "captioner", "class head")
_TITLES = {"cdd-cesm": "CESM", "vindr": "VinDr"}


def models(json: console.Json = False) -> None:
    """List the presets: parts, trained and frozen parameters, weights needed with size and licence, published PQ."""
    from mammoprep.evaluation.compare import published_rows
    from mammoprep_model.weights import SOURCES
    from mammoprep_model.zoo import PRESETS

    published = {name: {row.title: row for row in published_rows(name)} for name in _TITLES}
    scores = {
        preset.name: {
            data: {"PQ": rows[preset.published].cells["PQ"].value, "threshold": rows[preset.published].threshold}
            for data, rows in published.items()
            if preset.published in rows
        }
        for preset in PRESETS.values()
    }
    entries = [_entry(preset, scores[preset.name]) for preset in PRESETS.values()]
    starts = [_facts(source) for source in SOURCES.values() if source.layout == "mask2former"]
    if json:
        console.print_json({"models": entries, "mask_generators": starts})
    else:
        _show(entries, starts)


def _entry(preset: "Preset", published: Mapping[str, Any]) -> dict[str, Any]:
    from mammoprep_model.weights import SOURCES
    from mammoprep_model.zoo import family_of

    counted = bool(preset.trained or preset.frozen)
    return {
        "name": preset.name,
        "summary": preset.summary,
        "family": family_of(preset.model),
        **preset.model.shown,
        "trained_millions": preset.trained if counted else None,
        "frozen_millions": preset.frozen if counted else None,
        "weights": [_facts(SOURCES[part]) for part in preset.model.parts],
        "published": published,
    }


def _facts(source: "Source") -> dict[str, Any]:
    """Give what there is to know about a part's weights before getting them."""
    names = ("hub", "revision", "made_by", "megabytes", "licence")
    return {"part": source.name, **{name: getattr(source, name) or None for name in names}}


def _show(entries: list[dict[str, Any]], starts: list[dict[str, Any]]) -> None:
    from rich.table import Table

    screen = console.stdout()
    table = Table(box=None, padding=(0, 1, 0, 0))
    for place, column in enumerate(("model", *_SHOWN, "trained", "frozen", *_TITLES.values())):
        table.add_column(column, justify="right" if place > 3 else "left", no_wrap=True)
    weights: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        weights |= {each["part"]: each for each in entry["weights"]}
        scores = (entry["published"].get(name) for name in _TITLES)
        table.add_row(
            entry["name"],
            *(entry.get(name, "–") for name in _SHOWN),
            *("–" if n is None else f"{n:.3f}" for n in (entry["trained_millions"], entry["frozen_millions"])),
            *("–" if score is None else f"{100 * score['PQ']:.2f}" for score in scores),
        )
    screen.print(table, "")
    screen.print(
        "* trained too. Parameters in millions. CESM, VinDr: PQ in per cent as published (arXiv 2407.14326), "
        "at IoU 0.1 on CDD-CESM and 0.05 on VinDr-Mammo.\n"
    )
    for facts in (*weights.values(), *starts):
        use = f" (for --set model.mask_generator={facts['part']})" if facts in starts else ""
        where = f"https://huggingface.co/{facts['hub']}" if facts["hub"] else f"made by `{facts['made_by']}`"
        text = f"{facts['part']}{use}: {where}, {facts['megabytes']} MB, licence: {facts['licence']}"
        screen.print(text, soft_wrap=True)
