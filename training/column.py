"""One column of a data file: its type and the values it may hold."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from validators.scoring.features import Category, Feature
from validators.toml_document import Part


class Column(Part):
    """What a column of the data file holds, as a table below `columns` in model.toml."""

    type: Literal["number", "integer", "category"]
    minimum: float | None = None
    maximum: float | None = None
    categories: Annotated[tuple[Category, ...], Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.type == "category") != bool(self.categories):
            raise ValueError("categories for a category, and only for a category")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("a minimum that is not above the maximum")
        return self

    def feature(self, name: str) -> Feature:
        """The column as the model input called `name`."""
        return Feature(name, self.type, self.minimum, self.maximum, self.categories)
