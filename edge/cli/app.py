"""The command line: `sostenuto` and all it can be asked to do.

Each command is declared here and works in a module of its own, loaded when it is called, so
that help comes at once. `main` is the one place where errors become a line and an exit code:
0 done, 2 usage, 3 input, 4 model or catalogue, 5 device or broker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.cli import console
from edge.errors import SostenutoError

USAGE_EXIT = 2
INTERRUPTED_EXIT = 130
BUG_EXIT = 1

app = typer.Typer(
    help=(
        "An ear for pianos: hears what is played, writes the notes down, knows the piece, "
        "and publishes all of it over MQTT."
    ),
    epilog="Exit codes: 0 done, 2 usage, 3 input, 4 model or catalogue, 5 device or broker.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


def _examples(*lines: str) -> str:
    """An epilog of command lines, each left as it is."""
    return "\b\n" + "\n".join(("Examples:", *(f"  {line}" for line in lines)))


Json = Annotated[bool, typer.Option("--json", help="Standard output is JSON and nothing else.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Note model: a name that `sostenuto models` lists, the path of a .tflite file, or "
        "'templates' to hear without a model.  [default: the installed model]",
    ),
]
Catalog = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        metavar="DIR",
        help="Folder with the catalogue's packs.  [default: the installed catalogue]",
    ),
]

CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="What `sostenuto calibrate` found out about this piano.",
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        console.out(f"sostenuto {software_version()}")
        raise typer.Exit


def software_version() -> str:
    """The installed version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sostenuto")
    except PackageNotFoundError:
        return "0+unknown"


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        console.out(context.get_help())
        raise typer.Exit(USAGE_EXIT)


