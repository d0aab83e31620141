"""What annotation tools write, read to one Entry an image: LabelMe, CVAT, VIA, COCO; and the files of a raw folder."""

from mammoprep.exports.entry import Entry
from mammoprep.exports.files import Files
from mammoprep.exports.formats import read

__all__ = ["Entry", "Files", "read"]
