"""What doctor says of this machine: its GPUs as torch has them, weights as the hub's cache has them."""

from types import SimpleNamespace

import pytest
import torch

from mammoprep_model import machine, weights


def test_gpus_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        SimpleNamespace(name="A100", total_memory=42_000_000_000),
        SimpleNamespace(name="T4", total_memory=16 * 10**9),
    ]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", found.__getitem__)
    assert machine.gpus() == [machine.Gpu("A100", 42_000), machine.Gpu("T4", 16_000)]


def test_a_part_is_at_hand_where_the_cache_has_it_whole(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    for part in ("clip", "swin-l"):
        (tmp_path / part).mkdir()
    for names in weights.SOURCES["clip"].files:
        (tmp_path / "clip" / names[0]).touch()
    hubs = {weights.SOURCES[part].hub: tmp_path / part for part in ("clip", "swin-l")}
    asked = {}

    def snapshot(hub: str, *, revision: str | None, local_files_only: bool) -> str:
        asked[hub] = (revision, local_files_only)
        if hub not in hubs:
            raise OSError("nothing is cached")
        return str(hubs[hub])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    found = machine.cached_weights()
    assert {part for part, folder in found.items() if folder} == {"clip"}
    assert found["clip"] == str(tmp_path / "clip")
    assert set(found) == set(weights.SOURCES)
    clip = weights.SOURCES["clip"]
    assert asked[clip.hub] == (clip.revision, True)
