# Probes. Each prints one line: probe TAB key TAB ok|bad|skip TAB detail.

say() {
	printf 'probe\t%s\t%s\t%s\n' "$1" "$2" "$(printf '%s' "$3" | tr '\t\r\n' '   ')"
}

# The seconds that a probe may take: its own, and no more than is left for all of them. A program that is still at work
# when the script is ended from outside would stay: its group is its own.
bounded() {
	# Set by what goes before: when all checks have to be done.
	# shellcheck disable=SC2154
	left=$((ng_until - $(date +%s)))
	[ "$left" -lt "$1" ] || left=$1
	[ "$left" -ge 1 ] || left=1
	printf '%s\n' "$left"
}

# A unit that must be active.
probe_unit() {
	state=$(systemctl is-active -- "$2" 2>/dev/null)
	case $state in
	active) say "$1" ok active ;;
	*) say "$1" bad "$2 is ${state:-unknown}" ;;
	esac
}

# A service of a list: met by the service or its socket; skipped where neither exists.
probe_service() {
	case $2 in
	*.*) probe_unit "$1" "$2"; return ;;
	esac
	for unit in "$2.service" "$2.socket"; do
		if [ "$(systemctl is-active -- "$unit" 2>/dev/null)" = active ]; then
			say "$1" ok "$unit"
			return
		fi
	done
	loaded=$(systemctl show -P LoadState -- "$2.service" "$2.socket" 2>/dev/null)
	case $loaded in
	'') say "$1" bad 'systemctl does not answer' ;;
	*loaded* | *masked* | *error* | *bad-setting*)
		state=$(systemctl is-active -- "$2.service" 2>/dev/null)
		say "$1" bad "$2.service is ${state:-unknown}"
		;;
	*) say "$1" skip "no $2.service or $2.socket on this host" ;;
	esac
}

# KEY STATUS SECONDS OUTPUT: what a bounded program's end means.
verdict() {
	last=$(printf '%s\n' "$4" | grep -v '^[[:space:]]*$' | tail -n 1)
	case $2 in
	0) say "$1" ok "$last" ;;
	124 | 137) say "$1" bad "no answer in $3 s" ;;
	*) say "$1" bad "exit $2${last:+: $last}" ;;
	esac
}

probe_run() {
	key=$1 limit=$(bounded "$2")
	shift 2
	out=$(timeout -k 2 "$limit" "$@" </dev/null 2>&1)
	verdict "$key" "$?" "$limit" "$out"
}

# What a file's first line says runs it, as execve(2) reads it: sets interpreter and its one argument. sh where there is no
# such line.
read_shebang() {
	interpreter='' argument='' l=''
	IFS= read -r l <"$1"
	case $l in '#!'*)
		read -r interpreter argument <<-END
			${l#??}
		END
		;;
	esac
	[ -n "$interpreter" ] || interpreter='sh'
}

# KEY SECONDS CONTENT ARGS: a program sent along. Run by its own first line, also where the folder forbids to start it.
probe_file() {
	key=$1 limit=$(bounded "$2") body=$3
	shift 3
	dir=$(mktemp -d) || {
		say "$key" bad 'no temporary folder'
		return
	}
	printf '%s' "$body" >"$dir/check"
	chmod 700 "$dir/check"
	# access(2) says no on a file system mounted noexec, to root too.
	if [ -x "$dir/check" ]; then
		out=$(timeout -k 2 "$limit" "$dir/check" "$@" </dev/null 2>&1)
		rc=$?
	else
		read_shebang "$dir/check"
		out=$(timeout -k 2 "$limit" "$interpreter" ${argument:+"$argument"} "$dir/check" "$@" </dev/null 2>&1)
		rc=$?
	fi
	rm -rf -- "$dir"
	verdict "$key" "$rc" "$limit" "$out"
}

