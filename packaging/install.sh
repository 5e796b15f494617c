#!/bin/sh
# Installs the Debian packages of the named groups (packaging/debian-packages.txt) that are missing.
#   packaging/install.sh build test
set -eu

list=$(dirname "$0")/debian-packages.txt
missing=
for group in "$@"; do
    grep -q "^$group " "$list" || { echo "install.sh: no group \"$group\" in $list" >&2; exit 2; }
done
while read -r group package command; do
    case " $* " in *" $group "*) ;; *) continue ;; esac
    [ -z "$command" ] || ! command -v "$command" >/dev/null || continue
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
        missing="$missing $package"
done <"$list"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Missing Debian packages; as root: apt-get install$missing" >&2
    exit 1
fi
echo "Installing$missing"
# The lists may be missing, or old.
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of names
install_all() { apt-get -qq install -y --no-install-recommends -o Dpkg::Use-Pty=0 $missing >/dev/null; }
install_all 2>/dev/null || { apt-get -qq update && install_all; }
