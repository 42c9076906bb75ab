# Prints what there is to know about a host, one key=value per line; reads only. After common.sh.
# $1 target  $2 tools the supervisor needs, separated by spaces  $3 all, or how: only how the host fares and what it runs
# Every probe answers for itself: a missing line is "could not be read", or was not asked for, never zero.
# "systems" sets some of these.
# shellcheck disable=SC2154
fact() { printf '%s=%s\n' "$1" "$2"; }
target=$1 tools=$2 want=$3

# The manager's own word and version; where it does not answer, what systemctl makes of that.
manager() {
	state='' version=''
	while IFS='=' read -r k v; do
		case $k in SystemState) state=$v ;; Version) version=$v ;; esac
	done <<END
$(systemctl show --property=SystemState --property=Version 2>/dev/null)
END
	[ -n "$state" ] || state=$(systemctl is-system-running 2>/dev/null)
	fact state "$state"
	fact systemd "${version%%[!0-9]*}"
	# What a boot that has not finished waits for.
	case $state in starting | initializing) ;; *) return ;; esac
	systemctl list-jobs --no-legend --plain --no-pager --full 2>/dev/null | while read -r _ u t s; do
		[ "$s" != running ] || fact job "$u $t"
	done
}

# What systemd knows of its units.
units() {
	# The lock's holder counts while its unit lives.
	holder=''
	while IFS='=' read -r k v; do
		[ "$k" != run ] || holder=$v
	done 2>/dev/null </run/nixgate/holder

	# Two questions for all units: systemctl asks systemd once for each unit that is named, so only those are named which
	# run, begin, or have failed.
	systemctl list-units --all --no-legend --plain --no-pager --full 2>/dev/null | {
		set -- nixos-upgrade.service nixos-rebuild-switch-to-configuration.service nixos-upgrade.timer
		[ -z "$holder" ] || set -- "$@" "nixgate-$holder.service"
		any=
		while read -r u _ a s _; do
			any=1
			case $a in active | failed) fact "$a" "$u" ;; esac
			case $u:$s in
			*.service:dead | *.service:exited) ;;
			*.service:*) set -- "$@" "$u" ;;
			esac
		done
		[ -z "$any" ] || fact units_read 1
		{
			systemctl show --property=Id,ActiveState,NRestarts,NextElapseUSecRealtime -- "$@" 2>/dev/null
			echo
		} | {
			i='' a='' n='' t=''
			while IFS='=' read -r k v; do
				case $k in
				Id) i=$v ;;
				ActiveState) a=$v ;;
				NRestarts) n=$v ;;
				NextElapseUSecRealtime) t=$v ;;
				'')
					case $n in '' | 0) ;; *) fact restarts "$n $i" ;; esac
					case $i:$a in
					nixos-upgrade.timer:*)
						[ -z "$t" ] || ! t=$(date -d "$t" +%s 2>/dev/null) || fact upgrade_at "$t"
						;;
					*:inactive | *:failed | *:) ;;
					nixos-upgrade.service:* | nixos-rebuild-switch-to-configuration.service:*) fact switching "$i" ;;
					"nixgate-$holder.service":*)
						while IFS= read -r l; do fact "holder_${l%%=*}" "${l#*=}"; done </run/nixgate/holder
						;;
					esac
					i='' a='' n='' t=''
					;;
				esac
			done
		}
	}
}

# Beside the rest, which asks only files; a line is one write.
units &
manager &

fact now "$(date +%s)"
while IFS='=' read -r k v; do
	[ "$k" != ID ] || v=${v#\"} v=${v%\"}
	[ "$k" != ID ] || fact os_id "$v"
done 2>/dev/null </etc/os-release
systems
# switch-to-configuration takes the file or the id that it was made for: its wrapper sets that, the Perl one asks for it.
if [ -e /etc/NIXOS ]; then
	fact nixos_marker 1
else
	fact distro_id "$(sed -n -e "s/.*DISTRO_ID'\{0,1\}[= ]'\{0,1\}\([A-Za-z0-9._-]\{1,\}\).*/\1/p" \
		-e 's/.*\^ID="?\([A-Za-z0-9._-]\{1,\}\).*/\1/p' "$running/bin/switch-to-configuration" 2>/dev/null | sed -n 1p)"
fi
booted=$(readlink -f /run/booted-system 2>/dev/null)
fact running "$running"
fact booted "$booted"
fact profile "$profile"
fact generation "$generation"
container=$(container_kind)
fact container "$container"
l=$(boot_default)
fact boot_loader "${l%% *}"
fact boot_default "${l#* }"
fact boot_once "$(boot_once)"
[ "$want" != all ] || ! can_boot_once "${l%% *}" || fact can_boot_once 1
for p in "$running" "${l#* }"; do
	case $p in '' | "$profile" | not-verifiable) continue ;; esac
	t=$(specialised "$p" "$profile" "$booted" /nix/var/nix/profiles/system-*-link)
	[ -z "$t" ] || fact specialisation "$t $p"
	[ "$running" != "${l#* }" ] || break
