"""The older rule forms that parse as SQL but mean something else there, rewritten in the tree; and which columns an expression reads.

- a bare word to the right of `==`, `!=`, `contains`, … or in a list `in [US, DE]` is a text, unless it is a column;
- `== null` asks for null;
- `+` joins when either side is text, and adds otherwise;
- a text compared with a number is compared as a number (what is no number compares as NULL does), and takes part in `- * / %` as one.
"""

import difflib
import re
from collections.abc import Mapping, Sequence

from pipelines.expressions import checking, kinds, trees
from pipelines.expressions.checking import Refused, function_name
from pipelines.expressions.functions import INFIX_OPERATORS
from pipelines.expressions.parser import Tree, position_of
from pipelines.expressions.source import Source

_EXACT_IN_DOUBLE = 2**53
_TAKES_LAMBDA = re.compile(r"(list|array)_(transform|apply|filter|reduce)$|apply$|filter$|reduce$")
LAMBDA = "LAMBDA_KEYWORD"
_NULL_WORDS = frozenset({"null", "none", "nil"})


def modernise_lambdas(tree: Tree) -> None:
    """`x -> x + 1` within a list function becomes `lambda x: x + 1`, the form that DuckDB keeps; elsewhere the arrow reads JSON."""
    for node in checking.walk(tree):
        if node.get("class") == "FUNCTION" and _TAKES_LAMBDA.match(function_name(node)):
            for argument in node["arguments"]:
                if argument["expression"].get("class") == "LAMBDA":
                    argument["expression"]["syntax_type"] = LAMBDA


