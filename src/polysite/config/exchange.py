"""What a site makes of its update before it is sent."""

from typing import Literal

from pydantic import Field

from polysite.config.base import Section

ValueType = Literal["float32", "bfloat16", "int8"]


class Exchange(Section):
    """Stages between a site's work and the server, in this order: clipping, then rounding to smaller values."""

    values: ValueType = Field(
        default="float32",
        description="how a site sends floating-point tensors. float32: as they are, or with `clip` their change since "
        "the round began; bfloat16 and int8: their change, rounded, in about a half or a quarter of the bytes",
    )
    clip: float | None = Field(
        default=None,
        gt=0,
        description="the largest L2 norm of a site's change in a round, over all floating-point tensors that it "
        "shares; a larger one is scaled down",
    )
    error_feedback: bool = Field(
        default=True,
        description="what rounding to bfloat16 or int8 lost stays at the site and is added to its next change",
    )

    @property
    def plain(self) -> bool:
        """Whether nothing is done: a site sends its tensors as they are."""
        return self.values == "float32" and self.clip is None

    @property
    def feeds_back(self) -> bool:
        """Whether a site keeps what rounding lost."""
        return self.error_feedback and self.values != "float32"

    def words(self) -> list[str]:
        """What is done, a sentence each, for the share plan."""
        said = []
        if not self.plain:
            said.append(
                "Of floating-point tensors the change since the round began is sent; integers as they are."
            )
        if self.clip is not None:
            said.append(f"A change with an L2 norm above {self.clip:g} is scaled down to it.")
        if self.values != "float32":
            scales = ", with scales that are sent too" if self.values == "int8" else ""
            lost = (
                "stays at the site and is added to its next change"
                if self.error_feedback
                else "is not made up for"
            )
            said.append(f"The change is rounded to {self.values}{scales}; what that loses {lost}.")
        return said
