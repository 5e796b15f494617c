#!/bin/sh
# fw4 refuses what guests send to the router itself. Lets through what maitred needs, in the fw4
# zones of maitred's interfaces: the portal and the intercept listener (at their usual ports), DNS
# and DHCP. Run again after a zone was added; `remove` takes it back; `interfaces` only names them.

interfaces() {
	sed -n "s/^ *interface *= *[\"']\([^\"']*\)[\"'].*/\1/p" /etc/maitred/maitred.toml
}

# A named section, so that a second run changes nothing: rule ZONE WHAT PROTOCOLS PORTS [FAMILY]
rule() {
	local section family=
	section="maitred_$(printf %s "$1" | tr -c 'A-Za-z0-9' _)_$2"
	[ -z "$5" ] || family="set firewall.$section.family='$5'"
	uci -q batch <<-END
		set firewall.$section=rule
		set firewall.$section.name='maitred: $2 from $1'
		set firewall.$section.src='$1'
		set firewall.$section.proto='$3'
		set firewall.$section.dest_port='$4'
		set firewall.$section.target='ACCEPT'
		$family
	END
}

remove() {
	local section
	for section in $(uci -q show firewall | sed -n 's/^firewall\.\(maitred_[A-Za-z0-9_]*\)=rule$/\1/p'); do
		uci delete "firewall.$section"
	done
}

# The devices of the fw4 zone with this index.
devices() {
	local network
	uci -q get "firewall.@zone[$1].device"
	for network in $(uci -q get "firewall.@zone[$1].network"); do
		uci -q get "network.$network.device"
	done
}

add() {
	local index=0 zone wanted
	wanted=$(interfaces)
	while zone=$(uci -q get "firewall.@zone[$index].name"); do
		if devices "$index" | tr ' ' '\n' | grep -qxF "$wanted"; then
			rule "$zone" portal tcp '2050 2051 2053'
			rule "$zone" dns 'tcp udp' '53 2054'
			rule "$zone" dhcp udp 67 ipv4
			rule "$zone" dhcpv6 udp 547 ipv6
		fi
		index=$((index + 1))
	done
}

[ "$1" != interfaces ] || { interfaces; exit; }
remove
[ "$1" = remove ] || add
uci commit firewall
# At the first boot the firewall starts later by itself.
if [ -e /var/run/fw4.state ]; then /etc/init.d/firewall reload; fi
