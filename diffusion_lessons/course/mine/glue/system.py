# mypy: ignore-errors
# ruff: noqa: F821
"""The pieces put together: a network, its training, and how it draws. Their names are those of `USES`."""

import argparse
import copy
import struct
import time
import zlib
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

HERE, T, CLASSES = Path(__file__).resolve().parent, 1000, 10


class Network(nn.Module):
    """A U-Net that sees patches: four neighbouring pixels are four channels, and it costs a quarter."""

    def __init__(self):
        super().__init__()
        shape = dict(channel_mults=(1, 2), attention_levels=(1,), blocks_per_level=1, groups=8, head_dim=32)
        channels = dict(in_channels=4, out_channels=4, base_channels=32, num_classes=CLASSES)
        self.unet = UNet(SimpleNamespace(**shape, **channels))

    def of(self, labels):
        """Itself, as network(x, t) for samples with these labels."""
        self.labels = labels
        return self

    def forward(self, x, t):
        return pixel_shuffle(self.unet(pixel_unshuffle(x, 2), t.float() - 1, self.labels), 2)


def signal_left(device):
    """ᾱ_0 = 1 … ᾱ_T, the share of the picture in what is left of it at each time: (T + 1,)."""
    return torch.cat([torch.ones(1), (1 - cosine_schedule(T)).cumprod(0).float()]).to(device)


def train(network, images, labels, minutes=1.0, steps=None, batch=32, rate=2e-3):
    """The network, trained on pictures (N, 1, H, W) in [−1, 1] with labels (N,); Ctrl-C ends it early."""
    device, average = images.device, copy.deepcopy(network)
    left, optimizer = signal_left(device), torch.optim.Adam(network.parameters())
    start = told = time.monotonic()
    step, done, mean = 0, 0.0, 1.0
    try:
        while done < 1:
            optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 30) * (1 - done)
            rows = torch.randint(len(images), (batch,), device=device)
            given = drop_labels(labels[rows], 0.1, CLASSES, torch.rand(batch, device=device))
            noise, t = torch.randn_like(images[rows]), torch.randint(1, T + 1, (batch,), device=device)
            loss = training_step(network.of(given), optimizer, images[rows], noise, t, left)
            step, now = step + 1, time.monotonic()
            with torch.no_grad():
                for kept, new in zip(average.parameters(), network.parameters(), strict=True):
                    kept.lerp_(new, max(0.01, 10 / (step + 10)))
            mean += (float(loss) - mean) * max(0.02, 1 / step)
            done = min(step / steps if steps else (now - start) / (60 * minutes), 1.0)
            if now > told + 5 or done >= 1:
                seconds = (now - start) * (1 - done) / done
                print(f"step {step}: loss {mean:.3f}, {seconds:.0f} s left", flush=True)
                told = now
    except KeyboardInterrupt:
        print(f"stopped after {step} steps: what is learnt so far is kept", flush=True)
    return average


@torch.no_grad()
def draw(network, labels, steps=25, guidance=2.0, eta=1.0, seed=0):
    """Pictures (N, 1, 16, 16) in [0, 1] of labels (N,): from noise to t = 0, each step guided."""

    def denoiser(x, level, labels):
        eps = network.of(labels)(x, level.t.expand(len(x)))
        x0 = x0_from_eps(x, eps, level.alpha**2).clamp(-1, 1)  # no pixel is whiter than white
        return Estimate(x0, (x - level.alpha * x0) / level.sigma)

    left, no_label = signal_left(labels.device), torch.full_like(labels, CLASSES)
    times = torch.tensor(spaced_times(T, steps, "trailing"), device=labels.device)
    levels = [Level(t, left[t].sqrt(), (1 - left[t]).sqrt()) for t in times]
    shape, generator = (steps + 1, len(labels), 1, 16, 16), torch.Generator().manual_seed(seed)
    start, *noises = torch.randn(shape, generator=generator).to(left)
    x = jump(torch.zeros_like(start), start, torch.full_like(labels, T), left)  # no picture is left there
    for (now, next), noise in zip(pairwise(levels), noises, strict=True):
        pair = guided(denoiser, x, now, labels, no_label, interval_scale(now, guidance, 0.0, 10.0))
        x = ddim_step(x, Estimate(*pair), now, next, noise, eta)
    return to_unit(x).clamp(0, 1)


def write_png(pictures, file, larger=6):
    """Pictures (N, 1, H, W) in [0, 1] side by side in one grey PNG."""
    grey = torch.cat([*pictures[:, 0]], dim=1).repeat_interleave(larger, 0).repeat_interleave(larger, 1)
    lines = b"".join(b"\0" + bytes(row) for row in (grey * 255).round().int().tolist())
    head = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    Path(file).write_bytes(content)


def main():
    """Train on digits.pt where that lies beside this file, then draw the ten digits into ten.png."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--steps", type=int, help="train so many steps instead")
    parser.add_argument("--draw", action="store_true", help="train no more: draw with weights.pt")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    torch.manual_seed(0)
    network, weights = Network().to(given.device), HERE / "weights.pt"
    if (HERE / "digits.pt").exists() and not given.draw:
        digits = torch.load(HERE / "digits.pt", map_location=given.device)
        network = train(network, digits["images"] / 127.5 - 1, digits["labels"], given.minutes, given.steps)
        torch.save(network.state_dict(), weights)
    elif weights.exists():
        network.load_state_dict(torch.load(weights, map_location=given.device))
    else:
        parser.error("beside this file there is neither digits.pt to train on nor weights.pt to draw with")
    write_png(draw(network, torch.arange(10, device=given.device)), HERE / "ten.png")
    print(f"ten digits: {HERE / 'ten.png'}")


if __name__ == "__main__":
    main()
