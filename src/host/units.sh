# Units on the target: one run of switch-to-configuration each. Between common.sh and supervisor.sh, whose variables and
# "alone", "note" and "hear" it uses.
# Loops that end a pipe keep their variables to themselves.
# shellcheck disable=SC2317,SC2154,SC2034,SC2030,SC2031

# --- switch-to-configuration in a unit of its own -------------------------------------------------------------------

# Kills the whole cgroup of unit $1 and waits until it is empty: an orphaned "activate" would switch again later.
kill_unit() {
	u=nixgate-$p_run-$1.service
	c=$(own_cgroup "$1")
	n=0
	while cgroup_busy "$c" || unit_lives "${u%.service}"; do
		alone systemctl kill --signal=KILL "$u" 2>/dev/null
		[ $n -gt 0 ] || alone systemctl stop --no-block "$u" 2>/dev/null
		n=$((n + 1))
		[ $n -lt 150 ] || return 1
		if [ $n -le 10 ]; then alone sleep 0.02; else alone sleep 0.2; fi
	done
	return 0
}

# The control group of unit $1, as it wrote it down itself; systemd's word where it did not come to that.
own_cgroup() {
	while IFS= read -r l; do
		case $l in
		0::/?* | *:name=systemd:/?*)
			printf '%s\n' "/${l#*:/}"
			return
			;;
		esac
	done 2>/dev/null <"$dir/$1.cgroup"
	alone systemctl show --property=ControlGroup --value "nixgate-$p_run-$1.service" 2>/dev/null
}

# A unit that has said its last word needs a moment to be gone. Whatever stays is killed.
let_end() {
	c=$(own_cgroup "$1")
	n=0
	while cgroup_busy "$c"; do
		n=$((n + 1))
		if [ $n -gt 30 ]; then
			kill_unit "$1"
			return
		fi
		alone sleep 0.003
	done
}

cgroup_busy() {
	[ -n "$1" ] && [ "$1" != / ] || return 1
	for m in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
		[ -r "$m$1/cgroup.procs" ] || continue
		while read -r _; do return 0; done <"$m$1/cgroup.procs"
	done 2>/dev/null
	return 1
}

# Runs TOPLEVEL's switch-to-configuration ACTION as unit $1 under the deadline. Sets rc and timed_out.
# $1 name  $2 toplevel  $3 action  $4 a variable to set, or nothing
run_stc() {
	rc=126 timed_out=''
	# A unit of this name that ran before must be gone from systemd too, or its name is taken.
	[ ! -e "$dir/$1.rc" ] || kill_unit "$1"
	for f in rc rc.new cgroup; do
		[ ! -e "$dir/$1.$f" ] || alone rm -f "$dir/$1.$f"
	done
	l=$p_previous/sw/lib/locale/locale-archive
	[ -r "$l" ] && l=LOCALE_ARCHIVE=$l || l=LOCALE_ARCHIVE=
	stc_unlock
	alone systemd-run --quiet --collect --no-ask-password --service-type=exec --unit="nixgate-$p_run-$1" \
		--description="nixgate: switch-to-configuration $3 ($1)" --property=IgnoreOnIsolate=yes \
		--setenv=PATH="$PATH" --setenv="$l" "$(command -v sh)" "$dir/supervisor.sh" \
		stc "$dir" "$1" "$2" "$3" "${4-}" || return 0
	end=$(($(uptime_s) + p_activate))
	asked=$s_nonce told=$s_answer
	while [ ! -e "$dir/$1.rc" ]; do
		left=$((end - $(uptime_s)))
		if [ $left -le 0 ]; then
			timed_out=1 rc=137
			note "$1: no end within $p_activate s"
			kill_stop_jobs
			kill_unit "$1" || note "$1: processes are left that cannot be killed"
			break
		fi
		[ $left -le 2 ] || left=2
		if hear $left; then
			verb=${msg%% *} nonce=${msg#* }
			case $s_state:$verb in
			*:ended) ;;
			# Heard now, obeyed when the switch has ended.
			switching:cancel) answer ok ;;
			*) answer "busy: $s_state" ;;
			esac
		elif [ ! -e "$dir/$1.rc" ] && ! unit_lives "nixgate-$p_run-$1"; then
			# Killed from outside.
			[ -e "$dir/$1.rc" ] || break
		fi
	done
	if [ -e "$dir/$1.rc" ]; then
		read -r rc <"$dir/$1.rc"
	else
		rc=137
	fi
	# Others who spoke meanwhile were told that we are busy; whoever asked for this still waits for their answer.
	[ -n "$told" ] || s_nonce=$asked s_answer=''
	# Whatever is left in its cgroup ends before anything else starts.
	let_end "$1" || note "$1: processes are left that cannot be killed"
}

# A unit that hangs while stopping would hang the next run as well. A hung start needs nothing.
kill_stop_jobs() {
	alone systemctl list-jobs --no-legend --plain --no-pager --full 2>/dev/null | while read -r _ u t s; do
		case "$t $s" in
		'stop running' | 'restart running')
			note "$u hangs while stopping: killed"
			systemctl kill --signal=KILL "$u"
			;;
		esac
	done 7>&- 8>&- 9>&-
}
