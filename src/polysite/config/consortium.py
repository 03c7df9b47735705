"""CONSORTIUM.yaml: who can take part in runs across hospitals, and where their server is."""

from typing import Annotated

from pydantic import Field, field_validator

from polysite.config.base import Name, Section

Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$")]


class Consortium(Section):
    """Hospitals and the server that they meet at."""

    name: Name = Field(description="the consortium's name, in every certificate")
    server: Host = Field(
        description="host name by which hospitals reach the server; its certificate is for this name"
    )
    port: int = Field(default=8002, ge=1, le=65_535, description="the one port that hospitals reach")
    hospitals: tuple[Name, ...] = Field(
        min_length=1,
        description="the sites' names in runs; one added later gets a kit, the others stay as they are",
    )
    valid_days: int = Field(
        default=3650, ge=1, description="how long the authority's own certificate is valid"
    )

    @field_validator("hospitals")
    @classmethod
    def _once(cls, hospitals: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(hospitals)) < len(hospitals):
            raise ValueError(f"a hospital is listed twice: {', '.join(hospitals)}")
        return hospitals
