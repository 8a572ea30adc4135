"""Relaxation times and proton densities of the tissues around the heart."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from robustbench_med.components import suggest
from robustbench_med.errors import InputError


@dataclass(frozen=True)
class Tissue:
    """What decides how bright a tissue is.

    Attributes:
        t1_ms: Longitudinal relaxation time.
        t2_ms: Transverse relaxation time.
        density: Proton density relative to water, 0 to 1.
    """

    t1_ms: float
    t2_ms: float
    density: float


# By tissue, then by field in tesla. At 1.5 T and 3 T, unless said otherwise: Stanisz et al. 2005
# and Portnoy et al. 2016. At 0.55 T: Campbell-Washburn et al. 2019. Densities: MRXCAT (Wissmann
# et al. 2014), the spleen's chosen between liver and blood.
# "chosen": not measured; the 1.5 T times scaled as the myocardium's are, 0.68 in T1, 1.45 in T2.
TISSUES: Mapping[str, Mapping[float, Tissue]] = MappingProxyType({
    "blood": {  # arterial
        0.55: Tissue(1122, 263, 0.95),
        1.5: Tissue(1441, 290, 0.95),
        3.0: Tissue(1932, 275, 0.95),
    },
    "myocardium": {
        0.55: Tissue(701, 58, 0.80),
        1.5: Tissue(1030, 40, 0.80),
        3.0: Tissue(1471, 47, 0.80),
    },
    "muscle": {  # skeletal
        0.55: Tissue(686, 64, 0.80),  # chosen
        1.5: Tissue(1008, 44, 0.80),
        3.0: Tissue(1412, 50, 0.80),
    },
    "fat": {
        0.55: Tissue(187, 93, 0.70),
        1.5: Tissue(343, 58, 0.70),  # de Bazelaire et al. 2004
        3.0: Tissue(382, 68, 0.70),  # de Bazelaire et al. 2004
    },
    "liver": {
        0.55: Tissue(339, 66, 0.90),
        1.5: Tissue(576, 46, 0.90),
        3.0: Tissue(812, 42, 0.90),
    },
    "spleen": {
        0.55: Tissue(719, 115, 0.90),  # chosen
        1.5: Tissue(1057, 79, 0.90),  # de Bazelaire et al. 2004
        3.0: Tissue(1328, 61, 0.90),  # de Bazelaire et al. 2004
    },
    "lung": {  # its T2* of 1 ms matters little to a balanced sequence; density is inflated lung's
        0.55: Tissue(796, 88, 0.20),  # chosen
        1.5: Tissue(1170, 61, 0.20),  # a rounded common value
        3.0: Tissue(1200, 45, 0.20),  # a rounded common value
    },
    "bone": {  # MRXCAT, which gives one row for all fields
        0.55: Tissue(250, 20, 0.12),
        1.5: Tissue(250, 20, 0.12),
        3.0: Tissue(250, 20, 0.12),
    },
})  # fmt: skip


def tissue(name: str, field_t: float) -> Tissue:
    """Return the times and the density of a tissue at a field of 0.55, 1.5 or 3.0 tesla.

    Raises:
        InputError: If there is no such tissue, or nothing is known of it at that field.

    Source: Stanisz et al., MRM 54 (2005), DOI 10.1002/mrm.20605; Portnoy et al., MRM, 2016
    (blood); de Bazelaire et al., Radiology 230 (2004),
    DOI 10.1148/radiol.2303021331; Campbell-Washburn et al., Radiology 293 (2019),
    DOI 10.1148/radiol.2019190452; Wissmann et al., JCMR 16 (2014), DOI 10.1186/s12968-014-0063-3.
    Deviations: excised muscle and myocardium of Stanisz et al. stand for living ones.
    """
    if name not in TISSUES:
        raise InputError(f"tissue: no {name!r}; {suggest(name, list(TISSUES))}")
    fields = TISSUES[name]
    if field_t not in fields:
        known = ", ".join(str(field) for field in fields)
        raise InputError(f"tissue {name!r}: field must be one of {known} tesla, got {field_t!r}")
    return fields[field_t]
