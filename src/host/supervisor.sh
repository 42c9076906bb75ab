# The supervisor: holds a target for one run, switches it, and commits or goes back. Follows common.sh, units.sh,
# before.sh, state.sh and back.sh.
#   sh supervisor.sh hold DIR       holds the lock and obeys DIR/fifo until the run ends
#   sh supervisor.sh recover DIR    ExecStopPost, and "hold" when started again: finishes what a dead one began
#   sh supervisor.sh stc DIR NAME TOPLEVEL ACTION [VAR=VALUE]
# It ends with 0 whatever happened; the result is DIR/state. docs/supervisor.md says what each state promises.
# Descriptors: 3 the FIFO, 7 the lock that is held while a switch, a commit or a way back goes on, 8 switch-to-configuration's,
# 9 the target's; no child inherits one.
# Functions called through "alone" look unreachable, and the plan is read at run time.
# shellcheck disable=SC2317,SC2154,SC2034
set -u
umask 077
LC_ALL=C
export LC_ALL
profiles=/nix/var/nix/profiles/system
roots=/nix/var/nix/gcroots/nixgate
stc_lock_file=/run/nixos/switch-to-configuration.lock

alone() { "$@" 3>&- 7>&- 8>&- 9>&-; }
note() { printf '%s\n' "$*"; }

# Seconds since boot: a clock that is set does not shorten a lease.
uptime_s() {
	read -r up _ </proc/uptime
	printf '%s\n' "${up%.*}"
}

# When this machine booted, by its clock: with it the time is told without starting a program. To be called before the
# first "save".
read_clock() { booted_at=$(($(alone date +%s) - $(uptime_s))); }

# --- locks ----------------------------------------------------------------------------------------------------------

unit_lives() {
	# A systemd that executes itself anew answers nobody for a while: nothing is known then.
	case $(alone timeout 2 systemctl show --property=ActiveState --value "$1.service") in
	inactive | failed) return 1 ;;
	esac
}

# The run that $base/holder names.
holder_run() {
	while IFS='=' read -r k v; do
		[ "$k" != run ] || printf '%s\n' "$v"
	done 2>/dev/null <"$base/holder"
}

# A supervisor that was killed has lost the lock while its recovery still works.
take_lock() {
	open_lock || return 1
	alone_keep9 flock -n 9 || return 1
	h=$(holder_run)
	[ -n "$h" ] && [ "$h" != "$p_run" ] && unit_lives "nixgate-$h" || return 0
	case $(alone sed -n 's/^state=//p' "$base/$h/state" 2>/dev/null) in
	released | busy) return 0 ;;
	esac
	exec 9>&-
	return 1
}

alone_keep9() { "$@" 3>&- 8>&-; }

# switch-to-configuration's own lock keeps every other tool from switching while we wait.
stc_lock() {
	[ -d /run/nixos ] || alone mkdir -p -m 755 /run/nixos
	exec 8>>"$stc_lock_file"
	stc_held='' n=0
	until flock -n 8 3>&- 9>&-; do
		n=$((n + 1))
		[ $n -lt 20 ] || {
			note "could not take $stc_lock_file"
			exec 8>&-
			return 1
		}
		alone sleep 0.5
	done
	stc_held=1
}

stc_unlock() {
	exec 8>&-
	stc_held=''
}

# Whoever waits for the end of a switch, a commit or a way back waits for this lock: the kernel gives it back also where we
# are killed. Without it they look at the state again and again.
# A file that is missing is not made: where that fails, the shell ends.
begin_busy() { [ -e "$dir/busy" ] && exec 7>>"$dir/busy" && alone_keep7 flock -n 7; }
alone_keep7() { "$@" 3>&- 8>&- 9>&-; }
end_busy() { exec 7>&-; }

# --- messages -------------------------------------------------------------------------------------------------------

fifo=''

# One line from the FIFO into msg, byte by byte, at most $1 seconds; half a line is silence.
hear() {
	msg=''
	if [ -z "$fifo" ]; then
		alone sleep 1
		return 1
	fi
	# shellcheck disable=SC2016
	msg=$(exec 7>&- 8>&- 9>&- && exec timeout "$1" sh -c 'IFS= read -r l <&3 && printf "%s\n" "$l"') || return 1
	[ -n "$msg" ]
}

answer() {
	s_nonce=$nonce s_answer=$1
	save
}

