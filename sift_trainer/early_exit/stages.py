"""Models of stages that differ in width, such as ResNet and Swin: exits need classifiers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import ClassVar, cast

from torch import nn

from sift_trainer.early_exit.adapter import ExitAdapter
from sift_trainer.early_exit.blocks import replaced_forward, truncated
from sift_trainer.scoring.positions import ScoredPositions


class StageExit(ExitAdapter):
    """Leaves after stage k, through the classifier that `classifier` returns for it."""

    stages: ClassVar[str]
    """Path of the ``nn.ModuleList`` of stages."""

    passed: ClassVar[tuple[str, ...]] = ()
    """Paths of modules behind the stages that an early exit skips."""

    def classifier(self, k: int) -> nn.Module:
        """The classifier after stage k < depth; a ValueError if there is none."""
        name = type(self.model).__name__
        raise ValueError(
            f"no exit after stage {k} of {name}: its classifier reads the last stage's width. Use "
            f"sift_exit_layer=-1, or register_exit a subclass of {type(self).__name__} whose "
            "`classifier` returns one for that stage"
        )

    @property
    def depth(self) -> int:
        return len(self._stages._modules)

    @property
    def _stages(self) -> nn.ModuleList:
        return cast(nn.ModuleList, self.model.get_submodule(self.stages))

    def resolve(self, k: int) -> int:
        k = super().resolve(k)
        if k < self.depth:
            self.classifier(k)
        return k

    def exit_block(self, k: int) -> nn.Module:
        return [*self._stages._modules.values()][k - 1]

    @contextmanager
    def at(self, k: int, positions: ScoredPositions | None = None) -> Iterator[None]:
        if k == self.depth:
            yield
            return
        forwards = {"classifier": self.classifier(k).__call__}
        forwards.update(dict.fromkeys(self.passed, lambda hidden: hidden))
        with ExitStack() as replaced:
            replaced.enter_context(truncated(self._stages, k))
            for path, forward in forwards.items():
                module = self.model.get_submodule(path)
                replaced.enter_context(replaced_forward(module, forward))
            yield


class ResNetStages(StageExit):
    """`ResNetForImageClassification`; a classifier gets the pooled map (B, C, 1, 1)."""

    stages = "resnet.encoder.stages"


class SwinStages(StageExit):
    """`SwinForImageClassification`; a classifier gets the pooled tokens (B, C) of a stage after its
    merging, without the final norm."""

    stages = "swin.encoder.layers"
    passed = ("swin.layernorm",)
