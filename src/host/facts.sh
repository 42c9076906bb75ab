# Prints what there is to know about a host, one key=value per line; reads only. After common.sh.
# $1 target  $2 tools the supervisor needs, separated by spaces
# Every probe answers for itself: a missing line is "could not be read", never zero.
fact() { printf '%s=%s\n' "$1" "$2"; }

fact uid "$(id -u)"
fact now "$(date +%s)"
[ ! -e /etc/NIXOS ] || fact nixos_marker 1
fact os_id "$(sed -n 's/^ID="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null)"
fact machine "$(uname -m)"
fact kernel "$(uname -r)"
fact running "$(running_system)"
fact booted "$(readlink -f /run/booted-system 2>/dev/null)"
fact profile "$(profile_system)"
# A specialisation that runs is a system of its own; which one, is told by the toplevel that links to it.
r=$(running_system)
for t in "$(profile_system)" "$(readlink -f /run/booted-system 2>/dev/null)"; do
	case $r in "" | "$t") continue ;; esac
	for l in "$t"/specialisation/*; do
		[ "$(readlink -f "$l" 2>/dev/null)" = "$r" ] || continue
		fact specialisation "${l##*/} $t"
		break 2
	done
done
fact generation "$(profile_generation)"
l=$(boot_default)
fact boot_loader "${l%% *}"
fact boot_default "${l#* }"
fact boot "$(boot_name)"
fact container "$(container_kind)"

# The word, whatever the exit status is.
fact state "$(systemctl is-system-running 2>/dev/null)"
fact systemd "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([^ ]*\).*/\1/p')"
if l=$(systemctl list-units --failed --no-legend --plain --no-pager --full 2>/dev/null); then
	fact units_read 1
	printf '%s\n' "$l" | while read -r u _; do [ -z "$u" ] || fact failed "$u"; done
fi
systemctl list-units --state=active --no-legend --plain --no-pager --full 2>/dev/null |
	while read -r u _; do fact active "$u"; done
systemctl show --property=Id,NRestarts '*.service' 2>/dev/null | {
	i='' n=''
	while IFS='=' read -r k v; do
		case $k in
		Id) i=$v ;;
		NRestarts) n=$v ;;
		'')
			case $n in '' | 0) ;; *) fact restarts "$n $i" ;; esac
			i='' n=''
			;;
		esac
	done
	case $n in '' | 0) ;; *) fact restarts "$n $i" ;; esac
}

for u in nixos-upgrade.service nixos-rebuild-switch-to-configuration.service; do
	case $(systemctl show --property=ActiveState --value "$u" 2>/dev/null) in
	active | activating | reloading | deactivating) fact switching "$u" ;;
	esac
done
t=$(systemctl show --property=NextElapseUSecRealtime --value nixos-upgrade.timer 2>/dev/null)
if [ -n "$t" ] && t=$(date -d "$t" +%s 2>/dev/null); then fact upgrade_at "$t"; fi

# The lock's holder counts while its unit lives.
if [ -r /run/nixgate/holder ]; then
	h=$(sed -n 's/^run=//p' /run/nixgate/holder)
	case $(systemctl show --property=ActiveState --value "nixgate-$h.service" 2>/dev/null) in
	active | activating | deactivating | reloading) sed 's/^/holder_/' /run/nixgate/holder ;;
	esac
fi
fact init_interface "$(cat /run/current-system/init-interface-version 2>/dev/null)"
[ ! -r /run/current-system/switch-inhibitors ] ||
	fact inhibitors "$(tr -d '\n' </run/current-system/switch-inhibitors)"

r=$(running_system)
for t in $2; do
	[ -x "$r/sw/bin/$t" ] || fact missing_tool "$t"
done

for d in / /nix /boot; do
	[ -d "$d" ] || continue
	b=$(df -P -k "$d" 2>/dev/null | awk 'NR == 2 { print $2, $3, $4 }')
	i=$(df -P -i "$d" 2>/dev/null | awk 'NR == 2 { print $2, $3, $4 }')
	m=$(df -P "$d" 2>/dev/null | awk 'NR == 2 { print $6 }')
	fact disk "$d ${m:-?} ${b:-? ? ?} ${i:-? ? ?}"
done
sed -n 's/^\(MemTotal\|MemAvailable\|SwapFree\): *\([0-9]*\) kB/\1=\2/p' /proc/meminfo 2>/dev/null
for k in memory cpu io; do
	p=$(sed -n 's/^some avg10=\([0-9.]*\) .*/\1/p' "/proc/pressure/$k" 2>/dev/null)
	[ -z "$p" ] || fact "psi_$k" "$p"
done
read -r l _ 2>/dev/null </proc/loadavg && fact load1 "$l"
fact cpus "$(nproc 2>/dev/null || grep -c ^processor /proc/cpuinfo)"
ps -eo rss=,pid=,comm= --sort=-rss 2>/dev/null | sed -n '1,5s/^ */top=/p'

f=/var/lib/nixgate/$1/record
[ ! -r "$f" ] || fact record "$(base64 -w0 <"$f")"
for f in /nix/var/nix/gcroots/nixgate/*/*; do
	[ -L "$f" ] || continue
	n=${f#/nix/var/nix/gcroots/nixgate/}
	if [ -e "$f" ]; then k=root; else k=dangling_root; fi
	fact "$k" "$n $(readlink "$f")"
done
for f in /run/nixgate/*/state; do
	[ -r "$f" ] || continue
	n=${f%/state}
	fact run "${n##*/} $(sed -n 's/^state=//p' "$f")"
done
fact complete 1
exit 0
