"""The U-Net stage by stage: FLOPs and kept numbers by count, seconds by the clock."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from diffusion_lessons.experiments.clock import quartiles
from diffusion_lessons.experiments.ladder.shared import Bench, Row
from diffusion_lessons.networks import Patched, UNet
from diffusion_lessons.networks.counting import stages, storage_of, unet_costs

BATCH, CALLS = 32, 25


def settings(cuda: bool) -> list[Row]:
    return [{"part": "stages", "batch": BATCH}]


def measure(bench: Bench, row: Row) -> Row:
    """Of each stage: parameters, FLOPs and kept bytes of a picture, and its seconds on the way there."""
    model, batch = bench.model, row["batch"]
    patched = model.network.to(bench.device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    assert isinstance(patched, Patched) and isinstance(patched.network, UNet)
    costs = unet_costs(patched.network.config, *(side // patched.patch for side in model.shape[1:]))
    x = torch.randn(batch, *model.shape, generator=torch.Generator().manual_seed(bench.seed)).to(bench.device)
    given = (
        x,
        torch.full((batch,), 500.0, device=bench.device),
        torch.zeros(batch, dtype=torch.int64, device=bench.device),
    )
    with Watch(patched.network, bench) as watch:
        with watch.keeping():
            kept = patched(*given)
        calls = max(1, min(CALLS, 4 * bench.windows))
        with torch.no_grad():
            for _ in range(calls + 1):
                watch.begin()
                patched(*given)
    del kept
    found: Row = {"calls": calls, "stages": {}}
    for name, cost in costs.items():
        seconds = quartiles([taken[name] / batch for taken in watch.calls[1:]])
        one = {"parameters": cost.parameters, "flops": cost.flops, "kept_bytes": watch.kept[name] // batch}
        found["stages"][name] = {**one, "seconds_a_picture": seconds}
    return found


class Watch(ExitStack):
    """Which stage computes: what it keeps for the way back, and how long it takes."""

    def __init__(self, network: UNet, bench: Bench) -> None:
        super().__init__()
        self.clock, self.now, self.begun = bench.clock, "", 0.0
        self.kept: dict[str, int] = {}
        self.calls: list[dict[str, float]] = []
        self.weights = {storage_of(p) for p in network.parameters()}
        self.seen: set[int] = set()
        for stage, name in stages(network):
            self.kept[stage] = 0
            layer = network.get_submodule(name)
            self.callback(layer.register_forward_pre_hook(lambda *_, stage=stage: self._enter(stage)).remove)
            self.callback(layer.register_forward_hook(self._leave).remove)

    def begin(self) -> None:
        """A call begins: it has times of its own."""
        self.calls.append(dict.fromkeys(self.kept, 0.0))

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Count what is kept meanwhile; a tensor that two stages keep counts for the first."""
        self.begin()
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield
        self.calls.clear()

    def _keep(self, tensor: Tensor) -> Tensor:
        place = storage_of(tensor)
        if self.now and place not in self.weights | self.seen:
            self.seen.add(place)
            self.kept[self.now] += tensor.untyped_storage().nbytes()
        return tensor

    def _enter(self, stage: str) -> None:
        self.now, self.begun = stage, self.clock.now()

    def _leave(self, layer: nn.Module, given: object, made: object) -> None:
        self.calls[-1][self.now] += self.clock.now() - self.begun
