import numpy as np
import pytest
import torch
from torch import nn

from custom_apps.seg.augmentation_strong import UnlabeledTransforms
from custom_apps.seg.deep_supervision import DeepSupervisionLoss
from custom_apps.seg.feature_perturbation import FeaturePerturbation
from custom_apps.seg.losses import DiceCrossEntropyLoss
from custom_apps.seg.losses_semisupervised import ConsistencyLoss, consistency_weight
from custom_apps.seg.patch_loader import PatchLoader
from custom_apps.seg.patch_sampling import PatchDataset
from custom_apps.seg.semi_supervised import (
    SemiSupervisedLoss,
    SemiSupervisedTrainer,
    Teaching,
    perturbed,
    semi_supervised_loss,
)
from custom_apps.seg.semi_supervised_sampling import SemiSupervisedPatches
from tests.seg.training_phantom import MemoryPrepared


class TwoStages(nn.Module):
    """Skips of two resolutions, and logits of each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Encoder()
        self.first, self.second = nn.Conv3d(4, 3, 1), nn.Conv3d(4, 3, 1)

    def forward(self, image):
        skips = self.encoder(image)
        return [self.first(skips[0]), self.second(skips[1])]


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 2, stride=2)])
        self.seen = []

    def forward(self, image):
        self.seen.append(image.detach().clone())
        first = self.convs[0](image)
        return [first, self.convs[1](first)]


def mixed(prepared, iterations=20, **options):
    labeled = PatchDataset(prepared, prepared.cases, iterations, seed=1)
    views = UnlabeledTransforms(prepared.patch_size, median_edge=(2, 3))
    unlabeled = PatchDataset(prepared, prepared.cases, iterations, seed=2, augmentation=views)
    return SemiSupervisedPatches(labeled, unlabeled, **{"epochs": 10, "seed": 3} | options)


def trainer(network, dataset, epochs=1, **options):
    return SemiSupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=PatchLoader(dataset),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.01),
        loss_function=SemiSupervisedLoss(DeepSupervisionLoss(DiceCrossEntropyLoss(smooth=0.0))),
        **options,
    )


def test_share_of_batches_without_labels_grows_to_its_limit():
    dataset = mixed(MemoryPrepared(), first=0.1, pseudo_label_share=0.25)
    assert [round(dataset.probability(epoch), 3) for epoch in (1, 2, 5, 6)] == [0.1, 0.2, 0.5, 0.5]
    for epoch, share in ((1, 0.1), (9, 0.5)):
        methods = [dataset.method(epoch, batch) for batch in range(1000)]
        without = [method for method in methods if method != "labeled"]
        assert len(without) / 1000 == pytest.approx(share, abs=0.05)
        assert without.count("pseudo_labels") / len(without) == pytest.approx(0.25, abs=0.12)


def test_batches_are_of_one_kind_and_the_same_on_every_process():
    dataset = mixed(MemoryPrepared(batch_size=2), iterations=6, first=0.5)
    loaders = [PatchLoader(dataset, rank=rank, world_size=2) for rank in range(2)]
    whole = list(PatchLoader(dataset))
    methods = [batch["method"] for batch in whole]
    assert all(len(set(method)) == 1 for method in methods)
    assert {method[0] for method in methods} == {"labeled", "consistency"}
    for rank, loader in enumerate(loaders):
        for batch, expected in zip(loader, whole, strict=True):
            assert batch["method"][0] == expected["method"][0]
            assert torch.equal(batch["image"][0], expected["image"][rank])
            assert ("weak" in batch) == (batch["method"][0] == "consistency")


def test_unfit_parts_are_refused():
    prepared = MemoryPrepared()
    labeled = PatchDataset(prepared, prepared.cases, 3)
    with pytest.raises(ValueError, match="differ in number and size"):
        SemiSupervisedPatches(labeled, PatchDataset(prepared, prepared.cases, 4), epochs=1)
    with pytest.raises(ValueError, match="are shares"):
        SemiSupervisedPatches(labeled, labeled, epochs=1, first=2.0)
    regions = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    with pytest.raises(ValueError, match="not regions"):
        semi_supervised_loss(MemoryPrepared(labels_json=regions))


def consistency_batch():
    generator = torch.Generator().manual_seed(4)
    views = {key: torch.randn(2, 1, 8, 8, 8, generator=generator) for key in ("image", "weak")}
    return {**views, "method": ["consistency"] * 2, "case": ["a", "b"]}


def test_only_the_student_is_taught_and_only_its_skips_are_perturbed():
    network, batch = TwoStages(), consistency_batch()
    teacher_logits = [logits.detach() for logits in network(batch["weak"])]
    perturbation = FeaturePerturbation(seed=5)
    with perturbed(network, FeaturePerturbation(seed=5)):
        student = network(batch["image"])
    loss = 50 * ConsistencyLoss()(student[0], teacher_logits[0])
    loss.backward()
    expected = [p.grad.clone() if p.grad is not None else None for p in network.parameters()]
    network.zero_grad()
    network.encoder.seen.clear()
    engine = trainer(network, mixed(MemoryPrepared()), perturbation=perturbation, rampup_share=0.0, clip_norm=None)
    engine.optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    engine.state.iteration, engine.state.batch = 1, batch
    engine.new_scaler()
    output = engine._iteration(engine, batch)[0]
    # Two outputs: the coarser has weight 0.
    assert float(output["loss"]) == pytest.approx(float(loss.detach()), rel=1e-5)
    for parameter, wanted in zip(network.parameters(), expected, strict=True):
        if wanted is not None:
            torch.testing.assert_close(parameter.grad, wanted)
    weak, strong = network.encoder.seen
    assert torch.equal(weak, batch["weak"])
    assert torch.equal(strong, batch["image"])
    assert not network.encoder._forward_hooks, "the perturbation is gone after the step"
    assert output["consistency_loss"] == output["loss"]
    assert "labeled_loss" not in output


def test_weight_grows_over_the_share_of_the_iterations():
    engine = trainer(TwoStages(), mixed(MemoryPrepared(), iterations=20), epochs=5, rampup_share=0.2)
    weights = []
    for iteration in (1, 11, 21, 100):
        engine.state.iteration = iteration
        weights.append(engine.weight("consistency"))
    assert weights == pytest.approx([consistency_weight(i, 20) for i in (0, 10, 20, 99)])
    assert weights[0] == pytest.approx(50 * np.exp(-5))
    assert weights[2] == weights[3] == 50
    assert engine.weight("pseudo_labels") == 0.1
    assert engine.weight("labeled") == 1


def test_pseudo_labels_teach_where_the_teacher_is_sure_and_never_background():
    loss = SemiSupervisedLoss(DiceCrossEntropyLoss(), threshold=0.75)
    logits = torch.zeros(1, 3, 2, 2, 2, requires_grad=True)
    teacher = torch.zeros(1, 3, 2, 2, 2)
    teacher[:, 0, 0] = 9.0
    teacher[:, 2, 1, 0] = 9.0
    loss([logits], Teaching("pseudo_labels", [teacher], 0.1)).backward()
    taught = logits.grad.abs().sum(1)[0] > 0
    assert taught[1, 0].all()
    assert not taught[0].any()
    assert not taught[1, 1].any()
    nobody = loss([logits], Teaching("pseudo_labels", [torch.zeros_like(teacher)], 0.1))
    assert torch.isfinite(nobody)


def test_training_learns_logs_both_losses_and_another_teacher_is_asked():
    torch.manual_seed(1)
    network, teacher = TwoStages(), TwoStages()
    dataset = mixed(MemoryPrepared(patch_size=(8, 8, 8)), iterations=12, first=0.5, pseudo_label_share=0.5)
    engine = trainer(network, dataset, epochs=2, teacher=teacher)
    seen = []
    engine.add_event_handler("ITERATION_COMPLETED", lambda e: seen.append(set(e.state.output[0])))
    engine.run()
    kinds = set().union(*seen)
    assert {"labeled_loss", "consistency_loss", "pseudo_label_loss"} <= kinds
    without_labels = sum("labeled_loss" not in keys for keys in seen)
    assert len(teacher.encoder.seen) == without_labels
    assert all(parameter.grad is None for parameter in teacher.parameters())
