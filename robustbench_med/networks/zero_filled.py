"""The zero-filled image: what k-space shows without any reconstruction."""

from collections.abc import Mapping

from torch import Tensor, nn

from robustbench_med.networks.measured import by_frame, measured
from robustbench_med.physics.coils import adjoint
from robustbench_med.physics.fourier import to_channels

TASK = "reconstruction"
BOUNDED_BY = ""


def zero_filled() -> "ZeroFilled":
    """Build the adjoint of the measurement; it has nothing to train.

    Places that were not measured count as 0; coils are combined by their sensitivities. It is
    linear, so what an adversary adds to k-space is what is added to the image.
    """
    return ZeroFilled()


class ZeroFilled(nn.Module):
    """See `zero_filled`, which builds it."""

    def forward(self, image: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Map k-space `(b, 2 c, h, w)` to complex images `(b, 2, h, w)`.

        A series `(b, 2 c, t, h, w)` is reconstructed frame by frame.

        Raises:
            InputError: If the context has no mask, or no maps for several coils.
        """
        if image.ndim == 5:
            return by_frame("zero_filled", self, image, context)
        return to_channels(adjoint(*measured("zero_filled", image, context))[:, None])
