"""One step downhill: the gradients of all images of the step, in as few goes as memory allows, on all processes."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, state
from mammoprep_model.caches import Cache
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.log import PeakMemory
from mammoprep_model.optimizer import set_rate
from mammoprep_model.plan import Job
from mammoprep_model.ranks import Ranks
from mammoprep_model.segmenter import Batch, Whole
from mammoprep_model.state import Kept


class Descent:
    """Takes steps. A step is the same, but for the last digits, whatever the number of processes and of goes.

    Each process adds up the gradients of its images, `size` at a time, before any are exchanged: so where memory
    does not suffice in one process, all of them try again with half as many.
    """

    def __init__(
        self,
        kept: Kept,
        *,
        job: Job,
        memory: PeakMemory,
        ranks: Ranks,
        cache: Cache,
        note: Callable[[str], None],
    ) -> None:
        train = job.config.preset.train
        self._memory = memory
        self._module = checkpoint.module_of(kept.network)
        self._trained = [parameter for parameter in self._module.parameters() if parameter.requires_grad]
        self._kept = kept
        self._config = job.config
        self._run = job.run
        self._ranks = ranks
        self._cache = cache
        self._note = note
        images = ranks.share(train.batch_size)
        self.size = min(train.micro_batch or images, images)

    def step(self, batch: Batch, *, number: int) -> Mapping[str, float]:
        """Take a step with this process's images; give the loss terms of all. Raises where they are not finite."""
        said = self._ranks.gather((batch.labels, batch.image_ids))
        whole = Whole(tuple(each for labels, _ in said for each in labels), self._ranks.rank * len(batch.images))
        image_ids = [each for _, ids in said for each in ids]
        terms = self._gradients(batch, whole)
        self._check_finite(terms, step=number, image_ids=image_ids)
        norm = float(nn.utils.clip_grad_norm_(self._trained, self._config.preset.train.clip_norm or math.inf))
        self._check_finite({"gradient": norm}, step=number, image_ids=image_ids)
        set_rate(self._kept.optimizer, self._kept.schedule.rate(number))
        self._kept.optimizer.step()
        if self._kept.average:
            self._kept.average.update()
        return terms

    def _gradients(self, batch: Batch, whole: Whole) -> dict[str, float]:
        """Leave the summed gradients of all processes in the parameters; give the summed loss terms."""
        random = state.random_state(self._config.device)
        while True:
            self._module.zero_grad(set_to_none=True)
            said = self._ranks.gather((self._try(batch, whole, random), self._with_gradient()))
            terms = [each for each, _ in said if each is not None]
            if len(terms) == len(said):
                break
            self._halve()
        for place in sorted(set[int]().union(*(places for _, places in said))):
            if self._trained[place].grad is None:
                self._trained[place].grad = torch.zeros_like(self._trained[place])
        self._ranks.add(parameter.grad for parameter in self._trained if parameter.grad is not None)
        return {name: sum(each[name] for each in terms) for name in terms[0]}

    def _with_gradient(self) -> set[int]:
        """Say which trained parameters have a gradient: a process whose images lack a class may have fewer."""
        return {place for place, parameter in enumerate(self._trained) if parameter.grad is not None}

    def _try(self, batch: Batch, whole: Whole, random: dict[str, torch.Tensor]) -> dict[str, float] | None:
        """Add up the gradients of this process's images; None where memory does not suffice."""
        device = self._config.device
        sums: dict[str, float] = {}
        try:
            for part in batch.parts(self.size, whole=whole):
                state.set_random_state(random, device)
                with autocast(self._config):
                    losses = self._kept.network.loss(self._cache.fill(part.to(device)))
                total = torch.stack([*losses.values()])
                torch.autograd.backward(total.sum())
                for name, value in zip(losses, total.tolist(), strict=True):
                    sums[name] = sums.get(name, 0.0) + value
        except torch.OutOfMemoryError:
            return None
        return sums

    def _halve(self) -> None:
        """Go on with half as many images at a time; raise where it was one."""
        if self.size == 1:
            raise out_of_memory(self._config, self._memory, images=1)
        before, self.size = self.size, (self.size + 1) // 2
        self._note(
            f"Out of memory with {before} images at a time ({self._memory}): going on with {self.size}, which makes"
            f" the same steps more slowly. --set train.micro_batch={self.size} starts so."
        )
        if self._config.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _check_finite(self, values: Mapping[str, float], *, step: int, image_ids: list[int]) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            images = ", ".join(str(number) for number in image_ids)
            kept = (
                "the last checkpoint is kept" if (self._run / "state.pt").is_file() else "there was no checkpoint yet"
            )
            raise MammoprepError(
                f"Step {step} stopped: {', '.join(wrong)} not finite on images {images}; {kept} in {self._run}."
                " Lower train.lr or train.clip_norm with --set."
            )


def autocast(config: RunConfig) -> torch.autocast:
    """Give the precision in which a run computes: bfloat16 on a GPU where it is mixed."""
    mixed = config.preset.train.mixed_precision and config.device != "cpu"
    return torch.autocast("cuda", torch.bfloat16, enabled=mixed)


def out_of_memory(config: RunConfig, memory: PeakMemory, *, images: int) -> MammoprepError:
    """Give the error that says which setting to lower when so many images at a time were too many."""
    preset = config.preset
    more = preset.model.leaner and f", or --set {preset.model.leaner}"
    return MammoprepError(
        f"Out of memory with {images} image{'s' * (images > 1)} at a time: {memory}. Lower train.crop (now"
        f" {preset.train.crop}) or train.size (now {preset.train.size}) with --set{more}."
    )
