"""A yardstick for any labelled data set: bundled, from a file, or trained on its labels."""

import hashlib
import json
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.data.dataset import SPLITS
from diffusion_lessons.data.downloads import data_folder
from diffusion_lessons.makers.classifiers import ClassifierRecipe, accuracy, train_classifier
from diffusion_lessons.metrics import Yardstick
from diffusion_lessons.networks import ClassifierConfig
from diffusion_lessons.support.machine import choose_device

STEPS, EPOCHS = 1000, 100  # of training, at most: whichever ends first
LEAST = ClassifierConfig().num_features + 2  # pictures of each split, for the covariance of the features


def yardstick_for(
    data: str, size: int | None = None, given: str | None = None, classes: Sequence[str] = ()
) -> Yardstick:
    """What pictures of a data set are measured by: call it before anything is sampled.

    Data and size are as for `load_dataset`. `given` is the file of a classifier or its name in the zoo; None
    is the bundled yardstick of these data where there is one, else one that is trained on their labels. The
    classes are those of the model whose samples are measured, in order; data with others are refused.
    """
    if given is not None:
        return yardstick_from(given, data, size, classes)
    if f"{data}-classifier" in zoo.names():
        bundled = zoo.yardstick(data)
        if size in (None, bundled.classifier.config.image_size):
            return bundled
    return make_yardstick(data, size, classes)


def yardstick_from(name: str, data: str, size: int | None = None, classes: Sequence[str] = ()) -> Yardstick:
    """The classifier in a file or of the zoo, with references measured on both splits of a data set.

    What is no classifier, or one of another shape or number of classes, and a data set that cannot be
    measured are a ValueError.
    """
    splits = _splits(data, size, classes)
    file = zoo.checked(name) if name in zoo.names() else Path(name)
    classifier, train = Yardstick.load(file).classifier, splits["train"]
    c = classifier.config
    known, wanted = (c.in_channels, c.image_size, c.image_size), train.shape
    if known != wanted or c.num_classes != len(train.classes):
        raise ValueError(
            f"the classifier {name} is of pictures {known} in {c.num_classes} classes, and {data} has "
            f"{wanted} in {len(train.classes)}: leave it out, and one is trained on {data}"
        )
    return _told(Yardstick.of(classifier, splits, name=name), data, splits["test"])


def make_yardstick(data: str, size: int | None = None, classes: Sequence[str] = ()) -> Yardstick:
    """A classifier trained on the labels of a data set, with its features on both splits.

    It takes a minute or two on two cores, and is kept in the data folder for the next time. A data set with
    one class or none, or with too few pictures, is a ValueError.
    """
    splits = _splits(data, size, classes)
    n, side = len(splits["train"]), splits["train"].shape[-1]
    recipe = ClassifierRecipe(data, min(EPOCHS, STEPS * 128 / n), patch=_patch(side))
    file = _file(splits, recipe)
    try:
        yardstick = Yardstick.load(file, data)
    except ValueError:  # not there yet, or damaged
        print(f"no yardstick of {data} yet: training a classifier on its labels", file=sys.stderr)
        classifier = train_classifier(recipe, splits["train"], choose_device(), progress=True)
        yardstick = Yardstick.of(classifier, splits, name=data)
        try:
            yardstick.save(file)
        except ValueError as error:
            warnings.warn(f"the yardstick is not kept: {error}", RuntimeWarning, stacklevel=2)
    return _told(yardstick, data, splits["test"])


def _splits(data: str, size: int | None, classes: Sequence[str]) -> dict[str, Dataset]:
    """Both splits of a data set that a yardstick can be made of, for a model of these classes."""
    splits = {split: load_dataset(data, split, size) for split in SPLITS}
    if classes and tuple(classes) != splits["train"].classes:
        theirs = ", ".join(splits["train"].classes)
        raise ValueError(f"the model knows the classes {', '.join(classes)}, and {data} has {theirs}")
    for split, dataset in splits.items():
        found, why = 0 if dataset.labels is None else len(dataset.labels.unique()), ""
        if found < 2:
            why = f"features come from telling classes apart, and its {split} split has {found} of them"
        elif len(dataset) < LEAST:
            why = f"its {split} split has {len(dataset)} pictures, and a yardstick needs at least {LEAST}"
        if why:
            raise ValueError(f"{data} cannot be measured: {why}")
    return splits


def _patch(side: int) -> int:
    """Pixels a side that are folded into channels, so that about 16 positions are left where that divides."""
    fitting = [patch for patch in range(1, max(1, side // 16) + 1) if side % (4 * patch) == 0]
    return max(fitting, default=1)


def _file(splits: dict[str, Dataset], recipe: ClassifierRecipe) -> Path:
    """Where the yardstick of these pictures is kept: other pictures or another recipe have another file."""
    how = asdict(replace(recipe, data=""))  # the same pictures may have moved
    key = json.dumps([how, *(dataset.fingerprint() for dataset in splits.values())])
    name = re.sub(r"\W+", "-", splits["train"].name).strip("-")[:40]
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return data_folder() / "yardsticks" / f"{name}-{digest}.safetensors"


def _told(yardstick: Yardstick, data: str, test: Dataset) -> Yardstick:
    """The yardstick; how far its classifier can be trusted is printed."""
    share = accuracy(yardstick.classifier, test)
    print(f"the yardstick recognises {share:.1%} of {len(test)} test pictures of {data}", file=sys.stderr)
    return yardstick
