#!/usr/bin/env bash
# Makes sure that the named programs and libraries exist: installs their Debian packages where it may, otherwise says how to.
# Without the right to install it is a failure in CI; elsewhere the tests that need the program are skipped.
set -euo pipefail

declare -A packages=(
  [mosquitto]=mosquitto [mosquitto_sub]=mosquitto-clients [strace]=strace [node]=nodejs [npm]=npm
  [cc]="gcc libc6-dev" [libmodbus]="pkg-config libmodbus-dev" [mbpoll]=mbpoll [ip]=iproute2 [mkfs.xfs]=xfsprogs
  [fish]=fish [zsh]=zsh
)
export PATH="$PATH:/usr/sbin"

there() {
  case $1 in
    lib*) command -v pkg-config >/dev/null && pkg-config --exists "$1" ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

missing=()
for what in "$@"; do
  # shellcheck disable=SC2206 # one thing may need several packages
  there "$what" || missing+=(${packages[$what]})
done
[ "${#missing[@]}" -eq 0 ] && exit 0

install=(apt-get install --yes --no-install-recommends "${missing[@]}")
if command -v apt-get >/dev/null; then
  sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo --non-interactive)
  if [ "$(id -u)" -eq 0 ] || sudo --non-interactive true 2>/dev/null; then
    echo "Installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get update --quiet=2 || true
    "${sudo[@]}" "${install[@]}" --quiet=2 >/dev/null && exit 0
  fi
fi

echo "System packages are missing: ${missing[*]}. Install them with" >&2
echo "    sudo ${install[*]}" >&2
[ -z "${CI:-}" ] || exit 1
echo "Tests that need them are skipped." >&2
