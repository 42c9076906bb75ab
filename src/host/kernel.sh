# The kernel's log since $since, in seconds since 1970 by this host's clock; whoever includes this sets it.
# shellcheck disable=SC2154,SC2317,SC2329
short() { timeout -k 1 3 "$@" 2>/dev/null; }
lines() { tail -n "$2" | cut -c 1-400 | sed "s/^/$1 /"; }

# The ring buffer counts from the boot. Programs may write there as well, but not as the kernel (printk's facility 0).
ring() {
	read -r up _ </proc/uptime
	awk -v from="$((${up%.*} - ($(date +%s) - since)))" '
		match($0, /^\[ *[0-9]+\.[0-9]+\]/) { on = substr($0, 2, RLENGTH - 2) + 0 >= from }
		on'
}

kernel_log() {
	k=$(short journalctl --no-pager --quiet --since="@$since" --output=short-iso _TRANSPORT=kernel SYSLOG_FACILITY=0)
	if [ -n "$k" ]; then
		echo 'kernel journal'
		printf '%s\n' "$k" | lines line 100
	elif k=$(timeout -k 1 3 dmesg --kernel 2>&1); then
		echo 'kernel dmesg'
		printf '%s\n' "$k" | ring | lines line 100
	else
		printf 'unreadable %s\n' "$(printf '%s\n' "$k" | tail -n 1)"
	fi
}
