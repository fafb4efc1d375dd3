import pytest

from diffusion_lessons.data.layout import PictureFile, is_ignored, printable, sort_pictures


def labels(paths: list[str]) -> dict[str, str]:
    return {picture.path: picture.label for picture in sort_pictures(paths)[0]}


def test_a_class_is_a_folder_with_all_below_it() -> None:
    pictures, loose = sort_pictures(["dog/b.png", "cat/x/y/c.png", "cat/a.png", "readme.txt"])
    assert pictures == [
        PictureFile("cat/a.png", "cat", False),
        PictureFile("cat/x/y/c.png", "cat", False),
        PictureFile("dog/b.png", "dog", False),
    ]
    assert loose == ["readme.txt"]


@pytest.mark.parametrize("around", ["data/", "a/b/c/"])
def test_folders_around_are_looked_through(around: str) -> None:
    assert labels([f"{around}cat/1.png", f"{around}dog/1.png", "readme.txt"]) == {
        f"{around}cat/1.png": "cat",
        f"{around}dog/1.png": "dog",
    }


def test_a_note_beside_the_classes_does_not_make_them_one() -> None:
    paths = ["data/readme.txt", "data/cat/1.png", "data/dog/1.png"]
    assert labels(paths) == {"data/cat/1.png": "cat", "data/dog/1.png": "dog"}
    assert sort_pictures(paths)[1] == ["data/readme.txt"]


def test_pictures_beside_folders_make_one_class() -> None:
    assert set(labels(["cat/1.JPG", "cat/young/1.png", "cat/old/1.png"]).values()) == {"cat"}


def test_one_class_is_a_class() -> None:
    assert labels(["cat/1.png", "cat/2.png"]) == {"cat/1.png": "cat", "cat/2.png": "cat"}
    assert labels(["data/cat/1.png"]) == {"data/cat/1.png": "cat"}


def test_every_tenth_of_a_class_is_for_testing() -> None:
    pictures, _ = sort_pictures([f"{c}/{i:03}.png" for i in range(25) for c in "ba"])
    assert [picture.path for picture in pictures if picture.test] == [
        "a/009.png",
        "a/019.png",
        "b/009.png",
        "b/019.png",
    ]


def test_a_class_of_nine_has_none_to_test() -> None:
    pictures, _ = sort_pictures([f"a/{i}.png" for i in range(9)])
    assert len(pictures) == 9
    assert not any(picture.test for picture in pictures)


def test_the_order_of_the_paths_does_not_matter() -> None:
    paths = [f"{c}/{i}.png" for c in "cab" for i in range(30)]
    assert sort_pictures(paths) == sort_pictures(reversed(paths))


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "VAL"), ("x/train", "x/valid")])
def test_splits_that_are_there_are_kept(train: str, test: str) -> None:
    pictures, loose = sort_pictures(
        [f"{train}/cat/1.png", f"{train}/dog/1.png", f"{test}/cat/2.png", f"{test}/0.png", f"{test}.csv"]
    )
    assert {tuple(picture) for picture in pictures} == {
        (f"{train}/cat/1.png", "cat", False),
        (f"{train}/dog/1.png", "dog", False),
        (f"{test}/cat/2.png", "cat", True),
    }
    assert loose == sorted([f"{test}.csv", f"{test}/0.png"])


def test_test_goes_before_val() -> None:
    pictures, loose = sort_pictures(["train/a/1.png", "val/a/2.png", "test/a/3.png"])
    assert [(picture.path, picture.test) for picture in pictures] == [
        ("test/a/3.png", True),
        ("train/a/1.png", False),
    ]
    assert loose == []


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


@pytest.mark.parametrize("paths", [[], ["1.png"], ["a.png", "b.png"]])
def test_no_folders_no_pictures(paths: list[str]) -> None:
    assert sort_pictures(paths) == ([], paths)
