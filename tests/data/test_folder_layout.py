import pytest

from diffusion_lessons.data.layout import PictureFile, is_ignored, printable, sort_pictures


def labels(paths: list[str]) -> dict[str, str]:
    return {picture.path: picture.label for picture in sort_pictures(paths)[0]}


def test_a_class_is_a_folder_with_all_below_it() -> None:
    found = sort_pictures(["dog/b.png", "cat/x/y/c.png", "cat/a.png", "readme.txt"])
    assert found.pictures == [
        PictureFile("cat/a.png", "cat", False),
        PictureFile("cat/x/y/c.png", "cat", False),
        PictureFile("dog/b.png", "dog", False),
    ]
    assert found.left_out == {"readme.txt": "in no class folder"}
    assert (found.held_out, found.doubt) == ("every 10th of a class", "")


@pytest.mark.parametrize("around", ["data/", "a/b/c/"])
def test_folders_around_are_looked_through(around: str) -> None:
    assert labels([f"{around}cat/1.png", f"{around}dog/1.png", "readme.txt"]) == {
        f"{around}cat/1.png": "cat",
        f"{around}dog/1.png": "dog",
    }


def test_a_note_beside_the_classes_does_not_make_them_one() -> None:
    paths = ["data/readme.txt", "data/cat/1.png", "data/dog/1.png"]
    assert labels(paths) == {"data/cat/1.png": "cat", "data/dog/1.png": "dog"}
    assert sort_pictures(paths).left_out == {"data/readme.txt": "in no class folder"}


def test_pictures_beside_folders_make_one_class() -> None:
    assert set(labels(["cat/1.JPG", "cat/young/1.png", "cat/old/1.png"]).values()) == {"cat"}


def test_one_class_is_a_class() -> None:
    assert labels(["cat/1.png", "cat/2.png"]) == {"cat/1.png": "cat", "cat/2.png": "cat"}
    assert labels(["data/cat/1.png"]) == {"data/cat/1.png": "cat"}


def test_every_tenth_of_a_class_is_for_testing() -> None:
    pictures = sort_pictures([f"{c}/{i:03}.png" for i in range(25) for c in "ba"]).pictures
    assert [picture.path for picture in pictures if picture.test] == [
        "a/009.png",
        "a/019.png",
        "b/009.png",
        "b/019.png",
    ]


def test_a_class_of_nine_has_none_to_test() -> None:
    pictures = sort_pictures([f"a/{i}.png" for i in range(9)]).pictures
    assert len(pictures) == 9
    assert not any(picture.test for picture in pictures)


def test_the_order_of_the_paths_does_not_matter() -> None:
    paths = [f"{c}/{i}.png" for c in "cab" for i in range(30)]
    assert sort_pictures(paths) == sort_pictures(reversed(paths))


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "VAL"), ("x/train", "x/valid")])
def test_splits_that_are_there_are_kept(train: str, test: str) -> None:
    found = sort_pictures(
        [f"{train}/cat/1.png", f"{train}/dog/1.png", f"{test}/cat/2.png", f"{test}/0.png", f"{test}.csv"]
    )
    assert {tuple(picture) for picture in found.pictures} == {
        (f"{train}/cat/1.png", "cat", False),
        (f"{train}/dog/1.png", "dog", False),
        (f"{test}/cat/2.png", "cat", True),
    }
    assert found.left_out == dict.fromkeys([f"{test}.csv", f"{test}/0.png"], "in no class folder")
    assert (found.held_out, found.doubt) == (f"those in {test.split('/')[-1]}/", "")


def test_test_goes_before_val() -> None:
    found = sort_pictures(["train/a/1.png", "val/a/2.png", "test/a/3.png"])
    assert [(picture.path, picture.test) for picture in found.pictures] == [
        ("test/a/3.png", True),
        ("train/a/1.png", False),
    ]
    assert found.left_out == {"val/a/2.png": "beside train/ and test/"}


def test_a_class_may_be_called_train() -> None:
    assert set(labels(["train/1.png", "bus/1.png", "test/1.png"]).values()) == {"bus", "test", "train"}


def test_a_name_that_a_mac_took_apart_is_the_same_class() -> None:
    assert set(labels(["caf\u00e9/1.png", "cafe\u0301/2.png"]).values()) == {"caf\u00e9"}


def test_names_from_elsewhere_stay_readable() -> None:
    assert labels(["猫/1.png"]) == {"猫/1.png": "猫"}
    assert labels(["a\udcff\x1b[31m/1.png"]) == {"a\udcff\x1b[31m/1.png": "a??[31m"}
    assert printable("a\nb") == "a?b"


