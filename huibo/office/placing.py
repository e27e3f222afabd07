"""Calls that an operator places, and what would become of one. Knows neither HTTP nor the customers' wire."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from huibo import model, rating
from huibo.admission import money
from huibo.admission.admit import Examined
from huibo.model import CallRequest, Choice, Leg
from huibo.numbers import national, parse_caller
from huibo.office.calls import Text64
from huibo.office.errors import Invalid
from huibo.office.fields import Phone, Printable, ShownNumber, Url

Party = Literal["caller", "callee"]
Short = Annotated[Printable, Field(max_length=64)]
Spoken = Annotated[str, Field(max_length=500)]
PressedKey = Annotated[str, Field(pattern=r"^[0-9*#A-D]$")]


class StatusPush(BaseModel, extra="forbid"):
    """A moment of a leg that is to be pushed to `status_url`."""

    leg: Party
    moment: model.Moment

    @property
    def pair(self) -> tuple[Leg, model.Moment]:
        return Leg[self.leg.upper()], self.moment


class NewMenu(BaseModel, extra="forbid"):
    """What the caller hears and may press before the callee is dialled. A key interrupts `prompt` only."""

    notice: Spoken = ""
    prompt: Spoken = ""
    keys: Annotated[dict[PressedKey, Choice], Field(min_length=1)] = Field(examples=[{"1": "connect"}])
    repeats: Annotated[int, Field(ge=0, le=99)] = 3
    male: bool = Field(False, description="the voice")
    key_url: Url | None = Field(None, description="where keys are pushed; null: nowhere")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.notice.strip() and not self.prompt.strip():
            raise ValueError("prompt: required, or notice")
        return self


class NewCall(BaseModel, extra="forbid"):
    """A call that is to be placed: first the caller is dialled, then the callee."""

    app_id: Text64 = Field(examples=["demo"])
    caller: Phone = Field(description="a mobile number")
    callee: Phone = Field(description="a mobile or landline number")
    caller_display: ShownNumber | None = Field(None, description="shown on the caller's phone; null: chosen")
    callee_display: ShownNumber | None = None
    max_talk_s: Annotated[int, Field(ge=1, le=7 * 24 * 3600)] | None = None
    record: bool = False
    menu: NewMenu | None = None
    request_id: Annotated[Printable, Field(max_length=48)] = ""
    biz_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{0,64}$")] = ""
    order_id: Short = ""
    status: Annotated[list[StatusPush], Field(max_length=12)] = Field(
        [], description="which moments are pushed, in the form of the callback API"
    )
    status_url: Url | None = Field(None, description="null: the app's own, as with the others")
    cdr_url: Url | None = None
    record_url: Url | None = None
    last_call_id: Text64 | None = Field(None, description="prefer other trunks than that call's")


class PlacedCall(BaseModel):
    """A call that has been accepted; it is dialled now."""

    call_id: str
    app_id: str
    caller_display: str
    callee_display: str


class Rule(BaseModel):
    """Which check refused a call, the code that a customer would be answered, and why."""

    rule: str
    code: str
    message: str


class Price(BaseModel):
    """What a leg costs, in 1/1000 fen, by the rate of the longest prefix."""

    prefix: str
    per_minute: int
    first_s: int
    next_s: int
    setup: int


class Check(BaseModel):
    """What would become of a call at this moment; nothing was written.

    `per_minute`: of both legs; null: the app pays nothing. `hold`: what would be set aside; null: nothing is.
    `affordable_s`: how long they could talk. `closed`: trunks that take no call now, and why.
    """

    would_go: bool
    refused: Rule | None
    caller_display: str | None
    callee_display: str | None
    caller_route: list[str]
    callee_route: list[str]
    caller_price: Price | None
    callee_price: Price | None
    per_minute: int | None
    hold: int | None
    available: int | None
    affordable_s: int | None
    closed: dict[str, str]


def request_of(new: NewCall, status_mask: int, max_talk_s: int) -> CallRequest:
    """The request of an operator. Raises `Invalid`."""
    if parse_caller(national(new.caller)) is None:
        raise Invalid("caller", "not a mobile number")
    if new.caller == new.callee:
        raise Invalid("callee", "the same number as the caller's")
    if new.max_talk_s is not None and new.max_talk_s > max_talk_s:
        raise Invalid("max_talk_s", f"more than {max_talk_s}, the most that is configured")
    return CallRequest(
        app_id=new.app_id,
        url_id="",
        remote_ip="",
        caller=new.caller,
        callee=new.callee,
        request_id=new.request_id,
        caller_display=new.caller_display,
        callee_display=new.callee_display,
        max_talk_s=new.max_talk_s,
        status_mask=status_mask,
        status_url=new.status_url,
        cdr_url=new.cdr_url,
        record_url=new.record_url,
        biz_id=new.biz_id,
        order_id=new.order_id,
        record=new.record,
        menu=_menu(new.menu) if new.menu else None,
        last_call_id=new.last_call_id,
        by_operator=True,
    )


def _menu(new: NewMenu) -> model.Menu:
    notice, prompt = (" ".join(text.split()) for text in (new.notice, new.prompt))
    return model.Menu(notice, prompt, tuple(new.keys.items()), new.repeats, new.male, new.key_url)


def check_of(examined: Examined) -> Check:
    """What an operator is told of a call that was not placed."""
    facts, call, plan, refused = examined.facts, examined.call, examined.plan, examined.refused
    budget = money.budget(facts)
    return Check(
        would_go=refused is None,
        refused=refused and Rule(rule=refused.rule, code=refused.refusal.code, message=refused.message),
        caller_display=call and call.caller_display,
        callee_display=call and call.callee_display,
        caller_route=list(plan.caller_route) if plan else [],
        callee_route=list(plan.callee_route) if plan else [],
        caller_price=_price(facts.caller_rate),
        callee_price=_price(facts.callee_rate),
        per_minute=budget and budget.caller.per_minute + budget.callee.per_minute,
        hold=budget and budget.hold,
        available=facts.available if budget else None,
        affordable_s=_affordable_s(budget, facts.max_talk_s),
        closed=facts.closed,
    )


def _affordable_s(budget: rating.Budget | None, max_talk_s: int) -> int:
    if budget is None or budget.hold is None:
        return max_talk_s
    return rating.affordable_s(budget, budget.hold, max_talk_s)


def _price(rate: rating.Rate | None) -> Price | None:
    if rate is None:
        return None
    return Price(
        prefix=rate.prefix,
        per_minute=rate.per_minute,
        first_s=rate.first_s,
        next_s=rate.next_s,
        setup=rate.setup,
    )