@app.command(
    short_help="Listen to a piano and publish what is played.",
    epilog=_examples(
        "sostenuto listen --mic USB --broker mqtt://house.local",
        "sostenuto listen --file waltz.flac --embedded-broker",
        "sostenuto listen --midi-in Roland --no-mqtt",
        "sostenuto listen --mic USB --midi-out virtual",
        "sostenuto listen --mic USB --dashboard 8480",
    ),
)
def listen(
    mic: Annotated[
        str | None,
        typer.Option(
            "--mic",
            metavar="NAME",
            help="Microphone, by the name that `sostenuto devices` shows or a part of it.  "
            "[default: the system's input]",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="AUDIO",
            help="A recording instead of a microphone (WAV, FLAC, MP3, OGG, or MIDI), at the pace "
            "of real time.",
        ),
    ] = None,
    midi_in: Annotated[
        str | None,
        typer.Option(
            "--midi-in",
            metavar="PORT",
            help="A keyboard's MIDI port, by the name that `sostenuto devices` shows or a part "
            "of it. No note model is loaded.",
        ),
    ] = None,
    midi_out: Annotated[
        str | None,
        typer.Option(
            "--midi-out",
            metavar="PORT",
            help="Play what is heard on this MIDI port, by its name or a part of it; 'virtual' "
            "makes a port, sostenuto:piano, that other programs connect to. A note is sent when "
            "it is confirmed, a quarter of a second after it was struck.",
        ),
    ] = None,
    midi_out_provisional: Annotated[
        bool,
        typer.Option(
            "--midi-out-provisional",
            help="Send provisional notes too: a tenth of a second sooner, at times taken back.",
        ),
    ] = False,
    broker: Annotated[
        str | None,
        typer.Option(
            "--broker",
            metavar="URL",
            help="mqtt://[user[:password]@]host[:port]; mqtts, ws and wss likewise.  "
            "[default: mqtt://localhost]",
        ),
    ] = None,
    embedded_broker: Annotated[
        bool,
        typer.Option(
            "--embedded-broker",
            help="Bring a broker along, on a free port of this machine; for trying things out.",
        ),
    ] = False,
    no_mqtt: Annotated[
        bool, typer.Option("--no-mqtt", help="Publish nowhere; print only.")
    ] = False,
    model: Model = None,
    catalog: Catalog = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            metavar="FILE",
            help="TOML file with any of these as keys; the command line wins over it.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Name of this piano in the MQTT topics.  [default: from the hardware]",
        ),
    ] = None,
    wait_for_broker: Annotated[
        bool,
        typer.Option(
            "--wait-for-broker",
            help="Listen though the broker is not there yet, and go on trying; for services.",
        ),
    ] = False,
    wait_for_source: Annotated[
        bool,
        typer.Option(
            "--wait-for-source",
            help="Begin though the microphone or MIDI port is not there yet, tell that it is lost, "
            "and go on looking for it; for services.",
        ),
    ] = False,
    outbox: Annotated[
        Path | None,
        typer.Option(
            "--outbox",
            metavar="DIR",
            help="Keep here what the broker does not have yet, and what was played.  [default: "
            "the service's state, else ~/.local/state/sostenuto; for recordings nowhere]",
        ),
    ] = None,
    piece: Annotated[
        str | None,
        typer.Option(
            "--piece",
            metavar="ID",
            help="Follow this piece of the catalogue from the first note on, and look for no "
            "other; an id as `sostenuto identify` prints it.",
        ),
    ] = None,
    home_assistant: Annotated[
        bool | None,
        typer.Option(
            "--home-assistant/--no-home-assistant",
            help="Let Home Assistant find the piano, or take it away again.",
        ),
    ] = None,
    metrics: Annotated[
        int | None,
        typer.Option(
            "--metrics",
            metavar="PORT",
            min=1,
            max=65535,
            help="Tell Prometheus how the device is, at /metrics of this port, on this machine.",
        ),
    ] = None,
    dashboard: Annotated[
        int | None,
        typer.Option(
            "--dashboard",
            metavar="PORT",
            min=1,
            max=65535,
            help="Show the dashboard to browsers of the house, at this port.",
        ),
    ] = None,
    switch_on: Annotated[
        bool,
        typer.Option("--switch-on", help="Listen again after a command has switched it off."),
    ] = False,
    calibration: CalibrationFile = None,
    no_calibration: Annotated[
        bool,
        typer.Option("--no-calibration", help="Hear every piano as if it stood at A 440."),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Calibrate by what is played meanwhile; the next start uses it.",
        ),
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="With --file: as fast as it goes, not in real time.")
    ] = False,
    json: Json = False,
) -> None:
    """Listen to a piano and publish what is played.

    Ctrl-C (or SIGTERM) ends the session properly; after the command `restart` the exit code is 75.
    With --json every message is a line, and the
    last line sums up: {"boot", "last_seq", "dropped", ...}.
    """
    from edge.cli.listen import ListenOptions, run

    code = run(
        ListenOptions(
            mic=mic,
            file=file,
            midi_in=midi_in,
            midi_out=midi_out,
            midi_out_provisional=midi_out_provisional,
            broker=broker,
            embedded_broker=embedded_broker,
            no_mqtt=no_mqtt,
            model=model,
            catalog=catalog,
            piece=piece,
            settings=settings,
            device=device,
            wait_for_broker=wait_for_broker,
            wait_for_source=wait_for_source,
            outbox=outbox,
            home_assistant=home_assistant,
            metrics=metrics,
            dashboard=dashboard,
            switch_on=switch_on,
            calibration=calibration,
            no_calibration=no_calibration,
            calibrate=calibrate,
            fast=fast,
            json=json,
        ),
        software_version(),
    )
    if code:
        raise typer.Exit(code)


@app.command(
    short_help="Write recordings down as MIDI files.",
    epilog=_examples(
        "sostenuto transcribe waltz.flac --midi waltz.mid",
        "sostenuto transcribe recordings/ --midi-dir notes/",
    ),
)
def transcribe(
    audio: Annotated[
        list[Path],
        typer.Argument(
            metavar="AUDIO...",
            help="Recordings (WAV, FLAC, MP3, OGG), or folders that are searched for them.",
        ),
    ],
    midi: Annotated[
        Path | None,
        typer.Option("--midi", metavar="OUT.mid", help="Where the notes of one recording go."),
    ] = None,
    midi_dir: Annotated[
        Path | None,
        typer.Option(
            "--midi-dir", metavar="DIR", help="Folder for the notes of several, NAME.mid each."
        ),
    ] = None,
    model: Model = None,
    calibration: CalibrationFile = None,
    json: Json = False,
) -> None:
    """Write recordings down as Standard MIDI Files.

    The same ear as in `listen`, as fast as it goes. A recording that cannot be read is named and
    the others are written; the exit code is then 3.
    """
    from edge.cli.transcribe import run

    run(audio, midi=midi, midi_dir=midi_dir, model=model, calibration=calibration, json=json)


