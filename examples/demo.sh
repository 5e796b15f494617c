#!/usr/bin/env bash
# A day in a store, played with the real daemon and real clients in network namespaces of its own.
#
#   examples/demo.sh            plays the story; exits 0 only if every step was seen
#   examples/demo.sh --stay     then leaves the store open for a browser on this machine, until Ctrl-C
#   examples/demo.sh --release  builds and runs the release binary
#
# Needs root and, on Debian, installs the packages it misses. Removes all that it made.
set -euo pipefail
cd "$(dirname "$0")/.."

stay=false profile=debug
for argument; do
    case $argument in
    --stay) stay=true ;;
    --release) profile=release ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done

# --- saying what happens -------------------------------------------------------------------------

number=0
step() { number=$((number + 1)); printf '\n%2d. %s\n' "$number" "$*"; }
saw() { printf '    ✓ %s\n' "$*"; }
fail() {
    printf '    ✗ %s\n' "$*" >&2
    [ ! -s "${folder:-/nonexistent}/maitred.log" ] || tail -n 30 "$folder/maitred.log" >&2
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

# --- what it needs -------------------------------------------------------------------------------

[ "$(id -u)" = 0 ] || { echo "The demo makes network namespaces: run it as root." >&2; exit 1; }
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
PATH=$PATH:/usr/sbin:/sbin
need ip iproute2
need nft nftables
need dnsmasq dnsmasq-base
need busybox busybox
need dhclient isc-dhcp-client
need curl curl
need ping iputils-ping
need sysctl procps
need cc build-essential
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
if [ "${#missing[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || { echo "Missing: ${missing[*]}" >&2; exit 1; }
    echo "Installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v cargo >/dev/null || { echo "Missing: Rust 1.94 or newer (cargo)." >&2; exit 1; }

echo "Building maitred ($profile)"
flags=(--quiet --locked)
[ "$profile" = debug ] || flags+=(--release)
cargo build "${flags[@]}"
maitred=${CARGO_TARGET_DIR:-$PWD/target}/$profile/maitred

# --- the store -----------------------------------------------------------------------------------

name=mtdemo-$$
folder=$(mktemp -d)
pids=()

# shellcheck disable=SC2317 # called by the trap
remove() {
    set +e
    exec 2>/dev/null
    trap - EXIT INT TERM
    for pid in "${pids[@]}"; do kill -KILL "$pid"; done
    for place in internet router staff guest1 guest2 guest3; do
        for pid in $(ip netns pids "$name-$place"); do kill -KILL "$pid"; done
        ip netns del "$name-$place"
        rm -rf "/etc/netns/$name-$place"
    done
    ip link del "mtg-$$"
    ip link del "mts-$$"
    rmdir /etc/netns
    rm -rf "$folder"
}
trap remove EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

at() { local place=$1; shift; timeout --foreground 15 ip netns exec "$name-$place" "$@"; }
beside() {
    local place=$1 log=$2
    shift 2
    ip netns exec "$name-$place" "$@" >>"$folder/$log.log" 2>&1 &
    pids+=($!)
    last=$!
}
link() { ip -n "$name-$1" "${@:2}"; }
quiet() { ip netns exec "$name-$1" sysctl -qw "${@:2}"; }

# Four networks in 10.x that this machine does not use itself, for --stay.
for x in 77 78 79 177 178 179; do
    [ -z "$(ip -4 route show to root "10.$x.0.0/16"; ip -4 route show to match "10.$x.0.0/16" | grep -v ^default)" ] && break
    [ "$x" != 179 ] || fail "this machine has routes to all of 10.77, 10.78, 10.79, 10.177, 10.178, 10.179"
done
gate=10.$x.0.1 office=10.$x.64.1 web=10.$x.80.80
gate6=2001:db8:77::1 web6=2001:db8:203::80

for place in internet router staff guest1 guest2 guest3; do
    ip netns add "$name-$place"
    mkdir -p "/etc/netns/$name-$place"
    : >"/etc/netns/$name-$place/resolv.conf"
    quiet "$place" net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
    link "$place" link set lo up
done

quiet router net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
at router sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true
link router link add br-guest type bridge forward_delay 0
link router addr add "$gate/18" dev br-guest
link router addr add "$gate6/64" dev br-guest nodad
link router link set br-guest up
link router link add wan type veth peer name eth0 netns "$name-internet"
link router addr add 198.51.100.2/24 dev wan
link router addr add 2001:db8:100::2/64 dev wan nodad
link router link set wan up
link router link add br-lan type bridge forward_delay 0
link router addr add "$office/24" dev br-lan
link router link set br-lan up
link internet addr add 198.51.100.1/24 dev eth0
link internet addr add 2001:db8:100::1/64 dev eth0 nodad
link internet link set eth0 up
link internet addr add "$web/32" dev lo
link internet addr add 203.0.113.53/32 dev lo
link internet addr add "$web6/128" dev lo nodad
link internet route add 2001:db8:77::/64 via 2001:db8:100::2
link router route add default via 198.51.100.1
link router route add default via 2001:db8:100::1
link router link add lan type veth peer name eth0 netns "$name-staff"
link router link set lan master br-lan up
link staff addr add "10.$x.64.2/24" dev eth0
link staff link set eth0 up
for guest in 1 2 3; do
    # The third has a randomised MAC, as most phones do today.
    mac[guest]=3c:5a:b4:00:00:0$guest
    [ "$guest" != 3 ] || mac[guest]=da:a1:19:00:00:03
    link router link add "port$guest" type veth peer name eth0 address "${mac[guest]}" netns "$name-guest$guest"
    link router link set "port$guest" master br-guest up
done

# The router's own firewall as fw4 makes it: guests may not talk to the router, but for what the
# package opens; source NAT on the uplink.
at router nft -f - <<'RULES'
table inet fw4 {
    chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state established,related accept
        iifname "br-lan" accept
        meta l4proto { icmp, icmpv6 } accept
        iifname "br-guest" udp dport { 53, 67, 547 } accept
        iifname "br-guest" tcp dport { 53, 2050, 2051 } accept
        reject
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname { "br-guest", "br-lan" } oifname "wan" accept
        iifname "wan" oifname "br-guest" meta nfproto ipv6 accept
        reject
    }
    chain srcnat {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" meta nfproto ipv4 masquerade
    }
}
RULES

dns=(dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --no-resolv --no-hosts)
beside internet dns "${dns[@]}" --bind-interfaces --listen-address=203.0.113.53 \
    "--address=/#/$web" "--address=/#/$web6"
beside router dnsmasq "${dns[@]}" --no-ping --bind-dynamic --interface=br-guest --server=203.0.113.53 \
    --dhcp-authoritative "--dhcp-range=10.$x.1.1,10.$x.62.254,255.255.192.0,1h" \
    --dhcp-range=::,constructor:br-guest,ra-only,64,1h --enable-ra "--dhcp-leasefile=$folder/leases"

# The internet's web server, and HQ on it: a script that keeps what it gets and acknowledges it.
mkdir -p "$folder/www/cgi-bin" "$folder/hq" "$folder/spool"
echo '<!doctype html><title>Internet</title><p>This is the internet.' >"$folder/www/index.html"
cat >"$folder/www/cgi-bin/hq" <<HQ
#!/bin/sh
[ -e "$folder/hq/open" ] || { printf 'Status: 503 Service Unavailable\r\n\r\n'; exit; }
head -c "\$CONTENT_LENGTH" >"$folder/hq/body"
case \$HTTP_CONTENT_ENCODING in gzip) gzip -dc <"$folder/hq/body" ;; *) cat "$folder/hq/body" ;; esac >"$folder/hq/batch"
cat "$folder/hq/batch" >>"$folder/hq/rows"
seq=\$(sed -n 's/.*"seq":\([0-9]*\).*/\1/p' "$folder/hq/batch" | sort -n | tail -n 1)
printf 'Content-Type: application/json\r\n\r\n{"watermark":%s}' "\$seq"
HQ
chmod +x "$folder/www/cgi-bin/hq"
beside internet web busybox httpd -f -p '[::]:80' -h "$folder/www"

