"""The report of a training run: one page on what it was and what it gave."""

from .hook import ReportHook

__all__ = ['ReportHook']
