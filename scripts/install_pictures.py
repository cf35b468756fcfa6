"""The pictures of docs/install.md, from real runs: `python scripts/install_pictures.py`.

Terminals are drawn by rich from what the programs printed, the page by chromium.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console

from device.flash import command
from device.flash.command import FlashOptions
from edge.dashboard.keeping import Keeper
from edge.dashboard.login import Doorkeeper
from edge.dashboard.server import DashboardServer, Piano
from edge.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.cards import make_bmap, make_image  # noqa: E402 - it lies at the root of a clone

IMAGES = ROOT / "docs" / "images"
COLUMNS = 92
ANSWERS = ("parlour", "House", "the house and its dog", "DE", "", "USB", "", "y")
TABLE = """\
name,ssid,wifi_password,country,broker
parlour,House,the house and its dog,DE,mqtts://house.local
hall,House,short,DE,mqtts://house.local
Parlour,House,the house and its dog,Germany,
,House,the house and its dog,DE,
"""


def terminal() -> Console:
    """A console that keeps what it is told, for a picture."""
    nowhere = Path("/dev/null").open("w")  # noqa: SIM115 - for as long as the script runs
    return Console(record=True, width=COLUMNS, file=nowhere, highlight=False)


def keep(console: Console, title: str, name: str) -> None:
    """The picture; fonts are those of whoever looks, and none is fetched."""
    drawn = console.export_svg(title=title, unique_id=name)
    drawn = re.sub(r"@font-face\s*\{.*?\}\s*", "", drawn, flags=re.DOTALL)
    (IMAGES / f"{name}.svg").write_text(drawn.replace("Fira Code, ", ""), encoding="utf-8")


def flash_one(folder: Path) -> None:
    """Step 3, asked and answered."""
    image = make_image(folder / "sostenuto.img")
    make_bmap(image)
    subprocess.run(["xz", "-0", "--keep", image], check=True)
    packed = image.with_name("sostenuto.img.xz")
    card = folder / "card.img"
    shutil.copy(image, card)
    console, answers = terminal(), iter(ANSWERS)

    def answer(question: str) -> str:
        given = next(answers)
        hidden = "password" in question
        console.print(question, end="")
        console.print("" if hidden else given, style="bold")
        return given

    console.input = answer  # type: ignore[assignment,method-assign] # somebody at the keyboard
    wishes = command.ask_wishes(console, answer)
    options = FlashOptions(image=packed, target=card.name, wishes=wishes)
    sys.stdin = type("Keyboard", (), {"isatty": lambda _: True})()  # type: ignore[assignment]
    with contextlib.chdir(folder):
        command.run(options, console)
    keep(console, f"sostenuto-device flash {packed.name} {card.name}", "install-flash")


def look_at_a_table(folder: Path) -> None:
    """A table with four faults."""
    table = folder / "pianos.csv"
    table.write_text(TABLE, encoding="utf-8")
    console = terminal()
    try:
        with contextlib.chdir(folder):
            command.run(FlashOptions(batch=Path(table.name), dry_run=True), console)
    except InputError as error:
        console.print(str(error), markup=False)
    keep(console, "sostenuto-device flash --batch pianos.csv --dry-run", "install-table")


def first_visit(folder: Path) -> None:
    """The page of a piano that nobody has a password for."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    settings = folder / "settings.toml"
    settings.write_text('device = "parlour"\n', encoding="utf-8")
    server = DashboardServer(
        Piano("parlour", None),
        Doorkeeper(folder / "password.json"),
        Keeper("parlour", settings).desk(),
        port=0,
        host="127.0.0.1",
    )
    with server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 720, "height": 660})
        page.goto(f"{server.url}#settings")
        page.get_by_role("button", name="This is my piano").wait_for()
        page.screenshot(path=IMAGES / "install-first-visit.png")
        browser.close()


def main() -> None:
    """All of them."""
    with tempfile.TemporaryDirectory() as folder:
        flash_one(Path(folder))
        look_at_a_table(Path(folder))
        first_visit(Path(folder))


if __name__ == "__main__":
    main()
