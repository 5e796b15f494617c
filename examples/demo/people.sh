#!/bin/bash
# What people in the store do, with real clients. Sourced by story.sh.
# shellcheck disable=SC2034,SC2154 # variables of the three files are shared

# Comes in with a real DHCP client: arrive GUEST udhcpc|dhclient HOSTNAME
arrive() {
    local guest=$1 host=$3 resolv=RESOLV=/etc/netns/guest$1/resolv.conf
    link "guest$guest" link set eth0 up
    case $2 in
    udhcpc)
        beside "guest$guest" dhcp env "$resolv" busybox udhcpc -f -i eth0 -R -t 20 -T 1 -s "$folder/dhcp.sh" -x "hostname:$host"
        ;;
    dhclient)
        echo "send host-name \"$host\";" >"$folder/dhclient.conf"
        beside "guest$guest" dhcp dhclient -4 -d -cf "$folder/dhclient.conf" -sf "$folder/dhcp.sh" \
            -lf "$folder/dhclient.leases" -pf "$folder/dhclient.pid" -e "$resolv" eth0
        ;;
    esac
    client[guest]=$last
    until_true 15 "a lease" address "$guest" -4
    until_true 15 "an IPv6 address" address "$guest" -6
}
address() { link "guest$1" "$2" -o addr show dev eth0 scope global | awk '{ sub("/.*", "", $4); print $4; found = 1 } END { exit !found }'; }
leave() {
    kill -TERM "${client[$1]}"
    wait "${client[$1]}" 2>/dev/null || true
    link "guest$1" link set eth0 down
}

browse() { # browse PLACE URL [curl's options…]: the page, with its head
    local place=$1
    at "$place" curl -sS -i -g --max-time 5 -b "$folder/$place.jar" -c "$folder/$place.jar" "${@:2}" | tr -d '\r'
}
follow() { browse "$@" -L --max-redirs 5; }
submit() { # submit PLACE URL NAME=VALUE…: posts a form and goes where the answer leads
    local place=$1 url=$2 fields=()
    shift 2
    for field; do fields+=(--data-urlencode "$field"); done
    follow "$place" "$url" "${fields[@]}"
}
online() { at "$1" curl -s -g --max-time 3 "$2" 2>/dev/null | grep -q 'This is the internet'; }
offline() { ! online "$@"; }
code_for() { cat "$folder/spool/"*.json 2>/dev/null | grep -o "{[^}]*$1[^}]*}" | grep -o '"code": *"[0-9]*"' | tail -n 1 | grep -o '[0-9]*'; }
ask_code() { # ask_code GUEST PORTAL PHONE
    local page messages
    messages=$(find "$folder/spool" -name '*.json' | wc -l)
    page=$(submit "guest$1" "$2phone" "phone=$3" terms=yes)
    grep -q 'action="/code"' <<<"$page" || fail "no form for the code: $page"
    until_true 5 "a message to $3" more_messages "$messages"
    code=$(code_for "$3")
}
# shellcheck disable=SC2317 # called by until_true
more_messages() { [ "$(find "$folder/spool" -name '*.json' | wc -l)" -gt "$1" ]; }

staff_log_in() { submit staff "http://$office:8080/staff/login" 'password=tea and cake'; }
# The number of a present device's visit, as the staff page has it: visits HOSTNAME
visits() { browse staff "http://$office:8080/staff" | sed -n "s|.*<td>$1<span.*<td class=\"num\">\([0-9]*\)</td></tr>.*|\1|p"; }
# shellcheck disable=SC2317 # called by until_true
visits_grew() { local now; now=$(visits "$1"); [ "${now:-0}" -gt "$2" ]; }

gateway() { # starts the daemon and waits until it answers
    beside router maitred "$maitred" run --config "$folder/maitred.toml"
    daemon=$last
    until_true 10 "maitred to answer" ctl status
}
ctl() { at router "$maitred" "$@" --config "$folder/maitred.toml"; }
stopped() { ! kill -0 "$daemon" 2>/dev/null; }
stop() { # stop SIGNAL
    kill "-$1" "$daemon"
    wait "$daemon" 2>/dev/null || true
}

