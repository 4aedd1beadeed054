"""What one of two processes does in the test of distributed scores; imports little, because every process pays it."""

from types import SimpleNamespace

import torch

from custom_apps.seg.protocol import SegmentationProtocol
from custom_apps.seg.segmentation_scores import SegmentationScores

PROTOCOL = SegmentationProtocol({"labels": {"background": 0, "liver": 1, "kidney": 2}})


def run(rank, init_file, shares, output_dir):
    torch.distributed.init_process_group("gloo", init_method=f"file://{init_file}", rank=rank, world_size=2)
    metric = SegmentationScores(PROTOCOL, output_dir=output_dir)
    engine = SimpleNamespace(state=SimpleNamespace(metrics={}), logger=SimpleNamespace(info=lambda *_: None))
    for item in shares[rank]:
        metric.update(item)
    metric.completed(engine, "val_dice")
    value = torch.tensor([engine.state.metrics["val_dice"], len(metric.tables.cases)], dtype=torch.float64)
    values = [torch.zeros_like(value) for _ in range(2)]
    torch.distributed.all_gather(values, value)
    if rank == 0:
        torch.save(values, f"{init_file}.values")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
