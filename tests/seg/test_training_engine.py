import math

import pytest
import torch
from monai.engines.utils import IterationEvents
from torch import nn

from custom_apps.seg.deep_supervision import DeepSupervisionLoss
from custom_apps.seg.losses import DiceCrossEntropyLoss
from custom_apps.seg.training_engine import (
    NonFiniteLossError,
    SegmentationEvaluator,
    SegmentationTrainer,
    autocast_dtype,
)


class TwoLevels(nn.Module):
    """A convolution that returns two resolutions, the second of which reaches the loss too."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 2, stride=2)
        self.seen = []

    def forward(self, image):
        self.seen.append(image.detach().clone())
        full = self.first(image)
        return [full, self.second(full)]


def data(number, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "image": torch.randn(batch, 1, 6, 8, generator=generator),
            "label": torch.randint(0, 3, (batch, 1, 6, 8), generator=generator),
        }
        for _ in range(number)
    ]


def network():
    torch.manual_seed(1)
    return TwoLevels()


def trainer(net, batches, lr=0.1, **options):
    loss = options.pop("loss_function", DeepSupervisionLoss(DiceCrossEntropyLoss(), [0.6, 0.4]))
    options = {"device": "cpu", "max_epochs": 1, "optimizer": torch.optim.SGD(net.parameters(), lr=lr)} | options
    return SegmentationTrainer(train_data_loader=batches, network=net, loss_function=loss, **options)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_one_step_is_a_clipped_gradient_step():
    net, other = network(), network()
    batch = data(1)
    trainer(net, batch, clip_norm=0.01).run()
    loss = DeepSupervisionLoss(DiceCrossEntropyLoss(), [0.6, 0.4])(other(batch[0]["image"]), batch[0]["label"])
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in other.parameters()])
    assert gradient.norm() > 0.01
    torch.testing.assert_close(weights(net), weights(other) - 0.1 * gradient / gradient.norm() * 0.01)


def test_accumulation_is_one_large_batch():
    # CE and per-sample Dice are means over samples, so two batches of one equal one batch of two.
    batches = data(4)
    net, other = network(), network()
    trainer(net, batches, accumulation_steps=2).run()
    large = [
        {key: torch.cat([first[key], second[key]]) for key in first} for first, second in (batches[:2], batches[2:])
    ]
    trainer(other, large).run()
    torch.testing.assert_close(weights(net), weights(other))
    with pytest.raises(ValueError, match="3 accumulation steps"):
        trainer(net, batches, accumulation_steps=3)


def test_output_after_a_step():
    net = network()
    engine = trainer(net, data(2, batch=2))
    engine.run()
    assert len(engine.state.output) == 2
    assert isinstance(engine.state.output[0]["pred"], list)
    assert not engine.state.output[0]["pred"][0].requires_grad
    assert math.isfinite(engine.state.output[0]["loss"])


class Poison(nn.Module):
    """A loss that is not finite at chosen calls; ``where`` says whether in value or only in gradient."""

    def __init__(self, calls, where="value"):
        super().__init__()
        self.calls, self.where, self.count = set(calls), where, 0

    def forward(self, outputs, target):
        self.count += 1
        loss = outputs[0].square().mean() + outputs[1].mean()
        if self.count not in self.calls:
            return loss
        if self.where == "value":
            return loss * math.nan
        # sqrt has an infinite slope at 0.
        return loss + (outputs[0].sum() * 0).sqrt()


@pytest.mark.parametrize("where", ["value", "gradient"])
def test_non_finite_losses_stop_with_a_message(where):
    net = network()
    before = weights(net)
    batches = [{**batch, "case": [f"patient_{i}"]} for i, batch in enumerate(data(3))]
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, iteration 1 .*patient_0.*learning rate 0.1.*bfloat16"):
        trainer(net, batches, loss_function=Poison({1}, where)).run()
    assert torch.equal(weights(net), before)


@pytest.mark.parametrize("where", ["value", "gradient"])
def test_non_finite_steps_can_be_skipped(where):
    batches = data(3)
    net, other = network(), network()
    engine = trainer(net, batches, loss_function=Poison({2}, where), nonfinite="skip")
    engine.run()
    trainer(other, [batches[0], batches[2]], loss_function=Poison(set())).run()
    torch.testing.assert_close(weights(net), weights(other))
    assert engine.skipped_in_a_row == 0


def test_a_poisoned_batch_spoils_its_group_only():
    batches = data(4)
    net, other = network(), network()
    options = {"nonfinite": "skip", "accumulation_steps": 2}
    trainer(net, batches, loss_function=Poison({1}), **options).run()
    trainer(other, batches[2:], loss_function=Poison(set()), **options).run()
    torch.testing.assert_close(weights(net), weights(other))


def test_endless_skipping_stops():
    engine = trainer(network(), data(9), loss_function=Poison(range(1, 99)), nonfinite="skip", largest_skip=4)
    with pytest.raises(NonFiniteLossError):
        engine.run()
    assert engine.state.iteration == 5


def test_events_fire_once_for_every_iteration():
    engine = trainer(network(), data(4), accumulation_steps=2)
    counts = dict.fromkeys(IterationEvents, 0)

    def count(_, event):
        counts[event] += 1

    for event in counts:
        engine.add_event_handler(event, count, event)
    engine.run()
    fired = {event.name: number for event, number in counts.items() if number}
    assert fired == dict.fromkeys(["FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED", "MODEL_COMPLETED"], 4)


def test_precision():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert autocast_dtype(cpu, False, "bfloat16") is None
    assert autocast_dtype(cpu, True, None) is None
    assert autocast_dtype(cpu, True, "float16") is None
    assert autocast_dtype(cpu, True, "bfloat16") is torch.bfloat16
    assert autocast_dtype(gpu, True, None) is torch.float16
    assert autocast_dtype(gpu, True, "bfloat16") is torch.bfloat16
    with pytest.raises(ValueError, match="amp_dtype"):
        autocast_dtype(cpu, True, "float8")


def test_bfloat16_on_the_cpu_with_a_loss_in_float32():
    seen = []
    loss = DeepSupervisionLoss(DiceCrossEntropyLoss(), [0.6, 0.4])

    def watched(outputs, target):
        seen.extend(output.dtype for output in outputs)
        seen.append(outputs[0].detach())
        return loss(outputs, target)

    net, other = network(), network()
    trainer(net, data(1), loss_function=watched, amp=True, amp_dtype="bfloat16").run()
    assert seen[:2] == [torch.float32, torch.float32]
    assert torch.equal(seen[2], seen[2].bfloat16().float()), "the network ran in bfloat16"
    trainer(other, data(1)).run()
    assert not torch.equal(weights(net), weights(other))
    torch.testing.assert_close(weights(net), weights(other), atol=0.02, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("amp_dtype", ["float16", "bfloat16"])
def test_mixed_precision_on_a_gpu(amp_dtype):
    net, other = network().cuda(), network()
    engine = trainer(net, data(3), device="cuda", amp=True, amp_dtype=amp_dtype)
    engine.run()
    assert (engine.scaler is not None) == (amp_dtype == "float16")
    trainer(other, data(3)).run()
    # The scaler's first scale may be too large for one of the three steps.
    torch.testing.assert_close(weights(net).cpu(), weights(other), atol=0.3, rtol=0)


def test_evaluator_takes_the_first_output_and_a_loss():
    net = network()
    evaluator = SegmentationEvaluator(
        device="cpu",
        val_data_loader=data(1, batch=2),
        network=net,
        loss_function=DeepSupervisionLoss(DiceCrossEntropyLoss(), [0.6, 0.4]),
        amp=True,
        amp_dtype="bfloat16",
    )
    evaluator.run()
    assert evaluator.state.output[0]["pred"].shape == (3, 6, 8)
    assert evaluator.state.output[0]["pred"].dtype == torch.float32
    assert math.isfinite(evaluator.state.output[0]["loss"])
