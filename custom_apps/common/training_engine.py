"""Training and validation steps: precision, gradient accumulation, clipping, and what happens to non-finite losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from ignite.engine import EventEnum
from monai.engines import SupervisedEvaluator, SupervisedTrainer, Workflow
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from custom_apps.common.distributed import sum_over_ranks, without_ddp, world_size
from custom_apps.common.finite_guard import explain_nonfinite, nonfinite_gradients
from custom_apps.common.nested import map_tensors
from custom_apps.common.seeding import derived_seed, seeded

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient became infinite or undefined."""


class TrainingEvents(EventEnum):
    """Events of :class:`Trainer` besides those of MONAI."""

    STEP_COMPLETED = "step_completed"
    """After every step of the optimizer; steps that were skipped do not count."""


def autocast_dtype(device: torch.device, amp: bool, amp_dtype: str | None) -> torch.dtype | None:
    """Reduced precision to compute in, None for float32.

    Args:
        device: where the network is.
        amp: whether mixed precision is wanted.
        amp_dtype: ``float16``, ``bfloat16`` or None, which is float16 on a GPU and no mixed precision elsewhere,
            as in nnU-Net. A CPU knows bfloat16 only; there float16 is float32.
    """
    if amp_dtype is not None and amp_dtype not in DTYPES:
        raise ValueError(f"amp_dtype must be one of {', '.join(DTYPES)} or None, got {amp_dtype!r}")
    if not amp:
        return None
    if device.type == "cuda":
        return DTYPES[amp_dtype or "float16"]
    return torch.bfloat16 if amp_dtype == "bfloat16" else None


