"""Training of E-ViM3: losses and scores, schedules and weight average, some steps of a training."""

from itertools import product

import numpy as np
import torch
from ignite.engine import Events
from monai.handlers import LrScheduleHandler
from torch import nn

from custom_apps.common.batches import PrepareBatch
from custom_apps.common.classification_metrics import Counts, auroc, youden_threshold
from custom_apps.common.parameter_groups import parameter_groups
from custom_apps.common.schedules import WARMUPS, WarmupSchedule
from custom_apps.common.training_engine import Trainer, TrainingEvents
from custom_apps.common.weight_average import WeightAverage
from custom_apps.echo import ef_metrics
from custom_apps.echo.losses import REGRESSIONS, EjectionFractionLoss, LesionLoss
from custom_networks.published import load
from custom_networks.published.echo import arguments_from_config, published_names
from tests.published.vector import Vector, adapter, assert_gradient, assert_output

RATE = 1e-6
NO_DECAY = ("A_log*", "D", "dt_bias*")
POSITIVE_MARGIN = 1e-7
"""Published decisions call positive what is above the threshold less this."""


def regression_losses(given, tolerance, beta, prediction):
    target = given["gt_ef"].reshape(-1, 1)
    found = {}
    for kind, band in product(REGRESSIONS, (0.0, tolerance)):
        name = f"{kind}_tol{band:g}"
        found[name] = EjectionFractionLoss(kind, beta, band)(prediction, target)
        found[f"{name}_mse_loss"] = EjectionFractionLoss("mse")(prediction, target).detach()
        found[f"{name}_L1_loss"] = EjectionFractionLoss("l1")(prediction, target).detach()
    return found


def decision_scores(truth, scores):
    threshold = youden_threshold(truth, scores)
    counts = Counts.of(truth, scores > threshold - POSITIVE_MARGIN)
    values = {"F1": counts.f1, "accuracy": counts.accuracy, "precision": counts.precision}
    values |= {"recall": counts.sensitivity, "specificity": counts.specificity}
    return {"cls_auc": auroc(truth, scores), "cls_opt_threshold": threshold} | {
        f"cls_opt_{name}": 100 * np.nan_to_num(value) for name, value in values.items()
    }


@adapter(lambda v: v.config.get("kind") == "criteria" and "E-ViM3" in v.source)
def echo_criteria(vector: Vector) -> None:
    given, expected, config = vector.section("in"), vector.section("out"), vector.config
    prediction = given["pred_ef"].clone().requires_grad_()
    ours = regression_losses(given, config["softloss_tolerance"], config["smooth_l1_beta"], prediction)
    sum(value for name, value in ours.items() if "_loss" not in name).backward()
    reference, predicted = given["gt_ef"].double().numpy(), given["pred_ef"].double().numpy().ravel()
    ours |= {
        "epoch_skl_L1": ef_metrics.mean_absolute_error(reference, predicted),
        "epoch_skl_R2": ef_metrics.coefficient_of_determination(reference, predicted),
        "epoch_skl_corr": ef_metrics.pearson_correlation(reference, predicted),
        "epoch_rmse_suggested": ef_metrics.root_mean_square_error(reference, predicted),
        "cls_bce_weighted": LesionLoss()(given["cls_logit"], given["cls_gt"]),
    }
    ours |= decision_scores(given["cls_gt"].numpy().ravel(), given["cls_logit"].sigmoid().numpy().ravel())
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = 1e-5 * max(1.0, float(value.abs()))
        assert_output(name, torch.as_tensor(ours[name], dtype=torch.float64), value, tolerance)
    assert_gradient("pred_ef", prediction.grad, vector.section("grad/in")["pred_ef"], 1e-5)
    assert set(vector.section("grad/in")) == {"pred_ef"}


def curve(config, count, **options):
    parameter = nn.Parameter(torch.zeros(1))
    schedule = WarmupSchedule(
        torch.optim.SGD([parameter], lr=config["base_lr"]),
        steps=config["T_max"],
        warmup_steps=config["T_warmup"],
        final_ratio=config["lr_min_factor"],
        **options,
    )
    rates = []
    for _ in range(count):
        rates.append(schedule.get_last_lr()[0])
        schedule.step()
    return torch.tensor(rates, dtype=torch.float64)


def average_of(config, online):
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, config.get("start_value", 0.0))
    average = WeightAverage(
        network,
        beta=config["beta"],
        update_after_step=config["update_after_step"],
        update_every=config["update_every"],
        power=config["power"],
        inverse_gamma=config["inv_gamma"],
    )
    values, decays = [], []
    for value in online:
        nn.init.constant_(network.weight, float(value))
        average.update()
        values.append(average.network.weight.item())
        decays.append(average.decay)
    return torch.tensor(values), torch.tensor(decays, dtype=torch.float64)


