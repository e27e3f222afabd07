"""A small run in which every promise was kept, made by the product's own machine and storage: what the
checker must find nothing wrong with, and what its tests then spoil.

Plays no call: what engine and phones would have said is written down here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from sqlalchemy import Connection

from huibo.engine.events import KeyPressed, LegAnswered, LegEnded, LegEvent, LegInvited, LegRinging
from huibo.flow.machine import step
from huibo.flow.state import (
    CallState,
    Cancel,
    Event,
    Finish,
    LineFree,
    Plan,
    PromptsReady,
    Start,
    Tell,
    TellKey,
    Tick,
)
from huibo.model import (
    App,
    AppSettings,
    Call,
    CallResult,
    Choice,
    IdempotencyKey,
    Leg,
    Menu,
    Prompts,
    Push,
)
from huibo.push.signing import id_of
from huibo.rating import PER_YUAN, Budget, Rate, cost
from huibo.recording.store import key_of
from huibo.sandbox.journal import PhoneEvent, PhoneMoment
from huibo.storage import accounts, outbox, rates, recordings
from huibo.storage.calls import add_call, save_step
from huibo.storage.catalog import add_app
from huibo.storage.database import open_engine
from huibo.storage.idempotency import remember
from huibo.storage.migrate import migrate
from huibo.storage.tables import pushes
from huibo.wire.notifier import WireNotifier
from tests.faults.evidence import Answer, Arrived, Asked, Evidence, Held
from tests.faults.true_sound import tone, write_heard

BEGAN = 1_763_817_738_000
PREPAID, FREE = "prepaid", "demo"
CREDIT_YUAN = "40"
HEARD = "heard"  # the folder of what the phones recorded
LIMITS = {"calls_at_once": 2, "calls_per_second": 2}
_RATE = Rate("86", 6000, first_s=3, next_s=1)
_ROUTE = ("sandbox", "second")
_RECEIVER = "http://127.0.0.1:9"
A, B = Leg
Phone = PhoneMoment


@dataclass(frozen=True)
class Wish:
    """What is asked for: the last digits of both phones, and what is special about it."""

    caller: str
    callee: str
    app: str = PREPAID
    at_s: float = 0
    fields: tuple[tuple[str, str], ...] = ()


class Story:
    """One call as it goes, told step by step; times are ms from the request."""

    def __init__(self, world: TrueWorld, name: str, wish: Wish) -> None:
        serial = len(world.evidence.asked) + 1
        self.world, self.app, self.sent_at = world, wish.app, BEGAN + round(wish.at_s * 1000)
        self.numbers = {A: f"138{serial:06d}{wish.caller}", B: f"139{serial:06d}{wish.callee}"}
        self.body = {
            "appId": wish.app,
            "src": f"0086{self.numbers[A]}",
            "dst": f"0086{self.numbers[B]}",
            "statusFlag": "16191",
            "maxAllowTime": "1",
            **{f"{url}Url": f"{_RECEIVER}/{kind}" for url, kind in _URLS.items()},
            **dict(wish.fields),
        }
        self.asked = Asked(f"key-{serial}", self.body, self.sent_at)
        world.evidence.asked.append(self.asked)
        self.call_id = f"12-251122-{serial:032x}"
        world.ids[name] = self.call_id

    def accept(self, answered: bool = True, dialled: bool = True) -> None:
        at, priced = self.sent_at + 10, self.app == PREPAID
        menu = json.loads(self.body.get("preCallerHandle", "null"))
        plan = Plan(30, 12, 12, 60, caller_route=_ROUTE, callee_route=_ROUTE, record=self.recorded)
        if menu is not None:
            choices = tuple((one["key"], _CHOICES[one["operate"]]) for one in menu["keyList"])
            prompt, url = menu["interruptPrompt"], menu["keyPressUrl"]
            plan = replace(plan, menu=Menu("", prompt, choices, int(menu["repeatTimes"]), key_url=url))
        if priced:
            free = Budget(_RATE, _RATE)
            plan = replace(plan, budget=replace(free, hold=cost(free, 72_000, 60_000)))
        self.call = Call(
            call_id=self.call_id,
            app_id=self.app,
            request_id="",
            caller=f"+86{self.numbers[A]}",
            callee=f"+86{self.numbers[B]}",
            caller_display="02131264133",
            callee_display="02131264133",
            caller_trunk=_ROUTE[0],
            callee_trunk=_ROUTE[0],
            max_talk_s=60,
            accepted_at=at,
            status_mask=int(self.body["statusFlag"]),
            status_url=self.body["statusUrl"],
            cdr_url=self.body["hangupUrl"],
            record_url=self.body["recordUrl"],
            record=self.recorded,
            key_url=plan.menu.key_url if plan.menu else None,
            recognise_ringing="ringRecognition" in self.body,
        )
        self.state = CallState(at, plan)
        add_call(self.world.database, self.call, self.state)
        if plan.budget is not None:
            accounts.hold(self.world.database, self.app, self.call_id, plan.budget.hold or 0, at)
        key = IdempotencyKey(self.asked.key, "0" * 64)
        remember(self.world.database, self.app, key, self.call_id, at)
        if answered:
            self.asked.answers.append(Answer(at + 5, "0", self.call_id))
        if dialled:
            self.take(20, Start(0))

    @property
    def recorded(self) -> bool:
        return self.body.get("record") == "1"

    def take(self, after: int, event: Event) -> None:
        """An event, and the step that follows, as a runner stores it."""
        at, database = self.sent_at + after, self.world.database
        own = {"call_id": self.call_id} if isinstance(event, LegEvent) else {}
        event = replace(event, at=at, **own)  # type: ignore[arg-type]
        self.state, commands = step(self.call_id, self.state, event)
        owed: list[Push] = []
        cdr = None
        for command in commands:
            if isinstance(command, Tell):
                owed += _notifier.on_moment(self.call, command.seq, command.report)
            elif isinstance(command, TellKey):
                owed += _notifier.on_key(self.call, command.seq, command.key)
            elif isinstance(command, Finish):
                cdr = command.cdr
                owed += _notifier.on_cdr(self.call, command.seq, cdr)
        save_step(database, self.call, self.state, owed, cdr, at)
        if cdr is not None and self.recorded and cdr.result is CallResult.TALKED:
            assert cdr.callee.answered_at is not None
            talk_ms = cdr.ended_at - cdr.callee.answered_at
            recordings.add_recording(database, self.call_id, self.app, talk_ms, at)

    def saw(self, after: int, leg: Leg, moment: Phone, carrier: str = "sandbox", **more: Any) -> None:
        at, number = datetime.fromtimestamp((self.sent_at + after) / 1000, UTC), self.numbers[leg]
        event = PhoneEvent(at, number, "02131264133", moment, f"{number}.{carrier}", **more)
        self.world.evidence.phones[carrier].append(event)

    def ringing(self, after: int, leg: Leg, carrier: str = "sandbox") -> None:
        self.take(after, LegInvited("", leg, 0))
        self.saw(after + 2, leg, Phone.INVITED, carrier)
        self.take(after + 10, LegRinging("", leg, 0))
        self.saw(after + 8, leg, Phone.RINGING, carrier)

    def answered(self, after: int, leg: Leg, carrier: str = "sandbox") -> None:
        """Rings for a second and is answered."""
        self.ringing(after, leg, carrier)
        self.take(after + 1010, LegAnswered("", leg, 0))
        self.saw(after + 1005, leg, Phone.ANSWERED, carrier, heard=f"{self.call_id}-{leg.value}.wav")
        live = [f"{self.call_id}-{one.value}" for one in Leg if self.state.leg(one).alive]
        look = Held(self.sent_at + after + 1500, "engine", live, [self.call_id])
        self.world.evidence.held.append(look)

    def gone(self, after: int, leg: Leg, by: str = "network", carrier: str = "sandbox") -> None:
        self.saw(after - 2, leg, Phone.HUNG_UP, carrier, by=by)
        self.take(after, LegEnded("", leg, 0))

    def refused(self, after: int, leg: Leg, code: int, carrier: str = "sandbox") -> None:
        self.saw(after - 2, leg, Phone.REFUSED, carrier, code=code)
        self.take(after, LegEnded("", leg, 0, sip_code=code))

    def talk(self, seconds: float = 5) -> None:
        """Both answer, the callee hangs up."""
        self.answered(30, A)
        self.answered(1050, B)
        end = 2060 + round(seconds * 1000)
        self.gone(end, B, by="phone")
        self.gone(end + 20, A)


class TrueWorld:
    """`TrueWorld(folder)` makes the run: `evidence`, and the ids of its calls by name."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder}/huibo.sqlite3"
        settings = {
            "dispatch_deadline_s": 30,
            "limits": {PREPAID: LIMITS},
            "credit_yuan": {PREPAID: CREDIT_YUAN},
        }
        heard = {name: folder / HEARD / name for name in _ROUTE}
        phones: dict[str, list[PhoneEvent]] = {name: [] for name in _ROUTE}
        self.evidence = Evidence(url, settings, folder / "recordings", phones=phones, heard=heard)
        self.ids: dict[str, str] = {}
        engine = open_engine(url)
        migrate(engine)
        with engine.begin() as connection:
            self.database: Connection = connection
            self._set_up()
            self._tell()
            for story, kept in self._recorded:
                self._record(story, kept)
            self._deliver()
        engine.dispose()
        write_heard(self.evidence)

    def _set_up(self) -> None:
        paying = AppSettings(rate_plan="seconds", prepaid=True, calls_per_second=2, calls_at_once=2)
        add_app(self.database, App(PREPAID, PREPAID, settings=paying), BEGAN)
        add_app(self.database, App(FREE, FREE), BEGAN)
        rates.put_rate(self.database, "seconds", _RATE, "", BEGAN)
        accounts.pay_in(self.database, PREPAID, int(CREDIT_YUAN) * PER_YUAN, "faults", "", BEGAN)

    def _story(self, name: str, caller: str, callee: str, at_s: float, **more: Any) -> Story:
        fields = tuple(more.pop("fields", {}).items())
        return Story(self, name, Wish(caller, callee, at_s=at_s, fields=fields, **more))

    def _tell(self) -> None:
        recorded = {"record": "1"}
        talk = self._story("talk", "00", "01", 0, fields=recorded)
        talk.accept()
        talk.asked.answers.append(Answer(talk.sent_at + 40, "0", talk.call_id))  # the same key once more
        talk.talk()
        silent = self._story("silent", "00", "24", 1, fields=recorded)
        silent.accept()
        silent.talk(3)
        refused = self._story("refused", "00", "01", 2)
        refused.asked.answers.append(Answer(refused.sent_at + 8, "-423"))
        self._failover()
        self._menu()
        withdrawn = self._story("withdrawn", "00", "01", 120, app=FREE)
        withdrawn.accept()
        withdrawn.take(30, LegInvited("", A, 0))
        withdrawn.saw(32, A, Phone.INVITED)
        withdrawn.take(60, Cancel(0))
        withdrawn.gone(80, A)
        unheard = self._story("answer lost", "04", "01", 150, app=FREE)
        unheard.accept(answered=False)
        unheard.ringing(30, A)
        unheard.take(12_030, Tick(0))
        unheard.gone(12_060, A)
        failed = self._story("not recorded", "00", "02", 180, app=FREE, fields=recorded)
        failed.accept()
        failed.talk(15)
        nobody = self._story("recognised", "00", "05", 210, app=FREE, fields={"ringRecognition": "1"})
        nobody.accept()
        nobody.answered(30, A)
        nobody.take(1050, LegInvited("", B, 0))
        nobody.saw(1052, B, Phone.INVITED)
        nobody.refused(1070, B, 486)
        nobody.gone(1090, A)
        twin = self._story("undialled", "00", "01", 240, app=FREE)
        twin.accept(dialled=False)
        twin.take(25, Cancel(0))
        self._recorded = [(talk, True), (silent, True), (failed, False)]

    def _failover(self) -> None:
        story = self._story("failover", "09", "01", 60)
        story.accept()
        story.take(30, LegInvited("", A, 0))
        story.saw(32, A, Phone.INVITED)
        story.refused(40, A, 503)
        story.take(50, LineFree(A, "second", 0))
        story.answered(60, A, "second")
        story.answered(1080, B)
        story.gone(6000, B, by="phone")
        story.gone(6020, A, carrier="second")

    def _menu(self) -> None:
        menu = {
            "interruptPrompt": "请按一",
            "keyList": [{"key": "1", "operate": "1"}],
            "repeatTimes": "1",
            "keyPressUrl": f"{_RECEIVER}/key",
        }
        fields = {"preCallerHandle": json.dumps(menu)}
        story = self._story("menu", "11", "01", 90, app=FREE, fields=fields)
        story.accept()
        story.take(25, PromptsReady(0, Prompts(None, "/p.wav", prompt_s=2.0)))
        story.answered(30, A)
        story.saw(3000, A, Phone.PRESSED, key="1")
        story.take(3010, KeyPressed("", A, 0, key="1"))
        story.answered(3030, B)
        story.gone(9000, B, by="phone")
        story.gone(9020, A)

    def _record(self, story: Story, kept: bool) -> None:
        """Finished as a worker would have, or not."""
        now = story.sent_at + 40_000
        (held,) = (
            one
            for one in recordings.due_recordings(self.database, now, now + 1, 10)
            if one.call_id == story.call_id
        )
        if not kept:
            recordings.mark_failed(self.database, held, "empty audio", now)
            return
        key = key_of(story.call_id, held.created_at, "wav")
        path = self.evidence.recordings / key
        path.parent.mkdir(parents=True, exist_ok=True)
        voices = [tone(story.numbers[leg], held.talk_ms / 1000) for leg in Leg]
        if story.numbers[B].endswith("24"):
            voices[1] *= 0
        soundfile.write(path, np.stack(voices, axis=1), 8000, subtype="PCM_16")
        done = recordings.Kept(key, "wav", path.stat().st_size, "0" * 64, held.talk_ms)
        assert recordings.mark_ready(self.database, held, done, now, now + 10**9)
        found = recordings.call_and_seq(self.database, held)
        assert found is not None
        outbox.add_pushes(self.database, _notifier.on_recording(*found, f"{_RECEIVER}/{key}"), now)

    def _deliver(self) -> None:
        """All that is owed, in the order in which it may leave; the CDR of one call is refused for good."""
        created = {row.id: row for row in self.database.execute(_pending)}
        while waiting := outbox.waiting(self.database, BEGAN + 10**9):
            for push in outbox.due_pushes(self.database, waiting[0].receiver, BEGAN + 10**9, 100):
                answered, state = "200", outbox.DELIVERED
                if push.call_id == self.ids["answer lost"] and push.kind == "cdr":
                    answered, state = "500", outbox.DEAD
                at = created[push.id].created_at + 20 + push.seq
                named = id_of(push.call_id, push.seq)
                arrived = Arrived(at, "good", push.kind, json.loads(push.body), named, answered)
                self.evidence.arrived.append(arrived)
                outbox.save_verdicts(self.database, [outbox.Verdict(push, state, at)])


_URLS = {"status": "status", "hangup": "cdr", "record": "recording"}
_CHOICES = {"1": Choice.CONNECT, "2": Choice.REPLAY, "3": Choice.RELEASE}
_notifier = WireNotifier()
_pending = pushes.select()
