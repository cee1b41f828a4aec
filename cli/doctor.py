"""`rnnspn doctor`: what is installed, what works, and what to do about the rest."""

import json
from typing import Annotated

import typer

from rnnspn.errors import ProviderError

_MARKS = {"works": "ok", "absent": "-", "broken": "!!"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check the installation with a tiny model on every provider.

    Exit code 4 says that something has to be mended.
    """
    from rnnspn.inference.diagnosis import diagnose

    findings = diagnose()
    if as_json:
        typer.echo(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        for finding in findings:
            mend = f"; {'to mend: ' if finding.state == 'broken' else ''}{finding.mend}" if finding.mend else ""
            typer.echo(f"{_MARKS[finding.state]:2}  {finding.what:31} {finding.detail}{mend}")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(ProviderError.exit_code)
