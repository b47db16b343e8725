"""What every scheme's run has: augmentation, the epoch that is kept, checkpoints, the files that it leaves."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("sklearn", reason="the extra `train` is not installed")

import torch

from intaglio.network import NetworkError
from intaglio.network.load import load
from intaglio.train import __main__ as command
from intaglio.train import data, floating, loop, schemes
from intaglio.train.data import Augmentation, Part
from tests.train_runs import SHAPE, small_data, torch_as_it_was, trained


def test_shifting_moves_whole_images():
    images = torch.from_numpy(small_data().train.images).float() + 1
    shifted = loop.augmented(images, Augmentation(pixels=1), torch.Generator().manual_seed(0))
    height, width = images.shape[1:3]
    seen = set()
    for image, moved in zip(torch.nn.functional.pad(images, (0, 0, 1, 1, 1, 1)), shifted, strict=True):
        places = [
            (y, x)
            for y in range(3)
            for x in range(3)
            if torch.equal(moved, image[y : y + height, x : x + width])
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 9


def test_turning_and_scaling_leave_whole_pixels_in_place():
    """A dot beside the middle goes where a turn by up to 20 degrees and a scale of 1 +- 0.1 take it."""
    images = torch.zeros(200, 41, 41, 1)
    images[:, 20, 32:35] = 240.0
    turned = loop.augmented(images, Augmentation(0, 20.0, 0.1), torch.Generator().manual_seed(0))
    assert torch.equal(turned, turned.round())
    assert turned.min() >= 0
    assert turned.max() <= 240
    index = torch.arange(41.0) - 20
    mass = turned.sum((1, 2, 3))
    y = (turned.sum((2, 3)) * index).sum(1) / mass
    x = (turned.sum((1, 3)) * index).sum(1) / mass
    radius, angle = torch.hypot(x, y), torch.rad2deg(torch.atan2(y, x))
    assert angle.abs().max() < 20.5
    assert angle.min() < -17
    assert angle.max() > 17
    assert radius.min() > 13 / 1.1 - 0.2
    assert radius.max() < 13 / 0.9 + 0.2
    assert radius.max() - radius.min() > 2


def test_augmentation_follows_from_the_generator():
    images = torch.from_numpy(small_data().train.images).float()
    how = Augmentation(1, 10.0, 0.1)
    first, again, other = (
        loop.augmented(images, how, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class _Scripted(torch.nn.Module):
    """A network whose held-out accuracies are given; its weight counts the epochs."""

    def __init__(self, finals):
        super().__init__()
        self.register_buffer("epoch", torch.zeros(()))
        self.weight = torch.nn.Parameter(torch.zeros(5))
        self.finals, self.final, self.shares = finals, False, []

    def begin_epoch(self, done):
        self.final = self.finals[len(self.shares)]
        self.shares.append(done)
        self.epoch += 1

    def forward(self, images):
        return self.weight.expand(len(images), 5)


@pytest.mark.parametrize(
    ("finals", "accuracies", "kept"),
    [
        ([False, True, True, True], [0.9, 0.5, 0.7, 0.6], 3),
        ([False, False, True, True], [0.9, 0.9, 0.4, 0.4], 4),
        ([False, False, False, False], [0.1, 0.9, 0.4, 0.4], 2),
    ],
)
def test_the_kept_epoch_is_the_best_of_those_that_train_as_they_infer(
    finals, accuracies, kept, tmp_path, monkeypatch
):
    given = iter(accuracies)
    monkeypatch.setattr(loop, "accuracy", lambda *_: next(given))
    model = _Scripted(finals)
    with torch_as_it_was():
        outcome = loop.train(
            SimpleNamespace(LEARNING_RATE=0.1),
            model,
            small_data(),
            loop.Settings("scripted", "small", 4, 4, 1),
            tmp_path,
            False,
        )
    assert (outcome.epoch, outcome.held_out) == (kept, accuracies[kept - 1])
    assert model.epoch == kept
    assert model.shares == [0, 0.25, 0.5, 0.75]
    assert outcome.seconds > 0


def test_each_parameter_group_has_its_own_cosine(tmp_path):
    rates = []

    class Watching(_Scripted):
        def forward(self, images):
            if self.training:
                rates.append(watched())
            return super().forward(images)

    model = Watching([True] * 4)
    model.other = torch.nn.Parameter(torch.zeros(1))
    made = []

    class Adam(torch.optim.Adam):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    def watched():
        return [group["lr"] for group in made[0].param_groups]

    scheme = SimpleNamespace(
        LEARNING_RATE=0.1,
        parameter_groups=lambda model: [{"params": [model.weight]}, {"params": [model.other], "lr": 0.01}],
    )
    with torch_as_it_was(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", Adam)
        loop.train(scheme, model, small_data(), loop.Settings("s", "small", 4, 4, 1), tmp_path, False)
    steps = len(rates)
    assert steps == 8
    for step, (first, second) in enumerate(rates):
        factor = (1 + np.cos(np.pi * step / steps)) / 2
        assert (first, second) == pytest.approx((0.1 * factor, 0.01 * factor))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    with pytest.raises(NetworkError, match="no checkpoint; start without --resume"):
        trained(floating, tmp_path, resume=True)
    trained(floating, tmp_path, epochs=1)
    with pytest.raises(NetworkError, match="a run with another epochs, seed;"):
        trained(floating, tmp_path, epochs=2, seed=9, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"junk")
    with pytest.raises(NetworkError, match="damaged"):
        trained(floating, tmp_path, resume=True)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_float_run_is_the_unbroken_one(stop_after, tmp_path):
    unbroken = trained(floating, tmp_path / "unbroken")
    trained(floating, tmp_path / "resumed", stop_after=stop_after)
    resumed = trained(floating, tmp_path / "resumed", resume=True)
    assert all(
        torch.equal(*pair)
        for pair in zip(unbroken.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_accuracy_takes_the_first_of_equal_maxima():
    class Tied(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([[1.0, 3.0, 3.0]]).expand(len(images), 3)

    part = Part(np.zeros((4, *SHAPE), np.uint8), np.array([1, 1, 2, 0]))
    assert loop.accuracy(Tied(), part) == 0.5


def test_names_have_the_bits_where_there_is_a_choice():
    stems = {name: scheme.file_stem("mnist", name, 4) for name, scheme in schemes.SCHEMES.items()}
    assert stems == {
        "float": "mnist_float",
        "affine": "mnist_affine",
        "sbnq": "mnist_sbnq4",
        "llsq": "mnist_llsq4",
        "ternary": "mnist_ternary",
        "binary": "mnist_binary",
    }


@pytest.mark.parametrize("scheme", ["float", "affine", "sbnq"])
def test_the_command_writes_what_it_measured(scheme, tmp_path, capsys):
    with torch_as_it_was():
        status = command.main(
            ["--scheme", scheme, "--dataset", "digits", "--epochs", "2", "--out", str(tmp_path)]
        )
    assert status == 0
    stem = {"sbnq": "digits_sbnq4"}.get(scheme, f"digits_{scheme}")
    measured = json.loads((tmp_path / f"{stem}.json").read_text())
    assert measured["scheme"] == scheme
    assert measured["epochs"] == 2
    assert 0 < measured["test_accuracy_simulated"] <= 1
    if scheme == "float":
        assert measured["test_accuracy_integers"] is None
    else:
        assert measured["test_accuracy_integers"] == pytest.approx(
            measured["test_accuracy_simulated"], abs=0.011
        )
    left = {path.name for path in tmp_path.iterdir()}
    assert {"checkpoint.pt", "curves.csv", "digits_test.npz", f"{stem}.json"} <= left
    if scheme != "float":
        loaded = load(tmp_path / f"{stem}.npz")
        assert command.integer_accuracy(loaded, data.digits().test) == measured["test_accuracy_integers"]
    assert (f"{stem}.txt" in left) == (scheme == "sbnq")
    assert "test accuracy integers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--scheme", "affine", "--bits", "4"], "--bits of the scheme affine must be 8, not 4"),
        (["--scheme", "llsq", "--bits", "3"], "--bits of the scheme llsq must be 2, 4, 8, not 3"),
        (["--scheme", "sbnq", "--seed", "-1"], "--seed must be 0 or more, not -1"),
    ],
)
def test_options_that_cannot_be_are_refused(words, why, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main([*words, "--dataset", "digits", "--epochs", "2", "--out", str(tmp_path)])
    assert why in capsys.readouterr().err


def test_a_scheme_whose_library_is_absent_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(schemes.SCHEMES, "binary", schemes.Scheme("no_such_module", (1,)))
    monkeypatch.delitem(sys.modules, "intaglio.train.no_such_module", raising=False)
    words = ["--scheme", "binary", "--dataset", "digits", "--epochs", "1", "--out", str(tmp_path)]
    assert command.main(words) == 2
    assert "training needs intaglio.train.no_such_module, which is not installed" in capsys.readouterr().err
