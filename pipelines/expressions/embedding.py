"""References in SQL: each becomes a placeholder before parsing and a literal in the tree afterwards, so a value never is SQL text."""

import re
from typing import Any

from pipelines.expressions import trees
from pipelines.expressions.checking import Refused, walk
from pipelines.expressions.parser import Tree, position_of
from pipelines.expressions.source import Edit, Source
from pipelines.references import Reference, References, UnknownReference, as_text, find, problem_with


class Embedded:
    """The references of one SQL text. `source` is the text with placeholders."""

    source: Source

    def __init__(self, source: Source) -> None:
        """Errors: `ExpressionError` for references that no run can resolve."""
        self._original = source
        self._references = list(find(source.text)) if "{" in source.text else []
        if not self._references:
            self.source = source
            return
        for reference in self._references:
            problem = problem_with(reference)
            if problem is not None:
                raise source.error(problem, reference.start)
        self._prefix = self._unused_prefix(source.text)
        self._names = {self._name(index): index for index in range(len(self._references))}
        edits = [Edit(reference.start, reference.end, name) for reference, name in zip(self._references, self._names, strict=True)]
        self.source = source.edited(edits)

    def in_words(self, message: str) -> str:
        """`message` with what the user wrote instead of our placeholders."""
        for index, reference in enumerate(self._references):
            message = message.replace(self._name(index), reference.text)
        return message

    @staticmethod
    def _unused_prefix(text: str) -> str:
        prefix, lowered = "brokoli_reference_", text.lower()
        while prefix in lowered:
            prefix += "x_"
        return prefix

    def _name(self, index: int) -> str:
        return f"{self._prefix}{index}_"

    def insert(self, tree: Tree, references: References | None) -> None:
        """Put values for the placeholders of `tree`; without `references` (when a pipeline is saved) NULL stands for each.

        Errors: `Refused` where a placeholder stands for anything but a value, `ExpressionError` for names that do not exist."""
        if not self._references:
            return
        self._check_places(tree)
        values = [self._value(reference, references) for reference in self._references]
        pattern = re.compile(re.escape(self._prefix) + r"(\d+)_")
        for node in list(walk(tree)):
            if self._is_placeholder(node):
                trees.replace(node, trees.constant(values[self._names[node["column_names"][0]]]))
            elif node.get("class") == "CONSTANT" and node["literal"]["kind"] == "STRING":
                text = node["literal"]["text"]
                node["literal"]["text"] = pattern.sub(lambda match: as_text(values[int(match[1])]), text)

    def _value(self, reference: Reference, references: References | None) -> Any:
        if references is None:
            return reference.plain if reference.escaped else None
        try:
            value = references.value(reference)
        except UnknownReference as error:
            raise self._original.error(error.message, reference.start) from error
        return as_text(value) if isinstance(value, dict | list) else value

    def _is_placeholder(self, node: Tree) -> bool:
        return node.get("class") == "COLUMN_REF" and len(node["column_names"]) == 1 and node["column_names"][0] in self._names

    def _check_places(self, tree: Tree) -> None:
        """Errors: `Refused` for a placeholder in any other place than as a value, or within a text."""
        for node in walk(tree):
            is_text = node.keys() == {"kind", "text"}  # of a constant
            texts = [text for value in node.values() for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
            if not is_text and any(self._prefix in text for text in texts) and not self._is_placeholder(node):
                raise Refused("a reference may stand for a value, or within a quoted text, and nowhere else", position_of(node))
