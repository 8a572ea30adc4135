"""What a cardiologist reads off two masks: volumes, mass, walls, their motion, a diagnosis.

Plain arithmetic on numpy arrays. Phase 0 is end-diastole (ED), 1 end-systole (ES); labels are
0 background, 1 cavity of the left ventricle (LV), 2 its myocardium, 3 cavity of the right (RV).
"""

from robustbench_med.clinical.diagnosis import DIAGNOSES, REGIONAL_MOTION, diagnose
from robustbench_med.clinical.measures import UNITS, Measures, bsa, ejection_fraction, measure
from robustbench_med.clinical.quality import Quality, quality
from robustbench_med.clinical.zones import CUTS, INDEXED, Zone, zone

__all__ = [
    "CUTS",
    "DIAGNOSES",
    "INDEXED",
    "REGIONAL_MOTION",
    "UNITS",
    "Measures",
    "Quality",
    "Zone",
    "bsa",
    "diagnose",
    "ejection_fraction",
    "measure",
    "quality",
    "zone",
]
