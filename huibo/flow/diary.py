"""What the log says of a call: a line for each moment of a leg, and its end. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from huibo.flow.state import CallState, Command, Finish, Tell, TellKey


def tell(log: FilteringBoundLogger, before: CallState, state: CallState, commands: Sequence[Command]) -> None:
    """Tell of a step from one state to the next."""
    for command in commands:
        match command:
            case Tell(report=report):
                reason = state.leg(report.leg).record.reason
                log.info(
                    f"leg {report.moment}",
                    leg=report.leg.name.lower(),
                    reason=reason and reason.value,
                    sip=report.sip_code,
                )
            case TellKey(key=key):
                log.info("key pressed", key=key)
            case Finish(cdr=cdr):
                log.info("call over", result=cdr.result.value, talk_s=cdr.talk_s, billed_s=cdr.billed_s)
    if state.talking and not before.talking:
        log.info("legs joined")
