"""How far a classifier agrees with people about faces that are kept out of training: another style than ``val``'s."""

from __future__ import annotations

from pathlib import Path

import torch

from ..classify import Classifier
from ..datasets.judged import measured_by, read_judged_faces
from ..datasets.unlabelled import face_names, read_faces, shards
from ..detect.whole_image import WholeImage
from ..pipeline import Pipeline
from .metrics import GenderFigures, gender_figures

BATCH = 64


def evaluate_judged_faces(data: Path, classifier: Classifier) -> GenderFigures | None:
    """Figures on the unlabelled faces that are kept for measuring and that people were sure of, each one head.

    Args:
        data: the data folder.
        classifier: what is measured.

    Returns:
        None where there are no such faces.
    """
    pipeline = Pipeline(WholeImage(classifier.device), classifier)
    answers, labels = [], []
    for shard in shards(data):
        names = face_names(shard)
        told = measured_by(names, read_judged_faces(data, names)).tolist()
        genders = {name: gender for name, gender in zip(names, told, strict=True) if gender >= 0}
        images = []
        for name, pixels in read_faces(shard, genders.__contains__):
            images.append(torch.from_numpy(pixels.copy()))
            labels.append(genders[name])
        for start in range(0, len(images), BATCH):
            faces = pipeline(images[start : start + BATCH]).cpu()
            assert faces.probabilities is not None
            answers.append(faces.probabilities)
    return gender_figures(torch.cat(answers), torch.tensor(labels)) if labels else None
