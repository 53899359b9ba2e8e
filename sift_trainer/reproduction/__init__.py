"""The paper's experiments: corpus, images, BERT, ResNet, runs, reports, bounds."""

from importlib.util import find_spec

_NEEDED = ("filelock", "markdown_it", "matplotlib", "PIL", "pydantic", "sentencex", "yaml")

if missing := [name for name in _NEEDED if find_spec(name) is None]:
    raise ImportError(
        f"the paper's experiments need {', '.join(missing)}: "
        'pip install "sift-trainer[reproduction]"'
    )
