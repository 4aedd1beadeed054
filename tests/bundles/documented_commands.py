"""Commands in documents: found, expanded and checked against what they call, without running them."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import fire
import monai.bundle
from monai.bundle import ConfigParser

from custom_apps.cli import parser as command_line
from custom_apps.common.fold_run import run_folds
from tests.bundles.bundle_cli import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("bundles/*/docs/README.md"))]
SHELL = ("", "bash", "sh", "shell", "console")
# What commands print or hold; read by people only.
SHOWN = ("text", "yaml", "json", "python")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BUNDLE_COMMANDS = {
    name: getattr(monai.bundle, name)
    for name in ("run", "download", "download_large_files", "verify_metadata", "verify_net_in_out", "ckpt_export")
} | {"onnx_export": monai.bundle.onnx_export}
# Further arguments of these functions are ids of the configuration.
WITH_IDS = ("run", "verify_net_in_out", "ckpt_export", "onnx_export")


@dataclass(frozen=True)
class Command:
    """A command as a document prints it.

    Attributes:
        document: where it stands.
        words: its words, with variables of the document filled in.
    """

    document: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)

    def filled(self, **placeholders: object) -> Command:
        """The command with words, or parts of a path, replaced by what they stand for."""
        pattern = re.compile(r"(?<![A-Za-z_])(" + "|".join(placeholders) + r")(?![A-Za-z_])")
        words = (pattern.sub(lambda found: str(placeholders[found[0]]), word) for word in self.words)
        return Command(self.document, tuple(words))


def blocks(document: Path) -> list[tuple[str, str]]:
    """Language and text of every fenced block."""
    return FENCE.findall(document.read_text(encoding="utf-8"))


def commands(document: Path) -> list[Command]:
    """The shell commands of a document in order."""
    found: list[Command] = []
    variables: dict[str, str] = {}
    for language, text in blocks(document):
        assert language in SHELL + SHOWN, f"{document}: what is a block of {language!r}?"
        if language not in SHELL:
            continue
        for line in text.replace("\\\n", " ").splitlines():
            line = line.removeprefix("$ ")
            line = re.sub(r"\$(\w+)", lambda name: variables[name[1]], line)
            words = shlex.split(line, comments=True)
            if len(words) == 1 and (assigned := re.fullmatch(r"(\w+)=(.*)", words[0])):
                variables[assigned[1]] = assigned[2]
            elif words:
                found.append(Command(document, tuple(words)))
    return found


def check(command: Command) -> None:
    """Checks that what a command calls is there: programs, subcommands, files, options and ids of configurations.

    Raises:
        AssertionError, SystemExit: if something is not.
    """
    match command.words:
        case ("make", *_):
            made = subprocess.run([*command.words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
        case (".", ".venv/bin/activate"):
            assert "VENV := .venv" in (ROOT / "Makefile").read_text()
        case ("sha256sum", _):
            pass
        case ("python", "-m", "custom_apps", "folds", bundle, *options):
            check_folds(bundle, options)
        case ("python", "-m", "custom_apps", *arguments):
            command_line().parse_args(arguments)
        case ("python", "-m", "monai.bundle", name, *options):
            check_bundle_command(name, options)
        case _:
            raise AssertionError(f"{command.document}: nobody knows how to check {command}")


def options_of(words: list[str]) -> dict[str, object]:
    """Options as Fire reads them; what stands before them has no name."""
    given: dict[str, object] = {}
    fire.Fire(lambda *positional, **options: given.update(options), command=words, serialize=lambda _: "")
    return given


def check_bundle_command(name: str, words: list[str]) -> None:
    """Checks a command of MONAI."""
    assert name in BUNDLE_COMMANDS, name
    options = options_of(words)
    unknown = options.keys() - inspect.signature(BUNDLE_COMMANDS[name]).parameters.keys()
    if name not in WITH_IDS:
        assert not unknown, f"{name} has no {unknown}"
        return
    files = options["config_file"]
    check_ids([files] if isinstance(files, str) else list(files), unknown, options.get("tracking"))


def check_folds(bundle: str, words: list[str]) -> None:
    """Checks a cross-validation: overlays exist, and ids in the merged configuration."""
    options = options_of(words)
    overlays = options.get("overlays", [])
    names = ["train", *([overlays] if isinstance(overlays, str) else overlays)]
    unknown = options.keys() - inspect.signature(run_folds).parameters.keys()
    check_ids([f"bundles/{bundle}/configs/{name}.yaml" for name in names], unknown, options.get("tracking"))


def check_ids(files: list[str], ids: set[str], tracking: object = None) -> None:
    """Checks that configurations exist, can be merged and parsed, and have every id."""
    missing = [file for file in files if not (ROOT / file).is_file()]
    assert not missing, f"there is no {missing}"
    parser = ConfigParser()
    parser.read_config([str(ROOT / file) for file in files])
    known = set(parser.get())
    if tracking is not None:
        known |= {"tracking_uri", "experiment_name", "run_name", "save_execute_config"}
        assert tracking == "mlflow" or (ROOT / str(tracking)).is_file(), tracking
    for name in ids:
        assert name in known or name in parser, f"{files} have no id {name!r}"
    parser.parse()
