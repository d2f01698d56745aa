"""The Python API: `ablate.load`, `ablate.sweep`, `ablate.results`. It shares its implementation with the command."""

from ablate.api.loading import LoadedStudy as LoadedStudy
from ablate.api.loading import StudyPlan as StudyPlan
from ablate.api.loading import load as load
from ablate.api.reading import Results as Results
from ablate.api.reading import results as results
from ablate.api.shown import Drawing as Drawing
from ablate.api.shown import ResultTable as ResultTable
from ablate.api.sweeping import sweep as sweep
from ablate.api.trial import TrialResult as TrialResult
