"""What an expression of a bundle configuration may say: a small grammar, checked without running anything."""

from __future__ import annotations

import ast
import re

from custom_apps.common.audit_paths import leads_out

REFERENCES = "__local_refs"
_REFERENCE = re.compile(r"@\w*(?:::\w*)*")
_IMPORT = re.compile(r"\$import ([\w.]+)")

MODULES = {"ignite", "math", "monai", "np", "numpy", "os", "sys", "time", "torch"}
"""Modules that may be imported. A bundle needs no others: components are named by ``_target_``."""

BUILTINS = {
    *("abs", "all", "any", "bool", "dict", "enumerate", "float", "int", "len", "list", "max", "min", "next", "range"),
    *("reversed", "round", "set", "sorted", "str", "sum", "tuple", "type", "zip"),
}
FUNCTIONS = {
    *("os.path.abspath", "os.path.basename", "os.path.exists", "os.path.isdir", "os.path.isfile", "os.path.join"),
    *("sys.path.insert", "sys.stderr.isatty", "sys.stdout.isatty", "time.strftime"),
    *("math.ceil", "math.floor", "math.log", "math.prod", "math.sqrt"),
    *("torch.cuda.device_count", "torch.cuda.is_available", "torch.device", "torch.tensor"),
    *("torch.distributed.get_rank", "torch.distributed.get_world_size"),
    *("torch.distributed.is_available", "torch.distributed.is_initialized"),
    *("torch.nn.SyncBatchNorm.convert_sync_batchnorm", "ignite.distributed.get_rank"),
    *("monai.handlers.from_engine", "monai.utils.path_to_sqlite_uri", "monai.utils.set_determinism"),
}
VALUES = {
    *("sys.path", "math.inf", "math.pi", "math.nan", "torch.float16", "torch.bfloat16", "torch.float32"),
    *("torch.float64", "torch.int32", "torch.int64", "torch.uint8", "torch.bool"),
    *("torch.__version__", "monai.__version__"),
}
ENVIRONMENT = {"LOCAL_RANK", "RANK", "WORLD_SIZE"}

METHODS = {
    *("run", "to", "parameters", "numel", "network", "cpu", "cuda", "eval", "train", "float", "item", "tolist"),
    *("get", "items", "keys", "values", "index", "count", "split", "strip", "lower", "upper", "startswith", "endswith"),
}
"""Methods that may be called on what a reference or a value is."""

HIDDEN = re.compile(r"_|(gi|cr|ag|tb|co|f|func)_")
CHANGING = {
    *("chmod", "exec", "hardlink_to", "link_to", "load", "mkdir", "mro", "open", "popen", "read_bytes", "read_text"),
    *("remove", "rename", "replace", "rmdir", "save", "symlink_to", "system", "touch", "unlink"),
    *("write", "write_bytes", "write_text", "writelines", "format", "format_map"),
}
"""Attributes that are not even looked up: they touch files or lead to the interpreter's own objects."""

_PLAIN = (
    *(ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.IfExp, ast.BoolOp, ast.UnaryOp),
    *(ast.Compare, ast.Slice, ast.Starred, ast.keyword, ast.expr_context, ast.boolop, ast.operator, ast.unaryop),
    ast.cmpop,
)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def imported_module(text: str) -> str | None:
    """The module of a plain ``$import module``; the empty text for any other import; None when it is no import."""
    if plain := _IMPORT.fullmatch(text):
        return plain[1]
    for code in (text[1:], _rewritten(text)) if "import" in text else ():
        try:
            body = ast.parse(code).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if body and isinstance(body[0], (ast.Import, ast.ImportFrom)):
            return ""
    return None


