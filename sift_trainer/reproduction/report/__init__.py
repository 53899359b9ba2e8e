"""Any run folders beside the paper: Tables 1 to 6, Figures 1 and 2, on one page."""

from sift_trainer.reproduction.report.build import Report, build_report, write_closing_tables

__all__ = ["Report", "build_report", "write_closing_tables"]
