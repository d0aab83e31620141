"""What of a DICOM header goes on: numbers and words of lists, whatever else the header says."""

from io import BytesIO

import pytest
from pydicom import Dataset, config, dcmread

from mammoprep.pixels import MAKERS, VIEWS, WORDS, Facts
from mammoprep.pixels.facts import facts_of


def facts(**values):
    content = Dataset()
    with config.disable_value_validation():
        for keyword, value in values.items():
            setattr(content, keyword, value)
    file = BytesIO()
    content.save_as(file, implicit_vr=False, little_endian=True)
    return facts_of(dcmread(BytesIO(file.getvalue()), force=True))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SIEMENS", "SIEMENS"),
        ("Siemens Healthineers of Anna Roe", "SIEMENS"),
        ("GE Healthcare", "GE MEDICAL SYSTEMS"),
        ("HOLOGIC, Inc.", "HOLOGIC"),
        ("Anna Roe", "other"),
        ("Gerda Imsland", "other"),
        ("", ""),
    ],
)
def test_a_manufacturer_goes_on_by_its_name_in_the_list(text, name):
    assert facts(Manufacturer=text) == Facts(manufacturer=name)
    assert name in {*MAKERS, ""}


@pytest.mark.parametrize(("text", "view"), [("mlo", "MLO"), ("ROE", ""), ("", "")])
def test_a_view_goes_on_if_it_is_in_the_list(text, view):
    assert facts(ViewPosition=text).view == view
    assert view in {*VIEWS, ""}


def test_a_view_that_is_no_word_of_the_list_may_have_a_code():
    coded = Dataset()
    coded.CodeValue = "399162004"
    assert facts(ViewPosition="ROE", ViewCodeSequence=[coded]).view == "CC"


def test_nothing_else_of_a_header_goes_on():
    said = {"ImageLaterality": "ROE", "PatientOrientation": ["ROE", "ROE"], "PresentationIntentType": "FOR ROE"}
    found = facts(**said, ImagerPixelSpacing="0.1", BurnedInAnnotation="YES", PatientID="ROE", ImageComments="ROE")

    assert found == Facts(pixel_spacing_mm=0.1, laterality="R", attributes=("burned-in text",))
    assert set(found.attributes) <= WORDS
