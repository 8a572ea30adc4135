"""The difference between an image and the true one."""

from torch import Tensor

from robustbench_med.errors import InputError


def squared_error(who: str, output: Tensor, target: Tensor) -> Tensor:
    """Squared difference in each voxel, `(b, voxels)`, float64.

    Raises:
        InputError: If the shapes differ, naming the metric `who`.
    """
    if output.shape != target.shape or output.ndim < 2:
        raise InputError(
            f"{who}: needs an image as output and as target, of one shape, "
            f"got {tuple(output.shape)} and {tuple(target.shape)}"
        )
    return (output.double() - target.double()).square().flatten(start_dim=1)
