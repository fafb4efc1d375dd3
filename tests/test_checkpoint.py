import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diffusion_lessons.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
    write_tensors,
)
from diffusion_lessons.networks import Patched, UNet, UNetConfig
from diffusion_lessons.paths import DiscreteVP, NoisePath, StraightPath
from diffusion_lessons.schedules import cosine_betas, linear_betas
from diffusion_lessons.targets import FLOW, V


def tiny(path: NoisePath | None = None) -> Checkpoint:
    torch.manual_seed(0)
    network = Patched(UNet(UNetConfig(4, 4, 8, (1, 2), 1, (1,), 8, num_classes=2)), 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    path = path or DiscreteVP(cosine_betas(20))
    return Checkpoint(network.eval(), path, V, ("cat", "dog"), (1, 8, 8), {"lr": 0.1}, {"steps": 3})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model.safetensors", tiny())
    return tmp_path / "model.safetensors"


def same_estimates(a: Checkpoint, b: Checkpoint) -> bool:
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    condition = torch.tensor([0, 2])
    with torch.no_grad():
        pairs = [c.denoiser()(x, c.path(c.path.T / 2), condition) for c in (a, b)]
    return torch.equal(pairs[0].x0, pairs[1].x0)


@pytest.mark.parametrize("path", [DiscreteVP(cosine_betas(20)), DiscreteVP(linear_betas(7)), StraightPath()])
def test_round_trip(tmp_path: Path, path: NoisePath) -> None:
    before = tiny(path)
    save_checkpoint(tmp_path / "m.safetensors", before)
    state = torch.get_rng_state()
    after = load_checkpoint(tmp_path / "m.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    assert type(after.path) is type(path)
    assert after.path.T == path.T
    assert (after.target, after.classes, after.shape) == (V, ("cat", "dog"), (1, 8, 8))
    assert (after.recipe, after.info) == ({"lr": 0.1}, {"steps": 3})
    assert not after.network.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in after.network.parameters())
    assert same_estimates(before, after)
    if isinstance(path, DiscreteVP):
        assert torch.equal(after.path.betas, path.betas)


def test_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, tiny())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path, file: Path) -> None:
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, tiny(), dtype=torch.float16)
    header = 2 * 8192
    assert half.stat().st_size - header < 0.6 * file.stat().st_size
    loaded = load_checkpoint(half)
    for a, b in zip(loaded.network.parameters(), tiny().network.parameters(), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b.to(torch.float16).float())
    assert torch.equal(loaded.path.betas, tiny().path.betas)  # the path keeps its precision