# Who wanted the run to end: one line, left there before the message. $1 another file's name
cancelled_by() {
	IFS= read -r who 2>/dev/null <"$dir/${1-cancelled}" || who=somebody
	printf '%s\n' "$who"
}

# --- steps ----------------------------------------------------------------------------------------------------------

begin_switch() {
	if [ -n "$p_specialisation" ]; then
		s_effective=$(alone readlink -f "$p_candidate/specialisation/$p_specialisation")
	else
		s_effective=$p_candidate
	fi
	if [ ! -x "$s_effective/bin/switch-to-configuration" ]; then
		answer 'refused: the candidate is no system, or not there'
		return
	fi
	make_room
	if ! remember; then
		answer 'refused: systemctl does not answer, so what runs now is not known'
		return
	fi
	if ! keep_room; then
		make_room
		answer 'refused: there is no room on /run'
		return
	fi
	s_state=switching s_nonce=$nonce s_answer=ok
	save
	run_stc switch "$s_effective" test
	s_switch_status=$rc s_switch_timed_out=$timed_out
	take_stock || note 'systemctl does not answer after the switch'
	stc_lock || reason 'another switch works on this host'
	look
	case $rc in
	1 | 11 | 100 | 126)
		if [ "$running" = "$p_previous" ]; then
			reason "nothing was switched: switch-to-configuration ended with $rc"
			s_state=reverted
			save
			return
		fi
		;;
	101 | 137 | 129 | 13? | 14?)
		revert "switch-to-configuration was ended in the middle ($rc)"
		return
		;;
	esac
	if [ "$running" = "$s_effective" ] && [ -e "$dir/cancelled" ]; then
		revert "cancelled by $(cancelled_by)"
	elif [ "$running" = "$s_effective" ]; then
		s_state=waiting
		save
	elif [ "$running" = "$p_previous" ] && [ "$rc" = 2 ] && grep -q 'not a NixOS' "$dir/switch.err" 9>&-; then
		reason 'this is not a NixOS installation'
		s_state=reverted
		save
	else
		revert "after the switch the host runs ${running:-nothing} ($rc)"
	fi
}

commit() {
	make_room
	look
	why=''
	[ "$running" = "$s_effective" ] || why="running is ${running:-nothing}"
	[ "$profile" = "$s_profile0" ] || why="the profile is ${profile:-nothing} and was $s_profile0"
	[ "$boot" = "$s_boot0" ] || why="the boot default is $boot and was $s_boot0"
	[ "$loader" = "$s_loader0" ] || why="the boot loader is $loader and was $s_loader0"
	[ "$once" = "$s_once0" ] || why="what boots once is ${once:-nothing} and was ${s_once0:-nothing}"
	if [ -n "$why" ]; then
		answer "refused: $why"
		return
	fi
	# What an earlier --boot wanted: the next boot would be its candidate's.
	if [ -n "$once" ] && [ "$loader" = systemd-boot ]; then
		s_cleared=${once#* }
		if ! alone set_once ''; then
			s_cleared=''
			answer "refused: ${once#* } boots once, and that could not be cleared"
			return
		fi
	fi
	alone generations >"$dir/generations-before" 9>&-
	s_state=committing s_nonce=$nonce s_answer='' s_generation_before=$generation
	save
	finish_commit
}

# --set, then boot; both are taken back when one fails. Safe to repeat.
finish_commit() {
	if ! alone timeout 120 nix-env --profile "$profiles" --set "$p_candidate" 2>"$dir/commit.err"; then
		reason "the profile could not be set: $(alone tail -n 1 "$dir/commit.err")"
		undo_commit
		return
	fi
	turn=0
	while :; do
		turn=$((turn + 1))
		run_stc boot "$p_candidate" boot
		[ "$rc" = 11 ] && [ $turn -lt 10 ] && alone sleep 2 && continue
		break
	done
	s_boot_status=$rc
	stc_lock || reason 'another switch works on this host'
	look
	if [ "$rc" = 0 ] && [ "$running" = "$s_effective" ] && [ "$profile" = "$p_candidate" ] &&
		boots_candidate; then
		s_state=committed s_answer=ok
		save
		return
	fi
	[ "$rc" = 0 ] || reason "boot ended with $rc: $(alone tail -n 1 "$dir/boot.err" 2>/dev/null)"
	[ "$running" = "$s_effective" ] || reason "afterwards running is ${running:-nothing}"
	[ "$profile" = "$p_candidate" ] || reason "afterwards the profile is ${profile:-nothing}"
	boots_candidate || reason "afterwards the boot default is $boot (boot loader: $loader), and was $s_boot0 ($s_loader0)"
	undo_commit
}

# Whether the host boots the candidate now, as far as that could be told before. A loader may end well and leave half of its
# file, or none, as on a full /boot: whoever could be read must still be, unless a person has said that the new one cannot, and a
# container's profile answers only where no loader did. A candidate may bring another loader, which then names it.
boots_candidate() {
	case $boot in
	# A specialisation that is to run may boot by default.
	"$p_candidate" | "$s_effective") [ "$loader" != none ] || [ "$s_loader0" = none ] ;;
	not-verifiable)
		[ -z "$p_accept_loader" ] || return 0
		[ "$s_boot0" = not-verifiable ] && { [ "$loader" = "$s_loader0" ] || [ "$s_loader0" = unknown ]; }
		;;
	*) return 1 ;;
	esac
}

