#!/usr/bin/env bash
# Sets up .venv for `make demo` (what a device needs and the demo) or `make test` (all of it):
# system packages, a Python of 3.11 to 3.13, the project and its extras. Says what it does,
# does nothing when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose="${1:-}"
case "$purpose" in
  demo) extras="demo,scores" ;;
  test) extras="demo,scores,train,convert,ray,fleet,dev" ;;
  *) echo "setup.sh: '$purpose' given; allowed: demo, test" >&2; exit 2 ;;
esac

say() { printf 'sostenuto: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
debian_has() { have dpkg-query && dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# -- system packages -------------------------------------------------------------------------

may_be_root() { # sudo may ask for a password only where somebody can answer
  [ "$(id -u)" = 0 ] || { have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

lists_are_fresh=no
install_packages() { # PACKAGE...; fails if apt-get is not here, may not be used, or fails
  { have apt-get && may_be_root; } || return 1
  say "installing Debian packages: $*"
  if [ $lists_are_fresh = no ]; then
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null || return 1
    lists_are_fresh=yes
  fi
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

# A service that came in with a package we asked for is not one the user asked for.
quieten_service() { # UNIT...
  if [ -d /run/systemd/system ]; then
    as_root systemctl disable --now --quiet "$@" || true
  else
    for unit in "$@"; do
      if [ -x "/etc/init.d/$unit" ]; then as_root "/etc/init.d/$unit" stop >/dev/null 2>&1 || true; fi
    done
  fi
}

# -- a Python --------------------------------------------------------------------------------

python_fits() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if have "$candidate" && python_fits "$candidate"; then command -v "$candidate"; return; fi
  done
  return 1
}

python="$(find_python || true)"
if [ -z "$python" ] && ! have python3; then
  install_packages python3 python3-venv ||
    die "no python3 here, and apt-get may not be used; run as root: apt-get install python3 python3-venv"
  python="$(find_python || true)"
fi
[ -n "$python" ] ||
  die "$(python3 --version 2>&1) found; Sostenuto needs 3.11 to 3.13: install one of them, or name it with PYTHON=/path/to/python3.11 make $purpose"

version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
is_debians_python() { case "$(readlink -f "$python")" in /usr/bin/*) return 0 ;; *) return 1 ;; esac; }

# -- what is missing -------------------------------------------------------------------------

needed=()   # without these the command cannot do its work
wished=()   # without these the demo runs, but the microphone or MIDI input is left out

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then needed+=("python$version-venv"); fi

importable() { [ -x .venv/bin/python ] && .venv/bin/python -c "import $1" 2>/dev/null; }
compiling=()
if ! importable pyaudio; then
  have cc || compiling+=(gcc libc6-dev)
  [ -e /usr/include/portaudio.h ] || compiling+=(portaudio19-dev)
fi
if ! importable rtmidi && [ "$version" = 3.13 ]; then # no wheel of python-rtmidi for 3.13 yet
  have c++ || compiling+=(g++)
  [ -e /usr/include/alsa/asoundlib.h ] || compiling+=(libasound2-dev)
  have pkg-config || compiling+=(pkgconf)
fi
if ! importable pyaudio || ! importable rtmidi; then
  header="$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
  if [ ! -e "$header" ] && is_debians_python; then compiling+=("python$version-dev"); fi
fi

no_mosquitto=no
no_nats=no
no_pulseaudio=no
if [ "$purpose" = demo ]; then
  wished+=("${compiling[@]}")
else
  needed+=("${compiling[@]}")
  if ! have mosquitto && [ ! -x /usr/sbin/mosquitto ]; then no_mosquitto=yes; needed+=(mosquitto); fi
  if ! have nats-server && [ ! -x /usr/sbin/nats-server ]; then no_nats=yes; needed+=(nats-server); fi
  if ! have openssl; then needed+=(openssl); fi
  # Signed bundles are made and verified; small card images are made, packed and written.
  if ! have rauc; then needed+=(rauc); fi
  if ! have mksquashfs; then needed+=(squashfs-tools); fi
  if ! have mcopy; then needed+=(mtools); fi
  if ! have mkfs.vfat && [ ! -x /usr/sbin/mkfs.vfat ]; then needed+=(dosfstools); fi
  if ! have sfdisk && [ ! -x /usr/sbin/sfdisk ]; then needed+=(fdisk); fi
  if ! have xz; then needed+=(xz-utils); fi
  if ! have zstd; then needed+=(zstd); fi
  if ! have chromium && ! have chromium-browser; then needed+=(chromium); fi
  # The tests of a live MIDI port need a real one: JACK's needs no sound card.
  if [ ! -e /dev/snd/seq ] && ! have jackd; then needed+=(jackd2); fi
  # Where PipeWire carries the sound, installing PulseAudio would push it out: the tests of a
  # live microphone are skipped there and say so.
  if ! have pulseaudio; then
    if debian_has pipewire-pulse || debian_has pipewire-audio; then
      say "PipeWire carries the sound here: the tests that need PulseAudio will be skipped"
    else
      no_pulseaudio=yes; needed+=(pulseaudio pulseaudio-utils libasound2-plugins)
    fi
  fi
fi

if [ ${#needed[@]} -gt 0 ] || [ ${#wished[@]} -gt 0 ]; then
  if ! install_packages "${needed[@]}" "${wished[@]}"; then
    [ ${#needed[@]} = 0 ] ||
      die "missing, and apt-get could not install them; run as root: apt-get install ${needed[*]}"
    say "the demo goes on without microphone or MIDI input; for them run as root: apt-get install ${wished[*]}"
  fi
fi
if [ $no_mosquitto = yes ]; then quieten_service mosquitto; fi
if [ $no_nats = yes ]; then quieten_service nats-server; fi
if [ $no_pulseaudio = yes ] && [ -d /run/systemd/system ]; then
  as_root systemctl --global disable --quiet pulseaudio.service pulseaudio.socket || true
fi

# -- the environment -------------------------------------------------------------------------

# What .venv was set up from; another place, Python or pyproject.toml makes it again.
wanted="$(pwd) $version $(cat pyproject.toml "$0" | sha256sum | cut -d ' ' -f 1)"
stamp_of() { printf '.venv/.set-up-for-%s' "$1"; }
if [ "$(cat "$(stamp_of "$purpose")" 2>/dev/null || true)" = "$wanted" ]; then exit 0; fi

if [ -e .venv ] && ! .venv/bin/pip --version >/dev/null 2>&1; then
  say ".venv is of another place or a Python that is gone: making it again"
  rm -rf .venv
fi
if [ -e .venv ] && ! python_fits .venv/bin/python; then
  say ".venv has $(.venv/bin/python --version); 3.11 to 3.13 needed: making it again"
  rm -rf .venv
fi
[ -e .venv ] || "$python" -m venv .venv

say "installing Python packages into .venv (the first time takes a minute or two)"
export PIP_DISABLE_PIP_VERSION_CHECK=1
.venv/bin/pip install --quiet --editable ".[$extras]" ||
  die "pip could not install the packages: the lines above say why; then run 'make $purpose' again"

# These two are compiled where no wheel is offered, so they may fail where the rest does not.
build_log="$(mktemp)"
trap 'rm -f "$build_log"' EXIT
for extra in mic midi; do
  if ! .venv/bin/pip install --quiet --editable ".[$extra]" >"$build_log" 2>&1; then
    if [ "$purpose" = test ]; then cat "$build_log" >&2; die "the extra '$extra' could not be built"; fi
    say "the extra '$extra' could not be built and is left out; once its compiler and headers are here: .venv/bin/pip install -e '.[$extra]'"
  fi
done

# The fallback runtime has an environment of its own: it wants Python 3.11 and an old numpy.
if [ "$purpose" = test ] && have python3.11 && python3.11 -c 'import ensurepip, venv' 2>/dev/null; then
  if ! .venv-tflite/bin/python -c 'import tflite_runtime, numpy, msgspec' 2>/dev/null; then
    rm -rf .venv-tflite
    python3.11 -m venv .venv-tflite
    .venv-tflite/bin/pip install --quiet 'tflite-runtime==2.14.0' 'numpy<2' msgspec samplerate soundfile ||
      { rm -rf .venv-tflite; say "tflite-runtime could not be installed: its test will be skipped"; }
  fi
fi

printf '%s\n' "$wanted" >"$(stamp_of "$purpose")"
if [ "$purpose" = test ]; then printf '%s\n' "$wanted" >"$(stamp_of demo)"; fi
