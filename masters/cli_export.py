"""The option `--export` of `masters evaluate`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from masters.config.run import RunConfig
    from masters.data.storage import Storage

_FORMATS = ("vlmevalkit",)

Target = Annotated[
    tuple[str, str] | None,
    typer.Option(
        metavar="vlmevalkit DIR",
        help="Write the predictions of benchmarks as VLMEvalKit does, to a folder, so that it can score them.",
        show_default=False,
    ),
]


def with_export(evaluate: Callable[[Path, list[str] | None, bool], None]) -> Callable[..., None]:
    """The command of the stage, with the option: what is evaluated already is only written."""

    def command(
        recipe: Annotated[Path, typer.Argument(help="A YAML file; `masters init` writes one.", show_default=False)],
        override: Annotated[
            list[str] | None, typer.Option("--set", help="Override a field: --set train.lr=1e-5. Repeatable.")
        ] = None,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="Show what Ray, vLLM and DeepSpeed print.")
        ] = False,
        export: Target = None,
    ) -> None:
        if export is None:
            evaluate(recipe, override, verbose)
            return
        from masters.config.load import load_recipe

        config = load_recipe(recipe, override or ())
        target = check(config, export)  # before the stage, which may take long
        evaluate(recipe, override, verbose)
        from masters.pipeline import run_directory

        for line in _exported(config, run_directory(config), target):
            typer.echo(line)

    return command


def check(config: "RunConfig", wanted: tuple[str, str]) -> "Storage":
    """The folder of `--export`. Raises ValueError where something stands against it."""
    from masters.data.storage import Storage

    kind, folder = wanted
    if kind not in _FORMATS:
        raise ValueError(f"--export {kind}: no such format. Formats: {', '.join(_FORMATS)}.")
    if not config.evaluate.benchmarks:
        raise ValueError(
            "--export: the recipe asks no benchmark, and its own split is not VLMEvalKit's. Add evaluate.benchmarks."
        )
    target = Storage(folder)
    if target.names():
        raise ValueError(f"--export {folder}: is there already, and is no empty folder. Name another folder.")
    return target


def _exported(config: "RunConfig", run: "Storage", target: "Storage") -> Iterator[str]:
    """Write the files; what was written, what was left out, and the command that scores the last one."""
    from masters.benchmarks.export import export

    found = export(config, run, target)
    yield f"export   {len(found.files)} files -> {target.uri}"
    yield from (f"export   {why}" for why in found.left_out)
    if found.files:
        yield f"next     with VLMEvalKit: PRED_FORMAT=tsv vlmutil eval {target.address(found.files[-1])}"
