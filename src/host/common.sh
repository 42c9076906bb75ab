# Functions shared by the facts script and the supervisor. POSIX sh; every tool from the system's own sw/bin.

base=/run/nixgate
boot_dir=/boot
efi_dir=/sys/firmware/efi

# The toplevel that runs; empty when /run/current-system is missing. One whose files are gone runs all the same.
running_system() {
	[ -L /run/current-system ] && readlink -f /run/current-system
}

# The toplevel that the system profile leads to, whether it is there or not.
profile_system() {
	p=$(readlink -f /nix/var/nix/profiles/system) || return 0
	case $p in /nix/store/*) printf '%s\n' "$p" ;; esac
}

# The profile's generation number: system-142-link.
profile_generation() {
	g=$(readlink /nix/var/nix/profiles/system) || return 0
	g=${g##*/} g=${g#system-} g=${g%-link}
	case $g in '' | *[!0-9]*) ;; *) printf '%s\n' "$g" ;; esac
}

# Sets running, profile and generation to what the three above print, with fewer programs where all is as it should be.
# shellcheck disable=SC2034
systems() {
	running='' profile='' generation='' n=0
	[ ! -L /run/current-system ] || [ ! -L /nix/var/nix/profiles/system ] || while IFS= read -r p; do
		n=$((n + 1))
		case $n in 1) running=$p ;; 2) profile=$p ;; 3) generation=$p ;; esac
	done <<-END
		$(readlink -f /run/current-system /nix/var/nix/profiles/system; readlink /nix/var/nix/profiles/system)
	END
	if [ $n = 3 ]; then
		case $profile in /nix/store/*) ;; *) profile='' ;; esac
		generation=${generation##*/} generation=${generation#system-} generation=${generation%-link}
		case $generation in *[!0-9]*) generation='' ;; esac
	else
		running=$(running_system) profile=$(profile_system) generation=$(profile_generation)
	fi
}

# The numbers of the profile's generations, one per line, and "complete" after the last.
generations() {
	for g in /nix/var/nix/profiles/system-*-link; do
		[ -L "$g" ] || continue
		g=${g##*/system-} g=${g%-link}
		case $g in '' | *[!0-9]*) ;; *) printf '%s\n' "$g" ;; esac
	done
	echo complete
}

# Removes the generations that are not listed on stdin, and never the current one. None where the list is not whole: it
# was written where there may have been no room.
drop_new_generations() {
	k=" $(tr '\n' ' ')$(profile_generation) "
	case $k in *' complete '*) ;; *) return 1 ;; esac
	generations | while IFS= read -r n; do
		case $k in *" $n "*) ;; *) nix-env --profile /nix/var/nix/profiles/system --delete-generations "$n" ;; esac
	done
}

# Opens the lock of this host as descriptor 9; the one place that makes it. Root's alone, whatever the caller's umask is:
# whoever can open it can hold it. 1: it cannot be made.
open_lock() {
	[ -d "$base" ] || mkdir -p "$base" || return 1
	[ -e "$base/lock" ] || (umask 077 && : >>"$base/lock") || return 1
	chmod 755 "$base" && chmod 600 "$base/lock" || return 1
	exec 9>>"$base/lock"
}

# lxc, nspawn, docker, wsl …, or nothing. Who asked before may keep the answer in $container.
container_kind() {
	[ -z "${container+known}" ] || {
		[ -z "$container" ] || printf '%s\n' "$container"
		return 0
	}
	r=''
	{ read -r r </proc/sys/kernel/osrelease; } 2>/dev/null
	case $r in *[Mm]icrosoft*) echo wsl && return ;; esac
	# Where PID 1 was told by its environment, systemd has written it down.
	c=''
	{ read -r c </run/systemd/container; } 2>/dev/null || [ -n "$c" ] ||
		c=$(systemd-detect-virt --container 2>/dev/null) || return 0
	[ "$c" = none ] || printf '%s\n' "$c"
}

# /nix/store/…-nixos-system-x out of a kernel command line.
init_of() {
	sed -n 's|.*init=\(/nix/store/[^/ "]*\)/init.*|\1|p' | sed -n 1p
}

# Prints two words: the loader, and the toplevel booted by default or "not-verifiable".
boot_default() {
	# systemd-boot is started by EFI firmware and by nothing else.
	[ -d "$efi_dir" ] && b=$(bootctl list --json=short --no-pager 2>/dev/null) && [ -n "$b" ] && [ "$b" != '[]' ] && {
		d=$(printf '%s\n' "$b" | sed -e 's|\\/|/|g' -e 's/},{/}\
{/g' | grep -e '"isDefault":true' | init_of)
		printf 'systemd-boot %s\n' "${d:-not-verifiable}"
		return
	}
	for c in "$boot_dir/extlinux/extlinux.conf" "$boot_dir/syslinux/syslinux.cfg"; do
		[ -r "$c" ] || continue
		awk -v want='init=/nix/store/[^/ "]*/init' '
			toupper($1) == "DEFAULT" && /^[Dd]/ && d == "" { d = $2 }
			toupper($1) == "LABEL" { l = $2 }
			toupper($1) == "APPEND" && !(l in a) {
				a[l] = ""
				while (match($0, want)) {
					a[l] = substr($0, RSTART + 5, RLENGTH - 10)
					$0 = substr($0, RSTART + RLENGTH)
				}
			}
			END { print "extlinux", d in a && a[d] != "" ? a[d] : "not-verifiable" }' "$c"
		return
	done
	for c in "$boot_dir/grub/grub.cfg" "$boot_dir/grub2/grub.cfg"; do
		[ -r "$c" ] || continue
		# A saved default is known only to GRUB's environment block: not verifiable here.
		n=$(sed -n 's/^[[:space:]]*set default="\{0,1\}\([0-9][0-9]*\)"\{0,1\}[[:space:]]*$/\1/p' "$c" | tail -n 1)
		d=
		# Entries of a submenu do not count, though they stand at the line's start.
		[ -z "$n" ] || d=$(awk -v want="$n" '/^[[:space:]]*(menuentry|submenu) / && !depth { on = (count++ == want) }
			on && /init=/ { print; exit }
			/{[[:space:]]*$/ { depth++ }
			/^[[:space:]]*}/ { depth-- }' "$c" | init_of)
		printf 'grub %s\n' "${d:-not-verifiable}"
		return
	done
	if [ -n "$(container_kind)" ]; then
		p=$(profile_system)
		printf 'none %s\n' "${p:-not-verifiable}"
	else
		echo 'unknown not-verifiable'
	fi
}

# Kernel's boot id and PID 1's start in clock ticks: containers share the former.
boot_name() {
	i='' s=''
	{ read -r i </proc/sys/kernel/random/boot_id; } 2>/dev/null
	{ read -r s </proc/1/stat; } 2>/dev/null
	# The name in parentheses may hold spaces; the start time is field 22, the 20th after it.
	# shellcheck disable=SC2086
	set -- ${s##*) }
	shift 19 2>/dev/null || set --
	printf '%s/%s\n' "$i" "${1-}"
}