@pytest.mark.parametrize(
    "path", [".DS_Store", "a/.hidden.png", ".git/a.png", "__MACOSX/a/._1.png", "a/Thumbs.db", "a/Desktop.ini"]
)
def test_what_systems_leave_behind_is_ignored(path: str) -> None:
    assert is_ignored(path)


def test_dots_inside_names_are_fine() -> None:
    assert not is_ignored("v1.0/a.b.png")


# Splits in every layout that people have ------------------------------------------------------------


def splits(paths: list[str]) -> dict[str, tuple[str | None, bool]]:
    return {picture.path: (picture.label, picture.test) for picture in sort_pictures(paths).pictures}


CATS = {"train/cat/1.png": ("cat", False), "train/dog/1.png": ("dog", False), "test/cat/1.png": ("cat", True)}


@pytest.mark.parametrize(
    "beside",
    [
        ["samples/1.png", "samples/2.png"],
        ["samples/cat/1.png", "docs/figures/a.png", "docs/manual.pdf"],
        ["annotations/1.xml", "annotations/deep/2.json", "labels.csv"],
        ["val/cat/9.png"],
        ["unlabeled/1.png", "checkpoints/model.bin"],
    ],
)
def test_what_lies_beside_the_splits_is_left_out(beside: list[str]) -> None:
    found = sort_pictures([*CATS, *beside])
    assert {each.path: (each.label, each.test) for each in found.pictures} == CATS
    assert found.left_out.keys() == set(beside)
    assert set(found.left_out.values()) <= {"beside train/ and test/", "in no class folder"}
    assert (found.held_out, found.doubt) == ("those in test/", "")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("train-images", "val-images"),
        ("Train Data", "Test Data"),
        ("train", "eval"),
    ],
)
def test_longer_names_of_splits_are_known(train: str, test: str) -> None:
    assert splits([f"{train}/a/1.png", f"{train}/b/1.png", f"{test}/a/1.png", "extra/1.png"]) == {
        f"{train}/a/1.png": ("a", False),
        f"{train}/b/1.png": ("b", False),
        f"{test}/a/1.png": ("a", True),
    }


def test_splits_inside_each_class() -> None:
    assert splits(["cat/train/1.png", "cat/test/2.png", "dog/train/1.png", "dog/val/9.png"]) == {
        "cat/train/1.png": ("cat", False),
        "cat/test/2.png": ("cat", True),
        "dog/train/1.png": ("dog", False),
    }


def test_splits_of_pictures_without_classes() -> None:
    found = sort_pictures(["train/1.png", "train/2.png", "valid/3.png", "readme.md"])
    assert found.pictures == [
        PictureFile("train/1.png", None, False),
        PictureFile("train/2.png", None, False),
        PictureFile("valid/3.png", None, True),
    ]
    assert found.left_out == {"readme.md": "in no class folder"}


def test_pictures_to_test_without_classes_are_left_out() -> None:
    paths = [f"train/{label}/{i:02}.png" for label in ("cat", "dog") for i in range(10)]
    found = sort_pictures([*paths, "test/1.png", "test/2.png"])
    assert [each.path for each in found.pictures if each.test] == ["train/cat/09.png", "train/dog/09.png"]
    assert {each.label for each in found.pictures} == {"cat", "dog"}
    assert found.left_out.keys() == {"test/1.png", "test/2.png"}
    assert found.held_out == "every 10th of a class"


@pytest.mark.parametrize(
    "paths",
    [
        ["train/1.png", "bus/1.png", "test/1.png"],
        ["x/train/cat/1.png", "x/test/cat/1.png", "samples/1.png"],
        ["test/1.png", "val/1.png"],
        ["cat/train/1.png", "cat/test/1.png", "dog/test/1.png"],
    ],
)
def test_where_no_splits_are_told_it_says_what_is_trained_on(paths: list[str]) -> None:
    found = sort_pictures(paths)
    assert len(found.pictures) == len(paths)
    assert "test/" in found.doubt
    assert "taken for no split" in found.doubt


def test_a_file_beside_the_enclosing_folder_is_no_class() -> None:
    found = sort_pictures(["pets/cat/1.png", "pets/dog/1.png", "docs/a/manual.pdf"])
    assert {each.label for each in found.pictures} == {"cat", "dog"}
    assert found.left_out == {"docs/a/manual.pdf": "in no class folder"}


@pytest.mark.parametrize("paths", [[], ["1.png"], [f"{i:02}.png" for i in range(20)], ["no-ending"]])
def test_without_folders_there_are_no_classes(paths: list[str]) -> None:
    found = sort_pictures(paths)
    pictures = [path for path in paths if "/" not in path]
    assert [each.path for each in found.pictures] == pictures
    assert [each.path for each in found.pictures if each.test] == pictures[9::10]
    assert all(each.label is None for each in found.pictures)
