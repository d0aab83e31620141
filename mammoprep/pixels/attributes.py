"""What sets an image apart from a plain mammogram: raw values, an implant, a spot view, text in the pixels."""

from collections.abc import Iterator

from pydicom import Dataset

from mammoprep.pixels.elements import items_of, text_of

FOR_PROCESSING = "for processing"
"""The attribute of an image that holds a detector's raw values and is not meant to be looked at."""
BURNED_IN = "burned-in text"
"""The attribute of an image whose header says that its pixels show text, enough to tell who the patient is."""
TEXT = "text in the background"
"""The attribute of an image whose pixels show text, as far as `lettering` can tell; the header has no part in it."""
_RAW_CLASS = "1.2.840.10008.5.1.4.1.1.1.2.1"  # Digital Mammography X-Ray Image Storage - For Processing
_FLAGS = {"implant": "BreastImplantPresent", "partial view": "PartialView", BURNED_IN: "BurnedInAnnotation"}
_MODIFIERS = {  # DICOM CID 4015, codes of SNOMED CT and of the older SNOMED RT
    "magnification": ("399163009", "R-102D6"),
    "spot compression": ("399055006", "R-102D7"),
    "anterior compression": ("441752004", "P2-00161"),
    "implant displaced": ("399209000", "R-102D5"),
    "tangential": ("399110001", "R-102C2"),
    "rolled lateral": ("399197002", "R-102D3"),
    "rolled medial": ("399226006", "R-102D4"),
    "rolled superior": ("415670009", "R-102C9"),
    "rolled inferior": ("414493004", "R-102CA"),
    "axillary tail": ("399011000", "R-102D1"),
    "axillary tissue": ("442580003", "R-40AB2"),
    "cleavage": ("399161006", "R-102D2"),
    "infra-mammary fold": ("442593008", "R-40ABE"),
    "nipple in profile": ("442581004", "R-40AB3"),
}

WORDS = frozenset({FOR_PROCESSING, TEXT, *_FLAGS, *_MODIFIERS})
"""All that can be said of an image here."""


def attributes_of(dataset: Dataset) -> tuple[str, ...]:
    """Give the words of this module that hold for an image; never words of the file."""
    return tuple(_attributes(dataset))


def _attributes(dataset: Dataset) -> Iterator[str]:
    intent = text_of(dataset, "PresentationIntentType").upper()
    if intent == "FOR PROCESSING" or text_of(dataset, "SOPClassUID") == _RAW_CLASS:
        yield FOR_PROCESSING
    yield from (name for name, keyword in _FLAGS.items() if text_of(dataset, keyword).upper() == "YES")
    codes = {text_of(item, "CodeValue") for item in _modifiers(dataset)}
    yield from (name for name, known in _MODIFIERS.items() if not codes.isdisjoint(known))


def _modifiers(dataset: Dataset) -> tuple[Dataset, ...]:
    """Give the view's modifiers, which stand in its item, in some files beside it."""
    places = (*items_of(dataset, "ViewCodeSequence"), dataset)
    return tuple(item for place in places for item in items_of(place, "ViewModifierCodeSequence"))
