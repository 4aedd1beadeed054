"""Two processes with half a batch each must equal one process with the whole batch."""

import socket

import pytest
import torch
from ignite.engine import Engine, Events

from custom_apps.common import distributed
from custom_apps.common.checkpoints import TrainingState
from custom_apps.common.errors import DataError
from custom_apps.seg.deep_supervision import DeepSupervisionLoss
from custom_apps.seg.feature_perturbation import FeaturePerturbation
from custom_apps.seg.losses import DiceCrossEntropyLoss
from custom_apps.seg.patch_loader import PatchLoader
from custom_apps.seg.patch_sampling import PatchDataset
from custom_apps.seg.pseudo_dice import PseudoDice
from custom_apps.seg.semi_supervised import SemiSupervisedLoss, SemiSupervisedTrainer
from custom_apps.seg.training_engine import SegmentationEvaluator, SegmentationTrainer
from tests.seg.test_semi_supervised import TwoStages, mixed
from tests.seg.training_phantom import MemoryPrepared

ITERATIONS = 4

# Two fresh interpreters import PyTorch and MONAI.
pytestmark = pytest.mark.slow


class TwoLevels(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second = torch.nn.Conv3d(1, 3, 3, padding=1), torch.nn.Conv3d(3, 3, 2, stride=2)

    def forward(self, image):
        full = self.first(image)
        return [full, self.second(full)] if self.training else full


class PoisonOnce(torch.nn.Module):
    """The loss of the third iteration is not a number, in the last process only."""

    def __init__(self, loss):
        super().__init__()
        self.loss, self.calls = loss, 0

    def forward(self, outputs, target):
        self.calls += 1
        value = self.loss(outputs, target)
        poisoned = self.calls == 3 and distributed.rank() == distributed.world_size() - 1
        return value * float("nan") if poisoned else value


def train(poison=False, accumulation_steps=1, semi_supervised=False):
    """Trains and validates on the phantom; returns plain results."""
    prepared = MemoryPrepared(batch_size=4)

    def loader(training, seed):
        if training and semi_supervised:
            return PatchLoader(mixed(prepared, ITERATIONS, first=0.5))
        return PatchLoader(PatchDataset(prepared, prepared.cases, ITERATIONS, seed=seed, training=training))

    network = bare = TwoStages() if semi_supervised else TwoLevels()
    if distributed.is_distributed():
        network = torch.nn.parallel.DistributedDataParallel(network)
    loss = DeepSupervisionLoss(DiceCrossEntropyLoss(batch_dice=True))
    engine, options = SegmentationTrainer, {}
    if semi_supervised:
        # Processes perturb differently, which one process with the whole batch cannot.
        loss, engine = SemiSupervisedLoss(loss), SemiSupervisedTrainer
        options = {"perturbation": FeaturePerturbation(layers=0), "rampup_share": 0.0}
    metric = PseudoDice(["ball", "cube"])
    evaluator = SegmentationEvaluator(
        device="cpu", val_data_loader=loader(False, 9), network=network, key_val_metric={"ema": metric}
    )
    trainer = engine(
        device="cpu",
        max_epochs=2,
        train_data_loader=loader(True, 1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9),
        loss_function=PoisonOnce(loss) if poison else loss,
        accumulation_steps=accumulation_steps,
        nonfinite="skip",
        **options,
    )
    losses = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: evaluator.run(e.state.epoch))
    trainer.run()
    return {
        "weights": torch.cat([p.detach().flatten() for p in bare.parameters()]),
        "losses": torch.tensor(losses),
        "metrics": dict(evaluator.state.metrics),
    }


SETTINGS = {
    "plain": {},
    "poisoned": {"poison": True},
    "accumulated": {"accumulation_steps": 2},
    "semi-supervised": {"semi_supervised": True},
}


def processes_disagree(folder):
    """A checkpoint that only one process sees must stop both."""
    path = folder / f"of_rank_{distributed.rank()}.pt"
    if distributed.is_main_process():
        path.write_bytes(b"")
    try:
        TrainingState(path, {}).load(Engine(lambda *_: None))
    except DataError as error:
        return str(error)
    return "no error"


def work(rank, folder, port):
    torch.set_num_threads(1)
    import os

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.start("gloo", timeout_minutes=1)
    values = torch.tensor([1.0 + rank], requires_grad=True)
    (distributed.sum_with_gradient(values) * (rank + 1)).backward()
    results = {name: train(**options) for name, options in SETTINGS.items()}
    results["sum"] = distributed.sum_over_ranks(torch.tensor([rank + 1.0]))
    results["gradient"] = values.grad
    results["agree"] = [distributed.all_agree(True), distributed.all_agree(rank == 0)]
    results["disagree"] = processes_disagree(folder)
    torch.save(results, folder / f"rank_{rank}.pt")
    distributed.stop()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (folder, port), nprocs=2)
    ranks = [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in range(2)]
    torch.manual_seed(0)
    return ranks, {name: train(**options) for name, options in SETTINGS.items()}


@pytest.mark.parametrize("setting", list(SETTINGS))
def test_weights_and_losses_equal_those_of_one_process(results, setting):
    ranks, alone = results
    assert alone[setting]["weights"].isfinite().all()
    for rank in ranks:
        torch.testing.assert_close(rank[setting]["weights"], alone[setting]["weights"], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(
            rank[setting]["losses"], alone[setting]["losses"], atol=1e-6, rtol=1e-5, equal_nan=True
        )
    assert alone[setting]["losses"].isnan().sum() == (setting == "poisoned")


def test_pseudo_dice_equals_that_of_one_process(results):
    ranks, alone = results
    for rank in ranks:
        assert rank["plain"]["metrics"] == pytest.approx(alone["plain"]["metrics"], abs=1e-12)
    assert 0 < alone["plain"]["metrics"]["ema"] < 1


def test_sums_and_votes(results):
    ranks, _ = results
    assert [float(rank["sum"]) for rank in ranks] == [3, 3]
    assert [float(rank["gradient"]) for rank in ranks] == [3, 3]
    assert [rank["agree"] for rank in ranks] == [[True, False]] * 2


def test_a_checkpoint_seen_by_one_process_stops_all(results):
    ranks, _ = results
    assert all("seen by some processes only" in rank["disagree"] for rank in ranks)
