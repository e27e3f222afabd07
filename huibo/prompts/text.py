"""Written text to spoken words: Chinese and English pieces, numbers and symbols as a person reads them.

Pure; takes any string. Spoken are letters, Chinese characters, digits and symbols that have a name (a row
of them is decoration). Controls, emoji, quotation marks and their like are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from huibo.prompts import chinese, english
from huibo.prompts.tokens import Kind, Token, tokens


class Language(StrEnum):
    ZH = "zh"
    EN = "en"


@dataclass(frozen=True, slots=True)
class Segment:
    """Words of one language, and the pauses between them.

    Chinese: Chinese characters; `，`, `。` (longer) and `？` for pauses; a space parts what is no one word.
    English: words; numbers that the voice reads itself; `,` `.` `?`.
    """

    language: Language
    text: str


_LETTERS = {Kind.HAN: Language.ZH, Kind.WORD: Language.EN}
_ACRONYM = re.compile(r"[A-Z]{2,4}")
_NOT_SPELLED = frozenset({"OK", "WIFI", "PIN", "SIM"})
_MARKS = {Language.ZH: ("，", "。", "？"), Language.EN: (",", ".", "?")}


def segments(text: str) -> list[Segment]:
    """The text as it is to be spoken. Empty when there is nothing to say."""
    pieces = [token for token in tokens(text) if token.kind is not Kind.NOISE]
    has_han = any(piece.kind is Kind.HAN for piece in pieces)
    found: list[tuple[Language, str]] = []
    for piece, language in zip(pieces, _languages(pieces), strict=True):
        if piece.kind in (Kind.MARK, Kind.SPACE):
            if found:
                last, words = found[-1]
                found[-1] = (last, words + _pause(piece, last))
            continue
        said = _said(piece, language, has_han)
        if not said:
            continue
        if found and found[-1][0] is language:
            found[-1] = (language, _joined(found[-1][1], said, language))
        else:
            found.append((language, said))
    return [Segment(language, _tidied(words)) for language, words in found]


def spoken(text: str) -> str:
    """The text with everything written out, as one string: for voices that read numbers badly."""
    return " ".join(segment.text for segment in segments(text))


def language_of(text: str) -> Language:
    """The text's main language: Chinese when there is any Chinese in it, or no letter at all."""
    return _main(tokens(text))


def _main(pieces: Iterable[Token]) -> Language:
    kinds = {piece.kind for piece in pieces}
    return Language.EN if Kind.WORD in kinds and Kind.HAN not in kinds else Language.ZH


def _languages(pieces: list[Token]) -> Iterator[Language]:
    """The language in which each piece is read; for what is neither, its clause decides."""
    main, clause = _main(pieces), list[Token]()
    for piece in pieces:
        clause.append(piece)
        if piece.kind is Kind.MARK:
            yield from _in_clause(clause, main)
            clause = []
    yield from _in_clause(clause, main)


def _in_clause(clause: list[Token], main: Language) -> Iterator[Language]:
    """Numbers and symbols are English between English words, and where the clause has no Chinese in it."""
    kinds = [piece.kind for piece in clause]
    if not any(kind in _LETTERS for kind in kinds):
        yield from [main] * len(clause)
        return
    before, after = _last_letters(kinds), _last_letters(kinds[::-1])[::-1]
    for kind, left, right in zip(kinds, before, after, strict=True):
        if kind in _LETTERS:
            yield _LETTERS[kind]
        else:
            yield Language.EN if left is right is Kind.WORD or Kind.HAN not in kinds else Language.ZH


def _last_letters(kinds: list[Kind]) -> list[Kind | None]:
    """For each place, the nearest kind of letters at it or before it."""
    found: list[Kind | None] = []
    for kind in kinds:
        found.append(kind if kind in _LETTERS else found[-1] if found else None)
    return found


def _said(piece: Token, language: Language, has_han: bool) -> str:
    if language is Language.ZH:
        return chinese.read(piece)
    said = english.read(piece)
    if has_han and _ACRONYM.fullmatch(said) and said not in _NOT_SPELLED:
        return " ".join(said)  # an acronym in a Chinese sentence is spelled: V I P
    return said


def _pause(piece: Token, language: Language) -> str:
    if piece.kind is Kind.SPACE:
        return " "
    comma, stop, question = _MARKS[language]
    if "?" in piece.text:
        return question
    return stop if any(mark in piece.text for mark in ".。!！\n") and "..." not in piece.text else comma


def _joined(before: str, after: str, language: Language) -> str:
    apart = language is Language.EN and not before.endswith(" ")
    return before + (" " if apart else "") + after


def _tidied(words: str) -> str:
    return re.sub(r" *([，。？]) *", r"\1", " ".join(words.split()))
