#!/bin/bash
# The store in network namespaces: its router, its guests and staff, and an internet. Sourced by story.sh.
# shellcheck disable=SC2034,SC2154 # variables of the three files are shared

at() { local place=$1; shift; timeout --foreground 15 ip netns exec "$place" "$@"; }
beside() {
    local place=$1 log=$2
    shift 2
    ip netns exec "$place" "$@" >>"$folder/$log.log" 2>&1 &
    last=$!
}
link() { ip -n "$1" "${@:2}"; }
quiet() { ip netns exec "$1" sysctl -qw "${@:2}"; }

# Four networks in 10.x that this machine does not use itself, for --stay.
for x in 77 78 79 177 178 179; do
    [ -z "$(ip -4 route show to root "10.$x.0.0/16"; ip -4 route show to match "10.$x.0.0/16" | grep -v ^default)" ] && break
    [ "$x" != 179 ] || fail "this machine has routes to all of 10.77, 10.78, 10.79, 10.177, 10.178, 10.179"
done
gate=10.$x.0.1 office=10.$x.64.1 web=10.$x.80.80
gate6=2001:db8:77::1 web6=2001:db8:203::80

for place in internet router staff guest1 guest2 guest3; do
    ip netns add "$place"
    mkdir -p "/etc/netns/$place"
    : >"/etc/netns/$place/resolv.conf"
    quiet "$place" net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
    link "$place" link set lo up
done

quiet router net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
at router sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true
link router link add br-guest type bridge forward_delay 0
link router addr add "$gate/18" dev br-guest
link router addr add "$gate6/64" dev br-guest nodad
link router link set br-guest up
link router link add wan type veth peer name eth0 netns "internet"
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
link router link add lan type veth peer name eth0 netns "staff"
link router link set lan master br-lan up
link staff addr add "10.$x.64.2/24" dev eth0
link staff link set eth0 up
for guest in 1 2 3; do
    # The third has a randomised MAC, as most phones do today.
    mac[guest]=3c:5a:b4:00:00:0$guest
    [ "$guest" != 3 ] || mac[guest]=da:a1:19:00:00:03
    link router link add "port$guest" type veth peer name eth0 address "${mac[guest]}" netns "guest$guest"
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
        iifname "br-guest" udp dport { 53, 67, 547, 2054 } accept
        iifname "br-guest" tcp dport { 53, 2050, 2051, 2054 } accept
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

