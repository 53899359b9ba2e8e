"""Prose out of docstrings: what is left when code, tables, signatures and markup are taken away."""

import re

_FENCE = re.compile(r"```[^`\n]*\n.*?(?:```|\Z)|\{%.*?%\}|<[A-Za-z/!][^<>\n]*>", re.DOTALL)
_ROLE = re.compile(r":[a-z:]+:`~?([^`<]*?)(?:\s*<[^`]*>)?`|\[([^\]]+)\]\([^)\s]*\)")
_QUOTE = re.compile(r"^ *>(?!>) ?(?:\[!\w+\])?", re.MULTILINE)  # Markdown: "> [!TIP]"
_FOOTNOTE = re.compile(r"\s*\[#?\w+\]_")
_UNDERLINE = re.compile(r"^\s*([-=~^*#`+_.])\1{2,}\s*$")
_CODE = re.compile(r"^\s*(?:>>>|\.\.\.(?:\s|$)|\$\s|In \[\d+\]|\.\. |[@#|+!%\\]|from \w|import \w)")
_FIELD = re.compile(
    r"""^\s*(?:
        [\w*., `\[\]/-]+\s:\s.*                        # numpydoc: "x : array_like, shape (n,)"
      | \*{0,2}\w+\s?\([^()]*(?:\([^()]*\)[^()]*)*\)\s?:\s*$  # transformers: "x (`int`):"
      | [-\w.*]+\s?=\s?\S+                             # an assignment
      | (?:\w+\s)?\w+\s?:{1,2}\s*$                     # "Args:", "Keyword arguments:"
    )""",
    re.VERBOSE,
)
# What begins a paragraph of its own and is no part of its sentence: a bullet, or the name and type
# of an argument in front of its description.
_LABEL = re.compile(
    r"""^\s*(?:
        [-*•]\s+ | \d+[.)]\s+
      | :(?:param|arg|type|returns?|rtype|raises?)\b[^:]*:\s+
      | \*{0,2}`{0,2}\w+`{0,2}\s?(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?\s?:\s+
    )(?=\S)""",
    re.VERBOSE,
)
_WORD = re.compile(r"[A-Za-z]{2,}")
_COMMON = frozenset({"a", "an", "and", "are", "as", "be", "by", "for", "if", "in", "is", "it"})
_COMMON |= {"not", "of", "on", "or", "that", "the", "this", "to", "with"}


def prose(docstring: str) -> str:
    """The English sentences of one docstring, paragraphs separated by an empty line.

    Doctests, fenced and indented code, tables, headings, field lines such as ``x : int`` and
    reStructuredText or Markdown markup are dropped. May be empty.
    """
    text = _ROLE.sub(r"\1\2", _QUOTE.sub("", _FENCE.sub("\n\n", docstring)))
    text = _FOOTNOTE.sub("", text)
    blocks = _blocks(text.expandtabs().splitlines())
    joined = (" ".join(" ".join(block).replace("`", "").split()) for block in blocks)
    return "\n\n".join(paragraph for paragraph in joined if _is_english(paragraph))


def _blocks(lines: list[str]) -> list[list[str]]:
    """Groups of neighbouring lines of text; a line that is dropped ends a group."""
    blocks: list[list[str]] = [[]]
    code_indent: int | None = None  # lines deeper than this column belong to a literal block
    in_doctest = False
    for line in lines:
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if not stripped:
            blocks.append([])
            in_doctest = False
            continue
        if code_indent is not None and indent > code_indent:
            continue
        code_indent = indent if stripped.startswith(".. ") or stripped.endswith("::") else None
        if _UNDERLINE.match(line):
            blocks[-1] = blocks[-1][:-1]  # the heading that it underlines
            blocks.append([])
        elif in_doctest or _CODE.match(line) or _FIELD.match(line) or line.count("|") > 1:
            in_doctest = in_doctest or stripped.startswith(">>>")
            blocks.append([])
        elif label := _LABEL.match(line):
            blocks.append([line[label.end() :]])
        else:
            blocks[-1].append(stripped)
    return blocks


def _is_english(paragraph: str) -> bool:
    """Whether a paragraph reads as sentences rather than as a list of names, numbers or symbols."""
    words = _WORD.findall(paragraph)
    if len(words) < 5 or sum(map(len, words)) < 0.65 * len(paragraph):
        return False
    return sum(word.lower() in _COMMON for word in words) >= max(1, len(words) // 12)
