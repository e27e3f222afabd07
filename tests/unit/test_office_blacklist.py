"""The office's blacklist: entries by hand, and files of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, func, select

from huibo.model import App
from huibo.office import audit, blacklist, blacklist_import
from huibo.office.author import Author
from huibo.office.blacklist import Kind, Listed
from huibo.office.blacklist_import import Import, expiry, import_csv
from huibo.office.errors import Invalid, NotFound
from huibo.storage import catalog, tables
from huibo.storage.blacklist import Direction
from huibo.storage.database import open_engine
from huibo.storage.migrate import migrate

ME = Author("cli:me", "cli", 1)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path}/office.sqlite3")
    migrate(engine)
    with engine.begin() as connection:
        catalog.add_app(connection, App("shop", "shop"), 1)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


@pytest.fixture
def transact(engine: Engine) -> blacklist_import.Transact:
    def transact(work: Callable[[Connection], None]) -> None:
        with engine.begin() as connection:
            work(connection)

    return transact


def test_an_entry_comes_and_goes_in_somebodys_name(connection: Connection) -> None:
    entry = blacklist.put(connection, ME, Listed(number="138 0013-8000", app="shop", reason="a"))
    assert entry.number == "8613800138000"
    changed = blacklist.put(connection, ME, Listed(number="+8613800138000", app="shop", reason="b"))
    assert blacklist.page(connection).items == [changed]
    with pytest.raises(NotFound, match="no blacklist"):
        blacklist.remove(connection, ME, Listed(number="13800138000"))
    blacklist.remove(connection, ME, Listed(number="13800138000", app="shop"))
    assert blacklist.page(connection).items == []
    noted = [(n.action, n.subject, n.author) for n in audit.page(connection).items]
    subject = "shop/both/8613800138000"
    assert noted == [(action, subject, "cli:me") for action in ("remove", "change", "add")]


@pytest.mark.parametrize("number", ["", "all", "1380013800x", "１３８", "1" * 16, "++86"])
def test_what_is_no_number_is_refused(connection: Connection, number: str) -> None:
    with pytest.raises(ValueError, match="number"):
        Listed(number=number)
    with pytest.raises(Invalid, match="number: "):
        blacklist.page(connection, number=number)


def test_an_entry_of_an_app_that_is_not_there_is_refused(connection: Connection) -> None:
    with pytest.raises(Invalid, match="app: no app nobody"):
        blacklist.put(connection, ME, Listed(number="110", app="nobody"))
    assert blacklist.page(connection).items == []


def test_it_is_listed_in_pages_and_by_what_it_concerns(connection: Connection) -> None:
    for number in ("13800138000", "13800138001", "138", "139"):
        for kind in Kind:
            blacklist.put(connection, ME, Listed(number=number, kind=kind))
    seen, after = [], None
    while True:
        page = blacklist.page(connection, after=after, limit=3)
        seen += page.items
        if (after := page.next) is None:
            break
    assert [(one.number, one.kind) for one in seen] == [
        (number, kind)
        for number in ("86138", "8613800138000", "8613800138001", "86139")
        for kind in (Kind.PREFIX, Kind.EXACT)
    ]
    about = blacklist.page(connection, number="13800138000").items
    assert [(one.number, one.kind) for one in about] == [
        ("86138", Kind.PREFIX),
        ("8613800138000", Kind.PREFIX),
        ("8613800138000", Kind.EXACT),
    ]
    with pytest.raises(Invalid, match="cursor"):
        blacklist.page(connection, after="nonsense")


def test_a_file_is_taken_line_by_line(transact: blacklist_import.Transact, engine: Engine) -> None:
    lines = [
        "Number, kind,direction,app,expires,reason\n",
        "13800138000\n",
        '010,prefix,callee,shop,2026-12-31,"asked, twice"\n',
        "\n",
        "+8613900139000, exact , caller,,2026-12-31T18:00:00Z,\n",
    ]
    done = Import()
    import_csv(lines, "list.csv", ME, transact, done)
    assert (done.taken, done.refused, done.problems) == (3, 0, [])
    end_of_year = int(datetime(2026, 12, 31, 16, tzinfo=UTC).timestamp() * 1000)
    with engine.begin() as connection:
        entries, (noted,) = blacklist.page(connection).items, audit.page(connection).items
    assert entries == [
        Listed(
            number="010",
            kind=Kind.PREFIX,
            app="shop",
            direction=Direction.CALLEE,
            expires_at=end_of_year,
            reason="asked, twice",
        ),
        Listed(number="13800138000"),
        Listed(number="13900139000", direction=Direction.CALLER, expires_at=end_of_year + 2 * 3600_000),
    ]
    assert (noted.action, noted.subject, noted.after) == ("import", "list.csv", {"rows": 3, "to_line": 5})


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("x", "not the beginning of a number"),
        ('""', "no number"),
        ("138,maybe", "kind: 'maybe' is not exact or prefix"),
        ("138,,both ways", "direction: 'both ways' is not caller, callee or both"),
        ("138,,,nobody", "app: there is no app 'nobody'"),
        ("138,,,,tomorrow", "expires: 'tomorrow' is not a date"),
        ("138,,,,0001-01-01", "expires: '0001-01-01' is not a date"),
        ("138,,,,9999-12-31", "expires: '9999-12-31' is not a date"),
        ("138,,,,,ab\udcffcd", "reason: not a text"),
        ("138,,,,,ab\x00cd", "reason: not a text"),
        (f"138,,,,,{'x' * 201}", "reason: not a text"),
        ("138,,,,,,", "7 cells for 6 columns"),
        (f"{'1' * 140_000}", "field larger than field limit"),
    ],
)
def test_a_bad_line_is_told_and_the_others_are_taken(
    transact: blacklist_import.Transact, row: str, problem: str
) -> None:
    lines = ["number,kind,direction,app,expires,reason\n", "139\n", f"{row}\n", "137\n"]
    done = Import()
    import_csv(lines, "list.csv", ME, transact, done)
    assert (done.taken, done.refused) == (2, 1)
    ((line, said),) = done.problems
    assert (line, said.startswith(problem)) == (3, True), said


def test_of_many_bad_lines_the_first_are_told_and_all_are_counted(
    transact: blacklist_import.Transact,
) -> None:
    done = Import()
    import_csv(["number\n", *("x\n" for _ in range(30))], "list.csv", ME, transact, done)
    assert (done.taken, done.refused) == (0, 30)
    assert [line for line, _ in done.problems] == list(range(2, 22))


@pytest.mark.parametrize(
    "head", ["", "13800138000", "number;reason", "number,colour", "number,number", "reason"]
)
def test_a_file_must_name_its_columns(transact: blacklist_import.Transact, engine: Engine, head: str) -> None:
    done = Import()
    with pytest.raises(Invalid, match="line 1: it must name the columns"):
        import_csv([head, "138"], "list.csv", ME, transact, done)
    with engine.begin() as connection:
        assert (done.taken, audit.page(connection).items) == (0, [])


def test_what_was_taken_before_a_failure_is_known_and_stays(engine: Engine) -> None:
    """Parts are whole: with the one that fails nothing of it is taken, and nothing is said to be."""
    rows, parts = 45_000, 0

    def transact(work: Callable[[Connection], None]) -> None:
        nonlocal parts
        with engine.begin() as connection:
            work(connection)
            parts += 1
            if parts == 4:  # the first only looks which apps there are
                raise OSError("the disk is full")

    done = Import()
    numbers = (f"{13800000000 + number}\n" for number in range(rows))
    with pytest.raises(OSError, match="full"):
        import_csv(["number\n", *numbers], "list.csv", ME, transact, done)
    assert 0 < done.taken < rows
    with engine.begin() as connection:
        count = connection.scalars(select(func.count()).select_from(tables.blacklist)).one()
        noted = audit.page(connection).items
    assert count == done.taken
    assert sum(one.after["rows"] for one in noted if one.after) == done.taken
    done = Import()
    import_csv(
        ["number\n", *(f"{13800000000 + n}\n" for n in range(rows))], "list.csv", ME, _on(engine), done
    )
    assert done.taken == rows


def _on(engine: Engine) -> blacklist_import.Transact:
    def transact(work: Callable[[Connection], None]) -> None:
        with engine.begin() as connection:
            work(connection)

    return transact


def test_a_day_is_meant_to_its_end_and_in_china() -> None:
    assert expiry("") is None
    assert expiry("2026-12-31") == expiry("2027-01-01T00:00") == expiry("2026-12-31T16:00:00+00:00")
