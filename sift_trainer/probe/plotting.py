"""How pictures look, and the package that draws them."""

# Okabe and Ito's palette, told apart with any kind of colour blindness; the reference is black.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def require_matplotlib() -> None:
    """Raise `ImportError`, naming the extra, before a training that would end without a picture."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'the figure needs matplotlib: pip install "sift-trainer[reproduction]"'
        ) from error
