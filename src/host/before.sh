# What ran on the target before a switch, and what of it is to run again after a way back. Between units.sh and
# supervisor.sh, whose variables and "alone" and "note" it uses. docs/supervisor.md has the rules.
# Loops that end a pipe keep their variables to themselves.
# shellcheck disable=SC2317,SC2154,SC2034,SC2030,SC2031

# systemctl's word, whatever it is; fails where there is none. A systemd that executes itself anew answers nobody for a
# while, and is asked again.
ask_systemd() {
	begun=$(uptime_s)
	until said=$(timeout 30 systemctl "$@" 2>/dev/null); do
		[ $(($(uptime_s) - begun)) -lt 10 ] || return 1
		sleep 0.5
	done
	printf '%s\n' "$said"
}

# Where unit files lie, and the links by which one unit wants another.
unit_dirs='/etc/systemd/system /run/systemd/system /run/systemd/generator.early /run/systemd/generator
	/run/systemd/generator.late /usr/lib/systemd/system'

# What is asked of systemd about a unit.
unit_properties=Id,ActiveState,SubState,LoadState,FragmentPath,Transient,Type,BusName,TriggeredBy
unit_properties=$unit_properties,WantedBy,RequiredBy,BoundBy,UpheldBy,BindsTo,Requires,RefuseManualStart,RemainAfterExit
unit_properties=$unit_properties,Result,ExecMainCode,ExecMainStatus,ExecMainExitTimestampMonotonic
unit_properties=$unit_properties,ActiveExitTimestampMonotonic,InactiveEnterTimestampMonotonic
unit_properties=$unit_properties,ConditionResult,ConditionTimestampMonotonic

# What systemd has on the units on stdin, by one question: a block of key=value lines for each, an empty line between
# them. $1 properties
units_now() {
	properties=$1
	set --
	while IFS= read -r u; do [ -z "$u" ] || set -- "$@" "$u"; done
	[ $# -eq 0 ] || ask_systemd show --property="$properties" -- "$@"
}

# Runs "$@" for each unit on stdin with what systemd has on it in the variables below. Fails where systemd does not say.
each_unit() {
	units=$(units_now "$unit_properties") || return 1
	forget_unit
	printf '%s\n\n' "$units" | while IFS='=' read -r k v; do
		case $k in
		Id) u=$v ;;
		ActiveState) active=$v ;;
		SubState) sub=$v ;;
		LoadState) load=$v ;;
		FragmentPath) fragment=$v ;;
		Transient) transient=$v ;;
		Type) type=$v ;;
		BusName) bus=$v ;;
		TriggeredBy) triggers=$v ;;
		WantedBy | RequiredBy | BoundBy | UpheldBy) pullers="$pullers $v" ;;
		BindsTo | Requires) needs="$needs $v" ;;
		RefuseManualStart) refuses=$v ;;
		RemainAfterExit) remains=$v ;;
		Result) result=$v ;;
		ExecMainCode) code=$v ;;
		ExecMainStatus) status=$v ;;
		ExecMainExitTimestampMonotonic) exited=$v ;;
		ActiveExitTimestampMonotonic) left=$v ;;
		InactiveEnterTimestampMonotonic) down=$v ;;
		ConditionResult) condition=$v ;;
		ConditionTimestampMonotonic) conditioned=$v ;;
		'')
			[ -z "$u" ] || "$@"
			forget_unit
			;;
		esac
	done
}

forget_unit() {
	u='' active='' sub='' load='' fragment='' transient='' type='' bus='' triggers='' pullers='' needs='' refuses=''
	remains='' result='' code='' status='' exited='' left='' down='' condition='' conditioned=''
}

# What is active, and what has failed now or had at preflight. Fails where systemd does not say.
#   active-before   is to be up again after a way back, unless it ended well by itself
#   boot-starts     those of them which a boot of this system starts: something that is up wants them
#   by-hand         what nothing wants and somebody started: a job, perhaps, so it is started again only where a switch
#                   stopped it, and then it is in "taken"
#   failed-before   what fails without our doing
# Not remembered is what may vanish well: sessions, one connection's instance of a socket (Accept=yes), transient units,
# what has no unit file, a job that has run to its end and that nothing wants, an elapsed timer likewise; and ours.
remember() {
	units=$(alone ask_systemd list-units --all --no-legend --plain --no-pager --full) && [ -n "$units" ] || return 1
	for f in active-before boot-starts by-hand taken unknown to-ask; do : >"$dir/$f"; done
	for u in $p_failed; do printf '%s\n' "$u"; done >"$dir/failed-before"
	# No here document: bash writes a long one to a file, for which there may be no room.
	up=" $(printf '%s\n' "$units" | while read -r u _ a _; do [ "$a" != active ] || printf '%s ' "$u"; done)"
	wanted=$(alone wanted_by_links)
	printf '%s\n' "$units" | while read -r u _ a s _; do
		case $u:$a in
		nixgate-*) ;;
		*:failed) printf '%s\n' "$u" >>"$dir/failed-before" ;;
		session-* | user@* | user-runtime-dir@*) ;;
		*.service:active | *.socket:active | *.timer:active | *.path:active | *.mount:active | *.automount:active | \
			*.swap:active) sort_by_name ;;
		esac
	done 3>&- 7>&- 8>&- 9>&-
	alone sort_by_systemd || return 1
	keep_loaded
	# Where there was no room for the lists, there is none for what is reserved after this.
	return 0
}