@adapter(lambda v: v.config.get("kind") == "schedule" and "E-ViM3" in v.source)
def echo_schedules(vector: Vector) -> None:
    config, expected = vector.config, dict(vector.section("out"))
    restart = config["cosine_restart"]
    options = {
        "lr_vanilla": {"shape": "constant"},
        "lr_multistep": {"shape": "multistep"} | config["multistep"],
        "lr_cosine_restart": {
            "shape": "cosine_restart",
            "gamma": restart["gamma"],
            "cycle": (restart["first_cycle_steps"], restart["cycle_mult"]),
        },
    }
    values, decays = average_of(config["ema"], vector.section("in")["ema_online"])
    assert_output("ema_value", values, expected.pop("ema_value"), 1e-6)
    assert_output("ema_decay", decays, expected.pop("ema_decay_after_step"), 1e-6)
    for name, theirs in expected.items():
        if name.startswith("lr_"):
            shape = options.get(name, {"shape": name.removeprefix("lr_")})
            ours = curve(config, len(theirs), warmup="linear", **shape)
            assert_output(name, ours, theirs, RATE * config["base_lr"])
        else:
            warmup = name.removeprefix("warmup_").replace("no_warmup", "none")
            ours = [WARMUPS[warmup](step / config["T_warmup"]) for step in range(len(theirs))]
            assert_output(name, torch.tensor(ours, dtype=torch.float64), theirs, 1e-9)


def training_engine(network, config, given, seen):
    """Our engine with the recipe of the vector; ``seen`` collects losses, gradient norms and rates."""
    options = config["optimizer"]
    groups = parameter_groups(network, options["lr"], options["weight_decay"], NO_DECAY)
    optimizer = torch.optim.AdamW(groups, lr=options["lr"], eps=options["eps"], betas=tuple(options["betas"]))
    schedule = WarmupSchedule(
        optimizer, config["T_max"], warmup_steps=config["T_warmup"], final_ratio=config["lr_min_factor"]
    )
    average = WeightAverage(network, **config["ema"])
    batches = [
        {"image": image, "ef_percent": ef[:, None]} for image, ef in zip(given["x"], given["gt_ef"], strict=True)
    ]
    trainer = Trainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches,
        network=network,
        optimizer=optimizer,
        loss_function=EjectionFractionLoss(),
        prepare_batch=PrepareBatch("ef_percent"),
        accumulation_steps=config["grad_accumulation"],
        clip_norm=config["max_grad_norm"],
        train_handlers=[average],
        decollate=False,
    )
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda _: seen["lrs"].append(schedule.get_last_lr()[0]))
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: seen["losses"].append(float(e.state.output["loss"]))
    )
    trainer.add_event_handler(TrainingEvents.STEP_COMPLETED, lambda e: seen["grad_norms"].append(e.state.gradient_norm))
    LrScheduleHandler(schedule, print_lr=False, epoch_level=False).attach(trainer)
    return trainer, groups, average


@adapter(lambda v: v.config.get("kind") == "train_steps" and "E-ViM3" in v.source)
def echo_train_steps(vector: Vector) -> None:
    config, given, expected = vector.config, vector.section("in"), dict(vector.section("out"))
    choice = {"model_choice": "echo_dynamic_video_mamba_3d"}
    network, _ = load(
        "echo", vector.upstream_state(), **arguments_from_config(config["model"] | choice, config["data"])
    )
    published = {key: names[0] for key, names in published_names(network).items()}
    seen = {"lrs": [], "losses": [], "grad_norms": []}
    trainer, groups, average = training_engine(network, config, given, seen)

    ours = {id(parameter): published[name] for name, parameter in network.named_parameters()}
    grouped = {group["name"].replace("no_decay", "no_wd"): {ours[id(p)] for p in group["params"]} for group in groups}
    assert grouped == {name: set(names) for name, names in config["groups"].items()}

    trainer.run()
    for name in seen:
        theirs = expected.pop(name)
        values = torch.tensor(seen[name], dtype=torch.float64)
        assert values.shape == theirs.shape, name
        torch.testing.assert_close(values, theirs.double(), rtol=1e-9 if name == "lrs" else 1e-3, atol=0)
    network.eval()
    with torch.no_grad():
        predictions = {"pred_after": network(given["x"][0]), "ema_pred_after": average.network(given["x"][0])}
    state = {published[key]: value for key, value in network.state_dict().items()}
    for name, theirs in expected.items():
        values = predictions[name] if name in predictions else state[name.removeprefix("after/")]
        torch.testing.assert_close(values, theirs, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
