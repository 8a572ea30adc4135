"""A certificate of an image's error holds as it was made, and no part of it can be altered."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_med.cases import Batch, Task
from robustbench_med.certify.image_error import ImageError
from robustbench_med.errors import IntegrityError
from robustbench_med.model import TorchModel
from robustbench_med.networks.deep_cascade import DeepCascade, Size
from robustbench_med.networks.subpixel import espcn
from robustbench_med.proofs.certificate_files import load_certificate, save_certificate
from robustbench_med.proofs.evaluation import values_of_cases
from robustbench_med.proofs.image_certificate import derived
from robustbench_med.proofs.network import Network, Node
from robustbench_med.proofs.statement import proved
from robustbench_med.streams import CaseRng
from robustbench_med.threat import Ball

SIDE = 4
BALLS = {
    "linf": Ball("linf", 0.01, support="mask"),
    "l2": Ball("l2", 0.05, support="mask"),
}


def asked(network, batch, ball, **settings):
    model = TorchModel(network, Task("reconstruction"), (-9e9, 9e9))
    return ImageError(**settings)(model, batch, ball, CaseRng(0, "image", batch.case_ids))


def cascade(ball):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = DeepCascade(Size(2, 2, 2), None)
        mask = torch.zeros(1, 1, SIDE, SIDE)
        mask[:, :, ::2] = 1
        image = torch.randn(1, 2, SIDE, SIDE) * mask
        with torch.no_grad():
            target = network(image, {"mask": mask}) + 0.05 * torch.randn(1, 2, SIDE, SIDE)
    found = asked(network, Batch(("a",), image, target, {"mask": mask}), ball, limit=0.5)
    return found, found.certificates[0][1]


@pytest.fixture(scope="module", params=BALLS)
def made(request):
    return cascade(BALLS[request.param])


@pytest.fixture(scope="module")
def honest(made):
    return made[1]


@pytest.fixture(scope="module")
def boxed():
    return cascade(BALLS["linf"])[1]


@pytest.fixture(scope="module")
def shifted():
    """The network that gives the image itself; a truth 0.1 above it, and a ball of 0.01."""

    def at(limit):
        image = torch.rand((1, 2, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
        batch = Batch(("a",), image, image + 0.1, {})
        return asked(nn.Identity(), batch, Ball("linf", 0.01), limit=limit), batch

    return at


def nmse_of(certificate, images):
    error = values_of_cases(certificate.network, images)[-1] - certificate.target
    flat = np.square(error).reshape(len(images), -1).sum(axis=1)
    return flat / np.square(certificate.target).sum(), np.hypot(error[:, 0], error[:, 1]).max()


def points(certificate, count=400):
    """Corners and points of the set; of a ball, of its border."""
    inputs, stream = certificate.proof.inputs, np.random.default_rng(3)
    drawn = stream.uniform(-1, 1, (count, *inputs.low.shape)) * (inputs.high > inputs.low)
    if inputs.centre is not None:
        lengths = np.sqrt(np.square(drawn).sum(axis=(1, 2, 3), keepdims=True))
        return np.clip(inputs.centre + drawn / lengths * inputs.radius, inputs.low, inputs.high)
    drawn[::2] = np.sign(drawn[::2])
    return inputs.low / 2 + inputs.high / 2 + drawn * (inputs.high - inputs.low) / 2


def test_what_was_made_is_derived_again_and_no_point_of_the_set_passes_it(made):
    found, certificate = made
    statement = proved(certificate)
    assert (statement.share, float(found["checked"]), float(found["certified"])) == (1, 1, 1)
    assert certificate.linear is not None
    for name, limit in statement.limits.items():
        assert float(found[name]) == limit == certificate.about[name]
    again = derived(certificate)
    nmse, worst = nmse_of(certificate, points(certificate))
    assert nmse.max() <= again.nmse[1] <= statement.limits["nmse_limit"]
    assert again.nmse[1] <= 1.3 * nmse.max()  # and says something
    assert worst <= again.worst_pixel <= statement.limits["worst_pixel_limit"]
    assert again.nmse[0] <= nmse.min()


def test_the_limits_of_a_shift_are_its_own(shifted):
    found, batch = shifted(1.0)
    _, certificate = found.certificates[0]
    power = float(batch.target.double().square().sum())
    assert derived(certificate).nmse[1] == pytest.approx(32 * 0.11**2 / power, rel=1e-5)
    assert derived(certificate).worst_pixel == pytest.approx(0.11 * 2**0.5, rel=1e-5)
    # Without its linear part the claims are about another network.
    with pytest.raises(IntegrityError):
        proved(replace(certificate, linear=None))


def test_a_limit_that_a_corner_breaks_is_falsified_by_that_image(shifted):
    power = float(shifted(1.0)[1].target.square().sum())
    found, _ = shifted(32 * 0.105**2 / power)
    _, certificate = found.certificates[0]
    assert [float(found[n]) for n in ("falsified", "certified", "undecided", "checked")] == [
        1, 0, 0, 0,
    ]  # fmt: skip
    assert float(found["nmse_clean"]) < certificate.about["limit"]
    assert nmse_of(certificate, certificate.falsifier[None])[0] > certificate.about["limit"]
    statement = proved(certificate)
    assert statement.share == 0
    assert "need not keep to the limit" in statement.words
    with pytest.raises(IntegrityError, match="keeps to the limit"):
        proved(replace(certificate, falsifier=certificate.image))
    with pytest.raises(IntegrityError, match="falsifier lies outside its set"):
        proved(replace(certificate, falsifier=certificate.falsifier - 0.01))
    with pytest.raises(IntegrityError, match=r"a falsifier \(1, 2, 4, 4\)"):
        proved(replace(certificate, falsifier=certificate.falsifier[None]))


def said(certificate, **about):
    return replace(certificate, about={**certificate.about, **about})


def proof(certificate, **parts):
    return replace(certificate, proof=replace(certificate.proof, **parts))


def claims(certificate, **parts):
    return proof(certificate, claims=replace(certificate.proof.claims, **parts))


def based(certificate, part, change):
    base = certificate.proof.bases[0]
    moved = {at: change(array) for at, array in getattr(base, part).items()}
    return proof(certificate, bases=(replace(base, **{part: moved}),))


def inputs(certificate, **parts):
    return proof(certificate, inputs=replace(certificate.proof.inputs, **parts))


def shrunk(certificate):
    middle = certificate.proof.inputs.low / 2 + certificate.proof.inputs.high / 2
    return inputs(certificate, low=middle, high=middle.copy(), centre=None)


def weakened(certificate):
    """The network with a weight that is a little larger."""
    nodes = list(certificate.network.nodes)
    at = next(i for i, node in enumerate(nodes) if node.kind == "conv")
    arrays = {**nodes[at].arrays, "weight": nodes[at].arrays["weight"] * 1.01}
    node = nodes[at]
    nodes[at] = Node(node.kind, node.inputs, node.shape, arrays, node.settings)
    return replace(certificate, network=Network(tuple(nodes)))


def lowered(certificate, name):
    return said(certificate, **{name: certificate.about[name] * (1 - 1e-6)})


def dropped(certificate):
    """Without the first claim, and what names it."""
    kept = certificate.proof.claims
    leaves = tuple(
        replace(leaf, rows=leaf.rows[leaf.rows > 0] - 1) for leaf in certificate.proof.leaves
    )
    cut = replace(
        kept, columns=kept.columns[1:], values=kept.values[1:], limits=kept.limits[1:]
    )  # fmt: skip
    return proof(certificate, claims=cut, leaves=leaves)


def doubled(certificate):
    """About a truth twice as far from the answer, and with its own clean error."""
    answer = values_of_cases(certificate.network, certificate.image[None])[-1][0]
    forged = replace(certificate, target=2 * certificate.target - answer)
    return said(forged, nmse_clean=float(nmse_of(forged, forged.image[None])[0][0]))


ALTERED = {
    "nmse limit": (lambda c: lowered(c, "nmse_limit"), "says that nmse_limit is"),
    "voxel limit": (lambda c: lowered(c, "worst_pixel_limit"), "says that worst_pixel_limit is"),
    "nan": (lambda c: said(c, nmse_limit="nan"), "says that nmse_limit is nan"),
    "clean error": (lambda c: said(c, nmse_clean=0.9 * c.about["nmse_clean"]), "has the NMSE"),
    "no limit": (lambda c: said(c, limit=0), "a limit above 0"),
    "no number": (lambda c: said(c, limit=None), "not one of an image's error"),
    "kind": (lambda c: said(c, kind="classification"), "a kind of reconstruction"),
    "ball": (lambda c: said(c, ball={"norm": "l2"}), "names no ball"),
    "claim": (lambda c: claims(c, limits=c.proof.claims.limits + 1e-3), "can be derived"),
    "factor": (lambda c: claims(c, values=2 * c.proof.claims.values), "derived|by 1 or -1"),
    "dropped claim": (dropped, "but only inf can be derived"),
    "lower": (lambda c: based(c, "lower", lambda a: a + 0.01), "can be derived|lie above"),
    "upper": (lambda c: based(c, "upper", lambda a: a - 0.01), "can be derived|lie above"),
    "slopes": (lambda c: based(c, "slopes", lambda a: 0.5 + 0 * a), "can be derived"),
    "wild slopes": (lambda c: based(c, "slopes", lambda a: a + 2), "must be 0 to 1"),
    "matrix": (lambda c: replace(c, linear=(0.99 * c.linear[0], c.linear[1])), "be derived"),
    "middle": (lambda c: replace(c, linear=(c.linear[0], c.linear[1] + 1e-3)), "be derived"),
    "cut matrix": (lambda c: replace(c, linear=(c.linear[0][:, 1:], c.linear[1])), "'s matrix"),
    "nan in it": (lambda c: replace(c, linear=(c.linear[0], c.linear[1] * np.nan)), "'s middle"),
    "reference": (lambda c: replace(c, target=c.target * 1.01), "has the NMSE"),
    "reference and clean error": (doubled, "says that nmse_limit is"),
    "no reference": (lambda c: replace(c, target=0 * c.target), "has the NMSE"),
    "shape of it": (lambda c: replace(c, target=c.target[:1]), "reference must be"),
    "image": (lambda c: replace(c, image=c.image + 0.01), "smaller than the ball"),
    "set": (shrunk, "smaller than the ball"),
    "radius": (
        lambda c: inputs(c, centre=c.image, radius=0.9 * float(c.about["ball"]["radius"])),
        "less than the ball's",
    ),
    "what may change": (lambda c: replace(c, free=c.free * 0.5), "by 1 and, with a support, 0"),
    "no support": (lambda c: said(c, support=None), "by 1 and, with a support, 0"),
    "weights": (weakened, "has the NMSE|can be derived"),
}  # fmt: skip


@pytest.mark.parametrize("what", ALTERED)
def test_what_was_altered_is_refused_by_a_line(what, boxed):
    change, line = ALTERED[what]
    with pytest.raises(IntegrityError, match=line) as refused:
        proved(change(boxed))
    assert "\n" not in str(refused.value)


def test_a_ball_that_is_moved_from_its_image_is_refused():
    certificate = cascade(BALLS["l2"])[1]
    centre = certificate.proof.inputs.centre + 1e-3 * certificate.free
    with pytest.raises(IntegrityError, match="less than the ball's"):
        proved(inputs(certificate, centre=centre))


def test_weights_altered_with_their_clean_error_prove_nothing(boxed):
    forged = weakened(boxed)
    forged = said(forged, nmse_clean=float(nmse_of(forged, forged.image[None])[0][0]))
    with pytest.raises(IntegrityError, match="can be derived"):
        proved(forged)


def test_a_stricter_limit_is_not_refused_but_not_proved(boxed):
    strict = said(boxed, limit=boxed.about["nmse_limit"] * 0.99)
    assert proved(strict).share == 0


def test_a_refined_stack_leaves_a_certificate_too(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = espcn(preset="small", factors=(2, 1, 1))
        torch.nn.init.normal_(network.third.weight, std=0.05)
    image = torch.rand(1, 1, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    model = TorchModel(network, Task("super_resolution"), (0, 1))
    with torch.no_grad():
        batch = Batch(("a",), image, model(image) + 0.05)
    ball = Ball("linf", 0.001, (0, 1))
    found = ImageError(limit=0.5)(model, batch, ball, CaseRng(0, "image", batch.case_ids))
    assert float(found["checked"]) == 1
    certificate = load_certificate(save_certificate(tmp_path, "g", found.certificates[0][1]))
    again = derived(certificate)
    shape = (50, *certificate.proof.inputs.low.shape)
    drawn = np.random.default_rng(0).uniform(size=shape).round()
    inputs_ = certificate.proof.inputs
    images = inputs_.low + drawn * (inputs_.high - inputs_.low)
    errors = values_of_cases(certificate.network, images)[-1] - certificate.target
    energies = np.square(errors).reshape(50, -1).sum(axis=1)
    assert energies.max() <= again.energy[1] <= 1.2 * energies.max()
    assert np.abs(errors).max() <= again.worst_pixel
    with pytest.raises(IntegrityError, match="by 1 and, with a support, 0"):
        proved(replace(certificate, free=0 * certificate.free))


def test_files_give_back_the_same_certificate(honest, tmp_path):
    certificate = said(honest, probe="image_error")
    path = save_certificate(tmp_path, "group", certificate)
    again = load_certificate(path)
    assert proved(again) == proved(certificate)
    for name in ("image", "target", "free"):
        assert np.array_equal(getattr(again, name), getattr(certificate, name))
    assert all(np.array_equal(a, b) for a, b in zip(again.linear, certificate.linear, strict=True))
    assert again.network.digest == certificate.network.digest
    with np.load(path.with_suffix(".npz")) as arrays:
        assert {"case.free", "linear.matrix", "linear.middle"} <= set(arrays.files)