undo_commit() {
	s_state=commit-failed
	save
	# The number, because --set of the old path would make a third generation.
	if [ "$(alone profile_system)" != "$s_profile0" ] && [ -n "$s_generation0" ]; then
		alone timeout 120 nix-env --profile "$profiles" --switch-generation "$s_generation0" 2>>"$dir/commit.err" ||
			reason "the profile could not be set back to generation $s_generation0"
	fi
	# Before the old system's boot menu is made, so that the candidate is not in it.
	[ ! -e "$dir/generations-before" ] || alone drop_new_generations <"$dir/generations-before" 2>>"$dir/commit.err"
	back=$s_boot0
	# What boots by default may be a specialisation: the toplevel that it belongs to wrote that.
	t=$(alone specialised "$s_boot0" "$s_profile0")
	[ -z "$t" ] || back=${t#* }
	[ -x "$back/bin/switch-to-configuration" ] || back=$p_previous
	run_stc bootback "$back" boot
	if [ -n "$s_cleared" ]; then
		alone set_once "$s_cleared" || reason "$s_cleared does not boot once any more"
		s_cleared=''
	fi
	s_boot_status=${s_boot_status:-$rc}
	revert 'the commit failed'
	s_answer='refused: the commit failed'
	save
}

# Obeys messages until the run has ended.
obey() {
	end=$(($(uptime_s) + p_lease))
	while :; do
		left=$((end - $(uptime_s)))
		if [ $left -le 0 ] || ! hear $left; then
			[ "$(uptime_s)" -ge "$end" ] || continue
			case $s_state in
			holding)
				if ! next_boot_is_written; then
					reason 'the lease ended in silence'
					s_state=released
					save
					return
				fi
				;;
			waiting)
				begin_busy
				revert 'the lease ended in silence'
				end_busy
				;;
			reverted)
				settle
				[ "$s_state" = reverted ] && return
				;;
			revert-failed)
				settle
				maybe_reboot
				return
				;;
			*)
				settle
				return
				;;
			esac
			end=$(($(uptime_s) + p_lease))
			continue
		fi
		verb=${msg%% *} nonce=${msg#* }
		case $s_state:$verb in
		holding:switch | holding:release | holding:cancel | holding:supersede)
			if next_boot_is_written; then
				answer 'refused: what boots next is being written'
				continue
			fi
			;;
		esac
		case $s_state:$verb in
		holding:keep | waiting:renew | committed:renew | committed:keep | reverted:renew | revert-failed:renew) answer ok ;;
		holding:switch)
			begin_busy
			begin_switch
			end_busy
			;;
		waiting:commit)
			begin_busy
			commit
			end_busy
			;;
		waiting:revert)
			s_nonce=$nonce s_answer=''
			begin_busy
			revert 'asked for'
			s_answer=ok
			save
			end_busy
			;;
		holding:cancel)
			reason "cancelled by $(cancelled_by)"
			s_state=released
			answer ok
			return
			;;
		# As cancel, and refused once the switch has begun.
		holding:supersede)
			reason "superseded by $(cancelled_by superseded)"
			s_state=released
			answer ok
			return
			;;
		waiting:cancel)
			s_nonce=$nonce s_answer=''
			begin_busy
			revert "cancelled by $(cancelled_by)"
			s_answer=ok
			save
			end_busy
			;;
		reverted:cancel | revert-failed:cancel) answer ok ;;
		waiting:leave)
			look
			s_state=released
			answer ok
			return
			;;
		holding:release)
			s_state=released
			answer ok
			return
			;;
		reverted:revert | revert-failed:revert) answer ok ;;
		committed:release | reverted:release | revert-failed:release)
			settle
			answer ok
			return
			;;
		*:ended) continue ;;
		*)
			# What cannot be obeyed renews nothing.
			answer "refused: not while $s_state"
			continue
			;;
		esac
		end=$(($(uptime_s) + p_lease))
	done
}

