"""report.html: what was built, what was found, and how to check it, for a reader who is no engineer."""

from __future__ import annotations

from guiju.audit.report.writing import write_report

__all__ = ["write_report"]
