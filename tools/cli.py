"""The `chipproof` command: a table of verbs; each is a module of tools/, imported only when it is used."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from harness.errors import HarnessError, closed
from tools.language import LangOption, read_in, reader, speaking

VERBS: dict[str, tuple[str, str]] = {
    "doctor": ("tools.doctor", "Say what is here: packages, chips, data, weights, cache, disk."),
    "fetch": ("tools.fetch", "Say where weights and data sets come from, and download what has a published digest."),
    "export": ("tools.export", "Export a model to ONNX."),
    "build": ("tools.build", "Compile a model for a chip."),
    "preprocess": ("tools.preprocess", "Write the .bin and .info files that benchmark, msame and ais_bench read."),
    "run": ("tools.run", "Run the conformance tests of some cases, through pytest."),
    "check": ("tools.check", "Test an ONNX file of your own on a chip, through pytest."),
    "evaluate": ("tools.evaluate", "Score the result files of benchmark, msame, ais_bench or the MLU programs."),
    "logs": ("tools.logs", "Judge the throughput in the logs of the vendors' own tools."),
    "baselines": ("tools.baselines", "Show and check the published figures."),
    "policy": ("tools.policy", "Show a lab's policy file, or add rows for the failures of a run."),
    "selftest": ("tools.selftest", "Say how often verdicts are wrong on healthy chips, and list the planted faults."),
    "report": ("tools.report", "Show, merge and convert the records of runs."),
    "verify": ("tools.verify", "Compute the verdicts of a run again, from the data kept with them."),
    "compare": ("tools.compare", "Say what changed between two runs."),
    "history": ("tools.history", "Show a case over many runs, and since which run a figure differs."),
    "clean": ("tools.clean", "Show and remove what an interrupted run left, and old files of the cache."),
    "diagnose": ("tools.diagnose", "Find the first diverging layer, and the mistake that explains it."),
}
"""Verb -> module with a function `command`, and the verb's line in the overview."""

EXAMPLES = {
    "doctor": "chipproof doctor --data /datasets --sdk-python /usr/bin/python3",
    "fetch": "chipproof fetch regnety_016 --data /datasets --download",
    "export": "chipproof export regnety_016 --out regnety.onnx",
    "build": "chipproof build regnety_016-ascend310p-fp16-bs16 --out regnety.om",
    "preprocess": "chipproof preprocess regnety_016 --images pictures --out prepared",
    "run": "chipproof run 'ascend310p and bs1' --require ascend310p",
    "check": "chipproof check model.onnx --chip ascend310p",
    "evaluate": "chipproof evaluate regnety_016 --outputs out --format msame --data /datasets",
    "logs": "chipproof logs msame.log --chip ascend310 --model regnety_016 --batch 16",
    "baselines": "chipproof baselines lint",
    "policy": "chipproof policy update results",
    "selftest": "chipproof selftest --runs 100 --no-faults",
    "report": "chipproof report results --html report.html",
    "verify": "chipproof verify results",
    "compare": "chipproof compare yesterday.jsonl today.jsonl --md changes.md",
    "history": "chipproof history regnety_016-ascend310p-fp16-bs16 --results results",
    "clean": "chipproof clean --older 30 --remove",
    "diagnose": "chipproof diagnose regnety_016-ascend310p-fp16-bs16",
}
"""Verb -> the command that ends its help."""

HELP = {"help_option_names": ["-h", "--help"]}
PASSED, FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130
# of click, which this release of typer may have as a package or within itself
MISUSE: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def app(verb: str | None) -> Any:
    """The application, a group of click's. Only the module of `verb` is imported; the other verbs have their overview
    line only."""
    root = typer.Typer(
        name="chipproof",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=HELP,
    )
    for name, (module, line) in VERBS.items():
        command = import_module(module).command if name == verb else _unnamed
        passes_on = {"allow_extra_args": True, "ignore_unknown_options": True}
        settings = HELP | (passes_on if getattr(command, "passes_on", False) else {})
        example = f"\b\nExample: {EXAMPLES[name]}"  # on one line, so that it can be copied
        root.command(name, short_help=line, epilog=example, context_settings=settings)(command)
    root.callback()(_overview)
    return speaking(typer.main.get_command(root))


