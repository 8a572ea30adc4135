"""Cases of the chosen among simulated patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import overload

from robustbench_med.cases import Case, CaseSummary
from robustbench_med.cohorts.cine_cases import CineCases
from robustbench_med.cohorts.cine_frame import View
from robustbench_med.cohorts.quota import Quota, chosen_numbers
from robustbench_med.physics.patient import Person
from robustbench_med.physics.population import Population, draw_patient


@dataclass(frozen=True)
class ChosenCases(Sequence[Case]):
    """Some of the cases of a simulated population, as lazy as those.

    Attributes:
        cases: Of every patient up to the last one chosen.
        indices: Which of them, in order.
    """

    cases: CineCases
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> list[Case]: ...
    def __getitem__(self, index: int | slice) -> Case | list[Case]:
        """Make the case at `index`, or find it among those kept."""
        if isinstance(index, slice):
            return [self.cases[i] for i in self.indices[index]]
        return self.cases[self.indices[index]]

    def summary(self, index: int) -> CaseSummary:
        """See `Summarised`; a patient's cases have the digests they have without shares."""
        return self.cases.summary(self.indices[index])


def choose(
    make: Callable[[int], CineCases],
    population: Population,
    view: View,
    patients: int,
    quotas: Sequence[Quota],
) -> Sequence[Case]:
    """Choose patients of a population, see `chosen_numbers`, and return their cases.

    Args:
        make: All cases of the first patients of that number.
        population: Who may be drawn.
        view: What is made of each.
        patients: How many to choose.
        quotas: None of them: the first patients, as they are.
    """
    if not quotas:
        return make(patients)

    @cache
    def drawn(number: int) -> tuple[Person, int]:
        patient = draw_patient(population, number)
        return patient.person, len(view.parts(patient))

    classes = len(population.classes) if population.kind == "acdc" else 1
    numbers = chosen_numbers(lambda number: drawn(number)[0], patients, classes, quotas)
    needed = max(numbers) + 1
    starts = list(accumulate((drawn(number)[1] for number in range(needed)), initial=0))
    indices = (i for number in numbers for i in range(starts[number], starts[number + 1]))
    return ChosenCases(make(needed), tuple(indices))