def test_channels_last_weights_are_kept(tmp_path: Path) -> None:
    model = tiny()
    model.network.to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "m", model)
    assert same_estimates(load_checkpoint(tmp_path / "m"), tiny())


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_on_a_device_only_weights_that_have_to_change_are_copied(layout: torch.memory_format) -> None:
    model = tiny()
    model.network.train()
    there = model.on("cpu", layout)
    assert model.network.training  # it stays as it is
    assert not there.network.training
    pairs = list(zip(there.network.parameters(), model.network.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [a.data_ptr() == b.data_ptr() for a, b in pairs] == [
        b.ndim != 4 or layout == torch.contiguous_format for _, b in pairs
    ]
    again = there.on("cpu", layout).network.parameters()
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(again, there.network.parameters(), strict=True))


def test_200_damaged_files_are_each_refused(file: Path, tmp_path: Path) -> None:
    """Cut at any byte, a byte changed anywhere, bytes added, bytes of zeros: one clear error each."""
    good, damaged = file.read_bytes(), tmp_path / "damaged.safetensors"
    draw = random.Random(0)
    header = 8 + int.from_bytes(good[:8], "little")
    cuts = [0, 1, 7, 8, 9, header - 1, header, len(good) - 1, *(draw.randrange(len(good)) for _ in range(77))]
    spots = [
        *range(8),
        *(draw.randrange(header) for _ in range(40)),
        *(draw.randrange(len(good)) for _ in range(42)),
    ]
    cases = [good[:cut] for cut in cuts]
    cases += [good[:i] + bytes([good[i] ^ 1 << draw.randrange(8)]) + good[i + 1 :] for i in spots]
    cases += [good + b"\0" * n for n in (1, 8, 1000, 4096, 10_000)]
    cases += [good[:i] + b"\0" * 64 + good[i + 64 :] for i in (0, 8, header - 64, header, len(good) // 2)]
    cases += [draw.randbytes(n) for n in (1, 8, 100, 10_000, 100_000)]
    cases += [b"PK\x03\x04" + good[4:], json.dumps({"a": 1}).encode(), b"\xff" * 200, b"\0" * 200, good * 2]
    cases += [
        good[:i] + good[i + n :] for i, n in ((header, 4), (header, 400), (100, 1), (len(good) // 2, 8))
    ]
    cases += [good[: header + 4] + good[header:]]
    assert len(cases) == 200
    for number, case in enumerate(cases):
        assert case != good
        damaged.write_bytes(case)
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors") as refused:
            load_checkpoint(damaged)
        assert "\n" not in str(refused.value), number


def test_a_change_in_one_weight_is_noticed(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="do not match its checksum"):
        load_checkpoint(file)


def test_missing_foreign_and_other_kinds_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        load_checkpoint(tmp_path)
    save_file({"w": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="none that diffusion-lessons wrote"):
        load_checkpoint(tmp_path / "foreign.safetensors")
    torch.save({"w": torch.zeros(3)}, tmp_path / "pickle.pt")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load_checkpoint(tmp_path / "pickle.pt")
    write_tensors(tmp_path / "state", {"w": torch.zeros(3)}, {"kind": "training state"})
    with pytest.raises(CheckpointError, match="holds a training state, not a model"):
        load_checkpoint(tmp_path / "state")
    write_tensors(tmp_path / "new", {"w": torch.zeros(3)}, {"kind": "model", "format": 2})
    with pytest.raises(CheckpointError, match="has format 2, this version reads 1"):
        load_checkpoint(tmp_path / "new")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"name": "Nothing", "config": {}}}, "unknown network 'Nothing'"),
        ({"network": {"name": "UNet", "config": {"depth": 3}}}, "not the description of a network"),
        ({"network": {"name": "UNet", "config": {"base_channels": 1 << 40}}}, "does not hold a model"),
        ({"target": "w"}, "'w'"),
        ({"shape": None}, "does not hold a model"),
    ],
)
def test_well_written_files_with_impossible_contents_are_refused(
    file: Path, change: dict[str, object], message: str
) -> None:
    tensors, description = read_tensors(file, "model")
    write_tensors(file, tensors, description | change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(file)


def test_missing_weights_are_refused(file: Path) -> None:
    tensors, description = read_tensors(file, "model")
    del tensors["network.network.stem.weight"]
    write_tensors(file, tensors, description)
    with pytest.raises(CheckpointError, match="does not hold a model this version can build"):
        load_checkpoint(file)


def test_unknown_paths_are_not_written(tmp_path: Path) -> None:
    class Other:
        T = 1.0

    model = tiny()
    with pytest.raises(ValueError, match="got Other"):
        save_checkpoint(tmp_path / "m", Checkpoint(model.network, Other(), FLOW, (), (1, 8, 8)))  # type: ignore[arg-type]


def test_a_checkpoint_is_no_code(file: Path) -> None:
    assert b"pickle" not in file.read_bytes()[:4096]
    assert file.read_bytes()[8:9] == b"{"


# Writing -------------------------------------------------------------------------------------------


def test_full_disk_leaves_the_older_file_and_says_so(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as handle:
            handle.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match=r"cannot write .*model.safetensors: No space left on device"):
        save_checkpoint(file, tiny(StraightPath()))
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_limit_of_the_system_itself_leaves_the_older_file(file: Path) -> None:
    """No imitation: the operating system refuses the write half-way (RLIMIT_FSIZE)."""
    pytest.importorskip("resource")
    before = file.read_bytes()
    script = (
        "import resource, signal, sys, torch\n"
        "from diffusion_lessons.checkpoint import write_tensors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    write_tensors(sys.argv[1], {'w': torch.zeros(100_000)}, {'kind': 'model'})\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True, check=True)
    assert "cannot write" in run.stdout
    assert "File too large" in run.stdout
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write .*file/model\.safetensors"):
        save_checkpoint(tmp_path / "file" / "model.safetensors", tiny())


def test_values_that_json_has_no_word_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_tensors(tmp_path / "m", {"w": torch.zeros(1)}, {"kind": "model", "lr": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_only_registered_networks_are_written(tmp_path: Path) -> None:
    model = Checkpoint(nn.Linear(1, 1), StraightPath(), V, (), (1, 8, 8))
    with pytest.raises(ValueError, match="unknown network"):
        save_checkpoint(tmp_path / "m", model)
