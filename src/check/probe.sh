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

# KEY SECONDS CONTENT ARGS: a program sent along. Run by its own first line; by sh where the folder forbids that.
probe_file() {
	key=$1 limit=$(bounded "$2") body=$3
	shift 3
	dir=$(mktemp -d) || {
		say "$key" bad 'no temporary folder'
		return
	}
	printf '%s' "$body" >"$dir/check"
	chmod 700 "$dir/check"
	out=$(timeout -k 2 "$limit" "$dir/check" "$@" </dev/null 2>&1)
	rc=$?
	if [ "$rc" = 126 ]; then
		out=$(timeout -k 2 "$limit" sh "$dir/check" "$@" </dev/null 2>&1)
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
