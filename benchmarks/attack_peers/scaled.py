"""A network whose logits are too steep for its cross-entropy to have a slope."""

from torch import Tensor, nn


class Scaled(nn.Module):
    """A network whose logits are multiplied: its probabilities are 0 and 1."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(b, k)`."""
        answer: Tensor = self.network(image) * self.factor
        return answer
