#!/usr/bin/env bash
# Creates a virtual environment with the newest supported Python of this machine, or says what to install.
set -euo pipefail
target=$1

for python in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
  old=${old:-$python}
  "$python" -c 'import venv, ensurepip' 2>/dev/null || continue
  echo "Creating $target with $("$python" --version)"
  rm -rf "$target"
  exec "$python" -m venv "$target"
done

if [ -z "${old:-}" ]; then
  echo "Python 3.11 or newer is needed. On Debian 12, Ubuntu 24.04 or newer install it with" >&2
else
  echo "$("$old" --version) has no venv module. Install it with" >&2
fi
echo "    sudo apt-get install --yes python3 python3-venv" >&2
exit 1
