from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from mammoprep.errors import MammoprepError
from mammoprep_model import weights


def fill(root: Path, part: str, *, choice: int = 0) -> Path:
    """Create the files of a part, empty, in one of their spellings."""
    for names in weights.SOURCES[part].files:
        path = root / names[min(choice, len(names) - 1)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


class Hub:
    """Stands in for the hub: keeps what was asked for, and delivers only files that `offers` ends with."""

    def __init__(self, root: Path, part: str, *, offers: str) -> None:
        self.root, self.part, self.offers = root, part, offers
        self.asked: list[str] = []

    def __call__(self, hub: str, *, allow_patterns: list[str], local_dir: Path | None = None) -> str:
        self.asked.append(hub)
        self.root = local_dir or self.root
        for name in allow_patterns:
            if "*" not in name and not name.endswith((".safetensors", ".bin")) or name.endswith(self.offers):
                path = self.root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        return str(self.root)


@pytest.mark.parametrize("choice", [0, 1])
@pytest.mark.parametrize("part", weights.SOURCES)
def test_a_whole_folder_is_taken_as_it_is(tmp_path: Path, part: str, choice: int):
    fill(tmp_path, part, choice=choice)
    assert weights.locate(part, {part: str(tmp_path)}) == tmp_path


@pytest.mark.parametrize("missing", ["unet/config.json", "vae/diffusion_pytorch_model.safetensors"])
def test_an_incomplete_folder_names_the_part_and_the_missing_file(tmp_path: Path, missing: str):
    (fill(tmp_path, "mam-e") / missing).unlink()
    with pytest.raises(MammoprepError, match=f"is not a whole mam-e: {missing} is missing"):
        weights.locate("mam-e", {"mam-e": str(tmp_path)})


def test_another_models_folder_names_what_is_missing(tmp_path: Path):
    fill(tmp_path, "biomedclip")
    with pytest.raises(MammoprepError, match="not a whole mam-e: unet/config.json is missing"):
        weights.locate("mam-e", {"mam-e": str(tmp_path)})


def test_a_folder_that_does_not_exist_says_what_to_put_where():
    with pytest.raises(MammoprepError, match="no folder /no/where.*open_clip_config.json.*--weights biomedclip=FOLDER"):
        weights.locate("biomedclip", {"biomedclip": "/no/where"})


def test_without_a_place_the_hub_is_asked_for_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = Hub(tmp_path, "mam-e", offers=".safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    assert weights.locate("mam-e", {}) == tmp_path
    assert hub.asked == ["Likalto4/fusion_healthy"]


def test_a_hub_id_of_ones_own_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = Hub(tmp_path, "mam-e", offers=".safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    weights.locate("mam-e", {"mam-e": "someone/their-model"})
    assert hub.asked == ["someone/their-model"]


def test_pickles_are_downloaded_only_where_there_is_nothing_safer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = Hub(tmp_path, "biomedclip", offers=".bin")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    weights.locate("biomedclip", {})
    assert len(hub.asked) == 3
    assert [path.name for path in tmp_path.glob("*.bin")] == ["open_clip_pytorch_model.bin"]


def test_offline_says_in_one_line_which_files_to_put_where(monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(MammoprepError) as caught:
        weights.locate("mam-e", {})
    text = str(caught.value)
    assert "\n" not in text
    assert "Likalto4/fusion_healthy" in text
    assert "unet/diffusion_pytorch_model.safetensors or unet/diffusion_pytorch_model.bin" in text
    assert "--weights mam-e=FOLDER" in text


def test_an_unknown_part_suggests_the_nearest():
    with pytest.raises(MammoprepError, match="no pretrained part 'biomed-clip'. Did you mean 'biomedclip'"):
        weights.locate("biomed-clip", {})


def test_every_source_states_its_licence_and_size():
    assert all(source.licence and source.megabytes > 100 for source in weights.SOURCES.values())


def test_a_part_is_fetched_into_a_folder_of_its_name_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = Hub(tmp_path, "clip", offers=".safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    assert weights.fetch("clip", tmp_path / "all") == tmp_path / "all" / "clip"
    assert (tmp_path / "all" / "clip" / "config.json").is_file()
    asked = len(hub.asked)
    weights.fetch("clip", tmp_path / "all")
    assert len(hub.asked) == asked


def test_a_folder_of_parts_gives_those_that_are_wanted(tmp_path: Path):
    for part in ("clip", "mam-e", "swin-l"):
        (tmp_path / part).mkdir()
    assert weights.in_folder(tmp_path, ["mam-e", "clip", "biomedclip"]) == {
        "mam-e": str(tmp_path / "mam-e"),
        "clip": str(tmp_path / "clip"),
    }


def test_a_folder_without_parts_is_refused(tmp_path: Path):
    with pytest.raises(MammoprepError, match="holds no folder named after a part of this model. Parts: mam-e"):
        weights.in_folder(tmp_path, ["mam-e"])