class Rewriter:
    """Rewrites one scalar tree in place. `types` maps column names to DuckDB types ("" where unknown); None: the columns are unknown."""

    def __init__(self, source: Source, types: Mapping[str, str] | None) -> None:
        self._source = source
        self._names = None if types is None else {name.lower(): name for name in types}
        self._kinds = {name.lower(): kinds.of_type(type_) if type_ else kinds.UNKNOWN for name, type_ in (types or {}).items()}
        self._lambdas: list[frozenset[str]] = []
        self.columns: set[str] = set()
        self.doubts: list[Refused] = []

    def rewrite(self, tree: Tree) -> None:
        """Errors: `Refused` for unknown columns."""
        match tree.get("class"):
            case "COLUMN_REF":
                self._column(tree)
                return
            case "LAMBDA" if tree["syntax_type"] == LAMBDA:
                self._lambda(tree)
                return
            case "COMPARISON":
                self._bare_words(tree["left"], [tree["right"]])
            case "OPERATOR" if tree["type"] in ("COMPARE_IN", "COMPARE_NOT_IN"):
                self._bare_words(tree["children"][0], tree["children"][1:], always=True)
            case "FUNCTION":
                self._bare_words_of_function(tree)
        for child in checking.children(tree):
            self.rewrite(child)
        self._meaning(tree)

    # Columns

    def _column(self, tree: Tree) -> None:
        names = tree["column_names"]
        if any(names[0].lower() in parameters for parameters in self._lambdas):
            return
        if len(names) > 1 and names[0].lower() == "input" and not self._is_column("input"):
            names = tree["column_names"] = names[1:]
        if self._names is None:
            self.columns.add(names[0])
            return
        known = self._names.get(names[0].lower())
        if known is None:
            raise Refused(self._unknown_column(names[0], tree), position_of(tree))
        self.columns.add(known)

    def _unknown_column(self, name: str, tree: Tree) -> str:
        message = checking.unknown("column", name, (self._names or {}).values())
        position = position_of(tree)
        quoted = position is not None and self._source.text[self._source.offset_of_byte(position) :].startswith('"')
        if quoted:
            return f"{message}; a text is written '{name}'"
        return f"{message} (`||` joins texts; for a choice write `or`)" if "||" in self._source.text else message

    def _is_column(self, name: str) -> bool:
        return self._names is not None and name.lower() in self._names

    def _lambda(self, tree: Tree) -> None:
        self._lambdas.append(frozenset(parameter_names(tree["lhs"])))
        self.rewrite(tree["expr"])
        self._lambdas.pop()

    # Bare words

    def _bare_words_of_function(self, tree: Tree) -> None:
        name, arguments = function_name(tree), [argument["expression"] for argument in tree["arguments"]]
        if name.lstrip("!") in INFIX_OPERATORS and len(arguments) == 2:
            self._bare_words(arguments[0], arguments[1:], always=True)
        elif name == "contains" and len(arguments) == 2 and _is_list(arguments[0]):
            # `country in [US, DE]`: the grammar reads `contains([US, DE], country)`.
            elements = [argument["expression"] for argument in arguments[0]["arguments"]]
            self._bare_words(arguments[1], elements, always=True)
            trees.replace(tree, trees.operator("COMPARE_IN", arguments[1], *elements))

    def _bare_words(self, left: Tree, right: Sequence[Tree], *, always: bool = False) -> None:
        if self._names is None or left.get("class") == "CONSTANT":
            return
        for tree in right:
            if tree.get("class") != "COLUMN_REF" or len(tree["column_names"]) != 1:
                continue
            word = tree["column_names"][0]
            if self._is_column(word) or any(word.lower() in parameters for parameters in self._lambdas):
                continue
            if always or self._follows_older_operator(tree):
                self._doubt(word, tree)
                trees.replace(tree, trees.constant(None if word.lower() in _NULL_WORDS else word))

    def _doubt(self, word: str, tree: Tree) -> None:
        close = difflib.get_close_matches(word.lower(), self._names or (), n=1, cutoff=0.8)
        if close:
            column = (self._names or {})[close[0]]
            self.doubts.append(Refused(f"'{word}' is read as a text; there is a column '{column}': is that meant?", position_of(tree)))

    def _follows_older_operator(self, tree: Tree) -> bool:
        position = position_of(tree)
        if position is None:
            return False
        return self._source.text[: self._source.offset_of_byte(position)].rstrip(" \t\r\n(").endswith(("==", "!="))

    # Meaning

    def _meaning(self, tree: Tree) -> None:
        match tree.get("class"):
            case "COMPARISON":
                self._null_comparison(tree)
                if tree["class"] == "COMPARISON":
                    self._as_numbers([tree["left"], tree["right"]])
            case "BETWEEN":
                self._as_numbers([tree["input"], tree["lower"], tree["upper"]])
            case "OPERATOR" if tree["type"] in ("COMPARE_IN", "COMPARE_NOT_IN"):
                self._list_membership(tree["children"])
            case "FUNCTION":
                self._function(tree)

    def _null_comparison(self, tree: Tree) -> None:
        tests = {"COMPARE_EQUAL": "OPERATOR_IS_NULL", "COMPARE_NOTEQUAL": "OPERATOR_IS_NOT_NULL"}
        if tree["type"] in tests and _is_null(tree["right"]) and not _is_null(tree["left"]):
            trees.replace(tree, trees.operator(tests[tree["type"]], tree["left"]))

    def _function(self, tree: Tree) -> None:
        name = function_name(tree)
        arguments = [argument["expression"] for argument in tree["arguments"]]
        if name == "!" and len(arguments) == 1:
            trees.replace(tree, trees.operator("OPERATOR_NOT", arguments[0]))
        elif name.lstrip("!") in INFIX_OPERATORS and len(arguments) == 2:
            call = trees.call(INFIX_OPERATORS[name.lstrip("!")], *arguments)
            trees.replace(tree, trees.operator("OPERATOR_NOT", call) if name.startswith("!") else call)
        elif name == "+" and len(arguments) == 2 and kinds.TEXT in (self._kind(arguments[0]), self._kind(arguments[1])):
            trees.replace(tree, trees.call("||", *arguments, is_operator=True))
        elif name in ("-", "*", "/", "//", "%", "**", "^") and len(arguments) == 2:
            for argument in arguments:
                if self._kind(argument) == kinds.TEXT and argument.get("class") == "COLUMN_REF":
                    trees.replace(argument, trees.cast(dict(argument), "DOUBLE"))

    def _list_membership(self, operands: Sequence[Tree]) -> None:
        left, rest = operands[0], operands[1:]
        found = {self._kind(tree) for tree in rest}
        if self._kind(left) == kinds.TEXT and found == {kinds.TEXT, kinds.NUMBER}:
            for tree in rest:  # a mixed list is one of texts
                if tree.get("class") == "CONSTANT" and self._kind(tree) == kinds.NUMBER:
                    trees.replace(tree, trees.constant(tree["literal"]["text"]))
        else:
            self._as_numbers(operands)

    def _as_numbers(self, operands: Sequence[Tree]) -> None:
        found = [self._kind(tree) for tree in operands]
        if kinds.NUMBER in found:
            type_name = "HUGEINT" if any(_is_beyond_double(tree) for tree in operands) else "DOUBLE"
        elif kinds.BOOLEAN in found:
            type_name = "BOOLEAN"
        else:
            return
        for tree, kind in zip(operands, found, strict=True):
            if kind == kinds.TEXT and tree.get("class") != "CONSTANT":
                trees.replace(tree, trees.cast(dict(tree), type_name, may_fail=True))

    def _kind(self, tree: Tree) -> str:
        return kinds.of_tree(tree, self._kinds)


def _is_list(tree: Tree) -> bool:
    return tree.get("class") == "FUNCTION" and function_name(tree) == "list_value"


def _is_null(tree: Tree) -> bool:
    return tree.get("class") == "CONSTANT" and tree.get("literal", {}).get("kind") == "NULL_LITERAL"


def _is_beyond_double(tree: Tree) -> bool:
    if tree.get("class") != "CONSTANT" or tree.get("literal", {}).get("kind") != "INTEGER":
        return False
    digits = tree["literal"]["text"].replace("_", "").lstrip("-")
    return digits.isdecimal() and 16 <= len(digits) <= 38 and int(digits) >= _EXACT_IN_DOUBLE


def parameter_names(left: Tree) -> list[str]:
    """The names that a lambda brings, in lower case."""
    if left.get("class") == "COLUMN_REF" and len(left["column_names"]) == 1:
        return [str(left["column_names"][0]).lower()]
    if left.get("class") == "FUNCTION" and function_name(left) == "row":
        return [name for argument in left["arguments"] for name in parameter_names(argument["expression"])]
    return []
