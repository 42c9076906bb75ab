# How much room and memory there is now, and who has it; reads only. One key=value a line, and "complete=1" at the end.
b=$(df -P -k /nix/store 2>/dev/null | awk 'NR == 2 { print $2, $3, $4 }')
i=$(df -P -i /nix/store 2>/dev/null | awk 'NR == 2 { print $2, $3, $4 }')
m=$(df -P /nix/store 2>/dev/null | awk 'NR == 2 { print $6 }')
printf 'disk=/nix/store %s %s %s\n' "${m:-?}" "${b:-? ? ?}" "${i:-? ? ?}"
sed -n 's/^\(MemTotal\|MemAvailable\|SwapFree\): *\([0-9]*\) kB/\1=\2/p' /proc/meminfo 2>/dev/null
p=$(sed -n 's/^some avg10=\([0-9.]*\) .*/\1/p' /proc/pressure/memory 2>/dev/null)
[ -z "$p" ] || printf 'psi_memory=%s\n' "$p"
ps -eo rss=,pid=,comm= --sort=-rss 2>/dev/null | sed -n '1,5s/^ */top=/p'
# By unit, from the processes: the kernel counts a unit's memory only where its memory controller is on.
ps -eo rss=,cgroup= 2>/dev/null | awk '
	{ n = split($2, part, "/"); for (k = n; k > 0; k--) if (part[k] ~ /\.(service|scope)$/) { sum[part[k]] += $1; break } }
	END { for (unit in sum) print sum[unit], unit }' | sort -rn | sed -n '1,3s/^/unit=/p'
echo complete=1
