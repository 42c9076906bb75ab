# The way back, how it is judged, and what is done where it failed. Between state.sh and supervisor.sh, whose variables and
# functions it uses.
# shellcheck disable=SC2317,SC2154,SC2034

# $1 why
revert() {
	make_room
	reason "$1"
	note "reverting: $1"
	s_state=reverting
	save
	kill_unit switch || note 'the switch left processes that cannot be killed'
	kill_unit boot
	running=$(alone running_system)
	case $running in
	"$p_previous" | "$p_candidate" | "$s_effective") ;;
	'') alone ln -sfn "$s_effective" /run/current-system ;;
	*)
		# Somebody else's system: hands off.
		reason "hands off: the host runs $running, which is neither the candidate nor the previous system"
		look
		s_state=revert-failed
		save
		return
		;;
	esac
	take_stock_again || note 'systemctl does not answer before the way back'
	turn=0
	while :; do
		turn=$((turn + 1))
		run_stc revert "$p_previous" test NIXOS_NO_CHECK=1
		s_revert_status=$rc
		[ "$rc" = 11 ] && [ $turn -lt 10 ] && alone sleep 2 && continue
		[ -n "$timed_out" ] && [ $turn -lt 2 ] && continue
		[ "$(alone running_system)" != "$p_previous" ] && [ $turn -lt 2 ] && continue
		break
	done
	stc_lock || reason 'another switch works on this host'
	judge take_stock
}

# Back means: the previous system runs, what ran before runs, and nothing fails that did not fail before. Where systemd does
# not say, nobody knows. $1 take_stock: switch-to-configuration has just run; take_stock_again: a while ago
judge() {
	alone rm -f "$dir/down.still"
	bad='' mute='' new=''
	"$1" || mute=1
	if [ -z "$mute" ] && [ -e "$dir/active-before" ]; then alone start_again || mute=1; fi
	look
	if [ -z "$mute" ] && [ -e "$dir/failed-before" ]; then new=$(alone new_failures) || mute=1; fi
	[ -z "$mute" ] || amiss 'systemctl does not answer: whether what ran before runs again is not known'
	[ "$running" = "$p_previous" ] || amiss "the host runs ${running:-nothing}"
	while IFS= read -r u; do amiss "$u ran before and stays down"; done 2>/dev/null <"$dir/down.still"
	while IFS= read -r u; do
		amiss "$u was started by hand before and is down: whether it ended by itself is not known"
	done 2>/dev/null <"$dir/unknown"
	while IFS= read -r u; do [ -z "$u" ] || amiss "$u fails and did not before"; done <<-END
		$new
	END
	[ "$boot" = "$s_boot0" ] || amiss "the boot default is $boot and was $s_boot0"
	[ "$loader" = "$s_loader0" ] || amiss "the boot loader is $loader and was $s_loader0"
	[ "$profile" = "$s_profile0" ] || amiss "the profile is $profile and was $s_profile0"
	if [ -n "$bad" ]; then s_state=revert-failed; else s_state=reverted; fi
	save
}

amiss() {
	bad=1
	reason "$1"
}

# The last look, when the lease has ended or the operator has let go.
settle() {
	look
	if [ "$s_state" = reverted ] && [ "$running" != "$p_previous" ]; then
		case $running in
		"$p_candidate" | "$s_effective" | '') revert "after the revert the host runs ${running:-nothing} again" ;;
		*)
			reason "after the revert somebody switched to $running"
			s_state=revert-failed
			;;
		esac
		look
	fi
	s_settled=1
	save
}

# Only without contact, and only for what a reboot mends. What did not come up then may have done so since.
maybe_reboot() {
	[ -n "$p_reboot" ] && [ -z "$(alone container_kind)" ] || return 0
	look
	[ "$running" != "$p_previous" ] || judge take_stock_again
	if [ "$s_state" != revert-failed ]; then
		reason 'by now what ran before runs again'
		save
		return
	fi
	if ! reboot_mends || [ -z "$stc_held" ] || other_tool_works; then
		reason 'nobody is in contact, and a reboot would not mend this'
		save
		return
	fi
	s_rebooting=1
	reason 'nobody is in contact: rebooting into the boot default'
	save
	alone systemctl --no-block reboot
}

# Whether a boot would bring back what the last look and "judge" found amiss. docs/supervisor.md has this as a table.
reboot_mends() {
	# It boots what ran before, and nobody else has changed what it boots.
	[ "$boot" = "$p_previous" ] && [ -z "$once" ] && [ "$profile" = "$s_profile0" ] && [ "$boot" = "$s_boot0" ] &&
		[ "$loader" = "$s_loader0" ] || return 1
	case $running in
	"$p_previous") ;;
	# Ours, and it would not go back.
	"$p_candidate" | "$s_effective" | '') return 0 ;;
	*) return 1 ;;
	esac
	[ -z "$mute" ] || return 0
	# What a boot does not start stays down, and what did not run before fails for reasons of its own.
	{
		cat "$dir/down.still"
		printf '%s\n' "$new"
	} 2>/dev/null 7>&- 8>&- 9>&- | alone grep -q -x -F -f "$dir/boot-starts" 2>/dev/null
}

# Whether one of NixOS's own units switches this host, or is about to.
other_tool_works() {
	alone timeout 5 systemctl show --property=ActiveState --value nixos-upgrade.service \
		nixos-rebuild-switch-to-configuration.service 2>/dev/null |
		alone grep -q -x -e active -e activating -e reloading -e deactivating
}
