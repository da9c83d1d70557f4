"""One way to a model, whatever it is kept in: load it by reference, let it continue and score text, export it."""

from guiju.providers.export import export_model
from guiju.providers.language_model import LanguageModel
from guiju.providers.reference import load
from guiju.providers.texts import read_texts

__all__ = ["LanguageModel", "export_model", "load", "read_texts"]