def _show_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        print(f"chipproof {metadata.version('chipproof')}")
        raise typer.Exit


def _overview(
    version: Annotated[
        bool, typer.Option("--version", help="show the version and exit", is_eager=True, callback=_show_version)
    ] = False,
    lang: LangOption = None,
) -> None:
    """Conformance of AI inference chips.

    Exit status: 0 passed, 1 a check failed, 2 could not run. run, check and report also end with 10 (a measurement
    cannot be trusted), 11 (the laboratory has a fault) and 12 (a required chip was not decided)."""


def _unnamed() -> None:
    """The placeholder of a verb whose module is not imported."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the verb that `argv` names and exit with its status, 2 where it could not run."""
    _replace_what_cannot_be_shown()
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in _completed() or arguments if word in VERBS), None)
    with read_in(arguments):
        _run(verb, _behind(verb, arguments))


def _behind(verb: str | None, arguments: Sequence[str]) -> list[str]:
    """The command line with a --lang before the verb put behind it, where a verb that passes options on finds it."""
    at = arguments.index(verb) if verb in arguments else 0
    before, after = list(arguments[:at]), list(arguments[at:])
    for number, word in enumerate(before):
        if word.startswith("--lang"):
            count = 1 if "=" in word else 2
            return [*before[:number], *before[number + count :], *after, *before[number : number + count]]
    return [*before, *after]


def _run(verb: str | None, arguments: Sequence[str]) -> None:
    words, name, command = list(arguments), "chipproof", app(verb)
    if verb is not None and words[:1] == [verb]:
        # the verb itself: the group would read its own options first, and for one that is not given typer imports
        # Pydantic, which takes as long as all the rest of a page of help
        words, name, command = words[1:], f"{name} {verb}", command.commands[verb]
    try:
        sys.exit(command(words, prog_name=name, standalone_mode=False) or PASSED)
    except MISUSE as error:
        correct(error)
        sys.exit(COULD_NOT_RUN)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except (HarnessError, PermissionError) as error:
        refuse(closed(error) if isinstance(error, PermissionError) else error, arguments)
        sys.exit(COULD_NOT_RUN)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer exits with 1, which would mean "a check failed"
            sys.exit(COULD_NOT_RUN)
        raise
    except Exception:  # the status of a crash must not read as "a check failed"
        traceback.print_exc()
        t = reader(sys.stderr)
        print(f"chipproof: {t('this is a defect of chipproof itself, please report it')}", file=sys.stderr)
        sys.exit(COULD_NOT_RUN)


def _completed() -> list[str]:
    """Words of the command line that a shell asks to complete, without the program's name; [] where none asks."""
    if "_CHIPPROOF_COMPLETE" not in os.environ:
        return []
    return (os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")).split()[1:]


def _replace_what_cannot_be_shown() -> None:
    """Replace characters that the terminal's encoding lacks, instead of ending with an error.

    On standard output the replacement is `?`, which keeps JSON valid."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def correct(error: Any) -> None:
    """Print what is wrong with the command line, an exception of click's, in the reader's language; of a call without
    any word the help."""
    t, context, said = reader(sys.stderr), getattr(error, "ctx", None), error.format_message()
    asked_nothing = context is not None and said == context.get_help()
    if context is not None and not asked_nothing:
        print(t(context.get_usage()), file=sys.stderr)
        print(t("Try '{command}' for help.", command=f"{context.command_path} --help"), file=sys.stderr, end="\n\n")
    print(said if asked_nothing else t("Error: {text}", text=t(said)), file=sys.stderr)


def refuse(error: HarnessError, arguments: Sequence[str]) -> None:
    """Print the fact and the next step to standard error, without a traceback; with --json also JSON to standard
    output, in English whatever the language."""
    from harness.report.messages import refusal

    if "--json" in arguments:
        print(json.dumps({"error": error.stage, "fact": error.fact, "next": error.hint}, ensure_ascii=False))
    print(f"chipproof: {refusal(error, reader(sys.stderr))}", file=sys.stderr)


if __name__ == "__main__":
    main()
