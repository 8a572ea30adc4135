"""Cases of simulated patients: made when asked for, the latest kept within a memory limit."""

import ast
import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

from robustbench_med import physics
from robustbench_med.cases import Attribute, Case, CaseSummary
from robustbench_med.cohorts.cine_frame import Papillary, Part, View, patient_attributes
from robustbench_med.components import describe
from robustbench_med.physics.patient import Patient
from robustbench_med.physics.population import Population, draw_patient


class CineCases(Sequence[Case]):
    """Lazy: a case is drawn and imaged when it is asked for, in any order and any process.

    Args:
        population: Who may be drawn.
        patients: How many are.
        view: What is made of each.
        papillary: Convention of the true measures in the attributes.
        memory_mb: Limit on the cases kept for being asked for again.
    """

    def __init__(
        self,
        population: Population,
        patients: int,
        view: View,
        papillary: Papillary,
        memory_mb: float,
    ) -> None:
        self.population, self.patients, self.view = population, patients, view
        self.papillary, self.memory_mb = papillary, memory_mb
        counts = (len(view.parts(_drawn(population, n))) for n in range(patients))
        self._ends = list(accumulate(counts))
        self._kept: OrderedDict[int, Case] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return self._ends[-1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave kept cases behind on the way to another process."""
        return {**self.__dict__, "_kept": OrderedDict(), "_bytes": 0}

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> list[Case]: ...
    def __getitem__(self, index: int | slice) -> Case | list[Case]:
        """Make the case at `index`, or find it among those kept."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if index not in self._kept:
            self._keep(index, self._made(index))
        self._kept.move_to_end(index)
        return self._kept[index]

    def summary(self, index: int) -> CaseSummary:
        """See `Summarised`; the digest is of all that decides the case, code included."""
        patient, number = self._place(index)
        part = self.view.parts(patient)[number]
        name = _name(patient, part)
        decides = describe({"population": self.population, "view": self.view, "name": name})
        digest = hashlib.sha256(f"{decides}{_code()}".encode()).hexdigest()
        return CaseSummary(name, patient.patient_id, self._attributes(patient, part), digest)

    def _made(self, index: int) -> Case:
        patient, number = self._place(index)
        part = self.view.parts(patient)[number]
        attributes = self._attributes(patient, part)
        made = self.view.make(patient, number)
        return Case(_name(patient, part), patient.patient_id, *made, attributes)

    def _place(self, index: int) -> tuple[Patient, int]:
        """The patient that a case belongs to, and its number among the patient's."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = bisect_right(self._ends, index)
        first = self._ends[number - 1] if number else 0
        return _drawn(self.population, number), index - first

    def _attributes(self, patient: Patient, part: Part) -> dict[str, Attribute]:
        known = _attributes_of(patient, self.papillary)
        return {**known, **part.attributes, "split": self.population.split}

    def _keep(self, index: int, case: Case) -> None:
        self._kept[index] = case
        self._bytes += _size(case)
        while self._bytes > self.memory_mb * 2**20 and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)


# Some hundred patients are a few megabytes, and a plan asks for each many times.
KEPT_PATIENTS = 512
_drawn = lru_cache(maxsize=KEPT_PATIENTS)(draw_patient)
_attributes_of = lru_cache(maxsize=KEPT_PATIENTS)(patient_attributes)


def _name(patient: Patient, part: Part) -> str:
    return "-".join(filter(None, (patient.patient_id, part.name)))


def _size(case: Case) -> int:
    tensors = (case.image, case.target, *case.context.values())
    return sum(tensor.element_size() * tensor.nelement() for tensor in tensors)


@lru_cache(maxsize=1)
def _code() -> str:
    """Hash of the code that simulates; its comments and layout do not count."""
    here = Path(__file__).parent
    files = [*here.glob("cine_*.py"), *Path(physics.__path__[0]).glob("*.py")]
    code = (ast.unparse(ast.parse(path.read_bytes())) for path in sorted(files))
    return hashlib.sha256("".join(code).encode()).hexdigest()
