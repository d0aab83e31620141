"""The table of decoders."""

import pytest

from mammoprep.pixels import PixelError, pixel_data, speeds


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(speeds, "SIDE", 64)


def test_every_lossless_family_is_decoded_exactly_by_what_is_used():
    used = [decoder for decoder in speeds.measure() if decoder.used]

    assert [decoder.syntax for decoder in used] == ["RLE", "JPEG lossless", "JPEG-LS", "JPEG 2000", "HTJ2K"]
    assert all(decoder.exact and decoder.milliseconds > 0 and decoder.version for decoder in used)


def test_the_plug_ins_that_the_package_requires_are_compared():
    others = {(decoder.syntax, decoder.name) for decoder in speeds.measure() if not decoder.used}

    assert {("JPEG-LS", "pyjpegls"), ("JPEG 2000", "pylibjpeg-openjpeg")} <= others


def test_a_decoder_that_fails_or_errs_is_said(monkeypatch):
    def fail(*_):
        raise PixelError("damaged")

    monkeypatch.setattr(pixel_data, "decode_by_plugin", fail)
    monkeypatch.setattr(pixel_data, "decode", lambda frame: speeds._image() + 1)
    for decoder in speeds.measure():
        assert not decoder.exact
        assert (decoder.milliseconds is None) == (not decoder.used)