def check_expression(text: str) -> tuple[list[str], set[str]]:
    """Judges one expression.

    Args:
        text: as it stands in a configuration, with its ``$``.

    Returns:
        What is not allowed, in words, and the ids of references that the expression calls (``@name(...)``), which have
        to be components themselves.
    """
    module = imported_module(text)
    if module is not None:
        return ([] if module.split(".")[0] in MODULES else [f"imports {module or 'names'}"]), set()
    try:
        tree = ast.parse(_rewritten(text).lstrip(" \t"), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [f"is no expression ({error})"], set()
    grammar = _Grammar()
    grammar.visit(tree)
    return grammar.problems, grammar.called


def _rewritten(text: str) -> str:
    """The code that MONAI evaluates for an expression; a reference inside quotes shows up as what it does."""
    return _REFERENCE.sub(lambda match: f"{REFERENCES}['{match[0][1:]}']", text[1:].replace("#", "::"))


class _Grammar(ast.NodeVisitor):
    """Visits a syntax tree; everything that has no rule here is a problem."""

    def __init__(self):
        self.problems: list[str] = []
        self.called: set[str] = set()
        self.local: list[set[str]] = []

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _PLAIN):
            self.problems.append(f"{type(node).__name__} is not allowed")
        super().generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and leads_out(node.value):
            self.problems.append(f"path {node.value!r} leads out of the bundle")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.visit(node.left)
        # In ``folder + '/name'`` the slash is only a separator.
        separated = isinstance(node.op, ast.Add) and not isinstance(node.left, ast.Constant)
        self.visit(_without_slash(node.right) if separated else node.right)

    def visit_Name(self, node: ast.Name) -> None:
        if not self._is_local(node.id) and node.id not in BUILTINS:
            self.problems.append(f"name {node.id!r} is not allowed")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if (dotted := self._dotted(node)) is not None:
            if dotted not in VALUES:
                self.problems.append(f"{dotted} is not allowed")
            return
        hidden = HIDDEN.match(node.attr) and node.attr != "__name__"
        if hidden or node.attr in CHANGING:
            self.problems.append(f"attribute {node.attr!r} is not allowed")
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Name) and node.value.id == REFERENCES:
            if not (isinstance(node.slice, ast.Constant) and node.slice.value):
                self.problems.append("a reference needs a name")
        elif self._dotted(node.value) == "os.environ":
            if not (isinstance(node.slice, ast.Constant) and node.slice.value in ENVIRONMENT):
                self.problems.append(f"of the environment only {', '.join(sorted(ENVIRONMENT))} may be read")
        else:
            self.visit(node.value)
            self.visit(node.slice)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        dotted = self._dotted(function)
        if dotted is not None:
            if dotted not in FUNCTIONS:
                self.problems.append(f"call of {dotted} is not allowed")
            elif dotted == "sys.path.insert" and not _inserts_bundle_root(node):
                self.problems.append("only the bundle's own folder may join the import path")
        elif isinstance(function, ast.Name):
            if self._is_local(function.id) or function.id not in BUILTINS:
                self.problems.append(f"call of {function.id!r} is not allowed")
            elif function.id == "type" and (len(node.args) != 1 or node.keywords):
                self.problems.append("type() may only tell a type")
        elif isinstance(function, ast.Attribute):
            if function.attr not in METHODS:
                self.problems.append(f"call of method {function.attr!r} is not allowed")
            self.visit(function)
        elif (name := _reference(function)) is not None:
            self.called.add(name)
        else:
            self.problems.append("only functions, methods and references may be called")
            self.visit(function)
        for argument in [*node.args, *node.keywords]:
            self.visit(argument)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        arguments = node.args
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                self.visit(default)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        self._inside({argument.arg for argument in every if argument}, [node.body])

    def visit_comprehension_of(self, node: ast.AST) -> None:
        """A comprehension of any kind: its names are known in all its parts."""
        names = {part.id for loop in node.generators for part in ast.walk(loop.target) if isinstance(part, ast.Name)}
        if any(loop.is_async for loop in node.generators):
            self.problems.append("async is not allowed")
        parts = [part for loop in node.generators for part in (loop.target, loop.iter, *loop.ifs)]
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._inside(names, [*parts, *results])

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_comprehension_of

    def _inside(self, names: set[str], nodes: list[ast.AST]) -> None:
        if reserved := names & (MODULES | BUILTINS | {REFERENCES}):
            self.problems.append(f"{', '.join(sorted(reserved))} may not be given another meaning")
        self.local.append(names)
        for node in nodes:
            self.visit(node)
        self.local.pop()

    def _is_local(self, name: str) -> bool:
        return any(name in names for names in self.local)

    def _dotted(self, node: ast.AST) -> str | None:
        """``module.name.name`` if that is what the node says."""
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id in MODULES and not self._is_local(node.id):
            return ".".join([node.id, *reversed(parts)])
        return None


def _without_slash(node: ast.expr) -> ast.expr:
    """A text, or a text that is filled in, without the slash that it begins with."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return ast.Constant(node.value.lstrip("/"))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return ast.BinOp(_without_slash(node.left), node.op, node.right)
    return node


def _reference(node: ast.AST) -> str | None:
    """Id of ``@id``."""
    plain = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == REFERENCES
    return node.slice.value if plain and isinstance(node.slice, ast.Constant) else None


def _inserts_bundle_root(node: ast.Call) -> bool:
    expected = ast.parse(f"sys.path.insert(0, os.path.abspath({REFERENCES}['bundle_root']))", mode="eval").body
    return ast.dump(node) == ast.dump(expected)
