import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from custom_apps.common.case_losses import CaseLosses
from custom_apps.common.masked_autoencoder import MaskedPatchLoss
from custom_apps.common.training_engine import Evaluator
from custom_apps.echo.reconstruction_figures import (
    HIDDEN_RGB,
    ReconstructionFigures,
    SaveReconstructions,
    draw_reconstructions,
    reconstruct,
)
from custom_apps.echo.video_file import read_video
from custom_networks.nets.mamba3d_mae import Mamba3DMAE

MEAN, STD = 0.3, 0.25


@pytest.fixture
def network() -> Mamba3DMAE:
    torch.manual_seed(0)
    return Mamba3DMAE(
        decoder_blocks=1,
        time_mask_chain=2,
        mask_ratio=0.5,
        clip_size=(4, 18, 17),
        patch_size=8,
        embed_dim=8,
        num_macro_blocks=1,
    ).eval()


def clip(seed: int = 0) -> torch.Tensor:
    gray = torch.randint(0, 256, (1, 4, 18, 17), generator=torch.Generator().manual_seed(seed))
    return (gray / 255 - MEAN) / STD


def test_visible_patches_stay_and_hidden_ones_are_predicted(network):
    found = reconstruct(network, clip(), "a", MEAN, STD, seed=3)
    # Pixels behind the last whole patch are not shown.
    assert found.original.shape == (4, 16, 16, 3)
    gray = np.rint(255 * (clip()[0, :, :16, :16].numpy() * STD + MEAN))
    np.testing.assert_array_equal(found.original[..., 0], gray)
    hidden = (found.masked == HIDDEN_RGB).all(-1)
    assert hidden.mean() == found.hidden == 0.5
    np.testing.assert_array_equal(found.reconstructed[~hidden], found.original[~hidden])
    assert (found.reconstructed[hidden] != found.original[hidden]).mean() > 0.9
    # Hidden together: pairs of frames.
    np.testing.assert_array_equal(hidden[0], hidden[1])


def test_the_error_is_that_of_the_hidden_pixels(network):
    found = reconstruct(network, clip(), "a", MEAN, STD, seed=3)
    with torch.no_grad():
        torch.manual_seed(3)
        output = network(clip()[None])
    predicted = network.to_image(output.prediction)[0, 0]
    hidden = torch.from_numpy((found.masked == HIDDEN_RGB).all(-1))
    error = (predicted - clip()[0, :, :16, :16]).square()[hidden].mean()
    assert found.loss == pytest.approx(float(error), rel=1e-5)


def test_the_same_seed_hides_the_same_patches_and_leaves_the_generator_alone(network):
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    one, same, other = (reconstruct(network, clip(), "a", MEAN, STD, seed=seed).masked for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_figure_of_several_clips(network, tmp_path):
    clips = [reconstruct(network, clip(seed), f"video {seed}", MEAN, STD) for seed in range(2)]
    draw_reconstructions(clips, tmp_path / "a.png", frames=3)
    assert (tmp_path / "a.png").stat().st_size > 5000


def items(count: int) -> list[dict]:
    return [{"image": clip(number), "case": f"v{number}", "index": number} for number in range(count)]


def test_in_an_evaluation(network, tmp_path):
    dataset, losses = Dataset(items(5)), CaseLosses(tmp_path, resamples=50)
    figures = ReconstructionFigures(tmp_path / "r.png", network, dataset, MEAN, STD, examples=2, frames=2)
    engine = Evaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1),
        network=network,
        prepare_batch=lambda batch, *_, **__: (batch["image"], batch["image"]),
        loss_function=MaskedPatchLoss(),
        keep_predictions=False,
        seed_key="index",
        key_val_metric={"mse_loss": losses},
        val_handlers=[figures],
    )
    engine.run()
    first = engine.state.metrics["mse_loss"]
    assert first == pytest.approx(np.mean([row["loss"] for row in losses.rows]))
    assert [row["case"] for row in losses.rows] == [f"v{number}" for number in range(5)]
    assert (tmp_path / "r.png").is_file()
    assert len((tmp_path / "losses.csv").read_text().splitlines()) == 6
    engine.run()
    # The masks depend on the case alone.
    assert engine.state.metrics["mse_loss"] == first


def test_losses_need_single_cases(network):
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items(2)), batch_size=2),
        network=torch.nn.Identity(),
        key_val_metric={"loss": CaseLosses()},
    )
    with pytest.raises(ValueError, match="batches of one"):
        engine.run()


def test_files_of_every_video(network, tmp_path):
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items(2)), batch_size=1),
        network=torch.nn.Identity(),
        val_handlers=[SaveReconstructions(tmp_path, network, MEAN, STD, frames=2)],
    )
    engine.run()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"v{n}_reconstruction.{ending}" for n in range(2) for ending in ("avi", "png")]
    assert read_video(tmp_path / "v1_reconstruction.avi").frames.shape == (4, 16, 48, 3)
