"""compile=true compiles what runs: all parameters but those of entropy models are in graphs, and no graph breaks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compressai.entropy_models import EntropyModel
from torch import Tensor, nn

from regicomp.backbone import precision
from regicomp.image_codec import model_file

SPECS = {
    "hyperprior": ("regicomp.backbone.hyperprior.Hyperprior", {"N": 8, "M": 10}),
    "elic": ("regicomp.backbone.elic.Elic", {"N": 8, "M": 10, "groups": [2, 2, 6]}),
    "mlicpp": ("regicomp.backbone.mlicpp.MLICPlusPlus", {"N": 8, "M": 8, "slices": 2}),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # Dynamo's, of its own reading
@pytest.mark.parametrize("name", list(SPECS))
def test_what_runs_is_compiled(name: str) -> None:
    torch.manual_seed(0)
    codec: Any = model_file.build(model_file.Spec(*SPECS[name]), "backbone").train()
    x = torch.rand(1, 3, 64, 64)
    torch.manual_seed(1)
    expected = codec(x)["x_hat"]
    in_graphs: set[tuple[int, ...]] = set()

    def keeps_count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        in_graphs.update(tuple(p.shape) for p in inputs if isinstance(p, Tensor))
        return graph.forward

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = precision.compile_networks(codec, None, backend=keeps_count)
    torch.manual_seed(1)
    torch.testing.assert_close(codec(x)["x_hat"], expected)
    own = {id(p) for m in codec.modules() if isinstance(m, EntropyModel) for p in m.parameters()}
    running = {id(p): p for p in codec.parameters() if id(p) not in own}
    in_compiled = {id(p) for m in compiled for p in m.parameters()}
    assert set(running) == in_compiled
    assert not {tuple(p.shape) for p in running.values()} - in_graphs
    assert not torch._dynamo.utils.counters["graph_break"]
    assert list(codec.state_dict()) == list(model_file.build(model_file.Spec(*SPECS[name]), "backbone").state_dict())
    torch._dynamo.reset()


def test_an_entropy_model_is_left_alone() -> None:
    codec = model_file.build(model_file.Spec(*SPECS["elic"]), "backbone")
    for module in precision.compile_networks(codec, None, backend="eager"):
        assert not any(isinstance(m, (EntropyModel, nn.ModuleList, nn.ModuleDict)) for m in module.modules())
