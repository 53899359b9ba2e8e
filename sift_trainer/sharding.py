"""What a model needs to be sharded by FSDP2, and to be asked and scored when it is."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from sift_trainer.labelled_head import output_embeddings_of


@contextmanager
def tied_in_one_group(model: nn.Module) -> Iterator[None]:
    """Within the context, FSDP2 wraps a model whose output embeddings are tied to more than the
    input embeddings: BERT's decoder shares its bias with the head that holds it.

    Accelerate puts the output embeddings into a group of their own, and PyTorch refuses a parameter
    that two groups see. While they are not to be found they stay in the model's own group.
    """
    if not _tied_outside(model):
        yield
        return
    own = vars(model)
    own["get_output_embeddings"] = own["get_input_embeddings"] = lambda: None
    try:
        yield
    finally:
        del own["get_output_embeddings"], own["get_input_embeddings"]


def _tied_outside(model: nn.Module) -> bool:
    """Whether a module beyond the two embeddings holds a parameter of the output embeddings."""
    output_embeddings = output_embeddings_of(model)
    if output_embeddings is None:
        return False
    embeddings = {output_embeddings, model.get_input_embeddings()}  # type: ignore[operator]
    theirs = {id(parameter) for parameter in output_embeddings.parameters()}
    return any(
        id(parameter) in theirs
        for module in model.modules()
        if module not in embeddings
        for parameter in module.parameters(recurse=False)
    )
