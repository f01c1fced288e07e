"""Base classes and shared types of facts. The kinds are in `kinds`, `safety` and `data_subjects`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

Json = dict[str, Any]
Share = float
Subject = Literal["model", "release", "one_or_all", "platform"]
#: Location of bytes: a path under the home folder or a URI.
Uri = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]


class Version(TypedDict):
    """A version of a table, fixed by its content."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    version: Annotated[int, Field(ge=0)]
    digest: str


class Dataset(Version):
    """The data set that a release was trained on, and its table of protected attributes."""

    uri: Uri
    protected: NotRequired[Version]


class Fact(BaseModel):
    """Base of all facts. The class name is the kind on record; the docstring's first line is shown to people."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    subject: ClassVar[Subject] = "release"
    introduced: ClassVar[int] = 1  # the era in which the kind was introduced


class ModelFact(Fact):
    """Base of facts about a model."""

    subject: ClassVar[Subject] = "model"


class SwitchFact(Fact):
    """Base of facts about one model, or about all of them where none is named."""

    subject: ClassVar[Subject] = "one_or_all"


class PlatformFact(Fact):
    """Base of facts about the platform itself."""

    subject: ClassVar[Subject] = "platform"


class Golden(BaseModel):
    """Golden rows that were scored again: their number, and how many gave the recorded answer."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    count: int = Field(ge=0)
    matched: int = Field(ge=0)
