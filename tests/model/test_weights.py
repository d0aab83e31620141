import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from mammoprep.errors import MammoprepError
from mammoprep_model import weights


def fill(root: Path, part: str, *, choice: int = 0) -> Path:
    """Create the files of a part, empty, in one of their spellings."""
    for names in weights.SOURCES[part].files:
        write(root / names[min(choice, len(names) - 1)], layout=weights.SOURCES[part].layout)
    return root


def write(path: Path, *, layout: str) -> None:
    """Create a file; an index names one shard, config.json its kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".index.json"):
        shard = f"{path.name.split('.')[0]}-00001-of-00001.{path.name.split('.')[1]}"
        (path.parent / shard).touch()
        path.write_text(json.dumps({"weight_map": {"a": shard, "b": shard}}))
    elif path.suffix == ".json":
        path.write_text(json.dumps({"model_type": layout}))
    else:
        path.touch()


class Hub:
    """Stands in for the hub: keeps what was asked for, and delivers only files that `offers` ends with."""

    def __init__(self, root: Path, part: str, *, offers: str) -> None:
        self.root, self.part, self.offers = root, part, offers
        self.asked: list[str] = []
        self.revisions: list[str | None] = []

    def __call__(
        self,
        hub: str,
        *,
        revision: str | None,
        allow_patterns: Sequence[str] = (),
        local_dir: Path | None = None,
        local_files_only: bool = False,
    ) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("nothing is cached")
        if not allow_patterns:
            return str(self.root)
        self.asked.append(hub)
        self.revisions.append(revision)
        self.root = local_dir or self.root
        for name in allow_patterns:
            is_small = not name.endswith((".safetensors", ".bin", ".index.json"))
            if "*" not in name and (is_small or (name.endswith(self.offers) and ".fp16" not in name)):
                write(self.root / name, layout=weights.SOURCES[self.part].layout)
        return str(self.root)


@pytest.mark.parametrize("choice", range(6))
@pytest.mark.parametrize("part", weights.SOURCES)
def test_a_whole_folder_is_taken_as_it_is(tmp_path: Path, part: str, choice: int):
    fill(tmp_path, part, choice=choice)
    assert weights.locate(part, {part: str(tmp_path)}) == tmp_path


@pytest.mark.parametrize("missing", ["unet/config.json", "vae/diffusion_pytorch_model.safetensors"])
def test_an_incomplete_folder_names_the_part_and_the_missing_file(tmp_path: Path, missing: str):
    (fill(tmp_path, "mam-e") / missing).unlink()
    with pytest.raises(MammoprepError, match=f"is not a whole mam-e: {missing} is missing"):
        weights.locate("mam-e", {"mam-e": str(tmp_path)})


@pytest.mark.parametrize(
    ("files", "content"),
    [
        (
            {"model_index.json": '{"_class_name": "StableDiffusionXLPipeline"}'},
            "a StableDiffusionXLPipeline of diffusers",
        ),
        ({"config.json": '{"model_type": "siglip"}'}, "a siglip of transformers"),
        ({"b.txt": "", "a.txt": "", ".hidden": ""}, "a.txt, b.txt"),
        ({f"{number}.png": "" for number in range(9)}, "0.png, 1.png, 2.png, 3.png, …"),
        ({}, "nothing"),
    ],
)
def test_what_a_folder_holds_instead_is_said(tmp_path: Path, files: dict[str, str], content: str):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(
        MammoprepError, match=f"whole sd-1.3: unet/config.json is missing; it holds {content}. Put unet"
    ):
        weights.locate("sd-1.3", {"sd-1.3": str(tmp_path)})


def test_a_whole_folder_of_another_kind_is_refused(tmp_path: Path):
    fill(tmp_path, "m2f-coco")
    with pytest.raises(
        MammoprepError,
        match="is no swin-l: it holds a mask2former of transformers. Put config.json",
    ):
        weights.locate("swin-l", {"swin-l": str(tmp_path)})


def test_a_missing_shard_is_named(tmp_path: Path):
    fill(tmp_path, "mam-e", choice=1)
    (tmp_path / "vae" / "diffusion_pytorch_model-00001-of-00001.safetensors").unlink()
    name = "vae/diffusion_pytorch_model-00001-of-00001.safetensors"
    with pytest.raises(MammoprepError, match=f"not a whole mam-e: {name} is missing"):
        weights.locate("mam-e", {"mam-e": str(tmp_path)})


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": 3}'])
def test_an_index_without_shards_is_one_line(tmp_path: Path, text: str):
    fill(tmp_path, "swin-l", choice=1)
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(MammoprepError, match="names no shards"):
        weights.locate("swin-l", {"swin-l": str(tmp_path)})


@pytest.mark.parametrize("part", ["sd-1.3", "swin-l"])
def test_a_file_can_be_the_whole_part(tmp_path: Path, part: str):
    path = tmp_path / "v1-5-pruned.ckpt"
    path.touch()
    assert weights.locate(part, {part: str(path)}) == path


def test_a_file_of_an_encoder_wants_its_words_beside_it(tmp_path: Path):
    path = fill(tmp_path, "biomedclip") / "mine.pt"
    path.touch()
    assert weights.locate("biomedclip", {"biomedclip": str(path)}) == path
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(MammoprepError, match="not a whole biomedclip: vocab.txt is missing beside mine.pt"):
        weights.locate("biomedclip", {"biomedclip": str(path)})


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        MammoprepError, match=r"notes.txt is no file of weights \(.safetensors, .bin, .pt, .pth, .ckpt\)"
    ):
        weights.locate("sd-1.3", {"sd-1.3": str(tmp_path / "notes.txt")})


@pytest.mark.parametrize("is_file", [False, True])
def test_a_file_that_is_not_what_the_sums_say_is_refused(tmp_path: Path, is_file: bool):
    path = fill(tmp_path / "w" / "swin-l", "swin-l") / "model.safetensors"
    (tmp_path / "w" / "SHA256SUMS").write_text(f"{'a' * 64}  swin-l/model.safetensors\n")
    with pytest.raises(MammoprepError, match="model.safetensors is damaged or another file"):
        weights.locate("swin-l", {"swin-l": str(path if is_file else path.parent)})


def test_another_models_folder_names_what_is_missing(tmp_path: Path):
    fill(tmp_path, "biomedclip")
    with pytest.raises(
        MammoprepError, match="whole mam-e: unet/config.json is missing; it holds a model of open_clip. Put"
    ):
        weights.locate("mam-e", {"mam-e": str(tmp_path)})


def test_a_folder_that_does_not_exist_says_what_to_put_where():
    with pytest.raises(
        MammoprepError, match="no folder or file /no/where.*open_clip_config.json.*--weights biomedclip=FOLDER"
    ):
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
    weights.locate("mam-e", {"mam-e": "someone/their-model@v1.5"})
    assert hub.asked == ["someone/their-model"] * 2
    assert hub.revisions == [None, "v1.5"]


def test_a_default_has_its_known_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = Hub(tmp_path, "clip", offers=".safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    weights.locate("clip", {})
    assert hub.revisions == [weights.SOURCES["clip"].revision]
    assert len(hub.revisions[0] or "") == 40


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


def test_a_part_that_no_hub_has_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = Hub(tmp_path, "compact", offers=".safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    made = "Make it by `mammoprep pretrain DATASET --base compact --out FOLDER` and say --weights compact=FOLDER."
    with pytest.raises(MammoprepError, match=f"No hub has compact, and no place is named for it. {made}"):
        weights.locate("compact", {})
    with pytest.raises(MammoprepError, match=f"No hub has compact, and {tmp_path}/compact does not hold it whole"):
        weights.fetch("compact", tmp_path)
    assert weights.cached("compact") is None
    assert hub.asked == []
    folder = fill(tmp_path / "compact", "compact")
    assert weights.fetch("compact", tmp_path) == folder
    assert weights.locate("compact", {"compact": str(folder)}) == folder


def test_a_source_is_on_a_hub_or_made_here():
    assert all(bool(source.hub) != bool(source.made_by) for source in weights.SOURCES.values())


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


FILES = {"config.json": b'{"model_type": "swin"}', "model.safetensors": b"w" * 3_000_000, "other.msgpack": b"no"}


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does: the list of a repository's files, and a file with its commit, its size and its hash."""

    broken = False

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[1]
        if "/tree/" in self.path:
            entries = [{"type": "file", "path": name, "size": len(body), "oid": "0"} for name, body in FILES.items()]
            self.send(json.dumps(entries).encode(), kind="application/json")
        elif "/resolve/" in self.path and name in FILES:
            body = FILES[name]
            self.send(b"x" * len(body) if self.broken else body, etag=hashlib.sha256(body).hexdigest())
        elif self.path.startswith("/api/models/"):
            content = {"id": "a/b", "sha": "c" * 40, "siblings": [{"rfilename": name} for name in FILES]}
            self.send(json.dumps(content).encode(), kind="application/json")
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def send(self, body: bytes, *, kind: str = "application/octet-stream", etag: str = "") -> None:
        self.send_response(200)
        headers = {"Content-Length": str(len(body)), "Content-Type": kind, "X-Repo-Commit": "c" * 40}
        if etag:
            headers |= {"ETag": f'"{etag}"', "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A hub on this machine, for the real client."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Handler.broken = False
    server.shutdown()
    thread.join()
    server.server_close()


def ask(endpoint: str, tmp_path: Path, call: str) -> subprocess.CompletedProcess[str]:
    """Call a function of `weights` in a process that takes `endpoint` for the hub and its stderr for a terminal."""
    code = f"from pathlib import Path\nfrom mammoprep_model import weights\nprint(weights.{call})"
    # TQDM_POSITION=-1 makes the client show its bars where stderr is no terminal.
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hub"), "TQDM_POSITION": "-1", "HF_HUB_OFFLINE": "0"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **hub},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("call", ["locate('swin-l', {})", "fetch('swin-l', Path('to'))"])
def test_the_real_client_downloads_what_is_needed_and_shows_it_on_stderr(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    monkeypatch.chdir(tmp_path)
    done = ask(endpoint, tmp_path, call)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / done.stdout.strip()
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert "100%" in done.stderr
    again = ask("http://127.0.0.1:9", tmp_path, call)  # what is there is not asked for again
    assert again.stdout == done.stdout


@pytest.mark.parametrize("call", ["locate('swin-l', {})", "fetch('swin-l', Path('to'))"])
def test_a_download_that_is_not_what_the_hub_promised_is_refused(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    monkeypatch.chdir(tmp_path)
    Handler.broken = True
    done = ask(endpoint, tmp_path, call)
    assert done.returncode == 1
    assert "is damaged or another file" in done.stderr
    assert "according to the Hugging Face hub" in done.stderr


@pytest.mark.parametrize("part", ["swin-l", "clip"])
def test_a_hub_that_is_not_there_is_one_line_at_once(tmp_path: Path, part: str):
    done = ask("http://127.0.0.1:9", tmp_path, f"locate('{part}', {{}})")
    assert done.returncode == 1
    assert "Retrying" not in done.stderr  # the client tries a known revision again and again
    assert "the Hugging Face hub did not give it (" in done.stderr.splitlines()[-1]
