"""`debt-mgmt doctor`: what is wrong with the service and the machine it runs on, and which protections are OFF."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from debt_mgmt.client.channel import is_local
from debt_mgmt.server.cli.findings import STYLES, Finding, State, off, skipped
from debt_mgmt.server.cli.output import Output
from debt_mgmt.server.cli.serve import http_of, protections
from debt_mgmt.server.cli.session import NEAR, Exit, Json, Target, finish
from debt_mgmt.server.cli.tables import table
from debt_mgmt.server.cli.wording import counted


def doctor(
    config: Annotated[
        Path | None, typer.Option(help="YAML file that the service runs with.", envvar="DEBT_MGMT_CONFIG")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the service's own PostgreSQL.")] = None,
    http: Annotated[
        str | None, typer.Option(metavar="URL", help="Where its HTTP listens; else where the settings say.")
    ] = None,
    target: Target = NEAR,
    as_json: Json = False,
) -> None:
    """Examine clock, database, disk, prices, keys, certificates and journal, and say which protections are OFF.

    Nothing is changed or started; it works while the service is down, too. Exit status 0: nothing is wrong. 1:
    something is. What is OFF or could not be looked at is told and is not wrong.
    """
    output = Output(as_json)

    async def work() -> Exit:
        findings = await examine(config, data_dir, http, target)
        wrong = [one for one in findings if one.state is State.WRONG]
        output.document(healthy=not wrong, target=target, findings=findings)
        output.show(findings_table(findings), conclusion(findings))
        return Exit.REFUSED if wrong else Exit.OK

    finish(output, target, work())


async def examine(config: Path | None, data_dir: Path | None, http: str | None, target: str) -> list[Finding]:
    """Everything that was found, in the order in which one would look."""
    from debt_mgmt.server.cli.doctor_here import examine_here, settings_here
    from debt_mgmt.server.cli.doctor_service import examine_service

    settings, findings = settings_here(config, data_dir)
    where = http or (http_of(settings, settings.server.metrics_port) if settings is not None else None)
    there = await examine_service(target, where)
    findings += there.findings
    if not is_local(target):
        findings.append(skipped("machine", f"{target} is another machine: its database, disk and keys are seen there"))
    elif settings is not None:
        findings += await examine_here(settings, serving=there.answers)
    if settings is not None and not there.answers:
        findings += [
            off(name, f"{words} is not limited") for name, is_on, words in protections(settings.risk) if not is_on
        ]
    return findings


def findings_table(findings: list[Finding]) -> Table:
    made = table("", "what", "found")
    for one in findings:
        words = Text(one.words)
        if one.remedy:
            words.append(f"\n→ {one.remedy}", "cyan")
        made.add_row(Text(one.state.value, STYLES[one.state]), one.subject, words)
    return made


def conclusion(findings: list[Finding]) -> Text:
    counts = {state: sum(one.state is state for one in findings) for state in State}
    parts = [f"{counted(counts[State.OFF], 'protection')} OFF", f"{counts[State.UNKNOWN]} not looked at"]
    if counts[State.WRONG]:
        return Text(f"{counted(counts[State.WRONG], 'thing is', 'things are')} wrong; {', '.join(parts)}", "bold red")
    return Text(f"nothing is wrong; {', '.join(parts)}", "green")
