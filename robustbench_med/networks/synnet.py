"""SynNet: labels from the zero-filled image of undersampled k-space, without reconstruction."""

from collections.abc import Mapping

from torch import Tensor, nn

from robustbench_med.errors import InputError
from robustbench_med.networks.normalisation import Norm
from robustbench_med.networks.unet import Preset, UNet, unet
from robustbench_med.networks.whole_patients import patients_of, zero_filled_slices

TASK = "segmentation of k-space"
BOUNDED_BY = ""


def synnet(
    *, preset: Preset = "full", in_channels: int = 2, classes: int = 4, norm: Norm = "none"
) -> "SynNet":
    """Build a U-Net that is given the zero-filled image and answers with logits.

    Trained with the task's cross-entropy on masks that were drawn at random, with random numbers
    of lines, it lowers the source's loss: the expectation over masks of the pixels'
    cross-entropy.

    Args:
        preset: "full" has U-Net widths of 64 to 1024: 31,031,364 parameters for four classes.
            "small" differs in widths and depth only: 16 to 128.
        in_channels: Two for each coil; the weights do not depend on it.
        classes: Channels of the output.
        norm: See `unet`; what the source has is not known here.

    Raises:
        InputError: If a setting is out of range.

    Source: Schlemper et al., MICCAI 2018, LNCS 11070:259, Syn-net: a U-Net from undersampled
    images to labels. Deviations: one image, complex, instead of a sequence of them; widths are
    the U-Net's of Ronneberger et al. 2015, and the coils of several-coil data are combined by
    their sensitivities.
    """
    if in_channels < 2 or in_channels % 2:
        raise InputError(f"synnet: in_channels must be even, two for each coil, got {in_channels}")
    return SynNet(unet(preset=preset, in_channels=2, classes=classes, norm=norm))


class SynNet(nn.Module):
    """See `synnet`, which builds it; `segmentation` maps complex images to logits."""

    def __init__(self, segmentation: UNet) -> None:
        super().__init__()
        self.segmentation = segmentation

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map k-space `(b, 2 c, *s, h, w)` to logits `(b, k, *s, h, w)`.

        `*s` is empty for single slices, phase and slice for whole patients.

        Raises:
            InputError: If the context has no mask of these slices, no maps for several coils, or
                the U-Net cannot halve the image as often as it must.
        """
        seen = zero_filled_slices("synnet", image, context)
        logits: Tensor = self.segmentation(seen)
        return patients_of(logits, image)