@app.command(
    short_help="Name the piece of a recording or MIDI file.",
    epilog=_examples(
        "sostenuto identify waltz.flac",
        "sostenuto identify played.mid --seconds 20 --json",
        "sostenuto identify --melody hummed.wav",
    ),
)
def identify(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A recording or a MIDI file.")],
    catalog: Catalog = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            metavar="N",
            min=0.5,
            help="Ask about so many seconds from the first note.  [default: 60]",
        ),
    ] = None,
    melody: Annotated[
        bool,
        typer.Option(
            "--melody",
            help="INPUT is one line: hummed, whistled or picked out with a finger, in any key "
            "and at any pace. Eight notes may do, a dozen are better.",
        ),
    ] = False,
    transposed: Annotated[
        bool,
        typer.Option("--transposed", help="Also look up to six semitones higher and lower."),
    ] = False,
    model: Model = None,
    json: Json = False,
) -> None:
    """Name the piece: the best five, how sure, and where in it.

    With --json one document: {"state": "matched" | "searching" | "none", "candidates": [...]}.
    """
    from edge.cli.identify import run, run_melody

    if melody:  # in whatever key
        run_melody(source, catalog=catalog, seconds=seconds, model=model, json=json)
    else:
        run(
            source,
            catalog=catalog,
            seconds=seconds,
            model=model,
            json=json,
            transposed=transposed,
        )


@app.command(
    short_help="Say what went right and wrong against the score.",
    epilog=_examples(
        "sostenuto practice played.mid --piece minuet_in_g --html bars.html",
        "sostenuto practice waltz.flac --bar 9 --json",
    ),
)
def practice(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A recording or a MIDI file.")],
    piece: Annotated[
        str | None,
        typer.Option(
            "--piece",
            metavar="ID",
            help="The piece, by the id that `sostenuto identify` prints.  [default: recognised]",
        ),
    ] = None,
    bar: Annotated[
        int | None,
        typer.Option("--bar", metavar="N", help="Where you began.  [default: the first bar]"),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Draw the bars as a page for a browser."),
    ] = None,
    catalog: Catalog = None,
    model: Model = None,
    calibration: CalibrationFile = None,
    json: Json = False,
) -> None:
    """Compare what was played with the score, bar by bar and hand by hand.

    Every note is right, wrong, missed, early or late, or too many; late is said against your own
    tempo. One hand alone, restarts, rolled chords and ornaments are no mistakes. Of a recording,
    what the ear itself may have got wrong is counted and not told.
    """
    from edge.cli.practice import run

    run(
        source,
        piece=piece,
        bar=bar,
        html=html,
        catalog=catalog,
        model=model,
        calibration=calibration,
        json=json,
    )


