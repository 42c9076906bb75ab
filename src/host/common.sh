# Functions shared by the facts script and the supervisor. POSIX sh; every tool from the system's own sw/bin.

base=/run/nixgate

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

# A specialisation is a system of its own. Prints its name and the first of the toplevels that links to it, if any.
# $1 the system  $2 ... toplevels
specialised() {
	w=$1
	shift
	for t; do
		for l in "$t"/specialisation/*; do
			if [ -e "$l" ] && [ "$(readlink -f "$l")" = "$w" ]; then
				printf '%s %s\n' "${l##*/}" "$(readlink -f "$t")"
				return
			fi
		done
	done
}

# Why a file is not in a store path: the path was made "without" it, or is "damaged"; "unknown" where Nix does not say.
made_without() {
	timeout 20 nix-store --verify-path "$1" >/dev/null 2>&1
	case $? in 0) echo without ;; 1) echo damaged ;; *) echo unknown ;; esac
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
