import gzip
import json
import random
import re
import unicodedata
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch

from diffusion_lessons.data.captions import captions
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.data.tokenizer import BEGIN, END, Tokenizer, merges_of

HOSTILE = [
    "a photo of a cat", "you're", "4x4", "Red\ncube", "   spaces\t\tand\nlines ",
    "don't I'VE we'll they'd it's", "naïve café", "e\u0301clair", "日本語テスト",
    "😀 emoji 👩\u200d👩\u200d👧", "", "!", "<|endoftext|> inside", "a<|startoftext|>b", "ﬁne ﬂour",
    "²³ ½ Ⅷ ٣", "İstanbul ŞIŞ", "ẞ straße", "x_y__z", "--- ... !!!???", "a\xa0b\u2003c\u200bd",
    "\x00\x01 control", "don’t", "ǅ Ǆ", "हिन\u094dदी भाषा", "ไทย", "ab" * 100, "1234567890",
    "U.S.A. i.e.", "'s 's's ''s", "ΟΔΟΣ ΣΑΣ", "it'ſ 'LL 'Ve", "a\u0345b \u0345",
    "<|STARTOFTEXT|> a <|EndOfText|>",
]  # fmt: skip
POOLS = [
    "abcdefghijklmnopqrstuvwxyz ABCDEFG 0123456789 .,'!?-_", "éèüñçßøåÀÈ ", "аБвГдЕ жЗ",
    "漢字かなカナ", " \t\n\x0d\xa0\u2028\u3000\x0b\x1c\x85", "😀🎉👍🏽❤\ufe0f\u200d🔥",
    "<|>endoftext startoftext", "\u0301\u0308\u200d\u200b\ufeff", "'s't're've'm'll'd",
]  # fmt: skip


