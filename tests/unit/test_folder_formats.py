"""Every file format, whole volumes and slices, and every file that must not be read."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from robustbench_med.cohorts import lazy
from robustbench_med.cohorts.folder import load_folder
from robustbench_med.errors import InputError

COLUMNS = {"case": "id", "patient": "who", "image": "file", "target": "mask"}
X, Y, Z = 5, 4, 3


def write(root: Path, image: str, mask: str = "") -> Path:
    with (root / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [["id", "who", "file", "mask"], ["a", "p", image, mask]]
        csv.writer(file).writerows(rows)
    return root


def classify(root: Path, image: str, **settings):
    return load_folder(folder=str(write(root, image, "1")), task="classification", columns=COLUMNS,
                       labels={"no": 0, "yes": 1}, **settings)  # fmt: skip


def segment(root: Path, image: str, mask: str, labels="acdc", **settings):
    return load_folder(folder=str(write(root, image, mask)), task="segmentation", columns=COLUMNS,
                       labels=labels, **settings)  # fmt: skip


def nifti(path: Path, array, unit="mm", affine=None, zooms=None):
    stored = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    stored.header.set_xyzt_units(unit)
    if zooms:
        stored.header.set_zooms(zooms)
    nibabel.save(stored, path)


def volume(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (X, Y, Z)).astype(np.uint8)


def cardiac():
    return np.random.default_rng(1).integers(0, 4, (X, Y, Z)).astype(np.uint8)


def test_a_colour_picture_is_grey_or_rgb_as_asked(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rgb = classify(tmp_path, "a.png", colour="rgb").cases[0].image
    assert np.array_equal(rgb.numpy(), pixels.transpose(2, 0, 1).astype(np.float32) / 255)
    grey = classify(tmp_path, "a.png").cases[0].image
    luma = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    assert grey.shape == (1, 6, 8)
    assert grey[0].numpy() == pytest.approx(luma, abs=1 / 255)


def test_a_grey_picture_as_rgb_repeats_its_channel_and_a_palette_is_resolved(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = classify(tmp_path, "a.png", colour="rgb").cases[0].image
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    indexed = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    indexed.putpalette([255, 0, 0, 0, 0, 255])
    indexed.save(tmp_path / "p.png")
    assert classify(tmp_path, "p.png", colour="rgb").cases[0].image[:, 0, 0].tolist() == [1, 0, 0]


def test_sixteen_bit_pictures_keep_their_depth(tmp_path):
    pixels = np.array([[0, 257, 65535]], dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = classify(tmp_path, "a.png").cases[0].image
    assert image[0, 0].tolist() == pytest.approx([0, 257 / 65535, 1])
    assert classify(tmp_path, "a.png", colour="rgb").cases[0].image.shape == (3, 1, 3)


def test_a_jpeg_is_decoded_as_pillow_decodes_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.JPG")
    stored = np.asarray(Image.open(tmp_path / "a.JPG"), dtype=np.float32) / 255
    assert np.array_equal(classify(tmp_path, "a.JPG").cases[0].image[0].numpy(), stored)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_volume_comes_in_the_order_z_y_x(tmp_path, suffix):
    stored, labels = volume(), cardiac()
    nifti(tmp_path / f"i{suffix}", stored)
    nifti(tmp_path / f"m{suffix}", labels)
    case = segment(tmp_path, f"i{suffix}", f"m{suffix}").cases[0]
    assert case.image.shape == (1, Z, Y, X)
    assert case.target.dtype == torch.int64
    meaning = {0: 0, 3: 1, 2: 2, 1: 3}
    for x, y, z in np.ndindex(X, Y, Z):
        assert case.image[0, z, y, x].item() == pytest.approx(stored[x, y, z] / 255)
        assert case.target[z, y, x].item() == meaning[labels[x, y, z]]


def test_stored_axes_may_be_stated(tmp_path):
    array = volume()
    np.save(tmp_path / "a.npy", array)
    default = classify(tmp_path, "a.npy").cases[0].image
    assert np.array_equal(default[0].numpy(), array.astype(np.float32) / 255)
    stated = classify(tmp_path, "a.npy", axes="xyz").cases[0].image
    assert torch.equal(stated[0], default[0].permute(2, 1, 0))
    channels = classify(tmp_path, "a.npy", axes="yxc").cases[0].image
    assert torch.equal(channels, default[0].permute(2, 0, 1))


def test_two_dimensional_arrays_and_volumes_with_a_last_axis_of_one_are_read(tmp_path):
    np.save(tmp_path / "a.npy", volume()[:, :, 0])
    assert classify(tmp_path, "a.npy").cases[0].image.shape == (1, X, Y)
    nifti(tmp_path / "a.nii", volume()[:, :, 0])
    assert classify(tmp_path, "a.nii").cases[0].image.shape == (1, Y, X)
    nifti(tmp_path / "b.nii", volume()[..., None])
    assert classify(tmp_path, "b.nii").cases[0].image.shape == (1, Z, Y, X)


def test_a_slope_is_applied_before_a_window(tmp_path):
    stored = nibabel.Nifti1Image(volume().astype(np.int16), np.eye(4))
    stored.header.set_slope_inter(2.0, -10.0)
    nibabel.save(stored, tmp_path / "a.nii")
    truth = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj).transpose(2, 1, 0)
    image = classify(tmp_path, "a.nii", intensity=[0, 100]).cases[0].image
    assert image[0].numpy() == pytest.approx(np.clip(truth / 100, 0, 1), abs=1e-6)
    with pytest.raises(InputError, match="needs integers, got floating point values"):
        classify(tmp_path, "a.nii")


def test_spacing_is_told_in_mm_and_never_invented(tmp_path):
    nifti(tmp_path / "mm.nii", volume(), zooms=(1.5, 2.0, 8.0))
    nifti(tmp_path / "m.nii", volume(), unit="micron", zooms=(1500.0, 2000.0, 8000.0))
    nifti(tmp_path / "none.nii", volume(), unit="unknown")
    spacing = classify(tmp_path, "mm.nii").cases[0].context["spacing"]
    assert spacing.dtype == torch.float32
    assert spacing.tolist() == [8, 2, 1.5]
    assert classify(tmp_path, "m.nii").cases[0].context["spacing"].tolist() == [8, 2, 1.5]
    assert not classify(tmp_path, "none.nii").cases[0].context
    resized = classify(tmp_path, "mm.nii", size=[8, 10]).cases[0].context["spacing"]
    assert resized.tolist() == [8, 1, 0.75]
    cropped = classify(tmp_path, "mm.nii", size=[2, 2], fit="crop").cases[0].context["spacing"]
    assert cropped.tolist() == [8, 2, 1.5]


@pytest.mark.parametrize("settings", [{}, {"size": [2, 2]}, {"size": [8, 3], "fit": "crop"}])
@pytest.mark.parametrize("intensity", ["dtype", "case"])
def test_slices_are_the_planes_of_the_whole_volume(tmp_path, settings, intensity):
    nifti(tmp_path / "i.nii.gz", volume(), zooms=(1.0, 2.0, 8.0))
    nifti(tmp_path / "m.nii.gz", cardiac(), zooms=(1.0, 2.0, 8.0))
    files = (tmp_path, "i.nii.gz", "m.nii.gz")
    whole = segment(*files, intensity=intensity, **settings).cases[0]
    slices = segment(*files, intensity=intensity, volume="slices", **settings)
    assert [case.case_id for case in slices.cases] == ["a.z00", "a.z01", "a.z02"]
    assert {case.patient_id for case in slices.cases} == {"p"}
    assert [case.attributes["z"] for case in slices.cases] == [0, 1, 2]
    assert torch.allclose(torch.stack([c.image for c in slices.cases], dim=1), whole.image)
    assert torch.equal(torch.stack([c.target for c in slices.cases]), whole.target)
    assert torch.equal(slices.cases[1].context["spacing"], whole.context["spacing"])
    assert len({slices.summary(i).digest for i in range(3)}) == 3


def test_consecutive_slices_decode_their_volume_once_and_never_share_memory(tmp_path):
    nifti(tmp_path / "i.nii.gz", volume())
    nifti(tmp_path / "m.nii.gz", cardiac())
    cohort = segment(tmp_path, "i.nii.gz", "m.nii.gz", volume="slices")
    lazy._kept.cache_clear()
    first = cohort.cases[0]
    first.image.fill_(9)
    first.target.fill_(9)
    again = [case for case in cohort.cases]  # noqa: C416 (each is asked for)
    assert lazy._kept.cache_info().misses == 1
    assert again[0].image.max() <= 1
    assert again[0].target.max() <= 3


def test_binary_masks_of_zero_and_255_are_classes(tmp_path):
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(tmp_path / "i.png")
    flags = np.random.default_rng(0).integers(0, 2, (6, 8)).astype(np.uint8)
    Image.fromarray(flags * 255).save(tmp_path / "m.png")
    case = segment(tmp_path, "i.png", "m.png", {"background": 0, "lung": 255}).cases[0]
    assert case.target.tolist() == flags.tolist()
    Image.fromarray(flags.astype(bool)).save(tmp_path / "b.png")
    case = segment(tmp_path, "i.png", "b.png", {"background": 0, "lung": 1}).cases[0]
    assert case.target.tolist() == flags.tolist()


def test_a_nearest_resize_keeps_labels_and_a_crop_pads_by_the_class_stored_as_zero(tmp_path):
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(tmp_path / "i.png")
    Image.fromarray(np.full((6, 8), 255, dtype=np.uint8)).save(tmp_path / "m.png")
    labels = {"lung": 255, "background": 0}
    target = segment(tmp_path, "i.png", "m.png", labels, size=[8, 8], fit="crop").cases[0].target
    assert target[0].tolist() == [1] * 8
    assert target[1:7].eq(0).all()
    with pytest.raises(InputError, match="pads masks by the stored value 0"):
        segment(tmp_path, "i.png", "m.png", {"a": 255, "b": 1}, size=[8, 8], fit="crop")


def pictures(root: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    Image.fromarray(pixels).save(root / "whole.png")
    Image.fromarray(pixels).save(root / "whole.jpg")
    nifti(root / "whole.nii.gz", volume())
    nifti(root / "whole.nii", volume())
    np.save(root / "whole.npy", pixels)


@pytest.mark.parametrize("suffix", ["png", "jpg", "nii", "nii.gz", "npy"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6, 0.95])
def test_a_file_that_breaks_off_is_named(tmp_path, suffix, keep):
    pictures(tmp_path)
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=rf"a\.{suffix}: does not decode: "):
        classify(tmp_path, f"a.{suffix}")


@pytest.mark.parametrize(
    "array",
    [np.array([[np.nan, 0.0]]), np.array([[np.inf, 0.0]]), np.array([[-np.inf, 0.0]], dtype="f4")],
)
def test_voxels_that_are_not_finite_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=r"a.npy: 1 voxels are NaN or infinite"):
        classify(tmp_path, "a.npy", intensity=[0, 1])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([{"a": 1}], dtype=object), "does not decode: .*Python objects"),
        (np.zeros((2, 2), dtype=np.complex64), "expected real numbers"),
        (np.zeros((0, 2)), r"at least one, got float64 \(0, 2\)"),
        (np.zeros(4), "at least two, got 1 axes"),
        (np.zeros((1, 2, 2, 2)), "expected axes 'zyx', at least two, got 4 axes"),
    ],
)
def test_arrays_that_are_no_image_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        classify(tmp_path, "a.npy", intensity="case")


def test_a_file_is_read_as_what_it_is_called_and_nothing_else(tmp_path):
    pixels = np.zeros((4, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a.png: does not decode"):
        classify(tmp_path, "a.png")
    (tmp_path / "a.dcm").write_bytes(b"DICM")
    with pytest.raises(InputError, match=r"a.dcm: expected .png, .jpg"):
        classify(tmp_path, "a.dcm")


def test_masks_that_do_not_fit_their_image_are_refused(tmp_path):
    nifti(tmp_path / "i.nii", volume())
    nifti(tmp_path / "small.nii", cardiac()[:-1])
    nifti(tmp_path / "moved.nii", cardiac(), affine=np.diag([-1.0, 1, 1, 1]))
    nifti(tmp_path / "odd.nii", cardiac() + 2)
    nifti(tmp_path / "half.nii", cardiac().astype(np.float32) + 0.5)
    with pytest.raises(InputError, match=r"small.nii: the mask's grid \(3, 4, 4\) is not the imag"):
        segment(tmp_path, "i.nii", "small.nii", size=[4, 4])
    with pytest.raises(InputError, match=r"moved.nii: the mask's affine is not the image's"):
        segment(tmp_path, "i.nii", "moved.nii")
    with pytest.raises(InputError, match=r"odd.nii: values 4, 5 are not in the label schema"):
        segment(tmp_path, "i.nii", "odd.nii")
    with pytest.raises(InputError, match=r"half.nii: values 0.5, 1.5, 2.5, 3.5 are not"):
        segment(tmp_path, "i.nii", "half.nii")
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "c.png")
    np.save(tmp_path / "i.npy", np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(InputError, match=r"c.png: expected a mask of one channel, got RGB"):
        segment(tmp_path, "i.npy", "c.png")
