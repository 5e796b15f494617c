#!/bin/bash
# The story that examples/demo.sh plays, which runs this in mount and process namespaces of its own:
#   story.sh MAITRED STAY
# Exits 0 only if every step was seen.
set -euo pipefail
umask 077

maitred=$1 stay=$2
here=$(dirname "$0")
# Before /proc is our own: our process id as the rest of the machine knows it.
read -r outside _ </proc/self/stat
mount -t proc proc /proc
# All files are in memory, also what `ip netns` keeps in /run and /etc.
mount -t tmpfs tmpfs /run
cp -a /etc /run/etc
mount --bind /run/etc /etc
rm -f /etc/resolv.conf
: >/etc/resolv.conf
folder=/run/demo
mkdir "$folder"

number=0
step() { number=$((number + 1)); printf '\n%2d. %s\n' "$number" "$*"; }
saw() { printf '    ✓ %s\n' "$*"; }
fail() {
    printf '    ✗ %s\n' "$*" >&2
    [ ! -s "$folder/maitred.log" ] || tail -n 30 "$folder/maitred.log" >&2
    exit 1
}
# Waits for a command to succeed: until_true SECONDS WHAT COMMAND…
until_true() {
    local left=$(($1 * 20)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || fail "waited in vain for $what"
        sleep 0.05
    done
}

# shellcheck source=examples/demo/store.sh
. "$here/store.sh"
# shellcheck source=examples/demo/people.sh
. "$here/people.sh"

step "The store opens: a router with a guest network, a staff network and an uplink."
public=$("$maitred" token --generate "$folder/follow.key")
cat >"$folder/maitred.toml" <<CONFIG
[store]
id = "demo-1"
name = "Demo Tea"
time_zone = "CST-8"
state_dir = "$folder/state"
run_dir = "$folder/run"
clock = "always"
commit_every = "200ms"

[[zone]]
name = "guest"
interface = "br-guest"

[dns]
private_answers = true   # this internet is in your machine

[code]
resend_after = "1s"

[sms]
provider = "spool"
dir = "$folder/spool"

[follow]
keys = ["$public"]

[visit]                # a stay is over quickly here, so that the story is short
leave_after = "2s"
merge_gap = "3s"

[staff]
listen = "$office:8080"
password_hash = "$(echo 'tea and cake' | "$maitred" password)"

[hq]
url = "http://$web/cgi-bin/hq"
CONFIG
"$maitred" check "$folder/maitred.toml" >/dev/null || fail "the configuration is refused"
saw "the configuration is valid"
gateway
saw "maitred runs"
! ctl run >"$folder/second" 2>&1 || fail "a second instance started"
saw "a second one refuses: $(tail -n 1 "$folder/second")"

step "Guest 1 comes in; the phone asks for an address (busybox udhcpc)."
arrive 1 udhcpc li-wei
saw "it has $(address 1 -4) and $(address 1 -6)"
until_true 3 "the device to be known" eval 'ctl clients | grep -qi li-wei'
saw "maitred knows it by name before its first request:"
ctl clients | sed 's/^/      /'

step "The phone opens a page."
page=$(browse guest1 -4 http://example.com/menu)
portal=$(sed -n 's/^[Ll]ocation: *//p' <<<"$page")
grep -q '^HTTP/1.1 302' <<<"$page" || fail "no redirect: $page"
saw "IPv4: 302 to $portal"
page6=$(browse guest1 "http://[$web6]/")
grep -q '^HTTP/1.1 302' <<<"$page6" || fail "no redirect: $page6"
saw "IPv6: 302 to $(sed -n 's/^[Ll]ocation: *//p' <<<"$page6")"
portal=http://$(cut -d/ -f3 <<<"$portal")/
for place in "https://$web/" "https://[$web6]/"; do
    said=$(at guest1 curl -sS -g --max-time 2 -w '%{time_total}' -o /dev/null "$place" 2>&1) && fail "$place opened"
    grep -qi 'refused\|could not connect\|couldn.t connect\|failed to connect' <<<"$said" || fail "$place: $said"
    saw "$place is refused at once (${said##*$'\n'} s)"
done
! at guest1 ping -n -q -c 1 -W 1 "$web" >/dev/null || fail "a ping got out"
saw "a ping does not get out"

step "The page asks for a phone number and sends a code."
page=$(follow guest1 "$portal" -H 'Accept-Language: zh-CN')
grep -q 'lang="zh' <<<"$page" || fail "not in Chinese: $page"
saw "the page speaks Chinese to a Chinese phone"
page=$(follow guest1 "$portal" -H 'Accept-Language: en')
grep -q 'lang="en' <<<"$page" || fail "not in English: $page"
saw "and English to an English one"
ask_code 1 "$portal" 13800138001
saw "a message came to the phone: $code"
wrong=000000
[ "$code" != 000000 ] || wrong=000001
submit guest1 "${portal}code" "code=$wrong" >/dev/null
offline guest1 "http://$web/" || fail "a wrong code opened the door"
saw "a wrong code opens nothing"
page=$(submit guest1 "${portal}code" "code=$code")
grep -q 'action="/logout"' <<<"$page" || fail "no online page: $page"
saw "the right one does: the page says so"
online guest1 http://example.com/ || fail "guest 1 is not online"
saw "the next page is the internet's, over IPv4"
online guest1 "http://[$web6]/" || fail "guest 1 is not online over IPv6"
saw "and over IPv6, with the same grant"

step "Guest 2 comes in with another client (dhclient) and does the same."
arrive 2 dhclient han-mei
offline guest2 "http://$web/" || fail "guest 2 is online before the login"
ask_code 2 "$portal" 13800138002
submit guest2 "${portal}code" "code=$code" >/dev/null
online guest2 http://example.com/ || fail "guest 2 is not online"
saw "online"

step "Guest 3 follows the store's account instead: a signed token for this device."
arrive 3 udhcpc anna
token() { "$maitred" token --key "$folder/follow.key" --store demo-1 --zone guest --mac "$1" --guest "$(printf '5e%.0s' {1..16})" --lifetime "$2"; }
submit guest3 "${portal}f/$(token "${mac[2]}" 5m)" terms=yes >/dev/null
offline guest3 "http://$web/" || fail "another device's token opened the door"
saw "a token of another device opens nothing"
expired=$(token "${mac[3]}" 1s)
sleep 2.1
submit guest3 "${portal}f/$expired" terms=yes >/dev/null
offline guest3 "http://$web/" || fail "an expired token opened the door"
saw "an expired one neither"
good=$(token "${mac[3]}" 5m)
follow guest3 "${portal}f/$good" | grep -q 'name="terms"' || fail "the link does not ask to agree to the terms"
offline guest3 "http://$web/" || fail "looking at a link opened the door"
submit guest3 "${portal}f/$good" terms=yes >/dev/null
online guest3 http://example.com/ || fail "guest 3 is not online"
saw "its own opens the door"

step "Staff look at their page."
page=$(submit staff "http://$office:8080/staff/login" 'password=wrong')
! grep -q '<svg' <<<"$page" || fail "a wrong password shows the figures"
saw "not without the password"
sleep 1
page=$(staff_log_in)
for guest in li-wei han-mei anna '<svg'; do
    grep -q "$guest" <<<"$page" || fail "no $guest on the page: $page"
done
! grep -q 1380013800 <<<"$page" || fail "the page shows a number"
saw "li-wei, han-mei and anna are in the store; a chart; no phone number"
! at guest1 curl -s --max-time 2 "http://$office:8080/staff" >/dev/null || fail "a guest reaches the staff page"
saw "a guest does not reach it"

step "A clerk shows guest 3 the door."
ctl revoke "${mac[3]}" >/dev/null
offline guest3 "http://$web/" || fail "guest 3 is still online"
saw "maitred revoke: offline"
follow guest3 "${portal}f/$good" | grep -q 'name="terms"' || fail "the link does not ask to agree to the terms"
offline guest3 "http://$web/" || fail "looking at a link opened the door"
submit guest3 "${portal}f/$good" terms=yes >/dev/null
offline guest3 "http://$web/" || fail "the token was good twice"
saw "the token that was good before is not good twice"

step "The daemon is restarted, then killed, while guest 1 sends 100 pings a second."
for signal in TERM KILL; do
    beside guest1 "ping-$signal" ping -n -q -i 0.01 -c 300 -W 1 "$web"
    ping=$last
    sleep 0.5
    stop "$signal"
    online guest1 "http://$web/" || fail "offline without the daemon"
    offline guest3 "http://$web/" || fail "the wall fell with the daemon"
    gateway
    wait "$ping" || true
    grep -q '300 received, 0% packet loss' "$folder/ping-$signal.log" || fail "$(cat "$folder/ping-$signal.log")"
    saw "SIG$signal and start: 300 of 300 pings came back, and the wall stood"
done

step "Guest 1 leaves and comes back."
staff_log_in >/dev/null
browse guest1 "$portal" >/dev/null
until_true 3 "the staff page to show li-wei" visits_grew li-wei 0
before=$(visits li-wei)
leave 1
sleep 6
arrive 1 udhcpc li-wei
if offline guest1 "http://$web/"; then
    ask_code 1 "$portal" 13800138001
    submit guest1 "${portal}code" "code=$code" >/dev/null
fi
online guest1 "http://$web/" || fail "guest 1 is not online again"
saw "online again"
ctl clients | sed 's/^/      /'
until_true 5 "the staff page to count the return" visits_grew li-wei "$before"
saw "the staff page counts visit $(visits li-wei), after $before"
leave 1
sleep 6

step "At night the record goes to HQ."
! ctl sync --now >/dev/null 2>&1 || fail "HQ was down, yet the sync succeeded"
saw "HQ is down: the sync says so and keeps everything"
touch "$folder/hq/open"
ctl sync --now >/dev/null || fail "the sync failed"
rows=$(wc -l <"$folder/hq/rows")
[ "$rows" -ge 3 ] || fail "HQ has $rows rows only"
saw "HQ is up: $rows rows arrived, such as"
sed 's/^/      /' "$folder/hq/rows" | cut -c1-150 | head -n 4
! grep -q 1380013800 "$folder/hq/rows" || fail "a phone number went to HQ in clear"
saw "no phone number is among them"
ctl sync --now >/dev/null || fail "the second sync failed"
[ "$(wc -l <"$folder/hq/rows")" = "$rows" ] || fail "acknowledged rows were sent again"
saw "a second run sends nothing twice"

! grep -q '1380013800\|panicked' "$folder/maitred.log" || fail "the log has a phone number or a panic"
saw "the log has no phone number in it"
printf '\nAll steps seen, in %d s.\n' "$SECONDS"

"$stay" || exit 0

# --- for a person --------------------------------------------------------------------------------

# Two cables from this machine, into the guest network and into the staff network.
cable() { # cable NAME BRIDGE ADDRESS
    ip link add "$1" type veth peer name "$1" netns router
    sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"
    link router link set "$1" master "$2" up
    ip addr add "$3" dev "$1"
    ip link set "$1" up
}
cable "mtguest$x" br-guest "10.$x.63.1/18"
cable "mtstaff$x" br-lan "10.$x.64.3/24"
ip route add "10.$x.80.0/24" via "$gate" dev "mtguest$x"
# From here on, stays are counted as in a real store.
stop TERM
sed -i '/^\[visit\]/,/^$/d' "$folder/maitred.toml"
rm -f "$folder"/spool/*.json
gateway
cat <<PLACES

The store stays open until Ctrl-C. In a browser on this machine, which is now a guest:
    http://$web/         a page of "the internet": the store's page comes instead
    http://$gate:2050/      the store's page; any mainland mobile number will do
And as staff, with the password: tea and cake
    http://$office:8080/staff
The command line:
    nsenter -t $outside -m ip netns exec router $maitred clients --config $folder/maitred.toml
Messages to phones appear here:
PLACES
while ! stopped; do
    for message in "$folder"/spool/*.json; do
        [ -e "$message" ] || continue
        sed 's/.*"text":"\(.*\)","to":"\(.*\)".*/    \2: \1\n/' "$message"
        rm "$message"
    done
    sleep 0.5
done
fail "maitred ended"
