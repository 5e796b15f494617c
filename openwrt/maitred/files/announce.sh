#!/bin/sh
# Lets dnsmasq read the options that maitred writes to portal.dnsmasq_dir: makes the folder, names
# it in a snippet of dnsmasq's own conf-dir, and lets dnsmasq's jail see it. Run at each start, as
# conf-dir is in memory; `remove` takes it back.

CONFIG=/etc/maitred/maitred.toml
SNIPPET=maitred.conf

value() { # value KEY: a text of the configuration
	sed -n "s/^ *$1 *= *[\"']\([^\"']*\)[\"'].*/\1/p" "$CONFIG" | head -n 1
}

# The conf-dir of each dnsmasq that runs, as its generated configuration has it.
folders() {
	sed -n 's/^conf-dir=\([^,]*\).*/\1/p' /var/etc/dnsmasq.conf* 2>/dev/null | sort -u
}

restart() {
	/etc/init.d/dnsmasq restart
}

remove() {
	local folder changed=
	for folder in $(folders); do
		[ ! -e "$folder/$SNIPPET" ] || { rm "$folder/$SNIPPET" && changed=1; }
	done
	[ -z "$changed" ] || restart
}

add() {
	local options="$1" user="$2" folder line changed=
	mkdir -p "$options" && chown "${user:-root}" "$options"
	if ! uci -q get dhcp.@dnsmasq[0].addnmount | tr ' ' '\n' | grep -qxF "$options"; then
		uci add_list dhcp.@dnsmasq[0].addnmount="$options"
		uci commit dhcp
		changed=1
	fi
	line="dhcp-optsdir=$options"
	for folder in $(folders); do
		[ "$(cat "$folder/$SNIPPET" 2>/dev/null)" = "$line" ] && continue
		mkdir -p "$folder" && echo "$line" >"$folder/$SNIPPET"
		changed=1
	done
	[ -z "$changed" ] || restart
}

options=$(value dnsmasq_dir)
if [ "$1" = remove ] || [ -z "$options" ]; then
	remove
else
	add "$options" "$(value user)"
fi
