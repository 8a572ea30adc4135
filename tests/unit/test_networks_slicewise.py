import pytest
import torch
from torch import nn

from robustbench_med.cases import Case, Cohort, Task
from robustbench_med.components import build
from robustbench_med.errors import InputError, UnknownNameError
from robustbench_med.models import build_network, load_model, save_model
from robustbench_med.networks.slicewise import SliceWise, slicewise
from robustbench_med.networks.unet import unet
from robustbench_med.training.loop import train
from robustbench_med.training.settings import TrainSettings

TASK = Task("segmentation", ("background", "lv", "myo", "rv"))
UNET = {"use": "unet", "preset": "small", "weights": "unet.safetensors"}
PATIENTS = {"use": "slicewise", "network": "unet", "weights": "unet.safetensors"}


def cohort(image_shape, task=TASK):
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(image_shape, generator=draw)
    target = torch.randint(4, image_shape[1:], generator=draw)
    return Cohort("hearts", task, (0, 1), [Case("c0", "p0", image, target)])


@pytest.fixture
def trained(tmp_path):
    """A plan's folder with the weights and the card of a U-Net of single slices in it."""
    slices, settings = cohort((1, 16, 24)), TrainSettings(epochs=1)
    network = build_network(UNET, slices)
    curve = train(network, slices, settings, folder=tmp_path / "checkpoint")
    save_model(tmp_path / "unet.safetensors", UNET, network, slices, settings, curve)
    return tmp_path, network


def test_each_slice_of_each_phase_is_answered_as_if_alone():
    inner = unet(preset="small", in_channels=2, classes=3)
    image = torch.rand(2, 2, 2, 3, 16, 24)
    logits = SliceWise(inner)(image)
    assert logits.shape == (2, 3, 2, 3, 16, 24)
    for case in range(2):
        for phase in range(2):
            for z in range(3):
                alone = inner(image[case : case + 1, :, phase, z])[0]
                torch.testing.assert_close(logits[case, :, phase, z], alone)


def test_its_weights_have_the_inner_networks_names_wherever_it_stands():
    inner, network = unet(preset="small", classes=4), slicewise()
    assert list(network.state_dict()) == list(inner.state_dict())
    network.load_state_dict(inner.state_dict())
    assert all(map(torch.equal, network.parameters(), inner.parameters()))
    outer = nn.Sequential(nn.Identity(), slicewise())
    outer.load_state_dict({f"1.{name}": value for name, value in inner.state_dict().items()})
    assert all(map(torch.equal, outer.parameters(), inner.parameters()))
    assert {name.partition(".")[0] for name in outer.state_dict()} == {"1"}


def test_weights_of_a_network_of_slices_serve_whole_patients(trained):
    folder, inner = trained
    patients = cohort((1, 2, 3, 16, 24))
    model = load_model(PATIENTS, cohort=patients, folder=folder)
    image = patients.cases[0].image
    inner.eval()
    phases = [inner(image[:, phase].movedim(0, 1)).movedim(0, 1) for phase in (0, 1)]
    torch.testing.assert_close(model(image[None])[0], torch.stack(phases, dim=1))


@pytest.mark.parametrize(
    ("change", "told"),
    [({"network": "lenet"}, "card says 'unet', the plan says 'slicewise'"),
     ({"preset": "full"}, "preset is 'full' in the plan, 'small' in the model card"),
     ({"classes": 2}, "classes is 2 in the plan, 4 in the model card")],
)  # fmt: skip
def test_weights_of_another_network_are_still_refused(trained, change, told):
    with pytest.raises(InputError, match=told):
        load_model(PATIENTS | change, cohort=cohort((1, 2, 3, 16, 24)), folder=trained[0])


def test_what_was_trained_on_whole_patients_comes_back(tmp_path):
    patients, settings = cohort((1, 2, 2, 16, 16)), TrainSettings(epochs=1)
    network = build_network(PATIENTS, patients)
    curve = train(network, patients, settings, folder=tmp_path / "checkpoint")
    save_model(tmp_path / "unet.safetensors", PATIENTS, network, patients, settings, curve)
    model = load_model(PATIENTS, cohort=patients, folder=tmp_path)
    image = patients.cases[0].image[None]
    assert torch.equal(model(image), network(image))


def test_wrong_inner_networks_and_images_are_refused():
    with pytest.raises(UnknownNameError, match="no 'unett'; did you mean 'unet'"):
        slicewise(network="unett")
    with pytest.raises(InputError, match="unet has no setting 'size'"):
        slicewise(size=[16, 16])
    with pytest.raises(InputError, match="for single slices use the inner network itself"):
        slicewise()(torch.rand(1, 1, 16, 16))
    with pytest.raises(InputError, match="name one that segments"):
        slicewise(network="lenet")(torch.rand(1, 1, 2, 3, 32, 32))


def test_it_can_be_named_in_a_plan():
    assert isinstance(build("networks", "slicewise", network="unet"), SliceWise)
