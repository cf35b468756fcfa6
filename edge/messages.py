"""What the device tells the world: every MQTT topic of version 1, each as one type.

A piano publishes below ``sostenuto/v1/<device>/``. Every message is one JSON object that
begins with the same envelope (which start of the program made it, its number on its topic,
when) and goes on with what the topic is about. `availability` alone is a bare word, because
the broker itself has to be able to say it when the device cannot.

Within version 1 fields are only added, so a consumer ignores what it does not know, and a
field added here has a default. Times in seconds (``_s``) count from the first sample of the
stream; ``t`` and ``mono_ms`` are the clocks of the device.

`TOPICS` is the one table of topic, type, quality of service and retention: the publisher
obeys it, and `edge.publish.contract` prints the JSON Schema and the tables of
``docs/events.md`` from it.
"""

from __future__ import annotations

import re
import types
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from edge.errors import UsageError
from edge.note import HIGHEST_PITCH_MIDI, LOWEST_PITCH_MIDI, NoteState

VERSION = 1
ROOT = f"sostenuto/v{VERSION}"

DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What may stand in a topic for the device: no level separator, no wildcard, no spaces."""

SHA256 = r"^[0-9a-f]{64}$"


def about(meaning: str, unit: str | None = None, **limits: Any) -> Meta:
    """What a field means, its unit, and the limits that its values keep."""
    extra = {"x-unit": unit} if unit is not None else None
    return Meta(description=meaning, extra_json_schema=extra, **limits)


class Clock(StrEnum):
    """How far ``t`` can be trusted."""

    NTP = "ntp"
    RTC = "rtc"
    UNSYNCED = "unsynced"


class Availability(StrEnum):
    """The two bare words on `availability`; the broker says the second one for a dead device."""

    ONLINE = "online"
    OFFLINE = "offline"


class AudioState(StrEnum):
    """How the sound comes in."""

    RUNNING = "running"
    SILENT = "silent"
    CLIPPING = "clipping"
    LOST = "lost"
    RECOVERING = "recovering"
    OFF = "off"
    MIDI = "midi"


class PieceState(StrEnum):
    """Whether the piece is known."""

    SEARCHING = "searching"
    MATCHED = "matched"
    LOST = "lost"


class SessionState(StrEnum):
    """Where a sitting at the piano is in its life."""

    NEW = "new"
    UPDATE = "update"
    END = "end"


class FeedbackKind(StrEnum):
    """What went wrong; or that a bar is over."""

    WRONG_NOTE = "wrong_note"
    MISSED = "missed"
    EARLY = "early"
    LATE = "late"
    BAR = "bar"


class Hand(StrEnum):
    """Which hand the score gives a note to."""

    LEFT = "left"
    RIGHT = "right"


class Severity(StrEnum):
    """Whether anybody has to do something about an event."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventKind(StrEnum):
    """The events known so far. More will come, so `EventMessage.kind` is any such word."""

    OVERRUN = "overrun"
    DEVICE_LOST = "device_lost"
    DEVICE_RECOVERED = "device_recovered"
    INPUT_ERROR = "input_error"
    SOURCE_ENDED = "source_ended"
    MESSAGES_DROPPED = "messages_dropped"
    RECOGNISER_ERROR = "recogniser_error"
    MIDI_OUT_LOST = "midi_out_lost"
    MIDI_OUT_RECOVERED = "midi_out_recovered"
    OUTBOX_FAILED = "outbox_failed"
    OUTBOX_RECOVERED = "outbox_recovered"
    OUTBOX_PUT_ASIDE = "outbox_put_aside"
    COMMAND_REFUSED = "command_refused"
    CONNECTION_TEST = "connection_test"
    UPDATE_COMMITTED = "update_committed"
    UPDATE_ROLLED_BACK = "update_rolled_back"
    UPDATE_REFUSED = "update_refused"
    ATTENTION = "attention"


class ResponseStatus(StrEnum):
    """Whether a command was carried out."""

    OK = "ok"
    ERROR = "error"


class Refusal(StrEnum):
    """Why a command was not carried out."""

    UNKNOWN = "unknown"
    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    RETAINED = "retained"
    NOT_ALLOWED = "not_allowed"
    NOT_POSSIBLE = "not_possible"
    BUSY = "busy"
    ANSWER_TOO_LARGE = "answer_too_large"
    FAILED = "failed"


class Verdict(StrEnum):
    """How one look at itself came out."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_TRIED = "not_tried"


class Throttling(StrEnum):
    """What holds a board's processor back."""

    UNDER_VOLTAGE = "under_voltage"
    FREQUENCY_CAPPED = "frequency_capped"
    THROTTLED = "throttled"
    SOFT_TEMPERATURE_LIMIT = "soft_temperature_limit"


