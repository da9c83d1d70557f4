"""A sentence in English and Chinese: every reason that an audit gives can be read by both of its readers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    en: str
    zh: str

    def __add__(self, other: Note) -> Note:
        return Note(f"{self.en} {other.en}".strip(), f"{self.zh}{other.zh}")

    def __bool__(self) -> bool:
        return bool(self.en or self.zh)


NOTHING = Note("", "")
