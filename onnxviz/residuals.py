"""What the check at conversion measured, as a file's metadata say it; read back, it must have this form."""

from typing import Required, TypedDict


class Gradient(TypedDict, total=False):
    """How far the gradient was from the original's: of what, on how many inputs, by which comparison."""

    of: Required[list[str]]
    inputs: Required[int]
    by: Required[str]
    max: Required[float]
    median: Required[float]
    cosine: float
    stages: dict[str, float]


class Measured(TypedDict, total=False):
    """The largest differences of outputs and layers, relative to their largest absolute values; the gradient's."""

    outputs: Required[dict[str, float]]
    layers: Required[dict[str, float]]
    gradient: Gradient


class Drawn(TypedDict, total=False):
    """How an input is drawn: normal, or uniform in a range; text is not."""

    shape: Required[list[int]]
    length: Required[int | None]
    dtype: Required[str]
    mean: float
    std: float
    min: int
    max: int


class Digest(TypedDict):
    """What :func:`onnxviz.check.digests.digest` keeps of a tensor."""

    shape: list[int]
    not_finite: int
    largest: float
    products: list[float]


class Digests(TypedDict):
    """Of the seeded inputs, and of what is computed from them."""

    batch: int
    inputs: dict[str, Digest]
    values: dict[str, Digest]


class Elsewhere(Measured, total=False):
    """The same at another size of the inputs."""

    recipe: Required[dict[str, Drawn]]


class Residuals(Measured, total=False):
    """All that was measured; files of earlier releases have no digests."""

    recipe: Required[dict[str, Drawn]]
    digests: Digests
    resized: Elsewhere