# Quantities that several messages share.
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
Amount = Annotated[float, Meta(ge=0.0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Pitch = Annotated[
    int,
    about(
        "The key: 21 is A0, 60 middle C, 108 C8.",
        "MIDI pitch",
        ge=LOWEST_PITCH_MIDI,
        le=HIGHEST_PITCH_MIDI,
    ),
]
Velocity = Annotated[int, about("How hard it was struck.", "MIDI velocity", ge=1, le=127)]
Confidence = Annotated[float, about("How sure the device is.", "0 to 1", ge=0.0, le=1.0)]
PieceId = Annotated[str, about("The piece, as the catalogue calls it.")]
WorkId = Annotated[str, about("The work; several editions of one work share it.")]
Title = Annotated[str, about("The title, for people.")]
Composer = Annotated[str, about("The composer, for people.")]
TempoRatio = Annotated[float, about("Tempo played over tempo written; 1 is as written.", gt=0.0)]
TempoBpm = Annotated[float, about("Tempo as played.", "beats/min", gt=0.0)]
Bar = Annotated[int, about("Bar of the score, the first whole bar is 1, an upbeat is 0.", ge=0)]
Sha256 = Annotated[str, about("SHA-256 of the file, in hexadecimal.", pattern=SHA256)]


class Envelope(Struct, frozen=True, kw_only=True):
    """What every message but `availability` and `cmd` begins with; the publisher fills it in."""

    v: Annotated[int, about("Version of this contract.", ge=VERSION, le=VERSION)] = VERSION
    boot: Annotated[
        str, about("Names one start of the program; new at every start.", min_length=1)
    ] = ""
    seq: Annotated[
        int,
        about(
            "Number of the message, counted per topic and boot from 0 without gaps: a gap is a "
            "message lost, a number seen before is a repeat.",
            ge=0,
        ),
    ] = 0
    t: Annotated[
        str,
        about(
            "When the message was made, RFC 3339, UTC.",
            pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        ),
    ] = ""
    mono_ms: Annotated[
        int, about("When, by a clock of the device that never jumps.", "ms", ge=0)
    ] = 0
    clock: Annotated[
        Clock,
        about(
            "How far `t` can be trusted: set over the network, by a battery-backed clock, not at "
            "all."
        ),
    ] = Clock.UNSYNCED
    historical: Annotated[
        bool,
        about(
            "True when this waited for the broker: it tells of the past and never of the present. "
            "A repeat of a message may differ in this field alone; in `t` and `clock` too, where "
            "the time was put right meanwhile."
        ),
    ] = False


class ModelInfo(Struct, frozen=True, kw_only=True):
    """One model that listens."""

    name: Annotated[str, about("Name of the model.")]
    sha256: Sha256
    kind: Annotated[str, about("What it hears: `notes` for the note model.")] = "notes"


class CatalogueInfo(Struct, frozen=True, kw_only=True):
    """The catalogue that pieces are looked up in."""

    version: Annotated[str, about("Version of the catalogue.")]
    sha256: Sha256
    pieces: Annotated[int, about("How many pieces it knows.", ge=0)]


class AudioDevice(Struct, frozen=True, kw_only=True):
    """Where the sound or the MIDI comes from."""

    kind: Annotated[str, about("`microphone`, `file` or `midi`.")]
    name: Annotated[str, about("Its stable name.")]
    sample_rate_hz: Annotated[
        Positive | None, about("Its own sample rate; null for MIDI.", "Hz")
    ] = None
    channels: Annotated[Positive | None, about("Its channels; null for MIDI.")] = None


class Info(Envelope, frozen=True, kw_only=True):
    """What this device is: published when it connects and when something of it changes."""

    software: Annotated[str, about("Version of Sostenuto.")]
    models: Annotated[tuple[ModelInfo, ...], about("The models in use.")] = ()
    catalogue: Annotated[CatalogueInfo | None, about("The catalogue; null when none.")] = None
    board: Annotated[str | None, about("The computer, as it names itself.")] = None
    system: Annotated[str | None, about("Operating system and architecture.")] = None
    audio_device: Annotated[AudioDevice | None, about("Where the sound comes from.")] = None
    runtime: Annotated[
        str | None, about("What runs the models, with its version, as in `ai-edge-litert 2.3.0`.")
    ] = None


class Percentiles(Struct, frozen=True, kw_only=True):
    """How a duration was spread over the last minute."""

    p50_ms: Annotated[float, about("Half of them were at most this.", "ms", ge=0.0)]
    p95_ms: Annotated[float, about("95 of 100 were at most this.", "ms", ge=0.0)]
    count: Annotated[int, about("How many were measured.", ge=1)]


class Detail(Struct, frozen=True, kw_only=True):
    """What of the playing is published live; `history/notes` and `piece` are not touched by it."""

    notes: Annotated[bool, about("Notes that are sure, their ends, and the pedal.")] = True
    provisional: Annotated[
        bool, about("Keys that are guessed before it is sure; needs `notes`.")
    ] = True
    strikes: Annotated[bool, about("Strikes, before any key is known.")] = True
    position: Annotated[bool, about("Bar and beat.")] = True


class Health(Envelope, frozen=True, kw_only=True):
    """How the device is, every 60 s. Counts are since the program started."""

    audio: Annotated[AudioState, about("How the sound comes in; `midi` when notes come as MIDI.")]
    uptime_s: Annotated[float, about("Since the program started.", "s", ge=0.0)]
    overruns: Annotated[int, about("Times that sound came faster than it was heard.", ge=0)] = 0
    dropped_samples: Annotated[
        int, about("Sound that was lost so, at the recogniser's rate.", "samples", ge=0)
    ] = 0
    level_dbfs: Annotated[
        float | None,
        about("Level (RMS) over the last second; null when there is no sound at all.", "dBFS"),
    ] = None
    peak_dbfs: Annotated[float | None, about("Highest sample of the last minute.", "dBFS")] = None
    inference: Annotated[
        Percentiles | None, about("Time to recognise one block; null before the first.")
    ] = None
    end_to_end: Annotated[
        Percentiles | None,
        about("From a note's onset to its confirmed message; null when none was played."),
    ] = None
    load: Annotated[
        Amount | None, about("Processor time used over the last minute, 1 is one core.")
    ] = None
    queue_blocks: Annotated[int, about("Blocks of sound that wait to be heard.", ge=0)] = 0
    queue_messages: Annotated[int, about("Messages that wait to be sent.", ge=0)] = 0
    messages_dropped: Annotated[int, about("Messages that could not be sent.", ge=0)] = 0
    reconnects: Annotated[int, about("Times the broker was lost and found again.", ge=0)] = 0
    temperature_c: Annotated[float | None, about("Of the processor; null if unknown.", "°C")] = None
    disk_free_bytes: Annotated[Count | None, about("Free on the disk.", "bytes")] = None
    memory_bytes: Annotated[Count | None, about("Resident memory.", "bytes")] = None
    listening: Annotated[
        bool, about("False while listening is switched off; it stays so through restarts.")
    ] = True
    detail: Annotated[Detail | None, about("What is published live.")] = None
    throttling: Annotated[
        tuple[Throttling, ...] | None,
        about("What holds the processor back now; null where the board does not tell."),
    ] = None
    commands_refused: Annotated[int, about("Commands that were not carried out.", ge=0)] = 0
    attention: Annotated[
        tuple[str, ...],
        about("What somebody has to look after, with what to do; a line each, for people."),
    ] = ()


class NoteMessage(Struct, frozen=True, kw_only=True):
    """One step in the life of a note."""

    id: Annotated[int, about("Stays the same from the note's first step to its last.", ge=0)]
    state: Annotated[
        NoteState,
        about(
            "`provisional`: something was heard, the pitch is a guess; `confirmed`: it is a note; "
            "`ended`: its key was let go; `withdrawn`: it was none."
        ),
    ]
    pitch_midi: Pitch
    onset_s: Annotated[float, about("When it was struck, in the stream.", "s")]
    offset_s: Annotated[
        float | None, about("When the key was let go, pedal or not; null while it is held.", "s")
    ] = None
    velocity: Velocity
    confidence: Confidence


class StrikeMessage(Struct, frozen=True, kw_only=True):
    """Something was struck; which keys is told by `notes`, later."""

    t_s: Annotated[float, about("When it was struck, in the stream.", "s")]
    strength: Annotated[
        float, about("How much sound appeared; 1 is a full-scale crash.", "0 to 1", ge=0.0, le=1.0)
    ]


class PedalMessage(Struct, frozen=True, kw_only=True):
    """The sustain pedal moves."""

    t_s: Annotated[float, about("When it moved, in the stream.", "s")]
    down: Annotated[bool, about("True when it goes down.")]


class Notes(Envelope, frozen=True, kw_only=True):
    """What is being played: batches of at most 100 ms, live only."""

    notes: Annotated[tuple[NoteMessage, ...], about("Steps in the life of notes, in order.")] = ()
    strikes: Annotated[
        tuple[StrikeMessage, ...],
        about("Something was struck: a first sign of life, before any key is known."),
    ] = ()
    pedal: Annotated[tuple[PedalMessage, ...], about("Moves of the sustain pedal.")] = ()
    heard_s: Annotated[
        Amount | None,
        about("How much of the stream had been heard when this was made.", "s"),
    ] = None


class PieceCandidate(Struct, frozen=True, kw_only=True):
    """One piece that it may be."""

    piece_id: PieceId
    work_id: WorkId
    title: Title
    composer: Composer
    confidence: Confidence


class Piece(Envelope, frozen=True, kw_only=True):
    """Which piece is being played, published when that changes."""

    state: Annotated[
        PieceState,
        about("`searching`: not known yet; `matched`: it is this one; `lost`: it was this one."),
    ]
    piece_id: Annotated[PieceId | None, about("The piece, null while searching.")] = None
    work_id: Annotated[WorkId | None, about("The work, null while searching.")] = None
    title: Annotated[Title | None, about("The title, null while searching.")] = None
    composer: Annotated[Composer | None, about("The composer, null while searching.")] = None
    confidence: Confidence = 0.0
    tempo_ratio: Annotated[
        TempoRatio | None, about("Tempo played over tempo written; null if unknown.")
    ] = None
    tempo_bpm: Annotated[
        TempoBpm | None, about("Tempo as played; null if unknown.", "beats/min")
    ] = None
    transposition: Annotated[
        int | None, about("How much higher than written it is played.", "semitones")
    ] = None
    start_s: Annotated[
        float | None, about("Where in the score it was begun, at the score's tempo.", "s")
    ] = None
    bar: Annotated[Bar | None, about("Where in the score it was begun.", "bar")] = None
    bars: Annotated[Positive | None, about("Bars of the score; null if unknown.", "bars")] = None
    candidates: Annotated[
        tuple[PieceCandidate, ...], about("The best five, best first, in any state.", max_length=5)
    ] = ()


class Position(Envelope, frozen=True, kw_only=True):
    """Where in the piece the player is, at most four times a second."""

    piece_id: PieceId
    bar: Bar
    beat: Annotated[float, about("Beat within the bar, the first is 1; fractions between.", ge=1.0)]
    confidence: Confidence
    tempo_bpm: Annotated[
        TempoBpm | None, about("Tempo as played; null if unknown.", "beats/min")
    ] = None
    tempo_ratio: Annotated[
        TempoRatio | None, about("Tempo played over tempo written; null if unknown.")
    ] = None
    t_s: Annotated[float | None, about("When the player was there, in the stream.", "s")] = None
    until_s: Annotated[
        float | None,
        about(
            "From `t_s` to this second of the stream the player is thought to go on in tempo; "
            "later, and without another message, to wait there.",
            "s",
        ),
    ] = None
    beats_in_bar: Annotated[
        Amount | None, about("Beats of this bar; null in the last one.", "beats")
    ] = None
    quarters: Annotated[
        Amount | None,
        about("Place counted from the score's beginning, repeats not unfolded.", "quarters"),
    ] = None
    lost: Annotated[
        bool,
        about(
            "True when the place is not known any more: bar and beat are the last that were sure. "
            "Told once; the next position is of a place found again."
        ),
    ] = False


class PiecePlayed(Struct, frozen=True, kw_only=True):
    """One piece of a session."""

    piece_id: PieceId
    work_id: WorkId
    title: Title
    composer: Composer
    confidence: Confidence
    start_s: Annotated[float, about("When it was first recognised, in the stream.", "s")]
    minutes: Annotated[float, about("How long it was played.", "min", ge=0.0)]


class Practised(Struct, frozen=True, kw_only=True):
    """What practice found in a session, counted over all bars that were played."""

    asked: Annotated[int, about("Notes that were expected and can be judged.", ge=0)]
    right: Annotated[int, about("How many of them were right.", ge=0)]
    wrong: Annotated[int, about("Another key was struck instead.", ge=0)]
    missed: Annotated[int, about("Nothing was struck.", ge=0)]
    extra: Annotated[int, about("Struck and not written.", ge=0)]
    early: Annotated[int, about("Right, but before their time.", ge=0)]
    late: Annotated[int, about("Right, but after their time.", ge=0)]
    unsure: Annotated[int, about("Findings that may be the ear's; in no other count.", ge=0)]
    evenness_ms: Annotated[
        Amount | None, about("Half of the notes lie this near to the flow.", "ms")
    ] = None
    tempo_change: Annotated[
        Amount | None, about("Change of tempo from one bar to the next, as a share.")
    ] = None


class Session(Envelope, frozen=True, kw_only=True):
    """One sitting at the piano, under one id from its first note to its last."""

    id: Annotated[str, about("Names the session; the same in all its messages.", min_length=1)]
    state: Annotated[SessionState, about("`new` at the start, `update` on the way, then `end`.")]
    minutes: Annotated[float, about("From its first sound to its last.", "min", ge=0.0)] = 0.0
    notes: Annotated[int, about("Notes played, confirmed ones.", ge=0)] = 0
    pieces: Annotated[tuple[PiecePlayed, ...], about("The pieces recognised, in order.")] = ()
    accuracy: Annotated[
        Share | None,
        about("Share of the expected notes that were right; null if none was.", "0 to 1"),
    ] = None
    start_s: Annotated[float, about("When it began, in the stream.", "s")] = 0.0
    stream_start_mono_ms: Annotated[
        int | None,
        about("What `mono_ms` was at second 0 of the stream; null if there is no such.", "ms"),
    ] = None
    practice: Annotated[
        Practised | None, about("Against the scores; null if nothing could be compared.")
    ] = None


class Feedback(Envelope, frozen=True, kw_only=True):
    """One thing that went wrong, against the score; after the last of a bar, the bar."""

    kind: Annotated[FeedbackKind, about("What it was; `bar`: a bar is over, and this sums it up.")]
    piece_id: PieceId
    bar: Bar
    beat: Annotated[
        float | None, about("Beat within the bar, the first is 1; null if unknown.")
    ] = None
    hand: Annotated[Hand | None, about("The hand that the score gives it to.")] = None
    expected_pitch_midi: Annotated[
        Pitch | None, about("What is written; null when nothing is.", "MIDI pitch")
    ] = None
    played_pitch_midi: Annotated[
        Pitch | None, about("What was played; null when nothing was.", "MIDI pitch")
    ] = None
    delta_ms: Annotated[
        float | None, about("Played minus written, against the local tempo; late is above 0.", "ms")
    ] = None
    t_s: Annotated[float | None, about("When, in the stream.", "s")] = None
    confidence: Annotated[
        float, about("How surely the player did this, and not the ear.", "0 to 1", ge=0.0, le=1.0)
    ] = 1.0
    take: Annotated[
        int, about("Which go at the music: counted up at a jump, a restart, a long pause.", ge=0)
    ] = 0
    asked: Annotated[
        Count | None, about("Of a bar: notes that were expected and can be judged.")
    ] = None
    right: Annotated[Count | None, about("Of a bar: how many of them were right.")] = None
    unsure: Annotated[
        Count | None, about("Of a bar: findings not told, for they may be the ear's.")
    ] = None
    evenness_ms: Annotated[
        Amount | None,
        about("Of a bar: half of its notes lie this near to the player's own flow.", "ms"),
    ] = None
    tempo_bpm: Annotated[
        TempoBpm | None, about("Of a bar: how fast it was played.", "beats/min")
    ] = None


class HistoryNote(Struct, frozen=True, kw_only=True):
    """One note that is over."""

    id: Annotated[int, about("As in `notes`.", ge=0)]
    pitch_midi: Pitch
    onset_s: Annotated[float, about("When it was struck, in the stream.", "s")]
    offset_s: Annotated[float, about("When the key was let go, pedal or not, in the stream.", "s")]
    velocity: Velocity
    confidence: Confidence


class HistoryNotes(Envelope, frozen=True, kw_only=True):
    """The record that must not be lost: ended notes, in batches of a second or more."""

    session_id: Annotated[str | None, about("The session they belong to.")] = None
    notes: Annotated[tuple[HistoryNote, ...], about("Ended notes.")] = ()
    pedal: Annotated[tuple[PedalMessage, ...], about("Moves of the sustain pedal.")] = ()
    stream_start_mono_ms: Annotated[
        int | None, about("As in `session`; null if there is no such.", "ms")
    ] = None


class Tag(Struct, frozen=True, kw_only=True):
    """One word for the music."""

    name: Annotated[str, about("The word.")]
    confidence: Confidence


class Mood(Struct, frozen=True, kw_only=True):
    """Where the music lies on the plane of Russell (1980)."""

    valence: Annotated[float, about("From sad (-1) to glad (1).", "-1 to 1", ge=-1.0, le=1.0)]
    arousal: Annotated[float, about("From calm (-1) to stirred (1).", "-1 to 1", ge=-1.0, le=1.0)]


class Tags(Envelope, frozen=True, kw_only=True):
    """What kind of music it is. Typed now, published once a model fills it."""

    genre: Annotated[tuple[Tag, ...], about("Genres, the surest first.")] = ()
    mood: Annotated[Mood | None, about("The mood; null if unknown.")] = None
    piece_id: Annotated[PieceId | None, about("The piece it is about; null if unknown.")] = None


class DroppedRange(Struct, frozen=True, kw_only=True):
    """Messages that were numbered and never sent."""

    topic: Annotated[str, about("The topic below the device's root.")]
    first_seq: Annotated[int, about("The first that is missing.", ge=0)]
    last_seq: Annotated[int, about("The last that is missing.", ge=0)]
    count: Annotated[int, about("How many between these two are missing.", ge=1)]
    boot: Annotated[
        str | None, about("The start that numbered them; null for the one that tells.")
    ] = None


class EventMessage(Envelope, frozen=True, kw_only=True):
    """Something happened to the device."""

    kind: Annotated[
        str,
        about(
            "What happened: `overrun`, `device_lost`, `device_recovered`, `input_error`, "
            "`source_ended`, `messages_dropped`, `recogniser_error`, `midi_out_lost`, "
            "`midi_out_recovered`, `outbox_failed`, `outbox_recovered`, `outbox_put_aside`, "
            "`command_refused`, `connection_test`, `update_committed`, "
            "`update_rolled_back`, `update_refused`, `attention`; more will come.",
            pattern="^[a-z][a-z0-9_]*$",
        ),
    ]
    severity: Annotated[
        Severity, about("`info`; `warning`: it recovers by itself; `error`: somebody has to act.")
    ] = Severity.INFO
    text: Annotated[str, about("One line for people.")] = ""
    count: Annotated[int, about("How often since the last such message.", ge=1)] = 1
    t_s: Annotated[float | None, about("When, in the stream; null if elsewhere.", "s")] = None
    dropped: Annotated[
        DroppedRange | None, about("Which messages are missing, for `messages_dropped`.")
    ] = None


LEAST_ANSWER_BYTES = 2048
"""Every refusal fits into this, so an asker cannot ask for less."""

MOST_ANSWER_BYTES = 256 * 1024
USUAL_ANSWER_BYTES = 64 * 1024

MOST_COMMAND_BYTES = 4096
"""A command that is larger is refused unread."""


class Command(Struct, frozen=True, kw_only=True):
    """What a dashboard asks for. A retained command is refused."""

    value: Annotated[Any, about("What is asked; each command has its own.")] = None
    transaction: Annotated[
        str, about("Chosen by the asker, given back in the answer.", min_length=1, max_length=64)
    ]
    max_bytes: Annotated[
        int,
        about(
            "The largest answer that the asker takes.",
            "bytes",
            ge=LEAST_ANSWER_BYTES,
            le=MOST_ANSWER_BYTES,
        ),
    ] = USUAL_ANSWER_BYTES


class Response(Envelope, frozen=True, kw_only=True):
    """The answer to one command."""

    status: Annotated[ResponseStatus, about("`ok`, or `error` when nothing was changed.")]
    transaction: Annotated[str, about("As in the command.", min_length=1, max_length=64)]
    data: Annotated[Any, about("The answer, null if there is none.")] = None
    error: Annotated[str | None, about("Why not, one line for people; null when `ok`.")] = None
    reason: Annotated[Refusal | None, about("Why not, for programs; null when `ok`.")] = None


class Listening(Struct, frozen=True, kw_only=True):
    """Whether the device listens."""

    listening: Annotated[bool, about("False: the microphone is given back.")]
    kept: Annotated[
        bool, about("Whether a restart will find it so; false when the disk cannot be written.")
    ]


class ChosenPiece(Struct, frozen=True, kw_only=True):
    """What is followed."""

    piece_id: Annotated[PieceId | None, about("The piece; null: whatever is recognised.")]


class DetailChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be published live; what is null or left out stays as it is."""

    notes: Annotated[bool | None, about("Notes that are sure, their ends, and the pedal.")] = None
    provisional: Annotated[
        bool | None, about("Keys that are guessed before it is sure; needs `notes`.")
    ] = None
    strikes: Annotated[bool | None, about("Strikes, before any key is known.")] = None
    position: Annotated[bool | None, about("Bar and beat.")] = None


class Check(Struct, frozen=True, kw_only=True):
    """One thing that the device looked at in itself."""

    name: Annotated[str, about("What was looked at.")]
    passed: Annotated[bool, about("False: it is not as it should be.")]
    text: Annotated[str, about("What was found, one line for people.")]
    verdict: Annotated[
        Verdict | None,
        about("As `passed`, and `not_tried` where it could not be looked at; null: see `passed`."),
    ] = None
    remedy: Annotated[str | None, about("What to do, for people; null: nothing.")] = None


class SelfTest(Struct, frozen=True, kw_only=True):
    """What the device found in itself."""

    passed: Annotated[bool, about("Whether every check passed.")]
    checks: Annotated[tuple[Check, ...], about("The checks, in order.")]


class Extent(StrEnum):
    """How much of itself the device looks at; null: what it can at once."""

    FULL = "full"


class SelfTestResult(Envelope, frozen=True, kw_only=True):
    """What the last full self-test found: the one with the known recording and the microphone."""

    passed: Annotated[bool, about("Whether no check failed.")]
    checks: Annotated[tuple[Check, ...], about("The checks, in order.")] = ()


Moment = Annotated[
    str,
    about(
        "A moment, RFC 3339, UTC.",
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$",
    ),
]


class PastPart(StrEnum):
    """What of the past is asked for."""

    SESSIONS = "sessions"
    NOTES = "notes"


class HistoryRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the past is wanted."""

    what: Annotated[PastPart, about("The latest sessions, or the first notes.")] = PastPart.SESSIONS
    since: Annotated[
        Moment | None, about("From when, RFC 3339, UTC; null: from the beginning.")
    ] = None
    until: Annotated[Moment | None, about("Until when, not included; null: until now.")] = None
    session_id: Annotated[
        Annotated[str, Meta(max_length=64)] | None, about("Notes of this session only.")
    ] = None
    limit: Annotated[
        Annotated[int, Meta(ge=1, le=500)] | None,
        about("At most so many: up to 100 sessions, up to 500 notes; null: as many."),
    ] = None


class PastPiece(Struct, frozen=True, kw_only=True):
    """One piece of a past session."""

    title: Title
    composer: Composer
    minutes: Annotated[float, about("How long it was played.", "min", ge=0.0)]


class PastSession(Struct, frozen=True, kw_only=True):
    """One sitting of the past."""

    id: Annotated[str, about("As in `session`.")]
    t: Annotated[str, about("When it began, RFC 3339, UTC.")]
    clock: Annotated[Clock, about("How far `t` can be trusted.")]
    minutes: Annotated[float, about("From its first sound to its last.", "min", ge=0.0)]
    notes: Annotated[int, about("Notes played.", ge=0)]
    accuracy: Annotated[Share | None, about("As in `session`.", "0 to 1")] = None
    pieces: Annotated[tuple[PastPiece, ...], about("The pieces recognised, in order.")] = ()


class PastNote(Struct, frozen=True, kw_only=True):
    """One note of the past."""

    t: Annotated[str, about("When it was struck, RFC 3339, UTC.")]
    pitch_midi: Pitch
    duration_s: Annotated[float, about("How long the key was held.", "s")]
    velocity: Velocity
    confidence: Confidence
    session_id: Annotated[str | None, about("The session it belongs to.")] = None


class HistoryAnswer(Struct, frozen=True, kw_only=True):
    """A part of the past, in order: as much as was asked for, and as the answer may hold."""

    sessions: Annotated[tuple[PastSession, ...], about("The latest of that time.")] = ()
    notes: Annotated[tuple[PastNote, ...], about("The first of that time.")] = ()
    more: Annotated[bool, about("Whether there is more than that: ask for another time.")] = False


class Diagnostics(Struct, frozen=True, kw_only=True):
    """What whoever mends the device wants to see. No sound, no notes, no passwords."""

    info: Annotated[Info, about("As in `info`.")]
    health: Annotated[Health, about("As in `health`, of this moment.")]
    settings: Annotated[dict[str, Any], about("The settings, passwords struck out.")]
    faults: Annotated[dict[str, int], about("How often each kind of `event` occurred.")]
    broker: Annotated[str | None, about("What is wrong with the broker now; null: nothing.")] = None
    log: Annotated[tuple[str, ...], about("The last lines of the log, passwords struck out.")] = ()


@dataclass(frozen=True, slots=True)
class CommandKind:
    """One command: what its `value` may be, and what its answer's `data` is then.

    Attributes
    ----------
    name : str
        As in ``cmd/<name>`` and ``rsp/<name>``.
    value, answer : type
        What msgspec reads and writes; None for nothing.
    meaning : str
        For people, one line.
    """

    name: str
    value: Any
    answer: Any
    meaning: str


_ALL_COMMANDS = (
    CommandKind(
        "listen",
        bool,
        Listening,
        "Switch listening on (true) or off (false). Off gives the microphone back, drops what was "
        "not yet heard, and lasts through restarts.",
    ),
    CommandKind(
        "piece",
        Annotated[str, Meta(min_length=1, max_length=200)] | None,
        ChosenPiece,
        "Follow this piece of the catalogue from now on; null: recognise what is played.",
    ),
    CommandKind("detail", DetailChange, Detail, "Choose what of the playing is published live."),
    CommandKind(
        "self_test",
        Extent | None,
        SelfTest,
        "Look whether everything works, without a sound. `full`: hear the known recording too, "
        "beside the listening; the answer comes with its end, within three minutes, and on "
        "`self_test`.",
    ),
    CommandKind("health", None, Health, "Publish `health` now, and answer with it."),
    CommandKind("diagnostics", None, Diagnostics, "Tell what whoever mends the device needs."),
    CommandKind("history", HistoryRequest, HistoryAnswer, "Tell what was played at a time."),
    CommandKind(
        "restart", None, None, "End in form and leave with exit code 75, so that systemd restarts."
    ),
)

COMMANDS = types.MappingProxyType({command.name: command for command in _ALL_COMMANDS})


@dataclass(frozen=True, slots=True)
class Topic:
    """How one topic is published.

    Attributes
    ----------
    name : str
        Below the device's root; ``cmd/+`` and ``rsp/+`` stand for one topic per command.
    message : type
        What it carries: a message class, or `Availability` for the bare words.
    qos : int
        MQTT quality of service, 0 or 1.
    retain : bool
        Whether the broker keeps the newest one for those who subscribe later.
    through_outbox : bool
        Whether it is kept until the broker has acknowledged it.
    """

    name: str
    message: type[Struct | Availability]
    qos: int
    retain: bool
    through_outbox: bool


_ALL_TOPICS = (
    Topic("availability", Availability, qos=1, retain=True, through_outbox=False),
    Topic("info", Info, qos=1, retain=True, through_outbox=False),
    Topic("health", Health, qos=1, retain=True, through_outbox=False),
    Topic("notes", Notes, qos=0, retain=False, through_outbox=False),
    Topic("piece", Piece, qos=1, retain=True, through_outbox=True),
    Topic("position", Position, qos=0, retain=False, through_outbox=False),
    Topic("session", Session, qos=1, retain=False, through_outbox=True),
    Topic("feedback", Feedback, qos=1, retain=False, through_outbox=True),
    Topic("history/notes", HistoryNotes, qos=1, retain=False, through_outbox=True),
    Topic("tags", Tags, qos=1, retain=True, through_outbox=True),
    Topic("event", EventMessage, qos=1, retain=False, through_outbox=True),
    Topic("self_test", SelfTestResult, qos=1, retain=True, through_outbox=False),
    Topic("cmd/+", Command, qos=1, retain=False, through_outbox=False),
    Topic("rsp/+", Response, qos=1, retain=False, through_outbox=False),
)

TOPICS = types.MappingProxyType({topic.name: topic for topic in _ALL_TOPICS})

_COMMAND_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def topic_of(name: str) -> Topic:
    """The entry of `TOPICS` for ``name``, which may be one command's (``rsp/listen``)."""
    topic = TOPICS.get(name)
    if topic is None:
        family, _, command = name.partition("/")
        topic = TOPICS.get(f"{family}/+") if _COMMAND_NAME.fullmatch(command) else None
    if topic is None or "+" in name:
        raise ValueError(f"no topic {name!r}; there are {', '.join(TOPICS)}")
    return topic


def check_device_name(name: str) -> str:
    """``name`` itself if it may stand in a topic, else a `UsageError` that says what may."""
    if not DEVICE_NAME.fullmatch(name):
        raise UsageError(
            f"device name {name!r}: allowed are up to 64 of the letters A-Z a-z, digits and _ . - "
            "beginning with a letter or digit; choose another"
        )
    return name


def full_topic(device: str, name: str) -> str:
    """Where ``name`` of ``device`` is published, as in ``sostenuto/v1/parlour/notes``."""
    return f"{ROOT}/{device}/{name}"


_ENCODER = msgspec.json.Encoder()


def encode(message: Struct) -> bytes:
    """The JSON of ``message``, as it is published."""
    return _ENCODER.encode(message)


def decode(name: str, payload: bytes) -> Struct | Availability:
    """The message that was published on topic ``name``.

    Raises
    ------
    msgspec.ValidationError
        When the payload is not what the contract says.
    msgspec.DecodeError
        When it is no JSON at all.
    """
    kind = topic_of(name).message
    if issubclass(kind, Availability):
        return msgspec.convert(payload.decode("ascii", "replace"), kind)
    message: Struct = msgspec.json.decode(payload, type=kind)
    if isinstance(message, Envelope) and not (message.boot and message.t):
        raise msgspec.ValidationError("the envelope is missing: no `boot` or no `t`")
    return message


def command_classes() -> tuple[type[Struct], ...]:
    """Every class that a command's `value` or its answer's `data` is, messages aside."""
    both = [kind for each in _ALL_COMMANDS for kind in (each.value, each.answer)]
    known = message_classes()
    structs = [k for k in both if isinstance(k, type) and issubclass(k, Struct) and k not in known]
    return tuple(dict.fromkeys(structs))


def message_classes() -> tuple[type[Struct], ...]:
    """Every class that is published as a JSON object, in the order of `TOPICS`."""
    return tuple(t.message for t in _ALL_TOPICS if issubclass(t.message, Struct))
