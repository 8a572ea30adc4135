"""Makes splits of images that share their anatomy and differ in their detail."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from robustbench_med.cases import Case, Cohort, Task

TASK = Task("classification", ("well", "ill"))


def field(seed, size=64):
    """A body that all have in common, with organs and texture of one's own; `(1, h, w)`."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = 3.0 * (rows**2 + 1.4 * columns**2 < 0.7)
    organs, texture = (gaussian_filter(rng.normal(size=(size, size)), s) for s in (6, 1.5))
    plane = gaussian_filter(body, 2) + organs / organs.std() + 0.5 * texture / texture.std()
    return torch.from_numpy(plane[None]).float()


def case(name, patient, image, label=0, **attributes):
    return Case(name, patient, image, torch.tensor(label), {}, attributes)


def split(name, patients, *, per_patient=1, first=0, attributes=None):
    """A cohort of `patients`, images drawn from seeds that no other `first` shares."""
    cases = []
    for number in range(patients):
        seed = first + number
        known = attributes(number) if attributes else {}
        for scan in range(per_patient):
            image = field(1000 * seed + scan)
            cases.append(case(f"{name}{seed}-{scan}", f"{name}{seed}", image, number % 2, **known))
    return Cohort(name, TASK, (-20, 20), cases)


def with_cases(cohort, *more):
    return Cohort(cohort.name, cohort.task, cohort.bounds, [*cohort.cases, *more])