probe_http() {
	if ! command -v curl >/dev/null 2>&1; then
		say "$1" bad 'no curl on this host; use from = "operator"'
		return
	fi
	limit=$(bounded "$2")
	out=$(curl -sS -L --max-redirs 5 --proto '=http,https' -o /dev/null -w '%{http_code}' -m "$limit" -- "$3" 2>&1)
	rc=$?
	last=$(printf '%s\n' "$out" | tail -n 1)
	case $rc in
	0)
		case $last in
		[123]??) say "$1" ok "$last" ;;
		*) say "$1" bad "HTTP $last" ;;
		esac
		;;
	28) say "$1" bad "no answer in $limit s" ;;
	*) say "$1" bad "$(printf '%s\n' "$out" | grep curl | tail -n 1)" ;;
	esac
}

# Secrets of sops-nix (modules/sops) and agenix (modules/age.nix), whose activation makes a new folder for each generation
# and then points a link there. All of the running system's are there, and its own activation made them.
probe_secrets() {
	activate=/run/current-system/activate uses='' bad='' count=0
	[ -r "$activate" ] || {
		say "$1" bad "$activate cannot be read"
		return
	}
	earliest=$(earliest_activation)
	for l in $(secret_links "$activate"); do
		uses=1
		g=$(readlink -f "$l" 2>/dev/null)
		if [ ! -d "$g" ]; then
			bad="${bad:+$bad, }$l is not there"
		elif [ ! -x "$g" ]; then
			bad="${bad:+$bad, }$g is closed to $(id -un)"
		elif [ "$(stat -c %Y "$g")" -lt "${earliest:-0}" ]; then
			bad="${bad:+$bad, }$l was not renewed by this system: it is of $(stat -c %y "$g" | cut -c1-16)"
		fi
	done
	[ -n "$uses" ] || {
		say "$1" skip 'the running system has neither sops-nix nor agenix'
		return
	}
	while IFS= read -r f; do
		[ -n "$f" ] || continue
		count=$((count + 1))
		[ -s "$f" ] || bad="${bad:+$bad, }$f is missing or empty"
	done <<-END
		$(secret_files "$activate")
	END
	if [ -n "$bad" ]; then say "$1" bad "$bad"; else say "$1" ok "$count there"; fi
}

# Before when the running system was not activated last, in seconds since 1970: another system became a generation then, or
# the run that switched the host began (the holder's file is there until it has ended). Of a specialisation that runs, the
# profile is the system that it is a part of.
earliest_activation() {
	running=$(readlink -f /run/current-system)
	own=$running
	for s in /nix/var/nix/profiles/system/specialisation/*; do
		[ "$(readlink -f "$s")" != "$running" ] || own=$(readlink -f /nix/var/nix/profiles/system)
	done
	activated=$(stat -c %Y /run/current-system)
	{
		find /nix/var/nix/profiles -maxdepth 1 -name 'system-*-link' ! -lname "$own" -printf '%Ts\n'
		# A run that has not switched yet says nothing of it.
		while IFS='=' read -r k v; do
			[ "$k" != since ] || [ "$v" -gt "$activated" ] || printf '%s\n' "$v"
		done 2>/dev/null </run/nixgate/holder
	} | sort -n | tail -n 1
}

# The links that an activation script points at its secrets.
secret_links() {
	! grep -q sops-install-secrets "$1" || printf '%s\n' /run/secrets
	! grep -q _agenix_generation "$1" || printf '%s\n' /run/agenix
}

# The files that it puts there: the paths of the manifest that sops-install-secrets is given, and agenix's own lines.
secret_files() {
	grep -o '/nix/store/[^ "]*-manifest[^ "]*[.]json' "$1" | sort -u | while IFS= read -r m; do
		grep -o '"path":"[^"]*"' "$m" | sed 's/^"path":"\(.*\)"$/\1/'
	done
	# The script's own variable.
	# shellcheck disable=SC2016
	sed -n 's|.*_truePath="[^"]*/$_agenix_generation/\([^"]*\)".*|/run/agenix/\1|p' "$1" | sort -u
}