@app.command(
    short_help="Learn how a piano is tuned, and how loud it comes in.",
    epilog=_examples(
        "sostenuto calibrate my_piano.wav",
        "sostenuto calibrate --mic USB --seconds 20",
        "sostenuto calibrate --show",
    ),
)
def calibrate(
    audio: Annotated[
        Path | None,
        typer.Argument(
            metavar="[AUDIO]", help="A recording of this piano.  [default: the microphone]"
        ),
    ] = None,
    mic: Annotated[
        str | None,
        typer.Option("--mic", metavar="NAME", help="Microphone.  [default: the system's input]"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            metavar="N",
            min=5.0,
            help="Listen so long.  [default: 30 to a microphone, a recording whole]",
        ),
    ] = None,
    a4: Annotated[
        float,
        typer.Option(
            "--a4",
            metavar="HZ",
            min=390.0,
            max=490.0,
            help="Roughly where A4 is; needed where it lies further than a quarter tone from 440.",
        ),
    ] = 440.0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Where it is kept.  [default: where `listen` looks]"
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Tell what was found before; listen to nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Learn from a little playing how a piano stands, so that it is heard as well as one in tune.

    Ten seconds over several keys will do. Kept are tuning, stretch, level and noise floor;
    `listen` to a microphone uses them from its next start, `transcribe` with --calibration.
    """
    from edge.cli.calibrate import run

    run(audio, mic=mic, seconds=seconds, a4_hz=a4, out=out, show=show, json=json)


@app.command(
    short_help="List, write out or erase what was played.",
    epilog=_examples(
        "sostenuto history list --from 2026-11-20",
        "sostenuto history export --from 2026-11-20T18:00 --to 2026-11-20T19:00 --out evening.mid",
        "sostenuto history erase --all",
    ),
)
def history(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="list, export or erase.")],
    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="Not before this: 2026-11-20 or 2026-11-20T18:02."
        ),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="For export: a name ending in .mid or .json."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="For erase: all of it.")] = False,
    outbox: Annotated[
        Path | None,
        typer.Option(
            "--outbox", metavar="DIR", help="Where `listen` keeps it.  [default: as in `listen`]"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List, write out or erase what was played.

    Every note that ended is recorded while `listen` publishes, whether the broker was there or
    not. What is erased is overwritten, and is not sent any more either.
    """
    from edge.cli.history import run

    run(
        action,
        since=since,
        until=until,
        out=out,
        everything=everything,
        outbox=outbox,
        json=json,
    )


@app.command(
    short_help="Set up a broker: accounts, rights, TLS.",
    epilog=_examples(
        "sudo sostenuto broker setup /etc/mosquitto/sostenuto --device parlour",
        "sudo sostenuto broker setup /etc/mosquitto/sostenuto --house --host house.local "
        "--device parlour --device hall",
    ),
)
def broker(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="setup.")],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where mosquitto's configuration is written.")
    ],
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="A piano; give it again for more.  [default: this machine's]",
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="Name or address under which the broker is reached; give it again for more, the "
            "usual one first.  [default: this machine's]",
        ),
    ] = None,
    house: Annotated[
        bool,
        typer.Option(
            "--house", help="For any number of pianos, over TLS only; else for one, on its machine."
        ),
    ] = False,
    tls_port: Annotated[
        int, typer.Option("--tls-port", metavar="PORT", min=1, max=65535, help="MQTT under TLS.")
    ] = 8883,
    wss_port: Annotated[
        int,
        typer.Option("--wss-port", metavar="PORT", min=1, max=65535, help="Websockets under TLS."),
    ] = 8884,
    local_port: Annotated[
        int,
        typer.Option(
            "--local-port", metavar="PORT", min=1, max=65535, help="MQTT on this machine alone."
        ),
    ] = 1883,
    local_ws_port: Annotated[
        int,
        typer.Option(
            "--local-ws-port",
            metavar="PORT",
            min=1,
            max=65535,
            help="Websockets on this machine alone.",
        ),
    ] = 9001,
    json: Json = False,
) -> None:
    """Write the configuration of a mosquitto that can be left alone with a piano or a house.

    A piano may write its own topics only, a dashboard may read and command, all others nothing.
    Run it again to add pianos, or when the broker's certificate (three years) runs out: accounts,
    passwords and the authority stay as they are.
    """
    from edge.broker_setup import Ports
    from edge.cli.broker import run

    run(
        action,
        folder,
        devices=device or [],
        hosts=host or [],
        house=house,
        ports=Ports(tls_port, wss_port, local_port, local_ws_port),
        json=json,
    )