# Units that one which is up wants by a link beside the unit files, between spaces.
wanted_by_links() {
	w=' '
	for d in $unit_dirs; do
		for l in "$d"/*.wants/* "$d"/*.requires/* "$d"/*.upholds/*; do
			t=${l%/*} t=${t##*/}
			case $up in *" ${t%.*} "*) w="$w${l##*/} " ;; esac
		done
	done
	printf '%s' "$w"
}

# What the links tell of unit $u needs no question: systemctl asks once for each unit.
sort_by_name() {
	case $wanted in
	*" $u "*)
		printf '%s\n' "$u" >>"$dir/active-before"
		printf '%s\n' "$u" >>"$dir/boot-starts"
		return
		;;
	esac
	case $u in
	*.service) printf '%s\n' "$u" >>"$dir/to-ask" ;;
	*.mount | *.swap)
		for d in $unit_dirs; do
			[ -e "$d/$u" ] || continue
			printf '%s\n' "$u" >>"$dir/to-ask"
			break
		done
		;;
	*) [ "$s" = elapsed ] || printf '%s\n' "$u" >>"$dir/active-before" ;;
	esac
}

sort_by_systemd() {
	[ -s "$dir/to-ask" ] || return 0
	# An instance that has ended is forgotten with its socket, so whose it is is asked while it is there.
	accepting=' ' sockets=$(each_unit say_sockets <"$dir/to-ask") || return 1
	if [ -n "$sockets" ]; then
		# One or more names, without spaces in them.
		# shellcheck disable=SC2086
		said=$(ask_systemd show --property=Id,Accept -- $sockets) || return 1
		accepting=" $(printf '%s\n\n' "$said" | {
			i='' a=''
			while IFS='=' read -r k v; do
				case $k in
				Id) i=$v ;;
				Accept) a=$v ;;
				'')
					[ "$a" != yes ] || printf '%s ' "$i"
					a=''
					;;
				esac
			done
		})"
	fi
	each_unit sort_unit <"$dir/to-ask"
}

# The sockets that start the instance in the variables above.
say_sockets() {
	case $u in *@*) for t in $triggers; do case $t in *.socket) printf '%s\n' "$t" ;; esac; done ;; esac
}

sort_unit() {
	[ "$transient" != yes ] && [ -e "$fragment" ] || return 0
	case $u in *@*) for t in $triggers; do case $accepting in *" $t "*) return 0 ;; esac; done ;; esac
	for p in $pullers; do
		case $up in
		*" $p "*)
			printf '%s\n' "$u" >>"$dir/active-before"
			printf '%s\n' "$u" >>"$dir/boot-starts"
			return 0
			;;
		esac
	done
	# A finished job has nothing that could be down.
	[ "$sub" != exited ] || return 0
	if [ -n "$triggers$bus" ]; then
		printf '%s\n' "$u" >>"$dir/active-before"
	else
		printf '%s\n' "$u" >>"$dir/by-hand"
	fi
}

# What nothing wants is unloaded as it ends, and with it goes how it ended. A unit that names the others keeps them.
keep_loaded() {
	[ -s "$dir/by-hand" ] || return 0
	list=''
	while IFS= read -r u; do list="$list $u"; done <"$dir/by-hand"
	alone systemd-run --quiet --no-ask-password --service-type=oneshot --unit="nixgate-$p_run-kept" \
		--description="nixgate: remembers how units end" --property=RemainAfterExit=yes \
		--property=IgnoreOnIsolate=yes --property=After="$list" "$(command -v sh)" -c : && : >"$dir/kept"
}

let_unload() {
	[ ! -e "$dir/kept" ] || alone systemctl stop "nixgate-$p_run-kept.service" && alone rm -f "$dir/kept"
}

# Whether the process of the service in the variables above had ended before it was stopped, if it was stopped at all: one
# that is stopped leaves "active" before its process does.
had_ended() { [ "${exited:-0}" != 0 ] && [ "$exited" -le "${left:-0}" ]; }

# Whether the unit in the variables above ended by itself, well or not. Without a process of its own it passes through
# "deactivating" where it is stopped. Sockets, timers and paths end by failing alone.
ended_by_itself() {
	case $u in *.service | *.mount | *.swap) ;; *) return 1 ;; esac
	[ "$remains" != yes ] && [ "${left:-0}" != 0 ] || return 1
	if [ "${exited:-0}" != 0 ]; then had_ended; else [ "$left" = "$down" ]; fi
}

