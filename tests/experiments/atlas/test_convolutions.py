"""Rows of convolutional networks: as the atlas files, plans and runs them, and where their images come from."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from experiments import cost
from experiments.atlas import catalogue, settings, worker
from experiments.atlas import run as atlas
from experiments.atlas.rows.types import Row
from sublim_jax import errors, records
from sublim_jax.data import idx, mnist
from sublim_jax.models import conv, init_sharing, mlp
from tests.experiments.atlas import tiny

ROWS = {row.id: row for row in catalogue.ROWS["all"]}
SMALL = conv.ConvLayers(channels=(2,), kernel_size=3, hidden_sizes=(8,), downsampling="stride")
SPEC = conv.ConvSpec(**{field.name: getattr(SMALL, field.name) for field in dataclasses.fields(SMALL)})
STUDENT = conv.ConvStudent(**{field.name: getattr(SMALL, field.name) for field in dataclasses.fields(SMALL)})


def small(row: Row) -> Row:
    """The row of two members that take a second: one arm, a small network, one step of each phase."""
    base = {name: value for name, value in row.base.items() if not name.startswith(("both", "student.", "teacher"))}
    return dataclasses.replace(row, base={**base, **tiny.TINY, "conditions": ("student_aux",)}, arms=row.arms[:1])


def test_no_row_lacks_a_model():
    """What is left out is left out for want of images."""
    assert {row.id for row in catalogue.ROWS["all"] if row.not_run} == {"cifar-100", "emnist"}
    assert all("not among the datasets" in ROWS[name].not_run for name in ("cifar-100", "emnist"))


def test_networks_name_settings_of_their_own():
    """Also two that have no field in common, and whatever the precision of this machine."""
    changes = (
        {},
        {"model": SPEC},
        {"model": dataclasses.replace(SPEC, downsampling="max_pool")},
        {"model": dataclasses.replace(SPEC, readout="mean_position")},
        {"student_model": conv.ConvStudent()},
        {"student_model": STUDENT},
        {"model": SPEC, "student_model": STUDENT},
    )
    made = [settings.with_changes(settings.BASE, change) for change in changes]
    assert len({settings.fingerprint(setting) for setting in made}) == len(changes)
    assert "student_model.precision" not in settings.diff_from_base(made[5])
    base = settings.BASE.member.model.precision  # pyright: ignore[reportAttributeAccessIssue]
    for row in (
        "convolution",
        "convolution-pooling",
        "convolution-residual",
        "convolution-parts",
        "mlp-to-convolution",
    ):
        for arm in ROWS[row].resolved:
            member = arm.setting.member
            assert {member.model.precision, member.students.precision} == {base}, (row, arm.label)


def test_parts_that_are_shared_are_numbers_of_one_program():
    arms = {arm.label: arm.setting for arm in ROWS["convolution-parts"].resolved}
    assert len({setting.program_key for setting in arms.values()}) == 1
    heads = ROWS["mlp-to-convolution"].resolved[1].setting.member
    assert heads.init_sharing.share == init_sharing.HEADS and isinstance(heads.model, mlp.MLPSpec)
    assert isinstance(heads.students, conv.ConvSpec) and heads.students.hidden_sizes[-1] == heads.model.hidden_sizes[-1]


def test_a_student_of_an_mlp_has_its_logits():
    """Any number of them, also where a setting changes it."""
    for num_aux in (3, 7):
        changes = {"model.num_aux": num_aux, "student_model": STUDENT}
        assert settings.with_changes(settings.BASE, changes).member.students.num_aux == num_aux


def test_the_products_of_a_plan_are_those_of_the_program():
    """Counted in the trace of a forward pass: two operations for each multiplication."""
    for spec in (conv.ConvSpec(), conv.ConvSpec(blocks="residual", kernel_size=3, downsampling="stride"), SPEC):
        params = jax.eval_shape(lambda spec=spec: spec.init(jax.random.key(0)))
        trace = jax.make_jaxpr(spec.apply)(params, jax.ShapeDtypeStruct((1, 784), jnp.float32))
        counted = patched = 0
        for equation in trace.eqns:
            if equation.primitive.name == "dot_general":
                left, right = (variable.aval.shape for variable in equation.invars)
                counted += left[0] * left[1] * right[1]
                patched += right[0] * right[1] if right[1] > 1 else 0
        work = cost.work(spec)
        assert (work.multiplications, work.patch_pixels) == (counted, patched)
        assert work.num_weights == sum(layer.weight.size for layer in params)
        assert work.first == 25 * 576 * 6 if spec == conv.ConvSpec() else work.first > 0


def test_a_plan_counts_what_convolutions_copy(monkeypatch):
    monkeypatch.setattr(cost, "rate", lambda *_: 1e15)  # products take no time
    phase = settings.with_changes(settings.BASE, {"model": conv.ConvSpec(), "student.num_epochs": 3}).member
    copied = (25 * 576 + 150 * 64) * cost.PER_PATCH_PIXEL
    drawn = 60_000 * 4 * 784 * cost.PER_PIXEL["uniform"]
    steps = 59 * 3 * sum(fan_in * fan_out for fan_in, fan_out in conv.ConvSpec().fans) * cost.PER_PARAMETER
    forward = (10_000 + 60_000) / 3 * copied
    assert cost.students_seconds(phase) == pytest.approx(3 * 60_000 * copied + forward + drawn + steps, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"model": SPEC, "init_sharing.share": init_sharing.HEADS}, marks=pytest.mark.slow),
        {"student_model": STUDENT, "init_sharing.share": init_sharing.HEADS},
    ],
    ids=("convolutional", "student of an MLP"),
)
def test_a_worker_runs_convolutional_networks(changes):
    """As many results as tasks, whose teachers are those of their model alone."""
    base = settings.with_changes(settings.BASE, {**tiny.TINY, "conditions": ("cross_model_aux",)})
    setting = settings.with_changes(base, changes)
    chosen = worker.Worker(0, tiny.load)
    tasks = [worker.Task(setting, member, 1 - member) for member in range(min(2, chosen.chunk_size))]
    for task, result in zip(tasks, chosen.run(tasks).results, strict=True):
        assert result["partner"] == task.partner and result["precision"] == "float32" and not result["diverged"]
        assert set(result["accuracy"]) == {"reference", "teacher", "cross_model_aux"}


@pytest.fixture
def fashion_files(tmp_path, monkeypatch):
    """Files of a Fashion-MNIST of 256 and 100 images, in a folder of their own beside those of other datasets."""
    known = dataclasses.replace(mnist.FASHION_MNIST, num_train=256, num_test=100)
    monkeypatch.setitem(mnist.DATASETS, "fashion-mnist", known)
    images = tiny.load("fashion-mnist")
    folder = tmp_path / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    for role, file in known.files.items():
        (folder / file.name).write_bytes(idx.serialize(getattr(images, role)))
    return tmp_path / "data"


@pytest.mark.slow
def test_a_row_of_other_images_runs_where_their_files_are(fashion_files, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "rate", lambda *_: 2e11)
    rows = (small(ROWS["fashion-mnist"]),)
    monkeypatch.setitem(catalogue.ROWS, "all", rows)
    options = atlas.Options(ids=("fashion-mnist",), num_members=2, records=tmp_path / "records", data_dir=fashion_files)
    atlas.run(options)
    record = records.read(tmp_path / "records/fashion-mnist.json")
    assert record.complete and record.data["name"] == "fashion-mnist" and "unverified" in record.data["source"]
    assert list(record.results["arms"]["base"]["members"]) == ["0", "1"]


def test_a_row_whose_images_are_not_there_says_so_or_is_refused_if_it_was_asked_for(fashion_files, tmp_path):
    load = worker.loader(fashion_files)
    rows = [ROWS["kmnist"], ROWS["fashion-mnist"], ROWS["cifar-100"]]
    lines: list[str] = []
    available, data = atlas._with_data(rows, atlas.Options(data_dir=fashion_files), load, lines.append)
    assert [row.id for row in available] == ["fashion-mnist"] == list(data)
    assert lines[0] == "kmnist: not run: kmnist is unavailable here (DataUnavailableError)"
    assert lines[1].startswith("cifar-100: not run: CIFAR-100 is not among the datasets here")
    with pytest.raises(errors.DataError, match="kmnist"):
        atlas._with_data(rows, atlas.Options(ids=("kmnist",), data_dir=fashion_files), load, lines.append)