class Trainer(SupervisedTrainer):
    """MONAI's supervised trainer with clipped gradients, mixed precision, accumulation and a check of the loss.

    The loss is computed in float32 whatever the precision of the network. In a distributed run the loss in
    ``engine.state.output`` is the mean over processes; ``engine.state.gradient_norm`` is the norm before clipping of
    the last step. After each step of the optimizer ``TrainingEvents.STEP_COMPLETED`` fires.

    Args:
        args, kwargs: of MONAI's ``SupervisedTrainer``; ``amp`` switches mixed precision on. With
            ``accumulation_steps`` n the gradients of n batches are averaged before each step and only then cleared,
            and processes exchange them once. What is left of an epoch that n does not divide is dropped.
        clip_norm: largest norm of all gradients together, None for no clipping.
        amp_dtype: see :func:`autocast_dtype`. Float16 comes with a gradient scaler.
        nonfinite: what to do when loss or gradient is not finite, besides naming the first layer where it is so:
            ``stop`` raises :class:`NonFiniteLossError`; ``skip`` leaves out the step, in all processes, and goes on,
            but stops after ``largest_skip`` in a row.
        largest_skip: number of consecutive steps that may be skipped.
        keep_predictions: whether ``engine.state.output`` has the predictions; False for networks whose output has no
            batch axis, such as masked autoencoders.

    Raises:
        ValueError: for an unknown ``nonfinite``, or an epoch without a single step.
    """

    def __init__(
        self,
        *args: Any,
        clip_norm: float | None = None,
        amp_dtype: str | None = None,
        nonfinite: str = "stop",
        largest_skip: int = 20,
        keep_predictions: bool = True,
        **kwargs: Any,
    ):
        kwargs["event_names"] = [*(kwargs.get("event_names") or []), TrainingEvents]
        super().__init__(*args, **kwargs)
        if nonfinite not in ("stop", "skip"):
            raise ValueError(f"nonfinite must be 'stop' or 'skip', got {nonfinite!r}")
        length = self.state.epoch_length
        if length is not None and length < self.accumulation_steps:
            raise ValueError(f"{self.accumulation_steps} accumulation steps do not fit into an epoch of {length}")
        self.clip_norm, self.nonfinite, self.largest_skip = clip_norm, nonfinite, largest_skip
        self.keep_predictions = keep_predictions
        self.autocast_dtype = autocast_dtype(self.state.device, self.amp, amp_dtype)
        self.skipped_in_a_row = 0
        self.state.gradient_norm = math.nan
        self._finite = True

    def run(self) -> None:
        """Trains until the last epoch; a gradient scaler exists while the precision is float16."""
        self.new_scaler()
        # MONAI's Trainer.run would make a scaler of the deprecated kind for every precision.
        Workflow.run(self)

    def new_scaler(self) -> None:
        """Forgets the scale of float16 gradients."""
        self.scaler = torch.amp.GradScaler("cuda") if self.autocast_dtype is torch.float16 else None

    def _iteration(self, engine: Trainer, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        inputs, targets, args, kwargs = _prepared(engine, batchdata)
        engine.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        place = engine.state.iteration - 1
        place = (place % engine.state.epoch_length if engine.state.epoch_length else place) % engine.accumulation_steps
        begins, ends = place == 0, place == engine.accumulation_steps - 1
        engine.network.train()
        if begins:
            engine.optimizer.zero_grad(set_to_none=True)
            self._finite = True
        exchanged_later = not ends and isinstance(engine.network, DistributedDataParallel)
        with engine.network.no_sync() if exchanged_later else nullcontext():
            with torch.autocast(engine.state.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
                predictions = engine.inferer(inputs, engine.network, *args, **kwargs)
            predictions = map_tensors(predictions, _in_float32)
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            loss = engine.loss_function(predictions, targets).mean()
            if self.keep_predictions:
                engine.state.output[Keys.PRED] = map_tensors(predictions, torch.Tensor.detach)
            engine.state.output[Keys.LOSS] = sum_over_ranks(loss.detach()) / world_size()
            engine.fire_event(IterationEvents.LOSS_COMPLETED)
            self._judge(engine, "loss", float(engine.state.output[Keys.LOSS]), self._explained)
            if self._finite:
                loss = loss / engine.accumulation_steps
                (loss if engine.scaler is None else engine.scaler.scale(loss)).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if ends:
            self._step(engine)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _step(self, engine: Trainer) -> None:
        """Clips and steps, unless one of the accumulated losses or the gradient is not finite."""
        if self._finite:
            if engine.scaler is not None:
                engine.scaler.unscale_(engine.optimizer)
            parameters = [p for group in engine.optimizer.param_groups for p in group["params"]]
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            engine.state.gradient_norm = float(norm)
            # A scaler meets infinite gradients as a matter of course and deals with them itself.
            if engine.scaler is None:
                self._judge(engine, "gradient norm", engine.state.gradient_norm, nonfinite_gradients)
            # Afterwards, because clipping by a norm that is not finite spoils every gradient.
            if self.clip_norm is not None and self._finite:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        if not self._finite:
            engine.optimizer.zero_grad(set_to_none=True)
            self.skipped_in_a_row += 1
            return
        self.skipped_in_a_row = 0
        if engine.scaler is None:
            engine.optimizer.step()
        else:
            engine.scaler.step(engine.optimizer)
            engine.scaler.update()
        engine.fire_event(TrainingEvents.STEP_COMPLETED)

    def _explained(self, network: nn.Module) -> str:
        """Which layer the first value that is not finite comes from."""
        inputs, _, args, kwargs = _prepared(self, self.state.batch)
        with torch.autocast(self.state.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            return explain_nonfinite(
                network, inputs, lambda: self.inferer(inputs, without_ddp(network), *args, **kwargs)
            )

    def _judge(self, engine: Trainer, what: str, value: float, explain: Callable[[nn.Module], str]) -> None:
        if math.isfinite(value):
            return
        first = self._finite and self.skipped_in_a_row == 0
        self._finite = False
        cases = engine.state.batch.get("case", "unknown") if isinstance(engine.state.batch, dict) else "unknown"
        rate = engine.optimizer.param_groups[0]["lr"]
        message = (
            f"{what} is {value} in epoch {engine.state.epoch}, iteration {engine.state.iteration} "
            f"(cases {cases}, learning rate {rate:.3g})"
        )
        # Looked for once in a row: it costs a forward pass.
        if first:
            message = f"{message}; {explain(engine.network)}"
        if self.nonfinite == "stop" or self.skipped_in_a_row >= self.largest_skip:
            advice = "train in float32 or bfloat16, lower the learning rate, or check the images for extreme values"
            raise NonFiniteLossError(f"{message}; {advice}")
        engine.logger.warning(f"{message}: step skipped")


class Evaluator(SupervisedEvaluator):
    """MONAI's supervised evaluator in the precision of the trainer; of a list of outputs the first is the prediction.

    Args:
        args, kwargs: of MONAI's ``SupervisedEvaluator``; ``amp`` switches mixed precision on.
        amp_dtype: see :func:`autocast_dtype`.
        loss_function: when given, ``engine.state.output`` of batches with targets holds a loss as well.
        further_networks: name to network that sees the same batches, such as the weights whose moving average
            ``network`` is; its results are ``pred_<name>`` and ``loss_<name>``.
        keep_predictions: see :class:`Trainer`.
        seed_key: key of the batch, such as ``index``, whose values seed what networks draw while they run, such as the
            masks of an autoencoder: every network in every epoch then draws the same. None leaves the generators alone.
    """

    def __init__(
        self,
        *args: Any,
        amp_dtype: str | None = None,
        loss_function: Callable[..., torch.Tensor] | None = None,
        further_networks: Mapping[str, nn.Module] | None = None,
        keep_predictions: bool = True,
        seed_key: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.autocast_dtype = autocast_dtype(self.state.device, self.amp, amp_dtype)
        self.loss_function, self.keep_predictions, self.seed_key = loss_function, keep_predictions, seed_key
        self.further_networks = dict(further_networks or {})

    def _iteration(self, engine: Evaluator, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        inputs, targets, args, kwargs = _prepared(engine, batchdata)
        engine.state.output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        for name, network in {"": engine.network, **self.further_networks}.items():
            suffix = f"_{name}" if name else ""
            with (
                engine.mode(network),
                self._seeded(batchdata),
                torch.autocast(engine.state.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None),
            ):
                predictions = engine.inferer(inputs, network, *args, **kwargs)
            predictions = map_tensors(predictions, _in_float32)
            if self.loss_function is not None and targets is not None:
                with torch.no_grad():
                    engine.state.output[Keys.LOSS + suffix] = self.loss_function(predictions, targets).mean()
            if self.keep_predictions:
                first = predictions[0] if isinstance(predictions, list) else predictions
                engine.state.output[Keys.PRED + suffix] = first
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _seeded(self, batchdata: Mapping[str, Any]) -> AbstractContextManager:
        if self.seed_key is None:
            return nullcontext()
        return seeded(derived_seed(*torch.as_tensor(batchdata[self.seed_key]).flatten().tolist()), self.state.device)


def _prepared(engine: Workflow, batchdata: dict[str, torch.Tensor]) -> tuple[Any, Any, tuple, dict]:
    batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    return batch if len(batch) == 4 else (*batch, (), {})


def _in_float32(values: torch.Tensor) -> torch.Tensor:
    return values.float() if values.is_floating_point() else values