def strings(n: int) -> list[str]:
    """Hostile ones, some mixed from pools, some of any assigned characters."""
    chance, texts = random.Random(0), list(HOSTILE)
    for _ in range(n):
        pool = "".join(chance.sample(POOLS, chance.randint(1, 4)))
        texts.append("".join(chance.choices(pool, k=chance.randint(1, 40))))
    known = [chr(code) for code in range(32, 0x20000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    texts += ["".join(chance.choices(known, k=chance.randint(1, 20))) for _ in range(n)]
    cased = [c for c in known if len({c, c.lower(), c.upper(), c.casefold()}) > 1] + [" ", "'"] * 40
    texts += ["".join(chance.choices(cased, k=12)) for _ in range(n)]
    return texts


@lru_cache
def published() -> Tokenizer:
    """CLIP's own, from the file of merges in a package that is installed for nothing else."""
    file = distribution("open-clip-torch").locate_file("open_clip/bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(Path(str(file)).read_bytes()).decode().split("\n")
    return Tokenizer(merges_of("\n".join(lines[: 49152 - 256 - 2 + 1])))


def test_clips_tokens_of_hostile_strings_are_those_of_transformers() -> None:
    from transformers import CLIPTokenizer

    ours = published()
    theirs = CLIPTokenizer(vocab=ours.ids, merges=list(ours.merges), model_max_length=77)
    texts = strings(1000)
    assert len(texts) > 3000
    wrong = [text for text in texts if ours.encode(text) != theirs(text)["input_ids"]]
    assert wrong == []
    with pytest.warns(UserWarning, match="longer than 77 tokens"):
        batch = ours(texts)
    expected = theirs(texts, padding="max_length", truncation=True, return_tensors="pt")
    assert torch.equal(batch["tokens"], expected["input_ids"])
    assert torch.equal(batch["mask"], expected["attention_mask"].bool())


def test_clips_vocabulary_has_its_published_ids() -> None:
    ids = published().ids
    assert (len(published()), ids[BEGIN], ids[END], ids["!"], ids["the</w>"]) == (49408, 49406, 49407, 0, 518)


def test_a_published_folder_is_read_with_its_pad(tmp_path: Path) -> None:
    ours = published()
    lines = [" ".join(pair) for pair in ours.merges]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", "utf-8")
    (tmp_path / "vocab.json").write_text(json.dumps(ours.ids), "utf-8")
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))  # as Stable Diffusion 2
    theirs = Tokenizer.from_folder(tmp_path)
    assert theirs(["a cat"])["tokens"][0, :6].tolist() == [49406, 320, 2368, 49407, 0, 0]
    assert ours(["a cat"])["tokens"][0, :6].tolist() == [49406, 320, 2368, 49407, 49407, 49407]
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"has no merges\.txt and vocab\.json, and no tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("pad", [END, "!"])
def test_what_transformers_writes_today_is_read(tmp_path: Path, pad: str) -> None:
    """It has no merges.txt and no vocab.json: so a pipeline that was trained on and saved looks today."""
    from transformers import CLIPTokenizer

    ours = published()
    CLIPTokenizer(vocab=ours.ids, merges=list(ours.merges), pad_token=pad).save_pretrained(tmp_path)
    assert not (tmp_path / "merges.txt").exists()
    theirs = Tokenizer.from_folder(tmp_path)
    assert (theirs.ids, theirs.merges, theirs.pad) == (ours.ids, ours.merges, pad)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "tokenizer.json is damaged"),
        ("[]", "does not hold settings"),
        ('{"model": {"type": "Unigram", "vocab": [["a", 0]]}}', "no tokenizer of byte pairs"),
        ('{"model": {"merges": [["a"]], "vocab": {}}}', "no tokenizer of byte pairs"),
    ],
)
def test_a_tokenizer_of_another_kind_is_said(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_a_vocabulary_without_a_merge_is_refused(tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text("a b</w>\nx y\n")
    ids = Tokenizer([("a", "b</w>")]).ids
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(ValueError, match="the vocabulary has no 'xy'"):
        Tokenizer.from_folder(tmp_path)


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    index = torch.arange(500)
    return Tokenizer.train(captions(draw(0, index), 0, index), 700, context=16)


def test_trained_on_captions_every_word_is_one_token(trained: Tokenizer) -> None:
    index = torch.arange(200)
    for text in captions(draw(1, index, "held-out"), 1, index):
        assert len(trained.encode(text)) == len(text.split()) + 2
        assert trained.decode(trained.encode(text)) == text


def test_merges_are_those_of_the_most_frequent_neighbours() -> None:
    learnt = Tokenizer.train(["abab abab ab", "ab x"], 514 + 2)
    assert learnt.merges == (("a", "b</w>"), ("a", "b"))  # 4 words end in ab, 2 have it before their end
    assert Tokenizer.train(["abc"], 600).merges == ()  # nothing is seen twice


def test_every_text_comes_back_as_it_was_read(trained: Tokenizer) -> None:
    for text in HOSTILE:
        if BEGIN in text or END in text:
            continue
        words = " ".join(trained.decode([i]) for i in []) or trained.decode(trained.encode(text))
        plain = "".join(letter.lower() for letter in unicodedata.normalize("NFC", text))
        assert re.sub(r"\s", "", words) == re.sub(r"\s", "", plain)


def test_it_is_the_same_after_json(trained: Tokenizer) -> None:
    again = Tokenizer.from_json(json.loads(json.dumps(trained.to_json())))
    assert again.ids == trained.ids
    assert again.context == 16


def test_a_long_text_is_cut_before_its_end_with_a_warning(trained: Tokenizer) -> None:
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 16 tokens"):
        rows = trained(["a red circle " * 9, "a red circle"])
    assert rows["tokens"].shape == (2, 16)
    assert rows["tokens"][0, -1] == trained.ids[END]
    assert rows["mask"].sum(1).tolist() == [16, 5]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda t: t("a red circle"), "put it into a list"),
        (lambda t: t([None]), "a text is a string, got None"),
        (lambda t: t.decode([10**6]), "no token has the id 1000000"),
        (lambda t: Tokenizer(context=2), "at least 3 tokens"),
        (lambda t: Tokenizer.train([], 100), "514 tokens, got size 100"),
        (lambda t: merges_of("#version: 0.2\na b c\n"), "a merge is two parts"),
    ],
)
def test_bad_input_is_refused(trained: Tokenizer, wrong: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        wrong(trained)  # type: ignore[operator]
