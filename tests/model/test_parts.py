import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mammoprep.errors import MammoprepError
from mammoprep_model import parts


def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_diffusers_folder_gives_unet_vae_and_the_empty_prompt(diffusers_folder: Path):
    loaded = parts.load_diffusion("mam-e", {"mam-e": str(diffusers_folder)})
    assert loaded.unet.config.cross_attention_dim == 24
    assert loaded.vae.config.latent_channels == 4
    assert loaded.empty_prompt.shape == (1, 77, 24)
    assert loaded.time_width == 32  # four times the UNet's first width
    assert loaded.pretrained


def test_the_loaded_unet_has_the_saved_weights(diffusers_folder: Path):
    loaded = parts.load_diffusion("mam-e", {"mam-e": str(diffusers_folder)})
    path = diffusers_folder / "unet" / "diffusion_pytorch_model.bin"
    saved = torch.load(path, weights_only=True)
    assert all(torch.equal(saved[name], value) for name, value in loaded.unet.state_dict().items())


def test_the_empty_prompt_is_what_the_text_encoder_makes_of_nothing(diffusers_folder: Path):
    from transformers import CLIPTextModel

    loaded = parts.load_diffusion("mam-e", {"mam-e": str(diffusers_folder)})
    encoder = CLIPTextModel.from_pretrained(diffusers_folder / "text_encoder").eval()
    ids = torch.tensor([[0] + [1] * 76])  # start, end, padded with end
    with torch.no_grad():
        assert torch.allclose(loaded.empty_prompt, encoder(ids).last_hidden_state, atol=1e-6)


def test_weights_stored_in_half_precision_become_float32(clip_folder: Path, tmp_path: Path):
    folder = copy(clip_folder, tmp_path)
    from transformers import CLIPModel

    CLIPModel.from_pretrained(folder).half().save_pretrained(folder)
    loaded = parts.load_encoders("clip", {"clip": str(folder)})
    assert {parameter.dtype for parameter in loaded.image.parameters()} == {torch.float32}


def test_a_tensor_that_the_file_lacks_is_named_instead_of_made_up(diffusers_folder: Path, tmp_path: Path):
    folder = copy(diffusers_folder, tmp_path)
    path = folder / "unet" / "diffusion_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    del state["conv_in.weight"]
    torch.save(state, path)
    with pytest.raises(MammoprepError, match="is no readable mam-e: it has no conv_in.weight"):
        parts.load_diffusion("mam-e", {"mam-e": str(folder)})


