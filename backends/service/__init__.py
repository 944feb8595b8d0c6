"""The one door to the backends that user interfaces use."""

from backends.service.facade import Service
from backends.service.state import ModelState

__all__ = ["ModelState", "Service"]
