"""What a DATASET becomes for other tools, a file a format: COCO, YOLO, nnU-Net, CVAT, LabelMe, Hugging Face, DICOM."""

from mammoprep.targets.run import TARGETS, Options, Report, export

__all__ = ["TARGETS", "Options", "Report", "export"]
