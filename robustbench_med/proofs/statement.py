"""One door to every kind of certificate: what follows from it, in numbers and in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from robustbench_med.proofs.certificate import Certificate, proved_share
from robustbench_med.proofs.image_certificate import ImageCertificate, error_proved

AnyCertificate = Certificate | ImageCertificate


@dataclass(frozen=True)
class Statement:
    """What a certificate proves of its case.

    Attributes:
        share: Of the case, 0 to 1, that keeps what it should: its true answer, or its limit.
        words: The same for a reader.
        limits: By the name of the value that is recorded: no image of the set has a larger one.
    """

    share: float
    words: str
    limits: Mapping[str, float] = field(default_factory=dict)


def proved(certificate: AnyCertificate) -> Statement:
    """Derive again all that a certificate states.

    Raises:
        IntegrityError: If anything of it does not follow.
    """
    if isinstance(certificate, Certificate):
        share = proved_share(certificate)
        return Statement(share, f"keeps its true answer on {share:.6g} of the case")
    said = error_proved(certificate)
    keeps = said.nmse_limit <= said.limit
    words = (
        f"its NMSE stays at most {said.nmse_limit:.6g} and no voxel's error above "
        f"{said.worst_pixel_limit:.6g}, so that it {'keeps' if keeps else 'need not keep'} to the "
        f"limit {said.limit:.6g}"
    )
    limits = {"nmse_limit": said.nmse_limit, "worst_pixel_limit": said.worst_pixel_limit}
    return Statement(float(keeps), words, limits)