# The same, and well. A switch resets what had failed; how the process ended stays. Signals that systemd takes for a clean
# end: systemd.service(5), SuccessExitStatus=.
ended_well() {
	[ "$result" = success ] && ended_by_itself || return 1
	case ${code:-0}:${status:-0} in 0:* | 1:0 | 2:1 | 2:2 | 2:13 | 2:15) ;; *) return 1 ;; esac
}

# After a run of switch-to-configuration: of what somebody had started by hand, those which it stopped are in "taken" from
# now on, and those which ended by themselves are forgotten. Fails where systemd does not say.
take_stock() {
	if [ -s "$dir/by-hand" ]; then
		alone each_unit sort_by_end <"$dir/by-hand" >"$dir/by-hand.up" || return 1
		alone mv -f "$dir/by-hand.up" "$dir/by-hand"
	fi
	: >"$dir/stock"
}

sort_by_end() {
	case $active in
	inactive | failed) ;;
	*)
		[ "$sub" = exited ] || printf '%s\n' "$u"
		return
		;;
	esac
	if [ "${left:-0}" = 0 ]; then
		printf '%s\n' "$u" >>"$dir/unknown"
	elif ! had_ended && ! ended_by_itself; then
		printf '%s\n' "$u" >>"$dir/taken"
	fi
}

# Before a way back: what is down now and was up after the switch, ended or was stopped by somebody. A switch that was cut
# off has not been looked at yet.
take_stock_again() {
	if [ ! -e "$dir/stock" ]; then
		take_stock
	elif [ -s "$dir/by-hand" ]; then
		alone each_unit say_up <"$dir/by-hand" >"$dir/by-hand.up" || return 1
		alone mv -f "$dir/by-hand.up" "$dir/by-hand"
	fi
}

say_up() { case $active in inactive | failed) ;; *) printf '%s\n' "$u" ;; esac; }

# Prints the unit in the variables above if it is down and is to be started: by its name, or with "wants" before it where
# it refuses that.
say_if_to_start() {
	[ -e "$fragment" ] && [ "$load" != masked ] && [ "$transient" != yes ] || return 0
	case $active in inactive | failed) ;; *) return 0 ;; esac
	# Its next turn comes by itself.
	case $triggers in *.timer* | *.path* | *.automount*) return 0 ;; esac
	! ended_well || return 0
	for n in $needs; do
		# It has been pulled out.
		case $n in *.device) systemctl is-active --quiet "$n" || return 0 ;; esac
	done
	case $refuses in yes) printf 'wants ' ;; esac
	printf '%s\n' "$u"
}

# Prints the unit in the variables above if it is down and ought not to be.
say_if_down() {
	case $active:$type:$result in active:* | reloading:* | refreshing:* | *:oneshot:success) return 0 ;; esac
	# Its own condition does not hold any more.
	case $active:$condition:${conditioned:-0} in *:0) ;; inactive:no:*) return 0 ;; esac
	! ended_well || return 0
	printf '%s\n' "$u"
}

# Starts those which the candidate took along, sockets first; what stays down is in "down.still". Fails where systemd does
# not say what runs.
start_again() {
	cat "$dir/active-before" "$dir/taken" 2>/dev/null | each_unit say_if_to_start >"$dir/down" || return 1
	[ -s "$dir/down" ] || return 0
	grep -v -e '^wants ' "$dir/down" | grep -e '\.socket$' | start_by_name
	grep -v -e '^wants ' "$dir/down" | grep -v -e '\.socket$' | start_by_name
	sed -n 's/^wants //p' "$dir/down" | start_by_want
	sed 's/^wants //' "$dir/down" | each_unit say_if_down >"$dir/down.still"
}

start_by_name() {
	set --
	while IFS= read -r u; do
		note "starting $u, which ran before"
		set -- "$@" "$u"
	done
	[ $# -eq 0 ] || timeout 60 systemctl --no-ask-password start -- "$@"
}

# What nobody may start by name comes up where another unit wants it.
start_by_want() {
	list=''
	while IFS= read -r u; do
		note "starting $u, which ran before"
		list="$list $u"
	done
	[ -z "$list" ] || timeout 60 systemd-run --quiet --collect --no-ask-password --service-type=oneshot \
		--unit="nixgate-$p_run-start" --property=Wants="$list" --property=After="$list" "$(command -v sh)" -c :
}

# Failed units but ours that had not failed before, one per line. Fails where systemd does not say.
new_failures() {
	units=$(ask_systemd list-units --failed --no-legend --plain --no-pager --full) || return 1
	printf '%s\n' "$units" | while read -r u _; do
		case $u in
		'' | nixgate-*) ;;
		*) grep -q -x -F -e "$u" "$dir/failed-before" || printf '%s\n' "$u" ;;
		esac
	done
}
