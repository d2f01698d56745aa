"""Exams: what a level of each slot must fulfil, as classes that a test file inherits.

    from ablate.testing import NormExam

    class TestMine(NormExam):
        level = "mine"

pytest then runs one test for each point of the exam. `ablate check-level norm/mine` runs the same points.
"""

from ablate.testing.data import DataExam
from ablate.testing.exam import Exam, Missing, Point
from ablate.testing.init import InitExam
from ablate.testing.layers import DownsampleExam, NormExam, PaddingExam, UpsampleExam
from ablate.testing.loss import DiscriminatorExam, LossExam
from ablate.testing.model import ModelExam
from ablate.testing.probe import ProbeExam
from ablate.testing.regularizer import RegularizerExam
from ablate.testing.video import BranchExam, ContextExam, TemporalConvExam

EXAMS: dict[str, type[Exam]] = {
    exam.slot: exam
    for exam in (
        DataExam, ModelExam, PaddingExam, NormExam, UpsampleExam, DownsampleExam, TemporalConvExam, BranchExam,
        ContextExam, LossExam, DiscriminatorExam, RegularizerExam, InitExam, ProbeExam,
    )
}  # fmt: skip
"""The exam of each slot."""

__all__ = [
    "EXAMS", "BranchExam", "ContextExam", "DataExam", "DiscriminatorExam", "DownsampleExam", "Exam", "InitExam",
    "LossExam", "Missing", "ModelExam", "NormExam", "PaddingExam", "Point", "ProbeExam", "RegularizerExam",
    "TemporalConvExam", "UpsampleExam",
]  # fmt: skip
