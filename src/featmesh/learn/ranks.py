"""Several processes train as one: each learns from its part of a batch, all keep the same state.

torchrun starts them and says in the environment which one each is, its rank. Every rank passes its
own crops through the network and hands the maps on; each then knows what one process would know,
so that texture, queue and all decisions are the same everywhere. What is handed on goes over gloo
as safetensors and JSON: nothing is unpickled (ours).
"""

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from featmesh.errors import FeatmeshError, InputError

from .config import TrainConfig
from .data import Batch
from .surface_points import SurfacePoints

PATIENCE = timedelta(minutes=10)  # for a step of the others, or a full disk of rank 0
SURFACE = ("face", "bary", "pixels")  # what a crop's surface points are handed on as
PARTS = 2  # of a batch, that a single process learns from in turn
LONG = timedelta(days=1)  # for what rank 0 does alone: the model at the end


@dataclass(frozen=True, eq=False)
class Ranks:
    """The processes of a training, seen from one of them; by default it is the only one.

    Every method is called by all ranks in the same order. Where another one does not answer they
    raise a FeatmeshError with E_RANKS.

    Attributes:
        rank: number of this one; rank 0 alone writes.
        world: how many there are.
        patient: the group in which rank 0 is waited for; None: there is one process.
    """

    rank: int = 0
    world: int = 1
    patient: dist.ProcessGroup | None = None

    def share(self, count: int) -> range:
        """Return which of ``count`` things in a row are this rank's."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def parts(self) -> tuple["Ranks", ...]:
        """Return the ranks whose parts of a batch this process learns from, one after the other.

        One process does what two would do, in the same sums: it ends on the same bits.
        """
        return (self,) if self.world > 1 else tuple(Ranks(k, PARTS) for k in range(PARTS))

    def rows(self, counts: Sequence[int]) -> range:
        """Return the rows of this rank's crops, where the crops of a batch have so many each."""
        own = self.share(len(counts))
        return range(sum(counts[: own.start]), sum(counts[: own.stop]))

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of what all ranks say."""
        if self.world == 1:
            return value
        value = value.clone()
        with self._heard():
            dist.all_reduce(value)
        return value

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Put into each tensor its sum over all ranks."""
        if self.world == 1 or not tensors:
            return
        whole = self.total(torch.cat([t.reshape(-1) for t in tensors]))
        for tensor, part in zip(tensors, whole.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agreed(self, wish: list[int]) -> bool:
        """Return whether any rank is to stop; ``wish`` then holds an exit code on all of them."""
        if self.world == 1:
            return bool(wish)
        code = torch.tensor(wish[0] if wish else 0)
        with self._heard():
            dist.all_reduce(code, dist.ReduceOp.MAX)
        if int(code) and not wish:
            wish.append(int(code))
        return bool(int(code))

    def gathered(self, own: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return what every rank hands on, in their order."""
        data = _tensor_of(safetensors.torch.save(_plain(own)))
        sizes = [torch.zeros((), dtype=torch.int64) for _ in range(self.world)]
        with self._heard():
            dist.all_gather(sizes, torch.tensor(len(data)))
            most = max(int(size) for size in sizes)
            found = [torch.zeros(most, dtype=torch.uint8) for _ in sizes]
            dist.all_gather(found, torch.cat([data, data.new_zeros(most - len(data))]))
        return [
            safetensors.torch.load(_bytes_of(f[: int(n)]))
            for f, n in zip(found, sizes, strict=True)
        ]

    def of_first(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what rank 0 hands on."""
        if self.world == 1:
            return own
        return safetensors.torch.load(self._from_first(safetensors.torch.save(_plain(own))))

    def first(self, task: Callable[[], Any]) -> None:
        """Let rank 0 do something while the others wait; its FeatmeshError is raised by all."""
        if self.world == 1:
            task()
            return
        failure = None
        if self.rank == 0:
            try:
                task()
            except FeatmeshError as error:
                failure = error
        told = {"code": failure.code, "text": failure.args[0]} if failure else {}
        told = json.loads(self._from_first(json.dumps(told).encode()))
        if told:
            raise failure or FeatmeshError(told["code"], told["text"])

    @contextmanager
    def first_within(self, inner: AbstractContextManager[Any]) -> Iterator[None]:
        """Let rank 0 stay within a context; where it may not enter, no rank does."""
        with ExitStack() as stack:
            self.first(lambda: stack.enter_context(inner))
            yield

    def _from_first(self, own: bytes) -> bytes:
        size = torch.tensor(len(own))
        with self._heard():
            dist.broadcast(size, 0, group=self.patient)
            data = _tensor_of(own) if self.rank == 0 else torch.zeros(int(size), dtype=torch.uint8)
            dist.broadcast(data, 0, group=self.patient)
        return _bytes_of(data)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo's, for a closed connection and for silence
            got = re.sub(r"\[/\S+\] ", "", str(error)).partition("\n")[0].partition(". ")[0]
            raise FeatmeshError(
                "E_RANKS",
                f"train: expected an answer of all {self.world} processes, got {got!r} on rank "
                f"{self.rank}; try: see what the others told, and torchrun --max-restarts 3",
            ) from error


ALONE = Ranks()


def launched() -> tuple[int, int]:
    """Return rank and number of the processes that torchrun has started; (0, 1) without it."""
    if "RANK" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def together() -> Iterator[Ranks]:
    """Join the processes that torchrun has started; only rank 0 shows progress.

    Raises:
        FeatmeshError: E_RANKS where not all of them come.
    """
    rank, world = launched()
    if world == 1:
        yield ALONE
        return
    with ExitStack() as stack:
        with Ranks(rank, world)._heard():
            store, _, _ = next(rendezvous("env://", rank, world, timeout=PATIENCE))
            own = dist.PrefixStore(_attempt(store, rank, world), store)
            dist.init_process_group(
                "gloo", store=own, rank=rank, world_size=world, timeout=PATIENCE
            )
            stack.callback(dist.destroy_process_group)
            patient = dist.new_group(timeout=LONG)
        if rank:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stderr(nowhere))
        yield Ranks(rank, world, patient)


def _attempt(store: dist.Store, rank: int, world: int) -> str:
    """Return a word that the ranks of this attempt share, and no earlier one has used.

    torchrun's store outlives the processes it begins again: where a dead rank had listened would be
    taken for where the living one does. So each rank draws a word; rank 0 tells which ones it has
    read until every rank has found its own among them.
    """
    mine, limit = secrets.token_hex(8), time.monotonic() + PATIENCE.total_seconds()
    store.set(f"featmesh/{rank}", mine)
    while time.monotonic() < limit:
        if rank == 0:
            words = [mine, *(store.get(f"featmesh/{k}").decode() for k in range(1, world))]
            store.set("featmesh/all", " ".join(words))
            if store.check([f"featmesh/{mine}/{k}" for k in range(1, world)]):
                return mine
        else:
            words = store.get("featmesh/all").decode().split()
            if words[rank : rank + 1] == [mine]:
                store.set(f"featmesh/{words[0]}/{rank}", "here")
                return words[0]
        time.sleep(0.05)
    raise RuntimeError(f"not all ranks came within {PATIENCE}")


def expect_one(what: str) -> None:
    """Raise E_CONFIG where torchrun has started several processes for what one has to do."""
    world = launched()[1]
    if world > 1:
        raise InputError(
            "E_CONFIG", f"train: expected one process with {what}, got {world}; try: no torchrun"
        )


def expect_shareable(ranks: Ranks, config: TrainConfig, network: nn.Module) -> None:
    """Raise E_CONFIG where several processes would learn something else than one."""
    if ranks.world == 1:
        return
    if config.crops:
        expect_one("--crops")
    if config.batch < ranks.world:
        raise InputError(
            "E_CONFIG",
            f"train: expected a crop or more for each of {ranks.world} processes, got --batch "
            f"{config.batch}; try: fewer processes",
        )
    network.train()
    if sees_whole_batches(network):
        raise InputError(
            "E_CONFIG",
            f"train: expected a network without statistics of the whole batch, got the batch "
            f"norms of {config.model.backbone} for {ranks.world} processes; try: no torchrun",
        )


def sees_whole_batches(network: nn.Module) -> bool:
    """Return whether what a network says of a crop hangs on the others: norms that are learning."""
    norms = (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return any(m.training for m in norms)


def joined(
    ranks: Ranks, features: Float[Tensor, "_ c p q"], batch: Batch
) -> tuple[Float[Tensor, "b c p q"], Batch]:
    """Return maps and batch of all ranks, in one process' order, without pixels.

    Gradients flow into the rank's own maps alone: over all ranks they add up to one process'.
    """
    if ranks.world == 1:
        return features, batch
    told = ranks.gathered({"maps": features.detach(), **_packed(batch)})
    maps = [one["maps"] for one in told]
    maps[ranks.rank] = features.contiguous()  # as all are: the same kernels read them
    background = torch.cat([one["background"] for one in told])
    return torch.cat(maps), Batch(
        batch.pixels.new_zeros((len(background), 3, 0, 0)),
        _unpacked(told, "points"),
        _unpacked(told, "anchor"),
        background,
        None if batch.surface is None else _surfaces(told),
    )


def _packed(batch: Batch) -> dict[str, Tensor]:
    found = {"background": batch.background, "count": torch.tensor([len(p) for p in batch.points])}
    found |= {"points": torch.cat(list(batch.points)), "anchor": torch.cat(list(batch.anchor))}
    for name in SURFACE if batch.surface is not None else ():
        found[name] = torch.cat([getattr(s, name) for s in batch.surface or ()])
    return found


def _unpacked(told: Sequence[dict[str, Tensor]], name: str) -> tuple[Tensor, ...]:
    return tuple(part for one in told for part in one[name].split(one["count"].tolist()))


def _surfaces(told: Sequence[dict[str, Tensor]]) -> tuple[SurfacePoints, ...]:
    parts = (_unpacked(told, name) for name in SURFACE)
    return tuple(SurfacePoints(*each) for each in zip(*parts, strict=True))


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().contiguous().clone() for name, t in tensors.items()}


def _tensor_of(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _bytes_of(data: Tensor) -> bytes:
    return data.numpy().tobytes()