@app.command(
    name="dashboard",
    short_help="Show what a piano plays to browsers of the house.",
    epilog=_examples(
        "sostenuto dashboard --set-password",
        "sostenuto dashboard --device parlour --broker mqtt://house.local",
    ),
)
def dashboard_command(
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="PORT", min=1, max=65535, help="Where.  [default: 8480]"),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            "--broker",
            metavar="URL",
            help="Where the piano publishes, as in `listen`.  [default: mqtt://localhost]",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Name of the piano in the MQTT topics.  [default: as in `listen`]",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings", metavar="FILE", help="The settings of `listen`: read, and changed."
        ),
    ] = None,
    set_password: Annotated[
        bool,
        typer.Option("--set-password", help="Choose the password for the settings, and end."),
    ] = False,
) -> None:
    """Show what a piano plays, live, to every browser of the house; no internet needed.

    The same as `listen --dashboard`, in a process of its own: it stays when `listen` does not.
    Settings need the device's password, looking does not, unless dashboard_private says so.
    """
    from edge.cli.dashboard import DashboardOptions, run

    run(DashboardOptions(port, broker, device, settings, set_password))


@app.command(
    short_help="List microphones and MIDI inputs; show a level.",
    epilog=_examples("sostenuto devices", "sostenuto devices --level --mic USB"),
)
def devices(
    level: Annotated[
        bool, typer.Option("--level", help="Show how loud a microphone is, live; Ctrl-C ends it.")
    ] = False,
    mic: Annotated[
        str | None,
        typer.Option("--mic", metavar="NAME", help="With --level: which.  [default: the system's]"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="N", min=0.1, help="With --level: end after so long."),
    ] = None,
    json: Json = False,
) -> None:
    """List the microphones and MIDI inputs by the names that `listen` takes."""
    from edge.cli.devices import run

    run(level=level, mic=mic, seconds=seconds, json=json)


@app.command(
    short_help="List the installed note models and the catalogue.",
    epilog=_examples("sostenuto models", "sostenuto models --json"),
)
def models(json: Json = False) -> None:
    """List the installed note models, with their measured figures, and the catalogue."""
    from edge.cli.models import run

    run(json=json)


@app.command(
    short_help="Hear a piano piece; needs no microphone, no broker.",
    epilog=_examples("sostenuto demo", "sostenuto demo --recording waltz.flac --plain"),
)
def demo(
    recording: Annotated[
        Path | None,
        typer.Option(
            "--recording",
            metavar="AUDIO",
            help="Another recording than the one that was brought along.",
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of a screen, as without a terminal.")
    ] = False,
    model: Model = None,
    catalog: Catalog = None,
) -> None:
    """Hear a piano piece in real time, with a broker and a subscriber of its own.

    Everything on the screen comes from the MQTT messages as they arrive.
    """
    from edge.cli.demo import run

    run(recording=recording, plain=plain, model=model, catalog=catalog)


def main() -> None:
    """The command, as the shell calls it."""
    console.mute_libraries()
    console.log_to_stderr()
    code = run_command(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def run_command(arguments: list[str]) -> int:
    """Run one command; its exit code. Errors of the user's are told in one line."""
    command: Any = typer.main.get_command(app)
    as_json = "--json" in arguments
    try:
        code = command.main(arguments, prog_name="sostenuto", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SostenutoError as error:
        _complain(str(error), as_json)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted", as_json)
        return INTERRUPTED_EXIT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if hasattr(error, "format_message"):
            _complain(_usage_line(error), as_json)
            return USAGE_EXIT
        if console.debugging():
            raise
        _complain(
            f"an error of the program, please report it: {type(error).__name__}: {error} "
            f"({console.DEBUG_VARIABLE}=1 shows where)",
            as_json,
        )
        return BUG_EXIT


def _usage_line(error: Any) -> str:
    """What typer has to say of wrong options, in one line, with where help is."""
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "sostenuto")
    message = " ".join(str(error.format_message()).split()).rstrip(".")
    return f"{message}; see {path} --help"


def _complain(line: str, as_json: bool) -> None:
    line = " ".join(line.split())
    if as_json:
        import msgspec

        console.err(msgspec.json.encode({"error": line}).decode())
    else:
        console.err(f"sostenuto: {line}")