def test_a_pickle_that_would_run_code_is_refused(biomedclip_folder: Path, tmp_path: Path):
    folder = copy(biomedclip_folder, tmp_path)
    torch.save({"text": Path("anything")}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(MammoprepError, match="is no readable biomedclip"):
        parts.load_encoders("biomedclip", {"biomedclip": str(folder)})


@pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_pytorch_model.bin"])
def test_a_broken_file_is_one_line(biomedclip_folder: Path, tmp_path: Path, name: str):
    folder = copy(biomedclip_folder, tmp_path)
    (folder / name).write_bytes(b"\x80\x02 broken")
    with pytest.raises(MammoprepError) as caught:
        parts.load_encoders("biomedclip", {"biomedclip": str(folder)})
    assert "\n" not in str(caught.value)


def test_a_unet_with_other_blocks_is_refused(diffusers_folder: Path, tmp_path: Path):
    from diffusers import UNet2DConditionModel

    folder = copy(diffusers_folder, tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.bin").unlink()
    UNet2DConditionModel(
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=24,
    ).save_pretrained(folder / "unet")
    with pytest.raises(MammoprepError, match="is another model: mam-e needs the layout of Stable Diffusion"):
        parts.load_diffusion("mam-e", {"mam-e": str(folder)})


def test_a_clip_folder_gives_both_encoders(clip_folder: Path):
    from transformers import CLIPModel, CLIPTokenizer

    loaded = parts.load_encoders("clip", {"clip": str(clip_folder)})
    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokens = CLIPTokenizer.from_pretrained(clip_folder)(["breast", ""], padding=True, return_tensors="pt")
    pixels = torch.rand(2, 3, 32, 32)
    normalised = (pixels - torch.tensor(parts.CLIP_MEAN).view(3, 1, 1)) / torch.tensor(parts.CLIP_STD).view(3, 1, 1)
    with torch.no_grad():
        theirs = model(**tokens, pixel_values=normalised)
        text, image = loaded.text(["breast", ""]), loaded.image(pixels)
    unit = torch.nn.functional.normalize
    assert loaded.width == 12
    assert torch.allclose(unit(text, dim=-1), theirs.text_embeds, atol=1e-5)
    assert torch.allclose(unit(image, dim=-1), theirs.image_embeds, atol=1e-5)


def test_biomedclip_reads_words_and_images(biomedclip_folder: Path, open_clip: Any):
    loaded = parts.load_encoders("biomedclip", {"biomedclip": str(biomedclip_folder)})
    ids = torch.tensor([[2, 5, 6, 7, 9, 3], [2, 10, 3, 0, 0, 0]])  # [CLS] bi - rads 4 [SEP], [CLS] breast [SEP]
    with torch.no_grad():
        assert torch.allclose(loaded.text(["BI-RADS 4", "Breast"]), open_clip.embed_tokens(ids), atol=1e-4)
        assert loaded.image(torch.rand(2, 3, 64, 96)).shape == (2, 20)
    assert loaded.width == 20


def test_the_image_normalisation_is_the_checkpoints_own(biomedclip_folder: Path, tmp_path: Path, open_clip: Any):
    folder = copy(biomedclip_folder, tmp_path)
    settings = json.loads((folder / "open_clip_config.json").read_text())
    settings["preprocess_cfg"] = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    pixels = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        ours = parts.load_encoders("biomedclip", {"biomedclip": str(folder)}).image(pixels)
        assert torch.allclose(ours, open_clip.embed_image(4 * pixels - 2), atol=1e-4)


def test_a_safetensors_checkpoint_is_read_too(biomedclip_folder: Path, tmp_path: Path):
    folder = copy(biomedclip_folder, tmp_path)
    pickled = folder / "open_clip_pytorch_model.bin"
    save_file(torch.load(pickled, weights_only=True), folder / "open_clip_model.safetensors")
    pickled.unlink()
    loaded = parts.load_encoders("biomedclip", {"biomedclip": str(folder)})
    original = parts.load_encoders("biomedclip", {"biomedclip": str(biomedclip_folder)})
    assert torch.equal(loaded.text(["breast"]), original.text(["breast"]))


@pytest.mark.parametrize(
    ("load", "part", "fitting"),
    [
        (parts.load_diffusion, "biomedclip", "tiny, mam-e, sd-1.3"),
        (parts.load_encoders, "mam-e", "tiny, clip, biomedclip"),
    ],
)
def test_a_part_in_the_wrong_place_names_those_that_fit(load: Any, part: str, fitting: str):
    with pytest.raises(MammoprepError, match=f"{part} cannot be used here. Choose {fitting}"):
        load(part, {})


def test_tiny_parts_come_from_nowhere():
    assert not parts.load_diffusion("tiny", {}).pretrained
    assert not parts.load_encoders("tiny", {}).pretrained


def test_tiny_texts_differ_by_a_single_byte():
    torch.manual_seed(0)
    three, four, empty = torch.nn.functional.normalize(
        parts.load_encoders("tiny", {}).text(["BI-RADS 3", "BI-RADS 4", ""]), dim=-1
    )
    assert three @ four < 0.9
    assert not empty.any()


def test_an_image_of_any_shape_is_embedded():
    torch.manual_seed(0)
    encoder = parts.load_encoders("tiny", {}).image
    assert encoder(torch.rand(2, 3, 100, 37)).shape == (2, 64)


def in_shards(path: Path) -> None:
    """Split a .safetensors file in two and write the index beside."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    names = sorted(tensors)
    stem, places = path.name.removesuffix(".safetensors"), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"{stem}-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path.parent / shard, metadata={"format": "pt"})
        places |= dict.fromkeys(part, shard)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (path.parent / f"{path.name}.index.json").write_text(json.dumps(index))
    path.unlink()


def test_weights_in_shards_are_the_same(diffusers_folder: Path, clip_folder: Path, tmp_path: Path):
    diffusion, clip = copy(diffusers_folder, tmp_path / "a"), copy(clip_folder, tmp_path / "b")
    for path in (diffusion / "vae" / "diffusion_pytorch_model.safetensors", clip / "model.safetensors"):
        in_shards(path)
    whole = parts.load_diffusion("mam-e", {"mam-e": str(diffusers_folder)}).vae.state_dict()
    found = parts.load_diffusion("mam-e", {"mam-e": str(diffusion)}).vae.state_dict()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    whole, found = (parts.load_encoders("clip", {"clip": str(f)}).image.state_dict() for f in (clip_folder, clip))
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_half_precision_is_taken_where_there_is_no_full_one(diffusers_folder: Path, tmp_path: Path):
    folder = copy(diffusers_folder, tmp_path)
    saved = torch.load(folder / "unet" / "diffusion_pytorch_model.bin", weights_only=True)
    half = {name: value.half() for name, value in saved.items()}
    save_file(half, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors", metadata={"format": "pt"})
    full = parts.load_diffusion("mam-e", {"mam-e": str(folder)}).unet.conv_in.weight
    assert torch.equal(full, saved["conv_in.weight"])
    (folder / "unet" / "diffusion_pytorch_model.bin").unlink()
    halved = parts.load_diffusion("mam-e", {"mam-e": str(folder)}).unet.conv_in.weight
    assert halved.dtype == torch.float32
    assert torch.equal(halved, half["conv_in.weight"].float())
    assert not torch.equal(halved, full)


def test_a_single_file_of_an_encoder_is_read_with_the_words_beside_it(biomedclip_folder: Path, tmp_path: Path):
    folder = copy(biomedclip_folder, tmp_path)
    checkpoint = folder / "epoch_3.pt"
    (folder / "open_clip_pytorch_model.bin").rename(checkpoint)
    torch.save({"epoch": 3, "state_dict": torch.load(checkpoint, weights_only=True)}, checkpoint)
    loaded = parts.load_encoders("biomedclip", {"biomedclip": str(checkpoint)})
    original = parts.load_encoders("biomedclip", {"biomedclip": str(biomedclip_folder)})
    assert torch.equal(loaded.text(["breast"]), original.text(["breast"]))


def test_encoders_know_the_scale_of_their_cosines(clip_folder: Path, biomedclip_folder: Path, open_clip: Any):
    clip = parts.load_encoders("clip", {"clip": str(clip_folder)})
    biomedclip = parts.load_encoders("biomedclip", {"biomedclip": str(biomedclip_folder)})
    assert clip.scale == pytest.approx(14.2857, rel=1e-3)  # CLIP's start, exp(2.6592)
    assert biomedclip.scale == pytest.approx(float(open_clip.logit_scale.detach().exp()))


def test_a_whole_mask2former_gives_its_mask_generator(mask2former_folder: Path):
    from safetensors.torch import load_file

    state = parts.load_mask_generator("m2f-coco", {"m2f-coco": str(mask2former_folder)})
    published = load_file(mask2former_folder / "model.safetensors")
    mask_features = published["model.pixel_level_module.decoder.mask_projection.weight"]
    assert torch.equal(state["pixel_decoder.mask_projection.weight"], mask_features)
    queries = published["model.transformer_module.queries_features.weight"]
    assert torch.equal(state["transformer.queries_features.weight"], queries)
    assert {name.split(".")[0] for name in state} == {"pixel_decoder", "transformer"}


def test_a_mask2former_file_is_read_with_its_config_beside_it(mask2former_folder: Path):
    folder = parts.load_mask_generator("m2f-coco", {"m2f-coco": str(mask2former_folder)})
    file = parts.load_mask_generator("m2f-coco", {"m2f-coco": str(mask2former_folder / "model.safetensors")})
    assert all(torch.equal(folder[name], file[name]) for name in folder)


def test_a_mask2former_is_no_backbone(mask2former_folder: Path):
    with pytest.raises(MammoprepError, match="m2f-coco cannot be used here. Choose tiny, mam-e, sd-1.3"):
        parts.load_diffusion("m2f-coco", {"m2f-coco": str(mask2former_folder)})