# A boot loader that is being written is nobody's to interrupt, and no other run begins meanwhile.
next_boot_is_written() { [ -e "$dir/nextboot.busy" ] && unit_lives "nixgate-$p_run-nextboot"; }

say_holder() {
	umask 022
	{
		printf 'run=%s\ntarget=%s\nwho=%s\ncommit=%s\n' "$p_run" "$p_target" "$p_who" "$p_commit"
		printf 'since=%s\nverb=%s\n' "$s_since" "${p_verb-}"
	} >"$base/holder.$p_run" && alone mv -f "$base/holder.$p_run" "$base/holder"
	umask 077
}

leave() {
	let_unload
	h=$(holder_run)
	[ "$h" != "$p_run" ] || alone rm -f "$base/holder"
	case $s_state in
	released | reverted) alone rm -f "$roots/+tmp/$p_run" "$roots/+tmp/$p_run+previous" ;;
	esac
	exit 0
}

mode=$1
# systemd starts us again after a SIGKILL to the whole unit, which takes ExecStopPost along: that is a recovery too.
[ "$mode" != hold ] || [ ! -e "$2/state" ] || mode=recover

case $mode in
stc)
	dir=$2 name=$3 toplevel=$4 action=$5
	[ -z "${6-}" ] || export "${6?}"
	while IFS= read -r l; do printf '%s\n' "$l"; done </proc/self/cgroup >"$dir/$name.cgroup" 2>/dev/null
	# What it writes is the system's and not ours: as a person's root has it.
	(umask 022 && exec "$toplevel/bin/switch-to-configuration" "$action") \
		>"$dir/$name.out" 2>"$dir/$name.err" </dev/null
	printf '%s\n' $? >"$dir/$name.rc.new"
	mv -f "$dir/$name.rc.new" "$dir/$name.rc"
	# Opened for both, a FIFO that nobody reads blocks nobody (fifo(7), Linux).
	echo "ended -" 1<>"$dir/fifo"
	exit 0
	;;
hold)
	dir=$2
	# shellcheck disable=SC1091
	. "$dir/plan"
	read_clock
	s_since=$((booted_at + $(uptime_s)))
	# Asked at preflight: it does not change while the machine runs.
	container=$p_container
	if ! take_lock; then
		s_state=busy
		save
		exit 0
	fi
	say_holder
	exec 3<>"$dir/fifo"
	fifo=1
	# A link that dangles roots its path from the moment it becomes valid.
	[ -d "$roots/+tmp" ] || alone mkdir -p "$roots/+tmp"
	alone ln -sfn "$p_candidate" "$roots/+tmp/$p_run"
	alone ln -sfn "$p_previous" "$roots/+tmp/$p_run+previous"
	look
	s_running0=$running s_profile0=$profile s_boot0=$boot s_loader0=$loader s_generation0=$generation s_once0=$once
	s_state=holding
	save
	obey
	leave
	;;
recover)
	dir=$2
	[ -r "$dir/plan" ] || exit 0
	# shellcheck disable=SC1091
	. "$dir/plan"
	container=$p_container
	load || exit 0
	case $s_state in
	busy | released | committed) leave ;;
	reverted | revert-failed) leave ;;
	esac
	# A machine that shuts down boots what it boots.
	[ "$(systemctl is-system-running)" != stopping ] || exit 0
	read_clock
	make_room
	note "the supervisor ended while $s_state"
	open_lock || reason 'the lock of this target cannot be made'
	flock -w 30 9 || reason 'the lock of this target is taken'
	exec 3<>"$dir/fifo"
	fifo=1
	look
	case $s_state in
	holding)
		if ! next_boot_is_written; then
			reason 'the supervisor ended'
			s_state=released
			save
			leave
		fi
		;;
	committing)
		if [ "$running" = "$s_effective" ]; then
			kill_unit boot
			finish_commit
		else
			undo_commit
		fi
		;;
	commit-failed) undo_commit ;;
	*) revert 'the supervisor ended' ;;
	esac
	obey
	leave
	;;
esac
exit 0
