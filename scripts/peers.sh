#!/usr/bin/env bash
# Puts others' work into .peers/, apart from .venv, to be measured beside ours: Basic Pitch 0.4.0
# (Apache-2.0), an ear, and parangonar 3.4.0 (Apache-2.0), which aligns notes with scores. The wheel
# of the first asks for an old TensorFlow, so it comes without its dependencies: its model runs on
# LiteRT, and what its note creation imports is installed beside it.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.peers/.whole
wanted="$(pwd) $(sha256sum "$0" | cut -d ' ' -f 1)"
if [ "$(cat $stamp 2>/dev/null || true)" = "$wanted" ]; then exit 0; fi

printf 'sostenuto: installing Basic Pitch and parangonar into .peers/ (900 MB, two minutes)\n' >&2
rm -rf .peers
.venv/bin/python -m venv .peers/venv
export PIP_DISABLE_PIP_VERSION_CHECK=1
.peers/venv/bin/pip install --quiet 'ai-edge-litert==2.3.0' 'librosa==0.11.0' 'mir_eval==0.8.2' \
  'numpy>=2.2,<2.5' 'pretty_midi==0.2.11' 'resampy==0.4.2' 'scikit-learn>=1.6,<2' \
  'scipy>=1.14,<1.18' 'setuptools<81'
.peers/venv/bin/pip install --quiet --no-deps 'basic-pitch==0.4.0'
.peers/venv/bin/pip install --quiet 'parangonar==3.4.0' 'partitura==1.9.0' 'tqdm>=4.66,<5'
printf '%s\n' "$wanted" >$stamp
