import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from custom_apps.common.errors import DataError
from custom_apps.common.sound_batches import leave_out_broken


class Load:
    """Raises for the cases in ``broken``."""

    def __init__(self, broken, error=DataError):
        self.broken, self.error = broken, error

    def __call__(self, item):
        if item["case"] in self.broken:
            raise self.error(item["case"], "is damaged") if self.error is DataError else self.error(item["case"])
        return {**item, "image": torch.ones(1, 4)}


def evaluator(cases, load, workers=0):
    dataset = Dataset([{"case": case} for case in cases], load)
    loader = DataLoader(dataset, batch_size=1, num_workers=workers)
    engine = SupervisedEvaluator("cpu", loader, torch.nn.Linear(4, 1))
    done = []
    engine.add_event_handler("ITERATION_COMPLETED", lambda e: done.extend(item["case"] for item in e.state.batch))
    return engine, leave_out_broken(engine), done


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("broken", ["", "a", "bc", "d", "abcd"])
@pytest.mark.filterwarnings("error:Data iterator can not provide")
def test_the_others_are_predicted_once(broken, workers):
    engine, sound, done = evaluator("abcd", Load(broken), workers)
    engine.run()
    assert done == [case for case in "abcd" if case not in broken]
    assert list(sound.broken) == list(broken)
    assert all(error.problem == "is damaged" for error in sound.broken.values())
    assert engine.state.iteration == len(done)


def test_a_second_run_looks_again():
    load = Load("b")
    engine, sound, done = evaluator("ab", load)
    engine.run()
    load.broken = ""
    engine.run(global_epoch=2)
    assert done == ["a", "a", "b"]
    assert not sound.broken


def test_other_errors_are_not_hidden():
    engine, _, _ = evaluator("ab", Load("b", KeyError))
    with pytest.raises(RuntimeError, match="Load"):
        engine.run()


def test_batches_of_several_items_are_refused():
    engine, _, _ = evaluator("ab", Load(""))
    engine.data_loader = DataLoader(Dataset([{"case": "a"}]), batch_size=2)
    with pytest.raises(ValueError, match="expected one item each"):
        leave_out_broken(engine)
