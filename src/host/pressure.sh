# How much room and memory there is now, and with $1 = who, who has it; reads only. One key=value a line, and "complete=1" at
# the end.
df -k --output=target,size,used,avail,itotal,iused,iavail -- /nix/store 2>/dev/null | {
	read -r _
	# One space between the fields, as the parser wants it.
	read -r m a b c d e g || m='?' a='?' b='?' c='?' d='?' e='?' g='?'
	printf 'disk=/nix/store %s %s %s %s %s %s %s\n' "$m" "$a" "$b" "$c" "$d" "$e" "$g"
}
while read -r k v _; do
	case $k in MemTotal: | MemAvailable: | SwapFree:) printf '%s=%s\n' "${k%:}" "$v" ;; esac
done 2>/dev/null </proc/meminfo
read -r _ p _ 2>/dev/null </proc/pressure/memory && printf 'psi_memory=%s\n' "${p#avg10=}"
if [ "$1" = who ]; then
	ps -eo rss=,pid=,comm= --sort=-rss 2>/dev/null | sed -n '1,5s/^ */top=/p'
	# By unit, from the processes: the kernel counts a unit's memory only where its memory controller is on.
	ps -eo rss=,cgroup= 2>/dev/null | awk '
		{ n = split($2, part, "/"); for (k = n; k > 0; k--) if (part[k] ~ /\.(service|scope)$/) { sum[part[k]] += $1; break } }
		END { for (unit in sum) print sum[unit], unit }' | sort -rn | sed -n '1,3s/^/unit=/p'
fi
echo complete=1
