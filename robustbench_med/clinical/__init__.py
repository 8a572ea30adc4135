"""What a cardiologist reads off two masks: volumes, mass, walls, their motion, a diagnosis.

Plain arithmetic on numpy arrays. Phase 0 is end-diastole (ED), 1 end-systole (ES); labels are
0 background, 1 cavity of the left ventricle (LV), 2 its myocardium, 3 cavity of the right (RV).
"""

from robustbench_med.clinical.diagnosis import DIAGNOSES, REGIONAL_MOTION, diagnose
from robustbench_med.clinical.diagnosis_limits import WallLimits, diagnosis_limits
from robustbench_med.clinical.limits import (
    Overlap,
    dice_limits,
    ejection_fraction_limits,
    mass_limits,
    overlap_limits,
    stroke_volume_limits,
    volume_limits,
)
from robustbench_med.clinical.measures import UNITS, Measures, bsa, ejection_fraction, measure
from robustbench_med.clinical.patient_limits import PatientLimits, patient_limits
from robustbench_med.clinical.quality import Quality, quality
from robustbench_med.clinical.zones import CUTS, EJECTION_CUTS, INDEXED, Zone, zone

__all__ = [
    "CUTS",
    "DIAGNOSES",
    "EJECTION_CUTS",
    "INDEXED",
    "REGIONAL_MOTION",
    "UNITS",
    "Measures",
    "Overlap",
    "PatientLimits",
    "Quality",
    "WallLimits",
    "Zone",
    "bsa",
    "diagnose",
    "diagnosis_limits",
    "dice_limits",
    "ejection_fraction",
    "ejection_fraction_limits",
    "mass_limits",
    "measure",
    "overlap_limits",
    "patient_limits",
    "quality",
    "stroke_volume_limits",
    "volume_limits",
    "zone",
]