cat >"$folder/dhcp.sh" <<'SCRIPT'
#!/bin/sh
case "$1$reason" in
deconfig | RELEASE | EXPIRE | FAIL | STOP) ip -4 addr flush dev eth0 ;;
bound | renew | BOUND | RENEW | REBIND | REBOOT)
    ip addr replace "${ip:-$new_ip_address}/18" dev eth0
    ip route replace default via "${router:-$new_routers}"
    for server in ${dns:-$new_domain_name_servers}; do echo "nameserver $server"; done >"$RESOLV"
    ;;
esac
SCRIPT
chmod +x "$folder/dhcp.sh"

# --- what people do ------------------------------------------------------------------------------

# Comes in with a real DHCP client: arrive GUEST udhcpc|dhclient HOSTNAME
arrive() {
    local guest=$1 host=$3 resolv=RESOLV=/etc/netns/$name-guest$1/resolv.conf
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

# --- the story -----------------------------------------------------------------------------------

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
page=$(browse guest1 http://example.com/menu)
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
token() { "$maitred" token --key "$folder/follow.key" --store demo-1 --zone guest --mac "$1" --guest "$(printf '5e%.0s' {1..32})" --lifetime "$2"; }
follow guest3 "${portal}f/$(token "${mac[2]}" 5m)" >/dev/null
offline guest3 "http://$web/" || fail "another device's token opened the door"
saw "a token of another device opens nothing"
expired=$(token "${mac[3]}" 1s)
sleep 2.1
follow guest3 "${portal}f/$expired" >/dev/null
offline guest3 "http://$web/" || fail "an expired token opened the door"
saw "an expired one neither"
good=$(token "${mac[3]}" 5m)
follow guest3 "${portal}f/$good" >/dev/null
online guest3 http://example.com/ || fail "guest 3 is not online"
saw "its own opens the door"

step "Staff look at their page."
page=$(submit staff "http://$office:8080/staff/login" 'password=wrong')
! grep -q '<svg' <<<"$page" || fail "a wrong password shows the figures"
saw "not without the password"
sleep 1
page=$(submit staff "http://$office:8080/staff/login" 'password=tea and cake')
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
follow guest3 "${portal}f/$good" >/dev/null
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
printf '\nAll steps seen.\n'

# --- for a person --------------------------------------------------------------------------------

"$stay" || exit 0
for side in g:br-guest s:br-lan; do
    port=mt${side%%:*}-$$
    ip link add "$port" type veth peer name "host-${side%%:*}" netns "$name-router"
    sysctl -qw "net.ipv6.conf.$port.disable_ipv6=1"
    link router link set "host-${side%%:*}" master "${side#*:}" up
    ip link set "$port" up
done
ip addr add "10.$x.63.1/18" dev "mtg-$$"
ip addr add "10.$x.64.3/24" dev "mts-$$"
ip route add "10.$x.80.0/24" via "$gate" dev "mtg-$$"
cat <<PLACES

The store stays open until Ctrl-C. In a browser on this machine, which is now a guest:
    http://$web/          a page of "the internet": the store's page comes instead
    $portal        the store's page
    $folder/spool         the messages with the codes; any mainland mobile number will do
And as staff, with the password: tea and cake
    http://$office:8080/staff
The command line:
    ip netns exec $name-router $maitred clients --config $folder/maitred.toml
PLACES
while ! stopped; do sleep 1; done
fail "maitred ended"
