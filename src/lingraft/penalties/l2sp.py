"""Layer-range L2-SP: trained weights are pulled to where they started, the middle layers most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from lingraft.errors import SelectionError, nearest
from lingraft.layer_groups import LayerGroup, LayerRange, depth, layer_group, num_layers
from lingraft.penalties.base import Penalty, PenaltyTerm

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lingraft.methods.base import Method
    from lingraft.penalties.context import PenaltyContext
    from lingraft.penalties.terms import Term

Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]

OUTER, MIDDLE = 0.001, 0.05
GROUPS = [group for group in LayerGroup if group != LayerGroup.OUTSIDE]


class L2SP(Penalty):
    """sum over layers l of lambda_l |theta_l - theta_l,0|^2, beside the loss.

    arXiv 2606.00284 §2.2: the first 9 and last 6 of 34 layers lambda 0.001, the middle 0.05. Embeddings,
    final norm and head are not spoken of there; here they have 0.001, unless `weight` says otherwise.

    The term is of the loss: its gradient 2 lambda_l (theta_l - theta_l,0) is clipped with the loss's and
    goes through the optimizer's moments. theta is the weight that the trained model will have: of a LoRA
    pair theta - theta_0 is scale * B A. What is frozen does not move and adds nothing; what a method adds
    beside the base's weights has no theta_0, and is free.
    """

    name: ClassVar[str] = "l2sp"
    title: ClassVar[str] = "L2-SP"

    first: int = Field(9, ge=0)
    last: int = Field(6, ge=0)
    weight: dict[str, Strength] = {}  # noqa: RUF012 - pydantic copies defaults
    """lambda by layer group, where it is not the paper's."""

    @field_validator("weight")
    @classmethod
    def _known_groups(cls, weight: dict[str, float]) -> dict[str, float]:
        for group in weight:
            if group not in GROUPS:
                raise ValueError(
                    f"there is no layer group '{group}'{nearest(group, GROUPS)}; groups: {', '.join(GROUPS)}"
                )
        return weight

    def of(self, group: LayerGroup) -> float:
        """Lambda of a layer group."""
        return self.weight.get(group, MIDDLE if group == LayerGroup.MIDDLE else OUTER)

    def problems(self, config: Any, method: Method) -> Iterator[str]:
        try:
            LayerRange(self.first, self.last, depth(config))
        except SelectionError as error:
            yield str(error)
        yield from super().problems(config, method)

    def prepare(self, context: PenaltyContext) -> PenaltyTerm:
        from lingraft.penalties.squared_distance import InFull, Product
        from lingraft.penalties.terms import Sum

        names = (name for name, _ in context.model.named_parameters())
        layers = LayerRange(self.first, self.last, num_layers(names))
        in_full: dict[LayerGroup, list[tuple[nn.Parameter, Tensor]]] = {}
        for parameter in context.full_rank():
            in_full.setdefault(layer_group(parameter.name, layers), []).append((parameter.weight, parameter.start))
        terms: list[Term] = [InFull(group, self.of(group), pairs) for group, pairs in in_full.items()]
        for pair in context.low_rank():
            group = layer_group(pair.name, layers)
            terms.append(Product(group, self.of(group), pair))
        if not terms:
            raise SelectionError("l2sp: the method trains no parameter of the base, so there is nothing to regularize")
        return Sum(self.name, terms)
