#!/bin/sh
# Installs the Debian packages of the named groups (packaging/debian-packages.txt) that are missing.
#   packaging/install.sh build test
set -eu

list=$(grep -v '^#' "$(dirname "$0")/debian-packages.txt")
for name; do
    echo "$list" | cut -d ' ' -f 1 | tr , '\n' | grep -qxF "$name" ||
        { echo "install.sh: no group \"$name\" in debian-packages.txt" >&2; exit 2; }
done

wanted() { # wanted GROUP,GROUP... NAME...: whether one of the groups is among the names
    in=",$1,"
    shift
    for name; do
        case $in in *",$name,"*) return 0 ;; esac
    done
    return 1
}
missing=
while read -r groups package command; do
    wanted "$groups" "$@" || continue
    [ -z "$command" ] || ! command -v "$command" >/dev/null || continue
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
        missing="$missing $package"
done <<LIST
$list
LIST
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Missing Debian packages; as root: apt-get install$missing" >&2
    exit 1
fi
echo "Installing$missing"
# For tests in namespaces alone: it must not take over this machine's own network.
case " $missing " in *" network-manager "*)
    mkdir -p /etc/systemd/system
    ln -sf /dev/null /etc/systemd/system/NetworkManager.service ;;
esac
# The lists may be missing, or old.
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of names
install_all() { apt-get -qq install -y --no-install-recommends -o Dpkg::Use-Pty=0 $missing >/dev/null; }
install_all 2>/dev/null || { apt-get -qq update && install_all; }