done
fact boot "$(boot_name)"

v=''
{ read -r v </run/current-system/init-interface-version; } 2>/dev/null
fact init_interface "$v"

while read -r k v _; do
	case $k in MemTotal: | MemAvailable: | SwapFree:) fact "${k%:}" "$v" ;; esac
done 2>/dev/null </proc/meminfo
for k in memory cpu io; do
	read -r _ p _ 2>/dev/null <"/proc/pressure/$k" && fact "psi_$k" "${p#avg10=}"
done
read -r l _ 2>/dev/null </proc/loadavg && fact load1 "$l"
# "0-3,6": cpuset(7), list format.
cpus=0 rest=''
{ read -r rest </sys/devices/system/cpu/online; } 2>/dev/null
while [ -n "$rest" ]; do
	r=${rest%%,*}
	case $rest in *,*) rest=${rest#*,} ;; *) rest='' ;; esac
	cpus=$((cpus + ${r#*-} - ${r%-*} + 1))
done
[ "$cpus" != 0 ] || cpus=$(nproc 2>/dev/null)
fact cpus "$cpus"
ps -eo rss=,pid=,comm= --sort=-rss 2>/dev/null | {
	n=0
	while [ $n -lt 5 ] && read -r l; do
		n=$((n + 1))
		fact top "$l"
	done
}

for f in /run/nixgate/*/state; do
	n=${f%/state}
	while IFS='=' read -r k v; do
		[ "$k" != state ] || fact run "${n##*/} $v"
	done 2>/dev/null <"$f"
done
# Who may switch the host, and where there is room: not asked of one that was switched.
host() {
	fact uid "$(id -u)"
	kernel=$(uname -rm)
	fact machine "${kernel##* }"
	fact kernel "${kernel%% *}"
	for t in $tools; do
		[ -x "$running/sw/bin/$t" ] || fact missing_tool "$t"
	done
	# Who goes back runs this.
	[ -z "$running" ] || [ -x "$running/bin/switch-to-configuration" ] || fact no_switch "$(made_without "$running")"

	set --
	for d in / /nix /boot; do
		[ ! -d "$d" ] || set -- "$@" "$d"
	done
	seen=' '
	while read -r f m a b c d e g _; do
		case $f in /*) ;; *) continue ;; esac
		fact disk "$f $m $a $b $c $d $e $g"
		seen="$seen$f "
	done <<END
$(df -k --output=file,target,size,used,avail,itotal,iused,iavail -- "$@" 2>/dev/null)
END
	for d; do
		case $seen in *" $d "*) ;; *) printf 'disk=%s ? ? ? ? ? ? ?\n' "$d" ;; esac
	done
	r=/nix/var/nix/gcroots/nixgate
	find "$r" -mindepth 2 -maxdepth 2 -type l -printf '%P %l\n' 2>/dev/null | while read -r l t; do
		if [ -e "$r/$l" ]; then fact root "$l $t"; else fact dangling_root "$l $t"; fi
	done
}
[ "$want" != all ] || host

# What may be longer than a pipe takes in one write comes when nobody else writes.
wait
if [ "$want" = all ]; then
	[ ! -r /run/current-system/switch-inhibitors ] ||
		fact inhibitors "$(tr -d '\n' </run/current-system/switch-inhibitors)"
	# Where that is memory, each boot begins without a record.
	f=/var/lib/nixgate
	[ -d "$f" ] || f=${f%/*}
	fact record_on "$(stat -f -c %T "$f" 2>/dev/null)"
	f=/var/lib/nixgate/$target/record
	[ ! -r "$f" ] || fact record "$(base64 -w0 <"$f")"
	# Whose records there are, the newest first.
	# shellcheck disable=SC2012
	ls -t /var/lib/nixgate/*/record 2>/dev/null | head -n 32 | while IFS= read -r f; do
		d=${f%/record} d=${d##*/}
		case $d in '' | *[!a-z0-9-]*) continue ;; esac
		v=''
		[ "$d" = "$target" ] || v=$(head -c 1048576 "$f" | sha256sum 2>/dev/null)
		k='' l=''
		while read -r k l; do
			case $k in tag | '') break ;; esac
		done <"$f"
		[ "$k" = tag ] || l='a record without a name'
		fact carried "$d ${v%% *} $(printf '%.200s' "$l")"
	done
fi
fact complete 1
exit 0
